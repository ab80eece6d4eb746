//! On which line each key of the file stands. It knows nothing about what the keys mean, and what it
//! does not find it leaves out: a fault without a line is still a fault.
//!
//! `serde_yaml` gives no lines, so the text is read a second time, by `saphyr_parser` (named here only).

use std::collections::HashMap;

use saphyr_parser::{Event, Parser};

use crate::key_path::{KeyPath, Step};

/// The lines of a text by key path: a tree whose nodes are numbered, 0 being the top.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    /// The line of each node, counted from 1.
    lines: Vec<usize>,
    children: HashMap<(usize, Step), usize>,
    /// How often a key has been seen in one map.
    seen: HashMap<(usize, String), usize>,
}

/// A map or list that has not ended yet.
enum Open {
    Map { node: usize, value: Option<usize> },
    List { node: usize, next: usize },
}

impl Lines {
    /// Reads the first document of a text that `raw` has read already, which bounds its size and depth.
    pub(crate) fn of(text: &str) -> Lines {
        let mut lines = Lines::default();
        let mut open = Vec::new();
        for event in Parser::new_from_str(text) {
            let Ok((event, span)) = event else { break };
            if lines.take(&event, span.start.line(), &mut open).is_none() {
                break;
            }
        }
        lines
    }

    /// The line of the value at `path`, or of the innermost value around it that has one.
    pub(crate) fn line(&self, path: &KeyPath) -> Option<usize> {
        let mut node = 0;
        for step in path.steps() {
            match self.children.get(&(node, step.clone())) {
                Some(child) => node = *child,
                None => break,
            }
        }
        self.lines.get(node).copied()
    }

    /// `None` when there is nothing more to learn: at the end, or at a key that is not plain text.
    fn take(&mut self, event: &Event<'_>, line: usize, open: &mut Vec<Open>) -> Option<()> {
        match event {
            Event::Nothing | Event::StreamStart | Event::DocumentStart(_) => {}
            Event::StreamEnd | Event::DocumentEnd => return None,
            Event::MappingEnd | Event::SequenceEnd => {
                open.pop()?;
            }
            Event::Alias(_) => {
                self.value(line, open)?;
            }
            Event::Scalar(text, ..) => match open.last_mut() {
                Some(Open::Map { node, value: value @ None }) => {
                    *value = Some(self.key(*node, text, line));
                }
                _ => {
                    self.value(line, open)?;
                }
            },
            Event::MappingStart(..) => {
                let node = self.value(line, open)?;
                open.push(Open::Map { node, value: None });
            }
            Event::SequenceStart(..) => {
                let node = self.value(line, open)?;
                open.push(Open::List { node, next: 0 });
            }
        }
        Some(())
    }

    /// The node of a value that begins here; `None` if it stands where a key is wanted.
    fn value(&mut self, line: usize, open: &mut [Open]) -> Option<usize> {
        match open.last_mut() {
            None => Some(self.node(line)),
            Some(Open::Map { value, .. }) => value.take(),
            Some(Open::List { node, next }) => {
                let step = Step::Item(*next);
                *next += 1;
                let parent = *node;
                Some(self.child(parent, step, line))
            }
        }
    }

    fn key(&mut self, parent: usize, key: &str, line: usize) -> usize {
        let seen = self.seen.entry((parent, key.to_owned())).or_default();
        let nth = *seen;
        *seen += 1;
        self.child(parent, Step::Key { key: key.to_owned(), nth }, line)
    }

    fn child(&mut self, parent: usize, step: Step, line: usize) -> usize {
        let node = self.node(line);
        self.children.insert((parent, step), node);
        node
    }

    fn node(&mut self, line: usize) -> usize {
        self.lines.push(line);
        self.lines.len() - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# a comment\nmesh: m\nagents:\n  us: &us\n    forward:\n      - { to: eu }\n      -\n        to:\n          eu\n  eu: *us\nmesh: twice\n";

    fn check(path: KeyPath, expected: usize) {
        assert_eq!(Lines::of(TEXT).line(&path), Some(expected), "{path}");
    }

    #[test]
    fn each_key_and_item_has_its_line() {
        let top = KeyPath::default();
        let forward = top.key("agents", 0).key("us", 0).key("forward", 0);
        check(top.key("mesh", 0), 2);
        check(forward.clone(), 5);
        check(forward.item(0).key("to", 0), 6);
        check(forward.item(1), 8);
        check(forward.item(1).key("to", 0), 8);
    }

    #[test]
    fn the_second_of_two_equal_keys_has_its_own_line() {
        check(KeyPath::default().key("mesh", 1), 11);
    }

    #[test]
    fn what_has_no_line_takes_that_of_what_is_around_it() {
        let agents = KeyPath::default().key("agents", 0);
        check(agents.key("us", 0).key("spool", 0), 4);
        check(agents.key("eu", 0).key("forward", 0).item(0), 10);
    }

    #[test]
    fn a_text_that_cannot_be_read_has_the_lines_before_that() {
        let lines = Lines::of("mesh: m\nqueue: [\n");
        assert_eq!(lines.line(&KeyPath::default().key("queue", 0)), Some(2));
        assert_eq!(Lines::of("").line(&KeyPath::default()), None);
        assert_eq!(Lines::of("[a]: b\nc: d\n").line(&KeyPath::default().key("c", 0)), Some(1));
    }
}
