//! The open transactions of a session: lines that are checked and wait for their COMMIT. Bounded in
//! number, bytes and time. No clock: the caller tells `now`.

use std::time::Duration;

use tokio::time::Instant;

use crate::ingest::line::{self, Checked};

use super::Limits;
use super::budget::Share;
use super::refusal::{Refusal, quoted};

/// What a session has begun and not ended.
#[derive(Debug)]
pub(super) struct Transactions {
    count_max: usize,
    bytes_max: usize,
    time_max: Duration,
    open: Vec<Transaction>,
    /// Of the bytes that all sessions share; covers `open`.
    share: Share,
}

#[derive(Debug)]
struct Transaction {
    name: Vec<u8>,
    begun: Instant,
    bytes: usize,
    checked: Checked,
}

impl Transactions {
    pub(super) fn new(limits: &Limits, share: Share) -> Self {
        Self {
            count_max: limits.transactions,
            bytes_max: limits.transaction_bytes,
            time_max: limits.transaction_time,
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
        let transaction =
            Transaction { name: name.to_vec(), begun: now, bytes: 0, checked: Checked::default() };
        self.open.push(transaction);
        Ok(())
    }

    /// Adds the lines of a SEND. `false` if none of them is good.
    pub(super) fn add(&mut self, name: &[u8], body: &[u8], now_seconds: i64) -> Result<bool, Refusal> {
        let index = self.index(name)?;
        let transaction = &mut self.open[index];
        let (count, bytes) = (transaction.checked.count, transaction.checked.lines.len());
        line::check(body, now_seconds, &mut transaction.checked);
        // Lines grow by their timestamps; refused ones are kept as they came.
        let bytes = (transaction.checked.lines.len() - bytes).max(body.len());
        transaction.bytes += bytes;
        let any_good = transaction.checked.count > count;
        let bytes = self.share.bytes() + bytes;
        if bytes > self.bytes_max {
            return Err(Refusal::TransactionBytes(self.bytes_max));
        }
        if !self.share.resize(bytes) {
            return Err(Refusal::Memory);
        }
        Ok(any_good)
    }

    /// Ends it and hands out its lines, to be committed or dropped, with the share that covers them.
    pub(super) fn end(&mut self, name: &[u8]) -> Result<(Checked, Share), Refusal> {
        let index = self.index(name)?;
        let ended = self.open.swap_remove(index);
        Ok((ended.checked, self.share.split(ended.bytes)))
    }

    fn index(&self, name: &[u8]) -> Result<usize, Refusal> {
        let index = self.open.iter().position(|open| open.name == name);
        index.ok_or_else(|| Refusal::TransactionUnknown(quoted(name)))
    }
}
