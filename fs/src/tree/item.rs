//! A drive item: a file or folder as OneDrive knows it.
//!
//! Plain values in the words of `graph-api.md` section 3. Ids and tags are opaque: equal or not
//! equal, never ordered, never parsed (sections 1.2 and 3.2). The text of an id is there once, however many hold it:
//! a million files are known by some five ids each.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

macro_rules! opaque {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Takes the text as the service gave it.
            pub fn new(text: impl Into<Arc<str>>) -> Self {
                Self(text.into())
            }

            /// The text as the service gave it.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

opaque! {
    /// A drive's id.
    DriveId
}
opaque! {
    /// A drive item's id: its name in the drive for life, kept over rename and move.
    ItemId
}
opaque! {
    /// The version of an item: moves with content, name, and the server's own later work.
    ETag
}
opaque! {
    /// The version of an item's content alone, as far as the back end keeps to that.
    CTag
}

/// Between the drive and the item in the id of an item that is in another drive. Neither id
/// contains it: both stand in URLs as one segment.
const ELSEWHERE: char = '/';

impl ItemId {
    /// The id of an item in another drive than the mounted one, as a shortcut leads to.
    #[must_use]
    pub fn in_drive(drive: &DriveId, item: &str) -> Self {
        Self::new(format!("{drive}{ELSEWHERE}{item}"))
    }

    /// Drive and item, when the item is in another drive than the mounted one.
    #[must_use]
    pub fn elsewhere(&self) -> Option<(&str, &str)> {
        self.as_str().split_once(ELSEWHERE)
    }
}

/// `QuickXorHash`, the one hash that every kind of drive gives: 20 bytes (section 3.3).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct QuickXorHash(pub [u8; 20]);

impl fmt::Debug for QuickXorHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.0 {
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

/// An item as the drive last described it.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// Its id.
    pub id: ItemId,
    /// The folder that holds it; none for the drive's root.
    pub parent: Option<ItemId>,
    /// Its name as stored; missing on the tombstones of business drives.
    pub name: Option<String>,
    /// What it is.
    pub facet: ItemFacet,
    /// Bytes; for folders, and on tombstones, without meaning.
    pub size: u64,
    /// Version of the item.
    pub etag: Option<ETag>,
    /// Version of its content.
    pub ctag: Option<CTag>,
    /// `fileSystemInfo.lastModifiedDateTime`, else the server's own time.
    pub modified: Option<SystemTime>,
    /// `fileSystemInfo.createdDateTime`, else the server's own time.
    pub created: Option<SystemTime>,
}

/// What kind of thing an item is. Unknown facets are [`Other`](Self::Other): shown never, kept always.
#[derive(Clone, Debug, PartialEq)]
pub enum ItemFacet {
    /// A file, with its hash where the service gave one: a missing hash is unknown, not different.
    File {
        /// Hash of the content.
        hash: Option<QuickXorHash>,
        /// The service refuses to hand the content out.
        malware: bool,
    },
    /// A folder.
    Folder,
    /// A tombstone in a delta.
    Deleted,
    /// A link to an item of another drive ("Add to `OneDrive`"). What it leads to is reached by
    /// [`ItemId::in_drive`]; to delete it removes the link alone.
    Shortcut {
        /// The drive that has the item.
        drive: DriveId,
        /// The item there.
        item: ItemId,
        /// It is a folder.
        folder: bool,
    },
    /// `OneNote` packages and whatever else is neither file nor folder.
    Other,
}
