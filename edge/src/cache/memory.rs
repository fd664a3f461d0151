//! The small, hot pictures, whole in memory.
//!
//! Least recently used goes first, weighed in bytes. The tier only repeats what the index says, so
//! every change of the index ends with [`Memory::forget`]; a reader that loaded a body while that
//! happened must not bring the old one back, which is what the [`Epoch`] is for.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use lru::LruCache;
use parking_lot::Mutex;

use super::key::Key;
use super::record::{Moment, Record};

/// The largest body kept in memory. Up to here the request costs more than its bytes, beyond it the
/// kernel's page cache serves as well; and 128 MiB still hold five hundred of the largest.
pub(super) const LARGEST: u64 = 256 * 1024;

/// What an entry weighs beside its body: key, record and the table's own room, measured roughly.
const OVERHEAD: u64 = 512;

/// Locks to spread the readers over; more than a small machine has cores.
const SHARDS: usize = 16;

/// A picture in memory.
#[derive(Debug)]
pub(super) struct Held {
    /// What is known of it.
    pub record: Arc<Record>,
    /// All its bytes.
    pub bytes: Bytes,
    /// When its use was last noted, so that the index hears of it once in a while only.
    pub noted: AtomicU64,
}

impl Held {
    /// A picture as just loaded.
    #[must_use]
    pub(super) fn new(record: Arc<Record>, bytes: Bytes) -> Self {
        let noted = AtomicU64::new(record.used.0);
        Self {
            record,
            bytes,
            noted,
        }
    }

    /// Notes a use; true when the last note is `every` seconds old, at most once per such span.
    pub(super) fn note(&self, now: Moment, every: u64) -> bool {
        let noted = self.noted.load(Ordering::Relaxed);
        now.0.saturating_sub(noted) >= every
            && self
                .noted
                .compare_exchange(noted, now.0, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }

    fn weight(&self) -> u64 {
        self.bytes.len() as u64 + OVERHEAD
    }
}

/// How often the shard of a key had been told to forget something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Epoch(u64);

struct Shard {
    entries: LruCache<Key, Arc<Held>>,
    bytes: u64,
    forgotten: u64,
}

/// The memory tier.
pub(super) struct Memory {
    shards: Vec<Mutex<Shard>>,
    shard_bytes: u64,
    hasher: RandomState,
}

impl Memory {
    /// A tier of so many bytes; zero keeps nothing.
    #[must_use]
    pub(super) fn new(budget_bytes: u64) -> Self {
        let shard = || Shard {
            entries: LruCache::unbounded(),
            bytes: 0,
            forgotten: 0,
        };
        Self {
            shards: (0..SHARDS).map(|_| Mutex::new(shard())).collect(),
            shard_bytes: budget_bytes / SHARDS as u64,
            hasher: RandomState::new(),
        }
    }

    /// The picture, if it is here; it is the most recently used one then.
    #[must_use]
    pub(super) fn get(&self, key: &Key) -> Option<Arc<Held>> {
        self.shard(key).lock().entries.get(key).cloned()
    }

    /// Taken before the index is read, and given back with [`put`](Self::put).
    #[must_use]
    pub(super) fn epoch(&self, key: &Key) -> Epoch {
        Epoch(self.shard(key).lock().forgotten)
    }

    /// Whether a body of this size may come in at all.
    #[must_use]
    pub(super) fn takes(&self, size: u64) -> bool {
        size <= LARGEST && size + OVERHEAD <= self.shard_bytes
    }

    /// Brings in what was read since `epoch`, unless something was forgotten meanwhile.
    pub(super) fn put(&self, key: &Key, held: Arc<Held>, epoch: Epoch) {
        if !self.takes(held.bytes.len() as u64) {
            return;
        }
        let mut shard = self.shard(key).lock();
        if shard.forgotten != epoch.0 {
            return;
        }
        shard.bytes += held.weight();
        if let Some(before) = shard.entries.put(key.clone(), held) {
            shard.bytes -= before.weight();
        }
        while shard.bytes > self.shard_bytes {
            let Some((_, coldest)) = shard.entries.pop_lru() else {
                break;
            };
            shard.bytes -= coldest.weight();
        }
    }

    /// The index has changed here.
    pub(super) fn forget(&self, key: &Key) {
        let mut shard = self.shard(key).lock();
        shard.forgotten += 1;
        if let Some(gone) = shard.entries.pop(key) {
            shard.bytes -= gone.weight();
        }
    }

    /// Bytes held now.
    #[must_use]
    pub(super) fn bytes(&self) -> u64 {
        self.shards.iter().map(|shard| shard.lock().bytes).sum()
    }

    fn shard(&self, key: &Key) -> &Mutex<Shard> {
        let shard = self.hasher.hash_one(key) % SHARDS as u64;
        &self.shards[usize::try_from(shard).unwrap_or_default()] // below SHARDS, so it fits
    }
}

#[cfg(test)]
mod tests {
    use super::super::freshness::Lifetime;
    use super::super::record::{BodyId, Head};
    use super::*;

    fn held(len: usize) -> Arc<Held> {
        let head = Head {
            content_type: "image/png".into(),
            etag: None,
            last_modified: None,
            cache_control: None,
            made: Moment(0),
            lifetime: Lifetime::default(),
        };
        let record = Record {
            body: BodyId(1),
            size: len as u64,
            sum: 0,
            used: Moment(0),
            head,
        };
        Arc::new(Held::new(Arc::new(record), Bytes::from(vec![0; len])))
    }

    fn key(text: &str) -> Key {
        Key::from_index(text)
    }

    #[test]
    fn the_least_recently_used_goes_when_the_budget_is_spent() {
        let memory = Memory::new(SHARDS as u64 * 3_000);
        // Keys of one shard, so that they compete.
        let home = key("0");
        let same: Vec<Key> = (0..1_000)
            .map(|n| key(&n.to_string()))
            .filter(|k| std::ptr::eq(memory.shard(k), memory.shard(&home)))
            .take(3)
            .collect();
        for key in &same[..2] {
            memory.put(key, held(900), memory.epoch(key));
        }
        assert!(memory.get(&same[0]).is_some());
        memory.put(&same[2], held(900), memory.epoch(&same[2]));
        assert!(memory.get(&same[1]).is_none());
        assert!(memory.get(&same[0]).is_some());
        assert!(memory.get(&same[2]).is_some());
        assert_eq!(memory.bytes(), 2 * (900 + OVERHEAD));
    }

    #[test]
    fn what_was_forgotten_while_it_was_read_stays_forgotten() {
        let memory = Memory::new(1 << 20);
        let epoch = memory.epoch(&key("a"));
        memory.forget(&key("a"));
        memory.put(&key("a"), held(10), epoch);
        assert!(memory.get(&key("a")).is_none());
        assert_eq!(memory.bytes(), 0);
    }

    #[test]
    fn a_budget_of_nothing_keeps_nothing() {
        let memory = Memory::new(0);
        memory.put(&key("a"), held(10), memory.epoch(&key("a")));
        assert!(memory.get(&key("a")).is_none());
    }

    #[test]
    fn a_use_is_noted_once_in_a_span() {
        let held = held(1);
        assert!(!held.note(Moment(599), 600));
        assert!(held.note(Moment(600), 600));
        assert!(!held.note(Moment(700), 600));
    }
}
