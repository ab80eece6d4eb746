//! The TCP listener: accepts, keeps to its limit, and owns the sessions.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use forwarder::Clock;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::ingest::graphite::scratch::Scratches;
use crate::ingest::graphite::session::Session;
use crate::ingest::intake::Intake;

/// After a failed accept (most likely there are no file descriptors left) it is tried again this late.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);
/// Refused connections are told of once in this time.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// What the listener holds at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections that may stand at once. One more is reset at once, so that its client sees it.
    pub connections_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections_max: 16_384 }
    }
}

/// Takes metrics from plaintext connections until `stop`; then no new connection is accepted, and it
/// returns once every session has ended.
pub async fn serve_tcp(
    listener: TcpListener,
    intake: Intake,
    clock: Clock,
    limits: Limits,
    stop: CancellationToken,
) {
    let scratches = Arc::new(Scratches::new());
    let mut sessions = JoinSet::new();
    let mut refusals = Refusals::default();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) if sessions.len() >= limits.connections_max => {
                    reset(stream);
                    refusals.count(format_args!("the limit of {} connections is reached", limits.connections_max));
                }
                Ok((stream, peer)) => {
                    match Session::new(stream, intake.clone(), clock.clone(), Arc::clone(&scratches)) {
                        Ok(session) => drop(sessions.spawn(run(session, peer, stop.clone()))),
                        Err(error) => tracing::debug!(%peer, %error, "graphite client was gone before its session began"),
                    }
                }
                Err(error) => {
                    refusals.count(format_args!("accept failed: {error}"));
                    sleep(ACCEPT_RETRY).await;
                }
            },
            Some(ended) = sessions.join_next() => report_panic(ended),
            () = refusals.due() => refusals.report(),
            () = stop.cancelled() => break,
        }
    }
    drop(listener);
    while let Some(ended) = sessions.join_next().await {
        report_panic(ended);
    }
}

async fn run(session: Session, peer: SocketAddr, stop: CancellationToken) {
    if let Err(reset) = session.run(stop).await {
        tracing::debug!(%peer, %reset, "graphite client was reset");
    }
}

/// Closes `stream` so that it cannot be taken for a receipt.
fn reset(stream: TcpStream) {
    // If even this fails, nothing of the connection was read, and the kernel resets it if anything came.
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap_or_default();
}

fn report_panic(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a graphite session failed; its connection was reset");
    }
}

/// Connections that were not served, told of at once and then in sums.
#[derive(Debug, Default)]
struct Refusals {
    count: u64,
    why: String,
    next_report: Option<Instant>,
}

impl Refusals {
    fn count(&mut self, why: fmt::Arguments<'_>) {
        self.count += 1;
        self.why = why.to_string();
    }

    /// Waits until there is something to tell and the time for it has come. Cancel-safe.
    async fn due(&self) {
        match (self.count, self.next_report) {
            (0, _) => std::future::pending().await,
            (_, Some(next)) => sleep_until(next).await,
            (_, None) => {}
        }
    }

    fn report(&mut self) {
        tracing::warn!(connections = self.count, reason = %self.why, "graphite connections were not served");
        self.count = 0;
        self.next_report = Some(Instant::now() + REPORT_INTERVAL);
    }
}
