//! kill -9 on an agent under load, again and again: nothing that was receipted is missing.
//!
//! A kill keeps the page cache, so this proves the order of things within the process; that the disk has
//! what was receipted is for `strace` to show.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![expect(clippy::print_stdout, reason = "the numbers of a run are worth reading when it passes, too")]

use std::collections::HashSet;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tests::load::{Receipted, StompLoad};
use tests::packetboat::{Packetboat, command};
use tests::points::Points;
use tests::ports::Port;
use tests::scratch::Scratch;
use tests::short_or_full;
use tests::sink::Sink;
use tests::stomp::Stomp;
use tests::wait::{until, when};

const LIMIT: Duration = Duration::from_secs(60);
const QUEUE: &str = "/queue/crash";
const POINTS_A_ROUND: usize = 40_000;

#[test]
fn nothing_receipted_is_missing_after_kill_9() {
    let rounds = short_or_full(5, 25);
    let scratch = Scratch::new("crash");
    let (stomp, http) = (Port::free(), Port::free());
    let sink = Sink::alone();
    let topology = topology(&scratch, &stomp, &http, &sink);
    let points = Points::new("crash", 1_000, rounds * POINTS_A_ROUND);
    let mut agent = Packetboat::agent("edge", &topology, http.address(), &scratch);

    let mut receipted = HashSet::new();
    for round in 0..rounds {
        // Every other kill meets a growing backlog, the others one that is being drained.
        if round % 2 == 0 {
            sink.proxy().cut()
        } else {
            sink.proxy().mend()
        }
        let numbers = round * POINTS_A_ROUND..(round + 1) * POINTS_A_ROUND;
        let taken = kill_under_load(&mut agent, &stomp, &points, numbers, kill_at(round));
        println!("round {round}: {} receipted, then {:?}", taken.numbers().count(), taken.broken);
        receipted.extend(taken.numbers());
        agent.restart();
        agent.ready();
    }
    sink.proxy().mend();
    drain(&agent);
    check(&sink, &points, &receipted);

    assert!(agent.terminate(LIMIT).success());
    let spool = scratch.path().join("spool").display().to_string();
    let verified = command(&["spool", "verify", "--dir", &spool]);
    assert!(verified.status.success(), "{verified:?}");
}

fn topology(scratch: &Scratch, stomp: &Port, http: &Port, sink: &Sink) -> std::path::PathBuf {
    let text = format!(
        "mesh: test\nqueue: {QUEUE}\nagents:\n  edge:\n    listen: {{ stomp: \"{}\", http: \"{}\" }}\n    \
         spool: {{ dir: {} }}\n    forward: {{ name: sink, to: \"graphite://{}\" }}\n",
        stomp.address(),
        http.address(),
        scratch.path().join("spool").display(),
        sink.address(),
    );
    scratch.write("topology.yaml", &text)
}

/// How many points of a round are to be receipted before the kill: spread over the round, none repeated.
fn kill_at(round: usize) -> usize {
    (round * 7_919 + 1) % (POINTS_A_ROUND / 2)
}

fn kill_under_load(
    agent: &mut Packetboat,
    stomp: &Port,
    points: &Points,
    numbers: Range<usize>,
    kill_at: usize,
) -> Receipted {
    let progress = AtomicUsize::new(0);
    let load = StompLoad { destination: QUEUE.to_owned(), lines_per_send: 10, window: 100 };
    std::thread::scope(|scope| {
        let producer =
            scope.spawn(|| load.run(Stomp::connect(stomp.address(), &[]), points, numbers, &progress));
        until(LIMIT, "enough receipts", || {
            let taken = progress.load(Ordering::SeqCst);
            when(taken >= kill_at || producer.is_finished(), taken)
        });
        agent.kill();
        producer.join().unwrap()
    })
}

fn drain(agent: &Packetboat) {
    until(LIMIT, "an empty backlog", || {
        let backlog = agent.metrics().get("packetboat_backlog_metrics{to=\"sink\"}");
        when(backlog == Some(0.0), format!("{backlog:?}"))
    });
}

fn check(sink: &Sink, points: &Points, receipted: &HashSet<usize>) {
    let comparison = sink.ledger().compare(points, points.all());
    let lost: Vec<&usize> = comparison.missing.iter().filter(|number| receipted.contains(number)).collect();
    assert_eq!(lost, [&0; 0], "receipted and lost");
    assert_eq!(comparison.altered, [0; 0]);
    assert_eq!((comparison.strangers, sink.ledger().bad()), (0, Vec::new()));
    let (arrived, copies) = (points.count() - comparison.missing.len(), comparison.duplicates);
    println!("{} receipted, {arrived} arrived, {copies} copies", receipted.len());
    assert!(receipted.len() >= POINTS_A_ROUND / 2, "the load was too small to prove anything");
    assert!(receipted.len() < points.count(), "no kill met the load: {} receipted", receipted.len());
}
