//! Bytes that all sessions may hold together, so that many clients with large frames or transactions
//! cannot take more memory than one setting says. Nobody waits for a share: who holds one might wait
//! for more.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What is left for everybody. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Budget(Arc<AtomicUsize>);

/// Bytes taken from a [`Budget`], given back on drop.
#[derive(Debug)]
pub(super) struct Share {
    budget: Budget,
    bytes: usize,
}

impl Budget {
    pub(super) fn new(bytes: usize) -> Self {
        Self(Arc::new(AtomicUsize::new(bytes)))
    }

    /// A share of nothing yet.
    pub(super) fn share(&self) -> Share {
        Share { budget: self.clone(), bytes: 0 }
    }
}

impl Share {
    /// Makes it `bytes`, larger or smaller. `false`, and nothing changed, if there is not so much left.
    pub(super) fn resize(&mut self, bytes: usize) -> bool {
        let left = &self.budget.0;
        if bytes > self.bytes {
            let more = bytes - self.bytes;
            let taken =
                left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(more));
            if taken.is_err() {
                return false;
            }
        } else {
            left.fetch_add(self.bytes - bytes, Ordering::Relaxed);
        }
        self.bytes = bytes;
        true
    }

    /// Takes a part of it out, to be given back on its own.
    pub(super) fn split(&mut self, bytes: usize) -> Self {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        Self { budget: self.budget.clone(), bytes }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.0.fetch_add(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_never_exceed_the_budget_and_are_given_back() {
        let budget = Budget::new(10);
        let (mut one, mut two) = (budget.share(), budget.share());
        assert!(one.resize(6));
        assert!(!two.resize(5), "only four are left");
        assert!(two.resize(4));
        assert!(one.resize(3));
        assert!(two.resize(7));
        assert_eq!(two.bytes(), 7);
        drop(two.split(5));
        assert!(one.resize(8));
        assert!(!one.resize(9));
        drop(two);
        assert!(one.resize(10));
    }
}
