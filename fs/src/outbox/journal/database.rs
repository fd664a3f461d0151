//! The tables: how rows get in, and how they are read back.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use redb::{Builder, Database, ReadableDatabase, ReadableTable, TableDefinition};

use super::pages::{Pages, Refused, write_again};
use super::{JournalError, Recovered};
use crate::content::Disk;
use crate::tree::{Batch, ContentId, Grave, Node, NodeId, Seal, decode, encode};

const NODES: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("nodes");
const GRAVES: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("graves");
const GARBAGE: TableDefinition<'static, u64, ()> = TableDefinition::new("garbage");
const FACTS: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("facts");
/// Seals whose bytes were on their way to the disk together with their record.
const SEALS: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("seals");

/// The layout of the tables. A newer one is refused; an older one is brought here, table by table,
/// in [`migrate`].
pub(super) const LAYOUT: u32 = 2;
const LAYOUT_FACT: &str = "layout";

/// The last change of the log of changes that is in the tables.
const CHANGE_FACT: &str = "change";

/// redb's page cache. The tree is in memory; the database is read once, at the start, so a small
/// cache for the upper levels of its B-trees is enough.
const CACHE_BYTES: usize = 8 << 20;

/// One database, open as long as the disk is well.
pub(super) struct Tables {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    database: Option<Database>,
    refused: Refused,
}

/// What one transaction writes.
#[derive(Default)]
pub(super) struct Write<'a> {
    /// Changes, in their order.
    pub(super) batches: Vec<&'a Batch>,
    /// Contents that are removed from the disk, and need no row any more.
    pub(super) removed: &'a [ContentId],
    /// Seals that are proven, or of no account any more.
    pub(super) proven: &'a [ContentId],
    /// The last change of the log of changes that is in here.
    pub(super) change: Option<u64>,
}

impl Tables {
    /// Opens or makes the database.
    pub(super) fn open(path: &Path, disk: Arc<dyn Disk>) -> Result<Self, JournalError> {
        let io = |source| JournalError::Io {
            path: path.to_owned(),
            source,
        };
        // Made here, so that it is nobody else's to read from its first moment.
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).mode(0o600);
        let file = disk.open(path, &options).map_err(io)?;
        let refused = Refused::default();
        let mut builder = builder();
        let repaired = Arc::new(AtomicBool::new(false));
        let repairs = repaired.clone();
        builder.set_repair_callback(move |_| repairs.store(true, Ordering::Release));
        let database = database_in(&builder, file, &disk, &refused);
        let mut database = database.map_err(|error| broken(path, error))?;
        // All of it is read next anyhow, and a flipped bit must not pass for a name or a size.
        if !database
            .check_integrity()
            .map_err(|error| broken(path, error))?
        {
            tracing::warn!(journal = %path.display(), "the journal was not as it should be, and is mended");
        }
        if repaired.load(Ordering::Acquire) {
            // It was not closed, and nobody knows why: the disk may have refused what memory still has.
            let file = disk.open(path, &options).map_err(io)?;
            write_again(&*disk, &file).map_err(io)?;
        }
        // The name of a new database has to survive a power cut, too.
        let dir = path.parent().unwrap_or(Path::new("/"));
        disk.sync_dir(dir).map_err(io)?;
        migrate(&database, path)?;
        Ok(Self {
            disk,
            path: path.to_owned(),
            database: Some(database),
            refused,
        })
    }

    /// The last change of the log of changes that is in here.
    pub(super) fn change(&self) -> Result<u64, JournalError> {
        let Some(database) = &self.database else {
            return Ok(0);
        };
        let look = || -> Result<Option<u64>, redb::Error> {
            let facts = database.begin_read()?.open_table(FACTS)?;
            Ok(facts
                .get(CHANGE_FACT)?
                .and_then(|row| decode(row.value()).ok()))
        };
        Ok(look().map_err(|error| self.broken(error))?.unwrap_or(0))
    }

    /// An error of this database.
    pub(super) fn broken(&self, error: impl Into<redb::Error>) -> JournalError {
        broken(&self.path, error)
    }

    /// Reads everything.
    pub(super) fn read(&self) -> Result<Recovered, JournalError> {
        match &self.database {
            Some(database) => read(database).map_err(|error| broken(&self.path, error)),
            None => Ok(Recovered::default()),
        }
    }

    /// Writes all or nothing, durably. After an I/O error redb refuses everything until it is
    /// opened anew, which the next write does.
    pub(super) fn write(&mut self, write: &Write<'_>) -> Result<(), redb::Error> {
        let result = self.try_write(write);
        if result.is_err() {
            self.database = None;
        }
        result
    }

    fn reopen(&self) -> Result<Database, redb::Error> {
        let mut options = OpenOptions::new();
        let file = self.disk.open(&self.path, options.read(true).write(true))?;
        if file.metadata()?.len() == 0 {
            // It had tables: a new one in its place would be without what they say.
            return Err(redb::Error::Corrupted("the file is empty".into()));
        }
        database_in(&builder(), file, &self.disk, &self.refused)
    }

    fn try_write(&mut self, write: &Write<'_>) -> Result<(), redb::Error> {
        if self.database.is_none() {
            self.database = Some(self.reopen()?);
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
            let mut seals = transaction.open_table(SEALS)?;
            for content in write.removed {
                garbage.remove(content.0)?;
            }
            for content in write.proven {
                seals.remove(content.0)?;
            }
            for batch in &write.batches {
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
                for seal in &batch.seals {
                    seals.insert(seal.content.0, encode(seal).as_slice())?;
                }
                for (name, row) in &batch.facts {
                    match row {
                        Some(row) => drop(facts.insert(&**name, row.as_slice())?),
                        None => drop(facts.remove(&**name)?),
                    }
                }
            }
            if let Some(change) = write.change {
                facts.insert(CHANGE_FACT, encode(&change).as_slice())?;
            }
        }
        transaction.commit()?;
        Ok(())
    }
}

fn builder() -> Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    builder
}

fn database_in(
    builder: &Builder,
    file: File,
    disk: &Arc<dyn Disk>,
    refused: &Refused,
) -> Result<Database, redb::Error> {
    Ok(builder.create_with_backend(Pages::of(file, disk.clone(), refused.clone())?)?)
}

fn broken(path: &Path, error: impl Into<redb::Error>) -> JournalError {
    let path = path.to_owned();
    match error.into() {
        redb::Error::DatabaseAlreadyOpen => JournalError::InUse(path),
        redb::Error::Corrupted(why) => JournalError::Damaged { path, why },
        // What it says of a file of another kind, and of one that was cut.
        redb::Error::Io(error)
            if matches!(
                error.kind(),
                io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
            ) =>
        {
            let why = error.to_string();
            JournalError::Damaged { path, why }
        }
        // All tables are made together.
        error @ (redb::Error::TableDoesNotExist(_)
        | redb::Error::TableTypeMismatch { .. }
        | redb::Error::TypeDefinitionChanged { .. }) => {
            let why = error.to_string();
            JournalError::Damaged { path, why }
        }
        other => JournalError::Broken {
            path,
            source: Box::new(other),
        },
    }
}

/// Makes the tables that are missing, and refuses a layout that is not ours to read. Layout 1 had
/// no seals: contents were on the disk before their records, so an empty table says the truth.
fn migrate(database: &Database, path: &Path) -> Result<(), JournalError> {
    let found = || -> Result<Option<u32>, redb::Error> {
        match database.begin_read()?.open_table(FACTS) {
            Ok(facts) => Ok(facts
                .get(LAYOUT_FACT)?
                .and_then(|row| decode(row.value()).ok())),
            Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    };
    match found().map_err(|error| broken(path, error))? {
        Some(LAYOUT) => return Ok(()),
        Some(newer) if newer > LAYOUT => {
            return Err(JournalError::Newer {
                path: path.to_owned(),
                found: newer,
            });
        }
        Some(older) => tracing::info!(
            from = older,
            to = LAYOUT,
            "the journal is brought to this version"
        ),
        None => {}
    }
    let make = || -> Result<(), redb::Error> {
        let transaction = database.begin_write()?;
        {
            transaction.open_table(NODES)?;
            transaction.open_table(GRAVES)?;
            transaction.open_table(GARBAGE)?;
            transaction.open_table(SEALS)?;
            let mut facts = transaction.open_table(FACTS)?;
            facts.insert(LAYOUT_FACT, encode(&LAYOUT).as_slice())?;
        }
        Ok(transaction.commit()?)
    };
    make().map_err(|error| broken(path, error))
}

fn read(database: &Database) -> Result<Recovered, redb::Error> {
    let mut recovered = Recovered::default();
    let transaction = database.begin_read()?;
    for row in transaction.open_table(FACTS)?.iter()? {
        let (name, row) = row?;
        recovered
            .facts
            .insert(name.value().to_owned(), row.value().to_owned());
    }
    let (damaged, highest) = (&mut recovered.damaged, &mut recovered.highest);
    for row in transaction.open_table(NODES)?.iter()? {
        let (id, row) = row?;
        *highest = Some(NodeId(id.value())); // they come in order
        match decode::<Node>(row.value()) {
            Ok(node) => drop(recovered.nodes.insert(node.id, node)),
            Err(why) => damaged.push(Damaged::new(
                format!("node {}", id.value()),
                &why,
                row.value(),
            )),
        }
    }
    for row in transaction.open_table(GRAVES)?.iter()? {
        let (item, row) = row?;
        match decode::<Grave>(row.value()) {
            Ok(grave) => drop(recovered.graves.insert(grave.item.clone(), grave)),
            Err(why) => damaged.push(Damaged::new(
                format!("deletion of {}", item.value()),
                &why,
                row.value(),
            )),
        }
    }
    for row in transaction.open_table(SEALS)?.iter()? {
        let (content, row) = row?;
        match decode::<Seal>(row.value()) {
            Ok(seal) => drop(recovered.seals.insert(seal.content, seal)),
            Err(why) => damaged.push(Damaged::new(
                format!("seal of {}", content.value()),
                &why,
                row.value(),
            )),
        }
    }
    for row in transaction.open_table(GARBAGE)?.iter()? {
        recovered.garbage.insert(ContentId(row?.0.value()));
    }
    Ok(recovered)
}

/// A row that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damaged {
    /// Which.
    pub what: String,
    /// Why not.
    pub why: String,
    /// Its bytes.
    pub row: Vec<u8>,
}

impl Damaged {
    fn new(what: String, why: &serde_json::Error, row: &[u8]) -> Self {
        Self {
            what,
            why: why.to_string(),
            row: row.to_owned(),
        }
    }
}
