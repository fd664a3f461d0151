//! One item: read, changed, deleted, and its versions.

use std::time::Duration;

use axum::{body::Body, response::Response};
use http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    address::Action,
    body, download,
    graph::{Context, collection, ok, with_scene},
    query::{Query, precondition},
};
use crate::{
    clock,
    refusal::{Refusal, empty_reply},
    store::{Conflict, Item, Mark, MoveQuirks, Precondition, Relocation},
    world::State,
};

/// `GET` of an item.
pub(super) fn get(context: &Context, headers: &HeaderMap) -> Result<Response, Refusal> {
    let state = context.world.state();
    let id = context.existing(&state)?;
    let drive = &state.drives[context.drive];
    let item = drive.find(&id)?;
    refuse_young(&state, item, context.world.now())?;
    if precondition(headers).unchanged(item, &drive.switches)? {
        return Ok(empty_reply(StatusCode::NOT_MODIFIED));
    }
    Ok(ok(&context.item_json(&state, &id)?))
}

/// New items may not be found at once.
fn refuse_young(state: &State, item: &Item, now: Timestamp) -> Result<(), Refusal> {
    let young = Duration::from_millis(state.settings.young_404_ms);
    if !young.is_zero() && now < clock::after(item.created, young) {
        return Err(Refusal::not_found());
    }
    Ok(())
}

/// Refuses a change whose conditions do not hold.
pub(super) fn admit(
    context: &Context,
    state: &State,
    condition: &Precondition,
    id: Option<&str>,
) -> Result<(), Refusal> {
    if state.settings.if_match_always_412 && condition.if_match.is_some() {
        return Err(Refusal::stale());
    }
    let drive = &state.drives[context.drive];
    condition.admit(id.and_then(|id| drive.get(id)), &drive.switches)
}

/// `PATCH`: rename, move, times.
pub(super) async fn patch(context: &Context, request: Request<Body>) -> Result<Response, Refusal> {
    let condition = precondition(request.headers());
    let wish = body::json(request).await?;
    let conflict = conflict_of(&context.call.query, &wish, Conflict::Fail)?;
    let now = context.world.now();
    let mut state = context.world.state();
    let id = context.existing(&state)?;
    admit(context, &state, &condition, Some(&id))?;
    let change = relocation(context, &state, &wish)?;
    let quirks = MoveQuirks {
        resets_mtime: state.settings.rename_resets_mtime,
        bumps_ctag: state.settings.rename_bumps_ctag,
    };
    state.drives[context.drive].relocate(&id, &change, conflict, quirks, now)?;
    Ok(ok(&context.item_json(&state, &id)?))
}

fn relocation(context: &Context, state: &State, wish: &Value) -> Result<Relocation, Refusal> {
    let (created, modified) = stamps_of(wish)?;
    let name = match wish.get("name") {
        None => None,
        Some(Value::String(name)) => Some(name.clone()),
        Some(_) => return Err(Refusal::invalid("The name must be a string.")),
    };
    Ok(Relocation {
        parent: parent_of(context, state, wish)?,
        name,
        created,
        modified,
    })
}

/// The folder that a `parentReference` names, on the same drive.
pub(super) fn parent_of(
    context: &Context,
    state: &State,
    wish: &Value,
) -> Result<Option<String>, Refusal> {
    let Some(reference) = wish.get("parentReference") else {
        return Ok(None);
    };
    let drive = &state.drives[context.drive];
    if let Some(id) = reference.get("driveId").and_then(Value::as_str)
        && !drive.answers_to(id)
    {
        return Err(Refusal::new(
            400,
            "notSupported",
            "Cross-drive moves are not supported.",
        ));
    }
    if let Some(id) = reference.get("id").and_then(Value::as_str) {
        // The alias is good in URLs alone.
        return Ok(Some(drive.find(id)?.id.clone()));
    }
    let Some(path) = reference.get("path").and_then(Value::as_str) else {
        return Ok(None);
    };
    let (_, path) = path
        .split_once("root:")
        .ok_or_else(|| Refusal::invalid("The parent's path is malformed."))?;
    let mut at = drive.root.clone();
    for raw in path.split('/').filter(|raw| !raw.is_empty()) {
        let name = percent_encoding::percent_decode_str(raw).decode_utf8_lossy();
        at = drive
            .child(&at, &name)
            .ok_or_else(Refusal::not_found)?
            .id
            .clone();
    }
    Ok(Some(at))
}

/// `DELETE`.
pub(super) fn delete(context: &Context, headers: &HeaderMap) -> Result<Response, Refusal> {
    let mut state = context.world.state();
    let id = context.existing(&state)?;
    admit(context, &state, &precondition(headers), Some(&id))?;
    state.drives[context.drive].remove(&id, context.world.now())?;
    Ok(empty_reply(StatusCode::NO_CONTENT))
}

/// `POST …/permanentDelete`.
pub(super) fn permanent_delete(context: &Context) -> Result<Response, Refusal> {
    let mut state = context.world.state();
    if !state.drives[context.drive].switches.permanent_delete {
        return Err(Refusal::method("GET, PATCH, DELETE"));
    }
    let id = context.existing(&state)?;
    state.drives[context.drive].remove(&id, context.world.now())?;
    Ok(empty_reply(StatusCode::NO_CONTENT))
}

/// `POST …/restore`.
pub(super) fn restore(context: &Context) -> Result<Response, Refusal> {
    let (target, _) = context.target()?;
    let id = target.base.clone().ok_or_else(Refusal::not_found)?;
    let mut state = context.world.state();
    let drive = &mut state.drives[context.drive];
    if !drive.switches.restore {
        return Err(Refusal::not_supported(
            "Restore is not supported on this drive.",
        ));
    }
    drive.restore(&id, context.world.now())?;
    Ok(ok(&context.item_json(&state, &id)?))
}

/// `GET …/versions`, newest first.
pub(super) fn versions(context: &Context) -> Result<Response, Refusal> {
    let state = context.world.state();
    let id = context.existing(&state)?;
    let drive = &state.drives[context.drive];
    let item = drive.find(&id)?;
    let file = item
        .file()
        .ok_or_else(|| Refusal::invalid("Only files have versions."))?;
    let millis = drive.switches.millis;
    let version = |number: u32, size: u64, modified: Timestamp| {
        json!({
            "id": format!("{number}.0"),
            "size": size,
            "lastModifiedDateTime": clock::text(modified, millis),
        })
    };
    let mut value = vec![version(file.number, file.content.length(), item.modified)];
    value.extend(
        file.older
            .iter()
            .rev()
            .map(|old| version(old.number, old.content.length(), old.modified)),
    );
    Ok(ok(&collection(&context.world, &value)))
}

/// `GET …/versions/{v}/content`.
pub(super) fn version_content(context: &Context) -> Result<Response, Refusal> {
    let (_, action) = context.target()?;
    let Action::Version(version) = action else {
        return Err(Refusal::not_found());
    };
    let number = version
        .strip_suffix(".0")
        .and_then(|number| number.parse::<u32>().ok())
        .ok_or_else(Refusal::not_found)?;
    let state = context.world.state();
    let id = context.existing(&state)?;
    let file = state.drives[context.drive]
        .find(&id)?
        .file()
        .ok_or_else(Refusal::not_found)?;
    if number != file.number && !file.older.iter().any(|old| old.number == number) {
        return Err(Refusal::not_found());
    }
    let auth = download::sign(&context.world, &state, context.drive, &id, Some(number));
    let storage = &context.world.links().storage;
    redirect(&format!(
        "{storage}/_layouts/15/download.aspx?UniqueId=version&tempauth={auth}"
    ))
}

/// `GET …/content`: never the bytes, always the way to them.
pub(super) fn content(context: &Context, headers: &HeaderMap) -> Result<Response, Refusal> {
    let state = context.world.state();
    let id = context.existing(&state)?;
    let drive = &state.drives[context.drive];
    let item = drive.find(&id)?;
    refuse_young(&state, item, context.world.now())?;
    if item.file().is_none() {
        return Err(Refusal::invalid("You cannot get content for a folder."));
    }
    if item.mark == Some(Mark::Malware) {
        return Err(Refusal::new(
            403,
            "malwareDetected",
            "Malware was detected in this item.",
        ));
    }
    if context.call.query.get("format").is_some() {
        return Err(Refusal::new(
            406,
            "notAcceptable",
            "The item cannot be converted.",
        ));
    }
    if precondition(headers).unchanged(item, &drive.switches)? {
        return Ok(empty_reply(StatusCode::NOT_MODIFIED));
    }
    let url = with_scene(&context.world, &state, context.drive, |scene| {
        scene.download_url(item)
    });
    redirect(&url)
}

fn redirect(url: &str) -> Result<Response, Refusal> {
    let location = HeaderValue::try_from(url)
        .map_err(|_| Refusal::new(500, "generalException", "The address cannot be sent."))?;
    let mut response = empty_reply(StatusCode::FOUND);
    response.headers_mut().insert(header::LOCATION, location);
    Ok(response)
}

/// What to do when the name is taken: from the query, from the body, or as usual.
pub(super) fn conflict_of(
    query: &Query,
    wish: &Value,
    usual: Conflict,
) -> Result<Conflict, Refusal> {
    query
        .conflict()
        .or_else(|| {
            wish.get("@microsoft.graph.conflictBehavior")
                .and_then(Value::as_str)
        })
        .map_or(Ok(usual), Conflict::parse)
}

/// The times in a `fileSystemInfo`: created, modified.
pub(super) fn stamps_of(wish: &Value) -> Result<(Option<Timestamp>, Option<Timestamp>), Refusal> {
    let time = |name: &str| match wish.get("fileSystemInfo").and_then(|info| info.get(name)) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => value
            .as_str()
            .and_then(|text| text.parse().ok())
            .map(Some)
            .ok_or_else(|| Refusal::invalid("A time is malformed.")),
    };
    Ok((time("createdDateTime")?, time("lastModifiedDateTime")?))
}
