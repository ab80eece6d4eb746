//! A batch on its way out: neighbouring rows, joined.

use forwarder::Batch;
use forwarder::batch::{BATCH_PARTS_MAX, BATCH_RAW_BYTES_MAX};

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

/// What is read to be lent, up to a number of bytes of lines; but at least one batch.
pub(super) struct Portion {
    raw_bytes_max: usize,
    raw_bytes: usize,
    lent: Vec<Lent>,
}

impl Portion {
    pub(super) fn new(raw_bytes_max: usize) -> Self {
        Self { raw_bytes_max, raw_bytes: 0, lent: Vec::new() }
    }

    /// Adds the batch of row `id`; tells whether it still fits.
    pub(super) fn add(&mut self, id: i64, batch: Batch) -> bool {
        self.raw_bytes += batch.raw_bytes();
        if self.raw_bytes > self.raw_bytes_max && !self.lent.is_empty() {
            return false;
        }
        let apart = match self.lent.last_mut() {
            Some(last) => last.join(id, batch),
            None => Some(batch),
        };
        self.lent.extend(apart.map(|batch| Lent { first: id, last: id, batch }));
        true
    }

    pub(super) fn into_lent(self) -> Vec<Lent> {
        self.lent
    }
}

impl Lent {
    /// Joins the batch of row `id` to this one if it is its neighbour and both fit into one SEND; else
    /// hands it back.
    pub(super) fn join(&mut self, id: i64, next: Batch) -> Option<Batch> {
        let follows = match (self.batch.parts.last(), next.parts.first()) {
            (Some(last), Some(first)) => last.seq + 1 == first.seq,
            _ => false,
        };
        let fits = self.batch.parts.len() + next.parts.len() <= BATCH_PARTS_MAX
            && self.batch.raw_bytes() + next.raw_bytes() <= BATCH_RAW_BYTES_MAX;
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

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use forwarder::{Encoding, Epoch, Label, Part};

    use super::*;

    /// The batch of row `seq`.
    fn batch(seq: u64, raw_bytes: u32) -> Batch {
        let label = Label { origin: "us".into(), epoch: Epoch([7; 16]), hops: Vec::new() };
        let parts = vec![Part { seq, lines: 1, raw_bytes, body: Bytes::new(), plain: None }];
        Batch { label: Some(label), encoding: Encoding::Zstd, parts, accepted_ms: 1..=1 }
    }

    /// How many batches of `raw_bytes` each become one.
    fn joined(raw_bytes: u32) -> usize {
        let mut lent = Lent { first: 1, last: 1, batch: batch(1, raw_bytes) };
        while lent.join(lent.last + 1, batch(lent.last.unsigned_abs() + 1, raw_bytes)).is_none() {}
        lent.batch.parts.len()
    }

    /// What a trickle leaves behind, many small batches, must not grow a head that no broker takes.
    #[test]
    fn the_parts_of_one_send_are_bounded_in_bytes_and_in_number() {
        assert_eq!(joined(1024), 64);
        assert_eq!(joined(42), BATCH_PARTS_MAX);
    }
}
