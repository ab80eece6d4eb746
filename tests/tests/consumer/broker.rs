//! The broker refuses the login, or dies.

use tests::broker::{Broker, Kind, PASSCODE};
use tests::points::Points;
use tests::wait::{until, when};

use crate::drain::{LIMIT, MORE_THAN_PREFETCHED, PREFETCHED_LINES_MAX, Plan};

const WRONG: &str = "not-the-passcode";

#[test]
fn a_wrong_passcode_is_told_by_rabbitmq() {
    a_wrong_passcode_is_told(Kind::RabbitMq);
}

#[test]
fn a_wrong_passcode_is_told_by_activemq() {
    a_wrong_passcode_is_told(Kind::ActiveMq);
}

/// It is said where and why, the passcode itself is not, and the right one needs no restart.
fn a_wrong_passcode_is_told(kind: Kind) {
    let drain = Plan { passcode: WRONG, ..Plan::of(Broker::shared(kind), 1) }.start();
    let consumer = &drain.consumers[0];
    let link = until(LIMIT, "the refusal", || {
        let link = consumer.link();
        if link["last_error"].is_null() { Err(link) } else { Ok(link) }
    });
    assert_eq!(link["state"], "down", "{link}");
    let error = link["last_error"].as_str().unwrap();
    let place = format!("{}: the login was refused: ", drain.broker.address());
    assert!(error.contains(&place) && error.contains("passcode_file"), "{error}");
    let log = consumer.process.log();
    let told = log.lines().find(|line| line.contains(" WARN ") && line.contains(&place));
    assert!(told.is_some_and(|line| line.contains("drain-0")), "{log}");
    assert!(!log.contains(WRONG) && !link.to_string().contains(WRONG), "{log}");

    std::fs::write(&drain.passcode_file, PASSCODE).unwrap();
    consumer.subscribed();
    let points = Points::new(&format!("passcode.{kind}"), 10, 100);
    drain.fill(&points, points.all());
    consumer.all_confirmed(&points);
    drain.ends_empty();
}

#[test]
fn what_was_in_flight_when_rabbitmq_died_comes_again() {
    what_was_in_flight_when_the_broker_died_comes_again(Kind::RabbitMq);
}

#[test]
fn what_was_in_flight_when_activemq_died_comes_again() {
    what_was_in_flight_when_the_broker_died_comes_again(Kind::ActiveMq);
}

fn what_was_in_flight_when_the_broker_died_comes_again(kind: Kind) {
    let mut drain = Plan::of(Broker::start(kind), 1).subscribe();
    let points = Points::new(&format!("died.{kind}"), 100, MORE_THAN_PREFETCHED);
    drain.consumers[0].sink.proxy().hold_after(5_000);
    drain.fill(&points, points.all());
    let consumer = &drain.consumers[0];
    until(LIMIT, "lines in flight", || when(consumer.sink.proxy().is_held(), "not yet"));
    let queue = drain.queue.clone();
    drain.broker.has_on_disk(&queue);
    drain.broker.kill();
    until(LIMIT, "the consumer to notice", || {
        let link = consumer.link();
        when(link["state"] == "down", link)
    });
    consumer.sink.proxy().mend();
    drain.broker.restart();

    consumer.all_arrived(&points);
    // What was held may have arrived before the broker sends it again.
    until(LIMIT, "a receipt for every line", || {
        when(consumer.delivered() >= points.count(), consumer.delivered())
    });
    let copies = consumer.sink.ledger().compare(&points, points.all()).duplicates;
    assert!((1..=PREFETCHED_LINES_MAX as u64).contains(&copies), "{copies} lines came twice");
    assert_eq!(consumer.reconnects(), 1);
    drain.ends_empty();
}
