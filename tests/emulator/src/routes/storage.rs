//! The storage host: bytes in and out by URLs that carry their own permission.
//!
//! An Authorization header is refused here: a client that sends its token to this host has a leak.
//! The service has not always minded, so a setting lets clients of that time in.

use std::sync::Arc;

use axum::{body::Body, response::Response};
use http::{Method, Request, header};

use super::{
    attend::{Visit, attend},
    copy, download, fragment, push,
};
use crate::{log::Host, refusal::Refusal, route::Route, world::World};

pub(super) async fn serve(world: Arc<World>, request: Request<Body>) -> Response {
    let route = route(request.method(), request.uri().path());
    let visit = Visit {
        host: Host::Storage,
        route,
        batched: false,
    };
    attend(world, visit, request, move |world, request| {
        answer(world, route, request)
    })
    .await
}

fn route(method: &Method, path: &str) -> Route {
    if path.starts_with("/rup/") || path.ends_with("/uploadSession") {
        return match method.as_str() {
            "PUT" => Route::Fragment,
            "GET" => Route::SessionStatus,
            "DELETE" => Route::SessionCancel,
            "POST" => Route::SessionCommit,
            _ => Route::Unknown,
        };
    }
    if path.starts_with("/y4m/") || path.ends_with("/download.aspx") {
        Route::Download
    } else if path.starts_with("/monitor/") {
        Route::Monitor
    } else if path.starts_with("/socket.io/") {
        Route::Socket
    } else {
        Route::Unknown
    }
}

async fn answer(
    world: Arc<World>,
    route: Route,
    request: Request<Body>,
) -> Result<Response, Refusal> {
    let strict = !world.state().settings.storage_takes_tokens;
    if strict && request.headers().contains_key(header::AUTHORIZATION) {
        return Err(Refusal::new(
            401,
            "unauthenticated",
            "The caller must not authenticate: the URL carries its own permission.",
        ));
    }
    let query = request.uri().query().unwrap_or("").to_owned();
    let path = request.uri().path().to_owned();
    let session = || {
        fragment::credentials(&path, &query)
            .ok_or_else(|| Refusal::new(401, "unauthenticated", "The signature is missing."))
    };
    match route {
        Route::Fragment => {
            let (id, secret) = session()?;
            fragment::put(&world, request, &id, &secret).await
        }
        Route::SessionStatus => {
            let (id, secret) = session()?;
            fragment::status(&world, &id, &secret)
        }
        Route::SessionCancel => {
            let (id, secret) = session()?;
            fragment::cancel(&world, &id, &secret)
        }
        Route::SessionCommit => {
            let (id, secret) = session()?;
            fragment::commit_late(&world, &id, &secret)
        }
        Route::Download => {
            let tempauth = url::form_urlencoded::parse(query.as_bytes())
                .find(|(name, _)| name == "tempauth")
                .map(|(_, value)| value.into_owned())
                .unwrap_or_default();
            download::answer(&world, &request, &tempauth)
        }
        Route::Monitor => copy::monitor(&world, &path),
        Route::Socket => push::open(world, request).await,
        _ => Err(Refusal::not_found()),
    }
}
