//! Whole sessions of stomp.py with the agent, in each version of STOMP: receipts, transactions,
//! heart-beats, and what is refused.

use std::collections::BTreeMap;
use std::fs::File;

use tests::edge::Edge;
use tests::ledger::Comparison;
use tests::packetboat::command;
use tests::points::Points;
use tests::process::Process;
use tests::short_or_full;
use tests::sink::Sink;
use tests::wait::{until, when};

use crate::LIMIT;
use crate::client::{place, python, script};

const VERSIONS: [&str; 3] = ["1.0", "1.1", "1.2"];

/// What stomp.py has heard, in its order: the event, the frame's headers and its body.
type Heard = (String, BTreeMap<String, String>, Option<String>);

/// Plays a scenario of `session.py` to its end. `arguments` begin with the scenario and the version.
fn session(edge: &Edge, arguments: [&str; 2], more: &[&str], input: &str) -> Vec<Heard> {
    let input = File::open(edge.scratch().write("input", input)).unwrap();
    let mut python = Process::command(python());
    python.arg(script("session.py")).args(arguments).args(place(edge.stomp())).args(more);
    let output = python.stdin(input).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The value of header `name` in each frame of this kind.
fn headers<'a>(heard: &'a [Heard], event: &str, name: &str) -> Vec<&'a str> {
    let of_kind = heard.iter().filter(|(kind, ..)| kind == event);
    of_kind.map(|(_, headers, _)| headers.get(name).map_or("", String::as_str)).collect()
}

/// Waits until `count` of the points have come, each once, and tells which are missing.
fn missing(sink: &Sink, points: &Points, count: usize) -> Vec<usize> {
    let ledger = sink.ledger();
    until(LIMIT, "the lines at the Graphite", || when(ledger.distinct() >= count, ledger.distinct()));
    let comparison = ledger.compare(points, points.all());
    let expected = Comparison { missing: comparison.missing.clone(), ..Comparison::default() };
    assert_eq!((&comparison, ledger.bad()), (&expected, Vec::new()));
    comparison.missing
}

#[test]
fn every_frame_has_its_receipt_in_every_version() {
    let sink = Sink::alone();
    let edge = Edge::before_graphite(sink.address());
    let points = Points::new("interop.receipts", 20, 3 * 400);
    for (turn, version) in VERSIONS.into_iter().enumerate() {
        let lines = points.lines(turn * 400..(turn + 1) * 400);
        let heard = session(&edge, ["receipts", version], &[], &lines);
        assert_eq!(headers(&heard, "connected", "version"), [version]);
        let receipts = headers(&heard, "receipt", "receipt-id");
        let sent: Vec<String> = (0..399).map(|number| format!("line-{number}")).collect();
        // In the order of the frames, of which DISCONNECT was the last one.
        assert!(receipts.iter().eq(sent.iter().chain(&["bye".to_owned()])), "{receipts:?}");
    }
    assert_eq!(missing(&sink, &points, points.count()), [0; 0]);
}

#[test]
fn a_transaction_is_taken_as_one_or_not_at_all() {
    let sink = Sink::alone();
    let edge = Edge::before_graphite(sink.address());
    let points = Points::new("interop.transactions", 10, 3 * 40);
    let mut aborted = Vec::new();
    for (turn, version) in VERSIONS.into_iter().enumerate() {
        let numbers = turn * 40..(turn + 1) * 40;
        let heard = session(&edge, ["transactions", version], &[], &points.lines(numbers.clone()));
        aborted.extend(numbers.skip(20));

        let receipts = headers(&heard, "receipt", "receipt-id");
        let promises = headers(&heard, "receipt", "packetboat-receipt");
        let whole: Vec<&str> =
            receipts.iter().zip(&promises).filter(|(_, p)| p.is_empty()).map(|(r, _)| *r).collect();
        assert_eq!(whole, ["begin-kept", "begin-dropped", "abort", "commit"], "{version}: {heard:?}");
        // Each SEND in a transaction is only buffered.
        assert_eq!(promises.iter().filter(|promise| **promise == "buffered").count(), 40, "{version}");
    }
    edge.drained();
    assert_eq!(missing(&sink, &points, 3 * 20), aborted);
    let accepted = edge.agent.metrics().get("packetboat_accepted_metrics_total{input=\"stomp\"}");
    assert_eq!(accepted, Some(60.0));
}

/// The full form is longer than the 25 s that the agent waits for a beat of the client's.
#[test]
fn an_idle_session_lives_by_its_heart_beats() {
    let seconds = short_or_full("0", "40");
    let sink = Sink::alone();
    let edge = Edge::before_graphite(sink.address());
    let points = Points::new("interop.beats", 2, 2 * 10);
    for (turn, version) in ["1.1", "1.2"].into_iter().enumerate() {
        let lines = points.lines(turn * 10..(turn + 1) * 10);
        let heard = session(&edge, ["beats", version], &[seconds], &lines);
        assert!(heard.iter().all(|(event, ..)| event != "heart-beat timeout"), "{heard:?}");
        assert_eq!(headers(&heard, "receipt", "receipt-id"), ["awake"]);
    }
    assert_eq!(missing(&sink, &points, points.count()), [0; 0]);
}

#[test]
fn what_is_refused_gets_an_error_that_says_how_to_mend_it() {
    let sink = Sink::alone();
    let edge = Edge::before_graphite(sink.address());
    let check = |scenario, more: &[&str], input: &str, expected: &[&str]| {
        for version in VERSIONS {
            let heard = session(&edge, [scenario, version], more, input);
            let (_, headers, body) = heard.iter().find(|(event, ..)| event == "error").unwrap();
            let message = &headers["message"];
            assert!(expected.iter().all(|part| message.contains(part)), "{version}: {message}");
            assert_eq!(body.as_deref().map(str::trim_end), Some(message.as_str()), "{version}");
            assert_eq!(headers["receipt-id"], "asked", "{version}");
        }
    };
    let (queue, good) = ("/queue/graphite", "load 1 1700000000");
    check("subscribe", &[], "", &["/queue/graphite has no subscribers here", "say `serve: true`"]);
    check(
        "send",
        &["/queue/grahpite"],
        good,
        &["no destination", "/queue/grahpite", "are taken at /queue/graphite"],
    );
    check(
        "send",
        &["/topic/graphite"],
        good,
        &["/topic/graphite", "is a topic", "are taken at /queue/graphite"],
    );
    check(
        "send",
        &[queue],
        "load=1\nload one 1700000000\n",
        &["no good line", "load=1", "name value timestamp"],
    );
    check("send", &[queue], "\n", &["no line in the body", "name value timestamp"]);
    edge.drained();
    assert_eq!(sink.ledger().lines(), 0);
    let rejects = command(&["spool", "rejects", "--dir", &edge.spool().display().to_string()]);
    let rejects = String::from_utf8(rejects.stdout).unwrap();
    assert_eq!(rejects.matches("load=1").count(), VERSIONS.len(), "{rejects}");
}
