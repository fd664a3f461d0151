//! How much has to go, and since when must an entry lie idle to go by its age?
//!
//! Which entries go for room is a matter of [`rank`]: the last use counts, and how often there was one,
//! so that a crawler that asks for everything once pushes out its own finds and not what people look
//! at. Carrying it out is the sweep's work.

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

/// What each doubling of an entry's uses is worth. A crawler goes through a whole album in hours, and
/// what was looked at twice survives that; what was the talk of last month yields within a week to
/// what is looked at now.
const DOUBLING: Duration = Duration::from_hours(24);

/// The order in which entries are given up, the lowest first: as if an entry had last been used later
/// the more often it was. `uses` are those after it came.
#[must_use]
pub(super) fn rank(used: Moment, uses: u32) -> u64 {
    let doublings = uses.saturating_add(1).ilog2();
    used.0
        .saturating_add(DOUBLING.as_secs() * u64::from(doublings))
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
    fn what_was_looked_at_again_outlasts_a_day_of_what_was_asked_for_once() {
        let day = DOUBLING.as_secs();
        assert_eq!(rank(Moment(7), 0), 7);
        assert!(rank(Moment(0), 1) > rank(Moment(day - 1), 0));
        assert!(rank(Moment(0), 1) < rank(Moment(day + 1), 0));
        // However often: it yields in the end.
        assert!(rank(Moment(0), u32::MAX) < rank(Moment(40 * day), 0));
        assert_eq!(rank(Moment(u64::MAX), 9), u64::MAX);
    }

    #[test]
    fn what_can_never_fit_is_not_let_in() {
        assert!(BUDGET.admits(1_000));
        assert!(!BUDGET.admits(1_001));
    }
}
