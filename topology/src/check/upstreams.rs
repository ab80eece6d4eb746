//! Where links lead: names become addresses, so that nobody else looks anything up.

use std::collections::HashMap;

use super::agents::AgentDraft;
use super::book::{Checked, by_ref, every};
use super::brokers::VHOST;
use super::links::{LinkDraft, Target};
use super::machines::Machine;
use super::roster::{Kind, Roster};
use super::value::Value;
use crate::model::{Encoding, Endpoint, GraphiteUpstream, Link, StompUpstream, Upstream};

/// Connections of a link straight into Graphite that names no number.
const CONNECTIONS: usize = 2;

/// The nodes that a link or a consumer may name.
pub(crate) struct Upstreams<'m, 'c> {
    pub(crate) roster: &'m Roster<'c>,
    pub(crate) brokers: HashMap<&'c str, Checked<&'m StompUpstream>>,
    pub(crate) agents: HashMap<&'c str, Checked<&'m AgentDraft<'c>>>,
    /// The destination of everything that names none, and the only one that an agent takes.
    pub(crate) queue: &'m str,
}

impl<'c> Upstreams<'_, 'c> {
    /// The links of an agent, with the addresses of the nodes they lead to.
    pub(crate) fn links(&self, agent: &AgentDraft<'c>) -> Checked<Vec<Link>> {
        every(agent.links.iter().map(|link| self.link(agent, link)))
    }

    /// The broker that a consumer drains.
    pub(crate) fn broker(&self, at: &Value<'c>, consumer: &str) -> Checked<(&'c str, StompUpstream)> {
        let name = at.text()?;
        match self.brokers.get(name) {
            Some(broker) => Ok((name, (*broker)?.clone())),
            None => Err(self.roster.missing(at, name, &[Kind::Broker], consumer)),
        }
    }

    fn link(&self, agent: &AgentDraft<'c>, link: &LinkDraft<'c>) -> Checked<Link> {
        let upstream = match &link.target {
            Ok(Target::Graphite(endpoint)) => graphite(link, endpoint).map(Upstream::Graphite),
            Ok(Target::Node(name)) => self.stomp(agent, link, name).map(Upstream::Stomp),
            Err(reported) => Err(*reported),
        };
        let limit = by_ref(&agent.spool).and_then(|spool| link.limit(&spool.settings));
        let (max_size_bytes, when_full) = limit?;
        Ok(Link {
            name: link.name.clone()?,
            upstream: upstream?,
            patterns: link.patterns.clone()?,
            queue: link.queue.clone()?.unwrap_or_else(|| self.queue.to_owned()),
            encoding: link.encoding?,
            max_size_bytes,
            when_full,
        })
    }

    fn stomp(&self, agent: &AgentDraft<'c>, link: &LinkDraft<'c>, name: &str) -> Checked<StompUpstream> {
        let mut upstream = match (self.brokers.get(name), self.agents.get(name)) {
            (Some(broker), _) => (*broker)?.clone(),
            (None, Some(_)) if name == agent.name => {
                let mend = "name the broker or agent that comes next";
                return Err(link.to().fault(format!("`{name}` would forward to itself"), mend));
            }
            (None, Some(next)) => self.agent((*next)?, agent, link)?,
            (None, None) => {
                return Err(self.roster.missing(link.to(), name, &[Kind::Broker, Kind::Agent], agent.name));
            }
        };
        let credentials = link.credentials.clone()?;
        credentials.override_in(&mut upstream, &link.section)?;
        Ok(upstream)
    }

    fn agent(
        &self,
        next: &AgentDraft<'c>,
        agent: &AgentDraft<'c>,
        link: &LinkDraft<'c>,
    ) -> Checked<StompUpstream> {
        if let (Ok(Some(queue)), Some(at)) = (&link.queue, link.section.get("queue"))
            && queue != self.queue
        {
            let message = format!("agent `{}` takes `{}` and no other destination", next.name, self.queue);
            at.fault(message, "remove the key");
        }
        if let (Ok(Encoding::Zstd), Some(at)) = (&link.encoding, link.section.get("encoding")) {
            let message = format!("agent `{}` does not take zstd bodies in this version", next.name);
            at.fault(message, "remove the key");
        }
        Ok(StompUpstream {
            endpoints: vec![reach(next, agent, link.to())?],
            vhost: VHOST.to_owned(),
            login: None,
            passcode_file: None,
            send_headers: Vec::new(),
            subscribe_headers: Vec::new(),
        })
    }
}

fn graphite(link: &LinkDraft<'_>, endpoint: &Endpoint) -> Checked<GraphiteUpstream> {
    Ok(GraphiteUpstream {
        endpoints: vec![endpoint.clone()],
        connections: link.connections?.unwrap_or(CONNECTIONS),
        confirm: link.confirm?,
    })
}

/// Where `agent` finds the STOMP listener of the agent `next`. On one machine that may be loopback; from
/// elsewhere it is the `host` of `next`, or else the one address it listens on.
fn reach(next: &AgentDraft<'_>, agent: &AgentDraft<'_>, at: &Value<'_>) -> Checked<Endpoint> {
    let name = next.name;
    let listeners = by_ref(&next.listeners)?;
    let Some(listener) = listeners.stomp.clone()? else {
        let message = format!("agent `{name}` has no stomp listener");
        return Err(at.fault(message, format!("add `stomp: 0.0.0.0:61613` to the `listen` of `{name}`")));
    };
    let (host, own_host) = (next.host.clone()?, agent.host.clone()?);
    let machine = Machine::of(host.as_deref());
    let same_machine = machine == Machine::of(own_host.as_deref());
    let port = listener.addr.port();
    let by_ip = Endpoint { host: listener.ip().to_string(), port };

    if listener.is_loopback() {
        if same_machine {
            return Ok(by_ip);
        }
        let message = format!("agent `{name}` takes STOMP on {} only, on another machine", listener.addr);
        let mend = format!("let `{name}` listen on 0.0.0.0:{port} with `open: true`");
        return Err(at.fault(message, mend));
    }
    match host {
        Some(host) if same_machine || machine != Machine::Unnamed => Ok(Endpoint { host, port }),
        _ if !listener.ip().is_unspecified() => Ok(by_ip),
        _ => {
            let message = format!("nobody knows how to reach agent `{name}`");
            Err(at.fault(message, format!("give `{name}` a `host`, the name that others reach it by")))
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::Topology;
    use crate::model::Upstream;
    use crate::tests::{check, check_agent};

    /// `a` on line 3 forwards to `b` on line 4.
    fn two(a: &str, b: &str) -> String {
        format!(
            "mesh: m\nagents:\n  a: {{ listen: {{ graphite: 127.0.0.1:1 }}, {a} forward: {{ to: b }} }}\n  b: {{ open: true, {b} }}\n"
        )
    }

    fn check_reach(a: &str, b: &str, expected: &str) {
        let mesh = Topology::parse(&two(a, b)).unwrap_or_else(|faults| panic!("{faults}"));
        let Upstream::Stomp(upstream) = &mesh.agents[0].forward[0].upstream else { panic!() };
        let endpoints: Vec<_> = upstream.endpoints.iter().map(ToString::to_string).collect();
        assert_eq!(endpoints, [expected]);
    }

    #[test]
    fn an_agent_is_reached_by_its_host_and_stomp_port() {
        check_reach("", "host: b.net, listen: { stomp: 0.0.0.0:7 }", "b.net:7");
        check_reach("host: a.net,", "host: b.net, listen: { stomp: '[::]:7' }", "b.net:7");
        check_reach("host: b.net,", "host: b.net, listen: { stomp: 0.0.0.0:7 }", "b.net:7");
        check_reach("host: a.net,", "host: '2001:db8::1', listen: { stomp: '[::]:7' }", "[2001:db8::1]:7");
        check_reach("host: a.net,", "listen: { stomp: 192.0.2.7:7 }", "192.0.2.7:7");
    }

    #[test]
    fn an_agent_of_the_same_machine_is_reached_on_loopback() {
        check_reach("", "listen: { stomp: 127.0.0.1:7 }", "127.0.0.1:7");
        check_reach("", "region: default-listeners", "127.0.0.1:61613");
        check_reach("host: b.net,", "host: b.net, listen: { stomp: '[::1]:7' }", "[::1]:7");
        check_reach("", "host: localhost, listen: { stomp: 0.0.0.0:7 }", "localhost:7");
    }

    #[test]
    fn an_agent_on_loopback_is_not_reached_from_elsewhere() {
        check(
            &two("host: a.net,", "host: b.net, listen: { stomp: 127.0.0.1:7 }"),
            "line 3: agents.a.forward.to: agent `b` takes STOMP on 127.0.0.1:7 only, on another machine; let `b` listen \
             on 0.0.0.0:7 with `open: true`",
        );
    }

    #[test]
    fn an_agent_without_host_is_not_reached() {
        let expected = "line 3: agents.a.forward.to: nobody knows how to reach agent `b`; give `b` a `host`, the name that \
                        others reach it by";
        check(&two("host: a.net,", "listen: { stomp: 0.0.0.0:7 }"), expected);
        check(&two("", "listen: { stomp: 0.0.0.0:7 }"), expected);
        check(&two("host: a.net,", "host: localhost, listen: { stomp: 0.0.0.0:7 }"), expected);
    }

    #[test]
    fn an_agent_without_a_stomp_listener_is_not_reached() {
        check(
            &two("", "host: b.net, listen: { graphite: 0.0.0.0:7 }"),
            "line 3: agents.a.forward.to: agent `b` has no stomp listener; add `stomp: 0.0.0.0:61613` to the `listen` of `b`",
        );
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

    /// One fault of a node is not told again by everybody who leads there.
    #[test]
    fn a_faulty_node_is_told_once() {
        let rest = "`x` is no IP address and port; write it like 0.0.0.0:61613, or \"[::]:61613\" in quotes";
        check(&two("", "listen: { stomp: x }"), &format!("line 4: agents.b.listen.stomp: {rest}"));
        check(
            "mesh: m\nbrokers: { eu: 7 }\nagents: { a: { forward: { to: eu } } }",
            "line 2: brokers.eu: is the number 7, and a map is wanted; write a map with keys like `urls`, `vhost`, \
             `login`, `passcode_file`, `headers`",
        );
        check(
            "mesh: m\nagents: { a: { forward: { to: b } }, b: [] }",
            "line 2: agents.b: is a list, and a map is wanted; write a map with keys like `region`, `host`, `open`, \
             `listen`, `spool`, `forward`",
        );
    }
}
