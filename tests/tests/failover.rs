//! Pairs: two agents before which a producer has a failover list, two agents or two brokers behind one agent.
//! The loss of either is ridden out: nothing is lost, and no more than a window comes twice.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tests::berth::Berth;
use tests::broker::{Broker, Kind, failover_entry, fresh_queue, passcode_file, topology_entry};
use tests::load::{StompLoad, plaintext};
use tests::packetboat::Packetboat;
use tests::points::Points;
use tests::scratch::Scratch;
use tests::short_or_full;
use tests::sink::Sink;
use tests::station::{Station, drained};
use tests::upstream::{Answer, Upstream};
use tests::wait::{until, when};

const LIMIT: Duration = Duration::from_secs(180);
const NAMES: usize = 200;
/// Of a bulky point: its line has about 1 kB, so that 64 KiB hold no more than this.
const LINES_PER_BATCH_MAX: u64 = 68;
/// A window ends at 4 MiB of bodies, where a bulky line takes 700 bytes or more, and the batch that crosses it.
const WINDOW_LINES_MAX: u64 = 4 * 1024 * 1024 / 700 + LINES_PER_BATCH_MAX;
/// What a collector may have taken and not acknowledged: 128 messages.
const PREFETCH_LINES_MAX: u64 = 128 * LINES_PER_BATCH_MAX;

fn accepted(agent: &Packetboat) -> f64 {
    agent.metrics().sum("packetboat_accepted_metrics_total").unwrap_or_default()
}

/// All points are at the sink, and of copies no more than these.
fn check(sink: &Sink, points: &Points, copies_max: u64) {
    let comparison = sink.ledger().compare(points, points.all());
    assert_eq!((comparison.missing.len(), comparison.altered.len()), (0, 0));
    assert!(comparison.duplicates <= copies_max, "{} copies of {copies_max}", comparison.duplicates);
    assert_eq!(sink.ledger().bad(), [""; 0]);
}

fn forward_to(sink: &Sink) -> String {
    format!("forward: {{ name: sink, to: \"graphite://{}\" }}", sink.address())
}

/// Two agents called `a` and `b` before one sink, which is away at first: an agent that is killed would send to
/// Graphite again what that has not confirmed, and only the copies of the failover are to be counted.
struct Pair {
    a: Packetboat,
    b: Packetboat,
    topology: PathBuf,
    stations: [Station; 2],
    sink: Sink,
    scratch: Scratch,
}

impl Pair {
    /// `more` are further agents of the topology.
    fn new(scratch: Scratch, more: &str) -> Self {
        let (sink, stations) = (Sink::alone(), ["a", "b"].map(Station::new));
        sink.proxy().leave();
        let entries: String =
            stations.iter().map(|station| station.entry(&scratch, &[&forward_to(&sink)])).collect();
        let topology = scratch.write("topology.yaml", &format!("mesh: test\nagents:\n{entries}{more}"));
        let [a, b] = stations.each_ref().map(|station| station.start(&topology, &scratch));
        Self { a, b, topology, stations, sink, scratch }
    }

    /// Lets all that the two have go to the sink.
    fn deliver(&self) {
        self.sink.proxy().mend();
        drained(&self.a, "sink");
        drained(&self.b, "sink");
    }
}

fn restart(agent: &mut Packetboat) {
    agent.restart();
    agent.ready();
}

#[test]
fn producers_with_a_failover_list_ride_out_the_loss_of_either_agent() {
    const PRODUCERS: usize = 3;
    let load = StompLoad { destination: "/queue/graphite".to_owned(), lines_per_send: 20, window: 50 };
    let mut pair = Pair::new(Scratch::new("producers"), "");
    let count = short_or_full(40_000, 400_000);
    let points: Vec<Points> =
        (0..PRODUCERS).map(|number| Points::new(&format!("pair.p{number}"), NAMES, count)).collect();
    let progress = AtomicUsize::new(0);
    let wait_for_receipts = |tenths: usize| {
        until(LIMIT, "the producers to go on", || {
            let receipted = progress.load(Ordering::SeqCst);
            when(receipted >= tenths * PRODUCERS * count / 10, receipted)
        });
    };
    let addresses = pair.stations.each_ref().map(Station::stomp);
    let losses: Vec<usize> = std::thread::scope(|scope| {
        let run = |points: &'_ Points| load.run_over(&addresses, points, points.all(), &progress);
        let producers: Vec<_> = points.iter().map(|points| scope.spawn(move || run(points))).collect();
        wait_for_receipts(2);
        pair.a.kill();
        wait_for_receipts(5);
        restart(&mut pair.a);
        pair.b.kill();
        wait_for_receipts(8);
        restart(&mut pair.b);
        producers.into_iter().map(|producer| producer.join().unwrap()).collect()
    });
    pair.deliver();
    for (points, losses) in points.iter().zip(losses) {
        assert!(losses >= 2, "{losses}");
        check(&pair.sink, points, (losses * load.lines_per_send * load.window) as u64);
    }
}

#[test]
fn an_agent_that_has_lost_one_of_two_upstream_agents_stays_with_the_other() {
    one_of_two_upstreams_is_lost(false);
}

/// The first one is tried again every 30 s.
#[test]
fn an_agent_returns_to_the_first_of_two_upstream_agents_where_that_is_preferred() {
    if short_or_full(false, true) {
        one_of_two_upstreams_is_lost(true);
    }
}

/// `a` is killed while `us`, whose link leads to `a` and `b`, sends; it comes back once `b` has taken the rest.
fn one_of_two_upstreams_is_lost(prefer_first: bool) {
    const LATER: usize = 1_000;
    let (scratch, station) = (Scratch::new("upstreams"), Station::new("us"));
    let entry = station
        .entry(&scratch, &[&format!("forward: {{ name: pair, to: [a, b], prefer_first: {prefer_first} }}")]);
    let mut pair = Pair::new(scratch, &entry);
    let mut us = station.start(&pair.topology, &pair.scratch);
    let points = Points::bulky("upstreams", NAMES, short_or_full(20_000, 100_000));
    std::thread::scope(|scope| {
        let producer = scope.spawn(|| plaintext(station.graphite(), &points, points.all()));
        wait_for_accepted(&pair.a, points.count() / 5);
        pair.a.kill();
        producer.join().unwrap().unwrap();
    });
    drained(&us, "pair");
    assert!(accepted(&pair.b) > 0.0);

    restart(&mut pair.a);
    if prefer_first {
        until(LIMIT, "the return to the first", || {
            when(us.log().contains("the first endpoint is back, and preferred"), us.log())
        });
    }
    let later = Points::new("later", NAMES, LATER);
    plaintext(station.graphite(), &later, later.all()).unwrap();
    drained(&us, "pair");
    assert_eq!(accepted(&pair.a), if prefer_first { LATER as f64 } else { 0.0 });
    pair.deliver();
    check(&pair.sink, &points, WINDOW_LINES_MAX);
    check(&pair.sink, &later, 0);
    assert!(us.terminate(LIMIT).success());
}

fn wait_for_accepted(agent: &Packetboat, count: usize) {
    until(LIMIT, &format!("{count} metrics accepted"), || {
        let accepted = accepted(agent);
        when(accepted >= count as f64, accepted)
    });
}

#[test]
fn an_agent_rides_out_the_loss_of_rabbitmq_before_activemq() {
    one_of_two_brokers_is_lost([Kind::RabbitMq, Kind::ActiveMq]);
}

#[test]
fn an_agent_rides_out_the_loss_of_one_activemq_of_two() {
    one_of_two_brokers_is_lost([Kind::ActiveMq, Kind::ActiveMq]);
}

/// `us` sends to the two by one failover list, and `eu` collects from each of them. The first is killed in the
/// middle, and comes back once the other has taken the rest.
fn one_of_two_brokers_is_lost(kinds: [Kind; 2]) {
    let mut brokers = kinds.map(Broker::launch);
    brokers.iter_mut().for_each(Broker::ready);
    let (scratch, sink) = (Scratch::new("brokers"), Sink::alone());
    let (us_station, eu_station) = (Station::new("us"), Station::new("eu"));
    let passcode_file = passcode_file(&scratch);
    let [first, second] = brokers.each_ref().map(Broker::address);
    let entries = [
        topology_entry("first", first, &passcode_file),
        topology_entry("second", second, &passcode_file),
        failover_entry("pair", &[first, second], &passcode_file),
    ];
    let text = format!(
        "mesh: test\nqueue: {}\nbrokers:\n{}agents:\n{}{}",
        fresh_queue("pair"),
        entries.concat(),
        us_station.entry(&scratch, &["forward: { to: pair }"]),
        eu_station.entry(&scratch, &["collect: [first, second]", &forward_to(&sink)]),
    );
    let topology = scratch.write("topology.yaml", &text);
    let mut us = us_station.start(&topology, &scratch);
    let mut eu = eu_station.start(&topology, &scratch);
    let points = Points::bulky("brokers", NAMES, short_or_full(20_000, 100_000));
    std::thread::scope(|scope| {
        let producer = scope.spawn(|| plaintext(us_station.graphite(), &points, points.all()));
        wait_for_accepted(&eu, points.count() / 5);
        brokers[0].kill();
        producer.join().unwrap().unwrap();
    });
    drained(&us, "pair");
    assert!(
        us.metrics().sum("packetboat_link_reconnects_total") >= Some(1.0),
        "the second one took the rest"
    );
    brokers[0].restart();
    until(LIMIT, "all points at the sink", || {
        let distinct = sink.ledger().distinct();
        when(distinct == points.count(), distinct)
    });
    drained(&eu, "sink");
    check(&sink, &points, WINDOW_LINES_MAX + PREFETCH_LINES_MAX);
    assert!(us.terminate(LIMIT).success());
    assert!(eu.terminate(LIMIT).success());
}

/// A broker that lets us in and takes nothing, such as one whose queue is full, is left for the next of the list.
#[test]
fn an_upstream_that_takes_nothing_is_left_for_the_next() {
    let berth = Berth::new("refusing-first");
    let first = Upstream::new(|frame| if frame.command == "SEND" { Answer::Close } else { Answer::Yes });
    let second = Upstream::willing();
    let topology = berth.topology_with(&format!("dir: {}", berth.spool().display()), "to: eu");
    let text = std::fs::read_to_string(&topology).unwrap();
    let urls = format!("\"stomp://{}\", \"stomp://{}\"", first.address(), second.address());
    std::fs::write(&topology, format!("{text}brokers:\n  eu: {{ urls: [{urls}] }}\n")).unwrap();
    let _agent = berth.agent(&topology);
    let points = Points::new("refused", NAMES, 1_000);
    plaintext(berth.graphite(), &points, points.all()).unwrap();
    until(LIMIT, "all of it at the second of the list", || {
        let distinct = second.ledger().distinct();
        when(distinct == points.count(), distinct)
    });
}
