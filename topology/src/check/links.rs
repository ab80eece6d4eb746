//! Links: what an agent's `forward` says, before it is known where each leads.

use std::collections::HashMap;

use super::addresses;
use super::book::{Checked, Complaint, Reported, every};
use super::credentials::Credentials;
use super::section::Section;
use super::spools::when_full;
use super::value::Value;
use super::{graphite, measures, queues};
use crate::model::{
    Encoding, Endpoint, GraphiteConfirm, LinkQueue, Pattern, Queue, SPOOL_BYTES_UNLESS_SAID, SpoolSettings,
    TlsClient, WhenFull,
};
use crate::names::plain;
use crate::raw::Node;

const KEYS: [&str; 13] = [
    "to",
    "name",
    "match",
    "queue",
    "login",
    "passcode_file",
    "tls",
    "prefer_first",
    "encoding",
    "max_size",
    "when_full",
    "connections",
    "confirm",
];
/// What only a STOMP upstream understands, and only a Graphite.
const STOMP_ONLY: [&str; 6] = ["queue", "login", "passcode_file", "tls", "prefer_first", "encoding"];
const GRAPHITE_ONLY: [&str; 2] = ["connections", "confirm"];

/// A link as written.
pub(crate) struct LinkDraft<'c> {
    pub(crate) name: Checked<String>,
    pub(crate) target: Checked<Target<'c>>,
    pub(crate) patterns: Checked<Vec<Pattern>>,
    pub(crate) queue: Checked<Option<String>>,
    pub(crate) credentials: Checked<Credentials>,
    pub(crate) tls: Checked<Option<TlsClient>>,
    pub(crate) prefer_first: Checked<Option<bool>>,
    pub(crate) encoding: Checked<Option<Encoding>>,
    pub(crate) connections: Checked<Option<usize>>,
    pub(crate) confirm: Checked<GraphiteConfirm>,
    pub(crate) section: Section<'c>,
    max_size: Checked<Option<u64>>,
    when_full: Checked<Option<WhenFull>>,
}

/// Where a link is to lead.
#[derive(Clone)]
pub(crate) enum Target<'c> {
    /// To the nodes of these names, if there are, in failover order; never empty, and several are agents.
    Nodes(Vec<(&'c str, Value<'c>)>),
    /// Straight into a Graphite.
    Graphite(Endpoint),
}

impl<'c> LinkDraft<'c> {
    pub(crate) fn read(at: &Value<'c>, queues: &[Queue]) -> Checked<LinkDraft<'c>> {
        let section = Section::open(at.clone(), &KEYS)?;
        let target = section.need("to", "name a broker, an agent or graphite://HOST:PORT", target);
        if let Ok(target) = &target {
            check_options(&section, target);
        }
        Ok(LinkDraft {
            name: name(&section, &target),
            target,
            patterns: section.read("match", patterns).map(Option::unwrap_or_default),
            queue: section.read("queue", |at| carried(at, queues)),
            credentials: Credentials::read(&section),
            tls: section.read("tls", super::tls::client),
            prefer_first: section.read("prefer_first", Value::flag),
            encoding: section.read("encoding", encoding),
            connections: section.read("connections", graphite::connections),
            confirm: graphite::confirm(&section),
            max_size: section.read("max_size", |value| value.parse(measures::size)),
            when_full: section.read("when_full", when_full),
            section,
        })
    }

    /// Whether it carries `queue` of the mesh: one that names no queue carries all; one that names a queue of
    /// several, that one; and where there is only the default queue, it may call it what it likes.
    pub(crate) fn carries(&self, queue: &Queue, is_default: bool, queues: &[Queue]) -> bool {
        match &self.queue {
            Ok(Some(named)) if queues.len() > 1 => *named == queue.name,
            Ok(Some(_)) => is_default,
            Ok(None) => true,
            // What a faulty key would carry is not known.
            Err(Reported { .. }) => true,
        }
    }

    /// The queues that it carries, and what they are called at its far end.
    pub(crate) fn queues(&self, queues: &[Queue]) -> Checked<Vec<LinkQueue>> {
        let named = self.queue.clone()?;
        let carried =
            queues.iter().enumerate().filter(|(number, queue)| self.carries(queue, *number == 0, queues));
        Ok(carried
            .map(|(_, queue)| LinkQueue {
                queue: queue.name.clone(),
                destination: named.clone().unwrap_or_else(|| queue.name.clone()),
            })
            .collect())
    }

    /// The nodes that it leads to, by name.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = &'c str> {
        let nodes = match &self.target {
            Ok(Target::Nodes(nodes)) => nodes.as_slice(),
            Ok(Target::Graphite(_)) | Err(Reported { .. }) => &[],
        };
        nodes.iter().map(|(name, _)| *name)
    }

    /// The Graphite that it leads to, if it does.
    pub(crate) fn graphite(&self) -> &[Endpoint] {
        match &self.target {
            Ok(Target::Graphite(endpoint)) => std::slice::from_ref(endpoint),
            Ok(Target::Nodes(_)) | Err(Reported { .. }) => &[],
        }
    }

    /// Where the link leads, for the place of a fault.
    pub(crate) fn to(&self) -> &Value<'c> {
        self.section.get("to").unwrap_or(self.section.at())
    }

    /// The link's own limit. At it the link loses its own oldest: it must not stop the others.
    pub(crate) fn limit(&self, spool: &SpoolSettings) -> Checked<(Option<u64>, WhenFull)> {
        match (self.max_size?, self.when_full?) {
            (None, None) => Ok((None, spool.when_full)),
            (None, Some(_)) => {
                let mend = "add the link's own `max_size`, or set it under `spool`";
                Err(self.fault_at("when_full", "says nothing without a `max_size`", mend))
            }
            (Some(bytes), _) if bytes > spool.max_size_bytes.unwrap_or(SPOOL_BYTES_UNLESS_SAID) => {
                let message = "is more than the whole spool may hold, so it would never count";
                Err(self.fault_at("max_size", message, "lower it, or raise the spool's `max_size`"))
            }
            (Some(_), Some(WhenFull::Refuse)) => {
                let message =
                    "would let one link stop the others: at its own limit a link loses its own oldest";
                let mend = "write `drop_oldest`, or set `when_full: refuse` under `spool`";
                Err(self.fault_at("when_full", message, mend))
            }
            (Some(bytes), _) => Ok((Some(bytes), WhenFull::DropOldest)),
        }
    }

    fn fault_at(&self, key: &str, message: &str, mend: &str) -> Reported {
        self.section.at().fault_at(key, message, mend)
    }

    pub(crate) fn takes_what_is_left(&self) -> bool {
        match &self.patterns {
            Ok(patterns) => patterns.is_empty() || patterns.iter().any(Pattern::matches_all),
            // What a faulty `match` would take is not known.
            Err(Reported { .. }) => true,
        }
    }
}

fn target<'c>(at: &Value<'c>) -> Checked<Target<'c>> {
    let Node::List(_) = at.node() else {
        return one_target(at);
    };
    let items = at.items("name agents in failover order, such as [eu-a, eu-b]")?;
    let nodes = every(items.iter().map(|item| match one_target(item)? {
        Target::Nodes(mut nodes) => Ok(nodes.remove(0)),
        Target::Graphite(_) => {
            Err(item.fault("is a URL in a failover list", "write one link for each Graphite"))
        }
    }))?;
    for (index, (name, at)) in nodes.iter().enumerate() {
        if nodes[..index].iter().any(|(earlier, _)| earlier == name) {
            return Err(at.fault(format!("`{}` is named twice", plain(name)), "keep one of the two"));
        }
    }
    Ok(Target::Nodes(nodes))
}

fn one_target<'c>(at: &Value<'c>) -> Checked<Target<'c>> {
    let text = at.text()?;
    at.parse(|text| match addresses::split_scheme(text)? {
        None => Ok(None),
        Some(("graphite", _)) => addresses::graphite(text).map(Some),
        Some(("stomp" | "stomp+tls", _)) => Err(broker_by_url()),
        Some((scheme, _)) => Err(Complaint::new(
            format!("{}:// is not spoken here", plain(scheme)),
            "name a broker, an agent or graphite://HOST:PORT",
        )),
    })
    .map(|endpoint| endpoint.map_or_else(|| Target::Nodes(vec![(text, at.clone())]), Target::Graphite))
}

/// The name of a node to fetch from.
pub(crate) fn node_name<'c>(at: &Value<'c>) -> Checked<&'c str> {
    let name = at.text()?;
    at.parse(|text| match addresses::split_scheme(text)? {
        None => Ok(name),
        Some(("stomp" | "stomp+tls", _)) => Err(broker_by_url()),
        Some((scheme, _)) => Err(Complaint::new(
            format!("nothing is fetched over {}://", plain(scheme)),
            "name a broker or an agent",
        )),
    })
}

fn broker_by_url() -> Complaint {
    Complaint::new(
        "a STOMP broker is not named by its URL",
        "declare it under `brokers`, with its `urls`, and write its name here",
    )
}

fn name(section: &Section<'_>, target: &Checked<Target<'_>>) -> Checked<String> {
    match (section.get("name"), target) {
        (Some(at), _) => at.name(),
        (None, Ok(Target::Nodes(nodes))) => {
            // A list of targets is never empty.
            Ok(nodes.first().map_or_else(String::new, |(name, _)| (*name).to_owned()))
        }
        (None, Ok(Target::Graphite(_))) => Err(section.at().fault_at(
            "name",
            "is missing",
            "name each link to a URL: its backlog and its metrics go by that name",
        )),
        (None, Err(reported)) => Err(*reported),
    }
}

fn check_options(section: &Section<'_>, target: &Target<'_>) {
    let (misfits, far_end): (&[_], _) = match target {
        Target::Nodes(_) => (&GRAPHITE_ONLY, "a STOMP upstream"),
        Target::Graphite(_) => (&STOMP_ONLY, "a Graphite"),
    };
    for at in misfits.iter().filter_map(|key| section.get(key)) {
        at.fault(format!("says nothing to {far_end}"), "remove the key");
    }
}

/// One pattern or a list of them.
fn patterns(at: &Value<'_>) -> Checked<Vec<Pattern>> {
    let one = |at: &Value<'_>| {
        at.parse(|text| {
            Pattern::parse(text)
                .map_err(|error| Complaint::new(format!("`{}` {}", plain(text), error.reason), error.mend))
        })
    };
    match at.node() {
        Node::List(_) => every(at.items("write patterns such as [cpu.*, disk.**]")?.iter().map(one)),
        _ => Ok(vec![one(at)?]),
    }
}

/// A STOMP destination: no blanks, since ActiveMQ trims them.
pub(crate) fn destination(at: &Value<'_>) -> Checked<String> {
    let text = at.text()?;
    if text.contains(char::is_whitespace) {
        return Err(at.fault(format!("`{}` holds a blank", plain(text)), "write it like /queue/graphite"));
    }
    Ok(text.to_owned())
}

/// What a link names with `queue`: of several queues one, since another name would be one that is mistyped.
fn carried(at: &Value<'_>, queues: &[Queue]) -> Checked<String> {
    if queues.len() > 1 { queues::known(at, queues) } else { destination(at) }
}

fn encoding(at: &Value<'_>) -> Checked<Encoding> {
    at.choice(&[("plain", Encoding::Plain), ("zstd", Encoding::Zstd)])
}

/// The links of one agent have different names.
pub(crate) fn check_names(links: &[LinkDraft<'_>]) {
    let mut first: HashMap<&str, &LinkDraft<'_>> = HashMap::new();
    for link in links {
        let Ok(name) = &link.name else { continue };
        match first.get(name.as_str()) {
            None => {
                first.insert(name, link);
            }
            Some(earlier) => {
                let by = earlier.section.at();
                let message = format!("`{name}` is the name of {}{} too", by.path(), by.on_line());
                link.fault_at("name", &message, "give each link a `name` of its own");
            }
        }
    }
}

#[cfg(test)]
mod tests;
