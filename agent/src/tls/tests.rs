//! Real sockets, real files.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use forwarder::Clock;
use forwarder::tls::{TlsFiles, TlsStream as ClientStream};
use rustls::pki_types::pem::PemObject;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use topology::model::{TlsClient, TlsIdentity, TlsServer};

use super::certificates::Certificates;
use super::testing::{Authority, Issued, Leaf, written};
use super::*;
use crate::metrics::Metrics;

mod mesh;

/// Nothing here takes this long.
const LIMIT: Duration = Duration::from_secs(20);

/// A CA, and a certificate for `localhost` in files.
pub(crate) struct Rig {
    pub(crate) dir: TempDir,
    pub(crate) ca: Authority,
    pub(crate) metrics: Arc<Metrics>,
    now_ms: Arc<AtomicI64>,
}

impl Rig {
    pub(crate) fn new() -> Self {
        let rig = Self {
            dir: TempDir::new().unwrap(),
            ca: Authority::new("our ca"),
            metrics: Arc::new(Metrics::new().unwrap()),
            now_ms: Arc::new(AtomicI64::new(Clock::system().now_ms())),
        };
        rig.ca.issue(Leaf::named(&["localhost"])).files(rig.dir.path(), "server");
        rig
    }

    /// What the topology says of the listeners.
    pub(crate) fn server(&self) -> TlsServer {
        let file = |name| self.dir.path().join(name);
        TlsServer {
            identity: TlsIdentity { cert: file("server.pem"), key: file("server.key") },
            client_ca: None,
        }
    }

    /// The same, with clients that this CA has to vouch for.
    pub(crate) fn mutual(&self) -> TlsServer {
        TlsServer { client_ca: Some(self.ca.file(self.dir.path(), "ca")), ..self.server() }
    }

    pub(crate) async fn certificates(&self, files: &TlsServer) -> Certificates {
        let clock = Clock::manual(Arc::clone(&self.now_ms));
        Certificates::open(files, clock, Arc::clone(&self.metrics)).await.unwrap()
    }

    /// A client that trusts this CA.
    pub(crate) fn client(&self, identity: Option<&Issued>) -> TlsClient {
        let identity = identity.map(|issued| issued.files(self.dir.path(), "client"));
        TlsClient { ca: Some(self.ca.file(self.dir.path(), "ca")), identity }
    }

    /// Such a client's session with the listener at `address`.
    pub(crate) async fn dial(
        &self,
        address: std::net::SocketAddr,
        identity: Option<&Issued>,
    ) -> Result<ClientStream, String> {
        let files = TlsFiles::read(&self.client(identity)).await.unwrap();
        let stream = TcpStream::connect(address).await.unwrap();
        let begun = timeout(LIMIT, files.begin(stream, "localhost")).await.expect("the handshake ends");
        begun.map_err(|error| error.to_string())
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The value of a metric of the certificate.
    fn metric(&self, name: &str) -> i64 {
        let line = format!("{name}{{file=\"{}\"}} ", self.file("server.pem").display());
        let text = String::from_utf8(self.metrics.text().unwrap()).unwrap();
        let value = text.lines().find_map(|found| found.strip_prefix(&line));
        value.unwrap_or_else(|| panic!("no {line} in {text}")).parse().unwrap()
    }
}

/// Both ends of one handshake: what the client has heard, and the names that the server has seen.
async fn shake_hands(
    rig: &Rig,
    acceptor: &Acceptor,
    identity: Option<&Issued>,
) -> (Result<String, String>, Result<Vec<String>, String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serve = async {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = acceptor.accept(stream).await.map_err(|error| error.to_string())?;
        stream.write_all(b"welcome").await.unwrap();
        stream.shutdown().await.unwrap();
        Ok(client_names(&stream))
    };
    let dial = async {
        let mut stream = rig.dial(address, identity).await?;
        let mut heard = String::new();
        stream.read_to_string(&mut heard).await.map_err(|error| error.to_string())?;
        Ok(heard)
    };
    tokio::join!(dial, serve)
}

#[tokio::test]
async fn mutual_tls_lets_those_in_whom_the_ca_vouches_for() {
    let rig = Rig::new();
    let certificates = rig.certificates(&rig.mutual()).await;
    let (required, optional) = (
        certificates.acceptor(ClientCertificate::Required),
        certificates.acceptor(ClientCertificate::Optional),
    );
    let ours = rig.ca.issue(Leaf { common_name: "web-1".into(), ..Leaf::named(&["web-1.test"]) });
    let strange = Authority::new("strange").issue(Leaf::named(&["web-1.test"]));
    let expired = rig.ca.issue(Leaf { days: (2020, 2021), ..Leaf::named(&["web-1.test"]) });

    for acceptor in [&required, &optional] {
        let (heard, seen) = shake_hands(&rig, acceptor, Some(&ours)).await;
        assert_eq!(
            (heard, seen),
            (Ok("welcome".to_owned()), Ok(vec!["web-1.test".to_owned(), "web-1".to_owned()]))
        );

        let (heard, seen) = shake_hands(&rig, acceptor, Some(&strange)).await;
        assert!(heard.unwrap_err().contains("it may have refused our client certificate"));
        let ca = rig.file("ca.pem");
        let mend = format!("its client certificate is not signed by a CA in {}", ca.display());
        assert_eq!(seen, Err(mend));

        let (_, seen) = shake_hands(&rig, acceptor, Some(&expired)).await;
        let seen = seen.unwrap_err();
        assert!(seen.contains("its client certificate is refused") && seen.contains("expired"), "{seen}");
    }

    let (heard, seen) = shake_hands(&rig, &required, None).await;
    let heard = heard.unwrap_err();
    assert!(heard.contains("a client certificate is required"), "{heard}");
    assert!(heard.contains("give it tls.cert and tls.key"), "{heard}");
    assert!(seen.unwrap_err().starts_with("it shows no client certificate, and this port requires one"));

    let (heard, seen) = shake_hands(&rig, &optional, None).await;
    assert_eq!((heard, seen), (Ok("welcome".to_owned()), Ok(Vec::new())));
}

#[tokio::test]
async fn without_a_client_ca_no_certificate_is_asked_for() {
    let rig = Rig::new();
    let certificates = rig.certificates(&rig.server()).await;
    let ours = rig.ca.issue(Leaf::named(&["web-1.test"]));
    let shaken = shake_hands(&rig, &certificates.acceptor(ClientCertificate::Required), Some(&ours)).await;
    assert_eq!(shaken, (Ok("welcome".to_owned()), Ok(Vec::new())));
}

/// What the listener says of a client that writes `opening`.
async fn verdict_on(opening: &[u8]) -> String {
    let rig = Rig::new();
    let certificates = rig.certificates(&rig.server()).await;
    let acceptor = certificates.acceptor(ClientCertificate::Required).within(Duration::from_millis(100));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    client.write_all(opening).await.unwrap();
    let (stream, _) = listener.accept().await.unwrap();
    timeout(LIMIT, acceptor.accept(stream)).await.unwrap().unwrap_err().to_string()
}

#[tokio::test]
async fn clients_without_tls_and_slow_ones_are_told_apart() {
    let plain = "it does not speak TLS, and this port speaks nothing else: use TLS, or a port without it";
    assert_eq!(verdict_on(b"CONNECT\n\n\0").await, plain);
    assert_eq!(verdict_on(b"a 1 1\n").await, plain);
    assert_eq!(verdict_on(b"").await, "no TLS handshake within 0.1 s");
    assert_eq!(verdict_on(b"\x16\x03\x01\x02").await, "no TLS handshake within 0.1 s");
    assert!(verdict_on(b"\x16GET / HTTP/1.1\r\n\r\n").await.starts_with("the TLS handshake failed: "));
}

#[tokio::test]
async fn a_client_that_does_not_trust_us_is_explained() {
    let rig = Rig::new();
    let certificates = rig.certificates(&rig.server()).await;
    let acceptor = certificates.acceptor(ClientCertificate::Required);
    let mut stranger = Rig::new();
    stranger.dir = TempDir::new().unwrap();
    let (heard, seen) = shake_hands(&stranger, &acceptor, None).await;
    assert!(heard.is_err());
    let file = rig.file("server.pem").display().to_string();
    let seen = seen.unwrap_err();
    assert!(seen.contains(&file), "{seen}");
}

#[tokio::test]
async fn a_certificate_exchanged_before_its_key_waits_for_it() {
    let rig = Rig::new();
    let certificates = rig.certificates(&rig.server()).await;
    let acceptor = certificates.acceptor(ClientCertificate::Required);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let accept = async || {
        let (stream, _) = listener.accept().await.unwrap();
        acceptor.accept(stream).await.unwrap()
    };
    let serial = |stream: &TlsStream| stream.get_ref().1.server_name().map(str::to_owned);
    let (old_client, old_server) = tokio::join!(rig.dial(address, None), accept());
    let (mut old_client, mut old_server) = (old_client.unwrap(), old_server);
    assert_eq!(serial(&old_server).as_deref(), Some("localhost"));
    let old_expiry = rig.metric("packetboat_certificate_expiry_seconds");
    assert_eq!(rig.metric("packetboat_certificate_stale"), 0);

    let new = rig.ca.issue(Leaf { days: (2020, 2100), ..Leaf::named(&["localhost"]) });
    let new_key = new.key_pem.clone();
    written(rig.dir.path(), "server.pem", &new.cert_pem);
    certificates.look().await;
    assert_eq!(rig.metric("packetboat_certificate_stale"), 1);
    assert_eq!(rig.metric("packetboat_certificate_expiry_seconds"), old_expiry, "of the one in use");
    let (client, _server) = tokio::join!(rig.dial(address, None), accept());
    client.expect("the old one is in use");
    certificates.look().await;
    assert_eq!(rig.metric("packetboat_certificate_stale"), 1);

    written(rig.dir.path(), "server.key", &new_key);
    certificates.look().await;
    assert_eq!(rig.metric("packetboat_certificate_stale"), 0);
    assert!(rig.metric("packetboat_certificate_expiry_seconds") < old_expiry - 365 * 24 * 3600);
    let (client, _server) = tokio::join!(rig.dial(address, None), accept());
    client.expect("the new one is in use");

    old_client.write_all(b"still here").await.unwrap();
    let mut heard = [0; 10];
    old_server.read_exact(&mut heard).await.unwrap();
    old_server.write_all(&heard).await.unwrap();
    old_server.flush().await.unwrap();
    old_client.read_exact(&mut heard).await.unwrap();
    assert_eq!(&heard, b"still here");
}

/// Exchanges files, and tells whether the new set is in use afterwards.
async fn is_taken(rig: &Rig, files: &TlsServer, exchange: impl FnOnce(&Rig)) -> bool {
    let certificates = rig.certificates(files).await;
    let before = certificates.config(ClientCertificate::Required);
    exchange(rig);
    certificates.look().await;
    let is_stale = rig.metric("packetboat_certificate_stale") == 1;
    let is_taken = !Arc::ptr_eq(&before, &certificates.config(ClientCertificate::Required));
    assert_ne!(is_taken, is_stale);
    is_taken
}

#[tokio::test]
async fn only_a_set_that_fits_is_taken() {
    let renewed = |rig: &Rig, leaf| {
        rig.ca.issue(leaf).files(rig.dir.path(), "server");
    };
    let rig = Rig::new();
    assert!(is_taken(&rig, &rig.server(), |rig| renewed(rig, Leaf::named(&["localhost"]))).await);
    assert!(is_taken(&rig, &rig.mutual(), |rig| drop(rig.ca.file(rig.dir.path(), "ca"))).await);

    let expired = Leaf { days: (2020, 2021), ..Leaf::named(&["localhost"]) };
    assert!(!is_taken(&rig, &rig.server(), |rig| renewed(rig, expired)).await);

    let rig = Rig::new();
    let remove = |rig: &Rig| std::fs::remove_file(rig.file("server.key")).unwrap();
    assert!(!is_taken(&rig, &rig.server(), remove).await);

    let rig = Rig::new();
    let half = |rig: &Rig| {
        let pem = std::fs::read_to_string(rig.file("server.pem")).unwrap();
        std::fs::write(rig.file("server.pem"), &pem[..pem.len() / 2]).unwrap();
    };
    assert!(!is_taken(&rig, &rig.server(), half).await);

    let rig = Rig::new();
    let mutual = rig.mutual();
    assert!(!is_taken(&rig, &mutual, |rig| drop(written(rig.dir.path(), "ca.pem", "nothing"))).await);
}

#[tokio::test]
async fn a_certificate_made_for_later_is_taken_when_its_time_comes() {
    let rig = Rig::new();
    let certificates = rig.certificates(&rig.server()).await;
    rig.ca.issue(Leaf { days: (2110, 2120), ..Leaf::named(&["localhost"]) }).files(rig.dir.path(), "server");
    certificates.look().await;
    assert_eq!(rig.metric("packetboat_certificate_stale"), 1);
    rig.now_ms.store(4_450_000_000_000, Ordering::Relaxed);
    certificates.look().await;
    assert_eq!(rig.metric("packetboat_certificate_stale"), 0);
}

#[tokio::test]
async fn the_time_that_is_left_is_shown_and_is_negative_after_the_end() {
    let rig = Rig::new();
    let end = rustls::pki_types::CertificateDer::from_pem_file(rig.file("server.pem")).unwrap();
    let end = Certificate::parse(&end).unwrap().not_after_seconds;
    let certificates = rig.certificates(&rig.server()).await;
    for left in [1000, 0, -5] {
        rig.now_ms.store((end - left) * 1000, Ordering::Relaxed);
        certificates.look().await;
        assert_eq!(rig.metric("packetboat_certificate_expiry_seconds"), left);
    }
}

/// There is no other one to use, and the agent has more to do than to listen.
#[tokio::test]
async fn an_expired_certificate_does_not_keep_an_agent_from_starting() {
    let rig = Rig::new();
    rig.ca.issue(Leaf { days: (2020, 2021), ..Leaf::named(&["localhost"]) }).files(rig.dir.path(), "server");
    rig.certificates(&rig.server()).await;
    assert!(rig.metric("packetboat_certificate_expiry_seconds") < 0);
}

#[tokio::test]
async fn files_that_do_not_fit_do() {
    let rig = Rig::new();
    written(rig.dir.path(), "server.key", &rig.ca.issue(Leaf::named(&["localhost"])).key_pem);
    let opened = Certificates::open(&rig.server(), Clock::system(), Arc::clone(&rig.metrics)).await;
    let error = opened.unwrap_err().to_string();
    let (key, cert) = (rig.file("server.key"), rig.file("server.pem"));
    let mend = "does not belong to the certificate in";
    assert_eq!(error, format!("the key file {} {mend} {}: exchange both", key.display(), cert.display()));
}

#[tokio::test]
async fn the_certificates_of_links_are_shown_too() {
    let rig = Rig::new();
    let identity = rig.server().identity;
    let clock = Clock::manual(Arc::clone(&rig.now_ms));
    let twice = [identity.clone(), identity].into_iter();
    let mut links = LinkCertificates::new(twice, clock, Arc::clone(&rig.metrics));
    links.look().await;
    assert_eq!(rig.metric("packetboat_certificate_stale"), 0);
    let expiry = rig.metric("packetboat_certificate_expiry_seconds");
    assert!(expiry > 0);
    written(rig.dir.path(), "server.key", "nothing");
    rig.now_ms.fetch_add(7000, Ordering::Relaxed);
    links.look().await;
    assert_eq!(rig.metric("packetboat_certificate_stale"), 1);
    assert_eq!(rig.metric("packetboat_certificate_expiry_seconds"), expiry - 7);
}
