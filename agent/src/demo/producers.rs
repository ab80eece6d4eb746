//! The hosts of one region of the demo: half of them send over STOMP, half in Graphite's plaintext.
//!
//! They keep what they have sent until their agent has said that it has it, and only then enter it as
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

/// What the producers of a region have in common.
#[derive(Debug, Clone)]
pub(super) struct Producers {
    /// What their names begin with.
    pub(super) region: &'static str,
    /// Where their agent takes STOMP.
    pub(super) stomp: SocketAddr,
    /// Where their agent takes plaintext.
    pub(super) plaintext: SocketAddr,
    /// The queue that they send to.
    pub(super) queue: String,
    /// Names that have a value every second.
    pub(super) names: u32,
    /// What has a receipt.
    pub(super) accepted: Ledger,
}

impl Producers {
    /// Produces until `stop`, and then until everything that was sent is accepted.
    pub(super) async fn run(&self, clock: &Clock, stop: &CancellationToken) -> Result<()> {
        let (over_stomp, in_plaintext) = (self.clone(), self.clone());
        let (half, stop) = (self.names / 2, stop.clone());
        let load = |names| Load::new(self.region, names, clock);
        let (first, second) = (load(0..half), load(half..self.names));
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
