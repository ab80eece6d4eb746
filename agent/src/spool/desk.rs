//! The one thread that works on the spool. It takes the first command, gathers what else waits, does
//! one transaction, and answers all: many small senders share one fsync.
//!
//! It decides what an error means. A full disk: whoever sends is told, what was sent is still confirmed
//! and deleted; if even that finds no room, it is kept in mind, and nothing more is lent until it is
//! written. A corrupt file: set aside, salvaged, on. Anything else ends the thread before another
//! receipt, because a repeated fsync can report success on lost pages.

mod asks;
mod words;

use std::sync::Arc;
use std::time::Duration;

use forwarder::{Clock, LeaseKey};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::metrics::Metrics;
use crate::spool::desk::asks::{Ask, Asks};
use crate::spool::desk::words::{Settle, Words, joined};
use crate::spool::leases::LinkLeases;
use crate::spool::seal::Press;
use crate::spool::{
    Arrival, Commit, CommitError, Lent, LinkSet, Loan, LoanEnd, RawBatch, Sealed, Spool, SpoolError, Taken,
    Verdict,
};

/// Batches that may be sealed and not committed: what bounds the memory between intake and disk.
const SLOTS: usize = 64;
/// Commands that one transaction takes.
const GROUP_MAX: usize = 64;
/// Words of next hops that wait to be written. Nobody waits for them: to write so many at once costs little more than one,
/// so they go with lines once there are
const SETTLES_ENOUGH: usize = 16;
/// and by themselves once there are
const SETTLES_MAX: usize = 128;
/// What comes within this time of a commit belongs to a steady stream, in which commits are
const QUIET: Duration = Duration::from_millis(1);
/// so far apart, unless there are
const APART: Duration = Duration::from_millis(5);
/// so many bytes to be committed: a commit costs about as much for one full batch as for ten. What is on its way
/// into a spool must fit into the margin below its limit.
const ENOUGH_BYTES: u64 = 128 * 1024;

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
        // Once the thread has ended nothing is taken any more, until the process ends.
        if self.full.clone().wait_for(|full| !full[queue]).await.is_err() {
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

/// Owns the spool; [`DeskWorker::run`] is to be called on a thread of its own.
pub struct DeskWorker {
    spool: Spool,
    inbox: mpsc::Receiver<Command>,
    words: Arc<Words>,
    asks: Arc<Asks>,
    /// Words of the next hops that are taken and not written yet.
    left_over: Vec<Settle>,
    /// When the last commit ended.
    committed_at: Option<Instant>,
    full: watch::Sender<Arc<[bool]>>,
    failures: watch::Sender<()>,
    metrics: Arc<Metrics>,
    clock: Clock,
}

/// The commands of one transaction.
#[derive(Default)]
struct Group {
    appends: Vec<(Entry, Owed, Uncommitted)>,
    settles: Vec<Settle>,
    /// Done after the commit, so that they see it.
    after: Vec<Command>,
}

impl DeskWorker {
    /// Works until every [`Desk`] is gone. An error is the end of the spool, and is to be the end of
    /// the process.
    pub fn run(mut self) -> Result<(), SpoolError> {
        while let Some(first) = self.inbox.blocking_recv() {
            let mut group = Group { settles: std::mem::take(&mut self.left_over), ..Group::default() };
            group.take(first);
            self.take_waiting(&mut group);
            self.gather(&mut group);
            self.work(group)?;
        }
        let mut settles = std::mem::take(&mut self.left_over);
        settles.extend(self.words.take());
        if settles.is_empty() { Ok(()) } else { self.commit(&mut Group { settles, ..Group::default() }) }
    }

    fn take_waiting(&mut self, group: &mut Group) {
        while group.len() < GROUP_MAX {
            let Ok(next) = self.inbox.try_recv() else { break };
            group.take(next);
        }
    }

    /// In a steady stream, waits for more to commit, as long as more comes and nothing else is to be done.
    fn gather(&mut self, group: &mut Group) {
        let Some(since) = self.committed_at.filter(|last| last.elapsed() < QUIET) else { return };
        let mut before = 0;
        while group.appends.len() > before
            && group.stored_bytes() < ENOUGH_BYTES
            && group.after.is_empty()
            && !self.asks.any(|ask| self.can_lend(ask))
            && since.elapsed() < APART
        {
            before = group.appends.len();
            #[expect(
                clippy::disallowed_methods,
                reason = "this thread is the spool's own, and time is all it waits for"
            )]
            std::thread::sleep(QUIET);
            self.take_waiting(group);
        }
    }

    fn work(&mut self, mut group: Group) -> Result<(), SpoolError> {
        group.settles.extend(self.words.take());
        if self.spool.is_disk_full() {
            // The reserve is for what leaves.
            self.refuse(&mut group, &CommitError::Full);
        }
        if !self.are_words_due(&group) {
            self.left_over = std::mem::take(&mut group.settles);
        }
        if !group.appends.is_empty() || !group.settles.is_empty() {
            self.commit(&mut group)?;
            self.tell_full();
        }
        for command in group.after {
            let done = match command {
                Command::Look(look) => {
                    look(&mut self.spool);
                    self.tell_full();
                    Ok(())
                }
                Command::Tick => {
                    let done = self.spool.look_after();
                    self.tell_full();
                    done
                }
                Command::Append { .. } | Command::Nudge => Ok(()),
            };
            if let Err(error) = done {
                self.recover(error)?;
            }
        }
        self.lend()
    }

    fn tell_full(&self) {
        let now_full = self.spool.full_queues();
        self.full.send_if_modified(|full| {
            let changed = *full != now_full;
            *full = now_full;
            changed
        });
    }

    /// Whether the words of `group` cannot wait for more.
    fn are_words_due(&self, group: &Group) -> bool {
        let is_looked_at =
            group.after.iter().any(|command| matches!(command, Command::Look(_) | Command::Tick));
        let enough = if group.appends.is_empty() { SETTLES_MAX } else { SETTLES_ENOUGH };
        // What was delivered goes first where room is wanted.
        let wants_room = self.spool.drops_oldest() || self.full.borrow().contains(&true);
        is_looked_at || wants_room || group.settles.len() >= enough
    }

    /// Writes a group and answers its callers. If that fails in a way that can be mended they are told,
    /// and what the next hops confirmed is written by itself, on the reserve.
    fn commit(&mut self, group: &mut Group) -> Result<(), SpoolError> {
        let error = match self.write(&group.appends, &group.settles) {
            Ok(()) => {
                group.answer(&Ok(()));
                return Ok(());
            }
            Err(error) => error,
        };
        let word = match &error {
            SpoolError::Full(_) => CommitError::Full,
            other => CommitError::Failed(other.to_string()),
        };
        let recovered = self.recover(error);
        self.refuse(group, &word);
        recovered?;
        match self.write(&group.appends, &group.settles) {
            Err(SpoolError::Full(_)) => {
                group.answer(&Err(CommitError::Full));
                self.left_over.append(&mut group.settles);
                Ok(())
            }
            Err(error) => Err(error),
            Ok(()) => {
                group.answer(&Ok(()));
                Ok(())
            }
        }
    }

    fn refuse(&self, group: &mut Group, word: &CommitError) {
        if group.answer_appending(word) {
            self.failures.send_replace(());
        }
    }

    fn write(
        &mut self,
        appends: &[(Entry, Owed, Uncommitted)],
        settles: &[Settle],
    ) -> Result<(), SpoolError> {
        let start = Instant::now();
        let entries = || appends.iter().map(|(entry, ..)| entry);
        // What only leaves makes room by itself, though the log grows for a moment: nothing is dropped for it.
        let appends_any = entries().any(Entry::appends);
        let excess = appends_any.then(|| self.spool.bytes_to_drop(entries().flat_map(Entry::all_sealed)));
        if excess.is_some() {
            self.spool.claim_growth()?;
        }
        let (new, duplicates) = self.spool.transact(|writer| {
            let acknowledged = entries().flat_map(|entry| &entry.ends).map(LoanEnd::delivered);
            let acknowledged = acknowledged.map(|(link, rows)| (link, rows, Verdict::Delivered));
            for (link, rows, verdict) in joined(settles.iter().cloned().chain(acknowledged).collect()) {
                writer.settle(link, rows, &verdict)?;
            }
            if let Some(excess) = excess {
                writer.drop_excess(excess)?;
            }
            let (mut new, mut duplicates) = (Vec::new(), Vec::new());
            for entry in entries() {
                entry.sealed.iter().try_for_each(|sealed| writer.append(sealed))?;
                new.extend(&entry.sealed);
                for arrival in &entry.arrivals {
                    match writer.take(arrival)? {
                        Taken::New => new.extend(arrival.sealed()),
                        Taken::Duplicate => duplicates.push(&arrival.number.origin),
                    }
                }
            }
            Ok((new, duplicates))
        })?;
        let end = Instant::now();
        self.committed_at = Some(end);
        self.metrics.committed((end - start).as_secs_f64());
        new.into_iter().for_each(|sealed| self.metrics.accepted(&sealed.inputs));
        duplicates.into_iter().for_each(|origin| self.metrics.duplicate(origin));
        Ok(())
    }

    /// Answers those for whom something waits. The others wait on.
    fn lend(&mut self) -> Result<(), SpoolError> {
        for ask in self.asks.take(|ask| self.can_lend(ask)) {
            match self.spool.lend(ask.link, ask.raw_bytes_max) {
                Ok(lent) => {
                    if let Err(unwanted) = ask.reply.send(lent) {
                        self.spool.take_back(ask.link, &unwanted);
                    }
                }
                Err(error) => self.recover(error)?,
            }
        }
        Ok(())
    }

    /// While the disk has no room for the words of the next hops nothing is lent, so that they stay few.
    fn can_lend(&self, ask: &Ask) -> bool {
        let words_wait = self.spool.is_disk_full() && !self.left_over.is_empty();
        !words_wait && self.spool.links[ask.link].leases.has_waiting()
    }

    /// Goes on after an error if that is possible.
    fn recover(&mut self, error: SpoolError) -> Result<(), SpoolError> {
        match error {
            SpoolError::Full(_) => {
                self.spool.give_up_reserve();
                self.tell_full();
                Ok(())
            }
            SpoolError::Corrupt(cause) => self.spool.replace_corrupt(self.clock.now_ms(), cause),
            SpoolError::Fatal(_) | SpoolError::Replace(_) => Err(error),
        }
    }
}

/// Whoever asked to be lent something, or asks now, is told that nothing will be.
impl Drop for DeskWorker {
    fn drop(&mut self) {
        self.inbox.close();
        drop(self.asks.take(|_| true));
    }
}

impl Group {
    /// The commands in it.
    fn len(&self) -> usize {
        self.appends.len() + self.after.len()
    }

    /// What the entries append.
    fn stored_bytes(&self) -> u64 {
        let entries = self.appends.iter().map(|(entry, ..)| entry);
        entries.flat_map(Entry::all_sealed).map(Sealed::stored_bytes).sum()
    }

    fn take(&mut self, command: Command) {
        match command {
            Command::Append { entry, owed, uncommitted } => self.appends.push((entry, owed, uncommitted)),
            // What it is about is looked at when it is known what it goes with.
            Command::Nudge => {}
            later => self.after.push(later),
        }
    }

    /// Tells those who bring something that it is not taken, and whether there were any. Who only takes something
    /// away stays.
    fn answer_appending(&mut self, error: &CommitError) -> bool {
        let (appending, rest): (Vec<_>, _) =
            std::mem::take(&mut self.appends).into_iter().partition(|(entry, ..)| entry.appends());
        let any = !appending.is_empty();
        self.appends = appending;
        self.answer(&Err(error.clone()));
        self.appends = rest;
        any
    }

    fn answer(&mut self, word: &Result<(), CommitError>) {
        for (entry, owed, _uncommitted) in self.appends.drain(..) {
            entry.end_leases(word.is_ok());
            owed.0.settle(word.clone());
        }
    }
}
