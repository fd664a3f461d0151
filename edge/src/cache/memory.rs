//! What is at hand: the hot pictures, whole in memory, and large ones as open files.
//!
//! Which of them stay is decided by how often they are asked for, weighed in bytes (S3-FIFO, by
//! `quick_cache`): a crawler that asks for everything once does not push out what people look at.
//! The tier only repeats what the index says, so every change of the index ends with
//! [`Memory::forget`]; a reader that loaded a body while that happened must not bring the old one
//! back, which is what the [`Epoch`] is for.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use quick_cache::sync::Cache;
use quick_cache::{OptionsBuilder, Weighter};

use super::key::Key;
use super::record::{FIRST_TOUCH, Moment, Record, TOUCH_EVERY};
use super::store::Content;

/// The largest body kept whole. A reader that copies what it gets takes 1 MB from memory more than
/// twice as fast as from a file, and at 10 MB there is no difference any more; 128 MiB still hold
/// sixty-four of the largest.
pub(super) const LARGEST: u64 = 2 * 1024 * 1024;

/// What an entry weighs beside its body: key, record, head and the table's own room, roughly.
const OVERHEAD: u64 = 1024;

/// What an open file weighs: far more than its few hundred bytes, so that 128 MiB are at most two
/// thousand descriptors of the 65,536 that the service has.
const OPEN_FILE: u64 = 64 * 1024;

/// Parts with a lock each; more than a small machine has cores.
const PARTS: u64 = 16;

/// How much of the largest has to fit into a part: one picture must not push out all others there.
const FIT: u64 = 4;

/// A picture at hand.
#[derive(Debug)]
pub struct Held {
    /// What is known of it.
    pub record: Arc<Record>,
    /// Its bytes, or where they are.
    pub content: Content,
    /// Room for what an answer about it begins with, made once.
    pub preface: OnceLock<Box<[u8]>>,
    /// When its use was last noted, so that the index hears of it once in a while only.
    noted: AtomicU64,
}

impl Held {
    /// A picture as just loaded.
    #[must_use]
    pub(super) fn new(record: Arc<Record>, content: Content) -> Self {
        let noted = AtomicU64::new(record.used.0);
        Self {
            record,
            content,
            preface: OnceLock::new(),
            noted,
        }
    }

    /// Notes a use; true when the last note is long enough ago, at most once per such span.
    pub(super) fn note(&self, now: Moment) -> bool {
        let noted = self.noted.load(Ordering::Relaxed);
        let first = noted == self.record.used.0 && self.record.uses == 0;
        let every = if first { FIRST_TOUCH } else { TOUCH_EVERY };
        now.0.saturating_sub(noted) >= every.as_secs()
            && self
                .noted
                .compare_exchange(noted, now.0, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }

    fn weight(&self) -> u64 {
        OVERHEAD
            + match &self.content {
                Content::Memory(bytes) => bytes.len() as u64,
                Content::File(_) => OPEN_FILE,
            }
    }
}

/// How often those who share a gate with a key had been told to forget something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Epoch(u64);

#[derive(Clone, Debug)]
struct InBytes;

impl Weighter<Key, Arc<Held>> for InBytes {
    fn weight(&self, _: &Key, held: &Arc<Held>) -> u64 {
        held.weight()
    }
}

/// The memory tier.
pub(super) struct Memory {
    entries: Cache<Key, Arc<Held>, InBytes>,
    /// Forgetting and bringing in exclude each other, by key; looking up waits for neither.
    gates: Vec<Mutex<u64>>,
    hasher: RandomState,
    most: u64,
}

impl Memory {
    /// A tier of so many bytes; zero keeps nothing.
    #[must_use]
    pub(super) fn new(budget_bytes: u64) -> Self {
        let parts = (budget_bytes / (FIT * LARGEST)).clamp(1, PARTS);
        let options = OptionsBuilder::new()
            .shards(1 << parts.ilog2())
            .weight_capacity(budget_bytes)
            // Of some 100 KB each. It only says how many of those that went are remembered.
            .estimated_items_capacity(
                usize::try_from(budget_bytes / 100_000)
                    .map_or(usize::MAX, |items| items.max(1_024)),
            )
            .build()
            .expect("both capacities are given");
        let entries = Cache::with_options(
            options,
            InBytes,
            quick_cache::DefaultHashBuilder::default(),
            quick_cache::sync::DefaultLifecycle::default(),
        );
        Self {
            most: (entries.shard_capacity() / FIT).min(LARGEST),
            entries,
            gates: (0..PARTS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
        }
    }

    /// The picture under a name, if it is at hand.
    #[must_use]
    pub(super) fn get(&self, name: &str) -> Option<Arc<Held>> {
        self.entries.get(name)
    }

    /// Taken before the index is read, and given back with [`put`](Self::put).
    #[must_use]
    pub(super) fn epoch(&self, key: &Key) -> Epoch {
        Epoch(*self.gate(key).lock())
    }

    /// Whether a body of this size is kept whole.
    #[must_use]
    pub(super) fn takes(&self, size: u64) -> bool {
        size + OVERHEAD <= self.most
    }

    /// Brings in what was read since `epoch`, unless something was forgotten meanwhile.
    pub(super) fn put(&self, key: &Key, held: Arc<Held>, epoch: Epoch) {
        if held.weight() > self.most {
            return;
        }
        let gate = self.gate(key).lock();
        if *gate == epoch.0 {
            self.entries.insert(key.clone(), held);
        }
    }

    /// The index has changed here.
    pub(super) fn forget(&self, key: &Key) {
        let mut gate = self.gate(key).lock();
        *gate += 1;
        self.entries.remove(key);
    }

    /// Bytes held now, open files counted as what they weigh.
    #[must_use]
    pub(super) fn bytes(&self) -> u64 {
        self.entries.weight()
    }

    fn gate(&self, key: &Key) -> &Mutex<u64> {
        let gate = self.hasher.hash_one(key) % PARTS;
        &self.gates[usize::try_from(gate).unwrap_or_default()] // below PARTS, so it fits
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

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
            uses: 0,
            head,
        };
        let content = Content::Memory(Bytes::from(vec![0; len]));
        Arc::new(Held::new(Arc::new(record), content))
    }

    fn key(text: &str) -> Key {
        Key::from_index(text)
    }

    fn put(memory: &Memory, key: &Key, len: usize) {
        memory.put(key, held(len), memory.epoch(key));
    }

    #[test]
    fn more_than_the_budget_is_never_held() {
        let memory = Memory::new(1 << 20);
        for n in 0..1_000 {
            put(&memory, &key(&n.to_string()), 10_000);
            assert!(memory.bytes() <= 1 << 20);
        }
        assert!(memory.bytes() > 1 << 19);
    }

    #[test]
    fn a_crawler_that_asks_for_everything_once_leaves_what_is_looked_at() {
        let memory = Memory::new(4 << 20);
        let hot: Vec<Key> = (0..100).map(|n| key(&format!("hot/{n}"))).collect();
        for key in &hot {
            put(&memory, key, 10_000);
            for _ in 0..3 {
                assert!(memory.get(key.as_str()).is_some());
            }
        }
        for n in 0..10_000 {
            put(&memory, &key(&format!("scanned/{n}")), 10_000);
        }
        let left = hot
            .iter()
            .filter(|key| memory.get(key.as_str()).is_some())
            .count();
        assert!(left >= 95, "{left} of 100 are left");
    }

    #[test]
    fn one_picture_never_takes_more_than_a_quarter_of_its_part() {
        let memory = Memory::new(1 << 20);
        assert!(memory.takes(200_000));
        assert!(!memory.takes(300_000));
        assert!(!Memory::new(1 << 40).takes(LARGEST));
        put(&memory, &key("large"), 300_000);
        assert!(memory.get("large").is_none());
    }

    #[test]
    fn what_was_forgotten_while_it_was_read_stays_forgotten() {
        let memory = Memory::new(1 << 20);
        let epoch = memory.epoch(&key("a"));
        memory.forget(&key("a"));
        memory.put(&key("a"), held(10), epoch);
        assert!(memory.get("a").is_none());
        assert_eq!(memory.bytes(), 0);
    }

    #[test]
    fn a_budget_of_nothing_keeps_nothing() {
        let memory = Memory::new(0);
        put(&memory, &key("a"), 10);
        assert!(memory.get("a").is_none());
    }

    #[test]
    fn a_use_is_noted_once_in_a_span() {
        let held = held(1);
        assert!(!held.note(Moment(59)));
        assert!(held.note(Moment(60)), "the first comes soon");
        assert!(!held.note(Moment(659)));
        assert!(held.note(Moment(660)));
    }
}
