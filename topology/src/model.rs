//! The mesh as the rest of the product sees it: valid by construction, only `check` makes one.
//!
//! Names are resolved: a [`Link`] carries the addresses of the node it leads to, so that nobody
//! else looks anything up.

mod lookup;
mod paths;
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
    /// Every queue that agents take metrics to; never empty, and the first is `queue`.
    pub queues: Vec<Queue>,
    /// In the order of the file.
    pub brokers: Vec<Broker>,
    /// In the order of the file.
    pub agents: Vec<Agent>,
    /// In the order of the file.
    pub consumers: Vec<Consumer>,
}

/// A queue of the mesh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queue {
    /// The destination, such as `/queue/graphite`.
    pub name: String,
    /// Limit on what waits in it for any of its ways out, in stored bytes.
    pub max_size_bytes: Option<u64>,
    /// What happens at that limit.
    pub when_full: WhenFull,
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
    /// `None`: nothing is encrypted.
    pub tls: Option<TlsClient>,
    /// Whether to go back to the first endpoint once that lets us in again.
    pub prefer_first: bool,
    /// Whether agents of ours stand at the endpoints.
    pub is_agent: bool,
}

/// How to dial over TLS. The files are read at each connect.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsClient {
    /// PEM file of the authorities that are believed; `None`: those of the system.
    pub ca: Option<PathBuf>,
    /// Who we are; `None`: nobody, as far as TLS goes.
    pub identity: Option<TlsIdentity>,
}

/// A certificate and its key, as PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsIdentity {
    /// The chain, the leaf first.
    pub cert: PathBuf,
    /// The key of the leaf.
    pub key: PathBuf,
}

/// How the TLS listeners of a node identify themselves. The files are read again when they change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsServer {
    /// Who the node is.
    pub identity: TlsIdentity,
    /// PEM file of the authorities whose client certificates are believed; `None`: none is asked for.
    pub client_ca: Option<PathBuf>,
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
    /// Who it is to those who dial its TLS listeners.
    pub tls: Option<TlsServer>,
    /// What one client may take.
    pub limits: Limits,
    /// Who may do what over STOMP. Empty: everybody, everything.
    pub users: Vec<User>,
    /// Where and how much it keeps.
    pub spool: SpoolSettings,
    /// Where it forwards to, in the order of the file. Empty: it keeps its metrics.
    pub forward: Vec<Link>,
    /// What it collects, in the order of the file.
    pub collect: Vec<Collect>,
    /// Whether its queues have subscribers.
    pub serve: bool,
}

/// What the clients of an agent may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections to one listener, of all clients together.
    pub connections: usize,
    /// Connections of one client address.
    pub connections_per_client: usize,
    /// Lines a second of one client address; a client that sends more is read more slowly.
    pub lines_per_second: Option<u32>,
}

/// A node that dials an agent over a declared link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its name.
    pub name: String,
    /// The origins of which it may bring batches: itself, and all whose metrics come by it.
    pub origins: Vec<String>,
}

/// A configured way from another agent or a broker into the agent that dials it.
#[derive(Debug, Clone, PartialEq)]
pub struct Collect {
    /// The `to` label of its metrics: unique among the links of the agent.
    pub name: String,
    /// The agent or broker that is collected from.
    pub from: String,
    /// How to reach and enter it.
    pub upstream: StompUpstream,
    /// The queue of the mesh that it is collected into, of the same name there.
    pub queue: String,
}

/// Somebody who may use the STOMP listeners of an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The key under `users`.
    pub login: String,
    /// What the passcode is checked against.
    pub passcode: Option<PasscodeHash>,
    /// A name of the client certificate that will do instead.
    pub certificate: Option<String>,
    /// The queues that it may SEND to.
    pub send: Vec<String>,
    /// What the names of its metrics begin with; empty: anything.
    pub prefixes: Vec<String>,
    /// The queues that it may SUBSCRIBE to.
    pub subscribe: Vec<String>,
    /// The node of the mesh that it is; its `packetboat-*` headers count.
    pub node: Option<String>,
}

/// The most that checking a passcode may cost: KiB of memory, passes over it, lanes. Two are checked at a time, and
/// with all of it one takes about a second; more lanes would only make hashes that others cannot check.
pub const PASSCODE_COSTS_MAX: [u32; 3] = [64 * 1024, 10, 16];

/// A hashed passcode. Its `Debug` does not show the hash.
#[derive(Clone, PartialEq, Eq)]
pub enum PasscodeHash {
    /// A PHC string of argon2.
    Text(String),
    /// A file whose first line is one; read again when it changes.
    File(PathBuf),
}

impl fmt::Debug for PasscodeHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PasscodeHash::Text(_) => f.write_str("Text(..)"),
            PasscodeHash::File(path) => f.debug_tuple("File").field(path).finish(),
        }
    }
}

/// The listeners of an agent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Listen {
    /// STOMP.
    pub stomp: Option<SocketAddr>,
    /// STOMP over TLS.
    pub stomp_tls: Option<SocketAddr>,
    /// Graphite plaintext, TCP and UDP on the same port.
    pub graphite: Option<SocketAddr>,
    /// Graphite plaintext over TLS.
    pub graphite_tls: Option<SocketAddr>,
    /// `/metrics`, `/status.json`, `/healthz`, `/readyz`.
    pub http: Option<SocketAddr>,
    /// The same over TLS.
    pub https: Option<SocketAddr>,
}

/// The limit of a spool that has none of its own: at most this, and at most half of what is free on its disk.
pub const SPOOL_BYTES_UNLESS_SAID: u64 = 4 << 30;

/// The durable queue of one agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpoolSettings {
    /// The directory that holds it; one owner at a time.
    pub dir: PathBuf,
    /// Limit on pages in use plus WAL; `None`: see [`SPOOL_BYTES_UNLESS_SAID`].
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
    /// The nodes it leads to, by name, in failover order; empty for a Graphite.
    pub to: Vec<String>,
    /// The far end.
    pub upstream: Upstream,
    /// Metric name patterns; empty: the link takes what no other link's `match` takes.
    pub patterns: Vec<Pattern>,
    /// The queues that it carries, each over a connection of its own. Never empty.
    pub queues: Vec<LinkQueue>,
    /// How bodies travel.
    pub encoding: Encoding,
    /// The link's own limit, beneath the spool's.
    pub max_size_bytes: Option<u64>,
    /// What happens at the link's own limit; without one, what the spool does at its limit.
    pub when_full: WhenFull,
}

/// A queue on a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkQueue {
    /// As it is called here.
    pub queue: String,
    /// As it is called at the far end.
    pub destination: String,
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

/// The pool that drains a queue of a broker or agent into Graphite.
#[derive(Debug, Clone, PartialEq)]
pub struct Consumer {
    /// The key under `consumers`.
    pub name: String,
    /// The node it drains, by name.
    pub from: String,
    /// How to reach the broker or agent that `from` names.
    pub broker: StompUpstream,
    /// The queue it drains.
    pub queue: String,
    /// Where it writes to.
    pub graphite: GraphiteUpstream,
    /// `/metrics` and its companions; optional.
    pub http: Option<SocketAddr>,
    /// The same over TLS.
    pub https: Option<SocketAddr>,
    /// Who it is to those who dial `https`.
    pub tls: Option<TlsServer>,
}
