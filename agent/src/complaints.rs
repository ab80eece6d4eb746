//! What went wrong with clients, for the log: the first at once, those that follow within a minute
//! summed up in one line, so that one broken producer does not fill the log.

use std::fmt::Display;
use std::future::pending;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

const SUMMED_OVER: Duration = Duration::from_secs(60);

/// Complaints of the current minute.
#[derive(Debug)]
pub(crate) struct Complaints {
    /// Whose clients they are about, such as `stomp`.
    protocol: &'static str,
    /// When those that were not logged are summed up; `None` while all is quiet.
    sum_up_at: Option<Instant>,
    unlogged: u64,
    last: String,
}

impl Complaints {
    /// About clients of `protocol`.
    pub(crate) fn of(protocol: &'static str) -> Self {
        Self { protocol, sum_up_at: None, unlogged: 0, last: String::new() }
    }

    /// The session of `peer` ended because of `what`.
    pub(crate) fn note(&mut self, peer: SocketAddr, what: &dyn Display) {
        if self.sum_up_at.is_none() {
            tracing::warn!(%peer, reason = %what, "{} session ended", self.protocol);
            self.sum_up_at = Some(Instant::now() + SUMMED_OVER);
            return;
        }
        tracing::debug!(%peer, reason = %what, "{} session ended", self.protocol);
        self.unlogged += 1;
        self.last = format!("{peer}: {what}");
    }

    /// Waits until it is time to sum up. Cancel-safe.
    pub(crate) async fn due(&self) {
        match self.sum_up_at {
            Some(due) => sleep_until(due).await,
            None => pending().await,
        }
    }

    /// Logs what was not logged, in one line.
    pub(crate) fn sum_up(&mut self) {
        self.sum_up_at = None;
        if self.unlogged > 0 {
            let (sessions, last) = (self.unlogged, &self.last);
            tracing::warn!(sessions, %last, "more {} sessions ended within a minute", self.protocol);
            self.unlogged = 0;
            self.sum_up_at = Some(Instant::now() + SUMMED_OVER);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_complaints_is_two_lines_a_minute() {
        let mut complaints = Complaints::of("test");
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        for _ in 0..1000 {
            complaints.note(peer, &"a");
        }
        assert_eq!(complaints.unlogged, 999);
        let before = Instant::now();
        complaints.due().await;
        assert_eq!(before.elapsed(), SUMMED_OVER);
        complaints.sum_up();
        complaints.note(peer, &"b");
        assert_eq!(complaints.unlogged, 1, "the next minute has begun with the sum");
        complaints.sum_up();
        complaints.sum_up();
        assert!(complaints.sum_up_at.is_none(), "a quiet minute ends it");
    }
}
