//! The queues of the mesh: each agent keeps a backlog of its own for each.

use super::agents::AgentDraft;
use super::book::{Checked, every};
use super::links::destination;
use super::measures;
use super::section::{Section, check_repeats};
use super::spools::when_full;
use super::value::Value;
use crate::model::{Queue, SPOOL_BYTES_UNLESS_SAID, WhenFull};
use crate::names::plain;
use crate::raw::Node;

const MEND: &str = "write a list such as [/queue/graphite, /queue/billing]";

/// The queues of `queues`, and the default one before them all.
///
/// Wherever queues are handed on, none at all stands for those of a faulty `queue` or `queues`: of them
/// nobody knows what is missing, and nothing is said.
pub(crate) fn read(top: &Section<'_>, default: &str) -> Checked<Vec<Queue>> {
    let declared = top.read("queues", queues)?.unwrap_or_default();
    let (mut first, rest): (Vec<_>, Vec<_>) = declared.into_iter().partition(|queue| queue.name == default);
    if first.is_empty() {
        first.push(without_limit(default));
    }
    first.extend(rest);
    Ok(first)
}

pub(crate) fn has(queues: &[Queue], name: &str) -> bool {
    queues.is_empty() || queues.iter().any(|queue| queue.name == name)
}

/// All of them, as a mend lists them.
pub(crate) fn listed(queues: &[Queue]) -> String {
    let names: Vec<_> = queues.iter().map(|queue| format!("`{}`", plain(&queue.name))).collect();
    names.join(", ")
}

/// One of the queues of the mesh.
pub(crate) fn known(at: &Value<'_>, queues: &[Queue]) -> Checked<String> {
    let name = destination(at)?;
    if has(queues, &name) {
        return Ok(name);
    }
    // The names begin alike, so that each would look as if it were meant.
    let mend = format!("name one of {}, or add it to `queues`", listed(queues));
    Err(at.fault(format!("`{}` is no queue of the mesh", plain(&name)), mend))
}

/// No queue may hold more than the whole spool of an agent.
pub(crate) fn check_limits(top: &Section<'_>, queues: &[Queue], agents: &[&AgentDraft<'_>]) {
    let declared = top.get("queues").filter(|at| matches!(at.node(), Node::Map(_)));
    let Some(Ok(entries)) = declared.map(|at| at.entries(MEND)) else { return };
    for (name, at) in entries {
        let Some(bytes) = queues.iter().find(|queue| queue.name == name).and_then(|it| it.max_size_bytes)
        else {
            continue;
        };
        let said = |agent: &AgentDraft<'_>| agent.spool.as_ref().ok()?.settings.max_size_bytes;
        let too_small = agents.iter().find(|agent| said(agent).is_some_and(|spool| bytes > spool));
        // It is for all agents, of which one with a larger spool is enough.
        let counts = bytes <= SPOOL_BYTES_UNLESS_SAID || agents.iter().any(|agent| said(agent).is_some());
        if let Some(agent) = too_small.or(agents.first().filter(|_| !counts)) {
            let agent = plain(agent.name);
            let message =
                format!("is more than the whole spool of `{agent}` may hold, so it would never count");
            at.fault_at(
                "max_size",
                message,
                format!("lower it, or raise the `max_size` of the spool of `{agent}`"),
            );
        }
    }
}

fn queues(at: &Value<'_>) -> Checked<Vec<Queue>> {
    match at.node() {
        Node::Map(_) => {
            let entries = at.entries(MEND)?;
            check_repeats(&entries);
            every(entries.iter().map(|(name, at)| with_limit(name, at)))
        }
        _ => {
            if matches!(at.node(), Node::List(list) if list.is_empty()) {
                return Ok(Vec::new());
            }
            let items = at.items(MEND)?;
            let queues = every(items.iter().map(|item| Ok(without_limit(&destination(item)?))))?;
            for (index, queue) in queues.iter().enumerate() {
                if queues[..index].contains(queue) {
                    return Err(items[index].fault("is given twice", "keep one of the two"));
                }
            }
            Ok(queues)
        }
    }
}

fn with_limit(name: &str, at: &Value<'_>) -> Checked<Queue> {
    if name.trim().is_empty() || name.contains(|char: char| char.is_whitespace() || char.is_control()) {
        return Err(at.fault(format!("`{}` is no destination", plain(name)), "write it like /queue/graphite"));
    }
    if *at.node() == Node::Null {
        return Ok(without_limit(name));
    }
    let section = Section::open(at.clone(), &["max_size", "when_full"])?;
    let max_size = section.read("max_size", |value| value.parse(measures::size));
    let policy = section.read("when_full", when_full);
    let (max_size_bytes, policy) = (max_size?, policy?);
    if max_size_bytes.is_none() && policy.is_some() {
        let mend = "add the queue's own `max_size`, or set it under `spool`";
        return Err(at.fault_at("when_full", "says nothing without a `max_size`", mend));
    }
    Ok(Queue { name: name.to_owned(), max_size_bytes, when_full: policy.unwrap_or(WhenFull::Refuse) })
}

fn without_limit(name: &str) -> Queue {
    Queue { name: name.to_owned(), max_size_bytes: None, when_full: WhenFull::Refuse }
}

#[cfg(test)]
mod tests {
    use crate::Topology;
    use crate::model::WhenFull;
    use crate::tests::check;

    fn text(queues: &str) -> String {
        format!("mesh: m\nqueues: {queues}\nagents: {{ a: {{}} }}")
    }

    fn names(queues: &str) -> Vec<String> {
        Topology::parse(&text(queues)).unwrap().queues.into_iter().map(|queue| queue.name).collect()
    }

    #[test]
    fn the_default_queue_is_always_there_and_first() {
        assert_eq!(names("[]"), ["/queue/graphite"]);
        assert_eq!(names("[/queue/b]"), ["/queue/graphite", "/queue/b"]);
        assert_eq!(names("[/queue/b, /queue/graphite]"), ["/queue/graphite", "/queue/b"]);
        assert_eq!(names("{ /queue/b: {}, /queue/graphite: }"), ["/queue/graphite", "/queue/b"]);
    }

    #[test]
    fn a_queue_may_have_a_limit() {
        let mesh =
            Topology::parse(&text("{ /queue/b: { max_size: 1GiB, when_full: drop_oldest } }")).unwrap();
        let queue = &mesh.queues[1];
        assert_eq!((queue.max_size_bytes, queue.when_full), (Some(1 << 30), WhenFull::DropOldest));
    }

    #[test]
    fn what_is_no_queue_is_a_fault() {
        check(
            &text("/queue/b"),
            "line 2: queues: is the text `/queue/b`, and a list is wanted; write a list such as [/queue/graphite, \
             /queue/billing]",
        );
        check(
            &text("{ /queue/b: {}, /queue/b: }"),
            "line 2: queues./queue/b: is given twice, before this on line 2; keep one of the two",
        );
        check(
            &text("{ /queue/b: { size: 1GiB } }"),
            "line 2: queues./queue/b.size: there is no key `size` here; the keys here are `max_size`, `when_full`",
        );
        check(&text("[/queue/b, /queue/b]"), "line 2: queues[1]: is given twice; keep one of the two");
        check(
            &text("{ /queue/b: { when_full: refuse } }"),
            "line 2: queues./queue/b.when_full: says nothing without a `max_size`; add the queue's own `max_size`, or \
             set it under `spool`",
        );
        check(
            &text("[/queue/a b]"),
            "line 2: queues[0]: `/queue/a b` holds a blank; write it like /queue/graphite",
        );
        check(
            &text("{ /queue/a b: }"),
            "line 2: queues./queue/a b: `/queue/a b` is no destination; write it like /queue/graphite",
        );
    }

    #[test]
    fn a_queue_holds_no_more_than_some_spool_though_it_is_not_said() {
        let text = |max_size, hub| {
            format!(
                "mesh: m\nqueues: {{ /queue/b: {{ max_size: {max_size} }} }}\nagents: {{ a: {{ host: a }}, hub: {{ host: hub, {hub} }} }}"
            )
        };
        assert!(Topology::parse(&text("4GiB", "")).is_ok());
        assert!(
            Topology::parse(&text("10GiB", "spool: { max_size: 100GiB }")).is_ok(),
            "it counts at the hub"
        );
        check(
            &text("5GiB", ""),
            "line 2: queues./queue/b.max_size: is more than the whole spool of `a` may hold, so it would never count; \
             lower it, or raise the `max_size` of the spool of `a`",
        );
    }

    #[test]
    fn a_queue_holds_no_more_than_a_spool() {
        let text = |max_size| {
            format!(
                "mesh: m\nqueues: {{ /queue/b: {{ max_size: {max_size} }} }}\nagents: {{ a: {{ spool: {{ max_size: 1GiB }} }} }}"
            )
        };
        assert!(Topology::parse(&text("1GiB")).is_ok());
        check(
            &text("2GiB"),
            "line 2: queues./queue/b.max_size: is more than the whole spool of `a` may hold, so it would never count; \
             lower it, or raise the `max_size` of the spool of `a`",
        );
    }

    /// What a faulty section hides is not said to be missing.
    #[test]
    fn faulty_queues_are_told_once() {
        let text = |queues| {
            format!(
                "mesh: m\n{queues}\nbrokers: {{ eu: {{ urls: [stomp://mq] }} }}\nagents: {{ a: {{ collect: {{ from: eu, queue: /queue/b \
                 }}, users: {{ x: {{ certificate: x, send: /queue/b }} }}, listen: {{ stomp+tls: 127.0.0.1:1 }}, tls: {{ cert: \
                 /c, key: /k, client_ca: /ca }} }} }}"
            )
        };
        let mend = "holds a blank; write it like /queue/graphite";
        check(&text("queues: [/queue/b, a b]"), &format!("line 2: queues[1]: `a b` {mend}"));
        check(&text("queue: a b"), &format!("line 2: queue: `a b` {mend}"));
    }
}
