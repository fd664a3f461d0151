//! The content files on disk.
//!
//! Plain files: a person with a shell can save them when everything else is lost. The store hands
//! out numbers that are never used twice, and one descriptor for each content. What it does not
//! recognise it moves aside and reports; it deletes only what it is told to.

#[cfg(all(test, feature = "schedules"))]
mod schedules;
#[cfg(test)]
mod tests;

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

pub use super::blob::Blob;
use super::blob::{again, refused_before};
use super::disk::Disk;
use super::refused::Refused;
use super::shelf::{Seen, Shelf};
use super::stock::Stock;
use crate::outbox::journal::Contents;
use crate::threads::atomic::Ordering;
use crate::tree::ContentId;

/// From so many contents on, one barrier for the whole disk is cheaper than one for each, though it waits for what
/// other programs have written, too.
const MANY: usize = 32;

/// The content files on disk.
#[derive(Clone, Debug)]
pub struct Store {
    shelf: Arc<Shelf>,
}

/// A content file that stands on the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its number.
    pub id: ContentId,
    /// Its length; of a fill, up to the last byte that came.
    pub bytes: u64,
    /// It is being fetched.
    pub fill: bool,
    /// When it last took bytes.
    pub modified: SystemTime,
}

impl Store {
    /// Opens the store below a directory; both are made where they are missing. What the last run
    /// was still fetching is removed, and what is no content is moved to the quarantine.
    ///
    /// # Errors
    /// The disk fails.
    pub fn open(state_dir: &Path, disk: Arc<dyn Disk>) -> io::Result<Self> {
        let shelf = Shelf::open(state_dir, disk)?;
        let (mut last, mut fills, mut unknown) = (0, Vec::new(), Vec::new());
        shelf.walk(|seen, entry| match seen {
            Seen::Content(id) => last = last.max(id.0),
            Seen::Fill(id) => {
                last = last.max(id.0);
                fills.push(entry.path());
            }
            Seen::Unknown => unknown.push(entry.path()),
        })?;
        for path in fills {
            if let Err(error) = shelf.disk().remove(&path) {
                tracing::warn!(path = %path.display(), %error, "cannot remove an unfinished fetch");
            }
        }
        for path in unknown {
            // A file that cannot be moved stays where it is: it is not worth a failed start.
            if let Err(error) = shelf.quarantine(&path, "not a content file") {
                tracing::warn!(path = %path.display(), %error, "cannot move a strange file aside");
            }
        }
        shelf
            .last
            .store(last.max(shelf.quarantined()?), Ordering::Relaxed);
        Ok(Self { shelf })
    }

    /// Numbers given out from now on are larger than this one.
    pub fn reserve_above(&self, id: ContentId) {
        self.shelf.last.fetch_max(id.0, Ordering::Relaxed);
    }

    /// Has contents made ahead, from now on. Once all numbers that are taken are [reserved](Self::reserve_above).
    ///
    /// # Errors
    /// No thread can be had.
    pub fn stock_up(&self) -> io::Result<()> {
        let stock = Stock::start(&self.shelf)?;
        self.shelf.stock.get_or_init(|| stock).ask();
        Ok(())
    }

    /// Makes a new empty content.
    ///
    /// # Errors
    /// The disk fails or is full.
    pub fn create(&self) -> io::Result<Arc<Blob>> {
        if let Some((id, file)) = self.shelf.stock.get().and_then(Stock::take) {
            let blob = Blob::new(id, file, true, Arc::clone(&self.shelf));
            blob.has_durable_name();
            blob.register();
            return Ok(blob);
        }
        let id = self.shelf.next();
        let file = self.shelf.make(&self.shelf.path(id))?;
        let blob = Blob::new(id, file, true, Arc::clone(&self.shelf));
        blob.register();
        Ok(blob)
    }

    /// Makes an empty file for content that is to be fetched.
    pub(super) fn create_fill(&self) -> io::Result<Arc<Blob>> {
        let id = self.shelf.next();
        let file = self.shelf.make(&self.shelf.fill_path(id))?;
        Ok(Blob::new(id, file, true, Arc::clone(&self.shelf)))
    }

    /// Opens a content. All who hold it share one descriptor.
    ///
    /// # Errors
    /// There is no such content, or the disk fails.
    pub fn load(&self, id: ContentId) -> io::Result<Arc<Blob>> {
        let held = |shelf: &Shelf| shelf.open.lock().get(&id)?.upgrade();
        if let Some(blob) = held(&self.shelf) {
            return Ok(blob);
        }
        let file = self.shelf.disk().open(
            &self.shelf.path(id),
            OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW),
        )?;
        let blob = Blob::new(id, file, false, Arc::clone(&self.shelf));
        // Somebody may have been quicker. What loses is dropped after the lock, which its own
        // drop takes.
        let mut open = self.shelf.open.lock();
        if let Some(first) = open.get(&id).and_then(std::sync::Weak::upgrade) {
            drop(open);
            return Ok(first);
        }
        open.insert(id, Arc::downgrade(&blob));
        Ok(blob)
    }

    /// Opens a content once more, for reading only, also one that was removed since: from now on this is what others
    /// share.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn open_anew(&self, id: ContentId, file: &File) -> io::Result<Arc<Blob>> {
        let file = again(file, false)?;
        let blob = Blob::new(id, file, false, Arc::clone(&self.shelf));
        blob.register();
        Ok(blob)
    }

    /// Copies a content into a new one: by reference where the disk can, else byte by byte. When
    /// somebody may be writing, compare the [`stamp`](Blob::stamp) of before with that of after.
    ///
    /// # Errors
    /// The disk fails or is full; there is no copy then.
    pub fn copy(&self, from: &Blob) -> io::Result<Arc<Blob>> {
        let copy = self.create()?;
        if let Err(error) = self.shelf.disk().copy(&from.file(), &copy.file()) {
            self.remove(copy.id());
            return Err(error);
        }
        Ok(copy)
    }

    /// The same, under the name of a fetch until [`Blob::take_name`]: a start removes what a kill left
    /// of it.
    ///
    /// # Errors
    /// The disk fails or is full; there is no copy then.
    pub fn copy_aside(&self, from: &Blob) -> io::Result<Arc<Blob>> {
        let copy = self.create_fill()?;
        if let Err(error) = self.shelf.disk().copy(&from.file(), &copy.file()) {
            copy.discard_fill();
            return Err(error);
        }
        Ok(copy)
    }

    /// Copies a content whose bytes may be in memory alone: through our own memory, as the disk itself would
    /// copy what it has.
    ///
    /// # Errors
    /// The disk fails or is full; there is no copy then.
    pub fn copy_from_memory(&self, from: &Blob) -> io::Result<Arc<Blob>> {
        let copy = self.create()?;
        if let Err(error) = from.write_to(&copy) {
            self.remove(copy.id());
            return Err(error);
        }
        Ok(copy)
    }

    /// Contents whose bytes the disk has refused.
    #[must_use]
    pub fn refused(&self) -> &Refused {
        &self.shelf.refused
    }

    /// Has somebody hear of each content that is removed or moved aside. Once.
    pub fn on_remove(&self, hear: impl Fn(ContentId) + Send + Sync + 'static) {
        let _ = self.shelf.on_remove.0.set(Box::new(hear));
    }

    /// Deletes a content. Those who have it open go on with it.
    pub fn remove(&self, id: ContentId) {
        self.shelf.forget(id);
        self.shelf.refused.forget(id);
        match self.shelf.disk().remove(&self.shelf.path(id)) {
            Ok(()) => tracing::debug!(content = %id, "removed"),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(content = %id, %error, "cannot remove a content file"),
        }
    }

    /// Everything that stands on the disk, in no order.
    ///
    /// # Errors
    /// The disk fails.
    pub fn list(&self) -> io::Result<Vec<Found>> {
        let (mut found, mut failed) = (Vec::new(), None);
        self.shelf.walk(|seen, entry| {
            let (id, fill) = match seen {
                Seen::Content(id) => (id, false),
                Seen::Fill(id) => (id, true),
                Seen::Unknown => return,
            };
            match entry
                .metadata()
                .and_then(|data| Ok((data.len(), data.modified()?)))
            {
                Ok((bytes, modified)) => found.push(Found {
                    id,
                    bytes,
                    fill,
                    modified,
                }),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => failed = Some(error),
            }
        })?;
        failed.map_or(Ok(found), Err)
    }

    /// Moves a content aside, with a line in the report; where it stands now. Those who have it
    /// open go on with it.
    ///
    /// # Errors
    /// There is no such content, or the disk fails: nothing was moved then.
    pub fn quarantine(&self, id: ContentId, why: &str) -> io::Result<PathBuf> {
        let moved = self.shelf.quarantine(&self.shelf.path(id), why)?;
        self.shelf.forget(id);
        Ok(moved)
    }

    /// Where a content stands that was moved aside before.
    #[must_use]
    pub fn quarantined(&self, id: ContentId) -> Option<PathBuf> {
        let moved = self.shelf.quarantine_path(id);
        moved.exists().then_some(moved)
    }

    /// The same for another file of the state.
    ///
    /// # Errors
    /// There is no such file, or the disk fails: nothing was moved then.
    pub fn quarantine_file(&self, path: &Path, why: &str) -> io::Result<PathBuf> {
        self.shelf.quarantine(path, why)
    }

    /// Where a content stands, if it does.
    #[must_use]
    pub fn place(&self, id: ContentId) -> Option<PathBuf> {
        Some(self.shelf.path(id)).filter(|path| path.exists())
    }

    /// The magic number of the filesystem that the contents are on (`statfs(2)`).
    ///
    /// # Errors
    /// The disk fails.
    pub fn filesystem(&self) -> io::Result<u64> {
        let on = rustix::fs::statfs(self.shelf.root())?;
        Ok(u64::try_from(on.f_type).unwrap_or_default())
    }

    /// Space on the disk that we may still use.
    ///
    /// # Errors
    /// The disk fails.
    pub fn free_bytes(&self) -> io::Result<u64> {
        self.shelf.disk().free(self.shelf.root())
    }
}

impl Contents for Store {
    fn make_durable(&self, contents: &[ContentId]) -> Vec<(ContentId, io::Error)> {
        // One barrier for all of them. Which one it was that the disk refused, each tells itself, and so do
        // those of which it was told before.
        if contents.len() >= MANY && self.shelf.sync_all() {
            let refused = contents.iter().filter(|id| self.refused().has(**id));
            return refused.map(|id| (*id, refused_before())).collect();
        }
        let store = self.clone();
        let sync = move |id: ContentId| {
            let synced = store.load(id).and_then(|blob| blob.sync());
            synced.inspect_err(|_| store.refused().add(id)) // also where it was the name
        };
        if let ([_, _, ..], Some(crew)) = (contents, self.shelf.crew()) {
            return crew.each(contents, sync);
        }
        let failed = |id: &ContentId| Some((*id, sync(*id).err()?));
        contents.iter().filter_map(failed).collect()
    }

    fn remove(&self, content: ContentId) {
        self.remove(content);
    }
}
