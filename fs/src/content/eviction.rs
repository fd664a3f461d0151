//! What to give up, and what never.
//!
//! Only content that the drive has confirmed, and that nobody has open, is passed in here: what
//! must stay cannot be chosen. Of that, the least recently used goes first.

use std::time::{Duration, SystemTime};

use crate::tree::ContentId;

/// A content that may be given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its number.
    pub id: ContentId,
    /// What it takes on the disk.
    pub bytes: u64,
    /// When somebody last used it.
    pub last_used: SystemTime,
}

/// How much may be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Bytes of all entries together.
    pub max_size: u64,
    /// Time since the last use.
    pub max_age: Duration,
    /// Bytes that stay free on the disk.
    pub min_free: u64,
}

/// Once a budget is exceeded, a tenth of it is made free as well: otherwise every new file at the
/// limit would have to push out another one.
pub(super) const SLACK: u64 = 10;

/// The entries to give up, so that the budget is met on a disk with `free` bytes left.
#[must_use]
pub fn choose(
    mut entries: Vec<Entry>,
    budget: Budget,
    free: u64,
    now: SystemTime,
) -> Vec<ContentId> {
    entries.sort_unstable_by_key(|entry| (entry.last_used, entry.id));
    let held: u64 = entries.iter().map(|entry| entry.bytes).sum();
    let surplus = if held > budget.max_size {
        held - (budget.max_size - budget.max_size / SLACK)
    } else {
        0
    };
    let lack = if free < budget.min_free {
        budget.min_free.saturating_add(budget.min_free / SLACK) - free
    } else {
        0
    };
    let goal = surplus.max(lack);
    let mut freed = 0;
    let mut chosen = Vec::new();
    for entry in entries {
        // A last use in the future means that the clock was set back: not old.
        let age = now.duration_since(entry.last_used).unwrap_or_default();
        if freed >= goal && age <= budget.max_age {
            break; // the rest has been used more recently
        }
        freed += entry.bytes;
        chosen.push(entry.id);
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DAY: Duration = Duration::from_hours(24);

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + 1000 * DAY
    }

    fn entry(id: u64, bytes: u64, days_ago: u32) -> Entry {
        Entry {
            id: ContentId(id),
            bytes,
            last_used: now() - days_ago * DAY,
        }
    }

    fn budget(max_size: u64, min_free: u64) -> Budget {
        Budget {
            max_size,
            max_age: 10 * DAY,
            min_free,
        }
    }

    fn ids(chosen: &[ContentId]) -> Vec<u64> {
        chosen.iter().map(|id| id.0).collect()
    }

    #[test]
    fn nothing_goes_while_all_budgets_are_met() {
        let entries = vec![entry(1, 600, 10), entry(2, 400, 0)];
        assert!(choose(entries, budget(1000, 50), 50, now()).is_empty());
    }

    #[test]
    fn the_least_recently_used_goes_first_and_a_tenth_more_than_needed() {
        let entries = vec![
            entry(1, 100, 1),
            entry(2, 100, 3),
            entry(3, 801, 2),
            entry(4, 100, 0),
        ];
        // 1101 of 1000: down to 900.
        assert_eq!(ids(&choose(entries, budget(1000, 0), 0, now())), [2, 3]);
    }

    #[test]
    fn what_was_not_used_for_longer_than_the_age_goes_even_with_room_left() {
        let entries = vec![entry(1, 1, 11), entry(2, 1, 10)];
        assert_eq!(ids(&choose(entries, budget(1000, 0), 9, now())), [1]);
    }

    #[test]
    fn a_disk_that_fills_up_takes_cached_content_with_it() {
        let entries = vec![entry(1, 100, 2), entry(2, 100, 1), entry(3, 100, 0)];
        // 950 free of 1000: 1100 are wanted.
        assert_eq!(
            ids(&choose(entries.clone(), budget(10_000, 1000), 950, now())),
            [1, 2]
        );
        assert_eq!(
            ids(&choose(entries, budget(10_000, 1000), 0, now())),
            [1, 2, 3]
        );
    }

    #[test]
    fn a_clock_that_was_set_back_makes_nothing_old() {
        let future = Entry {
            last_used: now() + 100 * DAY,
            ..entry(1, 10, 0)
        };
        assert!(choose(vec![future], budget(10, 0), 0, now()).is_empty());
    }

    proptest! {
        #[test]
        fn what_stays_meets_the_budget_and_is_newer_than_what_goes(
            list in proptest::collection::vec((0u64..500, 0u32..20), 0..40),
            max_size in 0u64..5000, min_free in 0u64..2000, free in 0u64..3000,
        ) {
            let entries: Vec<Entry> =
                list.iter().zip(0..).map(|(&(bytes, days), id)| entry(id, bytes, days)).collect();
            let budget = budget(max_size, min_free);
            let chosen = choose(entries.clone(), budget, free, now());
            let (gone, kept): (Vec<Entry>, Vec<Entry>) =
                entries.iter().partition(|entry| chosen.contains(&entry.id));
            prop_assert_eq!(gone.len(), chosen.len());
            prop_assert!(kept.iter().map(|entry| entry.bytes).sum::<u64>() <= max_size);
            let freed: u64 = gone.iter().map(|entry| entry.bytes).sum();
            prop_assert!(free + freed >= min_free || kept.is_empty());
            prop_assert!(kept.iter().all(|entry| now().duration_since(entry.last_used).unwrap() <= budget.max_age));
            let youngest_gone = gone.iter().map(|entry| entry.last_used).max();
            let oldest_kept = kept.iter().map(|entry| entry.last_used).min();
            if let (Some(gone), Some(kept)) = (youngest_gone, oldest_kept) {
                prop_assert!(gone <= kept);
            }
        }
    }
}
