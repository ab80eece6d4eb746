//! Makes the books of a salvaged spool balance again: accepted = delivered + backlog + dropped + set aside.
//!
//! The tallies of what ever was came over, those of what is there now were counted anew. What they leave
//! open of a link was in batches that cannot be read: it is lost, and entered as dropped. Where they
//! have too much, batches wait again whose delivery was known before: they are not delivered any more.

use std::collections::BTreeMap;
use std::sync::Arc;

use rusqlite::Connection;

use crate::spool::tally::{Account, NODE, Tallies, Weight};

/// The books of one link and origin, as they came over.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Books {
    /// `None`: it could not be read.
    accepted: Option<Weight>,
    delivered: Weight,
    /// In all other accounts.
    rest: Weight,
}

/// What makes [`Books`] balance, to be added to its accounts.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Correction {
    accepted: Weight,
    delivered: Weight,
    dropped: Weight,
}

/// Corrects the books of each link within the transaction of a salvage. Tells how much is lost, of all links.
pub(super) fn balance(tx: &Connection) -> Result<Weight, rusqlite::Error> {
    let mut tallies = Tallies::default();
    let mut lost = Weight::default();
    let books = read(tx)?;
    let mut accepted_by_links: BTreeMap<&Arc<str>, Weight> = BTreeMap::new();
    for ((link, origin), books) in books.iter().filter(|((link, _), _)| *link != NODE) {
        let Correction { accepted, delivered, dropped } = books.correction();
        tallies.add(*link, origin, Account::Accepted, accepted);
        tallies.add(*link, origin, Account::Delivered, delivered);
        tallies.add(*link, origin, Account::DroppedCorrupt, dropped);
        lost = lost.plus(dropped);
        let by_links = accepted_by_links.entry(origin).or_default();
        *by_links = by_links.each(books.accepted.unwrap_or_default().plus(accepted), i64::max);
    }
    // Of a batch for several links the node has accepted one.
    for (origin, by_links) in accepted_by_links {
        if books.get(&(NODE, Arc::clone(origin))).and_then(|books| books.accepted).is_none() {
            tallies.add(NODE, origin, Account::Accepted, by_links);
        }
    }
    tallies.write(tx)?;
    Ok(lost)
}

fn read(tx: &Connection) -> Result<BTreeMap<(i64, Arc<str>), Books>, rusqlite::Error> {
    let mut all: BTreeMap<(i64, Arc<str>), Books> = BTreeMap::new();
    let mut statement = tx.prepare("SELECT link, origin, reason, batches, lines, bytes FROM tally")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let origin: String = row.get(1)?;
        let reason: String = row.get(2)?;
        let weight = Weight { batches: row.get(3)?, lines: row.get(4)?, bytes: row.get(5)? };
        let books = all.entry((row.get(0)?, origin.into())).or_default();
        match reason.as_str() {
            reason if reason == Account::Accepted.as_str() => books.accepted = Some(weight),
            reason if reason == Account::Delivered.as_str() => books.delivered = weight,
            _ => books.rest = books.rest.plus(weight),
        }
    }
    Ok(all)
}

impl Books {
    fn correction(self) -> Correction {
        let known = self.delivered.plus(self.rest);
        let Some(accepted) = self.accepted else {
            return Correction { accepted: known, ..Correction::default() };
        };
        let open = accepted.minus(known);
        let zero = Weight::default();
        // Delivered sinks to nothing at most: then the accepted were more than the books know.
        let delivered = open.each(zero, i64::min).each(zero.minus(self.delivered), i64::max);
        let dropped = open.each(zero, i64::max);
        Correction { accepted: delivered.plus(dropped).minus(open), delivered, dropped }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(lines: i64) -> Weight {
        Weight { lines, ..Weight::default() }
    }

    fn check(accepted: Option<i64>, delivered: i64, rest: i64, expected: (i64, i64, i64)) {
        let books = Books { accepted: accepted.map(lines), delivered: lines(delivered), rest: lines(rest) };
        let found = books.correction();
        let (accepted_more, delivered_more, dropped) = expected;
        let expected = Correction {
            accepted: lines(accepted_more),
            delivered: lines(delivered_more),
            dropped: lines(dropped),
        };
        assert_eq!(found, expected, "{books:?}");
        assert_eq!(
            accepted.unwrap_or(0) + accepted_more,
            delivered + delivered_more + rest + dropped,
            "{books:?} balances"
        );
    }

    #[test]
    fn the_correction_balances_and_takes_nothing_below_zero() {
        check(Some(10), 4, 6, (0, 0, 0));
        check(Some(10), 4, 5, (0, 0, 1));
        check(Some(10), 4, 8, (0, -2, 0));
        check(Some(10), 4, 10, (0, -4, 0));
        check(Some(10), 4, 11, (1, -4, 0));
        check(Some(10), 0, 11, (1, 0, 0));
        check(None, 4, 6, (10, 0, 0));
        check(None, 0, 0, (0, 0, 0));
    }
}
