//! Spools of earlier releases open, and lose nothing. One file for each version that was ever released,
//! as that release wrote it; they are never made anew.

use std::fs;

use super::*;

/// Two batches for the link `eu`, one line each, and a dead letter.
const VERSION_1: &[u8] = include_bytes!("version-1.db.zst");

#[test]
fn a_spool_of_version_1_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("spool.db"), zstd::decode_all(VERSION_1).unwrap()).unwrap();
    let mut spool = Spool::open(config(dir.path()), 0).unwrap();
    let mut lines = Vec::new();
    for lent in spool.lend(0, usize::MAX).unwrap() {
        lent.batch.append_lines(&mut lines).unwrap();
    }
    assert_eq!(String::from_utf8(lines).unwrap(), "version.one 1 1700000000\nversion.one 2 1700000001\n");
    let report = spool.report().unwrap();
    assert_eq!((report.accepted.lines, report.links[0].backlog.lines, report.rejects), (2, 2, 1));
    let version: i32 = spool.db.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    assert_eq!(version, schema::VERSION);
    drop(spool);
    assert_eq!(Inspection::open(dir.path()).unwrap().verify().unwrap(), [""; 0]);
}
