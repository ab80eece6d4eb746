//! What standing producers cost: 10,000 less than 100 MiB, and over TLS less than 500 MiB.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![expect(clippy::print_stderr, reason = "what was measured is shown beside the result")]

use std::net::SocketAddr;
use std::time::Duration;

use forwarder::tls::TlsFiles;
use futures_util::future::join_all;
use rustix::process::{Resource, getrlimit, setrlimit};
use tests::packetboat::Packetboat;
use tests::ports::Port;
use tests::scratch::Scratch;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use topology::model::TlsClient;

#[path = "../../forwarder/src/tls/testing.rs"]
mod testing;

use testing::{Authority, Leaf};

const PRODUCERS: usize = 10_000;
/// A TLS session costs the test as much as the agent, so a part of them stands for all.
const TLS_PRODUCERS: usize = 2_000;
const MIB: usize = 1024 * 1024;
/// Sessions that are begun together.
const AT_A_TIME: usize = 50;
/// What test and agent open besides sessions.
const OTHER_FILES: u64 = 200;
const LIMIT: Duration = Duration::from_secs(240);

/// One that has logged in, sent a metric, and stays.
async fn standing<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) -> S {
    let said = "CONNECT\naccept-version:1.2\nhost:h\nheart-beat:0,0\n\n\0\
                SEND\ndestination:/queue/graphite\nreceipt:1\n\na 1 1\0";
    stream.write_all(said.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    let mut heard = Vec::new();
    while memchr::memmem::find(&heard, b"receipt-id:1").is_none() {
        assert_ne!(stream.read_buf(&mut heard).await.unwrap(), 0, "{}", String::from_utf8_lossy(&heard));
    }
    stream
}

async fn dial(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    // A third of the ports of loopback would be in TIME_WAIT for a minute, and other tests dial, too.
    stream.set_zero_linger().unwrap();
    stream
}

fn rss_bytes(process: u32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

/// How many of `wanted` sessions the limit on open files has room for, here and in an agent that is started
/// after this: it inherits the limit.
fn room_for(wanted: usize) -> usize {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
    let room =
        limit.maximum.map_or(usize::MAX, |files| usize::try_from(files.saturating_sub(OTHER_FILES)).unwrap());
    assert!(
        room > 2 * AT_A_TIME,
        "raise the hard limit on open files: {room} sessions say nothing of {wanted}"
    );
    if room < wanted {
        eprintln!("the limit on open files has room for {room} of {wanted} sessions, which stand for all");
    }
    wanted.min(room)
}

/// Lets `sessions` producers stand at `agent`, and asserts that [`PRODUCERS`] of them cost less than `bytes_max`.
async fn stand<S: AsyncRead + AsyncWrite + Unpin>(
    agent: &Packetboat,
    sessions: usize,
    bytes_max: usize,
    open: impl AsyncFn() -> S,
) {
    let begin = async || standing(open().await).await;
    // What the first ones bring about belongs to the agent, not to a session.
    let mut standing = join_all((0..AT_A_TIME).map(|_| begin())).await;
    let before = rss_bytes(agent.id());
    let more = async {
        while standing.len() < sessions {
            standing.extend(join_all((0..AT_A_TIME).map(|_| begin())).await);
        }
    };
    tokio::time::timeout(LIMIT, more).await.unwrap();
    let (after, stand) = (rss_bytes(agent.id()), standing.len());
    let each = after.saturating_sub(before) / (stand - AT_A_TIME);
    let all = after + each * PRODUCERS.saturating_sub(stand);
    eprintln!("{after} bytes with {stand} sessions, {each} for each: {all} with {PRODUCERS}");
    assert!(all < bytes_max, "{all} bytes with {PRODUCERS} sessions, of which {stand} stood");
    for number in [0, stand / 2, stand - 1] {
        let session = &mut standing[number];
        session.write_all(b"SEND\ndestination:/queue/graphite\nreceipt:2\n\na 1 1\0").await.unwrap();
        session.flush().await.unwrap();
        assert_ne!(session.read(&mut [0; 100]).await.unwrap(), 0, "it still stands");
    }
}

/// An agent that listens as `listen` says, and `tls`.
fn agent(scratch: &Scratch, listen: &str, http: &Port, tls: &str) -> Packetboat {
    let topology = scratch.write(
        "topology.yaml",
        &format!(
            "mesh: test\nagents:\n  edge:\n    listen: {{ {listen}, http: \"{}\" }}\n    spool: {{ dir: {} }}\n{tls}",
            http.address(),
            scratch.path().join("spool").display(),
        ),
    );
    Packetboat::agent("edge", &topology, http.address(), scratch)
}

fn run(script: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(script);
}

#[test]
fn ten_thousand_producers_may_stand() {
    let (scratch, stomp, http) = (Scratch::new("standing"), Port::free(), Port::free());
    let sessions = room_for(PRODUCERS);
    let agent = agent(&scratch, &format!("stomp: \"{}\"", stomp.address()), &http, "");
    run(stand(&agent, sessions, 100 * MIB, async || dial(stomp.address()).await));
}

#[test]
fn ten_thousand_producers_may_stand_over_tls() {
    let (scratch, stomp, http) = (Scratch::new("tls_standing"), Port::free(), Port::free());
    let ca = Authority::new("our ca");
    let own = ca.issue(Leaf::named(&["127.0.0.1"])).files(scratch.path(), "server");
    let client = ca.issue(Leaf::named(&["web-1.test"])).files(scratch.path(), "client");
    let ca = ca.file(scratch.path(), "ca");
    let tls = format!(
        "    tls: {{ cert: {}, key: {}, client_ca: {} }}\n",
        own.cert.display(),
        own.key.display(),
        ca.display()
    );
    let sessions = room_for(TLS_PRODUCERS);
    let agent = agent(&scratch, &format!("stomp+tls: \"{}\"", stomp.address()), &http, &tls);
    run(async {
        let files = TlsFiles::read(&TlsClient { ca: Some(ca), identity: Some(client) }).await.unwrap();
        let open = async || files.begin(dial(stomp.address()).await, "127.0.0.1").await.unwrap();
        stand(&agent, sessions, 500 * MIB, open).await;
    });
}
