//! One file or folder: what the application sees, and what the drive has of it.
//!
//! What is still to be sent is not written down anywhere: it is the difference between the two
//! halves. So it cannot get out of step with them, and changes fold by themselves: a file created
//! and deleted again before an upload leaves no difference, and nothing is sent.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::{CTag, ContentId, ETag, Generation, ItemId, NodeId, QuickXorHash};

/// File or folder. What is neither stays known, so that its folder is not taken for empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A file.
    File,
    /// A folder.
    Directory,
    /// A `OneNote` package, a shortcut, …: never shown, never touched.
    Hidden,
}

/// Where a node is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Its folder.
    pub parent: NodeId,
    /// Its name there.
    pub name: String,
}

/// Bytes on our disk: a whole, sealed content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// The content file.
    pub content: ContentId,
    /// Which of the node's contents it is.
    pub generation: Generation,
    /// How many bytes.
    pub size: u64,
    /// Their hash; large files get theirs when somebody asks.
    pub hash: Option<QuickXorHash>,
}

/// A content that a request of ours may have left on the drive without our hearing of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trace {
    /// Which of the node's contents it was.
    pub generation: Generation,
    /// How many bytes.
    pub size: u64,
    /// Their hash.
    pub hash: QuickXorHash,
}

/// Traces that a node keeps. A file that is closed more often than this before a single upload of
/// it is confirmed may end up beside a copy of itself, which loses nothing.
const TRACES: usize = 16;

/// The item as the drive last described it to us.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Baseline {
    /// The item.
    pub item: ItemId,
    /// Its folder on the drive.
    pub parent: ItemId,
    /// Its name on the drive.
    pub name: String,
    /// Its version.
    pub etag: Option<ETag>,
    /// The version of its content.
    pub ctag: Option<CTag>,
    /// Its size on the drive.
    pub size: u64,
    /// Its hash on the drive.
    pub hash: Option<QuickXorHash>,
    /// Which of the node's contents the drive has.
    pub generation: Generation,
}

/// A change that the drive refuses: it waits for a person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parked {
    /// The drive's reason.
    pub why: String,
    /// Since when.
    pub since: SystemTime,
}

/// One file or folder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// Its number.
    pub id: NodeId,
    /// Where the application sees it; the root has none.
    pub place: Option<Place>,
    /// What it is.
    pub kind: Kind,
    /// Size of the newest content, the one being written included.
    pub size: u64,
    /// When the content last changed, as the application wrote or set it.
    pub mtime: SystemTime,
    /// When it was last read, where an application has set that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub atime: Option<SystemTime>,
    /// When anything about it last changed.
    pub ctime: SystemTime,
    /// When it was made.
    pub btime: SystemTime,
    /// The newest sealed content.
    pub generation: Generation,
    /// That content's bytes, when our disk has all of them.
    pub held: Option<Held>,
    /// What the drive has.
    pub baseline: Option<Baseline>,
    /// Folders: the folder of another drive that this link leads to (trap T29).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<ItemId>,
    /// Contents before the newest one that may have been sent, and that nobody confirmed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub traces: Vec<Trace>,
    /// An application set the time, and the drive has not heard of it.
    #[serde(default)]
    pub mtime_unsent: bool,
    /// Folders: every child is known.
    #[serde(default)]
    pub listed: bool,
    /// Folders: when all children were last compared with the drive's.
    #[serde(default)]
    pub listed_at: Option<SystemTime>,
    /// The drive says that it is gone, with suspiciously much else: a person decides.
    #[serde(default)]
    pub withheld: Option<SystemTime>,
    /// Remembered by `chmod`.
    #[serde(default)]
    pub mode: Option<u32>,
    /// Remembered by `chown`.
    #[serde(default)]
    pub uid: Option<u32>,
    /// Remembered by `chown`.
    #[serde(default)]
    pub gid: Option<u32>,
    /// Since when the drive has been behind.
    #[serde(default)]
    pub pending_since: Option<SystemTime>,
    /// The drive refuses what is pending.
    #[serde(default)]
    pub parked: Option<Parked>,
}

impl Node {
    /// A node that the drive knows nothing of yet.
    #[must_use]
    pub fn new(id: NodeId, place: Place, kind: Kind, now: SystemTime) -> Self {
        Self {
            id,
            place: Some(place),
            kind,
            size: 0,
            mtime: now,
            atime: None,
            ctime: now,
            btime: now,
            generation: Generation(0),
            held: None,
            baseline: None,
            target: None,
            traces: Vec::new(),
            mtime_unsent: false,
            // Nobody else can have put anything into a folder that the drive has never seen.
            listed: kind == Kind::Directory,
            listed_at: Some(now),
            withheld: None,
            mode: None,
            uid: None,
            gid: None,
            pending_since: None,
            parked: None,
        }
    }

    /// The items that stand for it: its own, and what it leads to.
    pub fn items(&self) -> impl Iterator<Item = &ItemId> {
        let own = self.baseline.as_ref().map(|base| &base.item);
        own.into_iter().chain(&self.target)
    }

    /// Contents that the item may have, though its description does not say so: requests may have
    /// carried them, or they came as a newer version than the one that was described.
    #[must_use]
    pub fn unconfirmed(&self) -> Vec<Trace> {
        let told = self.baseline.as_ref().and_then(|base| base.hash);
        let newest = self.held.as_ref();
        let newest = newest.filter(|held| self.content_pending() || held.hash != told);
        let newest = newest.and_then(|held| {
            Some(Trace {
                generation: held.generation,
                size: held.size,
                hash: held.hash?,
            })
        });
        self.traces.iter().cloned().chain(newest).collect()
    }

    /// Takes newly sealed content. What it replaces is returned, and leaves a trace, if the drive
    /// has not confirmed it. What was refused of that is not refused of this.
    pub fn seal(&mut self, held: Held) -> Option<Held> {
        self.parked = None;
        let old = self.held.replace(held)?;
        let confirmed = self.baseline.as_ref().map(|base| base.generation);
        if let Some(hash) = old
            .hash
            .filter(|_| confirmed.is_none_or(|g| g < old.generation))
        {
            self.traces.push(Trace {
                generation: old.generation,
                size: old.size,
                hash,
            });
            let over = self.traces.len().saturating_sub(TRACES);
            self.traces.drain(..over);
        }
        Some(old)
    }

    /// Which of our own contents an item on the drive has, if it is one that a request may have
    /// carried.
    #[must_use]
    pub fn recognise(&self, size: u64, hash: Option<QuickXorHash>) -> Option<Generation> {
        let hash = hash?;
        let newest = self.held.as_ref().filter(|held| held.hash == Some(hash));
        let newest = newest.filter(|held| held.size == size);
        let trace = |trace: &&Trace| trace.size == size && trace.hash == hash;
        newest
            .map(|held| held.generation)
            .or_else(|| Some(self.traces.iter().rev().find(trace)?.generation))
    }

    /// Whether there is sealed content that the drive lacks.
    #[must_use]
    pub fn content_pending(&self) -> bool {
        let confirmed = self.baseline.as_ref().map(|b| b.generation);
        self.kind == Kind::File
            && self
                .held
                .as_ref()
                .is_some_and(|held| confirmed.is_none_or(|c| c < held.generation))
    }

    /// Whether the bytes on our disk may be given up: the drive confirmed just these.
    #[must_use]
    pub fn evictable(&self) -> Option<ContentId> {
        match (&self.held, &self.baseline, self.withheld) {
            (Some(held), Some(base), None) if held.generation == base.generation => {
                Some(held.content)
            }
            _ => None,
        }
    }
}

/// What is left of a node that was deleted here and not yet on the drive.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Grave {
    /// The item to delete.
    pub item: ItemId,
    /// Its folder on the drive.
    pub parent: ItemId,
    /// Its name on the drive, taken until the deletion has run.
    pub name: String,
    /// The version that was deleted: a newer one was made by somebody else, and stays.
    pub etag: Option<ETag>,
    /// The content that was deleted.
    #[serde(default)]
    pub hash: Option<QuickXorHash>,
    /// File or folder.
    pub kind: Kind,
    /// Since when.
    pub since: SystemTime,
    /// The drive refuses to delete it.
    #[serde(default)]
    pub parked: Option<Parked>,
    /// Contents that requests of ours may have given it since.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub traces: Vec<Trace>,
    /// It is not known whether there is an item at all: a request that was to make it had no reply.
    /// Then `item` is a word of ours, and only a file with one of the traces is meant.
    #[serde(default)]
    pub sought: bool,
    /// What is sought was asked for by this node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<NodeId>,
}

impl Grave {
    /// Whether a content of the item is one that we knew or gave it.
    #[must_use]
    pub fn knows(&self, size: u64, hash: Option<QuickXorHash>) -> bool {
        let given = |trace: &Trace| trace.size == size && Some(trace.hash) == hash;
        hash.is_some() && (self.hash == hash || self.traces.iter().any(given))
    }
}
