//! How much has to go, and since when must an entry lie idle to go by its age?
//!
//! Which entries go is then a matter of order: the least recently used first, as the index has them
//! sorted. Carrying it out is the sweep's work.

use std::time::Duration;

use super::record::Moment;

/// What the cache may hold on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// All bodies together, in bytes.
    pub max_bytes: u64,
    /// The longest an entry may lie unused.
    pub max_age: Duration,
}

impl Budget {
    /// How many bytes to give up. Nothing up to the limit; beyond it, down to a twentieth below it:
    /// stopping right at the limit would make every later fill start a sweep of its own, and much
    /// more than a twentieth gives up pictures for no one's good.
    #[must_use]
    pub fn excess(&self, held: u64) -> u64 {
        if held <= self.max_bytes {
            return 0;
        }
        held - (self.max_bytes - self.max_bytes / 20)
    }

    /// Entries last used before this moment have had their time.
    #[must_use]
    pub fn horizon(&self, now: Moment) -> Moment {
        now.before(self.max_age)
    }

    /// A body of this size would push out everything else and still not fit.
    #[must_use]
    pub fn admits(&self, size: u64) -> bool {
        size <= self.max_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUDGET: Budget = Budget {
        max_bytes: 1_000,
        max_age: Duration::from_secs(100),
    };

    #[test]
    fn nothing_goes_up_to_the_limit() {
        assert_eq!(BUDGET.excess(1_000), 0);
    }

    #[test]
    fn beyond_the_limit_a_twentieth_more_than_needed_goes() {
        assert_eq!(BUDGET.excess(1_001), 51);
    }

    #[test]
    fn the_horizon_lies_one_age_back() {
        assert_eq!(BUDGET.horizon(Moment(150)), Moment(50));
        assert_eq!(BUDGET.horizon(Moment(50)), Moment(0));
    }

    #[test]
    fn what_can_never_fit_is_not_let_in() {
        assert!(BUDGET.admits(1_000));
        assert!(!BUDGET.admits(1_001));
    }
}
