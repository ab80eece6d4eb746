//! Listeners: where a node lets others in. Each needs a port of its own, and `open: true` if others than
//! the own machine can reach it.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::addresses::{self, GRAPHITE_PORT, HTTP_PORT, STOMP_PORT};
use super::book::Checked;
use super::machines::Machine;
use super::section::Section;
use super::tls::NodeTls;
use super::value::Value;

const STOMP_TLS: &str = "stomp+tls";
const AGENT_KEYS: [&str; 6] = ["stomp", STOMP_TLS, "graphite", "graphite+tls", "http", "https"];
const WAYS_IN: [&str; 4] = ["stomp", STOMP_TLS, "graphite", "graphite+tls"];

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
    pub(crate) stomp_tls: Checked<Option<Listener<'c>>>,
    pub(crate) graphite: Checked<Option<Listener<'c>>>,
    pub(crate) graphite_tls: Checked<Option<Listener<'c>>>,
    pub(crate) http: Checked<Option<Listener<'c>>>,
    pub(crate) https: Checked<Option<Listener<'c>>>,
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
                stomp_tls: Ok(None),
                graphite: on_loopback("graphite", GRAPHITE_PORT),
                graphite_tls: Ok(None),
                http: on_loopback("http", HTTP_PORT),
                https: Ok(None),
            });
        };
        let section = Section::open(at.clone(), &AGENT_KEYS)?;
        if WAYS_IN.iter().all(|key| section.get(key).is_none()) && agent.get("collect").is_none() {
            let mend = "add `stomp: 127.0.0.1:61613` or `graphite: 127.0.0.1:2003`";
            at.fault("names no listener that takes metrics in", mend);
        }
        Ok(Listeners {
            stomp: read(&section, owner, "stomp"),
            stomp_tls: read(&section, owner, STOMP_TLS),
            graphite: read(&section, owner, "graphite"),
            graphite_tls: read(&section, owner, "graphite+tls"),
            http: read(&section, owner, "http"),
            https: read(&section, owner, "https"),
        })
    }

    /// Those of a consumer: HTTP, if any.
    pub(crate) fn of_consumer(consumer: &Section<'c>, owner: &'c str) -> Checked<Listeners<'c>> {
        let (mut http, mut https) = (Ok(None), Ok(None));
        if let Some(at) = consumer.get("listen") {
            let section = Section::open(at.clone(), &["http", "https"])?;
            (http, https) = (read(&section, owner, "http"), read(&section, owner, "https"));
        }
        let none = || Ok(None);
        Ok(Listeners {
            stomp: none(),
            stomp_tls: none(),
            graphite: none(),
            graphite_tls: none(),
            http,
            https,
        })
    }

    /// All that could be read.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Listener<'c>> {
        self.in_clear().into_iter().chain(self.over_tls()).filter_map(found)
    }

    fn in_clear(&self) -> [&Checked<Option<Listener<'c>>>; 3] {
        [&self.stomp, &self.graphite, &self.http]
    }

    fn over_tls(&self) -> [&Checked<Option<Listener<'c>>>; 3] {
        [&self.stomp_tls, &self.graphite_tls, &self.https]
    }

    /// Without `open: true` everything listens on loopback but what is guarded: STOMP by `users`, and what is
    /// over TLS by certificates of clients.
    pub(crate) fn check_open(&self, open: bool, guards: Guards) {
        let by_users = [&self.stomp, &self.stomp_tls];
        let by_certificates = self.over_tls();
        let is_among = |listener: &Listener<'_>, group: &[&Checked<Option<Listener<'_>>>]| {
            group.iter().filter_map(|one| found(one)).any(|one| std::ptr::eq(one, listener))
        };
        for listener in self.all().filter(|listener| !open && !listener.is_loopback()) {
            let users_could = is_among(listener, &by_users);
            let certificates_could = is_among(listener, &by_certificates);
            if users_could && guards.users || certificates_could && guards.certificates {
                continue;
            }
            let owner = listener.owner;
            let mut message = format!("{} can be reached from other machines, by anybody", listener.addr);
            if guards.users {
                message.push_str(", for `users` guard STOMP only");
            }
            let guard = match (users_could, certificates_could) {
                (true, true) => format!("give `{owner}` `users` or a `tls.client_ca`, "),
                (true, false) => format!("give `{owner}` `users`, "),
                (false, true) => format!("give `{owner}` a `tls.client_ca`, "),
                (false, false) => String::new(),
            };
            let mend = format!("listen on 127.0.0.1, {guard}or say `open: true` for `{owner}`");
            listener.at.fault(message, mend);
        }
    }

    /// Each TLS listener has a certificate to show, and `client_ca` a listener that asks for certificates.
    pub(crate) fn check_tls(&self, node: &Section<'c>, tls: Option<&NodeTls>) {
        let over_tls: Vec<_> = self.over_tls().into_iter().filter_map(found).collect();
        if let (Some(at), Some(NodeTls { client_ca: Some(_), .. }), []) =
            (node.get("tls"), tls, &over_tls[..])
            && self.over_tls().iter().all(|listener| listener.is_ok())
        {
            let key = if node.get("from").is_some() { "https" } else { STOMP_TLS };
            let mend = format!("add `{key}` to `listen`, or remove the key");
            at.fault_at("client_ca", "says nothing without a TLS listener", mend);
        }
        if tls.is_none_or(|tls| tls.client.identity.is_none()) {
            for listener in over_tls {
                let owner = listener.owner;
                let mend = format!(
                    "add `tls: {{ cert: /etc/packetboat/{owner}.pem, key: /etc/packetboat/{owner}.key }}` to `{owner}`"
                );
                listener.at.fault("has no certificate to show", mend);
            }
        }
    }

    pub(crate) fn has_https(&self) -> bool {
        !matches!(self.https, Ok(None))
    }

    /// Whether anybody can speak STOMP to it.
    pub(crate) fn has_stomp(&self) -> bool {
        !matches!((&self.stomp, &self.stomp_tls), (Ok(None), Ok(None)))
    }
}

/// What keeps strangers out. What a faulty key would say is not known, and counts as if it did.
#[derive(Clone, Copy)]
pub(crate) struct Guards {
    /// Each has a passcode or a certificate.
    pub(crate) users: bool,
    /// TLS listeners ask clients for one.
    pub(crate) certificates: bool,
}

fn found<'l, 'c>(listener: &'l Checked<Option<Listener<'c>>>) -> Option<&'l Listener<'c>> {
    listener.as_ref().ok()?.as_ref()
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

    /// Where the file says so.
    pub(crate) fn place(&self) -> String {
        format!("{}{}", self.at.path(), self.note())
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
        agent("listen: { graphite+tls: 127.0.0.1:1 }, tls: { cert: /c, key: /k }");
        agent("listen: { http: 127.0.0.1:1 }, collect: eu, serve: false");
    }

    fn not_open(key: &str, addr: &str, why: &str, guard: &str) -> String {
        format!(
            "line 4: agents.a.listen.{key}: {addr} can be reached from other machines, by anybody{why}; \
             listen on 127.0.0.1, {guard}or say `open: true` for `a`"
        )
    }

    const TLS: &str = "listen: { stomp+tls: 0.0.0.0:1, graphite+tls: 0.0.0.0:2, https: 0.0.0.0:3, stomp: 0.0.0.0:4, http: 0.0.0.0:5 }, \
         tls: { cert: /c, key: /k";

    #[test]
    fn users_guard_stomp_only() {
        let users = "users: { x: { passcode_hash_file: /x } }";
        let why = ", for `users` guard STOMP only";
        let expected = [
            not_open("http", "0.0.0.0:5", why, ""),
            not_open("graphite+tls", "0.0.0.0:2", why, "give `a` a `tls.client_ca`, "),
            not_open("https", "0.0.0.0:3", why, "give `a` a `tls.client_ca`, "),
        ];
        check_agent(&format!("{TLS} }}, {users}"), &expected.join("\n"));
        agent(&format!("listen: {{ stomp: 0.0.0.0:1 }}, {users}"));
    }

    #[test]
    fn certificates_guard_what_is_over_tls() {
        let expected =
            [not_open("stomp", "0.0.0.0:4", "", "give `a` `users`, "), not_open("http", "0.0.0.0:5", "", "")];
        check_agent(&format!("{TLS}, client_ca: /ca }}"), &expected.join("\n"));
        let open = not_open("stomp+tls", "0.0.0.0:1", "", "give `a` `users` or a `tls.client_ca`, ");
        check_agent("listen: { stomp+tls: 0.0.0.0:1 }, tls: { cert: /c, key: /k }", &open);
        agent(
            "listen: { stomp+tls: 0.0.0.0:1, https: 0.0.0.0:2 }, tls: { cert: /c, key: /k, client_ca: /ca }",
        );
    }

    #[test]
    fn beyond_loopback_needs_open() {
        let all = "listen: { stomp: 0.0.0.0:1, graphite: 192.0.2.1:2, http: '[::]:3' }";
        let expected = [
            not_open("stomp", "0.0.0.0:1", "", "give `a` `users`, "),
            not_open("graphite", "192.0.2.1:2", "", ""),
            not_open("http", "[::]:3", "", ""),
        ];
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
        check_agent(
            "listen: { stomp: 127.0.0.1:1, stomp+tls: 127.0.0.1:1 }, tls: { cert: /c, key: /k }",
            "line 4: agents.a.listen.stomp+tls: port 1 is taken by agents.a.listen.stomp on line 4; \
             give one of them another port",
        );
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
