//! When a spool will be full, and when a backlog will be gone, at the present rate. Pure: it is fed
//! with a report about once a second.

use std::collections::HashMap;

use crate::spool::Report;

/// What is left of an old rate after a minute, so that a forecast follows a change within about one.
const KEPT_AFTER_A_MINUTE: f64 = 0.37;

/// Smoothed rates of one spool.
#[derive(Debug, Clone, Default)]
pub struct Forecast {
    taken_ms: Option<i64>,
    used_bytes: Rate,
    limit_bytes: f64,
    /// It refuses already: a little before its limit, or for want of a disk.
    is_full: bool,
    /// In lines, by link.
    backlogs: HashMap<String, Rate>,
}

/// An amount, and how much it changes in a second.
#[derive(Debug, Clone, Copy, Default)]
struct Rate {
    amount: f64,
    per_second: f64,
}

impl Forecast {
    /// Takes a report of `now_ms`, in ms since the Unix epoch, into account.
    pub fn take(&mut self, report: &Report, now_ms: i64) {
        let elapsed_ms = self.taken_ms.map(|taken| now_ms - taken);
        if elapsed_ms.is_some_and(|elapsed| elapsed <= 0) {
            // The clock was set back: the rates go on from here.
            self.taken_ms = Some(now_ms);
            return;
        }
        self.taken_ms = Some(now_ms);
        let seconds = elapsed_ms.map(|elapsed| elapsed as f64 / 1000.0);
        self.limit_bytes = report.limit_bytes as f64;
        self.is_full = report.is_full;
        self.used_bytes.take((report.used_bytes + report.wal_bytes) as f64, seconds);
        for link in &report.links {
            self.backlogs.entry(link.name.clone()).or_default().take(link.backlog.lines as f64, seconds);
        }
    }

    /// Seconds until the spool is full; infinite if it does not fill.
    pub fn full_seconds(&self) -> f64 {
        let room = (self.limit_bytes - self.used_bytes.amount).max(0.0);
        match self.used_bytes.per_second {
            _ if self.is_full || room == 0.0 => 0.0,
            rate if rate > 0.0 => room / rate,
            _ => f64::INFINITY,
        }
    }

    /// Seconds until the backlog of `link` is gone; infinite if it does not shrink.
    pub fn drain_seconds(&self, link: &str) -> f64 {
        let backlog = self.backlogs.get(link).copied().unwrap_or_default();
        match backlog.per_second {
            _ if backlog.amount == 0.0 => 0.0,
            rate if rate < 0.0 => backlog.amount / -rate,
            _ => f64::INFINITY,
        }
    }
}

impl Rate {
    /// The amount is now `amount`, so many `seconds` after the last one, if there was one.
    fn take(&mut self, amount: f64, seconds: Option<f64>) {
        if let Some(seconds) = seconds {
            let kept = KEPT_AFTER_A_MINUTE.powf(seconds / 60.0);
            self.per_second = self.per_second * kept + (amount - self.amount) / seconds * (1.0 - kept);
        }
        self.amount = amount;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spool::{Amount, LinkReport};

    fn report(used_bytes: u64, backlog_lines: i64) -> Report {
        let backlog = Amount { lines: backlog_lines, ..Amount::default() };
        let link = LinkReport { name: "eu".to_owned(), backlog, ..LinkReport::default() };
        Report { used_bytes, limit_bytes: 1_000_000, links: vec![link], ..Report::default() }
    }

    /// Feeds one report a second for ten minutes.
    fn after_ten_minutes(used: impl Fn(u64) -> u64, backlog: impl Fn(i64) -> i64) -> Forecast {
        let mut forecast = Forecast::default();
        for second in 0..=600_i64 {
            forecast.take(&report(used(second.unsigned_abs()), backlog(second)), second * 1000);
        }
        forecast
    }

    fn is_about(found: f64, expected: f64) -> bool {
        (found - expected).abs() <= expected * 0.05
    }

    #[test]
    fn a_spool_that_grows_tells_when_it_is_full() {
        let forecast = after_ten_minutes(|second| 100_000 + 1000 * second, |_| 0);
        assert!(is_about(forecast.full_seconds(), 300.0), "{}", forecast.full_seconds());
    }

    #[test]
    fn one_that_does_not_grow_is_never_full() {
        assert_eq!(after_ten_minutes(|_| 5000, |_| 0).full_seconds(), f64::INFINITY);
        assert_eq!(after_ten_minutes(|_| 1_000_000, |_| 0).full_seconds(), 0.0);
    }

    #[test]
    fn one_that_refuses_is_full_though_it_has_not_reached_its_limit() {
        let mut forecast = Forecast::default();
        forecast.take(&Report { is_full: true, ..report(900_000, 0) }, 0);
        assert_eq!(forecast.full_seconds(), 0.0);
        forecast.take(&report(800_000, 0), 1000);
        assert_eq!(forecast.full_seconds(), f64::INFINITY);
    }

    #[test]
    fn a_backlog_that_shrinks_tells_when_it_is_gone() {
        let forecast = after_ten_minutes(|_| 0, |second| 100_000 - 100 * second);
        assert!(is_about(forecast.drain_seconds("eu"), 400.0), "{}", forecast.drain_seconds("eu"));
        assert_eq!(after_ten_minutes(|_| 0, |second| second).drain_seconds("eu"), f64::INFINITY);
        assert_eq!(after_ten_minutes(|_| 0, |_| 0).drain_seconds("eu"), 0.0);
    }

    #[test]
    fn a_clock_that_is_set_back_spoils_nothing() {
        let mut forecast = after_ten_minutes(|_| 0, |second| 100_000 - 100 * second);
        forecast.take(&report(0, 40_000), 0);
        forecast.take(&report(0, 39_900), 1000);
        assert!(is_about(forecast.drain_seconds("eu"), 399.0));
    }
}
