//! A spool, worked on as its desk does it, on the thread of the instrument.

use std::sync::Arc;

use agent::metrics::Metrics;
use agent::spool::{
    Desk, DeskWorker, Lent, LinkConfig, LinkSet, QueueConfig, RawBatch, Sealed, Spool, SpoolConfig, Verdict,
};
use forwarder::Clock;
use tempfile::TempDir;
use topology::model::WhenFull;

use crate::lines::{self, BATCH_LINES, QUEUE};

/// So many batches go into one transaction, and so many words of the next hop.
pub(crate) const BATCHES: usize = 32;
/// What a link reads at a time.
const READ_AHEAD_BYTES: usize = 512 * 1024;

/// A spool with one link, and batches for it.
pub(crate) struct Store {
    spool: Spool,
    sealed: Vec<Sealed>,
    _dir: TempDir,
}

impl Store {
    /// An empty one, through which as many batches went as are to go.
    pub(crate) fn used() -> Self {
        let (desk, _kept) = desk();
        let sealed = (0..BATCHES).map(|_| desk.seal(batch(), 0)).collect();
        let (spool, dir) = spool();
        let mut store = Self { spool, sealed, _dir: dir };
        store.store();
        let lent = store.lease();
        store.confirm(&lent);
        store
    }

    /// Commits all batches; tells their lines.
    pub(crate) fn commit(&mut self) -> usize {
        let sealed = &self.sealed;
        let committed =
            self.spool.transact(|writer| sealed.iter().try_for_each(|sealed| writer.append(sealed)));
        committed.expect("the commit");
        sealed.len() * BATCH_LINES
    }

    /// As [`Self::commit`]: it is still at hand.
    pub(crate) fn keep(&mut self) {
        self.commit();
    }

    /// The same, and nothing of it is kept at hand.
    pub(crate) fn store(&mut self) {
        self.commit();
        self.spool.forget_fresh();
    }

    /// Lends all that waits.
    pub(crate) fn lease(&mut self) -> Vec<Lent> {
        let mut all = Vec::new();
        loop {
            let lent = self.spool.lend(0, READ_AHEAD_BYTES).expect("what was committed");
            if lent.is_empty() {
                return all;
            }
            all.extend(lent);
        }
    }

    /// Writes that the next hop has them.
    pub(crate) fn confirm(&mut self, lent: &[Lent]) {
        let rows = || lent.iter().map(|lent| lent.first..=lent.last);
        let settled = self
            .spool
            .transact(|writer| rows().try_for_each(|rows| writer.settle(0, rows, &Verdict::Delivered)));
        settled.expect("the commit");
    }
}

/// A desk that nobody works at, for what it does on the caller's thread; with what it needs to stay open.
pub(crate) fn desk() -> (Desk, (DeskWorker, TempDir)) {
    let (spool, dir) = spool();
    let (desk, worker) = Desk::new(spool, Arc::new(Metrics::new().expect("metrics")), Clock::system());
    (desk, (worker, dir))
}

/// A full batch.
pub(crate) fn batch() -> RawBatch {
    let raw = lines::usual(BATCH_LINES);
    RawBatch { raw, lines: u32::try_from(BATCH_LINES).expect("few"), ..RawBatch::default() }
}

/// Lines of what was lent.
pub(crate) fn lines(lent: &Lent) -> usize {
    usize::try_from(lent.batch.lines()).expect("few")
}

fn spool() -> (Spool, TempDir) {
    let dir = tempfile::tempdir().expect("a folder");
    let config = SpoolConfig {
        dir: dir.path().to_owned(),
        node: "micro".to_owned(),
        queues: vec![QueueConfig { name: QUEUE.to_owned(), refuse_at_bytes: None }],
        links: vec![LinkConfig { name: "eu".to_owned(), max_size_bytes: None }],
        link_sets: vec![LinkSet { queue: 0, links: vec![0] }],
        gathered: Vec::new(),
        max_size_bytes: Some(64 << 20),
        when_full: WhenFull::Refuse,
    };
    (Spool::open(config, 0).expect("a spool"), dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_committed_is_lent_and_leaves_with_the_word() {
        let mut store = Store::used();
        let backlog = |store: &Store| store.spool.report().unwrap().links[0].backlog;
        assert_eq!(store.commit(), BATCHES * BATCH_LINES);
        assert_eq!(backlog(&store).lines, 32_000);
        let lent = store.lease();
        assert_eq!(lent.len(), BATCHES, "a full batch travels alone");
        let mut lines = Vec::new();
        lent[7].batch.append_lines(&mut lines).unwrap();
        assert_eq!(lines, batch().raw);
        store.confirm(&lent);
        assert_eq!(backlog(&store).lines, 0);
    }
}
