//! `GET /_api/health`: may visitors be sent here? This is what jump probes.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderValue, StatusCode, header};
use serde_json::json;

use super::Shared;

/// Only readiness counts. A failing origin or a full disk do not make a node useless: what is held
/// is served, and another node would fare no better with the same origin.
pub(super) async fn show(State(shared): State<Arc<Shared>>) -> Response {
    let ready = shared.readiness.is_ready();
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let body = Json(json!({ "ok": ready, "server_id": shared.id }));
    let fresh = [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    (status, fresh, body).into_response()
}
