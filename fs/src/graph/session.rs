//! Upload sessions: opened, resumed, ended (sections 7.2 and 7.4).
//!
//! A session is written down before its first byte goes, so that a restart goes on where the last
//! run stopped. One that is lost is begun anew, once; one that is given up is cancelled, since it
//! holds its name; one that the network took away is kept for the next try.

use std::time::SystemTime;

use reqwest::Method;
use serde::Deserialize;
use serde_json::json;

use super::DriveKind;
use super::client::Graph;
use super::fragments::{End, Sent};
use super::lanes::Load;
use super::notes::Note;
use super::pieces::STEP;
use super::send::unavailable;
use super::upload::near;
use super::wire::stamp;
use crate::ports::{Drive, DriveError, Upload, UploadTarget};
use crate::tree::Item;

/// Sessions that one call opens. What both lose is left to the outbox, which waits longer.
const SESSIONS: u32 = 2;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireSession {
    upload_url: String,
}

/// Where an upload begins.
struct Begun {
    url: String,
    at: u64,
}

impl Graph {
    pub(super) async fn send_in_session(&self, upload: &Upload) -> Result<Item, DriveError> {
        match self.look_ahead(upload).await {
            Ok(()) => {}
            // Of ours, perhaps: the last run may not have heard that it was done.
            Err(DriveError::Conflict) => match self.notes.find(upload, SystemTime::now()) {
                Some(note) => return self.ended(upload, note).await,
                None => return Err(DriveError::Conflict),
            },
            Err(error) => return Err(error),
        }
        let mut why = String::new();
        for session in 0..SESSIONS {
            if session > 0 {
                self.look_ahead(upload).await?;
            }
            let begun = match self.begin(upload).await {
                Ok(Ok(begun)) => begun,
                Ok(Err(item)) => return Ok(item),
                // Where only the file is shared, and not its folder, no session can be had (trap
                // T47); where the item is gone, this says so.
                Err(DriveError::NotFound) if is_replacement(upload) => {
                    return self.put(upload).await;
                }
                Err(error) => return Err(error),
            };
            match self.fragments(upload, &begun.url, begun.at).await {
                Ok(sent) => {
                    self.notes.forget(&begun.url).await;
                    return match sent {
                        Sent::Reply(reply) => self.sent(&reply, upload).await,
                        Sent::Arrived(item) => Ok(item),
                    };
                }
                Err(End::Failed(error)) if is_passing(&error) => return Err(error),
                Err(End::Failed(error)) => {
                    self.give_up(&begun.url).await;
                    return Err(error);
                }
                Err(End::Lost(what)) => why = what,
            }
            if let Some(item) = self.arrived(upload).await? {
                self.notes.forget(&begun.url).await;
                return Ok(item);
            }
            self.give_up(&begun.url).await;
        }
        Err(unavailable(format!("the upload session was lost ({why})")))
    }

    /// Looks before a session is opened, so that nothing is sent in vain. What goes in one fragment is
    /// looked at right before that, unless the last run may have sent it.
    async fn look_ahead(&self, upload: &Upload) -> Result<(), DriveError> {
        if upload.size <= STEP && self.notes.find(upload, SystemTime::now()).is_none() {
            return Ok(());
        }
        self.look_before(upload).await
    }

    /// Looks whether an item still is at the version that is to be replaced. If-Match on a session has
    /// failed with the right tag (trap T18), so this is done before it is opened and before it is
    /// committed.
    pub(super) async fn look_before(&self, upload: &Upload) -> Result<(), DriveError> {
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
        Ok(())
    }

    /// What an earlier content left open would block the name (trap T11).
    pub(super) async fn end_superseded(&self, upload: &Upload) {
        for note in self.notes.take_superseded(upload) {
            self.give_up(&note.url).await;
        }
    }

    /// The session of the last run, where it got to; else a new one. `Err`: the last run had sent
    /// everything.
    async fn begin(&self, upload: &Upload) -> Result<Result<Begun, Item>, DriveError> {
        if let Some(note) = self.notes.find(upload, SystemTime::now()) {
            // Gone as a rule means done; so the item is looked at before the session is again.
            let mut at = self.peek(&note.url).await;
            if at.is_none() {
                if let Some(item) = self.arrived(upload).await? {
                    self.notes.forget(&note.url).await;
                    return Ok(Err(item));
                }
                at = match self.look_at(&note.url, &mut 0).await {
                    Ok(at) => Some(at),
                    Err(End::Failed(error)) => return Err(error),
                    Err(End::Lost(what)) => {
                        tracing::debug!(what, "an upload begins anew");
                        None
                    }
                };
            }
            if let Some(at) = at.filter(|at| *at < upload.size) {
                tracing::debug!(at, size = upload.size, "going on with an upload");
                return Ok(Ok(Begun { url: note.url, at }));
            }
            self.give_up(&note.url).await;
        }
        let url = self.open_session(upload).await?;
        let now = SystemTime::now();
        let note = Note::of(upload, url.clone(), now);
        self.notes.put(note, now).await;
        Ok(Ok(Begun { url, at: 0 }))
    }

    /// The item has moved on from the version that a session of ours was to replace.
    async fn ended(&self, upload: &Upload, note: Note) -> Result<Item, DriveError> {
        let arrived = self.arrived(upload).await?;
        self.give_up(&note.url).await;
        arrived.ok_or(DriveError::Conflict)
    }

    async fn open_session(&self, upload: &Upload) -> Result<String, DriveError> {
        // Always said: the default is not the documented one (section 7.2).
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
        let url = self.target(&upload.target, "/createUploadSession");
        let body = json!({ "item": asked });
        let asked = self.young.insist(near(&upload.target), || {
            self.wire
                .ask(Method::POST, &url, |request| request.json(&body))
        });
        let reply = asked.await?;
        Ok(reply.json::<WireSession>("the upload session")?.upload_url)
    }

    /// A session that nobody will finish holds its name on business drives (trap T11).
    async fn give_up(&self, url: &str) {
        self.cancel(url).await;
        self.notes.forget(url).await;
    }

    async fn cancel(&self, url: &str) {
        let gone = self
            .wire
            .storage(Load::Small, Method::DELETE, url, |request| request)
            .await;
        if gone.is_err() {
            tracing::debug!("cannot cancel an upload session; it ends by itself");
        }
    }
}

fn is_replacement(upload: &Upload) -> bool {
    matches!(upload.target, UploadTarget::Replace { .. })
}

/// Errors that have nothing to do with the session: the next try goes on with it.
fn is_passing(error: &DriveError) -> bool {
    matches!(
        error,
        DriveError::Unavailable { .. } | DriveError::SignIn(_) | DriveError::Locked(_)
    )
}
