//! How the service says no.
//!
//! One type for every refusal of Graph and storage: a status, a code, perhaps an inner code, and a
//! message, rendered with the request's id as section 8.4 of the behaviour reference shows.

use std::borrow::Cow;

use axum::{body::Body, response::Response};
use http::{HeaderName, HeaderValue, StatusCode, header};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::names::BadName;

/// An error reply; boxed, so that the results which carry it stay small.
#[derive(Debug, Clone)]
pub(crate) struct Refusal(Box<Parts>);

#[derive(Debug, Clone)]
struct Parts {
    status: StatusCode,
    code: Cow<'static, str>,
    inner: Option<Cow<'static, str>>,
    message: Cow<'static, str>,
    headers: Vec<(HeaderName, String)>,
    /// The whole body, where it is not Graph's (the token endpoint).
    body: Option<Value>,
}

impl Refusal {
    pub(crate) fn new(
        status: u16,
        code: impl Into<Cow<'static, str>>,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self(Box::new(Parts {
            status: StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            code: code.into(),
            inner: None,
            message: message.into(),
            headers: Vec::new(),
            body: None,
        }))
    }

    /// A refusal whose body is given whole.
    pub(crate) fn whole(status: u16, body: Value) -> Self {
        let mut refusal = Self::new(status, "", "");
        refusal.0.body = Some(body);
        refusal
    }

    pub(crate) fn inner(mut self, code: impl Into<Cow<'static, str>>) -> Self {
        self.0.inner = Some(code.into());
        self
    }

    pub(crate) fn header(mut self, name: HeaderName, value: impl Into<String>) -> Self {
        self.0.headers.push((name, value.into()));
        self
    }

    pub(crate) fn invalid(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(400, "invalidRequest", message)
    }

    pub(crate) fn not_found() -> Self {
        Self::new(404, "itemNotFound", "The resource could not be found.")
    }

    pub(crate) fn name_exists() -> Self {
        Self::new(
            409,
            "nameAlreadyExists",
            "An item with the same name already exists under the parent",
        )
    }

    pub(crate) fn stale() -> Self {
        Self::new(
            412,
            "resourceModified",
            "ETag does not match current item's value",
        )
        .inner("entityTagDoesNotMatch")
    }

    pub(crate) fn denied(message: &'static str) -> Self {
        Self::new(403, "accessDenied", message)
    }

    pub(crate) fn not_supported(message: &'static str) -> Self {
        Self::new(501, "notSupported", message)
    }

    pub(crate) fn quota() -> Self {
        Self::new(507, "quotaLimitReached", "Insufficient Space Available")
    }

    pub(crate) fn method(allow: &'static str) -> Self {
        Self::new(
            405,
            "methodNotAllowed",
            "The HTTP method is not allowed on this resource.",
        )
        .header(header::ALLOW, allow)
    }

    pub(crate) fn unauthenticated(message: &'static str) -> Self {
        Self::new(401, "InvalidAuthenticationToken", message).header(
            header::WWW_AUTHENTICATE,
            "Bearer realm=\"\", error=\"invalid_token\"",
        )
    }

    /// The temporary store failed us: the emulator's own fault, not the client's.
    pub(crate) fn spool(error: &std::io::Error) -> Self {
        Self::new(
            500,
            "generalException",
            format!("The emulator cannot store bytes: {error}"),
        )
    }

    #[cfg(test)]
    pub(crate) fn status(&self) -> u16 {
        self.0.status.as_u16()
    }

    pub(crate) fn render(self, request_id: &str, now: Timestamp) -> Response {
        let Parts {
            status,
            code,
            inner: inner_code,
            message,
            headers,
            body,
        } = *self.0;
        let body = body.unwrap_or_else(|| {
            let mut inner = json!({
                "date": format!("{now:.0}").trim_end_matches('Z'),
                "request-id": request_id,
                "client-request-id": request_id,
            });
            if let Some(code) = inner_code {
                inner["code"] = Value::from(code.into_owned());
            }
            json!({ "error": { "code": code, "message": message, "innerError": inner } })
        });
        let mut response = json_reply(status, &body);
        for (name, value) in headers {
            if let Ok(value) = HeaderValue::try_from(value) {
                response.headers_mut().append(name, value);
            }
        }
        response
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            formatter,
            "{} {}: {}",
            self.0.status.as_u16(),
            self.0.code,
            self.0.message
        )
    }
}

impl From<BadName> for Refusal {
    fn from(bad: BadName) -> Self {
        Self::invalid(bad.to_string()).inner(bad.inner())
    }
}

/// A JSON reply.
pub(crate) fn json_reply(status: StatusCode, body: &Value) -> Response {
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json; charset=utf-8"),
    );
    response
}

/// A reply without a body.
pub(crate) fn empty_reply(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}
