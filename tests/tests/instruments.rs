//! The harness against itself: each instrument sees what it is there to see, and can fail.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::Command;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use tests::broker::{Broker, Kind, LOGIN, fresh_queue};
use tests::carbon::Carbon;
use tests::ledger::Comparison;
use tests::load::{StompLoad, plaintext};
use tests::packetboat::Metrics;
use tests::points::Points;
use tests::ports::Port;
use tests::process::Process;
use tests::proxy::Proxy;
use tests::scratch::Scratch;
use tests::sink::Sink;
use tests::stomp::{Frame, Stomp};
use tests::wait::{until, when};

const LIMIT: Duration = Duration::from_secs(30);

// Brokers.

#[test]
fn rabbitmq_gives_back_what_it_receipted() {
    gives_back_what_it_receipted(Kind::RabbitMq);
}

#[test]
fn activemq_gives_back_what_it_receipted() {
    gives_back_what_it_receipted(Kind::ActiveMq);
}

fn gives_back_what_it_receipted(kind: Kind) {
    let broker = Broker::shared(kind);
    let queue = fresh_queue("instruments");
    broker.connect().send(&queue, b"a.b 1 1700000000").unwrap();
    let message = drain_one(&broker, &queue);
    assert_eq!(message.text(), "a.b 1 1700000000");
}

/// Takes one message off `queue`, and proves that the queue is empty after it.
fn drain_one(broker: &Broker, queue: &str) -> Frame {
    let mut consumer = broker.connect();
    consumer.subscribe(queue, 10).unwrap();
    let message = consumer.message().unwrap();
    consumer.ack(&message).unwrap();
    consumer.disconnect().unwrap();

    let mut late = broker.connect();
    late.subscribe(queue, 10).unwrap();
    late.socket().set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let nothing = late.message().unwrap_err();
    assert_eq!(nothing.kind(), ErrorKind::WouldBlock, "an acknowledged message came again: {nothing}");
    message
}

#[test]
fn both_brokers_refuse_a_wrong_passcode_and_take_a_guest() {
    for kind in Kind::ALL {
        let broker = Broker::shared(kind);
        let wrong = Stomp::connect(broker.address(), &[("login", LOGIN), ("passcode", "wrong")]);
        assert!(wrong.is_err(), "{kind} took a wrong passcode");
        Stomp::connect(broker.address(), &[]).unwrap();
    }
}

#[test]
fn rabbitmq_keeps_a_receipted_message_over_kill_and_stop() {
    keeps_a_receipted_message_over_kill_and_stop(Kind::RabbitMq);
}

#[test]
fn activemq_keeps_a_receipted_message_over_kill_and_stop() {
    keeps_a_receipted_message_over_kill_and_stop(Kind::ActiveMq);
}

fn keeps_a_receipted_message_over_kill_and_stop(kind: Kind) {
    let mut broker = Broker::start(kind);
    let queue = fresh_queue("instruments");
    broker.connect().send(&queue, b"kept").unwrap();
    broker.has_on_disk(&queue);
    broker.kill();
    assert!(TcpStream::connect(broker.address()).is_err(), "{kind} listens after kill -9");
    broker.restart();
    broker.stop();
    assert!(TcpStream::connect(broker.address()).is_err(), "{kind} listens after its stop");
    broker.restart();
    assert_eq!(drain_one(&broker, &queue).text(), "kept");
}

#[test]
fn a_producer_knows_what_was_receipted_when_its_broker_dies() {
    let broker = Broker::shared(Kind::ActiveMq);
    let link = Proxy::before(broker.address());
    let points = Points::new("instruments.receipts", 10, 10_000);
    let progress = AtomicUsize::new(0);
    let load = StompLoad { destination: fresh_queue("instruments"), lines_per_send: 10, window: 20 };
    link.cut_after(points.lines(0..4_000).len() as u64);
    let session = Stomp::connect(link.address(), &[]);
    let receipted = load.run(session, &points, points.all(), &progress);
    assert!(receipted.broken.is_some(), "the cut was not noticed");
    let taken = receipted.numbers().count();
    assert!((1..4_000).contains(&taken), "{taken} of about 3,000 points receipted before the cut");
    assert_eq!(progress.into_inner(), taken);
}

// Graphite.

#[test]
fn carbon_writes_and_whisper_reads_back() {
    let mut carbon = Carbon::start();
    let points = Points::new("instruments.carbon", 200, 20_000);
    plaintext(carbon.address(), &points, 0..19_000).unwrap();
    until(LIMIT, "carbon to write", || {
        let missing = carbon.whisper().missing(&points, 0..19_000);
        when(missing.is_empty(), format!("{} missing", missing.len()))
    });
    assert_eq!(
        carbon.whisper().missing(&points, points.all()).len(),
        1_000,
        "what was never sent is missing"
    );

    carbon.kill();
    carbon.restart();
    plaintext(carbon.address(), &points, 19_000..20_000).unwrap();
    until(LIMIT, "carbon to write after a restart", || {
        let missing = carbon.whisper().missing(&points, points.all());
        when(missing.is_empty(), format!("{} missing", missing.len()))
    });
    carbon.stop();
    assert!(TcpStream::connect(carbon.address()).is_err(), "carbon listens after its stop");
}

#[test]
fn whisper_reads_what_its_own_tool_reads() {
    let mut carbon = Carbon::start();
    let points = Points::new("instruments.fetch", 1, 60);
    plaintext(carbon.address(), &points, points.all()).unwrap();
    until(LIMIT, "carbon to write", || {
        let missing = carbon.whisper().missing(&points, points.all());
        when(missing.is_empty(), format!("{} missing", missing.len()))
    });
    carbon.stop();
    let (first, last) = (points.point(0), points.point(59));
    let fetched = Command::new("/usr/bin/python3")
        .arg("/usr/bin/whisper-fetch")
        .args([format!("--from={}", first.timestamp - 1), format!("--until={}", last.timestamp)])
        .arg(carbon.whisper().file(&first.name))
        .output()
        .unwrap();
    let expected: String = points
        .all()
        .map(|i| points.point(i))
        .map(|p| format!("{}\t{}.000000\n", p.timestamp, p.value))
        .collect();
    assert_eq!(String::from_utf8(fetched.stdout).unwrap(), expected);
}

#[test]
fn a_sink_finds_missing_duplicate_altered_strange_and_bad_lines() {
    let sink = Sink::alone();
    let points = Points::new("instruments.sink", 7, 100);
    plaintext(sink.address(), &points, 0..90).unwrap();
    plaintext(sink.address(), &points, 80..90).unwrap();
    let mut client = TcpStream::connect(sink.address()).unwrap();
    let altered = points.lines(95..96).replace(" 95 ", " 96 ");
    client.write_all(format!("{altered}stranger 1 1700000000\nbad\nbegun 1 17").as_bytes()).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.read(&mut [0; 1]).unwrap(), 0, "a sink answers a half-close by FIN");

    let comparison = sink.ledger().compare(&points, points.all());
    assert_eq!(comparison.missing, [90, 91, 92, 93, 94, 96, 97, 98, 99]);
    assert_eq!(comparison.duplicates, 10);
    assert_eq!(comparison.altered, [95]);
    assert_eq!(comparison.strangers, 1);
    assert_eq!(sink.ledger().bad(), ["bad"]);
    until(LIMIT, "the partial line", || {
        when(sink.ledger().partial() == ["begun 1 17"], format!("{:?}", sink.ledger().partial()))
    });
    assert_eq!(sink.ledger().confirmed(&points, points.all()).len(), 91);
    assert_eq!(sink.ledger().lines(), 103);
}

#[test]
fn a_stalled_sink_gives_no_receipt_and_a_reset_one_confirms_nothing() {
    let sink = Sink::alone();
    let points = Points::new("instruments.stall", 1, 100);
    sink.proxy().hold();
    let mut client = TcpStream::connect(sink.address()).unwrap();
    let standing = || sink.proxy().standing();
    until(LIMIT, "the connection", || when(standing() == 1, standing()));
    client.write_all(points.lines(points.all()).as_bytes()).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    client.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    assert_eq!(client.read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::WouldBlock);
    assert_eq!(sink.ledger().lines(), 0);

    sink.proxy().reset_all();
    client.set_read_timeout(Some(LIMIT)).unwrap();
    assert_eq!(client.read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert!(sink.ledger().confirmed(&points, points.all()).is_empty());
}

#[test]
fn a_sink_before_a_graphite_that_dies_unread_confirms_nothing() {
    let graphite = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let sink = Sink::before(graphite.local_addr().unwrap());
    let points = Points::new("instruments.unread", 1, 100);
    std::thread::scope(|scope| {
        let receipt = scope.spawn(|| plaintext(sink.address(), &points, points.all()));
        let (dying, _) = graphite.accept().unwrap();
        until(LIMIT, "all lines on their way", || when(sink.ledger().lines() == 100, sink.ledger().lines()));
        drop(dying);
        assert_eq!(receipt.join().unwrap().unwrap_err().kind(), ErrorKind::ConnectionReset);
    });
    assert!(sink.ledger().confirmed(&points, points.all()).is_empty());
}

#[test]
fn a_sink_before_a_graphite_that_closes_early_gives_no_receipt() {
    let graphite = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let sink = Sink::before(graphite.local_addr().unwrap());
    let mut client = TcpStream::connect(sink.address()).unwrap();
    drop(graphite.accept().unwrap());
    assert_eq!(client.read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::ConnectionReset);
}

// The link.

#[test]
fn a_proxy_cuts_in_the_middle_and_is_mended() {
    let sink = Sink::alone();
    let link = Proxy::before(sink.address());
    let points = Points::new("instruments.cut", 1, 1_000);
    let half = points.lines(0..500).len() as u64 + 3;
    link.cut_after(half);
    plaintext(link.address(), &points, points.all()).unwrap_err();
    assert!(link.is_cut());
    assert_eq!(link.bytes_up(), half);
    until(LIMIT, "what passed before the cut", || {
        when(
            sink.ledger().lines() == 500 && sink.ledger().partial().len() == 1,
            format!("{:?}", sink.ledger()),
        )
    });

    let mut refused = TcpStream::connect(link.address()).unwrap();
    assert_ne!(refused.read(&mut [0; 1]).ok(), Some(1), "a cut link passes nothing");
    link.mend();
    plaintext(link.address(), &points, points.all()).unwrap();
    assert_eq!(sink.ledger().compare(&points, points.all()).duplicates, 500);
    assert_eq!(link.accepted(), 2);
}

#[test]
fn a_held_proxy_keeps_its_connections() {
    let sink = Sink::alone();
    let link = Proxy::before(sink.address());
    let mut client = TcpStream::connect(link.address()).unwrap();
    client.write_all(b"a 1 1700000000\n").unwrap();
    until(LIMIT, "the first line", || when(sink.ledger().lines() == 1, sink.ledger().lines()));
    link.hold();
    client.write_all(b"b 2 1700000000\n").unwrap();
    client.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    assert_eq!(client.read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::WouldBlock);
    assert_eq!((sink.ledger().lines(), link.standing()), (1, 1));
    link.mend();
    until(LIMIT, "the second line", || when(sink.ledger().lines() == 2, sink.ledger().lines()));
}

#[test]
fn a_proxy_holds_with_bytes_in_flight() {
    let sink = Sink::alone();
    let link = Proxy::before(sink.address());
    let points = Points::new("instruments.hold", 1, 1_000);
    let some = points.lines(0..300).len() as u64;
    link.hold_after(some);
    std::thread::scope(|scope| {
        let receipt = scope.spawn(|| plaintext(link.address(), &points, points.all()));
        until(LIMIT, "the hold", || when(link.is_held(), link.bytes_up()));
        assert_eq!(link.bytes_up(), some);
        assert!(!receipt.is_finished());
        link.mend();
        receipt.join().unwrap().unwrap();
    });
    assert_eq!(sink.ledger().compare(&points, points.all()), Comparison::default());
}

#[test]
fn a_proxy_that_refuses_leaves_what_stands_and_close_all_ends_it_by_fin() {
    let sink = Sink::alone();
    let link = Proxy::before(sink.address());
    let mut standing = TcpStream::connect(link.address()).unwrap();
    until(LIMIT, "the connection", || when(link.standing() == 1, link.standing()));
    link.refuse();
    let mut refused = TcpStream::connect(link.address()).unwrap();
    assert_eq!(refused.read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    standing.write_all(b"a 1 1700000000\n").unwrap();
    until(LIMIT, "a line", || when(sink.ledger().lines() == 1, sink.ledger().lines()));
    link.close_all();
    assert_eq!(standing.read(&mut [0; 1]).unwrap(), 0);
}

#[test]
fn nobody_listens_at_a_proxy_that_left_until_it_is_mended() {
    let sink = Sink::alone();
    let link = Proxy::before(sink.address());
    let mut standing = TcpStream::connect(link.address()).unwrap();
    until(LIMIT, "the connection", || when(link.standing() == 1, link.standing()));
    link.leave();
    assert_eq!(standing.read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(TcpStream::connect(link.address()).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    link.mend();
    plaintext(link.address(), &Points::new("instruments.left", 1, 1), 0..1).unwrap();
}

#[test]
fn a_slow_proxy_delays_each_way() {
    let sink = Sink::alone();
    let link = Proxy::before(sink.address());
    let one_way = Duration::from_millis(150);
    link.delay(one_way);
    let points = Points::new("instruments.delay", 1, 10);
    let started = std::fs::metadata(Scratch::new("delay").path()).unwrap().modified().unwrap();
    plaintext(link.address(), &points, points.all()).unwrap();
    assert!(started.elapsed().unwrap() >= one_way, "the lines took no longer");
    assert_eq!(sink.ledger().distinct(), 10);
}

#[test]
fn a_narrow_proxy_carries_what_it_may_and_no_more() {
    const BYTES: usize = 12_500_000;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let link = Proxy::before(listener.local_addr().unwrap());
    link.delay(Duration::from_millis(45));
    link.throttle(BYTES as u64);
    let mut sender = TcpStream::connect(link.address()).unwrap();
    let mut receiver = listener.accept().unwrap().0;
    let reading = std::thread::spawn(move || receiver.read_to_end(&mut Vec::new()).unwrap());
    let started = std::fs::metadata(Scratch::new("narrow").path()).unwrap().modified().unwrap();
    sender.write_all(&vec![0; BYTES]).unwrap();
    sender.shutdown(Shutdown::Write).unwrap();
    assert_eq!(reading.join().unwrap(), BYTES);
    let elapsed = started.elapsed().unwrap();
    // A busy machine may take longer.
    assert!((Duration::from_secs(1)..Duration::from_secs(20)).contains(&elapsed), "{elapsed:?}");
}

// Processes and ports.

#[test]
fn a_child_dies_with_its_parent_and_with_its_value() {
    let scratch = Scratch::new("process");
    let log = scratch.path().join("log");
    let mut parent = Process::command("bash");
    parent.args(["-c", "setpriv --pdeathsig KILL -- sleep 600 & echo $!; wait"]);
    let mut parent = Process::spawn("parent", &mut parent, &log);
    let child = until(LIMIT, "the child's id", || parent.log().trim().parse::<u32>());
    let alive = |process: u32| std::path::Path::new(&format!("/proc/{process}/exe")).exists();
    until(LIMIT, "setpriv to become sleep", || {
        let name = std::fs::read_to_string(format!("/proc/{child}/comm")).unwrap();
        when(name.trim() == "sleep", name)
    });
    parent.kill();
    until(LIMIT, "the child's end", || when(!alive(child), "alive"));

    let dropped = Process::spawn("dropped", Process::command("sleep").arg("600"), &log);
    let child = dropped.id();
    assert!(alive(child));
    drop(dropped);
    assert!(!alive(child));
}

#[test]
fn a_port_is_given_once_and_lies_outside_the_range_of_outgoing_connections() {
    let ports: Vec<Port> = (0..50).map(|_| Port::free()).collect();
    let mut numbers: Vec<u16> = ports.iter().map(Port::number).collect();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), 50);
    assert!(numbers.iter().all(|number| (10_000..32_768).contains(number)), "{numbers:?}");
}

#[test]
#[should_panic(expected = "in vain for the moon; last seen: clouds")]
fn waiting_in_vain_says_for_what_and_what_was_seen() {
    until(Duration::from_millis(50), "the moon", || when(false, "clouds"));
}

#[test]
fn a_scrape_is_read_by_series_and_by_name() {
    let text = "# HELP a help\n# TYPE a counter\na{to=\"x y\"} 1\na{to=\"z\"} 2.5\nab 7\n";
    let metrics = Metrics::parse(text);
    assert_eq!(metrics.get("a{to=\"x y\"}"), Some(1.0));
    assert_eq!(metrics.sum("a"), Some(3.5));
    assert_eq!(metrics.get("ab"), Some(7.0));
    assert_eq!(metrics.sum("b"), None);
}
