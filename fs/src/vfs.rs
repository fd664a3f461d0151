//! The use cases of a mounted drive: lookup, read, write, rename, flush.
//!
//! No type of the kernel's or of HTTP comes in here; `mount` and `origin` translate. Every
//! operation is a future that is ready at its first poll when nothing has to be waited for. Three
//! things are ever waited for: our own disk, to keep a promise; the network, for bytes or names
//! that are not here, and that no longer than [`VfsConfig::timeout`]; and the writer before us on
//! the same file.

mod data;
mod error;
mod evict;
mod fetch;
mod listing;
mod lookup;
mod names;
mod opened;
mod parked;
mod picture;
mod recover;
mod refused;
mod room;
mod seal;
mod status;
#[cfg(test)]
pub(crate) mod tests;
mod through;
mod types;
mod withheld;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use parking_lot::Mutex;
use tokio_util::task::TaskTracker;

pub use self::error::VfsError;
pub use self::evict::Budget;
use self::fetch::{Doubts, Fills};
use self::listing::Listings;
use self::opened::{Opened, Source};
pub use self::parked::DiscardError;
pub use self::picture::Picture;
pub use self::recover::{Recovery, StartError, recover};
pub use self::room::PATIENCE;
use self::room::Room;
pub use self::status::{ParkedChange, Status};
use self::through::Kept;
pub use self::through::Through;
pub use self::types::{Attr, Listed, OpenMode, RenameFlags, SetAttr, Space};
pub use self::withheld::{Decision, baseline_of_root, tell_of_withheld};
use crate::content::intents::Intents;
use crate::content::store::Store;
use crate::outbox::drain::Outbox;
use crate::outbox::ledger::Ledger;
pub use crate::ports;
use crate::ports::{Drive, Quota};
use crate::tree::ContentId;
pub use crate::tree::{HandleId, Kind, NodeId};

/// How the filesystem goes about its work.
#[derive(Clone, Debug)]
pub struct VfsConfig {
    /// The longest that a call may wait for the network.
    pub timeout: Duration,
    /// Refuse every change.
    pub read_only: bool,
    /// A change of metadata makes a version on this drive.
    pub drive_has_versions: bool,
    /// If the drive says that more than this is gone at once, a person is asked; none: never.
    pub guard: Option<usize>,
    /// What confirmed contents may take of the disk.
    pub budget: Budget,
    /// The longest that a call may wait for room on the disk.
    pub patience: Duration,
}

/// Files up to this size are made complete before `open` returns: one request, and an
/// application handles a failing open better than a failing read. The same limit as design 3.1
/// sets for the origin; at home broadband's 50 Mbit/s it is little more than a second.
pub const SMALL: u64 = 8 << 20;

/// A mounted drive.
pub struct Vfs {
    ledger: Arc<Ledger>,
    store: Arc<Store>,
    intents: Arc<Intents>,
    drive: Arc<dyn Drive>,
    outbox: Arc<Outbox>,
    config: VfsConfig,
    table: Mutex<Table>,
    /// One copies what the disk has refused at a time. Under the gate of the file.
    copying: tokio::sync::Mutex<()>,
    listings: Listings,
    fills: Fills,
    doubts: Doubts,
    room: Room,
    quota: Mutex<Option<Quota>>,
    next_handle: AtomicU64,
    /// The kernel can read files by itself.
    passes: AtomicBool,
    kept: Arc<Kept>,
    /// Work that goes on after a call has been answered.
    tasks: TaskTracker,
    /// Held for reading while a listing is fetched and applied, for writing while a delta round
    /// is: a listing must not bring back a state that a round has already replaced.
    remote: Arc<tokio::sync::RwLock<()>>,
}

/// What is open. Where both locks are needed, this one comes before the ledger's.
#[derive(Default)]
struct Table {
    handles: HashMap<HandleId, Arc<opened::Handle>>,
    files: HashMap<NodeId, Arc<Opened>>,
    /// Those that applications write to by themselves.
    scratches: HashSet<NodeId>,
}

impl Table {
    /// The content that is being written to a file, if it is open for that.
    fn live_content(&self, id: NodeId) -> Option<ContentId> {
        self.files.get(&id)?.live_content()
    }

    /// What was open with a sealed content goes on with another source.
    fn replace(&self, content: ContentId, source: &Source) {
        for file in self.files.values() {
            if matches!(file.source(), Source::Sealed(blob) if blob.id() == content) {
                file.set_source(source.clone());
            }
            if let Source::Sealed(copy) = source {
                file.with_scratch(|scratch, _| {
                    if scratch.sealed == content {
                        scratch.sealed = copy.id();
                    }
                });
            }
        }
    }
}

impl Vfs {
    /// A filesystem over what was recovered.
    #[must_use]
    pub fn new(
        ledger: Arc<Ledger>,
        store: Arc<Store>,
        intents: Arc<Intents>,
        drive: Arc<dyn Drive>,
        outbox: Arc<Outbox>,
        config: VfsConfig,
    ) -> Arc<Self> {
        let kept = Kept::none();
        let forgets = kept.clone();
        store.on_remove(move |content| forgets.forget(content));
        Arc::new(Self {
            ledger,
            store,
            intents,
            drive,
            outbox,
            config,
            table: Mutex::default(),
            copying: tokio::sync::Mutex::default(),
            listings: Listings::default(),
            fills: Fills::default(),
            doubts: fetch::no_doubts(),
            room: Room::default(),
            quota: Mutex::default(),
            next_handle: AtomicU64::new(1),
            passes: AtomicBool::new(false),
            kept,
            tasks: TaskTracker::new(),
            remote: Arc::default(),
        })
    }

    /// The tree and its journal.
    #[must_use]
    pub fn ledger(&self) -> &Arc<Ledger> {
        &self.ledger
    }

    /// The drive behind.
    #[must_use]
    pub fn drive(&self) -> &Arc<dyn Drive> {
        &self.drive
    }

    /// Held for writing while a delta round is applied.
    #[must_use]
    pub fn remote(&self) -> &Arc<tokio::sync::RwLock<()>> {
        &self.remote
    }

    /// Remembers the drive's space, as it was last told.
    pub fn set_quota(&self, quota: Option<Quota>) {
        *self.quota.lock() = quota;
    }

    /// Waits for the work that goes on after calls were answered, at most this long.
    pub async fn quiesce(&self, limit: Duration) {
        self.tasks.close();
        if tokio::time::timeout(limit, self.tasks.wait())
            .await
            .is_err()
        {
            tracing::warn!("left work behind at the stop; the journal knows of it");
        }
    }
}
