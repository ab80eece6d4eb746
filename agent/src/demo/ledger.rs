//! Metrics by identity, name and second: which there were, and which came twice.
//!
//! One ledger holds what us-east and dmz-web have receipted, the other what came to Graphite. What the first has
//! and the second has not is missing. A name that has a value every second costs one span, however long
//! the demo runs.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A ledger. Cheap to clone: clones are the same ledger.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ledger(Arc<Mutex<Books>>);

#[derive(Debug, Default)]
struct Books {
    seconds: HashMap<Box<[u8]>, Seconds>,
    counts: Counts,
}

/// What a ledger holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Identities.
    pub(crate) metrics: u64,
    /// Copies of metrics that were there before.
    pub(crate) copies: u64,
    /// Lines that are no `name value timestamp`.
    pub(crate) odd: u64,
}

impl Ledger {
    /// Enters `lines`, each ended by LF.
    pub(crate) fn enter(&self, lines: &[u8]) {
        let mut books = self.books();
        for line in lines.split(|&octet| octet == b'\n').filter(|line| !line.is_empty()) {
            books.enter(line);
        }
    }

    pub(crate) fn counts(&self) -> Counts {
        self.books().counts
    }

    /// How many metrics of this ledger `other` does not have.
    pub(crate) fn missing_in(&self, other: &Self) -> u64 {
        let (books, other) = (self.books(), other.books());
        let nothing = Seconds::default();
        let missing = books
            .seconds
            .iter()
            .map(|(name, seconds)| seconds.missing_in(other.seconds.get(name).unwrap_or(&nothing)));
        missing.sum()
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        // Nothing in it is left half-done by a panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Books {
    fn enter(&mut self, line: &[u8]) {
        let Some((name, second)) = identity(line) else {
            self.counts.odd += 1;
            return;
        };
        let is_new = match self.seconds.get_mut(name) {
            Some(seconds) => seconds.insert(second),
            None => self.seconds.entry(name.into()).or_default().insert(second),
        };
        if is_new {
            self.counts.metrics += 1;
        } else {
            self.counts.copies += 1;
        }
    }
}

/// Name and timestamp of `name value timestamp`.
fn identity(line: &[u8]) -> Option<(&[u8], i64)> {
    let mut fields = line.split(|&octet| octet == b' ');
    let (name, _value, timestamp) = (fields.next()?, fields.next()?, fields.next()?);
    let second = std::str::from_utf8(timestamp).ok()?.parse().ok()?;
    fields.next().is_none().then_some((name, second))
}

/// A set of seconds: spans from first to last, in order, with a gap between each two.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seconds(Vec<(i64, i64)>);

impl Seconds {
    /// `false` if it was there.
    fn insert(&mut self, second: i64) -> bool {
        let spans = &mut self.0;
        let next = spans.partition_point(|&(first, _)| first <= second);
        let joins_next = spans.get(next).is_some_and(|&(first, _)| first == second + 1);
        let before = next.checked_sub(1).map(|before| spans[before].1);
        match before {
            Some(last) if last >= second => return false,
            Some(last) if last + 1 == second && joins_next => {
                spans[next - 1].1 = spans[next].1;
                spans.remove(next);
            }
            Some(last) if last + 1 == second => spans[next - 1].1 = second,
            _ if joins_next => spans[next].0 = second,
            _ => spans.insert(next, (second, second)),
        }
        true
    }

    fn missing_in(&self, other: &Self) -> u64 {
        self.0.iter().map(|&span| length(span) - other.covered(span)).sum()
    }

    /// How many seconds of a span are in the set.
    fn covered(&self, (first, last): (i64, i64)) -> u64 {
        let from = self.0.partition_point(|&(_, end)| end < first);
        let spans = self.0[from..].iter().take_while(|&&(start, _)| start <= last);
        spans.map(|&(start, end)| length((start.max(first), end.min(last)))).sum()
    }
}

fn length((first, last): (i64, i64)) -> u64 {
    last.abs_diff(first) + 1
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn counts(metrics: u64, copies: u64, odd: u64) -> Counts {
        Counts { metrics, copies, odd }
    }

    #[test]
    fn an_identity_is_a_name_and_a_second() {
        let ledger = Ledger::default();
        ledger.enter(b"a 1 10\na 1 11\nb 1 10\na 2 10\n");
        assert_eq!(ledger.counts(), counts(3, 1, 0));
    }

    #[test]
    fn what_is_no_metric_is_counted_apart() {
        let ledger = Ledger::default();
        ledger.enter(b"a 1\na 1 x\na 1 1 1\n\n\xff\na 1 99999999999999999999\na 1 1\n");
        assert_eq!(ledger.counts(), counts(1, 0, 5));
    }

    #[test]
    fn what_never_came_is_missing() {
        let (sent, came) = (Ledger::default(), Ledger::default());
        sent.enter(b"a 1 10\na 1 11\na 1 12\nb 1 10\n");
        assert_eq!(sent.missing_in(&came), 4);
        came.enter(b"a 1 11\nstranger 1 1\n");
        assert_eq!(sent.missing_in(&came), 3);
        came.enter(b"b 1 10\na 1 12\na 1 10\n");
        assert_eq!(sent.missing_in(&came), 0);
    }

    #[test]
    fn a_value_every_second_costs_one_span() {
        let mut seconds = Seconds::default();
        assert!((0..1000).filter(|second| second % 3 != 1).all(|second| seconds.insert(second)));
        assert!((0..1000).filter(|second| second % 3 == 1).all(|second| seconds.insert(second)));
        assert_eq!(seconds, Seconds(vec![(0, 999)]));
    }

    proptest! {
        #[test]
        fn spans_are_a_set(mine in prop::collection::vec(0..40_i64, 0..60), others in prop::collection::vec(0..40_i64, 0..60)) {
            let (mut spans, mut set) = (Seconds::default(), BTreeSet::new());
            for second in mine {
                prop_assert_eq!(spans.insert(second), set.insert(second));
            }
            prop_assert!(spans.0.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0));
            let (mut other, mut other_set) = (Seconds::default(), BTreeSet::new());
            for second in others {
                other.insert(second);
                other_set.insert(second);
            }
            prop_assert_eq!(spans.missing_in(&other), set.difference(&other_set).count() as u64);
        }
    }
}
