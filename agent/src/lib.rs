//! The Packetboat agent: it takes metrics in, keeps them in a spool, and forwards them.
//!
//! The modules in the order a metric travels: [`ingest`] accepts, checks and seals, [`spool`] commits
//! and lends, the crate `forwarder` sends and confirms.

mod forecast;
pub mod ingest;
pub mod metrics;
pub mod spool;
