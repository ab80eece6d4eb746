//! Who is in the mesh: every name, of whichever kind, once.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;

use super::book::Reported;
use super::section::{Section, repeated};
use super::value::Value;
use crate::names::{NAME_RULE, closest, is_name, plain};

/// How many names a mend lists.
const LISTED_MAX: usize = 5;

/// What a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Broker,
    Agent,
    Consumer,
}

impl Kind {
    fn section(self) -> &'static str {
        match self {
            Kind::Broker => "brokers",
            Kind::Agent => "agents",
            Kind::Consumer => "consumers",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Broker => "a broker",
            Kind::Agent => "an agent",
            Kind::Consumer => "a consumer",
        })
    }
}

/// All nodes in the order of the file, by section.
pub(crate) struct Roster<'c> {
    nodes: Vec<Node<'c>>,
    kinds: HashMap<&'c str, (Kind, Value<'c>)>,
}

struct Node<'c> {
    kind: Kind,
    name: &'c str,
    at: Value<'c>,
    /// Whether an earlier node has the name; such a node is read for its faults only.
    is_namesake: bool,
}

impl<'c> Roster<'c> {
    /// Reads the names under `brokers`, `agents` and `consumers`.
    pub(crate) fn read(top: &Section<'c>) -> Roster<'c> {
        let mut roster = Roster { nodes: Vec::new(), kinds: HashMap::new() };
        for kind in [Kind::Broker, Kind::Agent, Kind::Consumer] {
            for section in top.all(kind.section()) {
                let entries = section.entries("write a map from names to settings");
                for (name, at) in entries.unwrap_or_default() {
                    roster.add(kind, name, at);
                }
            }
        }
        roster
    }

    fn add(&mut self, kind: Kind, name: &'c str, at: Value<'c>) {
        if !is_name(name) {
            at.fault(format!("`{}` is no name", plain(name)), NAME_RULE);
        }
        let is_namesake = match self.kinds.entry(name) {
            Entry::Vacant(free) => {
                free.insert((kind, at.clone()));
                false
            }
            Entry::Occupied(taken) => {
                namesake(name, kind, &at, taken.get());
                true
            }
        };
        self.nodes.push(Node { kind, name, at, is_namesake });
    }

    /// What `reader` makes of each node of a kind.
    pub(crate) fn each<T>(&self, kind: Kind, mut reader: impl FnMut(&'c str, &Value<'c>) -> T) -> Vec<T> {
        let of_kind = self.nodes.iter().filter(|node| node.kind == kind);
        let read = of_kind.map(|node| (node.is_namesake, reader(node.name, &node.at)));
        read.filter(|(is_namesake, _)| !is_namesake).map(|(_, read)| read).collect()
    }

    pub(crate) fn has(&self, kind: Kind) -> bool {
        self.nodes.iter().any(|node| node.kind == kind)
    }

    /// The fault of a name that is no node of a wanted kind; `owner` is the node that says it, and is not
    /// offered instead.
    pub(crate) fn missing(&self, at: &Value<'c>, name: &str, wanted: &[Kind], owner: &str) -> Reported {
        match self.kinds.get(name) {
            Some((kind, _)) => wrong_kind(at, name, *kind),
            None => self.dangling(at, name, wanted, owner),
        }
    }

    fn dangling(&self, at: &Value<'c>, name: &str, wanted: &[Kind], owner: &str) -> Reported {
        let known = || {
            self.nodes
                .iter()
                .filter(|node| wanted.contains(&node.kind) && node.name != owner)
                .map(|node| node.name)
        };
        let sections: Vec<_> = wanted.iter().map(|kind| format!("`{}`", kind.section())).collect();
        let mend = match closest(name, known()) {
            Some(meant) => format!("did you mean `{}`?", plain(meant)),
            None => {
                let listed: Vec<_> =
                    known().take(LISTED_MAX).map(|name| format!("`{}`", plain(name))).collect();
                let or_name = if listed.is_empty() { "" } else { ", or name one that is there, such as " };
                format!("declare it under {}{or_name}{}", sections.join(" or "), listed.join(", "))
            }
        };
        let kinds: Vec<_> = wanted.iter().map(|kind| kind.section().trim_end_matches('s')).collect();
        at.fault(format!("no {} is called `{}`", kinds.join(" or "), plain(name)), mend)
    }
}

fn namesake(name: &str, kind: Kind, at: &Value<'_>, (first_kind, first): &(Kind, Value<'_>)) -> Reported {
    if *first_kind == kind {
        return repeated(at, first);
    }
    let message = format!("`{}` is already {first_kind}{}", plain(name), first.on_line());
    at.fault(message, "give each broker, agent and consumer a name of its own")
}

fn wrong_kind(at: &Value<'_>, name: &str, kind: Kind) -> Reported {
    match kind {
        Kind::Consumer => at.fault(
            format!("`{name}` is a consumer, and consumers fetch for themselves"),
            "name the node that it drains",
        ),
        Kind::Agent => at.fault(format!("`{name}` is an agent"), "name a broker"),
        Kind::Broker => at.fault(format!("`{name}` is a broker"), "name an agent"),
    }
}

#[cfg(test)]
mod tests {
    use crate::tests::{check, check_agent};

    #[test]
    fn a_dangling_name_has_one_that_was_meant() {
        check_agent(
            "forward: { to: eu-hb }",
            "line 4: agents.a.forward.to: no broker or agent is called `eu-hb`; did you mean `eu`?",
        );
    }

    #[test]
    fn a_dangling_name_that_is_like_none_has_a_list() {
        check_agent(
            "forward: { to: zzz }",
            "line 4: agents.a.forward.to: no broker or agent is called `zzz`; declare it under `brokers` or \
             `agents`, or name one that is there, such as `eu`",
        );
        check(
            "mesh: m\nconsumers: { c: { from: eu, graphite: [g] } }",
            "line 2: consumers.c.from: no broker or agent is called `eu`; declare it under `brokers` or `agents`",
        );
    }

    #[test]
    fn a_name_is_used_once_in_the_mesh() {
        let text = "mesh: m
brokers: { x: { urls: [stomp://mq] } }
agents: { x: { host: a }, y: { host: b } }
consumers: { y: { from: x, graphite: [g] } }";
        check(
            text,
            "line 3: agents.x: `x` is already a broker on line 2; \
             give each broker, agent and consumer a name of its own\n\
             line 4: consumers.y: `y` is already an agent on line 3; \
             give each broker, agent and consumer a name of its own",
        );
    }

    #[test]
    fn an_agent_given_twice_is_one_fault_and_read_twice() {
        check(
            "mesh: m\nagents:\n  a: {}\n  a: { hots: b }\n",
            "line 4: agents.a: is given twice, before this on line 3; keep one of the two\n\
             line 4: agents.a.hots: there is no key `hots` here; did you mean `host`?",
        );
    }

    #[test]
    fn a_name_fits_headers_metrics_and_paths() {
        let rest = "is no name; use up to 64 letters, digits, `-` and `_`, beginning with a letter or digit";
        check("mesh: m\nagents: { a.b: {} }", &format!("line 2: agents.a.b: `a.b` {rest}"));
        check("mesh: m\nagents: { ../b: {} }", &format!("line 2: agents.../b: `../b` {rest}"));
    }

    #[test]
    fn consumers_fetch_for_themselves() {
        check(
            "mesh: m
brokers: { eu: { urls: [stomp://mq] } }
agents: { a: { forward: { to: c } } }
consumers: { c: { from: eu, graphite: [g] } }",
            "line 3: agents.a.forward.to: `c` is a consumer, and consumers fetch for themselves; \
             name the node that it drains",
        );
    }
}
