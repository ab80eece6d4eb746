//! What a connection has sent and the spool has not committed yet.

use std::collections::VecDeque;

use futures_util::FutureExt;
use tokio::sync::watch;

use crate::ingest::intake::{Intake, Ticket};
use crate::spool::CommitError;

/// Commits that one connection may wait for; beyond them it is not read.
const TICKETS_MAX: usize = 64;

/// Tickets in the order of their lines, one for each commit.
#[derive(Debug)]
pub(super) struct Outstanding {
    tickets: VecDeque<Ticket>,
    failures: watch::Receiver<()>,
}

impl Outstanding {
    pub(super) fn new(intake: &Intake) -> Self {
        Self { tickets: VecDeque::new(), failures: intake.failures() }
    }

    /// Adds `ticket`, and waits while there are too many. Not cancel-safe.
    pub(super) async fn add(&mut self, ticket: Ticket) -> Result<(), CommitError> {
        self.drop_committed()?;
        if !self.tickets.back().is_some_and(|last| last.shares_commit_with(&ticket)) {
            self.tickets.push_back(ticket);
        }
        if self.tickets.len() > TICKETS_MAX {
            self.first_committed().await?;
        }
        Ok(())
    }

    /// Waits until every line is committed, or one will never be. Cancel-safe.
    pub(super) async fn all_committed(&mut self) -> Result<(), CommitError> {
        while !self.tickets.is_empty() {
            self.first_committed().await?;
        }
        Ok(())
    }

    /// Waits for a commit that fails: for ever if there is none. Those that succeed, hundreds in a second, wake
    /// nobody. Cancel-safe.
    pub(super) async fn failure(&mut self) -> CommitError {
        while self.failures.changed().await.is_ok() {
            let mut words = self.tickets.iter().filter_map(|ticket| ticket.committed().now_or_never());
            if let Some(error) = words.find_map(Result::err) {
                return error;
            }
        }
        match self.all_committed().await {
            Err(error) => error,
            Ok(()) => std::future::pending().await,
        }
    }

    async fn first_committed(&mut self) -> Result<(), CommitError> {
        if let Some(first) = self.tickets.front() {
            first.committed().await?;
            self.tickets.pop_front();
        }
        Ok(())
    }

    fn drop_committed(&mut self) -> Result<(), CommitError> {
        while let Some(word) = self.tickets.front().and_then(|first| first.committed().now_or_never()) {
            word?;
            self.tickets.pop_front();
        }
        Ok(())
    }
}
