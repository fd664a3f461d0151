//! Asks our nodes whether they live, as a visitor would reach them.
//!
//! Each node has a time of its own within the period, drawn by each jump for itself, so that neither
//! all nodes are asked at once nor one node by all jumps. A node that has just missed a probe is asked
//! again soon, since the second miss decides; one that has yet to be proven is asked at once.

pub mod ask;
pub mod figures;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::RngExt as _;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tuyun_protocol::{Base, NodeId};

pub use self::ask::{Asker, Finding};
use crate::keeper::Keeper;
use crate::metrics::Metrics;
use crate::roster::{Health, Kind, Node};

/// Probes at once: a large fleet is asked within its period, a small machine has descriptors left.
const AT_ONCE: usize = 32;

/// When a node in doubt is asked again.
const SOON: Duration = Duration::from_secs(1);

/// How often the roster is looked at for nodes that are new.
const LOOK: Duration = Duration::from_millis(200);

/// Probes nodes.
pub struct Prober {
    asker: Asker,
    period: Duration,
    /// Rung when a node came that gets visitors only after a probe.
    bell: Arc<Notify>,
}

/// When which node is asked next.
#[derive(Debug)]
struct Plan {
    period: Duration,
    due: HashMap<NodeId, Instant>,
    running: HashSet<NodeId>,
    /// Called for while a probe of theirs was running: that one may have come too early.
    called: HashSet<NodeId>,
}

impl Prober {
    /// Prepares probing each `period`; zero: only nodes that have to be proven.
    #[must_use]
    pub fn new(asker: Asker, period: Duration) -> Self {
        Self {
            asker,
            period,
            bell: Arc::default(),
        }
    }

    /// Rings when a node came that needs a probe at once.
    #[must_use]
    pub fn bell(&self) -> Arc<Notify> {
        Arc::clone(&self.bell)
    }

    /// Probes our nodes until `stop`.
    pub async fn run(&self, keeper: &Arc<Keeper>, metrics: &Metrics, stop: CancellationToken) {
        let work = async {
            let mut plan = Plan::new(self.period);
            let mut probes = JoinSet::new();
            loop {
                let now = Instant::now();
                let roster = Arc::clone(&keeper.roster());
                let due = plan.due(roster.nodes(), now, AT_ONCE - probes.len());
                for (id, url) in due {
                    let asker = self.asker.clone();
                    probes.spawn(async move {
                        let found = asker.ask(&url, "_api/health").await;
                        (id, url, found)
                    });
                }
                tokio::select! {
                    () = tokio::time::sleep(LOOK.min(self.pause())) => {}
                    () = self.bell.notified() => plan.again(keeper.roster().nodes()),
                    Some(Ok((id, url, found))) = probes.join_next() => {
                        let again = self.settle(keeper, metrics, &id, &url, &found).await;
                        plan.done(id, again, Instant::now());
                    }
                }
            }
        };
        stop.run_until_cancelled(work).await;
    }

    /// Short periods are for tests.
    fn pause(&self) -> Duration {
        if self.period.is_zero() {
            LOOK
        } else {
            (self.period / 4).max(Duration::from_millis(5))
        }
    }

    /// Tells what was found, and whether to ask again soon.
    async fn settle(
        &self,
        keeper: &Keeper,
        metrics: &Metrics,
        id: &NodeId,
        url: &Base,
        found: &Finding,
    ) -> bool {
        let reached = match found {
            Finding::Private => return false,
            found => found.is_well(),
        };
        let health = |keeper: &Keeper| {
            let roster = keeper.roster();
            let node = roster.nodes().iter().find(|node| node.lease.id == *id);
            node.map(|node| (node.health, node.doubt))
        };
        let before = health(keeper);
        if reached {
            metrics.reached.inc()
        } else {
            metrics.missed.inc()
        };
        keeper.probed(id, url, reached).await;
        let after = health(keeper);
        match (before, after) {
            (Some((Health::Down, _)), Some((Health::Up | Health::Draining, _))) => {
                tracing::info!(node = %id, "the node answers again, it gets visitors");
            }
            (Some((was, _)), Some((Health::Down, _))) if was != Health::Down => {
                tracing::warn!(node = %id, %url, "the node does not answer its probes, it gets no visitors");
            }
            _ => {}
        }
        after.is_some_and(|(_, doubt)| doubt)
    }
}

impl Plan {
    fn new(period: Duration) -> Self {
        Self {
            period,
            due: HashMap::new(),
            running: HashSet::new(),
            called: HashSet::new(),
        }
    }

    /// The nodes to ask now, so many at most.
    fn due(&mut self, nodes: &[Node], now: Instant, most: usize) -> Vec<(NodeId, Base)> {
        let ours = |node: &&Node| node.lease.kind == Kind::Tuyun && now < node.until;
        let known: HashMap<&NodeId, &Node> = nodes
            .iter()
            .filter(ours)
            .map(|node| (&node.lease.id, node))
            .collect();
        self.due.retain(|id, _| known.contains_key(id));
        let mut asked = Vec::new();
        for (id, node) in known {
            let unproven = node.health == Health::Unproven;
            if self.running.contains(id) || (self.period.is_zero() && !unproven) {
                continue;
            }
            let first = || {
                if unproven {
                    now
                } else {
                    now + self.period.mul_f64(rand::random())
                }
            };
            let due = *self.due.entry(id.clone()).or_insert_with(first);
            if due <= now && asked.len() < most {
                self.running.insert(id.clone());
                asked.push((id.clone(), node.lease.url.clone()));
            }
        }
        asked
    }

    /// Nodes that have to be proven are asked now.
    fn again(&mut self, nodes: &[Node]) {
        for node in nodes.iter().filter(|node| node.health == Health::Unproven) {
            self.due.remove(&node.lease.id);
            if self.running.contains(&node.lease.id) {
                self.called.insert(node.lease.id.clone());
            }
        }
    }

    /// A node was asked. The next time is a period later, give or take a tenth, since several jumps
    /// must not fall into step.
    fn done(&mut self, id: NodeId, soon: bool, now: Instant) {
        self.running.remove(&id);
        if self.called.remove(&id) {
            self.due.insert(id, now);
            return;
        }
        let stretch = rand::rng().random_range(0.9..1.1);
        let period = if self.period.is_zero() {
            // Only a heartbeat causes another probe: then `again` is called.
            Duration::from_hours(24)
        } else if soon {
            self.period.min(SOON)
        } else {
            self.period
        };
        self.due.insert(id, now + period.mul_f64(stretch));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::roster::tests::{lease, table_of};

    const PERIOD: Duration = Duration::from_secs(4);
    const TICK: Duration = Duration::from_millis(100);

    #[test]
    fn nodes_are_asked_once_a_period_and_not_all_at_once() {
        let start = Instant::now();
        let ids: Vec<String> = (1..=40).map(|number| number.to_string()).collect();
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        let nodes = table_of(&ids, start).snapshot(start);
        let mut plan = Plan::new(PERIOD);
        let mut asked: HashMap<NodeId, u32> = HashMap::new();
        let mut busiest = 0;
        for tick in 0..160 {
            let now = start + TICK * tick;
            let due = plan.due(nodes.nodes(), now, AT_ONCE);
            busiest = busiest.max(due.len());
            for (id, _) in due {
                *asked.entry(id.clone()).or_default() += 1;
                plan.done(id, false, now);
            }
        }
        assert_eq!(asked.len(), 40);
        assert!(
            asked.values().all(|times| (3..=5).contains(times)),
            "{asked:?}"
        );
        assert!(busiest < 20, "{busiest} at once");
    }

    #[test]
    fn a_node_in_doubt_is_asked_again_soon() {
        let start = Instant::now();
        let nodes = table_of(&["1"], start).snapshot(start);
        let mut plan = Plan::new(PERIOD);
        let id = lease("1").id;
        plan.done(id.clone(), true, start);
        assert_eq!(
            plan.due(nodes.nodes(), start + Duration::from_millis(1100), 1)
                .len(),
            1
        );
        plan.done(id, false, start);
        assert_eq!(
            plan.due(nodes.nodes(), start + Duration::from_millis(3500), 1)
                .len(),
            0
        );
    }

    #[test]
    fn a_node_that_is_being_asked_is_not_asked_twice_and_originals_never() {
        let start = Instant::now();
        let mut table = table_of(&["1"], start);
        let original = crate::roster::Lease {
            kind: Kind::Original,
            ..lease("2")
        };
        table.hear(original, PERIOD * 10, start).unwrap();
        let nodes = table.snapshot(start);
        let mut plan = Plan::new(PERIOD);
        let later = start + PERIOD;
        let first = plan.due(nodes.nodes(), start, 9).len();
        let second = plan.due(nodes.nodes(), later, 9).len();
        let third = plan.due(nodes.nodes(), later, 9).len();
        assert_eq!((first + second, third), (1, 0));
    }
}
