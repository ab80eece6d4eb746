//! An agent without a broker: its link leads straight into a real carbon, and every value is read back out
//! of whisper.

use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use tests::carbon::Carbon;
use tests::edge::{Edge, QUEUE};
use tests::ledger::Comparison;
use tests::load::{StompLoad, plaintext};
use tests::points::Points;
use tests::sink::Sink;
use tests::stomp::Stomp;
use tests::wait::{until, when};

const LIMIT: Duration = Duration::from_secs(60);
const POINTS: usize = 60_000;

/// Over STOMP while carbon is there, over plaintext while it is away, and the rest when it is back.
#[test]
fn an_agent_writes_into_carbon_and_keeps_what_carbon_cannot_take() {
    let carbon = Carbon::start();
    let sink = Sink::before(carbon.address());
    let edge = Edge::before_graphite(sink.address());
    let points = Points::new("straight", 500, POINTS);
    let (first, second, last) = (0..POINTS / 3, POINTS / 3..POINTS / 3 * 2, POINTS / 3 * 2..POINTS);

    let load = StompLoad { destination: QUEUE.to_owned(), lines_per_send: 50, window: 100 };
    let taken = load.run(Stomp::connect(edge.stomp(), &[]), &points, first.clone(), &AtomicUsize::new(0));
    assert!(taken.broken.is_none(), "{taken:?}");
    edge.drained();
    assert_eq!(sink.ledger().confirmed_count(), first.len(), "drained means that carbon has read it");

    sink.proxy().leave();
    plaintext(edge.graphite(), &points, second.clone()).expect("carbon's absence is not the producer's");
    let backlog = edge.agent.metrics().get("packetboat_backlog_metrics{to=\"graphite\"}");
    assert_eq!(backlog, Some(second.len() as f64));
    until(LIMIT, "the link to be down", || {
        let link = edge.agent.status()["links"][0].clone();
        when(link["state"] == "down", link)
    });
    sink.proxy().mend();
    plaintext(edge.graphite(), &points, last).expect("the agent takes what carbon has yet to read");
    edge.drained();

    until(LIMIT, "every value in whisper", || {
        let missing = carbon.whisper().missing(&points, points.all());
        when(missing.is_empty(), format!("{} missing", missing.len()))
    });
    let comparison = sink.ledger().compare(&points, points.all());
    assert_eq!(comparison.duplicates, 0, "nothing was in flight when carbon went away");
    let metrics = edge.agent.metrics();
    assert_eq!(metrics.get("packetboat_forwarded_metrics_total{to=\"graphite\"}"), Some(POINTS as f64));
    assert_eq!(metrics.sum("packetboat_dropped_metrics_total").unwrap_or(0.0), 0.0);
}

/// All that is on its way when carbon dies goes again once it is back, however soon that is.
#[test]
fn what_was_on_its_way_goes_again_after_a_short_absence() {
    let sink = Sink::alone();
    let edge = Edge::before_graphite(sink.address());
    let points = Points::new("straight.short", 100, 5_000);
    sink.proxy().hold_after(20_000);
    plaintext(edge.graphite(), &points, 0..2_500).expect("a slow Graphite is not the producer's");
    until(LIMIT, "lines on their way", || when(sink.proxy().is_held(), "not yet"));
    sink.proxy().leave();
    plaintext(edge.graphite(), &points, 2_500..5_000).expect("an absent Graphite is not the producer's");
    sink.proxy().mend();

    edge.drained();
    let comparison = sink.ledger().compare(&points, points.all());
    assert_eq!(comparison, Comparison { duplicates: comparison.duplicates, ..Comparison::default() });
    assert!(comparison.duplicates > 0, "nothing was on its way");
}
