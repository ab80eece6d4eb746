//! One agent by itself, with every way in, and links to wherever a test wants them, or none.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::certificates::{Authority, Certificate};
use crate::packetboat::Packetboat;
use crate::ports::Port;
use crate::scratch::Scratch;
use crate::wait::{until, when};

/// Where its agent takes metrics over STOMP: the topology's default, which classic producers have built in.
pub const QUEUE: &str = "/queue/graphite";

/// The books of its subscribers, where it keeps its metrics.
pub const SUBSCRIBERS: &str = "subscribers:/queue/graphite";

const DRAIN_LIMIT: Duration = Duration::from_secs(60);

/// An agent called `edge`. It goes first when this is dropped.
#[derive(Debug)]
pub struct Edge {
    /// The process.
    pub agent: Packetboat,
    stomp: Port,
    graphite: Port,
    _http: Port,
    tls: Option<Tls>,
    scratch: Scratch,
}

/// What its clients need where it takes STOMP over TLS only.
#[derive(Debug)]
pub struct Tls {
    /// The authority of its certificate.
    pub ca: PathBuf,
    /// What they have to show, if it asks for that.
    pub own: Option<Certificate>,
}

impl Edge {
    /// Starts it with one link, called `graphite`, that leads straight to the Graphite at this address.
    pub fn before_graphite(address: SocketAddr) -> Self {
        let forward = format!("{{ name: graphite, to: \"graphite://{address}\" }}");
        Self::start(Scratch::new("edge"), "", &forward)
    }

    /// Starts it without a link: it keeps its metrics, for those who subscribe.
    pub fn keeping() -> Self {
        Self::start(Scratch::new("edge"), "", "[]")
    }

    /// As [`Edge::keeping`], but over TLS; `mutual`, it lets in only those who show a certificate.
    pub fn keeping_over_tls(mutual: bool) -> Self {
        let scratch = Scratch::new("edge");
        let ca = Authority::new(scratch.path(), "ca");
        ca.sign("edge", &["IP:127.0.0.1"], 30);
        let own = mutual.then(|| ca.sign("client", &["DNS:client.test"], 30));
        let tls = Tls { ca: ca.pem(), own };
        Self::begin(scratch, "", "[]", Some(tls))
    }

    /// Starts it, and waits until it is ready. `brokers` are entries of that section of the topology, and
    /// `forward` is what the agent has under that key.
    pub fn start(scratch: Scratch, brokers: &str, forward: &str) -> Self {
        Self::begin(scratch, brokers, forward, None)
    }

    fn begin(scratch: Scratch, brokers: &str, forward: &str, tls: Option<Tls>) -> Self {
        let (stomp, graphite, http) = (Port::free(), Port::free(), Port::free());
        let brokers = if brokers.is_empty() { String::new() } else { format!("brokers:\n{brokers}") };
        let dir = scratch.path().display();
        let (listener, files) = match &tls {
            None => ("stomp", String::new()),
            Some(Tls { ca, own }) => {
                let client_ca =
                    own.as_ref().map_or_else(String::new, |_| format!(", client_ca: {}", ca.display()));
                (
                    "stomp+tls",
                    format!("    tls: {{ cert: {dir}/edge.pem, key: {dir}/edge.key{client_ca} }}\n"),
                )
            }
        };
        let text = format!(
            "mesh: test\nqueue: {QUEUE}\n{brokers}agents:\n  edge:\n    \
             listen: {{ {listener}: \"{}\", graphite: \"{}\", http: \"{}\" }}\n{files}    \
             spool: {{ dir: {dir}/spool }}\n    forward: {forward}\n",
            stomp.address(),
            graphite.address(),
            http.address(),
        );
        let topology = scratch.write("topology.yaml", &text);
        let agent = Packetboat::agent("edge", &topology, http.address(), &scratch);
        Self { agent, stomp, graphite, _http: http, tls, scratch }
    }

    /// Where it takes STOMP.
    pub fn stomp(&self) -> SocketAddr {
        self.stomp.address()
    }

    /// What its clients need for that, if it is over TLS.
    pub fn tls(&self) -> Option<&Tls> {
        self.tls.as_ref()
    }

    /// Where it takes plaintext.
    pub fn graphite(&self) -> SocketAddr {
        self.graphite.address()
    }

    /// The folder of its spool.
    pub fn spool(&self) -> PathBuf {
        self.scratch.path().join("spool")
    }

    /// A folder for what else the test needs.
    pub fn scratch(&self) -> &Scratch {
        &self.scratch
    }

    /// Waits until its subscribers have had so many lines in all, and so many wait for them.
    pub fn subscribers_had(&self, delivered: i64, backlog: i64) {
        until(DRAIN_LIMIT, "the books of the subscribers", || {
            let books = self.agent.books(SUBSCRIBERS);
            let is_so = (&books["delivered"]["lines"], &books["backlog"]["lines"])
                == (&delivered.into(), &backlog.into());
            when(is_so, books)
        });
    }

    /// Waits until no link has a backlog.
    pub fn drained(&self) {
        until(DRAIN_LIMIT, "an empty backlog", || {
            let backlog = self.agent.metrics().sum("packetboat_backlog_metrics");
            when(backlog == Some(0.0), format!("{backlog:?}"))
        });
    }
}
