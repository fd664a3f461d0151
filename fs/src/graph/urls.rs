//! Where contents are fetched from: pre-authenticated URLs, kept in memory while they live.

use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use lru::LruCache;
use parking_lot::Mutex;

use crate::tree::ItemId;

/// URLs that are kept: those of the largest folder that is listed in one go, at about 1 KiB each.
const KEPT: NonZeroUsize = NonZeroUsize::new(20_000).expect("not zero");

/// How long a URL is used. It lives for an hour (section 6); with less, one that is about to end
/// is not taken along into a long read.
const USED_FOR: Duration = Duration::from_mins(50);

/// Pre-authenticated URLs by item. They are secrets: never logged, never stored.
pub(super) struct Urls(Mutex<LruCache<ItemId, (String, Instant)>>);

impl Urls {
    pub(super) fn new() -> Self {
        Self(Mutex::new(LruCache::new(KEPT)))
    }

    pub(super) fn put(&self, id: ItemId, url: String) {
        self.0.lock().put(id, (url, Instant::now()));
    }

    pub(super) fn forget(&self, id: &ItemId) {
        self.0.lock().pop(id);
    }

    pub(super) fn get(&self, id: &ItemId) -> Option<String> {
        let mut urls = self.0.lock();
        let (url, since) = urls.get(id)?;
        if since.elapsed() > USED_FOR {
            urls.pop(id);
            return None;
        }
        Some(url.clone())
    }
}
