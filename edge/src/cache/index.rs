//! Which entries there are: one small database beside the bodies.
//!
//! Sorted by name, so that a purge of a folder is one range, by last use and by rank, so that eviction
//! takes from the cold end without looking at the rest. Nothing of it is read at a start: a million
//! entries open as quickly as ten. All changes of a batch are one transaction.
//!
//! After a failed write (a full disk) the database refuses further work until it is opened anew, so
//! that is done here, before the next change. Until then the cache simply holds nothing.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};

use super::change::{Change, Outcome, Txn};
use super::key::Key;
use super::record::Record;

/// Name → record, as JSON: a few hundred bytes, readable when something is to be found out.
pub(super) const ENTRIES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("entries");
/// (last use, body) → name: the cold end is the front.
pub(super) const USES: TableDefinition<'_, (u64, u64), &str> = TableDefinition::new("uses");
/// (rank, body) → name: what is given up first for room is the front.
pub(super) const RANKS: TableDefinition<'_, (u64, u64), &str> = TableDefinition::new("ranks");
/// Sums that would be slow to count: bytes, entries; and how often the cache was opened.
pub(super) const TOTALS: TableDefinition<'_, &str, u64> = TableDefinition::new("totals");

/// Pages of the index kept in memory. Its inner pages for a million entries take about four MiB;
/// more would compete with the pictures.
const PAGES_BYTES: usize = 8 * 1024 * 1024;

/// Why the index did not answer.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// The database beneath failed.
    #[error("the index of the cache failed")]
    Database(#[source] Box<redb::Error>),
    /// A record that cannot be read.
    #[error("an entry of the index cannot be read")]
    Record(#[source] serde_json::Error),
    /// It failed before and could not be opened again yet.
    #[error("the index of the cache is closed after a failure")]
    Closed,
}

impl IndexError {
    pub(super) fn of(error: impl Into<redb::Error>) -> Self {
        Self::Database(Box::new(error.into()))
    }

    /// Its bytes are at fault, and not the disk of this moment.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Database(error) => crate::damage::is_damage(error),
            Self::Record(_) => true,
            Self::Closed => false,
        }
    }

    /// Another process has it open.
    #[must_use]
    pub fn is_in_use(&self) -> bool {
        matches!(self, Self::Database(e) if matches!(**e, redb::Error::DatabaseAlreadyOpen))
    }
}

/// Opens the database, at the start and after each failure.
type Opener = Box<dyn Fn() -> Result<Database, IndexError> + Send + Sync>;

/// The entries on disk.
pub struct Index {
    opener: Opener,
    // Held for reading by everyone at work, for writing only to open the database anew.
    database: RwLock<Option<Database>>,
    bytes: AtomicU64,
    entries: AtomicU64,
}

impl Index {
    /// Opens the index, or begins a new one, and counts the start. The second value is that count.
    ///
    /// # Errors
    /// It is in use, damaged, or the disk fails.
    pub fn open(path: &Path) -> Result<(Self, u32), IndexError> {
        let path = path.to_owned();
        Self::over(Box::new(move || open(&path)))
    }

    fn over(opener: Opener) -> Result<(Self, u32), IndexError> {
        let database = opener()?;
        let txn = begin(&database)?;
        let (run, bytes, entries) = {
            let mut totals = txn.open_table(TOTALS).map_err(IndexError::of)?;
            txn.open_table(ENTRIES).map_err(IndexError::of)?;
            txn.open_table(USES).map_err(IndexError::of)?;
            txn.open_table(RANKS).map_err(IndexError::of)?;
            let run = get_total(&totals, "run")? + 1;
            totals.insert("run", run).map_err(IndexError::of)?;
            (
                run,
                get_total(&totals, "bytes")?,
                get_total(&totals, "entries")?,
            )
        };
        txn.commit().map_err(IndexError::of)?;
        let index = Self {
            opener,
            database: RwLock::new(Some(database)),
            bytes: AtomicU64::new(bytes),
            entries: AtomicU64::new(entries),
        };
        // After four thousand million starts the names begin anew; bodies do not live that long.
        Ok((
            index,
            u32::try_from(run & u64::from(u32::MAX)).unwrap_or_default(),
        ))
    }

    /// The record under a name.
    ///
    /// # Errors
    /// The database fails.
    pub fn get(&self, key: &Key) -> Result<Option<Record>, IndexError> {
        let guard = self.database.read();
        let txn = guard
            .as_ref()
            .ok_or(IndexError::Closed)?
            .begin_read()
            .map_err(IndexError::of)?;
        let entries = txn.open_table(ENTRIES).map_err(IndexError::of)?;
        let found = entries.get(key.as_str()).map_err(IndexError::of)?;
        found
            .map(|row| serde_json::from_slice(row.value()).map_err(IndexError::Record))
            .transpose()
    }

    /// Carries out a batch of changes, all of them or none, durably.
    ///
    /// # Errors
    /// The database fails; nothing has changed then, and it is opened anew for the next batch.
    pub fn apply(&self, changes: &[Change]) -> Result<Vec<Outcome>, IndexError> {
        self.reopen_if_closed()?;
        let done = self.try_apply(changes);
        if done.is_err() {
            // Dropped first: one process cannot have it open twice.
            *self.database.write() = None;
            // If this fails too, the next batch tries again.
            let _ = self.reopen_if_closed();
        }
        done
    }

    /// Bytes of all bodies.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Number of entries.
    #[must_use]
    pub fn entries(&self) -> u64 {
        self.entries.load(Ordering::Relaxed)
    }

    /// All bodies that an entry stands for, sorted: eight megabytes for a million.
    ///
    /// # Errors
    /// The database fails.
    pub fn bodies(&self) -> Result<Vec<u64>, IndexError> {
        let guard = self.database.read();
        let txn = guard
            .as_ref()
            .ok_or(IndexError::Closed)?
            .begin_read()
            .map_err(IndexError::of)?;
        let uses = txn.open_table(USES).map_err(IndexError::of)?;
        let entries = usize::try_from(self.entries()).unwrap_or_default();
        let mut bodies = Vec::with_capacity(entries);
        for row in uses.iter().map_err(IndexError::of)? {
            bodies.push(row.map_err(IndexError::of)?.0.value().1);
        }
        bodies.sort_unstable();
        Ok(bodies)
    }

    fn try_apply(&self, changes: &[Change]) -> Result<Vec<Outcome>, IndexError> {
        let guard = self.database.read();
        let txn = begin(guard.as_ref().ok_or(IndexError::Closed)?)?;
        let (outcomes, bytes, entries) = {
            let mut work = Txn::open(&txn)?;
            let outcomes = changes
                .iter()
                .map(|change| work.apply(change))
                .collect::<Result<Vec<_>, _>>()?;
            if !outcomes.iter().any(|outcome| outcome.done) {
                // Nothing to write, no barrier to wait for: the origin tells of many pictures that
                // are not held here. Dropped, the transaction leaves nothing behind.
                return Ok(outcomes);
            }
            let (bytes, entries) = work.close()?;
            (outcomes, bytes, entries)
        };
        txn.commit().map_err(IndexError::of)?;
        self.bytes.store(bytes, Ordering::Relaxed);
        self.entries.store(entries, Ordering::Relaxed);
        Ok(outcomes)
    }

    fn reopen_if_closed(&self) -> Result<(), IndexError> {
        let mut guard = self.database.write();
        if guard.is_none() {
            *guard = Some((self.opener)()?);
        }
        Ok(())
    }
}

fn open(path: &Path) -> Result<Database, IndexError> {
    Database::builder()
        .set_cache_size(PAGES_BYTES)
        .create(path)
        .map_err(IndexError::of)
}

fn begin(database: &Database) -> Result<WriteTransaction, IndexError> {
    let mut txn = database.begin_write().map_err(IndexError::of)?;
    // A second barrier for each batch, and in return a start after a crash looks at no entry.
    txn.set_quick_repair(true);
    Ok(txn)
}

pub(super) fn get_total(
    totals: &impl ReadableTable<&'static str, u64>,
    name: &str,
) -> Result<u64, IndexError> {
    Ok(totals
        .get(name)
        .map_err(IndexError::of)?
        .map_or(0, |row| row.value()))
}

#[cfg(test)]
mod tests;
