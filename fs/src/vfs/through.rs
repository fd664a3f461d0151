//! Files that the kernel reads, and writes, by itself.
//!
//! A complete content that is opened for reading is passed through: the kernel reads its file, and asks us no more.
//! As long as such a file is open anywhere, the kernel takes no other file for it, and no other way
//! (`fuse-kernel.md` 2). So a writer who comes meanwhile writes to that very file, unseen: before he may, the
//! record gets a copy of what was sealed, and from then on the file is a *scratch*, which no record names. What
//! a close or an fsync seals is again a copy. Whether anything was written since, the scratch tells by its time of
//! change, to which a [mark](crate::content::Blob::mark) is set each time that it is looked at.
//!
//! A mapping outlives its descriptor. After the last close the scratch is looked at now and then until the kernel says
//! that nobody can write to it any more.

use std::any::Any;
use std::fs::File;
use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;

use super::opened::{Opened, Source};
use super::{HandleId, NodeId, Vfs, VfsError};
use crate::content::room::FILE;
use crate::content::store::Blob;
use crate::outbox::journal::Ticket;
use crate::outbox::ledger::Books;
use crate::tree::{ContentId, Held};

/// Between two looks at a scratch that is mapped: the first soon, since most programs unmap as they end.
const LOOK: Duration = Duration::from_secs(1);

/// The longest time between two: what is stored by a mapping that lives for days is sealed as often.
const LOOK_AT_LEAST: Duration = Duration::from_mins(1);

/// What the kernel was given of a file, the same for all who have it open.
type Registered = Arc<dyn Any + Send + Sync>;

/// How many files stay registered with the kernel after their last close: to open one of them again costs half.
/// Each takes a kilobyte there, and no descriptor (`fuse-kernel.md` 2).
const KEPT: NonZeroUsize = NonZeroUsize::new(4096).expect("more than none");

/// A file that the kernel reads and writes itself.
pub struct Through {
    pub(super) content: ContentId,
    pub(super) size: u64,
    /// Until it is registered, and as long as it is open here.
    file: Mutex<Option<Arc<File>>>,
    registered: Mutex<Option<Registered>>,
}

impl std::fmt::Debug for Through {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Through({})", self.content)
    }
}

/// Files that are registered and closed.
#[derive(Debug)]
pub(super) struct Kept(Mutex<lru::LruCache<ContentId, Arc<Through>>>);

impl Kept {
    pub(super) fn none() -> Arc<Self> {
        Arc::new(Self(Mutex::new(lru::LruCache::new(KEPT))))
    }

    /// At the last close.
    pub(super) fn keep(&self, through: Arc<Through>) {
        if through.registered.lock().is_some() {
            *through.file.lock() = None;
            // What falls out is dropped after the lock.
            let _oldest = self.0.lock().push(through.content, through);
        }
    }

    pub(super) fn get(&self, content: ContentId) -> Option<Arc<Through>> {
        self.0.lock().get(&content).cloned()
    }

    /// The content is removed, or written to: the kernel would keep its room on the disk.
    pub(super) fn forget(&self, content: ContentId) {
        let _forgotten = self.0.lock().pop(&content);
    }
}

impl Through {
    pub(super) fn to(blob: &Blob) -> Option<Arc<Self>> {
        Some(Arc::new(Self {
            content: blob.id(),
            size: blob.len().ok()?,
            // Else our own descriptor, and the kernel's hold on it, would count as a writer for ever.
            file: Mutex::new(Some(blob.read_only().ok()?)),
            registered: Mutex::default(),
        }))
    }

    /// What the kernel calls it: registered once, for as long as it is open.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn registered<T: Any + Send + Sync>(
        &self,
        register: impl FnOnce(&File) -> io::Result<T>,
    ) -> io::Result<Arc<T>> {
        let mut registered = self.registered.lock();
        let known = registered.clone().and_then(|it| it.downcast::<T>().ok());
        if let Some(known) = known {
            return Ok(known);
        }
        let file = self.file.lock().clone();
        let file = file.ok_or(io::ErrorKind::NotFound)?;
        let new = Arc::new(register(&file)?);
        *registered = Some(new.clone());
        Ok(new)
    }
}

/// What is known of a scratch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scratch {
    /// The time of change that it had when it was last looked at.
    pub(super) mark: SystemTime,
    /// The last copy of it that was sealed; none while what was sealed before is the newest.
    pub(super) sealed: ContentId,
}

impl Vfs {
    /// Says that the kernel can read files by itself.
    pub fn pass_through(&self) {
        self.passes.store(true, Ordering::Release);
    }

    /// How the kernel is to get at the bytes of a file that it has just opened: by itself, or `None` through us. The same
    /// for all who have it open.
    ///
    /// # Errors
    /// A writer needs a copy of what was sealed, and there is no room for it, or the disk fails.
    pub async fn through(
        self: &Arc<Self>,
        handle: HandleId,
    ) -> Result<Option<Arc<Through>>, VfsError> {
        let handle = self.handle(handle)?;
        let may = self.passes.load(Ordering::Acquire) && !handle.write;
        let Some(through) = handle.file.decide(may.then_some(&self.kept)) else {
            return Ok(None);
        };
        if handle.write {
            let _gate = handle.file.gate.lock().await;
            self.begin_scratch(&handle.file, &through).await?;
        }
        Ok(Some(through))
    }

    /// Opens a file for reading that the kernel was given before and that is what it was: nothing has to be opened
    /// here.
    pub(super) fn open_kept(&self, file: &Opened) -> bool {
        if !self.passes.load(Ordering::Acquire) {
            return false;
        }
        let held = {
            let books = self.ledger.books();
            let held = books.node(file.node).and_then(|node| node.held.as_ref());
            // Not before it was read to the end in this run.
            let known = held.filter(|held| books.used.contains_key(&held.content));
            known.map(|held| held.content)
        };
        let kept = held.and_then(|content| self.kept.get(content));
        let opened = kept.filter(|kept| file.go_through(kept));
        if let Some(through) = &opened {
            let now = SystemTime::now();
            self.ledger.books().used.insert(through.content, now);
        }
        opened.is_some()
    }

    /// Makes a scratch of what the kernel has open. Under the gate.
    pub(super) async fn begin_scratch(
        self: &Arc<Self>,
        file: &Arc<Opened>,
        through: &Through,
    ) -> Result<Arc<Blob>, VfsError> {
        self.keep(file).await?;
        let sealed = match file.source() {
            Source::Live(scratch) => return Ok(scratch),
            Source::Sealed(blob) => blob.id(),
            Source::Partial(..) | Source::Unknown => through.content,
        };
        if let Some(why) = self.store.refused().gone(sealed) {
            // It is fetched again by whoever opens it once all have closed.
            return Err(VfsError::Damaged(why.to_string()));
        }
        self.kept.forget(through.content);
        let mut sealed = sealed;
        // Until no record names what is written to: while a copy was made, another node may have got it.
        while sealed == through.content
            && let Some((owner, held)) = self.owner_of(file, sealed)
        {
            sealed = self.give_copy(owner, &held).await?;
        }
        file.set_base(Some(self.version_of(file, sealed)));
        let (scratch, mark) = match self.open_scratch(file, through) {
            Ok(opened) => opened,
            Err(error) => {
                if sealed != through.content {
                    // The record has a copy, and what the kernel has open is nobody's any more.
                    file.set_source(Source::Sealed(self.store.load(sealed)?));
                    let discard = |books: &mut Books| books.tree.discard(through.content);
                    let ((), _ticket) = self.ledger.change(discard);
                }
                return Err(error);
            }
        };
        file.set_scratch(Some(Scratch { mark, sealed }));
        file.set_source(Source::Live(scratch.clone()));
        self.table.lock().scratches.insert(file.node);
        self.forget_if_unnamed(file, &scratch);
        Ok(scratch)
    }

    fn open_scratch(
        &self,
        file: &Opened,
        through: &Through,
    ) -> Result<(Arc<Blob>, SystemTime), VfsError> {
        let open = through.file.lock().clone();
        let open = match open {
            Some(file) => file,
            None => self.store.load(through.content)?.file(),
        };
        let scratch = self.store.open_anew(through.content, &open)?;
        let mark = scratch.mark()?;
        self.intend(file, &scratch)?;
        Ok((scratch, mark))
    }

    /// Gives a node a copy of what it holds, in another file; the copy is safe before the record names it.
    async fn give_copy(
        self: &Arc<Self>,
        owner: NodeId,
        held: &Held,
    ) -> Result<ContentId, VfsError> {
        let copying = || {
            let (store, content) = (self.store.clone(), held.content);
            let copying = move || -> io::Result<Arc<Blob>> {
                let copy = store.copy_aside(&*store.load(content)?)?;
                copy.take_name()?;
                copy.sync()?;
                Ok(copy)
            };
            async move {
                let copied = tokio::task::spawn_blocking(copying).await;
                Ok(copied.map_err(io::Error::other)??)
            }
        };
        let copy = self.with_room(FILE + held.size, copying).await?.id();
        let now = SystemTime::now();
        let (given, ticket) = self.ledger.change(|books| {
            // Its hash may be known by now, or its generation be another: only the bytes count here.
            let named = books.tree.node(owner).and_then(|node| node.held.as_ref());
            let still = named.map(|named| named.content) == Some(held.content);
            if still {
                books.used.insert(copy, now);
                books.tree.edit(owner, now, |node| {
                    if let Some(held) = &mut node.held {
                        held.content = copy;
                    }
                });
            }
            still
        });
        if !given {
            self.store.remove(copy);
            return Ok(held.content); // the drive's, or another's, by now
        }
        ticket.durable().await?;
        Ok(copy)
    }

    /// Looks whether a scratch was written to, and takes its length and times over.
    pub(super) fn look(&self, file: &Opened) -> io::Result<()> {
        file.with_scratch(|scratch, blob| {
            let found = blob.stamp()?.modified;
            if found == scratch.mark {
                return Ok(());
            }
            // Before the mark is set: whoever else looks finds that it is gone, or that this was noticed.
            self.note_change(file, Some(scratch.sealed));
            scratch.mark = blob.mark()?;
            // Its length after that: what comes later shows by the mark.
            let size = blob.len()?;
            self.sketch(file, |node| {
                node.size = size;
                (node.mtime, node.ctime) = (found, found);
                node.mtime_unsent = false;
            });
            Ok(())
        })
        .unwrap_or(Ok(()))
    }

    /// The same of all that are open, before somebody is shown a folder.
    pub(super) fn look_at_all(&self) {
        let all: Vec<Arc<Opened>> = {
            let table = self.table.lock();
            let scratches = table.scratches.iter();
            scratches
                .filter_map(|id| table.files.get(id).cloned())
                .collect()
        };
        for file in all {
            self.look_or_say(&file);
        }
    }

    /// The same, where nobody is to hear of a failing disk.
    pub(super) fn look_or_say(&self, file: &Opened) {
        if let Err(error) = self.look(file) {
            tracing::warn!(node = %file.node, %error, "cannot look at what a program writes");
        }
    }

    /// What is sealed of a scratch: a copy, of which nothing that is written later becomes part. What comes while
    /// it is being made shows by the mark. Under the gate.
    pub(super) async fn copy_scratch(
        &self,
        file: &Opened,
        scratch: &Arc<Blob>,
    ) -> Result<Arc<Blob>, VfsError> {
        let marked = file.with_scratch(|known, blob| {
            known.mark = blob.mark()?;
            file.set_changed(false);
            Ok::<_, io::Error>(())
        });
        marked.unwrap_or(Ok(()))?;
        let (store, from) = (self.store.clone(), scratch.clone());
        let copying = move || -> io::Result<Arc<Blob>> {
            // From here on the first store through a mapping is seen as well. What the disk refuses of it is
            // still in memory, and the copy is brought to safety by itself.
            if from.sync().is_err() {
                return store.copy_from_memory(&from);
            }
            store.copy(&from)
        };
        let copied = tokio::task::spawn_blocking(copying).await;
        let copied = copied.map_err(io::Error::other).flatten();
        copied.map_err(|error| {
            file.set_changed(true);
            error.into()
        })
    }

    /// A copy of a scratch was sealed: what is written next builds on that.
    pub(super) fn sealed_scratch(&self, file: &Opened, copy: ContentId) {
        let scratch = file.with_scratch(|scratch, blob| {
            scratch.sealed = copy;
            blob.clone()
        });
        let Some(scratch) = scratch else { return };
        file.set_base(Some(self.version_of(file, copy)));
        if let Err(error) = self.intend(file, &scratch) {
            tracing::warn!(%error, "cannot write the intent log; what is written next may be kept beside");
        }
    }

    /// Waits until nobody can write to a scratch any more, unless another writer comes.
    pub(super) async fn watch_scratch(&self, file: &Arc<Opened>) {
        let mut wait = LOOK;
        while let (Some(_), Source::Live(blob)) = (file.scratch(), file.source()) {
            if file.is_being_written() {
                return;
            }
            match blob.is_at_rest() {
                Ok(false) => {}
                Ok(true) => return,
                Err(error) => {
                    tracing::warn!(%error, "cannot tell whether a file is mapped; what is stored later may be lost");
                    return;
                }
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(LOOK_AT_LEAST);
            self.seal_what_is_left(file).await;
        }
    }

    /// The last close of a scratch was noted: nothing refers to it any more.
    pub(super) fn end_scratch(&self, scratch: ContentId, noted: Ticket) {
        let intents = self.intents.clone();
        self.tasks.spawn(async move {
            // A start that knows of neither would take it for something that somebody has lost.
            if noted.durable().await.is_ok()
                && let Err(error) = intents.end(scratch)
            {
                tracing::warn!(%error, "cannot write the intent log; a restart will look at one content more");
            }
        });
    }
}
