//! What two ends agreed on about heart-beats; pure.

use std::time::Duration;

/// An interval without a byte from the peer, in agreed intervals, after which it is dead: ActiveMQ's
/// first heart-beat may come two intervals after CONNECTED.
const TOLERANCE: u32 = 3;

/// The clocks of one connection. `None`: that direction has no heart-beats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Beats {
    /// We write something at least this often: half of what was agreed.
    pub(super) send_every: Option<Duration>,
    /// The peer is dead after this long without a byte.
    pub(super) silent_after: Option<Duration>,
}

impl Beats {
    /// Nothing is agreed on.
    pub(super) const NONE: Self = Self { send_every: None, silent_after: None };

    /// "Heart-beating" of STOMP 1.1 and 1.2: `ours` was offered for both directions, and `theirs` is
    /// the header of CONNECTED, `SX,SY` in ms. `None`: not such a header.
    pub(super) fn agreed(ours: Duration, theirs: Option<&str>) -> Option<Self> {
        let Some(theirs) = theirs else {
            return Some(Self::NONE);
        };
        let (can_send, wants) = theirs.split_once(',')?;
        let can_send = Duration::from_millis(can_send.trim().parse::<u32>().ok()?.into());
        let wants = Duration::from_millis(wants.trim().parse::<u32>().ok()?.into());
        let interval = |theirs: Duration| (!ours.is_zero() && !theirs.is_zero()).then(|| ours.max(theirs));
        Some(Self {
            send_every: interval(wants).map(|agreed| agreed / 2),
            silent_after: interval(can_send).map(|agreed| agreed * TOLERANCE),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(ours_ms: u64, theirs: Option<&str>, send_ms: Option<u64>, silent_ms: Option<u64>) {
        let expected = Beats {
            send_every: send_ms.map(Duration::from_millis),
            silent_after: silent_ms.map(Duration::from_millis),
        };
        assert_eq!(Beats::agreed(Duration::from_millis(ours_ms), theirs), Some(expected));
    }

    #[test]
    fn the_slower_end_sets_the_pace() {
        check(10_000, Some("10000,10000"), Some(5_000), Some(30_000));
        check(10_000, Some("2000,20000"), Some(10_000), Some(30_000));
        check(1_000, Some("4000,500"), Some(500), Some(12_000));
    }

    #[test]
    fn zero_from_either_end_means_none() {
        check(10_000, Some("0,10000"), Some(5_000), None);
        check(10_000, Some("10000,0"), None, Some(30_000));
        check(0, Some("10000,10000"), None, None);
        check(10_000, None, None, None);
    }

    #[test]
    fn what_is_no_heart_beat_header_is_not_guessed_at() {
        for wrong in ["", "10", "10,", "a,b", "-1,0", "1,2,3", "99999999999,1"] {
            assert_eq!(Beats::agreed(Duration::from_secs(10), Some(wrong)), None, "{wrong}");
        }
    }
}
