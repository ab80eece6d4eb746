//! One connection of a proxy: two directions, each with a thread of its own.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::{Duration, Instant};

use socket2::SockRef;

use super::{Direction, Line};
use crate::flight::{Flight, Session};
use crate::ledger::Reader;

/// How long a thread may be blind to what happens to its relay.
const POLL: Duration = Duration::from_millis(5);
const CHUNK_BYTES: usize = 16 * 1024;
/// What may be on its way in one direction.
const QUEUE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A client and its upstream. Both sockets close when its two threads have ended.
#[derive(Debug)]
pub(super) struct Relay {
    client: TcpStream,
    upstream: TcpStream,
    line: Arc<Line>,
    ended: AtomicBool,
    half_closed_by_client: AtomicBool,
    reader: Mutex<Reader>,
    session: Mutex<Session>,
}

/// Makes the kernel answer by RST when this socket is closed.
pub(super) fn reset_on_close(socket: &TcpStream) -> io::Result<()> {
    SockRef::from(socket).set_linger(Some(Duration::ZERO))
}

fn fin_on_close(socket: &TcpStream) -> io::Result<()> {
    SockRef::from(socket).set_linger(None)
}

impl Relay {
    pub(super) fn start(client: TcpStream, upstream: TcpStream, line: &Arc<Line>) -> io::Result<Weak<Self>> {
        for socket in [&client, &upstream] {
            socket.set_nonblocking(false)?;
            socket.set_nodelay(true)?;
            socket.set_read_timeout(Some(POLL))?;
            socket.set_write_timeout(Some(POLL))?;
            reset_on_close(socket)?;
        }
        let relay = Arc::new(Self {
            client,
            upstream,
            line: Arc::clone(line),
            ended: AtomicBool::new(false),
            half_closed_by_client: AtomicBool::new(false),
            reader: Mutex::default(),
            session: Mutex::default(),
        });
        for direction in [Direction::Up, Direction::Down] {
            let relay = Arc::clone(&relay);
            std::thread::spawn(move || Pump::new(&relay, direction).run());
        }
        Ok(Arc::downgrade(&relay))
    }

    /// Ends it by RST to both sides.
    pub(super) fn reset(&self) {
        for socket in [&self.client, &self.upstream] {
            // A socket that is gone needs no RST.
            reset_on_close(socket).ok();
        }
        self.ended.store(true, Ordering::SeqCst);
    }

    /// Ends it by FIN to both sides.
    pub(super) fn close(&self) {
        for socket in [&self.client, &self.upstream] {
            // A socket that is gone needs no FIN.
            fin_on_close(socket).and_then(|()| socket.shutdown(Shutdown::Write)).ok();
        }
        self.ended.store(true, Ordering::SeqCst);
    }

    fn has_ended(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }

    /// Bytes that the upstream's kernel has taken.
    fn passed_up(&self, bytes: &[u8]) {
        if let Some(ledger) = &self.line.ledger {
            self.reader().take(bytes, ledger);
        }
    }

    /// Its STOMP session, if somebody watches.
    fn watched(&self) -> Option<(MutexGuard<'_, Session>, &Flight)> {
        let flight = self.line.flight.as_deref()?;
        Some((self.session.lock().expect("nothing panics while it reads"), flight))
    }

    /// Lines that went up and were not confirmed.
    pub(super) fn unconfirmed_lines(&self) -> u64 {
        self.reader().unconfirmed_lines()
    }

    fn reader(&self) -> MutexGuard<'_, Reader> {
        self.reader.lock().expect("nothing panics while it reads")
    }

    /// The upstream closed, or closed its half: if it is a Graphite, that is its receipt, or else a loss.
    ///
    /// Without a proxy its kernel would answer an RST to what comes after an early close. Here an early FIN
    /// might pass the client's last bytes and be taken for a receipt, so the client gets the RST instead.
    fn upstream_said_fin(&self) {
        let Some(ledger) = &self.line.ledger else { return };
        if self.half_closed_by_client.load(Ordering::SeqCst) {
            let lines = self.reader().confirm(ledger);
            self.line.confirmed().push((Instant::now(), lines));
        } else {
            self.reset();
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if let (Some(ledger), Ok(reader)) = (&self.line.ledger, self.reader.lock()) {
            reader.end(ledger);
            self.line.lost_lines.fetch_add(reader.unconfirmed_lines(), Ordering::SeqCst);
        }
        if let (Some(flight), Ok(session)) = (&self.line.flight, self.session.lock()) {
            session.end(flight);
        }
    }
}

/// One direction.
struct Pump<'a> {
    relay: &'a Relay,
    direction: Direction,
    from: &'a TcpStream,
    to: &'a TcpStream,
    passed: &'a AtomicU64,
    queue: VecDeque<(Instant, Vec<u8>)>,
    queued_bytes: usize,
    /// When what was read last has left, where there is a limit to what leaves in a second.
    free_at: Instant,
    at_end: bool,
}

impl<'a> Pump<'a> {
    fn new(relay: &'a Relay, direction: Direction) -> Self {
        let (from, to) = match direction {
            Direction::Up => (&relay.client, &relay.upstream),
            Direction::Down => (&relay.upstream, &relay.client),
        };
        let passed = relay.line.bytes(direction);
        let queue = VecDeque::new();
        let free_at = Instant::now();
        Self { relay, direction, from, to, passed, queue, queued_bytes: 0, free_at, at_end: false }
    }

    /// Runs until both sides have closed this direction, or the relay ends.
    fn run(mut self) {
        while !self.relay.has_ended() {
            if self.relay.line.is_held() {
                std::thread::sleep(POLL);
                continue;
            }
            let step = self.read().and_then(|()| self.write_what_is_due());
            match step {
                Ok(()) if self.at_end && self.queue.is_empty() => return self.pass_end_on(),
                Ok(()) => {}
                Err(_) => self.relay.reset(),
            }
        }
    }

    fn read(&mut self) -> io::Result<()> {
        if self.at_end || self.queued_bytes > self.queue_bytes_max() {
            std::thread::sleep(Duration::from_millis(1));
            return Ok(());
        }
        let mut chunk = vec![0; CHUNK_BYTES];
        match self.from.read(&mut chunk) {
            Ok(0) => self.at_end = true,
            Ok(length) => {
                chunk.truncate(length);
                if let (Some((mut session, _)), Direction::Down) = (self.relay.watched(), self.direction) {
                    session.came_down(&chunk);
                }
                self.queued_bytes += length;
                let due = self.leaves_at(length) + self.relay.line.delay();
                self.queue.push_back((due, chunk));
            }
            Err(error) if is_timeout(&error) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// What is on the line and, behind a limit, a twentieth of a second's worth in a buffer before it.
    fn queue_bytes_max(&self) -> usize {
        let limited = self.relay.line.bytes_per_second_max().map(|limit| {
            let milliseconds = self.relay.line.delay().as_millis() + 50;
            usize::try_from(u128::from(limit) * milliseconds / 1000).unwrap_or(usize::MAX)
        });
        limited.unwrap_or(QUEUE_BYTES_MAX)
    }

    /// When so many bytes, read now, have left.
    fn leaves_at(&mut self, bytes: usize) -> Instant {
        let now = Instant::now();
        let Some(limit) = self.relay.line.bytes_per_second_max() else { return now };
        self.free_at = self.free_at.max(now) + Duration::from_secs_f64(bytes as f64 / limit as f64);
        self.free_at
    }

    fn write_what_is_due(&mut self) -> io::Result<()> {
        while let Some((due, chunk)) = self.queue.front_mut() {
            if *due > Instant::now() || self.relay.line.is_held() {
                return Ok(());
            }
            let allowed = self.relay.line.allow(self.direction, chunk.len());
            if allowed == 0 {
                self.relay.line.blow();
                return Ok(());
            }
            let written = write_as_far_as_possible(self.relay, self.direction, self.to, &chunk[..allowed])?;
            self.relay.line.give_back(self.direction, allowed - written);
            if self.direction == Direction::Up {
                self.relay.passed_up(&chunk[..written]);
            }
            self.passed.fetch_add(written as u64, Ordering::SeqCst);
            self.queued_bytes -= written;
            chunk.drain(..written);
            if chunk.is_empty() {
                self.queue.pop_front();
            } else if written == 0 {
                return Ok(());
            }
        }
        Ok(())
    }

    fn pass_end_on(&self) {
        match self.direction {
            Direction::Up => self.relay.half_closed_by_client.store(true, Ordering::SeqCst),
            Direction::Down => self.relay.upstream_said_fin(),
        }
        if self.relay.has_ended() {
            return;
        }
        // From here on the end of this side is an orderly one.
        let passed = fin_on_close(self.to).and_then(|()| self.to.shutdown(Shutdown::Write));
        if passed.is_err() {
            self.relay.reset();
        }
    }
}

/// Tells how many bytes `to` has taken; none if it takes none for a moment.
fn write_as_far_as_possible(
    relay: &Relay,
    direction: Direction,
    mut to: &TcpStream,
    bytes: &[u8],
) -> io::Result<usize> {
    // Held while the bytes go, so that no answer is noted before what it answers.
    let mut watched = relay.watched();
    let written = match to.write(bytes) {
        Ok(written) => written,
        Err(error) if is_timeout(&error) => 0,
        Err(error) => return Err(error),
    };
    match (&mut watched, direction) {
        (Some((session, flight)), Direction::Up) => session.went_up(&bytes[..written], flight),
        (Some((session, _)), Direction::Down) => session.went_down(&bytes[..written]),
        (None, _) => {}
    }
    Ok(written)
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}
