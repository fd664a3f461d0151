//! Items that were made a moment ago: an absence of these is no absence.
//!
//! The service shows a new item by id and by path only after a while (trap T23), so a 404 of one
//! that is young is asked again.

use std::future::Future;
use std::num::NonZeroUsize;
use std::time::Duration;

use lru::LruCache;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::ports::DriveError;
use crate::tree::ItemId;

/// How long an item counts as young (section 8.4).
const YOUTH: Duration = Duration::from_mins(2);

/// Items that are remembered: more than are made in two minutes.
const KEPT: NonZeroUsize = NonZeroUsize::new(4096).expect("not zero");

/// Waits between the tries: the reference speaks of 1 to 2 seconds.
const WAITS: [Duration; 3] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
];

/// What was made here, and when.
pub(super) struct Young(Mutex<LruCache<ItemId, Instant>>);

impl Young {
    pub(super) fn new() -> Self {
        Self(Mutex::new(LruCache::new(KEPT)))
    }

    /// An item was made.
    pub(super) fn note(&self, id: &ItemId) {
        self.0.lock().put(id.clone(), Instant::now());
    }

    /// An item was removed: its absence is one.
    pub(super) fn forget(&self, id: &ItemId) {
        self.0.lock().pop(id);
    }

    fn has(&self, id: &ItemId) -> bool {
        let made = self.0.lock().peek(id).copied();
        made.is_some_and(|made| made.elapsed() < YOUTH)
    }

    /// Does something with an item, again while it is young and seems absent.
    pub(super) async fn insist<T, F>(
        &self,
        id: &ItemId,
        ask: impl Fn() -> F,
    ) -> Result<T, DriveError>
    where
        F: Future<Output = Result<T, DriveError>>,
    {
        for wait in WAITS {
            match ask().await {
                Err(DriveError::NotFound) if self.has(id) => tokio::time::sleep(wait).await,
                other => return other,
            }
        }
        ask().await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    async fn asked(young: &Young, id: &ItemId) -> usize {
        let times = AtomicUsize::new(0);
        let absent = young.insist(id, || async {
            times.fetch_add(1, Ordering::Relaxed);
            Err::<(), _>(DriveError::NotFound)
        });
        assert!(matches!(absent.await, Err(DriveError::NotFound)));
        times.into_inner()
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_is_young_is_asked_for_again() {
        let (young, id) = (Young::new(), ItemId::new("1"));
        assert_eq!(asked(&young, &id).await, 1);
        young.note(&id);
        assert_eq!(asked(&young, &id).await, 1 + WAITS.len());
        young.forget(&id);
        assert_eq!(asked(&young, &id).await, 1);
        young.note(&id);
        tokio::time::advance(YOUTH).await;
        assert_eq!(asked(&young, &id).await, 1);
    }
}
