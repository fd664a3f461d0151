//! Copying on the server's side, and the page that tells how far it is.

use axum::{body::Body, response::Response};
use http::{HeaderValue, Request, StatusCode, header};
use serde_json::{Value, json};

use super::{
    body,
    graph::Context,
    item::{admit, conflict_of, parent_of},
    query::precondition,
};
use crate::{
    ids,
    refusal::{Refusal, empty_reply, json_reply},
    store::Conflict,
    world::World,
};

/// `POST …/copy`.
pub(super) async fn begin(context: &Context, request: Request<Body>) -> Result<Response, Refusal> {
    let condition = precondition(request.headers());
    let wish = body::json(request).await?;
    let conflict = conflict_of(&context.call.query, &wish, Conflict::Fail)?;
    let now = context.world.now();
    let mut state = context.world.state();
    let id = context.existing(&state)?;
    admit(context, &state, &condition, Some(&id))?;
    let parent = parent_of(context, &state, &wish)?;
    let drive = &mut state.drives[context.drive];
    let item = drive.find(&id)?;
    let parent = parent
        .or_else(|| item.parent.clone())
        .ok_or_else(Refusal::not_found)?;
    let name = wish
        .get("name")
        .and_then(Value::as_str)
        .unwrap_or(&item.name)
        .to_owned();
    let size = item.size();
    // Personal drives do not know the option, and overlook it.
    let conflict = if drive.switches.personal {
        Conflict::Fail
    } else {
        conflict
    };
    state.admit_size(context.drive, size)?;
    let copied = state.drives[context.drive].copy(&id, &parent, &name, conflict, now)?;
    let job = ids::secret(32);
    let polls = state.settings.copy_polls;
    state.copies.insert(job.clone(), (polls, copied));
    let mut response = empty_reply(StatusCode::ACCEPTED);
    let url = format!("{}/monitor/{job}", context.world.links().storage);
    if let Ok(url) = HeaderValue::try_from(url) {
        response.headers_mut().insert(header::LOCATION, url);
    }
    Ok(response)
}

/// One look at a copy.
pub(super) fn monitor(world: &World, path: &str) -> Result<Response, Refusal> {
    let job = path.trim_start_matches("/monitor/");
    let mut state = world.state();
    let (polls, item) = state.copies.get_mut(job).ok_or_else(Refusal::not_found)?;
    if *polls > 0 {
        *polls -= 1;
        return Ok(json_reply(
            StatusCode::ACCEPTED,
            &json!({
                "operation": "ItemCopy", "percentageComplete": 27.8, "status": "inProgress",
            }),
        ));
    }
    Ok(json_reply(
        StatusCode::OK,
        &json!({
            "percentageComplete": 100.0, "resourceId": item, "status": "completed",
        }),
    ))
}
