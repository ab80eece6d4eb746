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

/// Whether `name`, seen from a node with the host `from`, is where a node with the host `to` listens on `ip`.
pub(crate) fn leads_to(name: &str, from: Option<&str>, ip: IpAddr, to: Option<&str>) -> bool {
    let named = name.parse().ok().map(|named: IpAddr| named.to_canonical());
    if is_loopback(name) {
        let is_it = named.map_or(ip.is_loopback(), |named| named == ip);
        return Machine::of(from) == Machine::of(to) && (is_it || ip.is_unspecified());
    }
    named == Some(ip) || (!ip.is_loopback() && Machine::of(Some(name)) == Machine::of(to))
}

/// Reads `host`.
pub(crate) fn host(at: &Value<'_>) -> Checked<String> {
    at.parse(addresses::host)
}
