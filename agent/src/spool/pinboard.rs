//! What the spool's thread takes up when it comes by, without being woken for it: the next hops' words, and who
//! wants to be lent what is committed next.

use std::ops::RangeInclusive;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::spool::{Lent, Verdict};

/// The next hop's word on the rows of a lease over a link.
pub(super) type Settle = (usize, RangeInclusive<i64>, Verdict);

/// Who wants to be lent what waits for a link, once something does.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) link: usize,
    pub(super) raw_bytes_max: usize,
    pub(super) reply: oneshot::Sender<Vec<Lent>>,
}

/// Shared by those who pin something to it and the thread that takes it off.
#[derive(Debug, Default)]
pub(super) struct Pinboard {
    /// No more than there are leases.
    settles: Mutex<Vec<Settle>>,
    /// One of a source at most.
    asks: Mutex<Vec<Ask>>,
}

impl Pinboard {
    /// Pins a word; tells how many there are.
    pub(super) fn settle(&self, settle: Settle) -> usize {
        let mut settles = lock(&self.settles);
        settles.push(settle);
        settles.len()
    }

    /// Pins a wish.
    pub(super) fn ask(&self, ask: Ask) {
        lock(&self.asks).push(ask);
    }

    pub(super) fn take_settles(&self) -> Vec<Settle> {
        std::mem::take(&mut *lock(&self.settles))
    }

    /// Those for whom `is_due`, without those who do not wait any more.
    pub(super) fn take_asks(&self, is_due: impl Fn(&Ask) -> bool) -> Vec<Ask> {
        let mut asks = lock(&self.asks);
        asks.retain(|ask| !ask.reply.is_closed());
        asks.extract_if(.., |ask| is_due(ask)).collect()
    }

    /// Whether there is a wish for which `is_due`.
    pub(super) fn has_ask(&self, is_due: impl Fn(&Ask) -> bool) -> bool {
        lock(&self.asks).iter().any(is_due)
    }
}

fn lock<T>(pinned: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while it is held.
    pinned.lock().unwrap_or_else(PoisonError::into_inner)
}
