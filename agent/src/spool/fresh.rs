//! The newest batches, as they are still at hand. A link that keeps up is lent them from here: to read them back, check
//! and decode them took a fifth of the CPU of a live stream.

use std::collections::VecDeque;

use forwarder::Batch;

use crate::spool::leases::Span;
use crate::spool::lent::Portion;
use crate::spool::{LinkSet, SpoolLink};

/// What is kept at hand: bytes of lines,
const BYTES_MAX: usize = 4 * 1024 * 1024;
/// and, for each batch, what it takes however small it is.
const BATCH_BYTES: usize = 512;

/// A batch that was appended.
pub(super) struct Fresh {
    pub(super) id: i64,
    /// Its number in the configuration.
    pub(super) link_set: usize,
    pub(super) batch: Batch,
}

impl Fresh {
    fn bytes(&self) -> usize {
        self.batch.raw_bytes() + BATCH_BYTES
    }
}

/// All that was committed from one row on.
pub(super) struct FreshBatches {
    /// In the order of their rows.
    batches: VecDeque<Fresh>,
    bytes: usize,
    /// The row from which on they are all.
    first: i64,
}

impl FreshBatches {
    pub(super) fn none() -> Self {
        Self { batches: VecDeque::new(), bytes: 0, first: i64::MAX }
    }

    /// To be called before a transaction that appends from row `next` on: whether one of `links` keeps up, so that it
    /// may be lent that from here.
    pub(super) fn prepare(&mut self, links: &[SpoolLink], next: i64) -> bool {
        if self.batches.is_empty() {
            self.first = next;
        }
        links.iter().for_each(|link| link.leases.skip_to(next));
        links.iter().any(|link| link.leases.cursor() + 1 >= self.first)
    }

    /// After it: all that it appended; `None` if they are not wanted, or others may be gone.
    pub(super) fn committed(&mut self, fresh: Option<Vec<Fresh>>) {
        let Some(fresh) = fresh else {
            *self = Self::none();
            return;
        };
        self.bytes += fresh.iter().map(Fresh::bytes).sum::<usize>();
        self.batches.extend(fresh);
        while self.bytes > BYTES_MAX {
            self.forget_oldest();
        }
    }

    /// Adds to `portion` what is to be lent of `span` of link number `link`, if all that waits there is at hand.
    pub(super) fn lend(
        &self,
        link: usize,
        link_sets: &[LinkSet],
        span: &Span,
        portion: &mut Portion,
    ) -> bool {
        let from = *span.rows.start();
        if span.is_given_back || from < self.first {
            return false;
        }
        let is_waiting = |fresh: &&Fresh| fresh.id >= from && link_sets[fresh.link_set].links.contains(&link);
        let mut waiting = self.batches.iter().filter(is_waiting);
        while waiting.next().is_some_and(|fresh| portion.add(fresh.id, fresh.batch.clone())) {}
        true
    }

    /// Forgets what was lent to all of `links`.
    pub(super) fn forget_lent(&mut self, links: &[SpoolLink]) {
        let lent = links.iter().map(|link| link.leases.cursor()).min().unwrap_or(0);
        while self.batches.front().is_some_and(|oldest| oldest.id <= lent) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some(oldest) = self.batches.pop_front() {
            self.bytes -= oldest.bytes();
            self.first = oldest.id + 1;
        }
    }
}
