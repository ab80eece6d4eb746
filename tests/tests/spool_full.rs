//! A spool at its own limit, with its link down. `refuse`: who can wait is held, who cannot is counted, and
//! all that was held arrives in the end. `drop_oldest`: everybody is served, and the books balance (I3, I6).

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::io::Read as _;
use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use tests::berth::{Berth, LINK};
use tests::edge::QUEUE;
use tests::load::plaintext;
use tests::packetboat::Packetboat;
use tests::points::Points;
use tests::short_or_full;
use tests::stomp::Stomp;
use tests::wait::{until, when};

const LIMIT: Duration = Duration::from_secs(60);
/// No beat comes later than this.
const A_WHILE: Duration = Duration::from_secs(30);
const MAX_SIZE: &str = "16MiB";
const MAX_SIZE_BYTES: u64 = 16 << 20;
/// Of about 750 bytes each, compressed.
const LINES_OF_A_FULL_SPOOL: usize = 20_000;

fn spool(berth: &Berth, when_full: &str) -> String {
    format!("dir: {}, max_size: {MAX_SIZE}, when_full: {when_full}", berth.spool().display())
}

#[test]
fn at_its_limit_it_holds_who_can_wait_and_counts_who_cannot() {
    let berth = Berth::new("refuse");
    let topology = berth.topology(&spool(&berth, "refuse"));
    berth.sink.proxy().cut();
    let mut agent = berth.agent(&topology);
    let points = Points::bulky("refuse", 500, 2 * LINES_OF_A_FULL_SPOOL);

    let mut session = std::thread::scope(|scope| {
        let producer = scope.spawn(|| plaintext(berth.graphite(), &points, points.all()));
        until(LIMIT, "503 from /readyz", || {
            let (status, body) = agent.get("/readyz").unwrap();
            when(status == 503, body)
        });
        assert!(agent.status()["spool"]["used_bytes"].as_u64().unwrap() <= MAX_SIZE_BYTES);
        // It beats, and promises beats that it will not send while it is not read.
        let mut session = Stomp::connect(berth.stomp(), &[("heart-beat", "1000,1000")]).unwrap();
        holds_stomp(&mut session);
        counts_udp(&berth, &agent);
        assert!(!producer.is_finished(), "it has neither FIN nor RST");

        berth.sink.proxy().mend();
        producer.join().unwrap().unwrap();
        session
    });
    assert_eq!(session.read_receipt().unwrap(), "held");
    agent.ready();
    berth.drained(&agent);
    let comparison = berth.sink.ledger().compare(&points, points.all());
    assert_eq!((comparison.missing.len(), comparison.altered.len()), (0, 0));
    assert_eq!(comparison.strangers, 1, "the line over STOMP");
    check_books(&agent);
    assert!(agent.terminate(LIMIT).success());
}

/// It is not read, but two beats a second come; in the full form for longer than its own may be missing.
fn holds_stomp(session: &mut Stomp) {
    session
        .write("SEND", &[("destination", QUEUE), ("receipt", "held")], b"held.stomp 1 1700000000")
        .unwrap();
    let mut socket = session.socket();
    socket.set_read_timeout(Some(A_WHILE)).unwrap();
    for _ in 0..short_or_full(4, 80) {
        let mut byte = [0];
        assert_eq!(socket.read(&mut byte).unwrap(), 1, "the session stands");
        assert_eq!(&byte, b"\n", "only beats come");
    }
    socket.set_read_timeout(Some(LIMIT)).unwrap();
}

/// What comes over UDP cannot wait.
fn counts_udp(berth: &Berth, agent: &Packetboat) {
    let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    udp.send_to(b"lost.udp 1 1700000000\nlost.udp 2 1700000001\n", berth.graphite()).unwrap();
    let lost = "packetboat_dropped_metrics_total{reason=\"spool_full\",to=\"\"}";
    until(LIMIT, "two lines counted as lost", || {
        let dropped = agent.metrics().get(lost);
        when(dropped == Some(2.0), format!("{dropped:?}"))
    });
}

#[test]
fn with_drop_oldest_everybody_is_served_and_the_books_balance() {
    let berth = Berth::new("drop-oldest");
    let topology = berth.topology(&spool(&berth, "drop_oldest"));
    // Nobody there, rather than a cut: what a link has lent is not dropped for younger ones.
    berth.sink.proxy().leave();
    let mut agent = berth.agent(&topology);
    let points = Points::bulky("drop", 500, 3 * LINES_OF_A_FULL_SPOOL);
    for start in points.all().step_by(1000) {
        plaintext(berth.graphite(), &points, start..start + 1000).unwrap();
        let spool = &agent.status()["spool"];
        assert!(spool["used_bytes"].as_u64().unwrap() <= MAX_SIZE_BYTES, "{spool}");
        assert_eq!(agent.get("/readyz").unwrap().0, 200);
    }
    let dropped = check_books(&agent);
    assert!(dropped > LINES_OF_A_FULL_SPOOL, "{dropped} dropped");
    let counter = format!("packetboat_dropped_metrics_total{{reason=\"spool_limit\",to=\"{LINK}\"}}");
    assert_eq!(agent.metrics().get(&counter), Some(dropped as f64));

    berth.sink.proxy().mend();
    berth.drained(&agent);
    assert_eq!(check_books(&agent), dropped, "nothing more is dropped");
    let comparison = berth.sink.ledger().compare(&points, points.all());
    assert!(comparison.missing.iter().copied().eq(0..dropped), "the oldest are gone, and only those");
    assert_eq!((comparison.duplicates, comparison.altered.len()), (0, 0));
    assert!(agent.terminate(LIMIT).success());
}

/// accepted = delivered + backlog + dropped + set aside. Tells how many lines were dropped.
fn check_books(agent: &Packetboat) -> usize {
    let status = agent.status();
    let lines = |books: &serde_json::Value| books["lines"].as_u64().unwrap();
    let link = agent.books(LINK);
    let (accepted, delivered) = (lines(&status["spool"]["accepted"]), lines(&link["delivered"]));
    let (dropped, aside) = (lines(&link["dropped_spool_limit"]), lines(&link["aside"]));
    let backlog = accepted.checked_sub(delivered + dropped + aside);
    assert_eq!(backlog, Some(lines(&link["backlog"])), "{status}");
    usize::try_from(dropped).unwrap()
}
