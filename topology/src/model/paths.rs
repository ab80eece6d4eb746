//! Who stands behind whom: the origins whose metrics come by a node, and the nodes that dial an agent.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{Mesh, Peer};

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

    #[test]
    fn who_is_drained_serves() {
        let mesh = Topology::parse(TEXT).unwrap();
        let serves: Vec<_> =
            mesh.agents.iter().filter(|agent| agent.serve).map(|agent| agent.name.as_str()).collect();
        assert_eq!(serves, ["web", "edge", "archive"], "the last one keeps its metrics");
    }
}
