//! The word on lines that were brought to the spool: fsynced, or not.

use std::sync::Arc;

use tokio::sync::SetOnce;

/// Settled once lines are fsynced, or never will be.
#[derive(Debug, Default)]
pub struct Commit(SetOnce<Result<(), CommitError>>);

/// Why lines did not become durable. Their sender must keep them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// The disk is full; it may be tried again later.
    #[error("the spool's disk is full; send it again later")]
    Full,
    /// The spool failed.
    #[error("the spool failed: {0}")]
    Failed(String),
}

impl Commit {
    /// Waits for the word. Cancel-safe.
    pub async fn settled(&self) -> Result<(), CommitError> {
        self.0.wait().await.clone()
    }

    /// Whether the word is there.
    pub fn is_settled(&self) -> bool {
        self.0.initialized()
    }

    /// A commit that holds nothing and is therefore done.
    pub fn of_nothing() -> Arc<Self> {
        Arc::new(Self(SetOnce::new_with(Some(Ok(())))))
    }

    pub(super) fn settle(&self, word: Result<(), CommitError>) {
        // The first word counts.
        drop(self.0.set(word));
    }
}
