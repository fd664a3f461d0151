//! What is counted, in one table.
//!
//! | metric | labels | counts |
//! |---|---|---|
//! | `tuyun_jump_redirects_total` | `target`: `node`, `origin` | visitors sent on |
//! | `tuyun_jump_refused_total` | `reason`: `limit`, `path`, `hotlink` | visitors refused |
//! | `tuyun_jump_heartbeats_total` | `outcome`: `ok`, `refused`, `malformed`, `limit` | messages from nodes |
//! | `tuyun_jump_probes_total` | `outcome`: `ok`, `failed` | nodes asked whether they live |
//! | `tuyun_jump_nodes` | `state`: `up`, `down`, `unproven`, `draining` | nodes with a lease |
//! | `tuyun_jump_registry_up` | | 1 while the registry answers |

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::roster::{Health, Roster};

/// A metric's one label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Target {
    target: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct State {
    state: &'static str,
}

/// The counters, ready to be counted: none has to be looked up while a visitor waits.
#[derive(Debug)]
pub struct Metrics {
    /// Visitors sent to a node.
    pub to_node: Counter,
    /// Visitors sent to the origin.
    pub to_origin: Counter,
    /// Visitors who asked too often.
    pub limited: Counter,
    /// Visitors with a path that is none.
    pub bad_path: Counter,
    /// Visitors of pages that may not show pictures, or with links that are not good.
    pub foreign: Counter,
    /// Messages from nodes that were believed.
    pub heard: Counter,
    /// Messages that were not.
    pub refused: Counter,
    /// Messages that cannot be understood.
    pub malformed: Counter,
    /// Messages that came too often.
    pub heartbeats_limited: Counter,
    /// Probes that reached their node.
    pub reached: Counter,
    /// Probes that did not.
    pub missed: Counter,
    nodes: [(Health, Gauge); 4],
    registry_up: Gauge,
}

impl Metrics {
    /// Makes the counters and enters them in a registry.
    #[must_use]
    pub fn new() -> (Self, Registry) {
        let mut registry = Registry::with_prefix("tuyun_jump");
        let redirects = Family::<Target, Counter>::default();
        let turned_away = Family::<Reason, Counter>::default();
        let heartbeats = Family::<Outcome, Counter>::default();
        let probes = Family::<Outcome, Counter>::default();
        let nodes = Family::<State, Gauge>::default();
        let registry_up = Gauge::default();
        registry.register("redirects", "Visitors sent on", redirects.clone());
        registry.register("refused", "Visitors refused", turned_away.clone());
        registry.register("heartbeats", "Messages from nodes", heartbeats.clone());
        registry.register("probes", "Nodes asked whether they live", probes.clone());
        registry.register("nodes", "Nodes with a lease", nodes.clone());
        let help = "1 while the registry answers";
        registry.register("registry_up", help, registry_up.clone());

        let redirect = |target| redirects.get_or_create_owned(&Target { target });
        let away = |reason| turned_away.get_or_create_owned(&Reason { reason });
        let heartbeat = |outcome| heartbeats.get_or_create_owned(&Outcome { outcome });
        let probe = |outcome| probes.get_or_create_owned(&Outcome { outcome });
        let node = |state| nodes.get_or_create_owned(&State { state });
        let metrics = Self {
            to_node: redirect("node"),
            to_origin: redirect("origin"),
            limited: away("limit"),
            bad_path: away("path"),
            foreign: away("hotlink"),
            heard: heartbeat("ok"),
            refused: heartbeat("refused"),
            malformed: heartbeat("malformed"),
            heartbeats_limited: heartbeat("limit"),
            reached: probe("ok"),
            missed: probe("failed"),
            nodes: Health::NAMES.map(|(health, name)| (health, node(name))),
            registry_up,
        };
        (metrics, registry)
    }

    /// Counts the nodes of a new roster.
    pub(crate) fn count(&self, roster: &Roster) {
        let of = |health| {
            roster
                .nodes()
                .iter()
                .filter(|node| node.health == health)
                .count()
        };
        for (health, gauge) in &self.nodes {
            gauge.set(i64::try_from(of(*health)).unwrap_or(i64::MAX));
        }
    }

    pub(crate) fn registry_answers(&self, answers: bool) {
        self.registry_up.set(i64::from(answers));
    }
}
