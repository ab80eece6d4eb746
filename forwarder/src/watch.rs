//! What a link tells to whoever shows it: status pages ask for a [`LinkStatus`], counters are fed
//! through a [`LinkObserver`], and the log gets its lines from here. It does not know prometheus.

use std::error::Error;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::batch::Batch;
use crate::clock::Clock;
use crate::outage::Outage;

/// Hears of everything that a link does. It must neither block nor ask the link's [`LinkWatch`].
pub trait LinkObserver: Send + Sync {
    /// The link carries, or does so no longer. Called only on a change.
    fn link_up(&self, up: bool);
    /// A session stands that is not the first one.
    fn reconnected(&self);
    /// The next hop has a batch of `lines`, this long after it was sent, and `age` after its oldest
    /// line was accepted.
    fn confirmed(&self, lines: u64, since_sent: Duration, age: Duration);
}

/// How a link stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkState {
    /// No session stands.
    Down,
    /// A session stands.
    Up,
    /// Sessions stand, but the upstream refuses every batch. Stays until it takes one.
    Refused,
}

/// A link at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkStatus {
    /// How it stands.
    pub state: LinkState,
    /// Since when, in ms since the Unix epoch.
    pub since_ms: i64,
    /// Why the last attempt or session ended, even if the link is up again.
    pub last_error: Option<String>,
    /// Sessions after the first one.
    pub reconnects: u64,
    /// Batches that the next hop has.
    pub confirmed_batches: u64,
    /// Lines that the next hop has.
    pub confirmed_lines: u64,
    /// Batches that were put by.
    pub set_aside_batches: u64,
}

/// The handle of one link. Clones are the same link.
#[derive(Clone)]
pub struct LinkWatch(Arc<Inner>);

struct Inner {
    name: String,
    clock: Clock,
    observer: Arc<dyn LinkObserver>,
    shown: Mutex<Shown>,
}

struct Shown {
    status: LinkStatus,
    stood_before: bool,
    outage: Outage,
    set_asides: Outage,
}

impl LinkWatch {
    /// A link that has not been dialled yet.
    pub fn new(name: &str, clock: Clock, observer: Arc<dyn LinkObserver>) -> Self {
        let status = LinkStatus {
            state: LinkState::Down,
            since_ms: clock.now_ms(),
            last_error: None,
            reconnects: 0,
            confirmed_batches: 0,
            confirmed_lines: 0,
            set_aside_batches: 0,
        };
        Self(Arc::new(Inner {
            name: name.to_owned(),
            clock,
            observer,
            shown: Mutex::new(Shown {
                status,
                stood_before: false,
                outage: Outage::default(),
                set_asides: Outage::default(),
            }),
        }))
    }

    /// The link's name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// How the link stands now.
    pub fn status(&self) -> LinkStatus {
        self.shown().status.clone()
    }

    /// A session stands. `refused`: the upstream has taken nothing of late, so the link stays
    /// refused until something is confirmed.
    pub(crate) fn stands(&self, refused: bool) {
        let mut shown = self.shown();
        if shown.stood_before {
            shown.status.reconnects += 1;
            self.0.observer.reconnected();
        }
        shown.stood_before = true;
        if refused {
            self.change(&mut shown, LinkState::Refused);
        } else {
            self.mended(&mut shown);
        }
    }

    /// An attempt failed, or the session ended because of `error`.
    pub(crate) fn failed(&self, error: &dyn Error, refused: bool) {
        let mut text = describe(error);
        if refused {
            text.insert_str(0, "every batch is refused: ");
        }
        let mut shown = self.shown();
        if let Some(outage) = shown.outage.failed(Instant::now(), &text) {
            let (link, attempts, lasted) = (self.name(), outage.attempts, outage.lasted);
            tracing::warn!(link, attempts, ?lasted, error = text, "the link is down");
        }
        shown.status.last_error = Some(text);
        let state = if refused { LinkState::Refused } else { LinkState::Down };
        self.change(&mut shown, state);
    }

    /// It was told to stop.
    pub(crate) fn stopped(&self) {
        self.change(&mut self.shown(), LinkState::Down);
    }

    /// The next hop has a batch.
    pub(crate) fn confirmed(&self, carried: &Carried, since_sent: Duration) {
        let mut shown = self.shown();
        shown.status.confirmed_batches += 1;
        shown.status.confirmed_lines += carried.lines;
        if shown.status.state == LinkState::Refused {
            self.mended(&mut shown);
        }
        let age_ms = self.0.clock.now_ms().saturating_sub(carried.accepted_ms);
        let age = Duration::from_millis(u64::try_from(age_ms).unwrap_or(0));
        self.0.observer.confirmed(carried.lines, since_sent, age);
    }

    /// A batch was put by.
    pub(crate) fn set_aside(&self, reason: &str) {
        let mut shown = self.shown();
        shown.status.set_aside_batches += 1;
        if shown.set_asides.failed(Instant::now(), reason).is_some() {
            let (link, batches) = (self.name(), shown.status.set_aside_batches);
            tracing::warn!(link, batches, reason, "batches were set aside");
        }
    }

    fn mended(&self, shown: &mut Shown) {
        if let Some(outage) = shown.outage.mended(Instant::now()) {
            let (link, attempts, lasted) = (self.name(), outage.attempts, outage.lasted);
            tracing::info!(link, attempts, ?lasted, "the link is up again");
        }
        self.change(shown, LinkState::Up);
    }

    fn change(&self, shown: &mut Shown, state: LinkState) {
        let before = shown.status.state;
        if before == state {
            return;
        }
        shown.status.state = state;
        shown.status.since_ms = self.0.clock.now_ms();
        let (was_up, is_up) = (before == LinkState::Up, state == LinkState::Up);
        if was_up != is_up {
            self.0.observer.link_up(is_up);
        }
    }

    fn shown(&self) -> MutexGuard<'_, Shown> {
        // Plain numbers and texts: whoever panicked left nothing half-done in them.
        self.0.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is told of a batch once its lease is over.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Carried {
    lines: u64,
    accepted_ms: i64,
}

impl Carried {
    pub(crate) fn of(batch: &Batch) -> Self {
        Self { lines: batch.lines(), accepted_ms: *batch.accepted_ms.start() }
    }
}

/// An error and its causes in one line.
fn describe(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests;
