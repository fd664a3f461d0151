//! `POST /_api/purge`: forgets pictures, or all below a folder, at once.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use tuyun_chassis::http::Problem;
use tuyun_protocol::ImagePath;

use super::{Shared, problem};
use crate::cache::Scope;

/// Names in one request. Each is a change of the index; whoever has more sends more requests.
const AT_MOST: usize = 10_000;

/// Ten thousand names of two hundred bytes.
const MOST_BYTES: usize = 2 << 20;

/// How long a body may take to arrive.
const BODY_DEADLINE: Duration = Duration::from_secs(10);

/// What to forget: decoded paths, with or without their leading `/`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Order {
    paths: Vec<String>,
    prefixes: Vec<String>,
}

pub(super) async fn purge(
    State(shared): State<Arc<Shared>>,
    request: Request,
) -> Result<Json<Value>, Response> {
    let (head, body) = request.into_parts();
    // Before anything is read: a stranger's body takes no memory and no time.
    shared
        .admin
        .check(&head.headers)
        .map_err(IntoResponse::into_response)?;
    let body = receive(body).await.map_err(IntoResponse::into_response)?;
    let scopes = scopes(&body).map_err(|msg| Problem::bad_request(msg).into_response())?;
    let mut purged = 0;
    for scope in &scopes {
        let done = shared.cache.purge(scope).await;
        purged += done.map_err(|error| problem::of_change(&error).into_response())?;
    }
    tracing::info!(
        names = scopes.len(),
        purged,
        "pictures were purged on request"
    );
    Ok(Json(json!({ "code": 0, "purged": purged })))
}

async fn receive(body: Body) -> Result<Bytes, Problem> {
    let reading = tokio::time::timeout(BODY_DEADLINE, to_bytes(body, MOST_BYTES));
    let slow = |_| Problem::of(StatusCode::REQUEST_TIMEOUT, "The body took too long.");
    let large = |_| Problem::of(StatusCode::PAYLOAD_TOO_LARGE, "The body is too large.");
    reading.await.map_err(slow)?.map_err(large)
}

fn scopes(body: &[u8]) -> Result<Vec<Scope>, String> {
    let order: Order = serde_json::from_slice(body)
        .map_err(|_| "The body has to be {\"paths\": [..], \"prefixes\": [..]}.".to_owned())?;
    if order.paths.len() + order.prefixes.len() > AT_MOST {
        return Err(format!("At most {AT_MOST} names at once."));
    }
    let path = |text: &str| ImagePath::parse(text).map_err(|error| format!("{text:?}: {error}."));
    let pictures = order
        .paths
        .iter()
        .map(|text| path(text).map(Scope::Picture));
    let folders = order
        .prefixes
        .iter()
        .map(|text| match text.trim_matches('/') {
            "" => Ok(Scope::All),
            _ => path(text.strip_suffix('/').unwrap_or(text)).map(Scope::Below),
        });
    pictures.chain(folders).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> ImagePath {
        ImagePath::parse(text).expect("a path")
    }

    #[test]
    fn names_are_taken_with_and_without_their_slashes() {
        let body = br#"{"paths":["/a/b.webp","c.png"],"prefixes":["/mount/pic/","x","/"]}"#;
        let expected = vec![
            Scope::Picture(path("a/b.webp")),
            Scope::Picture(path("c.png")),
            Scope::Below(path("mount/pic")),
            Scope::Below(path("x")),
            Scope::All,
        ];
        assert_eq!(scopes(body), Ok(expected));
        assert_eq!(scopes(b"{}"), Ok(vec![]));
    }

    #[test]
    fn what_is_no_order_is_refused_as_a_whole() {
        assert!(scopes(b"").is_err());
        assert!(scopes(br#"{"paths":["ok.png","../etc/passwd"]}"#).is_err());
        assert!(scopes(br#"{"prefixes":["a//b"]}"#).is_err());
    }
}
