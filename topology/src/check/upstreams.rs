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
mod tests {
    use crate::Topology;
    use std::path::Path;

    use crate::model::{Encoding, Mesh, StompUpstream, Upstream};
    use crate::tests::{check, check_agent};

    /// `a` on line 3 forwards to `b` on line 4.
    fn two(a: &str, b: &str) -> String {
        format!(
            "mesh: m\nagents:\n  a: {{ listen: {{ graphite: 127.0.0.1:1 }}, {a} forward: {{ to: b }} }}\n  b: {{ open: true, {b} }}\n"
        )
    }

    #[test]
    fn an_agent_does_not_forward_to_itself() {
        check_agent(
            "forward: { to: a }",
            "line 4: agents.a.forward.to: `a` would forward to itself; name the broker or agent that comes next",
        );
    }

    #[test]
    fn an_agent_takes_the_queue_of_the_mesh_only() {
        let text = |queue| {
            format!(
                "mesh: m\nagents:\n  a: {{ host: x, forward: {{ to: b, queue: {queue} }} }}\n  \
                     b: {{ host: y, open: true, listen: {{ stomp: 0.0.0.0:7 }} }}\n"
            )
        };
        check(
            &text("/queue/other"),
            "line 3: agents.a.forward.queue: agent `b` takes `/queue/graphite` and no other destination; remove the key",
        );
        assert!(Topology::parse(&text("/queue/graphite")).is_ok());
    }

    /// `a` on line 4 dials; `eu` and `us` are brokers over TLS and in the clear, `b`, `c` and `d` agents.
    fn dialled(a: &str) -> String {
        let tls = "tls: { cert: /b.pem, key: /b.key }";
        format!(
            "mesh: m
brokers: {{ eu: {{ urls: [stomp+tls://mq], tls: {{ ca: /eu.pem }} }}, us: {{ urls: [stomp://mq] }} }}
agents:
  a: {{ host: a, listen: {{ stomp: 127.0.0.1:1 }}, {a} }}
  b: {{ host: b, open: true, listen: {{ stomp+tls: 0.0.0.0:8 }}, {tls} }}
  c: {{ host: c, open: true, listen: {{ stomp+tls: 0.0.0.0:8 }}, {tls} }}
  d: {{ host: d, open: true, listen: {{ stomp: 0.0.0.0:7 }} }}
  e: {{ host: e, open: true, listen: {{ stomp: 0.0.0.0:7 }} }}
"
        )
    }

    fn mesh(a: &str) -> Mesh {
        Topology::parse(&dialled(a)).unwrap_or_else(|faults| panic!("{faults}"))
    }

    fn upstream(a: &str) -> StompUpstream {
        let link = mesh(a).agents.remove(0).forward.remove(0);
        let Upstream::Stomp(upstream) = link.upstream else { panic!() };
        upstream
    }

    fn check_endpoints(to: &str, expected: &[&str]) {
        let endpoints = upstream(&format!("forward: {{ to: {to} }}")).endpoints;
        assert_eq!(endpoints.iter().map(ToString::to_string).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_link_may_have_agents_in_failover_order() {
        check_endpoints("[d, e]", &["d:7", "e:7"]);
        check_endpoints("[c, b]", &["c:8", "b:8"]);
        check_endpoints("[d]", &["d:7"]);
        let link = mesh("forward: { to: [d, e], prefer_first: true }").agents.remove(0).forward.remove(0);
        assert_eq!((&*link.name, &*link.to), ("d", &["d".to_owned(), "e".to_owned()][..]));
        assert!(upstream("forward: { to: [d, e], prefer_first: true }").prefer_first);
        assert!(!upstream("forward: { to: [d, e] }").prefer_first);
    }

    #[test]
    fn a_failover_list_is_of_agents() {
        let check_to = |to: &str, expected: &str| {
            check(
                &dialled(&format!("forward: {{ to: {to}, name: x }}")),
                &format!("line 4: agents.a.forward.to{expected}"),
            );
        };
        let broker =
            "is a broker in a failover list; a broker has its own list: name it alone, with all its `urls`";
        check_to("[us, d]", &format!("[0]: `us` {broker}"));
        check_to("[d, us]", &format!("[1]: `us` {broker}"));
        check_to("[d, graphite://g]", "[1]: is a URL in a failover list; write one link for each Graphite");
        check_to("[d, d]", "[1]: `d` is named twice; keep one of the two");
        check_to("[]", ": is an empty list; name agents in failover order, such as [eu-a, eu-b]");
        check_to("[d, a]", "[1]: `a` would forward to itself; name the broker or agent that comes next");
        check_to(
            "[d, f]",
            "[1]: no broker or agent is called `f`; declare it under `brokers` or `agents`, or name one that is there, such as `eu`, `us`, `b`, `c`, `d`",
        );
        check_to(
            "[b, d]",
            "[1]: `b` and `d` are not both reached over TLS; give both a `stomp+tls` listener, or neither",
        );
    }

    /// The CA and the certificate that are used.
    fn check_tls(a: &str, expected: (Option<&str>, Option<&str>)) {
        let tls = upstream(a).tls.unwrap();
        let cert = tls.identity.map(|identity| identity.cert);
        assert_eq!(
            (tls.ca.as_deref(), cert.as_deref()),
            (expected.0.map(Path::new), expected.1.map(Path::new)),
            "{a}"
        );
    }

    #[test]
    fn what_is_said_nearest_counts_over_tls() {
        check_tls("forward: { to: b }", (None, None));
        let own = "tls: { ca: /a.ca, cert: /a.pem, key: /a.key }";
        check_tls(&format!("{own}, forward: {{ to: b }}"), (Some("/a.ca"), Some("/a.pem")));
        check_tls(&format!("{own}, forward: {{ to: b, tls: {{ ca: /l }} }}"), (Some("/l"), Some("/a.pem")));
        check_tls(
            &format!("{own}, forward: {{ to: b, tls: {{ cert: /l, key: /k }} }}"),
            (Some("/a.ca"), Some("/l")),
        );
        // A broker is shown no certificate that was not meant for it.
        check_tls(&format!("{own}, forward: {{ to: eu }}"), (Some("/eu.pem"), None));
        check_tls("forward: { to: eu, tls: { cert: /l, key: /k } }", (Some("/eu.pem"), Some("/l")));
        check_tls("forward: { to: eu, tls: { ca: /l } }", (Some("/l"), None));
        let consumer = "consumers: { x: { from: eu, graphite: [g], tls: { cert: /x, key: /k } } }";
        let broker = Topology::parse(&format!("{}{consumer}", dialled("region: x")))
            .unwrap()
            .consumers
            .remove(0)
            .broker;
        let tls = broker.tls.unwrap();
        assert_eq!(
            (tls.ca.as_deref(), &*tls.identity.unwrap().cert),
            (Some(Path::new("/eu.pem")), Path::new("/x"))
        );
    }

    #[test]
    fn tls_is_said_to_who_speaks_it() {
        let agent = "says nothing to `d`, which is not reached over TLS; add `stomp+tls: 0.0.0.0:61614` to the `listen` of `d`, \
                     or remove the key";
        let broker = "says nothing to `us`, which is not reached over TLS; write stomp+tls:// in its `urls`, or remove the key";
        for (settings, expected) in [
            ("forward: { to: d, tls: { ca: /x } }", format!("forward.tls: {agent}")),
            ("forward: { to: [d, e], tls: { ca: /x } }", format!("forward.tls: {agent}")),
            ("collect: { from: d, tls: { ca: /x } }", format!("collect.tls: {agent}")),
            ("collect: { from: us, tls: { ca: /x } }", format!("collect.tls: {broker}")),
        ] {
            check(&dialled(settings), &format!("line 4: agents.a.{expected}"));
        }
        let consumer = |rest| {
            format!(
                "{}consumers: {{ x: {{ from: us, graphite: [g], tls: {{ cert: /x, key: /k }}, {rest} }} }}",
                dialled("region: x")
            )
        };
        check(&consumer("queue: /q"), &format!("line 9: consumers.x.tls: {broker}"));
        assert!(Topology::parse(&consumer("listen: { https: 127.0.0.1:1 }")).is_ok());
    }

    #[test]
    fn agents_are_sent_what_is_stored() {
        let encoding =
            |link: &str| mesh(&format!("forward: {{ {link} }}")).agents.remove(0).forward.remove(0).encoding;
        assert_eq!(encoding("to: d"), Encoding::Zstd);
        assert_eq!(encoding("to: d, encoding: zstd"), Encoding::Zstd);
        assert_eq!(encoding("to: d, encoding: plain"), Encoding::Plain);
        assert_eq!(encoding("to: us"), Encoding::Plain);
        assert_eq!(encoding("to: graphite://g, name: g"), Encoding::Plain);
    }

    #[test]
    fn a_consumer_drains_what_an_agent_has() {
        let text = |queue: &str| {
            format!("{}consumers: {{ x: {{ from: d, graphite: [g], {queue} }} }}", dialled("region: x"))
        };
        let consumer = Topology::parse(&text("confirm: kernel")).unwrap().consumers.remove(0);
        assert_eq!(
            (&*consumer.from, consumer.broker.is_agent, &*consumer.queue),
            ("d", true, "/queue/graphite")
        );
        check(
            &text("queue: /queue/other"),
            "line 9: consumers.x.queue: agent `d` takes `/queue/graphite` and no other destination; remove the key",
        );
        let secret = "mesh: m\nconsumers: { x: { from: 'stomp://me:geheim@mq', graphite: [g] } }";
        check(
            secret,
            "line 2: consumers.x.from: a login inside an address ends up in logs and process lists; remove it, and use \
             `login` and `passcode_file`",
        );
    }

    /// One fault of a node is not told again by everybody who leads there.
    #[test]
    fn a_faulty_node_is_told_once() {
        let rest = "`x` is no IP address and port; write it like 0.0.0.0:61613, or \"[::]:61613\" in quotes";
        check(&two("", "listen: { stomp: x }"), &format!("line 4: agents.b.listen.stomp: {rest}"));
        check(
            "mesh: m\nbrokers: { eu: 7 }\nagents: { a: { forward: { to: eu } } }",
            "line 2: brokers.eu: is the number 7, and a map is wanted; write a map with keys like `urls`, `vhost`, \
             `login`, `passcode_file`, `tls`, `prefer_first`, `headers`",
        );
        check(
            "mesh: m\nagents: { a: { forward: { to: b } }, b: [] }",
            "line 2: agents.b: is a list, and a map is wanted; write a map with keys like `region`, `host`, `open`, \
             `listen`, `tls`, `users`, `limits`, `spool`, `forward`, `collect`, `serve`",
        );
    }
}
