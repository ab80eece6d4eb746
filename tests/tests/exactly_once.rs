//! From agent to agent nothing is lost and nothing comes twice, whoever dies and wherever the link breaks: in
//! each round the sender, the receiver or the link is killed at a random moment of the way. What the
//! receiver holds then is compared by number and by line, and what leaves it at last at the end of the road.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![expect(clippy::print_stdout, reason = "the seed of a run that failed is needed to run it again")]

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::time::Duration;

use tests::load::plaintext;
use tests::packetboat::{Packetboat, command};
use tests::points::Points;
use tests::ports::Port;
use tests::proxy::Proxy;
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
    /// The receiver dials and subscribes.
    Collected,
    /// The sender dials.
    Forwarded,
}

#[test]
fn what_is_collected_comes_once() {
    rounds(Way::Collected);
}

#[test]
fn what_is_forwarded_comes_once() {
    rounds(Way::Forwarded);
}

fn rounds(way: Way) {
    let mut random = Random::new();
    let mut pair = Pair::new(way);
    for round in 0..short_or_full(10, 150) {
        let victim = match random.below(3) {
            0 => "the sender",
            1 => "the receiver",
            _ => "the link",
        };
        println!("round {round}: {victim}");
        let points = Points::new(&format!("once.r{round}"), NAMES, POINTS);
        pair.round(&points, victim, &mut random);
    }
}

/// A sender, a link, a receiver, and a Graphite behind it.
struct Pair {
    way: Way,
    sender: Packetboat,
    receiver: Packetboat,
    /// Between the two.
    link: Proxy,
    /// Behind the receiver; its proxy is the receiver's own link.
    sink: Sink,
    graphite: Port,
    receivers_spool: PathBuf,
    _ports: Vec<Port>,
    _scratch: Scratch,
}

impl Pair {
    fn new(way: Way) -> Self {
        let scratch = Scratch::new(&format!("once-{way:?}"));
        let sink = Sink::alone();
        let [stomp, graphite, http, other_stomp, other_http] = std::array::from_fn(|_| Port::free());
        // The one that is dialled is dialled through the proxy: so the two do not read the same file.
        let dialled = if way == Way::Collected { &stomp } else { &other_stomp };
        let link = Proxy::before(dialled.address());
        let topology = |name: &str, sender_stomp: &str, receiver_stomp: &str| {
            let (forward, collect) = match way {
                Way::Collected => ("", "    collect: sender\n"),
                Way::Forwarded => ("    forward: { to: receiver }\n", ""),
            };
            let text = format!(
                "mesh: test\nagents:\n  sender:\n    listen: {{ stomp: \"{sender_stomp}\", graphite: \"{}\", http: \"{}\" }}\n    \
                 spool: {{ dir: {dir}/sender }}\n{forward}  receiver:\n    listen: {{ stomp: \"{receiver_stomp}\", http: \"{}\" }}\n    \
                 spool: {{ dir: {dir}/receiver }}\n{collect}    forward: {{ name: sink, to: \"graphite://{}\" }}\n",
                graphite.address(),
                http.address(),
                other_http.address(),
                sink.address(),
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
        let receiver = Packetboat::agent("receiver", &receivers, other_http.address(), &scratch);
        let sender = Packetboat::agent("sender", &senders, http.address(), &scratch);
        let receivers_spool = scratch.path().join("receiver");
        let _ports = vec![stomp, http, other_stomp, other_http];
        Self { way, sender, receiver, link, sink, graphite, receivers_spool, _ports, _scratch: scratch }
    }

    /// The sender has all points; while they cross, one of the three is killed, and comes back.
    fn round(&mut self, points: &Points, victim: &str, random: &mut Random) {
        self.sink.proxy().leave();
        self.link.hold();
        plaintext(self.graphite.address(), points, points.all()).unwrap();
        // Collected, only the ACKs go towards the one that is dialled.
        let on_the_way = if self.way == Way::Collected { 2_000 } else { 400_000 };
        let moment = random.below(on_the_way);
        match victim {
            "the link" => {
                self.link.mend();
                self.link.cut_after(moment);
            }
            _ => {
                self.link.mend();
                self.link.hold_after(moment);
            }
        }
        until(LIMIT, "the moment", || {
            let done = self.link.is_cut() || self.link.is_held() || self.crossed();
            when(done, self.link.bytes_up())
        });
        match victim {
            "the sender" => self.sender.kill(),
            "the receiver" => self.receiver.kill(),
            _ => {}
        }
        self.link.reset_all();
        self.link.mend();
        match victim {
            "the sender" => {
                self.sender.restart();
                self.sender.ready();
            }
            "the receiver" => {
                self.receiver.restart();
                self.receiver.ready();
            }
            _ => {}
        }
        until(LIMIT, "all of it on the other side", || when(self.crossed(), self.waiting()));
        self.check_the_receiver(points);

        self.sink.proxy().mend();
        until(LIMIT, "all of it at the sink", || {
            let backlog = self.receiver.backlog("sink");
            when(backlog == 0, backlog)
        });
        let comparison = self.sink.ledger().compare(points, points.all());
        assert_eq!(comparison.missing, [0; 0]);
        assert_eq!((comparison.duplicates, comparison.altered.len()), (0, 0));
    }

    fn waiting(&self) -> i64 {
        let link = match self.way {
            Way::Collected => "subscribers:/queue/graphite",
            Way::Forwarded => "receiver",
        };
        self.sender.backlog(link)
    }

    fn crossed(&self) -> bool {
        self.waiting() == 0
    }

    /// By number and by line: everything, and nothing twice.
    fn check_the_receiver(&self, points: &Points) {
        let dir = self.receivers_spool.to_str().unwrap();
        let export = command(&["spool", "export", "--numbers", "--dir", dir]);
        assert!(export.status.success(), "{}", String::from_utf8_lossy(&export.stderr));
        let text = String::from_utf8(export.stdout).unwrap();
        let mut batches: BTreeMap<&str, usize> = BTreeMap::new();
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
            *batches.entry(number).or_default() += 1;
            assert!(lines.insert(line), "{line} is there twice");
            assert!(number.starts_with("sender:"), "{number} keeps its origin");
        }
        assert_eq!(lines.len(), points.count(), "{} batches", batches.len());
        assert!(
            points.lines(points.all()).lines().all(|line| lines.contains(line)),
            "the lines are those sent"
        );
    }
}

/// Told by its seed, so that a run can be had again.
struct Random(u64);

impl Random {
    fn new() -> Self {
        let given = std::env::var("PACKETBOAT_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = given.unwrap_or_else(|| u64::from(std::process::id()) | 1);
        println!("PACKETBOAT_SEED={seed}");
        Self(seed)
    }

    /// A number below `bound`, by splitmix64.
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}
