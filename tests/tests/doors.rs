//! Every door has a lock: two agents over TLS, each with a certificate, and what happens with the wrong ones.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::Path;
use std::time::Duration;

use tests::certificates::Authority;
use tests::load::plaintext;
use tests::packetboat::{Packetboat, command};
use tests::points::Points;
use tests::ports::Port;
use tests::scratch::Scratch;
use tests::sink::Sink;
use tests::stomp::Stomp;
use tests::wait::{until, when};

const LIMIT: Duration = Duration::from_secs(60);
const NAMES: [&str; 2] = ["DNS:node.test", "IP:127.0.0.1"];

/// `us` forwards to `eu`, which lets nobody in but its users.
struct Pair {
    scratch: Scratch,
    ports: [Port; 4],
    sink: Sink,
}

impl Pair {
    fn new(name: &str) -> Self {
        let sink = Sink::alone();
        Self { scratch: Scratch::new(name), ports: std::array::from_fn(|_| Port::free()), sink }
    }

    fn dir(&self) -> &Path {
        self.scratch.path()
    }

    fn graphite(&self) -> std::net::SocketAddr {
        self.ports[0].address()
    }

    fn stomp(&self) -> std::net::SocketAddr {
        self.ports[2].address()
    }

    /// `us` says `its` of itself, and `eu` has these `users`, and listens as `listen` says.
    fn start(&self, its: &str, listen: &str, users: &str) -> (Packetboat, Packetboat) {
        let over_tls = listen == "stomp+tls";
        let [graphite, us_http, stomp, eu_http] = self.ports.each_ref().map(Port::address);
        let dir = self.dir().display();
        let tls = match over_tls {
            true => {
                format!("tls: {{ cert: {dir}/eu.pem, key: {dir}/eu.key, client_ca: {dir}/ours.pem }}\n    ")
            }
            false => String::new(),
        };
        let text = format!(
            "mesh: test\nagents:\n  us:\n    listen: {{ graphite: \"{graphite}\", http: \"{us_http}\" }}\n    \
             spool: {{ dir: {dir}/us }}\n{its}  eu:\n    listen: {{ {listen}: \"{stomp}\", http: \"{eu_http}\" }}\n    \
             {tls}users:\n{users}    \
             spool: {{ dir: {dir}/eu }}\n    forward: {{ name: sink, to: \"graphite://{}\" }}\n",
            self.sink.address()
        );
        let topology = self.scratch.write("topology.yaml", &text);
        let eu = Packetboat::agent("eu", &topology, eu_http, &self.scratch);
        (Packetboat::agent("us", &topology, us_http, &self.scratch), eu)
    }

    fn arrives(&self, points: &Points) {
        plaintext(self.graphite(), points, points.all()).unwrap();
        self.has_arrived(points);
    }

    fn has_arrived(&self, points: &Points) {
        until(LIMIT, "all of it at the sink", || {
            let comparison = self.sink.ledger().compare(points, points.all());
            assert_eq!(comparison.duplicates, 0);
            when(comparison.missing.is_empty(), comparison.missing.len())
        });
    }
}

/// The last error of the link of `us`.
fn last_error(us: &Packetboat) -> String {
    us.status()["links"][0]["last_error"].as_str().unwrap_or_default().to_owned()
}

const NODE: &str = "      node: { certificate: node.test, role: node, node: us, send: /queue/graphite }\n";

#[test]
fn nodes_know_each_other_by_certificate_and_certificates_are_exchanged_under_way() {
    let pair = Pair::new("doors");
    let dir = pair.dir().display().to_string();
    let ours = Authority::new(pair.dir(), "ours");
    ours.sign("us", &NAMES, 10);
    ours.sign("eu", &NAMES, 10);
    let its = format!(
        "    tls: {{ ca: {dir}/ours.pem, cert: {dir}/us.pem, key: {dir}/us.key }}\n    forward: {{ to: eu, tls: {{ ca: {dir}/ours.pem, cert: {dir}/us.pem, key: {dir}/us.key }} }}\n"
    );
    pair.sink.proxy().leave();
    let (us, eu) = pair.start(&its, "stomp+tls", NODE);
    let points = Points::new("doors.a", 100, 5_000);
    plaintext(pair.graphite(), &points, points.all()).unwrap();
    until(LIMIT, "all of it at `eu`", || {
        let backlog = us.backlog("eu");
        when(backlog == 0, format!("{backlog} wait: {}", last_error(&us)))
    });
    let export = command(&["spool", "export", "--numbers", "--dir", &format!("{dir}/eu")]);
    let export = String::from_utf8(export.stdout).unwrap();
    assert!(export.lines().count() == 5_000 && export.lines().all(|line| line.starts_with("us:")));

    // A certificate that comes before its key is not taken; with its key it is, and the link stands all along.
    let days = || {
        let metrics = eu.metrics();
        metrics.sum("packetboat_certificate_expiry_seconds").unwrap() / 86_400.0
    };
    let before = days();
    let old_key = std::fs::read(format!("{dir}/eu.key")).unwrap();
    let new = ours.sign("eu", &NAMES, 20);
    let new_key = std::fs::read(&new.key).unwrap();
    std::fs::write(&new.key, &old_key).unwrap();
    until(LIMIT, "a stale certificate", || {
        let stale = eu.metrics().sum("packetboat_certificate_stale");
        when(stale == Some(1.0), format!("{stale:?}"))
    });
    assert!((days() - before).abs() < 1.0, "the old one is shown");
    std::fs::write(&new.key, &new_key).unwrap();
    until(LIMIT, "the new certificate", || {
        let stale = eu.metrics().sum("packetboat_certificate_stale");
        when(stale == Some(0.0) && days() > before + 5.0, format!("{stale:?}, {} days", days()))
    });
    pair.sink.proxy().mend();
    pair.has_arrived(&points);
    pair.arrives(&Points::new("doors.b", 100, 1_000));
    assert_eq!(us.metrics().get("packetboat_link_reconnects_total{to=\"eu\"}"), Some(0.0));
}

#[test]
fn a_wrong_authority_is_named_and_mended_by_its_file() {
    let pair = Pair::new("doors-ca");
    let dir = pair.dir().display().to_string();
    let ours = Authority::new(pair.dir(), "ours");
    let others = Authority::new(pair.dir(), "others");
    ours.sign("us", &NAMES, 10);
    ours.sign("eu", &NAMES, 10);
    std::fs::copy(others.pem(), format!("{dir}/believed.pem")).unwrap();
    let its = format!(
        "    forward: {{ to: eu, tls: {{ ca: {dir}/believed.pem, cert: {dir}/us.pem, key: {dir}/us.key }} }}\n"
    );
    let (us, _eu) = pair.start(&its, "stomp+tls", NODE);
    let points = Points::new("doors.c", 10, 100);
    plaintext(pair.graphite(), &points, points.all()).unwrap();
    until(LIMIT, "an error that names the file", || {
        let error = last_error(&us);
        when(error.contains("believed.pem"), error)
    });
    assert_eq!(us.metrics().get("packetboat_link_up{to=\"eu\"}"), Some(0.0));
    std::fs::copy(ours.pem(), format!("{dir}/believed.pem")).unwrap();
    pair.has_arrived(&points);
}

#[test]
fn a_wrong_passcode_is_said_and_mended_by_its_file() {
    let pair = Pair::new("doors-passcode");
    let dir = pair.dir().display().to_string();
    let hash = hash_of("correct horse");
    let its = format!("    forward: {{ to: eu, login: us, passcode_file: {dir}/passcode }}\n");
    std::fs::write(format!("{dir}/passcode"), "battery staple\n").unwrap();
    let users = format!(
        "      us: {{ passcode_hash: \"{hash}\", role: node, send: /queue/graphite, prefixes: doors. }}\n"
    );
    let (us, eu) = pair.start(&its, "stomp", &users);
    let points = Points::new("doors.d", 10, 100);
    plaintext(pair.graphite(), &points, points.all()).unwrap();
    until(LIMIT, "a refused login", || {
        let error = last_error(&us);
        when(error.contains("login or passcode are wrong"), error)
    });
    std::fs::write(format!("{dir}/passcode"), "correct horse\n").unwrap();
    pair.has_arrived(&points);

    // Nobody else gets in, and no secret is in what is written.
    let Err(refused) = Stomp::connect(pair.stomp(), &[("login", "us"), ("passcode", "battery staple")])
    else {
        panic!("a wrong passcode is let in");
    };
    assert!(refused.to_string().contains("login or passcode are wrong"), "{refused}");
    for log in [us.log(), eu.log(), us.status().to_string(), eu.status().to_string()] {
        assert!(
            !log.contains("battery staple") && !log.contains("correct horse") && !log.contains(&hash),
            "{log}"
        );
    }
}

fn hash_of(passcode: &str) -> String {
    use std::io::Write as _;
    use std::process::{Command, Stdio};
    let mut child = Command::new(tests::packetboat::binary())
        .arg("passcode")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(format!("{passcode}\n").as_bytes()).unwrap();
    String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap().trim().to_owned()
}
