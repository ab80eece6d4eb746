//! What is lent as it is still at hand, and what is not.

use super::faults::{append_now, noise, two_links};
use super::*;
use crate::spool::seal::Press;

/// From now on whatever is read back from the file is found to be damaged.
fn spoil(spool: &Spool) {
    spool.db.execute("UPDATE body SET bytes = x'00'", []).unwrap();
}

fn append_for(spool: &mut Spool, link_set: usize, lines: &str) {
    let sealed = Press::default().seal(raw(lines), link_set);
    spool.transact(|writer| writer.append(&sealed)).unwrap();
}

/// All that is lent to a link, until nothing is.
fn lent(spool: &mut Spool, link: usize) -> String {
    let mut lines = Vec::new();
    while spool.links[link].leases.has_waiting() {
        let lent = spool.lend(link, 64 * 1024).unwrap();
        lent.iter().for_each(|lent| lent.batch.append_lines(&mut lines).unwrap());
    }
    String::from_utf8(lines).unwrap()
}

#[test]
fn a_link_that_keeps_up_is_lent_what_was_committed_without_a_read() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(config(dir.path()), 0).unwrap();
    for round in 0..3 {
        append_now(&mut spool, &format!("a 1 {round}\n"));
        append_now(&mut spool, &format!("b 2 {round}\n"));
        spoil(&spool);
        assert_eq!(lent(&mut spool, 0), format!("a 1 {round}\nb 2 {round}\n"));
    }
}

#[test]
fn each_link_is_lent_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(two_links(dir.path()), 0).unwrap();
    append_for(&mut spool, 1, "archive 1 1\n");
    append_for(&mut spool, 0, "both 1 1\n");
    append_for(&mut spool, 1, "archive 2 2\n");
    append_for(&mut spool, 0, "both 2 2\n");
    spoil(&spool);
    assert_eq!(lent(&mut spool, 0), "both 1 1\nboth 2 2\n");
    assert_eq!(lent(&mut spool, 1), "archive 1 1\nboth 1 1\narchive 2 2\nboth 2 2\n");
}

#[test]
fn a_link_that_fell_behind_reads_until_it_has_caught_up() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(config(dir.path()), 0).unwrap();
    let batch = |number| noise(number).repeat(6);
    // More than is kept at hand.
    let count = 4 * 1024 * 1024 / batch(0).len() * 2;
    (0..count).for_each(|number| append_now(&mut spool, &batch(number)));
    assert_eq!(lent(&mut spool, 0), (0..count).map(batch).collect::<String>());
    append_now(&mut spool, "a 1 1\n");
    spoil(&spool);
    assert_eq!(lent(&mut spool, 0), "a 1 1\n");
}

#[test]
fn what_a_limit_dropped_is_not_lent() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(config(dir.path()), 0).unwrap();
    append_now(&mut spool, "a 1 1\n");
    append_now(&mut spool, "b 2 2\n");
    spool.transact(|writer| writer.drop_excess(1)).unwrap();
    assert_eq!(lent(&mut spool, 0), "b 2 2\n");
}

#[test]
fn an_idle_spool_keeps_nothing_at_hand() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(config(dir.path()), 0).unwrap();
    append_now(&mut spool, "a 1 1\n");
    spool.look_after().unwrap();
    spool.look_after().unwrap();
    spoil(&spool);
    assert_eq!(lent(&mut spool, 0), "");
    assert_eq!(spool.report().unwrap().links[0].aside.batches, 1);
}
