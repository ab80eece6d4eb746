//! What waits for the subscribers of one queue, lent to any number of them: in turn, so that they share
//! it fairly, and again if it comes back.
//!
//! What is given back rests for a while that grows each time, so that a subscriber that refuses a batch
//! over and over is no busy loop; and what was delivered [`DELIVERIES_MAX`] times in vain is set aside.
//! It knows no protocol.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::future::pending;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use forwarder::outage::Summary;
use forwarder::{Batch, Clock, Lease, LeaseKey, LinkObserver, Outage, Returns, Source, SourceEnd};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::spool::desk::DeskClosed;
use crate::spool::leases::LinkLeases;
use crate::spool::{Desk, SpoolSource, Verdict};

/// Deliveries in vain after which a batch is set aside.
pub const DELIVERIES_MAX: u32 = 10;
/// How long a batch rests after a delivery in vain.
#[derive(Debug, Clone, Copy)]
pub struct Rest {
    /// After the first one; after each further one twice as long.
    pub first: Duration,
    /// No longer than this.
    pub longest: Duration,
}

impl Default for Rest {
    fn default() -> Self {
        Self { first: Duration::from_millis(100), longest: Duration::from_secs(30) }
    }
}
/// Batches whose deliveries are counted. Beyond it they are forgotten, and counted anew.
const COUNTED_MAX: usize = 10_000;

/// The subscribers of one queue. Clones are the same ones.
#[derive(Clone)]
pub struct Subscribers(Arc<Shared>);

struct Shared {
    desk: Desk,
    /// The number of their link.
    link: usize,
    rest: Rest,
    leases: Arc<LinkLeases>,
    /// Whoever waits for a batch waits for this, in turn.
    source: tokio::sync::Mutex<SpoolSource>,
    book: Mutex<Book>,
    /// Rung when a batch begins to rest.
    rests: Notify,
    standing: AtomicUsize,
    observer: Arc<dyn LinkObserver>,
    clock: Clock,
}

#[derive(Debug, Default)]
struct Book {
    /// How often a batch was delivered in vain.
    deliveries: HashMap<LeaseKey, u32>,
    /// What rests, by when it may be lent again.
    resting: BTreeMap<(Instant, LeaseKey), ()>,
    set_asides: Outage,
}

/// A batch in a subscriber's hands. Dropped, it is given back.
pub struct Loan {
    key: LeaseKey,
    lines: u64,
    accepted_ms: i64,
    of: Subscribers,
    lent_at: Instant,
    deliveries: u32,
    /// Whether giving it back counts as a delivery in vain.
    counts: bool,
    has_ended: bool,
}

/// A subscriber's word that it has a batch, as a part of a transaction: until that is committed the batch is
/// still lent, and it is given back should the transaction fail.
#[derive(Debug)]
pub struct LoanEnd {
    loan: Loan,
    rows: RangeInclusive<i64>,
}

/// One more subscriber, for as long as it is kept.
pub struct Standing(Subscribers);

impl Subscribers {
    /// Those of link number `link`.
    pub fn new(desk: Desk, link: usize, rest: Rest, observer: Arc<dyn LinkObserver>, clock: Clock) -> Self {
        Self(Arc::new(Shared {
            leases: desk.leases(link),
            source: tokio::sync::Mutex::new(SpoolSource::new(desk.clone(), link)),
            desk,
            link,
            rest,
            book: Mutex::default(),
            rests: Notify::new(),
            standing: AtomicUsize::new(0),
            observer,
            clock,
        }))
    }

    /// Counts one more while it is kept; while there is any, the link is up.
    pub fn join(&self) -> Standing {
        if self.0.standing.fetch_add(1, Ordering::AcqRel) == 0 {
            self.0.observer.link_up(true);
        }
        Standing(self.clone())
    }

    /// Waits for the next batch, in turn with all others that wait. Cancel-safe.
    pub async fn lease(&self) -> Result<(Loan, Batch), SourceEnd> {
        let mut source = self.0.source.lock().await;
        loop {
            let lease = tokio::select! {
                lease = source.lease() => lease?,
                () = self.rested() => continue,
            };
            let (loan, batch) = self.loan(lease);
            if loan.deliveries < DELIVERIES_MAX {
                return Ok((loan, batch));
            }
            let reason = format!("delivered {} times to subscribers without an ACK", loan.deliveries);
            loan.set_aside(&reason).map_err(|_| SourceEnd::Closed)?;
        }
    }

    fn loan(&self, lease: Lease) -> (Loan, Batch) {
        let batch = lease.batch().clone();
        let key = lease.end();
        let deliveries = self.0.book().deliveries.get(&key).copied().unwrap_or(0);
        let (lines, accepted_ms) = (batch.lines(), *batch.accepted_ms.start());
        let (of, lent_at) = (self.clone(), Instant::now());
        let loan = Loan { key, lines, accepted_ms, of, lent_at, deliveries, counts: false, has_ended: false };
        (loan, batch)
    }

    /// Waits until something has rested, and gives it back.
    async fn rested(&self) {
        loop {
            let first = self.0.book().resting.first_key_value().map(|(&first, ())| first);
            let due = async {
                match first {
                    Some((due, _)) => sleep_until(due).await,
                    None => pending().await,
                }
            };
            tokio::select! {
                () = due => {}
                () = self.0.rests.notified() => continue,
            }
            if let Some((due, key)) = first {
                self.0.book().resting.remove(&(due, key));
                self.0.leases.give_back(key);
                return;
            }
        }
    }
}

impl Shared {
    fn ended(&self, loan: &Loan, is_delivered: bool) {
        self.book().deliveries.remove(&loan.key);
        if is_delivered {
            let age_ms = self.clock.now_ms().saturating_sub(loan.accepted_ms);
            let age = Duration::from_millis(u64::try_from(age_ms).unwrap_or(0));
            self.observer.confirmed(loan.lines, loan.lent_at.elapsed(), age);
        }
    }

    fn rest(&self, key: LeaseKey, counts: bool) {
        let mut book = self.book();
        if !counts {
            drop(book);
            self.leases.give_back(key);
            return;
        }
        if book.deliveries.len() >= COUNTED_MAX {
            book.deliveries.clear();
        }
        let deliveries = book.deliveries.entry(key).or_default();
        *deliveries += 1;
        let rest = self.rest.first.saturating_mul(1 << (*deliveries - 1).min(16)).min(self.rest.longest);
        book.resting.insert((Instant::now() + rest, key), ());
        drop(book);
        self.rests.notify_one();
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        // Counts and times only, each of them whole.
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Loan {
    /// Whether it was delivered before.
    pub fn is_redelivered(&self) -> bool {
        self.deliveries > 0
    }

    /// From now on giving it back is a delivery in vain.
    pub fn delivered(&mut self) {
        self.counts = true;
    }

    /// The subscriber has it: to be a part of a transaction. `None`: it is not lent any more, and known to the
    /// books only.
    pub(super) fn into_end(mut self) -> Option<LoanEnd> {
        match self.of.0.leases.rows(self.key) {
            Some(rows) => Some(LoanEnd { loan: self, rows }),
            None => {
                self.has_ended = true;
                self.of.0.ended(&self, true);
                None
            }
        }
    }

    /// The subscriber has it: it is deleted with the next commit.
    pub fn confirm(self) -> Result<(), DeskClosed> {
        self.end(Verdict::Delivered)
    }

    /// The subscriber does not take it, for this reason.
    pub fn set_aside(self, reason: &str) -> Result<(), DeskClosed> {
        let of = self.of.clone();
        self.end(Verdict::SetAside(reason.to_owned()))?;
        if let Some(Summary { attempts, .. }) = of.0.book().set_asides.failed(Instant::now(), reason) {
            tracing::warn!(batches = attempts, reason, "batches were set aside");
        }
        Ok(())
    }

    fn end(mut self, verdict: Verdict) -> Result<(), DeskClosed> {
        let shared = &self.of.0;
        let is_delivered = verdict == Verdict::Delivered;
        shared.desk.end_lease(shared.link, self.key, verdict)?;
        shared.ended(&self, is_delivered);
        self.has_ended = true;
        Ok(())
    }
}

impl LoanEnd {
    /// The number of the link, and the rows that are delivered over it.
    pub(super) fn delivered(&self) -> (usize, RangeInclusive<i64>) {
        (self.loan.of.0.link, self.rows.clone())
    }

    /// The transaction is committed, or never will be.
    pub(super) fn settle(mut self, committed: bool) {
        // What fails here is not the subscriber's fault.
        self.loan.counts = false;
        if committed {
            self.loan.has_ended = true;
            let shared = &self.loan.of.0;
            shared.leases.end(self.loan.key);
            shared.leases.settled(&self.rows);
            shared.ended(&self.loan, true);
        }
    }
}

impl fmt::Debug for Loan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loan").field("key", &self.key).field("lines", &self.lines).finish_non_exhaustive()
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        if !self.has_ended {
            self.of.0.rest(self.key, self.counts);
        }
    }
}

impl Drop for Standing {
    fn drop(&mut self) {
        if self.0.0.standing.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.0.observer.link_up(false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;
    use crate::spool::{Commit, RawBatch, Spool, SpoolConfig};

    #[derive(Default)]
    struct Confirmed(AtomicUsize);

    impl LinkObserver for Confirmed {
        fn link_up(&self, _up: bool) {}
        fn reconnected(&self) {}
        fn confirmed(&self, _lines: u64, _since_sent: Duration, _age: Duration) {
            self.0.fetch_add(1, Ordering::AcqRel);
        }
    }

    #[tokio::test]
    async fn what_is_acknowledged_is_confirmed_once_that_is_committed() {
        let dir = tempfile::tempdir().unwrap();
        let spool = Spool::open(SpoolConfig::for_test(dir.path()), 0).unwrap();
        let (desk, worker) = Desk::new(spool, Arc::new(Metrics::new().unwrap()), Clock::system());
        std::thread::spawn(|| worker.run());
        let lines = RawBatch { raw: b"a 1 1\n".to_vec(), lines: 1, ..RawBatch::default() };
        let commit = Arc::<Commit>::default();
        desk.append(vec![desk.seal(lines, 0)], Arc::clone(&commit), desk.slot().await);
        commit.settled().await.unwrap();

        let confirmed = Arc::<Confirmed>::default();
        let observer = Arc::clone(&confirmed) as Arc<dyn LinkObserver>;
        let subscribers = Subscribers::new(desk, 0, Rest::default(), observer, Clock::system());
        for committed in [false, true] {
            let (mut loan, _) = subscribers.lease().await.unwrap();
            assert!(!loan.is_redelivered(), "its subscriber has acknowledged it");
            loan.delivered();
            let end = loan.into_end().unwrap();
            assert_eq!(confirmed.0.load(Ordering::Acquire), 0, "nothing is committed yet");
            end.settle(committed);
            assert_eq!(confirmed.0.load(Ordering::Acquire), usize::from(committed));
        }
    }
}
