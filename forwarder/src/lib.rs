//! The engine that carries batches over one hop: it leases them from a [`Source`], sends them into a
//! [`Sink`], and ends each lease on the next hop's word.
//!
//! It knows neither SQLite nor the agent. Silence is never confirmation: only a sink makes a
//! [`Receipt`], and only a receipt confirms.

pub mod batch;
pub mod clock;
pub mod crc;
pub mod dial;
pub mod lease;
pub mod outage;
pub mod pump;
pub mod redial;
pub mod retry;
pub mod sink;
pub mod source;
pub mod stomp;
pub mod tls;
pub mod transport;
pub mod trouble;
pub mod watch;
pub mod wire;

pub use batch::{Batch, Encoding, Epoch, Label, Part};
pub use clock::Clock;
pub use lease::{Lease, LeaseKey, Receipt, Returns};
pub use outage::Outage;
pub use pump::{End, pump};
pub use redial::{Connect, drain, keep_pumping};
pub use retry::Retry;
pub use sink::{Event, Sink, SinkEnd};
pub use source::{Source, SourceEnd};
pub use transport::Transport;
pub use trouble::Trouble;
pub use watch::{LinkObserver, LinkState, LinkStatus, LinkWatch};
