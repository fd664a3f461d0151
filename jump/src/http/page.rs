//! `GET /`: the status page, and what it shows.
//!
//! Everybody sees how many nodes live and how many visitors are sent on; who and where the nodes are,
//! and what may be done with them, is for the operator. The page is one file without anything from
//! elsewhere, in two languages, light and dark; without scripts it still says how many nodes live.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, HeaderValue, header};
use serde::Serialize;
use serde_json::{Value, json};
use tuyun_chassis::http::page;

use super::Shared;
use super::operator::Shown;
use crate::choose::Policy;
use crate::roster::{Day, Health, Node};

const PAGE: &str = include_str!("page.html");

/// Days in a plot.
const DAYS: usize = 14;

/// The page.
pub(super) async fn status(State(shared): State<Arc<Shared>>) -> Response {
    let nodes = shared.keeper.roster().alive(Instant::now()).count();
    let said = match nodes {
        0 => {
            "No node is alive: visitors go to the origin. 没有存活的节点，访客直接回源。".to_owned()
        }
        1 => "1 node is alive. 1 个节点存活。".to_owned(),
        more => format!("{more} nodes are alive. {more} 个节点存活。"),
    };
    page(PAGE, &said)
}

/// `GET /_api/overview`: what the page shows; to the operator with the fleet.
pub(super) async fn overview(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    let now = Instant::now();
    let roster = shared.keeper.roster();
    let nodes: Vec<&Node> = roster
        .nodes()
        .iter()
        .filter(|node| now < node.until)
        .collect();
    let states: BTreeMap<&str, usize> = Health::NAMES
        .map(|(health, name)| {
            (
                name,
                nodes.iter().filter(|node| node.health == health).count(),
            )
        })
        .into();
    let metrics = &shared.metrics;
    let mut said = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "policy": match shared.policy {
            Policy::Priority => "priority",
            Policy::Affinity => "affinity",
            Policy::Weighted => "weighted",
        },
        "registry": match (shared.shares, shared.keeper.is_lost()) {
            (false, _) => "memory",
            (true, false) => "redis",
            (true, true) => "lost",
        },
        "nodes": states,
        "redirects": {
            "to_node": metrics.to_node.get(),
            "to_origin": metrics.to_origin.get(),
            "seconds": shared.pulse.seconds(),
        },
        "operator": false,
    });
    if shared.operator.check(&headers).is_ok() {
        said["operator"] = true.into();
        said["fleet"] = nodes.iter().map(|node| show(node, now)).collect();
        said["days"] = json!(days(&nodes));
    }
    let fresh = [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    (fresh, Json(said)).into_response()
}

fn show(node: &Node, now: Instant) -> Value {
    let mut shown = json!(Shown::new(node, now));
    if let Some(seen) = &node.sighting {
        shown["figures"] = json!({
            "get": seen.get,
            "hits": seen.hits,
            "traffic_in": seen.traffic_in,
            "traffic_out": seen.traffic_out,
            "rate": seen.rate,
        });
    }
    shown
}

/// What all nodes served together.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Sum {
    date: String,
    traffic_in: u64,
    traffic_out: u64,
    saved: u64,
}

/// The last days of all nodes, the oldest first.
fn days(nodes: &[&Node]) -> Vec<Sum> {
    let mut sums: BTreeMap<&str, (u64, u64, u64)> = BTreeMap::new();
    let seen = nodes.iter().filter_map(|node| node.sighting.as_deref());
    for Day {
        date,
        traffic_in,
        traffic_out,
    } in seen.flat_map(|seen| &seen.days)
    {
        let (into, out, saved) = sums.entry(date).or_default();
        *into = into.saturating_add(*traffic_in);
        *out = out.saturating_add(*traffic_out);
        *saved = saved.saturating_add(traffic_out.saturating_sub(*traffic_in));
    }
    let last = sums.len().saturating_sub(DAYS);
    let kept = sums.into_iter().skip(last);
    kept.map(|(date, (traffic_in, traffic_out, saved))| Sum {
        date: date.to_owned(),
        traffic_in,
        traffic_out,
        saved,
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::roster::Sighting;
    use crate::roster::tests::{lease, table_of};

    #[test]
    fn days_of_all_nodes_are_one_plot() {
        let now = Instant::now();
        let mut table = table_of(&["1", "2"], now);
        let day = |date: &str, traffic_in, traffic_out| Day {
            date: date.to_owned(),
            traffic_in,
            traffic_out,
        };
        for (id, days) in [
            ("1", vec![day("2026-11-27", 1, 10), day("2026-11-26", 5, 2)]),
            ("2", vec![day("2026-11-27", 2, 20)]),
        ] {
            let seen = Sighting {
                url: format!("https://node-{id}.example/"),
                at: 1,
                days,
                ..Sighting::default()
            };
            table.seen(&lease(id).id, seen, now);
        }
        let roster = table.snapshot(now);
        let nodes: Vec<&Node> = roster.nodes().iter().collect();
        let sum = |date: &str, traffic_in, traffic_out, saved| Sum {
            date: date.to_owned(),
            traffic_in,
            traffic_out,
            saved,
        };
        let expected = [sum("2026-11-26", 5, 2, 0), sum("2026-11-27", 3, 30, 27)];
        assert_eq!(days(&nodes), expected);
    }
}
