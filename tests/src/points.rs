//! What a test sends: a set of points, each with an identity of its own.

use std::ops::Range;
use std::time::{SystemTime, UNIX_EPOCH};

/// How far in the past the newest point is, so that no receiver takes one for a future one.
const NEWEST_AGE_SECONDS: i64 = 10;
const BULKY_BYTES: usize = 950;

/// `count` distinct (name, timestamp) pairs over at most `names` names, one point per second and name,
/// all of them recent. Point number `i` has the value `i`.
#[derive(Debug, Clone)]
pub struct Points {
    prefix: String,
    names: usize,
    count: usize,
    first_timestamp: i64,
    /// Bytes at the end of each name that no compressor makes smaller than three quarters.
    noise_bytes: usize,
}

/// One point as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Point {
    /// Metric name.
    pub name: String,
    /// In decimal.
    pub value: String,
    /// Whole seconds since the Unix epoch.
    pub timestamp: i64,
}

impl Points {
    /// The names begin with `prefix`, which tells one test's points from another's.
    pub fn new(prefix: &str, names: usize, count: usize) -> Self {
        let seconds = i64::try_from(count.div_ceil(names)).expect("fewer points than that");
        let first_timestamp = now_seconds() - NEWEST_AGE_SECONDS - seconds;
        Self { prefix: prefix.to_owned(), names, count, first_timestamp, noise_bytes: 0 }
    }

    /// As [`Points::new`], but each is a line of about 1 kB that compresses badly, so that few of them fill
    /// a spool.
    pub fn bulky(prefix: &str, names: usize, count: usize) -> Self {
        Self { noise_bytes: BULKY_BYTES, ..Self::new(prefix, names, count) }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The numbers of all of them.
    pub fn all(&self) -> Range<usize> {
        0..self.count
    }

    /// Point `number`. Neighbours have different names and, mostly, one timestamp.
    pub fn point(&self, number: usize) -> Point {
        let second = i64::try_from(number / self.names).expect("fewer points than that");
        let host = number % self.names;
        Point {
            name: format!("{}.host{host:04}.load{}", self.prefix, noise(host, self.noise_bytes)),
            value: number.to_string(),
            timestamp: self.first_timestamp + second,
        }
    }

    /// These points in Graphite's plaintext, each ended by LF.
    pub fn lines(&self, numbers: Range<usize>) -> String {
        numbers
            .map(|number| {
                let Point { name, value, timestamp } = self.point(number);
                format!("{name} {value} {timestamp}\n")
            })
            .collect()
    }
}

/// The same for the same `host`; every byte is one of 64.
fn noise(host: usize, bytes: usize) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut random = fastrand::Rng::with_seed(host as u64);
    (0..bytes).map(|_| char::from(LETTERS[random.usize(..LETTERS.len())])).collect()
}

/// The system's time.
pub fn now_seconds() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is set");
    i64::try_from(since_epoch.as_secs()).expect("the clock is set")
}
