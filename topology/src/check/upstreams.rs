//! Where links lead: names become addresses, so that nobody else looks anything up.

use std::collections::HashMap;

use super::admission::{self, Doing};
use super::agents::AgentDraft;
use super::book::{Checked, Reported, by_ref, every};
use super::brokers::VHOST;
use super::collects::{self, CollectDraft};
use super::dialled::Dialled;
use super::links::{LinkDraft, Target, destination, node_name};
use super::queues;
use super::reach::reach;
use super::roster::{Kind, Roster};
use super::value::Value;
use crate::model::{
    Collect, Encoding, Endpoint, GraphiteUpstream, Link, Queue, StompUpstream, TlsClient, Upstream, User,
};
use crate::names::plain;

/// Connections of a link straight into Graphite that names no number.
const CONNECTIONS: usize = 2;

/// The nodes that a link or a consumer may name.
pub(crate) struct Upstreams<'m, 'c> {
    pub(crate) roster: &'m Roster<'c>,
    pub(crate) brokers: HashMap<&'c str, Checked<&'m StompUpstream>>,
    pub(crate) agents: HashMap<&'c str, Checked<&'m AgentDraft<'c>>>,
    /// The destination of everything that names none.
    pub(crate) queue: &'m str,
    /// All queues of the mesh, which are those that an agent takes.
    pub(crate) queues: &'m [Queue],
    pub(crate) dialled: &'m Dialled<'c>,
}

/// Who dials, and how.
pub(crate) struct Dialling<'a> {
    pub(crate) node: &'a str,
    pub(crate) host: Option<&'a str>,
    /// Whom the node believes and who it is, unless said otherwise.
    pub(crate) own: Option<&'a TlsClient>,
    /// What was said for this link, and where, unless that is for a listener too.
    pub(crate) said: Option<&'a TlsClient>,
    pub(crate) said_at: Option<&'a Value<'a>>,
    pub(crate) prefer_first: Option<bool>,
}

impl<'c> Upstreams<'_, 'c> {
    /// The links of an agent, with the addresses of the nodes they lead to.
    pub(crate) fn links(&self, agent: &AgentDraft<'c>) -> Checked<Vec<Link>> {
        every(agent.links.iter().map(|link| self.link(agent, link)))
    }

    /// What an agent collects, with the addresses of the nodes it dials.
    pub(crate) fn collects(&self, agent: &AgentDraft<'c>) -> Checked<Vec<Collect>> {
        collects::check_names(&agent.links, &agent.collects);
        every(agent.collects.iter().map(|collect| self.collect(agent, collect)))
    }

    /// The users of an agent; each that is a node dials it.
    pub(crate) fn users(&self, agent: &AgentDraft<'c>) -> Checked<Vec<User>> {
        let drafts = by_ref(&agent.users)?;
        every(drafts.iter().map(|draft| {
            if let Some((node, at)) = &draft.node
                && !self.dialled.dials(node, agent.name)
            {
                let (node, here) = (plain(node), agent.name);
                let message = format!(
                    "no node `{node}` dials `{here}`: none forwards to it, collects from it or drains it"
                );
                return Err(at.fault(message, "name the one that does in `node`, or remove the role"));
            }
            draft.finish()
        }))
    }

    /// The node that a consumer drains.
    pub(crate) fn drained(
        &self,
        at: &Value<'c>,
        dialling: &Dialling<'_>,
    ) -> Checked<(&'c str, StompUpstream)> {
        let name = node_name(at)?;
        let drained = self.node(at, name, dialling)?;
        check_said(dialling, name, &drained)?;
        Ok((name, drained))
    }

    /// The queue that is fetched from a node: an agent has those of the mesh, and a broker any.
    pub(crate) fn fetched(&self, queue: Option<&Value<'c>>, from: &str, is_agent: bool) -> Checked<String> {
        let Some(at) = queue else { return Ok(self.queue.to_owned()) };
        let queue = destination(at)?;
        if is_agent && !queues::has(self.queues, &queue) {
            return Err(self.not_taken(at, from));
        }
        Ok(queue)
    }

    fn link(&self, agent: &AgentDraft<'c>, link: &LinkDraft<'c>) -> Checked<Link> {
        let upstream = match &link.target {
            Ok(Target::Graphite(endpoint)) => graphite(link, endpoint).map(Upstream::Graphite),
            Ok(Target::Nodes(nodes)) => self.stomp(agent, link, nodes).map(Upstream::Stomp),
            Err(reported) => Err(*reported),
        };
        let limit = by_ref(&agent.spool).and_then(|spool| link.limit(&spool.settings));
        let (max_size_bytes, when_full) = limit?;
        let upstream = upstream?;
        let is_agent = matches!(&upstream, Upstream::Stomp(upstream) if upstream.is_agent);
        let usual = if is_agent { Encoding::Zstd } else { Encoding::Plain };
        Ok(Link {
            name: link.name.clone()?,
            to: link.nodes().map(str::to_owned).collect(),
            upstream,
            patterns: link.patterns.clone()?,
            queues: link.queues(self.queues)?,
            encoding: link.encoding?.unwrap_or(usual),
            max_size_bytes,
            when_full,
        })
    }

    fn stomp(
        &self,
        agent: &AgentDraft<'c>,
        link: &LinkDraft<'c>,
        nodes: &[(&'c str, Value<'c>)],
    ) -> Checked<StompUpstream> {
        if let Some((name, at)) = nodes.iter().find(|(name, _)| *name == agent.name) {
            let mend = "name the broker or agent that comes next";
            return Err(at.fault(format!("`{name}` would forward to itself"), mend));
        }
        let (host, tls) = (agent.host.clone()?, by_ref(&agent.tls)?);
        let dialling = Dialling {
            node: agent.name,
            host: host.as_deref(),
            own: tls.as_ref().map(|tls| &tls.client),
            said: by_ref(&link.tls)?.as_ref(),
            said_at: link.section.get("tls"),
            prefer_first: link.prefer_first?,
        };
        let each = every(nodes.iter().map(|(name, at)| self.node(at, name, &dialling)))?;
        let mut upstream = join(nodes, each)?;
        let first = nodes.first().map_or("", |(name, _)| name);
        check_said(&dialling, first, &upstream)?;
        if let (true, Ok(Some(queue)), Some(at)) = (upstream.is_agent, &link.queue, link.section.get("queue"))
            && !queues::has(self.queues, queue)
        {
            return Err(self.not_taken(at, first));
        }
        let credentials = link.credentials.clone()?;
        credentials.override_in(&mut upstream, &link.section)?;
        let carried = link.queues(self.queues)?;
        for (name, at) in nodes {
            let destinations = carried.iter().map(|carried| &*carried.destination);
            self.check_admission(at, name, &upstream, Doing::Send, destinations);
        }
        Ok(upstream)
    }

    /// An agent takes the queues of the mesh and no other destination.
    fn not_taken(&self, at: &Value<'_>, agent: &str) -> Reported {
        let mend = if self.queues.len() == 1 { "remove the key" } else { "name one of these" };
        let listed = queues::listed(self.queues);
        at.fault(format!("agent `{}` takes {listed} and no other destination", plain(agent)), mend)
    }

    fn collect(&self, agent: &AgentDraft<'c>, collect: &CollectDraft<'c>) -> Checked<Collect> {
        if collect.from == agent.name {
            let message = format!("`{}` would collect from itself", agent.name);
            return Err(collect.from_at.fault(message, "name another node"));
        }
        let queue = match by_ref(&collect.queue)? {
            Some(queue) => queue.clone(),
            None => self.queue.to_owned(),
        };
        let (host, tls) = (agent.host.clone()?, by_ref(&agent.tls)?);
        let dialling = Dialling {
            node: agent.name,
            host: host.as_deref(),
            own: tls.as_ref().map(|tls| &tls.client),
            said: by_ref(&collect.tls)?.as_ref(),
            said_at: collect.section.as_ref().and_then(|section| section.get("tls")),
            prefer_first: collect.prefer_first?,
        };
        let mut upstream = self.node(&collect.from_at, collect.from, &dialling)?;
        check_said(&dialling, collect.from, &upstream)?;
        if let Some(section) = &collect.section {
            collect.credentials.clone()?.override_in(&mut upstream, section)?;
        }
        let queues = std::iter::once(&*queue);
        self.check_admission(&collect.from_at, collect.from, &upstream, Doing::Subscribe, queues);
        Ok(Collect { name: collect.name.clone()?, from: collect.from.to_owned(), upstream, queue })
    }

    /// Whether the node `name`, if it is an agent, lets in what is entered as `link` says.
    pub(crate) fn check_admission<'q>(
        &self,
        at: &Value<'c>,
        name: &str,
        link: &StompUpstream,
        doing: Doing,
        queues: impl Iterator<Item = &'q str>,
    ) {
        if let Some(Ok(agent)) = self.agents.get(name) {
            admission::check(at, agent, link, doing, queues);
        }
    }

    /// How to reach a node, of whichever kind.
    fn node(&self, at: &Value<'c>, name: &str, dialling: &Dialling<'_>) -> Checked<StompUpstream> {
        let mut upstream = match (self.brokers.get(name), self.agents.get(name)) {
            (Some(broker), _) => (*broker)?.clone(),
            (None, Some(next)) => agent((*next)?, dialling, at)?,
            (None, None) => {
                return Err(self.roster.missing(at, name, &[Kind::Broker, Kind::Agent], dialling.node));
            }
        };
        if let Some(theirs) = upstream.tls.take() {
            let said = dialling.said.cloned().unwrap_or_default();
            let own = dialling.own.cloned().unwrap_or_default();
            // A broker that asks for certificates may have other authorities than the mesh.
            let own_identity = own.identity.filter(|_| upstream.is_agent);
            upstream.tls = Some(TlsClient {
                ca: said.ca.or(theirs.ca).or(own.ca),
                identity: said.identity.or(theirs.identity).or(own_identity),
            });
        }
        upstream.prefer_first = dialling.prefer_first.unwrap_or(upstream.prefer_first);
        Ok(upstream)
    }
}

/// What is said of TLS is said to somebody who speaks it.
fn check_said(dialling: &Dialling<'_>, name: &str, upstream: &StompUpstream) -> Checked<()> {
    let (Some(at), None) = (dialling.said_at, &upstream.tls) else { return Ok(()) };
    let name = plain(name);
    let mend = if upstream.is_agent {
        format!("add `stomp+tls: 0.0.0.0:61614` to the `listen` of `{name}`, or remove the key")
    } else {
        "write stomp+tls:// in its `urls`, or remove the key".to_owned()
    };
    Err(at.fault(format!("says nothing to `{name}`, which is not reached over TLS"), mend))
}

/// An agent, as another node dials it: over TLS where it can be.
fn agent(next: &AgentDraft<'_>, dialling: &Dialling<'_>, at: &Value<'_>) -> Checked<StompUpstream> {
    let (endpoint, is_tls) = reach(next, dialling, at)?;
    Ok(StompUpstream {
        endpoints: vec![endpoint],
        vhost: VHOST.to_owned(),
        login: None,
        passcode_file: None,
        send_headers: Vec::new(),
        subscribe_headers: Vec::new(),
        tls: is_tls.then(TlsClient::default),
        prefer_first: false,
        is_agent: true,
    })
}

/// Several agents in failover order, as one upstream.
fn join(nodes: &[(&str, Value<'_>)], each: Vec<StompUpstream>) -> Checked<StompUpstream> {
    let mut each = each.into_iter().zip(nodes);
    let Some((mut joined, (first, first_at))) = each.next() else {
        // A list of targets is never empty; an upstream without an address reaches nobody.
        return Err(nodes[0].1.fault("names nobody", "name a broker or an agent"));
    };
    if nodes.len() > 1 && !joined.is_agent {
        let message = format!("`{}` is a broker in a failover list", plain(first));
        return Err(first_at.fault(message, "a broker has its own list: name it alone, with all its `urls`"));
    }
    for (upstream, (name, at)) in each {
        if !upstream.is_agent {
            let message = format!("`{}` is a broker in a failover list", plain(name));
            return Err(at.fault(message, "a broker has its own list: name it alone, with all its `urls`"));
        }
        if upstream.tls != joined.tls {
            let message = format!("`{}` and `{}` are not both reached over TLS", plain(first), plain(name));
            return Err(at.fault(message, "give both a `stomp+tls` listener, or neither"));
        }
        joined.endpoints.extend(upstream.endpoints);
    }
    Ok(joined)
}

fn graphite(link: &LinkDraft<'_>, endpoint: &Endpoint) -> Checked<GraphiteUpstream> {
    Ok(GraphiteUpstream {
        endpoints: vec![endpoint.clone()],
        connections: link.connections?.unwrap_or(CONNECTIONS),
        confirm: link.confirm?,
    })
}

#[cfg(test)]
mod tests;
