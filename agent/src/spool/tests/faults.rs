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

fn append_now(spool: &mut Spool, lines: &str) {
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

/// Drains a link to the end and tells what it got.
async fn drain(desk: &Desk) -> String {
    let mut source = SpoolSource::new(desk.clone(), 0);
    let mut drained = String::new();
    while desk.has_waiting(0) || !drained.contains("after.the.damage") {
        let lease = source.lease().await.unwrap();
        drained.push_str(&lines_of(&lease));
        let rows = desk.leases(0).end(lease.end()).unwrap();
        desk.settle(0, rows, Verdict::Delivered).await.unwrap();
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
    let lent = spool.lend(0, usize::MAX).unwrap();
    spool.transact(|writer| writer.drop_excess(1)).unwrap();
    assert_eq!(spool.report().unwrap().links[0].dropped_spool_limit.lines, 1, "only a lent one was left");
    let rows = spool.links[0].leases.end(leases::key_of(lent[0].first)).unwrap();
    spool.transact(|writer| writer.settle(0, rows, &Verdict::Delivered)).unwrap();
    let report = spool.report().unwrap();
    assert_eq!(report.links[0].dropped_spool_limit.lines, 0);
    assert_eq!(report.links[0].delivered.lines, 1);
}

#[test]
fn a_link_at_its_own_limit_loses_its_own_oldest_and_stops_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let mut two = config(dir.path());
    two.links.push(LinkConfig { name: "archive".to_owned(), max_size_bytes: Some(20_000) });
    two.link_sets = vec![vec![0, 1]];
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
