//! A regional cluster: a quorum queue on three nodes of RabbitMQ, to which one agent sends and from which
//! another collects, both over a failover list. The node that serves them is killed, and nothing is lost.

use std::time::Duration;

use tests::broker::{Cluster, failover_entry, fresh_queue, passcode_file};
use tests::load::plaintext;
use tests::packetboat::Packetboat;
use tests::points::Points;
use tests::scratch::Scratch;
use tests::short_or_full;
use tests::sink::Sink;
use tests::station::{Station, drained};
use tests::wait::{until, when};

const LIMIT: Duration = Duration::from_secs(180);
const NODES: usize = 3;
const POINTS: usize = 20_000;
/// 4 MiB of bodies in flight, of bulky lines of about 1 kB.
const WINDOW_LINES_MAX: u64 = 4_500;

#[test]
fn a_quorum_queue_rides_out_the_loss_of_the_node_that_serves() {
    let mut cluster = Cluster::start(NODES);
    let (scratch, sink) = (Scratch::new("quorum"), Sink::alone());
    let (us_station, eu_station) = (Station::new("us"), Station::new("eu"));
    let queue = fresh_queue("quorum");
    let text = format!(
        "mesh: test\nqueue: {queue}\nbrokers:\n{}    headers: {{ send: {{ x-queue-type: quorum }}, subscribe: {{ x-queue-type: \
         quorum }} }}\nagents:\n{}{}",
        failover_entry("hub", &cluster.addresses(), &passcode_file(&scratch)),
        us_station.entry(&scratch, &["forward: { to: hub }"]),
        eu_station.entry(
            &scratch,
            &["collect: [hub]", &format!("forward: {{ name: sink, to: \"graphite://{}\" }}", sink.address())]
        ),
    );
    let topology = scratch.write("topology.yaml", &text);
    let mut us = us_station.start(&topology, &scratch);
    let mut eu = eu_station.start(&topology, &scratch);

    // Whoever serves is killed: the list is gone down, and in the full form round it.
    for round in 0..short_or_full(1, 2 * NODES) {
        let points = Points::bulky(&format!("quorum.r{round}"), 200, POINTS);
        let lost = round % NODES;
        let before = accepted(&eu);
        std::thread::scope(|scope| {
            let producer = scope.spawn(|| plaintext(us_station.graphite(), &points, points.all()));
            until(LIMIT, "some on the other side", || {
                let crossed = accepted(&eu) - before;
                when(crossed >= f64::from(2_000), crossed)
            });
            cluster.kill(lost);
            producer.join().unwrap().unwrap();
        });
        drained(&us, "hub");
        until(LIMIT, "all points at the sink", || {
            let missing = sink.ledger().compare(&points, points.all()).missing.len();
            when(missing == 0, missing)
        });
        let queues = cluster.control((lost + 1) % NODES, &["list_queues", "name", "type", "--quiet"]);
        let name = queue.trim_start_matches("/queue/");
        assert!(queues.lines().any(|line| line.starts_with(name) && line.ends_with("quorum")), "{queues}");
        drained(&eu, "sink");
        let comparison = sink.ledger().compare(&points, points.all());
        assert_eq!(comparison.altered, [0; 0]);
        assert!(comparison.duplicates <= WINDOW_LINES_MAX, "{}", comparison.duplicates);
        cluster.restart(lost);
    }
    for agent in [&us, &eu] {
        let reconnects = agent.metrics().sum("packetboat_link_reconnects_total");
        assert!(reconnects >= Some(1.0), "{reconnects:?}");
    }
    assert!(us.terminate(LIMIT).success());
    assert!(eu.terminate(LIMIT).success());
}

fn accepted(agent: &Packetboat) -> f64 {
    agent.metrics().sum("packetboat_accepted_metrics_total").unwrap_or_default()
}
