//! The upload URL: fragments, status, cancel and commit.

use std::sync::Arc;

use axum::{body::Body, response::Response};
use http::{HeaderMap, Request, StatusCode, header};
use serde_json::json;

use super::{
    body::{self, Broken},
    graph::{created, item_json},
    later,
};
use crate::{
    clock,
    content::Spool,
    refusal::{Refusal, empty_reply, json_reply},
    session::{FRAGMENT_LIMIT, FRAGMENT_UNIT, Session},
    store::{Place, Stamps},
    world::World,
};

/// Session id and secret of an upload URL.
pub(super) fn credentials(path: &str, query: &str) -> Option<(String, String)> {
    let pairs: Vec<(String, String)> = url::form_urlencoded::parse(query.as_bytes())
        .into_owned()
        .collect();
    let get = |name: &str| {
        pairs
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value)
    };
    let secret = get("tempauth")?.clone();
    let id = if path.starts_with("/rup/") {
        path.rsplit('/').next()?.to_owned()
    } else if path.ends_with("/uploadSession") {
        get("guid")?.trim_matches('\'').to_owned()
    } else {
        return None;
    };
    Some((id, secret))
}

/// `PUT` of a fragment.
pub(super) async fn put(
    world: &Arc<World>,
    request: Request<Body>,
    id: &str,
    secret: &str,
) -> Result<Response, Refusal> {
    let range = Range::parse(request.headers());
    let declared = declared_length(request.headers());
    let (mut loan, range) = {
        let mut state = world.state();
        let session = state.sessions.find(id, secret, world.now())?;
        let range = range?;
        admit(session, range, declared?)?;
        session.total = Some(range.total);
        let drive = session.drive;
        let spool = session.spool.take().ok_or_else(|| {
            Refusal::new(
                409,
                "conflict",
                "Another fragment of this session is being uploaded.",
            )
        })?;
        let at = session.next;
        // Quota is looked at when the size is first known.
        if let Err(full) = state.admit_size(drive, range.total) {
            state.sessions.put_back(id, spool);
            return Err(full);
        }
        (
            Loan {
                world,
                id,
                spool: Some(spool),
                at,
            },
            range,
        )
    };
    let length = range.last - range.first + 1;
    let spool = loan.spool.as_mut().expect("the loan has just been taken");
    let received = body::receive(request.into_body(), spool, length).await;
    match received {
        Ok(received) if received == length => {}
        Ok(_) | Err(Broken::TooLong) => return Err(mismatch()),
        Err(broken) => return Err(broken.into()),
    }
    spool.settle().map_err(|error| Refusal::spool(&error))?;
    loan.keep();
    drop(loan);

    let now = world.now();
    let mut state = world.state();
    let session = state.sessions.find(id, secret, now)?;
    session.next = range.last + 1;
    session.renew(now);
    if session.is_complete() && !session.deferred {
        drop(state);
        return commit(world, id, secret);
    }
    Ok(json_reply(
        StatusCode::ACCEPTED,
        &json!({
            "expirationDateTime": clock::text(session.expires, true),
            "nextExpectedRanges": session.missing(),
        }),
    ))
}

/// Whether the fragment is the one that is expected.
fn admit(session: &Session, range: Range, declared: u64) -> Result<(), Refusal> {
    let length = range.last - range.first + 1;
    if session.total.is_some_and(|total| total != range.total) {
        return Err(
            Refusal::invalid("The total size differs from the first fragment's.")
                .inner("fragmentLengthMismatch"),
        );
    }
    if declared != length {
        return Err(mismatch());
    }
    if length >= FRAGMENT_LIMIT {
        return Err(
            Refusal::invalid("The fragment is too large.").inner("maxFragmentLengthExceeded")
        );
    }
    let out_of_place = |inner| {
        Refusal::new(
            416,
            "invalidRange",
            "The uploaded fragment is not the expected one",
        )
        .inner(inner)
    };
    if range.first < session.next {
        return Err(out_of_place("fragmentOverlap"));
    }
    if range.first > session.next {
        return Err(out_of_place("fragmentOutOfOrder"));
    }
    if range.last + 1 != range.total && !length.is_multiple_of(FRAGMENT_UNIT) {
        return Err(Refusal::invalid("Fragments must be multiples of 320 KiB."));
    }
    Ok(())
}

/// The bytes of a session while a fragment arrives; they go back whatever happens.
struct Loan<'a> {
    world: &'a World,
    id: &'a str,
    spool: Option<Spool>,
    /// Where the fragment began: what came after it counts only once it is whole.
    at: u64,
}

impl Loan<'_> {
    fn keep(&mut self) {
        self.at = self.spool.as_ref().map_or(self.at, Spool::length);
    }
}

impl Drop for Loan<'_> {
    fn drop(&mut self) {
        if let Some(mut spool) = self.spool.take() {
            spool.truncate(self.at);
            self.world.state().sessions.put_back(self.id, spool);
        }
    }
}

/// `GET`: what is still missing.
pub(super) fn status(world: &World, id: &str, secret: &str) -> Result<Response, Refusal> {
    let mut state = world.state();
    let session = state.sessions.find(id, secret, world.now())?;
    Ok(json_reply(
        StatusCode::OK,
        &json!({
            "expirationDateTime": clock::text(session.expires, true),
            "nextExpectedRanges": session.missing(),
        }),
    ))
}

/// `DELETE`: the name is free again.
pub(super) fn cancel(world: &World, id: &str, secret: &str) -> Result<Response, Refusal> {
    let mut state = world.state();
    state.sessions.find(id, secret, world.now())?;
    state.sessions.cancel(id);
    Ok(empty_reply(StatusCode::NO_CONTENT))
}

/// `POST`: the commit that was deferred.
pub(super) fn commit_late(world: &Arc<World>, id: &str, secret: &str) -> Result<Response, Refusal> {
    {
        let mut state = world.state();
        let drive = state.sessions.find(id, secret, world.now())?.drive;
        if state.drives[drive].switches.commit_by_source {
            return Err(Refusal::method("GET, PUT, DELETE"));
        }
    }
    commit(world, id, secret)
}

/// Makes the file. On a conflict the bytes stay until the session expires.
pub(super) fn commit(world: &Arc<World>, id: &str, secret: &str) -> Result<Response, Refusal> {
    let now = world.now();
    let mut guard = world.state();
    let state = &mut *guard;
    let always_stale = state.settings.if_match_always_412;
    let session = state.sessions.find(id, secret, now)?;
    if !session.is_complete() {
        return Err(
            Refusal::invalid("The upload is not complete.").inner("uploadSessionIncomplete")
        );
    }
    let drive = &mut state.drives[session.drive];
    // The name may have been taken, or freed, since the session was opened.
    let place = match &session.place {
        Place::Free { parent, name } => drive.resolve(parent, std::slice::from_ref(name))?,
        Place::Taken(id) => Place::Taken(drive.find(id)?.id.clone()),
    };
    let there = match &place {
        Place::Taken(id) => drive.get(id),
        Place::Free { .. } => None,
    };
    if always_stale && session.precondition.if_match.is_some() {
        return Err(Refusal::stale());
    }
    session.precondition.admit(there, &drive.switches)?;
    if let Some(there) = there
        && (session.conflict == crate::store::Conflict::Fail || there.file().is_none())
    {
        return Err(Refusal::name_exists());
    }
    let total = session.total.unwrap_or(0);
    if drive.used.saturating_add(total) > state.settings.quota_total {
        return Err(Refusal::quota());
    }
    let spool = session.spool.take().ok_or_else(|| {
        Refusal::new(
            409,
            "conflict",
            "A fragment of this session is being uploaded.",
        )
    })?;
    let (index, conflict) = (session.drive, session.conflict);
    let stamps = Stamps {
        created: session.created.unwrap_or(now),
        modified: session.modified.unwrap_or(now),
    };
    state.sessions.close(id);
    let content = spool
        .finish(drive.switches.sha())
        .map_err(|error| Refusal::spool(&error))?;
    let (item, new) = drive.put_file(place, content, conflict, stamps, now)?;
    let reply = created(new, &item_json(world, state, index, &item, None)?);
    drop(guard);
    later::after_upload(world, index, &item);
    Ok(reply)
}

/// A `Content-Range` of a fragment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range {
    first: u64,
    last: u64,
    total: u64,
}

impl Range {
    fn parse(headers: &HeaderMap) -> Result<Self, Refusal> {
        let text = headers
            .get(header::CONTENT_RANGE)
            .and_then(|value| value.to_str().ok());
        text.and_then(Self::read).ok_or_else(|| {
            Refusal::invalid("The Content-Range header length is missing or malformed.")
        })
    }

    fn read(text: &str) -> Option<Self> {
        let (range, total) = text.strip_prefix("bytes ")?.trim().split_once('/')?;
        let (first, last) = range.split_once('-')?;
        let range = Self {
            first: first.parse().ok()?,
            last: last.parse().ok()?,
            total: total.parse().ok()?,
        };
        (range.first <= range.last && range.last < range.total).then_some(range)
    }
}

fn declared_length(headers: &HeaderMap) -> Result<u64, Refusal> {
    headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse().ok())
        .ok_or_else(|| Refusal::new(411, "lengthRequired", "Content-Length is required."))
}

fn mismatch() -> Refusal {
    Refusal::invalid("The Content-Range header length does not match the provided number of bytes.")
        .inner("fragmentLengthMismatch")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_range_is_read_whole_or_refused() {
        assert_eq!(
            Range::read("bytes 0-9/10"),
            Some(Range {
                first: 0,
                last: 9,
                total: 10
            })
        );
        for text in [
            "bytes 0-9",
            "bytes 5-4/10",
            "bytes 0-10/10",
            "0-9/10",
            "bytes 0-9/*",
        ] {
            assert_eq!(Range::read(text), None, "{text}");
        }
    }

    #[test]
    fn both_forms_of_an_upload_url_name_their_session() {
        let found = Some(("g".to_owned(), "s".to_owned()));
        assert_eq!(credentials("/rup/0123/g", "tempauth=s"), found);
        assert_eq!(
            credentials("/_api/v2.0/x/uploadSession", "guid='g'&dc=0&tempauth=s"),
            found
        );
        assert_eq!(credentials("/elsewhere", "tempauth=s"), None);
    }
}
