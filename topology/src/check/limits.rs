//! What one client of an agent may take, and all together.

use super::book::Checked;
use super::section::Section;
use super::value::Value;
use crate::model::Limits;

const KEYS: [&str; 3] = ["connections", "connections_per_client", "lines_per_second"];
/// More needs another `LimitNOFILE` of the unit, and more memory than an edge host has to spare.
const CONNECTIONS_MAX: usize = 60_000;
/// Beyond it nobody could tell the difference.
const RATE_MAX: usize = 100_000_000;

impl Default for Limits {
    fn default() -> Limits {
        Limits { connections: 16_384, connections_per_client: 16_384, lines_per_second: None }
    }
}

/// The `limits` of an agent.
pub(crate) fn read(at: &Value<'_>) -> Checked<Limits> {
    let section = Section::open(at.clone(), &KEYS)?;
    let usual = Limits::default();
    let connections = section.read(KEYS[0], |at| at.count(CONNECTIONS_MAX));
    let per_client = section.read(KEYS[1], |at| at.count(CONNECTIONS_MAX));
    let rate = section.read(KEYS[2], |at| at.count(RATE_MAX))?;
    // No rate is larger than the one that was checked.
    let lines_per_second = rate.map(|lines| u32::try_from(lines).unwrap_or(u32::MAX));
    let connections = connections?.unwrap_or(usual.connections);
    let connections_per_client = per_client?.unwrap_or(connections);
    if connections_per_client > connections {
        let message = "is more than all clients together may have";
        let mend = format!("write at most {connections}, or raise `connections`");
        return Err(section.at().fault_at(KEYS[1], message, mend));
    }
    Ok(Limits { connections, connections_per_client, lines_per_second })
}

#[cfg(test)]
mod tests {
    use crate::model::Limits;
    use crate::tests::{agent, check_agent};

    #[test]
    fn limits_have_defaults() {
        assert_eq!(agent("limits: {}").limits, Limits::default());
        assert_eq!(agent("").limits, Limits::default());
        let limits = agent("limits: { connections: 100, lines_per_second: 5000 }").limits;
        assert_eq!((limits.connections, limits.connections_per_client), (100, 100));
        assert_eq!(limits.lines_per_second, Some(5000));
    }

    #[test]
    fn one_client_has_no_more_than_all() {
        check_agent(
            "limits: { connections: 10, connections_per_client: 11 }",
            "line 4: agents.a.limits.connections_per_client: is more than all clients together may have; write at most \
             10, or raise `connections`",
        );
    }
}
