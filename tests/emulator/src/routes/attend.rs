//! What every request gets, whatever it asks: an entry in the log, latency, holds and faults.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{body::Body, response::Response};
use http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use http_body::Body as _;

use super::body;
use crate::{
    delta,
    faults::{Act, Reply, ReplyBody},
    ids,
    log::{Entry, Host},
    refusal::{self, Refusal},
    route::Route,
    signin,
    world::{Moment, World},
};

/// The connection that a request came by.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wire {
    pub(crate) number: u64,
    /// Once set, the connection breaks at its next byte.
    pub(crate) cut: Arc<AtomicBool>,
}

/// Where a request came to and what it is called.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Visit {
    pub(crate) host: Host,
    pub(crate) route: Route,
    pub(crate) batched: bool,
}

/// Carries a request through to its reply.
pub(crate) async fn attend<A, F>(
    world: Arc<World>,
    visit: Visit,
    request: Request<Body>,
    act: A,
) -> Response
where
    A: FnOnce(Arc<World>, Request<Body>) -> F,
    F: Future<Output = Result<Response, Refusal>>,
{
    let wire = request
        .extensions()
        .get::<Wire>()
        .cloned()
        .unwrap_or_default();
    let path = path_of(visit.host, &request);
    let mut note = Note::begin(&world, visit, &request, &path, &wire);
    let latency = world.state().settings.latency_ms;
    if latency > 0 && !visit.batched {
        tokio::time::sleep(Duration::from_millis(latency)).await;
    }
    let strike = world.faults.lock().strike(visit.route, &path);
    note.fault = strike.as_ref().map(Act::name);
    world.gates.pass(visit.route, Moment::Before).await;

    let head = request.method() == http::Method::HEAD;
    let ranged = request.headers().get(header::RANGE).cloned();
    let mut response = match before(&world, strike.as_ref(), &wire, request).await {
        Err(reply) => reply,
        Ok(mut request) => {
            if strike == Some(Act::IgnoreRange) {
                request.headers_mut().remove(header::RANGE);
            }
            let (parts, body) = request.into_parts();
            let (body, mut left) = body::Returning::wrap(body);
            let outcome = act(world.clone(), Request::from_parts(parts, body)).await;
            if let Ok(left) = left.try_recv() {
                body::drain(left).await;
            }
            match outcome {
                Ok(response) => response,
                Err(refusal) => refusal.render(&note.request_id, world.now()),
            }
        }
    };
    world.gates.pass(visit.route, Moment::Reply).await;
    response = after(&world, strike.as_ref(), &wire, response);
    if !head && ranged.is_none() && response.status() == StatusCode::NOT_MODIFIED {
        *response.body_mut() = Body::empty();
    }
    sign(response.headers_mut(), &note.request_id, visit.host);
    note.finish(&response, wire.cut.load(Ordering::Relaxed));
    response
}

/// What a fault does before the request takes effect: lets it pass, or answers in its place.
async fn before(
    world: &World,
    strike: Option<&Act>,
    wire: &Wire,
    request: Request<Body>,
) -> Result<Request<Body>, Response> {
    let now = world.now();
    match strike {
        Some(Act::Delay { millis }) => {
            tokio::time::sleep(Duration::from_millis(*millis)).await;
            Ok(request)
        }
        Some(Act::Refuse(reply)) => {
            body::drain(request.into_body()).await;
            Err(stand_in(reply, world))
        }
        Some(Act::LoseRequest) => {
            wire.cut.store(true, Ordering::Relaxed);
            Err(refusal::empty_reply(StatusCode::BAD_GATEWAY))
        }
        Some(Act::Resync {
            code,
            top,
            location,
        }) => {
            let fresh = format!("{}{}", world.links().graph, request.uri().path());
            let location = location.then_some(fresh);
            Err(delta::resync(code, *top, location).render(&ids::request_id(), now))
        }
        Some(Act::Oauth {
            status,
            error,
            number,
        }) => {
            body::drain(request.into_body()).await;
            let refusal = signin::injected(*status, error, *number, now);
            Err(refusal.render(&ids::request_id(), now))
        }
        Some(
            Act::RefuseAfterEffect(_)
            | Act::LoseReply
            | Act::EmptyBody
            | Act::IgnoreRange
            | Act::CutBody { .. }
            | Act::Stall { .. },
        )
        | None => Ok(request),
    }
}

/// What a fault does to the reply.
fn after(world: &World, strike: Option<&Act>, wire: &Wire, response: Response) -> Response {
    match strike {
        Some(Act::RefuseAfterEffect(reply)) => stand_in(reply, world),
        Some(Act::LoseReply) => {
            wire.cut.store(true, Ordering::Relaxed);
            response
        }
        Some(Act::EmptyBody) => {
            let (mut parts, _) = response.into_parts();
            parts.headers.remove(header::CONTENT_LENGTH);
            Response::from_parts(parts, Body::empty())
        }
        Some(Act::CutBody { after }) => broken(response, *after, None),
        Some(Act::Stall { after, millis }) => {
            broken(response, *after, Some(Duration::from_millis(*millis)))
        }
        Some(
            Act::Refuse(_)
            | Act::LoseRequest
            | Act::IgnoreRange
            | Act::Delay { .. }
            | Act::Resync { .. }
            | Act::Oauth { .. },
        )
        | None => response,
    }
}

/// A body that ends, or stands still, after so many bytes, while its length promises all.
fn broken(response: Response, after: u64, stall: Option<Duration>) -> Response {
    let (mut parts, whole) = response.into_parts();
    if let Some(length) = whole.size_hint().exact() {
        parts
            .headers
            .insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    Response::from_parts(parts, body::broken(whole, after, stall))
}

/// The reply that a fault asks for.
fn stand_in(reply: &Reply, world: &World) -> Response {
    let (usual, inner) = usual_codes(reply.status);
    let code = reply.code.clone().unwrap_or_else(|| usual.to_owned());
    let mut refusal = Refusal::new(reply.status, code, "The request was refused.");
    if let Some(inner) = reply.inner.clone().or_else(|| inner.map(str::to_owned)) {
        refusal = refusal.inner(inner);
    }
    let mut response = refusal.render(&ids::request_id(), world.now());
    match reply.body {
        ReplyBody::Json => {}
        ReplyBody::Empty => *response.body_mut() = Body::empty(),
        ReplyBody::Html => {
            *response.body_mut() =
                Body::from("<html><head><title>Error</title></head><body>Gateway</body></html>");
            response
                .headers_mut()
                .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html"));
        }
    }
    if let Some(seconds) = reply.retry_after {
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if let Some(location) = reply
        .location
        .as_ref()
        .and_then(|text| HeaderValue::try_from(text.as_str()).ok())
    {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

/// The codes that go with a status as a rule.
fn usual_codes(status: u16) -> (&'static str, Option<&'static str>) {
    match status {
        400 => ("invalidRequest", None),
        401 => ("InvalidAuthenticationToken", None),
        403 => ("accessDenied", None),
        404 => ("itemNotFound", None),
        409 => ("resourceModified", None),
        412 => ("resourceModified", Some("entityTagDoesNotMatch")),
        416 => ("invalidRange", None),
        423 => ("resourceLocked", Some("resourceLocked")),
        429 => ("activityLimitReached", Some("throttledRequest")),
        501 => ("notSupported", None),
        503 => ("serviceNotAvailable", None),
        504 => ("UnknownError", None),
        507 => ("quotaLimitReached", None),
        509 => ("bandwidthLimitExceeded", None),
        _ => ("generalException", None),
    }
}

fn sign(headers: &mut HeaderMap, request_id: &str, host: Host) {
    let Ok(id) = HeaderValue::try_from(request_id) else {
        return;
    };
    headers.insert("request-id", id.clone());
    match host {
        Host::Graph => headers.insert("client-request-id", id),
        Host::Storage => headers.insert("sprequestguid", id),
        Host::Login => headers.insert("x-ms-request-id", id),
    };
}

/// The path as the log keeps it: only Graph's queries are free of secrets.
fn path_of(host: Host, request: &Request<Body>) -> String {
    match (host, request.uri().query()) {
        (Host::Graph, Some(query)) => format!("{}?{query}", request.uri().path()),
        (Host::Graph, None) | (Host::Login | Host::Storage, _) => request.uri().path().to_owned(),
    }
}

/// The log entry of a request; completed even when its client goes away.
struct Note<'a> {
    world: &'a World,
    number: u64,
    request_id: String,
    fault: Option<String>,
    open: bool,
}

impl<'a> Note<'a> {
    fn begin(
        world: &'a World,
        visit: Visit,
        request: &Request<Body>,
        path: &str,
        wire: &Wire,
    ) -> Self {
        let text = |name| {
            request
                .headers()
                .get(name)
                .and_then(|v: &HeaderValue| v.to_str().ok())
                .map(str::to_owned)
        };
        let number = world.log.arrive(Entry {
            number: 0,
            route: visit.route,
            host: visit.host,
            method: request.method().to_string(),
            path: path.to_owned(),
            status: None,
            done: false,
            arrived_ms: 0,
            took_ms: None,
            batched: visit.batched,
            connection: wire.number,
            sent: text(header::CONTENT_LENGTH).and_then(|length| length.parse().ok()),
            retry_after: None,
            fault: None,
            user_agent: text(header::USER_AGENT),
        });
        world.pulse.beat();
        Self {
            world,
            number,
            request_id: ids::request_id(),
            fault: None,
            open: true,
        }
    }

    fn finish(&mut self, response: &Response, lost: bool) {
        let retry_after = response
            .headers()
            .get(header::RETRY_AFTER)
            .and_then(|value| value.to_str().ok()?.parse().ok());
        let status = (!lost).then(|| response.status().as_u16());
        self.close(status, retry_after);
    }

    fn close(&mut self, status: Option<u16>, retry_after: Option<u64>) {
        self.open = false;
        let fault = self.fault.take();
        self.world.log.finish(self.number, |entry| {
            entry.status = status;
            entry.retry_after = retry_after;
            entry.fault = fault;
        });
        self.world.pulse.beat();
    }
}

impl Drop for Note<'_> {
    fn drop(&mut self) {
        if self.open {
            self.close(None, None);
        }
    }
}
