//! The nodes: their leases, and who is alive.
//!
//! The [`Table`] gathers what is known: heartbeats heard here, leases listed by the registry, probes,
//! and the operator's orders. A [`Roster`] is its picture at one moment, which redirects read without
//! a lock.

mod table;

use std::sync::Arc;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use tuyun_protocol::{Base, Labels, NodeId, Report};

pub use self::table::{Full, Listed, Restored, Table, Unsaved};

/// Nodes at most. Whoever has the shared token could invent more of them until memory runs out;
/// a fleet of thousands would need another design than one process that probes all.
pub const MOST_NODES: usize = 4096;

/// What a node can send, in Mbit/s, when nobody says: only the ratio to others counts.
const CAPACITY: u32 = 100;

/// What is left of a node that is full, in percent: it still gets somebody, or nobody would find out
/// that it is free again.
const LEAST_FREE: u32 = 5;

/// What a node said of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Who.
    pub id: NodeId,
    /// Where visitors are sent.
    pub url: Base,
    /// Whose program it is.
    pub kind: Kind,
    /// False as long as it is only said that visitors reach it there, and no probe has.
    pub proven: bool,
    /// Which program and version.
    pub version: Option<String>,
    /// What else it said of itself.
    pub report: Report,
}

impl Lease {
    /// Whether other jumps may as well hear of it at their next look: how busy a node is changes with
    /// each report.
    #[must_use]
    pub fn says_the_same_as(&self, other: &Self) -> bool {
        let busy = |lease: &Self| {
            let mut lease = lease.clone();
            lease.report.load = None;
            lease
        };
        busy(self) == busy(other)
    }
}

/// What the operator has ordered about a node. It outweighs what the node says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Order {
    /// Its capacity, in Mbit/s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
    /// It gets no visitors until this is taken back.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub drain: bool,
    /// Whom it is near.
    #[serde(skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
}

/// What a node's own figures said when somebody of the fleet last asked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sighting {
    /// Where it was asked.
    pub url: String,
    /// When, in milliseconds since 1970.
    pub at: u64,
    /// Whether it answered.
    pub well: bool,
    /// Requests, ever.
    pub get: u64,
    /// Requests that needed no origin, ever; originals do not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hits: Option<u64>,
    /// Bytes from the origin, ever.
    pub traffic_in: u64,
    /// Bytes to visitors, ever.
    pub traffic_out: u64,
    /// Bytes a second to visitors, since it was asked before.
    pub rate: u64,
    /// The last days, newest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub days: Vec<Day>,
}

/// What a node served on one day.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Day {
    /// `2026-11-27`, by the node's clock.
    pub date: String,
    /// Bytes from the origin.
    pub traffic_in: u64,
    /// Bytes to visitors.
    pub traffic_out: u64,
}

/// Whose program a node runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Ours: it answers `/_api/health`.
    Tuyun,
    /// An original, or unknown.
    Original,
}

/// A node as the roster shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// What it said.
    pub lease: Lease,
    /// Until when that counts.
    pub until: Instant,
    /// What probes say.
    pub health: Health,
    /// Whether the last probe failed, and the next decides.
    pub doubt: bool,
    /// Its share of visitors, where shares are given by capacity and load.
    pub weight: u32,
    /// How busy it is, in percent, as far as that is known.
    pub load: u8,
    /// Whom it is near.
    pub labels: Labels,
    /// What the operator ordered.
    pub order: Order,
    /// Its figures.
    pub sighting: Option<Arc<Sighting>>,
}

/// What probes say of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// Nothing against it.
    Up,
    /// Several probes failed in a row.
    Down,
    /// It has to be reached once before it gets visitors.
    Unproven,
    /// It is well and wants nobody, or the operator does.
    Draining,
}

impl Health {
    /// All of them, with their names for metrics and pages.
    pub const NAMES: [(Self, &str); 4] = [
        (Self::Up, "up"),
        (Self::Down, "down"),
        (Self::Unproven, "unproven"),
        (Self::Draining, "draining"),
    ];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::Unproven => "unproven",
            Self::Draining => "draining",
        }
    }
}

/// The nodes at one moment, in the order of priority.
#[derive(Clone, Debug, Default)]
pub struct Roster {
    nodes: Vec<Node>,
    labelled: bool,
}

impl FromIterator<Node> for Roster {
    fn from_iter<T: IntoIterator<Item = Node>>(nodes: T) -> Self {
        let nodes: Vec<Node> = nodes.into_iter().collect();
        let labelled = nodes.iter().any(|node| !node.labels.is_empty());
        Self { nodes, labelled }
    }
}

impl Roster {
    /// The nodes that may get visitors.
    pub fn alive(&self, now: Instant) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(move |node| node.is_alive(now))
    }

    /// Whether any node has labels, so that it matters where a visitor is.
    #[must_use]
    pub fn is_labelled(&self) -> bool {
        self.labelled
    }

    /// All nodes with a lease, the dead and unproven too.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }
}

impl Node {
    /// Whether it may get visitors.
    #[must_use]
    pub fn is_alive(&self, now: Instant) -> bool {
        self.health == Health::Up && now < self.until
    }
}

/// A node's share: what it can send, as far as that is not in use.
fn weight(capacity: u32, load: u8) -> u32 {
    let free = 100_u32.saturating_sub(u32::from(load)).max(LEAST_FREE);
    capacity.saturating_mul(free)
}

/// How busy a node is that sends so many bytes a second, in percent.
fn load(bytes: u64, capacity: u32) -> u8 {
    let full = u64::from(capacity) * 1_000_000 / 8;
    let percent = bytes.saturating_mul(100) / full.max(1);
    u8::try_from(percent.min(100)).unwrap_or(100)
}

#[cfg(test)]
pub(crate) mod tests;
