//! Pictures that the origin has just said it does not have.
//!
//! Only a clear "no" gets in, never a failure, and it is believed briefly: a link is often opened a
//! moment before its picture is there.

use std::num::NonZeroUsize;
use std::time::Duration;

use lru::LruCache;
use parking_lot::Mutex;

use super::key::{Key, Scope};
use super::record::Moment;

/// How long a "no" is believed. Ten seconds turn a page that asks for a missing picture on every
/// view into six requests a minute, and are what an author who reloads at once will put up with.
const BELIEVED: Duration = Duration::from_secs(10);

/// How many are remembered; the least recently asked goes first. A scan for guessed names fills
/// it, at about a hundred bytes each.
const AT_MOST: NonZeroUsize = NonZeroUsize::new(10_000).expect("ten thousand is not zero");

/// Names known to be absent, for a while.
pub(super) struct Absent {
    until: Mutex<LruCache<Key, Moment>>,
}

impl Absent {
    /// Nothing is known to be absent.
    #[must_use]
    pub(super) fn new() -> Self {
        Self {
            until: Mutex::new(LruCache::sparse(AT_MOST)),
        }
    }

    /// Whether the origin has said so lately.
    #[must_use]
    pub(super) fn knows(&self, key: &Key, now: Moment) -> bool {
        let mut until = self.until.lock();
        match until.get(key).copied() {
            Some(end) if now < end && end.since(now) <= BELIEVED => true,
            Some(_) => {
                until.pop(key);
                false
            }
            None => false,
        }
    }

    /// The origin says so now.
    pub(super) fn learn(&self, key: &Key, now: Moment) {
        self.until
            .lock()
            .put(key.clone(), Moment(now.0 + BELIEVED.as_secs()));
    }

    /// Ask again.
    pub(super) fn forget(&self, scope: &Scope) {
        self.until
            .lock()
            .retain(|key, _| !scope.covers(key.as_str()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_no_is_believed_for_ten_seconds() {
        let absent = Absent::new();
        let key = Key::from_index("a.webp");
        absent.learn(&key, Moment(100));
        assert!(absent.knows(&key, Moment(109)));
        assert!(!absent.knows(&key, Moment(110)));
    }

    #[test]
    fn a_clock_that_jumps_back_does_not_prolong_a_no() {
        let absent = Absent::new();
        let key = Key::from_index("a.webp");
        absent.learn(&key, Moment(10_000));
        assert!(!absent.knows(&key, Moment(5_000)));
    }

    #[test]
    fn a_purge_takes_a_no_away_as_well() {
        let absent = Absent::new();
        let key = Key::from_index("a.webp");
        absent.learn(&key, Moment(100));
        absent.forget(&Scope::All);
        assert!(!absent.knows(&key, Moment(100)));
    }
}
