//! A map whose keys are known beforehand.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::book::{Checked, Reported};
use super::value::Value;
use crate::names::{closest, plain};

/// Keys of the design that this version does not carry out. None of them is ignored.
const LATER: [&str; 1] = ["pickle"];
/// What people write who are about to put a secret into the topology.
const SECRETS: [&str; 4] = ["passcode", "passwd", "password", "secret"];

/// A map with its known keys; unknown ones and those given twice are in the book already.
pub(crate) struct Section<'c> {
    at: Value<'c>,
    entries: Vec<(&'c str, Value<'c>)>,
}

impl<'c> Section<'c> {
    /// Reads the map at `at`, which may have the keys `known`.
    pub(crate) fn open(at: Value<'c>, known: &[&str]) -> Checked<Section<'c>> {
        let entries = at.entries(&format!("write a map with keys like `{}`", known.join("`, `")))?;
        check_repeats(&entries);
        for (key, value) in entries.iter().filter(|(key, _)| !known.contains(key)) {
            unknown(key, value, known);
        }
        Ok(Section { at, entries })
    }

    /// The map itself.
    pub(crate) fn at(&self) -> &Value<'c> {
        &self.at
    }

    /// The value of a key; the first one if it is given twice.
    pub(crate) fn get(&self, key: &str) -> Option<&Value<'c>> {
        self.all(key).next()
    }

    /// All values of a key.
    pub(crate) fn all(&self, key: &str) -> impl Iterator<Item = &Value<'c>> {
        self.entries.iter().filter(move |(entry, _)| *entry == key).map(|(_, value)| value)
    }

    /// What `reader` makes of a key's value, if the key is there.
    pub(crate) fn read<T>(
        &self,
        key: &str,
        reader: impl FnOnce(&Value<'c>) -> Checked<T>,
    ) -> Checked<Option<T>> {
        self.get(key).map(reader).transpose()
    }

    /// As [`Section::read`], for a key that must be there; `mend` says what to write if it is not.
    pub(crate) fn need<T>(
        &self,
        key: &str,
        mend: &str,
        reader: impl FnOnce(&Value<'c>) -> Checked<T>,
    ) -> Checked<T> {
        match self.get(key) {
            Some(value) => reader(value),
            None => Err(self.at.fault_at(key, "is missing", mend)),
        }
    }
}

fn unknown(key: &str, value: &Value<'_>, known: &[&str]) -> Reported {
    if LATER.contains(&key) {
        return value.fault("not in this version", "remove the key");
    }
    if SECRETS.contains(&key) {
        let mend = if known.contains(&"passcode_hash") {
            "write its hash as `passcode_hash`, or into a file that `passcode_hash_file` names; `packetboat passcode` makes \
             one"
        } else {
            "put it into a file that only packetboat may read, and name the file in `passcode_file`"
        };
        return value.fault("secrets do not belong into the topology", mend);
    }
    let mend = match closest(key, known.iter().copied()) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None => format!("the keys here are `{}`", known.join("`, `")),
    };
    value.fault(format!("there is no key `{}` here", plain(key)), mend)
}

/// No key of a map stands twice.
pub(crate) fn check_repeats(entries: &[(&str, Value<'_>)]) {
    let mut first = HashMap::new();
    for (key, value) in entries {
        match first.entry(key) {
            Entry::Vacant(free) => {
                free.insert(value);
            }
            Entry::Occupied(earlier) => {
                repeated(value, earlier.get());
            }
        }
    }
}

/// A key or name that stands twice.
pub(crate) fn repeated(again: &Value<'_>, first: &Value<'_>) -> Reported {
    again.fault(format!("is given twice, before this{}", first.on_line()), "keep one of the two")
}

#[cfg(test)]
mod tests {
    use crate::tests::{check, check_agent};

    #[test]
    fn an_unknown_key_has_a_known_one_like_it() {
        check_agent(
            "forwrad: { to: eu }",
            "line 4: agents.a.forwrad: there is no key `forwrad` here; did you mean `forward`?",
        );
    }

    #[test]
    fn an_unknown_key_that_is_like_none_has_a_list() {
        check(
            "mesh: m\nxyz: 1\nagents: { a: {} }",
            "line 2: xyz: there is no key `xyz` here; the keys here are `mesh`, `queue`, `queues`, `brokers`, `agents`, \
             `consumers`",
        );
    }

    #[test]
    fn a_key_given_twice_has_both_lines() {
        check(
            "mesh: m\nagents:\n  a:\n    region: x\n    host: b\n    region: y\n",
            "line 6: agents.a.region: is given twice, before this on line 4; keep one of the two",
        );
    }

    #[test]
    fn what_comes_later_is_not_in_this_version() {
        let later = |settings, path| {
            check_agent(settings, &format!("line 4: agents.a.{path}: not in this version; remove the key"))
        };
        later("listen: { stomp: 127.0.0.1:1, pickle: 127.0.0.1:2 }", "listen.pickle");
    }

    #[test]
    fn a_secret_belongs_into_a_file() {
        check_agent(
            "forward: { to: eu, login: x, password: geheim }",
            "line 4: agents.a.forward.password: secrets do not belong into the topology; put it into a file that \
             only packetboat may read, and name the file in `passcode_file`",
        );
    }
}
