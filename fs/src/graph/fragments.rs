//! The fragments of an upload session: in order, to a URL that takes no token (section 7.3).
//!
//! A session that lost a reply is asked what it has, and goes on there. One whose last fragment
//! ended in doubt is judged by the item.

use std::time::{Duration, Instant};

use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE};
use reqwest::{Method, StatusCode};
use serde::Deserialize;

use super::classify::Verdict;
use super::client::Graph;
use super::lanes::Load;
use super::pieces::{Pieces, STEP};
use super::send::{Reply, unavailable};
use crate::ports::{DriveError, Upload, UploadTarget};
use crate::tree::Item;

/// How often in a row a session is looked at without progress: with waits of 1, 2, 4 and 4 seconds
/// one that a router lost for a moment is found again (trap T14).
const LOOKS: u32 = 4;

/// The longest silence that a session is kept through: it ends after some 15 minutes without a
/// fragment (section 7.4), and to begin anew would send again all that is there already.
const PATIENCE: Duration = Duration::from_mins(10);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireProgress {
    #[serde(default)]
    next_expected_ranges: Vec<String>,
}

/// How a session ended without a reply that commits it.
pub(super) enum End {
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
pub(super) enum Sent {
    Reply(Reply),
    Arrived(Item),
}

impl Graph {
    /// Sends all fragments from a byte on; the reply that commits is the last one. Right before it goes
    /// the item is looked at again. Whoever writes the file while that last fragment is on its way is
    /// overwritten, which no request could prevent; so where something is replaced it is a short one.
    pub(super) async fn fragments(
        &self,
        upload: &Upload,
        url: &str,
        from: u64,
    ) -> Result<Sent, End> {
        let (mut at, mut stuck, mut last) = (from, 0, None);
        loop {
            let size = self.speed.fragment(upload.size, last);
            let replaces = matches!(upload.target, UploadTarget::Replace { .. });
            let end = end(at, size, upload.size, replaces);
            if end == upload.size {
                self.look_before(upload).await?;
            }
            let next = match self.fragment(upload, url, at, end).await? {
                Ok(reply) if reply.status == StatusCode::ACCEPTED => {
                    last = Some(size);
                    // What it expects next counts, unless it does not say (section 7.3).
                    expected(&reply).unwrap_or(end)
                }
                Ok(reply) => return Ok(Sent::Reply(reply)),
                Err(verdict) => {
                    let complete = end == upload.size;
                    match self
                        .recover(upload, url, verdict, complete, &mut stuck)
                        .await?
                    {
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

    async fn fragment(
        &self,
        upload: &Upload,
        url: &str,
        at: u64,
        end: u64,
    ) -> Result<Result<Reply, Verdict>, End> {
        let pieces = Pieces::new(&upload.file, at, end, &self.wire.up);
        let span = format!("bytes {at}-{}/{}", end - 1, upload.size);
        let begun = Instant::now();
        let sent = self.wire.storage(Load::Up, Method::PUT, url, |request| {
            request
                .header(CONTENT_RANGE, &span)
                .header(CONTENT_LENGTH, pieces.len())
                .body(pieces.body())
        });
        let sent = sent.await;
        if let Some(fault) = pieces.fault() {
            return Err(End::Failed(fault));
        }
        if sent.is_ok() {
            self.speed.saw(end - at, begun.elapsed());
        }
        Ok(sent)
    }

    /// After a fragment that was not taken: where to go on.
    async fn recover(
        &self,
        upload: &Upload,
        url: &str,
        verdict: Verdict,
        complete: bool,
        stuck: &mut u32,
    ) -> Result<Seen, End> {
        match verdict {
            Verdict::Silence(silence, what) => self.keep_silent(url, silence, &what).await?,
            // Of the last one it matters most: the item says whether the upload is complete.
            Verdict::Unclear(_) if complete => {
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
                retry_after: Some(_),
                what,
            }) => self.outlast(url, &what).await?,
            Verdict::Final(error) => return Err(End::Failed(error)),
        }
        self.look_at(url, stuck).await.map(Seen::At)
    }

    /// The byte that a session wants next, if a first look says so.
    pub(super) async fn peek(&self, url: &str) -> Option<u64> {
        let asked = self
            .wire
            .storage(Load::Small, Method::GET, url, |request| request)
            .await;
        asked.ok().as_ref().and_then(expected)
    }

    /// The byte that a session wants next, looked at until it says so.
    pub(super) async fn look_at(&self, url: &str, stuck: &mut u32) -> Result<u64, End> {
        // Whether the last look found no session, or did not get there.
        let mut away = None;
        loop {
            *stuck += 1;
            if *stuck > LOOKS {
                return Err(match away {
                    Some(what) => End::Failed(unavailable(what)),
                    None => End::Lost("it cannot be found again".into()),
                });
            }
            tokio::time::sleep(Duration::from_secs(1 << (*stuck - 1).min(2))).await;
            let asked = self
                .wire
                .storage(Load::Small, Method::GET, url, |request| request)
                .await;
            match asked {
                Ok(reply) => {
                    let at = expected(&reply);
                    return at.ok_or_else(|| End::Lost("it expects nothing".into()));
                }
                Err(Verdict::Silence(silence, what)) => {
                    self.keep_silent(url, silence, &what).await?;
                }
                Err(Verdict::Token { what, .. }) => return Err(End::Lost(what)),
                Err(Verdict::Final(DriveError::Refused { code, .. })) => {
                    return Err(End::Lost(code));
                }
                Err(Verdict::Again(what) | Verdict::Unclear(what)) => away = Some(what),
                Err(Verdict::Final(DriveError::NotFound | DriveError::Locked(_))) => away = None,
                Err(Verdict::Final(error)) => return Err(End::Failed(error)),
            }
        }
    }

    /// Waits through a silence with the session kept, if it can be.
    async fn keep_silent(
        &self,
        url: &str,
        silence: Option<Duration>,
        what: &str,
    ) -> Result<(), End> {
        self.wire.hush(&self.wire.gate(url), silence, what);
        self.outlast(url, what).await
    }

    async fn outlast(&self, url: &str, what: &str) -> Result<(), End> {
        self.wire.gate(url).pass(PATIENCE).await.map_err(|left| {
            End::Failed(DriveError::Unavailable {
                what: what.to_owned(),
                retry_after: Some(left),
            })
        })
    }
}

/// Where a fragment of a size ends that begins at a byte. What commits is one step at most where it
/// replaces something.
fn end(at: u64, size: u64, whole: u64, replaces: bool) -> u64 {
    let end = (at + size).min(whole);
    let left = (whole - at).saturating_sub(1);
    if end < whole || !replaces || left < STEP {
        return end;
    }
    at + left / STEP * STEP
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
    fn what_commits_a_replacement_is_short_and_whole_steps_come_before_it() {
        let whole = 2 * STEP + 5;
        assert_eq!(end(0, STEP, whole, true), STEP);
        assert_eq!(end(0, 10 * STEP, whole, true), 2 * STEP);
        assert_eq!(end(2 * STEP, 10 * STEP, whole, true), whole);
        assert_eq!(end(0, 10 * STEP, whole, false), whole);
        // A full step at the end, and a session that goes on in the middle of one.
        assert_eq!(end(0, 10 * STEP, 2 * STEP, true), STEP);
        assert_eq!(end(7, 10 * STEP, 2 * STEP, true), STEP + 7);
        assert_eq!(end(0, 10 * STEP, STEP, true), STEP);
    }

    #[test]
    fn the_first_expected_byte_is_read_from_an_open_or_a_closed_range() {
        assert_eq!(first("327680-"), Some(327_680));
        assert_eq!(first("12345-55232"), Some(12_345));
        assert_eq!(first("-"), None);
    }
}
