//! The demo: a whole mesh on loopback, in one process, with a link that can be cut.
//!
//! ```text
//!   US                                                EU
//!   producers (STOMP, plaintext)                      graphite (a stand-in that counts)
//!       |                                                 ^
//!       v                                                 |
//!   agent us-east --------- link (can be cut) -------> broker (a stand-in) --> consumer graphite-eu
//! ```
//!
//! `stage` sets it up, `lookout` looks at it, and `plain` or `screen` plays with it and shows it. In the
//! end every metric that the agent has receipted is looked for at Graphite, by identity: the `verdict`.
//! Nodes and topology are the product's, and are talked to from outside only.

mod broker;
mod figures;
mod graphite;
mod ledger;
mod link;
mod load;
pub(crate) mod log_tail;
mod lookout;
mod nodes;
mod places;
pub(crate) mod plain;
mod producers;
pub(crate) mod screen;
mod stage;
pub(crate) mod verdict;
