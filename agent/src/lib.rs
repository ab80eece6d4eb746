//! The Packetboat agent: it takes metrics in, keeps them in a spool, and forwards them.
//!
//! The modules in the order a metric travels: [`ingest`] accepts, checks and seals, [`spool`] commits
//! and lends, the crate `forwarder` sends and confirms. [`run`] wires them.

pub mod cli;
pub mod consume;
mod crew;
mod demo;
mod forecast;
mod http;
pub mod ingest;
pub mod metrics;
pub mod run;
pub mod spool;
mod uplink;
