//! What a link does while its upstream is silent, refuses, or closes on it: how many batches may be in
//! flight, and which one is to blame. Pure: no clock, no I/O; it learns of sessions and answers.
//!
//! After silence the window starts at one batch and doubles with each round of receipts. A close with
//! receipts open, where the session had carried, is as a rule the network's: nothing changes at once, but
//! until as many were confirmed as had been in flight, a second close is taken to be about one of them.
//! After that, or after an ERROR, batches go one at a time until as many were confirmed as
//! had been in flight. One that is refused alone then becomes a *suspect*: it is held back until
//! others were confirmed in the same session, and sent alone again. It is set aside after
//! three refusals of this kind, and only once another was confirmed after the last.
//!
//! An upstream may refuse for reasons of its own: a full queue of RabbitMQ closes on whatever comes
//! next. So each refusal must follow twice as many confirmed neighbours as the one before, and when
//! a batch that nobody suspected is refused alone, the counts of all suspects start again. If
//! nothing is confirmed at all, the link is *refused*, and nothing is set aside.

use crate::lease::LeaseKey;
use crate::sink::SinkEnd;

/// Refusals alone, each with a neighbour confirmed in the same session, after which a batch is set
/// aside.
const REFUSALS_MAX: u32 = 3;
/// Suspects that are kept in mind, and so held at a time: at most 2 MiB of batches. When there are
/// more, the link gets no further than their refusals, is shown as refused, and loses nothing.
const SUSPECTS_MAX: usize = 32;
/// Batches that are sent alone at most before the window grows again. A wide window would otherwise
/// cost as many round trips after every cut; a culprit further behind ends the next session nearer.
const ALONE_MAX: usize = 64;
/// Confirmed batches after which a suspect that was not lent again is forgotten: it was dropped, or
/// has another key now.
const FORGET_AFTER: u64 = 64;
/// Sessions in a row without a receipt that ended by refusal, after which the link counts as refused.
const FRUITLESS_MAX: u32 = 3;

/// The state of one link's trouble. It outlives sessions.
#[derive(Debug)]
pub struct Trouble {
    wary: bool,
    width: usize,
    alone: usize,
    /// Batches to be confirmed before another close accuses nobody.
    doubted: u64,
    suspects: Vec<Suspect>,
    confirmed: u64,
    fruitless: u32,
    in_vain: bool,
}

/// A batch that was refused alone.
#[derive(Debug)]
struct Suspect {
    key: LeaseKey,
    refusals: u32,
    reason: String,
    lent: bool,
}

/// What is to be done with a batch that is lent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admission {
    /// Send it.
    Send,
    /// Keep it until others were confirmed; lease the next one.
    Hold,
    /// It is the culprit, for this reason.
    SetAside(String),
}

impl Default for Trouble {
    fn default() -> Self {
        Self::new()
    }
}

impl Trouble {
    /// For a STOMP upstream. No trouble yet: the window is the sink's own.
    pub fn new() -> Self {
        Self {
            wary: true,
            width: usize::MAX,
            alone: 0,
            doubted: 0,
            suspects: Vec::new(),
            confirmed: 0,
            fruitless: 0,
            in_vain: false,
        }
    }

    /// For a sink that finds culprits by itself, such as the Graphite pool: its end accuses nobody,
    /// and the window stays the sink's own.
    pub fn unsuspecting() -> Self {
        Self { wary: false, ..Self::new() }
    }

    /// A session begins.
    pub fn session_began(&mut self) {
        self.confirmed = 0;
        self.suspects.iter_mut().for_each(|suspect| suspect.lent = false);
    }

    /// Batches that may be in flight together.
    pub fn window(&self) -> usize {
        if self.one_at_a_time() { 1 } else { self.width }
    }

    /// What to do with the batch of `key`, which was lent just now or is held. Ask again when
    /// another was confirmed.
    pub fn admit(&mut self, key: LeaseKey) -> Admission {
        let confirmed = self.confirmed;
        let Some(suspect) = self.suspects.iter_mut().find(|suspect| suspect.key == key) else {
            return Admission::Send;
        };
        suspect.lent = true;
        if suspect.refusals < REFUSALS_MAX {
            let neighbours_needed = 1 << suspect.refusals;
            if confirmed < neighbours_needed { Admission::Hold } else { Admission::Send }
        } else if confirmed == 0 {
            Admission::Hold
        } else {
            Admission::SetAside(format!(
                "refused {} times alone while others were taken: {}",
                suspect.refusals, suspect.reason
            ))
        }
    }

    /// A receipt has come.
    pub fn confirmed(&mut self, key: LeaseKey) {
        self.cleared(key);
        self.confirmed += 1;
        self.fruitless = 0;
        self.doubted = self.doubted.saturating_sub(1);
        if self.confirmed == FORGET_AFTER {
            self.suspects.retain(|suspect| suspect.lent);
        }
        if self.alone > 0 {
            self.alone -= 1;
        } else if self.suspects.is_empty() {
            // One for each receipt is twice the window for each round trip.
            self.width = self.width.saturating_add(1);
        }
    }

    /// The batch of `key` is no longer the link's: it was confirmed or set aside.
    pub fn cleared(&mut self, key: LeaseKey) {
        self.suspects.retain(|suspect| suspect.key != key);
    }

    /// The sink has ended with these batches unconfirmed.
    pub fn session_ended(&mut self, end: &SinkEnd, in_flight: &[LeaseKey]) {
        let is_silent = matches!(end, SinkEnd::Silent(_));
        self.in_vain = !in_flight.is_empty() && (self.confirmed == 0 || is_silent);
        match end {
            _ if !self.wary => {}
            SinkEnd::Refused(_) => {}
            SinkEnd::Silent(_) => self.width = 1,
            SinkEnd::Closed(_) if in_flight.is_empty() => {}
            SinkEnd::Closed(_) if self.has_carried(in_flight) => self.doubted = in_flight.len() as u64,
            SinkEnd::Error(reason) | SinkEnd::Closed(reason) => self.refused(reason, in_flight),
        }
    }

    /// Batches confirmed in this session, or in the last one if it has ended.
    pub fn confirmed_in_session(&self) -> u64 {
        self.confirmed
    }

    /// Whether the last session has ended with batches sent of which none was confirmed, or nothing more was: the
    /// upstream fell silent over them.
    pub fn took_no_more(&self) -> bool {
        self.in_vain
    }

    /// Whether the upstream refuses whatever it gets.
    pub fn is_refused(&self) -> bool {
        self.fruitless >= FRUITLESS_MAX
    }

    fn one_at_a_time(&self) -> bool {
        self.alone > 0 || !self.suspects.is_empty()
    }

    /// Whether the session took more than what it has left open, and nothing was in doubt.
    fn has_carried(&self, in_flight: &[LeaseKey]) -> bool {
        self.confirmed > in_flight.len() as u64 && self.doubted == 0 && !self.one_at_a_time()
    }

    fn refused(&mut self, reason: &str, in_flight: &[LeaseKey]) {
        if let [key] = *in_flight
            && self.one_at_a_time()
        {
            self.suspect(key, reason);
        }
        self.doubted = 0;
        self.width = 1;
        self.alone = self.alone.max(in_flight.len()).min(ALONE_MAX);
        if self.confirmed == 0 && !in_flight.is_empty() {
            self.fruitless = self.fruitless.saturating_add(1);
        }
    }

    fn suspect(&mut self, key: LeaseKey, reason: &str) {
        let counts = u32::from(self.confirmed > 0);
        if let Some(known) = self.suspects.iter_mut().find(|suspect| suspect.key == key) {
            known.refusals = (known.refusals + counts).min(REFUSALS_MAX);
            known.reason = reason.to_owned();
            return;
        }
        // The upstream refuses others too, so its earlier refusals may be nobody's fault.
        self.suspects.iter_mut().for_each(|suspect| suspect.refusals = 0);
        if self.suspects.len() < SUSPECTS_MAX {
            self.suspects.push(Suspect { key, refusals: counts, reason: reason.to_owned(), lent: true });
        }
    }
}

#[cfg(test)]
mod tests;
