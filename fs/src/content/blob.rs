//! One content file, open.
//!
//! Everything goes by offset: the descriptor is shared by all who read and write this content, so
//! its own position means nothing.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use xxhash_rust::xxh3::Xxh3Default;

use super::disk::Allocation;
use super::hash::{PIECE, QuickXor, each_piece};
use super::lease::is_at_rest;
use super::shelf::Shelf;
use crate::threads::atomic::{AtomicBool, Ordering};
use crate::tree::{ContentId, QuickXorHash};

/// One content file, open for reading and writing.
#[derive(Debug)]
pub struct Blob {
    id: ContentId,
    file: Arc<File>,
    /// It was made here. Others are open for reading, so that we can ask whether anybody writes.
    writable: bool,
    shelf: Arc<Shelf>,
    /// The name is known to be on the disk for good.
    name_durable: AtomicBool,
}

/// What changes whenever the bytes do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Length in bytes.
    pub size: u64,
    /// When the disk last took bytes.
    pub modified: SystemTime,
}

impl Blob {
    pub(super) fn new(id: ContentId, file: File, writable: bool, shelf: Arc<Shelf>) -> Arc<Self> {
        Arc::new(Self {
            id,
            file: Arc::new(file),
            writable,
            shelf,
            name_durable: AtomicBool::new(false),
        })
    }

    /// Its name is on the disk for good.
    pub(super) fn has_durable_name(&self) {
        self.name_durable.store(true, Ordering::Release);
    }

    /// Its number.
    #[must_use]
    pub fn id(&self) -> ContentId {
        self.id
    }

    /// The descriptor, for those who pass it on.
    #[must_use]
    pub fn file(&self) -> Arc<File> {
        Arc::clone(&self.file)
    }

    /// A descriptor that is open for reading only.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn read_only(&self) -> io::Result<Arc<File>> {
        if self.writable {
            return again(&self.file, false).map(Arc::new);
        }
        Ok(Arc::clone(&self.file))
    }

    /// Reads `len` bytes; fewer only at the end of the file.
    ///
    /// # Errors
    /// The disk fails.
    pub fn read_at(&self, offset: u64, len: usize) -> io::Result<Bytes> {
        let mut bytes = Vec::new();
        bytes
            .try_reserve_exact(len)
            .map_err(|_| io::ErrorKind::OutOfMemory)?;
        while bytes.len() < len {
            let at = offset + bytes.len() as u64;
            if self.shelf.disk().read(&self.file, &mut bytes, at)? == 0 {
                break;
            }
        }
        bytes.truncate(len); // the vector may have got more room than it asked for
        Ok(bytes.into())
    }

    /// A descriptor to write by: for a moment, where the content was not made here.
    fn with_writable<T>(&self, work: impl FnOnce(&File) -> io::Result<T>) -> io::Result<T> {
        if self.writable {
            return work(&self.file);
        }
        work(&again(&self.file, true)?)
    }

    /// Writes all bytes.
    ///
    /// # Errors
    /// The disk fails or is full; some of the bytes may stand.
    pub fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let disk = self.shelf.disk();
        self.with_writable(|file| disk.write_at(file, bytes, offset))
    }

    /// Length in bytes.
    ///
    /// # Errors
    /// The disk fails.
    pub fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// Whether it has no bytes.
    ///
    /// # Errors
    /// The disk fails.
    pub fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// What to compare before and after copying a file that somebody may be writing.
    ///
    /// # Errors
    /// The disk fails.
    pub fn stamp(&self) -> io::Result<Stamp> {
        let data = self.file.metadata()?;
        Ok(Stamp {
            size: data.len(),
            modified: data.modified()?,
        })
    }

    /// Marks that everything was seen that was written so far: from now on any write shows by the
    /// [stamp](Self::stamp), which is returned. It is a moment older than the last write, and so older than what any
    /// later one sets, however coarse the clock of the disk is.
    ///
    /// # Errors
    /// The disk fails.
    pub fn mark(&self) -> io::Result<SystemTime> {
        let modified = self.file.metadata()?.modified()?;
        let mark = modified - Duration::from_nanos(1);
        self.file.set_modified(mark)?;
        Ok(mark)
    }

    /// Whether nobody can write to it any more, by a descriptor or a mapping. Only of one that was
    /// [opened](super::Store::open_anew) anew.
    ///
    /// # Errors
    /// The filesystem cannot tell.
    pub fn is_at_rest(&self) -> io::Result<bool> {
        is_at_rest(&self.file)
    }

    /// Cuts the file, or extends it with zeros.
    ///
    /// # Errors
    /// The disk fails.
    pub fn set_len(&self, len: u64) -> io::Result<()> {
        self.with_writable(|file| self.shelf.disk().set_len(file, len))
    }

    /// Reserves or empties a range of it.
    ///
    /// # Errors
    /// The disk is full, or its filesystem cannot do that.
    pub fn allocate(&self, range: Allocation, offset: u64, len: u64) -> io::Result<()> {
        let disk = self.shelf.disk();
        self.with_writable(|file| disk.allocate(file, range, offset, len))
    }

    /// Writes the bytes that it has once more, so that the next barrier is about all of them.
    ///
    /// # Errors
    /// The disk fails or is full. What was there is there.
    pub fn write_again(&self) -> io::Result<()> {
        self.write_to(self)
    }

    /// Writes all bytes to another one, or to itself.
    pub(super) fn write_to(&self, other: &Self) -> io::Result<()> {
        other.with_writable(|file| {
            let mut at = 0;
            loop {
                let piece = self.read_at(at, PIECE)?;
                if piece.is_empty() {
                    return Ok(());
                }
                self.shelf.disk().write_at(file, &piece, at)?;
                at += piece.len() as u64;
            }
        })
    }

    /// Waits until the bytes, and the name they stand under, are on the disk for good. Where the disk has
    /// [refused](super::Refused) bytes once, it fails from then on.
    ///
    /// # Errors
    /// The disk fails, or has failed before.
    pub fn sync(&self) -> io::Result<()> {
        self.sync_data()?;
        if !self.name_durable.load(Ordering::Acquire) {
            self.shelf.sync_name(self.id)?;
            self.name_durable.store(true, Ordering::Release);
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let shelf = &self.shelf;
        if shelf.refused.has(self.id) {
            return Err(refused_before());
        }
        let synced = shelf.disk().sync_file(&self.file);
        synced.inspect_err(|_| shelf.refused.add(self.id))
    }

    /// Length and `QuickXorHash`, read from the first byte to the last.
    ///
    /// # Errors
    /// The disk fails.
    pub fn quick_xor(&self) -> io::Result<(u64, QuickXorHash)> {
        let mut hash = QuickXor::new();
        let size = each_piece(&self.file, None, |piece| hash.update(piece))?;
        Ok((size, hash.finish()))
    }

    /// Length and xxh3, read from the first byte to the last.
    ///
    /// # Errors
    /// The disk fails.
    pub fn xxh3(&self) -> io::Result<(u64, u64)> {
        let mut hash = Xxh3Default::new();
        let size = each_piece(&self.file, None, |piece| hash.update(piece))?;
        Ok((size, hash.digest()))
    }

    /// Lets [`Store::load`](super::Store::load) find this file as long as it is open.
    pub(super) fn register(self: &Arc<Self>) {
        self.shelf.open.lock().insert(self.id, Arc::downgrade(self));
    }

    /// Gives a copy that was made aside its final name.
    ///
    /// # Errors
    /// The disk fails.
    pub fn take_name(self: &Arc<Self>) -> io::Result<()> {
        let (from, to) = (self.shelf.fill_path(self.id), self.shelf.path(self.id));
        self.shelf.disk().rename(&from, &to)?;
        self.register();
        Ok(())
    }

    /// Gives a fetched file its final name. The bytes are made durable first: whatever bears the
    /// name of a content after a power cut is whole. The name itself may get lost, and then the
    /// bytes are fetched again.
    pub(super) fn finish_fill(self: &Arc<Self>) -> io::Result<()> {
        self.sync_data()?;
        self.take_name()
    }

    /// Gives up a fetched file that is not complete.
    pub fn discard_fill(&self) {
        self.shelf.refused.forget(self.id);
        let path = self.shelf.fill_path(self.id);
        if let Err(error) = self.shelf.disk().remove(&path) {
            tracing::warn!(path = %path.display(), %error, "cannot remove an unfinished fetch");
        }
    }
}

/// Another description of an open file, whether it has a name or not.
pub(super) fn again(file: &File, write: bool) -> io::Result<File> {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    File::options().read(true).write(write).open(path)
}

/// Why a content is not safe.
pub(super) fn refused_before() -> io::Error {
    io::Error::other("an earlier write to this file was lost by the disk")
}

impl Drop for Blob {
    fn drop(&mut self) {
        let mut open = self.shelf.open.lock();
        // Somebody may have opened the same content again in between.
        if open
            .get(&self.id)
            .is_some_and(|held| held.strong_count() == 0)
        {
            open.remove(&self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Host, Store};
    use super::*;

    #[test]
    fn bytes_that_the_disk_lost_once_are_never_called_durable() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Arc::new(Host)).unwrap();
        let blob = store.create().unwrap();
        blob.sync().unwrap();
        blob.shelf.refused.add(blob.id());
        blob.sync().unwrap_err();
        blob.sync().unwrap_err();
    }

    #[test]
    fn fetched_bytes_that_could_not_be_synced_do_not_become_a_content() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Arc::new(Host)).unwrap();
        let blob = store.create_fill().unwrap();
        blob.write_at(0, b"fetched").unwrap();
        blob.shelf.refused.add(blob.id());
        blob.finish_fill().unwrap_err();
        let found = store.list().unwrap();
        assert_eq!(
            found
                .iter()
                .map(|found| (found.id, found.fill))
                .collect::<Vec<_>>(),
            [(blob.id(), true)]
        );
        store.load(blob.id()).unwrap_err();
        blob.discard_fill();
        assert_eq!(store.list().unwrap(), []);
    }
}
