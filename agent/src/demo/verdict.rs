//! What the demo ends with: whether anything was lost.

use std::fmt;

use crate::demo::ledger::{Counts, Ledger};

/// What became of the metrics that us-east and dmz-web have receipted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// Metrics that us-east and dmz-web have receipted.
    pub(crate) accepted: u64,
    /// Metrics that came to Graphite.
    pub(crate) arrived: u64,
    /// Metrics that were receipted and did not come.
    pub(crate) missing: u64,
    /// Copies beyond the first.
    pub(crate) twice: u64,
}

impl Verdict {
    /// Compares what was accepted with what has arrived.
    pub(super) fn of(accepted: &Ledger, arrived: &Ledger) -> Self {
        let missing = accepted.missing_in(arrived);
        let Counts { metrics, copies, .. } = arrived.counts();
        Self { accepted: accepted.counts().metrics, arrived: metrics, missing, twice: copies }
    }

    /// A demo that moved nothing has shown nothing.
    pub(crate) fn is_good(&self) -> bool {
        self.missing == 0 && self.accepted > 0
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { accepted, arrived, missing, twice } = self;
        let word = match (self.is_good(), missing) {
            (true, _) => "nothing lost",
            (false, 0) => "nothing shown",
            (false, _) => "LOST",
        };
        write!(
            f,
            "{word}: {accepted} metrics accepted, {arrived} in Graphite, {missing} missing, {twice} twice"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(accepted: &[u8], arrived: &[u8], is_good: bool, expected: &str) {
        let (sent, came) = (Ledger::default(), Ledger::default());
        sent.enter(accepted);
        came.enter(arrived);
        let verdict = Verdict::of(&sent, &came);
        assert_eq!((verdict.is_good(), verdict.to_string().as_str()), (is_good, expected));
    }

    #[test]
    fn copies_are_no_loss_and_one_missing_metric_is() {
        let two = b"a 1 1\na 1 2\n";
        check(two, two, true, "nothing lost: 2 metrics accepted, 2 in Graphite, 0 missing, 0 twice");
        let twice = b"a 1 1\na 1 2\na 1 2\nb 1 1\n";
        check(two, twice, true, "nothing lost: 2 metrics accepted, 3 in Graphite, 0 missing, 1 twice");
        let other = b"a 1 1\nb 1 2\n";
        check(two, other, false, "LOST: 2 metrics accepted, 2 in Graphite, 1 missing, 0 twice");
        check(b"", b"", false, "nothing shown: 0 metrics accepted, 0 in Graphite, 0 missing, 0 twice");
    }
}
