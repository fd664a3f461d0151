//! What is held: memory over disk, and one writer for the index.
//!
//! Lookups go straight to the tiers. Changes go through one queue to the [`Committer`], which puts
//! all that wait into one transaction: two hundred fills that end together cost two barriers, not
//! four hundred.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::timeout;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::change::{Change, Outcome};
use super::committer::{Committer, Job};
use super::disk::{Aside, Disk};
use super::doubt::Doubt;
use super::eviction::Budget;
use super::freshness::Verdict;
use super::index::{Index, IndexError};
use super::key::{Key, Scope};
pub use super::memory::Held;
use super::memory::Memory;
use super::record::{Head, Moment, Record, TOUCH_EVERY};

/// Changes that may wait for the writer. Fills are bounded well below it.
const QUEUE: usize = 1_024;

/// How long a change may take. A barrier on a worn SD card takes seconds; whoever waits longer is
/// better off without the entry.
const PATIENCE: Duration = Duration::from_mins(1);

/// Uses remembered until the next sweep writes them down. Each stands for one entry and ten
/// minutes; what does not fit is noted at its next use.
const USES: usize = 65_536;

/// The largest body that is read whole when it is loaded, to compare its checksum. An SD card reads
/// this in two seconds, which is as long as a visitor waits for a first byte; films are only compared
/// in length.
const PROVED: u64 = 64 << 20;

/// Where the bytes of an entry are.
#[derive(Clone, Debug)]
pub enum Content {
    /// All in memory.
    Memory(Bytes),
    /// In a file, from offset 0.
    File(Arc<File>),
}

/// An entry, found.
#[derive(Debug)]
pub struct Stored {
    /// What is known of it.
    pub record: Arc<Record>,
    /// Its bytes.
    pub content: Content,
}

/// Why there is no store.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory cannot be made or written to.
    #[error("the cache directory {} cannot be used", .path.display())]
    Directory {
        /// Which.
        path: std::path::PathBuf,
        /// What the disk said.
        #[source]
        source: io::Error,
    },
    /// Another process works on it.
    #[error("the cache directory {} is in use by another process", .0.display())]
    InUse(std::path::PathBuf),
    /// The index fails even when begun anew.
    #[error("the index of the cache in {} cannot be opened", .path.display())]
    Index {
        /// Which directory.
        path: std::path::PathBuf,
        /// What failed.
        #[source]
        source: IndexError,
    },
}

/// Why a change was not made.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ChangeError {
    /// The index failed.
    #[error("the cache could not be changed")]
    Index(#[source] Arc<IndexError>),
    /// It took too long, or the program is about to end.
    #[error("the cache did not answer in time")]
    TooLate,
}

/// The tiers.
pub struct Store {
    memory: Arc<Memory>,
    disk: Arc<Disk>,
    index: Arc<Index>,
    jobs: mpsc::Sender<Job>,
    uses: Mutex<HashMap<Key, Moment>>,
    budget: Budget,
    doubt: Doubt,
    /// Wakes the sweep when the budget is exceeded.
    pub(super) crowded: Notify,
    keeps: AtomicBool,
}

impl Store {
    /// Opens the store in a directory, and with it the writer that has to run beside it.
    ///
    /// # Errors
    /// The directory cannot be used, by us or at all.
    pub fn open(
        root: &Path,
        budget: Budget,
        memory: u64,
    ) -> Result<(Arc<Self>, Committer), OpenError> {
        let directory = |source| OpenError::Directory {
            path: root.to_owned(),
            source,
        };
        std::fs::create_dir_all(root).map_err(directory)?;
        let (index, run) = open_index(root)?;
        let (index, disk) = (
            Arc::new(index),
            Arc::new(Disk::open(root, run).map_err(directory)?),
        );
        let memory = Arc::new(Memory::new(memory));
        let (jobs, queue) = mpsc::channel(QUEUE);
        let committer = Committer::new(
            queue,
            Arc::clone(&index),
            Arc::clone(&disk),
            Arc::clone(&memory),
        );
        let store = Self {
            memory,
            disk,
            index,
            jobs,
            uses: Mutex::default(),
            budget,
            doubt: Doubt::default(),
            crowded: Notify::new(),
            keeps: AtomicBool::new(true),
        };
        Ok((Arc::new(store), committer))
    }

    /// The entry under a name, if nobody has to wait for it. Whoever serves it [notes](Self::note)
    /// that.
    #[must_use]
    pub fn at_hand(&self, name: &str) -> Option<Arc<Held>> {
        self.memory.get(name)
    }

    /// An entry that was at hand is used.
    pub fn note(&self, name: &str, held: &Held, now: Moment) {
        if held.note(now) {
            self.used(&Key::from_index(name), now);
        }
    }

    /// The entry under a name, with its bytes at hand. What is damaged is dropped: a miss.
    pub async fn lookup(&self, key: &Key, now: Moment) -> Option<Stored> {
        if let Some(held) = self.at_hand(key.as_str()) {
            self.note(key.as_str(), &held, now);
            return Some(Stored {
                record: Arc::clone(&held.record),
                content: held.content.clone(),
            });
        }
        let epoch = self.memory.epoch(key);
        let (index, disk, memory) = (
            Arc::clone(&self.index),
            Arc::clone(&self.disk),
            Arc::clone(&self.memory),
        );
        let name = key.clone();
        let loaded = tokio::task::spawn_blocking(move || load(&index, &disk, &memory, &name)).await;
        match loaded.ok()? {
            Loaded::Nothing => None,
            Loaded::Damaged(record, error) => {
                tracing::warn!(key = key.as_str(), %error, "an entry is damaged and dropped");
                let (reply, _) = oneshot::channel();
                let change = Change::Remove {
                    key: key.clone(),
                    body: record.body,
                };
                // With a full queue it is found again at the next lookup.
                let _ = self.jobs.try_send(Job { change, reply });
                None
            }
            Loaded::Found(stored) => {
                if now.since(stored.record.used) >= TOUCH_EVERY {
                    self.used(key, now);
                }
                let held = Held::new(Arc::clone(&stored.record), stored.content.clone());
                self.memory.put(key, Arc::new(held), epoch);
                Some(stored)
            }
        }
    }

    /// What is known of the entry under a name, whether its bytes are well or not.
    pub async fn peek(&self, key: &Key) -> Option<Record> {
        let (index, key) = (Arc::clone(&self.index), key.clone());
        let looked = tokio::task::spawn_blocking(move || index.get(&key).ok().flatten());
        looked.await.ok().flatten()
    }

    /// What may be done with an entry.
    #[must_use]
    pub fn judge(&self, head: &Head, now: Moment) -> Verdict {
        self.doubt.judge(head, now)
    }

    /// What was fetched up to this moment is asked about before it is served again.
    pub fn doubt(&self, moment: Moment) {
        self.doubt.raise(moment);
    }

    /// The last moment in doubt.
    #[must_use]
    pub fn doubted(&self) -> Moment {
        self.doubt.last()
    }

    /// Makes one change, durably.
    ///
    /// # Errors
    /// It was not made.
    pub async fn commit(&self, change: Change) -> Result<Outcome, ChangeError> {
        let (reply, done) = oneshot::channel();
        let work = async {
            self.jobs
                .send(Job { change, reply })
                .await
                .map_err(|_| ChangeError::TooLate)?;
            done.await.map_err(|_| ChangeError::TooLate)?
        };
        let outcome = timeout(PATIENCE, work)
            .await
            .map_err(|_| ChangeError::TooLate)?;
        if self.budget.excess(self.index.bytes()) > 0 {
            self.crowded.notify_one();
        }
        outcome
    }

    /// Removes all that a purge means; gives their number.
    ///
    /// # Errors
    /// Not all of it could be removed.
    pub async fn purge(&self, scope: &Scope) -> Result<u64, ChangeError> {
        let mut purged = 0;
        loop {
            let outcome = self.commit(Change::Purge(scope.clone())).await?;
            purged += outcome.gone.len() as u64;
            if !outcome.more {
                return Ok(purged);
            }
        }
    }

    /// Removes what has not been used since a moment; gives the bytes freed.
    ///
    /// # Errors
    /// Not all of it could be removed.
    pub async fn clean(&self, since: Moment) -> Result<u64, ChangeError> {
        self.note_uses().await?;
        let mut freed = 0;
        loop {
            let outcome = self.commit(Change::Unused { since }).await?;
            freed += outcome.bytes;
            if !outcome.more {
                return Ok(freed);
            }
        }
    }

    /// Writes down which entries were used lately.
    ///
    /// # Errors
    /// They could not be written; they are forgotten then, which costs some of them their rank.
    pub async fn note_uses(&self) -> Result<(), ChangeError> {
        let uses: Vec<_> = std::mem::take(&mut *self.uses.lock()).into_iter().collect();
        if uses.is_empty() {
            return Ok(());
        }
        self.commit(Change::Touch(uses)).await.map(drop)
    }

    /// A file aside for a new body. Failing, it is logged once and not again until it works.
    ///
    /// # Errors
    /// As the disk has them.
    pub fn begin(&self) -> io::Result<Aside> {
        self.disk.create()
    }

    /// Whether storing works, as the last attempt showed.
    #[must_use]
    pub fn keeps(&self) -> bool {
        self.keeps.load(Ordering::Relaxed)
    }

    /// Storing a body worked.
    pub fn kept(&self) {
        if !self.keeps.swap(true, Ordering::Relaxed) {
            tracing::info!("pictures are stored again");
        }
    }

    /// Storing a body failed; said once, not for every picture that comes by.
    pub fn not_kept(&self, error: &(dyn std::error::Error + 'static)) {
        if self.keeps.swap(false, Ordering::Relaxed) {
            tracing::warn!(error, "pictures cannot be stored and are served without");
        }
    }

    /// The limits.
    #[must_use]
    pub fn budget(&self) -> Budget {
        self.budget
    }

    /// The entries on disk.
    #[must_use]
    pub fn index(&self) -> &Arc<Index> {
        &self.index
    }

    /// The bodies on disk.
    #[must_use]
    pub fn disk(&self) -> &Arc<Disk> {
        &self.disk
    }

    /// Bytes held in memory.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        self.memory.bytes()
    }

    fn used(&self, key: &Key, now: Moment) {
        let mut uses = self.uses.lock();
        if uses.len() < USES || uses.contains_key(key) {
            uses.insert(key.clone(), now);
        }
    }
}

enum Loaded {
    Nothing,
    Damaged(Box<Record>, io::Error),
    Found(Stored),
}

fn load(index: &Index, disk: &Disk, memory: &Memory, key: &Key) -> Loaded {
    // An index that fails holds nothing; the committer says so when it next writes.
    let Ok(Some(record)) = index.get(key) else {
        return Loaded::Nothing;
    };
    let read = || -> io::Result<Content> {
        let file = disk.load(record.body, record.size)?;
        let (content, sum) = if memory.takes(record.size) {
            let mut bytes = vec![0; usize::try_from(record.size).map_err(io::Error::other)?];
            file.read_exact_at(&mut bytes, 0)?;
            let sum = xxh3_64(&bytes);
            (Content::Memory(Bytes::from(bytes)), sum)
        } else if record.size <= PROVED {
            let sum = sum_of(&file, record.size)?;
            (Content::File(Arc::new(file)), sum)
        } else {
            (Content::File(Arc::new(file)), record.sum)
        };
        if sum == record.sum {
            Ok(content)
        } else {
            Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the checksum is wrong",
            ))
        }
    };
    match read() {
        Ok(content) => Loaded::Found(Stored {
            record: Arc::new(record),
            content,
        }),
        Err(error) => Loaded::Damaged(Box::new(record), error),
    }
}

fn sum_of(file: &File, size: u64) -> io::Result<u64> {
    let mut sum = Xxh3::new();
    let mut piece = vec![0; 128 * 1024];
    let mut at = 0;
    while at < size {
        let read = file.read_at(&mut piece, at)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        sum.update(&piece[..read]);
        at += read as u64;
    }
    Ok(sum.digest())
}

/// Opens the index; one that is damaged is put aside and begun anew, since it is only a cache.
/// The bodies it named are found to be nobody's and go.
fn open_index(root: &Path) -> Result<(Index, u32), OpenError> {
    let path = root.join("index.redb");
    let failed = |source| OpenError::Index {
        path: root.to_owned(),
        source,
    };
    match Index::open(&path) {
        Ok(opened) => Ok(opened),
        Err(error) if error.is_in_use() => Err(OpenError::InUse(root.to_owned())),
        // A full disk or too few descriptors say nothing against what is kept.
        Err(error) if !path.is_file() || !error.is_damage() => Err(failed(error)),
        Err(error) => {
            tracing::warn!(%error, "the index of the cache is damaged and begun anew");
            let directory = |source| OpenError::Directory {
                path: root.to_owned(),
                source,
            };
            std::fs::rename(&path, root.join("index.damaged")).map_err(directory)?;
            for folder in ["bodies", "incoming"] {
                // Without the index nothing tells how often the cache was opened, so names could
                // come twice: nothing of before may stay.
                match std::fs::remove_dir_all(root.join(folder)) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        return Err(directory(error));
                    }
                    _ => {}
                }
            }
            Index::open(&path).map_err(failed)
        }
    }
}
