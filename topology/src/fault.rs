//! What is wrong with a topology, in the words that an operator reads. It knows nothing about YAML.

use std::error::Error;
use std::fmt;
use std::path::{Path, PathBuf};

/// One thing that is wrong, where it stands, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The key, such as `agents.us-east.forward[0].to`; empty if the whole file is meant.
    pub path: String,
    /// Counted from 1; `None` if nobody knows, or if the whole file is meant.
    pub line: Option<usize>,
    /// What is wrong: lower case, no full stop.
    pub message: String,
    /// What makes it right.
    pub mend: String,
}

impl Fault {
    /// A fault of the file as a whole.
    pub(crate) fn of_file(message: impl Into<String>, mend: impl Into<String>) -> Fault {
        Fault { path: String::new(), line: None, message: message.into(), mend: mend.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        write!(f, "{}; {}", self.message, self.mend)
    }
}

/// Every fault of one topology, in the order of its lines; never empty. Displayed with one line each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults {
    file: Option<PathBuf>,
    faults: Vec<Fault>,
}

impl Faults {
    /// The file that was read; `None` for a text from memory.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// All of them; at least one.
    pub fn faults(&self) -> &[Fault] {
        &self.faults
    }

    pub(crate) fn in_file(self, path: &Path) -> Faults {
        Faults { file: Some(path.to_owned()), ..self }
    }
}

impl From<Fault> for Faults {
    fn from(fault: Fault) -> Faults {
        Faults::from(vec![fault])
    }
}

impl From<Vec<Fault>> for Faults {
    fn from(mut faults: Vec<Fault>) -> Faults {
        faults.sort_by_key(|fault| fault.line);
        Faults { file: None, faults }
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.faults.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            match (&self.file, fault.line) {
                (Some(file), Some(line)) => write!(f, "{}:{line}: {fault}", file.display())?,
                (Some(file), None) => write!(f, "{}: {fault}", file.display())?,
                (None, Some(line)) => write!(f, "line {line}: {fault}")?,
                (None, None) => write!(f, "{fault}")?,
            }
        }
        Ok(())
    }
}

impl Error for Faults {}
