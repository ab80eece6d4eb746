//! Where something stands in the file: `agents.us-east.forward[0].to`.

use std::fmt;

use crate::names::plain;

/// One step from a value down to one inside it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Step {
    /// The value of a key; `nth` counts from 0 how often the same key stood before it in the same map.
    Key { key: String, nth: usize },
    /// The item of a list, from 0.
    Item(usize),
}

/// The steps from the top of the file down to a value.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct KeyPath(Vec<Step>);

impl KeyPath {
    pub(crate) fn steps(&self) -> &[Step] {
        &self.0
    }

    pub(crate) fn key(&self, key: &str, nth: usize) -> KeyPath {
        self.then(Step::Key { key: key.to_owned(), nth })
    }

    pub(crate) fn item(&self, index: usize) -> KeyPath {
        self.then(Step::Item(index))
    }

    fn then(&self, step: Step) -> KeyPath {
        let mut steps = Vec::with_capacity(self.0.len() + 1);
        steps.extend_from_slice(&self.0);
        steps.push(step);
        KeyPath(steps)
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (depth, step) in self.0.iter().enumerate() {
            match step {
                Step::Key { key, .. } => {
                    write!(f, "{}{}", if depth > 0 { "." } else { "" }, plain(key))?;
                }
                Step::Item(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}
