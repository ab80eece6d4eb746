//! What somebody who was admitted may do. Pure, and cheap enough to ask for every line.

use std::sync::Arc;

use topology::model::User;

/// What a session may do, from its CONNECT to its end. Cheap to clone; it holds no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rights(
    /// `None`: the agent has no users, and whoever reaches it may do everything but be a node by login.
    Option<Arc<Granted>>,
);

/// What a user may do.
#[derive(Debug, PartialEq, Eq)]
struct Granted {
    login: String,
    node: Option<String>,
    send: Vec<String>,
    /// Empty: any name.
    prefixes: Vec<Vec<u8>>,
    subscribe: Vec<String>,
}

impl Rights {
    /// Those of everybody where there are no users.
    pub fn of_everybody() -> Self {
        Self(None)
    }

    /// Those of `user`.
    pub fn of(user: &User) -> Self {
        Self(Some(Arc::new(Granted {
            login: user.login.clone(),
            node: user.node.clone(),
            send: user.send.clone(),
            prefixes: user.prefixes.iter().map(|prefix| prefix.clone().into_bytes()).collect(),
            subscribe: user.subscribe.clone(),
        })))
    }

    /// The user that was admitted; `None` where there are no users.
    pub fn login(&self) -> Option<&str> {
        self.0.as_ref().map(|granted| granted.login.as_str())
    }

    /// The node that the user is; `None` for those that are none, and where there are no users.
    pub fn node(&self) -> Option<&str> {
        self.0.as_ref()?.node.as_deref()
    }

    /// Whether SEND to `queue` is allowed.
    pub fn may_send(&self, queue: &str) -> bool {
        self.0.as_ref().is_none_or(|granted| granted.send.iter().any(|one| one == queue))
    }

    /// Whether SUBSCRIBE to `queue` is allowed.
    pub fn may_subscribe(&self, queue: &str) -> bool {
        self.0.as_ref().is_none_or(|granted| granted.subscribe.iter().any(|one| one == queue))
    }

    /// Whether a metric may have this name. A prefix is compared byte by byte as it is written, so
    /// `dmz.web` also allows `dmz.website`, and `dmz.web.` does not.
    pub fn allows_name(&self, name: &[u8]) -> bool {
        self.prefixes().is_none_or(|prefixes| prefixes.iter().any(|prefix| name.starts_with(prefix)))
    }

    /// Whether all of these lines, each ended by LF, have allowed names; the first that has not is the
    /// error, without its line end. Lines with nothing but blanks are none.
    pub fn allows_lines<'a>(&self, lines: &'a [u8]) -> Result<(), &'a [u8]> {
        if self.prefixes().is_none() {
            return Ok(());
        }
        let mut lines =
            lines.split(|&octet| octet == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        let is_allowed = |line: &[u8]| name(line).is_none_or(|name| self.allows_name(name));
        lines.find(|line| !is_allowed(line)).map_or(Ok(()), Err)
    }

    /// `None`: any name is allowed.
    fn prefixes(&self) -> Option<&[Vec<u8>]> {
        let prefixes = &self.0.as_ref()?.prefixes;
        (!prefixes.is_empty()).then_some(prefixes)
    }
}

/// The name of a line, which ends at the first blank; `None` for a line with nothing but blanks.
fn name(line: &[u8]) -> Option<&[u8]> {
    line.split(|&octet| matches!(octet, b' ' | b'\t')).find(|field| !field.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::users::tests::user;

    fn web() -> Rights {
        Rights::of(&User {
            send: vec!["/queue/graphite".into()],
            prefixes: vec!["dmz.web.".into(), "dmz.w\u{e4}b".into()],
            ..user("web")
        })
    }

    #[test]
    fn without_users_everything_is_allowed_but_to_be_a_node() {
        let rights = Rights::of_everybody();
        assert!(rights.may_send("/queue/a") && rights.may_subscribe("/queue/a"));
        assert!(rights.allows_name(b"a.b"));
        assert_eq!(rights.allows_lines(b"a.b 1 2\n"), Ok(()));
        assert_eq!((rights.login(), rights.node()), (None, None));
    }

    #[test]
    fn queues_are_those_that_are_named() {
        let rights = web();
        assert!(rights.may_send("/queue/graphite"));
        for queue in ["/queue/graphite2", "/queue/", "", "/queue/GRAPHITE"] {
            assert!(!rights.may_send(queue), "{queue}");
        }
        assert!(!rights.may_subscribe("/queue/graphite"), "to send is not to subscribe");
        let reader = Rights::of(&User { subscribe: vec!["/queue/graphite".into()], ..user("reader") });
        assert!(reader.may_subscribe("/queue/graphite") && !reader.may_subscribe("/queue/other"));
        assert!(!reader.may_send("/queue/graphite"), "to subscribe is not to send");
    }

    #[test]
    fn a_prefix_is_compared_as_it_is_written() {
        let check = |name: &[u8], expected| assert_eq!(web().allows_name(name), expected, "{name:?}");
        check(b"dmz.web.cpu", true);
        check(b"dmz.web.", true);
        check(b"dmz.web", false);
        check(b"dmz.website.cpu", false);
        check(b"Dmz.web.cpu", false);
        check(b".dmz.web.cpu", false);
        check(b"", false);
        check(b"dmz.w\xc3\xa4b", true);
        check(b"dmz.w\xc3", false);
        let any = Rights::of(&user("any"));
        assert!(any.allows_name(b"a") && any.allows_name(b""));
    }

    #[test]
    fn the_first_line_beyond_the_prefixes_is_told() {
        let check = |lines: &[u8], expected: Result<(), &[u8]>| {
            assert_eq!(web().allows_lines(lines), expected, "{:?}", String::from_utf8_lossy(lines));
        };
        check(b"", Ok(()));
        check(b"dmz.web.a 1 2\ndmz.web.b 1 2\n", Ok(()));
        check(b"dmz.web.a 1 2\neu.a 1 2\neu.b 1 2\n", Err(b"eu.a 1 2"));
        check(b"dmz.web.a 1 2\neu.a 1 2", Err(b"eu.a 1 2"));
        check(b"eu.a 1 2\r\n", Err(b"eu.a 1 2"));
        check(b" \tdmz.web.a 1 2\r\n\r\n \n", Ok(()));
        check(b" eu.a dmz.web.a\n", Err(b" eu.a dmz.web.a"));
        check(b"\x0cdmz.web.a 1 2\n", Err(b"\x0cdmz.web.a 1 2"));
        assert_eq!(Rights::of(&user("any")).allows_lines(b"eu.a 1 2\n"), Ok(()));
    }
}
