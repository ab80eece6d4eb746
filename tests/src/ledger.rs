//! The books of a receiver: which points came, how often, and which of them it has confirmed.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::{Mutex, MutexGuard};

use crate::points::Points;

/// The identity of a point: its name and its timestamp.
pub type Key = (String, i64);

/// Counts lines by identity. Shared by all connections of a receiver.
#[derive(Debug, Default)]
pub struct Ledger(Mutex<Books>);

#[derive(Debug, Default)]
struct Books {
    seen: HashMap<Key, Entry>,
    lines: u64,
    confirmed: usize,
    bad: Vec<String>,
    partial: Vec<String>,
}

#[derive(Debug, Default)]
struct Entry {
    value: String,
    times: u64,
    altered: bool,
    confirmed: bool,
}

/// What a ledger holds of a set of points.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Comparison {
    /// Numbers of the points that did not come.
    pub missing: Vec<usize>,
    /// Copies beyond the first, of all points together.
    pub duplicates: u64,
    /// Numbers of the points that came with another value than was sent, or with several.
    pub altered: Vec<usize>,
    /// Identities that came and are not in the set.
    pub strangers: usize,
}

impl Ledger {
    /// Enters one line, without its LF. `None` if it is not `name value timestamp`: then it is kept as bad.
    pub fn enter(&self, line: &[u8]) -> Option<Key> {
        let mut books = self.books();
        books.lines += 1;
        let text = String::from_utf8_lossy(line);
        let Some((key, value)) = parse(&text) else {
            books.bad.push(text.into_owned());
            return None;
        };
        let entry = books.seen.entry(key.clone()).or_default();
        entry.altered |= entry.times > 0 && entry.value != value;
        entry.times += 1;
        value.clone_into(&mut entry.value);
        Some(key)
    }

    /// Enters what a connection ended with, if that was not an LF.
    pub fn enter_partial(&self, rest: &[u8]) {
        self.books().partial.push(String::from_utf8_lossy(rest).into_owned());
    }

    /// The receiver has said that it has these.
    pub fn confirm(&self, keys: &[Key]) {
        let mut guard = self.books();
        let books = &mut *guard;
        for key in keys {
            let entry = books.seen.get_mut(key).filter(|entry| !entry.confirmed);
            if let Some(entry) = entry {
                entry.confirmed = true;
                books.confirmed += 1;
            }
        }
    }

    /// Forgets which points came: of one that comes again after this, a comparison says that it is a stranger.
    pub fn forget(&self) {
        let mut books = self.books();
        books.seen.clear();
        books.confirmed = 0;
    }

    /// Lines that came, good or bad.
    pub fn lines(&self) -> u64 {
        self.books().lines
    }

    /// Identities that came.
    pub fn distinct(&self) -> usize {
        self.books().seen.len()
    }

    /// Identities that are confirmed.
    pub fn confirmed_count(&self) -> usize {
        self.books().confirmed
    }

    /// Lines that were no points.
    pub fn bad(&self) -> Vec<String> {
        self.books().bad.clone()
    }

    /// What connections that broke had begun.
    pub fn partial(&self) -> Vec<String> {
        self.books().partial.clone()
    }

    /// How often the point of this identity came.
    pub fn times(&self, name: &str, timestamp: i64) -> u64 {
        self.books().seen.get(&(name.to_owned(), timestamp)).map_or(0, |entry| entry.times)
    }

    /// Compares what came with what was sent: those `numbers` of `points`.
    pub fn compare(&self, points: &Points, numbers: Range<usize>) -> Comparison {
        let books = self.books();
        let mut comparison = Comparison::default();
        let mut found = 0;
        for number in numbers {
            let point = points.point(number);
            let Some(entry) = books.seen.get(&(point.name, point.timestamp)) else {
                comparison.missing.push(number);
                continue;
            };
            found += 1;
            comparison.duplicates += entry.times - 1;
            if entry.altered || entry.value != point.value {
                comparison.altered.push(number);
            }
        }
        comparison.strangers = books.seen.len() - found;
        comparison
    }

    /// Which of these `numbers` of `points` are confirmed at this moment.
    pub fn confirmed(&self, points: &Points, numbers: Range<usize>) -> HashSet<usize> {
        let books = self.books();
        let is_confirmed = |number: &usize| {
            let point = points.point(*number);
            books.seen.get(&(point.name, point.timestamp)).is_some_and(|entry| entry.confirmed)
        };
        numbers.filter(is_confirmed).collect()
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.0.lock().expect("nothing panics while it holds the books")
    }
}

fn parse(line: &str) -> Option<(Key, &str)> {
    let mut fields = line.split_ascii_whitespace();
    let (name, value, timestamp) = (fields.next()?, fields.next()?, fields.next()?);
    let whole = fields.next().is_none() && value.parse::<f64>().is_ok();
    let timestamp = timestamp.parse().ok()?;
    whole.then(|| ((name.to_owned(), timestamp), value))
}

/// Cuts the bytes of one connection into lines and enters them.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    rest: Vec<u8>,
    keys: Vec<Key>,
    confirmed: bool,
}

impl Reader {
    pub(crate) fn take(&mut self, bytes: &[u8], ledger: &Ledger) {
        self.rest.extend_from_slice(bytes);
        let Some(end) = self.rest.iter().rposition(|byte| *byte == b'\n') else {
            return;
        };
        let after = self.rest.split_off(end + 1);
        let lines = std::mem::replace(&mut self.rest, after);
        let lines = lines.strip_suffix(b"\n").unwrap_or(&lines);
        self.keys.extend(lines.split(|byte| *byte == b'\n').filter_map(|line| ledger.enter(line)));
    }

    /// The receiver has read all there was and said so.
    /// Tells how many lines that were.
    pub(crate) fn confirm(&mut self, ledger: &Ledger) -> u64 {
        ledger.confirm(&self.keys);
        self.confirmed = true;
        self.keys.len() as u64
    }

    /// Lines of which the receiver has said nothing.
    pub(crate) fn unconfirmed_lines(&self) -> u64 {
        if self.confirmed { 0 } else { self.keys.len() as u64 }
    }

    pub(crate) fn end(&self, ledger: &Ledger) {
        if !self.rest.is_empty() {
            ledger.enter_partial(&self.rest);
        }
    }
}
