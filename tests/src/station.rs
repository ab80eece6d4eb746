//! Where one agent of several lies: its ports, its spool, and its part of a topology that all of them share.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use crate::packetboat::Packetboat;
use crate::ports::Port;
use crate::scratch::Scratch;
use crate::wait::{until, when};

const DRAIN_LIMIT: Duration = Duration::from_secs(180);

/// All that an agent of this name needs but the process.
#[derive(Debug)]
pub struct Station {
    name: &'static str,
    stomp: Port,
    graphite: Port,
    http: Port,
}

impl Station {
    /// A new one, on ports that nobody else has.
    pub fn new(name: &'static str) -> Self {
        let [stomp, graphite, http] = std::array::from_fn(|_| Port::free());
        Self { name, stomp, graphite, http }
    }

    /// Where the agent takes STOMP.
    pub fn stomp(&self) -> SocketAddr {
        self.stomp.address()
    }

    /// Where the agent takes plaintext.
    pub fn graphite(&self) -> SocketAddr {
        self.graphite.address()
    }

    /// What the topology says of it under `agents`; `rest` are further keys, such as `forward: { to: eu }`.
    pub fn entry(&self, scratch: &Scratch, rest: &[&str]) -> String {
        let mut entry = format!(
            "  {}:\n    listen: {{ stomp: \"{}\", graphite: \"{}\", http: \"{}\" }}\n    spool: {{ dir: {} }}\n",
            self.name,
            self.stomp(),
            self.graphite(),
            self.http.address(),
            scratch.path().join(self.name).display(),
        );
        for line in rest {
            entry += &format!("    {line}\n");
        }
        entry
    }

    /// Starts the agent, and waits until it is ready.
    pub fn start(&self, topology: &Path, scratch: &Scratch) -> Packetboat {
        Packetboat::agent(self.name, topology, self.http.address(), scratch)
    }
}

/// Waits until `agent` has handed over all that it has for `link`.
pub fn drained(agent: &Packetboat, link: &str) {
    until(DRAIN_LIMIT, &format!("an empty backlog of {link}"), || {
        let backlog = agent.backlog(link);
        when(backlog == 0, backlog)
    });
}
