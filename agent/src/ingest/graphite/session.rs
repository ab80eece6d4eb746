//! One plaintext connection: read, check, hand over; when the client has said that it is done, wait for
//! the commits and answer with FIN.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use forwarder::Clock;
use socket2::{SockRef, TcpKeepalive};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::ingest::clients::Visit;
use crate::ingest::graphite::outstanding::Outstanding;
use crate::ingest::graphite::scratch::{READ_BYTES, Scratch, Scratches};
use crate::ingest::graphite::wire::Wire;
use crate::ingest::graphite::{STOP_QUIET, STOP_READING, grace_is_over};
use crate::ingest::intake::{DEFAULT_QUEUE, Intake};
use crate::ingest::unfinished::Unfinished;
use crate::ingest::{Input, Sender};
use crate::spool::CommitError;

/// A silent connection is probed by the kernel after this long, so that none stands half-open for ever.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
const KEEPALIVE_PROBES: u32 = 4;

/// How a TLS client begins. No metric does.
const TLS_HANDSHAKE: &[u8] = b"\x16\x03";

/// A connection from its accept to its end.
pub(super) struct Session<W> {
    wire: W,
    /// Nothing was read yet.
    fresh: bool,
    /// It was too fast, and is not read until then.
    slowed_until: Option<Instant>,
    from: Sender,
    visit: Visit,
    intake: Intake,
    clock: Clock,
    scratches: Arc<Scratches>,
    unfinished: Unfinished,
    outstanding: Outstanding,
}

/// Why a session ended in a reset.
#[derive(Debug, thiserror::Error)]
pub(super) enum Reset {
    /// The client must keep what it has sent.
    #[error("its lines were not committed: {0}")]
    NotCommitted(#[from] CommitError),
    /// The connection broke, or the client reset it.
    #[error("the connection broke: {0}")]
    Broken(#[from] io::Error),
    /// It is at the wrong port.
    #[error("it speaks TLS, and this port does not: send to the port of listen.graphite+tls, or without TLS")]
    SpeaksTls,
    /// The agent stops, and the client has not said that it is done.
    #[error("the agent stops")]
    Stopped,
}

/// From now on `stream` is reset when it is dropped: also by a panic, and by the kernel should the process
/// be killed. Otherwise either would look like a receipt.
pub(super) fn set_up(socket: SockRef<'_>) -> io::Result<()> {
    socket.set_linger(Some(Duration::ZERO))?;
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_PROBES);
    socket.set_tcp_keepalive(&keepalive)
}

impl<W: Wire> Session<W> {
    /// Takes over `wire`, whose socket is set up.
    pub(super) fn new(
        wire: W,
        (peer, visit): (SocketAddr, Visit),
        intake: Intake,
        clock: Clock,
        scratches: Arc<Scratches>,
    ) -> Self {
        let from = Sender { input: Input::Graphite, peer: peer.ip().to_canonical().to_string().into() };
        let outstanding = Outstanding::new(&intake);
        Self {
            wire,
            fresh: true,
            slowed_until: visit.sent(0, Instant::now()),
            from,
            visit,
            intake,
            clock,
            scratches,
            unfinished: Unfinished::default(),
            outstanding,
        }
    }

    /// Carries everything the client sends into the spool. `Ok`: it got its FIN; else it is reset.
    pub(super) async fn run(mut self, stop: CancellationToken) -> Result<(), Reset> {
        tokio::select! {
            carried = self.carry_until_end(&stop) => carried?,
            () = grace_is_over(&stop) => return Err(Reset::Stopped),
        }
        // Everything is read and committed: now, and only now, closing means FIN.
        self.wire.socket().set_linger(None)?;
        if let Err(error) = self.wire.farewell().await {
            self.wire.socket().set_linger(Some(Duration::ZERO))?;
            return Err(error.into());
        }
        Ok(())
    }

    /// Reads until the client has said that it is done, then waits for the commits.
    async fn carry_until_end(&mut self, stop: &CancellationToken) -> Result<(), Reset> {
        loop {
            tokio::select! {
                readable = readable(self.slowed_until, &self.intake, &mut self.wire) => readable?,
                failure = self.outstanding.failure() => return Err(failure.into()),
                () = stop.cancelled() => break,
            }
            if self.carry_some().await? {
                return Ok(self.outstanding.all_committed().await?);
            }
        }
        self.carry_what_arrived().await
    }

    /// The agent stops: reads what is there or just arrives, so that as little as can be is lost of
    /// clients that want no receipt.
    async fn carry_what_arrived(&mut self) -> Result<(), Reset> {
        let until = Instant::now() + STOP_READING;
        let mut end = false;
        while !end && Instant::now() < until {
            let Ok(readable) = timeout(STOP_QUIET, readable(None, &self.intake, &mut self.wire)).await else {
                break;
            };
            readable?;
            end = self.carry_some().await?;
        }
        self.outstanding.all_committed().await?;
        if end { Ok(()) } else { Err(Reset::Stopped) }
    }

    /// Reads once and hands over the whole lines in it; at the end also what has no LF. Tells whether
    /// that was the end.
    async fn carry_some(&mut self) -> Result<bool, Reset> {
        let mut scratch = self.scratches.lend().await;
        let Scratch { read: bytes, checked } = &mut *scratch;
        self.unfinished.continue_in(bytes);
        bytes.reserve(READ_BYTES);
        let end = self.wire.read_some(bytes)?;
        if self.fresh && bytes.starts_with(TLS_HANDSHAKE) {
            return Err(Reset::SpeaksTls);
        }
        self.fresh &= bytes.is_empty();
        let now_seconds = self.clock.now_seconds();
        self.unfinished.check(bytes, now_seconds, checked);
        if end {
            self.unfinished.finish(now_seconds, checked);
        }
        if !checked.is_empty() {
            self.slowed_until = self.visit.sent(u64::from(checked.count), Instant::now());
            let ticket = self.intake.accept(&self.from, DEFAULT_QUEUE, checked).await;
            drop(scratch);
            self.outstanding.add(ticket).await?;
        }
        Ok(end)
    }
}

/// Waits until there is room for lines and something to read, and `from` has come. Cancel-safe.
async fn readable(from: Option<Instant>, intake: &Intake, wire: &mut impl Wire) -> io::Result<()> {
    if let Some(from) = from {
        sleep_until(from).await;
    }
    tokio::select! {
        biased;
        () = intake.room(DEFAULT_QUEUE) => {}
        error = wire.broken() => return Err(error),
    }
    wire.readable().await
}
