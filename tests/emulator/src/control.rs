//! The control listener: what `Running` offers, as JSON over HTTP.
//!
//! Never one of the service's hosts: its requests are neither logged nor delayed nor struck by
//! faults. Errors are `{"error": "<text>"}`.

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Query, State},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    act,
    faults::Fault,
    route::Route,
    settings::Settings,
    store::Mark,
    world::{Moment, World},
};

/// The most that `PUT /file` takes: a picture, a film, no disk image.
const FILE_LIMIT: usize = 1 << 30;

type Shared = State<Arc<World>>;
type Reply = Result<Json<Value>, Failed>;

/// A refused control request.
struct Failed(StatusCode, String);

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        (self.0, Json(json!({ "error": self.1 }))).into_response()
    }
}

impl From<anyhow::Error> for Failed {
    fn from(error: anyhow::Error) -> Self {
        Self(StatusCode::CONFLICT, format!("{error:#}"))
    }
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "the last line of handlers that can fail"
)]
fn done() -> Reply {
    Ok(Json(json!({ "ok": true })))
}

fn shown(value: impl serde::Serialize) -> Reply {
    serde_json::to_value(value)
        .map(Json)
        .map_err(|error| Failed(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))
}

/// The routes of the control listener.
pub(crate) fn app(world: Arc<World>) -> Router {
    Router::new()
        .route("/", get(addresses))
        .route("/tree", get(tree))
        .route("/file", get(read_file).put(put_file))
        .route("/versions", get(versions))
        .route("/folder", post(make_folder))
        .route("/package", post(make_package))
        .route("/rename", post(rename))
        .route("/move", post(move_into))
        .route("/delete", post(delete))
        .route("/mark", post(mark))
        .route("/requests", get(requests).delete(reset))
        .route("/counts", get(counts))
        .route("/faults", get(faults).post(inject).delete(clear_faults))
        .route("/hold", post(hold))
        .route("/release", post(release))
        .route("/wait", post(wait))
        .route("/settings", get(settings).patch(adjust))
        .route("/clock", post(set_clock))
        .route("/token", post(token))
        .route("/devices", get(devices).post(decide_device))
        .route("/expire", post(expire))
        .layer(DefaultBodyLimit::max(FILE_LIMIT))
        .with_state(world)
}

#[derive(Deserialize)]
struct Path {
    path: String,
}

async fn addresses(State(world): Shared) -> Reply {
    let links = world.links();
    let drive = world.state().drives[act::MAIN].id.clone();
    shown(json!({
        "login": links.login, "graph": links.graph, "storage": links.storage,
        "profile": world.profile, "drive_id": drive,
    }))
}

async fn tree(State(world): Shared) -> Reply {
    shown(act::tree(&world))
}

async fn read_file(State(world): Shared, Query(at): Query<Path>) -> Result<Vec<u8>, Failed> {
    act::read_file(&world, &at.path).ok_or_else(|| {
        Failed(
            StatusCode::NOT_FOUND,
            format!("there is no file {}", at.path),
        )
    })
}

async fn put_file(State(world): Shared, Query(at): Query<Path>, bytes: Bytes) -> Reply {
    shown(act::put_file(&world, &at.path, &bytes)?)
}

async fn versions(State(world): Shared, Query(at): Query<Path>) -> Reply {
    shown(act::versions(&world, &at.path))
}

async fn make_folder(State(world): Shared, Json(at): Json<Path>) -> Reply {
    shown(act::make_folder(&world, &at.path)?)
}

async fn make_package(State(world): Shared, Json(at): Json<Path>) -> Reply {
    shown(act::make_package(&world, &at.path)?)
}

#[derive(Deserialize)]
struct Rename {
    path: String,
    name: String,
}

async fn rename(State(world): Shared, Json(wish): Json<Rename>) -> Reply {
    shown(act::relocate(&world, &wish.path, None, Some(&wish.name))?)
}

#[derive(Deserialize)]
struct Move {
    path: String,
    folder: String,
}

async fn move_into(State(world): Shared, Json(wish): Json<Move>) -> Reply {
    shown(act::relocate(&world, &wish.path, Some(&wish.folder), None)?)
}

async fn delete(State(world): Shared, Json(at): Json<Path>) -> Reply {
    act::delete(&world, &at.path)?;
    done()
}

#[derive(Deserialize)]
struct Marking {
    path: String,
    mark: Option<Mark>,
}

async fn mark(State(world): Shared, Json(wish): Json<Marking>) -> Reply {
    act::mark(&world, &wish.path, wish.mark)?;
    done()
}

async fn requests(State(world): Shared) -> Reply {
    shown(world.log.entries())
}

async fn reset(State(world): Shared) -> Reply {
    world.log.reset();
    done()
}

async fn counts(State(world): Shared) -> Reply {
    shown(json!({ "total": world.log.total(), "routes": world.log.counts() }))
}

async fn faults(State(world): Shared) -> Reply {
    shown(world.faults.lock().list())
}

async fn inject(State(world): Shared, Json(fault): Json<Fault>) -> Reply {
    world.faults.lock().add(fault);
    done()
}

async fn clear_faults(State(world): Shared) -> Reply {
    world.faults.lock().clear();
    done()
}

#[derive(Deserialize)]
struct Hold {
    route: Route,
    /// Hold the reply, not the request.
    #[serde(default)]
    reply: bool,
}

async fn hold(State(world): Shared, Json(wish): Json<Hold>) -> Reply {
    let moment = if wish.reply {
        Moment::Reply
    } else {
        Moment::Before
    };
    world.gates.hold(wish.route, moment);
    done()
}

async fn release(State(world): Shared, Json(wish): Json<Hold>) -> Reply {
    world.gates.release(wish.route);
    done()
}

#[derive(Deserialize)]
struct Wait {
    route: Route,
    #[serde(default = "one")]
    count: u64,
    timeout_ms: u64,
    /// Count requests that came to their end, not those that arrived.
    #[serde(default)]
    completed: bool,
}

fn one() -> u64 {
    1
}

async fn wait(State(world): Shared, Json(wish): Json<Wait>) -> Reply {
    let within = Duration::from_millis(wish.timeout_ms);
    let reached = || {
        let count = if wish.completed {
            world.log.completed(wish.route)
        } else {
            world.log.arrived(wish.route)
        };
        count >= wish.count
    };
    if world.pulse.until(within, reached).await {
        return done();
    }
    Err(Failed(
        StatusCode::REQUEST_TIMEOUT,
        "it did not happen in time".to_owned(),
    ))
}

async fn settings(State(world): Shared) -> Reply {
    shown(world.settings())
}

async fn adjust(State(world): Shared, Json(change): Json<Value>) -> Reply {
    let bad = |text: String| Failed(StatusCode::BAD_REQUEST, text);
    let Value::Object(change) = change else {
        return Err(bad("an object is needed".to_owned()));
    };
    let changed = {
        let mut state = world.state();
        let mut whole =
            serde_json::to_value(&state.settings).map_err(|error| bad(error.to_string()))?;
        if let Value::Object(fields) = &mut whole {
            fields.extend(change);
        }
        let settings: Settings =
            serde_json::from_value(whole).map_err(|error| bad(error.to_string()))?;
        state.settings = settings.clone();
        settings
    };
    world.pulse.beat();
    shown(changed)
}

#[derive(Deserialize)]
struct ClockWish {
    #[serde(default)]
    advance_ms: Option<u64>,
    #[serde(default)]
    skew_ms: Option<i64>,
}

async fn set_clock(State(world): Shared, Json(wish): Json<ClockWish>) -> Reply {
    if let Some(skew) = wish.skew_ms {
        world.clock.set_skew(skew);
    }
    if let Some(advance) = wish.advance_ms {
        world.clock.advance(Duration::from_millis(advance));
    }
    done()
}

#[derive(Deserialize)]
struct TokenWish {
    client_id: String,
}

async fn token(State(world): Shared, Json(wish): Json<TokenWish>) -> Reply {
    shown(act::issue_token(&world, &wish.client_id))
}

async fn devices(State(world): Shared) -> Reply {
    shown(act::waiting_devices(&world))
}

#[derive(Deserialize)]
struct Decision {
    user_code: String,
    #[serde(default = "yes")]
    approve: bool,
}

fn yes() -> bool {
    true
}

async fn decide_device(State(world): Shared, Json(wish): Json<Decision>) -> Reply {
    let now = world.now();
    if world
        .state()
        .grants
        .decide_device(&wish.user_code, wish.approve, now)
    {
        return done();
    }
    Err(Failed(
        StatusCode::NOT_FOUND,
        "no such code is waiting".to_owned(),
    ))
}

/// What is to grow too old at once.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Old {
    AccessTokens,
    RefreshTokens,
    Deltas,
    DownloadUrls,
    Sessions,
}

#[derive(Deserialize)]
struct Expire {
    what: Old,
}

async fn expire(State(world): Shared, Json(wish): Json<Expire>) -> Reply {
    let now = world.now();
    let mut state = world.state();
    match wish.what {
        Old::AccessTokens => state.grants.expire_access(now),
        Old::RefreshTokens => state.grants.revoke_refresh(),
        Old::Deltas => state.drives.iter_mut().for_each(|drive| drive.epoch += 1),
        Old::DownloadUrls => state.url_epoch += 1,
        Old::Sessions => state.sessions.expire_all(),
    }
    done()
}
