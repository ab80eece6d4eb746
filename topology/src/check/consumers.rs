//! Consumers: the pools that drain a broker or an agent into Graphite.

use super::admission::Doing;
use super::book::{Checked, by_ref, every};
use super::credentials::Credentials;
use super::listeners::{Guards, Listener, Listeners};
use super::section::Section;
use super::tls::{self, NodeTls};
use super::upstreams::{Dialling, Upstreams};
use super::value::Value;
use super::{addresses, graphite, machines};
use crate::model::{Consumer, Endpoint, GraphiteUpstream, Queue};
use crate::raw::Node;

const KEYS: [&str; 12] = [
    "from",
    "graphite",
    "connections",
    "confirm",
    "queue",
    "login",
    "passcode_file",
    "tls",
    "prefer_first",
    "host",
    "open",
    "listen",
];
const GRAPHITE_MEND: &str = "write a list such as [127.0.0.1:2003]";

/// Connections of a consumer that names no number.
const CONNECTIONS: usize = 4;

/// A consumer that is not known yet where it fetches from.
pub(crate) struct ConsumerDraft<'c> {
    pub(crate) host: Checked<Option<String>>,
    pub(crate) listeners: Checked<Listeners<'c>>,
    pub(crate) name: &'c str,
    tls: Checked<Option<NodeTls>>,
    credentials: Checked<Credentials>,
    prefer_first: Checked<Option<bool>>,
    section: Section<'c>,
    from: Checked<Value<'c>>,
    graphite: Checked<GraphiteUpstream>,
}

impl<'c> ConsumerDraft<'c> {
    pub(crate) fn read(name: &'c str, at: &Value<'c>) -> Checked<ConsumerDraft<'c>> {
        let section = Section::open(at.clone(), &KEYS)?;
        let listeners = Listeners::of_consumer(&section, name);
        let tls = section.read("tls", tls::node);
        if let Ok(listeners) = &listeners {
            let guards = Guards { users: false, certificates: tls::asks_for_certificates(&tls) };
            if let Ok(open) = section.read("open", Value::flag) {
                listeners.check_open(open.unwrap_or(false), guards);
            }
            if let Ok(tls) = &tls {
                listeners.check_tls(&section, tls.as_ref());
            }
        }
        Ok(ConsumerDraft {
            host: section.read("host", machines::host),
            listeners,
            name,
            tls,
            credentials: Credentials::read(&section),
            prefer_first: section.read("prefer_first", Value::flag),
            from: section.need("from", "name the broker or agent to drain", |at| Ok(at.clone())),
            graphite: pool(&section),
            section,
        })
    }

    /// The node that it drains, by name.
    pub(crate) fn from(&self) -> Option<&'c str> {
        match self.from.as_ref().ok()?.node() {
            Node::Text(name) => Some(name),
            _ => None,
        }
    }

    /// The queue that it drains, as far as it can be read.
    pub(crate) fn queue<'q>(&'q self, queues: &'q [Queue]) -> Option<&'q str> {
        match self.section.get("queue").map(Value::node) {
            Some(Node::Text(name)) => Some(name),
            Some(_) => None,
            None => queues.first().map(|queue| &*queue.name),
        }
    }

    /// Where it writes to.
    pub(crate) fn endpoints(&self) -> &[Endpoint] {
        self.graphite.as_ref().map_or(&[], |graphite| &graphite.endpoints)
    }

    /// Where it says so.
    pub(crate) fn graphite_at(&self) -> &Value<'c> {
        self.section.get("graphite").unwrap_or(self.section.at())
    }

    /// The consumer, with the node it drains.
    pub(crate) fn finish(&self, upstreams: &Upstreams<'_, 'c>) -> Checked<Consumer> {
        let listeners = by_ref(&self.listeners)?;
        let addr = |listener: &Checked<Option<Listener<'c>>>| {
            Ok(by_ref(listener)?.as_ref().map(|listener| listener.addr))
        };
        let tls = by_ref(&self.tls)?;
        let dialling = Dialling {
            node: self.name,
            host: by_ref(&self.host)?.as_deref(),
            own: None,
            said: tls.as_ref().map(|tls| &tls.client),
            said_at: self.section.get("tls").filter(|_| !listeners.has_https()),
            prefer_first: self.prefer_first?,
        };
        let from_at = by_ref(&self.from)?;
        let (from, mut broker) = upstreams.drained(from_at, &dialling)?;
        let queue = upstreams.fetched(self.section.get("queue"), from, broker.is_agent);
        self.credentials.clone()?.override_in(&mut broker, &self.section)?;
        let queue = queue?;
        upstreams.check_admission(from_at, from, &broker, Doing::Subscribe, std::iter::once(&*queue));
        Ok(Consumer {
            name: self.name.to_owned(),
            from: from.to_owned(),
            broker,
            queue,
            graphite: self.graphite.clone()?,
            http: addr(&listeners.http)?,
            https: addr(&listeners.https)?,
            tls: tls.as_ref().and_then(NodeTls::server),
        })
    }
}

fn pool(section: &Section<'_>) -> Checked<GraphiteUpstream> {
    let endpoints = section.need("graphite", GRAPHITE_MEND, |at| {
        every(at.items(GRAPHITE_MEND)?.iter().map(|item| item.parse(addresses::graphite)))
    });
    let connections = section.read("connections", graphite::connections);
    let confirm = graphite::confirm(section);
    Ok(GraphiteUpstream {
        endpoints: endpoints?,
        connections: connections?.unwrap_or(CONNECTIONS),
        confirm: confirm?,
    })
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::path::Path;

    use crate::Topology;
    use crate::model::GraphiteConfirm;
    use crate::tests::check;

    fn text(settings: &str) -> String {
        format!("mesh: m\nbrokers: {{ eu: {{ urls: [stomp://mq] }} }}\nconsumers:\n  c: {{ {settings} }}\n")
    }

    fn check_consumer(settings: &str, expected: &str) {
        check(&text(settings), expected);
    }

    #[test]
    fn a_consumer_has_defaults() {
        let mesh = Topology::parse(&text("from: eu, graphite: [g]")).unwrap();
        let consumer = &mesh.consumers[0];
        assert_eq!((&*consumer.from, &consumer.broker), ("eu", &mesh.brokers[0].stomp));
        assert_eq!(
            (consumer.graphite.connections, consumer.graphite.confirm),
            (4, GraphiteConfirm::HalfClose)
        );
        assert_eq!((&*consumer.queue, consumer.http), ("/queue/graphite", None));
    }

    #[test]
    fn a_consumer_is_what_it_says() {
        let settings =
            "from: eu, graphite: [g, 'h:7'], connections: 9, confirm: kernel, listen: { http: 127.0.0.1:8 }";
        let consumer = Topology::parse(&text(settings)).unwrap().consumers.remove(0);
        let endpoints: Vec<_> = consumer.graphite.endpoints.iter().map(ToString::to_string).collect();
        assert_eq!(endpoints, ["g:2003", "h:7"]);
        assert_eq!((consumer.graphite.connections, consumer.graphite.confirm), (9, GraphiteConfirm::Kernel));
        assert_eq!(consumer.http, Some(SocketAddr::from(([127, 0, 0, 1], 8))));
    }

    #[test]
    fn a_consumer_has_a_broker_and_a_graphite() {
        check_consumer(
            "connections: 1",
            "line 4: consumers.c.from: is missing; name the broker or agent to drain\n\
             line 4: consumers.c.graphite: is missing; write a list such as [127.0.0.1:2003]",
        );
        check_consumer(
            "from: eu, graphite: '127.0.0.1:2003'",
            "line 4: consumers.c.graphite: is the text `127.0.0.1:2003`, and a list is wanted; write a list such as \
             [127.0.0.1:2003]",
        );
    }

    #[test]
    fn a_consumer_listens_for_http_only() {
        check_consumer(
            "from: eu, graphite: [g], listen: { stomp: 127.0.0.1:1 }",
            "line 4: consumers.c.listen.stomp: there is no key `stomp` here; the keys here are `http`, `https`",
        );
    }

    #[test]
    fn a_consumer_may_be_looked_at_over_tls() {
        let settings = "from: eu, graphite: [g], listen: { https: 127.0.0.1:8 }";
        let tls = "tls: { cert: /c, key: /k, client_ca: /ca }";
        let consumer = Topology::parse(&text(&format!("{settings}, {tls}"))).unwrap().consumers.remove(0);
        assert_eq!((consumer.http, consumer.https), (None, Some(SocketAddr::from(([127, 0, 0, 1], 8)))));
        assert_eq!(consumer.tls.unwrap().client_ca.as_deref(), Some(Path::new("/ca")));
        check_consumer(
            settings,
            "line 4: consumers.c.listen.https: has no certificate to show; add `tls: { cert: /etc/packetboat/c.pem, key: \
             /etc/packetboat/c.key }` to `c`",
        );
        check_consumer(
            &format!("from: eu, graphite: [g], {tls}"),
            "line 4: consumers.c.tls.client_ca: says nothing without a TLS listener; add `https` to `listen`, or remove the \
             key\n\
             line 4: consumers.c.tls: says nothing to `eu`, which is not reached over TLS; write stomp+tls:// in its \
             `urls`, or remove the key",
        );
    }

    #[test]
    fn consumers_share_the_ports_of_their_host() {
        let c = |name, host| {
            format!("{name}: {{ from: eu, graphite: [g], {host} listen: {{ http: 127.0.0.1:8 }} }}")
        };
        let text = |a, b| {
            format!("mesh: m\nbrokers: {{ eu: {{ urls: [stomp://mq] }} }}\nconsumers:\n  {a}\n  {b}\n")
        };
        check(
            &text(c("x", "host: h,"), c("y", "host: h,")),
            "line 5: consumers.y.listen.http: port 8 is taken by consumers.x.listen.http on line 4, on the same host; give \
             one of them another port",
        );
        assert!(Topology::parse(&text(c("x", "host: h,"), c("y", "host: i,"))).is_ok());
    }
}
