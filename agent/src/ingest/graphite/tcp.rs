//! The TCP listener: accepts, keeps to its limit, and owns the sessions.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use forwarder::Clock;
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::ingest::Input;
use crate::ingest::clients::{Clients, Visit};
use crate::ingest::graphite::scratch::Scratches;
use crate::ingest::graphite::session::{Reset, Session, set_up};
use crate::ingest::graphite::wire::TlsWire;
use crate::ingest::intake::Intake;
use crate::ingest::porter::Porter;
use crate::tls::{Acceptor, Door, Doors, HandshakeError};

/// Refused connections are told of once in this time.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// Takes metrics from plaintext connections through `doors` until `stop`; then no new connection is
/// accepted, and it returns once every session has ended. A connection that `clients` does not allow is reset
/// at once, so that its client sees it.
pub async fn serve_tcp(
    doors: impl Into<Doors>,
    intake: Intake,
    clock: Clock,
    clients: Clients,
    stop: CancellationToken,
) {
    let mut porter = Porter::new(doors.into(), Input::Graphite.as_str());
    let host = Host { intake, clock, scratches: Arc::new(Scratches::new()), stop: stop.clone() };
    let mut sessions = JoinSet::new();
    let mut refusals = Refusals::default();
    loop {
        tokio::select! {
            (stream, peer, door) = porter.accept() => {
                if sessions.len() >= clients.connections_max() {
                    reset(stream);
                    let most = clients.connections_max();
                    refusals.count(format_args!("the limit of {most} connections is reached"));
                    continue;
                }
                match (clients.enter(peer.ip()), door) {
                    (Err(most), _) => {
                        reset(stream);
                        refusals.count(format_args!("{peer}: the limit of {most} connections of one address is reached"));
                    }
                    (Ok(visit), Door::Plain) => drop(sessions.spawn(host.clone().receive(stream, peer, visit))),
                    (Ok(visit), Door::Tls(acceptor)) => {
                        drop(sessions.spawn(host.clone().receive_over_tls(acceptor, stream, peer, visit)));
                    }
                }
            }
            Some(ended) = sessions.join_next() => refusals.take(ended),
            () = refusals.due() => refusals.report(),
            () = stop.cancelled() => break,
        }
    }
    drop(porter);
    while let Some(ended) = sessions.join_next().await {
        refusals.take(ended);
    }
}

/// What all sessions of a listener have in common.
#[derive(Clone)]
struct Host {
    intake: Intake,
    clock: Clock,
    scratches: Arc<Scratches>,
    stop: CancellationToken,
}

/// How a session ended: `Some` tells why it was not served at all.
type Ended = Option<String>;

impl Host {
    async fn receive(self, stream: TcpStream, peer: SocketAddr, visit: Visit) -> Ended {
        if let Err(error) = set_up(SockRef::from(&stream)) {
            tracing::debug!(%peer, %error, "graphite client was gone before its session began");
            return None;
        }
        let session = Session::new(stream, (peer, visit), self.intake, self.clock, self.scratches);
        ended(session.run(self.stop).await, peer)
    }

    async fn receive_over_tls(
        self,
        acceptor: Acceptor,
        stream: TcpStream,
        peer: SocketAddr,
        visit: Visit,
    ) -> Ended {
        if let Err(error) = set_up(SockRef::from(&stream)) {
            tracing::debug!(%peer, %error, "graphite client was gone before its session began");
            return None;
        }
        // Boxed, so that what a handshake takes is given back before the session stands.
        let shaking = Box::pin(acceptor.accept(stream));
        let shaken = self.stop.run_until_cancelled(shaking).await;
        match shaken.unwrap_or(Err(HandshakeError::Left)) {
            Ok(stream) => {
                let wire = TlsWire::new(stream);
                let session = Session::new(wire, (peer, visit), self.intake, self.clock, self.scratches);
                ended(session.run(self.stop).await, peer)
            }
            Err(HandshakeError::Left) => None,
            Err(error) => Some(format!("{peer}: {error}")),
        }
    }
}

fn ended(how: Result<(), Reset>, peer: SocketAddr) -> Ended {
    match how {
        Ok(()) => None,
        Err(reset @ Reset::SpeaksTls) => Some(format!("{peer}: {reset}")),
        Err(reset) => {
            tracing::debug!(%peer, %reset, "graphite client was reset");
            None
        }
    }
}

/// Closes `stream` so that it cannot be taken for a receipt.
fn reset(stream: TcpStream) {
    // If even this fails, nothing of the connection was read, and the kernel resets it if anything came.
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap_or_default();
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

    fn take(&mut self, ended: Result<Ended, JoinError>) {
        match ended {
            Ok(None) => {}
            Ok(Some(why)) => self.count(format_args!("{why}")),
            Err(error) => tracing::error!(%error, "a graphite session failed; its connection was reset"),
        }
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
