//! Upload sessions: fragments in order, to a URL that takes no token (sections 7.2 to 7.4).
//!
//! A session that lost a reply is asked what it has, and goes on there. One whose last fragment
//! ended in doubt is judged by the item. One that is lost is begun anew, once; one that is given
//! up is cancelled, since it holds its name.

use std::time::Duration;

use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE};
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde_json::json;

use super::DriveKind;
use super::classify::Verdict;
use super::client::{Graph, Load};
use super::send::{Reply, unavailable};
use super::upload::read;
use super::wire::stamp;
use crate::ports::{Drive, DriveError, Upload, UploadTarget};
use crate::tree::Item;

/// Sizes of fragments have to be multiples of this (section 7.3): others are taken, and fail at
/// the commit.
const STEP: u64 = 327_680;

/// A fragment, in the recommended span of 5 to 10 MiB. Held in memory while it is under way, once
/// for each upload; a broken line costs at most one.
const FRAGMENT: u64 = 32 * STEP;

const _: () = assert!(FRAGMENT.is_multiple_of(STEP) && FRAGMENT < 60 << 20);

/// Sessions that one call tries. What both lose is left to the outbox, which waits longer.
const SESSIONS: u32 = 2;

/// How often in a row a session is looked at without progress: with waits of 1, 2, 4 and 4 seconds
/// one that a router lost for a moment is found again (trap T14).
const LOOKS: u32 = 4;

/// The longest silence that a session is kept through: it ends after some 15 minutes without a
/// fragment (section 7.4), and to begin anew would send again all that is there already.
const PATIENCE: Duration = Duration::from_mins(10);

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

/// How a session ended without a reply that commits it.
enum End {
    /// It is gone, or does not say: another may do.
    Lost(String),
    /// Another would fail as well.
    Failed(DriveError),
}

impl From<DriveError> for End {
    fn from(error: DriveError) -> Self {
        Self::Failed(error)
    }
}

/// What a look at a session says.
enum Seen {
    /// Go on at this byte.
    At(u64),
    /// The upload had taken effect.
    Arrived(Item),
}

/// What came of the fragments.
enum Sent {
    Reply(Reply),
    Arrived(Item),
}

impl Graph {
    pub(super) async fn send_in_session(&self, upload: &Upload) -> Result<Item, DriveError> {
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
        let mut why = String::new();
        for _ in 0..SESSIONS {
            let url = self.open_session(upload).await?;
            match self.fragments(upload, &url).await {
                Ok(Sent::Reply(reply)) => return self.sent(&reply, upload).await,
                Ok(Sent::Arrived(item)) => return Ok(item),
                Err(End::Failed(error)) => {
                    self.cancel(&url).await;
                    return Err(error);
                }
                Err(End::Lost(what)) => why = what,
            }
            if let Some(item) = self.arrived(upload).await? {
                return Ok(item);
            }
            self.cancel(&url).await;
        }
        Err(unavailable(format!("the upload session was lost ({why})")))
    }

    async fn open_session(&self, upload: &Upload) -> Result<String, DriveError> {
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
        let url = format!(
            "{}/createUploadSession",
            self.url(&self.target(&upload.target))
        );
        let body = json!({ "item": asked });
        let reply = self
            .wire
            .ask(Method::POST, &url, |request| request.json(&body))
            .await?;
        Ok(reply.json::<WireSession>("the upload session")?.upload_url)
    }

    /// Sends all fragments; the reply that commits is the last one.
    async fn fragments(&self, upload: &Upload, url: &str) -> Result<Sent, End> {
        let mut at = 0;
        let mut stuck = 0;
        loop {
            let end = (at + FRAGMENT).min(upload.size);
            let bytes = read(&upload.file, at, end - at).await?;
            let span = format!("bytes {at}-{}/{}", end - 1, upload.size);
            let sent = self.wire.storage(Load::Up, Method::PUT, url, |request| {
                request
                    .header(CONTENT_RANGE, &span)
                    .header(CONTENT_LENGTH, bytes.len())
                    .body(bytes)
            });
            let next = match sent.await {
                Ok(reply) if reply.status == StatusCode::ACCEPTED => {
                    // What it expects next counts, unless it does not say (section 7.3).
                    expected(&reply).unwrap_or(end)
                }
                Ok(reply) => return Ok(Sent::Reply(reply)),
                Err(verdict) => {
                    let last = end == upload.size;
                    match self.recover(upload, url, verdict, last, &mut stuck).await? {
                        Seen::At(next) => next,
                        Seen::Arrived(item) => return Ok(Sent::Arrived(item)),
                    }
                }
            };
            if next >= upload.size {
                return Err(End::Lost("it has all bytes and does not commit".into()));
            }
            if next > at {
                stuck = 0;
            } else {
                stuck += 1;
                if stuck > LOOKS {
                    return Err(End::Lost("it makes no progress".into()));
                }
            }
            at = next;
        }
    }

    /// After a fragment that was not taken: where to go on.
    async fn recover(
        &self,
        upload: &Upload,
        url: &str,
        verdict: Verdict,
        last: bool,
        stuck: &mut u32,
    ) -> Result<Seen, End> {
        match verdict {
            Verdict::Silence(silence, what) => self.keep_silent(silence, &what).await?,
            // Of the last one it matters most: the item says whether the upload is complete.
            Verdict::Unclear(_) if last => {
                if let Some(item) = self.arrived(upload).await? {
                    return Ok(Seen::Arrived(item));
                }
            }
            Verdict::Again(_)
            | Verdict::Unclear(_)
            | Verdict::Final(DriveError::NotFound | DriveError::Locked(_)) => {}
            Verdict::Token { what, .. } => return Err(End::Lost(what)),
            // Its right to write has ended (trap T10), or the gate is closed for long.
            Verdict::Final(DriveError::Refused { code, .. }) if is_over(&code) => {
                return Err(End::Lost(code));
            }
            Verdict::Final(DriveError::Unavailable {
                what,
                retry_after: Some(silence),
            }) => {
                self.keep_silent(Some(silence), &what).await?;
            }
            Verdict::Final(error) => return Err(End::Failed(error)),
        }
        loop {
            *stuck += 1;
            if *stuck > LOOKS {
                return Err(End::Lost("it cannot be found again".into()));
            }
            tokio::time::sleep(Duration::from_secs(1 << (*stuck - 1).min(2))).await;
            let asked = self
                .wire
                .storage(Load::Small, Method::GET, url, |request| request)
                .await;
            match asked {
                Ok(reply) => {
                    let at = expected(&reply);
                    return at
                        .map(Seen::At)
                        .ok_or_else(|| End::Lost("it expects nothing".into()));
                }
                Err(Verdict::Silence(silence, what)) => self.keep_silent(silence, &what).await?,
                Err(Verdict::Token { what, .. }) => return Err(End::Lost(what)),
                Err(Verdict::Final(DriveError::Refused { code, .. })) => {
                    return Err(End::Lost(code));
                }
                Err(
                    Verdict::Again(_)
                    | Verdict::Unclear(_)
                    | Verdict::Final(DriveError::NotFound | DriveError::Locked(_)),
                ) => {}
                Err(Verdict::Final(error)) => return Err(End::Failed(error)),
            }
        }
    }

    /// Waits through a silence with the session kept, if it can be.
    async fn keep_silent(&self, silence: Option<Duration>, what: &str) -> Result<(), End> {
        self.wire.hush(silence, what);
        self.wire.gate.pass(PATIENCE).await.map_err(|left| {
            End::Failed(DriveError::Unavailable {
                what: what.to_owned(),
                retry_after: Some(left),
            })
        })
    }

    /// A session that nobody will finish holds its name on business drives (trap T11).
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

/// 403 comes with any of these when the right in the URL has ended.
fn is_over(code: &str) -> bool {
    [
        "accessDenied",
        "unauthenticated",
        "http 403",
        "accessRestricted",
    ]
    .contains(&code)
}

/// The first byte that a session still wants, when it says so.
fn expected(reply: &Reply) -> Option<u64> {
    let progress: WireProgress = serde_json::from_slice(&reply.body).ok()?;
    first(progress.next_expected_ranges.first()?)
}

fn first(range: &str) -> Option<u64> {
    range.split('-').next()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_expected_byte_is_read_from_an_open_or_a_closed_range() {
        assert_eq!(first("327680-"), Some(327_680));
        assert_eq!(first("12345-55232"), Some(12_345));
        assert_eq!(first("-"), None);
    }
}
