//! Real sockets, a real intake and a real spool in a temporary folder.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use forwarder::Clock;
use futures_util::FutureExt;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use topology::model::Limits;

use super::*;
use crate::ingest::clients::Clients;
use crate::ingest::intake::Intake;
use crate::ingest::route::Router;
use crate::metrics::Metrics;
use crate::spool::{Desk, Spool, SpoolConfig};

mod tls;

/// A loopback address that nothing else uses, so that a port free for TCP is free for UDP too.
const OWN_LOOPBACK: &str = "127.9.9.9:0";
/// Nothing here takes this long.
const LIMIT: Duration = Duration::from_secs(20);
/// Long enough for an answer that must not come to come.
const A_WHILE: Duration = Duration::from_millis(100);

/// Both listeners on a spool that commits nothing until it is told to.
struct Agent {
    address: SocketAddr,
    desk: Desk,
    intake: Intake,
    metrics: Arc<Metrics>,
    spool_thread: Option<Box<dyn FnOnce() + Send>>,
    tasks: JoinSet<()>,
    stop: CancellationToken,
    /// What was read out of the spool so far.
    read: Vec<u8>,
    _dir: TempDir,
}

/// How a connection ended for its client.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Fin,
    Reset,
}

impl Agent {
    async fn new() -> Self {
        Self::with(Limits::default(), None)
    }

    fn with(limits: Limits, max_size_bytes: Option<u64>) -> Self {
        let dir = TempDir::new().unwrap();
        let config = SpoolConfig { max_size_bytes, ..SpoolConfig::for_test(dir.path()) };
        let (clock, metrics, stop) =
            (Clock::system(), Arc::new(Metrics::new().unwrap()), CancellationToken::new());
        let spool = Spool::open(config, clock.now_ms()).unwrap();
        let (desk, worker) = Desk::new(spool, Arc::clone(&metrics), clock.clone());
        let intake = Intake::new(
            Router::to_one_link(),
            desk.clone(),
            Arc::clone(&metrics),
            clock.clone(),
            Duration::from_millis(20),
        );
        let (listener, socket) = bind(OWN_LOOPBACK.parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        assert_eq!(socket.local_addr().unwrap(), address);
        let mut tasks = JoinSet::new();
        tasks.spawn(serve_tcp(listener, intake.clone(), clock.clone(), Clients::new(limits), stop.clone()));
        tasks.spawn(serve_udp(socket, intake.clone(), clock, Arc::clone(&metrics), stop.clone()));
        let spool_thread: Box<dyn FnOnce() + Send> = Box::new(move || worker.run().unwrap());
        Self {
            address,
            desk,
            intake,
            metrics,
            spool_thread: Some(spool_thread),
            tasks,
            stop,
            read: Vec::new(),
            _dir: dir,
        }
    }

    /// From now on what was taken is committed.
    fn commit(&mut self) {
        std::thread::spawn(self.spool_thread.take().unwrap());
        let intake = self.intake.clone();
        self.tasks.spawn(async move { intake.keep_sealing(CancellationToken::new()).await });
    }

    /// The same, for a spool that is full from the start.
    async fn commit_until_full(&mut self) {
        self.commit();
        let full = async {
            while !self.intake.is_full() {
                self.desk.tick().await.unwrap();
            }
        };
        timeout(LIMIT, full).await.expect("the spool is full");
    }

    /// From now on every commit fails.
    fn fail(&mut self) {
        self.spool_thread = None;
        let intake = self.intake.clone();
        self.tasks.spawn(async move { intake.keep_sealing(CancellationToken::new()).await });
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Every line in the spool, in order.
    async fn committed(&mut self) -> String {
        let read = |spool: &mut Spool| {
            let mut lines = Vec::new();
            loop {
                // What is lent stays lent: the next look sees what came after it.
                let lent = spool.lend(0, usize::MAX).unwrap();
                if lent.is_empty() {
                    return lines;
                }
                lent.iter().for_each(|lent| lent.batch.append_lines(&mut lines).unwrap());
            }
        };
        self.read.extend(self.desk.look(read).await.unwrap());
        String::from_utf8(self.read.clone()).unwrap()
    }

    async fn until_committed(&mut self, count: usize) -> String {
        let all = async {
            loop {
                let lines = self.committed().await;
                if lines.lines().count() >= count {
                    return lines;
                }
                tokio::task::yield_now().await;
            }
        };
        timeout(LIMIT, all).await.expect("the lines are committed")
    }

    /// Counted refusals, by reason.
    fn metric(&self, name: &str) -> f64 {
        let text = String::from_utf8(self.metrics.text().unwrap()).unwrap();
        let samples = text.lines().filter(|line| line.starts_with(name));
        samples.filter_map(|line| line.rsplit(' ').next()).map(|value| value.parse::<f64>().unwrap()).sum()
    }
}

/// Waits for the end of the connection.
async fn answer(client: &mut TcpStream) -> Answer {
    match timeout(LIMIT, client.read(&mut [0; 16])).await.expect("the agent closes the connection") {
        Ok(0) => Answer::Fin,
        Ok(_) => panic!("the agent never writes"),
        Err(error) if error.kind() == ErrorKind::ConnectionReset => Answer::Reset,
        Err(error) => panic!("{error}"),
    }
}

async fn assert_no_answer(client: &mut TcpStream) {
    assert!(timeout(A_WHILE, client.read(&mut [0; 16])).await.is_err(), "the agent must not answer yet");
}

#[tokio::test]
async fn a_half_close_is_answered_once_all_lines_are_committed() {
    let mut agent = Agent::new().await;
    let mut client = agent.connect().await;
    client.write_all(b"a 1 1\nb 2 2\r\nlast.without.lf 3 3").await.unwrap();
    client.shutdown().await.unwrap();
    assert_no_answer(&mut client).await;
    agent.commit();
    assert_eq!(answer(&mut client).await, Answer::Fin);
    assert_eq!(agent.committed().await, "a 1 1\nb 2 2\nlast.without.lf 3 3\n");
}

#[tokio::test]
async fn an_empty_connection_is_closed_at_once() {
    let agent = Agent::new().await;
    let mut client = agent.connect().await;
    client.shutdown().await.unwrap();
    assert_eq!(answer(&mut client).await, Answer::Fin);
}

#[tokio::test]
async fn bad_lines_do_not_end_a_connection_and_their_dead_letters_count_as_committed() {
    let mut agent = Agent::new().await;
    let mut client = agent.connect().await;
    let long = "x".repeat(300_000);
    client.write_all(format!("a 1 1\nbad\nb nan 1\n{long}\n").as_bytes()).await.unwrap();
    client.write_all(b"\xff\xfe 1 1\n\x16\x03\x01\x02\x00\n\nz 9 9\n").await.unwrap();
    client.shutdown().await.unwrap();
    assert_no_answer(&mut client).await;
    agent.commit();
    assert_eq!(answer(&mut client).await, Answer::Fin);
    assert_eq!(agent.committed().await, "a 1 1\nz 9 9\n");
    assert_eq!(agent.desk.look(|spool| spool.report().unwrap().rejects).await, Ok(5));
}

#[tokio::test]
async fn a_stream_may_come_byte_by_byte() {
    let mut agent = Agent::new().await;
    agent.commit();
    let mut client = agent.connect().await;
    client.set_nodelay(true).unwrap();
    for byte in b"a 1 1\r\nb 2 2\n" {
        client.write_all(&[*byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert_eq!(agent.until_committed(2).await, "a 1 1\nb 2 2\n", "no half-close is needed to be taken");
    client.shutdown().await.unwrap();
    assert_eq!(answer(&mut client).await, Answer::Fin);
}

/// Sessions seal the batches that they fill, and the intake those that have waited long enough: all of them
/// compress at the same time, and more of them than there are cores.
#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn the_lines_of_each_connection_are_committed_in_their_order() {
    const CONNECTIONS: usize = 8;
    const LINES: usize = 20_000;
    let mut agent = Agent::new().await;
    agent.commit();
    let mut clients = JoinSet::new();
    for connection in 0..CONNECTIONS {
        let mut client = agent.connect().await;
        clients.spawn(async move {
            for number in (0..LINES).step_by(100) {
                let line = |number| format!("m.{connection} {number}.{} 1\n", noise(number));
                let lines: String = (number..number + 100).map(line).collect();
                client.write_all(lines.as_bytes()).await.unwrap();
            }
            client.shutdown().await.unwrap();
            assert_eq!(answer(&mut client).await, Answer::Fin);
        });
    }
    let committed = agent.until_committed(CONNECTIONS * LINES).await;
    clients.join_all().await;
    for connection in 0..CONNECTIONS {
        let name = format!("m.{connection} ");
        let found = committed.lines().filter(|line| line.starts_with(&name));
        let expected = (0..LINES).map(|number| format!("m.{connection} {number}.{} 1", noise(number)));
        let first_astray = found.zip(expected).find(|(line, expected)| line != expected);
        assert_eq!(first_astray, None);
    }
}

/// Digits that take their time to be compressed.
fn noise(number: usize) -> String {
    let digits = std::iter::successors(Some(number as u64 + 1), |bits| {
        Some(bits.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (bits >> 31))
    });
    digits.skip(4).take(5).map(|bits| format!("{bits:020}")).collect()
}

#[tokio::test]
async fn if_a_commit_fails_the_client_is_reset() {
    let mut agent = Agent::new().await;
    let (mut closed, mut open) = (agent.connect().await, agent.connect().await);
    closed.write_all(b"a 1 1\n").await.unwrap();
    closed.shutdown().await.unwrap();
    open.write_all(b"b 1 1\n").await.unwrap();
    assert_no_answer(&mut open).await;
    agent.fail();
    assert_eq!(answer(&mut closed).await, Answer::Reset);
    assert_eq!(answer(&mut open).await, Answer::Reset, "without waiting for its half-close");
}

#[tokio::test]
async fn when_the_agent_stops_only_who_half_closed_gets_a_receipt() {
    let mut agent = Agent::new().await;
    let (mut closed, mut open, mut idle) =
        (agent.connect().await, agent.connect().await, agent.connect().await);
    closed.write_all(b"a 1 1\n").await.unwrap();
    closed.shutdown().await.unwrap();
    open.write_all(b"b 1 1\nunfinished").await.unwrap();
    assert_no_answer(&mut open).await;
    agent.stop.cancel();
    agent.commit();
    assert_eq!(answer(&mut closed).await, Answer::Fin);
    assert_eq!(answer(&mut open).await, Answer::Reset);
    assert_eq!(answer(&mut idle).await, Answer::Reset);
    let lines = agent.committed().await;
    assert!(
        lines.contains("a 1 1\n") && lines.contains("b 1 1\n") && !lines.contains("unfinished"),
        "{lines}"
    );
}

#[tokio::test]
async fn what_had_arrived_is_taken_when_the_agent_stops() {
    let mut agent = Agent::new().await;
    let mut client = agent.connect().await;
    assert_no_answer(&mut client).await;
    client.try_write(b"a 1 1\n").unwrap();
    agent.stop.cancel();
    agent.commit();
    assert_eq!(answer(&mut client).await, Answer::Reset);
    assert_eq!(agent.committed().await, "a 1 1\n");
}

#[tokio::test]
async fn a_task_that_dies_resets_its_connections() {
    let mut agent = Agent::new().await;
    let mut client = agent.connect().await;
    client.write_all(b"a 1 1\n").await.unwrap();
    client.shutdown().await.unwrap();
    assert_no_answer(&mut client).await;
    agent.tasks.abort_all();
    assert_eq!(answer(&mut client).await, Answer::Reset);
}

#[tokio::test]
async fn one_connection_too_many_is_reset_and_a_place_that_is_free_is_given_again() {
    let mut agent = Agent::with(Limits { connections: 2, ..Limits::default() }, None);
    agent.commit();
    let (mut first, mut second) = (agent.connect().await, agent.connect().await);
    let mut third = agent.connect().await;
    assert_eq!(answer(&mut third).await, Answer::Reset);
    first.shutdown().await.unwrap();
    assert_eq!(answer(&mut first).await, Answer::Fin);
    let served = async {
        loop {
            let mut fourth = agent.connect().await;
            if fourth.write_all(b"a 1 1\n").await.is_ok()
                && fourth.shutdown().await.is_ok()
                && answer(&mut fourth).await == Answer::Fin
            {
                return;
            }
        }
    };
    timeout(LIMIT, served).await.unwrap();
    second.shutdown().await.unwrap();
    assert_eq!(answer(&mut second).await, Answer::Fin);
}

#[tokio::test]
async fn many_connections_at_once_lose_nothing() {
    const CLIENTS: usize = 200;
    const LINES: usize = 500;
    let mut agent = Agent::new().await;
    agent.commit();
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let mut stream = agent.connect().await;
        clients.spawn(async move {
            let lines: String = (0..LINES).map(|line| format!("c{client}.l{line} 1 1\n")).collect();
            stream.write_all(lines.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
            answer(&mut stream).await
        });
    }
    while let Some(answer) = clients.join_next().await {
        assert_eq!(answer.unwrap(), Answer::Fin);
    }
    let lines = agent.committed().await;
    let distinct: std::collections::HashSet<&str> = lines.lines().collect();
    assert_eq!((distinct.len(), lines.lines().count()), (CLIENTS * LINES, CLIENTS * LINES));
    for client in 0..CLIENTS {
        let prefix = format!("c{client}.");
        let in_order = lines.lines().filter(|line| line.starts_with(&prefix)).enumerate();
        in_order.for_each(|(place, line)| assert_eq!(line, format!("c{client}.l{place} 1 1")));
    }
}

#[tokio::test]
async fn while_the_spool_is_full_nothing_is_read_and_nobody_gets_a_receipt() {
    let mut agent = Agent::with(Limits::default(), Some(1));
    agent.commit_until_full().await;
    let mut client = agent.connect().await;
    client.write_all(b"a 1 1\n").await.unwrap();
    client.shutdown().await.unwrap();
    assert_no_answer(&mut client).await;
    agent.stop.cancel();
    assert_eq!(answer(&mut client).await, Answer::Reset);
    assert_eq!(agent.committed().await, "");
}

#[tokio::test]
async fn datagrams_carry_several_lines_and_need_no_last_lf() {
    let mut agent = Agent::new().await;
    agent.commit();
    let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    client.send_to(b"a 1 1\nb 2 2", agent.address).await.unwrap();
    client.send_to(b"", agent.address).await.unwrap();
    client.send_to(b"bad\nc 3 3\n", agent.address).await.unwrap();
    let large: String = (0..4000).map(|line| format!("l{line} 1 1\n")).collect();
    client.send_to(large.as_bytes(), agent.address).await.unwrap();
    let lines = agent.until_committed(4003).await;
    assert!(lines.starts_with("a 1 1\nb 2 2\nc 3 3\nl0 1 1\n"), "{}", &lines[..40]);
    assert_eq!(agent.desk.look(|spool| spool.report().unwrap().rejects).await, Ok(1));
}

/// It would take a place for as long as the spool is full. One that has only said that it is done waits on.
#[tokio::test]
async fn while_the_spool_is_full_a_client_that_is_gone_is_noticed() {
    let mut agent = Agent::with(Limits::default(), Some(1));
    agent.commit_until_full().await;
    let listener = tokio::net::TcpListener::bind(OWN_LOOPBACK).await.unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    client.write_all(b"a 1 1\n").await.unwrap();
    client.shutdown().await.unwrap();
    let (stream, peer) = listener.accept().await.unwrap();
    let visit = Clients::new(Limits::default()).enter(peer.ip()).unwrap();
    let scratches = Arc::new(scratch::Scratches::new());
    let session =
        session::Session::new(stream, (peer, visit), agent.intake.clone(), Clock::system(), scratches);
    let mut running = std::pin::pin!(session.run(CancellationToken::new()));
    for _ in 0..10 {
        assert!(running.as_mut().now_or_never().is_none(), "it is half-closed");
        agent.desk.tick().await.unwrap();
    }
    socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
    drop(client);
    let end = timeout(LIMIT, running).await.expect("it is not noticed");
    assert!(matches!(end, Err(session::Reset::Broken(_))), "{end:?}");
}

#[tokio::test]
async fn datagrams_that_come_while_the_spool_is_full_are_counted() {
    let mut agent = Agent::with(Limits::default(), Some(1));
    agent.commit_until_full().await;
    let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    client.send_to(b"a 1 1\nb 1 1\nbad\n", agent.address).await.unwrap();
    let counted = async {
        while agent.metric("packetboat_dropped_metrics_total") < 2.0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(LIMIT, counted).await.unwrap();
    assert_eq!(agent.committed().await, "");
}

#[tokio::test]
async fn the_error_of_a_bound_port_names_it() {
    let taken = std::net::UdpSocket::bind(OWN_LOOPBACK).unwrap();
    let address = taken.local_addr().unwrap();
    let error = bind(address).unwrap_err();
    let text =
        format!("cannot listen for graphite on UDP {address}; choose another address or end what holds it");
    assert_eq!(error.to_string(), text);
}
