//! The far end of a rival: takes what comes out, in each of the ways in which rivals give it.

mod nats;
mod plaintext;
mod remote_write;
mod stomp;

use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use tokio_util::sync::CancellationToken;

use super::arrivals::Arrivals;
use super::patience::wait_for;
use super::rival::WayOut;

const CONNECT_LIMIT: Duration = Duration::from_secs(60);
const BETWEEN_DIALS: Duration = Duration::from_millis(10);
/// Longer than it takes any of them to notice that its way out is there again.
pub(crate) const FIRST_LIMIT: Duration = Duration::from_secs(40);
/// Who has been silent for so long has nothing more.
const SILENCE: Duration = Duration::from_secs(8);

/// Open from its start to its drop: then its connections end, and the way out is down.
pub(crate) struct Sink {
    shared: Arc<Shared>,
    thread: Option<thread::JoinHandle<()>>,
    listens_on: Option<SocketAddr>,
}

#[derive(Default)]
struct Shared {
    arrivals: Mutex<Arrivals>,
    connections: Mutex<Vec<TcpStream>>,
    connected: AtomicBool,
    closed: CancellationToken,
}

impl Sink {
    /// Listens on `address`, or dials it until somebody answers. It takes the lines below `lines`.
    pub(crate) fn open(way_out: WayOut, address: SocketAddr, lines: usize) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        *shared.arrivals() = Arrivals::new(lines);
        let serve = match way_out {
            WayOut::StompConsumer { prefetch } => {
                return Ok(Self::dial(shared, move |shared| stomp::consume(address, prefetch, shared)));
            }
            WayOut::NatsConsumer { batch } => {
                return Ok(Self::dial(shared, move |shared| nats::consume(address, batch, shared)));
            }
            WayOut::Plaintext => plaintext::serve,
            WayOut::RemoteWrite => remote_write::serve,
            WayOut::StompUpstream => stomp::serve,
        };
        Self::listen(shared, address, serve)
    }

    fn listen(
        shared: Arc<Shared>,
        address: SocketAddr,
        serve: fn(TcpStream, &Shared) -> Result<()>,
    ) -> Result<Self> {
        let listener = TcpListener::bind(address).with_context(|| format!("no sink can be on {address}"))?;
        let thread = thread::spawn({
            let shared = Arc::clone(&shared);
            move || {
                for connection in listener.incoming().take_while(|_| !shared.closed.is_cancelled()).flatten()
                {
                    let shared = Arc::clone(&shared);
                    // What is wrong with a connection is seen in what has not come.
                    thread::spawn(move || shared.keep(&connection).and_then(|()| serve(connection, &shared)));
                }
            }
        });
        Ok(Self { shared, thread: Some(thread), listens_on: Some(address) })
    }

    fn dial(shared: Arc<Shared>, consume: impl Fn(&Shared) -> Result<()> + Send + 'static) -> Self {
        let thread = thread::spawn({
            let shared = Arc::clone(&shared);
            move || {
                while !shared.closed.is_cancelled() {
                    // Nobody may be there yet; what is wrong later is seen in what has not come.
                    if consume(&shared).is_err() {
                        thread::sleep(BETWEEN_DIALS);
                    }
                }
            }
        });
        Self { shared, thread: Some(thread), listens_on: None }
    }

    /// Waits until there is a connection.
    pub(crate) fn wait_until_connected(&self) -> Result<()> {
        let connected = || Ok(self.shared.connected.load(Ordering::SeqCst).then_some(()));
        wait_for(CONNECT_LIMIT, "a connection to the sink", connected)
    }

    /// From now on, it is these that come.
    pub(crate) fn expect(&self, arrivals: Arrivals) {
        *self.shared.arrivals() = arrivals;
    }

    /// What has come.
    pub(crate) fn arrivals(&self) -> MutexGuard<'_, Arrivals> {
        self.shared.arrivals()
    }

    /// Waits until as many lines have come, or no more of them come.
    pub(crate) fn wait_for_lines(&self, lines: usize, first_limit: Duration) {
        let start = Instant::now();
        let over = || {
            let arrivals = self.arrivals();
            let silent = match arrivals.last {
                Some(last) => last.max(start).elapsed() > SILENCE,
                None => start.elapsed() > first_limit,
            };
            Ok((arrivals.lines >= lines || silent).then_some(()))
        };
        // It is over at some time, so that this has no limit of its own.
        wait_for(Duration::MAX, "lines", over).ok();
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.shared.closed.cancel();
        for connection in self.shared.connections().drain(..) {
            // The other side may have ended it.
            connection.shutdown(Shutdown::Both).ok();
        }
        if let Some(address) = self.listens_on {
            // Wakes its thread.
            TcpStream::connect(address).ok();
        }
        if let Some(thread) = self.thread.take() {
            // The listener is closed, or the consumer gone, when it has ended.
            thread.join().ok();
        }
    }
}

impl Shared {
    fn arrivals(&self) -> MutexGuard<'_, Arrivals> {
        self.arrivals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn connections(&self) -> MutexGuard<'_, Vec<TcpStream>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It ends with the sink.
    fn keep(&self, connection: &TcpStream) -> Result<()> {
        connection.set_nodelay(true)?;
        self.connections().push(connection.try_clone()?);
        self.connected.store(true, Ordering::SeqCst);
        Ok(())
    }
}
