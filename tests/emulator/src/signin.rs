//! The login host: who may act for whom, and for how long.
//!
//! `grants` remembers what was given out; the other files are its endpoints.

mod assertion;
mod authorize;
mod device;
mod error;
mod grants;
mod token;

use std::{collections::HashMap, sync::Arc};

use axum::{body::Body, response::Response};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, Method, Request, header};
use http_body_util::{BodyExt as _, Limited};
use jiff::Timestamp;
use percent_encoding::percent_decode_str;

pub(crate) use grants::{Grants, Who};

use crate::{refusal::Refusal, route::Route, world::World};

/// Forms are short; what is longer is not one.
const FORM_LIMIT: usize = 64 * 1024;

/// The name of a request to the login host.
pub(crate) fn route(path: &str) -> Route {
    let path = path.trim_end_matches('/');
    if path.ends_with("/oauth2/v2.0/token") {
        Route::Token
    } else if path.ends_with("/oauth2/v2.0/authorize") {
        Route::Authorize
    } else if path.ends_with("/oauth2/v2.0/devicecode") {
        Route::Devicecode
    } else if path.ends_with("/oauth2/deviceauth") {
        Route::Deviceauth
    } else {
        Route::Unknown
    }
}

/// Answers a request to the login host.
pub(crate) async fn answer(
    world: Arc<World>,
    route: Route,
    request: Request<Body>,
) -> Result<Response, Refusal> {
    let tenant = request
        .uri()
        .path()
        .trim_start_matches('/')
        .split('/')
        .next()
        .unwrap_or("")
        .to_owned();
    let post = request.method() == Method::POST;
    let query = pairs(request.uri().query().unwrap_or(""));
    let basic = basic_credentials(request.headers());
    let mut form = if post {
        form(request).await?
    } else {
        HashMap::new()
    };
    if let Some((id, secret)) = basic {
        form.entry("client_id".to_owned()).or_insert(id);
        form.entry("client_secret".to_owned()).or_insert(secret);
    }
    match (route, post) {
        (Route::Authorize, false) => authorize::page(&world, &tenant, &query),
        (Route::Authorize, true) => authorize::decide(&world, &form),
        (Route::Token, true) => token::exchange(&world, &tenant, &form),
        (Route::Devicecode, true) => device::begin(&world, &form),
        (Route::Deviceauth, false) => Ok(device::page(&query)),
        (Route::Deviceauth, true) => device::decide(&world, &form),
        (Route::Token | Route::Devicecode, false) => Err(Refusal::method("POST")),
        _ => Err(Refusal::new(
            404,
            "ResourceNotFound",
            "There is no such page.",
        )),
    }
}

/// Client id and secret, where they come as a header in place of the form.
fn basic_credentials(headers: &HeaderMap) -> Option<(String, String)> {
    let header = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let pair = STANDARD.decode(header.strip_prefix("Basic ")?).ok()?;
    let pair = String::from_utf8(pair).ok()?;
    let (id, secret) = pair.split_once(':')?;
    let decode = |text: &str| percent_decode_str(text).decode_utf8().ok().map(Into::into);
    Some((decode(id)?, decode(secret)?))
}

async fn form(request: Request<Body>) -> Result<HashMap<String, String>, Refusal> {
    let body = Limited::new(request.into_body(), FORM_LIMIT)
        .collect()
        .await
        .map_err(|_| Refusal::invalid("The form is too long or broke off."))?
        .to_bytes();
    Ok(url::form_urlencoded::parse(&body).into_owned().collect())
}

fn pairs(query: &str) -> HashMap<String, String> {
    url::form_urlencoded::parse(query.as_bytes())
        .into_owned()
        .collect()
}

/// The error that a fault asks for.
pub(crate) fn injected(status: u16, error: &str, number: u32, now: Timestamp) -> Refusal {
    error::oauth(status, error, number, error::meaning(number), now)
}

/// A small HTML page.
fn html(status: u16, body: &str) -> Response {
    let mut response = Response::new(Body::from(format!(
        "<!doctype html><meta charset=utf-8><title>Sign in</title>{body}"
    )));
    *response.status_mut() =
        http::StatusCode::from_u16(status).unwrap_or(http::StatusCode::BAD_REQUEST);
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        http::HeaderValue::from_static("text/html; charset=utf-8"),
    );
    response
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('"', "&quot;")
}
