//! Bytes: open, read, write, cut, seal, close.

use std::future::ready;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;

use super::opened::{Opened, Source};
use super::{Attr, HandleId, Kind, NodeId, OpenMode, SetAttr, Vfs, VfsError};
use crate::content::disk::Allocation;
use crate::outbox::journal::Durability;
use crate::tree::Node;

/// `OneDrive`'s limit for a file (`graph-api.md` 4.3).
const LARGEST: u64 = 250_000_000_000;

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
        self.may_change()?;
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
        file.begin_writing();
        match self.begin_content(&file, false).await {
            Ok(()) => Ok((self.attr_now(id)?, self.hand_out(file, open.read, true))),
            Err(error) => {
                file.end_writing();
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
            self.may_change()?;
        }
        if self.ledger.books().node(id).ok_or(VfsError::NotFound)?.kind != Kind::File {
            return Err(VfsError::IsDirectory);
        }
        let file = self.enter(id);
        // Before it is cut: what an earlier writer has left is sealed as it was, or with what this one
        // writes, and never in between.
        let writes = open.write || open.truncate;
        if writes {
            file.begin_writing();
        }
        let opened = async {
            if open.truncate {
                let _gate = file.gate.lock().await;
                self.cut(&file, 0, false).await
            } else if open.write || self.open_kept(&file) {
                Ok(()) // what is there is needed at the first write that leaves some of it, or not by us
            } else {
                self.source(&file).await.map(drop)
            }
        }
        .await;
        if writes && !(open.write && opened.is_ok()) {
            file.end_writing();
        }
        match opened {
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
    pub async fn read(
        self: &Arc<Self>,
        handle: HandleId,
        offset: u64,
        len: usize,
    ) -> Result<Bytes, VfsError> {
        let handle = self.handle(handle)?;
        if !handle.read {
            return Err(VfsError::BadHandle);
        }
        match self.source(&handle.file).await? {
            Source::Sealed(blob) | Source::Live(blob) => Ok(blob.read_at(offset, len)?),
            Source::Partial(generation, fill) => {
                let part = (generation, &fill);
                let reading = self.read_part(handle.file.node, part, &handle.ahead, offset, len);
                let (bytes, whole) = reading.await?;
                if let Some(blob) = whole {
                    handle.file.completed(&fill, &blob);
                }
                Ok(bytes)
            }
            Source::Unknown => Ok(Bytes::new()),
        }
    }

    /// Writes at once, where nothing has to be waited for: the file is being written already, nobody else is at it, and
    /// the disk has room. `None`: it takes [`write`](Self::write), which also says what is wrong.
    #[must_use]
    pub fn write_now(&self, handle: HandleId, offset: u64, data: &[u8]) -> Option<usize> {
        let handle = self.handle(handle).ok().filter(|handle| handle.write)?;
        let file = &handle.file;
        let end = offset.checked_add(data.len() as u64)?;
        let _gate = file.gate.try_lock().ok()?;
        let Source::Live(blob) = file.source() else {
            return None;
        };
        if end > LARGEST || file.through().is_some() || !self.spends(data.len() as u64) {
            return None;
        }
        self.mark_changed(file);
        blob.write_at(offset, data).ok()?;
        self.written(file, end);
        Some(data.len())
    }

    /// Writes.
    ///
    /// # Errors
    /// Not open for writing, too large, or the disk refuses.
    pub async fn write(
        self: &Arc<Self>,
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
        let writing = || ready(blob.write_at(offset, &data).map_err(VfsError::from));
        self.with_room(data.len() as u64, writing).await?;
        self.written(file, end);
        Ok(data.len())
    }

    fn written(&self, file: &Opened, end: u64) {
        let now = SystemTime::now();
        self.sketch(file, |node| {
            node.size = node.size.max(end);
            (node.mtime, node.ctime) = (now, now);
            node.mtime_unsent = false;
        });
    }

    /// Makes what was written as safe as the operator wants it at a close (invariant 1): durable,
    /// or with `durability = "fsync"` safe from the death of the daemon.
    ///
    /// # Errors
    /// It is not.
    pub async fn flush(&self, handle: HandleId) -> Result<(), VfsError> {
        let handle = self.handle(handle)?;
        if !handle.write {
            return Ok(());
        }
        let file = &handle.file;
        if self.ledger.journal().durability() == Durability::Fsync && self.promise(file).await? {
            return Ok(()); // sealed once the last handle is gone
        }
        self.seal(file).await
    }

    /// Makes what was written durable.
    ///
    /// # Errors
    /// It is not.
    pub async fn fsync(&self, handle: HandleId) -> Result<(), VfsError> {
        let handle = self.handle(handle)?;
        if handle.write {
            self.seal(&handle.file).await?;
        }
        if self.ledger.journal().durability() == Durability::Fsync {
            self.ledger.journal().everything().durable().await?;
        }
        let _gate = handle.file.gate.lock().await;
        self.keep(&handle.file).await
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
        if handle.write {
            handle.file.end_writing();
        }
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
        self.may_change()?;
        if let Some(size) = set.size {
            if size > LARGEST {
                return Err(VfsError::TooLarge);
            }
            self.set_size(id, size, handle).await?;
        }
        let others = SetAttr { size: None, ..set };
        if others != SetAttr::default() {
            // What was written before is not to change these times later.
            self.look_at_all();
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
                    node.atime = set.atime.or(node.atime);
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
            ticket.promised().await?;
            self.ledger.wake.notify_one();
        }
        self.attr_now(id)
    }

    /// Reserves or empties a range of a file.
    ///
    /// # Errors
    /// The disk has no room, or its filesystem cannot do that.
    pub async fn allocate(
        self: &Arc<Self>,
        handle: HandleId,
        range: Allocation,
        offset: u64,
        len: u64,
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
        let allocating = || ready(blob.allocate(range, offset, len).map_err(VfsError::from));
        self.with_room(len, allocating).await?;
        let (now, emptied) = (SystemTime::now(), !range.reserves());
        self.sketch(file, |node| {
            if range.grows() {
                node.size = node.size.max(end);
            }
            if emptied {
                node.mtime = now;
            }
            node.ctime = now;
        });
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
            let has_read = through.as_ref().is_some_and(|handle| handle.read);
            self.cut(&file, size, has_read).await
        }
        .await;
        let sealed = match (cut, through) {
            (Ok(()), None) => self.seal(&file).await,
            (other, _) => other,
        };
        self.close(&file);
        sealed
    }

    /// Gives a file another length; what is cut to nothing needs no copy and no fetch. Whoever may have
    /// read it before has seen the version that he had open. Under the gate.
    async fn cut(
        self: &Arc<Self>,
        file: &Arc<Opened>,
        size: u64,
        has_read: bool,
    ) -> Result<(), VfsError> {
        if let Some(through) = file.through() {
            self.begin_scratch(file, &through).await?;
        }
        let is_live = matches!(file.source(), Source::Live(_));
        if size == 0 && !is_live {
            self.begin_content(file, has_read).await?;
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
}
