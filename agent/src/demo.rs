//! The demo: a whole mesh on loopback, in one process, with a link that can be cut.
//!
//! ```text
//!   US                                                 EU
//!   agent us-east ------- link (can be cut) ------->  agent eu --> consumer graphite-eu
//!                                                        |                 |
//!   DMZ                                                  |                 v
//!   agent dmz-web <---------- collects from -------------'             graphite (a stand-in that counts)
//! ```
//!
//! Producers send to us-east, and a few to dmz-web, over STOMP and in plaintext. us-east forwards over the
//! link; dmz-web dials nobody, and has what it keeps taken away; eu keeps what comes for its subscriber.
//!
//! `stage` sets it up, `lookout` looks at it, and `plain` or `screen` plays with it and shows it. In the
//! end every metric that us-east and dmz-web have receipted is looked for at Graphite, by identity: the `verdict`.
//! Nodes and topology are the product's, and are talked to from outside only.

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
