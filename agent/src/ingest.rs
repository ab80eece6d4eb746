//! The ways in: each listener reads lines, `line` checks them, `intake` seals them into batches.

pub mod clients;
mod dead_letters;
pub mod graphite;
pub mod intake;
pub mod line;
mod open_batch;
mod pace;
mod porter;
pub mod route;
pub mod stomp;
mod transit;
pub(crate) mod unfinished;

use std::sync::Arc;

/// A way in, as the `input` label of the metrics names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Input {
    /// STOMP SEND.
    Stomp,
    /// Graphite plaintext over TCP.
    Graphite,
    /// Graphite plaintext over UDP.
    Udp,
    /// A plain message of a queue that a consumer drains.
    Queue,
    /// A batch of another node, sent here.
    Node,
    /// Collected from another node or a broker.
    Collect,
}

impl Input {
    /// Every way in, in the order of its discriminants.
    pub const ALL: [Self; 6] =
        [Self::Stomp, Self::Graphite, Self::Udp, Self::Queue, Self::Node, Self::Collect];

    /// The value of the `input` label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stomp => "stomp",
            Self::Graphite => "graphite",
            Self::Udp => "udp",
            Self::Queue => "queue",
            Self::Node => "node",
            Self::Collect => "collect",
        }
    }
}

/// Who sent a line: kept with what is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sender {
    /// The way in.
    pub input: Input,
    /// The peer's IP address, or the queue's name.
    pub peer: Arc<str>,
}
