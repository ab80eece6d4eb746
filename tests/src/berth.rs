//! Where one agent lies: its ports, its folder, and a counting Graphite at the end of its link. A test that
//! starts, kills and starts its agent has this before the agent, and after it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::edge::QUEUE;
use crate::packetboat::Packetboat;
use crate::ports::Port;
use crate::scratch::Scratch;
use crate::sink::Sink;
use crate::wait::{until, when};

/// The name of its one link, to the sink.
pub const LINK: &str = "sink";

const DRAIN_LIMIT: Duration = Duration::from_secs(120);

/// All that an agent called `edge` needs but the process.
#[derive(Debug)]
pub struct Berth {
    /// What arrived; its proxy is the link.
    pub sink: Sink,
    /// Holds the topology, the log, and the spool unless that lies elsewhere.
    pub scratch: Scratch,
    stomp: Port,
    graphite: Port,
    http: Port,
}

impl Berth {
    /// A new one; `name` is part of its folder's name.
    pub fn new(name: &str) -> Self {
        let [stomp, graphite, http] = std::array::from_fn(|_| Port::free());
        Self { sink: Sink::alone(), scratch: Scratch::new(name), stomp, graphite, http }
    }

    /// Where the agent takes STOMP.
    pub fn stomp(&self) -> SocketAddr {
        self.stomp.address()
    }

    /// Where the agent takes plaintext, over TCP and UDP.
    pub fn graphite(&self) -> SocketAddr {
        self.graphite.address()
    }

    /// Where the agent shows itself.
    pub fn http(&self) -> SocketAddr {
        self.http.address()
    }

    /// The spool's folder, unless the test has another.
    pub fn spool(&self) -> PathBuf {
        self.scratch.path().join("spool")
    }

    /// A topology with this `spool`, such as `dir: /somewhere, max_size: 16MiB`, and the link to the sink.
    pub fn topology(&self, spool: &str) -> PathBuf {
        self.topology_with(spool, &format!("name: {LINK}, to: \"graphite://{}\"", self.sink.address()))
    }

    /// A topology with this `spool` and this `forward`.
    pub fn topology_with(&self, spool: &str, forward: &str) -> PathBuf {
        let text = format!(
            "mesh: test\nqueue: {QUEUE}\nagents:\n  edge:\n    listen: {{ stomp: \"{}\", graphite: \"{}\", http: \"{}\" }}\n    \
             spool: {{ {spool} }}\n    forward: {{ {forward} }}\n",
            self.stomp(),
            self.graphite(),
            self.http(),
        );
        self.scratch.write("topology.yaml", &text)
    }

    /// Starts the agent and waits until it is ready.
    pub fn agent(&self, topology: &Path) -> Packetboat {
        Packetboat::agent("edge", topology, self.http(), &self.scratch)
    }

    /// Starts the agent and waits for nothing. With a `wrapper`, that is run, and the agent by it.
    pub fn start(&self, topology: &Path, wrapper: &[&str]) -> Packetboat {
        Packetboat::start(&["agent", "edge"], topology, self.http(), &self.scratch, wrapper)
    }

    /// Waits until the agent has handed over all that it has.
    pub fn drained(&self, agent: &Packetboat) {
        until(DRAIN_LIMIT, "an empty backlog", || {
            let backlog = agent.backlog(LINK);
            when(backlog == 0, backlog)
        });
    }
}
