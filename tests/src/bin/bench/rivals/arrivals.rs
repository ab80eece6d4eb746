//! What has come out, line by line: each has a number, so that one that is missing or came twice is seen.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use memchr::memchr_iter;

use crate::lines::number_of;

/// When each line was sent, as far as that is of interest.
#[derive(Debug)]
pub(crate) struct Stamps {
    since: Instant,
    /// Microseconds, by the number of the line.
    sent: Vec<AtomicU64>,
}

impl Stamps {
    /// For so many lines; no line was sent so far.
    pub(crate) fn new(lines: usize) -> Self {
        let sent = std::iter::repeat_with(AtomicU64::default).take(lines).collect();
        Self { since: Instant::now(), sent }
    }

    /// These lines go out now.
    pub(crate) fn stamp(&self, lines: std::ops::Range<usize>) {
        let now = self.micros(Instant::now());
        for sent in self.sent.get(lines).into_iter().flatten() {
            sent.store(now, Ordering::Relaxed);
        }
    }

    fn micros_since(&self, number: usize, now: Instant) -> Option<u64> {
        let sent = self.sent.get(number)?.load(Ordering::Relaxed);
        Some(self.micros(now).saturating_sub(sent))
    }

    fn micros(&self, at: Instant) -> u64 {
        u64::try_from((at - self.since).as_micros()).unwrap_or(u64::MAX)
    }
}

/// What has come so far.
#[derive(Debug, Default)]
pub(crate) struct Arrivals {
    /// A bit for each line.
    seen: Vec<u64>,
    pub(crate) lines: usize,
    pub(crate) twice: usize,
    /// Lines that nobody sent.
    pub(crate) foreign: usize,
    pub(crate) first: Option<Instant>,
    /// When the last line came that had not come before.
    pub(crate) last: Option<Instant>,
    stamps: Option<Stamps>,
    /// Microseconds on the way, of each line, in the order of arrival.
    on_the_way: Vec<u64>,
}

impl Arrivals {
    /// For the lines with the numbers below `lines`.
    pub(crate) fn new(lines: usize) -> Self {
        Self { seen: vec![0; lines.div_ceil(64)], ..Self::default() }
    }

    /// As [`Arrivals::new`]; how long each was on its way is remembered.
    pub(crate) fn timed(stamps: Stamps) -> Self {
        Self { stamps: Some(stamps), ..Self::new(0) }.with_room()
    }

    fn with_room(mut self) -> Self {
        let lines = self.stamps.as_ref().map_or(0, |stamps| stamps.sent.len());
        self.seen = vec![0; lines.div_ceil(64)];
        self
    }

    /// Says when lines are sent.
    pub(crate) fn stamps(&self) -> Option<&Stamps> {
        self.stamps.as_ref()
    }

    /// Takes whole lines, the last of which may lack its LF.
    pub(crate) fn take(&mut self, lines: &[u8]) {
        let now = Instant::now();
        let mut start = 0;
        for end in memchr_iter(b'\n', lines).chain([lines.len()]) {
            if end > start {
                self.enter(number_of(&lines[start..end]), now);
            }
            start = end + 1;
        }
    }

    /// Takes one line.
    pub(crate) fn enter(&mut self, number: Option<usize>, now: Instant) {
        let place = number.and_then(|number| Some((number, self.seen.get_mut(number / 64)?)));
        let Some((number, word)) = place else {
            self.foreign += 1;
            return;
        };
        let bit = 1 << (number % 64);
        if *word & bit != 0 {
            self.twice += 1;
            return;
        }
        *word |= bit;
        self.lines += 1;
        self.first.get_or_insert(now);
        self.last = Some(now);
        self.on_the_way.extend(self.stamps.as_ref().and_then(|stamps| stamps.micros_since(number, now)));
    }

    /// How long all but the slowest of them were on their way: `share` is 0.5 for the median.
    pub(crate) fn quantile(&self, share: f64) -> Option<Duration> {
        let mut sorted = self.on_the_way.clone();
        sorted.sort_unstable();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a place in the list")]
        let place = ((sorted.len().max(1) - 1) as f64 * share) as usize;
        sorted.get(place).copied().map(Duration::from_micros)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lines::append_line;

    fn lines(numbers: impl IntoIterator<Item = usize>) -> Vec<u8> {
        let mut text = Vec::new();
        numbers.into_iter().for_each(|number| append_line(number, &mut text));
        text
    }

    #[test]
    fn each_line_counts_once_and_strangers_apart() {
        let mut arrivals = Arrivals::new(100);
        arrivals.take(&lines(0..50));
        arrivals.take(lines([99]).trim_ascii_end());
        arrivals.take(&lines([7, 5_000]));
        arrivals.take(b"\nnoise 1 2\n");
        assert_eq!((arrivals.lines, arrivals.twice, arrivals.foreign), (51, 1, 2));
        assert!(arrivals.first <= arrivals.last);
    }

    #[test]
    fn the_time_on_the_way_is_that_of_each_line() {
        let mut arrivals = Arrivals::timed(Stamps::new(100));
        arrivals.stamps().unwrap().stamp(0..100);
        arrivals.take(&lines(0..99));
        let late = Instant::now() + Duration::from_secs(5);
        arrivals.enter(Some(99), late);
        assert!(arrivals.quantile(0.5).unwrap() < Duration::from_secs(4));
        assert!(arrivals.quantile(1.0).unwrap() > Duration::from_secs(4));
    }
}
