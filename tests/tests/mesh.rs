//! Agents among themselves: who drains whom, what goes round, and a spool that comes back from a copy.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::Path;
use std::time::Duration;

use tests::load::plaintext;
use tests::packetboat::{Packetboat, command};
use tests::points::Points;
use tests::ports::Port;
use tests::scratch::Scratch;
use tests::sink::Sink;
use tests::stomp::Stomp;
use tests::wait::{until, when};

const LIMIT: Duration = Duration::from_secs(60);

/// The `listen` of an agent with these ports.
fn listen(stomp: &Port, graphite: &Port, http: &Port) -> String {
    let [stomp, graphite, http] = [stomp, graphite, http].map(Port::address);
    format!("{{ stomp: \"{stomp}\", graphite: \"{graphite}\", http: \"{http}\" }}")
}

fn waits(agent: &Packetboat, link: &str, expected: i64) {
    until(LIMIT, &format!("{expected} lines for {link}"), || {
        let backlog = agent.backlog(link);
        when(backlog == expected, backlog)
    });
}

/// An agent without `forward` keeps its metrics, and is a broker to a consumer.
#[test]
fn a_consumer_drains_an_agent() {
    let (scratch, sink) = (Scratch::new("drained"), Sink::alone());
    let [stomp, graphite, http, consumer_http] = std::array::from_fn(|_| Port::free());
    let text = format!(
        "mesh: test\nagents:\n  eu:\n    listen: {}\n    spool: {{ dir: {}/eu }}\nconsumers:\n  c:\n    from: eu\n    \
         graphite: [\"{}\"]\n    listen: {{ http: \"{}\" }}\n",
        listen(&stomp, &graphite, &http),
        scratch.path().display(),
        sink.address(),
        consumer_http.address(),
    );
    let topology = scratch.write("topology.yaml", &text);
    let mut eu = Packetboat::agent("eu", &topology, http.address(), &scratch);
    let points = Points::new("drained", 1_000, 50_000);
    plaintext(graphite.address(), &points, 0..40_000).unwrap();
    waits(&eu, "subscribers:/queue/graphite", 40_000);

    let mut consumer = Packetboat::consumer("c", &topology, consumer_http.address(), &scratch);
    waits(&eu, "subscribers:/queue/graphite", 0);
    plaintext(graphite.address(), &points, 40_000..50_000).unwrap();
    until(LIMIT, "all of it at the sink", || {
        let comparison = sink.ledger().compare(&points, points.all());
        when(comparison.missing.is_empty(), comparison.missing.len())
    });
    assert_eq!(sink.ledger().compare(&points, points.all()).duplicates, 0);
    assert_eq!(eu.metrics().get("packetboat_link_up{to=\"subscribers:/queue/graphite\"}"), Some(1.0));
    assert!(consumer.terminate(LIMIT).success());
    assert!(eu.terminate(LIMIT).success());
}

/// Each queue has its own backlog, subscribers and limit, and a link takes what its `match` says.
#[test]
fn queues_are_kept_apart() {
    let (scratch, sink) = (Scratch::new("queues"), Sink::alone());
    let [stomp, graphite, http] = std::array::from_fn(|_| Port::free());
    let text = format!(
        "mesh: test\nqueues: {{ /queue/billing: {{ max_size: 16MiB }} }}\nagents:\n  a:\n    listen: {}\n    \
         spool: {{ dir: {}/a }}\n    serve: true\n    forward:\n      - {{ name: dmz, to: \"graphite://{}\", match: [dmz.**] }}\n      \
         - {{ name: rest, to: \"graphite://127.0.0.1:1\" }}\n",
        listen(&stomp, &graphite, &http),
        scratch.path().display(),
        sink.address(),
    );
    let topology = scratch.write("topology.yaml", &text);
    let agent = Packetboat::agent("a", &topology, http.address(), &scratch);
    let mut client = Stomp::connect(stomp.address(), &[]).unwrap();
    for (queue, body) in [
        ("/queue/graphite", "dmz.a 1 1700000000\nus.a 2 1700000000\ndmz.b 3 1700000000"),
        ("/queue/billing", "bill.a 1 1700000000"),
    ] {
        client.write("SEND", &[("destination", queue), ("receipt", queue)], body.as_bytes()).unwrap();
        assert_eq!(client.read_receipt().unwrap(), queue);
    }
    for (link, lines) in [
        ("dmz", 0),
        ("rest", 1),
        ("dmz:/queue/billing", 0),
        ("rest:/queue/billing", 1),
        ("subscribers:/queue/graphite", 3),
        ("subscribers:/queue/billing", 1),
    ] {
        waits(&agent, link, lines);
    }
    until(LIMIT, "what matches at the sink", || {
        let lines = sink.ledger().lines();
        when(lines == 2, lines)
    });
    client.subscribe("/queue/billing", 1).unwrap();
    let message = client.message().unwrap();
    assert_eq!(message.text(), "bill.a 1 1700000000");
    client.ack(&message).unwrap();
    waits(&agent, "subscribers:/queue/billing", 0);
    waits(&agent, "subscribers:/queue/graphite", 3);
}

/// A spool directory that was restored from a copy goes on under a new epoch: what it sends again is known,
/// and what is new is not taken for a duplicate.
#[test]
fn a_restored_copy_goes_on_under_a_new_epoch() {
    let (scratch, sink) = (Scratch::new("restored"), Sink::alone());
    let ports: [Port; 6] = std::array::from_fn(|_| Port::free());
    let dir = scratch.path().display();
    let text = format!(
        "mesh: test\nagents:\n  us:\n    listen: {}\n    spool: {{ dir: {dir}/us }}\n    forward: {{ to: eu }}\n  eu:\n    \
         listen: {}\n    spool: {{ dir: {dir}/eu }}\n    forward: {{ name: sink, to: \"graphite://{}\" }}\n",
        listen(&ports[0], &ports[1], &ports[2]),
        listen(&ports[3], &ports[4], &ports[5]),
        sink.address(),
    );
    let topology = scratch.write("topology.yaml", &text);
    let us = || Packetboat::agent("us", &topology, ports[2].address(), &scratch);
    let points = Points::new("restored", 100, 3_000);
    let produce = |range| plaintext(ports[1].address(), &points, range).unwrap();

    // What waits is copied; then it goes over, and more after it.
    let mut sender = us();
    produce(0..1_000);
    assert!(sender.terminate(LIMIT).success());
    copy(&scratch.path().join("us"), &scratch.path().join("copy"));
    let mut eu = Packetboat::agent("eu", &topology, ports[5].address(), &scratch);
    let mut sender = us();
    produce(1_000..2_000);
    waits(&sender, "eu", 0);
    assert!(sender.terminate(LIMIT).success());

    std::fs::remove_dir_all(scratch.path().join("us")).unwrap();
    std::fs::rename(scratch.path().join("copy"), scratch.path().join("us")).unwrap();
    let mut sender = us();
    produce(2_000..3_000);
    waits(&sender, "eu", 0);
    until(LIMIT, "all of it at the sink", || {
        let comparison = sink.ledger().compare(&points, points.all());
        when(comparison.missing.is_empty(), comparison.missing.len())
    });
    assert_eq!(
        sink.ledger().compare(&points, points.all()).duplicates,
        0,
        "the first thousand came twice to `eu`"
    );
    let duplicates = eu.metrics().sum("packetboat_duplicate_batches_total").unwrap_or(0.0);
    assert!(duplicates > 0.0);
    assert_eq!(eu.metrics().get("packetboat_missing_batches{origin=\"us\"}"), Some(0.0));
    assert!(sender.terminate(LIMIT).success());
    assert!(eu.terminate(LIMIT).success());
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

/// Two agents whose metrics go round: `b` leads them back to where it has them from, which its own file calls by
/// another name, so that neither file shows the circle.
struct Round<'a> {
    name: &'a str,
    /// What the file of `a` says of `a`.
    a: &'a str,
    /// What the file of `b` says of `a` and of `b`; `c` is `a`.
    at_b: [&'a str; 2],
    /// The links out of `a` and out of `b`.
    links: [&'a str; 2],
}

impl Round<'_> {
    /// What comes round is set aside at `b`, which sends it, with the reason; it is kept, and not sent again.
    fn is_set_aside_at_b(&self) {
        let scratch = Scratch::new(self.name);
        let ports: [Port; 9] = std::array::from_fn(|_| Port::free());
        let dir = scratch.path().display();
        let agent = |name: &str, first: usize, says: &str| {
            let listen = listen(&ports[first], &ports[first + 1], &ports[first + 2]);
            format!("  {name}:\n    listen: {listen}\n    spool: {{ dir: {dir}/{name} }}\n{says}")
        };
        let of_a = format!("mesh: test\nagents:\n{}{}", agent("a", 0, self.a), agent("b", 3, ""));
        let [a, b] = self.at_b;
        let of_b =
            format!("mesh: test\nagents:\n{}{}{}", agent("a", 6, a), agent("b", 3, b), agent("c", 0, ""));
        let (of_a, of_b) = (scratch.write("a.yaml", &of_a), scratch.write("b.yaml", &of_b));
        let b = Packetboat::agent("b", &of_b, ports[5].address(), &scratch);
        let a = Packetboat::agent("a", &of_a, ports[2].address(), &scratch);
        let points = Points::new(self.name, 10, 1_000);
        plaintext(ports[1].address(), &points, points.all()).unwrap();
        let [out_of_a, out_of_b] = self.links;
        until(LIMIT, "all of it aside at `b`", || {
            let books = b.books(out_of_b);
            when(books["aside"]["lines"] == 1_000 && books["backlog"]["lines"] == 0, books.to_string())
        });
        waits(&a, out_of_a, 0);
        assert_eq!(a.status()["spool"]["accepted"]["lines"], 1_000, "nothing came back");
        assert!(b.log().contains("loop: it has passed `a` before"), "{}", b.log());
        let b_says = |what: &[&str]| {
            let dir = format!("{dir}/b");
            String::from_utf8(command(&[&["spool"], what, &["--dir", &dir]].concat()).stdout).unwrap()
        };
        let status = b_says(&["status"]);
        let shown = status.lines().find(|line| line.starts_with(out_of_b)).unwrap();
        assert_eq!(shown.split_whitespace().nth(5), Some("1000"), "{status}");
        assert_eq!(b_says(&["export", "--numbers"]).lines().count(), 1_000, "it is kept");
        let letters = command(&["spool", "rejects", "--dir", &format!("{dir}/a")]).stdout;
        assert_eq!(String::from_utf8(letters).unwrap(), "", "nothing of it is left with who refused it");
    }
}

#[test]
fn what_goes_round_is_set_aside() {
    let round = Round {
        name: "round",
        a: "    forward: { to: b }\n",
        at_b: ["    forward: { to: b }\n", "    forward: { to: c }\n"],
        links: ["b", "c"],
    };
    round.is_set_aside_at_b();
}

#[test]
fn what_is_collected_round_is_set_aside_where_it_is_collected_from() {
    let round = Round {
        name: "collected_round",
        a: "    collect: b\n",
        at_b: ["    forward: { to: c }\n", "    collect: c\n"],
        links: ["subscribers:/queue/graphite"; 2],
    };
    round.is_set_aside_at_b();
}
