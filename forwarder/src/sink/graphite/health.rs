//! What a pool shows of itself to metrics, status and log. It outlives the pool, so that it also
//! speaks while none stands.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use crate::outage::{Outage, Summary};

/// How the connections to one Graphite are. Shared; made once per link, not once per pool.
#[derive(Debug)]
pub struct PoolHealth {
    name: String,
    connections: AtomicUsize,
    /// The last pool ended for want of a connection, and none has brought a receipt since.
    doubted: AtomicBool,
    trouble: Mutex<Trouble>,
}

#[derive(Debug, Default)]
struct Trouble {
    last_error: Option<String>,
    /// Since the last line of the log.
    leases_lost: u64,
    was_connected: bool,
    outage: Outage,
}

impl PoolHealth {
    /// `name` is that of the link or consumer, for the log.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            connections: AtomicUsize::new(0),
            doubted: AtomicBool::new(false),
            trouble: Mutex::default(),
        }
    }

    /// Connections that stand and take metrics; half-closed ones are not counted.
    #[cfg(test)]
    pub(super) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// What went wrong last, since the start. It stays when all is well again.
    pub fn last_error(&self) -> Option<String> {
        self.trouble().last_error.clone()
    }

    /// Whether a connection is to last before it counts for a Graphite.
    pub(super) fn is_doubted(&self) -> bool {
        self.doubted.load(Ordering::Relaxed)
    }

    pub(super) fn set_doubted(&self, doubted: bool) {
        self.doubted.store(doubted, Ordering::Relaxed);
    }

    pub(super) fn set_connections(&self, count: usize, now: Instant) {
        let before = self.connections.swap(count, Ordering::Relaxed);
        let mut trouble = self.trouble();
        if count > before {
            let is_first = !std::mem::replace(&mut trouble.was_connected, true);
            let mended = trouble.outage.mended(now);
            if is_first || mended.is_some() {
                tracing::info!(link = self.name, "connected to Graphite");
            }
        }
    }

    /// The pool is no more, which is for its owner to explain.
    pub(super) fn ended(&self) {
        self.connections.store(0, Ordering::Relaxed);
    }

    /// A dial failed, or a connection broke with so many leases on it.
    pub(super) fn failed(&self, error: String, leases: usize, now: Instant) {
        let mut trouble = self.trouble();
        trouble.leases_lost += leases as u64;
        if let Some(Summary { lasted, attempts }) = trouble.outage.failed(now, &error) {
            let batches_to_send_again = std::mem::take(&mut trouble.leases_lost);
            tracing::warn!(
                link = self.name,
                error,
                attempts,
                ?lasted,
                batches_to_send_again,
                "a connection to Graphite failed"
            );
        }
        trouble.last_error = Some(error);
    }

    fn trouble(&self) -> MutexGuard<'_, Trouble> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
