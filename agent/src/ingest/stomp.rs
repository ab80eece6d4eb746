//! STOMP: a server of STOMP 1.0, 1.1 and 1.2 for producers, for subscribers and for other nodes.
//!
//! In the order of the road: `server` accepts connections; of each, `inflow` reads, `decode` finds the
//! frames, `session` decides what each means (`negotiate`, `transaction`, `node_batch`, `refusal`), the lines go to
//! the intake, and `outflow` writes each RECEIPT once its lines are on disk. A RECEIPT confirms its own
//! frame only; reading goes on while earlier frames wait for their commit.
//!
//! `decode`, `encode` and `session` know neither sockets nor clocks; `probe` measures them without.

mod budget;
mod decode;
mod encode;
mod frame;
mod inflow;
mod lending;
mod message;
mod negotiate;
mod node_batch;
mod outflow;
mod patience;
#[doc(hidden)]
pub mod probe;
mod read_buffer;
mod reader;
mod refusal;
mod server;
mod session;
mod subscriptions;
mod transaction;
mod version;

use std::time::Duration;

pub use server::{Guests, serve};

use crate::users::Peers;

/// What the server offers, and to how much of it a client is held.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The name of the mesh.
    pub mesh: String,
    /// The name of this node of it.
    pub node: String,
    /// The destinations that take metrics, such as `/queue/graphite`, in the order of the topology's queues.
    pub destinations: Vec<String>,
    /// Whether they have subscribers.
    pub serves: bool,
    /// The nodes with a declared link to this one.
    pub peers: Peers,
    /// How often we can send a heart-beat. `ZERO`: never.
    pub beats_offered: Duration,
    /// How often we wish for one from the client. `ZERO`: never.
    pub beats_wished: Duration,
    /// What a client may take.
    pub limits: Limits,
}

/// What a client may take of the agent's memory and time.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Sessions at a time. One more gets an ERROR that says so.
    pub connections: usize,
    /// Bytes of a frame's command and headers.
    pub header_bytes: usize,
    /// Headers of a frame.
    pub header_count: usize,
    /// Bytes of a frame's body.
    pub body_bytes: usize,
    /// From the connection to the end of CONNECT.
    pub connect_time: Duration,
    /// From a frame's first byte to its last. It stands still while the session is not read.
    pub frame_time: Duration,
    /// For which a client may leave what we write unread.
    pub write_time: Duration,
    /// Open transactions of a session.
    pub transactions: usize,
    /// Bytes of a session's open transactions together.
    pub transaction_bytes: usize,
    /// From BEGIN to COMMIT.
    pub transaction_time: Duration,
    /// Bytes of RECEIPTs that a session may wait for; it is not read while there are more.
    pub outstanding_bytes: usize,
    /// Bytes of large frames and open transactions, of all sessions together.
    pub shared_bytes: usize,
    /// How long sessions may take to finish what they have received when the server stops.
    pub stop_time: Duration,
}

impl Settings {
    /// The usual limits, for `node` of `mesh`, which takes metrics to `destinations`.
    pub fn new(mesh: &str, node: &str, destinations: Vec<String>) -> Self {
        Self {
            mesh: mesh.to_owned(),
            node: node.to_owned(),
            destinations,
            serves: false,
            peers: Peers::new(&[]),
            beats_offered: Duration::from_secs(1),
            beats_wished: Duration::from_secs(10),
            limits: Limits::default(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 16_384,
            header_bytes: 16 * 1024,
            header_count: 128,
            body_bytes: 1024 * 1024,
            connect_time: Duration::from_secs(10),
            frame_time: Duration::from_secs(60),
            write_time: Duration::from_secs(60),
            transactions: 16,
            transaction_bytes: 4 * 1024 * 1024,
            transaction_time: Duration::from_secs(60),
            outstanding_bytes: 256 * 1024,
            shared_bytes: 64 * 1024 * 1024,
            stop_time: Duration::from_secs(10),
        }
    }
}
