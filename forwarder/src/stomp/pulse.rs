//! The clocks of one connection: when to beat, and when the peer is dead. Pure: it is told the time.

use std::time::Duration;

use tokio::time::Instant;

use super::heartbeat::Beats;

/// What was last heard and said, against what was agreed.
#[derive(Debug)]
pub(super) struct Pulse {
    beats: Beats,
    stall_limit: Duration,
    last_read: Instant,
    /// Or when there came to be something to write.
    last_written: Instant,
    /// While nobody reads, the peer cannot be called silent.
    is_reading: bool,
}

impl Pulse {
    /// Of a stream on which nothing is agreed yet.
    pub(super) fn new(stall_limit: Duration, now: Instant) -> Self {
        Self { beats: Beats::NONE, stall_limit, last_read: now, last_written: now, is_reading: true }
    }

    pub(super) fn agree(&mut self, beats: Beats) {
        self.beats = beats;
    }

    pub(super) fn is_reading(&self) -> bool {
        self.is_reading
    }

    /// From `now` on bytes are read, and only from then on is the peer's silence its own.
    pub(super) fn listen(&mut self, now: Instant) {
        if !self.is_reading {
            self.is_reading = true;
            self.last_read = now;
        }
    }

    pub(super) fn stop_listening(&mut self) {
        self.is_reading = false;
    }

    pub(super) fn has_read(&mut self, now: Instant) {
        self.last_read = now;
    }

    /// Something was written, or the first byte came to wait for it.
    pub(super) fn has_written(&mut self, now: Instant) {
        self.last_written = now;
    }

    /// When a heart-beat is due, if nothing else is written before.
    pub(super) fn beat_at(&self) -> Option<Instant> {
        Some(self.last_written + self.beats.send_every?)
    }

    fn silent_at(&self) -> Option<Instant> {
        let silent_after = self.beats.silent_after.filter(|_| self.is_reading)?;
        Some(self.last_read + silent_after)
    }

    fn stalled_at(&self) -> Instant {
        self.last_written + self.stall_limit
    }

    /// When to look at the clocks again; `is_writing`: bytes wait to be written.
    pub(super) fn look_at(&self, is_writing: bool) -> Option<Instant> {
        let write = if is_writing { Some(self.stalled_at()) } else { self.beat_at() };
        [write, self.silent_at()].into_iter().flatten().min()
    }

    /// For how long the peer has been dead, if it is.
    pub(super) fn silence(&self, is_writing: bool, now: Instant) -> Option<Duration> {
        if self.silent_at().is_some_and(|at| at <= now) {
            return Some(now - self.last_read);
        }
        (is_writing && self.stalled_at() <= now).then(|| now - self.last_written)
    }
}
