//! A batch that comes from another node, on its way into the spool.

use std::fmt;
use std::sync::Arc;

use forwarder::Epoch;

use crate::spool::Sealed;

/// The number that its origin gave a batch. Under one number the content never differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Number {
    /// The node that took the lines in.
    pub origin: Arc<str>,
    /// The start of that node.
    pub epoch: Epoch,
    /// Without holes within the epoch.
    pub seq: u64,
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.origin, self.epoch, self.seq)
    }
}

/// What another node sent. Its number is recorded in the transaction that keeps it, so that it is
/// taken once however often it comes.
#[derive(Debug)]
pub struct Arrival {
    /// What it is known by.
    pub number: Number,
    /// The names of the nodes that it passed, joined by commas.
    pub hops: String,
    /// What is kept of it.
    pub kept: Kept,
}

/// How an arrival is kept.
#[derive(Debug)]
pub enum Kept {
    /// As it came, under its own number.
    Whole(Sealed),
    /// Its lines go different ways from here: each piece gets a number of this node, and keeps the old
    /// one as what it is a part of.
    Split(Vec<Sealed>),
}

impl Arrival {
    /// The batches that it becomes.
    pub(super) fn sealed(&self) -> &[Sealed] {
        match &self.kept {
            Kept::Whole(sealed) => std::slice::from_ref(sealed),
            Kept::Split(pieces) => pieces,
        }
    }
}
