//! What a pool does each time it is polled: it moves whatever can move, lane by lane.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::task::{Context, Poll};

use tokio::time::Instant;
use topology::model::GraphiteConfirm;

use super::Pool;
use super::connection::{Connection, Loss};
use super::endpoints::EndpointId;
use super::lane::{Lane, Waiting};
use super::limits::{Load, Quota};
use super::verdict::Answered;
use crate::dial::dial_endpoint;
use crate::sink::{Event, Sink as _};

/// Half-closed connections per lane that may wait for the FIN of one endpoint. With more, a Graphite that
/// hangs would be dialled again and again only to be asked for what it does not answer.
const UNANSWERED_PER_LANE_MAX: usize = 2;
/// Leases without an origin that wait in one lane before another gets some.
const SHARED_MIN: usize = 256;
/// Unconfirmed leases for whose sake connections are turned over when no more come. With fewer they have the time
/// that [`PoolLimits`] gives them, so that a trickle does not cost a connection each time it pauses.
pub(super) const DRY_LEASES_MIN: usize = 64;

impl Pool {
    /// Moves everything that can move now.
    pub(super) fn drive(&mut self, cx: &mut Context<'_>, now: Instant) {
        self.placed_bytes = 0;
        loop {
            let mut moved = self.drive_closing(cx, now);
            for lane in 0..self.lanes.len() {
                moved |= self.drive_dial(lane, cx, now);
                moved |= self.drive_connection(lane, cx, now);
            }
            moved |= self.rehome_waiting(now);
            moved |= self.want_successors(now);
            self.note_standing(now);
            moved |= self.judge_answered(now);
            if !moved {
                break;
            }
        }
    }

    /// The half-closed connections and those about to be: listens for their FINs. A FIN in answer is
    /// not yet a receipt.
    fn drive_closing(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        let mut moved = false;
        let mut index = 0;
        while let Some((_, connection)) = self.closing.get_mut(index) {
            let Poll::Ready(end) = connection.poll(cx) else {
                index += 1;
                continue;
            };
            let (lane, connection) = self.closing.remove(index);
            match end {
                Ok(()) => self.answered.push(Answered { lane, connection, at: now, witnessed: true }),
                Err(loss) => self.lose(connection, &loss, now),
            }
            moved = true;
        }
        moved
    }

    /// Dials when it is time; once the new connection stands, the old one is half-closed.
    fn drive_dial(&mut self, lane: usize, cx: &mut Context<'_>, now: Instant) -> bool {
        if self.lanes[lane].wants_dial(now) {
            let closing = &self.closing;
            let present = self.lanes[lane].connection();
            let picked =
                self.endpoints.pick(now, present.map(Connection::endpoint), |id| unanswered(closing, id));
            if let Some((id, endpoint)) = picked {
                let (limit, before) = (self.limits.dial_within, present.and_then(Connection::address));
                self.lanes[lane].begin_dial(id, async move { dial_endpoint(&endpoint, limit, before).await });
            }
        }
        let Poll::Ready((id, result)) = self.lanes[lane].poll_dial(cx) else {
            return false;
        };
        let predecessor = match result {
            Ok(stream) => self.lanes[lane].replace(Connection::new(stream, id, now), now),
            Err(error) => {
                self.endpoints.failed(id, now);
                self.health.failed(error.to_string(), 0, now);
                self.lanes[lane].dial_failed(now);
                None
            }
        };
        let carrying = predecessor.filter(|connection| connection.oldest().is_some());
        self.closing.extend(carrying.map(|connection| (lane, connection.close())));
        true
    }

    /// Feeds and listens to the connection that takes leases.
    fn drive_connection(&mut self, lane: usize, cx: &mut Context<'_>, now: Instant) -> bool {
        let mut quota = self.quota();
        let mut undecodable = Vec::new();
        let end = self.lanes[lane].poll_connection(cx, now, &self.limits, &mut quota, &mut undecodable);
        let refused = undecodable.into_iter();
        let refused = refused.map(|(lease, error)| Event::Refused(lease, error.to_string()));
        self.events.extend(refused);
        match end {
            Poll::Ready(end) => {
                let lasts = self.limits.lasts();
                let is_idle = |connection: &Connection| {
                    connection.load().leases == 0 && now >= connection.opened_at() + lasts
                };
                // Whoever closes what is idle has not failed.
                let left_idle = matches!(end, Err(Loss::ClosedEarly))
                    && self.lanes[lane].connection().is_some_and(is_idle);
                if left_idle {
                    self.lanes[lane].starts_over((self.new_delays)());
                }
                let connection = self.lanes[lane].take_failed(now).filter(|_| !left_idle);
                if let (Some(connection), Err(loss)) = (connection, end) {
                    self.lose(connection, &loss, now);
                }
                true
            }
            Poll::Pending if self.confirm == GraphiteConfirm::Kernel => self.ask_kernel(lane, now),
            Poll::Pending => false,
        }
    }

    /// The kernel's receipt instead of Graphite's.
    fn ask_kernel(&mut self, lane: usize, now: Instant) -> bool {
        match self.lanes[lane].take_acknowledged(now) {
            Ok(leases) => {
                let moved = !leases.is_empty();
                self.confirm(lane, leases, now);
                moved
            }
            Err(loss) => {
                if let Some(connection) = self.lanes[lane].take_failed(now) {
                    self.lose(connection, &loss, now);
                }
                true
            }
        }
    }

    /// Starts the turnover of the connections that are due; whether there was any. An idle connection
    /// never is. When they carry their part of the window, the one that carries most is; and in a hurry
    /// each that has got all there is for it; so, too, where the source runs dry because what it may lend is all
    /// here. None is where its successor would be one more that is not
    /// answered: a Graphite that hangs keeps no lane from another.
    fn want_successors(&mut self, now: Instant) -> bool {
        if self.confirm == GraphiteConfirm::Kernel {
            return false;
        }
        let unanswered_max = UNANSWERED_PER_LANE_MAX * self.lanes.len();
        let is_full = !self.quota().has_room();
        let no_more = self.hurried || self.is_dry(now);
        let Self { lanes, endpoints, closing, limits, .. } = self;
        let is_answered = |lane: &&mut Lane| {
            let present = lane.connection().map(Connection::endpoint);
            let next = endpoints.best(now, present, |id| unanswered(closing, id));
            next.is_some_and(|id| unanswered(closing, id) < unanswered_max)
        };
        let mut wanted = false;
        if is_full {
            let answered = lanes.iter_mut().filter(is_answered).filter(|lane| lane.load().leases > 0);
            let fullest = answered.max_by_key(|lane| (lane.load().bytes, lane.load().leases));
            wanted |= fullest.is_some_and(|lane| lane.want_successor(now));
        }
        for lane in lanes.iter_mut().filter(is_answered) {
            let is_due = lane.is_due(now, limits) || no_more && lane.has_all();
            wanted |= is_due && lane.want_successor(now);
        }
        wanted
    }

    /// Whether no lease has come for a while though there was room, and so many wait for their receipt that it may be
    /// just that what keeps more from coming: a broker pushes only so much without an ACK, and less than was asked for
    /// where its own limit is lower. Not while a FIN is owed: one that hangs is to be left to others, and they would
    /// be turned over at once.
    fn is_dry(&self, now: Instant) -> bool {
        let is_quiet = now >= self.sent_at + self.limits.dry_after;
        is_quiet && self.closing.is_empty() && self.has_room() && self.open_load().leases >= DRY_LEASES_MIN
    }

    /// What the open connections carry.
    pub(super) fn open_load(&self) -> Load {
        self.lanes.iter().map(Lane::load).fold(Load::default(), Load::plus)
    }

    /// What they may still take.
    fn quota(&self) -> Quota {
        let bounded = self.confirm == GraphiteConfirm::HalfClose;
        Quota::new(self.open_load(), bounded.then_some(self.limits.window))
    }

    /// Puts a lease into the lane of its origin, so that its batches keep their order as far as they
    /// can: Graphite keeps what it read last. Other lanes are for origins whose lane is down or
    /// stalled, and share what has no origin, where much of it waits: else it stays in one, and is confirmed
    /// in the order in which it came. RabbitMQ walks over all that came before to find what an ACK is about.
    pub(super) fn place(&mut self, waiting: Waiting, now: Instant) {
        let count = self.lanes.len();
        let label = waiting.lease.batch().label.as_ref();
        let first = label.map_or(0, |label| lane_of(&label.origin, count));
        let in_turn = (0..count).map(|turn| (first + turn) % count).enumerate();
        let best = in_turn.min_by_key(|&(turn, index)| {
            let lane = &self.lanes[index];
            let shared = if label.is_some() { 0 } else { lane.waiting() / SHARED_MIN };
            (!lane.is_ready(now, &self.limits), !lane.stands(), shared, turn)
        });
        if let Some((_, index)) = best {
            self.lanes[index].push(waiting, now);
        }
    }

    /// Moves what waits in lanes that are down or stalled into others; whether there was any. While
    /// the window is the bound, all wait alike.
    fn rehome_waiting(&mut self, now: Instant) -> bool {
        let limits = &self.limits;
        if !self.quota().has_room() || !self.lanes.iter().any(|lane| lane.is_ready(now, limits)) {
            return false;
        }
        let stuck = |lane: &&mut Lane| lane.waiting() > 0 && !lane.is_ready(now, limits);
        let homeless: Vec<_> = self.lanes.iter_mut().filter(stuck).flat_map(Lane::take_waiting).collect();
        let moved = !homeless.is_empty();
        for waiting in homeless {
            self.place(waiting, now);
        }
        moved
    }

    fn note_standing(&mut self, now: Instant) {
        self.note_witnesses();
        let standing = self.lanes.iter().filter(|lane| lane.stands()).count();
        self.presence.note(standing > 0, now);
        self.health.set_connections(standing, now);
    }
}

/// Half-closed connections to this endpoint that wait for their FIN.
fn unanswered(closing: &[(usize, Connection)], id: EndpointId) -> usize {
    closing.iter().filter(|(_, connection)| connection.endpoint() == id).count()
}

fn lane_of(origin: &str, lanes: usize) -> usize {
    let mut hasher = DefaultHasher::new();
    origin.hash(&mut hasher);
    let lanes = lanes.max(1) as u64;
    usize::try_from(hasher.finish() % lanes).unwrap_or(0)
}
