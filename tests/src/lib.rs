//! The harness: real brokers, a real Graphite, faults, load, and the shipped binary as processes.
//!
//! A test puts a mesh together from these, in the order of the road:
//!
//! - [`points`]: what is sent, each point with an identity, and [`load`]: the producers that send it;
//! - [`packetboat`]: the agents and consumers under test, as processes; [`edge`]: one agent by itself;
//! - [`proxy`]: a way between two nodes that can be cut, held and mended; [`flight`]: what was on it then;
//! - [`network`]: hosts with a firewall between them; [`certificates`]: an authority and what it signs;
//! - [`broker`]: RabbitMQ and ActiveMQ; [`stomp`]: a client of our own making to look at them with;
//! - [`upstream`]: a far end that does as a script says;
//! - [`carbon`] and [`whisper`]: Graphite, and what it has written;
//! - [`sink`]: a counting Graphite, or a counter in front of one; [`ledger`]: what it counted;
//! - [`berth`]: all that one agent needs, for tests that start, kill and start it; [`station`]: the same for one
//!   of several; [`disk`]: a small one;
//! - [`strace`]: what a process asked of the kernel; [`fsynced`]: whether its receipts may be believed;
//! - [`road`]: one whole mesh of all these.
//!
//! The harness is independent of what it tests: it shares no code with the agent, blocks where it
//! waits, and panics with what it saw. Nothing here sleeps for a fixed time to wait for something:
//! [`wait::until`] polls with a limit.

#![expect(
    clippy::disallowed_methods,
    reason = "an instrument waits in real time: it polls, and stamps its points with the real clock"
)]
#![expect(
    clippy::expect_used,
    reason = "an instrument that does not work fails its test, at once and with its reason"
)]

pub mod berth;
pub mod broker;
pub mod carbon;
pub mod certificates;
pub mod disk;
pub mod edge;
pub mod flight;
pub mod fsynced;
pub mod ledger;
pub mod load;
pub mod network;
pub mod packetboat;
pub mod points;
pub mod ports;
pub mod process;
pub mod proxy;
pub mod road;
pub mod scratch;
pub mod sink;
pub mod station;
pub mod stomp;
pub mod strace;
pub mod upstream;
pub mod wait;
pub mod whisper;

/// Picks the short form of a long test, or the full one where `tests/run --full` asks for it by
/// `PACKETBOAT_FULL=1`.
pub fn short_or_full<T>(short: T, full: T) -> T {
    let wanted = std::env::var_os("PACKETBOAT_FULL").is_some_and(|value| value == "1");
    if wanted { full } else { short }
}
