//! What messages may hold: one line or many, bad ones among good ones, nothing but garbage, or the batches
//! of an agent.

use tests::broker::{Broker, Kind, fresh_queue, passcode_file, topology_entry};
use tests::edge::Edge;
use tests::load::plaintext;
use tests::points::Points;
use tests::scratch::Scratch;
use tests::stomp::Stomp;

use crate::drain::Plan;

#[test]
fn good_lines_arrive_and_bad_ones_are_set_aside_from_rabbitmq() {
    good_lines_arrive_and_bad_ones_are_set_aside(Kind::RabbitMq);
}

#[test]
fn good_lines_arrive_and_bad_ones_are_set_aside_from_activemq() {
    good_lines_arrive_and_bad_ones_are_set_aside(Kind::ActiveMq);
}

fn good_lines_arrive_and_bad_ones_are_set_aside(kind: Kind) {
    let drain = Plan::of(Broker::shared(kind), 1).subscribe();
    let points = Points::new(&format!("messages.{kind}"), 100, 10_000);
    let mut session = drain.broker.connect();
    let mut send = |body: &[u8]| session.send(&drain.queue, body).unwrap();
    for number in 0..10 {
        send(points.lines(number..number + 1).trim_end().as_bytes());
    }
    send(points.lines(10..100).as_bytes());
    send(points.lines(100..200).replace('\n', "\r\n").as_bytes());
    let bad = format!("no.value\n{}inf.value inf 1700000000\n\n", points.lines(200..201));
    send((bad + points.lines(201..300).trim_end()).as_bytes());
    send(b"all.bad 1 tomorrow\nall,bad one 1700000000");
    send(b"\xff\xfe 1 1700000000");
    send(b"");
    // More than fits into one batch.
    send(points.lines(300..10_000).as_bytes());

    let consumer = &drain.consumers[0];
    consumer.all_confirmed(&points);
    let rejects = consumer.rejects();
    let reasons: Vec<&str> = rejects.iter().map(|reject| reject["reason"].as_str().unwrap()).collect();
    assert_eq!(reasons, ["fields", "value", "timestamp", "value", "name"]);
    let lines: Vec<&str> = rejects.iter().map(|reject| reject["line"].as_str().unwrap()).collect();
    assert_eq!(
        lines[..4],
        ["no.value", "inf.value inf 1700000000", "all.bad 1 tomorrow", "all,bad one 1700000000"]
    );
    let sender = format!(" of {} at {}", drain.queue, drain.broker.address());
    assert!(
        rejects.iter().all(|reject| reject["sender"].as_str().unwrap().ends_with(&sender)),
        "{rejects:?}"
    );
    let rejected = consumer.process.metrics().sum("packetboat_rejected_metrics_total");
    assert_eq!(rejected, Some(5.0));
    drain.ends_empty();
}

#[test]
fn what_only_looks_like_a_batch_is_set_aside_whole() {
    let drain = Plan::of(Broker::shared(Kind::RabbitMq), 1).subscribe();
    let points = Points::new("messages.wire", 1, 10);
    let body = points.lines(points.all());
    let mut session = drain.broker.connect();
    let mut send = |headers: &[(&str, &str)]| {
        let fixed = [("destination", &*drain.queue), ("receipt", "sent")];
        session.write("SEND", &[&fixed, headers].concat(), body.as_bytes()).unwrap();
        session.read_receipt().unwrap();
    };
    send(&[("packetboat-wire", "1"), ("packetboat-mesh", "test"), ("packetboat-crc", "00000000")]);
    send(&[]);

    let consumer = &drain.consumers[0];
    consumer.all_confirmed(&points);
    let rejects = consumer.rejects();
    let reasons: Vec<&str> = rejects.iter().map(|reject| reject["reason"].as_str().unwrap()).collect();
    assert!(reasons[0].contains("CRC32C"), "{reasons:?}");
    assert_eq!(reasons.len(), 1);
    assert!(rejects.iter().all(|reject| reject["line"] == body), "{rejects:?}");
    drain.ends_empty();
}

#[test]
fn an_agents_compressed_batches_and_plain_messages_share_a_queue() {
    for kind in Kind::ALL {
        let (broker, queue) = (Broker::shared(kind), fresh_queue("zstd"));
        let scratch = Scratch::new("zstd");
        let entry = topology_entry("eu", broker.address(), &passcode_file(&scratch));
        let edge = Edge::start(scratch, &entry, &format!("{{ to: eu, queue: {queue}, encoding: zstd }}"));
        let points = Points::new(&format!("messages.zstd.{kind}"), 100, 20_000);
        plaintext(edge.graphite(), &points, 0..19_000).unwrap();
        edge.drained();
        let mut session = broker.connect();
        session.send(&queue, points.lines(19_000..20_000).as_bytes()).unwrap();
        the_first_message_is_compressed(session, &queue);

        let drain = Plan { queue, ..Plan::of(broker, 1) }.subscribe();
        drain.consumers[0].all_confirmed(&points);
        drain.ends_empty();
    }
}

/// Looks at it, and leaves it where it is.
fn the_first_message_is_compressed(mut session: Stomp, queue: &str) {
    session.subscribe(queue, 1).unwrap();
    let message = session.message().unwrap();
    assert_eq!(message.header("content-encoding"), Some("zstd"), "{message:?}");
    assert_eq!(message.header("packetboat-wire"), Some("1"), "{message:?}");
    session.disconnect().unwrap();
}
