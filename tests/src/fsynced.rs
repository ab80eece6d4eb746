//! Whether every RECEIPT left only after what it speaks of was on disk: a verdict over the calls of a
//! receiver that keeps zstd bodies in SQLite's write-ahead log. Pure.
//!
//! A SEND's lines are found in the log itself: the page that holds them is decompressed as it is written.
//! Its transaction is whole with the next frame that is marked as a commit ("WAL File Format" of SQLite).
//! A sync of the log must begin after that and end before the RECEIPT begins to leave.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::Read as _;

use crate::strace::Call;

/// What has to be traced.
pub const CALLS: &str = "pwrite64,write,writev,sendto,sendmsg,fsync,fdatasync";

const LOG: &str = "spool.db-wal";
const FRAME_HEAD_BYTES: usize = 24;
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// A body that holds more than this is none.
const BODY_BYTES_MAX: u64 = 1024 * 1024;

/// What is wrong with a RECEIPT.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// It never left.
    NoReceipt(String),
    /// It left before its lines were committed to the log.
    NotWritten(String),
    /// It left before a sync of the log that began after its lines were committed had ended.
    NotSynced(String),
}

/// Judges each of `sends`: its `receipt`, and one of its lines, with the LF.
pub fn faults(calls: &[Call], sends: &BTreeMap<String, String>) -> Vec<Fault> {
    let (commits, syncs, receipts) = (commits(calls), syncs(calls), receipts(calls));
    let fault = |(id, line): (&String, &String)| {
        let Some(&left) = receipts.get(id) else { return Some(Fault::NoReceipt(id.clone())) };
        let Some(&written) = commits.get(line).filter(|&&written| written < left) else {
            return Some(Fault::NotWritten(id.clone()));
        };
        let is_between = |&(began, ended): &(usize, usize)| began > written && ended < left;
        (!syncs.iter().any(is_between)).then(|| Fault::NotSynced(id.clone()))
    };
    sends.iter().filter_map(fault).collect()
}

/// For each line, when the transaction that brought it was written in whole.
fn commits(calls: &[Call]) -> HashMap<String, usize> {
    let mut commits = HashMap::new();
    let mut lines = HashSet::new();
    let mut is_commit = false;
    for call in calls.iter().filter(|call| call.name == "pwrite64" && call.target.ends_with(LOG)) {
        let Some((ended, 1..)) = call.ended else { continue };
        if call.bytes.len() == FRAME_HEAD_BYTES {
            // The size of the database after a commit; zero in other frames.
            is_commit = call.bytes[4..8] != [0; 4];
            continue;
        }
        lines.extend(lines_of_page(&call.bytes));
        if std::mem::take(&mut is_commit) {
            for line in lines.drain() {
                commits.entry(line).or_insert(ended);
            }
        }
    }
    commits
}

/// The lines of every compressed body that lies in a page as a whole.
fn lines_of_page(page: &[u8]) -> Vec<String> {
    let starts = page.windows(ZSTD_MAGIC.len()).enumerate().filter(|(_, bytes)| *bytes == ZSTD_MAGIC);
    starts
        .filter_map(|(start, _)| decompress(&page[start..]))
        .flat_map(|body| body.split_inclusive('\n').map(str::to_owned).collect::<Vec<_>>())
        .collect()
}

fn decompress(bytes: &[u8]) -> Option<String> {
    let mut body = String::new();
    let decoder = zstd::stream::read::Decoder::with_buffer(bytes).ok()?;
    decoder.single_frame().take(BODY_BYTES_MAX).read_to_string(&mut body).ok()?;
    Some(body)
}

/// Beginnings and ends of the syncs of the log.
fn syncs(calls: &[Call]) -> Vec<(usize, usize)> {
    let of_log =
        |call: &&Call| matches!(call.name.as_str(), "fsync" | "fdatasync") && call.target.ends_with(LOG);
    let ended = |call: &Call| match call.ended {
        Some((ended, 0)) => Some((call.began, ended)),
        _ => None,
    };
    calls.iter().filter(of_log).filter_map(ended).collect()
}

/// When each RECEIPT began to leave.
fn receipts(calls: &[Call]) -> HashMap<String, usize> {
    let mut receipts = HashMap::new();
    for call in calls.iter().filter(|call| call.target.starts_with("socket:")) {
        let text = String::from_utf8_lossy(&call.bytes);
        for frame in text.split("RECEIPT\n").skip(1) {
            if let Some(id) = frame.lines().find_map(|line| line.strip_prefix("receipt-id:")) {
                receipts.entry(id.to_owned()).or_insert(call.began);
            }
        }
    }
    receipts
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG_PATH: &str = "/var/lib/spool.db-wal";

    /// Calls one after the other, each ended before the next begins.
    fn in_order(steps: &[(&str, &str, Vec<u8>)]) -> Vec<Call> {
        let call = |(line, (name, target, bytes)): (usize, &(&str, &str, Vec<u8>))| {
            let returned = if name.contains("sync") { 0 } else { bytes.len() as i64 };
            Call {
                name: (*name).to_owned(),
                target: (*target).to_owned(),
                bytes: bytes.clone(),
                began: line,
                ended: Some((line, returned)),
            }
        };
        steps.iter().enumerate().map(call).collect()
    }

    fn head(is_commit: bool) -> (&'static str, &'static str, Vec<u8>) {
        let mut head = vec![7; FRAME_HEAD_BYTES];
        head[4..8].copy_from_slice(&u32::from(is_commit).to_be_bytes());
        ("pwrite64", LOG_PATH, head)
    }

    fn page(lines: &[&str]) -> (&'static str, &'static str, Vec<u8>) {
        let mut page = b"a page, and in it ".to_vec();
        for line in lines {
            page.extend(zstd::encode_all(line.as_bytes(), 1).unwrap());
            page.extend([0, 1, 2]);
        }
        ("pwrite64", LOG_PATH, page)
    }

    fn sync() -> (&'static str, &'static str, Vec<u8>) {
        ("fdatasync", LOG_PATH, Vec::new())
    }

    fn receipt(ids: &[&str]) -> (&'static str, &'static str, Vec<u8>) {
        let frames: String = ids.iter().map(|id| format!("RECEIPT\nreceipt-id:{id}\n\n\0\n")).collect();
        ("sendto", "socket:[77]", frames.into_bytes())
    }

    #[track_caller]
    fn check(steps: &[(&str, &str, Vec<u8>)], expected: &[Fault]) {
        let sends = [("1", "a 1 1\n"), ("2", "b 2 2\n")].map(|(id, line)| (id.to_owned(), line.to_owned()));
        assert_eq!(faults(&in_order(steps), &sends.into()), expected);
    }

    #[test]
    fn a_group_that_is_synced_before_its_receipts_is_right() {
        let both = page(&["a 1 1\n", "b 2 2\n"]);
        check(&[head(true), both.clone(), sync(), receipt(&["1"]), receipt(&["2"])], &[]);
        let joined = page(&["x 0 0\na 1 1\nb 2 2\n"]);
        check(&[head(false), joined, head(true), page(&[]), sync(), receipt(&["2", "1"])], &[]);
    }

    #[test]
    fn a_receipt_before_the_sync_is_found() {
        let both = page(&["a 1 1\n", "b 2 2\n"]);
        let expected = [Fault::NotSynced("1".to_owned())];
        check(&[head(true), both.clone(), receipt(&["1"]), sync(), receipt(&["2"])], &expected);
        let never = ["1", "2"].map(|id| Fault::NotSynced(id.to_owned()));
        check(&[sync(), head(true), both, receipt(&["1", "2"])], &never);
    }

    #[test]
    fn the_sync_of_an_earlier_group_does_not_count() {
        let steps = [head(true), page(&["a 1 1\n"]), sync(), head(true), page(&["a 1 1\n", "b 2 2\n"])];
        let expected = [Fault::NotSynced("2".to_owned())];
        check(&[&steps[..], &[receipt(&["1", "2"])]].concat(), &expected);
        check(&[&steps[..], &[receipt(&["1"]), sync(), receipt(&["2"])]].concat(), &[]);
    }

    #[test]
    fn a_sync_in_the_midst_of_a_transaction_does_not_count() {
        let steps = [head(false), page(&["a 1 1\n", "b 2 2\n"]), sync(), head(true), page(&[])];
        let expected = ["1", "2"].map(|id| Fault::NotSynced(id.to_owned()));
        check(&[&steps[..], &[receipt(&["1", "2"])]].concat(), &expected);
    }

    #[test]
    fn a_sync_of_something_else_or_one_that_fails_does_not_count() {
        let written = [head(true), page(&["a 1 1\n", "b 2 2\n"])];
        let of_database = ("fdatasync", "/var/lib/spool.db", Vec::new());
        let expected = ["1", "2"].map(|id| Fault::NotSynced(id.to_owned()));
        check(&[&written[..], &[of_database, receipt(&["1", "2"])]].concat(), &expected);

        let mut calls = in_order(&[&written[..], &[sync(), receipt(&["1"])]].concat());
        calls[2].ended = Some((2, -1));
        let sends = [("1".to_owned(), "a 1 1\n".to_owned())].into();
        assert_eq!(faults(&calls, &sends), [Fault::NotSynced("1".to_owned())]);
        calls[2].ended = None;
        assert_eq!(faults(&calls, &sends), [Fault::NotSynced("1".to_owned())]);
    }

    #[test]
    fn a_sync_that_has_not_ended_when_the_receipt_leaves_does_not_count() {
        let mut calls = in_order(&[head(true), page(&["a 1 1\n"]), sync(), receipt(&["1"])]);
        calls[2].ended = Some((9, 0));
        let sends = [("1".to_owned(), "a 1 1\n".to_owned())].into();
        assert_eq!(faults(&calls, &sends), [Fault::NotSynced("1".to_owned())]);
    }

    #[test]
    fn what_was_never_written_or_never_receipted_is_found() {
        let expected = [Fault::NotWritten("1".to_owned()), Fault::NoReceipt("2".to_owned())];
        check(&[receipt(&["1"]), head(true), page(&["a 1 1\n"]), sync()], &expected);
        let expected = [Fault::NotWritten("1".to_owned()), Fault::NotWritten("2".to_owned())];
        check(&[head(true), page(&["c 3 3\n"]), sync(), receipt(&["1", "2"])], &expected);
    }
}
