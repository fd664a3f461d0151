//! One item: a folder, a file or something that only looks like one.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::content::Content;

/// A file or folder, alive or remembered as deleted.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) id: String,
    /// What the tags are made of on SharePoint back ends.
    pub(crate) guid: String,
    /// The folder that holds it; none for the root.
    pub(crate) parent: Option<String>,
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) mark: Option<Mark>,
    /// The server's own times.
    pub(crate) created: Timestamp,
    pub(crate) modified: Timestamp,
    /// The client's times.
    pub(crate) stamps: Stamps,
    pub(crate) etag: u64,
    pub(crate) ctag: u64,
    /// The change that made it what it is.
    pub(crate) seq: u64,
    pub(crate) changed: Timestamp,
    /// The change that deleted it; descendants of a deleted folder carry the folder's.
    pub(crate) deleted: Option<u64>,
    /// The folder it left by its last move, and the change that moved it.
    pub(crate) left: Option<(String, u64)>,
}

/// The times a client may set.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stamps {
    pub(crate) created: Timestamp,
    pub(crate) modified: Timestamp,
}

/// What an item is.
#[derive(Debug)]
pub(crate) enum Kind {
    Folder(Folder),
    File(FileBody),
    /// A notebook: neither file nor folder.
    Package,
}

/// A folder's children, by the key under which names are one, and the size of all below.
#[derive(Debug, Default)]
pub(crate) struct Folder {
    pub(crate) children: BTreeMap<String, String>,
    pub(crate) size: u64,
}

/// A file's present content and those before it.
#[derive(Debug)]
pub(crate) struct FileBody {
    pub(crate) content: Content,
    /// The number of the present version; the first is 1.
    pub(crate) number: u32,
    /// Older ones, oldest first.
    pub(crate) older: Vec<Version>,
}

/// A content that was replaced.
#[derive(Debug)]
pub(crate) struct Version {
    pub(crate) number: u32,
    pub(crate) content: Content,
    pub(crate) modified: Timestamp,
}

/// What makes an item special.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mark {
    /// An infected file: its content is refused.
    Malware,
    /// A locked vault: its children are refused.
    Vault,
    /// Open in an editor elsewhere: changes are refused with 423.
    Locked,
}

impl Item {
    pub(crate) fn folder(&self) -> Option<&Folder> {
        match &self.kind {
            Kind::Folder(folder) => Some(folder),
            Kind::File(_) | Kind::Package => None,
        }
    }

    pub(crate) fn file(&self) -> Option<&FileBody> {
        match &self.kind {
            Kind::File(body) => Some(body),
            Kind::Folder(_) | Kind::Package => None,
        }
    }

    pub(crate) fn size(&self) -> u64 {
        match &self.kind {
            Kind::Folder(folder) => folder.size,
            Kind::File(body) => body.content.length(),
            Kind::Package => 0,
        }
    }

    pub(crate) fn is_root(&self) -> bool {
        self.parent.is_none()
    }

    pub(crate) fn is_live(&self) -> bool {
        self.deleted.is_none()
    }
}
