//! Two agents and the link between them, mutual, as a topology has them; and what they show over HTTPS.

use std::net::{Ipv4Addr, SocketAddr};

use tokio_util::sync::CancellationToken;
use topology::Topology;

use super::*;
use crate::run::run_agent;

/// A port that was free a moment ago.
fn free_port() -> u16 {
    std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

/// Where the two listen.
struct Ports {
    us_stomp: u16,
    us_https: u16,
    eu_stomp: u16,
    eu_https: u16,
}

fn topology(rig: &Rig, ports: &Ports) -> String {
    let Ports { us_stomp, us_https, eu_stomp, eu_https } = ports;
    let dir = rig.dir.path().display();
    format!(
        "mesh: acme
agents:
  us:
    host: localhost
    listen: {{ stomp: 127.0.0.1:{us_stomp}, https: 127.0.0.1:{us_https} }}
    spool: {{ dir: {dir}/us }}
    tls: {{ ca: {dir}/ca.pem, cert: {dir}/client.pem, key: {dir}/client.key }}
    forward: {{ to: eu }}
  eu:
    host: localhost
    listen: {{ stomp+tls: 127.0.0.1:{eu_stomp}, https: 127.0.0.1:{eu_https} }}
    spool: {{ dir: {dir}/eu }}
    tls: {{ ca: {dir}/ca.pem, cert: {dir}/server.pem, key: {dir}/server.key, client_ca: {dir}/ca.pem }}
"
    )
}

/// What a node answers to one GET; empty if it does not listen yet.
async fn get(rig: &Rig, identity: Option<&Issued>, port: u16, path: &str) -> String {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let files = TlsFiles::read(&rig.client(identity)).await.unwrap();
    let Ok(stream) = TcpStream::connect(address).await else { return String::new() };
    let mut stream = files.begin(stream, "localhost").await.unwrap();
    stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

async fn until_it_says(
    rig: &Rig,
    identity: Option<&Issued>,
    port: u16,
    path: &str,
    expected: &str,
) -> String {
    let mut answer = String::new();
    let asked = async {
        loop {
            answer = get(rig, identity, port, path).await;
            if answer.contains(expected) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let asked = timeout(LIMIT, asked).await;
    assert!(asked.is_ok(), "no {expected:?} in {answer}");
    answer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_between_agents_goes_over_mutual_tls_and_both_show_themselves_over_https() {
    let rig = Rig::new();
    let client = rig.ca.issue(Leaf::named(&["localhost", "us.test"]));
    client.files(rig.dir.path(), "client");
    rig.ca.file(rig.dir.path(), "ca");
    // A node on loopback is dialled by its address.
    rig.ca.issue(Leaf::named(&["localhost", "127.0.0.1"])).files(rig.dir.path(), "server");
    let ports =
        Ports { us_stomp: free_port(), us_https: free_port(), eu_stomp: free_port(), eu_https: free_port() };
    let mesh = Topology::parse(&topology(&rig, &ports)).unwrap();
    let stop = CancellationToken::new();
    let run = |name: &str| {
        let (mesh, stop) = (mesh.clone(), stop.clone());
        let agent = mesh.agent(name).unwrap().clone();
        async move { run_agent(&mesh, &agent, Clock::system(), stop).await.unwrap() }
    };
    let test = async {
        until_it_says(&rig, None, ports.us_https, "/readyz", "accepting").await;
        until_it_says(&rig, Some(&client), ports.eu_https, "/readyz", "accepting").await;
        let mut producer = TcpStream::connect((Ipv4Addr::LOCALHOST, ports.us_stomp)).await.unwrap();
        let send = "CONNECT\naccept-version:1.2\nhost:h\n\n\0SEND\ndestination:/queue/graphite\n\na 1 1\0";
        producer.write_all(send.as_bytes()).await.unwrap();
        until_it_says(
            &rig,
            None,
            ports.us_https,
            "/metrics",
            "packetboat_forwarded_metrics_total{to=\"eu\"} 1",
        )
        .await;

        let shown = get(&rig, Some(&client), ports.eu_https, "/metrics").await;
        assert!(shown.starts_with("HTTP/1.0 200 OK"), "{shown}");
        assert!(shown.contains("packetboat_accepted_metrics_total{input=\"node\"} 1"), "{shown}");
        let dir = rig.dir.path().display();
        assert!(
            shown.contains(&format!("packetboat_certificate_stale{{file=\"{dir}/server.pem\"}} 0")),
            "{shown}"
        );
        let expected = format!("packetboat_certificate_expiry_seconds{{file=\"{dir}/client.pem\"}} 2");
        until_it_says(&rig, None, ports.us_https, "/metrics", &expected).await;

        // Who has no certificate is not shown anything by a node with a client_ca.
        let files = TlsFiles::read(&rig.client(None)).await.unwrap();
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, ports.eu_https)).await.unwrap();
        if let Ok(mut stream) = files.begin(stream, "localhost").await {
            assert!(stream.read(&mut [0]).await.is_err());
        }

        let mut plain = TcpStream::connect((Ipv4Addr::LOCALHOST, ports.us_https)).await.unwrap();
        plain.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await.unwrap();
        let mut heard = String::new();
        plain.read_to_string(&mut heard).await.unwrap();
        assert!(heard.starts_with("HTTP/1.1 400 ") && heard.contains("ask it by https://"), "{heard}");
        stop.cancel();
    };
    tokio::join!(run("us"), run("eu"), test);
}
