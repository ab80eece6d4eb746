//! The next hops' words on what was lent, until they are written.

use std::ops::RangeInclusive;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::spool::Verdict;

/// Words that are written with the next lines: nobody waits for them, and to write so many at once costs little more
/// than one.
pub(super) const SETTLES_ENOUGH: usize = 16;
/// Words that are written by themselves.
pub(super) const SETTLES_MAX: usize = 128;

/// The next hop's word on the rows of a lease over a link.
pub(super) type Settle = (usize, RangeInclusive<i64>, Verdict);

/// The next hops' words that are not taken to be written yet. No more than there are leases.
#[derive(Debug, Default)]
pub(super) struct Words(Mutex<Vec<Settle>>);

impl Words {
    /// Adds one; tells how many there are.
    pub(super) fn add(&self, settle: Settle) -> usize {
        let mut words = self.lock();
        words.push(settle);
        words.len()
    }

    pub(super) fn take(&self) -> Vec<Settle> {
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Settle>> {
        // Nothing panics while it is held.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The same words, with one for leases that follow each other.
pub(super) fn joined(mut words: Vec<Settle>) -> Vec<Settle> {
    words.sort_unstable_by_key(|(link, rows, _)| (*link, *rows.start()));
    words.dedup_by(|(link, rows, verdict), (last_link, last_rows, last_verdict)| {
        let follows = link == last_link && *rows.start() == last_rows.end() + 1 && verdict == last_verdict;
        if follows {
            *last_rows = *last_rows.start()..=*rows.end();
        }
        follows
    });
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn like_words_on_leases_that_follow_each_other_become_one() {
        let delivered = |link, rows| (link, rows, Verdict::Delivered);
        let aside = |rows| (0, rows, Verdict::SetAside("bad".to_owned()));
        let words = vec![
            delivered(0, 4..=4),
            delivered(1, 1..=1),
            delivered(0, 1..=3),
            delivered(1, 3..=3),
            aside(5..=5),
            delivered(0, 6..=6),
            delivered(0, 7..=8),
        ];
        let expected = [
            delivered(0, 1..=4),
            aside(5..=5),
            delivered(0, 6..=8),
            delivered(1, 1..=1),
            delivered(1, 3..=3),
        ];
        assert_eq!(joined(words), expected);
    }
}
