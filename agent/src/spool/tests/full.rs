//! A spool without room: on its disk, or at its own limit.

use super::*;
use crate::spool::seal::Press;
use crate::spool::tests::faults::noise;

fn append_now(spool: &mut Spool, lines: &str) {
    let sealed = Press::default().seal(raw(lines), 0);
    spool.transact(|writer| writer.append(&sealed)).unwrap();
}

/// From now on the file cannot grow, as on a full disk.
fn fill_the_disk(spool: &Spool) {
    let pages: i64 = spool.db.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
    spool.db.pragma_update(None, "max_page_count", pages).unwrap();
}

async fn try_append(desk: &Desk, lines: &str) -> Result<(), CommitError> {
    let commit = Arc::<Commit>::default();
    desk.append(vec![desk.seal(raw(lines), 0)], Arc::clone(&commit), desk.slot().await);
    commit.settled().await
}

#[tokio::test]
async fn on_a_full_disk_who_sends_is_told_and_what_is_kept_still_leaves() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(config(dir.path()), 0).unwrap();
    append_now(&mut spool, "kept 1 1\n");
    fill_the_disk(&spool);
    with_desk(spool, async |desk| {
        assert!(!desk.is_full());
        assert_eq!(try_append(&desk, &noise(1)).await, Err(CommitError::Full));
        assert!(!dir.path().join("spool.reserve").exists(), "it is given up");
        // This one would fit into a page that is there. But the room is for what leaves.
        assert_eq!(try_append(&desk, "a 1 1\n").await, Err(CommitError::Full));
        assert!(desk.is_full());

        let lease = SpoolSource::new(desk.clone(), 0).lease().await.unwrap();
        assert_eq!(lines_of(&lease), "kept 1 1\n");
        desk.end_lease(0, lease.end(), Verdict::Delivered).unwrap();
        let report = desk.look(|spool| spool.report().unwrap()).await.unwrap();
        assert_eq!((report.links[0].backlog.lines, report.links[0].delivered.lines), (0, 1));

        // There is room again: here the disk itself was never full.
        desk.look(|spool| spool.db.pragma_update(None, "max_page_count", 1 << 20)).await.unwrap().unwrap();
        desk.tick().await.unwrap();
        desk.room(0).await;
        assert_eq!(try_append(&desk, &noise(2)).await, Ok(()));
        assert!(dir.path().join("spool.reserve").exists());
    })
    .await;
}

fn small(dir: &Path) -> SpoolConfig {
    SpoolConfig { max_size_bytes: Some(4 << 20), ..config(dir) }
}

#[tokio::test]
async fn one_that_starts_full_says_so_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(config(dir.path()), 0).unwrap();
    (0..1000).for_each(|number| append_now(&mut spool, &noise(number)));
    drop(spool);
    let spool = Spool::open(small(dir.path()), 0).unwrap();
    let (desk, _worker) = Desk::new(spool, Arc::new(Metrics::new().unwrap()), Clock::system());
    assert!(desk.is_full());
}

/// While somebody reads the file its log grows, and counts as used. Nothing waits that could be confirmed.
#[test]
fn one_that_is_full_of_its_log_only_empties_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(small(dir.path()), 0).unwrap();
    let mut reader = Connection::open(dir.path().join("spool.db")).unwrap();
    let snapshot = reader.transaction().unwrap();
    snapshot.query_row("SELECT count(*) FROM batch", [], |_| Ok(())).unwrap();
    for number in 0.. {
        append_now(&mut spool, &noise(number));
        let id = spool.next_id - 1;
        spool.transact(|writer| writer.settle(0, id..=id, &Verdict::Delivered)).unwrap();
        if spool.is_full() {
            break;
        }
    }
    // The first look finds that it was used, the second that it was not.
    (0..2).for_each(|_| spool.look_after().unwrap());
    assert!(spool.is_full(), "a reader is not disturbed");
    drop(snapshot);
    spool.look_after().unwrap();
    assert!(!spool.is_full());
}

#[test]
fn a_lock_that_another_owner_left_behind_is_overwritten_in_whole() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("spool.lock"), "12345678901234567890\n").unwrap();
    let _spool = Spool::open(config(dir.path()), 0).unwrap();
    let owner = std::fs::read_to_string(dir.path().join("spool.lock")).unwrap();
    assert_eq!(owner, format!("{}\n", std::process::id()));
}

/// The log grows with the words of the next hop, too, until it is copied into the file.
#[tokio::test]
async fn what_leaves_makes_nothing_drop() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool =
        Spool::open(SpoolConfig { when_full: WhenFull::DropOldest, ..small(dir.path()) }, 0).unwrap();
    for seed in 0..1000 {
        append_now(&mut spool, &noise(seed));
    }
    assert!(spool.excess_bytes() > 0, "these appends went past the limit");
    with_desk(spool, async |desk| {
        let lease = SpoolSource::new(desk.clone(), 0).lease().await.unwrap();
        desk.end_lease(0, lease.end(), Verdict::Delivered).unwrap();
        let report = desk.look(|spool| spool.report().unwrap()).await.unwrap();
        let link = &report.links[0];
        assert!(link.delivered.batches > 0);
        assert_eq!(link.dropped_spool_limit.batches, 0);
        assert_eq!(try_append(&desk, &noise(1001)).await, Ok(()));
        let report = desk.look(|spool| spool.report().unwrap()).await.unwrap();
        assert!(report.links[0].dropped_spool_limit.batches > 0, "room is made for what comes");
    })
    .await;
}

/// A queue at its own limit stops nobody but those who send to it.
#[tokio::test]
async fn a_queue_that_refuses_stops_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path());
    config.queues[0].refuse_at_bytes = Some(1);
    config.queues.push(QueueConfig { name: "/queue/billing".to_owned(), refuse_at_bytes: None });
    config.links.push(LinkConfig { name: "eu:/queue/billing".to_owned(), max_size_bytes: None });
    config.link_sets.push(LinkSet { queue: 1, links: vec![1] });
    with_desk(Spool::open(config, 0).unwrap(), async |desk| {
        assert_eq!(*desk.full(), [false, false]);
        append(&desk, "a 1 1\n").await;
        desk.look(|_| ()).await.unwrap();
        assert_eq!(*desk.full(), [true, false]);
        assert!(!desk.is_full(), "the spool takes what is for the other one");
        desk.room(1).await;

        let lease = SpoolSource::new(desk.clone(), 0).lease().await.unwrap();
        desk.end_lease(0, lease.end(), Verdict::Delivered).unwrap();
        desk.look(|_| ()).await.unwrap();
        desk.room(0).await;
    })
    .await;
}
