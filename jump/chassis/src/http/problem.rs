//! Errors as the contract has them: a status and `{"code": <non-zero>, "msg": "<text>"}`.

use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;

/// An error for whoever asked.
#[derive(Clone, Debug)]
pub struct Problem {
    status: StatusCode,
    code: u32,
    msg: String,
    retry_after: Option<Duration>,
}

#[derive(Serialize)]
struct Shape<'a> {
    code: u32,
    msg: &'a str,
}

impl Problem {
    /// An error with a code of the contract's own.
    pub fn new(status: StatusCode, code: u32, msg: impl Into<String>) -> Self {
        Self {
            status,
            code,
            msg: msg.into(),
            retry_after: None,
        }
    }

    /// An error whose code is its status.
    pub fn of(status: StatusCode, msg: impl Into<String>) -> Self {
        Self::new(status, u32::from(status.as_u16()), msg)
    }

    /// 400: the request itself is wrong.
    pub fn bad_request(msg: impl Into<String>) -> Self {
        Self::of(StatusCode::BAD_REQUEST, msg)
    }

    /// 404: known not to exist.
    pub fn not_found(msg: impl Into<String>) -> Self {
        Self::of(StatusCode::NOT_FOUND, msg)
    }

    /// 500: our own fault; the log says more.
    #[must_use]
    pub fn internal() -> Self {
        Self::of(StatusCode::INTERNAL_SERVER_ERROR, "Internal error.")
    }

    /// 503: not now.
    pub fn unavailable(msg: impl Into<String>, retry_after: Duration) -> Self {
        Self::of(StatusCode::SERVICE_UNAVAILABLE, msg).retry_after(retry_after)
    }

    /// Adds `Retry-After`, in whole seconds and at least one.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// The response itself; an error is never cached.
    #[must_use]
    pub fn response(&self) -> Response {
        let shape = Shape {
            code: self.code,
            msg: &self.msg,
        };
        let body = serde_json::to_vec(&shape).unwrap_or_default();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(wait) = self.retry_after {
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        response
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        self.response()
    }
}
