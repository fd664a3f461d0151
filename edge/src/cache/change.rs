//! What can change in the index, and what each change does inside a transaction.
//!
//! A change that removes says which bodies are nobody's now; deleting those files comes after the
//! commit, so a crash in between leaves files without an entry and never an entry without its file.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use redb::{Range, ReadableTable, Table, WriteTransaction};

use super::eviction::rank;
use super::index::{ENTRIES, IndexError, RANKS, TOTALS, USES, get_total};
use super::key::{Key, Scope};
use super::record::{BodyId, Head, Moment, Record};

/// How many entries one change may remove: a purge of a million goes in steps, between which fills
/// get their turn. One step of this size is some ten milliseconds on a small machine.
pub(super) const STEP: usize = 1_000;

/// One change of the index.
#[derive(Clone, Debug)]
pub enum Change {
    /// A new entry, in place of an older one of the name.
    Put {
        /// Its name.
        key: Key,
        /// What is known of it.
        record: Record,
        /// Set when a purge has come since the fetch began: then it must not go in.
        doomed: Arc<AtomicBool>,
    },
    /// The origin says that this version still stands.
    Renew {
        /// Its name.
        key: Key,
        /// The version that was asked about; another one is left alone.
        body: BodyId,
        /// What the origin said now.
        head: Head,
    },
    /// These were used.
    Touch(Vec<(Key, Moment)>),
    /// This version is gone or damaged; another one is left alone.
    Remove {
        /// Its name.
        key: Key,
        /// The version meant.
        body: BodyId,
    },
    /// At most [`STEP`] of those that a purge means.
    Purge(Scope),
    /// At most [`STEP`] of those of the lowest rank, until so many bytes are freed.
    Evict {
        /// Enough is enough.
        bytes: u64,
    },
    /// At most [`STEP`] of those not used since a moment.
    Unused {
        /// Exclusive: an entry used at this very moment stays.
        since: Moment,
    },
}

/// What a change did.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Entries that were removed or replaced, with the bodies that are nobody's now.
    pub gone: Vec<(Key, BodyId)>,
    /// The size of those bodies.
    pub bytes: u64,
    /// The step's limit was reached: there may be more.
    pub more: bool,
    /// The change took effect: stored, renewed, or removed something.
    pub done: bool,
}

/// A transaction with its tables open.
pub(super) struct Txn<'a> {
    entries: Table<'a, &'static str, &'static [u8]>,
    uses: Table<'a, (u64, u64), &'static str>,
    ranks: Table<'a, (u64, u64), &'static str>,
    totals: Table<'a, &'static str, u64>,
    held_bytes: u64,
    held_entries: u64,
}

impl<'a> Txn<'a> {
    pub(super) fn open(txn: &'a WriteTransaction) -> Result<Self, IndexError> {
        let totals = txn.open_table(TOTALS).map_err(IndexError::of)?;
        Ok(Self {
            entries: txn.open_table(ENTRIES).map_err(IndexError::of)?,
            uses: txn.open_table(USES).map_err(IndexError::of)?,
            ranks: txn.open_table(RANKS).map_err(IndexError::of)?,
            held_bytes: get_total(&totals, "bytes")?,
            held_entries: get_total(&totals, "entries")?,
            totals,
        })
    }

    /// Writes the sums down: bytes, entries.
    pub(super) fn close(mut self) -> Result<(u64, u64), IndexError> {
        self.totals
            .insert("bytes", self.held_bytes)
            .map_err(IndexError::of)?;
        self.totals
            .insert("entries", self.held_entries)
            .map_err(IndexError::of)?;
        Ok((self.held_bytes, self.held_entries))
    }

    pub(super) fn apply(&mut self, change: &Change) -> Result<Outcome, IndexError> {
        let mut outcome = Outcome::default();
        match change {
            Change::Put {
                key,
                record,
                doomed,
            } => {
                if !doomed.load(Ordering::Acquire) {
                    self.remove(key, &mut outcome)?;
                    self.insert(key, record)?;
                    outcome.done = true;
                }
            }
            Change::Renew { key, body, head } => {
                if let Some(record) = self.get(key)?.filter(|record| record.body == *body) {
                    self.replace(
                        key,
                        &record,
                        &Record {
                            head: head.clone(),
                            ..record.clone()
                        },
                    )?;
                    outcome.done = true;
                }
            }
            Change::Touch(used) => {
                for (key, used) in used {
                    if let Some(record) = self.get(key)?.filter(|record| record.used < *used) {
                        self.replace(
                            key,
                            &record,
                            &Record {
                                used: *used,
                                uses: record.uses.saturating_add(1),
                                ..record.clone()
                            },
                        )?;
                        outcome.done = true;
                    }
                }
            }
            Change::Remove { key, body } => {
                if self.get(key)?.is_some_and(|record| record.body == *body) {
                    self.remove(key, &mut outcome)?;
                    outcome.done = true;
                }
            }
            Change::Purge(scope) => {
                let (keys, more) = self.covered(scope)?;
                self.remove_all(keys, &mut outcome)?;
                outcome.more = more;
            }
            Change::Evict { bytes } => {
                for key in self.lowest()? {
                    if outcome.bytes >= *bytes {
                        break;
                    }
                    self.remove(&key, &mut outcome)?;
                }
                outcome.done = !outcome.gone.is_empty();
                outcome.more = outcome.done && outcome.bytes < *bytes;
            }
            Change::Unused { since } => {
                let idle = self.idle(*since)?;
                outcome.more = idle.len() == STEP;
                self.remove_all(idle, &mut outcome)?;
            }
        }
        Ok(outcome)
    }

    fn get(&self, key: &Key) -> Result<Option<Record>, IndexError> {
        let row = self.entries.get(key.as_str()).map_err(IndexError::of)?;
        // What cannot be read is as good as not there: it is replaced or removed without a body.
        Ok(row.and_then(|row| serde_json::from_slice(row.value()).ok()))
    }

    fn insert(&mut self, key: &Key, record: &Record) -> Result<(), IndexError> {
        let text = serde_json::to_vec(record).map_err(IndexError::Record)?;
        self.entries
            .insert(key.as_str(), text.as_slice())
            .map_err(IndexError::of)?;
        self.uses
            .insert((record.used.0, record.body.0), key.as_str())
            .map_err(IndexError::of)?;
        self.ranks
            .insert(place(record), key.as_str())
            .map_err(IndexError::of)?;
        self.held_bytes += record.size;
        self.held_entries += 1;
        Ok(())
    }

    fn replace(&mut self, key: &Key, old: &Record, new: &Record) -> Result<(), IndexError> {
        self.uses
            .remove((old.used.0, old.body.0))
            .map_err(IndexError::of)?;
        self.ranks.remove(place(old)).map_err(IndexError::of)?;
        self.held_bytes = self.held_bytes.saturating_sub(old.size);
        self.held_entries = self.held_entries.saturating_sub(1);
        self.insert(key, new)
    }

    fn remove(&mut self, key: &Key, outcome: &mut Outcome) -> Result<(), IndexError> {
        if let Some(record) = self.get(key)? {
            self.uses
                .remove((record.used.0, record.body.0))
                .map_err(IndexError::of)?;
            self.ranks.remove(place(&record)).map_err(IndexError::of)?;
            self.held_bytes = self.held_bytes.saturating_sub(record.size);
            self.held_entries = self.held_entries.saturating_sub(1);
            outcome.bytes += record.size;
            outcome.gone.push((key.clone(), record.body));
        }
        self.entries.remove(key.as_str()).map_err(IndexError::of)?;
        Ok(())
    }

    fn remove_all(&mut self, keys: Vec<Key>, outcome: &mut Outcome) -> Result<(), IndexError> {
        for key in keys {
            self.remove(&key, outcome)?;
        }
        outcome.done = !outcome.gone.is_empty();
        Ok(())
    }

    /// The next keys that a purge means, and whether there are more.
    fn covered(&self, scope: &Scope) -> Result<(Vec<Key>, bool), IndexError> {
        let mut keys = Vec::new();
        for row in self
            .entries
            .range(scope.start()..)
            .map_err(IndexError::of)?
        {
            let (name, _) = row.map_err(IndexError::of)?;
            if !name.value().starts_with(scope.start()) {
                break;
            }
            if scope.covers(name.value()) {
                if keys.len() == STEP {
                    return Ok((keys, true));
                }
                keys.push(Key::from_index(name.value()));
            }
        }
        Ok((keys, false))
    }

    /// At most [`STEP`] keys that were last used before a moment.
    fn idle(&self, since: Moment) -> Result<Vec<Key>, IndexError> {
        keys(self.uses.range(..(since.0, 0)).map_err(IndexError::of)?)
    }

    /// At most [`STEP`] keys of the lowest rank.
    fn lowest(&self) -> Result<Vec<Key>, IndexError> {
        let lowest = keys(self.ranks.iter().map_err(IndexError::of)?)?;
        if lowest.is_empty() {
            // Entries of a version that did not rank them.
            return keys(self.uses.iter().map_err(IndexError::of)?);
        }
        Ok(lowest)
    }
}

/// Where a record stands among the ranks.
fn place(record: &Record) -> (u64, u64) {
    (rank(record.used, record.uses), record.body.0)
}

fn keys(rows: Range<'_, (u64, u64), &'static str>) -> Result<Vec<Key>, IndexError> {
    rows.take(STEP)
        .map(|row| Ok(Key::from_index(row.map_err(IndexError::of)?.1.value())))
        .collect()
}
