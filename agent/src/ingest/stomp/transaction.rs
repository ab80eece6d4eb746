//! The open transactions of a session: lines that are checked, and answers to messages, which wait for
//! their COMMIT. Bounded in number, bytes and time. No clock: the caller tells `now`.

use std::time::Duration;

use tokio::time::Instant;

use crate::ingest::line::Checked;

use super::Limits;
use super::budget::Share;
use super::refusal::{Refusal, quoted};
use super::subscriptions::Named;

/// What a session has begun and not ended.
#[derive(Debug)]
pub(super) struct Transactions {
    count_max: usize,
    bytes_max: usize,
    time_max: Duration,
    queues: usize,
    open: Vec<Transaction>,
    /// Of the bytes that all sessions share; covers `open`.
    share: Share,
}

#[derive(Debug)]
struct Transaction {
    name: Vec<u8>,
    begun: Instant,
    bytes: usize,
    /// By queue.
    checked: Vec<Checked>,
    answers: Vec<Answer>,
}

/// An ACK or a NACK that waits for its COMMIT.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) named: Named,
    pub(super) is_ack: bool,
}

/// What a transaction held, to be committed or dropped.
#[derive(Debug)]
pub(super) struct Ended {
    /// By queue.
    pub(super) checked: Vec<Checked>,
    pub(super) answers: Vec<Answer>,
    /// Covers the memory of the lines.
    pub(super) share: Share,
}

impl Transactions {
    pub(super) fn new(limits: &Limits, queues: usize, share: Share) -> Self {
        Self {
            count_max: limits.transactions,
            bytes_max: limits.transaction_bytes,
            time_max: limits.transaction_time,
            queues,
            open: Vec::new(),
            share,
        }
    }

    pub(super) fn any_open(&self) -> bool {
        !self.open.is_empty()
    }

    /// When one will have been open for too long, and the refusal for that.
    pub(super) fn next_due(&self) -> Option<(Instant, Refusal)> {
        let oldest = self.open.iter().min_by_key(|open| open.begun)?;
        let (name, seconds) = (quoted(&oldest.name), self.time_max.as_secs());
        Some((oldest.begun + self.time_max, Refusal::TransactionTime { name, seconds }))
    }

    pub(super) fn begin(&mut self, name: &[u8], now: Instant) -> Result<(), Refusal> {
        if self.open.iter().any(|open| open.name == name) {
            return Err(Refusal::TransactionOpen(quoted(name)));
        }
        if self.open.len() == self.count_max {
            return Err(Refusal::TransactionCount(self.count_max));
        }
        let checked = std::iter::repeat_with(Checked::default).take(self.queues).collect();
        let name = name.to_vec();
        let name_bytes = name.len();
        self.open.push(Transaction { name, begun: now, bytes: 0, checked, answers: Vec::new() });
        self.grow(self.open.len() - 1, name_bytes)
    }

    /// Adds the lines of a SEND, a body of `body_bytes`, by `check`, which tells whether any of them is good.
    pub(super) fn add(
        &mut self,
        name: &[u8],
        queue: usize,
        body_bytes: usize,
        check: impl FnOnce(&mut Checked) -> bool,
    ) -> Result<bool, Refusal> {
        let index = self.index(name)?;
        let transaction = &mut self.open[index];
        let checked = &mut transaction.checked[queue];
        let bytes = checked.lines.len();
        let any_good = check(checked);
        // Lines grow by their timestamps; refused ones are kept as they came.
        let bytes = (checked.lines.len() - bytes).max(body_bytes);
        self.grow(index, bytes)?;
        Ok(any_good)
    }

    /// Adds an ACK or a NACK.
    pub(super) fn answer(&mut self, name: &[u8], answer: Answer) -> Result<(), Refusal> {
        let index = self.index(name)?;
        let bytes = size_of::<Answer>() + size_of_val(answer.named.as_slice());
        self.open[index].answers.push(answer);
        self.grow(index, bytes)
    }

    fn grow(&mut self, index: usize, bytes: usize) -> Result<(), Refusal> {
        self.open[index].bytes += bytes;
        let bytes = self.share.bytes() + bytes;
        if bytes > self.bytes_max {
            return Err(Refusal::TransactionBytes(self.bytes_max));
        }
        if !self.share.resize(bytes) {
            return Err(Refusal::Memory);
        }
        Ok(())
    }

    /// Ends it and hands out what it held.
    pub(super) fn end(&mut self, name: &[u8]) -> Result<Ended, Refusal> {
        let index = self.index(name)?;
        let Transaction { bytes, checked, answers, .. } = self.open.swap_remove(index);
        Ok(Ended { checked, answers, share: self.share.split(bytes) })
    }

    fn index(&self, name: &[u8]) -> Result<usize, Refusal> {
        let index = self.open.iter().position(|open| open.name == name);
        index.ok_or_else(|| Refusal::TransactionUnknown(quoted(name)))
    }
}
