//! Spools: where an agent keeps its metrics. A directory has one owner.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::agents::AgentDraft;
use super::book::Checked;
use super::credentials::absolute;
use super::machines::Machine;
use super::measures;
use super::section::Section;
use super::value::Value;
use crate::model::{SpoolSettings, WhenFull};

const KEYS: [&str; 4] = ["dir", "max_size", "when_full", "commit_interval"];

/// Each spool has a directory in it, called after its agent, unless it says otherwise.
const HOME: &str = "/var/lib/packetboat";
const COMMIT_INTERVAL: Duration = Duration::from_millis(20);

/// The settings of a spool, and where its directory is named.
pub(crate) struct Spool<'c> {
    pub(crate) settings: SpoolSettings,
    dir_at: Value<'c>,
}

impl<'c> Spool<'c> {
    pub(crate) fn read(agent: &Section<'c>, name: &str) -> Checked<Spool<'c>> {
        let default_dir = Path::new(HOME).join(name);
        let Some(at) = agent.get("spool") else {
            let settings = settings(default_dir, None, None, None);
            return Ok(Spool { settings, dir_at: agent.at().clone() });
        };
        let section = Section::open(at.clone(), &KEYS)?;
        let dir = section.read("dir", |value| value.parse(absolute));
        let max_size = section.read("max_size", |value| value.parse(measures::size));
        let when_full = section.read("when_full", when_full);
        let commit_interval = section.read("commit_interval", |value| value.parse(measures::interval));
        Ok(Spool {
            settings: settings(dir?.unwrap_or(default_dir), max_size?, when_full?, commit_interval?),
            dir_at: section.get("dir").unwrap_or(at).clone(),
        })
    }
}

fn settings(
    dir: PathBuf,
    max_size_bytes: Option<u64>,
    when_full: Option<WhenFull>,
    commit_interval: Option<Duration>,
) -> SpoolSettings {
    SpoolSettings {
        dir,
        max_size_bytes,
        when_full: when_full.unwrap_or(WhenFull::Refuse),
        commit_interval: commit_interval.unwrap_or(COMMIT_INTERVAL),
    }
}

pub(crate) fn when_full(at: &Value<'_>) -> Checked<WhenFull> {
    at.choice(&[("refuse", WhenFull::Refuse), ("drop_oldest", WhenFull::DropOldest)])
}

/// Finds the directories that two agents of one machine share, or that lie within one another.
pub(crate) fn check_dirs(agents: &[&AgentDraft<'_>]) {
    let mut by_machine: HashMap<Machine, Vec<&Spool<'_>>> = HashMap::new();
    for agent in agents {
        if let (Ok(host), Ok(spool)) = (&agent.host, &agent.spool) {
            by_machine.entry(Machine::of(host.as_deref())).or_default().push(spool);
        }
    }
    for (machine, mut spools) in by_machine {
        // Paths sort by component, so that whatever lies in a directory follows it directly.
        spools.sort_by(|a, b| a.settings.dir.cmp(&b.settings.dir));
        let mut outer: Option<&Spool<'_>> = None;
        for spool in spools {
            match outer.filter(|outer| spool.settings.dir.starts_with(&outer.settings.dir)) {
                Some(outer) => shared(spool, outer, &machine),
                None => outer = Some(spool),
            }
        }
    }
}

fn shared(spool: &Spool<'_>, outer: &Spool<'_>, machine: &Machine) {
    let how = if spool.settings.dir == outer.settings.dir { "is" } else { "lies in" };
    let (by, on_line) = (outer.dir_at.path(), outer.dir_at.on_line());
    let dir = spool.settings.dir.display();
    let mut message = format!("the spool directory {dir} {how} that of {by}{on_line}");
    let mut mend = "give each spool a directory of its own".to_owned();
    if *machine == Machine::Unnamed {
        message.push_str("; nodes without `host` count as one machine");
        mend.push_str(", or each agent its own `host`");
    }
    spool.dir_at.fault(message, mend);
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use crate::model::{SpoolSettings, WhenFull};
    use crate::tests::{agent, check, check_agent};

    #[test]
    fn a_spool_is_what_its_agent_says() {
        let spool =
            agent("spool: { dir: /srv/s, max_size: 2GiB, when_full: drop_oldest, commit_interval: 5ms }")
                .spool;
        let expected = SpoolSettings {
            dir: Path::new("/srv/s").to_owned(),
            max_size_bytes: Some(2 << 30),
            when_full: WhenFull::DropOldest,
            commit_interval: Duration::from_millis(5),
        };
        assert_eq!(spool, expected);
    }

    #[test]
    fn sizes_and_durations_have_units() {
        check_agent(
            "spool: { max_size: 20, commit_interval: 20 }",
            "line 4: agents.a.spool.max_size: `20` is a size without a unit; write a whole number and KiB, MiB, GiB or \
             TiB (kB, MB, GB, TB), such as 4GiB\n\
             line 4: agents.a.spool.commit_interval: `20` is a duration without a unit; write a number and a unit, such \
             as 20ms",
        );
    }

    fn two(a: &str, b: &str) -> String {
        let listen = |port| format!("listen: {{ stomp: 127.0.0.1:{port} }}");
        format!("mesh: m\nagents:\n  a: {{ {}, {a} }}\n  b: {{ {}, {b} }}\n", listen(1), listen(2))
    }

    #[test]
    fn a_directory_has_one_spool() {
        let rest = "nodes without `host` count as one machine; \
                    give each spool a directory of its own, or each agent its own `host`";
        check(
            &two("spool: { dir: /s/x }", "spool: { dir: /s//x/. }"),
            &format!(
                "line 4: agents.b.spool.dir: the spool directory /s//x/. is that of agents.a.spool.dir on line 3; {rest}"
            ),
        );
        check(
            &two("region: x", "spool: { dir: /var/lib/packetboat/a }"),
            &format!(
                "line 4: agents.b.spool.dir: the spool directory /var/lib/packetboat/a is that of agents.a on line 3; {rest}"
            ),
        );
        check(
            &two("host: h, spool: { dir: /s }", "host: h, spool: { dir: /s }"),
            "line 4: agents.b.spool.dir: the spool directory /s is that of agents.a.spool.dir on line 3; \
             give each spool a directory of its own",
        );
        assert!(
            crate::Topology::parse(&two("host: x, spool: { dir: /s }", "host: y, spool: { dir: /s }"))
                .is_ok()
        );
    }

    #[test]
    fn no_spool_lies_in_another() {
        check(
            &two("host: h, spool: { dir: /s/a/b }", "host: h, spool: { dir: /s }"),
            "line 3: agents.a.spool.dir: the spool directory /s/a/b lies in that of agents.b.spool.dir on line 4; \
             give each spool a directory of its own",
        );
        assert!(
            crate::Topology::parse(&two("host: h, spool: { dir: /s/a }", "host: h, spool: { dir: /s/ab }"))
                .is_ok()
        );
    }
}
