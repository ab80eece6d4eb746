//! The sockets: accepts connections up to a limit, runs each as a session, and says in the log how
//! sessions end.
//!
//! One connection more than the limit gets an ERROR that says so: an operator finds the reason in the
//! producer's log, which a connection left waiting in the kernel would never tell. Should even those
//! be many, they are reset: they may all be of one client, and keep no other one out.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use forwarder::Clock;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinError, JoinSet};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::complaints::Complaints;
use crate::ingest::Input;
use crate::ingest::clients::{Clients, Visit};
use crate::ingest::intake::Intake;
use crate::ingest::porter::Porter;
use crate::spool::Subscribers;
use crate::tls::{Acceptor, Door, Doors, HandshakeError, client_names};
use crate::users::Users;

use super::Settings;
use super::budget::Budget;
use super::encode;
use super::inflow::{Common, Inflow, InflowEnd, Visitor};
use super::lending::Lending;
use super::outflow::{Outflow, OutflowEnd};
use super::reader::{Reader, split};
use super::refusal::Refusal;
use super::version::Version;

/// Orders from the reading to the writing side that may wait.
const ORDERS: usize = 32;
/// Connections over the limit that are told so at a time.
const TURNED_AWAY_MAX: usize = 64;
/// How long to wait for a client to read an ERROR and close.
const LINGER: Duration = Duration::from_secs(2);
/// When to ask a silent peer whether it is still there, for those without heart-beats.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// How a session ended.
#[derive(Debug)]
struct SessionEnd {
    peer: SocketAddr,
    inflow: InflowEnd,
    outflow: OutflowEnd,
}

/// A client that did not get to a session.
#[derive(Debug)]
struct NoSession {
    peer: SocketAddr,
    error: HandshakeError,
}

/// Takes metrics over STOMP from every connection through `doors`, and serves the `subscribers` of each queue,
/// until `stop`; then no more
/// connections, and returns once the sessions have finished what they have received.
pub async fn serve(
    doors: impl Into<Doors>,
    settings: Settings,
    guests: Guests,
    intake: Intake,
    subscribers: Arc<[Subscribers]>,
    clock: Clock,
    stop: CancellationToken,
) {
    let limits = settings.limits;
    let common = Common {
        budget: Budget::new(limits.shared_bytes),
        settings: Arc::new(settings),
        users: guests.users,
        intake,
        subscribers,
        clock,
        stop: stop.clone(),
    };
    let mut server = Server::new(common, guests.clients);
    server.accept_until_stopped(doors.into()).await;
    if timeout(limits.stop_time, server.finish()).await.is_err() {
        tracing::warn!(sessions = server.sessions.len(), "stomp sessions did not finish in time and are cut");
    }
}

/// Who may come in, and how much of it each may take.
#[derive(Clone)]
pub struct Guests {
    /// Who may do what.
    pub users: Users,
    /// How many connections and lines a second each address has.
    pub clients: Clients,
}

struct Server {
    common: Common,
    clients: Clients,
    sessions: JoinSet<Result<SessionEnd, NoSession>>,
    /// Connections over the limit, being told so.
    turned_away: JoinSet<()>,
    accepted: u64,
    complaints: Complaints,
}

impl Server {
    fn new(common: Common, clients: Clients) -> Self {
        Self {
            common,
            clients,
            sessions: JoinSet::new(),
            turned_away: JoinSet::new(),
            accepted: 0,
            complaints: Complaints::of("stomp"),
        }
    }

    async fn accept_until_stopped(&mut self, doors: Doors) {
        let stop = self.common.stop.clone();
        let mut porter = Porter::new(doors, Input::Stomp.as_str());
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                Some(ended) = self.sessions.join_next() => self.report(ended),
                Some(_told) = self.turned_away.join_next() => {}
                (stream, peer, door) = porter.accept() => self.welcome(stream, peer, door),
                () = self.complaints.due() => self.complaints.sum_up(),
            }
        }
    }

    /// Waits until every session has finished what it received.
    async fn finish(&mut self) {
        while let Some(ended) = self.sessions.join_next().await {
            self.report(ended);
        }
        self.complaints.sum_up();
    }

    fn welcome(&mut self, stream: TcpStream, peer: SocketAddr, door: Door) {
        if let Err(error) = set_up(&stream) {
            tracing::debug!(%peer, %error, "a stomp client left before it was served");
            return;
        }
        let visit = match self.enter(peer) {
            Ok(visit) => visit,
            Err(refusal) => {
                self.complaints.note(peer, &refusal);
                if self.turned_away.len() >= TURNED_AWAY_MAX {
                    reset(stream);
                    return;
                }
                match door {
                    Door::Plain => self.turned_away.spawn(turn_away(stream, refusal)),
                    Door::Tls(acceptor) => {
                        self.turned_away.spawn(turn_away_over_tls(acceptor, stream, refusal))
                    }
                };
                return;
            }
        };
        self.accepted += 1;
        let (common, number) = (self.common.clone(), self.accepted);
        match door {
            Door::Plain => {
                let visitor = Visitor { address: peer.ip(), names: Vec::new(), visit: Some(visit) };
                self.sessions.spawn(async move {
                    Ok(run_session(stream.into_split(), peer, visitor, common, number).await)
                })
            }
            Door::Tls(acceptor) => {
                self.sessions.spawn(run_tls_session(acceptor, stream, peer, visit, common, number))
            }
        };
    }

    /// Lets a connection in, if there may be one more.
    fn enter(&self, peer: SocketAddr) -> Result<Visit, Refusal> {
        let most = self.common.settings.limits.connections.min(self.clients.connections_max());
        if self.sessions.len() >= most {
            return Err(Refusal::Connections(most));
        }
        self.clients.enter(peer.ip()).map_err(Refusal::ConnectionsOfClient)
    }

    fn report(&mut self, ended: Result<Result<SessionEnd, NoSession>, JoinError>) {
        let SessionEnd { peer, inflow, outflow } = match ended {
            Ok(Ok(end)) => end,
            Ok(Err(NoSession { peer, error: HandshakeError::Left })) => {
                tracing::debug!(%peer, "a stomp client left without a word");
                return;
            }
            Ok(Err(NoSession { peer, error })) => {
                self.complaints.note(peer, &error);
                return;
            }
            Err(error) => {
                tracing::error!(%error, "a stomp session failed");
                return;
            }
        };
        match (outflow, inflow) {
            (OutflowEnd::NotCommitted(error), _) => {
                self.complaints.note(peer, &Refusal::NotCommitted(error.to_string()));
            }
            (OutflowEnd::NotRead, _) => self.complaints.note(peer, &"it does not read what is written to it"),
            (OutflowEnd::Done, InflowEnd::Refused(Refusal::Stopping)) => {
                tracing::debug!(%peer, "stomp session ended: stopping");
            }
            (OutflowEnd::Done, InflowEnd::Refused(refusal)) => self.complaints.note(peer, &refusal),
            (OutflowEnd::Done, InflowEnd::Broken(error)) => {
                tracing::debug!(%peer, %error, "stomp session ended: the connection broke");
            }
            (OutflowEnd::Done, InflowEnd::Left { mid_frame: true }) => {
                self.complaints.note(peer, &"it left in the middle of a frame, which is dropped");
            }
            (OutflowEnd::Done, end) => tracing::debug!(%peer, ?end, "stomp session ended"),
        }
    }
}

fn set_up(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    SockRef::from(stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE))
}

/// Closes at once, so that nothing of it is left here.
fn reset(stream: TcpStream) {
    // If even this fails, it is closed all the same.
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap_or_default();
}

/// One connection with TLS: the handshake, then the session.
async fn run_tls_session(
    acceptor: Acceptor,
    stream: TcpStream,
    peer: SocketAddr,
    visit: Visit,
    common: Common,
    number: u64,
) -> Result<SessionEnd, NoSession> {
    // Boxed, so that what a handshake takes is given back before the session stands.
    let shaking = Box::pin(acceptor.accept(stream));
    let shaken = common.stop.run_until_cancelled(shaking).await;
    match shaken.unwrap_or(Err(HandshakeError::Left)) {
        Ok(stream) => {
            let visitor = Visitor { address: peer.ip(), names: client_names(&stream), visit: Some(visit) };
            Ok(run_session(split(stream), peer, visitor, common, number).await)
        }
        Err(HandshakeError::NotTls(mut stream)) => {
            turn_away(&mut stream, Refusal::NeedsTls).await;
            Err(NoSession { peer, error: HandshakeError::NotTls(stream) })
        }
        Err(error) => Err(NoSession { peer, error }),
    }
}

/// One connection, from CONNECT to its end. Reading and writing go on side by side in one task.
async fn run_session<W: AsyncWrite + Unpin>(
    (reader, writer): (impl Reader, W),
    peer: SocketAddr,
    visitor: Visitor,
    common: Common,
    number: u64,
) -> SessionEnd {
    let outflow = Outflow::new(writer, common.settings.limits.write_time);
    let (lending, started) = oneshot::channel();
    let mut inflow = Inflow::new(reader, common, visitor, number, lending);
    let (orders, ordered) = mpsc::channel(ORDERS);
    let mut writing = std::pin::pin!(outflow.run(ordered));
    let (inflow_end, outflow_end) = tokio::select! {
        biased;
        end = &mut writing => (InflowEnd::Unwritten, Some(end)),
        // Before the reading, which may have no pause.
        () = lend(started) => (InflowEnd::Unwritten, Some(OutflowEnd::Done)),
        end = inflow.run(orders) => (end, None),
    };
    // Now, and not once the rest is written: what it was lent goes to others, and nobody waits behind it.
    let (mut reader, _visit) = inflow.into_reader();
    let outflow_end = match outflow_end {
        Some(end) => end,
        None => writing.await,
    };
    if !matches!(inflow_end, InflowEnd::Left { .. } | InflowEnd::Broken(_)) {
        linger(&mut reader).await;
    }
    SessionEnd { peer, inflow: inflow_end, outflow: outflow_end }
}

/// Brings batches to the subscriptions, once there are any. It ends after the session only.
async fn lend(started: oneshot::Receiver<Lending>) {
    match started.await {
        // Boxed: most sessions never subscribe.
        Ok(lending) => Box::pin(lending.run()).await,
        Err(_) => std::future::pending().await,
    }
}

/// Tells a connection over the limit why it is not served.
async fn turn_away(mut stream: impl AsyncRead + AsyncWrite + Unpin, refusal: Refusal) {
    let mut error = Vec::new();
    encode::error(Version::V1_0, &refusal.to_string(), None, &[], &mut error);
    let told = async {
        stream.write_all(&error).await?;
        stream.shutdown().await
    };
    if let Ok(Ok(())) = timeout(LINGER, told).await {
        linger(&mut stream).await;
    }
}

/// Such a client would not understand it before the handshake.
async fn turn_away_over_tls(acceptor: Acceptor, stream: TcpStream, refusal: Refusal) {
    match acceptor.accept(stream).await {
        Ok(stream) => turn_away(stream, refusal).await,
        Err(error) => tracing::debug!(%error, "a stomp client over the limit could not be told so"),
    }
}

/// Reads on until the client closes: closing with bytes unread would reset the connection, and the
/// client might never see the last frame.
async fn linger(reader: &mut (impl AsyncRead + Unpin)) {
    let mut scrap = vec![0; 4096];
    let until_closed = async { while matches!(reader.read(&mut scrap).await, Ok(1..)) {} };
    // A client that does not close is closed upon.
    drop(timeout(LINGER, until_closed).await);
}

#[cfg(test)]
mod tests;
