//! Bytes to the drive: `graph-api.md` section 7.
//!
//! A small file is one request. A large one, or one that carries a time of its own, goes through
//! an upload session: fragments in order, to a URL that takes no token. A session that lost a
//! reply is asked what it has; one whose last fragment ended in doubt is judged by the item.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{CONTENT_RANGE, CONTENT_TYPE, IF_MATCH};
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde_json::json;

use super::DriveKind;
use super::address::{child, item, quoted};
use super::client::{Graph, Reply};
use super::wire::stamp;
use crate::ports::{Drive, DriveError, Update, Upload, UploadTarget};
use crate::tree::{Item, ItemFacet};

/// The largest file that is sent in one request (section 7.1): larger ones would have to be sent
/// anew as a whole when the line breaks.
const SMALL: u64 = 4 << 20;

/// A fragment: a multiple of 320 KiB, in the recommended span of 5 to 10 MiB (section 7.3). Held in
/// memory while it is under way, once for each upload.
const FRAGMENT: u64 = 32 * 327_680;

/// How often a session is asked how far it is, before the upload is given back to the outbox.
const LOOKS: u32 = 6;

/// Between two looks: sessions that are lost by a router come back within seconds (trap T14).
const LOOK_AGAIN: Duration = Duration::from_secs(2);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireSession {
    upload_url: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireProgress {
    #[serde(default)]
    next_expected_ranges: Vec<String>,
}

impl Graph {
    pub(super) async fn send(&self, upload: Upload) -> Result<Item, DriveError> {
        // A session keeps the time without a second version (trap T17); empty files cannot have
        // one (trap T16), and an empty version costs nothing.
        let in_session = upload.size > SMALL
            || (upload.size > 0 && upload.modified.is_some() && self.kind.has_versions());
        if in_session {
            return self.send_in_session(&upload).await;
        }
        let item = self.put(&upload).await?;
        let Some(modified) = upload.modified else {
            return Ok(item);
        };
        // The content is there whether or not its time is; the time is tried again by itself.
        let update = Update {
            modified: Some(modified),
            ..Update::default()
        };
        Ok(self.update(&item.id, update).await.unwrap_or(item))
    }

    fn path(&self, target: &UploadTarget) -> String {
        match target {
            UploadTarget::New { parent, name } => child(&self.drive, parent, name),
            UploadTarget::Replace { id, .. } => item(&self.drive, id),
        }
    }

    async fn put(&self, upload: &Upload) -> Result<Item, DriveError> {
        let bytes = read(&upload.file, 0, upload.size).await?;
        let path = self.path(&upload.target);
        let behaviour = match &upload.target {
            UploadTarget::New { .. } => "?@microsoft.graph.conflictBehavior=fail",
            UploadTarget::Replace { .. } => "",
        };
        let url = format!("{}/content{behaviour}", self.url(&path));
        let reply = self
            .wire
            .graph(Method::PUT, &url, |request| {
                let request = request
                    .header(CONTENT_TYPE, "application/octet-stream")
                    .header(reqwest::header::CONTENT_LENGTH, bytes.len())
                    .body(bytes.clone());
                match &upload.target {
                    UploadTarget::Replace {
                        held: Some(held), ..
                    } => request.header(IF_MATCH, quoted(held.as_str())),
                    UploadTarget::Replace { held: None, .. } | UploadTarget::New { .. } => request,
                }
            })
            .await?;
        self.made(&reply, path.trim_end_matches(':')).await
    }

    async fn send_in_session(&self, upload: &Upload) -> Result<Item, DriveError> {
        // If-Match on a session has failed with the right tag (trap T18): the item is looked at
        // just before instead.
        if let UploadTarget::Replace {
            id,
            held: Some(held),
        } = &upload.target
        {
            let now = self.item(id).await?;
            if now.etag.as_ref() != Some(held) {
                return Err(DriveError::Conflict);
            }
        }
        let behaviour = match upload.target {
            UploadTarget::New { .. } => "fail",
            UploadTarget::Replace { .. } => "replace",
        };
        let mut asked = json!({ "@microsoft.graph.conflictBehavior": behaviour });
        if let Some(modified) = upload.modified {
            asked["fileSystemInfo"] = json!({ "lastModifiedDateTime": stamp(modified) });
        }
        if self.kind == DriveKind::Personal {
            asked["fileSize"] = json!(upload.size); // tells at once when the drive is full
        }
        let path = self.path(&upload.target);
        let url = format!("{}/createUploadSession", self.url(&path));
        let body = json!({ "item": asked });
        let reply = self
            .wire
            .graph(Method::POST, &url, |request| request.json(&body))
            .await?;
        let session: WireSession = reply.json("the upload session")?;
        let sent = self.fragments(upload, &session.upload_url).await;
        match sent {
            Ok(reply) => self.made(&reply, path.trim_end_matches(':')).await,
            Err(error) => {
                if let Some(item) = self.doubtful(upload, &path, &error).await {
                    return Ok(item);
                }
                self.cancel(&session.upload_url).await;
                Err(error)
            }
        }
    }

    /// Sends all fragments; the reply that commits is the last one.
    async fn fragments(&self, upload: &Upload, url: &str) -> Result<Reply, DriveError> {
        let mut at = 0;
        let mut looks = 0;
        loop {
            let end = (at + FRAGMENT).min(upload.size);
            let bytes = read(&upload.file, at, end - at).await?;
            let span = format!("bytes {at}-{}/{}", end - 1, upload.size);
            let sent = self
                .wire
                .storage(Method::PUT, url, false, |request| {
                    request
                        .header(CONTENT_RANGE, &span)
                        .header(reqwest::header::CONTENT_LENGTH, bytes.len())
                        .body(bytes.clone())
                })
                .await;
            match sent {
                Ok(reply) if reply.status == StatusCode::ACCEPTED => {
                    // What it expects next counts, unless it does not say (section 7.3).
                    at = expected(&reply, end).unwrap_or(end);
                    if at >= upload.size {
                        at = self.look(url, upload.size, &mut looks, None).await?;
                    }
                }
                Ok(reply) => return Ok(reply),
                // Stored or not, in order or not: the session knows (trap T13).
                Err(
                    error @ (DriveError::Unavailable { .. }
                    | DriveError::NotFound
                    | DriveError::Refused { .. }),
                ) => {
                    at = self.look(url, upload.size, &mut looks, Some(error)).await?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Asks the session where to go on.
    async fn look(
        &self,
        url: &str,
        size: u64,
        looks: &mut u32,
        why: Option<DriveError>,
    ) -> Result<u64, DriveError> {
        let mut last = why.unwrap_or_else(|| DriveError::Unavailable {
            what: "the upload session has everything and does not commit".into(),
            retry_after: None,
        });
        loop {
            *looks += 1;
            if *looks > LOOKS {
                return Err(last);
            }
            tokio::time::sleep(LOOK_AGAIN).await;
            match self
                .wire
                .storage(Method::GET, url, true, |request| request)
                .await
            {
                Ok(reply) => match expected(&reply, size) {
                    Some(at) if at < size => return Ok(at),
                    _ => return Err(last),
                },
                Err(error @ DriveError::NotFound) => last = error,
                Err(error) => return Err(error),
            }
        }
    }

    /// After an upload that ended in doubt: the item, if it is there with just these bytes
    /// (trap T15).
    async fn doubtful(&self, upload: &Upload, path: &str, error: &DriveError) -> Option<Item> {
        if !matches!(error, DriveError::Unavailable { .. } | DriveError::NotFound) {
            return None;
        }
        let found = match &upload.target {
            UploadTarget::New { parent, name } => self.child(parent, name).await.ok()?,
            UploadTarget::Replace { id, .. } => self.item(id).await.ok()?,
        };
        let ItemFacet::File {
            hash: Some(theirs), ..
        } = found.facet
        else {
            return None;
        };
        if found.size != upload.size {
            return None;
        }
        let (file, size) = (upload.file.clone(), upload.size);
        let ours =
            tokio::task::spawn_blocking(move || crate::content::hash::quick_xor_of(&file, size));
        let ours = ours.await.ok()?.ok()?;
        tracing::debug!(
            path,
            "the upload had taken effect though its reply said otherwise"
        );
        (ours == theirs).then_some(found)
    }

    /// A session that nobody will finish holds its name on business drives (trap T11).
    async fn cancel(&self, url: &str) {
        if let Err(error) = self
            .wire
            .storage(Method::DELETE, url, false, |request| request)
            .await
        {
            tracing::debug!(%error, "cannot cancel an upload session; it ends by itself");
        }
    }
}

/// The first byte that a session still wants.
fn expected(reply: &Reply, otherwise: u64) -> Option<u64> {
    let progress: WireProgress = serde_json::from_slice(&reply.body).ok()?;
    match progress.next_expected_ranges.first() {
        Some(range) => range.split('-').next()?.parse().ok(),
        None => Some(otherwise),
    }
}

/// Reads what is to be sent, all of it or none.
async fn read(file: &Arc<File>, offset: u64, len: u64) -> Result<Bytes, DriveError> {
    let file = file.clone();
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
