//! Clients that send anything but metrics, or nothing at all, or too many of them: the agent goes on, serves
//! the good ones, and does not fill its log (I4, I5).

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use tests::berth::Berth;
use tests::edge::QUEUE;
use tests::load::plaintext;
use tests::packetboat::Packetboat;
use tests::points::Points;
use tests::stomp::Stomp;
use tests::wait::{until, when};

const LIMIT: Duration = Duration::from_secs(60);
/// Complaints are summed up: so many lines are a handful for each way in.
const LOG_LINES_MAX: usize = 40;

fn berth(name: &str) -> (Berth, std::path::PathBuf) {
    let berth = Berth::new(name);
    let topology = berth.topology(&format!("dir: {}", berth.spool().display()));
    (berth, topology)
}

/// The same bytes in each run.
fn random_bytes(seed: u64, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    fastrand::Rng::with_seed(seed).fill(&mut bytes);
    bytes
}

#[test]
fn random_bytes_on_every_port_disturb_nobody() {
    let (berth, topology) = berth("garbage");
    let mut agent = berth.agent(&topology);
    let openings: [&[u8]; 6] = [
        b"",
        b"CONNECT\naccept-version:1.2\nhost:/\n\n\0",
        b"SEND\ncontent-length:18446744073709551615\n\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/1.1\r\nhost: x\r\n",
        b"a 1 1700000000",
    ];
    for seed in 0..60_u64 {
        let turn = usize::try_from(seed).unwrap_or_default();
        let opening = openings[turn % openings.len()];
        for port in [berth.stomp(), berth.graphite(), berth.http()] {
            throw(port, opening, &random_bytes(seed, 1 << (seed % 18)));
        }
    }
    let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    for seed in 0..500_u64 {
        let datagram = random_bytes(seed, (seed * 131 % 60_000) as usize);
        // What the kernel does not take is as good as lost on the way.
        udp.send_to(&datagram, berth.graphite()).ok();
    }
    serves(&berth, &mut agent);
    assert!(agent.metrics().sum("packetboat_rejected_metrics_total").unwrap() > 100.0, "it is counted");
    assert_log_is_short(&agent);
}

/// Whatever the agent does with it, it ends the connection, or waits for more.
fn throw(port: SocketAddr, opening: &[u8], bytes: &[u8]) {
    let mut stream = TcpStream::connect(port).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    // It may be cut off at any point.
    let sent = stream.write_all(opening).and_then(|()| stream.write_all(bytes));
    if sent.and_then(|()| stream.shutdown(Shutdown::Write)).is_ok() {
        stream.read_to_end(&mut Vec::new()).ok();
    }
}

#[test]
fn connections_that_say_nothing_or_half_of_it_stand_in_nobodys_way() {
    let (berth, topology) = berth("half-open");
    let mut agent = berth.agent(&topology);
    let halves: [(SocketAddr, &[u8]); 6] = [
        (berth.stomp(), b""),
        (berth.stomp(), b"CONNECT\naccept-ver"),
        (berth.stomp(), b"CONNECT\naccept-version:1.2\nhost:/\n\n\0SEND\ndestination:/queue/graphite\n\na 1"),
        (berth.graphite(), b""),
        (berth.graphite(), b"half.a.line 1"),
        (berth.http(), b"GET /metr"),
    ];
    let open: Vec<TcpStream> =
        halves.iter().cycle().take(600).map(|(port, half)| open(*port, half)).collect();
    serves(&berth, &mut agent);
    drop(open);
    serves(&berth, &mut agent);
    assert_log_is_short(&agent);
    assert_eq!(berth.sink.ledger().times("a", 1), 0, "half a line is none");
    assert!(agent.terminate(LIMIT).success());
}

fn open(port: SocketAddr, half: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(port).unwrap();
    stream.write_all(half).unwrap();
    stream
}

#[test]
fn without_a_free_file_descriptor_it_waits_for_one() {
    let (berth, topology) = berth("descriptors");
    let mut agent = berth.start(&topology, &["prlimit", "--nofile=64:64"]);
    agent.ready();
    let open: Vec<TcpStream> =
        [berth.stomp(), berth.graphite()].iter().cycle().take(200).map(|&port| open(port, b"")).collect();
    until(LIMIT, "the agent to have none left", || {
        let count = std::fs::read_dir(format!("/proc/{}/fd", agent.id())).unwrap().count();
        when(count >= 64, count)
    });
    shortage(Duration::from_secs(3));
    assert!(agent.is_running());
    let log = agent.log();
    let told = log.lines().filter(|line| line.contains("no connection can be accepted")).count();
    assert!((1..=2).contains(&told), "each listener says it once, not at each attempt: {log}");
    drop(open);
    agent.ready();
    serves(&berth, &mut agent);
    assert!(agent.log().contains("connections are accepted again"), "{}", agent.log());
    assert_log_is_short(&agent);
    assert!(agent.terminate(LIMIT).success());
}

/// The length of a shortage is what is tested, not something that is waited for.
fn shortage(length: Duration) {
    #[expect(clippy::disallowed_methods, reason = "descriptors are to be short for so long in real time")]
    std::thread::sleep(length);
}

/// Good clients get their receipts, and what they sent arrives.
fn serves(berth: &Berth, agent: &mut Packetboat) {
    let served = berth.sink.ledger().lines();
    let points = Points::new(&format!("good.{served}"), 10, 100);
    plaintext(berth.graphite(), &points, 0..50).unwrap();
    let mut session = Stomp::connect(berth.stomp(), &[]).unwrap();
    session.send(QUEUE, points.lines(50..100).as_bytes()).unwrap();
    session.disconnect().unwrap();
    berth.drained(agent);
    assert_eq!(berth.sink.ledger().compare(&points, points.all()).missing, [0; 0]);
    assert_eq!(berth.sink.ledger().bad(), [""; 0], "nothing bad gets further");
    assert_eq!(agent.get("/readyz").unwrap().0, 200);
}

fn assert_log_is_short(agent: &Packetboat) {
    let log = agent.log();
    assert!(log.lines().count() <= LOG_LINES_MAX, "{log}");
    assert!(!log.contains("panicked"), "{log}");
}
