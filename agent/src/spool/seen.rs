//! Which batches were taken from other nodes: intervals of sequence numbers for each start of each
//! origin, so that nothing is taken twice. Bounded: when there are too many, the oldest are forgotten,
//! and a duplicate may pass; a batch is never taken for one that was not seen.

use rusqlite::{Connection, OptionalExtension, params};

/// Intervals kept of one start of an origin. An origin without holes has one.
const INTERVALS_MAX: i64 = 4096;
/// Starts kept of an origin.
const EPOCHS_MAX: i64 = 64;
/// Starts of an origin in which batches are missed: the present one, and that whose backlog came before it.
const EPOCHS_MISSED: i64 = 2;

/// Records that `seq` of `identity` is taken. `false` if it was before, and is to be taken for a duplicate.
pub(super) fn record(tx: &Connection, identity: i64, seq: u64) -> Result<bool, rusqlite::Error> {
    let before = tx
        .prepare_cached(
            "SELECT first, last FROM seen WHERE identity = ?1 AND first <= ?2 ORDER BY first DESC LIMIT 1",
        )?
        .query_row(params![identity, seq], |row| Ok((row.get::<_, u64>(0)?, row.get::<_, u64>(1)?)))
        .optional()?;
    if before.is_some_and(|(_, last)| seq <= last) {
        return Ok(false);
    }
    let grown = before.filter(|(_, last)| last + 1 == seq).map(|(first, _)| first);
    // What begins right after it is joined to it.
    let last = tx
        .prepare_cached("DELETE FROM seen WHERE identity = ?1 AND first = ?2 RETURNING last")?
        .query_row(params![identity, seq.saturating_add(1)], |row| row.get::<_, u64>(0))
        .optional()?
        .unwrap_or(seq);
    match grown {
        Some(first) => {
            tx.prepare_cached("UPDATE seen SET last = ?3 WHERE identity = ?1 AND first = ?2")?
                .execute(params![identity, first, last])?;
        }
        None => {
            tx.prepare_cached("INSERT INTO seen (identity, first, last) VALUES (?1, ?2, ?3)")?
                .execute(params![identity, seq, last])?;
            bound_intervals(tx, identity)?;
        }
    }
    Ok(true)
}

fn bound_intervals(tx: &Connection, identity: i64) -> Result<(), rusqlite::Error> {
    tx.prepare_cached(
        "DELETE FROM seen WHERE identity = ?1 AND first < (
             SELECT first FROM seen WHERE identity = ?1 ORDER BY first DESC LIMIT 1 OFFSET ?2)",
    )?
    .execute(params![identity, INTERVALS_MAX - 1])?;
    Ok(())
}

/// Batches of `origin` that have not come, though others with lower and with higher numbers have. Of its
/// latest starts only: what a start has left behind stays, and is known by then. Reads two times
/// [`INTERVALS_MAX`] rows at most.
pub(super) fn missing(db: &Connection, origin: &str) -> Result<i64, rusqlite::Error> {
    db.prepare_cached(
        "SELECT CAST(total(gaps) AS INTEGER) FROM (
             SELECT max(last) - min(first) + 1 - sum(last - first + 1) AS gaps FROM seen WHERE identity IN (
                 SELECT id FROM identity WHERE origin = ?1 ORDER BY id DESC LIMIT ?2)
             GROUP BY identity)",
    )?
    .query_row(params![origin, EPOCHS_MISSED], |row| row.get(0))
}

/// Forgets the oldest starts of `origin` beyond the bound; to be called when a new one is met.
pub(super) fn bound_epochs(tx: &Connection, origin: &str) -> Result<(), rusqlite::Error> {
    tx.execute(
        "DELETE FROM seen WHERE identity IN (
             SELECT id FROM identity WHERE origin = ?1 ORDER BY id DESC LIMIT -1 OFFSET ?2)",
        params![origin, EPOCHS_MAX],
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn table() -> Connection {
        let db = Connection::open_in_memory().unwrap();
        db.execute_batch(include_str!("schema.sql")).unwrap();
        db
    }

    fn intervals(db: &Connection) -> Vec<(u64, u64)> {
        let mut rows = db.prepare("SELECT first, last FROM seen ORDER BY identity, first").unwrap();
        rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap().map(Result::unwrap).collect()
    }

    fn check(seqs: &[u64], expected: &[(u64, u64)]) {
        let db = table();
        for &seq in seqs {
            assert!(record(&db, 1, seq).unwrap(), "{seq} comes for the first time");
        }
        assert_eq!(intervals(&db), expected);
        for &seq in seqs {
            assert!(!record(&db, 1, seq).unwrap(), "{seq} comes again");
        }
        assert_eq!(intervals(&db), expected);
    }

    #[test]
    fn neighbours_share_an_interval_in_whatever_order_they_come() {
        check(&[1, 2, 3], &[(1, 3)]);
        check(&[3, 2, 1], &[(1, 3)]);
        check(&[1, 3, 2], &[(1, 3)]);
        check(&[1, 3, 5], &[(1, 1), (3, 3), (5, 5)]);
        check(&[5, 1, 4, 2], &[(1, 2), (4, 5)]);
        let last = i64::MAX.unsigned_abs() - 1;
        check(&[last, last - 1, 0, 1], &[(0, 1), (last - 1, last)]);
    }

    #[test]
    fn starts_are_told_apart() {
        let db = table();
        assert!(record(&db, 1, 7).unwrap());
        assert!(record(&db, 2, 7).unwrap());
        assert!(!record(&db, 1, 7).unwrap());
    }

    #[test]
    fn what_lies_between_those_seen_is_missing_in_the_last_two_starts() {
        let db = table();
        for (start, origin) in [(1_i64, "a"), (2, "b"), (3, "a"), (4, "a")] {
            let row = params![start, origin, start.to_be_bytes().repeat(2)];
            db.execute("INSERT INTO identity VALUES (?1, ?2, ?3)", row).unwrap();
        }
        let come = |identity, seqs: &[u64], expected| {
            for &seq in seqs {
                assert!(record(&db, identity, seq).unwrap());
            }
            assert_eq!(missing(&db, "a").unwrap(), expected, "{seqs:?} of start {identity}");
        };
        come(3, &[], 0);
        come(3, &[100], 0);
        come(3, &[105, 107], 5);
        come(3, &[106, 103], 3);
        come(4, &[1, 3], 4);
        come(2, &[1, 9], 4);
        come(1, &[1, 9], 4);
        assert_eq!(missing(&db, "c").unwrap(), 0);
        // A number that no origin reaches in order keeps nobody from looking.
        come(3, &[u64::try_from(i64::MAX).unwrap() - 1], i64::MAX);
        come(4, &[u64::try_from(i64::MAX).unwrap() - 1], i64::MAX);
    }

    #[test]
    fn the_oldest_intervals_are_forgotten() {
        let db = table();
        let many = u64::try_from(INTERVALS_MAX).unwrap() + 10;
        for seq in 1..=many {
            assert!(record(&db, 1, 2 * seq).unwrap());
        }
        assert_eq!(intervals(&db).len(), usize::try_from(INTERVALS_MAX).unwrap());
        assert!(record(&db, 1, 2).unwrap(), "a duplicate may pass");
        assert!(!record(&db, 1, 2 * many).unwrap());
    }

    #[test]
    fn the_oldest_starts_are_forgotten() {
        let db = table();
        for start in 1..=EPOCHS_MAX + 2 {
            db.execute("INSERT INTO identity VALUES (?1, 'a', ?1)", [start.to_be_bytes()]).unwrap_err();
            db.execute("INSERT INTO identity VALUES (?1, 'a', ?2)", params![start, start.to_be_bytes()])
                .unwrap();
            assert!(record(&db, start, 1).unwrap());
            bound_epochs(&db, "a").unwrap();
        }
        assert_eq!(intervals(&db).len(), usize::try_from(EPOCHS_MAX).unwrap());
        assert!(record(&db, 1, 1).unwrap());
        assert!(!record(&db, EPOCHS_MAX + 2, 1).unwrap());
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_set(seqs in prop::collection::vec(0..40_u64, 0..200)) {
            let (db, mut set) = (table(), std::collections::BTreeSet::new());
            for seq in seqs {
                prop_assert_eq!(record(&db, 1, seq).unwrap(), set.insert(seq));
            }
            let gaps = set.iter().zip(set.iter().skip(1)).filter(|(a, b)| *a + 1 != **b).count();
            prop_assert_eq!(intervals(&db).len(), if set.is_empty() { 0 } else { gaps + 1 });
        }
    }
}
