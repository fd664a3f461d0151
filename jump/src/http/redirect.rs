//! `GET`/`HEAD /{path}?{query}` → 302 to the node that should serve it, or to the origin.

use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderValue, Method, StatusCode, Uri, header};
use tuyun_chassis::http::{Client, Problem};
use tuyun_protocol::ImagePath;

use super::Shared;
use crate::choose::{Target, choose};

/// Sends a visitor on. Nothing here waits.
pub(super) async fn redirect(
    State(shared): State<Arc<Shared>>,
    client: Client,
    method: Method,
    uri: Uri,
) -> Response {
    if method != Method::GET && method != Method::HEAD {
        let allow = [(header::ALLOW, HeaderValue::from_static("GET, HEAD"))];
        let problem = Problem::of(StatusCode::METHOD_NOT_ALLOWED, "Only GET and HEAD.");
        return (allow, problem).into_response();
    }
    if let Err(too_many) = shared.redirects.check(client) {
        shared.metrics.limited.inc();
        return Problem::from(too_many).response();
    }
    let path = match ImagePath::from_request(uri.path()) {
        Ok(path) => path,
        Err(bad) => {
            shared.metrics.bad_path.inc();
            return Problem::bad_request(bad.to_string()).response();
        }
    };
    let roster = shared.keeper.roster();
    let location = match choose(&roster, shared.policy, &path, Instant::now()) {
        Target::Node(node) => {
            shared.metrics.to_node.inc();
            node.lease.url.join(&path, uri.query())
        }
        Target::Origin => {
            shared.metrics.to_origin.inc();
            shared.origin.join(&path, uri.query())
        }
    };
    let Ok(location) = HeaderValue::try_from(location) else {
        return Problem::bad_request("The query cannot be passed on.").response();
    };
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::FOUND;
    let headers = response.headers_mut();
    headers.insert(header::LOCATION, location);
    // The next request may have another node; a cached redirect would point to a dead one.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(allowed) = &shared.allow_origin {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed.clone());
    }
    response
}
