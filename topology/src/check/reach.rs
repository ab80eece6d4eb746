//! How one node reaches the STOMP listener of an agent. Nothing is resolved here.

use super::agents::AgentDraft;
use super::book::{Checked, by_ref};
use super::machines::Machine;
use super::upstreams::Dialling;
use super::value::Value;
use crate::model::Endpoint;

/// Where a node finds the STOMP listener of the agent `next`, the one over TLS if there is one. On one machine
/// that may be loopback; from elsewhere it is the `host` of `next`, or else the one address it listens on.
pub(crate) fn reach(
    next: &AgentDraft<'_>,
    dialling: &Dialling<'_>,
    at: &Value<'_>,
) -> Checked<(Endpoint, bool)> {
    let name = next.name;
    let listeners = by_ref(&next.listeners)?;
    let over_tls = listeners.stomp_tls.clone()?;
    let is_tls = over_tls.is_some();
    let Some(listener) = over_tls.or(listeners.stomp.clone()?) else {
        let message = format!("agent `{name}` has no stomp listener");
        return Err(at.fault(message, format!("add `stomp: 0.0.0.0:61613` to the `listen` of `{name}`")));
    };
    let host = next.host.clone()?;
    let machine = Machine::of(host.as_deref());
    let same_machine = machine == Machine::of(dialling.host);
    let port = listener.addr.port();
    let by_ip = Endpoint { host: listener.ip().to_string(), port };

    if listener.is_loopback() {
        if same_machine {
            return Ok((by_ip, is_tls));
        }
        let message = format!("agent `{name}` takes STOMP on {} only, on another machine", listener.addr);
        let mend = format!("let `{name}` listen on 0.0.0.0:{port}, with `users` or `open: true`");
        return Err(at.fault(message, mend));
    }
    match host {
        Some(host) if same_machine || machine != Machine::Unnamed => Ok((Endpoint { host, port }, is_tls)),
        _ if !listener.ip().is_unspecified() => Ok((by_ip, is_tls)),
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
    use crate::tests::check;

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
             on 0.0.0.0:7, with `users` or `open: true`",
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

    /// Over TLS, so that the other one may be for this machine only.
    #[test]
    fn an_agent_is_reached_over_tls_where_it_can_be() {
        let tls = "tls: { cert: /c, key: /k }";
        let both = format!("host: b.net, listen: {{ stomp: 127.0.0.1:7, stomp+tls: 0.0.0.0:8 }}, {tls}");
        check_reach("host: a.net,", &both, "b.net:8");
        check_reach("host: b.net,", &both, "b.net:8");
        check_reach("", &format!("listen: {{ stomp+tls: 127.0.0.1:8 }}, {tls}"), "127.0.0.1:8");
        check(
            &two(
                "host: a.net,",
                &format!("host: b.net, listen: {{ stomp: 0.0.0.0:7, stomp+tls: 127.0.0.1:8 }}, {tls}"),
            ),
            "line 3: agents.a.forward.to: agent `b` takes STOMP on 127.0.0.1:8 only, on another machine; let `b` listen \
             on 0.0.0.0:8, with `users` or `open: true`",
        );
    }

    #[test]
    fn who_is_fetched_from_is_reached_alike() {
        let text = |fetch| {
            format!(
                "mesh: m\nagents:\n  b: {{ host: b.net, open: true, listen: {{ graphite: 0.0.0.0:7 }} }}\n{fetch}\n"
            )
        };
        let rest = "agent `b` has no stomp listener; add `stomp: 0.0.0.0:61613` to the `listen` of `b`";
        check(&text("  a: { collect: b }"), &format!("line 4: agents.a.collect: {rest}"));
        check(
            &text("consumers: { c: { from: b, graphite: [g] } }"),
            &format!("line 4: consumers.c.from: {rest}"),
        );
    }
}
