//! Finding a node of the mesh by the name that an operator typed.

use std::error::Error;
use std::fmt;

use super::{Agent, Consumer, Mesh};
use crate::names::{closest, plain};

impl Mesh {
    /// The agent of that name.
    ///
    /// # Errors
    ///
    /// With the name that was probably meant, or those there are.
    pub fn agent(&self, name: &str) -> Result<&Agent, NoSuchNode> {
        let found = self.agents.iter().find(|agent| agent.name == name);
        found.ok_or_else(|| {
            NoSuchNode::new("agent", name, self.agents.iter().map(|agent| &*agent.name).collect())
        })
    }

    /// The consumer of that name.
    ///
    /// # Errors
    ///
    /// As [`Mesh::agent`].
    pub fn consumer(&self, name: &str) -> Result<&Consumer, NoSuchNode> {
        let found = self.consumers.iter().find(|consumer| consumer.name == name);
        found.ok_or_else(|| {
            NoSuchNode::new("consumer", name, self.consumers.iter().map(|node| &*node.name).collect())
        })
    }
}

/// The topology has no node of that kind and name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoSuchNode {
    text: String,
}

impl NoSuchNode {
    fn new(kind: &str, name: &str, known: Vec<&str>) -> NoSuchNode {
        let mend = match closest(name, known.iter().copied()) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None if known.is_empty() => format!("it has no {kind} at all"),
            None => format!("it has `{}`", known.join("`, `")),
        };
        NoSuchNode { text: format!("the topology has no {kind} called `{}`; {mend}", plain(name)) }
    }
}

impl fmt::Display for NoSuchNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Error for NoSuchNode {}

#[cfg(test)]
mod tests {
    use crate::Topology;

    #[test]
    fn a_node_is_found_by_its_name_or_the_error_helps() {
        let mesh = Topology::parse("mesh: m\nagents: { us-east: {}, edge: { host: b } }").unwrap();
        assert_eq!(mesh.agent("edge").unwrap().name, "edge");
        let error = |name| mesh.agent(name).unwrap_err().to_string();
        assert_eq!(error("us-eats"), "the topology has no agent called `us-eats`; did you mean `us-east`?");
        assert_eq!(error("zz"), "the topology has no agent called `zz`; it has `us-east`, `edge`");
        assert_eq!(
            mesh.consumer("edge").unwrap_err().to_string(),
            "the topology has no consumer called `edge`; it has no consumer at all"
        );
    }
}
