//! Sums up repeated failures, so that a link that is down for a week does not fill a disk with lines.
//! Pure: it is told the time and says what is worth a line.
//!
//! The first failure is, and each kind of failure that is new to the outage (up to `KINDS_MAX`);
//! then one a minute. The end is, too. An end that does not last for a minute was none: a link
//! that flaps stays in the same outage and gets its lines once a minute.

use std::time::Duration;

use tokio::time::Instant;

/// The same is not said again before this, and a mended link that fails within it was not mended.
const QUIET: Duration = Duration::from_secs(60);
/// Kinds of failure that get a line of their own in one outage. Texts with a counter or a port in
/// them would otherwise all be new.
const KINDS_MAX: usize = 8;

/// One outage after the other of the same thing.
#[derive(Debug, Default)]
pub struct Outage {
    began: Option<Instant>,
    mended: Option<Instant>,
    attempts: u64,
    kinds: Vec<String>,
    failing_said: Option<Instant>,
    mended_said: Option<Instant>,
}

/// What a line says: how long the outage lasts, and how many attempts failed in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// Since its first failure.
    pub lasted: Duration,
    /// Failures in it.
    pub attempts: u64,
}

impl Outage {
    /// It failed. `Some`: say so.
    pub fn failed(&mut self, now: Instant, kind: &str) -> Option<Summary> {
        if self.mended.is_some_and(|mended| now >= mended + QUIET) {
            *self = Self::default();
        }
        self.mended = None;
        self.attempts += 1;
        let began = *self.began.get_or_insert(now);
        let is_new = self.kinds.len() < KINDS_MAX && !self.kinds.iter().any(|known| known == kind);
        if is_new {
            self.kinds.push(kind.to_owned());
        }
        if !is_new && !is_due(self.failing_said, now) {
            return None;
        }
        self.failing_said = Some(now);
        Some(self.summary(began, now))
    }

    /// It works. `Some`: it did not before, so say so.
    pub fn mended(&mut self, now: Instant) -> Option<Summary> {
        let began = self.began?;
        if self.mended.is_some() {
            return None;
        }
        self.mended = Some(now);
        if !is_due(self.mended_said, now) {
            return None;
        }
        self.mended_said = Some(now);
        Some(self.summary(began, now))
    }

    fn summary(&self, began: Instant, now: Instant) -> Summary {
        Summary { lasted: now.duration_since(began), attempts: self.attempts }
    }
}

fn is_due(said: Option<Instant>, now: Instant) -> bool {
    said.is_none_or(|said| now >= said + QUIET)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    fn summary(lasted: u64, attempts: u64) -> Option<Summary> {
        let lasted = seconds(lasted);
        Some(Summary { lasted, attempts })
    }

    #[test]
    fn the_first_failure_is_said_and_then_one_a_minute() {
        let (mut outage, begin) = (Outage::default(), Instant::now());
        let lines: Vec<_> =
            (0..=180).filter_map(|at| outage.failed(begin + seconds(at), "connection refused")).collect();
        let expected = [(0, 1), (60, 61), (120, 121), (180, 181)];
        assert_eq!(lines, expected.map(|(at, count)| summary(at, count).expect("some")));
        assert_eq!(outage.mended(begin + seconds(181)), summary(181, 181));
        assert_eq!(outage.mended(begin + seconds(182)), None);
    }

    #[test]
    fn a_new_kind_is_said_at_once_and_an_old_one_is_not() {
        let (mut outage, now) = (Outage::default(), Instant::now());
        assert!(outage.failed(now, "connection refused").is_some());
        assert!(outage.failed(now, "login refused").is_some());
        assert!(outage.failed(now, "connection refused").is_none());
        assert!(outage.failed(now, "login refused").is_none());
    }

    #[test]
    fn texts_that_are_always_new_do_not_get_a_line_each() {
        let (mut outage, begin) = (Outage::default(), Instant::now());
        let lines = (0..10_000_u32)
            .filter_map(|attempt| {
                let kind = format!("lost after {attempt} bytes");
                outage.failed(begin + Duration::from_millis(30) * attempt, &kind)
            })
            .count();
        assert_eq!(lines, KINDS_MAX + 4);
    }

    #[test]
    fn a_link_that_flaps_gets_two_lines_a_minute() {
        let (mut outage, begin) = (Outage::default(), Instant::now());
        let (mut failing, mut mended) = (0, 0);
        for step in 0..(4 * 300) {
            let now = begin + Duration::from_millis(250) * step;
            failing += u32::from(outage.failed(now, "closed").is_some());
            mended += u32::from(outage.mended(now).is_some());
        }
        assert_eq!((failing, mended), (5, 5));
    }

    #[test]
    fn a_failure_long_after_the_mend_is_another_outage() {
        let (mut outage, begin) = (Outage::default(), Instant::now());
        assert_eq!(outage.failed(begin, "closed"), summary(0, 1));
        assert_eq!(outage.mended(begin + seconds(10)), summary(10, 1));
        assert_eq!(outage.failed(begin + seconds(69), "closed"), summary(69, 2));
        assert_eq!(outage.mended(begin + seconds(70)), summary(70, 2));
        assert_eq!(outage.failed(begin + seconds(130), "closed"), summary(0, 1));
    }

    #[test]
    fn what_never_failed_is_not_mended() {
        assert_eq!(Outage::default().mended(Instant::now()), None);
    }
}
