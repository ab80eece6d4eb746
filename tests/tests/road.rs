//! The whole road on real parts: 200,000 points through an agent, a broker, two consumers and carbon,
//! while the link is cut in the middle of a frame and the agent and a consumer are killed. Every point
//! arrives, counted by identity before carbon, and is then read back out of whisper value by value.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![expect(clippy::print_stdout, reason = "the numbers of a run are worth reading when it passes, too")]

use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use forwarder::batch::BATCH_RAW_BYTES_MAX;
use forwarder::sink::stomp::{WINDOW_BYTES, WINDOW_COUNT};
use tests::broker::Kind;
use tests::load::{StompLoad, plaintext};
use tests::points::Points;
use tests::road::Road;
use tests::short_or_full;
use tests::stomp::Stomp;
use tests::wait::{until, when};

const NAMES: usize = 2_000;
const POINTS: usize = 200_000;
const LIMIT: Duration = Duration::from_secs(120);

#[test]
fn every_point_arrives_over_rabbitmq() {
    every_point_arrives(Kind::RabbitMq);
}

#[test]
fn every_point_arrives_over_activemq() {
    every_point_arrives(Kind::ActiveMq);
}

fn every_point_arrives(kind: Kind) {
    let mut road = Road::over(kind, "");
    let points = Points::new(&format!("road.{kind}"), NAMES, POINTS);

    let by_the_cut = cut_the_link_in_a_frame(&road, &points);
    let by_the_agent = kill_the_agent_with_a_window_in_flight(&mut road);
    let by_the_consumer = kill_a_consumer_with_its_prefetch_in_flight(&mut road, &points);

    until(LIMIT, "every point at the sink", || {
        let distinct = road.ledger.distinct();
        when(distinct == POINTS, distinct)
    });
    road.drained();
    check_the_ledger(&road, &points, [by_the_cut, by_the_agent, by_the_consumer]);
    check_the_window(&road);
    check_the_books(&road);
    until(LIMIT, "every value in whisper", || {
        let missing = road.carbon.whisper().missing(&points, points.all());
        when(missing.is_empty(), format!("{} missing", missing.len()))
    });
}

/// Half of the points come while the link breaks, a quarter while it is down; none of the producers notices.
/// The agent lives, so it has heard of every receipt that got through: tells how many lines had gone whole
/// and without one.
fn cut_the_link_in_a_frame(road: &Road, points: &Points) -> u64 {
    let (first_half, third_quarter) = (0..POINTS / 2, POINTS / 2..POINTS / 4 * 3);
    road.link.cut_after(points.lines(0..POINTS / 8).len() as u64 + 7);
    let load = StompLoad { destination: road.queue.clone(), lines_per_send: 100, window: 200 };
    let receipted =
        load.run(Stomp::connect(road.stomp(), &[]), points, first_half.clone(), &AtomicUsize::new(0));
    assert!(receipted.broken.is_none(), "{receipted:?}");
    assert_eq!(receipted.numbers().count(), first_half.len());
    until(LIMIT, "the cut", || when(road.link.is_cut(), road.link.bytes_up()));

    plaintext(road.graphite(), points, third_quarter).unwrap();
    outage(short_or_full(Duration::from_secs(4), Duration::from_secs(30)));
    assert!(road.backlog() >= (POINTS / 4) as f64, "the backlog holds at least what came during the outage");
    assert!(road.ledger.distinct() < POINTS / 2, "a cut link passes nothing");
    road.flight.ended().iter().map(|session| session.open.lines).sum()
}

/// The length of an outage is what is tested, not something that is waited for.
fn outage(length: Duration) {
    #[expect(clippy::disallowed_methods, reason = "the link is to be down for so long in real time")]
    std::thread::sleep(length);
}

/// The link is held with SENDs on their way: some have reached the broker, and their receipts never come. What
/// was receipted last may not have been deleted yet: tells how many lines these are, and those without a receipt.
fn kill_the_agent_with_a_window_in_flight(road: &mut Road) -> u64 {
    let before = road.flight.ended().len();
    road.link.mend();
    road.link.hold_after(200_000);
    until(LIMIT, "a window in flight", || when(road.link.is_held(), road.link.bytes_up()));
    road.agent.kill();
    // What was held back still reaches the broker.
    road.link.mend();
    let ended = until(LIMIT, "the end of its session", || {
        let ended = road.flight.ended().split_off(before);
        when(!ended.is_empty(), "it stands").map(|()| ended)
    });
    road.agent.restart();
    road.agent.ready();
    ended.iter().map(|session| session.open.lines + session.late.lines).sum()
}

/// The first consumer's way into carbon is held, so that it has all that it may have unacknowledged; what
/// it has written dies with it. The last quarter of the points makes sure that there is enough. Tells how many
/// lines it had written without carbon's receipt: it had acknowledged all others.
fn kill_a_consumer_with_its_prefetch_in_flight(road: &mut Road, points: &Points) -> u64 {
    until(LIMIT, "both consumers at work", || {
        let delivered = road.delivered();
        when(delivered.iter().all(|&metrics| metrics > 0.0), format!("{delivered:?}"))
    });
    road.ways[0].hold_after(50_000);
    plaintext(road.graphite(), points, POINTS / 4 * 3..POINTS).unwrap();
    until(LIMIT, "a prefetch in flight", || when(road.ways[0].is_held(), road.ways[0].bytes_up()));
    until(LIMIT, "no receipt that is not acknowledged", || {
        let lines = road.ways[0].just_confirmed_lines();
        when(lines == 0, lines)
    });
    road.consumers[0].kill();
    let unconfirmed = road.ways[0].unconfirmed_lines();
    road.ways[0].reset_all();
    road.ways[0].mend();
    road.consumers[0].restart();
    road.consumers[0].answers();
    unconfirmed
}

/// Each copy comes from the cut or from one of the kills: of each only what was in flight there and then, as the
/// proxies have counted it, can come twice.
fn check_the_ledger(road: &Road, points: &Points, in_flight: [u64; 3]) {
    let ledger = &road.ledger;
    let comparison = ledger.compare(points, points.all());
    let copies = comparison.duplicates;
    println!("{} lines at the sink, {copies} of them copies; in flight were {in_flight:?}", ledger.lines());
    assert_eq!(comparison.missing, [0; 0]);
    assert_eq!(comparison.altered, [0; 0]);
    assert_eq!(comparison.strangers, 0);
    assert_eq!(ledger.bad(), [""; 0]);
    assert!(copies <= in_flight.iter().sum(), "{copies} copies, but in flight were {in_flight:?}");
}

/// The link never had more on its way than it is configured to: the last batch may begin below the bound.
fn check_the_window(road: &Road) {
    let widest = road.flight.widest();
    println!("at most on the link at a time: {widest:?}");
    assert!(widest.batches <= WINDOW_COUNT as u64, "{widest:?}");
    assert!(widest.bytes < (WINDOW_BYTES + BATCH_RAW_BYTES_MAX) as u64, "{widest:?}");
}

/// What the agent says itself.
fn check_the_books(road: &Road) {
    let agent = road.agent.metrics();
    assert_eq!(agent.get("packetboat_link_up{to=\"eu\"}"), Some(1.0));
    assert_eq!(agent.sum("packetboat_dropped_metrics_total").unwrap_or(0.0), 0.0);
    assert_eq!(agent.sum("packetboat_rejected_metrics_total").unwrap_or(0.0), 0.0);
}

#[test]
fn compressed_bodies_reach_carbon_over_both_brokers() {
    for kind in Kind::ALL {
        let road = Road::over(kind, "encoding: zstd");
        let points = Points::new(&format!("zstd.{kind}"), 500, 20_000);
        plaintext(road.graphite(), &points, points.all()).unwrap();
        until(LIMIT, "every value in whisper", || {
            let missing = road.carbon.whisper().missing(&points, points.all());
            when(missing.is_empty(), format!("{} missing", missing.len()))
        });
        let comparison = road.ledger.compare(&points, points.all());
        assert_eq!(comparison.duplicates, 0, "nothing broke, so nothing comes twice");
        let raw = points.lines(points.all()).len() as u64;
        assert!(road.link.bytes_up() < raw / 2, "{} of {raw} bytes on the link", road.link.bytes_up());
    }
}
