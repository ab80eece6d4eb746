//! The hosts of the demo: half of them send over STOMP, half in Graphite's plaintext.
//!
//! They keep what they have sent until the agent has said that it has it, and only then enter it as
//! accepted: by a RECEIPT, or by the FIN that answers a half-close.

mod plaintext;
mod stomp;

use std::net::SocketAddr;

use anyhow::{Context, Result};
use forwarder::Clock;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::demo::ledger::Ledger;
use crate::demo::load::Load;

/// What the producers have in common.
#[derive(Debug, Clone)]
pub(super) struct Producers {
    /// Where the agent takes STOMP.
    pub(super) stomp: SocketAddr,
    /// Where the agent takes plaintext.
    pub(super) plaintext: SocketAddr,
    /// The queue of the agent.
    pub(super) queue: String,
    /// Names that have a value every second.
    pub(super) names: u32,
    /// What the agent has.
    pub(super) accepted: Ledger,
}

impl Producers {
    /// Produces until `stop`, and then until everything that was sent is accepted.
    pub(super) async fn run(&self, clock: &Clock, stop: &CancellationToken) -> Result<()> {
        let (over_stomp, in_plaintext) = (self.clone(), self.clone());
        let (half, stop) = (self.names / 2, stop.clone());
        let (first, second) = (Load::new(0..half, clock), Load::new(half..self.names, clock));
        // Tasks of their own: a producer that catches up is in nobody's way.
        let mut producers = JoinSet::new();
        let stop_too = stop.clone();
        producers.spawn(async move {
            let produced = stomp::produce(&over_stomp, first, &stop_too).await;
            produced.context("the demo's STOMP producer")
        });
        producers.spawn(async move {
            let produced = plaintext::produce(&in_plaintext, second, &stop).await;
            produced.context("the demo's plaintext producer")
        });
        while let Some(ended) = producers.join_next().await {
            ended.context("a producer of the demo panicked")??;
        }
        Ok(())
    }
}
