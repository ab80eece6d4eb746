//! Sends lines into a rival: all at once, or at a rate.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io::{self, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::ops::Range;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use bytes::Bytes;

use super::nats::Publisher;
use super::rival::{Rival, WayIn};
use super::sink::Sink;
use crate::lines::{Payload, QUEUE, append_line, append_send_to};
use crate::producer::{self, Sent};

const TICK: Duration = Duration::from_millis(1);
/// Of a paced stream, in one message where many go into one.
const PACED_LINES_PER_MESSAGE: usize = 100;

/// What is sent at full speed, made before it is.
#[derive(Default)]
pub(crate) struct Payloads(HashMap<(bool, usize, usize), Made>);

enum Made {
    Stream(Payload),
    Messages(Vec<Bytes>),
}

impl Payloads {
    /// Sends the lines of `rival` into it, and waits until it says that it has them.
    pub(crate) fn send(&mut self, rival: &Rival, to: SocketAddr) -> Result<Sent> {
        let made = self.made(rival);
        match (rival.way_in, made) {
            (WayIn::Nats { lines_per_message }, Made::Messages(messages)) => {
                let publisher = Publisher::connect(to)?;
                let start = Instant::now();
                publisher.publish(messages, lines_per_message)?;
                let lines = (messages.len() * lines_per_message) as u64;
                Ok(Sent { lines, elapsed: start.elapsed(), cpu_seconds: 0.0 })
            }
            (WayIn::Stomp { .. }, Made::Stream(payload)) => producer::stomp(to, payload, rival.lines),
            (_, Made::Stream(payload)) => producer::plaintext(to, payload, rival.lines),
            (_, Made::Messages(_)) => unreachable!("messages are made for NATS only"),
        }
    }

    /// Makes it now, so that it does not take its time while something is measured.
    pub(crate) fn prepare(&mut self, rival: &Rival) {
        self.made(rival);
    }

    fn made(&mut self, rival: &Rival) -> &Made {
        let (lines, per_message) = (rival.lines, rival.way_in.lines_per_message());
        let is_nats = matches!(rival.way_in, WayIn::Nats { .. });
        match self.0.entry((is_nats, per_message, lines)) {
            Entry::Occupied(made) => made.into_mut(),
            Entry::Vacant(place) => place.insert(match rival.way_in {
                WayIn::Plaintext => Made::Stream(Payload::plaintext(lines)),
                WayIn::Stomp { .. } => Made::Stream(Payload::stomp(lines, per_message)),
                WayIn::Nats { .. } => {
                    let starts = (0..lines).step_by(per_message);
                    Made::Messages(
                        starts.map(|start| Bytes::from(text(start..start + per_message))).collect(),
                    )
                }
            }),
        }
    }
}

/// Lines that are sent over the time in which one is measured, each stamped as it goes out.
pub(crate) fn send_paced(rival: &Rival, to: SocketAddr, lines: usize, sink: &Sink) -> Result<()> {
    let per_message = match rival.way_in {
        WayIn::Plaintext => (rival.paced_rate / 1000).max(1),
        way_in => way_in.lines_per_message().min(PACED_LINES_PER_MESSAGE),
    };
    let mut clock =
        Clock { rate: rival.paced_rate, per_message, lines, sent: 0, start: Instant::now(), sink };
    match rival.way_in {
        WayIn::Nats { .. } => {
            let publisher = Publisher::connect(to)?;
            clock.start = Instant::now();
            publisher.publish_each(|| clock.next().map(|lines| Bytes::from(text(lines))))
        }
        WayIn::Plaintext => {
            let mut stream = connect(to)?;
            while let Some(lines) = clock.next() {
                stream.write_all(&text(lines))?;
            }
            Ok(stream.shutdown(Shutdown::Write)?)
        }
        WayIn::Stomp { .. } => send_paced_frames(connect(to)?, &mut clock),
    }
}

/// The receipts are asked for, so that it has as much to do as at full speed, and passed over.
fn send_paced_frames(mut stream: TcpStream, clock: &mut Clock<'_>) -> Result<()> {
    producer::open_session(&mut stream)?;
    let mut answers = stream.try_clone()?;
    thread::scope(|threads| {
        threads.spawn(move || io::copy(&mut answers, &mut io::sink()));
        let mut send = || {
            while let Some(lines) = clock.next() {
                let (number, mut frame) = (lines.start, Vec::new());
                append_send_to(QUEUE, number, &text(lines), &mut frame);
                stream.write_all(&frame)?;
            }
            // Not to be lost with the session, if it is not read yet.
            clock.sink.wait_for_lines(clock.lines, super::sink::FIRST_LIMIT);
            Ok(())
        };
        let sent = send();
        // Ends the thread that reads.
        stream.shutdown(Shutdown::Both).ok();
        sent
    })
}

/// Says what is to be sent when.
struct Clock<'a> {
    rate: usize,
    per_message: usize,
    lines: usize,
    sent: usize,
    start: Instant,
    sink: &'a Sink,
}

impl Clock<'_> {
    /// Waits until the next message is due, and stamps its lines.
    fn next(&mut self) -> Option<Range<usize>> {
        if self.sent >= self.lines {
            return None;
        }
        let due = Duration::from_secs_f64(self.sent as f64 / self.rate as f64);
        while self.start.elapsed() < due {
            thread::sleep(TICK.min(due.saturating_sub(self.start.elapsed())));
        }
        let lines = self.sent..self.sent + self.per_message;
        self.sent = lines.end;
        if let Some(stamps) = self.sink.arrivals().stamps() {
            stamps.stamp(lines.clone());
        }
        Some(lines)
    }
}

fn text(lines: Range<usize>) -> Vec<u8> {
    let mut text = Vec::new();
    lines.for_each(|line| append_line(line, &mut text));
    text
}

fn connect(to: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(to).with_context(|| format!("nobody listens on {to}"))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}
