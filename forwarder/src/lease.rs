//! A [`Lease`] is a batch lent to a link; a [`Receipt`] is the next hop's word that it has it.
//!
//! Neither can be cloned and [`crate::Source::confirm`] consumes both, so deleting what was not sent
//! does not compile. A lease lives in memory only: dropping it gives the batch back, and after a
//! crash the batch is simply still there.

use std::fmt;
use std::sync::Arc;

use crate::batch::Batch;

/// What a source knows a lease by, and a link the batch in it: [`crate::Source`] says how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LeaseKey(pub u64);

/// Where a dropped lease goes. It must not block: it is called from `drop`.
pub trait Returns: Send + Sync {
    /// The lease under `key` ended without a word from the next hop.
    fn give_back(&self, key: LeaseKey);
}

/// A batch lent to a link. Dropped, it is given back.
pub struct Lease {
    key: LeaseKey,
    batch: Batch,
    owner: Option<Arc<dyn Returns>>,
}

impl Lease {
    /// Lends `batch`; `owner` hears of it if the lease is dropped.
    pub fn new(key: LeaseKey, batch: Batch, owner: Arc<dyn Returns>) -> Self {
        Self { key, batch, owner: Some(owner) }
    }

    /// What is lent.
    pub fn batch(&self) -> &Batch {
        &self.batch
    }

    /// Once it is sent: what was at hand only to spare the decoding is not held until the next hop's word.
    pub(crate) fn forget_plain(&mut self) {
        self.batch.parts.iter_mut().for_each(|part| part.plain = None);
    }

    /// What its source knows it by.
    pub fn key(&self) -> LeaseKey {
        self.key
    }

    /// Ends the lease without giving the batch back. For sources only, in `confirm` and `set_aside`.
    pub fn end(mut self) -> LeaseKey {
        self.owner = None;
        self.key
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(owner) = self.owner.take() {
            owner.give_back(self.key);
        }
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("key", &self.key).field("lines", &self.batch.lines()).finish()
    }
}

/// The next hop's word that it has the batch of one lease. Only a sink of this crate makes one.
#[derive(Debug)]
pub struct Receipt {
    key: LeaseKey,
}

impl Receipt {
    /// To be called where the next hop's word for exactly this lease was read, and nowhere else.
    pub(crate) fn of(lease: &Lease) -> Self {
        Self { key: lease.key() }
    }

    /// The lease it speaks of.
    pub fn key(&self) -> LeaseKey {
        self.key
    }
}
