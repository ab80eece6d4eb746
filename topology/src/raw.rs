//! The YAML as written: a tree of nodes, read by `serde_yaml` (named here only). It does not know what
//! any key means.
//!
//! A map is a list of entries: a key given twice is kept, so that it can be reported beside all other
//! faults instead of ending the reading. The number of nodes is bounded, because a few aliases can blow
//! up a small file.

use std::cell::Cell;
use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use crate::fault::Fault;

/// With all aliases expanded: room for some thousands of agents.
const NODES_MAX: usize = 100_000;
/// The longest key, in bytes.
const KEY_BYTES_MAX: usize = 256;

/// One value of the file.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Node {
    /// Nothing, `~` or `null`.
    Null,
    /// `true` or `false`.
    Flag(bool),
    /// A number, in its shortest decimal form.
    Number(String),
    /// Any other scalar.
    Text(String),
    /// A sequence.
    List(Vec<Node>),
    /// A mapping, in the order of the file, with every key that is there.
    Map(Vec<(String, Node)>),
}

/// How many brackets may stand open, those in comments and quotes included. `serde_yaml` has a stricter
/// limit, but comes to it only after a reading whose time grows with the square of the depth.
const OPEN_BRACKETS_MAX: usize = 1_000;

/// Reads the only document of a text.
pub(crate) fn read(text: &str) -> Result<Node, Fault> {
    bound_brackets(text)?;
    let mut documents = serde_yaml::Deserializer::from_str(text);
    let Some(first) = documents.next() else {
        return Ok(Node::Null);
    };
    let reader = Reader { nodes_left: Cell::new(NODES_MAX), mend: Cell::new(None) };
    let root = reader.deserialize(first).map_err(|cause| reader.fault(&cause, text))?;
    match documents.next() {
        None => Ok(root),
        Some(_) => Err(Fault::of_file(
            "holds more than one YAML document",
            "give each mesh its own file, and remove the `---` after the first key",
        )),
    }
}

fn bound_brackets(text: &str) -> Result<(), Fault> {
    let mut open = 0_usize;
    for (index, line) in text.lines().enumerate() {
        for byte in line.bytes() {
            match byte {
                b'[' | b'{' => open += 1,
                b']' | b'}' => open = open.saturating_sub(1),
                _ => {}
            }
        }
        if open > OPEN_BRACKETS_MAX {
            let message = format!("{open} brackets are open");
            let fault = Fault::of_file(message, "close them; a topology needs no more than a few at a time");
            return Err(Fault { line: Some(index + 1), ..fault });
        }
    }
    Ok(())
}

/// What one reading has left, and the mend of the fault that ended it if that was one of ours.
struct Reader {
    nodes_left: Cell<usize>,
    mend: Cell<Option<&'static str>>,
}

impl Reader {
    fn refuse<E: Error>(&self, message: &str, mend: &'static str) -> E {
        self.mend.set(Some(mend));
        E::custom(message)
    }

    fn count_node<E: Error>(&self) -> Result<(), E> {
        match self.nodes_left.get().checked_sub(1) {
            Some(left) => {
                self.nodes_left.set(left);
                Ok(())
            }
            None => Err(self.refuse("more values than a topology can have", "use fewer aliases (`*name`)")),
        }
    }

    fn fault(&self, cause: &serde_yaml::Error, text: &str) -> Fault {
        let line = cause.location().map(|location| location.line());
        let mend = self.mend.get().unwrap_or_else(|| syntax_mend(line, text));
        Fault { line, ..Fault::of_file(format!("cannot be read as YAML: {cause}"), mend) }
    }
}

fn syntax_mend(line: Option<usize>, text: &str) -> &'static str {
    let line = line.and_then(|line| text.lines().nth(line.saturating_sub(1))).unwrap_or_default();
    if line.chars().take_while(|char| char.is_whitespace()).any(|char| char == '\t') {
        "indent with blanks, never with tabs"
    } else {
        "check indentation and brackets there, and quote a text that begins with one of [ { * & ! % @ `"
    }
}

impl<'de> DeserializeSeed<'de> for &Reader {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        self.count_node()?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for &Reader {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value without a tag (`!name`)")
    }

    fn visit_unit<E: Error>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    /// An empty document.
    fn visit_none<E: Error>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_bool<E: Error>(self, flag: bool) -> Result<Node, E> {
        Ok(Node::Flag(flag))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Node, E> {
        Ok(Node::Number(number.to_string()))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Node, E> {
        Ok(Node::Number(number.to_string()))
    }

    fn visit_i128<E: Error>(self, number: i128) -> Result<Node, E> {
        Ok(Node::Number(number.to_string()))
    }

    fn visit_u128<E: Error>(self, number: u128) -> Result<Node, E> {
        Ok(Node::Number(number.to_string()))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Node, E> {
        Ok(Node::Number(number.to_string()))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Node, E> {
        Ok(Node::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(self)? {
            list.push(item);
        }
        Ok(Node::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Node, A::Error> {
        let mut map = Vec::new();
        while let Some(key) = entries.next_key_seed(Key(self))? {
            map.push((key, entries.next_value_seed(self)?));
        }
        self.merge(map).map(Node::Map)
    }
}

impl Reader {
    /// Carries out the merge key `<<`: what its maps say counts where the map itself says nothing, and
    /// earlier maps before later ones.
    fn merge<E: Error>(&self, map: Vec<(String, Node)>) -> Result<Vec<(String, Node)>, E> {
        if map.iter().all(|(key, _)| key != "<<") {
            return Ok(map);
        }
        let (merges, mut own): (Vec<_>, Vec<_>) = map.into_iter().partition(|(key, _)| key == "<<");
        let mut known: HashSet<String> = own.iter().map(|(key, _)| key.clone()).collect();
        let wrong = || self.refuse("`<<` without a map", "write `<<: *name` or `<<: [*name, *other]`");
        for (_, source) in merges {
            let sources = if let Node::List(list) = source { list } else { vec![source] };
            for source in sources {
                let Node::Map(entries) = source else {
                    return Err(wrong());
                };
                for (key, node) in entries {
                    if known.insert(key.clone()) {
                        own.push((key, node));
                    }
                }
            }
        }
        Ok(own)
    }
}

/// Reads a key as the text that stands there, be it `1`, `NO` or `true`.
struct Key<'r>(&'r Reader);

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key that is plain text")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<String, E> {
        if key.len() > KEY_BYTES_MAX {
            return Err(self.0.refuse("a key of more than 256 bytes", "check for a missing `: `"));
        }
        Ok(key.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Node {
        Node::Text(text.to_owned())
    }

    fn check(yaml: &str, expected: Node) {
        assert_eq!(read(yaml), Ok(expected), "{yaml}");
    }

    #[test]
    fn scalars_are_those_of_yaml_1_2() {
        check("~", Node::Null);
        check("true", Node::Flag(true));
        check("yes", text("yes"));
        check("NO", text("NO"));
        check("12", Node::Number("12".to_owned()));
        check("-1.5", Node::Number("-1.5".to_owned()));
        check("'12'", text("12"));
        check("127.0.0.1:2003", text("127.0.0.1:2003"));
        check("2001:20", text("2001:20"));
    }

    #[test]
    fn keys_given_twice_are_kept_and_keys_are_texts() {
        let number = |number: &str| Node::Number(number.to_owned());
        let entries = [("a", number("1")), ("01", number("2")), ("a", number("3")), ("true", text("x"))];
        let map = entries.into_iter().map(|(key, node)| (key.to_owned(), node)).collect();
        check("a: 1\n01: 2\na: 3\ntrue: x\n", Node::Map(map));
    }
}
