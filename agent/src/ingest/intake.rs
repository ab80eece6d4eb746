//! Where every listener brings its checked lines: it fills the open batches, seals them, and hands
//! them to the spool. What a caller gets is a [`Ticket`] that tells when its lines are on disk.
//!
//! Backpressure: while the spool is at its limit, or has enough to commit, [`Intake::accept`] waits,
//! so that the listener does not read and its producer's TCP feels it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use forwarder::{Batch, Clock};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::ingest::dead_letters::DeadLetters;
use crate::ingest::line::{Checked, Reason, Refused};
use crate::ingest::open_batch::OpenBatch;
use crate::ingest::pace::CommitPace;
use crate::ingest::route::Router;
use crate::ingest::{Input, Sender, transit};
use crate::metrics::Metrics;
use crate::spool::{Commit, CommitError, Desk, Entry, Loan, RawBatch, Reject};

/// The queue of what names none: the first one of the topology.
pub const DEFAULT_QUEUE: usize = 0;

/// Between two looks at whether the link has taken what waits.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// Takes checked lines towards the spool. Cheap to clone; one per agent.
#[derive(Clone)]
pub struct Intake(Arc<Shared>);

struct Shared {
    router: Router,
    /// One for each set of links, as the router numbers them.
    lanes: Vec<Lane>,
    dead_letters: Mutex<DeadLetters>,
    desk: Desk,
    metrics: Arc<Metrics>,
    clock: Clock,
    commit_interval: Duration,
}

/// The open batch of one set of links, shared by all connections.
struct Lane {
    link_set: usize,
    open: Mutex<OpenBatch>,
    /// Rung when the open batch gets its first line.
    started: Notify,
    /// One permit: who has it seals. Batches reach the desk in the order in which they were filled, so
    /// that of two lines of a connection the later one stays the later one.
    turn: Semaphore,
}

/// What subscribers have acknowledged.
pub type Ends = Vec<Loan>;

/// Tells when the lines of one [`Intake::accept`] are on disk. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Ticket {
    last: Arc<Commit>,
    earlier: Vec<Arc<Commit>>,
}

impl Ticket {
    /// Waits until every line is fsynced, or will never be. Cancel-safe.
    pub async fn committed(&self) -> Result<(), CommitError> {
        for commit in &self.earlier {
            commit.settled().await?;
        }
        self.last.settled().await
    }

    /// What this and `other` hang on, together.
    pub fn and(mut self, other: Self) -> Self {
        self.earlier.push(self.last);
        self.earlier.extend(other.earlier);
        Self { last: other.last, earlier: self.earlier }
    }

    /// Whether `other` hangs on exactly the same commit, so that waiting once serves both.
    pub fn shares_commit_with(&self, other: &Self) -> bool {
        self.earlier.is_empty() && other.earlier.is_empty() && Arc::ptr_eq(&self.last, &other.last)
    }

    fn on(commits: Vec<Arc<Commit>>) -> Self {
        let mut earlier = commits;
        let last = earlier.pop().unwrap_or_else(Commit::of_nothing);
        Self { last, earlier }
    }
}

impl Intake {
    /// An intake that routes by `router` and commits through `desk`.
    pub fn new(
        router: Router,
        desk: Desk,
        metrics: Arc<Metrics>,
        clock: Clock,
        commit_interval: Duration,
    ) -> Self {
        let lane = |link_set| Lane {
            link_set,
            open: Mutex::new(OpenBatch::new()),
            started: Notify::new(),
            turn: Semaphore::new(1),
        };
        let lanes = (0..router.link_sets().len()).map(lane).collect();
        let dead_letters = Mutex::new(DeadLetters::new());
        // A series that began with its first refusal would hide that one from whoever watches its increase.
        for input in Input::ALL {
            Reason::ALL.into_iter().for_each(|reason| metrics.rejected(input, reason, 0));
        }
        Self(Arc::new(Shared { router, lanes, dead_letters, desk, metrics, clock, commit_interval }))
    }

    /// Waits until the spool takes metrics for a queue. A listener asks before it reads, so that a producer
    /// is held back by TCP and not by memory. Cancel-safe.
    pub async fn room(&self, queue: usize) {
        self.0.desk.room(queue).await;
    }

    /// By queue, whether it is at its limit, or the spool is, and refuses.
    pub fn full(&self) -> Arc<[bool]> {
        self.0.desk.full()
    }

    /// See [`Desk::failures`].
    pub fn failures(&self) -> watch::Receiver<()> {
        self.0.desk.failures()
    }

    /// Whether the spool is at its limit and refuses.
    pub fn is_full(&self) -> bool {
        self.0.desk.is_full()
    }

    /// Takes all of `checked` into a queue, good lines and refused ones, and empties it. Waits while there is
    /// no room. Not cancel-safe: cancelled, a part of the lines may have been taken.
    pub async fn accept(&self, from: &Sender, queue: usize, checked: &mut Checked) -> Ticket {
        self.room(queue).await;
        self.take(from, queue, checked).await
    }

    /// As [`Intake::accept`], for whoever cannot wait for room and has just asked [`Intake::full`]: one
    /// that waited all the same, because that changed a moment later, would wait for as long as it is so.
    pub async fn take(&self, from: &Sender, queue: usize, checked: &mut Checked) -> Ticket {
        let mut commits = Vec::new();
        for piece in self.0.router.pieces(queue, &checked.lines) {
            let lane = &self.0.lanes[piece.link_set];
            let mut rest = piece.lines;
            while !rest.is_empty() {
                let (taken, commit, full) = lane.fill(rest, checked, from, self.now());
                rest = &rest[taken..];
                if full {
                    self.seal_if_open(lane, &commit).await;
                }
                if taken > 0 {
                    commits.push(commit);
                }
            }
        }
        let rejects = self.rejects(from, checked);
        if !rejects.is_empty() {
            commits.push(self.0.lanes[0].refuse(rejects, Instant::now()));
        }
        checked.clear();
        Ticket::on(commits)
    }

    /// Takes all lines of a transaction, and with them the ends of `ends`, into one commit of its own, after
    /// the lines that wait in open batches: they become durable together or not at all. It does not wait for
    /// room: see [`Intake::take`].
    pub async fn accept_whole(&self, from: &Sender, lines: &mut [Checked], ends: Ends) -> Ticket {
        let mut entry = Entry::default();
        for (queue, checked) in lines.iter_mut().enumerate() {
            for piece in self.0.router.pieces(queue, &checked.lines) {
                let lane = &self.0.lanes[piece.link_set];
                if let Some((_, before)) = lane.waiting() {
                    self.seal_if_open(lane, &before).await;
                }
                let mut rest = piece.lines;
                while !rest.is_empty() {
                    let mut open = OpenBatch::new();
                    let taken = open.fill(rest, checked.timestamps, from.input, self.now());
                    rest = &rest[taken..];
                    entry.sealed.push(self.0.desk.seal(open.take().0, piece.link_set));
                }
            }
            let rejects = self.rejects(from, checked);
            if !rejects.is_empty() {
                entry.sealed.push(self.0.desk.seal(RawBatch { rejects, ..RawBatch::default() }, 0));
            }
            checked.clear();
        }
        self.bring(entry, ends).await
    }

    /// Takes what another node sent, whose lines are `lines`. A part that came before is not taken again.
    /// It does not wait for room: see [`Intake::take`].
    pub async fn pass(&self, from: &Sender, queue: usize, batch: &Batch, lines: &[u8]) -> Ticket {
        let arrivals = transit::arrivals(&self.0.router, &self.0.desk, from.input, queue, batch, lines);
        self.bring(arrivals.into(), Vec::new()).await
    }

    /// Ends leases durably, with nothing else.
    pub async fn end(&self, ends: Ends) -> Ticket {
        self.bring(Entry::default(), ends).await
    }

    async fn bring(&self, mut entry: Entry, ends: Ends) -> Ticket {
        let commit = Arc::<Commit>::default();
        let slot = self.0.desk.slot().await;
        entry.end(ends);
        self.0.desk.append(entry, Arc::clone(&commit), slot);
        Ticket::on(vec![commit])
    }

    /// Seals the open batches in time until `stop`, then whatever is left: once with no backlog, as
    /// soon as the pace of commits allows; with one, when `commit_interval` is over.
    pub async fn keep_sealing(&self, stop: CancellationToken) {
        let lanes = self.0.lanes.iter().map(|lane| self.keep_sealing_lane(lane, stop.clone()));
        futures_util::future::join_all(lanes).await;
    }

    async fn keep_sealing_lane(&self, lane: &Lane, stop: CancellationToken) {
        let mut pace = CommitPace::new(Instant::now());
        loop {
            tokio::select! {
                () = lane.started.notified() => {}
                () = stop.cancelled() => break,
            }
            let Some((since, commit)) = lane.waiting() else {
                continue;
            };
            tokio::select! {
                () = self.due(lane, since, &mut pace) => {}
                () = stop.cancelled() => {}
            }
            self.seal_if_open(lane, &commit).await;
        }
        if let Some((_, commit)) = lane.waiting() {
            self.seal_if_open(lane, &commit).await;
        }
    }

    /// Waits until the open batch of `lane`, which has had lines `since` then, is to be sealed. What waits for a
    /// link may just be on its way to it from its commit, so it is looked at again before it is a backlog.
    async fn due(&self, lane: &Lane, since: Instant, pace: &mut CommitPace) {
        sleep_until(pace.next_commit(Instant::now())).await;
        let latest = since + self.0.commit_interval;
        while self.0.desk.has_waiting(lane.link_set) && Instant::now() < latest {
            sleep_until(latest.min(Instant::now() + LOOK_AGAIN)).await;
        }
    }

    /// Seals the open batch of `lane` if it is still the one that settles `commit`.
    async fn seal_if_open(&self, lane: &Lane, commit: &Arc<Commit>) {
        if !lane.is_open(commit) {
            return;
        }
        // Nobody closes the semaphore.
        let _turn = lane.turn.acquire().await.ok();
        if !lane.is_open(commit) {
            return;
        }
        let slot = self.0.desk.slot().await;
        if let Some(batch) = lane.take_if_open(commit) {
            let sealed = self.0.desk.seal(batch, lane.link_set);
            self.0.desk.append(vec![sealed], Arc::clone(commit), slot);
        }
    }

    /// Puts a whole body by that cannot go on: how many a sender may bring a second does not bind it, the room
    /// that the dead letters may have does, whatever a queue's own limit is.
    pub async fn set_aside(&self, from: &Sender, reason: &str, body: &[u8]) -> Ticket {
        self.0.desk.any_room().await;
        let reject = Reject {
            at_ms: self.0.clock.now_ms(),
            from: from.clone(),
            reason: reason.to_owned().into(),
            line: body.to_vec(),
        };
        Ticket::on(vec![self.0.lanes[0].refuse(vec![reject], Instant::now())])
    }

    /// Counts what was refused; returns what is kept of it.
    fn rejects(&self, from: &Sender, checked: &mut Checked) -> Vec<Reject> {
        for refused in &checked.refused {
            self.0.metrics.rejected(from.input, refused.reason, 1);
        }
        let counted = Reason::ALL.into_iter().zip(&checked.refused_only_counted);
        for (reason, &lines) in counted.filter(|(_, lines)| **lines > 0) {
            self.0.metrics.rejected(from.input, reason, u64::from(lines));
        }
        let at_ms = self.0.clock.now_ms();
        self.dead_letters().limit(from, at_ms.div_euclid(1000), checked);
        let reject = |refused: Refused| Reject {
            at_ms,
            from: from.clone(),
            reason: refused.reason.as_str().into(),
            line: refused.line,
        };
        checked.refused.drain(..).map(reject).collect()
    }

    fn dead_letters(&self) -> MutexGuard<'_, DeadLetters> {
        // It holds counts only, each of them whole.
        self.0.dead_letters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> (Instant, i64) {
        (Instant::now(), self.0.clock.now_ms())
    }
}

impl Lane {
    /// Adds as many of `lines` as fit; tells their bytes, what settles them, and whether the batch is
    /// now full.
    fn fill(
        &self,
        lines: &[u8],
        checked: &Checked,
        from: &Sender,
        now: (Instant, i64),
    ) -> (usize, Arc<Commit>, bool) {
        let mut open = self.lock();
        let first = open.is_empty();
        let taken = open.fill(lines, checked.timestamps, from.input, now);
        if first {
            self.started.notify_one();
        }
        (taken, Arc::clone(&open.commit), taken < lines.len() || open.is_full())
    }

    fn refuse(&self, rejects: Vec<Reject>, now: Instant) -> Arc<Commit> {
        let mut open = self.lock();
        if open.is_empty() {
            self.started.notify_one();
        }
        open.refuse(rejects, now);
        Arc::clone(&open.commit)
    }

    fn waiting(&self) -> Option<(Instant, Arc<Commit>)> {
        let open = self.lock();
        open.since().map(|since| (since, Arc::clone(&open.commit)))
    }

    fn is_open(&self, commit: &Arc<Commit>) -> bool {
        Arc::ptr_eq(&self.lock().commit, commit)
    }

    fn take_if_open(&self, commit: &Arc<Commit>) -> Option<RawBatch> {
        let mut open = self.lock();
        Arc::ptr_eq(&open.commit, commit).then(|| open.take().0)
    }

    fn lock(&self) -> MutexGuard<'_, OpenBatch> {
        // A panic while it was held ends the process anyway; the lines in it were never receipted.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
