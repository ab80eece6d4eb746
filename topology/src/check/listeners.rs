//! Listeners: where a node lets others in. Each needs a port of its own, and `open: true` if others than
//! the own machine can reach it.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::addresses::{self, GRAPHITE_PORT, HTTP_PORT, STOMP_PORT};
use super::book::Checked;
use super::machines::Machine;
use super::section::Section;
use super::value::Value;

/// One listener, and where the file says so.
#[derive(Clone)]
pub(crate) struct Listener<'c> {
    at: Value<'c>,
    owner: &'c str,
    /// Which one it is, if it is there by default and the file says nothing about it.
    default: Option<&'static str>,
    pub(crate) addr: SocketAddr,
}

/// The listeners of one node; a faulty one is in the book.
pub(crate) struct Listeners<'c> {
    pub(crate) stomp: Checked<Option<Listener<'c>>>,
    pub(crate) graphite: Checked<Option<Listener<'c>>>,
    pub(crate) http: Checked<Option<Listener<'c>>>,
}

impl<'c> Listeners<'c> {
    /// Those of an agent; without `listen`, all three on loopback.
    pub(crate) fn of_agent(agent: &Section<'c>, owner: &'c str) -> Checked<Listeners<'c>> {
        let Some(at) = agent.get("listen") else {
            let on_loopback = |key, port| {
                let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
                Ok(Some(Listener { at: agent.at().clone(), owner, default: Some(key), addr }))
            };
            return Ok(Listeners {
                stomp: on_loopback("stomp", STOMP_PORT),
                graphite: on_loopback("graphite", GRAPHITE_PORT),
                http: on_loopback("http", HTTP_PORT),
            });
        };
        let section = Section::open(at.clone(), &["stomp", "graphite", "http"])?;
        if section.get("stomp").is_none() && section.get("graphite").is_none() {
            let mend = "add `stomp: 127.0.0.1:61613` or `graphite: 127.0.0.1:2003`";
            at.fault("names no listener that takes metrics in", mend);
        }
        Ok(Listeners {
            stomp: read(&section, owner, "stomp"),
            graphite: read(&section, owner, "graphite"),
            http: read(&section, owner, "http"),
        })
    }

    /// Those of a consumer: HTTP, if any.
    pub(crate) fn of_consumer(consumer: &Section<'c>, owner: &'c str) -> Checked<Listeners<'c>> {
        let http = consumer.read("listen", |at| {
            let section = Section::open(at.clone(), &["http"])?;
            read(&section, owner, "http")
        });
        Ok(Listeners { stomp: Ok(None), graphite: Ok(None), http: http.map(Option::flatten) })
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Listener<'c>> {
        [&self.stomp, &self.graphite, &self.http]
            .into_iter()
            .filter_map(|listener| listener.as_ref().ok()?.as_ref())
    }

    /// Without `open: true` everything listens on loopback.
    pub(crate) fn check_open(&self, open: bool) {
        for listener in self.all().filter(|listener| !open && !listener.is_loopback()) {
            let message = format!("{} can be reached from other machines, by anybody", listener.addr);
            let mend = format!("listen on 127.0.0.1, or say `open: true` for `{}`", listener.owner);
            listener.at.fault(message, mend);
        }
    }
}

fn read<'c>(section: &Section<'c>, owner: &'c str, key: &'static str) -> Checked<Option<Listener<'c>>> {
    section.read(key, |at| {
        let addr = at.parse(addresses::listen)?;
        Ok(Listener { at: at.clone(), owner, default: None, addr })
    })
}

impl Listener<'_> {
    pub(crate) fn is_loopback(&self) -> bool {
        self.ip().is_loopback()
    }

    pub(crate) fn ip(&self) -> IpAddr {
        self.addr.ip().to_canonical()
    }

    fn note(&self) -> String {
        self.default.map_or_else(String::new, |key| format!(" ({key}, by default)"))
    }

    /// Whether both cannot be bound on one machine. An unspecified address stands for all of them, those
    /// of the other IP version included, which is how Linux binds `[::]`.
    fn collides(&self, other: &Listener<'_>) -> bool {
        self.addr.port() == other.addr.port()
            && (self.ip() == other.ip() || self.ip().is_unspecified() || other.ip().is_unspecified())
    }
}

/// Finds the ports that are taken twice on one machine.
#[derive(Default)]
pub(crate) struct Ports<'c> {
    taken: HashMap<(Machine, u16), Vec<Listener<'c>>>,
}

impl<'c> Ports<'c> {
    /// Takes the ports of a node, unless its own faults hide where or on what it listens.
    pub(crate) fn take(&mut self, host: &Checked<Option<String>>, listeners: &Checked<Listeners<'c>>) {
        let (Ok(host), Ok(listeners)) = (host, listeners) else {
            return;
        };
        let machine = Machine::of(host.as_deref());
        for listener in listeners.all() {
            let taken = self.taken.entry((machine.clone(), listener.addr.port())).or_default();
            match taken.iter().find(|earlier| earlier.collides(listener)) {
                Some(earlier) => taken_twice(listener, earlier, &machine),
                None => taken.push(listener.clone()),
            }
        }
    }
}

fn taken_twice(listener: &Listener<'_>, earlier: &Listener<'_>, machine: &Machine) {
    let port = listener.addr.port();
    let (by, on_line) = (earlier.at.path(), earlier.at.on_line());
    let taken = format!("port {port}{} is taken by {by}{}{on_line}", listener.note(), earlier.note());
    if listener.owner == earlier.owner {
        listener.at.fault(taken, "give one of them another port");
    } else if *machine == Machine::Unnamed {
        listener.at.fault(
            format!("{taken}; nodes without `host` count as one machine"),
            "give one of them another port, or each its own `host`",
        );
    } else {
        listener.at.fault(format!("{taken}, on the same host"), "give one of them another port");
    }
}

#[cfg(test)]
mod tests {
    use crate::tests::{agent, check, check_agent};

    #[test]
    fn a_listen_means_exactly_what_it_names() {
        let listen = agent("listen: { stomp: 127.0.0.1:7 }").listen;
        assert_eq!(
            (listen.stomp.map(|addr| addr.port()), listen.graphite, listen.http),
            (Some(7), None, None)
        );
    }

    #[test]
    fn an_agent_takes_something_in() {
        let rest = "names no listener that takes metrics in; add `stomp: 127.0.0.1:61613` or `graphite: 127.0.0.1:2003`";
        check_agent("listen: { http: 127.0.0.1:1 }", &format!("line 4: agents.a.listen: {rest}"));
        check_agent("listen:", &format!("line 4: agents.a.listen: {rest}"));
    }

    #[test]
    fn beyond_loopback_needs_open() {
        let fault = |key, addr| {
            format!(
                "line 4: agents.a.listen.{key}: {addr} can be reached from other machines, by anybody; \
                 listen on 127.0.0.1, or say `open: true` for `a`"
            )
        };
        let all = "listen: { stomp: 0.0.0.0:1, graphite: 192.0.2.1:2, http: '[::]:3' }";
        let expected =
            [fault("stomp", "0.0.0.0:1"), fault("graphite", "192.0.2.1:2"), fault("http", "[::]:3")];
        check_agent(all, &expected.join("\n"));
        check_agent(&format!("open: false, {all}"), &expected.join("\n"));
        agent(&format!("open: true, {all}"));
        agent("listen: { stomp: '[::1]:1', graphite: 127.1.2.3:2, http: '[::ffff:127.0.0.1]:3' }");
    }

    #[test]
    fn a_consumer_beyond_loopback_needs_open_too() {
        let text = |open| {
            format!(
                "mesh: m\nbrokers: {{ eu: {{ urls: [stomp://mq] }} }}\nconsumers:\n  \
                 c: {{ from: eu, graphite: [g], {open} listen: {{ http: 0.0.0.0:1 }} }}"
            )
        };
        check(
            &text(""),
            "line 4: consumers.c.listen.http: 0.0.0.0:1 can be reached from other machines, by anybody; \
             listen on 127.0.0.1, or say `open: true` for `c`",
        );
        assert!(crate::Topology::parse(&text("open: true,")).is_ok());
    }

    #[test]
    fn one_agent_has_a_port_once() {
        check_agent(
            "listen: { stomp: 127.0.0.1:1, http: 127.0.0.1:1 }",
            "line 4: agents.a.listen.http: port 1 is taken by agents.a.listen.stomp on line 4; \
             give one of them another port",
        );
        agent("listen: { stomp: 127.0.0.1:1, http: '[::1]:1' }");
    }

    fn two(a: &str, b: &str) -> String {
        format!("mesh: m\nagents:\n  a: {{ open: true, {a} }}\n  b: {{ open: true, {b} }}\n")
    }

    #[test]
    fn agents_of_one_host_share_its_ports() {
        let on = |host: &str, addr: &str| format!("host: {host}, listen: {{ stomp: '{addr}' }}");
        let taken = "line 4: agents.b.listen.stomp: port 1 is taken by agents.a.listen.stomp on line 3, on the same host; \
                     give one of them another port";
        check(&two(&on("x", "10.0.0.1:1"), &on("x", "10.0.0.1:1")), taken);
        check(&two(&on("x", "0.0.0.0:1"), &on("X.", "10.0.0.1:1")), taken);
        check(&two(&on("x", "127.0.0.1:1"), &on("x", "[::]:1")), taken);
        for (a, b) in
            [(on("x", "10.0.0.1:1"), on("x", "10.0.0.2:1")), (on("x", "0.0.0.0:1"), on("y", "0.0.0.0:1"))]
        {
            assert!(crate::Topology::parse(&two(&a, &b)).is_ok());
        }
    }

    #[test]
    fn agents_without_host_count_as_one_machine() {
        let on = |port| format!("listen: {{ stomp: 127.0.0.1:{port} }}");
        let rest = "nodes without `host` count as one machine; give one of them another port, or each its own `host`";
        check(
            &two(&on(1), &on(1)),
            &format!(
                "line 4: agents.b.listen.stomp: port 1 is taken by agents.a.listen.stomp on line 3; {rest}"
            ),
        );
        check(
            &two("host: localhost", &on(2003)),
            &format!(
                "line 4: agents.b.listen.stomp: port 2003 is taken by agents.a (graphite, by default) on line 3; {rest}"
            ),
        );
        assert!(crate::Topology::parse(&two(&on(1), &on(2))).is_ok());
        assert!(crate::Topology::parse(&two("host: x", &on(2003))).is_ok());
    }
}
