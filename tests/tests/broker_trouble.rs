//! Brokers in trouble: a full queue and a memory alarm on RabbitMQ stop a link, which shows it and loses nothing;
//! and what a collector has taken and could not acknowledge comes again, and is not taken twice.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![expect(clippy::disallowed_methods, reason = "how long an alarm lasts is real time")]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tests::broker::{Broker, Kind, fresh_queue, passcode_file, topology_entry};
use tests::load::plaintext;
use tests::packetboat::Packetboat;
use tests::points::Points;
use tests::proxy::Proxy;
use tests::scratch::Scratch;
use tests::short_or_full;
use tests::sink::Sink;
use tests::station::{Station, drained};
use tests::wait::{until, when};

/// Longer than the longest delay between two dials, some times over.
const LIMIT: Duration = Duration::from_secs(180);
/// 4 MiB of bodies in flight, of bulky lines of about 1 kB.
const WINDOW_LINES_MAX: u64 = 4_500;

/// `us` sends to a broker called `hub`, and `eu` collects from it, by files of their own, so that each may have
/// another way there.
struct Mesh {
    us: Station,
    eu: Station,
    queue: String,
    sink: Sink,
    scratch: Scratch,
}

impl Mesh {
    fn new() -> Self {
        let (us, eu) = (Station::new("us"), Station::new("eu"));
        let (queue, sink, scratch) = (fresh_queue("trouble"), Sink::alone(), Scratch::new("trouble"));
        Self { us, eu, queue, sink, scratch }
    }

    fn topology(&self, name: &str, hub: SocketAddr) -> PathBuf {
        let text = format!(
            "mesh: test\nqueue: {}\nbrokers:\n{}agents:\n{}{}",
            self.queue,
            topology_entry("hub", hub, &passcode_file(&self.scratch)),
            self.us.entry(&self.scratch, &["forward: { to: hub }"]),
            self.eu.entry(
                &self.scratch,
                &[
                    "collect: hub",
                    &format!("forward: {{ name: sink, to: \"graphite://{}\" }}", self.sink.address())
                ]
            ),
        );
        self.scratch.write(name, &text)
    }

    fn start_us(&self, hub: SocketAddr) -> Packetboat {
        self.us.start(&self.topology("us.yaml", hub), &self.scratch)
    }

    fn start_eu(&self, hub: SocketAddr) -> Packetboat {
        self.eu.start(&self.topology("eu.yaml", hub), &self.scratch)
    }

    /// All points come to the sink, with no more copies than these.
    fn check(&self, points: &Points, copies_max: u64) {
        until(LIMIT, "all points at the sink", || {
            let missing = self.sink.ledger().compare(points, points.all()).missing.len();
            when(missing == 0, missing)
        });
        let comparison = self.sink.ledger().compare(points, points.all());
        assert_eq!(comparison.altered, [0; 0]);
        assert!(comparison.duplicates <= copies_max, "{} copies", comparison.duplicates);
    }
}

/// The link to the broker, or from it.
fn wait_for_hub(agent: &Packetboat, state: &str) {
    until(LIMIT, &format!("the link to be {state}"), || {
        let links = agent.status()["links"].clone();
        let hub = links.as_array().unwrap().iter().find(|link| link["name"] == "hub").unwrap();
        when(hub["state"] == state, hub.clone())
    });
}

#[test]
fn a_full_queue_on_rabbitmq_is_shown_as_refused_and_drains_once_there_is_room() {
    let mut broker = Broker::start(Kind::RabbitMq);
    let limit = r#"{"max-length": 20, "overflow": "reject-publish"}"#;
    broker.control(&["set_policy", "short", "trouble", limit, "--apply-to", "queues"]);
    let mesh = Mesh::new();
    let mut us = mesh.start_us(broker.address());
    let points = Points::bulky("full", 200, 5_000);
    plaintext(mesh.us.graphite(), &points, points.all()).unwrap();

    wait_for_hub(&us, "refused");
    let waiting = us.backlog("hub");
    assert!(waiting > 0);
    assert_eq!(us.books("hub")["aside"]["lines"], 0, "nothing is wrong with any of them");
    assert_eq!(us.metrics().get("packetboat_link_up{to=\"hub\"}"), Some(0.0));

    let mut eu = mesh.start_eu(broker.address());
    drained(&us, "hub");
    wait_for_hub(&us, "up");
    mesh.check(&points, WINDOW_LINES_MAX);
    assert_eq!(us.books("hub")["aside"]["lines"], 0);
    assert!(us.terminate(LIMIT).success());
    assert!(eu.terminate(LIMIT).success());
}

/// In the full form until the deadline for receipts has passed and the link has dialled anew: then RabbitMQ lets
/// one batch through at each dial.
#[test]
fn a_memory_alarm_on_rabbitmq_stops_receipts_and_nothing_is_lost() {
    let mut broker = Broker::start(Kind::RabbitMq);
    let mesh = Mesh::new();
    let mut us = mesh.start_us(broker.address());
    let mut eu = mesh.start_eu(broker.address());
    let points = Points::bulky("alarm", 200, 10_000);
    let half = points.count() / 2;
    plaintext(mesh.us.graphite(), &points, 0..half).unwrap();
    drained(&us, "hub");

    broker.control(&["set_vm_memory_high_watermark", "absolute", "1MB"]);
    until(LIMIT, "the alarm", || {
        let status = broker.control(&["status", "--formatter", "json"]);
        let status: serde_json::Value = serde_json::from_str(&status).unwrap();
        let alarms = status["alarms"].as_array().map_or(0, Vec::len);
        when(alarms > 0, alarms)
    });
    plaintext(mesh.us.graphite(), &points, half..points.count()).unwrap();
    let (begun, lasts) = (Instant::now(), Duration::from_secs(short_or_full(12, 90)));
    until(LIMIT, "the end of the alarm", || {
        assert!(us.backlog("hub") > 0, "there are receipts");
        // Only the deadline for receipts, a minute, ends the session: heart-beats go on.
        let up = us.metrics().get("packetboat_link_up{to=\"hub\"}");
        assert!(up == Some(1.0) || begun.elapsed() > Duration::from_secs(50), "{up:?}: {}", us.log());
        when(begun.elapsed() >= lasts, format!("{:?}", begun.elapsed()))
    });
    assert!(us.backlog("hub") > 0);

    broker.control(&["set_vm_memory_high_watermark", "0.4"]);
    drained(&us, "hub");
    mesh.check(&points, WINDOW_LINES_MAX);
    assert_eq!(us.books("hub")["aside"]["lines"], 0);
    assert!(us.terminate(LIMIT).success());
    assert!(eu.terminate(LIMIT).success());
}

#[test]
fn what_is_not_acknowledged_on_rabbitmq_comes_again_and_is_not_taken_twice() {
    acknowledgements_are_cut(Kind::RabbitMq);
}

#[test]
fn what_is_not_acknowledged_on_activemq_comes_again_and_is_not_taken_twice() {
    acknowledgements_are_cut(Kind::ActiveMq);
}

/// The way of the collector to its broker is cut in the middle of its ACKs, after its commits.
fn acknowledgements_are_cut(kind: Kind) {
    let (broker, mesh) = (Broker::shared(kind), Mesh::new());
    let way = Proxy::before(broker.address());
    let mut us = mesh.start_us(broker.address());
    let mut eu = mesh.start_eu(way.address());
    // An ACK has about 30 bytes or more.
    let cuts = [3, 40, 100, 333, 1_000];
    let points = Points::bulky("acks", 200, cuts.len() * 2_000);
    for (round, cut_after) in cuts.into_iter().enumerate() {
        wait_for_hub(&eu, "up");
        way.cut_after(cut_after);
        plaintext(mesh.us.graphite(), &points, round * 2_000..(round + 1) * 2_000).unwrap();
        until(LIMIT, "the cut", || when(way.is_cut(), way.bytes_up()));
        way.mend();
        drained(&us, "hub");
    }
    mesh.check(&points, 0);
    drained(&eu, "sink");
    let again = eu.metrics().sum("packetboat_duplicate_batches_total");
    assert!(again >= Some(1.0), "some came again: {again:?}");
    mesh.check(&points, 0);

    // Nobody is left with a message: it was acknowledged at last.
    assert!(eu.terminate(LIMIT).success());
    let mut session = broker.connect();
    session.subscribe(&mesh.queue, 1).unwrap();
    session.socket().set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    assert!(session.message().is_err(), "something is left on the queue");
    assert!(us.terminate(LIMIT).success());
}
