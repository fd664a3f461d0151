//! What the use cases ask of the outside, in the use cases' own words.
//!
//! The rim implements these traits: `graph` speaks for the drive, `mount` for the kernel's caches.

use std::fs::File;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::Stream;

use crate::tree::{ContentId, ETag, Item, ItemId, NodeId};

/// The drive, as the filesystem needs it.
///
/// Every call may be repeated: the adapter retries what is safe to retry, within its budget, and
/// reports what is left over. A call whose reply got lost may have taken effect; whoever repeats
/// it finds out by [`NameTaken`](DriveError::NameTaken) or [`Conflict`](DriveError::Conflict).
#[async_trait]
pub trait Drive: Send + Sync + 'static {
    /// One item by id.
    async fn item(&self, id: &ItemId) -> Result<Item, DriveError>;

    /// One item by its name in a folder, or by one that the drive takes for the same (case, NFC):
    /// compare its `name` where that matters. A reply for any other name is `NotFound` (trap T19).
    async fn child(&self, folder: &ItemId, name: &str) -> Result<Item, DriveError>;

    /// All items of a folder, every page of it, each id once.
    async fn children(&self, folder: &ItemId) -> Result<Vec<Item>, DriveError>;

    /// Creates a folder; `NameTaken` when anything of that name exists.
    async fn create_folder(&self, parent: &ItemId, name: &str) -> Result<Item, DriveError>;

    /// The folder at a path from the drive's root, made where it is absent.
    async fn folder_at(&self, path: &str) -> Result<Item, DriveError>;

    /// Sends a file's bytes; small ones in one request, larger ones in an upload session.
    async fn upload(&self, upload: Upload) -> Result<Item, DriveError>;

    /// Renames, moves or sets the time of an item, in one request.
    async fn update(&self, id: &ItemId, update: Update) -> Result<Item, DriveError>;

    /// Moves an item to the recycle bin. An item that is already gone is a success.
    async fn delete(&self, id: &ItemId, held: Option<&ETag>) -> Result<(), DriveError>;

    /// Fetches a range of a file's content. The stream gives the bytes of the range, as far as
    /// `total`, in order, or fails; `total` is the length of the whole content as the storage
    /// host tells it, which may differ from the item's size (trap T5).
    async fn read(&self, id: &ItemId, range: Range<u64>) -> Result<Download, DriveError>;

    /// One page of remote changes.
    async fn delta(&self, from: DeltaFrom) -> Result<DeltaPage, DriveError>;

    /// Space on the drive; `None` when the service does not tell (trap T43).
    async fn quota(&self) -> Result<Option<Quota>, DriveError>;
}

/// Bytes to send. The file is sealed: nobody changes it while it is being read.
#[derive(Clone, Debug)]
pub struct Upload {
    /// Where to.
    pub target: UploadTarget,
    /// Which content it is. Sealed contents never change, so that what an earlier try sent of it
    /// need not be sent again, over restarts.
    pub content: ContentId,
    /// The sealed bytes, read from offset 0.
    pub file: Arc<File>,
    /// How many of them.
    pub size: u64,
    /// A time that an application set, to be carried inside the upload where that costs no
    /// second version; `None`: the service's own time will do.
    pub modified: Option<SystemTime>,
}

/// Where uploaded bytes go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UploadTarget {
    /// A new file; `NameTaken` when the name exists.
    New {
        /// Folder.
        parent: ItemId,
        /// Name in it.
        name: String,
    },
    /// New content for an item; `Conflict` when it is no longer at `held`.
    Replace {
        /// The item.
        id: ItemId,
        /// The eTag that it must still have.
        held: Option<ETag>,
    },
}

/// Changes of an item's metadata, sent in one request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Update {
    /// New folder and name. The name is always given with the folder.
    pub place: Option<(ItemId, String)>,
    /// Replace a file that holds the name; otherwise such a name is `NameTaken`.
    pub replace: bool,
    /// New modification time. Also sent along with a move, which may reset it (section 3.5).
    pub modified: Option<SystemTime>,
    /// The eTag that the item must still have, else `Conflict`.
    pub held: Option<ETag>,
}

/// A range of content on its way.
pub struct Download {
    /// Length of the whole content as the storage host tells it.
    pub total: u64,
    /// The storage host's own name for the version, where it gives one.
    pub version: Option<String>,
    /// The bytes, in order.
    pub bytes: ByteStream,
}

/// Bytes as they arrive.
pub type ByteStream = std::pin::Pin<Box<dyn Stream<Item = Result<Bytes, DriveError>> + Send>>;

/// Where a page of changes starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeltaFrom {
    /// From now on: no items, only a link.
    Now,
    /// Everything there is.
    Start,
    /// The next page, or the next round.
    Link(DeltaLink),
}

/// A next or delta link, kept byte for byte as the service gave it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct DeltaLink(pub String);

/// One page of remote changes.
#[derive(Clone, Debug)]
pub struct DeltaPage {
    /// Items in their latest state; one id may come more than once, the last one counts.
    pub items: Vec<Item>,
    /// What follows.
    pub next: DeltaNext,
}

/// What follows a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeltaNext {
    /// Another page of this round.
    Page(DeltaLink),
    /// The round is complete; the next one starts here.
    Round(DeltaLink),
}

/// Space on a drive, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Quota {
    /// All of it.
    pub total: u64,
    /// What is left, clamped to zero.
    pub remaining: u64,
}

/// The code of [`Refused`](DriveError::Refused) for a folder that cannot be listed at present, as a
/// locked Personal Vault: unreadable, while everything around it is not (trap T28).
pub const LOCKED_VAULT: &str = "lockedVault";

/// Why the drive did not do what was asked, by what should happen next.
#[derive(Debug, thiserror::Error)]
pub enum DriveError {
    /// No such item.
    #[error("the drive has no such item")]
    NotFound,
    /// Something holds the name: also a case or NFC variant, or a running upload.
    #[error("the drive already has something of that name")]
    NameTaken,
    /// The item is no longer at the eTag that was held.
    #[error("the item was changed on the drive meanwhile")]
    Conflict,
    /// Open in Office, checked out, or being moved by the service: try again in minutes.
    #[error("the item is locked on the drive: {0}")]
    Locked(String),
    /// No space on the drive.
    #[error("the drive is full")]
    QuotaFull,
    /// The token is dead: a person has to sign in again (`tuyunfs login`).
    #[error("sign-in is needed: {0}")]
    SignIn(String),
    /// Throttled, or not reachable, and the budget of retries is spent.
    #[error("cannot reach the drive: {what}")]
    Unavailable {
        /// What failed.
        what: String,
        /// How long the service asked to be left alone.
        retry_after: Option<Duration>,
    },
    /// The service refuses for good: another try will not help.
    #[error("the drive refuses ({code}): {message}")]
    Refused {
        /// The service's error code.
        code: String,
        /// Its text.
        message: String,
    },
    /// The delta link is too old: enumerate afresh.
    #[error("the drive lost track of the changes")]
    Resync {
        /// Where to start again, when the service said so.
        start: Option<DeltaLink>,
        /// The service may have lost changes itself: local items it does not list are kept.
        keep_local: bool,
    },
    /// This drive has no delta (China, folders of business drives).
    #[error("the drive does not offer this: {0}")]
    NotSupported(String),
    /// Our own disk, while reading what was to be sent.
    #[error("cannot read the bytes to send")]
    Disk(#[source] std::io::Error),
}

/// The kernel's caches, kept long because they are told what changed.
pub trait Invalidate: Send + Sync + 'static {
    /// A name in a directory no longer means what the kernel may remember, absence included.
    fn entry(&self, parent: NodeId, name: &str);
    /// A node's attributes changed; with `content`, its cached pages too.
    fn node(&self, node: NodeId, content: bool);
}
