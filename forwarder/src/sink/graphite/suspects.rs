//! Finds the one batch that makes Graphite drop connections, so that it does not stop the road.
//! Pure.
//!
//! Graphite does not say what it dislikes: it closes the connection, and every lease on it is lost. A
//! lease that was lost twice travels alone. It is set aside only after three losses alone, with
//! another lease confirmed before each: a Graphite that drops everything refuses nothing.

use std::collections::HashMap;

use crate::lease::LeaseKey;

/// Losses in company after which a lease travels alone.
const LOSSES_IN_COMPANY_MAX: u32 = 2;
/// Losses alone after which a lease is refused.
const LOSSES_ALONE_MAX: u32 = 3;

/// What becomes of a lost lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is sent again.
    Again,
    /// It is the culprit.
    Refuse,
}

/// The leases that were lost and not yet confirmed since.
#[derive(Debug, Default)]
pub(super) struct Suspects {
    records: HashMap<LeaseKey, Record>,
    confirmed: u64,
}

#[derive(Debug, Default)]
struct Record {
    in_company: u32,
    alone: u32,
    confirmed_before: u64,
}

impl Suspects {
    /// Whether the lease must travel alone.
    pub(super) fn alone(&self, key: LeaseKey) -> bool {
        self.records.get(&key).is_some_and(|record| record.in_company >= LOSSES_IN_COMPANY_MAX)
    }

    /// The connection that carried the lease was lost.
    pub(super) fn lost(&mut self, key: LeaseKey, alone: bool) -> Fate {
        let record = self.records.entry(key).or_default();
        let others_pass = self.confirmed > record.confirmed_before;
        record.confirmed_before = self.confirmed;
        if !alone {
            record.in_company += 1;
        } else if others_pass {
            record.alone += 1;
        }
        if record.alone < LOSSES_ALONE_MAX {
            return Fate::Again;
        }
        self.records.remove(&key);
        Fate::Refuse
    }

    /// Graphite took the lease.
    pub(super) fn confirmed(&mut self, key: LeaseKey) {
        self.confirmed += 1;
        self.records.remove(&key);
    }

    /// Forgets all if there are more than `records_max`: a lost lease may have gone elsewhere, and
    /// nobody says so.
    pub(super) fn forget_above(&mut self, records_max: usize) {
        if self.records.len() > records_max {
            self.records.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POISON: LeaseKey = LeaseKey(1);
    const NEIGHBOUR: LeaseKey = LeaseKey(2);

    fn twice_in_company() -> Suspects {
        let mut suspects = Suspects::default();
        for key in [POISON, NEIGHBOUR, POISON, NEIGHBOUR] {
            assert!(!suspects.alone(key));
            assert_eq!(suspects.lost(key, false), Fate::Again);
        }
        suspects
    }

    #[test]
    fn two_losses_in_company_make_a_suspect() {
        let suspects = twice_in_company();
        assert!(suspects.alone(POISON) && suspects.alone(NEIGHBOUR));
    }

    #[test]
    fn three_losses_alone_refuse_it_if_a_neighbour_was_confirmed_before_each() {
        let mut suspects = twice_in_company();
        suspects.confirmed(NEIGHBOUR);
        assert!(!suspects.alone(NEIGHBOUR));
        assert_eq!(suspects.lost(POISON, true), Fate::Again);
        assert_eq!(suspects.lost(POISON, true), Fate::Again);
        suspects.confirmed(NEIGHBOUR);
        assert_eq!(suspects.lost(POISON, true), Fate::Again);
        suspects.confirmed(NEIGHBOUR);
        assert_eq!(suspects.lost(POISON, true), Fate::Refuse);
        assert!(!suspects.alone(POISON));
    }

    #[test]
    fn a_graphite_that_drops_everything_refuses_nothing() {
        let mut suspects = twice_in_company();
        suspects.confirmed(LeaseKey(3));
        suspects.lost(POISON, false);
        for _ in 0..100 {
            assert_eq!(suspects.lost(POISON, true), Fate::Again);
        }
    }

    #[test]
    fn the_records_are_bounded() {
        let mut suspects = twice_in_company();
        suspects.forget_above(2);
        assert!(suspects.alone(POISON));
        suspects.forget_above(1);
        assert!(!suspects.alone(POISON));
    }
}
