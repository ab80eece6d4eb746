//! What a pump takes from: the spool of an agent, or a STOMP subscription.

use std::future::Future;

use crate::lease::{Lease, Receipt};

pub mod subscription;

/// Why a source has nothing more to lend.
#[derive(Debug, thiserror::Error)]
pub enum SourceEnd {
    /// It was told to stop, and all it had to say is said.
    #[error("the source was closed")]
    Closed,
    /// It broke; a new one may be had later.
    #[error("the source was lost: {0}")]
    Lost(String),
}

/// Lends batches, oldest first, and ends their leases.
///
/// A batch that was given back and is lent again keeps its [`crate::LeaseKey`], where the same source
/// lends it: the spool takes the id of its first part. A link finds the one batch that its upstream
/// refuses over several sessions, and knows it by this key.
pub trait Source: Send {
    /// Waits for the next batch and lends it. Cancel-safe: a batch is lent only when the future is
    /// ready.
    fn lease(&mut self) -> impl Future<Output = Result<Lease, SourceEnd>> + Send;

    /// Done: the next hop has it. Deleting may happen later, in one go with others.
    fn confirm(
        &mut self,
        lease: Lease,
        receipt: Receipt,
    ) -> impl Future<Output = Result<(), SourceEnd>> + Send;

    /// Put by with a reason, so that the road goes on.
    fn set_aside(&mut self, lease: Lease, reason: &str)
    -> impl Future<Output = Result<(), SourceEnd>> + Send;
}
