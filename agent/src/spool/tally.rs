//! The books: what was accepted, waits, was delivered, dropped or set aside, per link and origin.
//! They change in the transaction that changes the rows they count.

use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::{Connection, params};

/// Row 0 of the books: the node itself.
pub(super) const NODE: i64 = 0;

/// How much something weighs in the books.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Weight {
    pub(super) batches: i64,
    pub(super) lines: i64,
    /// As stored.
    pub(super) bytes: i64,
}

impl Weight {
    pub(super) fn plus(self, other: Self) -> Self {
        self.each(other, |one, other| one + other)
    }

    pub(super) fn minus(self, other: Self) -> Self {
        self.each(other, |one, other| one - other)
    }

    /// Puts each of its numbers together with that of `other`.
    pub(super) fn each(self, other: Self, of: impl Fn(i64, i64) -> i64) -> Self {
        Self {
            batches: of(self.batches, other.batches),
            lines: of(self.lines, other.lines),
            bytes: of(self.bytes, other.bytes),
        }
    }
}

/// What is counted; the column `reason`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Account {
    /// Taken in, ever.
    Accepted,
    /// Committed and unconfirmed, now.
    Backlog,
    /// Confirmed by the next hop, ever.
    Delivered,
    /// Put by with a reason, now.
    Aside,
    /// Dropped at the spool's limit, ever.
    DroppedSpoolLimit,
    /// Dropped at the link's own limit, ever.
    DroppedLinkLimit,
    /// Lost with a corrupt file, ever.
    DroppedCorrupt,
}

impl Account {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Backlog => "backlog",
            Self::Delivered => "delivered",
            Self::Aside => "aside",
            Self::DroppedSpoolLimit => "dropped:spool_limit",
            Self::DroppedLinkLimit => "dropped:link_limit",
            Self::DroppedCorrupt => "dropped:corrupt",
        }
    }
}

/// The changes of one transaction.
#[derive(Debug, Default)]
pub(super) struct Tallies(HashMap<(i64, Arc<str>, Account), Weight>);

impl Tallies {
    /// Enters `weight` into an account of a link.
    pub(super) fn add(&mut self, link: i64, origin: &Arc<str>, account: Account, weight: Weight) {
        let entry = self.0.entry((link, Arc::clone(origin), account)).or_default();
        *entry = entry.plus(weight);
    }

    /// Moves `weight` from one account of a link to another.
    pub(super) fn transfer(
        &mut self,
        link: i64,
        origin: &Arc<str>,
        from: Account,
        to: Account,
        weight: Weight,
    ) {
        self.add(link, origin, from, Weight::default().minus(weight));
        self.add(link, origin, to, weight);
    }

    /// Writes the changes into the transaction that they belong to.
    pub(super) fn write(&self, tx: &Connection) -> Result<(), rusqlite::Error> {
        let mut statement = tx.prepare_cached(
            "INSERT INTO tally (link, origin, reason, batches, lines, bytes) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT (link, origin, reason) DO UPDATE SET
                 batches = batches + excluded.batches, lines = lines + excluded.lines, bytes = bytes + excluded.bytes",
        )?;
        for ((link, origin, account), weight) in &self.0 {
            let Weight { batches, lines, bytes } = weight;
            statement.execute(params![link, &**origin, account.as_str(), batches, lines, bytes])?;
        }
        Ok(())
    }
}
