//! A value of the file together with the place where it stands: every reading of it either gives what
//! is wanted or writes into the book what is wrong.

use std::collections::HashMap;

use super::book::{Book, Checked, Complaint, Reported};
use crate::key_path::KeyPath;
use crate::names::{NAME_RULE, is_name, plain};
use crate::raw::Node;

/// One value, its place, and the book.
#[derive(Clone)]
pub(crate) struct Value<'c> {
    node: &'c Node,
    path: KeyPath,
    book: &'c Book,
}

impl<'c> Value<'c> {
    /// The whole file.
    pub(crate) fn root(node: &'c Node, book: &'c Book) -> Value<'c> {
        Value { node, path: KeyPath::default(), book }
    }

    pub(crate) fn node(&self) -> &'c Node {
        self.node
    }

    /// The key path, as a fault shows it.
    pub(crate) fn path(&self) -> String {
        self.path.to_string()
    }

    /// ` on line 5`, or nothing if nobody knows.
    pub(crate) fn on_line(&self) -> String {
        self.book.line(&self.path).map_or_else(String::new, |line| format!(" on line {line}"))
    }

    pub(crate) fn fault(&self, message: impl Into<String>, mend: impl Into<String>) -> Reported {
        self.book.write(&self.path, Complaint::new(message, mend))
    }

    /// A fault of a key that is not there, or of one that should not be.
    pub(crate) fn fault_at(
        &self,
        key: &str,
        message: impl Into<String>,
        mend: impl Into<String>,
    ) -> Reported {
        self.book.write(&self.path.key(key, 0), Complaint::new(message, mend))
    }

    fn wrong_type(&self, wanted: &str, mend: impl Into<String>) -> Reported {
        self.fault(format!("is {}, and {wanted} is wanted", self.description()), mend)
    }

    fn description(&self) -> String {
        match self.node {
            Node::Null => "empty".to_owned(),
            Node::Flag(flag) => format!("the flag {flag}"),
            Node::Number(number) => format!("the number {number}"),
            Node::Text(text) => format!("the text `{}`", plain(text)),
            Node::List(_) => "a list".to_owned(),
            Node::Map(_) => "a map".to_owned(),
        }
    }

    /// A text that is not empty and has no control characters, so that it fits a header and a log line.
    pub(crate) fn text(&self) -> Checked<&'c str> {
        match self.node {
            Node::Text(text) if text.trim().is_empty() => {
                Err(self.fault("is empty", "write a text, or remove the key"))
            }
            Node::Text(text) if text.contains(char::is_control) => {
                let message = format!("`{}` holds a control character", plain(text));
                Err(self.fault(message, "write it as one line of plain text"))
            }
            Node::Text(text) => Ok(text),
            Node::Flag(_) | Node::Number(_) => Err(self.wrong_type("a text", "put it in quotes")),
            Node::Null => Err(self.wrong_type("a text", "write one, or remove the key")),
            Node::List(_) | Node::Map(_) => Err(self.wrong_type("a text", "write one text")),
        }
    }

    /// A text that `parser` understands. A number is read as the text it is, since what is wrong with
    /// `20` may be its missing unit and not its missing quotes.
    pub(crate) fn parse<T>(&self, parser: impl FnOnce(&str) -> Result<T, Complaint>) -> Checked<T> {
        let text = match self.node {
            Node::Number(number) => number,
            _ => self.text()?,
        };
        parser(text).map_err(|complaint| self.book.write(&self.path, complaint))
    }

    pub(crate) fn name(&self) -> Checked<String> {
        let text = self.text()?;
        if !is_name(text) {
            return Err(self.fault(format!("`{}` is no name", plain(text)), NAME_RULE));
        }
        Ok(text.to_owned())
    }

    pub(crate) fn flag(&self) -> Checked<bool> {
        match self.node {
            Node::Flag(flag) => Ok(*flag),
            _ => Err(self.wrong_type("a flag", "write true or false")),
        }
    }

    /// A whole number from 1 to `most`.
    pub(crate) fn count(&self, most: usize) -> Checked<usize> {
        let Node::Number(number) = self.node else {
            return Err(self.wrong_type("a number", format!("write a whole number from 1 to {most}")));
        };
        match number.parse() {
            Ok(count) if (1..=most).contains(&count) => Ok(count),
            _ => {
                let mend = format!("write a whole number from 1 to {most}");
                Err(self.fault(format!("{number} is out of range"), mend))
            }
        }
    }

    /// One of a few words.
    pub(crate) fn choice<T: Copy>(&self, choices: &[(&str, T)]) -> Checked<T> {
        let text = self.text()?;
        let found = choices.iter().find(|(word, _)| *word == text);
        found.map(|(_, choice)| *choice).ok_or_else(|| {
            let words: Vec<_> = choices.iter().map(|(word, _)| format!("`{word}`")).collect();
            self.fault(
                format!("`{}` is no choice here", plain(text)),
                format!("write {}", words.join(" or ")),
            )
        })
    }

    /// The items of a list that has some; `mend` says what to write instead of anything else.
    pub(crate) fn items(&self, mend: &str) -> Checked<Vec<Value<'c>>> {
        match self.node {
            Node::List(list) if list.is_empty() => Err(self.fault("is an empty list", mend)),
            Node::List(list) => {
                Ok(list.iter().enumerate().map(|(index, node)| self.item(index, node)).collect())
            }
            _ => Err(self.wrong_type("a list", mend)),
        }
    }

    /// The items of a list, as [`Value::items`], or else the one value that stands for such a list.
    pub(crate) fn one_or_more(&self, mend: &str) -> Checked<Vec<Value<'c>>> {
        match self.node {
            Node::List(_) => self.items(mend),
            _ => Ok(vec![self.clone()]),
        }
    }

    /// The entries of a map in the order of the file, keys given twice among them; a map without any may
    /// be left empty (`brokers:`).
    pub(crate) fn entries(&self, mend: &str) -> Checked<Vec<(&'c str, Value<'c>)>> {
        let map = match self.node {
            Node::Map(map) => map.as_slice(),
            Node::Null => &[],
            _ => return Err(self.wrong_type("a map", mend)),
        };
        let mut seen: HashMap<&str, usize> = HashMap::new();
        let mut entry = |(key, node): &'c (String, Node)| {
            let seen = seen.entry(key).or_default();
            *seen += 1;
            (key.as_str(), Value { node, path: self.path.key(key, *seen - 1), book: self.book })
        };
        Ok(map.iter().map(&mut entry).collect())
    }

    fn item(&self, index: usize, node: &'c Node) -> Value<'c> {
        Value { node, path: self.path.item(index), book: self.book }
    }
}

#[cfg(test)]
mod tests {
    use crate::tests::{check, check_agent};

    #[test]
    fn a_text_is_a_text() {
        let region = |value, rest| {
            check_agent(&format!("region: {value}"), &format!("line 4: agents.a.region: {rest}"))
        };
        region("7", "is the number 7, and a text is wanted; put it in quotes");
        region("true", "is the flag true, and a text is wanted; put it in quotes");
        region("[a]", "is a list, and a text is wanted; write one text");
        region("{ a: b }", "is a map, and a text is wanted; write one text");
        region("~", "is empty, and a text is wanted; write one, or remove the key");
        region("' '", "is empty; write a text, or remove the key");
    }

    #[test]
    fn a_text_fits_a_header_and_a_log_line() {
        check_agent(
            r#"region: "a\nb""#,
            r"line 4: agents.a.region: `a\u{a}b` holds a control character; write it as one line of plain text",
        );
    }

    #[test]
    fn a_flag_is_true_or_false() {
        check_agent(
            "open: yes",
            "line 4: agents.a.open: is the text `yes`, and a flag is wanted; write true or false",
        );
    }

    #[test]
    fn a_count_is_a_number_in_range() {
        let connections = |value, rest| {
            check_agent(
                &format!("forward: {{ name: g, to: graphite://g, connections: {value} }}"),
                &format!("line 4: agents.a.forward.connections: {rest}; write a whole number from 1 to 64"),
            );
        };
        connections("0", "0 is out of range");
        connections("65", "65 is out of range");
        connections("-1", "-1 is out of range");
        connections("1.5", "1.5 is out of range");
        connections("99999999999999999999999", "99999999999999999999999 is out of range");
        connections("four", "is the text `four`, and a number is wanted");
    }

    #[test]
    fn a_choice_is_one_of_its_words() {
        check_agent(
            "spool: { when_full: drop }",
            "line 4: agents.a.spool.when_full: `drop` is no choice here; write `refuse` or `drop_oldest`",
        );
        check_agent(
            "forward: { to: eu, encoding: gzip }",
            "line 4: agents.a.forward.encoding: `gzip` is no choice here; write `plain` or `zstd`",
        );
        check_agent(
            "forward: { name: g, to: graphite://g, confirm: fin }",
            "line 4: agents.a.forward.confirm: `fin` is no choice here; write `half-close` or `kernel`",
        );
    }

    #[test]
    fn a_list_is_a_list_with_items() {
        let urls = |value, rest| {
            check(
                &format!("mesh: m\nbrokers: {{ eu: {{ urls: {value} }} }}\nagents: {{ a: {{}} }}"),
                &format!(
                    "line 2: brokers.eu.urls: {rest}; write a list such as [stomp://mq.example.net:61613]"
                ),
            );
        };
        urls("[]", "is an empty list");
        urls("stomp://mq", "is the text `stomp://mq`, and a list is wanted");
    }
}
