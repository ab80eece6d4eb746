//! The sockets: accepts connections up to a limit, runs each as a session, and says in the log how
//! sessions end.
//!
//! One connection more than the limit gets an ERROR that says so: an operator finds the reason in the
//! producer's log, which a connection left waiting in the kernel would never tell. Should even those
//! be many, they wait in the kernel.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use forwarder::Clock;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::ingest::intake::Intake;
use crate::ingest::{Input, Sender};

use super::Settings;
use super::budget::Budget;
use super::complaints::Complaints;
use super::encode;
use super::inflow::{Common, Inflow, InflowEnd};
use super::outflow::{Outflow, OutflowEnd};
use super::refusal::Refusal;
use super::version::Version;

/// Orders from the reading to the writing side that may wait.
const ORDERS: usize = 32;
/// Connections over the limit that are told so at a time.
const TURNED_AWAY_MAX: usize = 64;
/// How long to wait for a client to read an ERROR and close.
const LINGER: Duration = Duration::from_secs(2);
/// After an error of the listener itself, such as no free file descriptor.
const ACCEPT_AGAIN: Duration = Duration::from_secs(1);
/// When to ask a silent peer whether it is still there, for those without heart-beats.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// How a session ended.
#[derive(Debug)]
struct SessionEnd {
    peer: SocketAddr,
    inflow: InflowEnd,
    outflow: OutflowEnd,
}

/// Takes metrics over STOMP from every connection to `listener` until `stop`; then no more
/// connections, and returns once the sessions have finished what they have received.
pub async fn serve(
    listener: TcpListener,
    settings: Settings,
    intake: Intake,
    clock: Clock,
    stop: CancellationToken,
) {
    let limits = settings.limits;
    let common = Common {
        budget: Budget::new(limits.shared_bytes),
        settings: Arc::new(settings),
        intake,
        clock,
        stop: stop.clone(),
    };
    let mut server = Server::new(common);
    server.accept_until_stopped(listener).await;
    if timeout(limits.stop_time, server.finish()).await.is_err() {
        tracing::warn!(sessions = server.sessions.len(), "stomp sessions did not finish in time and are cut");
    }
}

struct Server {
    common: Common,
    sessions: JoinSet<SessionEnd>,
    /// Connections over the limit, being told so.
    turned_away: JoinSet<()>,
    accepted: u64,
    complaints: Complaints,
}

impl Server {
    fn new(common: Common) -> Self {
        Self {
            common,
            sessions: JoinSet::new(),
            turned_away: JoinSet::new(),
            accepted: 0,
            complaints: Complaints::default(),
        }
    }

    async fn accept_until_stopped(&mut self, listener: TcpListener) {
        let stop = self.common.stop.clone();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                Some(ended) = self.sessions.join_next() => self.report(ended),
                Some(_told) = self.turned_away.join_next() => {}
                accepted = listener.accept(), if self.turned_away.len() < TURNED_AWAY_MAX => match accepted {
                    Ok((stream, peer)) => self.welcome(stream, peer),
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept a stomp connection; trying again");
                        sleep(ACCEPT_AGAIN).await;
                    }
                },
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

    fn welcome(&mut self, stream: TcpStream, peer: SocketAddr) {
        if let Err(error) = set_up(&stream) {
            tracing::debug!(%peer, %error, "a stomp client left before it was served");
            return;
        }
        let connections_max = self.common.settings.limits.connections;
        if self.sessions.len() >= connections_max {
            let refusal = Refusal::Connections(connections_max);
            self.complaints.note(peer, &refusal);
            self.turned_away.spawn(turn_away(stream, refusal));
            return;
        }
        self.accepted += 1;
        self.sessions.spawn(run_session(stream, peer, self.common.clone(), self.accepted));
    }

    fn report(&mut self, ended: Result<SessionEnd, JoinError>) {
        let SessionEnd { peer, inflow, outflow } = match ended {
            Ok(end) => end,
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

/// One connection, from CONNECT to its end. Reading and writing go on side by side in one task.
async fn run_session(mut stream: TcpStream, peer: SocketAddr, common: Common, number: u64) -> SessionEnd {
    let (reader, writer) = stream.split();
    let from = Sender { input: Input::Stomp, peer: peer.ip().to_string().into() };
    let outflow = Outflow::new(writer, common.settings.limits.write_time);
    let mut inflow = Inflow::new(reader, common, from, number);
    let (orders, ordered) = mpsc::channel(ORDERS);
    let (inflow_end, outflow_end) = {
        let mut writing = std::pin::pin!(outflow.run(ordered));
        let mut reading = std::pin::pin!(inflow.run(orders));
        tokio::select! {
            biased;
            end = &mut writing => (InflowEnd::Unwritten, end),
            end = &mut reading => (end, writing.await),
        }
    };
    if !matches!(inflow_end, InflowEnd::Left { .. } | InflowEnd::Broken(_)) {
        linger(&mut inflow.into_reader()).await;
    }
    SessionEnd { peer, inflow: inflow_end, outflow: outflow_end }
}

/// Tells a connection over the limit why it is not served.
async fn turn_away(mut stream: TcpStream, refusal: Refusal) {
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
