//! Consumers: the pools that drain a broker into Graphite.

use super::book::{Checked, by_ref, every};
use super::links::destination;
use super::listeners::Listeners;
use super::section::Section;
use super::upstreams::Upstreams;
use super::value::Value;
use super::{addresses, graphite, machines};
use crate::model::{Consumer, GraphiteUpstream};

const KEYS: [&str; 8] = ["from", "graphite", "connections", "confirm", "queue", "host", "open", "listen"];
const GRAPHITE_MEND: &str = "write a list such as [127.0.0.1:2003]";

/// Connections of a consumer that names no number.
const CONNECTIONS: usize = 4;

/// A consumer whose broker is not known yet.
pub(crate) struct ConsumerDraft<'c> {
    pub(crate) host: Checked<Option<String>>,
    pub(crate) listeners: Checked<Listeners<'c>>,
    name: &'c str,
    from: Checked<Value<'c>>,
    queue: Checked<Option<String>>,
    graphite: Checked<GraphiteUpstream>,
}

impl<'c> ConsumerDraft<'c> {
    pub(crate) fn read(name: &'c str, at: &Value<'c>) -> Checked<ConsumerDraft<'c>> {
        let section = Section::open(at.clone(), &KEYS)?;
        let listeners = Listeners::of_consumer(&section, name);
        if let (Ok(open), Ok(listeners)) = (section.read("open", Value::flag), &listeners) {
            listeners.check_open(open.unwrap_or(false));
        }
        Ok(ConsumerDraft {
            host: section.read("host", machines::host),
            listeners,
            name,
            from: section.need("from", "name the broker to drain", |at| Ok(at.clone())),
            queue: section.read("queue", destination),
            graphite: pool(&section),
        })
    }

    /// The consumer, with the broker it drains.
    pub(crate) fn finish(&self, upstreams: &Upstreams<'_, 'c>) -> Checked<Consumer> {
        let (from, broker) = upstreams.broker(by_ref(&self.from)?, self.name)?;
        let http = by_ref(&by_ref(&self.listeners)?.http)?.as_ref();
        Ok(Consumer {
            name: self.name.to_owned(),
            from: from.to_owned(),
            broker,
            queue: self.queue.clone()?.unwrap_or_else(|| upstreams.queue.to_owned()),
            graphite: self.graphite.clone()?,
            http: http.map(|listener| listener.addr),
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
            "line 4: consumers.c.from: is missing; name the broker to drain\n\
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
            "line 4: consumers.c.listen.stomp: there is no key `stomp` here; the keys here are `http`",
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
