//! What standing TLS sessions cost: 10,000 are to cost less than 500 MiB, so one less than 50 KiB.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::net::SocketAddr;
use std::time::Duration;

use forwarder::tls::{TlsFiles, TlsStream};
use tests::packetboat::Packetboat;
use tests::ports::Port;
use tests::scratch::Scratch;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use topology::model::TlsClient;

#[path = "../../forwarder/src/tls/testing.rs"]
mod testing;

use testing::{Authority, Leaf};

const SESSIONS: usize = 2000;
const SESSION_BYTES_MAX: usize = 50 * 1024;
/// Sessions that are begun together.
const AT_A_TIME: usize = 50;
const LIMIT: Duration = Duration::from_secs(120);

/// One that has logged in, sent a metric, and stays.
async fn standing(files: &TlsFiles, address: SocketAddr) -> TlsStream {
    let stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let mut stream = files.begin(stream, "127.0.0.1").await.unwrap();
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

fn rss_bytes(process: u32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

#[test]
fn a_standing_tls_session_is_small() {
    let (scratch, stomp, http) = (Scratch::new("tls_standing"), Port::free(), Port::free());
    let ca = Authority::new("our ca");
    let own = ca.issue(Leaf::named(&["127.0.0.1"])).files(scratch.path(), "server");
    let client = ca.issue(Leaf::named(&["web-1.test"])).files(scratch.path(), "client");
    let ca = ca.file(scratch.path(), "ca");
    let topology = scratch.write(
        "topology.yaml",
        &format!(
            "mesh: test\nagents:\n  edge:\n    listen: {{ stomp+tls: \"{}\", http: \"{}\" }}\n    spool: {{ dir: {} }}\n    \
             tls: {{ cert: {}, key: {}, client_ca: {} }}\n",
            stomp.address(),
            http.address(),
            scratch.path().join("spool").display(),
            own.cert.display(),
            own.key.display(),
            ca.display(),
        ),
    );
    let agent = Packetboat::agent("edge", &topology, http.address(), &scratch);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let files = TlsFiles::read(&TlsClient { ca: Some(ca), identity: Some(client) }).await.unwrap();
        // What the first ones bring about belongs to the agent, not to a session.
        let mut sessions = Vec::new();
        let first = (0..AT_A_TIME).map(|_| standing(&files, stomp.address()));
        sessions.extend(futures_util::future::join_all(first).await);
        let before = rss_bytes(agent.id());
        let stand = async {
            for _ in 0..SESSIONS / AT_A_TIME {
                let more = (0..AT_A_TIME).map(|_| standing(&files, stomp.address()));
                sessions.extend(futures_util::future::join_all(more).await);
            }
        };
        tokio::time::timeout(LIMIT, stand).await.unwrap();
        let each = (rss_bytes(agent.id()) - before) / SESSIONS;
        assert!(each < SESSION_BYTES_MAX, "{each} bytes for each of {SESSIONS} sessions");
        eprintln!("{each} bytes for each of {SESSIONS} sessions");
        for session in [0, SESSIONS / 2, SESSIONS] {
            sessions[session]
                .write_all(b"SEND\ndestination:/queue/graphite\nreceipt:2\n\na 1 1\0")
                .await
                .unwrap();
            sessions[session].flush().await.unwrap();
            assert_ne!(sessions[session].read(&mut [0; 100]).await.unwrap(), 0, "it still stands");
        }
    });
}
