//! A stand-in for Graphite: it counts lines, and answers a half-close once it has read everything.

use std::io::Read as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use ::tests::wait::{until, when};
use anyhow::{Context as _, Result};

const READ_BYTES: usize = 256 * 1024;
const ARRIVAL_LIMIT: Duration = Duration::from_secs(300);

/// Listens from its start to its drop.
pub(crate) struct Graphite {
    address: SocketAddr,
    counts: Arc<Mutex<Counts>>,
    stopped: Arc<AtomicBool>,
}

#[derive(Debug, Default)]
struct Counts {
    lines: u64,
    first: Option<Instant>,
    last: Option<Instant>,
}

impl Graphite {
    pub(crate) fn start() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no port for a Graphite")?;
        let graphite =
            Self { address: listener.local_addr()?, counts: Arc::default(), stopped: Arc::default() };
        let (counts, stopped) = (Arc::clone(&graphite.counts), Arc::clone(&graphite.stopped));
        thread::spawn(move || {
            for connection in listener.incoming().take_while(|_| !stopped.load(Ordering::SeqCst)).flatten() {
                let counts = Arc::clone(&counts);
                // A connection that breaks has no more lines.
                thread::spawn(move || count(connection, &counts).ok());
            }
        });
        Ok(graphite)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until `lines` lines have come, and tells how long that took from the first on.
    pub(crate) fn wait_for_lines(&self, lines: u64) -> Duration {
        until(ARRIVAL_LIMIT, "all lines at the Graphite", || {
            let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
            when(counts.lines >= lines, format!("{} of {lines}", counts.lines))
        });
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.last.zip(counts.first).map_or(Duration::ZERO, |(last, first)| last - first)
    }
}

impl Drop for Graphite {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        // Wakes its thread, which then ends; if that is gone already, all the better.
        TcpStream::connect(self.address).ok();
    }
}

fn count(mut connection: TcpStream, counts: &Mutex<Counts>) -> Result<()> {
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let read = connection.read(&mut buffer)?;
        if read == 0 {
            return Ok(());
        }
        let lines = memchr::memchr_iter(b'\n', &buffer[..read]).count() as u64;
        let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        counts.lines += lines;
        counts.first.get_or_insert(now);
        counts.last = Some(now);
    }
}
