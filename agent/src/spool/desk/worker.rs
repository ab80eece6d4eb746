//! The one thread that works on the spool. It takes the first command, gathers what else waits, does
//! one transaction, and answers all: many small senders share one fsync.
//!
//! It decides what an error means. A full disk: whoever sends is told, what was sent is still confirmed
//! and deleted; if even that finds no room, it is kept in mind, and nothing more is lent until it is
//! written. A corrupt file: set aside, salvaged, on. Anything else ends the thread before another
//! receipt, because a repeated fsync can report success on lost pages.

use std::sync::Arc;
use std::time::Duration;

use forwarder::Clock;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::asks::{Ask, Asks};
use super::group::{GROUP_MAX, Group};
use super::words::{SETTLES_ENOUGH, SETTLES_MAX, Settle, Words, joined};
use super::{Command, Entry, Owed, Uncommitted};
use crate::ingest::Input;
use crate::metrics::Metrics;
use crate::spool::{CommitError, LoanEnd, Spool, SpoolError, Taken, Verdict};

/// What comes within this time of a commit belongs to a steady stream, in which commits are
const STREAM_QUIET: Duration = Duration::from_millis(1);
/// so far apart, unless there are
const STREAM_APART: Duration = Duration::from_millis(5);
/// so many bytes to be committed: a commit costs about as much for one full batch as for ten. What is on its way
/// into a spool must fit into the margin below its limit.
const ENOUGH_BYTES: u64 = 128 * 1024;

/// Owns the spool; [`DeskWorker::run`] is to be called on a thread of its own.
pub struct DeskWorker {
    pub(super) spool: Spool,
    pub(super) inbox: mpsc::Receiver<Command>,
    pub(super) words: Arc<Words>,
    pub(super) asks: Arc<Asks>,
    /// Words of the next hops that are taken and not written yet.
    pub(super) left_over: Vec<Settle>,
    /// When the last commit ended.
    pub(super) committed_at: Option<Instant>,
    pub(super) full: watch::Sender<Arc<[bool]>>,
    pub(super) failures: watch::Sender<()>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) clock: Clock,
}

impl DeskWorker {
    /// Works until every [`super::Desk`] is gone. An error is the end of the spool, and is to be the end of
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
        let Some(since) = self.committed_at.filter(|last| last.elapsed() < STREAM_QUIET) else { return };
        let mut before = 0;
        while group.appends.len() > before
            && group.stored_bytes() < ENOUGH_BYTES
            && group.after.is_empty()
            && !self.asks.any(|ask| self.can_lend(ask))
            && since.elapsed() < STREAM_APART
        {
            before = group.appends.len();
            #[expect(
                clippy::disallowed_methods,
                reason = "this thread is the spool's own, and time is all it waits for"
            )]
            std::thread::sleep(STREAM_QUIET);
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
        let appending = group.appends.iter().map(|(entry, ..)| entry).filter(|entry| entry.appends());
        let sealed = appending.flat_map(Entry::all_sealed);
        // Nobody else hears of what came over UDP.
        self.metrics.udp_dropped(sealed.map(|sealed| sealed.inputs[Input::Udp as usize]).sum());
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
