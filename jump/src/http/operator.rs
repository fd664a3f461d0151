//! What the operator asks and orders: who is there, who would serve this path and why, drain this node,
//! give that one more. And for everybody: is jump well.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tuyun_chassis::http::Problem;
use tuyun_protocol::{ImagePath, Labels, NodeId};

use super::Shared;
use super::update::short_body;
use crate::choose::{Match, Nearness, Policy, Target, choose};
use crate::roster::{Kind, Node, Order, Roster};

/// The largest weight that can be ordered, in Mbit/s.
const MOST_WEIGHT: u32 = 1_000_000;

/// A node as the operator sees it.
#[derive(Serialize)]
pub(super) struct Shown<'a> {
    server_id: &'a str,
    url: &'a str,
    /// `up`, `down` (it does not answer probes), `unproven` (not reached yet) or `draining`.
    state: &'static str,
    /// Whole seconds that its lease has left.
    ttl: u64,
    kind: &'static str,
    /// What its share of visitors is measured by, where the policy is `weighted`.
    weight: u32,
    /// Percent.
    load: u8,
    #[serde(skip_serializing_if = "Labels::is_empty")]
    labels: &'a Labels,
    #[serde(skip_serializing_if = "Option::is_none")]
    order: Option<&'a Order>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<&'a str>,
}

impl<'a> Shown<'a> {
    pub(super) fn new(node: &'a Node, now: Instant) -> Self {
        Self {
            server_id: node.lease.id.as_str(),
            url: node.lease.url.as_str(),
            state: node.health.name(),
            ttl: node.until.saturating_duration_since(now).as_secs(),
            kind: match node.lease.kind {
                Kind::Tuyun => "tuyun",
                Kind::Original => "original",
            },
            weight: node.weight,
            load: node.load,
            labels: &node.labels,
            order: Some(&node.order).filter(|order| **order != Order::default()),
            version: node.lease.version.as_deref(),
        }
    }
}

fn leased(roster: &Roster, now: Instant) -> impl Iterator<Item = &Node> {
    roster.nodes().iter().filter(move |node| now < node.until)
}

/// `GET /_api/nodes`: the roster, in the order of priority.
pub(super) async fn nodes(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    if let Err(denied) = shared.operator.check(&headers) {
        return denied.into_response();
    }
    let now = Instant::now();
    let roster = shared.keeper.roster();
    let shown: Vec<_> = leased(&roster, now)
        .map(|node| Shown::new(node, now))
        .collect();
    Json(json!({ "nodes": shown })).into_response()
}

/// What `explain` is asked.
#[derive(Deserialize)]
pub(super) struct Asked {
    path: Option<String>,
    /// The visitor's; without one, a visitor of whom nothing is known.
    address: Option<String>,
}

/// `GET /_api/explain?path=[&address=]`: who would serve this path to this visitor, and why.
pub(super) async fn explain(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    Query(asked): Query<Asked>,
) -> Response {
    if let Err(denied) = shared.operator.check(&headers) {
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
    let visitor = match asked.address.as_deref().map(str::parse::<IpAddr>) {
        None => Labels::default(),
        Some(Ok(address)) => shared.atlas.find(address.to_canonical()),
        Some(Err(_)) => return Problem::bad_request("`address` is no IP address.").response(),
    };
    let now = Instant::now();
    let roster = shared.keeper.roster();
    let (policy, rule) = rule(shared.policy);
    let target = choose(&roster, shared.policy, &path, &visitor, now);
    let (server_id, location, why) = match target {
        Target::Node(node) => (
            Some(node.lease.id.as_str()),
            node.lease.url.join(&path, None),
            match nearness(&visitor, node, &roster) {
                Some(near) => format!("{near}; of those, {rule}"),
                None => rule.to_owned(),
            },
        ),
        Target::Origin => (
            None,
            shared.origin.join(&path, None),
            "no node is alive".to_owned(),
        ),
    };
    let nodes: Vec<Value> = leased(&roster, now)
        .map(|node| {
            let mut shown = json!(Shown::new(node, now));
            shown["verdict"] = verdict(node, server_id, &visitor, &roster, target, now).into();
            shown
        })
        .collect();
    Json(json!({
        "path": path.as_str(),
        "address": asked.address,
        "visitor": visitor,
        "target": if server_id.is_some() { "node" } else { "origin" },
        "server_id": server_id,
        "location": location,
        "policy": policy,
        "why": why,
        "nodes": nodes,
    }))
    .into_response()
}

fn rule(policy: Policy) -> (&'static str, &'static str) {
    match policy {
        Policy::Priority => (
            "priority",
            "the lowest number that lives, then the first name",
        ),
        Policy::Affinity => (
            "affinity",
            "of the nodes that live, the one this path belongs to",
        ),
        Policy::Weighted => (
            "weighted",
            "of the nodes that live, the one this path belongs to, shared out by capacity and load",
        ),
    }
}

/// What of a node's place is the visitor's, in words. Nothing, where places do not matter.
fn nearness(visitor: &Labels, node: &Node, roster: &Roster) -> Option<String> {
    if visitor.is_empty() || !roster.is_labelled() {
        return None;
    }
    let Nearness {
        country,
        isp,
        province,
    } = Nearness::of(visitor, &node.labels);
    let same: Vec<&str> = [
        (country, "country"),
        (isp, "provider"),
        (province, "province"),
    ]
    .into_iter()
    .filter_map(|(how, name)| (how == Match::Same).then_some(name))
    .collect();
    Some(if same.is_empty() {
        "no node is known to be near the visitor".to_owned()
    } else {
        format!("the nearest nodes, by {}", same.join(", "))
    })
}

/// Why a node is chosen or not.
fn verdict(
    node: &Node,
    chosen: Option<&str>,
    visitor: &Labels,
    roster: &Roster,
    target: Target<'_>,
    now: Instant,
) -> &'static str {
    if chosen == Some(node.lease.id.as_str()) {
        return "chosen";
    }
    if !node.is_alive(now) {
        return match node.health {
            crate::roster::Health::Down => "it does not answer probes",
            crate::roster::Health::Unproven => "no probe has reached it yet",
            crate::roster::Health::Draining => "it is draining",
            crate::roster::Health::Up => "its lease has ended",
        };
    }
    let Target::Node(winner) = target else {
        return "it came just now";
    };
    let matters = !visitor.is_empty() && roster.is_labelled();
    if matters && Nearness::of(visitor, &node.labels) < Nearness::of(visitor, &winner.labels) {
        return "another is nearer";
    }
    "it waits: the policy prefers another"
}

/// `POST /_api/nodes/{id}` `{"drain": bool, "weight": n | null, "labels": {…}}`: what is named changes,
/// the rest stays.
pub(super) async fn order(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    if let Err(denied) = shared.operator.check_change(&headers) {
        return denied.into_response();
    }
    let id: NodeId = match id.parse() {
        Ok(id) => id,
        Err(_) => return Problem::bad_request("That is no server_id.").response(),
    };
    let body = match short_body(body).await {
        Ok(body) => body,
        Err(problem) => return problem.response(),
    };
    let fields: Value = match serde_json::from_slice(&body) {
        Ok(fields @ Value::Object(_)) => fields,
        _ => return Problem::bad_request("The body is not a JSON object.").response(),
    };
    let order = match changed(shared.keeper.ordered(&id), &fields) {
        Ok(order) => order,
        Err(wrong) => return Problem::bad_request(wrong).response(),
    };
    tracing::info!(node = %id, ?order, "the operator orders");
    let order = (order != Order::default()).then_some(order);
    shared.keeper.order(&id, order).await;
    Json(json!({ "code": 0, "msg": "ok" })).into_response()
}

/// An order with these fields changed.
fn changed(mut order: Order, fields: &Value) -> Result<Order, &'static str> {
    match fields.get("drain") {
        None => {}
        Some(Value::Bool(drain)) => order.drain = *drain,
        Some(_) => return Err("`drain` is neither true nor false."),
    }
    match fields.get("weight") {
        None => {}
        Some(Value::Null) => order.weight = None,
        Some(weight) => {
            let number = weight
                .as_u64()
                .and_then(|number| u32::try_from(number).ok());
            let fits = number.filter(|number| (1..=MOST_WEIGHT).contains(number));
            order.weight =
                Some(fits.ok_or("`weight` is not a number of Mbit/s from 1 to 1000000.")?);
        }
    }
    match fields.get("labels") {
        None => {}
        Some(Value::Null) => order.labels = Labels::default(),
        Some(labels @ Value::Object(_)) => order.labels = Labels::from_json(labels),
        Some(_) => return Err("`labels` is not an object of isp, province and country."),
    }
    Ok(order)
}

/// `DELETE /_api/nodes/{id}`: the node is forgotten. One that lives reports again: to keep it away, drain
/// it or take its token out of the file.
pub(super) async fn remove(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Response {
    if let Err(denied) = shared.operator.check_change(&headers) {
        return denied.into_response();
    }
    let Ok(id) = id.parse::<NodeId>() else {
        return Problem::bad_request("That is no server_id.").response();
    };
    tracing::info!(node = %id, "the operator removes the node");
    shared.keeper.leave(&id).await;
    shared.keeper.order(&id, None).await;
    Json(json!({ "code": 0, "msg": "ok" })).into_response()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_changes_what_it_names_and_nothing_else() {
        let before = Order {
            weight: Some(7),
            drain: true,
            labels: Labels::new("telecom", "", ""),
        };
        let of = |fields| changed(before.clone(), &fields);
        assert_eq!(of(json!({})), Ok(before.clone()));
        assert!(!of(json!({ "drain": false })).unwrap().drain);
        assert_eq!(of(json!({ "weight": null })).unwrap().weight, None);
        assert_eq!(of(json!({ "weight": 50 })).unwrap().weight, Some(50));
        let labels = of(json!({ "labels": { "country": "CN" } })).unwrap().labels;
        assert_eq!(labels, Labels::new("", "", "cn"));
        for odd in [
            json!({ "drain": 1 }),
            json!({ "weight": 0 }),
            json!({ "weight": "7" }),
            json!({ "labels": [] }),
        ] {
            assert!(of(odd.clone()).is_err(), "{odd}");
        }
    }
}
