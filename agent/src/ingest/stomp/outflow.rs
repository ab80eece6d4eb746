//! What goes to the client: each RECEIPT once its lines are on disk, in the order of the frames; replies
//! that need not wait for the disk; heart-beats. What becomes ready together is written together.

use std::collections::VecDeque;
use std::future::pending;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::{Instant, sleep_until, timeout};

use crate::ingest::intake::Ticket;
use crate::spool::{CommitError, Loan};

use super::encode;
use super::refusal::Refusal;
use super::session::Receipts;
use super::version::Version;

/// What the reading side wants to be written.
#[derive(Debug)]
pub(super) enum Order {
    /// The session is open and speaks `version`; beat each `beat`.
    Open { version: Version, beat: Option<Duration> },
    /// Write at once.
    Now(Vec<u8>),
    /// Write at once; then the subscriber has what `done` is, and it may be deleted.
    Message { frame: Vec<u8>, done: Option<Loan> },
    /// Write once the ticket's lines are on disk.
    AfterCommit(Ticket, Receipts),
    /// Write once everything before has been written, and then nothing more.
    Last(Vec<u8>),
}

/// An order, and the permit for the bytes that it holds, given back once they are written. It goes boxed: the
/// channel keeps room for 32, in each of thousands of sessions.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) order: Order,
    pub(super) permit: Option<OwnedSemaphorePermit>,
}

/// How the writing side ended.
#[derive(Debug)]
pub(super) enum OutflowEnd {
    /// Everything that was ordered is on disk, and written if the client is still there.
    Done,
    /// Some lines are not on disk; an ERROR has said so.
    NotCommitted(CommitError),
    /// The client leaves unread what is written.
    NotRead,
}

/// The writing side of a session.
#[derive(Debug)]
pub(super) struct Outflow<W> {
    writer: W,
    write_time: Duration,
    version: Version,
    beat: Option<Duration>,
    written_at: Instant,
    /// `false` once a write has failed. What the client has sent is committed all the same.
    heard: bool,
    /// No more orders will come.
    closing: bool,
    waiting: VecDeque<Waiting>,
    /// To be written now, with its permits.
    out: Vec<u8>,
    out_permit: Option<OwnedSemaphorePermit>,
    /// Done once `out` is written.
    done: Vec<Loan>,
}

/// Frames that wait for a commit, or, without a ticket, only for those in front of them.
#[derive(Debug)]
struct Waiting {
    ticket: Option<Ticket>,
    receipts: Receipts,
    permit: Option<OwnedSemaphorePermit>,
}

impl<W: AsyncWrite + Unpin> Outflow<W> {
    /// Writes to `writer`, and gives the client `write_time` to read it.
    pub(super) fn new(writer: W, write_time: Duration) -> Self {
        Self {
            writer,
            write_time,
            version: Version::V1_0,
            beat: None,
            written_at: Instant::now(),
            heard: true,
            closing: false,
            waiting: VecDeque::new(),
            out: Vec::new(),
            out_permit: None,
            done: Vec::new(),
        }
    }

    /// Carries out the orders until there are no more, then ends the stream.
    pub(super) async fn run(mut self, mut orders: mpsc::Receiver<Box<Held>>) -> OutflowEnd {
        let mut failed = None;
        while failed.is_none() && !(self.closing && self.waiting.is_empty()) {
            tokio::select! {
                biased;
                settled = settled(self.waiting.front()) => failed = self.settle(settled).err(),
                held = orders.recv(), if !self.closing => self.take(held),
                () = until(self.beat_due()) => self.out.push(b'\n'),
            }
            while let Some(held) = orders.recv().now_or_never().filter(|_| !self.closing) {
                self.take(held);
            }
            while failed.is_none()
                && let Some(settled) = settled(self.waiting.front()).now_or_never()
            {
                failed = self.settle(settled).err();
            }
            if !self.flush().await {
                return OutflowEnd::NotRead;
            }
        }
        // If the client is gone, there is nobody to tell.
        drop(timeout(self.write_time, self.writer.shutdown()).await);
        failed.map_or(OutflowEnd::Done, OutflowEnd::NotCommitted)
    }

    fn take(&mut self, held: Option<Box<Held>>) {
        let Some(held) = held else {
            self.closing = true;
            return;
        };
        let Held { order, permit } = *held;
        match order {
            Order::Open { version, beat } => (self.version, self.beat) = (version, beat),
            Order::Now(frames) => self.write(frames, permit),
            Order::Message { frame, done } => {
                self.write(frame, permit);
                self.done.extend(done);
            }
            Order::AfterCommit(ticket, receipts) => self.wait_for(ticket, receipts, permit),
            Order::Last(frames) => {
                let receipts = Receipts { frames, first: None };
                self.waiting.push_back(Waiting { ticket: None, receipts, permit });
                self.closing = true;
            }
        }
    }

    /// Tickets on the same commit are waited for once.
    fn wait_for(&mut self, ticket: Ticket, receipts: Receipts, permit: Option<OwnedSemaphorePermit>) {
        match self.waiting.back_mut() {
            Some(Waiting { ticket: Some(last), receipts: before, permit: before_permit })
                if last.shares_commit_with(&ticket) =>
            {
                before.append(receipts);
                merge(before_permit, permit);
            }
            _ => self.waiting.push_back(Waiting { ticket: Some(ticket), receipts, permit }),
        }
    }

    /// The foremost waiting frames may leave, or never may.
    fn settle(&mut self, settled: Result<(), CommitError>) -> Result<(), CommitError> {
        let Some(Waiting { receipts, permit, .. }) = self.waiting.pop_front() else {
            return Ok(());
        };
        match &settled {
            Ok(()) => self.write(receipts.frames, permit),
            Err(error) => {
                let refusal = Refusal::NotCommitted(error.to_string()).to_string();
                encode::error(self.version, &refusal, receipts.first.as_deref(), &[], &mut self.out);
            }
        }
        settled
    }

    fn write(&mut self, frames: Vec<u8>, permit: Option<OwnedSemaphorePermit>) {
        if self.out.is_empty() {
            self.out = frames;
        } else {
            self.out.extend_from_slice(&frames);
        }
        merge(&mut self.out_permit, permit);
    }

    /// Writes what is ready. `false` if the client does not read.
    async fn flush(&mut self) -> bool {
        if self.heard && !self.out.is_empty() {
            let write = async {
                self.writer.write_all(&self.out).await?;
                // TLS may hold a part back until it is told.
                self.writer.flush().await
            };
            match timeout(self.write_time, write).await {
                Ok(Ok(())) => {
                    self.written_at = Instant::now();
                    for loan in self.done.drain(..) {
                        if loan.confirm().is_err() {
                            // The spool is closed, and the process about to end.
                            break;
                        }
                    }
                }
                // The reading side will see it too, after what came before.
                Ok(Err(_)) => self.heard = false,
                Err(_elapsed) => return false,
            }
        }
        self.out = Vec::new();
        self.out_permit = None;
        // What was not written goes back.
        self.done.clear();
        true
    }

    /// At half the interval: being late is allowed, being too late is not.
    fn beat_due(&self) -> Option<Instant> {
        self.beat.filter(|_| self.heard).map(|interval| self.written_at + interval / 2)
    }
}

/// Waits until the frames may leave, or never may; for ever if there are none.
async fn settled(foremost: Option<&Waiting>) -> Result<(), CommitError> {
    match foremost {
        Some(Waiting { ticket: Some(ticket), .. }) => ticket.committed().await,
        Some(Waiting { ticket: None, .. }) => Ok(()),
        None => pending().await,
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => pending().await,
    }
}

fn merge(permit: &mut Option<OwnedSemaphorePermit>, more: Option<OwnedSemaphorePermit>) {
    match (permit.as_mut(), more) {
        (Some(permit), Some(more)) => permit.merge(more),
        (None, more) => *permit = more,
        (Some(_), None) => {}
    }
}
