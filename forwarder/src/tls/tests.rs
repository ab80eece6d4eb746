//! Real sockets, and an upstream of rustls' own.

use std::path::Path;

use rustls::ServerConfig;
use rustls::server::WebPkiClientVerifier;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use topology::model::{Endpoint, StompUpstream, TlsIdentity};

use rustls::pki_types::pem::PemObject;

use super::testing::{Authority, Issued, Leaf, written};
use super::*;
use crate::stomp::{self, Incoming, StompSettings};
use crate::transport::Transport;

const CONNECTED: &[u8] = b"CONNECTED\nversion:1.2\n\n\0\n";

/// What an upstream has, besides its certificate.
#[derive(Default)]
struct Upstream<'a> {
    /// It requires a client certificate of this CA.
    client_ca: Option<&'a Authority>,
    only_tls12: bool,
}

impl Upstream<'_> {
    fn config(&self, issued: &Issued) -> Arc<ServerConfig> {
        let chain: Vec<_> = issued.chain.iter().map(|der| der.clone().into()).collect();
        let key = rustls::pki_types::pem::PemObject::from_pem_slice(issued.key_pem.as_bytes()).unwrap();
        let versions: &[_] = if self.only_tls12 { &[&rustls::version::TLS12] } else { rustls::ALL_VERSIONS };
        let builder =
            ServerConfig::builder_with_provider(provider()).with_protocol_versions(versions).unwrap();
        let builder = match self.client_ca {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let mut roots = rustls::RootCertStore::empty();
                roots
                    .add(
                        rustls::pki_types::pem::PemObject::from_pem_slice(authority.pem().as_bytes())
                            .unwrap(),
                    )
                    .unwrap();
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        Arc::new(builder.with_single_cert(chain, key).unwrap())
    }

    /// Answers one CONNECT over TLS; what goes wrong is the client's to tell.
    async fn serve_one(&self, listener: TcpListener, issued: &Issued) {
        let acceptor = TlsAcceptor::from(self.config(issued));
        let (stream, _) = listener.accept().await.unwrap();
        match acceptor.accept(stream).into_fallible().await {
            Ok(mut stream) => {
                let mut connect = Vec::new();
                while !connect.ends_with(b"\0") {
                    if stream.read_buf(&mut connect).await.unwrap_or(0) == 0 {
                        return;
                    }
                }
                stream.write_all(CONNECTED).await.unwrap();
                stream.flush().await.unwrap();
                stream.read_to_end(&mut connect).await.unwrap_or_default();
            }
            // With bytes unread a close is a reset, which may overtake the alert.
            Err((_, mut stream)) => drop(stream.read_to_end(&mut Vec::new()).await),
        }
    }
}

fn upstream(port: u16, host: &str, tls: TlsClient) -> StompUpstream {
    StompUpstream {
        endpoints: vec![Endpoint { host: host.to_owned(), port }],
        vhost: "/".to_owned(),
        login: None,
        passcode_file: None,
        send_headers: Vec::new(),
        subscribe_headers: Vec::new(),
        tls: Some(tls),
        prefer_first: false,
        is_agent: false,
    }
}

/// What a client says of an upstream that has `issued`, if it does not get in.
async fn verdict_on(served: Upstream<'_>, issued: &Issued, tls: TlsClient) -> Result<(), String> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let upstream = upstream(port, "localhost", tls);
    let settings = StompSettings::default();
    let (connected, ()) = tokio::join!(
        async {
            let connected = stomp::connect(&upstream, None, &settings).await;
            connected.map(drop).map_err(|error| error.to_string())
        },
        served.serve_one(listener, issued)
    );
    connected.map_err(|error| error.replace(&format!("localhost:{port}: "), ""))
}

/// A client's files, and no certificate of its own.
fn trusting(ca: &Authority, dir: &Path) -> TlsClient {
    TlsClient { ca: Some(ca.file(dir, "ca")), identity: None }
}

/// `check` for one certificate of an upstream that the client's CA has signed.
async fn check(leaf: Leaf, expected: Result<(), &str>) {
    let (dir, ca) = (TempDir::new().unwrap(), Authority::new("our ca"));
    let issued = ca.issue(leaf);
    assert_eq!(
        verdict_on(Upstream::default(), &issued, trusting(&ca, dir.path())).await,
        expected.map_err(str::to_owned)
    );
}

#[tokio::test]
async fn the_name_of_a_certificate_is_checked() {
    check(Leaf::named(&["localhost"]), Ok(())).await;
    check(Leaf::named(&["mq1.test", "localhost"]), Ok(())).await;
    check(
        Leaf::named(&["mq1.test", "10.0.0.1"]),
        Err("its certificate is for mq1.test, 10.0.0.1, and not for localhost: dial it by one of these names, or \
             have the certificate made for this one too"),
    )
    .await;
    // A common name alone names nobody.
    check(
        Leaf { common_name: "localhost".into(), ..Leaf::named(&[]) },
        Err("its certificate (CN=localhost) has no subjectAltName, and the common name does not count: have it made \
             again, with openssl by -addext subjectAltName=DNS:localhost"),
    )
    .await;
}

#[tokio::test]
async fn the_time_of_a_certificate_is_checked() {
    check(
        Leaf { days: (2020, 2021), ..Leaf::named(&["localhost"]) },
        Err("its certificate (CN=leaf) has expired: it was valid until 2021-01-01T00:00:00Z"),
    )
    .await;
    let (dir, ca) = (TempDir::new().unwrap(), Authority::new("our ca"));
    let issued = ca.issue(Leaf { days: (2110, 2120), ..Leaf::named(&["localhost"]) });
    let error = verdict_on(Upstream::default(), &issued, trusting(&ca, dir.path())).await.unwrap_err();
    assert!(error.contains("is not valid yet: it will be from 2110-01-01T00:00:00Z"), "{error}");
}

#[tokio::test]
async fn a_certificate_of_another_ca_is_refused() {
    let dir = TempDir::new().unwrap();
    let (ours, theirs, namesake) =
        (Authority::new("our ca"), Authority::new("their ca"), Authority::new("our ca"));
    let file = dir.path().join("ca.pem").display().to_string();
    for (issued, expected) in [
        (
            theirs.issue(Leaf::named(&["localhost"])),
            format!(
                "its certificate (CN=leaf) is not signed by a CA in {file}, but by CN=their ca: put that CA's \
                 certificate into the file, or have the peer send its intermediate certificates"
            ),
        ),
        (
            namesake.issue(Leaf::named(&["localhost"])),
            format!(
                "its certificate (CN=leaf) claims to be signed by CN=our ca, but not with the key of a CA in {file}: \
                 put that CA's certificate into the file"
            ),
        ),
        (
            Leaf::named(&["localhost"]).self_signed(),
            format!(
                "its certificate (CN=leaf) is signed by itself and not by a CA in {file}: put that CA's certificate \
                 into the file"
            ),
        ),
    ] {
        let verdict = verdict_on(Upstream::default(), &issued, trusting(&ours, dir.path())).await;
        assert_eq!(verdict, Err(expected));
    }
}

#[tokio::test]
async fn a_chain_is_followed_to_a_ca_of_the_file() {
    let (dir, root) = (TempDir::new().unwrap(), Authority::new("root"));
    let middle = root.intermediate("middle");
    let mut issued = middle.issue(Leaf::named(&["localhost"]));
    let verdict = verdict_on(Upstream::default(), &issued, trusting(&root, dir.path())).await;
    assert!(verdict.unwrap_err().contains("but by CN=middle"));
    issued
        .chain
        .push(rustls::pki_types::CertificateDer::from_pem_slice(middle.pem().as_bytes()).unwrap().to_vec());
    assert_eq!(verdict_on(Upstream::default(), &issued, trusting(&root, dir.path())).await, Ok(()));
}

#[tokio::test]
async fn a_certificate_signed_by_itself_may_be_its_own_ca() {
    let dir = TempDir::new().unwrap();
    let issued = Leaf::named(&["localhost"]).self_signed();
    let tls = TlsClient { ca: Some(written(dir.path(), "ca.pem", &issued.cert_pem)), identity: None };
    assert_eq!(verdict_on(Upstream::default(), &issued, tls).await, Ok(()));

    let issued = Leaf { is_ca: true, ..Leaf::named(&["localhost"]) }.self_signed();
    let tls = TlsClient { ca: Some(written(dir.path(), "ca.pem", &issued.cert_pem)), identity: None };
    let error = verdict_on(Upstream::default(), &issued, tls).await.unwrap_err();
    assert!(error.contains("is that of a CA, which may sign but not serve"), "{error}");
    assert!(error.contains("-addext basicConstraints=critical,CA:FALSE"), "{error}");
}

/// No public CA has signed for us, wherever the test runs.
#[tokio::test]
async fn without_a_file_the_systems_cas_count() {
    let issued = Authority::new("our ca").issue(Leaf::named(&["localhost"]));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let upstream = upstream(port, "localhost", TlsClient { ca: None, identity: None });
    let served = Upstream::default();
    let settings = StompSettings::default();
    let error = tokio::select! {
        biased;
        connected = stomp::connect(&upstream, None, &settings) => connected.err().unwrap().to_string(),
        () = served.serve_one(listener, &issued) => panic!("the client stays until it knows"),
    };
    let untrusted = "is not signed by a CA that this system trusts, but by CN=our ca: name a file with that CA's \
                     certificate as tls.ca";
    let none = "gives no CA: install the package ca-certificates, or name a file as tls.ca";
    assert!(error.contains(untrusted) || error.contains(none), "{error}");
}

#[tokio::test]
async fn a_client_certificate_is_shown_to_those_who_ask() {
    let (dir, ca) = (TempDir::new().unwrap(), Authority::new("our ca"));
    let (issued, ours) = (ca.issue(Leaf::named(&["localhost"])), ca.issue(Leaf::named(&["us-east.test"])));
    let strange = Authority::new("strange ca").issue(Leaf::named(&["us-east.test"]));
    for only_tls12 in [false, true] {
        let asking = || Upstream { client_ca: Some(&ca), only_tls12 };
        let with = |issued: &Issued| TlsClient {
            identity: Some(issued.files(dir.path(), "client")),
            ..trusting(&ca, dir.path())
        };
        assert_eq!(verdict_on(asking(), &issued, with(&ours)).await, Ok(()));

        let error = verdict_on(asking(), &issued, trusting(&ca, dir.path())).await.unwrap_err();
        let mend = "it asks for a client certificate, and the link has none: give it tls.cert and tls.key";
        assert!(error.contains(mend), "{only_tls12}: {error}");

        let error = verdict_on(asking(), &issued, with(&strange)).await.unwrap_err();
        let file = dir.path().join("client.pem");
        let mend = format!("it may have refused our client certificate {} (CN=leaf)", file.display());
        assert!(error.contains(&mend), "{only_tls12}: {error}");
        assert!(error.contains("it does not know the CA of our certificate"), "{only_tls12}: {error}");

        let quiet = Upstream { client_ca: None, only_tls12 };
        assert_eq!(verdict_on(quiet, &issued, with(&ours)).await, Ok(()), "nobody asks");
    }
}

/// What a client says of a peer that does not speak TLS.
async fn without_tls(peer: impl AsyncFnOnce(TcpStream), settings: StompSettings) -> String {
    let (dir, ca) = (TempDir::new().unwrap(), Authority::new("our ca"));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let upstream = upstream(port, "localhost", trusting(&ca, dir.path()));
    let (connected, ()) = tokio::join!(stomp::connect(&upstream, None, &settings), async {
        peer(listener.accept().await.unwrap().0).await;
    });
    connected.err().unwrap().to_string().replace(&format!("localhost:{port}: "), "")
}

#[tokio::test]
async fn a_peer_without_tls_is_found_out() {
    let error = without_tls(
        async |mut stream: TcpStream| {
            stream.read_u8().await.unwrap();
            stream.write_all(b"ERROR\nmessage:not STOMP\n\n\0\n").await.unwrap();
            drop(stream.read_to_end(&mut Vec::new()).await);
        },
        StompSettings::default(),
    );
    assert_eq!(error.await, "it does not speak TLS: is this a port for stomp:// rather than stomp+tls://?");

    let error = without_tls(
        async |mut stream: TcpStream| {
            stream.read_buf(&mut Vec::with_capacity(10_000)).await.unwrap();
        },
        StompSettings::default(),
    );
    assert_eq!(error.await, "it closed the connection during the TLS handshake (is this its port for TLS?)");

    let limit = Duration::from_millis(50);
    let error = without_tls(
        async |mut stream: TcpStream| drop(stream.read_to_end(&mut Vec::new()).await),
        StompSettings { handshake_timeout: limit, ..StompSettings::default() },
    );
    assert_eq!(error.await, "no TLS session within 50ms (is this its port for TLS?)");
}

#[tokio::test]
async fn frames_go_both_ways_over_tls() {
    let (dir, ca) = (TempDir::new().unwrap(), Authority::new("our ca"));
    let issued = ca.issue(Leaf::named(&["localhost"]));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let acceptor = TlsAcceptor::from(Upstream::default().config(&issued));
    let body = bytes::Bytes::from(vec![b'x'; 3_000_000]);
    let serve = async {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = acceptor.accept(stream).await.unwrap();
        stream.write_all(CONNECTED).await.unwrap();
        stream.flush().await.unwrap();
        let mut heard = Vec::new();
        while heard.len() < body.len() || !heard.ends_with(b"\0") {
            assert_ne!(stream.read_buf(&mut heard).await.unwrap(), 0);
        }
        stream.write_all(b"RECEIPT\nreceipt-id:1\n\n\0\n").await.unwrap();
        stream.flush().await.unwrap();
        drop(stream.read_to_end(&mut heard).await);
    };
    let dial = async {
        let upstream = upstream(port, "localhost", trusting(&ca, dir.path()));
        let mut connection = stomp::connect(&upstream, None, &StompSettings::default()).await.unwrap();
        connection.send("/queue/a", [("receipt", "1")].into_iter(), &body);
        assert!(matches!(connection.next().await, Ok(Incoming::Receipt(id)) if id == "1"));
    };
    tokio::join!(serve, dial);
}

#[tokio::test]
async fn files_that_are_of_no_use_are_named_with_the_mend() {
    let (dir, ca) = (TempDir::new().unwrap(), Authority::new("our ca"));
    let (one, other) = (ca.issue(Leaf::named(&["a.test"])), ca.issue(Leaf::named(&["b.test"])));
    let chain = format!("{}{}", ca.pem(), one.cert_pem);
    let cut = &one.cert_pem[..one.cert_pem.len() - 40];
    for (cert, key, expected) in [
        (
            "",
            one.key_pem.as_str(),
            "the certificate file CERT holds no certificate in PEM: it should have a line",
        ),
        (&one.key_pem, &one.key_pem, "the certificate file CERT holds no certificate in PEM"),
        (cut, &one.key_pem, "the certificate file CERT is cut off: a -----BEGIN has no -----END"),
        ("-----BEGIN CERTIFICATE-----\n*\n-----END CERTIFICATE-----\n", &one.key_pem, "CERT is not PEM"),
        ("-----BEGIN CERTIFICATE\nsecret\n", &one.key_pem, "CERT has a broken line -----BEGIN"),
        (
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            &one.key_pem,
            "CERT has a broken certificate, number 1",
        ),
        (&one.cert_pem, &one.cert_pem, "the key file KEY holds no private key in PEM"),
        (
            &one.cert_pem,
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
            "KEY is encrypted",
        ),
        (
            &one.cert_pem,
            "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
            "KEY holds a key that is not understood: use RSA, ECDSA (P-256, P-384) or Ed25519",
        ),
        (&one.cert_pem, &other.key_pem, "KEY does not belong to the certificate in CERT: exchange both"),
        (&chain, &one.key_pem, "KEY belongs to certificate number 2 in CERT: put that one first"),
    ] {
        let files = TlsIdentity {
            cert: written(dir.path(), "cert.pem", cert),
            key: written(dir.path(), "cert.key", key),
        };
        let error = Identity::read(&files).await.unwrap_err().to_string();
        let error = error.replace(&files.cert.display().to_string(), "CERT");
        let error = error.replace(&files.key.display().to_string(), "KEY");
        assert!(error.contains(expected), "{error}");
        assert!(!error.contains("secret"), "{error}");
    }
}

#[tokio::test]
async fn a_missing_file_and_an_endless_device_are_errors() {
    let client = |ca: &str| TlsClient { ca: Some(ca.into()), identity: None };
    let error = TlsFiles::read(&client("/nonexistent/ca.pem")).await.unwrap_err().to_string();
    assert!(error.starts_with("the CA file /nonexistent/ca.pem cannot be read: "), "{error}");
    let error = TlsFiles::read(&client("/dev/zero")).await.unwrap_err().to_string();
    assert!(error.starts_with("the CA file /dev/zero is larger than 1 MiB"), "{error}");
    let error = TlsFiles::read(&client("/")).await.unwrap_err().to_string();
    assert!(error.starts_with("the CA file / cannot be read: "), "{error}");
    let upstream = upstream(1, "localhost", client("/nonexistent/ca.pem"));
    let error = stomp::connect(&upstream, None, &StompSettings::default()).await.err().unwrap();
    assert!(matches!(error, stomp::ConnectError::Files(_)), "nothing is dialled");
}

#[tokio::test]
async fn no_secret_is_shown() {
    let (dir, ca) = (TempDir::new().unwrap(), Authority::new("our ca"));
    let issued = ca.issue(Leaf::named(&["a.test"]));
    let identity = Some(issued.files(dir.path(), "client"));
    let files = TlsFiles::read(&TlsClient { identity, ..trusting(&ca, dir.path()) }).await.unwrap();
    let shown = format!("{files:?}");
    let key = rustls::pki_types::PrivateKeyDer::from_pem_slice(issued.key_pem.as_bytes()).unwrap();
    let start = format!("{:?}", &key.secret_der()[..8]);
    assert!(!shown.contains(start.trim_matches(['[', ']'])), "{shown}");
}

#[tokio::test]
async fn a_host_that_no_certificate_can_be_for_is_told() {
    let (dir, ca) = (TempDir::new().unwrap(), Authority::new("our ca"));
    let files = TlsFiles::read(&trusting(&ca, dir.path())).await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let error = files.begin(stream, "not a host").await.unwrap_err();
    assert_eq!(error, TlsError::Host("not a host".to_owned()));
}

#[test]
fn a_plain_transport_is_no_larger_than_its_stream() {
    assert!(size_of::<Transport>() <= size_of::<TcpStream>() + 8);
}
