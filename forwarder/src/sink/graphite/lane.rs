//! A lane: one of the pool's places for a connection, with the leases that wait for it and the dial
//! of its next one. It does not know the other lanes.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::Instant;

use super::connection::{Connection, Loss};
use super::endpoints::EndpointId;
use super::limits::{Load, PoolLimits, Quota};
use crate::batch::DecodeError;
use crate::dial::Unreachable;
use crate::lease::Lease;

/// The delays before the dials of a lane that follow a failure: called once for each.
pub type Delays = Box<dyn FnMut() -> Duration + Send>;

type DialFuture = Pin<Box<dyn Future<Output = Result<TcpStream, Unreachable>> + Send>>;

/// A lease that no connection has begun.
pub(super) struct Waiting {
    pub(super) lease: Lease,
    /// It is to have a connection for itself.
    pub(super) alone: bool,
}

/// The dial of the next connection.
enum Dial {
    /// None is needed.
    Idle,
    /// One is needed from then on.
    At(Instant),
    /// It is under way.
    Under(EndpointId, DialFuture),
}

/// One place for a connection.
pub(super) struct Lane {
    waiting: VecDeque<Waiting>,
    connection: Option<Connection>,
    dial: Dial,
    dial_failed: bool,
    delays: Delays,
    moved_at: Instant,
}

impl Lane {
    pub(super) fn new(delays: Delays, now: Instant) -> Self {
        Self {
            waiting: VecDeque::new(),
            connection: None,
            dial: Dial::At(now),
            dial_failed: false,
            delays,
            moved_at: now,
        }
    }

    /// The connection that takes leases.
    pub(super) fn connection(&self) -> Option<&Connection> {
        self.connection.as_ref()
    }

    /// Whether it has a connection, and as far as is known could have another.
    pub(super) fn stands(&self) -> bool {
        self.connection.is_some() && !self.dial_failed
    }

    /// What the connection carries.
    pub(super) fn load(&self) -> Load {
        self.connection.as_ref().map(Connection::load).unwrap_or_default()
    }

    /// Leases that no connection has begun.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Leases and bytes wait, but nothing has moved for long.
    fn is_stalled(&self, now: Instant, limits: &PoolLimits) -> bool {
        self.has_work() && now >= self.moved_at + limits.stalled_after
    }

    fn has_work(&self) -> bool {
        !self.waiting.is_empty() || self.connection.as_ref().is_some_and(Connection::is_writing)
    }

    /// Whether a lease put here is likely to leave soon.
    pub(super) fn is_ready(&self, now: Instant, limits: &PoolLimits) -> bool {
        self.stands() && !self.is_stalled(now, limits)
    }

    pub(super) fn push(&mut self, waiting: Waiting, now: Instant) {
        if !self.has_work() {
            self.moved_at = now;
        }
        self.waiting.push_back(waiting);
    }

    pub(super) fn take_waiting(&mut self) -> VecDeque<Waiting> {
        std::mem::take(&mut self.waiting)
    }

    /// Whether what the connection carries asks for its end: its age, its bytes, a lease that is to
    /// be alone on it, or one that waits to be alone on the next.
    pub(super) fn is_due(&self, now: Instant, limits: &PoolLimits) -> bool {
        let Some(connection) = &self.connection else {
            return false;
        };
        let Some(oldest) = connection.oldest() else {
            return false;
        };
        now >= oldest + limits.turnover_age
            || connection.written_bytes() >= limits.turnover_bytes
            || connection.is_alone()
            || self.waiting.front().is_some_and(|waiting| waiting.alone)
    }

    /// Whether its connection carries all that was put here.
    pub(super) fn has_all(&self) -> bool {
        self.waiting.is_empty() && self.load().leases > 0
    }

    /// Asks for a successor; whether that is news.
    pub(super) fn want_successor(&mut self, now: Instant) -> bool {
        let idle = matches!(self.dial, Dial::Idle);
        if idle {
            self.dial = Dial::At(now);
        }
        idle
    }

    /// Whether it is time to dial.
    pub(super) fn wants_dial(&self, now: Instant) -> bool {
        matches!(self.dial, Dial::At(at) if at <= now)
    }

    pub(super) fn begin_dial(
        &mut self,
        endpoint: EndpointId,
        dial: impl Future<Output = Result<TcpStream, Unreachable>> + Send + 'static,
    ) {
        self.dial = Dial::Under(endpoint, Box::pin(dial));
    }

    /// Ready when the dial under way has ended, well or not.
    pub(super) fn poll_dial(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<(EndpointId, Result<TcpStream, Unreachable>)> {
        let Dial::Under(endpoint, dial) = &mut self.dial else {
            return Poll::Pending;
        };
        let endpoint = *endpoint;
        dial.as_mut().poll(cx).map(|result| {
            self.dial = Dial::Idle;
            (endpoint, result)
        })
    }

    /// The new connection carries on; its predecessor is returned.
    pub(super) fn replace(&mut self, connection: Connection, now: Instant) -> Option<Connection> {
        self.moved_at = now;
        self.dial_failed = false;
        self.connection.replace(connection)
    }

    /// The dial failed: dials again after a delay. A connection that waits for its successor goes on
    /// waiting: half-closed without one, its FIN would have no witness.
    pub(super) fn dial_failed(&mut self, now: Instant) {
        self.dial_failed = true;
        self.dial = Dial::At(now + (self.delays)());
    }

    /// The connection is no more, and is returned: dials another after a delay, unless that is under
    /// way.
    pub(super) fn take_failed(&mut self, now: Instant) -> Option<Connection> {
        if matches!(self.dial, Dial::Idle) {
            self.dial = Dial::At(now + (self.delays)());
        }
        self.connection.take()
    }

    /// The next failure is a first one.
    pub(super) fn starts_over(&mut self, delays: Delays) {
        self.delays = delays;
    }

    /// Drives the connection, and feeds it while it takes more. What does not decode goes to
    /// `undecodable`.
    pub(super) fn poll_connection(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
        limits: &PoolLimits,
        quota: &mut Quota,
        undecodable: &mut Vec<(Lease, DecodeError)>,
    ) -> Poll<Result<(), Loss>> {
        loop {
            let Some(connection) = &mut self.connection else {
                return Poll::Pending;
            };
            let written_before = connection.written_bytes();
            let end = connection.poll(cx);
            if connection.written_bytes() > written_before {
                self.moved_at = now;
            }
            if end.is_ready() || !self.feed(now, limits, quota, undecodable) {
                return end;
            }
        }
    }

    /// See [`Connection::take_acknowledged`].
    pub(super) fn take_acknowledged(&mut self, now: Instant) -> Result<Vec<Lease>, Loss> {
        match &mut self.connection {
            Some(connection) => connection.take_acknowledged(now),
            None => Ok(Vec::new()),
        }
    }

    /// Decodes waiting leases into the connection; whether there was any.
    fn feed(
        &mut self,
        now: Instant,
        limits: &PoolLimits,
        quota: &mut Quota,
        undecodable: &mut Vec<(Lease, DecodeError)>,
    ) -> bool {
        let mut fed = false;
        while quota.has_room() && !self.is_due(now, limits) {
            let Some(connection) = self.connection.as_mut().filter(|connection| connection.takes_more())
            else {
                break;
            };
            let Some(Waiting { lease, alone }) = self.waiting.pop_front() else {
                break;
            };
            quota.take(&lease);
            if let Err(refused) = connection.carry(lease, alone, now) {
                undecodable.push(*refused);
            }
            fed = true;
        }
        fed
    }

    /// What to wake up for, if nothing else happens before: dial, turnover, stall.
    pub(super) fn wake_times(&self, limits: &PoolLimits) -> impl Iterator<Item = Instant> {
        let dial = match self.dial {
            Dial::At(at) => Some(at),
            Dial::Idle | Dial::Under(..) => None,
        };
        let oldest = self.connection.as_ref().and_then(Connection::oldest);
        let turnover = oldest.map(|oldest| oldest + limits.turnover_age);
        let stall = self.has_work().then_some(self.moved_at + limits.stalled_after);
        [dial, turnover, stall].into_iter().flatten()
    }
}
