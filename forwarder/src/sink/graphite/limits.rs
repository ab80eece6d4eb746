//! How much a pool holds and how long it waits. Pure numbers.

use std::time::Duration;

use crate::batch::BATCH_RAW_BYTES_MAX;
use crate::lease::Lease;

/// The open connections may carry one of this many parts of the window. The others wait for a FIN, or for the time after
/// which one counts: were there two parts only, nothing would be written for as long as that takes.
const WINDOW_PARTS: usize = 4;

/// Longer than any process runs, and an instant may still be so far away.
const NEVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// What leases weigh together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Load {
    /// How many.
    pub leases: usize,
    /// Decoded bytes of their lines.
    pub bytes: usize,
}

impl Load {
    pub(super) fn add(&mut self, lease: &Lease) {
        self.leases += 1;
        self.bytes += lease.batch().raw_bytes();
    }

    pub(super) fn plus(self, other: Self) -> Self {
        Self { leases: self.leases + other.leases, bytes: self.bytes + other.bytes }
    }

    pub(super) fn remove(&mut self, lease: &Lease) {
        self.leases = self.leases.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(lease.batch().raw_bytes());
    }

    /// Whether one more lease of any size fits into `window`. An empty pool always has room, so that
    /// a window below the largest batch does not stop the road.
    pub(super) fn leaves_room_in(self, window: Self) -> bool {
        let fits =
            self.leases < window.leases && self.bytes.saturating_add(BATCH_RAW_BYTES_MAX) <= window.bytes;
        fits || self.leases == 0
    }

    /// Whether this is all that open connections may carry of `window`, in leases or in bytes.
    fn is_open_part_of(self, window: Self) -> bool {
        self.leases > 0
            && (self.leases.saturating_mul(WINDOW_PARTS) >= window.leases
                || self.bytes.saturating_mul(WINDOW_PARTS) >= window.bytes)
    }
}

/// How much a pool holds and how long it waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolLimits {
    /// What may be in flight: the prefetch. Its bytes bound the pool's memory.
    pub window: Load,
    /// A connection is turned over this long after the first lease was written on it.
    pub turnover_age: Duration,
    /// A connection is turned over once this many bytes were written on it.
    pub turnover_bytes: u64,
    /// The connections are turned over when no lease has come for this long though there was room, if many are
    /// unconfirmed.
    pub dry_after: Duration,
    /// A lane that has work and does not move for this long loses its waiting leases to the others.
    pub stalled_after: Duration,
    /// A FIN in answer counts once this long has passed and its Graphite is still there.
    pub witness_after: Duration,
    /// One dial, all addresses of the name together.
    pub dial_within: Duration,
    /// Without a standing connection for this long the pool ends.
    pub down_after: Duration,
    /// What is not confirmed by then is lost, or the whole pool is silent. Below the 20 minutes after
    /// which a consumer must give its messages back.
    pub confirm_within: Duration,
}

impl PoolLimits {
    /// The design's limits around this window.
    pub fn with_window(window: Load) -> Self {
        Self {
            window,
            turnover_age: Duration::from_secs(5),
            turnover_bytes: 8 * 1024 * 1024,
            dry_after: Duration::from_millis(50),
            stalled_after: Duration::from_secs(1),
            witness_after: Duration::from_millis(250),
            dial_within: Duration::from_secs(5),
            down_after: Duration::from_secs(10),
            confirm_within: Duration::from_secs(15 * 60),
        }
    }

    /// For connections that are never turned over.
    pub(super) fn without_turnover(self) -> Self {
        Self { turnover_age: NEVER, turnover_bytes: u64::MAX, ..self }
    }

    /// A connection that is gone sooner than this, without any receipt, was none.
    pub(super) fn lasts(&self) -> Duration {
        self.down_after / 10
    }
}

/// What the open connections may still take before one of them must be turned over.
#[derive(Debug)]
pub(super) struct Quota {
    open: Load,
    window: Option<Load>,
}

impl Quota {
    /// `open` is what the open connections carry; without a `window` there is no such bound.
    pub(super) fn new(open: Load, window: Option<Load>) -> Self {
        Self { open, window }
    }

    pub(super) fn has_room(&self) -> bool {
        self.window.is_none_or(|window| !self.open.is_open_part_of(window))
    }

    pub(super) fn take(&mut self, lease: &Lease) {
        self.open.add(lease);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Load = Load { leases: 4, bytes: 4 * BATCH_RAW_BYTES_MAX };

    fn load(leases: usize, bytes: usize) -> Load {
        Load { leases, bytes }
    }

    #[test]
    fn room_ends_at_either_bound_but_never_at_an_empty_pool() {
        assert!(load(3, 3).leaves_room_in(WINDOW));
        assert!(!load(4, 4).leaves_room_in(WINDOW));
        assert!(load(1, 3 * BATCH_RAW_BYTES_MAX).leaves_room_in(WINDOW));
        assert!(!load(1, 3 * BATCH_RAW_BYTES_MAX + 1).leaves_room_in(WINDOW));
        assert!(load(0, 0).leaves_room_in(load(0, 0)));
    }

    #[test]
    fn the_open_part_is_reached_in_leases_or_in_bytes() {
        let window = load(8, 8 * BATCH_RAW_BYTES_MAX);
        assert!(!load(0, 0).is_open_part_of(load(0, 0)));
        assert!(!load(1, 1).is_open_part_of(window));
        assert!(load(2, 2).is_open_part_of(window));
        assert!(load(1, 2 * BATCH_RAW_BYTES_MAX).is_open_part_of(window));
        assert!(load(1, 1).is_open_part_of(load(1, usize::MAX)));
    }
}
