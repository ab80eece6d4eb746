//! The Packetboat agent: it takes metrics in, keeps them in a spool, and forwards them.
//!
//! The modules in the order a metric travels: [`ingest`] accepts, checks and seals, [`spool`] commits
//! and lends, the crate `forwarder` sends and confirms. [`run`] wires them.

mod backlogs;
pub mod cli;
mod collect;
mod complaints;
pub mod consume;
mod crew;
mod demo;
mod failover;
mod forecast;
mod http;
pub mod ingest;
mod inspector;
pub mod metrics;
pub mod run;
pub mod spool;
mod stamp;
mod tls;
mod uplink;
pub mod users;
