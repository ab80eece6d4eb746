//! The loop: while the source lends a batch, send it; a receipt confirms it; a refusal sets it aside
//! with the reason; what is lost on the way is sent again. It ends with its session.
//!
//! It does not know what its source and sink are made of, and it does not connect. Several batches
//! are in flight at a time, as many as the sink has room for and [`Trouble`] allows.

#[cfg(test)]
pub(crate) mod model;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::lease::{Lease, LeaseKey, Receipt};
use crate::sink::{Event, Sink, SinkEnd};
use crate::source::{Source, SourceEnd};
use crate::trouble::{Admission, Trouble};
use crate::watch::{Carried, LinkWatch};

/// Told to stop, a pump waits this long for the receipts of what is in flight.
const GRACE: Duration = Duration::from_secs(10);
/// A suspect that is held back is tried without further neighbours once none came for this long.
const NEIGHBOUR_WAIT: Duration = Duration::from_secs(5);

/// Why a session ended. What it had not confirmed by then goes back when source and sink are dropped.
#[derive(Debug, thiserror::Error)]
pub enum End {
    /// It was told to stop; what was in flight was waited for.
    #[error("told to stop")]
    Stopped,
    /// The source broke, or was closed; then what was in flight was waited for.
    #[error(transparent)]
    Source(SourceEnd),
    /// The sink broke, or was given up.
    #[error(transparent)]
    Sink(#[from] SinkEnd),
}

/// Carries batches from `source` to `sink` until one of them ends or `stop` is cancelled.
pub async fn pump<S: Source, K: Sink>(
    source: &mut S,
    sink: &mut K,
    trouble: &mut Trouble,
    watch: &LinkWatch,
    stop: &CancellationToken,
) -> End {
    trouble.session_began();
    let closing = stop.child_token();
    let mut session = Session {
        source,
        sink,
        trouble,
        watch,
        closing: closing.clone(),
        flight: Flight::default(),
        held: VecDeque::new(),
    };
    let patience = async {
        closing.cancelled().await;
        sleep(GRACE).await;
    };
    let end = tokio::select! {
        Err(end) = session.carry() => end,
        () = patience => End::Stopped,
    };
    match end {
        End::Stopped if !stop.is_cancelled() => End::Source(SourceEnd::Closed),
        End::Sink(end) => {
            let in_flight = session.flight.keys();
            session.trouble.session_ended(&end, &in_flight);
            End::Sink(end)
        }
        end => end,
    }
}

/// What one turn of the loop is about.
enum Turn {
    /// A batch is to be sent.
    Lent(Lease),
    /// The sink has something to say.
    Told(Event),
    /// No neighbour has come for the suspects that are held.
    Waited,
    /// Nothing more is to be leased.
    Closing,
}

struct Session<'a, S, K> {
    source: &'a mut S,
    sink: &'a mut K,
    trouble: &'a mut Trouble,
    watch: &'a LinkWatch,
    closing: CancellationToken,
    flight: Flight,
    /// Suspects whose time has not come, and what was lost and goes again.
    held: VecDeque<Lease>,
}

impl<S: Source, K: Sink> Session<'_, S, K> {
    async fn carry(&mut self) -> Result<Infallible, End> {
        loop {
            match self.turn().await? {
                Turn::Lent(lease) => self.admit(lease).await?,
                Turn::Told(Event::Confirmed(lease, receipt)) => self.confirm(lease, receipt).await?,
                Turn::Told(Event::Refused(lease, reason)) => self.set_aside(lease, &reason).await?,
                Turn::Told(Event::Lost(lease)) => self.send_again(lease),
                Turn::Told(Event::Room) => {}
                Turn::Waited => self.try_suspect().await?,
                Turn::Closing => {}
            }
        }
    }

    async fn turn(&mut self) -> Result<Turn, End> {
        let closing = self.closing.is_cancelled();
        if closing {
            if self.flight.0.is_empty() {
                return Err(End::Stopped);
            }
            self.sink.hurry();
        }
        let in_window = self.flight.0.len() < self.trouble.window();
        let room = !closing && in_window && self.sink.has_room();
        if room && let Some(lease) = self.take_due() {
            return Ok(Turn::Lent(lease));
        }
        // What is ready goes before the sink is listened to, so that it writes more at a time.
        if room && let Some(lent) = self.source.lease().now_or_never() {
            return self.lent(lent);
        }
        tokio::select! {
            biased;
            event = self.sink.event() => Ok(Turn::Told(event?)),
            () = self.closing.cancelled(), if !closing => Ok(Turn::Closing),
            lent = self.source.lease(), if room => self.lent(lent),
            () = sleep(NEIGHBOUR_WAIT), if room && !self.held.is_empty() => Ok(Turn::Waited),
        }
    }

    fn lent(&self, lent: Result<Lease, SourceEnd>) -> Result<Turn, End> {
        match lent {
            Ok(lease) => Ok(Turn::Lent(lease)),
            Err(SourceEnd::Closed) => {
                self.closing.cancel();
                Ok(Turn::Closing)
            }
            Err(end) => Err(End::Source(end)),
        }
    }

    async fn admit(&mut self, lease: Lease) -> Result<(), End> {
        match self.trouble.admit(lease.key()) {
            Admission::Send => self.send(lease).await,
            Admission::SetAside(reason) => self.set_aside(lease, &reason).await,
            Admission::Hold => {
                self.held.push_back(lease);
                Ok(())
            }
        }
    }

    async fn send(&mut self, lease: Lease) -> Result<(), End> {
        self.flight.sent(lease.key());
        self.sink.send(lease).await?;
        Ok(())
    }

    async fn confirm(&mut self, lease: Lease, receipt: Receipt) -> Result<(), End> {
        let (key, carried) = (lease.key(), Carried::of(lease.batch()));
        let sent = self.flight.ended(key);
        self.source.confirm(lease, receipt).await.map_err(End::Source)?;
        self.trouble.confirmed(key);
        let since_sent = sent.map_or(Duration::ZERO, |sent| sent.elapsed());
        self.watch.confirmed(&carried, since_sent);
        Ok(())
    }

    async fn set_aside(&mut self, lease: Lease, reason: &str) -> Result<(), End> {
        let key = lease.key();
        self.flight.ended(key);
        self.source.set_aside(lease, reason).await.map_err(End::Source)?;
        self.trouble.cleared(key);
        self.watch.set_aside(reason);
        Ok(())
    }

    /// Keeps its lease, and so its key and its place: it goes again as soon as there is room.
    fn send_again(&mut self, lease: Lease) {
        self.flight.ended(lease.key());
        self.held.push_back(lease);
    }

    /// A held batch whose time has come.
    fn take_due(&mut self) -> Option<Lease> {
        let is_due = |lease: &Lease| self.trouble.admit(lease.key()) != Admission::Hold;
        let index = self.held.iter().position(is_due)?;
        self.held.remove(index)
    }

    async fn try_suspect(&mut self) -> Result<(), End> {
        match self.held.pop_front() {
            Some(suspect) => self.send(suspect).await,
            None => Ok(()),
        }
    }
}

/// The leases that the next hop has not spoken of, and when they were sent.
#[derive(Default)]
struct Flight(HashMap<LeaseKey, Instant>);

impl Flight {
    fn sent(&mut self, key: LeaseKey) {
        self.0.insert(key, Instant::now());
    }

    /// Tells when it was sent.
    fn ended(&mut self, key: LeaseKey) -> Option<Instant> {
        self.0.remove(&key)
    }

    /// In the order in which they were sent.
    fn keys(&self) -> Vec<LeaseKey> {
        let mut sent: Vec<_> = self.0.iter().map(|(key, at)| (*at, *key)).collect();
        sent.sort_unstable();
        sent.into_iter().map(|(_, key)| key).collect()
    }
}
