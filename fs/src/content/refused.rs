//! Contents whose bytes the disk refused.
//!
//! The kernel tells of a failed write once, to whoever asks first, drops the bytes in its own time, and calls the
//! file well from then on (`fuse-peers.md`, on barriers that fail). So it is remembered here, as long as the run:
//! a content that is named here is not safe, whatever a later barrier says, until it was written elsewhere.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::Notify;

use crate::threads::Mutex;
use crate::threads::atomic::{AtomicBool, Ordering};
use crate::tree::ContentId;

/// What is known of the disk's refusals.
#[derive(Debug, Default)]
pub struct Refused {
    /// With the reason, where what is left is not what was sealed.
    contents: Mutex<HashMap<ContentId, Option<Arc<str>>>>,
    /// A barrier of the whole disk has failed once: it may have told of files that nobody asked about, and the next
    /// one would not.
    distrust: AtomicBool,
    /// There is a new one.
    pub news: Notify,
}

impl Refused {
    /// The disk refused the bytes of a content.
    pub(super) fn add(&self, id: ContentId) {
        self.contents.lock().entry(id).or_default();
        self.news.notify_one();
    }

    /// There is no such content any more.
    pub(super) fn forget(&self, id: ContentId) {
        self.contents.lock().remove(&id);
    }

    /// Whether the disk refused bytes of it.
    #[must_use]
    pub fn has(&self, id: ContentId) -> bool {
        self.contents.lock().contains_key(&id)
    }

    /// What is left of it is not what was sealed.
    pub fn give_up(&self, id: ContentId, why: &str) {
        self.contents.lock().insert(id, Some(why.into()));
    }

    /// Why it was given up, if so.
    #[must_use]
    pub fn gone(&self, id: ContentId) -> Option<Arc<str>> {
        self.contents.lock().get(&id).cloned().flatten()
    }

    /// Those of which all may still be there, in memory.
    #[must_use]
    pub fn left(&self) -> Vec<ContentId> {
        let contents = self.contents.lock();
        let left = contents.iter().filter(|(_, gone)| gone.is_none());
        left.map(|(id, _)| *id).collect()
    }

    /// A barrier of the whole disk has failed.
    pub(super) fn distrust(&self) {
        if !self.distrust.swap(true, Ordering::AcqRel) {
            tracing::warn!(
                "the cache disk cannot bring everything to safety at once, or has failed to: from now on each \
                 file is brought there by itself, which is slower"
            );
        }
    }

    /// Whether a barrier of the whole disk says nothing.
    pub(super) fn is_distrusted(&self) -> bool {
        self.distrust.load(Ordering::Acquire)
    }
}
