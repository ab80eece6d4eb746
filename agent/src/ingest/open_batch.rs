//! The batch that is being filled, and when it is full. Pure: no clock, no lock.

use std::sync::Arc;

use forwarder::batch::{BATCH_LINES_MAX, BATCH_RAW_BYTES_MAX};
use tokio::time::Instant;

use crate::ingest::Input;
use crate::spool::{Commit, RawBatch, Reject};

/// Lines of all connections that will share one row and one commit.
#[derive(Debug, Default)]
pub(super) struct OpenBatch {
    batch: RawBatch,
    since: Option<Instant>,
    /// Settled once the batch is on disk, or never will be.
    pub(super) commit: Arc<Commit>,
}

impl OpenBatch {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// When its first line came; `None` while it is empty.
    pub(super) fn since(&self) -> Option<Instant> {
        self.since
    }

    pub(super) fn is_empty(&self) -> bool {
        self.since.is_none()
    }

    /// Whether it is not worth waiting for more.
    pub(super) fn is_full(&self) -> bool {
        self.batch.lines >= BATCH_LINES_MAX || self.batch.raw.len() >= BATCH_RAW_BYTES_MAX
    }

    /// Adds as many of `lines` as fit, accepted at `now` (monotonic, and ms since the Unix epoch), and
    /// tells how many bytes those were. `timestamps` bounds those of the lines.
    pub(super) fn fill(
        &mut self,
        lines: &[u8],
        timestamps: Option<(i64, i64)>,
        input: Input,
        (now, now_ms): (Instant, i64),
    ) -> usize {
        let (bytes, count) = self.fitting(lines);
        if count == 0 {
            return 0;
        }
        let batch = &mut self.batch;
        let (earliest, latest) = timestamps.unwrap_or((i64::MAX, i64::MIN));
        if batch.lines == 0 {
            batch.accepted_ms = (now_ms, now_ms);
            batch.timestamps = (earliest, latest);
        }
        batch.accepted_ms.1 = batch.accepted_ms.1.max(now_ms);
        batch.timestamps = (batch.timestamps.0.min(earliest), batch.timestamps.1.max(latest));
        batch.raw.extend_from_slice(&lines[..bytes]);
        batch.lines += count;
        batch.inputs[input as usize] += u64::from(count);
        self.since.get_or_insert(now);
        bytes
    }

    /// Adds what was refused at `now`, to be kept by the same commit.
    pub(super) fn refuse(&mut self, rejects: Vec<Reject>, now: Instant) {
        self.batch.rejects.extend(rejects);
        self.since.get_or_insert(now);
    }

    /// Hands out what was filled, with what settles it, and starts anew.
    pub(super) fn take(&mut self) -> (RawBatch, Arc<Commit>) {
        let full = std::mem::take(self);
        (full.batch, full.commit)
    }

    /// Bytes and count of the leading lines that fit. A line is never too large for an empty batch.
    fn fitting(&self, lines: &[u8]) -> (usize, u32) {
        let room = BATCH_RAW_BYTES_MAX.saturating_sub(self.batch.raw.len());
        let bytes = memchr::memrchr(b'\n', &lines[..lines.len().min(room)]).map_or(0, |lf| lf + 1);
        let count = memchr::memchr_iter(b'\n', &lines[..bytes]).count();
        let count_max = BATCH_LINES_MAX.saturating_sub(self.batch.lines);
        match u32::try_from(count) {
            Ok(count) if count <= count_max => (bytes, count),
            _ => {
                let last = memchr::memchr_iter(b'\n', lines).zip(1..).take(count_max as usize).last();
                last.map_or((0, 0), |(lf, count)| (lf + 1, count))
            }
        }
    }
}
