//! Is what was fetched up to some moment still to be believed?
//!
//! As long as the origin tells what changes, yes. After a gap in that nobody knows which of the
//! pictures fetched before it were replaced: each is asked about at its next use, as if its life had
//! ended.

use std::sync::atomic::{AtomicU64, Ordering};

use super::freshness::{Verdict, judge};
use super::record::{Head, Moment};

/// Up to which moment what was fetched is in doubt.
#[derive(Debug, Default)]
pub(super) struct Doubt {
    /// The first moment that is not, in seconds; zero for no doubt.
    end: AtomicU64,
}

impl Doubt {
    /// What was fetched up to this moment is in doubt.
    pub(super) fn raise(&self, moment: Moment) {
        self.end
            .fetch_max(moment.0.saturating_add(1), Ordering::Relaxed);
    }

    /// The last moment in doubt.
    pub(super) fn last(&self) -> Moment {
        Moment(self.end.load(Ordering::Relaxed).saturating_sub(1))
    }

    /// Judges an entry, doubts included.
    pub(super) fn judge(&self, head: &Head, now: Moment) -> Verdict {
        let verdict = judge(head, now);
        let doubted = head.made.0 < self.end.load(Ordering::Relaxed);
        match verdict {
            Verdict::Fresh | Verdict::FreshEnough if doubted && head.lifetime.strict => {
                Verdict::Spent
            }
            Verdict::Fresh | Verdict::FreshEnough if doubted => Verdict::Stale,
            Verdict::Fresh | Verdict::FreshEnough | Verdict::Stale | Verdict::Spent => verdict,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::freshness::Lifetime;
    use super::*;

    #[test]
    fn what_was_fetched_in_doubt_is_asked_about_and_what_came_later_is_not() {
        let head = |made, strict| Head {
            content_type: "image/png".into(),
            etag: None,
            last_modified: None,
            cache_control: None,
            made: Moment(made),
            lifetime: Lifetime {
                fresh_secs: 600,
                while_revalidate_secs: 600,
                strict,
            },
        };
        let (doubt, now) = (Doubt::default(), Moment(200));
        assert_eq!(doubt.judge(&head(0, false), Moment(1)), Verdict::Fresh);
        doubt.raise(Moment(150));
        doubt.raise(Moment(100));
        assert_eq!(doubt.last(), Moment(150));
        assert_eq!(doubt.judge(&head(150, false), now), Verdict::Stale);
        assert_eq!(doubt.judge(&head(150, true), now), Verdict::Spent);
        assert_eq!(doubt.judge(&head(151, false), now), Verdict::Fresh);
        assert_eq!(doubt.judge(&head(100, false), Moment(800)), Verdict::Stale);
    }
}
