//! How close commits may follow each other while nothing waits: at once, until there are more than
//! 300 a second, then 3 ms apart, so that a steady stream shares commits. Pure.

use std::time::Duration;

use tokio::time::Instant;

const COMMITS_PER_SECOND: f64 = 300.0;
/// How many may be made at once after a quiet time.
const BURST: f64 = 20.0;
const APART: Duration = Duration::from_millis(3);

/// A token bucket over commits.
#[derive(Debug)]
pub(super) struct CommitPace {
    tokens: f64,
    filled: Instant,
}

impl CommitPace {
    pub(super) fn new(now: Instant) -> Self {
        Self { tokens: BURST, filled: now }
    }

    /// When the next commit is due if one is wanted at `now`; it is taken to be made.
    pub(super) fn next_commit(&mut self, now: Instant) -> Instant {
        let quiet = now.saturating_duration_since(self.filled).as_secs_f64();
        self.tokens = (self.tokens + quiet * COMMITS_PER_SECOND).min(BURST);
        self.filled = now;
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            return now;
        }
        self.tokens = 0.0;
        self.filled = now + APART;
        now + APART
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lone_line_is_committed_at_once() {
        let start = Instant::now();
        let mut pace = CommitPace::new(start);
        for second in 0..100 {
            let now = start + Duration::from_secs(second);
            assert_eq!(pace.next_commit(now), now);
        }
    }

    #[test]
    fn a_steady_stream_shares_commits() {
        let start = Instant::now();
        let mut pace = CommitPace::new(start);
        let mut now = start;
        let mut commits = 0;
        while now < start + Duration::from_secs(1) {
            now = pace.next_commit(now) + Duration::from_micros(100);
            commits += 1;
        }
        assert!((300..=350).contains(&commits), "{commits} commits in a second");
    }
}
