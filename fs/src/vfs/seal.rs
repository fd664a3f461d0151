//! From bytes being written to a content that is safe: begin, copy, seal, close.
//!
//! [`data`](super::data) reads and writes; here is what stands behind it: which content file a
//! write goes to, when one is sealed, and what the last close leaves.

use std::future::ready;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use super::opened::{Handle, Opened, Source};
use super::{HandleId, NodeId, SMALL, Vfs, VfsError};
use crate::content::intents::{Base, Intent};
use crate::content::readahead::ReadAhead;
use crate::content::room::FILE;
use crate::content::store::Blob;
use crate::outbox::journal::Ticket;
use crate::tree::{Batch, ContentId, Generation, Held, Node, QuickXorHash, Seal};

/// Size and hash of a content.
type Sum = (u64, QuickXorHash);

/// Up to this size a content is hashed where it is asked for: it was just written, and takes less
/// time than a way to another thread and back.
pub(super) const HASH_HERE: u64 = 256 * 1024;

/// Before a seal that failed is tried again: a disk that is full needs somebody to make room.
const SEAL_AGAIN: Duration = Duration::from_secs(1);

/// Longest wait between such tries: soon enough after the disk is well.
const SEAL_AGAIN_AT_MOST: Duration = Duration::from_mins(1);

impl Vfs {
    /// A new, empty content for an open file.
    pub(super) async fn begin_content(
        self: &Arc<Self>,
        file: &Arc<Opened>,
        has_read: bool,
    ) -> Result<(), VfsError> {
        // Whoever has read what was there, and cuts it to write another, has seen that version, and not what
        // the drive has by now.
        let from = match file.source() {
            Source::Sealed(blob) => Some(self.version_of(file, blob.id())),
            Source::Partial(generation, _) => Some(Base {
                generation,
                content: None,
            }),
            Source::Unknown | Source::Live(_) => None,
        };
        let from = from.filter(|_| has_read);
        file.set_base(from);
        let begin = || {
            let blob = self.store.create()?;
            let noted = self.intend(file, &blob);
            noted.inspect_err(|_| self.store.remove(blob.id()))?;
            Ok(blob)
        };
        let blob = self.with_room(FILE, || ready(begin())).await?;
        let outdated = {
            let mut books = self.ledger.books();
            books.writing.insert(file.node);
            let node = books.node(file.node);
            let content = |node: &Node| node.held.as_ref().map(|held| held.content);
            node.is_some_and(|node| {
                from.is_some_and(|from| from.is_outdated(node.generation, content(node)))
            })
        };
        if let Err(through) = file.begin_live(&blob) {
            self.give_back(&blob);
            let scratch = self.begin_scratch(file, &through).await?;
            self.mark_changed(file);
            return Ok(scratch.set_len(0)?);
        }
        file.set_changed(true);
        file.set_outdated(outdated);
        self.forget_if_unnamed(file, &blob);
        Ok(())
    }

    /// Gives up a content that was begun, and that nobody has written to.
    fn give_back(&self, blob: &Blob) {
        if let Err(error) = self.intents.end(blob.id()) {
            tracing::warn!(%error, "cannot write the intent log; a restart will look at one content more");
        }
        self.store.remove(blob.id());
    }

    /// Which version of a file a content is: the present one, or older than any.
    pub(super) fn version_of(&self, file: &Opened, content: ContentId) -> Base {
        let books = self.ledger.books();
        let node = books.node(file.node);
        let held = node.and_then(|node| node.held.as_ref());
        let held = held.filter(|held| held.content == content);
        Base {
            generation: held.map_or(Generation(0), |held| held.generation),
            content: Some(content),
        }
    }

    /// Writes down that a content is being written, before anything is (invariant 2).
    pub(super) fn intend(&self, file: &Opened, blob: &Blob) -> Result<(), VfsError> {
        self.note(file, blob, false)
    }

    /// Whoever removed the file's name between the intent and the bytes did not see them.
    pub(super) fn forget_if_unnamed(&self, file: &Opened, blob: &Blob) {
        let unnamed = {
            let books = self.ledger.books();
            books.orphans.contains_key(&file.node)
        };
        if unnamed && let Err(error) = self.intents.end(blob.id()) {
            tracing::warn!(%error, "cannot write the intent log; a deleted file may come back after a crash");
        }
    }

    /// Writes down that what was written is to be sealed, and is acknowledged before it is: it
    /// survives a kill, also when there is nothing in it.
    pub(super) async fn promise(&self, file: &Opened) -> Result<bool, VfsError> {
        let _gate = file.gate.lock().await;
        if file.scratch().is_some() {
            return Ok(false); // others go on writing to it: what is closed is a copy
        }
        match (file.changed(), file.source()) {
            (true, Source::Live(blob)) => {
                let noted = self.note(file, &blob, true);
                file.set_promised(noted.is_ok());
                noted.map(|()| true).or_else(|error| match error {
                    VfsError::Disk(error) => {
                        tracing::warn!(%error, "cannot note a close; it waits for the disk instead");
                        Ok(false)
                    }
                    other => Err(other),
                })
            }
            _ => Ok(true),
        }
    }

    /// Seals what was closed and acknowledged before it was: whoever asks for it now is to have it.
    pub(super) async fn keep_promise(&self, id: NodeId) -> Result<(), VfsError> {
        let file = self.table.lock().files.get(&id).cloned();
        match file.filter(|file| file.promised()) {
            Some(file) => self.seal(&file).await,
            None => Ok(()),
        }
    }

    fn note(&self, file: &Opened, blob: &Blob, closed: bool) -> Result<(), VfsError> {
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
            base: file.base(),
            boot: self.intents.this_boot().to_owned(),
            closed,
        })?;
        Ok(())
    }

    /// The content that may be written, made from the sealed one if need be. Under the gate.
    pub(super) async fn live(self: &Arc<Self>, file: &Arc<Opened>) -> Result<Arc<Blob>, VfsError> {
        if let Some(through) = file.through() {
            return self.begin_scratch(file, &through).await;
        }
        let sealed = match self.source(file).await? {
            Source::Live(blob) => return Ok(blob),
            Source::Sealed(_) => {
                self.keep(file).await?; // a copy of what was refused would be another content
                match file.source() {
                    Source::Sealed(blob) => blob,
                    _ => self.complete(file.node).await?,
                }
            }
            Source::Partial(_, fill) => {
                let blob = self.complete(file.node).await?;
                file.completed(&fill, &blob);
                blob
            }
            Source::Unknown => return Err(VfsError::NotFound),
        };
        let copying = || {
            let (store, sealed) = (self.store.clone(), sealed.clone());
            let copying = tokio::task::spawn_blocking(move || store.copy_aside(&sealed));
            async { Ok(copying.await.map_err(std::io::Error::other)??) }
        };
        let from = sealed.id();
        let copy = self.with_room(FILE + sealed.len()?, copying).await?;
        file.set_base(Some(self.version_of(file, from)));
        // Whole before anybody may take it for what was written, and noted before it can be found.
        let noted = self.intend(file, &copy);
        noted
            .and_then(|()| Ok(copy.take_name()?))
            .inspect_err(|_| copy.discard_fill())?;
        // Marked under the lock that brings remote content in: from here on that finds a file
        // that is being written, and leaves the two versions to the outbox.
        let newest = {
            let mut books = self.ledger.books();
            books.writing.insert(file.node);
            let node = books.node(file.node);
            node.and_then(|node| node.held.as_ref())
                .map(|held| held.content)
        };
        if let Err(through) = file.begin_live(&copy) {
            self.give_back(&copy);
            return self.begin_scratch(file, &through).await;
        }
        file.set_changed(true);
        file.set_outdated(newest != Some(from));
        self.forget_if_unnamed(file, &copy);
        Ok(copy)
    }

    /// The bytes behind an open file: what is being written, else what we hold, else a fetch.
    pub(super) async fn source(self: &Arc<Self>, file: &Arc<Opened>) -> Result<Source, VfsError> {
        let source = file.source();
        if !matches!(source, Source::Unknown) {
            return Ok(source);
        }
        let (held, size) = {
            let books = self.ledger.books();
            let node = books.node(file.node).ok_or(VfsError::NotFound)?;
            (node.held.clone(), node.size)
        };
        let whole = match held {
            Some(held) => self.whole(file.node, held).await?,
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

    pub(super) fn mark_changed(&self, file: &Opened) {
        self.note_change(file, file.scratch().map(|scratch| scratch.sealed));
    }

    /// The same, of a scratch of which this was sealed last.
    pub(super) fn note_change(&self, file: &Opened, sealed: Option<ContentId>) {
        if file.changed() {
            return;
        }
        let newest = {
            let mut books = self.ledger.books();
            books.writing.insert(file.node);
            let node = books.node(file.node);
            node.and_then(|node| node.held.as_ref())
                .map(|held| held.content)
        };
        if sealed.is_some() {
            file.set_outdated(newest != sealed);
        }
        file.set_changed(true);
    }

    /// Seals what was written: its bytes, and the record that names them. Once this has returned
    /// they are as safe as the operator wants them, also where another close seals them.
    pub(super) async fn seal(&self, file: &Arc<Opened>) -> Result<(), VfsError> {
        let _gate = file.gate.lock().await;
        self.seal_gated(file).await
    }

    /// The same for what a writer has left, unless another one is going on with it.
    async fn seal_left(&self, file: &Arc<Opened>) -> Result<(), VfsError> {
        let _gate = file.gate.lock().await;
        if file.is_being_written() {
            return Ok(());
        }
        self.seal_gated(file).await
    }

    async fn seal_gated(&self, file: &Arc<Opened>) -> Result<(), VfsError> {
        self.look(file)?;
        let (true, Source::Live(blob)) = (file.changed(), file.source()) else {
            // Whoever sealed it may have been told that it is not durable.
            self.keep(file).await?;
            return match self.ledger.journal().failing() {
                Some(why) => Err(VfsError::Journal(why)),
                None => Ok(()),
            };
        };
        let is_scratch = file.scratch().is_some();
        let blob = if is_scratch {
            self.copy_scratch(file, &blob).await?
        } else {
            blob
        };
        let sum = sum(blob.clone()).await?;
        let Some((named, ticket)) = self.name(file, &blob, sum, SystemTime::now()) else {
            if is_scratch {
                self.store.remove(blob.id());
            }
            return Ok(()); // unlinked while open: there is nothing to keep
        };
        file.set_promised(false);
        if is_scratch {
            self.sealed_scratch(file, blob.id());
        } else {
            file.set_changed(false);
            file.set_source(Source::Sealed(blob.clone()));
        }
        let sealed = match ticket.promised().await {
            Err(error) if error.lost => self.keep(file).await,
            other => other.map_err(VfsError::from),
        };
        // Also where it is not safe yet: this is what is read from now on, and is sent once its record is there.
        self.fills.lock().remove(&file.node);
        self.ledger.announce_put(named);
        if named != file.node {
            self.tell_beside(named);
        }
        self.ledger.wake.notify_one();
        sealed?;
        if !is_scratch && let Err(error) = self.intents.end(blob.id()) {
            tracing::warn!(%error, "cannot write the intent log; a restart will look at one content more");
        }
        Ok(())
    }

    /// Gives a written content to the node as its newest one. Bytes and record get to the disk
    /// together (invariant 1). `None`: the file has no name any more.
    fn name(
        &self,
        file: &Opened,
        blob: &Blob,
        (size, hash): Sum,
        now: SystemTime,
    ) -> Option<(NodeId, Ticket)> {
        let held = |generation| Held {
            content: blob.id(),
            generation,
            size,
            hash: Some(hash),
        };
        let (named, ticket) = self.ledger.change_with(|books| {
            books.writing.remove(&file.node);
            books.used.insert(blob.id(), now);
            // Two versions keep both: the file has the drive's content by now, and the copy ours.
            let copy = file
                .beside()
                .filter(|copy| books.tree.node(*copy).is_some());
            let (node, before) = if file.outdated() && copy.is_none() {
                let beside = books
                    .tree
                    .insert_beside(file.node, held(Generation(1)), now);
                file.set_beside(beside);
                (beside, None)
            } else {
                let id = copy.filter(|_| file.outdated()).unwrap_or(file.node);
                let replaced = books.tree.edit(id, now, |node| {
                    node.generation = node.generation.next();
                    node.size = size;
                    node.ctime = now;
                    if id != file.node {
                        node.mtime = now; // nobody else sets it
                    }
                    node.seal(held(node.generation))
                });
                (replaced.is_some().then_some(id), replaced.flatten())
            };
            let mut batch = Batch::default();
            batch.seals.extend(node.map(|node| Seal {
                node,
                content: blob.id(),
                size,
                hash,
                before,
            }));
            (node, batch)
        });
        named.map(|named| (named, ticket))
    }

    /// Changes size and times as they are shown; not those of a newer content of the drive's.
    pub(super) fn sketch(&self, file: &Opened, change: impl FnOnce(&mut Node)) {
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

    /// Refuses a change where none is allowed, or none can be made durable.
    pub(super) fn may_change(&self) -> Result<(), VfsError> {
        if self.config.read_only {
            return Err(VfsError::ReadOnly);
        }
        match self.ledger.journal().failing() {
            Some(why) => Err(VfsError::Journal(why)),
            None => Ok(()),
        }
    }

    pub(super) fn enter(&self, id: NodeId) -> Arc<Opened> {
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

    pub(super) fn hand_out(&self, file: Arc<Opened>, read: bool, write: bool) -> HandleId {
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

    pub(super) fn handle(&self, id: HandleId) -> Result<Arc<Handle>, VfsError> {
        self.table
            .lock()
            .handles
            .get(&id)
            .cloned()
            .ok_or(VfsError::BadHandle)
    }

    /// Takes a handle away, and seals what it leaves behind before the file counts as closed. What
    /// another one is about to go on with is not sealed half: that would be a version of its own.
    pub(super) fn close(self: &Arc<Self>, file: &Arc<Opened>) {
        let is_scratch = file.scratch().is_some();
        if file.is_being_written() || !(file.changed() || is_scratch) {
            self.leave(file);
            return;
        }
        let (this, file) = (self.clone(), file.clone());
        self.tasks.spawn(async move {
            // Until it is sealed the file stays open here: what was written is what is read.
            this.seal_what_is_left(&file).await;
            if is_scratch {
                this.watch_scratch(&file).await;
                this.seal_what_is_left(&file).await;
            }
            this.leave(&file);
        });
    }

    /// Seals what a writer has left, however long the disk refuses.
    pub(super) async fn seal_what_is_left(&self, file: &Arc<Opened>) {
        let mut wait = SEAL_AGAIN;
        while let Err(error) = self.seal_left(file).await {
            if !file.changed() {
                return; // it has its record, which is written as soon as the disk is well
            }
            tracing::error!(node = %file.node, %error,
                "cannot seal what was written; it stays in the intent log and is tried again");
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(SEAL_AGAIN_AT_MOST);
        }
    }

    pub(super) fn leave(&self, file: &Arc<Opened>) {
        let id = file.node;
        let mut table = self.table.lock();
        if !file.leave() {
            return;
        }
        table.files.remove(&id);
        table.scratches.remove(&id);
        let source = file.source();
        let scratch = file.scratch().and_then(|_| file.live_content());
        let ((orphan, newer), ticket) = self.ledger.change(|books| {
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
                (Source::Unknown, Some(node)) => {
                    let through = file.through();
                    through.is_some_and(|through| {
                        node.held.as_ref().map(|held| held.content) != Some(through.content)
                    })
                }
                // Pages that the kernel may hold from before are not what was written by itself.
                _ => scratch.is_some(),
            };
            if orphan.is_none()
                && let Some(scratch) = scratch
            {
                books.tree.discard(scratch);
            }
            if scratch.is_none()
                && orphan.is_none()
                && !newer
                && let Some(through) = file.through()
            {
                self.kept.keep(through);
            }
            (orphan.is_some(), newer)
        });
        drop(table);
        if let Some(scratch) = scratch {
            self.end_scratch(scratch, ticket);
        }
        if newer && !orphan {
            self.ledger.invalidate_node(id, true);
        }
    }
}

/// Size and hash of a content, before a record names it. Large ones are brought to the disk at the
/// same time: the committer must not wait for them, since others wait for it (design 5.1).
async fn sum(blob: Arc<Blob>) -> std::io::Result<Sum> {
    let size = blob.len()?;
    if size <= HASH_HERE {
        return blob.quick_xor();
    }
    let syncing = (size > SMALL).then(|| {
        let blob = blob.clone();
        tokio::task::spawn_blocking(move || blob.sync())
    });
    let sum = tokio::task::spawn_blocking(move || blob.quick_xor());
    let sum = sum.await.map_err(std::io::Error::other)?;
    if let Some(syncing) = syncing {
        // What the disk refuses here, it refuses the committer, too.
        let _ = syncing.await.map_err(std::io::Error::other)?;
    }
    sum
}
