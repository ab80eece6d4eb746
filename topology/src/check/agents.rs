//! Agents, as far as each can be read without looking at the others.

use super::book::{Checked, by_ref};
use super::collects::{self, CollectDraft};
use super::dialled::Dialled;
use super::limits;
use super::links::{self, LinkDraft};
use super::listeners::{Guards, Listener, Listeners};
use super::machines;
use super::section::Section;
use super::spools::Spool;
use super::tls::{self, NodeTls};
use super::upstreams::Upstreams;
use super::users::{self, UserDraft};
use super::value::Value;
use crate::model::{Agent, Limits, Listen, Queue};
use crate::names::plain;
use crate::raw::Node;

const KEYS: [&str; 11] =
    ["region", "host", "open", "listen", "tls", "users", "limits", "spool", "forward", "collect", "serve"];
const FORWARD_MEND: &str = "write { to: NAME }, or a list of such links";

/// An agent whose links do not lead anywhere yet.
pub(crate) struct AgentDraft<'c> {
    pub(crate) name: &'c str,
    pub(crate) host: Checked<Option<String>>,
    pub(crate) listeners: Checked<Listeners<'c>>,
    pub(crate) spool: Checked<Spool<'c>>,
    pub(crate) links: Vec<LinkDraft<'c>>,
    pub(crate) collects: Vec<CollectDraft<'c>>,
    pub(crate) tls: Checked<Option<NodeTls>>,
    pub(crate) users: Checked<Vec<UserDraft<'c>>>,
    pub(crate) serve: Checked<Option<bool>>,
    limits: Checked<Option<Limits>>,
    forward_at: Option<Value<'c>>,
    region: Checked<Option<String>>,
}

impl<'c> AgentDraft<'c> {
    pub(crate) fn read(name: &'c str, at: &Value<'c>, queues: &[Queue]) -> Checked<AgentDraft<'c>> {
        let section = Section::open(at.clone(), &KEYS)?;
        let region = section.read("region", Value::text);
        let host = section.read("host", machines::host);
        let listeners = Listeners::of_agent(&section, name);
        let tls = section.read("tls", tls::node);
        let users = section.read("users", |at| users::read(at, queues)).map(Option::unwrap_or_default);
        let serve = section.read("serve", Value::flag);
        if let Ok(listeners) = &listeners {
            let certificates = tls::asks_for_certificates(&tls);
            if let Ok(open) = section.read("open", Value::flag) {
                let guards = Guards { users: section.get("users").is_some(), certificates };
                listeners.check_open(open.unwrap_or(false), guards);
            }
            if let Ok(tls) = &tls {
                listeners.check_tls(&section, tls.as_ref());
            }
            check_users(&section, listeners, users.as_deref().unwrap_or_default(), certificates);
            if let Some(at) =
                section.get("serve").filter(|_| serve == Ok(Some(true)) && !listeners.has_stomp())
            {
                at.fault("says nothing without a STOMP listener", "add `stomp` or `stomp+tls` to `listen`");
            }
        }
        let collects = section.read("collect", |at| collects::read(at, queues));
        let spool = Spool::read(&section, name);
        let links = section.read("forward", |at| forward(at, queues)).map(Option::unwrap_or_default);
        // With a faulty link it is not known what is carried.
        let forward_at = section.get("forward").filter(|_| matches!(&links, Ok((_, true)))).cloned();
        Ok(AgentDraft {
            name,
            host,
            listeners,
            spool,
            links: links.map(|(links, _)| links).unwrap_or_default(),
            collects: collects.ok().flatten().unwrap_or_default(),
            tls,
            users,
            serve,
            limits: section.read("limits", limits::read),
            forward_at,
            region: region.map(|region| region.map(str::to_owned)),
        })
    }

    /// The agent, with its links leading somewhere.
    pub(crate) fn finish(&self, upstreams: &Upstreams<'_, 'c>) -> Checked<Agent> {
        let forward = upstreams.links(self);
        let collect = upstreams.collects(self);
        let users = upstreams.users(self);
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
                stomp_tls: addr(&listeners.stomp_tls)?,
                graphite: addr(&listeners.graphite)?,
                graphite_tls: addr(&listeners.graphite_tls)?,
                http: addr(&listeners.http)?,
                https: addr(&listeners.https)?,
            },
            tls: by_ref(&self.tls)?.as_ref().and_then(NodeTls::server),
            users: users?,
            limits: self.limits?.unwrap_or_default(),
            spool: by_ref(&self.spool)?.settings.clone(),
            forward: forward?,
            collect: collect?,
            serve: self.serves(upstreams.dialled)?,
        })
    }

    /// Whether its queues have subscribers: somebody subscribes, nothing else takes them away, or it is said.
    fn serves(&self, dialled: &Dialled<'_>) -> Checked<bool> {
        Ok(self.serve?.unwrap_or(false) || self.links.is_empty() || dialled.is_drained(self.name))
    }

    /// Every queue has somewhere to go, and so has every metric of it.
    pub(crate) fn check_queues(&self, queues: &[Queue], dialled: &Dialled<'_>) {
        let Some(at) = self.forward_at.as_ref().filter(|_| !self.links.is_empty()) else { return };
        // Subscribers take everything that comes.
        if self.serves(dialled) != Ok(false) {
            return;
        }
        for (number, queue) in queues.iter().enumerate() {
            let carrying: Vec<_> =
                self.links.iter().filter(|link| link.carries(queue, number == 0, queues)).collect();
            if carrying.is_empty() {
                at.fault(
                    format!("no link carries the queue `{}`", plain(&queue.name)),
                    "add a link without `queue`, or one with this queue, or `serve: true`",
                );
            }
            if !carrying.is_empty() && !carrying.iter().any(|link| link.takes_what_is_left()) {
                let carries = match queues.len() {
                    1 => String::new(),
                    _ => format!(" that carries `{}`", plain(&queue.name)),
                };
                at.fault(
                    format!(
                        "each link{carries} has a `match`, and metrics that match none would have nowhere to go"
                    ),
                    "add a link without `match`, or one with `match: \"**\"`",
                );
            }
        }
    }
}

/// Users stand at a STOMP listener, and certificates at one that asks for them.
fn check_users(
    agent: &Section<'_>,
    listeners: &Listeners<'_>,
    users: &[UserDraft<'_>],
    asks_for_certificates: bool,
) {
    let stomp_tls = !matches!(listeners.stomp_tls, Ok(None));
    if let Some(at) = agent.get("users").filter(|_| !listeners.has_stomp()) {
        at.fault("says nothing without a STOMP listener", "add `stomp` or `stomp+tls` to `listen`");
    }
    for at in users.iter().filter_map(|user| user.certificate.as_ref()) {
        if !(stomp_tls && asks_for_certificates) {
            at.fault(
                "no listener asks for a client certificate",
                "add `stomp+tls` to `listen`, and `client_ca` to the agent's `tls`",
            );
        }
    }
}

/// One link, or a list of links; and whether all could be read.
fn forward<'c>(at: &Value<'c>, queues: &[Queue]) -> Checked<(Vec<LinkDraft<'c>>, bool)> {
    let links = match at.node() {
        Node::List(list) if list.is_empty() => Vec::new(),
        Node::List(_) => at.items(FORWARD_MEND)?,
        _ => vec![at.clone()],
    };
    let drafts: Vec<_> = links.iter().filter_map(|link| LinkDraft::read(link, queues).ok()).collect();
    links::check_names(&drafts);
    let are_all = drafts.len() == links.len();
    Ok((drafts, are_all))
}
