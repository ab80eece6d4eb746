//! A kill keeps the page cache, a power cut does not: so the agent is watched by strace while it takes SENDs
//! with receipts, and each RECEIPT must have left after a sync of the log that holds its lines (I1).
//!
//! The same checker is shown a receiver with `synchronous=FULL`, which passes, and with NORMAL, which does not.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use tests::fsynced::{self, Fault};
use tests::load::StompLoad;
use tests::packetboat::{Packetboat, binary};
use tests::points::Points;
use tests::ports::Port;
use tests::process::Process;
use tests::scratch::Scratch;
use tests::stomp::Stomp;
use tests::wait::until;
use tests::{short_or_full, strace};

const LIMIT: Duration = Duration::from_secs(60);
const QUEUE: &str = "/queue/fsync";
const SESSIONS: usize = 4;

#[test]
fn every_receipt_of_an_agent_leaves_after_its_lines_were_synced() {
    let scratch = Scratch::new("fsync");
    let (stomp, http) = (Port::free(), Port::free());
    let topology = format!(
        "mesh: test\nqueue: {QUEUE}\nagents:\n  edge:\n    listen: {{ stomp: \"{}\", http: \"{}\" }}\n    \
         spool: {{ dir: {} }}\n",
        stomp.address(),
        http.address(),
        scratch.path().join("spool").display(),
    );
    let topology = scratch.write("topology.yaml", &topology);
    let trace = scratch.path().join("trace");
    let wrapper = strace::wrapper(&trace, fsynced::CALLS);
    let wrapper: Vec<&str> = wrapper.iter().map(String::as_str).collect();
    let mut agent = Packetboat::start(&["agent", "edge"], &topology, http.address(), &scratch, &wrapper);
    agent.ready();

    let sends_each = short_or_full(300, 5_000);
    let points = Points::new("fsync", 100, SESSIONS * sends_each);
    std::thread::scope(|scope| {
        for session in 0..SESSIONS {
            let (points, address) = (&points, stomp.address());
            scope.spawn(move || {
                send_all(address, points, session * sends_each..(session + 1) * sends_each);
            });
        }
    });
    assert!(agent.terminate(LIMIT).success());

    let calls = strace::read(&trace, LIMIT);
    assert_eq!(fsynced::faults(&calls, &sends(&points)), []);
}

#[test]
fn receipts_of_a_receiver_with_full_pass() {
    assert_eq!(faults_of_committer("FULL"), []);
}

#[test]
fn receipts_of_a_receiver_with_normal_are_found_out() {
    let faults = faults_of_committer("NORMAL");
    // Its log is synced only before it is copied into the database, which is not often.
    assert!(faults.len() > SENDS_TO_COMMITTER / 2, "{faults:?}");
    assert!(faults.iter().all(|fault| matches!(fault, Fault::NotSynced(_))), "{faults:?}");
}

const SENDS_TO_COMMITTER: usize = 100;

fn faults_of_committer(synchronous: &str) -> Vec<Fault> {
    let scratch = Scratch::new("committer");
    let (port, trace) = (Port::free(), scratch.path().join("trace"));
    let mut words = strace::wrapper(&trace, fsynced::CALLS);
    words.push(committer().display().to_string());
    words.extend([port.number().to_string(), scratch.path().display().to_string(), synchronous.to_owned()]);
    let mut command = Process::command(&words[0]);
    command.args(&words[1..]);
    let mut committer = Process::spawn("committer", &mut command, &scratch.path().join("log"));

    let points = Points::new("fsync", 100, SENDS_TO_COMMITTER);
    send_all(port.address(), &points, points.all());
    assert!(committer.wait(LIMIT).success());
    fsynced::faults(&strace::read(&trace, LIMIT), &sends(&points))
}

/// It is built beside the product.
fn committer() -> std::path::PathBuf {
    binary().parent().map(|folder: &Path| folder.join("committer")).unwrap()
}

/// One line in a SEND, and several SENDs in flight: commits are shared, and a receipt may be early or late.
fn send_all(to: SocketAddr, points: &Points, numbers: Range<usize>) {
    let load = StompLoad { destination: QUEUE.to_owned(), lines_per_send: 1, window: 20 };
    let session = until(LIMIT, "a session", || Stomp::connect(to, &[]));
    let receipted = load.run(Ok(session), points, numbers.clone(), &AtomicUsize::new(0));
    assert!(receipted.broken.is_none(), "{receipted:?}");
    assert_eq!(receipted.numbers().count(), numbers.len());
}

/// Each SEND's receipt, and its line.
fn sends(points: &Points) -> BTreeMap<String, String> {
    points
        .all()
        .map(|number| (format!("{number}-{}", number + 1), points.lines(number..number + 1)))
        .collect()
}
