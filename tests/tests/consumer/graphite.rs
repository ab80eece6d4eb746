//! Graphite is down, slow, or does not answer a half-close.

use std::time::Duration;

use tests::broker::{Broker, Kind};
use tests::points::Points;
use tests::proxy::Proxy;
use tests::short_or_full;
use tests::sink::Sink;
use tests::wait::{until, when};

use crate::drain::{LIMIT, Plan};

const POINTS: usize = 10_000;

#[test]
fn without_a_graphite_messages_go_to_others_of_rabbitmq() {
    without_a_graphite_messages_go_to_others(Kind::RabbitMq, Proxy::leave);
}

#[test]
fn without_a_graphite_messages_go_to_others_of_activemq() {
    without_a_graphite_messages_go_to_others(Kind::ActiveMq, Proxy::leave);
}

/// It takes each connection and drops it at once.
#[test]
fn a_proxy_without_a_graphite_behind_it_is_none() {
    without_a_graphite_messages_go_to_others(Kind::RabbitMq, Proxy::cut);
}

/// After 10 s without a connection the session ends, so that the messages go back; it stands again once a
/// Graphite does.
fn without_a_graphite_messages_go_to_others(kind: Kind, ends: fn(&Proxy)) {
    let drain = Plan::of(Broker::shared(kind), 2).subscribe();
    let points = Points::new(&format!("down.{kind}"), 100, 2 * POINTS);
    let [down, other] = &drain.consumers[..] else { panic!("there are two") };
    down.sink.proxy().hold_after(5_000);
    drain.fill(&points, 0..POINTS);
    until(LIMIT, "lines in flight", || when(down.sink.proxy().is_held(), "not yet"));
    ends(down.sink.proxy());

    until(LIMIT, "everything at the other one", || when(other.delivered() == POINTS, other.delivered()));
    let link = down.link();
    let error = link["last_error"].as_str().unwrap();
    assert!(error.contains("no connection to Graphite for 10s"), "{error}");
    assert_eq!(down.delivered(), 0);
    let log = down.process.log();
    assert!(log.lines().count() < 10, "repeated failures are to be summed up: {log}");

    down.sink.proxy().mend();
    down.subscribed();
    drain.fill(&points, POINTS..2 * POINTS);
    until(LIMIT, "the rest at both", || {
        let delivered = (down.delivered(), other.delivered());
        when(delivered.0 + delivered.1 == 2 * POINTS && delivered.0 > 0, format!("{delivered:?}"))
    });
    assert_eq!(other.sink.ledger().compare(&points, points.all()).duplicates, 0);
    assert_eq!(other.reconnects(), 0);
    drain.ends_empty();
}

#[test]
fn a_slow_graphite_costs_no_session_of_rabbitmq() {
    a_slow_graphite_costs_no_session(Kind::RabbitMq);
}

#[test]
fn a_slow_graphite_costs_no_session_of_activemq() {
    a_slow_graphite_costs_no_session(Kind::ActiveMq);
}

/// It reads nothing for longer than one may be away.
fn a_slow_graphite_costs_no_session(kind: Kind) {
    let drain = Plan::of(Broker::shared(kind), 1).subscribe();
    let points = Points::new(&format!("slow.{kind}"), 100, POINTS);
    let consumer = &drain.consumers[0];
    consumer.sink.proxy().hold_after(5_000);
    drain.fill(&points, points.all());
    until(LIMIT, "lines in flight", || when(consumer.sink.proxy().is_held(), "not yet"));
    #[expect(clippy::disallowed_methods, reason = "Graphite is to hang for so long in real time")]
    std::thread::sleep(short_or_full(Duration::from_secs(12), Duration::from_secs(90)));
    assert_eq!((consumer.delivered(), consumer.reconnects()), (0, 0));
    assert_eq!(consumer.link()["state"], "up");

    consumer.sink.proxy().mend();
    consumer.all_confirmed(&points);
    assert_eq!(consumer.reconnects(), 0);
    drain.ends_empty();
}

#[test]
fn the_kernels_word_is_for_a_receiver_that_answers_no_half_close() {
    let broker = Broker::shared(Kind::RabbitMq);
    let sinks = vec![Sink::silent()];
    let drain = Plan { sinks, setting: "confirm: kernel", ..Plan::of(broker, 0) }.subscribe();
    let points = Points::new("kernel", 100, POINTS);
    drain.fill(&points, points.all());
    drain.consumers[0].all_confirmed(&points);
    drain.ends_empty();
}

#[test]
fn nothing_is_confirmed_by_a_receiver_that_answers_no_half_close() {
    let broker = Broker::shared(Kind::RabbitMq);
    let sinks = vec![Sink::silent()];
    let mut drain = Plan { sinks, ..Plan::of(broker, 0) }.subscribe();
    let points = Points::new("silent", 10, 500);
    let connections = drain.consumers[0].sink.proxy().accepted();
    drain.fill(&points, points.all());
    let consumer = &mut drain.consumers[0];
    let sink = &consumer.sink;
    until(LIMIT, "all lines", || when(sink.ledger().distinct() == points.count(), sink.ledger().distinct()));
    until(LIMIT, "the half-close, which is when a successor stands", || {
        when(sink.proxy().accepted() > connections, sink.proxy().accepted())
    });
    assert_eq!(consumer.delivered(), 0);
    consumer.process.kill();

    let mut session = drain.broker.connect();
    session.subscribe(&drain.queue, 1_000).unwrap();
    let first = session.message().unwrap();
    assert_eq!(first.text(), points.lines(0..5), "the first message was not acknowledged");
}
