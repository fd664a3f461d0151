//! Bytes: open, read, write, cut, seal, close.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use super::opened::{Handle, Opened, Source};
use super::{Attr, HandleId, Kind, NodeId, OpenMode, SMALL, SetAttr, Vfs, VfsError};
use crate::content::intents::Intent;
use crate::content::readahead::ReadAhead;
use crate::content::store::Blob;
use crate::tree::{Generation, Held, Node};

/// `OneDrive`'s limit for a file (`graph-api.md` 4.3).
const LARGEST: u64 = 250_000_000_000;

/// Before a seal that failed is tried again: a disk that is full needs somebody to make room.
const SEAL_AGAIN: Duration = Duration::from_secs(1);

/// Longest wait between such tries: soon enough after the disk is well.
const SEAL_AGAIN_AT_MOST: Duration = Duration::from_mins(1);

impl Vfs {
    /// Makes and opens a file.
    ///
    /// # Errors
    /// The name is in use and `exclusive` was asked, or cannot be stored; the disk refuses.
    pub async fn create(
        self: &Arc<Self>,
        parent: NodeId,
        name: &str,
        bits: u32,
        open: OpenMode,
        exclusive: bool,
    ) -> Result<(Attr, HandleId), VfsError> {
        self.writable_mount()?;
        self.know_children(parent).await?;
        let now = SystemTime::now();
        // Not journaled by itself: until the first seal, the intent log knows of the file.
        let made = {
            let mut books = self.ledger.books();
            let made = books.tree.create(parent, name, Kind::File, now);
            if let Ok(id) = made {
                books.tree.edit(id, now, |node| node.mode = Some(bits));
                books.writing.insert(id);
            }
            made
        };
        let id = match made {
            Ok(id) => id,
            // Somebody was faster, or the kernel had an old absence in mind.
            Err(crate::tree::NameError::Exists) if !exclusive => {
                let attr = self
                    .lookup(parent, name)
                    .await
                    .map_err(|error| match error {
                        VfsError::NotFound => VfsError::Exists, // a variant in case or Unicode form
                        other => other,
                    })?;
                let handle = self.open(attr.node, open).await?;
                return Ok((self.attr_now(attr.node)?, handle));
            }
            Err(error) => return Err(error.into()),
        };
        let file = self.enter(id);
        match self.begin_content(&file) {
            Ok(()) => Ok((self.attr_now(id)?, self.hand_out(file, open.read, true))),
            Err(error) => {
                self.leave(&file);
                let (_, ticket) = self
                    .ledger
                    .change(|books| books.tree.unlink(parent, name, false, now).ok());
                ticket.durable().await.ok();
                Err(error)
            }
        }
    }

    /// Opens a file. Small ones are complete when this returns.
    ///
    /// # Errors
    /// It is a folder, is gone, or its bytes cannot be had.
    pub async fn open(self: &Arc<Self>, id: NodeId, open: OpenMode) -> Result<HandleId, VfsError> {
        if open.write || open.truncate {
            self.writable_mount()?;
        }
        if self.ledger.books().node(id).ok_or(VfsError::NotFound)?.kind != Kind::File {
            return Err(VfsError::IsDirectory);
        }
        let file = self.enter(id);
        let ready = async {
            if open.truncate {
                let _gate = file.gate.lock().await;
                self.cut(&file, 0).await
            } else if open.write {
                Ok(()) // what is there is needed at the first write that leaves some of it
            } else {
                self.source(&file).await.map(drop)
            }
        }
        .await;
        match ready {
            Ok(()) => Ok(self.hand_out(file, open.read, open.write)),
            Err(error) => {
                self.leave(&file);
                Err(error)
            }
        }
    }

    /// Reads; fewer bytes than asked for only at the end of the file.
    ///
    /// # Errors
    /// The bytes are not here and cannot be fetched in time.
    pub async fn read(&self, handle: HandleId, offset: u64, len: usize) -> Result<Bytes, VfsError> {
        let handle = self.handle(handle)?;
        if !handle.read {
            return Err(VfsError::BadHandle);
        }
        match self.source(&handle.file).await? {
            Source::Sealed(blob) | Source::Live(blob) => Ok(blob.read_at(offset, len)?),
            Source::Partial(generation, fill) => {
                let reading = fill.read(offset, len, &mut handle.ahead.lock());
                let bytes = self.in_time(reading).await?;
                if let Some(blob) = fill.is_complete() {
                    self.adopt(handle.file.node, generation, &blob).await;
                    handle.file.completed(&fill, &blob);
                }
                Ok(bytes)
            }
            Source::Unknown => Ok(Bytes::new()),
        }
    }

    /// Writes.
    ///
    /// # Errors
    /// Not open for writing, too large, or the disk refuses.
    pub async fn write(
        &self,
        handle: HandleId,
        offset: u64,
        data: Bytes,
    ) -> Result<usize, VfsError> {
        let handle = self.handle(handle)?;
        if !handle.write {
            return Err(VfsError::BadHandle);
        }
        let end = offset
            .checked_add(data.len() as u64)
            .filter(|end| *end <= LARGEST);
        let end = end.ok_or(VfsError::TooLarge)?;
        let file = &handle.file;
        let _gate = file.gate.lock().await;
        let blob = self.live(file).await?;
        self.mark_changed(file);
        blob.write_at(offset, &data)?;
        let now = SystemTime::now();
        self.sketch(file, |node| {
            node.size = node.size.max(end);
            (node.mtime, node.ctime) = (now, now);
            node.mtime_unsent = false;
        });
        Ok(data.len())
    }

    /// Makes what was written durable, and an upload possible: once this has returned, the
    /// content is safe (invariant 1).
    ///
    /// # Errors
    /// It is not durable.
    pub async fn flush(self: &Arc<Self>, handle: HandleId) -> Result<(), VfsError> {
        let handle = self.handle(handle)?;
        if !handle.write {
            return Ok(());
        }
        self.seal(&handle.file).await
    }

    /// The same as [`flush`](Self::flush): a seal is durable.
    ///
    /// # Errors
    /// It is not durable.
    pub async fn fsync(self: &Arc<Self>, handle: HandleId) -> Result<(), VfsError> {
        self.flush(handle).await
    }

    /// Closes. What was written since the last flush is sealed in the background.
    #[expect(
        clippy::unused_async,
        reason = "every operation is a future, so that waiting can come in"
    )]
    pub async fn release(self: &Arc<Self>, handle: HandleId) {
        let Some(handle) = self.table.lock().handles.remove(&handle) else {
            return;
        };
        self.close(&handle.file);
    }

    /// Sets attributes. A size through a writable handle belongs to what is being written; one
    /// without is sealed before this returns.
    ///
    /// # Errors
    /// The node is gone, or the change is not durable.
    pub async fn set_attr(
        self: &Arc<Self>,
        id: NodeId,
        set: SetAttr,
        handle: Option<HandleId>,
    ) -> Result<Attr, VfsError> {
        self.writable_mount()?;
        if let Some(size) = set.size {
            if size > LARGEST {
                return Err(VfsError::TooLarge);
            }
            self.set_size(id, size, handle).await?;
        }
        if set.mtime.is_some() || set.mode.is_some() || set.uid.is_some() || set.gid.is_some() {
            let now = SystemTime::now();
            let versions = self.config.drive_has_versions;
            let (known, ticket) = self.ledger.change(|books| {
                let writing = books.writing.contains(&id);
                let apply = |node: &mut Node| {
                    if let Some(mtime) = set.mtime {
                        node.mtime = mtime;
                        // After the upload, a change of time makes a version on some drives.
                        node.mtime_unsent = node.kind == Kind::File
                            && (!versions || writing || node.content_pending());
                    }
                    node.mode = set.mode.or(node.mode);
                    node.uid = set.uid.or(node.uid);
                    node.gid = set.gid.or(node.gid);
                    node.ctime = now;
                };
                if let Some(orphan) = books.orphans.get_mut(&id) {
                    apply(orphan);
                    return true;
                }
                books.tree.edit(id, now, apply).is_some()
            });
            if !known {
                return Err(VfsError::NotFound);
            }
            ticket.durable().await?;
            self.ledger.wake.notify_one();
        }
        self.attr_now(id)
    }

    /// Reserves space, and grows the file unless `keep_size`.
    ///
    /// # Errors
    /// The disk has no room.
    pub async fn allocate(
        &self,
        handle: HandleId,
        offset: u64,
        len: u64,
        keep_size: bool,
    ) -> Result<(), VfsError> {
        let handle = self.handle(handle)?;
        if !handle.write {
            return Err(VfsError::BadHandle);
        }
        let end = offset
            .checked_add(len)
            .filter(|end| *end <= LARGEST)
            .ok_or(VfsError::TooLarge)?;
        let file = &handle.file;
        let _gate = file.gate.lock().await;
        let blob = self.live(file).await?;
        self.mark_changed(file);
        blob.allocate(offset, len, keep_size)?;
        if !keep_size {
            self.sketch(file, |node| node.size = node.size.max(end));
        }
        Ok(())
    }

    async fn set_size(
        self: &Arc<Self>,
        id: NodeId,
        size: u64,
        handle: Option<HandleId>,
    ) -> Result<(), VfsError> {
        if self.ledger.books().node(id).ok_or(VfsError::NotFound)?.kind != Kind::File {
            return Err(VfsError::IsDirectory);
        }
        let through = handle
            .and_then(|handle| self.handle(handle).ok())
            .filter(|h| h.write);
        let file = self.enter(id);
        let cut = async {
            let _gate = file.gate.lock().await;
            self.cut(&file, size).await
        }
        .await;
        let sealed = match (cut, through) {
            (Ok(()), None) => self.seal(&file).await,
            (other, _) => other,
        };
        self.close(&file);
        sealed
    }

    /// Gives a file another length; what is cut to nothing needs no copy and no fetch. Under the
    /// gate.
    async fn cut(&self, file: &Arc<Opened>, size: u64) -> Result<(), VfsError> {
        let is_live = matches!(file.source(), Source::Live(_));
        if size == 0 && !is_live {
            self.begin_content(file)?;
        } else {
            let blob = self.live(file).await?;
            self.mark_changed(file);
            blob.set_len(size)?;
        }
        let now = SystemTime::now();
        self.sketch(file, |node| {
            node.size = size;
            (node.mtime, node.ctime) = (now, now);
            node.mtime_unsent = false;
        });
        Ok(())
    }

    /// A new, empty content for an open file.
    fn begin_content(&self, file: &Arc<Opened>) -> Result<(), VfsError> {
        let blob = self.store.create()?;
        self.intend(file, &blob)?;
        file.set_source(Source::Live(blob));
        self.mark_changed(file);
        Ok(())
    }

    /// Writes down that a content is being written, before anything is (invariant 2).
    fn intend(&self, file: &Opened, blob: &Blob) -> Result<(), VfsError> {
        let place = {
            let books = self.ledger.books();
            if books.orphans.contains_key(&file.node) {
                return Ok(()); // nobody will ask for it after a crash
            }
            books.node(file.node).and_then(|node| node.place.clone())
        };
        let place = place.ok_or(VfsError::NotFound)?;
        self.intents.begin(Intent {
            node: file.node,
            parent: place.parent,
            name: place.name,
            content: blob.id(),
            boot: self.intents.this_boot().to_owned(),
        })?;
        Ok(())
    }

    /// The content that may be written, made from the sealed one if need be. Under the gate.
    async fn live(&self, file: &Arc<Opened>) -> Result<Arc<Blob>, VfsError> {
        let sealed = match self.source(file).await? {
            Source::Live(blob) => return Ok(blob),
            Source::Sealed(blob) => blob,
            Source::Partial(_, fill) => {
                let blob = self.complete(file.node).await?;
                file.completed(&fill, &blob);
                blob
            }
            Source::Unknown => return Err(VfsError::NotFound),
        };
        let (store, from) = (self.store.clone(), sealed.id());
        let copy = tokio::task::spawn_blocking(move || store.copy(&sealed))
            .await
            .map_err(std::io::Error::other)??;
        self.intend(file, &copy)?;
        // Marked under the lock that brings remote content in: from here on that finds a file
        // that is being written, and leaves the two versions to the outbox.
        let newest = {
            let mut books = self.ledger.books();
            books.writing.insert(file.node);
            let node = books.node(file.node);
            node.and_then(|node| node.held.as_ref())
                .map(|held| held.content)
        };
        file.set_changed(true);
        file.set_outdated(newest != Some(from));
        file.set_source(Source::Live(copy.clone()));
        Ok(copy)
    }

    /// The bytes behind an open file: what is being written, else what we hold, else a fetch.
    async fn source(&self, file: &Arc<Opened>) -> Result<Source, VfsError> {
        let source = file.source();
        if !matches!(source, Source::Unknown) {
            return Ok(source);
        }
        let (held, size) = {
            let mut books = self.ledger.books();
            let node = books.node(file.node).ok_or(VfsError::NotFound)?;
            let (held, size) = (node.held.clone(), node.size);
            if let Some(held) = &held {
                books.used.insert(held.content, SystemTime::now());
            }
            (held, size)
        };
        let whole = match held {
            Some(held) => self.whole(file.node, &held)?,
            None => None,
        };
        let found = match whole {
            Some(blob) => Source::Sealed(blob),
            None if size <= SMALL => Source::Sealed(self.complete(file.node).await?),
            None => {
                let (generation, fill) = self.fill(file.node)?;
                Source::Partial(generation, fill)
            }
        };
        Ok(file.offer_source(found))
    }

    /// A sealed content, refused when it is not what was sealed.
    pub(super) fn load(&self, held: &Held) -> Result<Arc<Blob>, VfsError> {
        let blob = self.store.load(held.content)?;
        let len = blob.len()?;
        if len != held.size {
            let what = format!(
                "content {} has {len} bytes, sealed were {}",
                held.content, held.size
            );
            return Err(VfsError::Damaged(what));
        }
        Ok(blob)
    }

    fn mark_changed(&self, file: &Opened) {
        if !file.changed() {
            file.set_changed(true);
            self.ledger.books().writing.insert(file.node);
        }
    }

    /// Seals what was written: bytes, then the record that names them, both durable.
    pub(super) async fn seal(self: &Arc<Self>, file: &Arc<Opened>) -> Result<(), VfsError> {
        if !file.changed() {
            return Ok(());
        }
        // The seal goes on when whoever waits for it is gone: half a seal helps nobody.
        let (this, file) = (self.clone(), file.clone());
        self.tasks
            .spawn(async move { this.seal_now(&file).await })
            .await
            .map_err(std::io::Error::other)?
    }

    async fn seal_now(&self, file: &Arc<Opened>) -> Result<(), VfsError> {
        let _gate = file.gate.lock().await;
        let (true, Source::Live(blob)) = (file.changed(), file.source()) else {
            return Ok(());
        };
        let written = blob.clone();
        let (size, hash) = tokio::task::spawn_blocking(move || {
            written.sync()?;
            // Small files, which are nearly all, get their hash while they are in the page cache.
            let size = written.len()?;
            let hash = (size <= SMALL).then(|| written.quick_xor()).transpose()?;
            Ok::<_, std::io::Error>((size, hash.map(|(_, hash)| hash)))
        })
        .await
        .map_err(std::io::Error::other)??;
        let now = SystemTime::now();
        let (named, ticket) = self.ledger.change(|books| {
            books.writing.remove(&file.node);
            books.used.insert(blob.id(), now);
            if file.outdated() {
                // Two versions keep both: the file has the drive's content by now.
                let held = Held {
                    content: blob.id(),
                    generation: Generation(1),
                    size,
                    hash,
                };
                return books.tree.insert_beside(file.node, held, now);
            }
            let replaced = books.tree.edit(file.node, now, |node| {
                node.generation = node.generation.next();
                node.size = size;
                node.ctime = now;
                let generation = node.generation;
                node.held.replace(Held {
                    content: blob.id(),
                    generation,
                    size,
                    hash,
                })
            });
            if let Some(Some(old)) = &replaced {
                books.tree.discard(old.content);
            }
            replaced.map(|_| file.node)
        });
        let Some(named) = named else {
            return Ok(()); // unlinked while open: there is nothing to keep
        };
        file.set_changed(false);
        file.set_source(Source::Sealed(blob.clone()));
        ticket.durable().await?;
        if let Err(error) = self.intents.end(blob.id()) {
            tracing::warn!(%error, "cannot write the intent log; a restart will look at one content more");
        }
        self.fills.lock().remove(&file.node);
        self.ledger.announce_put(named);
        if named != file.node {
            self.tell_beside(named);
        }
        self.ledger.wake.notify_one();
        Ok(())
    }

    /// Changes size and times as they are shown; not those of a newer content of the drive's.
    fn sketch(&self, file: &Opened, change: impl FnOnce(&mut Node)) {
        if !file.outdated() {
            self.ledger.books().sketch(file.node, change);
        }
    }

    fn tell_beside(&self, copy: NodeId) {
        let place = {
            let books = self.ledger.books();
            books.tree.node(copy).and_then(|node| node.place.clone())
        };
        if let Some(place) = place {
            tracing::warn!(
                copy = place.name,
                "changed here and on the drive: the drive's version keeps the name, ours is beside it"
            );
            self.ledger.invalidate_entry(place.parent, &place.name);
        }
    }

    fn writable_mount(&self) -> Result<(), VfsError> {
        if self.config.read_only {
            return Err(VfsError::ReadOnly);
        }
        match self.ledger.journal().failing() {
            Some(why) => Err(VfsError::Journal(why)),
            None => Ok(()),
        }
    }

    /// Refuses a change of names where none is allowed.
    pub(super) fn may_change(&self) -> Result<(), VfsError> {
        self.writable_mount()
    }

    fn enter(&self, id: NodeId) -> Arc<Opened> {
        let mut table = self.table.lock();
        let file = table
            .files
            .entry(id)
            .or_insert_with(|| Arc::new(Opened::new(id)))
            .clone();
        file.enter();
        self.ledger.books().open.insert(id);
        file
    }

    fn hand_out(&self, file: Arc<Opened>, read: bool, write: bool) -> HandleId {
        let id = HandleId(self.next_handle.fetch_add(1, Ordering::Relaxed));
        let handle = Handle {
            file,
            read,
            write,
            ahead: parking_lot::Mutex::new(ReadAhead::default()),
        };
        self.table.lock().handles.insert(id, Arc::new(handle));
        id
    }

    fn handle(&self, id: HandleId) -> Result<Arc<Handle>, VfsError> {
        self.table
            .lock()
            .handles
            .get(&id)
            .cloned()
            .ok_or(VfsError::BadHandle)
    }

    /// Takes a handle away, and seals what it leaves behind before the file counts as closed.
    fn close(self: &Arc<Self>, file: &Arc<Opened>) {
        if !file.changed() {
            self.leave(file);
            return;
        }
        let (this, file) = (self.clone(), file.clone());
        self.tasks.spawn(async move {
            // Until it is sealed the file stays open here: what was written is what is read.
            let mut wait = SEAL_AGAIN;
            while let Err(error) = this.seal_now(&file).await {
                tracing::error!(node = %file.node, %error,
                    "cannot seal what was written; it stays in the intent log and is tried again");
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(SEAL_AGAIN_AT_MOST);
            }
            this.leave(&file);
        });
    }

    fn leave(&self, file: &Arc<Opened>) {
        let id = file.node;
        let mut table = self.table.lock();
        if !file.leave() {
            return;
        }
        table.files.remove(&id);
        let source = file.source();
        let ((orphan, newer), _ticket) = self.ledger.change(|books| {
            books.open.remove(&id);
            books.writing.remove(&id);
            let orphan = books.orphans.remove(&id);
            if let Some(orphan) = &orphan {
                if let Some(held) = &orphan.held {
                    books.tree.discard(held.content);
                }
                if let Source::Live(blob) = &source {
                    books.tree.discard(blob.id());
                }
            }
            // Remote content takes effect at the last close.
            let newer = match (&source, books.tree.node(id)) {
                (Source::Sealed(blob), Some(node)) => {
                    node.held.as_ref().map(|held| held.content) != Some(blob.id())
                }
                (Source::Partial(generation, _), Some(node)) => node.generation != *generation,
                _ => false,
            };
            (orphan.is_some(), newer)
        });
        drop(table);
        if newer && !orphan {
            self.ledger.invalidate_node(id, true);
        }
    }
}
