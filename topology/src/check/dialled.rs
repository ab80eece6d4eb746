//! Who dials an agent, by a declared link of whichever kind.

use std::collections::HashMap;

use super::agents::AgentDraft;
use super::consumers::ConsumerDraft;

/// By agent, the nodes that dial it.
pub(crate) struct Dialled<'c> {
    by: HashMap<&'c str, Vec<Dial<'c>>>,
}

struct Dial<'c> {
    by: &'c str,
    /// To take metrics away, rather than to bring some.
    drains: bool,
}

impl<'c> Dialled<'c> {
    pub(crate) fn of(agents: &[&AgentDraft<'c>], consumers: &[&ConsumerDraft<'c>]) -> Dialled<'c> {
        let mut dialled = Dialled { by: HashMap::new() };
        for agent in agents {
            for to in agent.links.iter().flat_map(|link| link.nodes()) {
                dialled.add(to, agent.name, false);
            }
            for collect in &agent.collects {
                dialled.add(collect.from, agent.name, true);
            }
        }
        for consumer in consumers {
            if let Some(from) = consumer.from() {
                dialled.add(from, consumer.name, true);
            }
        }
        dialled
    }

    fn add(&mut self, agent: &'c str, by: &'c str, drains: bool) {
        self.by.entry(agent).or_default().push(Dial { by, drains });
    }

    /// Whether somebody subscribes at `agent`.
    pub(crate) fn is_drained(&self, agent: &str) -> bool {
        self.by.get(agent).is_some_and(|dials| dials.iter().any(|dial| dial.drains))
    }

    /// Whether `node` dials `agent`.
    pub(crate) fn dials(&self, node: &str, agent: &str) -> bool {
        self.by.get(agent).is_some_and(|dials| dials.iter().any(|dial| dial.by == node))
    }
}
