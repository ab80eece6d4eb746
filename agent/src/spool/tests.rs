//! The spool and its desk, on a real file.

use std::path::Path;
use std::sync::Arc;

use forwarder::{Clock, Source};
use futures_util::FutureExt;
use tokio::task::unconstrained;

use super::*;
use crate::metrics::Metrics;

mod faults;
mod fresh;
mod full;
mod migration;
mod model;
mod rejects;

fn config(dir: &Path) -> SpoolConfig {
    SpoolConfig::for_test(dir)
}

fn raw(lines: &str) -> RawBatch {
    RawBatch {
        raw: lines.as_bytes().to_vec(),
        lines: u32::try_from(lines.lines().count()).unwrap(),
        ..RawBatch::default()
    }
}

/// What happens to a spool under way once its file is found to be corrupt.
fn replace(spool: &mut Spool) {
    let now_ms = spool.replaced_ms.map_or(0, |last| last + 60_000);
    let corrupt = rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_CORRUPT), None);
    spool.replace_corrupt(now_ms, corrupt).unwrap();
}

/// Runs the spool's thread beside `test`.
async fn with_desk<F: Future>(spool: Spool, test: impl FnOnce(Desk) -> F) -> F::Output {
    let metrics = Arc::new(Metrics::new().unwrap());
    let (desk, worker) = Desk::new(spool, metrics, Clock::system());
    let thread =
        std::thread::spawn(|| worker.run().inspect_err(|error| eprintln!("the desk ended: {error:?}")));
    let output = test(desk).await;
    thread.join().unwrap().unwrap();
    output
}

async fn append(desk: &Desk, lines: &str) {
    let commit = Arc::<Commit>::default();
    let sealed = desk.seal(raw(lines), 0);
    desk.append(vec![sealed], Arc::clone(&commit), desk.slot().await);
    commit.settled().await.unwrap();
}

fn lines_of(lease: &forwarder::Lease) -> String {
    let mut lines = Vec::new();
    lease.batch().append_lines(&mut lines).unwrap();
    String::from_utf8(lines).unwrap()
}

#[tokio::test]
async fn what_is_appended_is_lent_and_survives_a_reopen() {
    let dir = tempfile::tempdir().unwrap();
    let spool = Spool::open(config(dir.path()), 0).unwrap();
    with_desk(spool, async |desk| {
        append(&desk, "a 1 1\n").await;
        append(&desk, "b 2 2\n").await;
        let mut source = SpoolSource::new(desk.clone(), 0);
        let lease = source.lease().await.unwrap();
        assert_eq!(lines_of(&lease), "a 1 1\nb 2 2\n", "neighbours travel together");
    })
    .await;

    let spool = Spool::open(config(dir.path()), 0).unwrap();
    assert_eq!(spool.report().unwrap().links[0].backlog.lines, 2);
    with_desk(spool, async |desk| {
        append(&desk, "c 3 3\n").await;
        let mut source = SpoolSource::new(desk.clone(), 0);
        let first = source.lease().await.unwrap();
        let second = source.lease().await.unwrap();
        assert_eq!(lines_of(&first), "a 1 1\nb 2 2\n");
        assert_eq!(lines_of(&second), "c 3 3\n", "another start has another epoch");
        assert_ne!(first.batch().label, second.batch().label);
        drop(first);
        assert_eq!(lines_of(&source.lease().await.unwrap()), "a 1 1\nb 2 2\n", "given back, lent first");
    })
    .await;
}

/// The pump, told to stop, waits for nothing beyond its grace.
#[tokio::test]
async fn a_word_of_the_next_hop_waits_for_no_room() {
    let dir = tempfile::tempdir().unwrap();
    let spool = Spool::open(config(dir.path()), 0).unwrap();
    with_desk(spool, async |desk| {
        append(&desk, "a 1 1\n").await;
        let mut source = SpoolSource::new(desk.clone(), 0);
        let lease = source.lease().await.unwrap();
        let (open, gate) = std::sync::mpsc::sync_channel::<()>(1);
        let mut looking = Box::pin(desk.look(move |_| gate.recv().unwrap()));
        assert!((&mut looking).now_or_never().is_none());
        while unconstrained(desk.tick()).now_or_never().is_some() {}
        source.set_aside(lease, "cut off").now_or_never().unwrap().unwrap();
        open.send(()).unwrap();
        looking.await.unwrap();
        let aside = desk.look(|spool| spool.report().unwrap().links[0].aside.lines).await.unwrap();
        assert_eq!(aside, 1);
    })
    .await;
}

/// What is left of an almost empty file keeps its place and its number.
#[test]
fn a_drained_file_gives_its_pages_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(config(dir.path()), 0).unwrap();
    let press = seal::Press::default();
    let sealed: Vec<Sealed> = (0..4000).map(|number| press.seal(raw(&faults::noise(number)), 0)).collect();
    spool.transact(|writer| sealed.iter().try_for_each(|sealed| writer.append(sealed))).unwrap();
    let before = schema::page_counts(&spool.db).unwrap().0;
    assert!(before > VACUUM_SLICE_PAGES);
    let first = spool.lend(0, 1).unwrap().remove(0);
    let rest = first.last + 1..=4000;
    spool.transact(|writer| writer.settle(0, rest, &Verdict::Delivered)).unwrap();
    for _ in 0..2 {
        spool.look_after().unwrap();
    }
    let (pages, free) = schema::page_counts(&spool.db).unwrap();
    assert!(
        pages - free < 100 && pages < before / 10,
        "{free} of {pages} pages are free, of {before} before"
    );
    assert!(spool.file.database_bytes() < before * PAGE_BYTES / 10);
    drop(spool);
    let mut spool = Spool::open(config(dir.path()), 0).unwrap();
    let again = spool.lend(0, 1).unwrap().remove(0);
    assert_eq!((again.first, again.batch), (first.first, first.batch));
}

#[tokio::test]
async fn words_of_the_next_hop_share_a_commit_and_are_written_before_anybody_looks() {
    let dir = tempfile::tempdir().unwrap();
    let spool = Spool::open(config(dir.path()), 0).unwrap();
    let metrics = Arc::new(Metrics::new().unwrap());
    let (desk, worker) = Desk::new(spool, Arc::clone(&metrics), Clock::system());
    let thread = std::thread::spawn(|| worker.run());
    let commits = || {
        let page = String::from_utf8(metrics.text().unwrap()).unwrap();
        let count = page.lines().find_map(|line| line.strip_prefix("packetboat_commit_seconds_count "));
        count.unwrap().parse::<usize>().unwrap()
    };
    let delivered =
        async || desk.look(|spool| spool.report().unwrap().links[0].delivered.lines).await.unwrap();

    let mut source = SpoolSource::new(desk.clone(), 0);
    let mut leases = Vec::new();
    for _ in 0..4 {
        append(&desk, "a 1 1\n").await;
        leases.push(source.lease().await.unwrap());
    }
    assert_eq!(commits(), 4);
    let end = |lease: forwarder::Lease| {
        desk.end_lease(0, lease.end(), Verdict::Delivered).unwrap();
    };
    end(leases.remove(0));
    end(leases.remove(0));
    assert_eq!(delivered().await, 2);
    assert_eq!(commits(), 5, "both in one");

    end(leases.remove(0));
    append(&desk, "b 2 2\n").await;
    assert_eq!(commits(), 6, "with the next lines");

    end(leases.remove(0));
    drop((source, desk));
    thread.join().unwrap().unwrap();
    assert_eq!(commits(), 7, "and at the end");
    let spool = Spool::open(config(dir.path()), 0).unwrap();
    let link = &spool.report().unwrap().links[0];
    assert_eq!((link.delivered.lines, link.backlog.lines), (4, 1));
}

/// What the books in the file say of the first link's delivered lines; nobody looks through the desk.
fn delivered_in(dir: &Path) -> i64 {
    let file = Connection::open(dir.join("spool.db")).unwrap();
    let delivered = "SELECT coalesce(sum(lines), 0) FROM tally WHERE link > 0 AND reason = 'delivered'";
    file.query_row(delivered, [], |row| row.get(0)).unwrap()
}

/// Sends a line and has it confirmed, `count` times; then commits one more.
async fn deliver(desk: &Desk, source: &mut SpoolSource, count: usize) {
    for _ in 0..count {
        append(desk, "a 1 1\n").await;
        let lease = source.lease().await.unwrap();
        desk.end_lease(0, lease.end(), Verdict::Delivered).unwrap();
    }
    append(desk, "last 1 1\n").await;
    source.lease().await.unwrap();
}

#[tokio::test]
async fn few_words_of_the_next_hop_wait_for_more() {
    let dir = tempfile::tempdir().unwrap();
    let spool = Spool::open(config(dir.path()), 0).unwrap();
    with_desk(spool, async |desk| {
        let mut source = SpoolSource::new(desk.clone(), 0);
        deliver(&desk, &mut source, 15).await;
        assert_eq!(delivered_in(dir.path()), 0);
        deliver(&desk, &mut source, 1).await;
        assert_eq!(delivered_in(dir.path()), 16);
    })
    .await;
}

/// Else what is at the next hop already would count against the limit, and others would be dropped for it.
#[tokio::test]
async fn where_the_oldest_may_be_dropped_no_word_waits() {
    let dir = tempfile::tempdir().unwrap();
    let spool = SpoolConfig { when_full: WhenFull::DropOldest, ..config(dir.path()) };
    with_desk(Spool::open(spool, 0).unwrap(), async |desk| {
        let mut source = SpoolSource::new(desk.clone(), 0);
        deliver(&desk, &mut source, 1).await;
        assert_eq!(delivered_in(dir.path()), 1);
    })
    .await;
}
