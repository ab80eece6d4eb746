//! Ends of an agent: told to under load, told to twice, and killed while it is stopping. Whatever was taken
//! for good has arrived, or is there at the next start.

use std::collections::HashSet;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tests::berth::{Berth, LINK};
use tests::edge::QUEUE;
use tests::load::{Receipted, StompLoad, plaintext};
use tests::packetboat::Packetboat;
use tests::points::Points;
use tests::stomp::Stomp;
use tests::wait::{until, when};

const LIMIT: Duration = Duration::from_secs(60);
/// Less than the 10 s that a stop gives to what is on its way.
const SOON: Duration = Duration::from_secs(9);
/// More than can be taken while the agent is told to stop, and still reads for half a second.
const POINTS: usize = 400_000;

fn topology(berth: &Berth) -> std::path::PathBuf {
    berth.topology(&format!("dir: {}", berth.spool().display()))
}

#[test]
fn told_to_stop_under_load_it_finishes_what_it_has_received() {
    let berth = Berth::new("stop");
    let mut agent = berth.agent(&topology(&berth));
    let points = Points::new("stop", 500, POINTS);
    let (over_stomp, over_plaintext) = (0..POINTS / 2, POINTS / 2..POINTS);
    let load = StompLoad { destination: QUEUE.to_owned(), lines_per_send: 2, window: 100 };
    let progress = AtomicUsize::new(0);
    let (receipted, fins) = std::thread::scope(|scope| {
        let stomp =
            scope.spawn(|| load.run(Stomp::connect(berth.stomp(), &[]), &points, over_stomp, &progress));
        let plaintext = scope.spawn(|| send_until_refused(&berth, &points, over_plaintext));
        until(LIMIT, "a load", || {
            let taken = progress.load(Ordering::SeqCst);
            when(taken > 5_000, taken)
        });
        assert_eq!(agent.terminate(LIMIT).code(), Some(0));
        (stomp.join().unwrap(), plaintext.join().unwrap())
    });
    let said = receipted.broken.as_ref().map(ToString::to_string).unwrap_or_default();
    assert!(said.contains("ERROR") && said.contains("stopping"), "{said}");
    let taken = taken(&receipted, fins);
    assert!(taken.len() < POINTS, "it ended after the load, not under it");

    agent.restart();
    agent.ready();
    check(&berth, &mut agent, &points, &taken);
}

/// Clients one after the other, until one is not told that its lines are kept.
fn send_until_refused(berth: &Berth, points: &Points, numbers: std::ops::Range<usize>) -> Vec<usize> {
    let parts = numbers.clone().step_by(200).map(|start| start..start + 200);
    parts.take_while(|part| plaintext(berth.graphite(), points, part.clone()).is_ok()).flatten().collect()
}

/// A pipe whose reader is gone, or a log on a full disk, ends no agent.
#[test]
fn it_goes_on_and_stops_in_order_though_nothing_can_be_logged() {
    let berth = Berth::new("unlogged");
    let unlogged = ["sh", "-c", "exec \"$0\" \"$@\" 2>/dev/full"];
    let mut agent =
        Packetboat::start(&["agent", "edge"], &topology(&berth), berth.http(), &berth.scratch, &unlogged);
    agent.ready();
    let mut talker = TcpStream::connect(berth.stomp()).unwrap();
    talker.write_all(b"NONSENSE\n\n\0").unwrap();
    talker.read_to_end(&mut Vec::new()).unwrap();
    agent.ready();
    assert_eq!(agent.terminate(LIMIT).code(), Some(0));
}

/// A connection to Graphite is turned over for its receipt after 5 s: a stop does not wait for that.
#[test]
#[expect(clippy::disallowed_methods, reason = "how long a stop takes is real time")]
fn told_to_stop_it_asks_for_its_receipts_at_once() {
    let berth = Berth::new("stop-soon");
    let mut agent = berth.agent(&topology(&berth));
    let points = Points::new("soon", 500, 3 * 5_000);
    let mut parts = points.all().step_by(5_000).map(|start| start..start + 5_000);
    // A busy machine may be late. An agent that waits for that age is late each time.
    let is_soon = parts.any(|part| {
        plaintext(berth.graphite(), &points, part.clone()).unwrap();
        until(LIMIT, "every line on its way", || {
            let lines = berth.sink.ledger().distinct();
            when(lines == part.end, lines)
        });
        let told = Instant::now();
        assert_eq!(agent.terminate(LIMIT).code(), Some(0));
        let lasted = told.elapsed();
        assert_eq!(berth.sink.ledger().confirmed_count(), part.end);
        agent.restart();
        agent.ready();
        assert_eq!(agent.backlog(LINK), 0);
        lasted < Duration::from_secs(4)
    });
    assert!(is_soon, "it waits for the age of its connection");
    let taken: HashSet<usize> = (0..berth.sink.ledger().confirmed_count()).collect();
    check(&berth, &mut agent, &points, &taken);
}

/// Without this systemd would kill it, and what was confirmed last would be sent again.
#[test]
fn a_request_that_never_ends_keeps_nobody_from_the_end() {
    let berth = Berth::new("stop-http");
    let mut agent = berth.agent(&topology(&berth));
    let mut half = TcpStream::connect(berth.http()).unwrap();
    half.write_all(b"GET /metrics HTTP/1.1\r\nhost: h\r\n").unwrap();
    let mut idle = TcpStream::connect(berth.http()).unwrap();
    idle.write_all(b"GET /healthz HTTP/1.1\r\nhost: h\r\n\r\n").unwrap();
    assert_ne!(idle.read(&mut [0; 100]).unwrap(), 0);
    assert_eq!(agent.terminate(Duration::from_secs(20)).code(), Some(0));
    drop(half);
}

#[test]
fn told_twice_it_ends_at_once_and_keeps_what_it_has() {
    let berth = Berth::new("stop-twice");
    let mut agent = berth.agent(&topology(&berth));
    let points = Points::new("twice", 500, 5_000);
    // Lines on their way, and no receipt for them: a stop would wait for that.
    berth.sink.proxy().hold_after(1_000);
    plaintext(berth.graphite(), &points, points.all()).unwrap();
    until(LIMIT, "lines on their way", || when(berth.sink.proxy().is_held(), "not yet"));
    agent.signal(Signal::TERM);
    until(LIMIT, "the agent to be stopping", || when(agent.log().contains("stopping"), "it is not"));
    agent.signal(Signal::INT);
    assert_eq!(agent.wait(SOON).code(), Some(1));
    assert!(agent.log().contains("stopped at once by a second signal"), "{}", agent.log());

    berth.sink.proxy().mend();
    agent.restart();
    agent.ready();
    check(&berth, &mut agent, &points, &points.all().collect());
}

#[test]
fn killed_while_it_stops_it_goes_on_at_the_next_start() {
    let berth = Berth::new("stop-kill");
    let mut agent = berth.agent(&topology(&berth));
    let points = Points::new("kill", 500, 5_000);
    berth.sink.proxy().hold_after(1_000);
    plaintext(berth.graphite(), &points, points.all()).unwrap();
    until(LIMIT, "lines on their way", || when(berth.sink.proxy().is_held(), "not yet"));
    agent.signal(Signal::TERM);
    until(LIMIT, "the agent to be stopping", || when(agent.log().contains("stopping"), "it is not"));
    agent.kill();

    berth.sink.proxy().mend();
    agent.restart();
    agent.ready();
    check(&berth, &mut agent, &points, &points.all().collect());
}

/// A link that is down does not hold up a stop: there is nothing to be waited for.
#[test]
fn with_its_link_down_it_stops_at_once() {
    let berth = Berth::new("stop-down");
    berth.sink.proxy().leave();
    let mut agent = berth.agent(&topology(&berth));
    let points = Points::new("down", 500, 5_000);
    plaintext(berth.graphite(), &points, points.all()).unwrap();
    assert_eq!(agent.terminate(SOON).code(), Some(0));
}

fn taken(receipted: &Receipted, fins: Vec<usize>) -> HashSet<usize> {
    receipted.numbers().chain(fins).collect()
}

fn check(berth: &Berth, agent: &mut Packetboat, points: &Points, taken: &HashSet<usize>) {
    berth.drained(agent);
    let comparison = berth.sink.ledger().compare(points, points.all());
    let lost = comparison.missing.iter().filter(|number| taken.contains(number)).count();
    assert_eq!(lost, 0, "taken for good and lost");
    assert_eq!((comparison.altered.len(), comparison.strangers), (0, 0));
    assert_eq!(agent.terminate(LIMIT).code(), Some(0));
}
