//! Who wants to be lent what waits for a link. They wait here and not in the thread's inbox, so that it is woken for
//! them only if something waits already: else the next commit comes first.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::spool::Lent;

/// Wants to be lent something, once there is something.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) link: usize,
    pub(super) raw_bytes_max: usize,
    pub(super) reply: oneshot::Sender<Vec<Lent>>,
}

/// Those that are not answered. One of a source at most.
#[derive(Debug, Default)]
pub(super) struct Asks(Mutex<Vec<Ask>>);

impl Asks {
    pub(super) fn add(&self, ask: Ask) {
        self.lock().push(ask);
    }

    /// Takes those for whom `is_due`, and forgets who does not wait any more.
    pub(super) fn take(&self, is_due: impl Fn(&Ask) -> bool) -> Vec<Ask> {
        let mut asks = self.lock();
        asks.retain(|ask| !ask.reply.is_closed());
        asks.extract_if(.., |ask| is_due(ask)).collect()
    }

    /// Whether there is one for whom `is_due`.
    pub(super) fn any(&self, is_due: impl Fn(&Ask) -> bool) -> bool {
        self.lock().iter().any(is_due)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Ask>> {
        // Nothing panics while it is held.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
