//! `GET`/`HEAD /{path}?{query}` → 302 to the node that should serve it, or to the origin.

use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use tuyun_chassis::http::{Client, Problem, TooMany};
use tuyun_protocol::{ImagePath, Labels};

use super::Shared;
use crate::choose::{Target, choose};
use crate::gate::Closed;
use crate::metrics::Metrics;

/// What a visitor asks for, and what decides about the answer.
#[derive(Debug)]
pub(super) struct Visit<'a> {
    pub(super) client: Client,
    pub(super) path: &'a ImagePath,
    pub(super) query: Option<&'a str>,
    pub(super) referer: Option<&'a str>,
}

/// Why a visitor is not sent on.
#[derive(Debug)]
pub(super) enum Refusal {
    TooMany(TooMany),
    Closed(Closed),
}

impl Shared {
    /// Where a visitor is sent. Nothing here waits.
    pub(super) fn send(&self, visit: &Visit<'_>, now: Instant) -> String {
        let roster = self.keeper.roster();
        let labels = if roster.is_labelled() && !self.atlas.is_empty() {
            self.atlas.find(visit.client.0)
        } else {
            Labels::default()
        };
        let target = choose(&roster, self.policy, visit.path, &labels, now);
        match target {
            Target::Node(node) => {
                self.metrics.to_node.inc();
                node.lease.url.join(visit.path, visit.query)
            }
            Target::Origin => {
                self.metrics.to_origin.inc();
                self.origin.join(visit.path, visit.query)
            }
        }
    }

    /// Whether a visitor asks too often. Counts it.
    pub(super) fn limit(&self, client: Client) -> Result<(), Refusal> {
        self.redirects.check(client).map_err(Refusal::TooMany)
    }

    /// Whether the picture may be shown where the visitor wants it.
    pub(super) fn pass(&self, visit: &Visit<'_>) -> Result<(), Refusal> {
        let keys = self.link_keys.as_ref().map(|keys| keys.load());
        let keys = keys.as_ref().map_or(&[][..], |keys| keys.as_slice());
        if self.gate.is_open(keys) {
            return Ok(());
        }
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let Visit {
            path,
            query,
            referer,
            ..
        } = visit;
        self.gate
            .check(keys, path, *query, *referer, now.as_secs())
            .map_err(Refusal::Closed)
    }
}

impl Refusal {
    fn response(&self, metrics: &Metrics) -> Response {
        match self {
            Self::TooMany(many) => {
                metrics.limited.inc();
                Problem::from(*many).response()
            }
            Self::Closed(closed) => {
                metrics.foreign.inc();
                Problem::of(StatusCode::FORBIDDEN, closed.to_string()).response()
            }
        }
    }
}

/// Sends a visitor on.
pub(super) async fn redirect(
    State(shared): State<Arc<Shared>>,
    client: Client,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    if method != Method::GET && method != Method::HEAD {
        let allow = [(header::ALLOW, HeaderValue::from_static("GET, HEAD"))];
        let problem = Problem::of(StatusCode::METHOD_NOT_ALLOWED, "Only GET and HEAD.");
        return (allow, problem).into_response();
    }
    let metrics = &shared.metrics;
    // Whoever asks for nonsense has a limit, too.
    if let Err(refusal) = shared.limit(client) {
        return refusal.response(metrics);
    }
    let path = match ImagePath::from_request(uri.path()) {
        Ok(path) => path,
        Err(bad) => {
            metrics.bad_path.inc();
            return Problem::bad_request(bad.to_string()).response();
        }
    };
    // A header that is no text names no site.
    let referer = headers.get(header::REFERER);
    let referer = referer.map(|value| value.to_str().unwrap_or("?"));
    let visit = Visit {
        client,
        path: &path,
        query: uri.query(),
        referer,
    };
    if let Err(refusal) = shared.pass(&visit) {
        return refusal.response(metrics);
    }
    if let Some(per_second) = shared.fleet_limit
        && let Some(wait) = shared.keeper.count(client.key(), per_second).await
    {
        return Refusal::TooMany(TooMany(wait)).response(metrics);
    }
    let Ok(location) = HeaderValue::try_from(shared.send(&visit, Instant::now())) else {
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
