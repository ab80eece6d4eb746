//! From agent to agent nothing is lost and nothing comes twice, whoever dies and wherever the link breaks: in
//! each round the sender, the receiver or the link is killed at a random moment of the way, while the
//! receiver's own upstream is cut. What the receiver holds then is compared by number and by line; then
//! its upstream is mended, and what comes out behind a broker and a consumer is compared as well.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![expect(clippy::print_stdout, reason = "the seed of a run that failed is needed to run it again")]

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Duration;

use fastrand::Rng;
use tests::broker::{Broker, Kind, fresh_queue, passcode_file, topology_entry};
use tests::ledger::Comparison;
use tests::load::plaintext;
use tests::packetboat::{Packetboat, command};
use tests::points::Points;
use tests::ports::Port;
use tests::proxy::{Direction, Proxy};
use tests::scratch::Scratch;
use tests::short_or_full;
use tests::sink::Sink;
use tests::wait::{until, when};

const LIMIT: Duration = Duration::from_secs(120);
const NAMES: usize = 1_000;
const POINTS: usize = 100_000;

/// Which way batches go over the link between the agents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// The receiver dials and subscribes: a DMZ is emptied from inside.
    Collected,
    /// The sender dials.
    Forwarded,
}

/// Who dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Sender,
    Receiver,
    Link,
}

#[test]
fn what_is_collected_comes_once() {
    rounds(Way::Collected, Kind::RabbitMq, short_or_full(20, 300));
}

#[test]
fn what_is_forwarded_comes_once() {
    rounds(Way::Forwarded, Kind::ActiveMq, short_or_full(10, 100));
}

fn rounds(way: Way, broker: Kind, wanted: usize) {
    let mut random = seeded();
    let mut road = Road::new(way, broker);
    let sizes = road.undisturbed(&Points::new("once.undisturbed", NAMES, POINTS));
    let (mut round, mut in_time) = (0, 0);
    while in_time < wanted {
        assert!(round < 2 * wanted, "only {in_time} of {round} rounds were disturbed in time");
        let victim = [Victim::Sender, Victim::Receiver, Victim::Link][random.usize(..3)];
        let (direction, size) = sizes[random.usize(..2)];
        let moment = random.u64(..size);
        let points = Points::new(&format!("once.r{round}"), NAMES, POINTS);
        let was_in_time = road.round(&points, victim, direction, moment);
        println!(
            "round {round}: {victim:?} after {moment} of {size} bytes {direction:?}, in time: {was_in_time}"
        );
        in_time += usize::from(was_in_time);
        round += 1;
    }
}

/// A sender, a link, a receiver, and behind it a broker, a consumer and a Graphite.
struct Road {
    sender: Packetboat,
    /// What the sender calls the link.
    senders_link: String,
    receiver: Packetboat,
    _consumer: Packetboat,
    /// Between the two agents.
    link: Proxy,
    /// Between the receiver and its broker.
    upstream: Proxy,
    sink: Sink,
    graphite: Port,
    receivers_spool: PathBuf,
    _broker: Broker,
    _ports: Vec<Port>,
    _scratch: Scratch,
}

impl Road {
    fn new(way: Way, kind: Kind) -> Self {
        let scratch = Scratch::new(&format!("once-{way:?}"));
        let (sink, broker) = (Sink::alone(), Broker::shared(kind));
        let upstream = Proxy::before(broker.address());
        let [stomp, graphite, http, other_stomp, other_http, consumers_http] =
            std::array::from_fn(|_| Port::free());
        // The one that is dialled is dialled through the proxy: so the two do not read the same file.
        let dialled = if way == Way::Collected { &stomp } else { &other_stomp };
        let link = Proxy::before(dialled.address());
        let passcode_file = passcode_file(&scratch);
        let queue = fresh_queue("once");
        let (forward, collect, senders_link) = match way {
            Way::Collected => ("", "    collect: sender\n", format!("subscribers:{queue}")),
            Way::Forwarded => ("    forward: { to: receiver }\n", "", "receiver".to_owned()),
        };
        let topology = |name: &str, sender_stomp: &str, receiver_stomp: &str| {
            let text = format!(
                "mesh: test\nqueue: {queue}\nbrokers:\n{}{}agents:\n  sender:\n    \
                 listen: {{ stomp: \"{sender_stomp}\", graphite: \"{}\", http: \"{}\" }}\n    \
                 spool: {{ dir: {dir}/sender }}\n{forward}  receiver:\n    \
                 listen: {{ stomp: \"{receiver_stomp}\", http: \"{}\" }}\n    spool: {{ dir: {dir}/receiver }}\n\
                 {collect}    forward: {{ to: eu }}\nconsumers:\n  graphite:\n    from: eu-inside\n    \
                 graphite: [\"{}\"]\n    listen: {{ http: \"{}\" }}\n",
                topology_entry("eu", upstream.address(), &passcode_file),
                topology_entry("eu-inside", broker.address(), &passcode_file),
                graphite.address(),
                http.address(),
                other_http.address(),
                sink.address(),
                consumers_http.address(),
                dir = scratch.path().display(),
            );
            scratch.write(name, &text)
        };
        let (own, others) = (stomp.address().to_string(), other_stomp.address().to_string());
        let through = link.address().to_string();
        let (senders, receivers) = match way {
            Way::Collected => {
                (topology("sender.yaml", &own, &others), topology("receiver.yaml", &through, &others))
            }
            Way::Forwarded => {
                (topology("sender.yaml", &own, &through), topology("receiver.yaml", &own, &others))
            }
        };
        let consumer = Packetboat::consumer("graphite", &senders, consumers_http.address(), &scratch);
        let receiver = Packetboat::agent("receiver", &receivers, other_http.address(), &scratch);
        let sender = Packetboat::agent("sender", &senders, http.address(), &scratch);
        Self {
            sender,
            senders_link,
            receiver,
            _consumer: consumer,
            link,
            upstream,
            sink,
            graphite,
            receivers_spool: scratch.path().join("receiver"),
            _broker: broker,
            _ports: vec![stomp, http, other_stomp, other_http, consumers_http],
            _scratch: scratch,
        }
    }

    /// Nobody dies. Tells how many bytes that takes each way.
    fn undisturbed(&self, points: &Points) -> [(Direction, u64); 2] {
        let directions = [Direction::Up, Direction::Down];
        self.fill(points);
        let before = directions.map(|direction| self.link.bytes(direction));
        self.link.mend();
        self.crosses();
        let after = directions.map(|direction| self.link.bytes(direction));
        self.arrives(points);
        std::array::from_fn(|which| (directions[which], after[which] - before[which]))
    }

    /// While the points cross, one of the three dies and comes back. Tells whether they were still crossing:
    /// if not, the round has shown nothing.
    fn round(&mut self, points: &Points, victim: Victim, direction: Direction, moment: u64) -> bool {
        self.fill(points);
        self.link.mend();
        match victim {
            Victim::Link => self.link.cut_after_bytes(direction, moment),
            Victim::Sender | Victim::Receiver => self.link.hold_after_bytes(direction, moment),
        }
        let has_come = || self.link.is_cut() || self.link.is_held();
        until(LIMIT, "the moment", || when(has_come() || self.waiting() == 0, self.link.bytes(direction)));
        let in_time = has_come();
        let dead = match victim {
            Victim::Sender => Some(&mut self.sender),
            Victim::Receiver => Some(&mut self.receiver),
            Victim::Link => None,
        };
        if let Some(dead) = dead {
            dead.kill();
            self.link.reset_all();
            dead.restart();
            dead.ready();
        }
        self.link.mend();
        self.crosses();
        self.arrives(points);
        in_time
    }

    /// The sender has all points, and the receiver has lost its upstream.
    fn fill(&self, points: &Points) {
        self.upstream.cut();
        self.link.hold();
        plaintext(self.graphite.address(), points, points.all()).unwrap();
    }

    fn crosses(&self) {
        until(LIMIT, "all of it on the other side", || when(self.waiting() == 0, self.waiting()));
    }

    /// What the sender still has.
    fn waiting(&self) -> i64 {
        self.sender.backlog(&self.senders_link)
    }

    /// Everything is at the receiver, and then, with its upstream mended, at the end of the road: nothing of it
    /// twice, and nothing of an earlier round again.
    fn arrives(&self, points: &Points) {
        self.check_the_receiver(points);
        self.upstream.mend();
        let compare = || self.sink.ledger().compare(points, points.all());
        until(LIMIT, "all of it at the end", || {
            when(self.sink.ledger().distinct() >= points.count(), self.receiver.backlog("eu"))
        });
        until(LIMIT, "an empty receiver", || {
            when(self.receiver.backlog("eu") == 0, self.receiver.backlog("eu"))
        });
        assert_eq!((compare(), self.sink.ledger().bad()), (Comparison::default(), Vec::new()));
        self.sink.ledger().forget();
    }

    /// By number and by line: everything, and nothing twice.
    fn check_the_receiver(&self, points: &Points) {
        let dir = self.receivers_spool.to_str().unwrap();
        let export = command(&["spool", "export", "--numbers", "--dir", dir]);
        assert!(export.status.success(), "{}", String::from_utf8_lossy(&export.stderr));
        let text = String::from_utf8(export.stdout).unwrap();
        let mut closed: HashSet<&str> = HashSet::new();
        let mut lines: HashSet<&str> = HashSet::new();
        let mut last = "";
        for exported in text.lines() {
            let mut columns = exported.split('\t');
            let (number, _queue, line) =
                (columns.next().unwrap(), columns.next().unwrap(), columns.next().unwrap());
            if number != last {
                assert!(closed.insert(number), "batch {number} is there twice");
                last = number;
            }
            assert!(lines.insert(line), "{line} is there twice");
            assert!(number.starts_with("sender:"), "{number} keeps its origin");
        }
        assert_eq!(lines.len(), points.count(), "{} batches", closed.len());
        assert!(
            points.lines(points.all()).lines().all(|line| lines.contains(line)),
            "the lines are those sent"
        );
    }
}

/// Told by its seed, so that a run can be had again.
fn seeded() -> Rng {
    let given = std::env::var("PACKETBOAT_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or_else(|| fastrand::u64(..));
    println!("PACKETBOAT_SEED={seed}");
    Rng::with_seed(seed)
}
