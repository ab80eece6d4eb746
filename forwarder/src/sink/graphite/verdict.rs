//! What the end of a connection says about the leases that it carried.

use tokio::time::Instant;

use super::Pool;
use super::connection::{Connection, Loss};
use super::suspects::Fate;
use crate::lease::{Lease, Receipt};
use crate::sink::Event;

/// Suspects remembered at once, in windows.
const SUSPECTS_WINDOWS_MAX: usize = 4;

/// A connection whose half-close was answered by a FIN.
pub(super) struct Answered {
    pub(super) lane: usize,
    pub(super) connection: Connection,
    pub(super) at: Instant,
    /// Whether another connection to the same Graphite has stood at all times since.
    pub(super) witnessed: bool,
}

impl Pool {
    /// Confirms what was answered by a FIN, if its Graphite is still there a while later; whether
    /// there was any.
    ///
    /// A process that shuts a half-closed connection down and leaves (as carbon does on SIGTERM, by
    /// `shutdown(SHUT_RDWR)`) sends the same FIN over unread bytes, and no RST ever follows. But it
    /// ends all its connections together. So there must be witnesses: from the FIN until now at least
    /// one connection to the same address stood at any time. The same name is not enough: behind it there may be
    /// several Graphites, or another one since.
    pub(super) fn judge_answered(&mut self, now: Instant) -> bool {
        let after = self.limits.witness_after;
        let ripe = self.answered.extract_if(.., |answered| now >= answered.at + after);
        let ripe: Vec<_> = ripe.collect();
        let any = !ripe.is_empty();
        for Answered { lane, connection, witnessed, .. } in ripe {
            if witnessed && self.has_witness(&connection) {
                self.endpoints.worked(connection.endpoint());
                self.confirm(lane, connection.into_leases(), now);
            } else {
                self.lose(connection, &Loss::Unwitnessed, now);
            }
        }
        any
    }

    fn has_witness(&self, answered: &Connection) -> bool {
        let is_same = |other: &Connection| other.address().is_some() && other.address() == answered.address();
        self.standing().any(|other| is_same(other) && other.look().is_ok())
    }

    /// To be called whenever connections came or went: notes which answers have no witness any more.
    pub(super) fn note_witnesses(&mut self) {
        if self.answered.is_empty() {
            return;
        }
        let standing: Vec<_> = self.standing().filter_map(Connection::address).collect();
        for answer in &mut self.answered {
            answer.witnessed &=
                answer.connection.address().is_some_and(|address| standing.contains(&address));
        }
    }

    /// Graphite, or its kernel, gave its word for these leases.
    pub(super) fn confirm(&mut self, lane: usize, leases: impl IntoIterator<Item = Lease>, now: Instant) {
        let mut any = false;
        for lease in leases {
            self.suspects.confirmed(lease.key());
            let receipt = Receipt::of(&lease);
            self.events.push_back(Event::Confirmed(lease, receipt));
            any = true;
        }
        if any {
            self.heard_at = now;
            self.presence.proven();
            self.health.set_doubted(false);
            self.lanes[lane].starts_over((self.new_delays)());
        }
    }

    /// The connection ended without a receipt: its leases are sent again, but for one that was found
    /// to be the cause.
    pub(super) fn lose(&mut self, connection: Connection, loss: &Loss, now: Instant) {
        let id = connection.endpoint();
        let error = format!("{}: {loss}", self.endpoints.get(id));
        // A FIN without a witness accuses nobody: a witness that fell has done so by a loss of its own, and else it
        // was the lanes that left.
        if !matches!(loss, Loss::Unwitnessed) {
            self.endpoints.failed(id, now);
        }
        self.health.failed(error.clone(), connection.load().leases, now);
        let alone = connection.is_alone();
        // What is slow or leaves does not do so because of a batch.
        let blameless = matches!(loss, Loss::Silent(_) | Loss::Unwitnessed);
        for lease in connection.into_leases() {
            let refused = !blameless && self.suspects.lost(lease.key(), alone) == Fate::Refuse;
            self.events.push_back(if refused {
                Event::Refused(lease, format!("Graphite drops the connection that carries it: {error}"))
            } else {
                Event::Lost(lease)
            });
        }
        let suspects_max = SUSPECTS_WINDOWS_MAX * self.limits.window.leases.max(1);
        self.suspects.forget_above(suspects_max);
    }

    /// Gives up the connections that have said nothing for too long; whether there was any.
    pub(super) fn lose_silent(&mut self, now: Instant) -> bool {
        let within = self.limits.confirm_within;
        let silent =
            |connection: &Connection| connection.oldest().is_some_and(|oldest| now >= oldest + within);
        let closing = self.closing.extract_if(.., |(_, connection)| silent(connection));
        let mut lost: Vec<_> = closing.map(|(_, connection)| connection).collect();
        for lane in &mut self.lanes {
            if lane.connection().is_some_and(silent) {
                lost.extend(lane.take_failed(now));
            }
        }
        let any = !lost.is_empty();
        for connection in lost {
            self.lose(connection, &Loss::Silent(within), now);
        }
        any
    }
}
