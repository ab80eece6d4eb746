//! Which nodes share a machine, and with it ports and directories.

use std::net::IpAddr;

use super::addresses;
use super::book::Checked;
use super::value::Value;

/// A machine, as far as the topology tells.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Machine {
    /// That of all nodes that name no `host`, or a loopback one.
    Unnamed,
    /// By its name in lower case.
    Named(String),
}

impl Machine {
    /// The machine that a node with this `host` runs on.
    pub(crate) fn of(host: Option<&str>) -> Machine {
        match host {
            Some(host) if !is_loopback(host) => {
                Machine::Named(host.trim_end_matches('.').to_ascii_lowercase())
            }
            _ => Machine::Unnamed,
        }
    }
}

fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host.parse().is_ok_and(|ip: IpAddr| ip.to_canonical().is_loopback())
}

/// Reads `host`.
pub(crate) fn host(at: &Value<'_>) -> Checked<String> {
    at.parse(addresses::host)
}
