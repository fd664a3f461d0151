//! `GET /favicon.ico`: the owner's own icon, if there is one among the pictures.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, Method, StatusCode};
use tuyun_protocol::ImagePath;

use super::Shared;
use super::picture::serve;
use super::respond::Asked;
use crate::cache::Moment;

/// Where the icon lies: the original nodes look there.
const ICON: &str = "mount/pic/favicon.webp";

pub(super) async fn show(
    State(shared): State<Arc<Shared>>,
    method: Method,
    headers: HeaderMap,
) -> Response {
    let Ok(path) = ImagePath::parse(ICON) else {
        return StatusCode::NO_CONTENT.into_response();
    };
    let asked = Asked {
        method: &method,
        headers: &headers,
        now: Moment::now(),
    };
    let response = serve(&shared, &path, &asked).await;
    let status = response.status();
    if status.is_client_error() || status.is_server_error() {
        // No icon is no error, and a browser asks for it unasked.
        return StatusCode::NO_CONTENT.into_response();
    }
    response
}
