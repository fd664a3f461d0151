//! Files that an application opens: how the kernel gets at their bytes from then on.
//!
//! Where the kernel may read a file by itself, it is given the file, once for all who have it open; else it asks us
//! for each piece, and keeps what it got.

use std::io;
use std::sync::Arc;

use fuser::{BackingId, Errno, FileHandle, FopenFlags, ReplyCreate, ReplyOpen};

use super::invalidate::Came;
use super::reply::{GENERATION, Replies};
use crate::vfs::{Attr, HandleId, NodeId, OpenMode, Through, VfsError};

/// An open file, as the kernel is to be told of it.
pub(super) struct Opened {
    handle: HandleId,
    flags: FopenFlags,
    through: Option<Arc<Through>>,
}

impl Opened {
    fn number(&self) -> FileHandle {
        FileHandle(self.handle.0)
    }
}

impl Replies {
    pub(super) async fn open(&self, node: NodeId, open: OpenMode) -> Result<Opened, VfsError> {
        let handle = self.vfs.open(node, open).await?;
        self.way(handle, node, open).await
    }

    pub(super) async fn create(
        &self,
        parent: NodeId,
        name: &str,
        mode: u32,
        open: OpenMode,
        exclusive: bool,
        owner: (u32, u32),
    ) -> Result<(Attr, Opened), VfsError> {
        let new = self.vfs.create(parent, name, mode, open, exclusive).await;
        let (attr, handle) = new?;
        match self.belongs_to(attr, owner).await {
            Ok(attr) => {
                let opened = self.way(handle, attr.node, open).await?;
                Ok((attr, opened))
            }
            Err(error) => {
                self.vfs.release(handle).await;
                Err(error)
            }
        }
    }

    async fn way(
        &self,
        handle: HandleId,
        node: NodeId,
        open: OpenMode,
    ) -> Result<Opened, VfsError> {
        let through = match self.vfs.through(handle).await {
            Ok(through) => through,
            Err(error) => {
                self.vfs.release(handle).await;
                return Err(error);
            }
        };
        let mut flags = FopenFlags::empty();
        if through.is_none() && self.memory.keeps_pages(node) {
            flags |= FopenFlags::FOPEN_KEEP_CACHE;
        }
        if !open.write && !open.truncate {
            // There is nothing to seal when a reader closes.
            flags |= FopenFlags::FOPEN_NOFLUSH;
        }
        Ok(Opened {
            handle,
            flags,
            through,
        })
    }

    /// Answers an open.
    pub(super) async fn opened(&self, reply: ReplyOpen, opened: Opened) {
        match opened.backing(|file| reply.open_backing(file)) {
            Ok(None) => reply.opened(opened.number(), opened.flags),
            Ok(Some(id)) => reply.opened_passthrough(opened.number(), opened.flags, &id),
            Err(error) => {
                self.vfs.release(opened.handle).await;
                reply.error(refused(&error));
            }
        }
    }

    /// Answers a create.
    pub(super) async fn created(
        &self,
        reply: ReplyCreate,
        came: Came,
        attr: &Attr,
        opened: Opened,
    ) {
        let (handle, flags) = (opened.number(), opened.flags);
        let shown = self.appearance.show(attr);
        match opened.backing(|file| reply.open_backing(file)) {
            Ok(None) => self.memory.send(came, |ttl| {
                reply.created(&ttl, &shown, GENERATION, handle, flags);
            }),
            Ok(Some(id)) => self.memory.send(came, |ttl| {
                reply.created_passthrough(&ttl, &shown, GENERATION, handle, flags, &id);
            }),
            Err(error) => {
                self.vfs.release(opened.handle).await;
                reply.error(refused(&error));
            }
        }
    }
}

impl Opened {
    fn backing(
        &self,
        register: impl FnOnce(&std::fs::File) -> io::Result<BackingId>,
    ) -> io::Result<Option<Arc<BackingId>>> {
        let through = self.through.as_ref();
        through
            .map(|through| through.registered(register))
            .transpose()
    }
}

fn refused(error: &io::Error) -> Errno {
    tracing::error!(%error, "the kernel does not take a file to read by itself");
    Errno::from_i32(error.raw_os_error().unwrap_or(libc::EIO))
}
