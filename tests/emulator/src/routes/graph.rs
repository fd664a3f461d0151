//! The API host: who may ask, for which drive and item, and who answers.

use std::sync::Arc;

use axum::{body::Body, response::Response};
use futures_util::{FutureExt as _, future::BoxFuture};
use http::{HeaderMap, Request, StatusCode, header};
use serde_json::{Value, json};

use super::{
    address::{self, Action, Call, DriveRef, Target, What},
    attend::{Visit, attend},
    batch, children, copy, delta, drives, item, push, upload,
};
use crate::{
    log::Host,
    refusal::{Refusal, json_reply},
    render::{self, Form, Scene},
    route::Route,
    signin::Who,
    store::Place,
    world::{State, World},
};

/// Answers a request to Graph, or a member of a batch.
pub(super) fn serve(
    world: Arc<World>,
    request: Request<Body>,
    batched: bool,
) -> BoxFuture<'static, Response> {
    // Boxed, since a batch comes back here for each of its members.
    async move {
        let plus_is_space = world.state().settings.plus_is_space;
        let uri = request.uri();
        let call = address::parse(
            request.method(),
            uri.path(),
            uri.query().unwrap_or(""),
            plus_is_space,
        );
        let route = call.as_ref().map_or(Route::Unknown, |call| call.route);
        let visit = Visit {
            host: Host::Graph,
            route,
            batched,
        };
        attend(world, visit, request, |world, request| {
            answer(world, call, request)
        })
        .await
    }
    .boxed()
}

/// What an answer needs to know besides the request.
pub(super) struct Context {
    pub(super) world: Arc<World>,
    pub(super) who: Who,
    /// The drive, by its place in the state.
    pub(super) drive: usize,
    pub(super) call: Call,
}

async fn answer(
    world: Arc<World>,
    call: Result<Call, Refusal>,
    request: Request<Body>,
) -> Result<Response, Refusal> {
    let call = call?;
    let who = identify(&world, request.headers())?;
    if who.app_only && call.mine {
        return Err(Refusal::new(
            400,
            "BadRequest",
            "/me request is only valid with delegated authentication flow.",
        ));
    }
    if call.route == Route::Unknown {
        return Err(Refusal::method("GET"));
    }
    let drive = match &call.what {
        What::Drive(drive) | What::Item(drive, _, _) => find_drive(&world.state(), drive)?,
        What::Me | What::Drives | What::Site | What::Batch => 0,
    };
    let context = Context {
        world,
        who,
        drive,
        call,
    };
    if writes(context.call.route) && !context.who.writes {
        return Err(Refusal::denied(
            "The token's scopes do not allow this change.",
        ));
    }
    match context.call.route {
        Route::Me => Ok(drives::me()),
        Route::Drive | Route::Quota => Ok(drives::drive(&context)),
        Route::Drives => Ok(drives::list(&context)),
        Route::Site => Ok(drives::site()),
        Route::Batch => batch::answer(&context.world, request).await,
        Route::Item => item::get(&context, request.headers()),
        Route::Children => children::list(&context),
        Route::CreateFolder => children::create_folder(&context, request).await,
        Route::PutContent => upload::put(&context, request).await,
        Route::CreateSession => upload::open(&context, request).await,
        Route::CommitSource => upload::commit_source(&context, request).await,
        Route::Patch => item::patch(&context, request).await,
        Route::Delete => item::delete(&context, request.headers()),
        Route::PermanentDelete => item::permanent_delete(&context),
        Route::Restore => item::restore(&context),
        Route::Copy => copy::begin(&context, request).await,
        Route::Versions => item::versions(&context),
        Route::VersionContent => item::version_content(&context),
        Route::Content => item::content(&context, request.headers()),
        Route::Delta => delta::page(&context, request.headers()),
        Route::SocketIo => push::subscribe(&context),
        // The names of the other hosts' operations: `address` never gives them.
        Route::Socket
        | Route::Fragment
        | Route::SessionStatus
        | Route::SessionCancel
        | Route::SessionCommit
        | Route::Download
        | Route::Monitor
        | Route::Authorize
        | Route::Token
        | Route::Devicecode
        | Route::Deviceauth
        | Route::Unknown => Err(Refusal::not_found()),
    }
}

fn identify(world: &World, headers: &HeaderMap) -> Result<Who, Refusal> {
    let state = world.state();
    if !state.settings.require_auth {
        return Ok(Who {
            app_only: false,
            writes: true,
        });
    }
    let header = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok());
    state.grants.who(header, world.now())
}

fn writes(route: Route) -> bool {
    matches!(
        route,
        Route::CreateFolder
            | Route::PutContent
            | Route::CreateSession
            | Route::CommitSource
            | Route::Patch
            | Route::Delete
            | Route::PermanentDelete
            | Route::Restore
            | Route::Copy
    )
}

fn find_drive(state: &State, drive: &DriveRef) -> Result<usize, Refusal> {
    let missing = || Refusal::new(404, "itemNotFound", "The drive could not be found.");
    match drive {
        DriveRef::Mine => Ok(state.own_drive()),
        DriveRef::Id(id) => state.drive_by_id(id).ok_or_else(missing),
        DriveRef::User(user)
            if user == render::USER_ID || user.eq_ignore_ascii_case(render::USER_MAIL) =>
        {
            Ok(state.own_drive())
        }
        DriveRef::User(_) => Err(Refusal::new(404, "ResourceNotFound", "User not found.")),
        DriveRef::Site if state.drives[0].switches.personal => Err(missing()),
        DriveRef::Site => Ok(0),
    }
}

impl Context {
    pub(super) fn target(&self) -> Result<(&Target, &Action), Refusal> {
        match &self.call.what {
            What::Item(_, target, action) => Ok((target, action)),
            What::Me | What::Drives | What::Site | What::Batch | What::Drive(_) => {
                Err(Refusal::not_found())
            }
        }
    }

    /// Where the address leads now.
    pub(super) fn place(&self, state: &State) -> Result<Place, Refusal> {
        let (target, _) = self.target()?;
        let drive = &state.drives[self.drive];
        let base = target.base.as_deref().unwrap_or(&drive.root);
        if drive.switches.colon_is_base && target.colon {
            // That cloud answers with the base item: by id always, from the root when the rest is
            // missing.
            let found = drive.resolve(base, &target.path);
            return match found {
                Ok(Place::Taken(id)) if target.base.is_none() => Ok(Place::Taken(id)),
                _ => drive.find(base).map(|item| Place::Taken(item.id.clone())),
            };
        }
        drive.resolve(base, &target.path)
    }

    /// The id of the item that must be there.
    pub(super) fn existing(&self, state: &State) -> Result<String, Refusal> {
        match self.place(state)? {
            Place::Taken(id) => Ok(id),
            Place::Free { .. } => Err(Refusal::not_found()),
        }
    }

    /// An item as JSON, fresh from the state.
    pub(super) fn item_json(&self, state: &State, id: &str) -> Result<Value, Refusal> {
        item_json(
            &self.world,
            state,
            self.drive,
            id,
            self.call.query.select().as_deref(),
        )
    }
}

/// An item as JSON.
pub(super) fn item_json(
    world: &World,
    state: &State,
    drive: usize,
    id: &str,
    select: Option<&[String]>,
) -> Result<Value, Refusal> {
    let item = state.drives[drive].find(id)?;
    let mut body = with_scene(world, state, drive, |scene| {
        scene.item(item, Form::Full, select)
    });
    body["@odata.context"] = format!(
        "{}/v1.0/$metadata#drives/items/$entity",
        world.links().graph
    )
    .into();
    Ok(body)
}

/// Renders with all that rendering needs.
pub(super) fn with_scene<T>(
    world: &World,
    state: &State,
    drive: usize,
    render: impl FnOnce(&Scene<'_>) -> T,
) -> T {
    let sign = |id: &str| super::download::sign(world, state, drive, id, None);
    render(&Scene {
        drive: &state.drives[drive],
        settings: &state.settings,
        links: world.links(),
        sign: &sign,
    })
}

/// A collection.
pub(super) fn collection(world: &World, value: &[Value]) -> Value {
    json!({
        "@odata.context": format!("{}/v1.0/$metadata#Collection", world.links().graph),
        "value": value,
    })
}

pub(super) fn ok(body: &Value) -> Response {
    json_reply(StatusCode::OK, body)
}

pub(super) fn created(new: bool, body: &Value) -> Response {
    json_reply(
        if new {
            StatusCode::CREATED
        } else {
            StatusCode::OK
        },
        body,
    )
}
