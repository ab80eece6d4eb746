//! One agent by itself, with every way in, and links to wherever a test wants them, or none.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

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
    scratch: Scratch,
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

    /// Starts it, and waits until it is ready. `brokers` are entries of that section of the topology, and
    /// `forward` is what the agent has under that key.
    pub fn start(scratch: Scratch, brokers: &str, forward: &str) -> Self {
        let (stomp, graphite, http) = (Port::free(), Port::free(), Port::free());
        let brokers = if brokers.is_empty() { String::new() } else { format!("brokers:\n{brokers}") };
        let text = format!(
            "mesh: test\nqueue: {QUEUE}\n{brokers}agents:\n  edge:\n    \
             listen: {{ stomp: \"{}\", graphite: \"{}\", http: \"{}\" }}\n    \
             spool: {{ dir: {} }}\n    forward: {forward}\n",
            stomp.address(),
            graphite.address(),
            http.address(),
            scratch.path().join("spool").display(),
        );
        let topology = scratch.write("topology.yaml", &text);
        let agent = Packetboat::agent("edge", &topology, http.address(), &scratch);
        Self { agent, stomp, graphite, _http: http, scratch }
    }

    /// Where it takes STOMP.
    pub fn stomp(&self) -> SocketAddr {
        self.stomp.address()
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
