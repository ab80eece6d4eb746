//! Who stands behind whom: the origins whose metrics come by a node, or all come to it, and the nodes that dial
//! an agent.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{Agent, Mesh, Peer};

impl Mesh {
    /// The agents whose metrics come by `node`, itself included if it is one, in the order of their names.
    pub fn origins(&self, node: &str) -> Vec<String> {
        let before = self.before();
        let agents: BTreeSet<&str> = self.agents.iter().map(|agent| agent.name.as_str()).collect();
        let (mut seen, mut to_see) = (BTreeSet::new(), vec![node]);
        while let Some(node) = to_see.pop() {
            if seen.insert(node) {
                to_see.extend(before.get(node).into_iter().flatten());
            }
        }
        seen.intersection(&agents).map(|&origin| origin.to_owned()).collect()
    }

    /// The agents of which each batch comes to `agent`, whole and over a way of agents, in the order of their
    /// names: a batch that does not is missing. A way with a choice is none: a failover list, a `match`, several
    /// that drain the same queue, a broker.
    pub fn gathered(&self, agent: &str) -> Vec<String> {
        let (mut gathered, mut to_see) = (BTreeSet::new(), vec![agent]);
        while let Some(to) = to_see.pop() {
            for from in self.agents.iter().filter(|from| from.name != agent && self.hands_on_all(from, to)) {
                if gathered.insert(from.name.clone()) {
                    to_see.push(&from.name);
                }
            }
        }
        gathered.into_iter().collect()
    }

    /// Whether all that `from` has goes to `to`, of whatever queue.
    fn hands_on_all(&self, from: &Agent, to: &str) -> bool {
        // What comes in a batch and goes different ways from there gets new numbers.
        if from.forward.iter().any(|link| !link.patterns.is_empty()) {
            return false;
        }
        self.queues.iter().all(|queue| {
            let mut links = from.forward.iter().filter(|link| matches!(&*link.to, [only] if only == to));
            let mut drains = self
                .agents
                .iter()
                .flat_map(|agent| agent.collect.iter().map(|it| (&agent.name, &it.from, &it.queue)))
                .chain(self.consumers.iter().map(|it| (&it.name, &it.from, &it.queue)))
                .filter(|(_, drained, of)| **drained == from.name && **of == queue.name);
            links.any(|link| link.queues.iter().any(|carried| carried.queue == queue.name))
                || drains.next().is_some_and(|(by, ..)| by == to) && drains.next().is_none()
        })
    }

    /// The nodes that dial `agent` over a declared link, with the origins of which each may bring batches: none
    /// where it only subscribes.
    pub fn peers(&self, agent: &str) -> Vec<Peer> {
        let mut brings: BTreeMap<&str, bool> = BTreeMap::new();
        for other in &self.agents {
            if other.forward.iter().any(|link| link.to.iter().any(|to| to == agent)) {
                brings.insert(&other.name, true);
            }
            if other.collect.iter().any(|collect| collect.from == agent) {
                brings.entry(&other.name).or_insert(false);
            }
        }
        for consumer in self.consumers.iter().filter(|consumer| consumer.from == agent) {
            brings.entry(&consumer.name).or_insert(false);
        }
        let peer = |(name, brings): (&str, bool)| Peer {
            name: name.to_owned(),
            origins: if brings { self.origins(name) } else { Vec::new() },
        };
        brings.into_iter().map(peer).collect()
    }

    /// By node, those that hand on to it.
    fn before(&self) -> HashMap<&str, Vec<&str>> {
        let mut before: HashMap<&str, Vec<&str>> = HashMap::new();
        for agent in &self.agents {
            for to in agent.forward.iter().flat_map(|link| &link.to) {
                before.entry(to).or_default().push(&agent.name);
            }
            for collect in &agent.collect {
                before.entry(&agent.name).or_default().push(&collect.from);
            }
        }
        before
    }
}

#[cfg(test)]
mod tests {
    use crate::Topology;

    const TEXT: &str = "mesh: m
brokers: { eu: { urls: [stomp://mq] } }
agents:
  web: { host: web, open: true, listen: { stomp: 0.0.0.0:1 } }
  us: { host: us, forward: { to: edge } }
  asia: { host: asia, forward: { to: us2 } }
  us2: { host: us2, open: true, listen: { stomp: 0.0.0.0:1 }, forward: { to: edge } }
  edge: { host: edge, open: true, listen: { stomp: 0.0.0.0:1 }, collect: [web], forward: { to: eu } }
  archive: { host: archive, collect: [eu, edge] }
consumers: { c: { from: web, graphite: [g] } }";

    #[test]
    fn origins_are_all_that_come_by_a_link() {
        let mesh = Topology::parse(TEXT).unwrap();
        let peers = |name: &str| -> Vec<(String, String)> {
            mesh.peers(name).iter().map(|peer| (peer.name.clone(), peer.origins.join(" "))).collect()
        };
        let pair = |name: &str, origins: &str| (name.to_owned(), origins.to_owned());
        assert_eq!(peers("edge"), [pair("archive", ""), pair("us", "us"), pair("us2", "asia us2")]);
        assert_eq!(peers("web"), [pair("c", ""), pair("edge", "")]);
        let collect =
            |name: &str, index: usize| mesh.origins(&mesh.agent(name).unwrap().collect[index].from).join(" ");
        assert_eq!(collect("edge", 0), "web");
        assert_eq!(collect("archive", 0), "asia edge us us2 web");
        assert_eq!(collect("archive", 1), "asia edge us us2 web");
    }

    /// `agents` are lines of a file with two queues and the broker `eu`; what agents listen on is added.
    fn check_gathered(agents: &[(&str, &str)], consumers: &str, expected: &str) {
        let mut text =
            "mesh: m\nqueues: [/queue/b]\nbrokers: { eu: { urls: [stomp://mq] } }\nagents:\n".to_owned();
        for (name, says) in agents {
            let own = format!("host: {name}, open: true, listen: {{ stomp: 0.0.0.0:1 }}");
            text += &format!("  {name}: {{ {own}, {says} }}\n");
        }
        let mesh = Topology::parse(&(text + consumers)).unwrap();
        assert_eq!(mesh.gathered("hub").join(" "), expected, "{agents:?} {consumers}");
    }

    #[test]
    fn an_origin_is_gathered_where_all_its_ways_meet() {
        let both = "collect: [{ from: dmz, name: d }, { from: dmz, name: b, queue: /queue/b }]";
        check_gathered(
            &[("us", "forward: { to: relay }"), ("relay", "forward: [{ to: hub }, { to: eu }]"), ("hub", "")],
            "",
            "relay us",
        );
        check_gathered(&[("dmz", ""), ("hub", both)], "", "dmz");
        check_gathered(&[("dmz", ""), ("hub", "collect: dmz")], "", "");
        check_gathered(&[("us", "forward: { to: [hub, hub2] }"), ("hub", ""), ("hub2", "")], "", "");
        check_gathered(
            &[
                ("us", "forward: { to: relay }"),
                ("relay", "forward: [{ to: hub, match: [a.**] }, { to: eu }]"),
                ("hub", ""),
            ],
            "",
            "",
        );
        check_gathered(&[("us", "forward: { to: eu }"), ("hub", "collect: eu")], "", "");
        let consumer = "consumers: { c: { from: dmz, graphite: [g] } }";
        check_gathered(&[("dmz", ""), ("hub", both)], consumer, "");
        check_gathered(&[("dmz", "serve: true, forward: { to: hub }"), ("hub", "")], consumer, "dmz");
    }

    #[test]
    fn who_is_drained_serves() {
        let mesh = Topology::parse(TEXT).unwrap();
        let serves: Vec<_> =
            mesh.agents.iter().filter(|agent| agent.serve).map(|agent| agent.name.as_str()).collect();
        assert_eq!(serves, ["web", "edge", "archive"], "the last one keeps its metrics");
    }
}
