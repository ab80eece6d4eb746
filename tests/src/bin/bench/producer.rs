//! Producers at full speed: they write what was made beforehand, and stop the watch once the receiver
//! has said that it has everything.

use std::io::{self, Read, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail, ensure};

use crate::lines::Payload;

/// How long a receiver may keep a producer waiting.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);
/// Lines on the way without a receipt, at most: enough to keep one commit busy while the next gathers.
const WINDOW_LINES: usize = 200_000;
const ELAPSED_MIN: Duration = Duration::from_millis(1);
/// Messages on the way without a receipt, at most.
const WINDOW_MESSAGES: usize = 20_000;

/// What was carried, in which time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sent {
    pub(crate) lines: u64,
    pub(crate) elapsed: Duration,
    /// Of the receiver.
    pub(crate) cpu_seconds: f64,
}

impl Sent {
    /// What came in one read took no time that can be told.
    pub(crate) fn per_second(&self) -> f64 {
        self.lines_f64() / self.elapsed.max(ELAPSED_MIN).as_secs_f64()
    }

    pub(crate) fn cpu_seconds_per_million(&self) -> f64 {
        self.cpu_seconds * 1e6 / self.lines_f64()
    }

    pub(crate) fn lines_f64(&self) -> f64 {
        self.lines as f64
    }
}

/// Writes at least `lines` lines in plaintext, half-closes, and waits for the receiver's FIN.
pub(crate) fn plaintext(to: SocketAddr, payload: &Payload, lines: usize) -> Result<Sent> {
    let mut stream = connect(to)?;
    let start = Instant::now();
    let mut sent = 0;
    for (bytes, lines) in payload.pieces(lines) {
        stream.write_all(bytes)?;
        sent += lines as u64;
    }
    stream.shutdown(Shutdown::Write)?;
    let answer = stream.read(&mut [0; 64]).context("no FIN answered the half-close")?;
    ensure!(answer == 0, "a plaintext receiver answered by bytes");
    Ok(Sent { lines: sent, elapsed: start.elapsed(), cpu_seconds: 0.0 })
}

/// Sends at least `lines` lines in SENDs over one session, and waits for the last receipt.
pub(crate) fn stomp(to: SocketAddr, payload: &Payload, lines: usize) -> Result<Sent> {
    let mut stream = connect(to)?;
    open_session(&mut stream)?;
    let receipts = Receipts::default();
    let answers = stream.try_clone()?;
    let start = Instant::now();
    let messages = thread::scope(|threads| {
        threads.spawn(|| receipts.count_in(answers));
        let sent = send_within_window(&mut stream, payload, lines, &receipts);
        if sent.is_err() {
            // Ends the thread that counts.
            stream.shutdown(Shutdown::Both)?;
        }
        let messages = sent?;
        receipts.wait_for(messages)?;
        let elapsed = start.elapsed();
        stream.shutdown(Shutdown::Both)?;
        Ok::<_, anyhow::Error>((messages, elapsed))
    });
    let (messages, elapsed) = messages?;
    let lines = (messages * payload.lines_per_message()) as u64;
    Ok(Sent { lines, elapsed, cpu_seconds: 0.0 })
}

fn send_within_window(
    stream: &mut TcpStream,
    payload: &Payload,
    lines: usize,
    receipts: &Receipts,
) -> Result<usize> {
    let window = (WINDOW_LINES / payload.lines_per_message()).min(WINDOW_MESSAGES);
    let mut sent = 0;
    for (bytes, messages) in payload.pieces(lines) {
        receipts.wait_for((sent + messages).saturating_sub(window))?;
        stream.write_all(bytes)?;
        sent += messages;
    }
    Ok(sent)
}

/// With limits to every wait.
pub(crate) fn connect(to: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(to).with_context(|| format!("nobody listens on {to}"))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(ANSWER_LIMIT))?;
    stream.set_write_timeout(Some(ANSWER_LIMIT))?;
    Ok(stream)
}

/// CONNECT, and its answer.
pub(crate) fn open_session(stream: &mut TcpStream) -> Result<()> {
    stream.write_all(b"CONNECT\naccept-version:1.2\nhost:/\nheart-beat:0,0\n\n\0")?;
    let mut answer = Vec::new();
    let mut byte = [0];
    while !answer.ends_with(b"\0") {
        stream.read_exact(&mut byte).context("no CONNECTED")?;
        answer.push(byte[0]);
    }
    ensure!(answer.starts_with(b"CONNECTED"), "CONNECT was answered by {}", answer.escape_ascii());
    Ok(())
}

/// How many receipts have come. Each frame of an answer ends in a NUL, and an answer that is none ends the
/// session, so that counting those is enough.
#[derive(Debug, Default)]
struct Receipts {
    /// And how the session ended.
    count: Mutex<(usize, Option<String>)>,
    changed: Condvar,
}

impl Receipts {
    fn count_in(&self, mut answers: impl Read) {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let ended = match answers.read(&mut buffer) {
                Ok(0) => Some("the agent closed the session".to_owned()),
                Ok(read) => {
                    let came = &buffer[..read];
                    let is_error = memchr::memmem::find(came, b"ERROR\n").is_some();
                    let receipts = memchr::memchr_iter(0, came).count();
                    self.lock().0 += receipts;
                    is_error.then(|| came.escape_ascii().to_string())
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => None,
                Err(error) => Some(error.to_string()),
            };
            let is_over = ended.is_some();
            if is_over {
                self.lock().1 = ended;
            }
            self.changed.notify_one();
            if is_over {
                return;
            }
        }
    }

    /// Waits until there are `wanted`.
    fn wait_for(&self, wanted: usize) -> Result<()> {
        let waits = |(count, ended): &mut (usize, Option<String>)| *count < wanted && ended.is_none();
        let waited = self.changed.wait_timeout_while(self.lock(), ANSWER_LIMIT, waits);
        let (count, _) = waited.map_err(|_| anyhow!("the thread that counts receipts panicked"))?;
        match &*count {
            (count, _) if *count >= wanted => Ok(()),
            (count, Some(end)) => bail!("{count} receipts of {wanted}, then: {end}"),
            (count, None) => bail!("{count} receipts of {wanted}, then silence"),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, (usize, Option<String>)> {
        self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
