//! Whose `packetboat-*` headers count: those of nodes on declared links, and only for origins that the
//! topology places behind that link. From anybody else they are stripped, and the taker becomes the
//! origin. Pure.

use std::collections::HashSet;
use std::sync::Arc;

use topology::model::Peer;

use crate::users::Rights;

/// The nodes with a declared link to this agent. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Peers(Arc<[TrustedPeer]>);

/// A node whose `packetboat-*` headers count. Cheap to clone.
#[derive(Debug, Clone)]
pub struct TrustedPeer(Arc<Declared>);

#[derive(Debug)]
struct Declared {
    name: String,
    origins: HashSet<Vec<u8>>,
}

/// A user that is one node says that it is another.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the login {login:?} is that of the node {node:?}, and CONNECT says packetboat-node:{claimed}: \
     give each node a user of its own"
)]
pub struct OtherNode {
    login: String,
    node: String,
    claimed: String,
}

impl Peers {
    /// Those that the topology declares.
    pub fn new(peers: &[Peer]) -> Self {
        let declared = |peer: &Peer| {
            let origins = peer.origins.iter().map(|origin| origin.clone().into_bytes()).collect();
            TrustedPeer(Arc::new(Declared { name: peer.name.clone(), origins }))
        };
        Self(peers.iter().map(declared).collect())
    }

    /// The node behind a session, if its headers count. `claimed` is the header `packetboat-node` of
    /// CONNECT.
    ///
    /// Where there are users a claim proves nothing: only the user's own node counts, and the claim may
    /// repeat it. Without users nothing proves who somebody is, and the claim counts if a link from that
    /// node is declared.
    pub fn trusted(&self, rights: &Rights, claimed: Option<&[u8]>) -> Result<Option<TrustedPeer>, OtherNode> {
        let Some(login) = rights.login() else {
            return Ok(claimed.and_then(|claimed| self.find(claimed)));
        };
        let Some(node) = rights.node() else { return Ok(None) };
        match claimed {
            Some(claimed) if claimed != node.as_bytes() => {
                Err(OtherNode { login: login.to_owned(), node: node.to_owned(), claimed: beginning(claimed) })
            }
            _ => Ok(self.find(node.as_bytes())),
        }
    }

    /// Whether what a session says as a subscriber is what a node says, which gets batches as they are stored and
    /// names what it can never take. A link from it need not be declared: the files of the two may be of two
    /// ages, and only by its number is a batch known that comes round.
    pub fn is_node(rights: &Rights, claimed: Option<&[u8]>) -> bool {
        if rights.login().is_none() { claimed.is_some() } else { rights.node().is_some() }
    }

    fn find(&self, name: &[u8]) -> Option<TrustedPeer> {
        self.0.iter().find(|peer| peer.name().as_bytes() == name).cloned()
    }
}

impl TrustedPeer {
    /// The node's name in the topology.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Whether a `packetboat-origin` may come from this node.
    pub fn may_bring(&self, origin: &[u8]) -> bool {
        self.0.origins.contains(origin)
    }
}

/// As much of a header as a message may show.
fn beginning(bytes: &[u8]) -> String {
    const SHOWN_BYTES_MAX: usize = 60;
    String::from_utf8_lossy(&bytes[..bytes.len().min(SHOWN_BYTES_MAX)]).escape_debug().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::users::tests::user;
    use topology::model::User;

    fn peers() -> Peers {
        let peer = |name: &str, origins: &[&str]| Peer {
            name: name.into(),
            origins: origins.iter().map(|&origin| origin.into()).collect(),
        };
        Peers::new(&[peer("eu-edge", &["eu-edge", "dmz-web"]), peer("us-east", &["us-east"])])
    }

    fn node_user(node: &str) -> Rights {
        Rights::of(&User { node: Some(node.into()), ..user("link") })
    }

    fn check(rights: &Rights, claimed: Option<&str>, expected: Option<&str>) {
        let peer = peers().trusted(rights, claimed.map(str::as_bytes)).unwrap();
        assert_eq!(peer.as_ref().map(TrustedPeer::name), expected, "{claimed:?}");
    }

    #[test]
    fn without_users_a_claim_counts_if_the_link_is_declared() {
        let everybody = Rights::of_everybody();
        check(&everybody, Some("eu-edge"), Some("eu-edge"));
        check(&everybody, Some("us-east"), Some("us-east"));
        for claimed in [None, Some(""), Some("eu"), Some("eu-edge "), Some("EU-EDGE"), Some("dmz-web")] {
            check(&everybody, claimed, None);
        }
    }

    #[test]
    fn with_users_only_the_users_own_node_counts() {
        check(&node_user("eu-edge"), Some("eu-edge"), Some("eu-edge"));
        check(&node_user("eu-edge"), None, Some("eu-edge"));
        check(&node_user("unlinked"), Some("unlinked"), None);
        let producer = Rights::of(&user("web"));
        check(&producer, Some("eu-edge"), None);
        check(&producer, None, None);
    }

    #[test]
    fn a_user_that_is_a_node_cannot_be_another_one() {
        for claimed in [&b"us-east"[..], b"", b"eu-edge\n", &[b'x'; 5000]] {
            let error = peers().trusted(&node_user("eu-edge"), Some(claimed)).unwrap_err();
            let text = error.to_string();
            assert!(text.starts_with("the login \"link\" is that of the node \"eu-edge\""), "{text}");
            assert!(text.len() < 300 && !text.contains('\n'), "{text}");
        }
    }

    #[test]
    fn whoever_subscribes_is_a_node_by_its_claim_or_by_its_user() {
        let producer = Rights::of(&user("web"));
        for (rights, claimed, expected) in [
            (&Rights::of_everybody(), Some("unlinked"), true),
            (&Rights::of_everybody(), None, false),
            (&node_user("unlinked"), None, true),
            (&producer, Some("eu-edge"), false),
            (&producer, None, false),
        ] {
            assert_eq!(Peers::is_node(rights, claimed.map(str::as_bytes)), expected, "{claimed:?}");
        }
    }

    #[test]
    fn a_node_brings_only_the_origins_behind_its_link() {
        let peer = peers().trusted(&node_user("eu-edge"), None).unwrap().unwrap();
        assert!(peer.may_bring(b"eu-edge") && peer.may_bring(b"dmz-web"));
        for origin in [&b"us-east"[..], b"", b"dmz-web2", b"dmz", b"\xff"] {
            assert!(!peer.may_bring(origin));
        }
    }
}
