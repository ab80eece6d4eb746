//! `packetboat emit`, the producer, against an agent: what it says was taken arrives, and what was not is
//! told in one line.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs::File;
use std::net::SocketAddr;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use tests::edge::Edge;
use tests::packetboat::binary;
use tests::points::{Points, now_seconds};
use tests::ports::Port;
use tests::sink::Sink;
use tests::wait::{until, when};

const LIMIT: Duration = Duration::from_secs(60);

fn emit(to: SocketAddr, arguments: &[&str], input: Stdio) -> Output {
    let to = to.to_string();
    Command::new(binary()).args(["emit", "--to", &to]).args(arguments).stdin(input).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap().trim_end()
}

/// It was all taken, and `printed` was said.
fn check_taken(output: &Output, printed: &str) {
    let found = (output.status.code(), text(&output.stdout), text(&output.stderr));
    assert_eq!(found, (Some(0), printed, ""));
}

#[test]
fn one_metric_arrives_under_the_hosts_name() {
    let sink = Sink::alone();
    let edge = Edge::before_graphite(sink.address());
    let before = now_seconds();
    check_taken(&emit(edge.stomp(), &["load.one", "-1.5"], Stdio::null()), "");
    check_taken(&emit(edge.stomp(), &["--no-host", "plain", "2"], Stdio::null()), "");
    check_taken(&emit(edge.stomp(), &["--prefix", "web.a", "load", "1e3"], Stdio::null()), "");
    let after = now_seconds();

    until(LIMIT, "three lines", || when(sink.ledger().lines() == 3, sink.ledger().lines()));
    let node = rustix::system::uname();
    let host = node.nodename().to_str().unwrap().replace('.', "_");
    for name in [format!("{host}.load.one"), "plain".to_owned(), "web.a.load".to_owned()] {
        let times: u64 = (before..=after).map(|timestamp| sink.ledger().times(&name, timestamp)).sum();
        assert_eq!(times, 1, "{name}");
    }
}

#[test]
fn lines_from_standard_input_arrive_and_a_bad_one_is_named() {
    let sink = Sink::alone();
    let edge = Edge::before_graphite(sink.address());
    let points = Points::new("emit", 100, 50_000);
    let lines = |name, text: &str| Stdio::from(File::open(edge.scratch().write(name, text)).unwrap());

    let good = emit(edge.stomp(), &["-"], lines("good", &points.lines(0..40_000)));
    check_taken(&good, "taken 40000 of 40000");
    let rest = format!("{}no.value\n{}", points.lines(40_000..45_000), points.lines(45_000..50_000));
    let mixed = emit(edge.stomp(), &["-"], lines("mixed", &rest));
    assert_eq!(mixed.status.code(), Some(1));
    let told = "packetboat: taken 10000 of 10001, refused 1 (fields 1), first \"no.value\"";
    assert_eq!(text(&mixed.stderr), told);
    check_taken(&emit(edge.stomp(), &["-"], Stdio::null()), "taken 0 of 0");

    let ledger = sink.ledger();
    until(LIMIT, "all lines", || when(ledger.distinct() == points.count(), ledger.distinct()));
    let comparison = ledger.compare(&points, points.all());
    assert_eq!(comparison, Default::default());
}

#[test]
fn what_is_not_taken_fails_in_one_line() {
    let sink = Sink::alone();
    let edge = Edge::before_graphite(sink.address());
    let check = |to, arguments: &[&str], code, expected: &[&str]| {
        let output = emit(to, arguments, Stdio::null());
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(code), ""), "{output:?}");
        let complaint = text(&output.stderr);
        assert!(complaint.starts_with("packetboat: ") && complaint.lines().count() == 1, "{complaint}");
        assert!(expected.iter().all(|part| complaint.contains(part)), "{complaint}");
    };
    let (stomp, nobody) = (edge.stomp(), Port::free());
    check(stomp, &["load", "one"], 1, &["the value `one` is not a decimal number"]);
    check(stomp, &["a load", "1"], 1, &["the name `", "a load`"]);
    check(stomp, &["load"], 2, &["a value is missing", "packetboat emit --help"]);
    let (at, other) = (stomp.to_string(), ["--destination", "/queue/other", "load", "1"]);
    check(stomp, &other, 1, &[&at, "no destination", "/queue/other", "are taken at /queue/graphite"]);
    let at = nobody.address().to_string();
    check(nobody.address(), &["load", "1"], 1, &[&at, "Connection refused", "--to HOST:PORT"]);
    edge.drained();
    assert_eq!(sink.ledger().lines(), 0);
}
