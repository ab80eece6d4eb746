//! A disk that is filled from outside: the agent refuses what it cannot keep, hands over what it has, and
//! goes on by itself once there is room. Nothing that it has receipted is lost (I1, I16).

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::HashSet;
use std::io;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::Scope;
use std::time::Duration;

use tests::berth::Berth;
use tests::disk::{Disk, can_mount};
use tests::edge::QUEUE;
use tests::load::plaintext;
use tests::packetboat::Packetboat;
use tests::points::Points;
use tests::stomp::Stomp;
use tests::wait::{until, when};

const LIMIT: Duration = Duration::from_secs(60);
const DISK_MIB: u64 = 96;
/// A quarter of it is the reserve, and twice the reserve has to be free before metrics are taken again.
const SPOOL: &str = "max_size: 64MiB";
const RESERVE_BYTES: u64 = 16 << 20;
const PRODUCERS_OF_A_KIND: usize = 3;
const LINES_A_PART: usize = 20;

#[test]
fn on_a_full_disk_it_refuses_hands_over_and_recovers_by_itself() {
    if !can_mount() {
        return;
    }
    let (disk, berth) = (Disk::of_mib(DISK_MIB), Berth::new("disk-full"));
    let topology = berth.topology(&spool_on(&disk));
    berth.sink.proxy().cut();
    let mut agent = berth.agent(&topology);
    let load = Load::new();
    std::thread::scope(|scope| {
        let _stop = StopAtEnd(&load.stopped);
        load.start(scope, &berth);
        until(LIMIT, "a backlog", || when(load.taken() >= 2_000, load.taken()));
        disk.fill();
        refuses(&agent);
        until(LIMIT, "word for both kinds of producers", || {
            let complaints = load.complaints();
            let is_told = |what: &str| complaints.iter().any(|complaint| complaint.contains(what));
            when(is_told("ERROR") && is_told("disk is full") && is_told("reset"), format!("{complaints:?}"))
        });

        berth.sink.proxy().mend();
        berth.drained(&agent);
        assert!(disk.free_bytes() < 2 * RESERVE_BYTES, "{} bytes are free", disk.free_bytes());
        assert_eq!(agent.get("/readyz").unwrap().0, 503);
        assert!(agent.is_running());

        disk.clear();
        agent.ready();
        let before = load.taken();
        until(LIMIT, "more to be taken", || when(load.taken() > before + 500, load.taken()));
    });
    check(&berth, &mut agent, &load);
    assert!(agent.log().contains("has room again"), "it says so");
}

/// Whoever fills the disk takes the reserve, too, and goes on: even a confirmation may find no room.
#[test]
fn it_lives_on_a_disk_that_somebody_keeps_full() {
    if !can_mount() {
        return;
    }
    let (disk, berth) = (Disk::of_mib(DISK_MIB), Berth::new("disk-kept-full"));
    let topology = berth.topology(&spool_on(&disk));
    berth.sink.proxy().cut();
    let mut agent = berth.agent(&topology);
    let load = Load::new();
    let mended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _stop = StopAtEnd(&load.stopped);
        load.start(scope, &berth);
        until(LIMIT, "a backlog", || when(load.taken() >= 2_000, load.taken()));
        let _stop_filling = StopAtEnd(&mended);
        scope.spawn(|| {
            while !mended.load(Ordering::SeqCst) {
                disk.fill();
            }
        });
        refuses(&agent);
        berth.sink.proxy().mend();
        berth.drained(&agent);
        assert!(agent.is_running());
        assert_eq!(agent.get("/readyz").unwrap().0, 503);
        mended.store(true, Ordering::SeqCst);
        until(LIMIT, "room", || {
            // It may have been filled once more.
            disk.clear();
            when(disk.free_bytes() > 2 * RESERVE_BYTES, disk.free_bytes())
        });
        agent.ready();
    });
    check(&berth, &mut agent, &load);
}

/// The log is gone with the orderly end before, so that a start needs room; the reserve gives it.
#[test]
fn it_starts_on_a_full_disk_and_hands_over() {
    if !can_mount() {
        return;
    }
    let (disk, berth) = (Disk::of_mib(DISK_MIB), Berth::new("disk-full-start"));
    let topology = berth.topology(&spool_on(&disk));
    berth.sink.proxy().cut();
    let mut agent = berth.agent(&topology);
    let points = Points::bulky("start", 500, 5_000);
    plaintext(berth.graphite(), &points, points.all()).unwrap();
    assert!(agent.terminate(LIMIT).success());

    disk.fill();
    agent.restart();
    agent.answers();
    refuses(&agent);
    // The next one finds a log, and no reserve.
    agent.kill();
    disk.fill();
    agent.restart();
    agent.answers();
    berth.sink.proxy().mend();
    berth.drained(&agent);
    assert_eq!(berth.sink.ledger().compare(&points, points.all()).missing, [0; 0]);

    disk.clear();
    agent.ready();
    let more = Points::bulky("more", 500, 5_000);
    plaintext(berth.graphite(), &more, more.all()).unwrap();
    berth.drained(&agent);
    assert!(agent.terminate(LIMIT).success());
}

/// Without a `max_size` it is half of what is free; what the spool holds already counts as free.
#[test]
fn a_limit_that_follows_the_disk_does_not_shrink_with_the_backlog() {
    if !can_mount() {
        return;
    }
    let (disk, berth) = (Disk::of_mib(DISK_MIB), Berth::new("disk-limit"));
    let topology = berth.topology(&format!("dir: {}", disk.path().join("spool").display()));
    berth.sink.proxy().cut();
    let mut agent = berth.agent(&topology);
    let limit = |agent: &Packetboat| agent.status()["spool"]["limit_bytes"].as_u64().unwrap();
    let first = limit(&agent);
    assert!((DISK_MIB << 20) / 3 < first && first <= (DISK_MIB << 20) / 2, "{first}");
    let points = Points::bulky("limit", 500, 15_000);
    plaintext(berth.graphite(), &points, points.all()).unwrap();
    assert!(agent.terminate(LIMIT).success());
    agent.restart();
    agent.ready();
    let second = limit(&agent);
    assert!(second.abs_diff(first) < first / 20, "{first} bytes, after a restart {second}");
}

fn spool_on(disk: &Disk) -> String {
    format!("dir: {}, {SPOOL}", disk.path().join("spool").display())
}

fn refuses(agent: &Packetboat) {
    until(LIMIT, "503 from /readyz", || {
        let (status, body) = agent.get("/readyz").unwrap();
        when(status == 503 && agent.status()["spool"]["is_full"] == true, body)
    });
}

/// All that was taken for good has arrived, and as it was sent.
fn check(berth: &Berth, agent: &mut Packetboat, load: &Load) {
    berth.drained(agent);
    let comparison = berth.sink.ledger().compare(&load.points, 0..load.next.load(Ordering::SeqCst));
    let taken: HashSet<usize> = load.taken.lock().unwrap().iter().cloned().flatten().collect();
    let lost: Vec<&usize> = comparison.missing.iter().filter(|number| taken.contains(number)).collect();
    assert_eq!(lost, [&0; 0], "taken for good and lost");
    assert_eq!(comparison.altered, [0; 0]);
    assert_eq!((comparison.strangers, berth.sink.ledger().bad()), (0, Vec::new()));
    assert!(agent.terminate(LIMIT).success());
}

/// Producers as they are in the field: they send one part after the other, each until it is taken.
struct Load {
    points: Points,
    next: AtomicUsize,
    stopped: AtomicBool,
    taken: Mutex<Vec<Range<usize>>>,
    complaints: Mutex<HashSet<String>>,
}

impl Load {
    fn new() -> Self {
        Self {
            points: Points::bulky("full", 500, 1_000_000),
            next: AtomicUsize::new(0),
            stopped: AtomicBool::new(false),
            taken: Mutex::default(),
            complaints: Mutex::default(),
        }
    }

    fn start<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>, berth: &'scope Berth) {
        for _ in 0..PRODUCERS_OF_A_KIND {
            scope.spawn(|| {
                let mut session = None;
                self.produce(|part| self.send(&mut session, berth, part));
            });
            scope.spawn(|| self.produce(|part| plaintext(berth.graphite(), &self.points, part)));
        }
    }

    fn produce(&self, mut send: impl FnMut(Range<usize>) -> io::Result<()>) {
        while !self.stopped.load(Ordering::SeqCst) {
            let first = self.next.fetch_add(LINES_A_PART, Ordering::SeqCst);
            let part = first..first + LINES_A_PART;
            while let Err(error) = send(part.clone()) {
                self.complaints.lock().unwrap().insert(error.to_string());
                if self.stopped.load(Ordering::SeqCst) {
                    return;
                }
            }
            self.taken.lock().unwrap().push(part);
        }
    }

    fn send(&self, session: &mut Option<Stomp>, berth: &Berth, part: Range<usize>) -> io::Result<()> {
        let mut open = match session.take() {
            Some(open) => open,
            None => Stomp::connect(berth.stomp(), &[])?,
        };
        open.send(QUEUE, self.points.lines(part).as_bytes())?;
        *session = Some(open);
        Ok(())
    }

    /// Lines that were taken for good.
    fn taken(&self) -> usize {
        self.taken.lock().unwrap().iter().map(Range::len).sum()
    }

    fn complaints(&self) -> HashSet<String> {
        self.complaints.lock().unwrap().clone()
    }
}

/// Ends what looks at this flag, whether the test passes or fails.
struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}
