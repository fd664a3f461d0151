//! `$batch`: several requests in one, each with its own outcome.

use std::{collections::HashMap, sync::Arc};

use axum::{body::Body, response::Response};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderName, HeaderValue, Method, Request, header};
use http_body_util::BodyExt as _;
use serde_json::{Map, Value, json};

use super::{attend::Wire, body, graph};
use crate::{refusal::Refusal, world::World};

/// The most members of one batch.
const MEMBERS: usize = 20;

pub(super) async fn answer(
    world: &Arc<World>,
    request: Request<Body>,
) -> Result<Response, Refusal> {
    let authorization = request.headers().get(header::AUTHORIZATION).cloned();
    let wire = request.extensions().get::<Wire>().cloned();
    let wish = body::json(request).await?;
    let members = wish
        .get("requests")
        .and_then(Value::as_array)
        .filter(|members| !members.is_empty())
        .ok_or_else(|| Refusal::new(400, "BadRequest", "Invalid batch payload format."))?;
    if members.len() > MEMBERS {
        return Err(Refusal::new(
            400,
            "BadRequest",
            "A batch has at most 20 requests.",
        ));
    }
    let mut statuses: HashMap<String, u16> = HashMap::new();
    let mut responses = Vec::new();
    // In order: what a member depends on stands before it.
    for member in members {
        let id = text(member, "id")
            .filter(|id| !statuses.contains_key(*id))
            .ok_or_else(|| Refusal::new(400, "BadRequest", "Each request needs an id of its own."))?
            .to_owned();
        let failed = depends_on(member, &statuses)?;
        let reply = if failed {
            json!({ "id": id, "status": 424, "headers": {}, "body": { "error": {
                "code": "FailedDependency",
                "message": "The request was not executed because a request it depends on failed.",
            } } })
        } else {
            let response = match build(member, authorization.as_ref(), wire.as_ref()) {
                Some(request) => graph::serve(Arc::clone(world), request, true).await,
                None => Refusal::new(400, "BadRequest", "The request is malformed.")
                    .render(&id, world.now()),
            };
            record(&id, response).await
        };
        let status = reply["status"]
            .as_u64()
            .and_then(|status| u16::try_from(status).ok());
        statuses.insert(id, status.unwrap_or(500));
        responses.push(reply);
    }
    // The service promises no order; the reverse shows who relies on one.
    responses.reverse();
    Ok(graph::ok(&json!({ "responses": responses })))
}

/// Whether something that the member depends on has failed.
fn depends_on(member: &Value, statuses: &HashMap<String, u16>) -> Result<bool, Refusal> {
    let Some(names) = member.get("dependsOn").and_then(Value::as_array) else {
        return Ok(false);
    };
    let mut failed = false;
    for name in names {
        let status = name
            .as_str()
            .and_then(|name| statuses.get(name))
            .ok_or_else(|| {
                Refusal::new(
                    400,
                    "BadRequest",
                    "A request depends on one that does not precede it.",
                )
            })?;
        failed |= *status >= 400;
    }
    Ok(failed)
}

fn build(
    member: &Value,
    authorization: Option<&HeaderValue>,
    wire: Option<&Wire>,
) -> Option<Request<Body>> {
    let method = Method::from_bytes(text(member, "method")?.as_bytes()).ok()?;
    let url = text(member, "url")?;
    let slash = if url.starts_with('/') { "" } else { "/" };
    let mut request = Request::builder()
        .method(method)
        .uri(format!("/v1.0{slash}{url}"));
    let mut json = true;
    if let Some(headers) = member.get("headers").and_then(Value::as_object) {
        for (name, value) in headers {
            let name = HeaderName::try_from(name.as_str()).ok()?;
            let value = value.as_str()?;
            if name == header::CONTENT_TYPE {
                json = value.starts_with("application/json");
            }
            request = request.header(name, value);
        }
    }
    if let Some(authorization) = authorization {
        request = request.header(header::AUTHORIZATION, authorization);
    }
    let bytes = match member.get("body") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::String(text)) if !json => STANDARD.decode(text).ok()?,
        Some(value) => value.to_string().into_bytes(),
    };
    let mut request = request
        .header(header::CONTENT_LENGTH, bytes.len())
        .body(Body::from(bytes))
        .ok()?;
    if let Some(wire) = wire {
        request.extensions_mut().insert(wire.clone());
    }
    Some(request)
}

/// A member's reply as JSON.
async fn record(id: &str, response: Response) -> Value {
    let (parts, body) = response.into_parts();
    // Replies of Graph are in memory: they cannot break off.
    let bytes = body
        .collect()
        .await
        .map(http_body_util::Collected::to_bytes)
        .unwrap_or_default();
    let mut headers = Map::new();
    for (name, value) in &parts.headers {
        if let Ok(value) = value.to_str() {
            headers.insert(canonical(name), value.into());
        }
    }
    let mut reply = json!({ "id": id, "status": parts.status.as_u16(), "headers": headers });
    if !bytes.is_empty() {
        reply["body"] =
            serde_json::from_slice(&bytes).unwrap_or_else(|_| Value::from(STANDARD.encode(&bytes)));
    }
    reply
}

/// Header names inside a batch are written as on paper: `Retry-After`.
fn canonical(name: &HeaderName) -> String {
    let words: Vec<String> = name
        .as_str()
        .split('-')
        .map(|word| {
            let mut letters = word.chars();
            letters.next().map_or_else(String::new, |first| {
                first.to_ascii_uppercase().to_string() + letters.as_str()
            })
        })
        .collect();
    words.join("-")
}

fn text<'a>(member: &'a Value, name: &str) -> Option<&'a str> {
    member.get(name).and_then(Value::as_str)
}
