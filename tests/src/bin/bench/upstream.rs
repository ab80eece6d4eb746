//! The stub of a STOMP upstream: it counts, and answers each receipt at once, so that the agent is what
//! is measured. It understands only what an agent sends.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use ::tests::wait::{until, when};
use anyhow::{Context as _, Result, ensure};
use memchr::{memchr, memchr_iter, memmem};

/// Read at once, at least.
const READ_BYTES: usize = 1024 * 1024;
const ARRIVAL_LIMIT: Duration = Duration::from_secs(600);

/// Sees the body of each SEND when it comes.
type Watcher = dyn Fn(&[u8]) + Send + Sync;

/// Listens from its start to its drop.
pub(crate) struct Upstream {
    address: SocketAddr,
    counts: Arc<Mutex<Counts>>,
    stopped: Arc<AtomicBool>,
}

/// What has come.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Received {
    pub(crate) lines: u64,
    sends: u64,
    /// Rows of the spool that these were, as the numbers in the SENDs tell.
    rows: u64,
    /// From the first SEND to the last.
    pub(crate) elapsed: Duration,
}

impl Received {
    pub(crate) fn sends_f64(&self) -> f64 {
        self.sends as f64
    }

    pub(crate) fn rows_f64(&self) -> f64 {
        self.rows as f64
    }
}

#[derive(Debug, Default)]
struct Counts {
    received: Received,
    first: Option<Instant>,
}

impl Upstream {
    /// Listens on `address`.
    pub(crate) fn start(address: SocketAddr) -> Result<Self> {
        Self::watched(address, |_| ())
    }

    /// As [`Upstream::start`]; `watch` sees the body of each SEND before its receipt leaves.
    pub(crate) fn watched(
        address: SocketAddr,
        watch: impl Fn(&[u8]) + Send + Sync + 'static,
    ) -> Result<Self> {
        let watch: Arc<Watcher> = Arc::new(watch);
        let listener =
            TcpListener::bind(address).with_context(|| format!("the stub cannot listen on {address}"))?;
        let upstream = Self { address, counts: Arc::default(), stopped: Arc::default() };
        let (counts, stopped) = (Arc::clone(&upstream.counts), Arc::clone(&upstream.stopped));
        thread::spawn(move || {
            for connection in listener.incoming().take_while(|_| !stopped.load(Ordering::SeqCst)).flatten() {
                let (counts, watch) = (Arc::clone(&counts), Arc::clone(&watch));
                thread::spawn(move || serve(connection, &counts, &*watch));
            }
        });
        Ok(upstream)
    }

    /// What has come so far.
    pub(crate) fn received(&self) -> Received {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).received
    }

    /// When the first SEND came.
    pub(crate) fn first(&self) -> Option<Instant> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).first
    }

    /// Waits until `lines` lines have come.
    pub(crate) fn wait_for_lines(&self, lines: u64) {
        until(ARRIVAL_LIMIT, "all lines at the upstream", || {
            let received = self.received().lines;
            when(received >= lines, format!("{received} of {lines}"))
        });
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        // Wakes its thread, which then ends; if that is gone already, all the better.
        TcpStream::connect(self.address).ok();
    }
}

/// Answers one session until it ends. The agent sees a fault of the stub as the end of the session.
fn serve(mut connection: TcpStream, counts: &Mutex<Counts>, watch: &Watcher) -> Result<()> {
    connection.set_nodelay(true)?;
    let (mut buffer, mut filled, mut answers) = (vec![0; 4 * READ_BYTES], 0, Vec::new());
    loop {
        if buffer.len() - filled < READ_BYTES {
            buffer.resize(2 * buffer.len(), 0);
        }
        let read = connection.read(&mut buffer[filled..])?;
        if read == 0 {
            return Ok(());
        }
        filled += read;
        let mut used = 0;
        let mut came = Received::default();
        while let Some(bytes) = take_frame(&buffer[used..filled], &mut came, &mut answers, watch)? {
            used += bytes;
        }
        buffer.copy_within(used..filled, 0);
        filled -= used;
        count(&came, counts);
        connection.write_all(&answers)?;
        answers.clear();
    }
}

fn count(came: &Received, counts: &Mutex<Counts>) {
    if came.sends == 0 {
        return;
    }
    let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
    let now = Instant::now();
    let first = *counts.first.get_or_insert(now);
    let Received { lines, sends, rows, elapsed } = &mut counts.received;
    *lines += came.lines;
    *sends += came.sends;
    *rows += came.rows;
    *elapsed = now - first;
}

/// Takes the frame that `bytes` begin with, once it is whole, and tells how long it is.
fn take_frame(
    bytes: &[u8],
    came: &mut Received,
    answers: &mut Vec<u8>,
    watch: &Watcher,
) -> Result<Option<usize>> {
    let blank = bytes.iter().take_while(|&&byte| byte == b'\n').count();
    let frame = &bytes[blank..];
    let Some(head_end) = memmem::find(frame, b"\n\n") else { return Ok((blank > 0).then_some(blank)) };
    let head = &frame[..head_end + 1];
    let body_at = head_end + 2;
    let length = header(head, "content-length").map_or(Ok(0), str::parse::<usize>)?;
    let Some(end) = frame.get(body_at + length) else { return Ok(None) };
    ensure!(*end == 0, "a frame does not end in NUL");
    if head.starts_with(b"SEND\n") {
        let body = &frame[body_at..body_at + length];
        watch(body);
        take_send(head, body, came, answers)?;
    } else if head.starts_with(b"CONNECT\n") || head.starts_with(b"STOMP\n") {
        answers.extend_from_slice(b"CONNECTED\nversion:1.2\nheart-beat:0,0\n\n\0");
    }
    Ok(Some(blank + body_at + length + 1))
}

fn take_send(head: &[u8], body: &[u8], came: &mut Received, answers: &mut Vec<u8>) -> Result<()> {
    if let Some((first, last)) = header(head, "packetboat-seq").and_then(|numbers| numbers.split_once('-')) {
        came.rows += last.parse::<u64>()? + 1 - first.parse::<u64>()?;
    }
    came.sends += 1;
    let has_open_end = body.last().is_some_and(|&byte| byte != b'\n');
    came.lines += memchr_iter(b'\n', body).count() as u64 + u64::from(has_open_end);
    if let Some(id) = header(head, "receipt") {
        answers.extend_from_slice(format!("RECEIPT\nreceipt-id:{id}\n\n\0").as_bytes());
    }
    Ok(())
}

/// The value of a header that needs no unescaping.
fn header<'a>(head: &'a [u8], name: &str) -> Option<&'a str> {
    let mut rest = head;
    while let Some(end) = memchr(b'\n', rest) {
        let (line, after) = (&rest[..end], &rest[end + 1..]);
        if let Some(value) = line.strip_prefix(name.as_bytes()).and_then(|value| value.strip_prefix(b":")) {
            return std::str::from_utf8(value).ok();
        }
        rest = after;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_counts_rows_and_lines_and_answers_whole_frames_only() {
        let frame = b"\nSEND\ndestination:/queue/graphite\nreceipt:7\npacketboat-seq:3-5\ncontent-length:11\n\na 1 1\nb 2 2\0rest";
        let whole = frame.len() - 4;
        for cut in 1..whole {
            let (mut came, mut answers) = (Received::default(), Vec::new());
            let taken = take_frame(&frame[..cut], &mut came, &mut answers, &|_| ()).unwrap();
            assert!(taken.is_none_or(|bytes| bytes == 1), "cut at {cut}");
            assert_eq!((came.sends, answers.len()), (0, 0), "cut at {cut}");
        }
        let (mut came, mut answers) = (Received::default(), Vec::new());
        assert_eq!(take_frame(frame, &mut came, &mut answers, &|_| ()).unwrap(), Some(whole));
        assert_eq!((came.lines, came.rows, came.sends), (2, 3, 1));
        assert_eq!(answers, b"RECEIPT\nreceipt-id:7\n\n\0");
    }
}
