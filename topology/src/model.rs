//! The mesh as the rest of the product sees it: valid by construction, only `check` makes one.
//!
//! Names are resolved: a [`Link`] carries the addresses of the node it leads to, so that nobody
//! else looks anything up.

mod lookup;
mod pattern;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub use lookup::NoSuchNode;
pub use pattern::{Pattern, PatternError};

/// A whole mesh: every node of one topology file.
#[derive(Debug, Clone, PartialEq)]
pub struct Mesh {
    /// The name that travels in headers and metrics.
    pub name: String,
    /// The default destination everywhere, such as `/queue/graphite`.
    pub queue: String,
    /// In the order of the file.
    pub brokers: Vec<Broker>,
    /// In the order of the file.
    pub agents: Vec<Agent>,
    /// In the order of the file.
    pub consumers: Vec<Consumer>,
}

/// Anything that speaks STOMP and is not ours.
#[derive(Debug, Clone, PartialEq)]
pub struct Broker {
    /// The key under `brokers`.
    pub name: String,
    /// How to reach and enter it.
    pub stomp: StompUpstream,
}

/// How to reach a STOMP upstream and what to say there.
#[derive(Debug, Clone, PartialEq)]
pub struct StompUpstream {
    /// In failover order, never empty.
    pub endpoints: Vec<Endpoint>,
    /// The `host` header of CONNECT.
    pub vhost: String,
    /// `None`: CONNECT carries no login.
    pub login: Option<String>,
    /// A file whose first line is the passcode; read at each connect.
    pub passcode_file: Option<PathBuf>,
    /// Headers that each SEND carries besides ours.
    pub send_headers: Vec<(String, String)>,
    /// Headers that each SUBSCRIBE carries besides ours.
    pub subscribe_headers: Vec<(String, String)>,
}

/// Host and port; the host is resolved at each connect, never here.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// A DNS name, an IPv4 address, or an IPv6 address without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// One store-and-forward agent.
#[derive(Debug, Clone, PartialEq)]
pub struct Agent {
    /// The key under `agents`; the origin of all it takes in.
    pub name: String,
    /// For metrics and pictures only.
    pub region: Option<String>,
    /// How other nodes reach it.
    pub host: Option<String>,
    /// Where it listens.
    pub listen: Listen,
    /// Where and how much it keeps.
    pub spool: SpoolSettings,
    /// Where it forwards to, in the order of the file. Empty: it keeps its metrics.
    pub forward: Vec<Link>,
}

/// The listeners of an agent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Listen {
    /// STOMP producers.
    pub stomp: Option<SocketAddr>,
    /// Graphite plaintext, TCP and UDP on the same port.
    pub graphite: Option<SocketAddr>,
    /// `/metrics`, `/status.json`, `/healthz`, `/readyz`.
    pub http: Option<SocketAddr>,
}

/// The durable queue of one agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpoolSettings {
    /// The directory that holds it; one owner at a time.
    pub dir: PathBuf,
    /// Limit on pages in use plus WAL; `None`: 4 GiB, at most half of what is free on the disk.
    pub max_size_bytes: Option<u64>,
    /// What happens at the limit.
    pub when_full: WhenFull,
    /// With a backlog, an open batch is sealed after this long at the latest.
    pub commit_interval: Duration,
}

/// What a spool or link does at its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenFull {
    /// Nothing more is taken until there is room.
    Refuse,
    /// The oldest unleased batch is dropped, and counted.
    DropOldest,
}

/// A configured way from an agent to the next node.
#[derive(Debug, Clone, PartialEq)]
pub struct Link {
    /// The `to` label of every metric, and the owner of the backlog: unique within the agent.
    pub name: String,
    /// The far end.
    pub upstream: Upstream,
    /// Metric name patterns; empty: the link takes what no other link's `match` takes.
    pub patterns: Vec<Pattern>,
    /// The destination at the upstream.
    pub queue: String,
    /// How bodies travel.
    pub encoding: Encoding,
    /// The link's own limit, beneath the spool's.
    pub max_size_bytes: Option<u64>,
    /// What happens at the link's own limit; without one, what the spool does at its limit.
    pub when_full: WhenFull,
}

/// The far end of a link.
#[derive(Debug, Clone, PartialEq)]
pub enum Upstream {
    /// A broker or another agent.
    Stomp(StompUpstream),
    /// Straight into Graphite.
    Graphite(GraphiteUpstream),
}

/// A Graphite and the pool of connections to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GraphiteUpstream {
    /// Interchangeable ways in, such as two carbon-relays; never empty.
    pub endpoints: Vec<Endpoint>,
    /// How many connections stand.
    pub connections: usize,
    /// What counts as Graphite's receipt.
    pub confirm: GraphiteConfirm,
}

/// What counts as Graphite's receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GraphiteConfirm {
    /// The FIN that answers our half-close: the process has read every byte.
    HalfClose,
    /// The receiver's kernel has every byte (`SIOCOUTQ` at zero).
    Kernel,
}

/// How bodies travel on a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// Newline-joined lines without a final LF, for any consumer.
    Plain,
    /// The stored zstd frames; all consumers must be ours.
    Zstd,
}

/// The pool that drains a broker into Graphite.
#[derive(Debug, Clone, PartialEq)]
pub struct Consumer {
    /// The key under `consumers`.
    pub name: String,
    /// The node it drains, by name.
    pub from: String,
    /// The broker that `from` names.
    pub broker: StompUpstream,
    /// The queue it drains.
    pub queue: String,
    /// Where it writes to.
    pub graphite: GraphiteUpstream,
    /// `/metrics` and its companions; optional.
    pub http: Option<SocketAddr>,
}
