//! Dead letters keep their bounds, and leave the room to what is good.

use super::*;
use crate::spool::seal::Press;

fn reject(from: &str, bytes: usize) -> Reject {
    Reject {
        at_ms: 0,
        from: Sender { input: Input::Graphite, peer: from.into() },
        reason: "not a line".into(),
        line: vec![b'x'; bytes],
    }
}

fn refuse(spool: &mut Spool, rejects: Vec<Reject>) {
    let sealed = Press::default().seal(RawBatch { rejects, ..RawBatch::default() }, 0);
    spool.transact(|writer| writer.append(&sealed)).unwrap();
}

fn kept(spool: &Spool) -> (i64, i64) {
    let sql = "SELECT count(*), sum(length(line)) FROM reject";
    spool.db.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap()
}

/// Room for 2 MiB of dead letters.
fn small(dir: &Path) -> SpoolConfig {
    SpoolConfig { max_size_bytes: Some(16 << 20), ..config(dir) }
}

#[test]
fn dead_letters_never_fill_the_spool() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(small(dir.path()), 0).unwrap();
    for _ in 0..100 {
        refuse(&mut spool, (0..100).map(|_| reject("a", 4000)).collect());
    }
    assert!(!spool.is_full());
    let (rows, bytes) = kept(&spool);
    assert_eq!((rows, bytes), (524, 524 * 4000), "the most that fit into 2 MiB");
    let report = spool.report().unwrap();
    assert_eq!((report.rejects, report.rejects_trimmed), (rows, 10_000 - 524_u64));
}

#[test]
fn the_bound_outlives_a_start_and_the_newest_stays_whatever_its_size() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(config(dir.path()), 0).unwrap();
    refuse(&mut spool, vec![reject("a", 1 << 20), reject("b", 1 << 20), reject("c", 1 << 20)]);
    drop(spool);
    let mut spool = Spool::open(small(dir.path()), 0).unwrap();
    assert_eq!(kept(&spool), (2, 2 << 20), "a bound that is lower now");
    refuse(&mut spool, vec![reject("d", 3 << 20)]);
    assert_eq!(kept(&spool), (1, 3 << 20));
}

#[test]
fn a_transaction_that_fails_counts_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(small(dir.path()), 0).unwrap();
    let sealed =
        Press::default().seal(RawBatch { rejects: vec![reject("a", 1 << 20); 2], ..RawBatch::default() }, 0);
    for _ in 0..3 {
        let failed = spool.transact(|writer| {
            writer.append(&sealed)?;
            Err::<(), _>(rusqlite::Error::QueryReturnedNoRows)
        });
        assert!(failed.is_err());
    }
    refuse(&mut spool, vec![reject("a", 1 << 20); 2]);
    assert_eq!(kept(&spool), (2, 2 << 20));
}
