//! The kernel's requests, decoded, handed to the use cases, and answered.
//!
//! One method a request, each a few lines: what is decided is decided in `vfs`. Names that are
//! not UTF-8 cannot exist on the drive, so a lookup of one finds nothing. What is not offered is
//! answered once with ENOSYS where the kernel then helps itself: locks, seeking, copying.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use fuser::{
    AccessFlags, BsdFileFlags, CopyFileRangeFlags, Errno, FileHandle, Filesystem, FopenFlags,
    INodeNo, IoctlFlags, KernelConfig, LockOwner, OpenFlags, PollEvents, PollFlags, PollNotifier,
    ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry,
    ReplyIoctl, ReplyLseek, ReplyOpen, ReplyPoll, ReplyStatfs, ReplyWrite, ReplyXattr, Request,
    TimeOrNow, WriteFlags,
};

use super::answer::Answers;
use super::decode;
use super::reply::{Replies, done, note, note_of_node};
use super::session::negotiate;
use crate::vfs::{HandleId, NodeId, SetAttr, VfsError};

/// The filesystem as the kernel sees it.
pub(super) struct Operations {
    pub(super) replies: Arc<Replies>,
    pub(super) answers: Answers,
    /// How many filesystems may stand on each other where the kernel reads files by itself; none: it does not.
    pub(super) depth: Option<u32>,
}

impl Operations {
    /// The folder, and the name as the drive stores it.
    fn begin(&self, parent: INodeNo, name: &OsStr) -> (Arc<Replies>, NodeId, String) {
        let (io, parent) = (self.replies.clone(), NodeId(parent.0));
        let name = io.vfs.spelling(parent, name.as_bytes());
        (io, parent, name)
    }
}

/// Answers requests with one number, whatever they ask.
macro_rules! refuse {
    ($errno:ident: $($name:ident($($argument:ty),*) -> $reply:ty),*) => {
        $(fn $name(&self, _: &Request, _: INodeNo, $(_: $argument,)* reply: $reply) {
            reply.error(Errno::$errno);
        })*
    };
}

impl Filesystem for Operations {
    fn init(&mut self, _req: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        negotiate(config, self.depth);
        Ok(())
    }

    fn lookup(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let (io, parent) = (self.replies.clone(), NodeId(parent.0));
        let (came, name) = (io.memory.came(), name.as_bytes().to_owned());
        self.answers.run(async move {
            match io.vfs.lookup_shown(parent, &name).await {
                Ok(attr) => io.entry(reply, came, &attr),
                Err(VfsError::NotFound) => io.absence(reply, came),
                Err(error) => reply.error(note(&error)),
            }
        });
    }

    // Numbers are for life, so there is nothing to forget.
    fn forget(&self, _req: &Request, _ino: INodeNo, _nlookup: u64) {}

    fn getattr(&self, _req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        let io = self.replies.clone();
        let came = io.memory.came();
        self.answers.run(async move {
            let attr = io.vfs.attr(NodeId(ino.0)).await;
            io.attr(reply, came, attr);
        });
    }

    fn setattr(
        &self,
        _req: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let (atime, mtime) = (atime.map(decode::time), mtime.map(decode::time));
        let mode = mode.map(decode::mode);
        let set = SetAttr {
            size,
            atime,
            mtime,
            mode,
            uid,
            gid,
        };
        let io = self.replies.clone();
        let came = io.memory.came();
        self.answers.run(async move {
            let attr = io
                .vfs
                .set_attr(NodeId(ino.0), set, fh.map(|fh| HandleId(fh.0)))
                .await;
            io.attr(reply, came, attr);
        });
    }

    fn mknod(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        _rdev: u32,
        reply: ReplyEntry,
    ) {
        let (io, parent, name) = self.begin(parent, name);
        if !decode::is_plain_file(mode) {
            return reply.error(Errno::EPERM); // as mknod(2) says for what cannot be stored
        }
        let (came, owner) = (io.memory.came(), (req.uid(), req.gid()));
        self.answers.run(async move {
            match io.make_file(parent, &name, decode::mode(mode), owner).await {
                Ok(attr) => io.entry(reply, came, &attr),
                Err(error) => reply.error(note(&error)),
            }
        });
    }

    fn mkdir(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        reply: ReplyEntry,
    ) {
        let (io, parent, name) = self.begin(parent, name);
        let (came, owner) = (io.memory.came(), (req.uid(), req.gid()));
        self.answers.run(async move {
            let new = match io.vfs.mkdir(parent, &name, decode::mode(mode)).await {
                Ok(attr) => io.belongs_to(attr, owner).await,
                Err(error) => Err(error),
            };
            match new {
                Ok(attr) => io.entry(reply, came, &attr),
                Err(error) => reply.error(note(&error)),
            }
        });
    }

    fn unlink(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let (io, parent, name) = self.begin(parent, name);
        self.answers
            .run(async move { done(reply, io.vfs.unlink(parent, &name).await) });
    }

    fn rmdir(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let (io, parent, name) = self.begin(parent, name);
        self.answers
            .run(async move { done(reply, io.vfs.rmdir(parent, &name).await) });
    }

    fn rename(
        &self,
        _req: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: fuser::RenameFlags,
        reply: ReplyEmpty,
    ) {
        let (io, parent, name) = self.begin(parent, name);
        let (_, to, to_name) = self.begin(newparent, newname);
        let Some(flags) = decode::rename_flags(flags) else {
            return reply.error(Errno::EINVAL);
        };
        self.answers.run(async move {
            done(
                reply,
                io.vfs.rename(parent, &name, to, &to_name, flags).await,
            );
        });
    }

    fn open(&self, _req: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let (io, open) = (self.replies.clone(), decode::open_mode(flags));
        let node = NodeId(ino.0);
        self.answers.run(async move {
            match io.open(node, open).await {
                Ok(opened) => io.opened(reply, opened).await,
                Err(error) => reply.error(note_of_node(&error)),
            }
        });
    }

    fn create(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let (io, parent, name) = self.begin(parent, name);
        let (came, owner, mode) = (io.memory.came(), (req.uid(), req.gid()), decode::mode(mode));
        let (open, exclusive) = (
            decode::open_mode(OpenFlags(flags)),
            flags & libc::O_EXCL != 0,
        );
        self.answers.run(async move {
            match io.create(parent, &name, mode, open, exclusive, owner).await {
                Ok((attr, opened)) => io.created(reply, came, &attr, opened).await,
                Err(error) => reply.error(note(&error)),
            }
        });
    }

    fn read(
        &self,
        _req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let io = self.replies.clone();
        self.answers.run(async move {
            match io.vfs.read(HandleId(fh.0), offset, size as usize).await {
                Ok(bytes) => reply.data(&bytes),
                Err(error) => reply.error(note(&error)),
            }
        });
    }

    fn write(
        &self,
        _req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        if let Some(written) = self.replies.vfs.write_now(HandleId(fh.0), offset, data) {
            return reply.written(u32::try_from(written).unwrap_or(u32::MAX));
        }
        // The request's buffer is used again once this returns.
        let (io, data) = (self.replies.clone(), Bytes::copy_from_slice(data));
        self.answers.run(async move {
            match io.vfs.write(HandleId(fh.0), offset, data).await {
                Ok(written) => reply.written(u32::try_from(written).unwrap_or(u32::MAX)),
                Err(error) => reply.error(note(&error)),
            }
        });
    }

    fn flush(
        &self,
        _req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        _lock_owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        let io = self.replies.clone();
        self.answers
            .run(async move { done(reply, io.vfs.flush(HandleId(fh.0)).await) });
    }

    fn release(
        &self,
        _req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        let io = self.replies.clone();
        self.answers.run(async move {
            io.vfs.release(HandleId(fh.0)).await;
            reply.ok();
        });
    }

    fn fsync(
        &self,
        _req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        _datasync: bool,
        reply: ReplyEmpty,
    ) {
        let io = self.replies.clone();
        self.answers
            .run(async move { done(reply, io.vfs.fsync(HandleId(fh.0)).await) });
    }

    fn opendir(&self, _req: &Request, ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        let io = self.replies.clone();
        self.answers.run(async move {
            match io.folders.open(&io.vfs, NodeId(ino.0)).await {
                Ok(id) => reply.opened(FileHandle(id), FopenFlags::empty()),
                Err(error) => reply.error(note_of_node(&error)),
            }
        });
    }

    fn readdir(
        &self,
        _req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        reply: ReplyDirectory,
    ) {
        let io = self.replies.clone();
        self.answers.run(async move {
            match io.folders.read(&io.vfs, fh.0, offset).await {
                Ok(names) => Replies::names(reply, &names, offset),
                Err(error) => reply.error(note(&error)),
            }
        });
    }

    fn readdirplus(
        &self,
        _req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        reply: ReplyDirectoryPlus,
    ) {
        let io = self.replies.clone();
        let came = io.memory.came();
        self.answers.run(async move {
            match io.folders.read(&io.vfs, fh.0, offset).await {
                Ok(names) => {
                    let folder = (NodeId(ino.0), &names[..]);
                    io.names_with_attributes(reply, came, folder, offset).await;
                }
                Err(error) => reply.error(note(&error)),
            }
        });
    }

    fn releasedir(
        &self,
        _req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        reply: ReplyEmpty,
    ) {
        self.replies.folders.close(fh.0);
        reply.ok();
    }

    fn fsyncdir(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _datasync: bool,
        reply: ReplyEmpty,
    ) {
        let io = self.replies.clone();
        self.answers
            .run(async move { done(reply, io.vfs.fsync_dir().await) });
    }

    fn statfs(&self, _req: &Request, _ino: INodeNo, reply: ReplyStatfs) {
        self.replies.space(reply);
    }

    fn fallocate(
        &self,
        _req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let Some(range) = decode::range(mode) else {
            return reply.error(Errno::EOPNOTSUPP);
        };
        let io = self.replies.clone();
        self.answers.run(async move {
            done(
                reply,
                io.vfs.allocate(HandleId(fh.0), range, offset, length).await,
            );
        });
    }

    // What the drive cannot store.
    refuse! { EPERM: symlink(&OsStr, &Path) -> ReplyEntry, link(INodeNo, &OsStr) -> ReplyEntry }

    // What the kernel does itself once it has heard that we do not. Extended attributes above
    // all: else each write would ask for `security.capability` first.
    refuse! { ENOSYS:
        access(AccessFlags) -> ReplyEmpty,
        getxattr(&OsStr, u32) -> ReplyXattr,
        listxattr(u32) -> ReplyXattr,
        setxattr(&OsStr, &[u8], i32, u32) -> ReplyEmpty,
        removexattr(&OsStr) -> ReplyEmpty,
        lseek(FileHandle, i64, i32) -> ReplyLseek,
        copy_file_range(FileHandle, u64, INodeNo, FileHandle, u64, u64, CopyFileRangeFlags)
            -> ReplyWrite,
        poll(FileHandle, PollNotifier, PollEvents, PollFlags) -> ReplyPoll
    }
    refuse! { ENOTTY: ioctl(FileHandle, IoctlFlags, u32, &[u8], u32) -> ReplyIoctl }
}
