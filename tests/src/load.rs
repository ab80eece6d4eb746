//! Producers: they send points, and know exactly which of them were taken for good.

use std::collections::VecDeque;
use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::points::Points;
use crate::stomp::Stomp;
use crate::wait::{until, when};

/// How long the receiver may leave a producer without an answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(120);
const LINES_PER_WRITE: usize = 500;
/// How long a client with a failover list goes on.
const FAILOVER_LIMIT: Duration = Duration::from_secs(300);

/// Sends these points in Graphite's plaintext, half-closes, and waits for the receiver's FIN: its receipt
/// for all of them.
///
/// # Errors
/// Without a receipt: any of the points may have been taken, or none.
pub fn plaintext(to: SocketAddr, points: &Points, numbers: Range<usize>) -> io::Result<()> {
    let mut stream = TcpStream::connect(to)?;
    stream.set_read_timeout(Some(ANSWER_LIMIT))?;
    stream.set_write_timeout(Some(ANSWER_LIMIT))?;
    for part in parts(numbers, LINES_PER_WRITE) {
        stream.write_all(points.lines(part).as_bytes())?;
    }
    stream.shutdown(Shutdown::Write)?;
    match stream.read(&mut [0; 64])? {
        0 => Ok(()),
        _ => Err(io::Error::other("a plaintext receiver answered by bytes")),
    }
}

/// A STOMP producer that pipelines: many SENDs are on their way, each with a receipt of its own.
#[derive(Debug, Clone)]
pub struct StompLoad {
    /// Where the SENDs go to.
    pub destination: String,
    /// Lines in a SEND.
    pub lines_per_send: usize,
    /// SENDs without their receipt at a time.
    pub window: usize,
}

/// Which points have their receipt.
#[derive(Debug, Default)]
pub struct Receipted {
    /// Their numbers, in the order of the receipts.
    pub ranges: Vec<Range<usize>>,
    /// Why there are no more; `None` if all were sent and receipted.
    pub broken: Option<io::Error>,
}

impl Receipted {
    /// The numbers of all that were receipted.
    pub fn numbers(&self) -> impl Iterator<Item = usize> + '_ {
        self.ranges.iter().cloned().flatten()
    }
}

impl StompLoad {
    /// Sends these points over one session until all are receipted, or the session breaks. `progress` grows
    /// by the points receipted.
    pub fn run(
        &self,
        session: io::Result<Stomp>,
        points: &Points,
        numbers: Range<usize>,
        progress: &AtomicUsize,
    ) -> Receipted {
        let mut receipted = Receipted::default();
        let sent = session.and_then(|session| self.send(session, points, numbers, progress, &mut receipted));
        receipted.broken = sent.err();
        receipted
    }

    /// As [`StompLoad::run`], as a client with a failover list: at the next of `addresses` after each loss, until
    /// all points have their receipt. What has none is sent again. Returns how often it lost its agent.
    pub fn run_over(
        &self,
        addresses: &[SocketAddr],
        points: &Points,
        numbers: Range<usize>,
        progress: &AtomicUsize,
    ) -> usize {
        let (mut next, mut losses) = (numbers.start, 0);
        until(FAILOVER_LIMIT, "a receipt for every point", || {
            let session = Stomp::connect(addresses[losses % addresses.len()], &[]);
            let mut receipted = self.run(session, points, next..numbers.end, progress);
            receipted.ranges.sort_unstable_by_key(|range| range.start);
            for range in &receipted.ranges {
                // What comes after a gap goes again.
                if range.start == next {
                    next = range.end;
                }
            }
            let done = next == numbers.end;
            losses += usize::from(!done);
            when(done, format!("{next} of {}: {:?}", numbers.end, receipted.broken))
        });
        losses
    }

    fn send(
        &self,
        mut session: Stomp,
        points: &Points,
        numbers: Range<usize>,
        progress: &AtomicUsize,
        receipted: &mut Receipted,
    ) -> io::Result<()> {
        let mut open = VecDeque::new();
        for part in parts(numbers, self.lines_per_send) {
            if open.len() >= self.window {
                take_receipt(&mut session, &mut open, progress, receipted)?;
            }
            let id = format!("{}-{}", part.start, part.end);
            let headers =
                [("destination", self.destination.as_str()), ("persistent", "true"), ("receipt", &id)];
            session.write("SEND", &headers, points.lines(part.clone()).as_bytes())?;
            open.push_back((id, part));
        }
        while !open.is_empty() {
            take_receipt(&mut session, &mut open, progress, receipted)?;
        }
        session.disconnect()
    }
}

fn take_receipt(
    session: &mut Stomp,
    open: &mut VecDeque<(String, Range<usize>)>,
    progress: &AtomicUsize,
    receipted: &mut Receipted,
) -> io::Result<()> {
    let id = session.read_receipt()?;
    let place = open.iter().position(|(expected, _)| *expected == id);
    let unknown = || io::Error::other(format!("a receipt for {id}, which is not open"));
    let (_, part) = place.and_then(|place| open.remove(place)).ok_or_else(unknown)?;
    progress.fetch_add(part.len(), Ordering::SeqCst);
    receipted.ranges.push(part);
    Ok(())
}

fn parts(numbers: Range<usize>, size: usize) -> impl Iterator<Item = Range<usize>> {
    let end = numbers.end;
    numbers.step_by(size).map(move |start| start..end.min(start + size))
}
