//! STOMP clients that others have written subscribe at an agent that keeps its metrics: they get what was
//! sent, acknowledge it, refuse it, or go without a word.

use tests::edge::{Edge, QUEUE};
use tests::points::Points;
use tests::short_or_full;
use tests::sink::Sink;
use tests::wait::{until, when};

use crate::LIMIT;
use crate::client::{Client, What};

const LINES: usize = 60;
/// More lines than one message holds, and few enough for a prefetch.
const LEFT: usize = 4;

#[test]
fn the_classic_ruby_consumer_is_served_unchanged() {
    classic_consumer(Client::Ruby);
}

#[test]
fn pythons_classic_consumer_is_served_unchanged() {
    classic_consumer(Client::Python);
}

#[test]
fn perls_classic_consumer_is_served_unchanged() {
    classic_consumer(Client::Perl);
}

#[test]
fn phps_classic_consumer_is_served_unchanged() {
    classic_consumer(Client::Php);
}

#[test]
fn the_tokio_stomp_consumer_is_served_unchanged() {
    classic_consumer(Client::Rust);
}

#[test]
fn nodes_consumer_is_served_unchanged() {
    classic_consumer(Client::Node);
}

#[test]
fn ruby_stomp_subscribes_in_every_version() {
    acknowledges(&Edge::keeping(), Client::Ruby, &["1.0", "1.1", "1.2"]);
    refuses(&Edge::keeping(), Client::Ruby, &["1.1", "1.2"]);
    lives_by_its_heart_beats(&Edge::keeping(), Client::Ruby, &["1.1", "1.2"]);
}

#[test]
fn pythons_client_subscribes_in_every_version() {
    acknowledges(&Edge::keeping(), Client::Python, &["1.0", "1.1", "1.2"]);
    refuses(&Edge::keeping(), Client::Python, &["1.1", "1.2"]);
    lives_by_its_heart_beats(&Edge::keeping(), Client::Python, &["1.1", "1.2"]);
}

#[test]
fn perls_client_subscribes_in_every_version() {
    acknowledges(&Edge::keeping(), Client::Perl, &["1.0", "1.1", "1.2"]);
    refuses(&Edge::keeping(), Client::Perl, &["1.1", "1.2"]);
}

#[test]
fn phps_client_subscribes() {
    acknowledges(&Edge::keeping(), Client::Php, &["1.0"]);
}

#[test]
fn the_tokio_stomp_client_subscribes() {
    acknowledges(&Edge::keeping(), Client::Rust, &["1.2"]);
    refuses(&Edge::keeping(), Client::Rust, &["1.2"]);
}

#[test]
fn nodes_client_subscribes_in_every_version() {
    acknowledges(&Edge::keeping(), Client::Node, &["1.0", "1.1", "1.2"]);
    refuses(&Edge::keeping(), Client::Node, &["1.1", "1.2"]);
    lives_by_its_heart_beats(&Edge::keeping(), Client::Node, &["1.1", "1.2"]);
}

/// What it `puts` into Graphite's socket is what was sent.
fn classic_consumer(client: Client) {
    let edge = Edge::keeping();
    let sink = Sink::alone();
    let mut consumer = client.consume(("edge", edge.stomp()), QUEUE, sink.address(), edge.scratch());
    let points = Points::new(&format!("classic.{}", client.name()), 10, LINES);
    client.produce(&edge, &points.lines(points.all()));

    let ledger = sink.ledger();
    until(LIMIT, "all lines at the Graphite", || {
        if let Some(status) = consumer.ended() {
            panic!("the consumer ended with {status}: {}", consumer.log());
        }
        when(ledger.distinct() == LINES, ledger.distinct())
    });
    let comparison = ledger.compare(&points, points.all());
    assert_eq!((comparison.missing, comparison.altered), (Vec::new(), Vec::new()));
    assert_eq!((comparison.duplicates, comparison.strangers), (0, 0));
    edge.subscribers_had(LINES as i64, 0);
}

/// What a lost session got comes to the next one, as redelivered; what is acknowledged is gone.
pub(crate) fn acknowledges(edge: &Edge, client: Client, versions: &[&str]) {
    let mut delivered = 0;
    for &version in versions {
        for ack in ["client", "client-individual"] {
            let points = Points::new(&format!("{ack}.{}.v{version}", client.name()), 10, LINES);
            client.produce(edge, &points.lines(points.all()));
            edge.subscribers_had(delivered, LINES as i64);

            let mode = [version, ack];
            let left = client.subscribe(edge, mode, What::Leave, LEFT, "");
            assert!(left.iter().all(|(again, _)| !again), "{left:?}");
            edge.subscribers_had(delivered, LINES as i64);

            let mut taken = client.subscribe(edge, mode, What::Take, LINES, "");
            let is_again = |line: &str| taken.contains(&(true, line.to_owned()));
            assert!(
                left.iter().all(|(_, line)| is_again(line)),
                "{client:?} {mode:?}: {left:?}, then {taken:?}"
            );
            taken.sort_by(|(_, one), (_, other)| one.cmp(other));
            assert_eq!(texts(&taken), sorted(&points), "{client:?} {mode:?}");
            delivered += LINES as i64;
            edge.subscribers_had(delivered, 0);
        }
        let points = Points::new(&format!("auto.{}.v{version}", client.name()), 10, LINES);
        client.produce(edge, &points.lines(points.all()));
        let mut got = client.subscribe(edge, [version, "auto"], What::Take, LINES, "");
        got.sort();
        assert_eq!(texts(&got), sorted(&points), "{client:?} {version}");
        delivered += LINES as i64;
        edge.subscribers_had(delivered, 0);
    }
}

/// What is NACKed comes again, and says so.
pub(crate) fn refuses(edge: &Edge, client: Client, versions: &[&str]) {
    for (turn, &version) in versions.iter().enumerate() {
        let points = Points::new(&format!("refused.{}.v{version}", client.name()), 10, LINES);
        client.produce(edge, &points.lines(points.all()));
        let got = client.subscribe(edge, [version, "client-individual"], What::Refuse, LINES, "");
        let (mut again, mut new): (Vec<_>, Vec<_>) = got.into_iter().partition(|(again, _)| *again);
        new.sort();
        again.sort();
        assert_eq!(texts(&new), sorted(&points), "{client:?} {version}");
        assert_eq!(texts(&again), sorted(&points), "{client:?} {version}");
        edge.subscribers_had(((turn + 1) * LINES) as i64, 0);
    }
}

/// The full form is longer than the 25 s that the agent waits for a beat of the client's.
pub(crate) fn lives_by_its_heart_beats(edge: &Edge, client: Client, versions: &[&str]) {
    for (turn, &version) in versions.iter().enumerate() {
        let points = Points::new(&format!("beats.{}.v{version}", client.name()), 5, 10);
        let input = points.lines(points.all());
        let beats = What::Beats(short_or_full(3, 40));
        let mut got = client.subscribe(edge, [version, "client-individual"], beats, 10, &input);
        got.sort();
        assert_eq!(texts(&got), sorted(&points), "{client:?} {version}");
        edge.subscribers_had(((turn + 1) * 10) as i64, 0);
    }
}

fn texts(got: &[(bool, String)]) -> Vec<&str> {
    got.iter().map(|(_, line)| line.as_str()).collect()
}

fn sorted(points: &Points) -> Vec<String> {
    let mut lines: Vec<String> = points.lines(points.all()).lines().map(str::to_owned).collect();
    lines.sort();
    lines
}
