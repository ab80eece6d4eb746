//! The way to the one thread that works on the spool, from everywhere else: what is brought, lent and asked goes over
//! this desk, and waits there for its turn.

mod asks;
mod group;
mod words;
mod worker;

use std::sync::Arc;

use forwarder::{Clock, LeaseKey};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};

use crate::metrics::Metrics;
use crate::spool::desk::asks::{Ask, Asks};
use crate::spool::desk::group::GROUP_MAX;
use crate::spool::desk::words::{SETTLES_MAX, Words};
pub use crate::spool::desk::worker::DeskWorker;
use crate::spool::leases::LinkLeases;
use crate::spool::seal::Press;
use crate::spool::{
    Arrival, Commit, CommitError, Lent, LinkSet, Loan, LoanEnd, RawBatch, Sealed, Spool, Verdict,
};

/// Batches that may be sealed and not committed: what bounds the memory between intake and disk.
const SLOTS: usize = 64;

/// The way to the spool's thread. Cheap to clone; the thread ends when all are gone.
#[derive(Clone)]
pub struct Desk {
    commands: mpsc::Sender<Command>,
    slots: Arc<Semaphore>,
    /// By queue, whether nothing is taken for it.
    full: watch::Receiver<Arc<[bool]>>,
    failures: watch::Receiver<()>,
    press: Arc<Press>,
    words: Arc<Words>,
    asks: Arc<Asks>,
    /// By link.
    leases: Arc<[Arc<LinkLeases>]>,
    link_sets: Arc<[LinkSet]>,
}

/// What becomes durable together, or not at all.
#[derive(Debug, Default)]
pub struct Entry {
    /// Lines that this node took in.
    pub sealed: Vec<Sealed>,
    /// What other nodes sent.
    pub arrivals: Vec<Arrival>,
    /// Words of next hops that belong to the same transaction.
    pub(super) ends: Vec<LoanEnd>,
}

impl From<Vec<Sealed>> for Entry {
    fn from(sealed: Vec<Sealed>) -> Self {
        Self { sealed, ..Self::default() }
    }
}

impl From<Vec<Arrival>> for Entry {
    fn from(arrivals: Vec<Arrival>) -> Self {
        Self { arrivals, ..Self::default() }
    }
}

impl Entry {
    /// Adds what subscribers have acknowledged. To be called when nothing is waited for any more: from here
    /// on only the commit, or its failure, gives the batches back.
    pub fn end(&mut self, loans: Vec<Loan>) {
        self.ends.extend(loans.into_iter().filter_map(Loan::into_end));
    }

    /// Every batch that it appends, if none is a duplicate.
    fn all_sealed(&self) -> impl Iterator<Item = &Sealed> {
        self.sealed.iter().chain(self.arrivals.iter().flat_map(Arrival::sealed))
    }

    fn appends(&self) -> bool {
        self.all_sealed().next().is_some()
    }

    fn end_leases(self, committed: bool) {
        self.ends.into_iter().for_each(|end| end.settle(committed));
    }
}

/// The right to bring one batch, at once: bringing it waits for nothing, so that a batch that was taken
/// in hand, with the lines of many senders, cannot be dropped half-way.
#[derive(Debug)]
pub struct Slot {
    uncommitted: Uncommitted,
    /// `None` once the thread has ended.
    place: Option<mpsc::OwnedPermit<Command>>,
}

/// One of the batches that are not committed yet.
#[derive(Debug)]
struct Uncommitted(#[expect(dead_code, reason = "held until the batch is committed")] OwnedSemaphorePermit);

/// What the senders of a commit are owed: its word. Dropped without one, whatever the reason, it tells
/// them that the spool is closed, so that nobody waits for ever.
#[derive(Debug)]
struct Owed(Arc<Commit>);

impl Drop for Owed {
    fn drop(&mut self) {
        // Nothing happens if the word was said.
        self.0.settle(Err(CommitError::Failed(DeskClosed.to_string())));
    }
}

/// The thread ended; the process is about to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the spool is closed")]
pub struct DeskClosed;

/// A look at the spool between two transactions.
type Look = Box<dyn FnOnce(&mut Spool) + Send>;

enum Command {
    Append {
        entry: Entry,
        owed: Owed,
        uncommitted: Uncommitted,
    },
    /// There are words to be written, or somebody can be lent something.
    Nudge,
    Look(Look),
    /// Time to look after the file.
    Tick,
}

impl Desk {
    /// A desk for `spool`, and the worker to run on a thread of its own.
    pub fn new(spool: Spool, metrics: Arc<Metrics>, clock: Clock) -> (Self, DeskWorker) {
        let (commands, inbox) = mpsc::channel(4 * GROUP_MAX);
        let (tell_full, full) = watch::channel(spool.full_queues());
        let (tell_failure, failures) = watch::channel(());
        let desk = Self {
            commands,
            slots: Arc::new(Semaphore::new(SLOTS)),
            full,
            failures,
            press: Arc::default(),
            words: Arc::default(),
            asks: Arc::default(),
            leases: spool.links.iter().map(|link| Arc::clone(&link.leases)).collect(),
            link_sets: spool.config.link_sets.iter().cloned().collect(),
        };
        let worker = DeskWorker {
            spool,
            inbox,
            words: Arc::clone(&desk.words),
            asks: Arc::clone(&desk.asks),
            left_over: Vec::new(),
            committed_at: None,
            full: tell_full,
            failures: tell_failure,
            metrics,
            clock,
        };
        (desk, worker)
    }

    /// Waits until the spool takes metrics for a queue. Cancel-safe.
    pub async fn room(&self, queue: usize) {
        self.wait_until(|full| !full[queue]).await;
    }

    /// Waits until the spool takes metrics for any queue. Cancel-safe.
    pub async fn any_room(&self) {
        self.wait_until(|full| !full.iter().all(|&full| full)).await;
    }

    async fn wait_until(&self, has_room: impl Fn(&[bool]) -> bool) {
        // Once the thread has ended nothing is taken any more, until the process ends.
        if self.full.clone().wait_for(|full| has_room(full)).await.is_err() {
            std::future::pending().await
        }
    }

    /// By queue, whether it is at its limit, the spool is, or the disk is full.
    pub fn full(&self) -> Arc<[bool]> {
        Arc::clone(&self.full.borrow())
    }

    /// Whether nothing is taken for any queue.
    pub fn is_full(&self) -> bool {
        self.full.borrow().iter().all(|&full| full)
    }

    /// Changes when lines could not be committed; closed once none can be any more. For whoever only wants to know
    /// of a failure: a commit that is waited for wakes whoever waits.
    pub fn failures(&self) -> watch::Receiver<()> {
        self.failures.clone()
    }

    /// Whether batches wait to be lent to a link of set number `link_set`.
    pub fn has_waiting(&self, link_set: usize) -> bool {
        self.link_sets[link_set].links.iter().any(|&link| self.leases[link].has_waiting())
    }

    /// Waits for the right to bring one batch. Cancel-safe.
    pub async fn slot(&self) -> Slot {
        let Ok(uncommitted) = Arc::clone(&self.slots).acquire_owned().await else {
            // The semaphore is never closed.
            return std::future::pending().await;
        };
        let place = self.commands.clone().reserve_owned().await.ok();
        Slot { uncommitted: Uncommitted(uncommitted), place }
    }

    /// Compresses a batch for a set of links.
    pub fn seal(&self, batch: RawBatch, link_set: usize) -> Sealed {
        self.press.seal(batch, link_set)
    }

    /// Brings what becomes durable together; `commit` is settled once it is, or is not.
    pub fn append(&self, entry: impl Into<Entry>, commit: Arc<Commit>, slot: Slot) {
        let Slot { uncommitted, place } = slot;
        let entry = entry.into();
        match place {
            Some(place) => drop(place.send(Command::Append { entry, owed: Owed(commit), uncommitted })),
            None => drop(Owed(commit)),
        }
    }

    /// Looks at the spool between two transactions.
    pub async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&mut Spool) -> T + Send + 'static,
    ) -> Result<T, DeskClosed> {
        let (reply, answer) = oneshot::channel();
        let look = Box::new(move |spool: &mut Spool| drop(reply.send(look(spool))));
        self.send(Command::Look(look)).await?;
        answer.await.map_err(|_| DeskClosed)
    }

    /// Lets the spool look after its file; to be called about once a second.
    pub async fn tick(&self) -> Result<(), DeskClosed> {
        self.send(Command::Tick).await
    }

    /// Ends a lease of link number `link`, with lines that come.
    pub(super) fn end_lease(&self, link: usize, key: LeaseKey, verdict: Verdict) -> Result<(), DeskClosed> {
        if self.commands.is_closed() {
            return Err(DeskClosed);
        }
        // One that was dropped at a limit meanwhile is known to the books only.
        let Some(rows) = self.leases[link].end(key) else { return Ok(()) };
        let waiting = self.words.add((link, rows, verdict));
        if waiting >= SETTLES_MAX || self.full.borrow().contains(&true) {
            self.nudge();
        }
        Ok(())
    }

    /// Lets the thread look at what did not come through its inbox.
    pub(super) fn nudge(&self) {
        // With an inbox full of commands the thread comes to it anyway.
        drop(self.commands.try_send(Command::Nudge));
    }

    /// The answer comes once something waits for the link; it is empty where that was dropped at a limit meanwhile, and
    /// there is none where the spool had to be mended.
    pub(super) fn lend(
        &self,
        link: usize,
        raw_bytes_max: usize,
    ) -> Result<oneshot::Receiver<Vec<Lent>>, DeskClosed> {
        let (reply, answer) = oneshot::channel();
        self.asks.add(Ask { link, raw_bytes_max, reply });
        if self.commands.is_closed() {
            return Err(DeskClosed);
        }
        // What is committed from here on finds the ask.
        if self.leases[link].has_waiting() {
            self.nudge();
        }
        Ok(answer)
    }

    pub(super) fn leases(&self, link: usize) -> Arc<LinkLeases> {
        Arc::clone(&self.leases[link])
    }

    async fn send(&self, command: Command) -> Result<(), DeskClosed> {
        self.commands.send(command).await.map_err(|_| DeskClosed)
    }
}
