//! Agents, as far as each can be read without looking at the others.

use super::book::{Checked, by_ref};
use super::links::{self, LinkDraft};
use super::listeners::{Listener, Listeners};
use super::machines;
use super::section::Section;
use super::spools::Spool;
use super::upstreams::Upstreams;
use super::value::Value;
use crate::model::{Agent, Listen};
use crate::raw::Node;

const KEYS: [&str; 6] = ["region", "host", "open", "listen", "spool", "forward"];
const FORWARD_MEND: &str = "write { to: NAME }, or a list of such links";

/// An agent whose links do not lead anywhere yet.
pub(crate) struct AgentDraft<'c> {
    pub(crate) name: &'c str,
    pub(crate) host: Checked<Option<String>>,
    pub(crate) listeners: Checked<Listeners<'c>>,
    pub(crate) spool: Checked<Spool<'c>>,
    pub(crate) links: Vec<LinkDraft<'c>>,
    region: Checked<Option<String>>,
}

impl<'c> AgentDraft<'c> {
    pub(crate) fn read(name: &'c str, at: &Value<'c>) -> Checked<AgentDraft<'c>> {
        let section = Section::open(at.clone(), &KEYS)?;
        let region = section.read("region", Value::text);
        let host = section.read("host", machines::host);
        let listeners = Listeners::of_agent(&section, name);
        if let (Ok(open), Ok(listeners)) = (section.read("open", Value::flag), &listeners) {
            listeners.check_open(open.unwrap_or(false));
        }
        let spool = Spool::read(&section, name);
        let links = section.read("forward", forward);
        Ok(AgentDraft {
            name,
            host,
            listeners,
            spool,
            links: links.ok().flatten().unwrap_or_default(),
            region: region.map(|region| region.map(str::to_owned)),
        })
    }

    /// The agent, with its links leading somewhere.
    pub(crate) fn finish(&self, upstreams: &Upstreams<'_, 'c>) -> Checked<Agent> {
        let forward = upstreams.links(self);
        let listeners = by_ref(&self.listeners)?;
        let addr = |listener: &Checked<Option<Listener<'c>>>| {
            Ok(by_ref(listener)?.as_ref().map(|listener| listener.addr))
        };
        Ok(Agent {
            name: self.name.to_owned(),
            region: self.region.clone()?,
            host: self.host.clone()?,
            listen: Listen {
                stomp: addr(&listeners.stomp)?,
                graphite: addr(&listeners.graphite)?,
                http: addr(&listeners.http)?,
            },
            spool: by_ref(&self.spool)?.settings.clone(),
            forward: forward?,
        })
    }
}

/// One link, or a list of links.
fn forward<'c>(at: &Value<'c>) -> Checked<Vec<LinkDraft<'c>>> {
    let links = match at.node() {
        Node::List(list) if list.is_empty() => Vec::new(),
        Node::List(_) => at.items(FORWARD_MEND)?,
        _ => vec![at.clone()],
    };
    let drafts: Vec<_> = links.iter().filter_map(|link| LinkDraft::read(link).ok()).collect();
    links::check_names(&drafts);
    links::check_patterns(at, &drafts);
    Ok(drafts)
}
