//! What we wrote to the drive ourselves, a short while ago.
//!
//! The drive is eventually consistent: for up to two minutes a listing may lack a new item, a
//! lookup may answer 404, and a delta may tell an older state (`graph-api.md`, trap T23 and the
//! table of section 5.2). Our own results overlay all of that.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use super::{ETag, ItemId};

/// How long our own result outweighs what a listing says: the longest lag seen in the field.
pub const YOUNG: Duration = Duration::from_mins(2);

/// Our recent writes, by item.
#[derive(Debug, Default)]
pub(super) struct OwnWrites {
    recent: HashMap<ItemId, Recent>,
    deleted: HashMap<ItemId, SystemTime>,
    missed: HashMap<ItemId, SystemTime>,
}

#[derive(Debug)]
struct Recent {
    until: SystemTime,
    superseded: Vec<ETag>,
}

impl OwnWrites {
    /// Notes that we just wrote an item, whose version was `before`.
    pub(super) fn note(&mut self, item: &ItemId, before: Option<&ETag>, now: SystemTime) {
        // One sweep a write keeps the map as small as two minutes of writes.
        if self.recent.len() > 1024 {
            self.recent.retain(|_, recent| recent.until > now);
        }
        let recent = self.recent.entry(item.clone()).or_insert_with(|| Recent {
            until: now,
            superseded: Vec::new(),
        });
        recent.until = now + YOUNG;
        recent.superseded.extend(before.cloned());
        self.missed.remove(item);
    }

    /// Whether an item may be missing from a listing although it exists.
    #[must_use]
    pub(super) fn is_young(&self, item: &ItemId, now: SystemTime) -> bool {
        self.recent
            .get(item)
            .is_some_and(|recent| recent.until > now)
    }

    #[cfg(test)]
    pub(super) fn outlive(&mut self, item: &ItemId) {
        self.recent.remove(item);
    }

    /// As if so much time had passed.
    #[cfg(test)]
    pub(super) fn age(&mut self, by: Duration) {
        for recent in self.recent.values_mut() {
            recent.until -= by;
        }
        let times = self.deleted.values_mut().chain(self.missed.values_mut());
        times.for_each(|at| *at -= by);
    }

    /// Notes that we just deleted an item.
    pub(super) fn note_deleted(&mut self, item: &ItemId, now: SystemTime) {
        if self.deleted.len() > 1024 {
            self.deleted.retain(|_, until| *until > now);
        }
        self.deleted.insert(item.clone(), now + YOUNG);
    }

    /// Whether we deleted an item so recently that a listing may still show it.
    pub(super) fn is_deleted(&self, item: &ItemId, now: SystemTime) -> bool {
        self.deleted.get(item).is_some_and(|until| *until > now)
    }

    /// Notes a 404 for an id; true when the first one was two minutes ago.
    pub(super) fn missed(&mut self, item: &ItemId, now: SystemTime) -> bool {
        let first = *self.missed.entry(item.clone()).or_insert(now);
        let gone = now
            .duration_since(first)
            .is_ok_and(|passed| passed >= YOUNG);
        if gone {
            self.missed.remove(item);
        }
        gone
    }

    /// Whether this is a version that we know to be older than our own.
    #[must_use]
    pub(super) fn is_superseded(&self, item: &ItemId, etag: &ETag) -> bool {
        self.recent
            .get(item)
            .is_some_and(|recent| recent.superseded.contains(etag))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_is_young_for_two_minutes_after_our_write_and_older_versions_stay_known() {
        let (mut own, id) = (OwnWrites::default(), ItemId::new("x"));
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
        own.note(&id, Some(&ETag::new("1")), now);
        assert!(own.is_young(&id, now + Duration::from_secs(119)));
        assert!(!own.is_young(&id, now + YOUNG));
        assert!(own.is_superseded(&id, &ETag::new("1")));
        assert!(!own.is_superseded(&id, &ETag::new("2")));
    }
}
