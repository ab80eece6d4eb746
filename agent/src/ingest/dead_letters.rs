//! How many of the refused lines are kept as dead letters: enough to see what is wrong, not enough to
//! fill a disk. The others are only counted. Pure: the caller tells the time.

use std::collections::HashMap;
use std::sync::Arc;

use crate::ingest::line::Checked;
use crate::ingest::{Input, Sender};

/// Lines kept of one sender in a second.
pub(super) const SENDER_LINES_MAX: usize = 100;
/// Lines kept of all senders in a second. It bounds the senders that are remembered, too.
pub(super) const LINES_MAX: usize = 1000;
/// Bytes kept of all senders in a second.
pub(super) const BYTES_MAX: usize = 1024 * 1024;

/// Limits what is kept of refused lines, per sender and over all, in each second.
#[derive(Debug, Default)]
pub(super) struct DeadLetters {
    /// The second that the counts below are of.
    second: i64,
    lines: usize,
    bytes: usize,
    by_sender: HashMap<(Input, Arc<str>), usize>,
}

impl DeadLetters {
    /// One that has kept nothing yet.
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// Leaves in `checked` those of the lines refused to `from` at `now_seconds` that may be kept; the
    /// others are only counted there.
    pub(super) fn limit(&mut self, from: &Sender, now_seconds: i64, checked: &mut Checked) {
        if checked.refused.is_empty() {
            return;
        }
        if now_seconds != self.second {
            *self = Self { second: now_seconds, ..Self::default() };
        }
        let sender = (from.input, Arc::clone(&from.peer));
        let of_sender = self.by_sender.get(&sender).copied().unwrap_or_default();
        let room = (SENDER_LINES_MAX - of_sender).min(LINES_MAX - self.lines);
        let mut kept = 0;
        for refused in checked.refused.iter().take(room) {
            if self.bytes + refused.line.len() > BYTES_MAX {
                break;
            }
            self.bytes += refused.line.len();
            kept += 1;
        }
        checked.keep_refused(kept);
        if kept > 0 {
            self.lines += kept;
            self.by_sender.insert(sender, of_sender + kept);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::line::check;

    fn sender(peer: &str) -> Sender {
        Sender { input: Input::Udp, peer: peer.into() }
    }

    /// Lets `lines` bad lines of `bytes` each come from `peer`, and tells how many are kept.
    fn kept(limiter: &mut DeadLetters, peer: &str, second: i64, lines: usize, bytes: usize) -> usize {
        let mut checked = Checked::default();
        check(format!("{}\n", "x".repeat(bytes)).repeat(lines).as_bytes(), 0, &mut checked);
        limiter.limit(&sender(peer), second, &mut checked);
        assert_eq!(checked.refused_count(), lines as u64, "every line is kept or counted");
        checked.refused.len()
    }

    #[test]
    fn a_sender_keeps_so_many_in_a_second() {
        let mut limiter = DeadLetters::new();
        assert_eq!(kept(&mut limiter, "a", 1, 60, 10), 60);
        assert_eq!(kept(&mut limiter, "a", 1, 60, 10), SENDER_LINES_MAX - 60);
        assert_eq!(kept(&mut limiter, "a", 1, 60, 10), 0);
        assert_eq!(kept(&mut limiter, "b", 1, 60, 10), 60, "another sender has its own");
        assert_eq!(kept(&mut limiter, "a", 2, 60, 10), 60, "a new second");
        assert_eq!(kept(&mut limiter, "a", 1, 60, 10), 60, "a clock that was set back");
    }

    #[test]
    fn the_way_in_is_a_part_of_the_sender() {
        let mut limiter = DeadLetters::new();
        assert_eq!(kept(&mut limiter, "a", 1, 100, 10), 100);
        let mut checked = Checked::default();
        check(b"x\n", 0, &mut checked);
        limiter.limit(&Sender { input: Input::Stomp, peer: "a".into() }, 1, &mut checked);
        assert_eq!(checked.refused.len(), 1);
    }

    #[test]
    fn many_senders_share_a_limit_and_are_not_remembered_beyond_it() {
        let mut limiter = DeadLetters::new();
        let all: usize = (0..5000).map(|peer| kept(&mut limiter, &peer.to_string(), 1, 1, 10)).sum();
        assert_eq!(all, LINES_MAX);
        assert_eq!(limiter.by_sender.len(), LINES_MAX);
    }

    #[test]
    fn bytes_are_limited() {
        let mut limiter = DeadLetters::new();
        let all: usize = (0..10).map(|peer| kept(&mut limiter, &peer.to_string(), 1, 100, 4096)).sum();
        assert_eq!(all, BYTES_MAX / 4096);
    }
}
