//! The database that makes a change survive a crash: one committer, groups of changes.
//!
//! One thread owns the database. It takes everything that waits, writes it in one transaction,
//! and answers all who waited: batching is what counts, since a disk barrier costs the same for
//! one change as for a hundred. A batch that could not be written stays first in line and is
//! tried again each second; whoever waited for it hears of the failure at once.

use std::collections::VecDeque;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use tokio::sync::oneshot;

use crate::tree::{Batch, ContentId, Grave, Node, Stored, decode, encode};

const NODES: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("nodes");
const GRAVES: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("graves");
const GARBAGE: TableDefinition<'static, u64, ()> = TableDefinition::new("garbage");
const FACTS: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("facts");

/// The layout of the tables. A newer one is refused, an older one is migrated.
const LAYOUT: u32 = 1;
const LAYOUT_FACT: &str = "layout";

/// How long a batch that could not be written waits for the next try. Short, since callers are
/// refused meanwhile; not shorter, since a full disk needs time to get better.
const RETRY: Duration = Duration::from_secs(1);

/// redb's page cache. The tree is in memory; the database is read once, at the start, so a small
/// cache for the upper levels of its B-trees is enough.
const CACHE_BYTES: usize = 8 << 20;

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
#[derive(Clone, Debug, thiserror::Error)]
#[error("the journal cannot be written: {0}")]
pub struct CommitFailed(pub Arc<str>);

/// What was read back at a start.
#[derive(Debug, Default)]
pub struct Recovered {
    /// Nodes and graves.
    pub stored: Stored,
    /// Content files that a crash kept from being removed.
    pub garbage: Vec<ContentId>,
    /// Facts by name.
    pub facts: Vec<(String, Vec<u8>)>,
    /// Rows that cannot be read, kept aside by [`Journal::open`]: table, key, why.
    pub damaged: Vec<String>,
}

impl Recovered {
    /// A fact.
    #[must_use]
    pub fn fact<T: serde::de::DeserializeOwned>(&self, name: &str) -> Option<T> {
        self.facts
            .iter()
            .find(|(key, _)| key == name)
            .and_then(|(_, row)| decode(row).ok())
    }
}

/// Waits until a change is durable.
pub struct Ticket(oneshot::Receiver<Result<(), CommitFailed>>);

impl Ticket {
    /// Waits.
    ///
    /// # Errors
    /// It is not durable: the disk refused.
    pub async fn durable(self) -> Result<(), CommitFailed> {
        self.0
            .await
            .unwrap_or_else(|_| Err(CommitFailed("the committer has stopped".into())))
    }

    /// Waits, outside of the runtime.
    ///
    /// # Errors
    /// It is not durable: the disk refused.
    pub fn wait(self) -> Result<(), CommitFailed> {
        let stopped = |_| Err(CommitFailed("the committer has stopped".into()));
        self.0.blocking_recv().unwrap_or_else(stopped)
    }
}

enum Order {
    Commit(Batch, oneshot::Sender<Result<(), CommitFailed>>),
    Stop,
}

/// The committer's front: hands it changes in the order in which they were made.
pub struct Journal {
    orders: Sender<Order>,
    failing: Arc<Mutex<Option<CommitFailed>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Journal {
    /// Opens or makes the database and reads all of it. `remove` is called with content files
    /// that nothing refers to any more, once that is durable.
    ///
    /// # Errors
    /// It is in use, of a newer program, or the disk refuses.
    pub fn open(
        path: &Path,
        remove: impl Fn(ContentId) + Send + 'static,
    ) -> Result<(Self, Recovered), JournalError> {
        let database = open(path)?;
        let recovered = read(&database, path)?;
        let (orders, waiting) = channel();
        let failing = Arc::new(Mutex::new(None));
        let committer = Committer {
            path: path.to_owned(),
            database: Some(database),
            failing: failing.clone(),
            remove: Box::new(remove),
            removed: Vec::new(),
        };
        let thread = std::thread::Builder::new()
            .name("committer".into())
            .spawn(move || committer.run(&waiting))
            .map_err(|source| JournalError::Io {
                path: path.to_owned(),
                source,
            })?;
        Ok((
            Self {
                orders,
                failing,
                thread: Mutex::new(Some(thread)),
            },
            recovered,
        ))
    }

    /// Queues a change. Call it under the lock that ordered the change, so that the database
    /// sees changes in the same order; wait on the ticket after letting go of the lock. The
    /// queue is as long as there are callers waiting, and those the kernel bounds.
    pub fn commit(&self, batch: Batch) -> Ticket {
        let (done, ticket) = oneshot::channel();
        if batch.is_empty() {
            let _ = done.send(Ok(()));
        } else if let Err(refused) = self.orders.send(Order::Commit(batch, done))
            && let Order::Commit(_, done) = refused.0
        {
            let _ = done.send(Err(CommitFailed("the committer has stopped".into())));
        }
        Ticket(ticket)
    }

    /// Why the last batch could not be written, while that lasts.
    #[must_use]
    pub fn failing(&self) -> Option<CommitFailed> {
        self.failing.lock().clone()
    }

    /// Writes what is queued and closes the database.
    pub fn close(&self) {
        let _ = self.orders.send(Order::Stop);
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

struct Committer {
    path: PathBuf,
    database: Option<Database>,
    failing: Arc<Mutex<Option<CommitFailed>>>,
    remove: Box<dyn Fn(ContentId) + Send>,
    /// Removed from the disk, and still to be removed from the table of garbage.
    removed: Vec<ContentId>,
}

impl Committer {
    fn run(mut self, orders: &Receiver<Order>) {
        let mut unwritten: VecDeque<Batch> = VecDeque::new();
        loop {
            let mut waiters = Vec::new();
            let mut stop = false;
            let first = if unwritten.is_empty() {
                orders.recv().map_err(|_| RecvTimeoutError::Disconnected)
            } else {
                orders.recv_timeout(RETRY)
            };
            match first {
                Ok(order) => {
                    for order in std::iter::once(order).chain(orders.try_iter()) {
                        match order {
                            Order::Commit(batch, done) => {
                                unwritten.push_back(batch);
                                waiters.push(done);
                            }
                            Order::Stop => stop = true,
                        }
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => stop = true,
            }
            let result = if unwritten.is_empty() {
                Ok(())
            } else {
                self.write(&unwritten)
            };
            match &result {
                Ok(()) => {
                    if self.failing.lock().take().is_some() {
                        tracing::info!("the journal can be written again; nothing was lost");
                    }
                    for content in unwritten.drain(..).flat_map(|batch| batch.garbage) {
                        (self.remove)(content);
                        self.removed.push(content);
                    }
                }
                Err(why) => {
                    if self.failing.lock().replace(why.clone()).is_none() {
                        tracing::error!(journal = %self.path.display(), error = %why.0,
                            "cannot write the journal: changes are refused until the disk is well");
                    }
                }
            }
            for waiter in waiters {
                let _ = waiter.send(result.clone());
            }
            if stop {
                return;
            }
        }
    }

    fn write(&mut self, batches: &VecDeque<Batch>) -> Result<(), CommitFailed> {
        let result = self.try_write(batches);
        if result.is_err() {
            // After an I/O error redb refuses everything until it is opened anew.
            self.database = None;
        }
        result.map_err(|error| CommitFailed(chain(&error).into()))
    }

    fn try_write(&mut self, batches: &VecDeque<Batch>) -> Result<(), redb::Error> {
        if self.database.is_none() {
            self.database = Some(builder().open(&self.path)?);
        }
        let Some(database) = &self.database else {
            return Ok(());
        };
        let transaction = database.begin_write()?;
        {
            let mut nodes = transaction.open_table(NODES)?;
            let mut graves = transaction.open_table(GRAVES)?;
            let mut garbage = transaction.open_table(GARBAGE)?;
            let mut facts = transaction.open_table(FACTS)?;
            for content in &self.removed {
                garbage.remove(content.0)?;
            }
            for batch in batches {
                for (id, row) in &batch.nodes {
                    match row {
                        Some(row) => drop(nodes.insert(id.0, row.as_slice())?),
                        None => drop(nodes.remove(id.0)?),
                    }
                }
                for (item, row) in &batch.graves {
                    match row {
                        Some(row) => drop(graves.insert(item.as_str(), row.as_slice())?),
                        None => drop(graves.remove(item.as_str())?),
                    }
                }
                for content in batch.garbage.iter().chain(&batch.doomed) {
                    garbage.insert(content.0, ())?;
                }
                for (name, row) in &batch.facts {
                    match row {
                        Some(row) => drop(facts.insert(*name, row.as_slice())?),
                        None => drop(facts.remove(*name)?),
                    }
                }
            }
        }
        transaction.commit()?;
        self.removed.clear();
        Ok(())
    }
}

fn builder() -> redb::Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    builder
}

fn open(path: &Path) -> Result<Database, JournalError> {
    let io = |source| JournalError::Io {
        path: path.to_owned(),
        source,
    };
    // Made here, so that it is nobody else's to read from its first moment.
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(io)?;
    let database = builder().create(path).map_err(|error| match error {
        redb::DatabaseError::DatabaseAlreadyOpen => JournalError::InUse(path.to_owned()),
        other => broken(path, other),
    })?;
    // The name of a new database has to survive a power cut, too.
    let dir = path.parent().unwrap_or(Path::new("/"));
    std::fs::File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(io)?;
    Ok(database)
}

fn broken(path: &Path, error: impl Into<redb::Error>) -> JournalError {
    JournalError::Broken {
        path: path.to_owned(),
        source: Box::new(error.into()),
    }
}

fn read(database: &Database, path: &Path) -> Result<Recovered, JournalError> {
    let read = || -> Result<Recovered, redb::Error> {
        let mut recovered = Recovered::default();
        let transaction = database.begin_write()?;
        {
            // Opening makes the tables that a new database lacks.
            transaction.open_table(NODES)?;
            transaction.open_table(GRAVES)?;
            transaction.open_table(GARBAGE)?;
            let mut facts = transaction.open_table(FACTS)?;
            if facts.get(LAYOUT_FACT)?.is_none() {
                facts.insert(LAYOUT_FACT, encode(&LAYOUT).as_slice())?;
            }
        }
        transaction.commit()?;
        let transaction = database.begin_read()?;
        for row in transaction.open_table(FACTS)?.iter()? {
            let (name, row) = row?;
            recovered
                .facts
                .push((name.value().to_owned(), row.value().to_owned()));
        }
        for row in transaction.open_table(NODES)?.iter()? {
            let (id, row) = row?;
            match decode::<Node>(row.value()) {
                Ok(node) => recovered.stored.nodes.push(node),
                Err(why) => recovered.damaged.push(format!(
                    "node {}: {why}: {}",
                    id.value(),
                    String::from_utf8_lossy(row.value())
                )),
            }
        }
        for row in transaction.open_table(GRAVES)?.iter()? {
            let (item, row) = row?;
            match decode::<Grave>(row.value()) {
                Ok(grave) => recovered.stored.graves.push(grave),
                Err(why) => recovered.damaged.push(format!(
                    "deletion of {}: {why}: {}",
                    item.value(),
                    String::from_utf8_lossy(row.value())
                )),
            }
        }
        for row in transaction.open_table(GARBAGE)?.iter()? {
            recovered.garbage.push(ContentId(row?.0.value()));
        }
        Ok(recovered)
    };
    let recovered = read().map_err(|error| broken(path, error))?;
    match recovered.fact::<u32>(LAYOUT_FACT) {
        Some(found) if found > LAYOUT => Err(JournalError::Newer {
            path: path.to_owned(),
            found,
        }),
        _ => Ok(recovered),
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut at = error.source();
    while let Some(cause) = at {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        at = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{Kind, NodeId, Place};
    use std::time::SystemTime;

    fn node(id: u64, name: &str) -> Node {
        let place = Place {
            parent: NodeId::ROOT,
            name: name.to_owned(),
        };
        Node::new(NodeId(id), place, Kind::File, SystemTime::UNIX_EPOCH)
    }

    fn writes(node: &Node) -> Batch {
        Batch {
            nodes: vec![(node.id, Some(encode(node)))],
            ..Batch::default()
        }
    }

    #[tokio::test]
    async fn what_was_acknowledged_is_there_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal.redb");
        let (journal, found) = Journal::open(&path, |_| {}).unwrap();
        assert_eq!(found.stored.nodes, []);
        let tickets: Vec<Ticket> = (2..52)
            .map(|id| journal.commit(writes(&node(id, &format!("f{id}")))))
            .collect();
        for ticket in tickets {
            ticket.durable().await.unwrap();
        }
        drop(journal);
        let (_journal, found) = Journal::open(&path, |_| {}).unwrap();
        assert_eq!(found.stored.nodes.len(), 50);
        assert_eq!(found.stored.nodes[0], node(2, "f2"));
    }

    #[test]
    fn a_second_daemon_on_one_journal_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal.redb");
        let _first = Journal::open(&path, |_| {}).unwrap();
        assert!(matches!(
            Journal::open(&path, |_| {}),
            Err(JournalError::InUse(_))
        ));
    }

    #[tokio::test]
    async fn garbage_is_removed_once_it_is_durable_and_told_again_until_then() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal.redb");
        let (told, removed) = channel();
        let (journal, _) = Journal::open(&path, move |id| told.send(id).unwrap()).unwrap();
        let batch = Batch {
            garbage: vec![ContentId(7)],
            ..Batch::default()
        };
        journal.commit(batch).durable().await.unwrap();
        assert_eq!(removed.recv().unwrap(), ContentId(7));
        drop(journal);
        let (_journal, found) = Journal::open(&path, |_| {}).unwrap();
        assert_eq!(
            found.garbage,
            [ContentId(7)],
            "the row goes with the next batch"
        );
    }

    #[tokio::test]
    async fn a_damaged_row_is_reported_and_the_rest_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal.redb");
        let (journal, _) = Journal::open(&path, |_| {}).unwrap();
        let mut batch = writes(&node(2, "good"));
        batch.nodes.push((NodeId(3), Some(b"{\"torn".to_vec())));
        journal.commit(batch).durable().await.unwrap();
        drop(journal);
        let (_journal, found) = Journal::open(&path, |_| {}).unwrap();
        assert_eq!(found.stored.nodes, [node(2, "good")]);
        assert!(
            found.damaged[0].starts_with("node 3: "),
            "{:?}",
            found.damaged
        );
    }

    #[tokio::test]
    async fn a_journal_of_a_newer_program_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal.redb");
        let (journal, _) = Journal::open(&path, |_| {}).unwrap();
        let mut batch = Batch::default();
        batch.fact(LAYOUT_FACT, Some(&(LAYOUT + 1)));
        journal.commit(batch).durable().await.unwrap();
        drop(journal);
        assert!(matches!(
            Journal::open(&path, |_| {}),
            Err(JournalError::Newer { found, .. }) if found == LAYOUT + 1
        ));
    }
}
