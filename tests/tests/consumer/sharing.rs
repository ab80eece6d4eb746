//! Consumers of one queue share its messages, and none is lost with one of them.

use tests::broker::{Broker, Kind};
use tests::ledger::Comparison;
use tests::points::Points;
use tests::wait::{until, when};

use crate::drain::{LIMIT, MORE_THAN_PREFETCHED, PREFETCHED_LINES_MAX, Plan};

const POINTS: usize = 10_000;

#[test]
fn two_consumers_share_a_queue_of_rabbitmq() {
    two_consumers_share_a_queue(Kind::RabbitMq);
}

#[test]
fn two_consumers_share_a_queue_of_activemq() {
    two_consumers_share_a_queue(Kind::ActiveMq);
}

fn two_consumers_share_a_queue(kind: Kind) {
    let drain = Plan::of(Broker::shared(kind), 2).subscribe();
    let points = Points::new(&format!("sharing.{kind}"), 100, POINTS);
    drain.fill(&points, points.all());
    until(LIMIT, "a receipt for every line", || {
        let delivered: Vec<usize> = drain.consumers.iter().map(|consumer| consumer.delivered()).collect();
        when(delivered.iter().sum::<usize>() == POINTS, format!("{delivered:?}"))
    });

    // What one of them misses is exactly what the other one has.
    let mut missing = Vec::new();
    for consumer in &drain.consumers {
        let comparison = consumer.sink.ledger().compare(&points, points.all());
        assert!(comparison.missing.len() < POINTS, "one has got nothing");
        missing.extend(comparison.missing.iter().copied());
        assert_eq!(Comparison { missing: Vec::new(), ..comparison }, Comparison::default());
    }
    missing.sort_unstable();
    assert!(missing.into_iter().eq(points.all()), "each point is to come to one of the two");
    drain.ends_empty();
}

#[test]
fn what_a_killed_consumer_held_comes_again_from_rabbitmq() {
    what_a_killed_consumer_held_comes_again(Kind::RabbitMq);
}

#[test]
fn what_a_killed_consumer_held_comes_again_from_activemq() {
    what_a_killed_consumer_held_comes_again(Kind::ActiveMq);
}

fn what_a_killed_consumer_held_comes_again(kind: Kind) {
    let mut drain = Plan::of(Broker::shared(kind), 1).subscribe();
    let points = Points::new(&format!("killed.{kind}"), 100, MORE_THAN_PREFETCHED);
    let consumer = &mut drain.consumers[0];
    consumer.sink.proxy().hold_after(5_000);
    drain.fill(&points, points.all());

    let consumer = &mut drain.consumers[0];
    until(LIMIT, "lines in flight", || when(consumer.sink.proxy().is_held(), "not yet"));
    consumer.process.kill();
    consumer.sink.proxy().mend();
    consumer.process.restart();
    consumer.process.answers();

    consumer.all_arrived(&points);
    // What was held may have arrived before the broker sends it again.
    until(LIMIT, "a receipt for every line", || {
        when(consumer.delivered() >= points.count(), consumer.delivered())
    });
    let copies = consumer.sink.ledger().compare(&points, points.all()).duplicates;
    assert!((1..=PREFETCHED_LINES_MAX as u64).contains(&copies), "{copies} lines came twice");
    drain.ends_empty();
}
