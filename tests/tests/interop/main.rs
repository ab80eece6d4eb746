//! STOMP clients that others have written talk to the agent, and to what it forwards to the brokers,
//! unchanged.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod client;
mod session;
mod subscriber;
mod tls;

use std::time::Duration;

use tests::broker::{Broker, Kind, fresh_queue, passcode_file, topology_entry};
use tests::edge::Edge;
use tests::points::{Points, now_seconds};
use tests::process::Process;
use tests::scratch::Scratch;
use tests::sink::Sink;
use tests::wait::{until, when};

use client::Client;

const LIMIT: Duration = Duration::from_secs(60);
const POINTS: usize = 200;
/// A tagged name, in letters that are several bytes each.
const TAGGED: &str = "interop.größe;ort=Köln";

#[test]
fn the_classic_ruby_scripts_work_unchanged() {
    lines_arrive_once_and_intact(Client::Ruby);
}

#[test]
fn pythons_client_works_unchanged() {
    lines_arrive_once_and_intact(Client::Python);
}

#[test]
fn perls_client_works_unchanged() {
    lines_arrive_once_and_intact(Client::Perl);
}

#[test]
fn phps_client_works_unchanged() {
    lines_arrive_once_and_intact(Client::Php);
}

#[test]
fn the_tokio_stomp_client_works_unchanged() {
    lines_arrive_once_and_intact(Client::Rust);
}

#[test]
fn nodes_client_works_unchanged() {
    lines_arrive_once_and_intact(Client::Node);
}

/// The client as a producer gives all to the agent, which forwards it to both brokers, where the client as a
/// consumer writes it into a Graphite.
fn lines_arrive_once_and_intact(client: Client) {
    let scratch = Scratch::new(client.name());
    let passcode_file = passcode_file(&scratch);
    let queue = fresh_queue("interop");
    let brokers = Kind::ALL.map(Broker::shared);
    let entry =
        |broker: &Broker| topology_entry(&broker.kind().to_string(), broker.address(), &passcode_file);
    let link = |kind: Kind| format!("{{ to: {kind}, queue: {queue} }}");
    let forward = format!("[{}]", Kind::ALL.map(link).join(", "));
    let edge = Edge::start(scratch, &brokers.each_ref().map(entry).concat(), &forward);
    let landings = brokers.each_ref().map(|broker| Landing::new(client, broker, &queue, edge.scratch()));

    let points = Points::new(&format!("interop.{}", client.name()), 50, POINTS);
    let timestamp = now_seconds();
    let tagged = format!("{TAGGED} -1.5e3 {timestamp}\n");
    client.produce(&edge, &(points.lines(points.all()) + &tagged));

    for landing in landings {
        landing.check(&points, timestamp);
    }
    edge.drained();
    let accepted = edge.agent.metrics().get("packetboat_accepted_metrics_total{input=\"stomp\"}");
    assert_eq!(accepted, Some((POINTS + 1) as f64));
}

/// Where the lines of one broker end.
struct Landing {
    consumer: Process,
    sink: Sink,
}

impl Landing {
    fn new(client: Client, broker: &Broker, queue: &str, scratch: &Scratch) -> Self {
        let sink = Sink::alone();
        let upstream = (&*broker.kind().to_string(), broker.address());
        Self { consumer: client.consume(upstream, queue, sink.address(), scratch), sink }
    }

    fn check(mut self, points: &Points, timestamp: i64) {
        let ledger = self.sink.ledger();
        until(LIMIT, &format!("all lines from the {}", self.consumer.name()), || {
            if let Some(status) = self.consumer.ended() {
                panic!("the {} ended with {status}: {}", self.consumer.name(), self.consumer.log());
            }
            when(ledger.distinct() == points.count() + 1, ledger.distinct())
        });
        let comparison = ledger.compare(points, points.all());
        assert_eq!(comparison.missing, [0; 0]);
        assert_eq!(comparison.altered, [0; 0]);
        assert_eq!(comparison.duplicates, 0);
        assert_eq!((comparison.strangers, ledger.times(TAGGED, timestamp)), (1, 1));
        assert_eq!(ledger.bad(), [""; 0]);
    }
}
