//! The book of faults: every check writes into it and goes on.

use std::cell::RefCell;

use crate::fault::Fault;
use crate::key_path::KeyPath;
use crate::lines::Lines;

/// The faults found so far, and the lines to place them on.
pub(crate) struct Book {
    lines: Lines,
    faults: RefCell<Vec<Fault>>,
}

/// The proof that a fault is in the book: only [`Book::write`] makes one. So a check that gives no value
/// has said why, and a caller that passes it on need not say it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reported(());

/// What a check read, or that its fault is in the book.
pub(crate) type Checked<T> = Result<T, Reported>;

/// What a parser of one text has to say against it; the place is added by who reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Complaint {
    pub(crate) message: String,
    pub(crate) mend: String,
}

/// All of them, if all were read. It looks at each one first: to stop early would hide the later faults.
pub(crate) fn every<T>(read: impl IntoIterator<Item = Checked<T>>) -> Checked<Vec<T>> {
    let all: Vec<_> = read.into_iter().collect();
    all.into_iter().collect()
}

/// Looks at what was read without taking it.
pub(crate) fn by_ref<T>(read: &Checked<T>) -> Checked<&T> {
    read.as_ref().map_err(|reported| *reported)
}

impl Complaint {
    pub(crate) fn new(message: impl Into<String>, mend: impl Into<String>) -> Complaint {
        Complaint { message: message.into(), mend: mend.into() }
    }
}

impl Book {
    pub(crate) fn new(lines: Lines) -> Book {
        Book { lines, faults: RefCell::default() }
    }

    pub(crate) fn write(&self, path: &KeyPath, complaint: Complaint) -> Reported {
        let Complaint { message, mend } = complaint;
        let line = self.line(path);
        self.faults.borrow_mut().push(Fault { path: path.to_string(), line, message, mend });
        Reported(())
    }

    pub(crate) fn line(&self, path: &KeyPath) -> Option<usize> {
        self.lines.line(path)
    }

    pub(crate) fn into_faults(self) -> Vec<Fault> {
        self.faults.into_inner()
    }
}
