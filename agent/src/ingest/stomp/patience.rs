//! How long a client may be silent, and how long it may take for a frame. Only the time in which it is
//! read counts: while the spool is full, it is not to blame. No clock: the caller measures.

use std::time::Duration;

use super::refusal::Refusal;

/// The patience with one client.
#[derive(Debug)]
pub(super) struct Patience {
    /// `None`: it need not beat.
    silence_max: Option<Duration>,
    /// Spent waiting since something was read.
    silent: Duration,
    frame_max: Duration,
    /// Spent waiting for the rest of the frame that has begun.
    frame_spent: Duration,
}

impl Patience {
    pub(super) fn new(frame_max: Duration) -> Self {
        Self { silence_max: None, silent: Duration::ZERO, frame_max, frame_spent: Duration::ZERO }
    }

    /// The client has promised a beat each `interval`. It gets two and a half, since a network may hold
    /// one up, and ActiveMQ's clients skip one (STOMP 1.2, "Heart-beating": leave an error margin).
    pub(super) fn expect_beats(&mut self, interval: Duration) {
        self.silence_max = Some(interval * 5 / 2);
    }

    /// How long the next read may wait still, and what to say if it gives nothing by then.
    pub(super) fn left(&self, mid_frame: bool) -> Option<(Duration, Refusal)> {
        let silence = self.silence_max.map(|max| (max.saturating_sub(self.silent), Refusal::Silent(max)));
        let frame = mid_frame
            .then(|| (self.frame_max.saturating_sub(self.frame_spent), Refusal::FrameTime(self.frame_max)));
        silence.into_iter().chain(frame).min_by_key(|(left, _)| *left)
    }

    /// So long was something to be read waited for, whether or not it came.
    pub(super) fn waited(&mut self, waited: Duration, mid_frame: bool) {
        self.silent += waited;
        if mid_frame {
            self.frame_spent += waited;
        }
    }

    /// How long nothing has been read, though it was waited for.
    pub(super) fn silent(&self) -> Duration {
        self.silent
    }

    /// Something was read.
    pub(super) fn heard(&mut self) {
        self.silent = Duration::ZERO;
    }

    /// A frame is whole.
    pub(super) fn frame_done(&mut self) {
        self.frame_spent = Duration::ZERO;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn without_beats_an_idle_client_may_be_silent_for_ever() {
        assert_eq!(Patience::new(SECOND).left(false), None);
    }

    #[test]
    fn a_frame_that_drips_has_one_time_for_all_its_reads() {
        let mut patience = Patience::new(10 * SECOND);
        for left in (1..=10).rev() {
            assert_eq!(patience.left(true).map(|(left, _)| left), Some(left * SECOND));
            patience.waited(SECOND, true);
            patience.heard();
        }
        assert_eq!(patience.left(true), Some((Duration::ZERO, Refusal::FrameTime(10 * SECOND))));
        patience.frame_done();
        assert_eq!(patience.left(true).map(|(left, _)| left), Some(10 * SECOND));
    }

    #[test]
    fn beats_may_be_late_but_not_missing() {
        let mut patience = Patience::new(60 * SECOND);
        patience.expect_beats(10 * SECOND);
        let silent = Some((25 * SECOND, Refusal::Silent(25 * SECOND)));
        assert_eq!(patience.left(false), silent);
        assert_eq!(patience.left(true), silent, "the nearer end counts");
        patience.waited(5 * SECOND, false);
        assert_eq!(patience.left(false).map(|(left, _)| left), Some(20 * SECOND));
        patience.heard();
        assert_eq!(patience.left(false), silent);
    }
}
