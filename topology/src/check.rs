//! From the nodes of the file to the model. Every check writes its faults into one book and goes on; only
//! a file without any fault becomes a mesh.
//!
//! First each node is read by itself (`brokers`, `agents`, `consumers`), then what they share is compared
//! (`listeners`, `spools`, `cycles`), then names become addresses (`upstreams`).

mod addresses;
mod admission;
mod agents;
mod book;
mod brokers;
mod collects;
mod consumers;
mod credentials;
mod cycles;
mod dialled;
mod graphite;
mod limits;
mod links;
mod listeners;
mod machines;
mod measures;
mod queues;
mod reach;
mod roster;
mod section;
mod spools;
mod tls;
mod upstreams;
mod users;
mod value;

use agents::AgentDraft;
use book::{Book, Checked, by_ref, every};
use consumers::ConsumerDraft;
use dialled::Dialled;
use listeners::Ports;
use roster::{Kind, Roster};
use section::Section;
use upstreams::Upstreams;
use value::Value;

use crate::fault::Fault;
use crate::lines::Lines;
use crate::model::{Agent, Broker, Consumer, Mesh, Queue, StompUpstream};
use crate::raw::Node;

const KEYS: [&str; 6] = ["mesh", "queue", "queues", "brokers", "agents", "consumers"];
const QUEUE: &str = "/queue/graphite";

/// The mesh that a file describes, or all that is wrong with it.
pub(crate) fn check(root: &Node, lines: Lines) -> Result<Mesh, Vec<Fault>> {
    let book = Book::new(lines);
    let checked = mesh(&Value::root(root, &book));
    let faults = book.into_faults();
    match checked {
        Ok(mesh) if faults.is_empty() => Ok(mesh),
        // A `Reported` comes out of the book only, so that there is a fault in it.
        _ => Err(faults),
    }
}

fn mesh(root: &Value<'_>) -> Checked<Mesh> {
    if *root.node() == Node::Null {
        return Err(root.fault("is empty", "begin with `mesh: NAME` and an agent under `agents`"));
    }
    let top = Section::open(root.clone(), &KEYS)?;
    let name_mend = "name the mesh; the name travels with every batch";
    let name = top.need("mesh", name_mend, Value::name);
    let queue = top.read("queue", links::destination);
    let queue = queue.map(|queue| queue.unwrap_or_else(|| QUEUE.to_owned()));
    let roster = Roster::read(&top);
    if !roster.has(Kind::Agent) && !roster.has(Kind::Consumer) {
        let message = "there is no agent and no consumer to run";
        top.at().fault_at("agents", message, "add one, such as `edge: {}`");
    }

    let default_queue = queue.as_deref().unwrap_or(QUEUE);
    let queues = queues::read(&top, default_queue).and_then(|queues| by_ref(&queue).map(|_| queues));
    let known_queues = queues.as_deref().unwrap_or_default();
    let drafts = Drafts::read(&roster, known_queues);
    let dialled = drafts.dialled();
    drafts.check_shared(known_queues, &dialled);
    queues::check_limits(&top, known_queues, &drafts.readable());
    let upstreams = drafts.upstreams(&roster, default_queue, known_queues, &dialled);
    let (agents, consumers) = (drafts.agents(&upstreams), drafts.consumers(&upstreams));
    let brokers = drafts.brokers();
    let queues = queues?;
    Ok(Mesh {
        queue: default_queue.to_owned(),
        queues,
        brokers: brokers?,
        agents: agents?,
        consumers: consumers?,
        name: name?,
    })
}

/// Every node as far as it can be read by itself.
struct Drafts<'c> {
    brokers: Vec<(&'c str, Checked<StompUpstream>)>,
    agents: Vec<(&'c str, Checked<AgentDraft<'c>>)>,
    consumers: Vec<Checked<ConsumerDraft<'c>>>,
}

impl<'c> Drafts<'c> {
    fn read(roster: &Roster<'c>, queues: &[Queue]) -> Drafts<'c> {
        Drafts {
            brokers: roster.each(Kind::Broker, |name, at| (name, brokers::read(at))),
            agents: roster.each(Kind::Agent, |name, at| (name, AgentDraft::read(name, at, queues))),
            consumers: roster.each(Kind::Consumer, ConsumerDraft::read),
        }
    }

    fn dialled(&self) -> Dialled<'c> {
        let consumers: Vec<_> = self.consumers.iter().flatten().collect();
        Dialled::of(&self.readable(), &consumers)
    }

    fn readable(&self) -> Vec<&AgentDraft<'c>> {
        self.agents.iter().filter_map(|(_, agent)| agent.as_ref().ok()).collect()
    }

    /// What no two nodes may have: a port or a spool directory of one machine; and no metric goes round, nor
    /// nowhere.
    fn check_shared(&self, queues: &[Queue], dialled: &Dialled<'_>) {
        let agents = self.readable();
        let mut ports = Ports::default();
        for agent in &agents {
            ports.take(&agent.host, &agent.listeners);
        }
        for consumer in self.consumers.iter().flatten() {
            ports.take(&consumer.host, &consumer.listeners);
        }
        spools::check_dirs(&agents);
        let urls = |broker: &'_ Checked<StompUpstream>| {
            broker.as_ref().map_or_else(|_| Vec::new(), |broker| broker.endpoints.clone())
        };
        let brokers: Vec<_> = self.brokers.iter().map(|(name, broker)| (*name, urls(broker))).collect();
        let brokers: Vec<_> = brokers.iter().map(|(name, urls)| (*name, urls.as_slice())).collect();
        let consumers: Vec<_> = self.consumers.iter().flatten().collect();
        cycles::check(&agents, &consumers, &brokers, queues);
        for agent in &agents {
            agent.check_queues(queues, dialled);
        }
    }

    fn upstreams<'m>(
        &'m self,
        roster: &'m Roster<'c>,
        queue: &'m str,
        queues: &'m [Queue],
        dialled: &'m Dialled<'c>,
    ) -> Upstreams<'m, 'c> {
        let brokers = self.brokers.iter().map(|(name, broker)| (*name, by_ref(broker)));
        let agents = self.agents.iter().map(|(name, agent)| (*name, by_ref(agent)));
        let (brokers, agents) = (brokers.collect(), agents.collect());
        Upstreams { roster, brokers, agents, queue, queues, dialled }
    }

    fn brokers(&self) -> Checked<Vec<Broker>> {
        let broker = |name: &str, stomp: &Checked<StompUpstream>| {
            Ok(Broker { name: name.to_owned(), stomp: by_ref(stomp)?.clone() })
        };
        every(self.brokers.iter().map(|(name, stomp)| broker(name, stomp)))
    }

    fn agents(&self, upstreams: &Upstreams<'_, 'c>) -> Checked<Vec<Agent>> {
        every(self.agents.iter().map(|(_, agent)| by_ref(agent)?.finish(upstreams)))
    }

    fn consumers(&self, upstreams: &Upstreams<'_, 'c>) -> Checked<Vec<Consumer>> {
        every(self.consumers.iter().map(|consumer| by_ref(consumer)?.finish(upstreams)))
    }
}

#[cfg(test)]
mod tests {
    use crate::Topology;
    use crate::tests::check;

    #[test]
    fn a_mesh_has_a_name() {
        let mend = "name the mesh; the name travels with every batch";
        check("agents: { a: {} }", &format!("line 1: mesh: is missing; {mend}"));
        check(
            "mesh: a/b\nagents: { a: {} }",
            "line 1: mesh: `a/b` is no name; use up to 64 letters, digits, `-` and `_`, beginning with a letter \
             or digit",
        );
    }

    #[test]
    fn there_is_something_to_run() {
        let fault = "line 1: agents: there is no agent and no consumer to run; add one, such as `edge: {}`";
        check("mesh: m", fault);
        check("mesh: m\nbrokers: { eu: { urls: [stomp://mq] } }", fault);
    }

    #[test]
    fn a_queue_has_no_blanks() {
        check(
            "mesh: m\nqueue: /queue/a b\nagents: { a: {} }",
            "line 2: queue: `/queue/a b` holds a blank; write it like /queue/graphite",
        );
    }

    #[test]
    fn the_queue_of_the_mesh_is_that_of_links_and_consumers() {
        let text = "mesh: m\nqueue: /queue/ours\nbrokers: { eu: { urls: [stomp://mq] } }
agents: { a: { forward: [{ to: eu }, { to: eu, name: other, queue: /topic/other }] } }
consumers: { c: { from: eu, graphite: [g] }, d: { from: eu, graphite: [g], queue: /queue/d } }";
        let mesh = Topology::parse(text).unwrap();
        let links: Vec<_> = mesh.agents[0].forward.iter().map(|link| &*link.queues[0].destination).collect();
        let consumers: Vec<_> = mesh.consumers.iter().map(|consumer| &*consumer.queue).collect();
        assert_eq!(
            (&*links, &*consumers),
            (&["/queue/ours", "/topic/other"][..], &["/queue/ours", "/queue/d"][..])
        );
    }

    #[test]
    fn sections_may_be_empty_but_are_maps() {
        assert!(Topology::parse("mesh: m\nbrokers:\nconsumers:\nagents: { a: }").is_ok());
        check(
            "mesh: m\nbrokers: [eu]\nagents: { a: {} }",
            "line 2: brokers: is a list, and a map is wanted; write a map from names to settings",
        );
    }

    /// What stands in the second section counts too: nothing dangles because of it.
    #[test]
    fn a_section_given_twice_is_one_fault() {
        let text = "mesh: m
brokers: { eu: { urls: [stomp://mq] } }
agents: { a: { forward: [{ to: eu }, { to: us }] } }
brokers: { us: { urls: [stomp://mq] } }";
        check(text, "line 4: brokers: is given twice, before this on line 2; keep one of the two");
    }
}
