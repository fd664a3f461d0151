//! A folder's children: listed page by page, and added to.

use std::ops::Bound;

use axum::{body::Body, response::Response};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::Request;
use serde_json::Value;

use super::{
    body,
    graph::{Context, collection, created, ok, with_scene},
    item::{conflict_of, stamps_of},
};
use crate::{
    refusal::Refusal,
    render::Form,
    store::{Conflict, Mark, Place, Stamps},
};

/// `GET …/children`.
pub(super) fn list(context: &Context) -> Result<Response, Refusal> {
    let query = &context.call.query;
    let (select, top) = (query.select(), query.top()?);
    if !matches!(query.get("orderby"), None | Some("name" | "name asc")) {
        return Err(Refusal::invalid("This order is not supported.").inner("invalidQueryOption"));
    }
    let after = query.get("skiptoken").map(decode_token).transpose()?;
    let state = context.world.state();
    let id = context.existing(&state)?;
    let drive = &state.drives[context.drive];
    let item = drive.find(&id)?;
    if item.mark == Some(Mark::Vault) {
        return Err(Refusal::invalid("ObjectHandle is Invalid").inner("invalidResourceId"));
    }
    let Some(folder) = item.folder() else {
        return Ok(ok(&collection(&context.world, &[])));
    };
    let settings = &state.settings;
    let page = top
        .unwrap_or(settings.page_size)
        .min(settings.page_cap)
        .max(1);
    let from = after.map_or(Bound::Unbounded, Bound::Excluded);
    let mut rest = folder.children.range::<String, _>((from, Bound::Unbounded));
    let mut value = Vec::new();
    let mut last = None;
    for (key, child) in rest.by_ref().take(page) {
        last = Some(key);
        let child = drive.find(child)?;
        value.push(with_scene(&context.world, &state, context.drive, |scene| {
            scene.item(child, Form::Full, select.as_deref())
        }));
    }
    let mut reply = collection(&context.world, &value);
    reply["@odata.count"] = folder.children.len().into();
    if let Some(last) = last.filter(|_| rest.next().is_some()) {
        reply["@odata.nextLink"] = next_link(context, &drive.id, &id, last).into();
    }
    Ok(ok(&reply))
}

/// An absolute, opaque link to the page after a name.
fn next_link(context: &Context, drive: &str, id: &str, last: &str) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    for name in ["select", "top", "orderby"] {
        if let Some(value) = context.call.query.get(name) {
            query.append_pair(&format!("${name}"), value);
        }
    }
    query.append_pair("$skiptoken", &URL_SAFE_NO_PAD.encode(last));
    let graph = &context.world.links().graph;
    format!(
        "{graph}/v1.0/drives/{drive}/items/{id}/children?{}",
        query.finish()
    )
}

fn decode_token(text: &str) -> Result<String, Refusal> {
    URL_SAFE_NO_PAD
        .decode(text)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .ok_or_else(|| Refusal::invalid("The skip token is invalid."))
}

/// `POST …/children`.
pub(super) async fn create_folder(
    context: &Context,
    request: Request<Body>,
) -> Result<Response, Refusal> {
    let wish = body::json(request).await?;
    let name = wish
        .get("name")
        .and_then(Value::as_str)
        .unwrap_or("")
        .to_owned();
    if !wish.get("folder").is_some_and(Value::is_object) {
        return Err(Refusal::invalid("Only folders can be created here."));
    }
    let conflict = conflict_of(&context.call.query, &wish, Conflict::Fail)?;
    let now = context.world.now();
    let mut state = context.world.state();
    let parent = context.existing(&state)?;
    let place = Place::Free {
        parent: parent.clone(),
        name: name.clone(),
    };
    let held = state.sessions.holds_name(context.drive, &place, now);
    let drive = &mut state.drives[context.drive];
    if held && drive.switches.one_session_per_name {
        return Err(Refusal::name_exists());
    }
    // Work drives ignore the times given here, and personal ones have come to.
    stamps_of(&wish)?;
    let stamps = Stamps {
        created: now,
        modified: now,
    };
    let (id, new) = drive.make_folder(&parent, &name, conflict, stamps, now)?;
    Ok(created(new, &context.item_json(&state, &id)?))
}
