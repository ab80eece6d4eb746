//! The intake on a real spool, whose thread starts when the test says so.

use forwarder::Source as _;
use futures_util::FutureExt;
use tempfile::TempDir;
use tokio::time::timeout;

use super::*;
use crate::ingest::{Input, line};
use crate::spool::{DeskWorker, QueueConfig, Spool, SpoolConfig, SpoolSource};

const LIMIT: Duration = Duration::from_secs(20);
/// Of a backlog; longer than any test waits.
const COMMIT_INTERVAL: Duration = Duration::from_secs(3600);
/// More than a batch holds.
const MANY_LINES: usize = 2500;

struct Agent {
    intake: Intake,
    desk: Desk,
    worker: DeskWorker,
    _dir: TempDir,
}

impl Agent {
    fn new() -> Self {
        Self::with_limit(64 << 20)
    }

    fn with_limit(max_size_bytes: u64) -> Self {
        Self::with(|config| config.max_size_bytes = Some(max_size_bytes))
    }

    fn with(set: impl FnOnce(&mut SpoolConfig)) -> Self {
        let dir = TempDir::new().unwrap();
        let mut config = SpoolConfig::for_test(dir.path());
        set(&mut config);
        let (clock, metrics) = (Clock::system(), Arc::new(Metrics::new().unwrap()));
        let spool = Spool::open(config, clock.now_ms()).unwrap();
        let (desk, worker) = Desk::new(spool, Arc::clone(&metrics), clock.clone());
        let router = Router::to_one_link();
        let intake = Intake::new(router, desk.clone(), metrics, clock, COMMIT_INTERVAL);
        Self { intake, desk, worker, _dir: dir }
    }
}

fn checked(lines: usize) -> Checked {
    let mut checked = Checked::default();
    line::check("a 1 1\n".repeat(lines).as_bytes(), 0, &mut checked);
    checked
}

fn sender(peer: &str) -> Sender {
    Sender { input: Input::Stomp, peer: peer.into() }
}

/// A session may be dropped at any await. The open batch that it was about to bring holds lines of others.
#[tokio::test]
async fn a_session_that_dies_while_it_brings_a_batch_takes_nobodys_lines_with_it() {
    let Agent { intake, desk, worker, _dir } = Agent::new();
    let others = intake.accept(&sender("other"), DEFAULT_QUEUE, &mut checked(1)).await;
    // The spool's thread is busy, and what waits for it is all that may wait.
    tokio::task::unconstrained(async { while desk.tick().now_or_never().is_some() {} }).await;
    tokio::task::yield_now().await;
    let mut lines = checked(MANY_LINES);
    assert!(
        intake.accept(&sender("dying"), DEFAULT_QUEUE, &mut lines).now_or_never().is_none(),
        "it waits, and is dropped"
    );

    std::thread::spawn(move || worker.run());
    let stop = CancellationToken::new();
    tokio::select! {
        word = timeout(LIMIT, others.committed()) => assert_eq!(word, Ok(Ok(()))),
        () = intake.keep_sealing(stop) => panic!("it seals until it is told to stop"),
    }
}

#[tokio::test]
async fn whoever_waits_for_a_spool_that_ends_is_told() {
    let Agent { intake, desk, worker, _dir } = Agent::new();
    let mut waiting = Vec::new();
    for _ in 0..10 {
        waiting.push(intake.accept(&sender("a"), DEFAULT_QUEUE, &mut checked(MANY_LINES)).await);
    }
    drop((worker, desk));
    for ticket in waiting {
        // What was not sealed yet is not the desk's: it is brought, and answered, now.
        let stop = CancellationToken::new();
        stop.cancel();
        intake.keep_sealing(stop).await;
        let word = timeout(LIMIT, ticket.committed()).await;
        assert!(matches!(word, Ok(Err(CommitError::Failed(_)))), "{word:?}");
    }
}

/// A datagram cannot wait, and there is one loop for all of them.
#[tokio::test]
async fn whoever_cannot_wait_for_room_is_not_made_to() {
    let Agent { intake, worker: _worker, desk: _desk, _dir } = Agent::with_limit(1);
    assert!(intake.is_full());
    let from = Sender { input: Input::Udp, peer: "udp".into() };
    assert!(intake.accept(&from, DEFAULT_QUEUE, &mut checked(1)).now_or_never().is_none());
    assert!(intake.take(&from, DEFAULT_QUEUE, &mut checked(1)).now_or_never().is_some());
}

/// Or a link to a broker would stand still behind one bad message.
#[tokio::test]
async fn what_is_set_aside_of_one_queue_does_not_wait_for_another() {
    let Agent { intake, worker: _worker, desk: _desk, _dir } = Agent::with(|config| {
        let limited = QueueConfig { refuse_at_bytes: Some(0), ..config.queues[0].clone() };
        let other = std::mem::replace(&mut config.queues[0], limited);
        config.queues.push(QueueConfig { name: "/queue/other".to_owned(), ..other });
    });
    assert_eq!(*intake.full(), [true, false]);
    assert!(
        intake.set_aside(&sender("broker"), "its bytes are damaged", b"a 1 1\n").now_or_never().is_some()
    );
}

/// Lines that come between the commit of those before them and their way to the link.
#[tokio::test]
async fn what_is_on_its_way_to_the_link_is_no_backlog() {
    let Agent { intake, desk, worker, _dir } = Agent::new();
    std::thread::spawn(move || worker.run());
    let mut source = SpoolSource::new(desk, 0);
    let live = async {
        let first = intake.accept(&sender("a"), DEFAULT_QUEUE, &mut checked(1)).await;
        assert_eq!(first.committed().await, Ok(()));
        let second = intake.accept(&sender("a"), DEFAULT_QUEUE, &mut checked(1)).await;
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        let lease = source.lease().await.unwrap();
        assert_eq!(second.committed().await, Ok(()));
        drop(lease);
    };
    tokio::select! {
        word = timeout(LIMIT, live) => word.expect("it waits as behind a backlog"),
        () = intake.keep_sealing(CancellationToken::new()) => panic!("it seals until it is told to stop"),
    }
}

#[test]
fn what_nobody_was_refused_for_yet_is_counted_as_none() {
    let agent = Agent::new();
    let page = String::from_utf8(agent.intake.0.metrics.text().unwrap()).unwrap();
    let series: Vec<_> =
        page.lines().filter(|line| line.starts_with("packetboat_rejected_metrics_total{")).collect();
    assert_eq!(series.len(), Input::ALL.len() * Reason::ALL.len());
    assert!(series.iter().all(|series| series.ends_with(" 0")), "{series:?}");
}
