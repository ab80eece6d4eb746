//! What a spool does with a wrong file, a second owner, a damaged file, a cut log and its limits.

use std::fs;
use std::os::unix::fs::FileExt;

use super::*;
use crate::spool::seal::Press;

fn open_error(dir: &Path) -> String {
    match Spool::open(config(dir), 0) {
        Ok(_) => panic!("it opened"),
        Err(error) => error.to_string(),
    }
}

/// Lines that do not compress well, so that they fill pages.
pub(super) fn noise(number: usize) -> String {
    (0..200)
        .map(|line| {
            let value = (number as u64 * 1000 + line).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            format!("noise.m{value:x} {value} {line}\n")
        })
        .collect()
}

pub(super) fn append_now(spool: &mut Spool, lines: &str) {
    let sealed = Press::default().seal(raw(lines), 0);
    spool.transact(|writer| writer.append(&sealed)).unwrap();
}

#[test]
fn every_commit_is_fsynced() {
    let dir = tempfile::tempdir().unwrap();
    let spool = Spool::open(config(dir.path()), 0).unwrap();
    let pragma = |name| {
        spool.db.pragma_query_value(None, name, |row| row.get::<_, rusqlite::types::Value>(0)).unwrap()
    };
    assert_eq!(pragma("journal_mode"), rusqlite::types::Value::Text("wal".to_owned()));
    assert_eq!(pragma("synchronous"), rusqlite::types::Value::Integer(2), "FULL");
    assert_eq!(pragma("auto_vacuum"), rusqlite::types::Value::Integer(2), "INCREMENTAL");
}

#[test]
fn a_second_owner_is_told_who_the_first_is() {
    let dir = tempfile::tempdir().unwrap();
    let _first = Spool::open(config(dir.path()), 0).unwrap();
    let error = open_error(dir.path());
    assert!(error.contains(&format!("belongs to process {}", std::process::id())), "{error}");
    assert!(error.contains("spool.dir"), "{error}");
}

#[test]
fn a_file_that_is_not_ours_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("spool.db");
    let other = Connection::open(&path).unwrap();
    other.execute_batch("CREATE TABLE photos (id INTEGER)").unwrap();
    drop(other);
    let before = fs::read(&path).unwrap();
    let error = open_error(dir.path());
    assert!(error.contains("is not a packetboat spool"), "{error}");
    assert_eq!(fs::read(&path).unwrap(), before);

    fs::write(&path, "a letter to my aunt").unwrap();
    assert!(open_error(dir.path()).contains("is not a packetboat spool"));
}

#[test]
fn a_newer_schema_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    drop(Spool::open(config(dir.path()), 0).unwrap());
    let path = dir.path().join("spool.db");
    fs::OpenOptions::new().write(true).open(&path).unwrap().write_all_at(&[0, 0, 0, 99], 60).unwrap();
    let before = fs::read(&path).unwrap();
    let error = open_error(dir.path());
    assert!(error.contains("schema version 99") && error.contains("install the newer release"), "{error}");
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn a_place_that_cannot_be_written_is_named() {
    // sysfs lets nobody make a directory, not even root.
    let error = open_error(Path::new("/sys/packetboat"));
    assert!(error.contains("/sys/packetboat cannot be written"), "{error}");
    assert!(error.contains("must belong to the user"), "{error}");
}

#[test]
fn a_file_in_the_place_of_the_directory_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("spool");
    fs::write(&path, "").unwrap();
    for path in [path.clone(), path.join("below")] {
        let error = open_error(&path);
        assert!(error.contains(&format!("{} is not a directory", path.display())), "{error}");
    }
}

#[test]
fn a_creation_that_was_cut_off_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("spool.db.new"), "half a file").unwrap();
    fs::write(dir.path().join("spool.db"), "").unwrap();
    let mut spool = Spool::open(config(dir.path()), 0).unwrap();
    append_now(&mut spool, "a 1 1\n");
}

/// Pages are overwritten all over the file, wherever they fall: it goes on with what can be read, and
/// what comes in afterwards is all there.
#[tokio::test]
async fn a_corrupt_file_is_set_aside_and_salvaged() {
    // The first pages hold the roots of the tables, which nothing but the pages below them can make up for.
    for (damaged_page, lost_batches_max) in [(1, 100), (7, 100), (40, 20), (90, 20), (200, 20)] {
        let dir = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(config(dir.path()), 0).unwrap();
        (0..100).for_each(|number| append_now(&mut spool, &noise(number)));
        drop(spool);
        let file = fs::OpenOptions::new().write(true).open(dir.path().join("spool.db")).unwrap();
        file.write_all_at(&[0xa5; 3 * 4096], damaged_page * 4096).unwrap();

        let spool = Spool::open(config(dir.path()), 1_700_000_000_000).unwrap();
        let drained = with_desk(spool, async |desk| {
            append(&desk, "after.the.damage 1 1\n").await;
            drain(&desk).await
        })
        .await;
        assert!(drained.contains("after.the.damage 1 1\n"), "page {damaged_page}");
        let lost = 100 * 200 + 1 - drained.lines().count();
        assert!(lost <= lost_batches_max * 200, "page {damaged_page}: {lost} lines are lost");
    }
}

pub(super) fn two_links(dir: &Path) -> SpoolConfig {
    let mut two = config(dir);
    two.links.push(LinkConfig { name: "archive".to_owned(), max_size_bytes: None });
    two.link_sets = vec![LinkSet { queue: 0, links: vec![0, 1] }, LinkSet { queue: 0, links: vec![1] }];
    two
}

/// Twenty batches, of which the first link has had five, dislikes two, and lost one to a limit; the other
/// needs all but that one.
fn with_a_past(dir: &Path) {
    let mut spool = Spool::open(two_links(dir), 0).unwrap();
    (0..20).for_each(|number| append_now(&mut spool, &noise(number)));
    spool.transact(|writer| writer.drop_excess(1)).unwrap();
    for number in 0..7 {
        let lent = spool.lend(0, 1).unwrap();
        let rows = spool.links[0].leases.end(leases::key_of(lent[0].first)).unwrap();
        let verdict = if number < 5 { Verdict::Delivered } else { Verdict::SetAside("disliked".to_owned()) };
        spool.transact(|writer| writer.settle(0, rows, &verdict)).unwrap();
    }
}

/// Whatever page is damaged, those of the books too (I3).
#[test]
fn after_a_salvage_the_books_balance() {
    let dir = tempfile::tempdir().unwrap();
    with_a_past(dir.path());
    let file = fs::read(dir.path().join("spool.db")).unwrap();
    let (mut losses, mut forgotten) = (0, 0);
    for page in 1..file.len() / 4096 {
        let dir = tempfile::tempdir().unwrap();
        let mut damaged = file.clone();
        damaged[page * 4096..][..4096].fill(0xa5);
        fs::write(dir.path().join("spool.db"), damaged).unwrap();
        let mut spool = Spool::open(two_links(dir.path()), 0).unwrap();
        replace(&mut spool);
        let report = spool.report().unwrap();
        for link in &report.links {
            let dropped: i64 = link.dropped().iter().map(|(_, amount)| amount.lines).sum();
            let known = link.delivered.lines + link.backlog.lines + link.aside.lines + dropped;
            assert_eq!(accepted_for(&spool, &link.name), known, "page {page}, link {}: {link:?}", link.name);
            forgotten += usize::from(report.accepted.lines != known);
        }
        assert_eq!(Inspection::open(dir.path()).unwrap().verify().unwrap(), [""; 0], "page {page}");
        losses += usize::from(report.links.iter().any(|link| link.dropped_corrupt.lines > 0));
    }
    assert!(losses > 20, "most pages hold lines: {losses}");
    assert!(forgotten <= 1, "only the page of the books themselves is no longer known: {forgotten}");
}

fn accepted_for(spool: &Spool, link: &str) -> i64 {
    let sql =
        "SELECT sum(lines) FROM tally JOIN link ON link.id = link WHERE name = ?1 AND reason = 'accepted'";
    spool.db.query_row(sql, [link], |row| row.get::<_, Option<i64>>(0)).unwrap().unwrap_or(0)
}

/// What was in it is known from the books, though it cannot be read.
#[test]
fn a_batch_that_is_lost_to_a_corrupt_file_is_entered_as_dropped() {
    let dir = tempfile::tempdir().unwrap();
    with_a_past(dir.path());
    let mut spool = Spool::open(two_links(dir.path()), 0).unwrap();
    spool.db.execute("DELETE FROM body WHERE id = 10", []).unwrap();
    let before = spool.report().unwrap();
    replace(&mut spool);
    let after = spool.report().unwrap();
    for (before, after) in before.links.iter().zip(&after.links) {
        let lost = &after.dropped_corrupt;
        assert_eq!((lost.batches, lost.lines), (1, 200), "{}", after.name);
        assert_eq!(after.backlog.lines, before.backlog.lines - 200);
        assert_eq!(after.backlog.bytes, before.backlog.bytes - lost.bytes);
        assert_eq!((after.delivered, after.aside), (before.delivered, before.aside));
    }
    assert_eq!(after.accepted, before.accepted);
}

/// What was set aside long ago keeps its number, and most of what came since is gone.
#[test]
fn a_salvage_steps_over_the_numbers_that_are_gone() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(config(dir.path()), 0).unwrap();
    (1..=2).for_each(|number| append_now(&mut spool, &format!("m{number} 1 1\n")));
    spool.db.pragma_update(None, "foreign_keys", false).unwrap();
    for (table, column) in [("body", "id"), ("batch", "id"), ("delivery", "batch")] {
        let far = format!("UPDATE {table} SET {column} = 1 << 60 WHERE {column} = 2");
        assert_eq!(spool.db.execute(&far, []).unwrap(), 1);
    }
    replace(&mut spool);
    assert_eq!(spool.report().unwrap().links[0].backlog.lines, 2);
}

/// Writes over the root of a table, under a spool that goes on.
fn damage_table(spool: &Spool, dir: &Path, table: &str) {
    spool.db.pragma(None, "wal_checkpoint", "TRUNCATE", |_| Ok(())).unwrap();
    let root = "SELECT rootpage FROM sqlite_schema WHERE name = ?1";
    let root: u64 = spool.db.query_row(root, [table], |row| row.get(0)).unwrap();
    let file = fs::OpenOptions::new().write(true).open(dir.join("spool.db")).unwrap();
    file.write_all_at(&[0xa5; 4096], (root - 1) * 4096).unwrap();
}

/// A batch that one link has had, and that another needs, waits for both again if nobody knows who had it:
/// the agent lends it again at once, not at its next start. What is lent is not lent twice.
#[test]
fn after_a_salvage_what_waits_again_is_lent_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(two_links(dir.path()), 0).unwrap();
    (1..=3).for_each(|number| append_now(&mut spool, &format!("m{number} 1 1\n")));
    let lent = spool.lend(0, 1).unwrap();
    let had = spool.links[0].leases.end(leases::key_of(lent[0].first)).unwrap();
    spool.transact(|writer| writer.settle(0, had, &Verdict::Delivered)).unwrap();
    let out = spool.lend(0, 1).unwrap();
    assert_eq!((out[0].first, out[0].last), (2, 2));
    let only_for_the_other = Press::default().seal(raw("m4 1 1\n"), 1);
    spool.transact(|writer| writer.append(&only_for_the_other)).unwrap();

    damage_table(&spool, dir.path(), "delivery");
    replace(&mut spool);
    let rows = |lent: &[Lent]| lent.iter().map(|lent| (lent.first, lent.last)).collect::<Vec<_>>();
    assert!(spool.links[0].leases.has_waiting());
    assert_eq!(rows(&spool.lend(0, usize::MAX).unwrap()), [(1, 1), (3, 4)]);
    assert_eq!(rows(&spool.lend(1, usize::MAX).unwrap()), [(1, 4)]);
    spool.take_back(0, &out);
    assert_eq!(rows(&spool.lend(0, usize::MAX).unwrap()), [(2, 2)]);
    assert!(!spool.links[0].leases.has_waiting());
}

/// The word on a lease may be on its way to the spool's thread while a file is replaced, or a limit drops.
#[test]
fn what_was_confirmed_and_not_written_yet_is_neither_lent_again_nor_lost_to_the_books() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(config(dir.path()), 0).unwrap();
    append_now(&mut spool, "a 1 1\n");
    let lent = spool.lend(0, usize::MAX).unwrap();
    let rows = spool.links[0].leases.end(leases::key_of(lent[0].first)).unwrap();
    replace(&mut spool);
    assert_eq!(spool.lend(0, usize::MAX).unwrap().len(), 0);
    spool.transact(|writer| writer.drop_excess(1)).unwrap();
    spool.transact(|writer| writer.settle(0, rows, &Verdict::Delivered)).unwrap();
    let link = &spool.report().unwrap().links[0];
    assert_eq!((link.delivered.lines, link.dropped_spool_limit.lines), (1, 0));
    append_now(&mut spool, "b 1 1\n");
    assert_eq!(spool.lend(0, usize::MAX).unwrap().len(), 1);
}

/// Drains a link to the end and tells what it got.
async fn drain(desk: &Desk) -> String {
    let mut source = SpoolSource::new(desk.clone(), 0);
    let mut drained = String::new();
    while desk.has_waiting(0) || !drained.contains("after.the.damage") {
        let lease = source.lease().await.unwrap();
        drained.push_str(&lines_of(&lease));
        desk.end_lease(0, lease.end(), Verdict::Delivered).unwrap();
    }
    drained
}

/// A power cut leaves a log that ends anywhere: what was committed before that is there, in order.
#[test]
fn the_log_may_be_cut_at_any_byte() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(config(dir.path()), 0).unwrap();
    (0..10).for_each(|number| append_now(&mut spool, &format!("m{number} 1 1\n")));
    let database = fs::read(dir.path().join("spool.db")).unwrap();
    let log = fs::read(dir.path().join("spool.db-wal")).unwrap();

    let mut kept_before = 0;
    for cut in (0..=log.len()).step_by(997).chain([log.len()]) {
        let copy = tempfile::tempdir().unwrap();
        fs::write(copy.path().join("spool.db"), &database).unwrap();
        fs::write(copy.path().join("spool.db-wal"), &log[..cut]).unwrap();
        let mut spool = Spool::open(config(copy.path()), 0).unwrap();
        let kept = usize::try_from(spool.report().unwrap().accepted.batches).unwrap();
        assert!(kept >= kept_before, "cut at {cut}");
        kept_before = kept;
        let mut lines = Vec::new();
        for lent in spool.lend(0, usize::MAX).unwrap() {
            lent.batch.append_lines(&mut lines).unwrap();
        }
        let expected: String = (0..kept).map(|number| format!("m{number} 1 1\n")).collect();
        assert_eq!(String::from_utf8(lines).unwrap(), expected, "cut at {cut}");
    }
    assert_eq!(kept_before, 10);
}

#[test]
fn bytes_that_changed_on_disk_are_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(config(dir.path()), 0).unwrap();
    append_now(&mut spool, "a 1 1\n");
    append_now(&mut spool, "b 2 2\n");
    spool.db.execute("UPDATE body SET bytes = x'00112233' WHERE id = 1", []).unwrap();
    drop(spool);
    let mut spool = Spool::open(config(dir.path()), 0).unwrap();
    let faults = Inspection::open(dir.path()).unwrap().verify().unwrap();
    assert_eq!(faults, ["batch 1: its bytes are missing, or are not those that were written"]);
    let lent = spool.lend(0, usize::MAX).unwrap();
    assert_eq!(lent.len(), 1);
    assert_eq!(lent[0].first, 2);
    let report = spool.report().unwrap();
    assert_eq!(report.links[0].aside.batches, 1);
    assert_eq!(report.links[0].backlog.batches, 1);
}

#[test]
fn books_that_are_wrong_are_found() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(config(dir.path()), 0).unwrap();
    append_now(&mut spool, "a 1 1\n");
    let verify = || Inspection::open(dir.path()).unwrap().verify().unwrap();
    assert_eq!(verify(), [""; 0]);
    spool.db.execute("UPDATE tally SET lines = 7 WHERE reason = 'backlog'", []).unwrap();
    let faults = verify();
    assert_eq!(faults.len(), 1);
    assert!(faults[0].starts_with("link eu, backlog: counted 1 lines in 1 batches"), "{faults:?}");
    assert!(faults[0].contains("but the books say 7 lines"), "{faults:?}");
}

#[test]
fn at_its_limit_it_refuses_and_takes_again_once_drained() {
    let dir = tempfile::tempdir().unwrap();
    let mut small = config(dir.path());
    small.max_size_bytes = Some(4 << 20);
    let mut spool = Spool::open(small, 0).unwrap();
    let mut number = 0;
    while !spool.is_full() {
        append_now(&mut spool, &noise(number));
        number += 1;
        assert!(number < 10_000, "it never fills");
    }
    loop {
        let lent = spool.lend(0, 1 << 20).unwrap();
        if lent.is_empty() {
            break;
        }
        for lent in lent {
            let rows = spool.links[0].leases.end(leases::key_of(lent.first)).unwrap();
            spool.transact(|writer| writer.settle(0, rows, &Verdict::Delivered)).unwrap();
        }
    }
    assert!(!spool.is_full());
    assert_eq!(spool.report().unwrap().links[0].backlog, Default::default());
}

#[test]
fn drop_oldest_drops_the_oldest_that_is_not_lent_and_counts_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut small = config(dir.path());
    small.max_size_bytes = Some(4 << 20);
    small.when_full = WhenFull::DropOldest;
    let mut spool = Spool::open(small, 0).unwrap();
    append_now(&mut spool, "lent.first 1 1\n");
    let lent = spool.lend(0, 1).unwrap();
    let press = Press::default();
    for number in 0..1000 {
        let sealed = press.seal(raw(&noise(number)), 0);
        let excess = spool.bytes_to_drop([&sealed].into_iter());
        spool
            .transact(|writer| {
                writer.drop_excess(excess)?;
                writer.append(&sealed)
            })
            .unwrap();
        assert!(spool.usage().unwrap().pages_bytes < 4 << 20);
    }
    let report = spool.report().unwrap();
    let link = &report.links[0];
    assert!(link.dropped_spool_limit.lines > 0);
    assert_eq!(
        report.accepted.lines,
        link.backlog.lines + link.dropped_spool_limit.lines,
        "the books balance"
    );
    assert!(!spool.is_full());

    // What was lent is still there, and its receipt counts.
    let rows = spool.links[0].leases.end(leases::key_of(lent[0].first)).unwrap();
    spool.transact(|writer| writer.settle(0, rows, &Verdict::Delivered)).unwrap();
    assert_eq!(spool.report().unwrap().links[0].delivered.lines, 1);
}

#[test]
fn a_late_receipt_of_what_was_dropped_counts_as_delivered() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(config(dir.path()), 0).unwrap();
    append_now(&mut spool, "a 1 1\n");
    append_now(&mut spool, "b 2 2\n");
    let lent = spool.lend(0, usize::MAX).unwrap();
    spool.transact(|writer| writer.drop_excess(1)).unwrap();
    assert_eq!(spool.report().unwrap().links[0].dropped_spool_limit.lines, 1, "only lent ones were left");
    let rows = spool.links[0].leases.end(leases::key_of(lent[0].first)).unwrap();
    spool.transact(|writer| writer.settle(0, rows, &Verdict::Delivered)).unwrap();
    let report = spool.report().unwrap();
    assert_eq!(report.links[0].dropped_spool_limit.lines, 0);
    assert_eq!(report.links[0].delivered.lines, 2);
}

/// A transaction that fails leaves nothing behind in memory either.
#[test]
fn what_a_failed_transaction_dropped_or_settled_is_as_before() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(config(dir.path()), 0).unwrap();
    append_now(&mut spool, "a 1 1\n");
    let lent = spool.lend(0, usize::MAX).unwrap();
    let fail = || Err::<(), _>(rusqlite::Error::QueryReturnedNoRows);
    let failed = spool.transact(|writer| writer.drop_excess(1).and_then(|()| fail()));
    assert!(failed.is_err());
    assert_eq!(spool.dropped_while_lent.len(), 0);
    spool.transact(|writer| writer.drop_excess(1)).unwrap();
    let rows = spool.links[0].leases.end(leases::key_of(lent[0].first)).unwrap();
    let delivered = Verdict::Delivered;
    let failed = spool.transact(|writer| writer.settle(0, rows.clone(), &delivered).and_then(|()| fail()));
    assert!(failed.is_err());
    spool.transact(|writer| writer.settle(0, rows, &delivered)).unwrap();
    assert_eq!(spool.report().unwrap().links[0].delivered.lines, 1);
    assert_eq!(spool.dropped_while_lent.len(), 0);
}

#[test]
fn what_was_dropped_while_lent_and_is_given_back_is_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(config(dir.path()), 0).unwrap();
    append_now(&mut spool, "a 1 1\n");
    append_now(&mut spool, "b 2 2\n");
    let lent = spool.lend(0, usize::MAX).unwrap();
    spool.transact(|writer| writer.drop_excess(1)).unwrap();
    assert_eq!(spool.dropped_while_lent.len(), 1, "its receipt may still come");
    spool.take_back(0, &lent);
    assert_eq!(spool.lend(0, usize::MAX).unwrap().len(), 1, "the other one");
    assert_eq!(spool.dropped_while_lent.len(), 0);
    let report = spool.report().unwrap();
    assert_eq!((report.links[0].dropped_spool_limit.lines, report.links[0].backlog.lines), (1, 1));
}

#[test]
fn a_link_at_its_own_limit_loses_its_own_oldest_and_stops_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let mut two = config(dir.path());
    two.links.push(LinkConfig { name: "archive".to_owned(), max_size_bytes: Some(20_000) });
    two.link_sets = vec![LinkSet { queue: 0, links: vec![0, 1] }];
    let mut spool = Spool::open(two, 0).unwrap();
    let press = Press::default();
    for number in 0..50 {
        let sealed = press.seal(raw(&noise(number)), 0);
        spool
            .transact(|writer| {
                writer.drop_excess(0)?;
                writer.append(&sealed)
            })
            .unwrap();
    }
    let report = spool.report().unwrap();
    assert_eq!(report.links[0].backlog.batches, 50);
    let archive = &report.links[1];
    assert!(archive.dropped_link_limit.batches > 0);
    assert_eq!(archive.backlog.batches + archive.dropped_link_limit.batches, 50);
}

#[test]
fn the_backlog_of_a_link_that_is_gone_stays_and_is_shown() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(config(dir.path()), 0).unwrap();
    append_now(&mut spool, "a 1 1\n");
    drop(spool);
    let mut renamed = config(dir.path());
    renamed.links[0].name = "eu2".to_owned();
    let report = Spool::open(renamed, 0).unwrap().report().unwrap();
    assert_eq!(report.links[0].name, "eu");
    assert!(!report.links[0].is_configured);
    assert_eq!(report.links[0].backlog.lines, 1);
    assert!(report.links[1].is_configured);
}
