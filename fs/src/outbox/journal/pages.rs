//! The database's file, by way of the [`Disk`] that all of the state goes through.
//!
//! A barrier that fails drops what it was about, and the next one does not tell: whoever goes on with the file as it
//! can be read would build on pages that no power cut leaves there. So everything is written once more first.

use std::fs::File;
use std::io;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use redb::backends::FileBackend;
use redb::{BackendError, DatabaseError, StorageBackend};

use crate::content::Disk;
use crate::content::hash::PIECE;

/// One file, as redb wants it. Its locks are redb's own.
#[derive(Debug)]
pub(super) struct Pages {
    disk: Arc<dyn Disk>,
    file: File,
    locks: FileBackend,
    refused: Refused,
}

/// Whether the disk has refused bytes of the file, over all times that it was opened.
#[derive(Clone, Debug, Default)]
pub(super) struct Refused(Arc<AtomicBool>);

impl Pages {
    pub(super) fn of(
        file: File,
        disk: Arc<dyn Disk>,
        refused: Refused,
    ) -> Result<Self, DatabaseError> {
        let locks = FileBackend::new(file.try_clone()?)?;
        let pages = Self {
            disk,
            file,
            locks,
            refused,
        };
        if pages.refused.0.load(Ordering::Acquire) {
            write_again(&*pages.disk, &pages.file)?;
            pages.refused.0.store(false, Ordering::Release);
        }
        Ok(pages)
    }
}

/// Writes all bytes of a file once more, and brings them to the disk.
pub(super) fn write_again(disk: &dyn Disk, file: &File) -> io::Result<()> {
    let (mut piece, mut at) = (Vec::with_capacity(PIECE), 0);
    while disk.read(file, &mut piece, at)? > 0 {
        disk.write_at(file, &piece, at)?;
        at += piece.len() as u64;
        piece.clear();
    }
    disk.sync_file(file)
}

impl StorageBackend for Pages {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.disk.read_at(&self.file, out, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.disk.set_len(&self.file, len)
    }

    fn sync_data(&self) -> io::Result<()> {
        let synced = self.disk.sync_file(&self.file);
        synced.inspect_err(|_| self.refused.0.store(true, Ordering::Release))
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.disk.write_at(&self.file, data, offset)
    }

    fn close(&self) -> io::Result<()> {
        self.locks.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.locks.try_lock_range(start, end)
    }

    fn try_lock_shared_range(
        &self,
        start: Bound<u64>,
        end: Bound<u64>,
    ) -> Result<bool, BackendError> {
        self.locks.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.locks.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.locks.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.locks.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.locks.query_lock_range(start, end)
    }
}
