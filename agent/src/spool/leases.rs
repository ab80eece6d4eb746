//! Which batches of one link are lent, given back, or still waiting. In memory only: after a crash
//! every batch is simply still there.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use forwarder::{LeaseKey, Returns};
use tokio::sync::Notify;

use crate::spool::Lent;

/// The lease book of one link. A lease is known by its first row, so that a batch that is given back
/// and lent again keeps its key.
#[derive(Debug)]
pub(super) struct LinkLeases {
    book: Mutex<Book>,
    /// The last row committed for the link.
    last_committed: AtomicI64,
    /// Rung when a lease is given back.
    given_back: Notify,
}

/// The rows that are lent from next.
#[derive(Debug)]
pub(super) struct Span {
    pub(super) rows: RangeInclusive<i64>,
    /// They were one lease that was given back.
    pub(super) is_given_back: bool,
    /// First and last rows of the leases among them: there are such only after [`LinkLeases::start_over`].
    taken: Vec<(i64, i64)>,
}

impl Span {
    /// Whether row `id` of it may be lent.
    pub(super) fn is_free(&self, id: i64) -> bool {
        !self.taken.iter().any(|&(first, last)| (first..=last).contains(&id))
    }
}

/// First row to last row of each lease.
#[derive(Debug, Default)]
struct Book {
    /// Everything up to this row has been lent at least once since the file was opened or replaced.
    cursor: i64,
    out: BTreeMap<i64, i64>,
    /// The next hop's word on these is there, and is not written yet.
    ended: BTreeMap<i64, i64>,
    given_back: BTreeMap<i64, i64>,
}

impl LinkLeases {
    pub(super) fn new(last_committed: i64) -> Self {
        let given_back = Notify::new();
        Self { book: Mutex::default(), last_committed: AtomicI64::new(last_committed), given_back }
    }

    /// Rows up to `last` are committed.
    pub(super) fn committed(&self, last: i64) {
        self.last_committed.fetch_max(last, Ordering::AcqRel);
    }

    /// Whether anything could be lent now.
    pub(super) fn has_waiting(&self) -> bool {
        let book = self.lock();
        !book.given_back.is_empty() || self.last_committed() > book.cursor
    }

    /// Where nothing waits, what will begins with row `next`, the first that is not committed yet.
    pub(super) fn skip_to(&self, next: i64) {
        let mut book = self.lock();
        if self.last_committed() <= book.cursor {
            book.cursor = book.cursor.max(next - 1);
        }
    }

    /// Everything up to this row has been lent, or never waited.
    pub(super) fn cursor(&self) -> i64 {
        self.lock().cursor
    }

    /// Waits until a lease is given back. Cancel-safe; for one waiter.
    pub(super) async fn given_back(&self) {
        self.given_back.notified().await;
    }

    /// The file was replaced: rows up to `last_waiting` may wait, any of them, and also some that had been
    /// lent and ended. What is lent stays lent.
    pub(super) fn start_over(&self, last_waiting: i64) {
        self.lock().cursor = 0;
        self.last_committed.store(last_waiting, Ordering::Release);
    }

    /// The last row that may wait.
    pub(super) fn last_committed(&self) -> i64 {
        self.last_committed.load(Ordering::Acquire)
    }

    /// The rows to lend from next: the oldest lease that was given back, else all that was never lent.
    pub(super) fn next_span(&self) -> Span {
        let book = self.lock();
        match book.given_back.first_key_value() {
            Some((&first, &last)) => Span { rows: first..=last, is_given_back: true, taken: Vec::new() },
            None => {
                let taken = book.out.iter().chain(&book.ended).filter(|&(_, &last)| last > book.cursor);
                let taken = taken.map(|(&first, &last)| (first, last)).collect();
                Span { rows: book.cursor + 1..=i64::MAX, is_given_back: false, taken }
            }
        }
    }

    /// `lent` is all that was taken out of `span`.
    pub(super) fn lent(&self, span: &Span, lent: &[Lent]) {
        let mut book = self.lock();
        for lent in lent {
            book.out.insert(lent.first, lent.last);
        }
        if span.is_given_back {
            book.given_back.remove(span.rows.start());
            return;
        }
        // Without a row, nothing up to the last commit waits any more: what was there has been dropped.
        book.cursor = lent.last().map_or(self.last_committed(), |lent| lent.last).max(book.cursor);
    }

    /// Ends a lease on the next hop's word; tells its rows.
    pub(super) fn end(&self, key: LeaseKey) -> Option<RangeInclusive<i64>> {
        let first = row_of(key);
        let mut book = self.lock();
        let last = book.out.remove(&first)?;
        book.ended.insert(first, last);
        Some(first..=last)
    }

    /// The words on the leases of `rows` are written.
    pub(super) fn settled(&self, rows: &RangeInclusive<i64>) {
        self.lock().ended.retain(|first, _| !rows.contains(first));
    }

    /// The rows of a lease that is out.
    pub(super) fn rows(&self, key: LeaseKey) -> Option<RangeInclusive<i64>> {
        let first = row_of(key);
        self.lock().out.get(&first).map(|&last| first..=last)
    }

    /// Whether row `id` is lent, or was until a word that is not written yet.
    pub(super) fn is_out(&self, id: i64) -> bool {
        let book = self.lock();
        let holds = |leases: &BTreeMap<i64, i64>| {
            leases.range(..=id).next_back().is_some_and(|(_, &last)| id <= last)
        };
        holds(&book.out) || holds(&book.ended)
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        // Nothing panics while it is held, and each change is whole by itself.
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Returns for LinkLeases {
    fn give_back(&self, key: LeaseKey) {
        let first = row_of(key);
        let mut book = self.lock();
        if let Some(last) = book.out.remove(&first) {
            book.given_back.insert(first, last);
            self.given_back.notify_one();
        }
    }
}

/// The key under which the lease that begins with row `first` is lent.
pub(super) fn key_of(first: i64) -> LeaseKey {
    LeaseKey(first.unsigned_abs())
}

fn row_of(key: LeaseKey) -> i64 {
    // Keys are made by `key_of` only, from rows, which are positive.
    i64::try_from(key.0).unwrap_or(i64::MAX)
}
