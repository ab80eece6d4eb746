//! What the picture shows: the demo at this moment, and what happened lately. Pure.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::Instant;

use crate::demo::lookout::Seen;

/// Backlogs that are kept: more than a terminal has columns.
const BACKLOGS_MAX: usize = 1000;
/// Looks that a rate is taken over: about a second.
const RATE_LOOKS: usize = 4;

/// The demo as the picture shows it.
#[derive(Debug)]
pub(super) struct View {
    /// Metrics a second.
    pub(super) rate: u32,
    /// Where us-east shows itself.
    pub(super) http: SocketAddr,
    pub(super) is_finishing: bool,
    /// As the last key left it.
    pub(super) link_is_cut: bool,
    started: Instant,
    seen: Seen,
    /// Before `seen`, oldest first.
    lately: VecDeque<Seen>,
    /// Of us-east, latest first.
    backlogs: VecDeque<u64>,
}

impl View {
    pub(super) fn new(rate: u32, http: SocketAddr, seen: Seen) -> Self {
        Self {
            rate,
            http,
            is_finishing: false,
            link_is_cut: seen.link_is_cut,
            started: seen.at,
            backlogs: VecDeque::from([seen.us.backlog]),
            lately: VecDeque::new(),
            seen,
        }
    }

    /// Takes the next look.
    pub(super) fn take(&mut self, seen: Seen) {
        self.backlogs.push_front(seen.us.backlog);
        self.backlogs.truncate(BACKLOGS_MAX);
        self.lately.push_back(std::mem::replace(&mut self.seen, seen));
        if self.lately.len() > RATE_LOOKS {
            self.lately.pop_front();
        }
    }

    /// The latest look.
    pub(super) fn seen(&self) -> &Seen {
        &self.seen
    }

    /// From the first look to the latest.
    pub(super) fn elapsed(&self) -> Duration {
        self.seen.at - self.started
    }

    /// Its backlogs at the last `count` looks, latest first.
    pub(super) fn backlogs(&self, count: usize) -> Vec<u64> {
        self.backlogs.iter().take(count).copied().collect()
    }

    /// By how much a number has grown in a second.
    pub(super) fn per_second(&self, number: impl Fn(&Seen) -> u64) -> u64 {
        let Some(before) = self.lately.front() else { return 0 };
        let ms = (self.seen.at - before.at).as_millis().max(1);
        let grown = u128::from(number(&self.seen).saturating_sub(number(before)));
        u64::try_from(grown * 1000 / ms).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HTTP: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9613);

    #[test]
    fn a_rate_is_that_of_the_last_second() {
        let mut seen = Seen::nothing(Instant::now());
        let mut view = View::new(100, HTTP, seen.clone());
        let accepted = |seen: &Seen| seen.us.accepted;
        assert_eq!(view.per_second(accepted), 0);
        for look in 1..=8 {
            seen.at += Duration::from_millis(250);
            seen.us.accepted += if look <= 4 { 1000 } else { 10 };
            seen.us.backlog = look;
            view.take(seen.clone());
        }
        assert_eq!(view.per_second(accepted), 40);
        assert_eq!(view.elapsed(), Duration::from_secs(2));
        assert_eq!(view.backlogs(3), [8, 7, 6]);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut view = View::new(100, HTTP, Seen::nothing(Instant::now()));
        for _ in 0..3 * BACKLOGS_MAX {
            view.take(view.seen().clone());
        }
        assert_eq!((view.backlogs.len(), view.lately.len()), (BACKLOGS_MAX, RATE_LOOKS));
    }
}
