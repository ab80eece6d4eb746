//! A mesh over three sites with a firewall between them that lets through only what is declared: the US dials
//! the EU, the EU dials the DMZ, and the DMZ dials nobody. The mesh works; and a way on which packets vanish is
//! noticed, dialled again, and costs nothing.
//!
//! The sites are network namespaces, for which the test needs to be root.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![expect(clippy::disallowed_methods, reason = "how long packets vanish is real time")]

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tests::load::plaintext;
use tests::network::{Host, Network, can_make_networks};
use tests::packetboat::Packetboat;
use tests::points::Points;
use tests::scratch::Scratch;
use tests::short_or_full;
use tests::sink::Sink;
use tests::wait::{until, when};

const LIMIT: Duration = Duration::from_secs(120);
/// Three heart-beats of 10 s, and what a loaded machine needs to show it.
const NOTICE_LIMIT: Duration = Duration::from_secs(35);
/// The link cannot notice sooner: it has agreed on heart-beats of 10 s, and one may be late.
const NOTICE_MIN: Duration = Duration::from_secs(10);
/// The longest delay between two dials, and the longest dial.
const REDIAL_LIMIT: Duration = Duration::from_secs(60);
const DIAL_LIMIT: Duration = Duration::from_secs(1);
const STOMP: u16 = 61613;
const GRAPHITE: u16 = 2003;
const HTTP: u16 = 9613;
/// Points sent at a time until there is the hole: few, so that they last however late it is.
const PART: usize = 20;

/// Where a host's own producers find its agent.
const PLAINTEXT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), GRAPHITE);

struct Site {
    agent: Packetboat,
    host: Host,
}

/// The agents go before their network.
struct Mesh {
    us: Site,
    dmz: Site,
    eu: Site,
    /// In the EU.
    sink: Sink,
    network: Network,
    _scratch: Scratch,
}

impl Mesh {
    fn new() -> Self {
        let scratch = Scratch::new("sites");
        let (network, [us, dmz, eu]) = Network::of(["us", "dmz", "eu"]);
        network.allow(&us, &eu, STOMP);
        network.allow(&eu, &dmz, STOMP);
        let sink = eu.inside(Sink::alone);
        let agent = |name: &str, host: &Host, rest: &str| {
            format!(
                "  {name}:\n    host: {}\n    open: true\n    listen: {{ stomp: \"0.0.0.0:{STOMP}\", graphite: \"0.0.0.0:{GRAPHITE}\", \
                 http: \"127.0.0.1:{HTTP}\" }}\n    spool: {{ dir: {} }}\n{rest}",
                host.ip(),
                scratch.path().join(name).display(),
            )
        };
        let forward = format!(
            "    collect: [dmz]\n    forward: {{ name: sink, to: \"graphite://{}\" }}\n",
            sink.address()
        );
        let entries = [
            agent("us", &us, "    forward: { to: eu }\n"),
            agent("dmz", &dmz, ""),
            agent("eu", &eu, &forward),
        ];
        let topology = scratch.write("topology.yaml", &format!("mesh: test\nagents:\n{}", entries.concat()));
        let site = |name, host| Site::start(name, host, &topology, &scratch);
        let (us, dmz, eu) = (site("us", us), site("dmz", dmz), site("eu", eu));
        Self { us, dmz, eu, sink, network, _scratch: scratch }
    }

    fn wait_for_points(&self, count: usize) {
        until(LIMIT, &format!("{count} points at the sink"), || {
            let distinct = self.sink.ledger().distinct();
            when(distinct >= count, distinct)
        });
    }

    /// All of them, once each.
    fn check(&self, points: &Points) {
        let comparison = self.sink.ledger().compare(points, points.all());
        assert_eq!(comparison.missing, [0; 0]);
        assert_eq!((comparison.duplicates, comparison.altered.len()), (0, 0));
    }
}

impl Site {
    fn start(name: &str, host: Host, topology: &Path, scratch: &Scratch) -> Self {
        let http = (Ipv4Addr::LOCALHOST, HTTP).into();
        let mut agent = Packetboat::start(&["agent", name], topology, http, scratch, &host.wrapper());
        // By this thread, which the process must not outlive; what is asked of it is asked on its host.
        host.inside(|| agent.ready());
        Self { agent, host }
    }

    fn produces(&self, points: &Points, numbers: std::ops::Range<usize>) {
        self.host.inside(|| plaintext(PLAINTEXT, points, numbers)).unwrap();
    }

    fn link_up(&self, link: &str) -> f64 {
        let series = format!("packetboat_link_up{{to=\"{link}\"}}");
        self.host.inside(|| self.agent.metrics()).get(&series).unwrap()
    }

    fn wait_for_link(&self, link: &str, up: bool, limit: Duration) {
        until(limit, &format!("link {link} to be up: {up}"), || {
            let value = self.link_up(link);
            when((value > 0.0) == up, value)
        });
    }

    fn backlog(&self, link: &str) -> i64 {
        self.host.inside(|| self.agent.backlog(link))
    }

    fn drained(&self, link: &str) {
        until(LIMIT, &format!("an empty backlog of {link}"), || {
            let backlog = self.backlog(link);
            when(backlog == 0, backlog)
        });
    }

    fn reaches(&self, other: &Self, port: u16) -> bool {
        let address = other.host.at(port);
        self.host.inside(|| TcpStream::connect_timeout(&address, DIAL_LIMIT).is_ok())
    }
}

#[test]
fn the_mesh_works_through_a_firewall_that_allows_only_the_declared_directions() {
    if !can_make_networks() {
        return;
    }
    let mesh = Mesh::new();
    let (us, dmz, eu) = (&mesh.us, &mesh.dmz, &mesh.eu);
    assert!(us.reaches(eu, STOMP) && eu.reaches(dmz, STOMP));
    for (from, to) in [(dmz, eu), (dmz, us), (us, dmz), (eu, us)] {
        assert!(!from.reaches(to, STOMP), "{:?} reaches {:?}", from.host, to.host);
    }
    assert!(!us.reaches(eu, GRAPHITE) && !eu.reaches(dmz, GRAPHITE), "no other port either");

    let [from_us, from_dmz] = ["us", "dmz"].map(|name| Points::new(name, 1_000, 20_000));
    us.produces(&from_us, from_us.all());
    dmz.produces(&from_dmz, from_dmz.all());
    mesh.wait_for_points(from_us.count() + from_dmz.count());
    us.drained("eu");
    dmz.drained("subscribers:/queue/graphite");
    mesh.check(&from_us);
    mesh.check(&from_dmz);
}

#[test]
fn a_blackholed_way_to_the_upstream_is_noticed_and_costs_nothing() {
    if can_make_networks() {
        let mesh = Mesh::new();
        goes_through_a_black_hole(&mesh, &mesh.us, "eu", (&mesh.us, "eu"), &mesh.dmz);
    }
}

#[test]
fn a_blackholed_way_to_what_is_collected_is_noticed_and_costs_nothing() {
    if can_make_networks() {
        let mesh = Mesh::new();
        goes_through_a_black_hole(
            &mesh,
            &mesh.dmz,
            "subscribers:/queue/graphite",
            (&mesh.eu, "dmz"),
            &mesh.us,
        );
    }
}

/// While `sender` is on its way to the EU with what it has for `backlog`, all packets between them vanish.
/// `link` is the one that dials, and its name there. `neighbour` has another way into the EU.
fn goes_through_a_black_hole(
    mesh: &Mesh,
    sender: &Site,
    backlog: &str,
    link: (&Site, &str),
    neighbour: &Site,
) {
    let (dialler, link) = link;
    let points = Points::bulky("through", 200, short_or_full(20_000, 100_000));
    let beside = Points::new("beside", 100, 1_000);
    dialler.wait_for_link(link, true, LIMIT);
    let (half, is_hole) = (points.count() / 2, AtomicBool::new(false));
    let sent = std::thread::scope(|scope| {
        let producer = scope.spawn(|| {
            sender.produces(&points, 0..half);
            let mut sent = half;
            // Some are sent after the hole, too.
            while sent < points.count() {
                let is_last = is_hole.load(Ordering::SeqCst);
                sender.produces(&points, sent..sent + PART);
                sent += PART;
                if is_last {
                    break;
                }
            }
            sent
        });
        mesh.wait_for_points(half / 5);
        // Packets are on their way.
        mesh.network.blackhole(&mesh.eu.host, &sender.host);
        is_hole.store(true, Ordering::SeqCst);
        producer.join().unwrap()
    });
    let begun = Instant::now();
    assert!(sender.backlog(backlog) > 0, "the hole came after all");
    sender.produces(&points, sent..points.count());
    dialler.wait_for_link(link, false, NOTICE_LIMIT);
    assert!(begun.elapsed() > NOTICE_MIN, "{:?}", begun.elapsed());

    neighbour.produces(&beside, beside.all());
    until(LIMIT, "those who are not concerned", || {
        let missing = mesh.sink.ledger().compare(&beside, beside.all()).missing.len();
        when(missing == 0, missing)
    });
    let lasts = short_or_full(Duration::ZERO, Duration::from_secs(120));
    until(LIMIT + lasts, "the end of the hole", || {
        assert!(dialler.link_up(link) == 0.0 && sender.backlog(backlog) > 0);
        when(begun.elapsed() >= lasts, format!("{:?}", begun.elapsed()))
    });
    mesh.network.mend();
    dialler.wait_for_link(link, true, REDIAL_LIMIT);
    mesh.wait_for_points(points.count() + beside.count());
    sender.drained(backlog);
    mesh.check(&points);
    mesh.check(&beside);
}
