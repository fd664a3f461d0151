//! Whose drive is it, and how full?

use axum::response::Response;
use serde_json::{Map, Value, json};

use super::graph::{Context, collection, ok, with_scene};
use crate::render::{SITE_ID, Scene, USER_ID, USER_MAIL, USER_NAME};

/// `GET /me`.
pub(super) fn me() -> Response {
    ok(&json!({
        "id": USER_ID, "displayName": USER_NAME, "userPrincipalName": USER_MAIL, "mail": USER_MAIL,
    }))
}

fn drive_json(scene: &Scene<'_>) -> Value {
    scene.drive()
}

/// A drive, with the chosen fields.
pub(super) fn drive(context: &Context) -> Response {
    let state = context.world.state();
    let mut body = with_scene(&context.world, &state, context.drive, drive_json);
    if let (Some(select), Value::Object(fields)) = (context.call.query.select(), &mut body) {
        let all = std::mem::take(fields);
        *fields = all
            .into_iter()
            .filter(|(name, _)| select.contains(name))
            .collect::<Map<String, Value>>();
    }
    ok(&body)
}

/// A collection of drives.
pub(super) fn list(context: &Context) -> Response {
    let state = context.world.state();
    // The user's drives or the site's libraries: each emulated drive belongs to one of them.
    let drives = if context.call.mine {
        state.own_drive()..state.drives.len()
    } else {
        0..1
    };
    let drives: Vec<Value> = drives
        .map(|drive| with_scene(&context.world, &state, drive, drive_json))
        .collect();
    ok(&collection(&context.world, &drives))
}

/// The only site there is.
pub(super) fn site() -> Response {
    ok(&json!({
        "id": SITE_ID, "name": "site", "displayName": "Site",
        "webUrl": "https://contoso.sharepoint.com/sites/site",
    }))
}
