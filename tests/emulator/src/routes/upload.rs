//! Content comes in: in one request, or by a session that is opened here.

use std::sync::Arc;

use axum::{body::Body, response::Response};
use http::{Request, StatusCode, header};
use serde_json::{Value, json};

use super::{
    body, fragment,
    graph::{Context, created},
    item::{admit, conflict_of, parent_of, stamps_of},
    later,
    query::precondition,
};
use crate::{
    clock,
    refusal::{Refusal, json_reply},
    session::Wish,
    store::{Conflict, Kind, Place, Stamps},
    world::State,
};

/// The most that one request may carry.
const SIMPLE_LIMIT: u64 = 250 * 1024 * 1024;

/// `PUT …/content`.
pub(super) async fn put(context: &Context, request: Request<Body>) -> Result<Response, Refusal> {
    let condition = precondition(request.headers());
    let conflict = conflict_of(&context.call.query, &Value::Null, Conflict::Replace)?;
    let chunked = !request.headers().contains_key(header::CONTENT_LENGTH)
        && request.headers().contains_key(header::TRANSFER_ENCODING);
    if chunked {
        return Err(Refusal::new(
            411,
            "lengthRequired",
            "Content-Length is required.",
        ));
    }
    let mut spool = context.world.depot.spool();
    body::receive(request.into_body(), &mut spool, SIMPLE_LIMIT).await?;
    let sha = context.world.state().drives[context.drive].switches.sha();
    let bytes = spool.finish(sha).map_err(|error| Refusal::spool(&error))?;

    let now = context.world.now();
    let mut state = context.world.state();
    let place = context.place(&state)?;
    let taken = match &place {
        Place::Taken(id) => Some(id.as_str()),
        Place::Free { .. } => None,
    };
    admit(context, &state, &condition, taken)?;
    refuse_held(context, &state, &place)?;
    state.admit_size(context.drive, bytes.length())?;
    let stamps = Stamps {
        created: now,
        modified: now,
    };
    let drive = &mut state.drives[context.drive];
    let (id, new) = drive.put_file(place, bytes, conflict, stamps, now)?;
    let reply = created(new, &context.item_json(&state, &id)?);
    drop(state);
    later::after_upload(&context.world, context.drive, &id);
    Ok(reply)
}

/// On some drives a running upload holds its name.
fn refuse_held(context: &Context, state: &State, place: &Place) -> Result<(), Refusal> {
    let switches = &state.drives[context.drive].switches;
    let held = || {
        state
            .sessions
            .holds_name(context.drive, place, context.world.now())
    };
    if switches.one_session_per_name && held() {
        return Err(Refusal::new(
            409,
            "nameAlreadyExists",
            "An upload session already exists for this file",
        ));
    }
    Ok(())
}

/// `POST …/createUploadSession`.
pub(super) async fn open(context: &Context, request: Request<Body>) -> Result<Response, Refusal> {
    let condition = precondition(request.headers());
    let wish = body::json(request).await?;
    let empty = Value::Null;
    let item = wish.get("item").unwrap_or(&empty);
    let conflict = conflict_of(&context.call.query, item, Conflict::Replace)?;
    let (made, modified) = stamps_of(item)?;
    let size = item.get("fileSize").and_then(Value::as_u64);
    if size == Some(0) {
        return Err(Refusal::invalid(
            "An empty file cannot be uploaded in a session.",
        ));
    }
    let now = context.world.now();
    let mut state = context.world.state();
    let place = context.place(&state)?;
    let drive = &state.drives[context.drive];
    if let (Some(name), Some(asked)) = (
        item.get("name").and_then(Value::as_str),
        name_of(&state, context.drive, &place),
    ) && name != asked
    {
        return Err(Refusal::invalid(
            "The name does not match the one in the URL.",
        ));
    }
    match &place {
        Place::Taken(id) => {
            admit(context, &state, &condition, Some(id))?;
            let there = drive.find(id)?;
            if conflict == Conflict::Fail || !matches!(there.kind, Kind::File(_)) {
                return Err(Refusal::name_exists());
            }
        }
        Place::Free { parent, name } => {
            admit(context, &state, &condition, None)?;
            crate::names::check(name, &drive.path(parent), drive.switches.personal)?;
        }
    }
    refuse_held(context, &state, &place)?;
    state.admit_size(context.drive, size.unwrap_or(0))?;
    let personal = drive.switches.personal;
    let life = state.settings.session_seconds;
    let wish = Wish {
        drive: context.drive,
        place: place.clone(),
        conflict,
        created: made,
        modified,
        precondition: condition,
        deferred: wish
            .get("deferCommit")
            .and_then(Value::as_bool)
            .unwrap_or(false),
    };
    let spool = context.world.depot.spool();
    let (id, secret) = state.sessions.open(wish, spool, personal, life, now);
    let url = upload_url(context, &state, &place, &id, &secret);
    let session = state.sessions.find(&id, &secret, now)?;
    let reply = json!({
        "@odata.context": format!("{}/v1.0/$metadata#uploadSession", context.world.links().graph),
        "uploadUrl": url,
        "expirationDateTime": clock::text(session.expires, true),
        "nextExpectedRanges": ["0-"],
    });
    Ok(json_reply(StatusCode::OK, &reply))
}

fn name_of<'a>(state: &'a State, drive: usize, place: &'a Place) -> Option<&'a str> {
    match place {
        Place::Free { name, .. } => Some(name),
        Place::Taken(id) => state.drives[drive].get(id).map(|item| item.name.as_str()),
    }
}

fn upload_url(context: &Context, state: &State, place: &Place, id: &str, secret: &str) -> String {
    let storage = &context.world.links().storage;
    let drive = &state.drives[context.drive];
    if drive.switches.personal {
        return format!("{storage}/rup/{}/{id}?tempauth={secret}", drive.id);
    }
    let at = match place {
        Place::Taken(id) => id,
        Place::Free { parent, .. } => parent,
    };
    format!(
        "{storage}/_api/v2.0/drives/{}/items/{at}/uploadSession?guid='{id}'&overwrite=True\
         &rename=False&dc=0&tempauth={secret}",
        drive.id
    )
}

/// `PUT` of an item with a `sourceUrl`: a personal drive's late commit.
pub(super) async fn commit_source(
    context: &Context,
    request: Request<Body>,
) -> Result<Response, Refusal> {
    let condition = precondition(request.headers());
    let wish = body::json(request).await?;
    let source = wish
        .get("@microsoft.graph.sourceUrl")
        .and_then(Value::as_str)
        .ok_or_else(|| Refusal::invalid("A source URL is required."))?;
    let (id, secret) = url::Url::parse(source)
        .ok()
        .and_then(|url| fragment::credentials(url.path(), url.query().unwrap_or("")))
        .ok_or_else(|| Refusal::invalid("The source URL is not an upload session."))?;
    let conflict = conflict_of(&context.call.query, &wish, Conflict::Fail)?;
    let mut state = context.world.state();
    if !state.drives[context.drive].switches.commit_by_source {
        return Err(Refusal::not_supported(
            "This drive does not commit by source.",
        ));
    }
    // The address is the parent's; the body names the file.
    let parent = match parent_of(context, &state, &wish)? {
        Some(parent) => parent,
        None => context.existing(&state)?,
    };
    let now = context.world.now();
    let name = if let Some(name) = wish.get("name").and_then(Value::as_str) {
        name.to_owned()
    } else {
        let place = state.sessions.find(&id, &secret, now)?.place.clone();
        name_of(&state, context.drive, &place)
            .unwrap_or_default()
            .to_owned()
    };
    let place = state.drives[context.drive].resolve(&parent, &[name])?;
    let session = state.sessions.find(&id, &secret, now)?;
    session.place = place;
    session.conflict = conflict;
    session.precondition = condition;
    drop(state);
    fragment::commit(&Arc::clone(&context.world), &id, &secret)
}
