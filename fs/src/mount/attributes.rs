//! Owners and modes as they are shown.
//!
//! `fixed`: everything belongs to one owner with one mode a kind, so that PHP and the web server
//! get in whatever they asked for; `chmod` and `chown` succeed, are remembered, and are not shown.
//! `posix`: what applications set is what is shown.

use fuser::{FileAttr, FileType, INodeNo};

use crate::vfs::{Attr, Kind};

/// The unit of `st_blocks`, by definition.
const BLOCK: u64 = 512;

/// The preferred size of a read: what the kernel asks of us at most at once.
const BLKSIZE: u32 = 1 << 20;

/// How owners and modes are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appearance {
    /// Show what applications set.
    pub posix: bool,
    /// Owner of everything that has no other.
    pub uid: u32,
    /// Group of everything that has no other.
    pub gid: u32,
    /// Permission bits of files.
    pub file_mode: u16,
    /// Permission bits of folders.
    pub dir_mode: u16,
}

impl Appearance {
    /// What `stat` shows of a node.
    #[must_use]
    pub fn show(&self, attr: &Attr) -> FileAttr {
        let (kind, own, nlink, size) = match attr.kind {
            // The drive counts what is below a folder as its size, which `du` would count again.
            Kind::Directory => (FileType::Directory, self.dir_mode, 2, 0),
            Kind::File | Kind::Hidden => (FileType::RegularFile, self.file_mode, 1, attr.size),
        };
        let remembered = attr.mode.and_then(|mode| u16::try_from(mode & 0o7777).ok());
        let (perm, uid, gid) = if self.posix {
            (
                remembered.unwrap_or(own),
                attr.uid.unwrap_or(self.uid),
                attr.gid.unwrap_or(self.gid),
            )
        } else {
            (own, self.uid, self.gid)
        };
        FileAttr {
            ino: INodeNo(attr.node.0),
            size,
            blocks: size.div_ceil(BLOCK),
            atime: attr.atime.unwrap_or(attr.mtime),
            mtime: attr.mtime,
            ctime: attr.ctime,
            crtime: attr.btime,
            kind,
            perm,
            nlink,
            uid,
            gid,
            rdev: 0,
            blksize: BLKSIZE,
            flags: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::NodeId;
    use std::time::SystemTime;

    fn attr(kind: Kind) -> Attr {
        let at = SystemTime::UNIX_EPOCH;
        let (mode, uid, gid) = (Some(0o700), Some(7), Some(8));
        Attr {
            node: NodeId(2),
            kind,
            size: 513,
            atime: None,
            mtime: at,
            ctime: at,
            btime: at,
            mode,
            uid,
            gid,
        }
    }

    const FIXED: Appearance = Appearance {
        posix: false,
        uid: 33,
        gid: 34,
        file_mode: 0o644,
        dir_mode: 0o755,
    };

    #[test]
    fn fixed_shows_one_owner_whatever_was_set() {
        let shown = FIXED.show(&attr(Kind::Directory));
        assert_eq!(
            (shown.perm, shown.uid, shown.gid, shown.size),
            (0o755, 33, 34, 0)
        );
        let shown = FIXED.show(&attr(Kind::File));
        assert_eq!(
            (shown.perm, shown.uid, shown.gid, shown.blocks),
            (0o644, 33, 34, 2)
        );
    }

    #[test]
    fn posix_shows_what_was_set() {
        let shown = Appearance {
            posix: true,
            ..FIXED
        }
        .show(&attr(Kind::File));
        assert_eq!((shown.perm, shown.uid, shown.gid), (0o700, 7, 8));
    }
}
