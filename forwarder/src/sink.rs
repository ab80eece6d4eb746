//! What a pump sends into: a session with a STOMP upstream, or a pool of connections to Graphite.
//!
//! A sink stands when the pump gets it, and ends once; connecting and retrying is not its work.

pub mod graphite;
mod outq;

use std::future::Future;

use crate::lease::{Lease, Receipt};

pub mod stomp;
pub mod store;

/// What a sink says: about a lease that was sent into it, or about itself.
#[derive(Debug)]
pub enum Event {
    /// The next hop has it.
    Confirmed(Lease, Receipt),
    /// The next hop refuses this one and takes others: set it aside.
    Refused(Lease, String),
    /// It was lost on the way while the sink goes on: it is to be sent again.
    Lost(Lease),
    /// There was no room for a reason other than what is in flight, and there is again.
    Room,
}

/// How a sink ended. What it held has been dropped, and so given back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SinkEnd {
    /// No receipt within the deadline, or no heart-beat.
    #[error("silent for {0:?}")]
    Silent(std::time::Duration),
    /// The upstream answered ERROR.
    #[error("the upstream says: {0}")]
    Error(String),
    /// The connection was closed or broke.
    #[error("connection lost: {0}")]
    Closed(String),
    /// The upstream has named the one batch that it refuses, and closed. Nothing else is to blame.
    #[error("the upstream refused a batch: {0}")]
    Refused(String),
}

/// Takes batches and tells what became of them.
pub trait Sink: Send {
    /// Puts the lease on the wire. Returns when more may be sent; a receipt comes later by
    /// [`Sink::event`]. Not cancel-safe.
    fn send(&mut self, lease: Lease) -> impl Future<Output = Result<(), SinkEnd>> + Send;

    /// Waits for the next event. Cancel-safe. Keeps the session alive (heart-beats, deadlines), so it
    /// is to be polled at all times.
    fn event(&mut self) -> impl Future<Output = Result<Event, SinkEnd>> + Send;

    /// Whether there is room for one more lease in flight, by bytes and by count. It comes back with an
    /// [`Event`] only, so that whoever waits for events hears of it.
    fn has_room(&self) -> bool;

    /// Nothing more will be sent: receipts that a sink lets wait for more batches are to come now. May be
    /// called again.
    fn hurry(&mut self) {}

    /// Ends what is not needed any more in an orderly way, within a bound of its own. What is still in
    /// flight is given back.
    fn close(self) -> impl Future<Output = ()> + Send
    where
        Self: Sized,
    {
        async { drop(self) }
    }
}
