//! Answers to the kernel, and what it may remember of them.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use fuser::{
    Errno, FileType, Generation, INodeNo, ReplyAttr, ReplyDirectory, ReplyDirectoryPlus,
    ReplyEmpty, ReplyEntry, ReplyStatfs,
};

use super::Appearance;
use super::errno::errno;
use super::folders::{Entry, Folders};
use super::invalidate::{Came, KernelMemory};
use crate::tree;
use crate::vfs::{Attr, Kind, NodeId, OpenMode, SetAttr, Vfs, VfsError};

/// Inode numbers are never used twice, so their generation never changes.
pub(super) const GENERATION: Generation = Generation(0);

/// The unit in which space is told.
const SPACE_UNIT: u32 = 4096;

/// The longest name, as `statfs` tells it. The drive's 255 UTF-16 units can be more bytes, but
/// the kernel's own limit is this.
const NAME_MAX: u32 = 255;

/// How many more files `df -i` promises. The drive knows no such limit; 2^32 fits every column.
const MORE_FILES: u64 = 1 << 32;

/// What answers are made from.
pub(super) struct Replies {
    pub(super) vfs: Arc<Vfs>,
    pub(super) appearance: Appearance,
    pub(super) memory: Arc<KernelMemory>,
    pub(super) folders: Folders,
}

impl Replies {
    pub(super) fn entry(&self, reply: ReplyEntry, came: Came, attr: &Attr) {
        let shown = self.appearance.show(attr);
        self.memory
            .send(came, |ttl| reply.entry(&ttl, &shown, GENERATION));
    }

    /// A known absence: number 0, which the kernel may remember like a name.
    pub(super) fn absence(&self, reply: ReplyEntry, came: Came) {
        let never = SystemTime::UNIX_EPOCH;
        let nothing = self.appearance.show(&Attr {
            node: NodeId(0),
            kind: Kind::File,
            size: 0,
            atime: None,
            mtime: never,
            ctime: never,
            btime: never,
            mode: None,
            uid: None,
            gid: None,
        });
        self.memory
            .send(came, |ttl| reply.entry(&ttl, &nothing, GENERATION));
    }

    pub(super) fn attr(&self, reply: ReplyAttr, came: Came, attr: Result<Attr, VfsError>) {
        match attr {
            Ok(attr) => {
                let shown = self.appearance.show(&attr);
                self.memory.send(came, |ttl| reply.attr(&ttl, &shown));
            }
            Err(error) => reply.error(note_of_node(&error)),
        }
    }

    /// Makes a file without opening it, as `mknod` does; durable when this returns.
    pub(super) async fn make_file(
        &self,
        parent: NodeId,
        name: &str,
        mode: u32,
        owner: (u32, u32),
    ) -> Result<Attr, VfsError> {
        let open = OpenMode {
            read: false,
            write: true,
            truncate: false,
        };
        let (attr, handle) = self.vfs.create(parent, name, mode, open, true).await?;
        let sealed = self.vfs.flush(handle).await;
        self.vfs.release(handle).await;
        sealed?;
        self.belongs_to(attr, owner).await
    }

    /// Gives something new to whoever made it, where that is shown at all.
    pub(super) async fn belongs_to(
        &self,
        attr: Attr,
        (uid, gid): (u32, u32),
    ) -> Result<Attr, VfsError> {
        let new = attr.uid.is_none() && attr.gid.is_none();
        if !self.appearance.posix || !new {
            return Ok(attr);
        }
        let set = SetAttr {
            uid: Some(uid),
            gid: Some(gid),
            ..SetAttr::default()
        };
        self.vfs.set_attr(attr.node, set, None).await
    }

    pub(super) fn names(mut reply: ReplyDirectory, names: &[Entry], offset: u64) {
        for (at, entry) in from(names, offset) {
            let kind = match entry.kind {
                Kind::Directory => FileType::Directory,
                Kind::File | Kind::Hidden => FileType::RegularFile,
            };
            let name = tree::shown(&entry.name);
            if reply.add(INodeNo(entry.node.0), at, kind, OsStr::from_bytes(&name)) {
                break;
            }
        }
        reply.ok();
    }

    /// Names with attributes, and both as they are now, not as they were when the folder was
    /// opened: the kernel takes them for fresh. It lets nobody change names of the folder
    /// meanwhile, so what is looked up here still holds when it arrives.
    pub(super) async fn names_with_attributes(
        &self,
        mut reply: ReplyDirectoryPlus,
        came: Came,
        (folder, names): (NodeId, &[Entry]),
        offset: u64,
    ) {
        let mut shown = Vec::new();
        for (at, entry) in from(names, offset) {
            let now = match entry.name.as_str() {
                "." | ".." => self.vfs.attr(entry.node).await,
                name => self.vfs.lookup(folder, name).await,
            };
            // What is gone by now is left out.
            if let Ok(attr) = now {
                shown.push((at, entry, self.appearance.show(&attr)));
            }
            if shown.len() == PLUS_ENTRIES {
                break;
            }
        }
        self.memory.send(came, |ttl: Duration| {
            for (at, entry, attr) in &shown {
                let name = tree::shown(&entry.name);
                let name = OsStr::from_bytes(&name);
                if reply.add(attr.ino, *at, name, &ttl, attr, GENERATION) {
                    break;
                }
            }
            reply.ok();
        });
    }

    pub(super) fn space(&self, reply: ReplyStatfs) {
        let space = self.vfs.space();
        let unit = u64::from(SPACE_UNIT);
        let (total, free) = (space.total / unit, space.free / unit);
        let files = space.files.saturating_add(MORE_FILES);
        reply.statfs(
            total, free, free, files, MORE_FILES, SPACE_UNIT, NAME_MAX, SPACE_UNIT,
        );
    }
}

/// Entries of one answer: as many as fit into the 128 KiB that a listing program asks for, with
/// at least 160 bytes for an entry with attributes. Whoever asks for more asks again.
const PLUS_ENTRIES: usize = 128 * 1024 / 160;

/// The names behind an offset, each with the offset of the one after it.
fn from(names: &[Entry], offset: u64) -> impl Iterator<Item = (u64, &Entry)> {
    let skip = usize::try_from(offset).unwrap_or(usize::MAX);
    names
        .iter()
        .enumerate()
        .skip(skip)
        .map(|(at, entry)| (at as u64 + 1, entry))
}

pub(super) fn done(reply: ReplyEmpty, result: Result<(), VfsError>) {
    match result {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(note(&error)),
    }
}

/// The same for what was asked of a node and not of a name. One that is gone is stale: on that
/// number the kernel looks the name up once more, and finds what has taken its place.
pub(super) fn note_of_node(error: &VfsError) -> Errno {
    match error {
        VfsError::NotFound => Errno::ESTALE,
        other => note(other),
    }
}

/// The error number, with a word in the log for what an application alone could not explain.
pub(super) fn note(error: &VfsError) -> Errno {
    match error {
        VfsError::Unreachable(_)
        | VfsError::TimedOut
        | VfsError::Refused(_)
        | VfsError::Damaged(_)
        | VfsError::Disk(_)
        | VfsError::Journal(_) => {
            let cause = std::error::Error::source(error).map(ToString::to_string);
            tracing::warn!(%error, cause, "a request failed");
        }
        VfsError::NotFound
        | VfsError::Exists
        | VfsError::NotEmpty
        | VfsError::NotDirectory
        | VfsError::IsDirectory
        | VfsError::InvalidName(_)
        | VfsError::NameTooLong
        | VfsError::ReadOnly
        | VfsError::BadHandle
        | VfsError::Busy
        | VfsError::InvalidArgument
        | VfsError::OtherDrive
        | VfsError::TooLarge
        | VfsError::NotSupported => tracing::trace!(%error, "a request was refused"),
    }
    errno(error)
}
