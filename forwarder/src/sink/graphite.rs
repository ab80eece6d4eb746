//! The pool of connections to a Graphite, and the receipt that it takes from a protocol without one.
//!
//! Each of its lanes has a connection that takes leases. After a while the connection is half-closed
//! and a successor carries on; the FIN that answers means that Graphite has read every byte, and
//! confirms what the connection carried once it is clear that Graphite was not about to end (see
//! `verdict`). A connection that ends in any other way loses its leases,
//! and they are sent again. Told that nothing more comes, the pool turns all of them over at once; so it does when
//! many wait and no more come. A slow Graphite is waited for: only silence for [`PoolLimits`] is an end.
//!
//! With `confirm: kernel` there is no half-close: a lease is confirmed once the receiver's kernel has
//! acknowledged its bytes.
//!
//! It proves that Graphite has read, not that whisper has written; of a proxy that does not pass
//! half-closes it proves only that the proxy has read. Nothing here runs by itself: `send` and
//! `event` drive everything, so the pump polls `event` at all times.

mod connection;
mod drive;
mod endpoints;
mod health;
mod lane;
mod limits;
mod presence;
mod suspects;
mod verdict;

#[cfg(test)]
mod receiver;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::time::{Instant, Sleep, sleep_until};
use topology::model::{GraphiteConfirm, GraphiteUpstream};

use self::connection::Connection;
use self::drive::DRY_LEASES_MIN;
use self::endpoints::Endpoints;
pub use self::health::PoolHealth;
pub use self::lane::Delays;
use self::lane::{Lane, Waiting};
pub use self::limits::{Load, PoolLimits};
use self::presence::Presence;
use self::suspects::Suspects;
use self::verdict::Answered;
use crate::lease::Lease;
use crate::sink::{Event, Sink, SinkEnd};

/// Lines that wait to be written together, at most.
const TOGETHER_BYTES: usize = 16 * 1024;

/// Makes the delays that follow a first failure; see [`Delays`].
pub type NewDelays = Box<dyn Fn() -> Delays + Send>;

/// Persistent connections to one Graphite. See the module.
pub struct Pool {
    endpoints: Endpoints,
    confirm: GraphiteConfirm,
    limits: PoolLimits,
    new_delays: NewDelays,
    health: Arc<PoolHealth>,
    lanes: Vec<Lane>,
    closing: Vec<(usize, Connection)>,
    answered: Vec<Answered>,
    suspects: Suspects,
    events: VecDeque<Event>,
    in_flight: Load,
    /// When the last lease came.
    sent_at: Instant,
    /// Came since everything was moved last.
    placed_bytes: usize,
    heard_at: Instant,
    presence: Presence,
    ended: Option<SinkEnd>,
    /// Nothing more comes, so no connection waits for more.
    hurried: bool,
    alarm: Pin<Box<Sleep>>,
}

impl Pool {
    /// Dials until the first connection stands, however long that takes; `health` tells meanwhile what
    /// goes wrong. If the pool before ended for want of a connection, one must have lasted: else a proxy
    /// whose Graphite is gone, which accepts and drops, would be taken for one again and again. `new_delays` makes the schedule of the dials that follow a failure; a lane takes a
    /// new one after each receipt.
    pub async fn open(
        upstream: &GraphiteUpstream,
        limits: PoolLimits,
        new_delays: NewDelays,
        health: Arc<PoolHealth>,
    ) -> Self {
        let now = Instant::now();
        let lanes = 0..upstream.connections.max(1);
        let limits = match upstream.confirm {
            GraphiteConfirm::HalfClose => limits,
            GraphiteConfirm::Kernel => limits.without_turnover(),
        };
        let mut pool = Self {
            endpoints: Endpoints::new(upstream.endpoints.clone()),
            confirm: upstream.confirm,
            limits,
            lanes: lanes.map(|_| Lane::new(new_delays(), now)).collect(),
            new_delays,
            health,
            closing: Vec::new(),
            answered: Vec::new(),
            suspects: Suspects::default(),
            events: VecDeque::new(),
            in_flight: Load::default(),
            sent_at: now,
            placed_bytes: 0,
            heard_at: now,
            presence: Presence::absent(now, limits.lasts()),
            ended: None,
            hurried: false,
            alarm: Box::pin(sleep_until(now)),
        };
        poll_fn(|cx| pool.poll_standing(cx)).await;
        pool
    }

    fn poll_standing(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let now = Instant::now();
            self.drive(cx, now);
            let lasts = || self.presence.lasts_at().is_some_and(|at| now >= at);
            if self.presence.is_connected() && (!self.health.is_doubted() || lasts()) {
                return Poll::Ready(());
            }
            ready!(self.poll_alarm(cx, now));
        }
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Result<Event, SinkEnd>> {
        loop {
            if let Some(event) = self.events.pop_front() {
                if let Event::Confirmed(lease, _) | Event::Refused(lease, _) | Event::Lost(lease) = &event {
                    self.in_flight.remove(lease);
                }
                return Poll::Ready(Ok(event));
            }
            if let Some(end) = &self.ended {
                return Poll::Ready(Err(end.clone()));
            }
            let now = Instant::now();
            let was_connected = self.presence.is_connected();
            self.drive(cx, now);
            if !was_connected && self.presence.is_connected() {
                self.events.push_back(Event::Room);
            }
            if !self.events.is_empty() {
                continue;
            }
            if let Some(end) = self.end(now) {
                self.finish(end);
            } else if !self.lose_silent(now) {
                ready!(self.poll_alarm(cx, now));
            }
        }
    }

    /// Whether the pool is at its end: no connection for too long, or no receipt at all for too long.
    fn end(&self, now: Instant) -> Option<SinkEnd> {
        let down_after = self.limits.down_after;
        if self.presence.absent_since().is_some_and(|since| now >= since + down_after) {
            let error = self.health.last_error().unwrap_or_default();
            let end = format!("no connection to Graphite for {down_after:?}: {error}");
            return Some(SinkEnd::Closed(end));
        }
        let silent = self.limits.confirm_within;
        (self.in_flight.leases > 0 && now >= self.heard_at + silent).then_some(SinkEnd::Silent(silent))
    }

    /// Drops all leases, which gives them back.
    fn finish(&mut self, end: SinkEnd) {
        if matches!(end, SinkEnd::Closed(_)) {
            self.health.set_doubted(true);
        }
        self.ended = Some(end);
        self.lanes.clear();
        self.closing.clear();
        self.answered.clear();
        self.in_flight = Load::default();
        self.health.ended();
    }

    /// Ready when something is due by time alone.
    fn poll_alarm(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<()> {
        // What was due before now has been done, or waits for a socket, which wakes by itself.
        let Some(at) = self.wake_times().filter(|&at| at > now).min() else {
            return Poll::Pending;
        };
        if self.alarm.deadline() != at {
            self.alarm.as_mut().reset(at);
        }
        self.alarm.as_mut().poll(cx)
    }

    /// The connections that were not ended from the other side.
    fn standing(&self) -> impl Iterator<Item = &Connection> {
        let open = self.lanes.iter().filter_map(Lane::connection);
        open.chain(self.closing.iter().map(|(_, connection)| connection))
    }

    fn wake_times(&self) -> impl Iterator<Item = Instant> {
        let silences = self
            .standing()
            .filter_map(Connection::oldest)
            .chain((self.in_flight.leases > 0).then_some(self.heard_at))
            .map(|since| since + self.limits.confirm_within);
        let looks = self.lanes.iter().filter_map(Lane::connection).filter_map(Connection::next_look);
        let looks = looks.filter(|_| self.confirm == GraphiteConfirm::Kernel);
        let down = self.presence.absent_since().map(|since| since + self.limits.down_after);
        let lasts = self.presence.lasts_at();
        let lanes = self.lanes.iter().flat_map(|lane| lane.wake_times(&self.limits));
        let ripe = self.answered.iter().map(|answered| answered.at + self.limits.witness_after);
        let dry = (self.open_load().leases >= DRY_LEASES_MIN).then_some(self.sent_at + self.limits.dry_after);
        let avoided = self.endpoints.avoided_until();
        lanes.chain(silences).chain(looks).chain(down).chain(lasts).chain(ripe).chain(dry).chain(avoided)
    }
}

impl Sink for Pool {
    /// Small leases that come in a row are written together: by [`Sink::event`], or once there are enough of them.
    async fn send(&mut self, lease: Lease) -> Result<(), SinkEnd> {
        if let Some(end) = &self.ended {
            return Err(end.clone());
        }
        let now = Instant::now();
        if self.in_flight.leases == 0 {
            self.heard_at = now;
        }
        self.sent_at = now;
        self.in_flight.add(&lease);
        let alone = self.suspects.alone(lease.key());
        self.placed_bytes += lease.batch().raw_bytes();
        self.place(Waiting { lease, alone }, now);
        if self.placed_bytes >= TOGETHER_BYTES {
            poll_fn(|cx| {
                self.drive(cx, now);
                Poll::Ready(())
            })
            .await;
        }
        Ok(())
    }

    async fn event(&mut self) -> Result<Event, SinkEnd> {
        poll_fn(|cx| self.poll_event(cx)).await
    }

    fn hurry(&mut self) {
        self.hurried = true;
    }

    fn has_room(&self) -> bool {
        let stands = self.presence.is_connected() && self.ended.is_none();
        stands && self.in_flight.leaves_room_in(self.limits.window)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.health.ended();
    }
}
