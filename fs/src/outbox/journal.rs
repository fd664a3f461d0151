//! The journal, which makes a change survive a crash: one database, one committer, groups of changes.
//!
//! One thread owns the database. It takes everything that waits, writes it in one transaction,
//! and answers all who waited: batching is what counts, since a disk barrier costs the same for
//! one change as for a hundred. With `durability = "fsync"` a change counts once it is in the
//! [log of changes](changes), and gets into the database within a second.

mod changes;
mod committer;
mod database;
mod orders;
mod pages;
mod proof;
#[cfg(all(test, feature = "schedules"))]
mod schedules;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};
use tokio::sync::{oneshot, watch};

use self::changes::Changes;
use self::committer::{Barriers, Change, Committer};
pub use self::database::Damaged;
use self::database::{LAYOUT, Tables, Write};
use self::orders::Orders;
use self::proof::Unproven;
use crate::content::Disk;
use crate::threads::Mutex;
use crate::threads::thread::{Builder, JoinHandle};
use crate::tree::{Batch, ContentId, Grave, ItemId, Node, NodeId, Seal, Stored, decode};

/// Where changes are noted that the database may lack, beside it.
pub const CHANGES: &str = "changes.log";

/// The rows of nodes that a log of changes holds, one behind the other.
#[must_use]
pub fn rows_of_changes(log: &[u8]) -> Vec<u8> {
    let nodes = changes::each_batch(log).flat_map(|batch| batch.nodes);
    nodes.filter_map(|(_, row)| row).flatten().collect()
}

/// From when on a change survives a power cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// When `close`, `rename`, `unlink` and the like return.
    #[default]
    Close,
    /// When `fsync` returns, and else within about a second.
    Fsync,
}

/// What the committer does with contents.
pub trait Contents: Send + Sync {
    /// Brings contents to the disk; those that did not get there, and why.
    fn make_durable(&self, contents: &[ContentId]) -> Vec<(ContentId, io::Error)>;

    /// Removes a content that nothing refers to any more.
    fn remove(&self, content: ContentId);
}

/// Why the database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Another daemon has it.
    #[error("{0} is in use by another tuyunfs: stop that one first, or set another state_dir")]
    InUse(PathBuf),
    /// Written by a newer program.
    #[error(
        "{path} was written by a newer tuyunfs (layout {found}, this one knows {LAYOUT}): upgrade tuyunfs"
    )]
    Newer {
        /// The database.
        path: PathBuf,
        /// Its layout.
        found: u32,
    },
    /// The file is there and is no journal any more. It was not touched.
    #[error("the journal {path} is damaged: {why}")]
    Damaged {
        /// The database.
        path: PathBuf,
        /// In which way.
        why: String,
    },
    /// The disk, or the file itself.
    #[error("cannot use the journal {path}; nothing was deleted")]
    Broken {
        /// The database.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<redb::Error>,
    },
    /// The file cannot be made.
    #[error("cannot open the journal {path}")]
    Io {
        /// The database.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// A change could not be made durable (yet).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the journal cannot be written: {why}")]
pub struct CommitFailed {
    /// The disk's own words.
    pub why: Arc<str>,
    /// There is no room on the disk.
    pub full: bool,
    /// The record is there, and the disk refused the bytes that it names.
    pub lost: bool,
}

impl CommitFailed {
    fn other(why: &str) -> Self {
        Self {
            why: why.into(),
            full: false,
            lost: false,
        }
    }

    /// An error with all that led to it.
    fn of(error: &(dyn std::error::Error + 'static)) -> Self {
        let (mut why, mut full) = (String::new(), false);
        let mut at = Some(error);
        while let Some(cause) = at {
            if !why.is_empty() {
                why.push_str(": ");
            }
            why.push_str(&cause.to_string());
            full |= cause
                .downcast_ref::<io::Error>()
                .is_some_and(|cause| cause.kind() == io::ErrorKind::StorageFull);
            if let Some(redb::Error::Io(cause)) = cause.downcast_ref() {
                full |= cause.kind() == io::ErrorKind::StorageFull;
            }
            at = cause.source();
        }
        Self {
            why: why.into(),
            full,
            lost: false,
        }
    }
}

/// What was read back at a start.
#[derive(Debug, Default)]
pub struct Recovered {
    /// All nodes.
    pub nodes: BTreeMap<NodeId, Node>,
    /// The highest number of a node that has a row, damaged ones included.
    pub highest: Option<NodeId>,
    /// All pending deletions.
    pub graves: BTreeMap<ItemId, Grave>,
    /// Seals whose bytes may not have got to the disk, though their record has.
    pub seals: BTreeMap<ContentId, Seal>,
    /// Content files that a crash kept from being removed.
    pub garbage: BTreeSet<ContentId>,
    /// Facts by name.
    pub facts: BTreeMap<String, Vec<u8>>,
    /// Rows that cannot be read. They stay in the database.
    pub damaged: Vec<Damaged>,
}

impl Recovered {
    /// A fact.
    #[must_use]
    pub fn fact<T: serde::de::DeserializeOwned>(&self, name: &str) -> Option<T> {
        decode(self.facts.get(name)?).ok()
    }

    /// Takes the rows of the tree.
    pub fn take_stored(&mut self) -> Stored {
        Stored {
            nodes: std::mem::take(&mut self.nodes).into_values().collect(),
            graves: std::mem::take(&mut self.graves).into_values().collect(),
        }
    }
}

/// Waits until a change is durable.
pub struct Ticket {
    /// Counts changes, in their order.
    pub number: u64,
    outcome: oneshot::Receiver<Result<(), CommitFailed>>,
    /// The change is in the log of changes; the committer takes its time.
    noted: bool,
    orders: Arc<Orders>,
}

impl Ticket {
    /// Waits until the change survives a power cut.
    ///
    /// # Errors
    /// It is not durable: the disk refused.
    pub async fn durable(self) -> Result<(), CommitFailed> {
        self.hurry();
        self.outcome.await.unwrap_or_else(stopped)
    }

    /// Waits until the change is as safe as the operator wants it when a call returns.
    ///
    /// # Errors
    /// It is not: the disk refused.
    pub async fn promised(self) -> Result<(), CommitFailed> {
        if self.noted {
            return Ok(());
        }
        self.durable().await
    }

    /// Waits until the change survives a power cut, outside of the runtime.
    ///
    /// # Errors
    /// It is not durable: the disk refused.
    pub fn wait(self) -> Result<(), CommitFailed> {
        self.hurry();
        self.outcome.blocking_recv().unwrap_or_else(stopped)
    }

    fn hurry(&self) {
        if self.noted {
            self.orders.push(Order::Hurry);
        }
    }
}

fn stopped(_: oneshot::error::RecvError) -> Result<(), CommitFailed> {
    Err(CommitFailed::other("the committer has stopped"))
}

/// What the committer is told.
enum Order {
    Commit {
        change: Box<Change>,
        waiter: oneshot::Sender<Result<(), CommitFailed>>,
    },
    /// Somebody waits.
    Hurry,
    Stop,
}

impl Order {
    /// Whether somebody waits. What stands in the log of changes is acknowledged already.
    fn is_urgent(&self) -> bool {
        match self {
            Self::Commit { change, .. } => change.noted.is_none(),
            Self::Hurry | Self::Stop => true,
        }
    }
}

/// The committer's front: hands it changes in the order in which they were made.
pub struct Journal {
    orders: Arc<Orders>,
    failing: Arc<Mutex<Option<CommitFailed>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    durability: Durability,
    changes: Arc<Changes>,
    /// How many changes were handed over.
    queued: AtomicU64,
    /// The last change that survives a power cut.
    durable: watch::Receiver<u64>,
}

/// Calls the database on a file that may be damaged. It was checked, so this is for what no check finds.
fn survive<T>(
    path: &Path,
    call: impl FnOnce() -> Result<T, JournalError>,
) -> Result<T, JournalError> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|_| {
        let why = "the database gave up on it".to_owned();
        let path = path.to_owned();
        Err(JournalError::Damaged { path, why })
    })
}

impl Journal {
    /// Opens or makes the database, and reads all of it.
    ///
    /// # Errors
    /// It is in use, of a newer program, or damaged; or the disk refuses.
    pub fn open(
        path: &Path,
        durability: Durability,
        contents: Arc<dyn Contents>,
        disk: Arc<dyn Disk>,
    ) -> Result<(Self, Recovered), JournalError> {
        let failed = |source| JournalError::Io {
            path: path.to_owned(),
            source,
        };
        let mut tables = survive(path, || Tables::open(path, disk.clone()))?;
        let log = path.with_file_name(CHANGES);
        let (changes, found) = Changes::open(&log, tables.change()?, disk).map_err(failed)?;
        // Also what was noted under another setting: it was acknowledged.
        if changes.last() > tables.change()? {
            let write = Write {
                batches: found.iter().collect(),
                change: Some(changes.last()),
                ..Write::default()
            };
            tables.write(&write).map_err(|error| tables.broken(error))?;
        }
        changes.cut();
        let recovered = survive(path, || tables.read())?;
        let orders = Arc::new(Orders::default());
        let line = orders.clone();
        let failing = Arc::new(Mutex::new(None));
        let changes = Arc::new(changes);
        let (reached, durable) = watch::channel(0);
        let committer = Committer {
            path: path.to_owned(),
            tables,
            failing: failing.clone(),
            barriers: Barriers::start(contents.clone()).map_err(failed)?,
            contents,
            changes: changes.clone(),
            unwritten: VecDeque::new(),
            removed: Vec::new(),
            unproven: Unproven::default(),
            reached,
        };
        let thread = Builder::new()
            .name("committer".into())
            .spawn(move || committer.run(&line))
            .map_err(failed)?;
        let journal = Self {
            orders,
            failing,
            thread: Mutex::new(Some(thread)),
            durability,
            changes,
            queued: AtomicU64::new(0),
            durable,
        };
        Ok((journal, recovered))
    }

    /// Queues a change. Call it under the lock that ordered the change, so that the database
    /// sees changes in the same order; wait on the ticket after letting go of the lock. The
    /// queue is as long as there are callers waiting, and those the kernel bounds; with
    /// `durability = "fsync"` it is what can be changed in a second.
    pub fn commit(&self, batch: Batch) -> Ticket {
        let (waiter, outcome) = oneshot::channel();
        let number = self.queued.fetch_add(1, Ordering::Relaxed) + 1;
        let noted = match self.durability {
            Durability::Fsync if !batch.is_empty() => self.note(&batch),
            Durability::Fsync | Durability::Close => None,
        };
        if batch.is_empty() {
            let _ = waiter.send(Ok(()));
        } else {
            let change = Box::new(Change {
                number,
                batch,
                noted,
                synced: false,
            });
            self.orders.push(Order::Commit { change, waiter });
        }
        Ticket {
            number,
            outcome,
            noted: noted.is_some(),
            orders: self.orders.clone(),
        }
    }

    fn note(&self, batch: &Batch) -> Option<u64> {
        match self.changes.note(batch) {
            Ok(number) => Some(number),
            Err(error) => {
                tracing::warn!(%error, "cannot note a change; it waits for the database instead");
                None
            }
        }
    }

    /// A ticket for everything that was changed so far.
    pub fn everything(&self) -> Ticket {
        let (waiter, outcome) = oneshot::channel();
        let change = Box::new(Change {
            number: 0, // no change of its own
            batch: Batch::default(),
            noted: None,
            synced: true,
        });
        self.orders.push(Order::Commit { change, waiter });
        Ticket {
            number: 0,
            outcome,
            noted: false,
            orders: self.orders.clone(),
        }
    }

    /// The number of the last change that survives a power cut, as it grows.
    #[must_use]
    pub fn durable(&self) -> watch::Receiver<u64> {
        self.durable.clone()
    }

    /// From when on changes survive a power cut.
    #[must_use]
    pub fn durability(&self) -> Durability {
        self.durability
    }

    /// Why the last batch could not be written, while that lasts.
    #[must_use]
    pub fn failing(&self) -> Option<CommitFailed> {
        self.failing.lock().clone()
    }

    /// Writes what is queued and closes the database.
    pub fn close(&self) {
        self.orders.push(Order::Stop);
        if let Some(thread) = self.thread.lock().take()
            && thread.join().is_err()
        {
            tracing::error!("the committer panicked; the last changes may not be in the journal");
        }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.close();
    }
}
