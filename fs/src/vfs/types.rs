//! What the use cases take and give.

use std::time::SystemTime;

use crate::tree::{Kind, Node, NodeId};

/// What an application may know of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attr {
    /// Its number.
    pub node: NodeId,
    /// File or folder.
    pub kind: Kind,
    /// Bytes.
    pub size: u64,
    /// Read, as an application has set it; else nobody counts that.
    pub atime: Option<SystemTime>,
    /// Content changed.
    pub mtime: SystemTime,
    /// Anything changed.
    pub ctime: SystemTime,
    /// Made.
    pub btime: SystemTime,
    /// As `chmod` left it.
    pub mode: Option<u32>,
    /// As `chown` left it.
    pub uid: Option<u32>,
    /// As `chown` left it.
    pub gid: Option<u32>,
}

impl From<&Node> for Attr {
    fn from(node: &Node) -> Self {
        Self {
            node: node.id,
            kind: node.kind,
            size: node.size,
            atime: node.atime,
            mtime: node.mtime,
            ctime: node.ctime,
            btime: node.btime,
            mode: node.mode,
            uid: node.uid,
            gid: node.gid,
        }
    }
}

/// How a file is opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpenMode {
    /// For reading.
    pub read: bool,
    /// For writing.
    pub write: bool,
    /// Emptied first.
    pub truncate: bool,
}

/// Attributes to set; what is `None` stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SetAttr {
    /// Cut or grown to this size.
    pub size: Option<u64>,
    /// Read then.
    pub atime: Option<SystemTime>,
    /// Modified then.
    pub mtime: Option<SystemTime>,
    /// Permission bits.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
}

/// A name in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The name.
    pub name: String,
    /// What it names.
    pub attr: Attr,
}

/// How a rename treats its target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RenameFlags {
    /// Fail when the target exists.
    pub no_replace: bool,
    /// Let the two change places.
    pub exchange: bool,
}

/// Space of the filesystem, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// All of it.
    pub total: u64,
    /// What is left.
    pub free: u64,
    /// Known files and folders.
    pub files: u64,
}
