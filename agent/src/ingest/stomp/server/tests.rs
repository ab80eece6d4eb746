//! Real sockets and a real spool.

use std::sync::mpsc::sync_channel;

use tempfile::TempDir;
use tokio::net::TcpListener;

use super::*;
use crate::ingest::route::Router;
use crate::ingest::stomp::Limits;
use crate::ingest::{Input, Sender};
use crate::metrics::Metrics;
use crate::spool::{Desk, Report, Rest, Spool, SpoolConfig, Verdict};

mod limits;
mod nodes;
mod receipts;
mod subscribers;
mod tls;
mod turns;
mod users;

/// Beyond this a test has failed.
const PATIENCE: Duration = Duration::from_secs(120);
const CONNECT: &str = "CONNECT\naccept-version:1.2\nhost:h\n\n\0";

fn settings() -> Settings {
    Settings::new("acme", "us-east", vec!["/queue/graphite".to_owned()])
}

fn with_limits(limits: Limits) -> Settings {
    Settings { limits, ..settings() }
}

/// No users, and no limits of one client.
fn everybody() -> Guests {
    Guests { users: Users::everybody(), clients: Clients::new(topology::model::Limits::default()) }
}

/// A server on loopback with its own spool.
#[derive(Clone)]
struct Rig {
    address: SocketAddr,
    desk: Desk,
    intake: Intake,
    stop: CancellationToken,
    _dir: Arc<TempDir>,
}

/// Runs `test` beside a server and the sealing of batches.
async fn with_server<F: Future<Output = ()>>(settings: Settings, test: impl FnOnce(Rig) -> F) {
    with_guests(settings, everybody(), test).await;
}

/// The same, where not everybody may do everything.
async fn with_guests<F: Future<Output = ()>>(
    settings: Settings,
    guests: Guests,
    test: impl FnOnce(Rig) -> F,
) {
    with_server_that(settings, guests, CancellationToken::new(), true, test).await;
}

async fn with_server_that_seals<F: Future<Output = ()>>(
    settings: Settings,
    sealing: CancellationToken,
    at_once: bool,
    test: impl FnOnce(Rig) -> F,
) {
    with_server_that(settings, everybody(), sealing, at_once, test).await;
}

async fn with_server_that<F: Future<Output = ()>>(
    settings: Settings,
    guests: Guests,
    sealing: CancellationToken,
    at_once: bool,
    test: impl FnOnce(Rig) -> F,
) {
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let config = SpoolConfig { max_size_bytes: Some(4 << 20), ..SpoolConfig::for_test(dir.path()) };
    let spool = Spool::open(config, 0).unwrap();
    let metrics = Arc::new(Metrics::new().unwrap());
    let (desk, worker) = Desk::new(spool, Arc::clone(&metrics), Clock::system());
    let observer = metrics.link_observer("eu", "agent");
    let rest = Rest { first: Duration::from_millis(1), longest: Duration::from_millis(50) };
    let subscribers = Subscribers::new(desk.clone(), 0, rest, observer, Clock::system());
    // Ends, well or not, once nobody has the desk any more.
    std::thread::spawn(|| worker.run());
    let intake =
        Intake::new(Router::to_one_link(), desk.clone(), metrics, Clock::system(), Duration::from_millis(20));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stop = CancellationToken::new();
    let rig = Rig {
        address: listener.local_addr().unwrap(),
        desk,
        intake: intake.clone(),
        stop: stop.clone(),
        _dir: dir,
    };
    let sealed = async {
        if !at_once {
            sealing.cancelled().await;
        }
        intake.keep_sealing(CancellationToken::new()).await;
    };
    let served = async {
        tokio::select! {
            ((), ()) = async { tokio::join!(serve(listener, settings, guests, intake.clone(), Arc::new([subscribers]), Clock::system(), stop.clone()), test(rig)) } => {}
            () = sealed => {}
        }
    };
    timeout(2 * PATIENCE, served).await.expect("the server did not stop");
}

impl Rig {
    async fn connect(&self) -> Client {
        let mut client =
            Client { stream: TcpStream::connect(self.address).await.unwrap(), heard: String::new() };
        client.say(CONNECT).await;
        client.hears("CONNECTED\n").await;
        client.hears("\n\n\0\n").await;
        client
    }

    async fn report(&self) -> Report {
        self.desk.look(|spool| spool.report().unwrap()).await.unwrap()
    }

    /// Waits until the spool has taken in so many lines.
    async fn has_accepted(&self, lines: i64) {
        let accepted = async {
            while self.report().await.accepted.lines != lines {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, accepted).await.unwrap_or_else(|_| panic!("{lines} lines never came"));
    }

    /// Fills the spool up to its limit.
    async fn fill(&self) {
        let from = Sender { input: Input::Stomp, peer: "test".into() };
        let mut random = 1_u64;
        while !self.intake.is_full() {
            let mut lines = String::new();
            for _ in 0..500 {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                lines += &format!("noise.m{random:x} {random} 1600000000\n");
            }
            let mut checked = crate::ingest::line::Checked::default();
            crate::ingest::line::check(lines.as_bytes(), 0, &mut checked);
            self.intake.accept_whole(&from, &mut [checked], Vec::new()).await.committed().await.unwrap();
            self.report().await;
        }
    }

    /// Takes everything out of the spool.
    async fn drain(&self) {
        let drained = self.desk.look(|spool| {
            while let Some(lent) = spool.lend(0, 1 << 20).unwrap().into_iter().next() {
                spool
                    .transact(|writer| writer.settle(0, lent.first..=lent.last, &Verdict::Delivered))
                    .unwrap();
            }
        });
        drained.await.unwrap();
        self.intake.room(0).await;
    }

    fn stop(self) {
        self.stop.cancel();
    }
}

struct Client {
    stream: TcpStream,
    /// Read, and not yet asked for.
    heard: String,
}

impl Client {
    async fn say(&mut self, frames: &str) {
        self.stream.write_all(frames.as_bytes()).await.unwrap();
    }

    /// Reads until `expected` came, and tells what came before it.
    #[track_caller]
    fn hears<'a>(&'a mut self, expected: &'a str) -> impl Future<Output = String> + 'a {
        let caller = std::panic::Location::caller();
        async move {
            loop {
                if let Some(at) = self.heard.find(expected) {
                    let before = self.heard[..at].to_owned();
                    self.heard.drain(..at + expected.len());
                    return before;
                }
                let more = self.read().await;
                assert!(more, "{caller}: closed before {expected:?}, after {:?}", self.heard);
            }
        }
    }

    /// Has the server answer something that needs no disk, and tells what came before the answer.
    async fn is_answered(&mut self, id: &str) -> String {
        self.say(&format!("BEGIN\ntransaction:{id}\nreceipt:{id}\n\n\0ABORT\ntransaction:{id}\n\n\0")).await;
        self.hears(&receipt(id)).await
    }

    /// Reads until the server closes, and tells what came.
    async fn hears_the_end(&mut self) -> String {
        while self.read().await {}
        std::mem::take(&mut self.heard)
    }

    async fn read(&mut self) -> bool {
        let mut bytes = vec![0; 1 << 16];
        let read = timeout(PATIENCE, self.stream.read(&mut bytes)).await;
        let read = read.unwrap_or_else(|_| panic!("nothing comes after {:?}", self.heard)).unwrap();
        self.heard += &String::from_utf8_lossy(&bytes[..read]);
        read > 0
    }
}

fn send(receipt: impl std::fmt::Display, body: &str) -> String {
    format!("SEND\ndestination:/queue/graphite\nreceipt:{receipt}\n\n{body}\0\n")
}

fn receipt(id: impl std::fmt::Display) -> String {
    format!("RECEIPT\nreceipt-id:{id}\n\n\0\n")
}

/// The whole text of an ERROR's body.
fn error_text(heard: &str) -> &str {
    let error = &heard[heard.find("ERROR\n").unwrap_or_else(|| panic!("no ERROR in {heard:?}"))..];
    error.split("\n\n").nth(1).unwrap()
}
