//! `GET`/`HEAD /{path}`: the picture.
//!
//! `fmt`, `w`, `h` and `q` ask for a variant. None are made yet, and a format that is off serves the
//! original, so the query plays no part here; it never reaches the origin in any case.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use jiff::Zoned;
use tuyun_chassis::http::Problem;
use tuyun_protocol::ImagePath;

use super::Shared;
use super::respond::{Asked, respond};
use crate::cache::{Answer, How, Moment};

pub(super) async fn show(
    State(shared): State<Arc<Shared>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    if method != Method::GET && method != Method::HEAD {
        let problem = Problem::of(StatusCode::METHOD_NOT_ALLOWED, "Pictures are only read.");
        return (
            [(header::ALLOW, HeaderValue::from_static("GET, HEAD"))],
            problem,
        )
            .into_response();
    }
    let path = match ImagePath::from_request(uri.path()) {
        Ok(path) => path,
        Err(error) => return Problem::bad_request(format!("{error}.")).into_response(),
    };
    // `/%5Fapi/…` is control as well once it is decoded.
    if path.segments().next() == Some("_api") {
        return super::unknown().await.into_response();
    }
    if shared.meter.is_shut()
        && let Some(refusal) = shared.meter.refusal(&Zoned::now())
    {
        return refusal.into_response();
    }
    serve(
        &shared,
        &path,
        &Asked {
            method: &method,
            headers: &headers,
            now: Moment::now(),
        },
    )
    .await
}

/// Asks the cache, counts, and answers.
pub(super) async fn serve(shared: &Shared, path: &ImagePath, asked: &Asked<'_>) -> Response {
    shared.counters.asked();
    let answer = shared.cache.answer(path).await;
    if matches!(
        answer,
        Answer::Stored {
            how: How::Hit | How::Stale,
            ..
        } | Answer::Absent { known: true }
    ) {
        shared.counters.hit();
    }
    shared.answers.count(&answer);
    respond(answer, asked, &shared.counters)
}
