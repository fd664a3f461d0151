//! Bytes to the drive: `graph-api.md` section 7.
//!
//! A small file is one request. A large one, or one that carries a time of its own on a drive that
//! would make a second version of it, goes through an upload [`session`](super::session). What
//! ended in doubt is looked at before it is repeated.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use reqwest::Method;
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, IF_MATCH};

use super::address::{child, item, quoted};
use super::client::{Graph, Load};
use super::send::{Repeat, Tries, Trouble, unavailable};
use crate::ports::{Drive, DriveError, Update, Upload, UploadTarget};
use crate::tree::{Item, ItemFacet};

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
        // A session keeps the time without a second version (trap T17); empty files cannot have
        // one (trap T16), and an empty version costs nothing.
        let in_session = upload.size > SMALL
            || (upload.size > 0 && upload.modified.is_some() && self.kind.has_versions());
        if in_session {
            return self.send_in_session(&upload).await;
        }
        let item = self.put(&upload).await?;
        match upload.modified {
            Some(_) => self.set_time(item, &upload).await,
            None => Ok(item),
        }
    }

    /// `…:/name:` or `…/items/{id}`, to be followed by an action.
    pub(super) fn target(&self, target: &UploadTarget) -> String {
        match target {
            UploadTarget::New { parent, name } => child(&self.drive, parent, name),
            UploadTarget::Replace { id, .. } => item(&self.drive, id),
        }
    }

    async fn put(&self, upload: &Upload) -> Result<Item, DriveError> {
        let bytes = read(&upload.file, 0, upload.size).await?;
        let (behaviour, held) = match &upload.target {
            UploadTarget::New { .. } => ("?@microsoft.graph.conflictBehavior=fail", None),
            UploadTarget::Replace { held, .. } => ("", held.as_ref()),
        };
        let url = format!(
            "{}/content{behaviour}",
            self.url(&self.target(&upload.target))
        );
        let mut tries = Tries::new();
        loop {
            let sent = self
                .wire
                .send(Repeat::Knowingly, Load::Up, Method::PUT, &url, |request| {
                    let request = request
                        .header(CONTENT_TYPE, "application/octet-stream")
                        .header(CONTENT_LENGTH, bytes.len())
                        .body(bytes.clone());
                    match held {
                        Some(held) => request.header(IF_MATCH, quoted(held.as_str())),
                        None => request,
                    }
                });
            let what = match sent.await {
                Ok(reply) => return self.sent(&reply, upload).await,
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

    /// The item of a reply that confirms an upload. Some are empty or cannot be read, though it
    /// took effect: then the item is asked for.
    pub(super) async fn sent(
        &self,
        reply: &super::send::Reply,
        upload: &Upload,
    ) -> Result<Item, DriveError> {
        match reply.json("the uploaded item") {
            Ok(wire) => Ok(self.keep(wire)),
            Err(_) => self.look(&upload.target).await,
        }
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
            let Some(theirs) = hash else {
                if look < LOOKS {
                    tokio::time::sleep(LAG).await;
                }
                continue;
            };
            let (file, size) = (Arc::clone(&upload.file), upload.size);
            let hashing = tokio::task::spawn_blocking(move || {
                crate::content::hash::quick_xor_of(&file, size)
            });
            let ours = hashing
                .await
                .map_err(std::io::Error::other)
                .and_then(|hash| hash);
            let same = ours.map_err(DriveError::Disk)? == theirs;
            if same {
                tracing::debug!(item = %found.id, "the upload had taken effect without a reply");
            }
            return Ok(same.then_some(found));
        }
        Ok(None)
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

/// The item is at the very version that we were to replace: ours has not arrived.
fn still_held(target: &UploadTarget, found: &Item) -> bool {
    match target {
        UploadTarget::New { .. } => false,
        UploadTarget::Replace { held, .. } => held.is_some() && *held == found.etag,
    }
}

/// Reads what is to be sent, all of it or none.
pub(super) async fn read(file: &Arc<File>, offset: u64, len: u64) -> Result<Bytes, DriveError> {
    let file = Arc::clone(file);
    let len = usize::try_from(len)
        .map_err(|_| DriveError::Disk(std::io::Error::other("more than fits into memory")))?;
    let read = tokio::task::spawn_blocking(move || {
        let mut bytes = vec![0; len];
        file.read_exact_at(&mut bytes, offset)?;
        Ok(bytes)
    });
    let bytes = read
        .await
        .map_err(std::io::Error::other)
        .and_then(|read| read);
    bytes.map(Bytes::from).map_err(DriveError::Disk)
}
