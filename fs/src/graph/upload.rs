//! Bytes to the drive: `graph-api.md` section 7.
//!
//! A small file is one request. A large one, or one that carries a time of its own on a drive that
//! would make a second version of it, goes through an upload [`session`](super::session). What
//! ended in doubt is looked at before it is repeated.

use std::sync::Arc;
use std::time::Duration;

use reqwest::Method;
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, IF_MATCH};

use super::address::{and, child, item, quoted};
use super::client::Graph;
use super::lanes::Load;
use super::pieces::{Pieces, read};
use super::send::{Repeat, Trouble, unavailable};
use super::tries::Tries;
use crate::ports::{Drive, DriveError, Update, Upload, UploadTarget};
use crate::tree::{ETag, Item, ItemFacet, ItemId};

/// The largest file that is sent in one request (section 7.1): larger ones would have to be sent
/// anew as a whole when the line breaks.
pub(super) const SMALL: u64 = 4 << 20;

/// Looks at an item that has our size and does not tell its hash yet: hashes come a little later
/// than items (section 3.3).
const LOOKS: u32 = 3;

/// Between two such looks, and before a time is set on an item that is not visible yet.
const LAG: Duration = Duration::from_secs(1);

impl Graph {
    pub(super) async fn upload_file(&self, upload: Upload) -> Result<Item, DriveError> {
        self.end_superseded(&upload).await;
        // A session keeps the time without a second version (trap T17); empty files cannot have
        // one (trap T16), and an empty version costs nothing.
        let in_session = upload.size > SMALL
            || (upload.size > 0 && upload.modified.is_some() && self.kind.has_versions());
        if in_session {
            return self.send_in_session(&upload).await;
        }
        let there = near(&upload.target);
        let sent = self.young.insist(there, || self.put(&upload)).await;
        let sent = match sent {
            // The service's content rules answer so for an item that is there (trap T40).
            Err(DriveError::NotFound) => self.put_again(&upload).await,
            sent => sent,
        };
        let item = sent?;
        match upload.modified {
            Some(_) => self.set_time(item, &upload).await,
            None => Ok(item),
        }
    }

    /// The URL of an action on what is to be written.
    pub(super) fn target(&self, target: &UploadTarget, action: &str) -> String {
        let path = match target {
            UploadTarget::New { parent, name } => {
                child(self.form(), &self.drive, parent, name, action)
            }
            UploadTarget::Replace { id, .. } => format!("{}{action}", item(&self.drive, id)),
        };
        self.url(&path)
    }

    /// Once more, where a look says that what seems absent is there.
    async fn put_again(&self, upload: &Upload) -> Result<Item, DriveError> {
        let there = near(&upload.target);
        self.item(there).await?;
        tokio::time::sleep(LAG).await;
        match self.put(upload).await {
            // Not absent: the library does not let it be written. The outbox parks it.
            Err(DriveError::NotFound) => Err(DriveError::Refused {
                code: "contentRefused".into(),
                message: "the drive has it, and answers 404 when it is written".into(),
            }),
            sent => sent,
        }
    }

    /// All bytes in one request.
    pub(super) async fn put(&self, upload: &Upload) -> Result<Item, DriveError> {
        let pieces = Pieces::new(&upload.file, 0, upload.size, &self.wire.up);
        // Small ones are read beforehand: an unreadable one costs no request.
        let bytes = if upload.size <= SMALL && !self.wire.up.is_set() {
            let bytes = read(&upload.file, 0, upload.size).await;
            Some(bytes.map_err(DriveError::Disk)?)
        } else {
            None
        };
        let (behaviour, mut held) = match &upload.target {
            UploadTarget::New { .. } => ("fail", None),
            UploadTarget::Replace { held, .. } => ("replace", held.as_ref()),
        };
        let url = and(
            self.target(&upload.target, "/content"),
            &format!("@microsoft.graph.conflictBehavior={behaviour}"),
        );
        let mut tries = Tries::new();
        loop {
            let sent = self
                .wire
                .send(Repeat::Knowingly, Load::Up, Method::PUT, &url, |request| {
                    let body = bytes.clone().map_or_else(|| pieces.body(), Into::into);
                    let request = request
                        .header(CONTENT_TYPE, "application/octet-stream")
                        .header(CONTENT_LENGTH, pieces.len())
                        .body(body);
                    match held {
                        Some(held) => request.header(IF_MATCH, quoted(held.as_str())),
                        None => request,
                    }
                });
            let sent = sent.await;
            if let Some(fault) = pieces.fault() {
                return Err(fault);
            }
            let what = match sent {
                Ok(reply) => return self.sent(&reply, upload).await,
                Err(Trouble::Known(DriveError::Conflict))
                    if self.is_still_at(&upload.target, held).await? =>
                {
                    held = None;
                    continue;
                }
                Err(Trouble::Known(error)) => return Err(error),
                Err(Trouble::Unclear(what)) => what,
            };
            if let Some(item) = self.arrived(upload).await? {
                return Ok(item);
            }
            let pause = tries.pause();
            if tries.spent() {
                return Err(unavailable(what));
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// Whether a 412 is a mistake: some accounts answer so with the right tag, too (trap T18).
    async fn is_still_at(
        &self,
        target: &UploadTarget,
        held: Option<&ETag>,
    ) -> Result<bool, DriveError> {
        match (target, held) {
            (UploadTarget::Replace { id, .. }, Some(held)) => self.stands_at(id, held).await,
            _ => Ok(false),
        }
    }

    /// Whether an item is at a version.
    pub(super) async fn stands_at(&self, id: &ItemId, held: &ETag) -> Result<bool, DriveError> {
        match self.item(id).await {
            Ok(found) => Ok(found.etag.as_ref() == Some(held)),
            Err(DriveError::NotFound) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The item of a reply that confirms an upload. Some are empty or cannot be read, though it
    /// took effect: then the item is asked for.
    pub(super) async fn sent(
        &self,
        reply: &super::send::Reply,
        upload: &Upload,
    ) -> Result<Item, DriveError> {
        match reply.json("the uploaded item") {
            Ok(wire) => {
                let item = self.keep(wire, near(&upload.target));
                self.young.note(&item.id);
                Ok(item)
            }
            Err(_) => self.looked(upload).await,
        }
    }

    /// What a look says of an upload that took effect: unless somebody has written over it since.
    async fn looked(&self, upload: &Upload) -> Result<Item, DriveError> {
        let item = self.look(&upload.target).await?;
        let told = matches!(item.facet, ItemFacet::File { hash: Some(_), .. });
        if item.size == upload.size && (!told || self.has_bytes(&item, upload).await?) {
            return Ok(item);
        }
        Err(match upload.target {
            UploadTarget::New { .. } => DriveError::NameTaken,
            UploadTarget::Replace { .. } => DriveError::Conflict,
        })
    }

    async fn look(&self, target: &UploadTarget) -> Result<Item, DriveError> {
        match target {
            UploadTarget::New { parent, name } => self.child(parent, name).await,
            UploadTarget::Replace { id, .. } => self.item(id).await,
        }
    }

    /// After an upload that ended in doubt: the item, if it is there with just these bytes
    /// (trap T15).
    pub(super) async fn arrived(&self, upload: &Upload) -> Result<Option<Item>, DriveError> {
        for look in 1..=LOOKS {
            let found = match self.look(&upload.target).await {
                Err(DriveError::NotFound) => return Ok(None),
                other => other?,
            };
            let ItemFacet::File { hash, .. } = found.facet else {
                return Ok(None);
            };
            if found.size != upload.size || still_held(&upload.target, &found) {
                return Ok(None);
            }
            if upload.size == 0 {
                return Ok(Some(found));
            }
            if hash.is_none() {
                if look < LOOKS {
                    tokio::time::sleep(LAG).await;
                }
                continue;
            }
            let same = self.has_bytes(&found, upload).await?;
            if same {
                tracing::debug!(item = %found.id, "the upload had taken effect without a reply");
            }
            return Ok(same.then_some(found));
        }
        Ok(None)
    }

    /// Whether an item tells the hash of what was to be uploaded.
    async fn has_bytes(&self, item: &Item, upload: &Upload) -> Result<bool, DriveError> {
        let ItemFacet::File {
            hash: Some(theirs), ..
        } = item.facet
        else {
            return Ok(false);
        };
        let (file, size) = (Arc::clone(&upload.file), upload.size);
        let hashing =
            tokio::task::spawn_blocking(move || crate::content::hash::quick_xor_of(&file, size));
        let ours = hashing
            .await
            .map_err(std::io::Error::other)
            .and_then(|hash| hash);
        Ok(ours.map_err(DriveError::Disk)? == theirs)
    }

    /// Sets the time that an application gave, by a request of its own.
    async fn set_time(&self, item: Item, upload: &Upload) -> Result<Item, DriveError> {
        let update = || Update {
            modified: upload.modified,
            ..Update::default()
        };
        let mut set = self.update(&item.id, update()).await;
        if matches!(set, Err(DriveError::NotFound)) {
            // Not visible yet, a moment after it was made (section 7.6).
            tokio::time::sleep(LAG).await;
            set = self.update(&item.id, update()).await;
        }
        match set {
            // Somebody has written it meanwhile: what we know is the version that we made.
            Ok(other) if !is_same(&item, &other) => Ok(item),
            Ok(item) => Ok(item),
            // The bytes are there, which counts for more than a time that the drive will not take.
            Err(
                error @ (DriveError::Refused { .. }
                | DriveError::NotSupported(_)
                | DriveError::Conflict
                | DriveError::Locked(_)),
            ) => {
                tracing::warn!(item = %item.id, %error, "uploaded, but its time was not taken");
                Ok(item)
            }
            Err(error) => Err(error),
        }
    }
}

/// Whether two descriptions tell of the same content, as far as they tell of it.
fn is_same(item: &Item, other: &Item) -> bool {
    let hash = |item: &Item| match item.facet {
        ItemFacet::File { hash, .. } => hash,
        _ => None,
    };
    let hashes = hash(item).zip(hash(other));
    item.size == other.size && hashes.is_none_or(|(ours, theirs)| ours == theirs)
}

/// What has to be there for an upload to be taken.
pub(super) fn near(target: &UploadTarget) -> &ItemId {
    match target {
        UploadTarget::New { parent, .. } => parent,
        UploadTarget::Replace { id, .. } => id,
    }
}

/// The item is at the very version that we were to replace: ours has not arrived.
fn still_held(target: &UploadTarget, found: &Item) -> bool {
    match target {
        UploadTarget::New { .. } => false,
        UploadTarget::Replace { held, .. } => held.is_some() && *held == found.etag,
    }
}
