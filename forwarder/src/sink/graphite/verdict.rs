//! What the end of a connection says about the leases that it carried.

use tokio::time::Instant;

use super::Pool;
use super::connection::{Connection, Loss};
use super::endpoints::EndpointId;
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
}

impl Pool {
    /// Confirms what was answered by a FIN, if its Graphite is still there a while later; whether
    /// there was any.
    ///
    /// A process that shuts a half-closed connection down and leaves (as carbon does on SIGTERM, by
    /// `shutdown(SHUT_RDWR)`) sends the same FIN over unread bytes, and no RST ever follows. But it
    /// ends all its connections together. So there must be witnesses: from the FIN until now at least
    /// one connection to the same endpoint stood at any time.
    pub(super) fn judge_answered(&mut self, now: Instant) -> bool {
        let after = self.limits.witness_after;
        let ripe = self.answered.extract_if(.., |answered| now >= answered.at + after);
        let ripe: Vec<_> = ripe.collect();
        let any = !ripe.is_empty();
        for Answered { lane, connection, at } in ripe {
            let id = connection.endpoint();
            if self.endpoints.connected_since(id, at) && self.has_witness(id) {
                self.endpoints.worked(id);
                self.confirm(lane, connection.into_leases(), now);
            } else {
                self.lose(connection, &Loss::Unwitnessed, now);
            }
        }
        any
    }

    fn has_witness(&self, id: EndpointId) -> bool {
        self.standing().any(|connection| connection.endpoint() == id && connection.look().is_ok())
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
            self.lanes[lane].succeeded((self.new_delays)());
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
