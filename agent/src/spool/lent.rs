//! A batch on its way out: neighbouring rows, joined.

use forwarder::Batch;
use forwarder::batch::BATCH_RAW_BYTES_MAX;

/// A batch that was read to be lent: neighbouring rows, joined.
#[derive(Debug)]
pub struct Lent {
    /// The first row; the lease is known by it.
    pub first: i64,
    /// The last row.
    pub last: i64,
    /// What goes over the wire.
    pub batch: Batch,
}

impl Lent {
    /// Joins the batch of row `id` to this one if it is its neighbour and both fit into one SEND; else
    /// hands it back.
    pub(super) fn join(&mut self, id: i64, next: Batch) -> Option<Batch> {
        let follows = match (self.batch.parts.last(), next.parts.first()) {
            (Some(last), Some(first)) => last.seq + 1 == first.seq,
            _ => false,
        };
        let fits = self.batch.raw_bytes() + next.raw_bytes() <= BATCH_RAW_BYTES_MAX;
        let alike = self.batch.label == next.label && self.batch.encoding == next.encoding;
        if !(follows && fits && alike && self.last + 1 == id) {
            return Some(next);
        }
        let first_ms = *self.batch.accepted_ms.start().min(next.accepted_ms.start());
        let last_ms = *self.batch.accepted_ms.end().max(next.accepted_ms.end());
        self.batch.accepted_ms = first_ms..=last_ms;
        self.batch.parts.extend(next.parts);
        self.last = id;
        None
    }
}
