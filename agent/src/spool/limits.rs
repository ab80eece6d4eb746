//! When a spool is full, and how much of the disk it sets apart. Pure.

use topology::model::{SPOOL_BYTES_UNLESS_SAID, WhenFull};

const MIB: u64 = 1024 * 1024;
pub(super) const PAGE_BYTES: u64 = 4096;
/// What is set apart so that confirm, delete and checkpoint succeed on a full disk.
const RESERVE_BYTES: u64 = 64 * MIB;
/// What may still be on its way into the spool when it closes.
const MARGIN_BYTES: u64 = 8 * MIB;

/// The bounds of one spool, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limits {
    /// Bound on pages in use plus WAL.
    pub(super) max_size_bytes: u64,
    /// At this use nothing more is taken, or the oldest goes.
    pub(super) close_at_bytes: u64,
    /// The preallocated reserve.
    pub(super) reserve_bytes: u64,
    pub(super) when_full: WhenFull,
}

/// What a spool uses of its disk, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Usage {
    /// Pages that hold something.
    pub(super) pages_bytes: u64,
    /// The write-ahead log.
    pub(super) wal_bytes: u64,
}

impl Limits {
    /// Without a declared size it is 4 GiB, at most half of what is free.
    pub(super) fn new(max_size_bytes: Option<u64>, when_full: WhenFull, disk_free_bytes: u64) -> Self {
        let max_size_bytes = max_size_bytes.unwrap_or(SPOOL_BYTES_UNLESS_SAID.min(disk_free_bytes / 2));
        Self {
            max_size_bytes,
            close_at_bytes: max_size_bytes - MARGIN_BYTES.min(max_size_bytes / 8),
            reserve_bytes: RESERVE_BYTES.min(max_size_bytes / 4),
            when_full,
        }
    }

    /// What lies between closing and the bound, for what is on its way.
    pub(super) fn margin_bytes(&self) -> u64 {
        self.max_size_bytes - self.close_at_bytes
    }

    /// After how many pages the WAL is checkpointed: 4 MiB, less for a small spool.
    pub(super) fn checkpoint_pages(&self) -> u32 {
        let pages = (self.max_size_bytes / 16 / PAGE_BYTES).clamp(32, 1000);
        u32::try_from(pages).unwrap_or(1000)
    }

    /// By how many bytes `usage` is over the bound; 0 while there is room.
    pub(super) fn excess_bytes(&self, usage: Usage) -> u64 {
        (usage.pages_bytes + usage.wal_bytes).saturating_sub(self.close_at_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_four_gibibytes_at_most_half_of_what_is_free() {
        let roomy = Limits::new(None, WhenFull::Refuse, 100 * 1024 * MIB);
        assert_eq!(roomy.max_size_bytes, 4 * 1024 * MIB);
        let tight = Limits::new(None, WhenFull::Refuse, 1024 * MIB);
        assert_eq!(tight.max_size_bytes, 512 * MIB);
        let declared = Limits::new(Some(900 * MIB), WhenFull::Refuse, 1024 * MIB);
        assert_eq!(declared.max_size_bytes, 900 * MIB);
    }

    #[test]
    fn what_is_on_its_way_still_fits_below_the_limit() {
        for size_mib in [16, 64, 1024, 20 * 1024] {
            let limits = Limits::new(Some(size_mib * MIB), WhenFull::Refuse, 0);
            assert!(limits.close_at_bytes < limits.max_size_bytes);
            assert!(limits.close_at_bytes >= limits.max_size_bytes / 8 * 7);
        }
    }

    #[test]
    fn pages_and_wal_count_together() {
        let limits = Limits::new(Some(64 * MIB), WhenFull::Refuse, 0);
        let usage = |pages_bytes, wal_bytes| Usage { pages_bytes, wal_bytes };
        assert_eq!(limits.excess_bytes(usage(limits.close_at_bytes, 0)), 0);
        assert_eq!(limits.excess_bytes(usage(limits.close_at_bytes, 10)), 10);
    }
}
