//! The commands of one transaction, until they are answered.

use super::words::Settle;
use super::{Command, Entry, Owed, Uncommitted};
use crate::spool::{CommitError, Sealed};

/// Commands that one transaction takes.
pub(super) const GROUP_MAX: usize = 64;

/// The commands of one transaction.
#[derive(Default)]
pub(super) struct Group {
    pub(super) appends: Vec<(Entry, Owed, Uncommitted)>,
    pub(super) settles: Vec<Settle>,
    /// Done after the commit, so that they see it.
    pub(super) after: Vec<Command>,
}

impl Group {
    /// The commands in it.
    pub(super) fn len(&self) -> usize {
        self.appends.len() + self.after.len()
    }

    /// What the entries append.
    pub(super) fn stored_bytes(&self) -> u64 {
        let entries = self.appends.iter().map(|(entry, ..)| entry);
        entries.flat_map(Entry::all_sealed).map(Sealed::stored_bytes).sum()
    }

    pub(super) fn take(&mut self, command: Command) {
        match command {
            Command::Append { entry, owed, uncommitted } => self.appends.push((entry, owed, uncommitted)),
            // What it is about is looked at when it is known what it goes with.
            Command::Nudge => {}
            later => self.after.push(later),
        }
    }

    /// Tells those who bring something that it is not taken, and whether there were any. Who only takes something
    /// away stays.
    pub(super) fn answer_appending(&mut self, error: &CommitError) -> bool {
        let (appending, rest): (Vec<_>, _) =
            std::mem::take(&mut self.appends).into_iter().partition(|(entry, ..)| entry.appends());
        let any = !appending.is_empty();
        self.appends = appending;
        self.answer(&Err(error.clone()));
        self.appends = rest;
        any
    }

    pub(super) fn answer(&mut self, word: &Result<(), CommitError>) {
        for (entry, owed, _uncommitted) in self.appends.drain(..) {
            entry.end_leases(word.is_ok());
            owed.0.settle(word.clone());
        }
    }
}
