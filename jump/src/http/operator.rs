//! What the operator asks: who is there, who would serve this path and why, is jump well.

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::extract::{Query, State};
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tuyun_chassis::http::Problem;
use tuyun_protocol::ImagePath;

use super::Shared;
use crate::choose::{Policy, Target, choose};
use crate::roster::{Health, Kind, Node};

/// A node as the operator sees it.
#[derive(Serialize)]
struct Shown<'a> {
    server_id: &'a str,
    url: &'a str,
    /// `up`, `down` (it does not answer probes) or `unproven` (not reached yet).
    state: &'static str,
    /// Whole seconds that its lease has left.
    ttl: u64,
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<&'a str>,
}

impl<'a> Shown<'a> {
    fn new(node: &'a Node, now: Instant) -> Self {
        Self {
            server_id: node.lease.id.as_str(),
            url: node.lease.url.as_str(),
            state: match node.health {
                Health::Up => "up",
                Health::Down => "down",
                Health::Unproven => "unproven",
            },
            ttl: node.until.saturating_duration_since(now).as_secs(),
            kind: match node.lease.kind {
                Kind::Tuyun => "tuyun",
                Kind::Original => "original",
            },
            version: node.lease.version.as_deref(),
        }
    }
}

/// `GET /_api/nodes`: the roster, in the order of priority.
pub(super) async fn nodes(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    if let Err(denied) = shared.admin.check(&headers) {
        return denied.into_response();
    }
    let now = Instant::now();
    let roster = shared.keeper.roster();
    let leased = roster.nodes().iter().filter(|node| now < node.until);
    let shown: Vec<_> = leased.map(|node| Shown::new(node, now)).collect();
    Json(json!({ "nodes": shown })).into_response()
}

/// What `explain` is asked.
#[derive(Deserialize)]
pub(super) struct Asked {
    path: Option<String>,
}

/// `GET /_api/explain?path=`: who would serve this path, and why.
pub(super) async fn explain(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    Query(asked): Query<Asked>,
) -> Response {
    if let Err(denied) = shared.admin.check(&headers) {
        return denied.into_response();
    }
    let Some(path) = asked.path else {
        return Problem::bad_request("`path` is missing.").response();
    };
    // The query's value has been decoded once already.
    let path = match ImagePath::parse(&path) {
        Ok(path) => path,
        Err(bad) => return Problem::bad_request(bad.to_string()).response(),
    };
    let now = Instant::now();
    let roster = shared.keeper.roster();
    let (policy, rule) = match shared.policy {
        Policy::Priority => (
            "priority",
            "the lowest number that lives, then the first name",
        ),
        Policy::Affinity => (
            "affinity",
            "of the nodes that live, the one this path belongs to",
        ),
    };
    let (server_id, location, why) = match choose(&roster, shared.policy, &path, now) {
        Target::Node(node) => (
            Some(node.lease.id.as_str()),
            node.lease.url.join(&path, None),
            rule,
        ),
        Target::Origin => (None, shared.origin.join(&path, None), "no node is alive"),
    };
    let leased = roster.nodes().iter().filter(|node| now < node.until);
    let nodes: Vec<_> = leased.map(|node| Shown::new(node, now)).collect();
    Json(json!({
        "path": path.as_str(),
        "target": if server_id.is_some() { "node" } else { "origin" },
        "server_id": server_id,
        "location": location,
        "policy": policy,
        "why": why,
        "nodes": nodes,
    }))
    .into_response()
}

/// `GET /_api/health`, for everybody: jump answers. It does so without Redis too, less well.
pub(super) async fn health(State(shared): State<Arc<Shared>>) -> Response {
    let troubles = shared.readiness.troubles();
    let (status, said) = if troubles.contains_key(crate::STOPPING) {
        (StatusCode::SERVICE_UNAVAILABLE, "stopping")
    } else if troubles.is_empty() {
        (StatusCode::OK, "ok")
    } else {
        (StatusCode::OK, "degraded")
    };
    let nodes = shared.keeper.roster().alive(Instant::now()).count();
    (status, Json(json!({ "status": said, "nodes": nodes }))).into_response()
}
