//! Which node gets this visitor?
//!
//! Decided from the roster, the path, where the visitor is, and the time alone. Who is alive is the
//! roster's knowledge. Nearness goes first, where labels tell it; among the nearest, the policy.

use std::time::Instant;

use tuyun_protocol::{ImagePath, Labels, NodeId};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::roster::{Node, Roster};

/// How a living node is chosen among the nearest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// One main node, the others in waiting: the lowest id that lives.
    Priority,
    /// One path keeps to one node; when a node leaves, only its own paths move.
    Affinity,
    /// The same, with more paths for a node that can carry more.
    Weighted,
}

/// Where a visitor is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<'a> {
    /// To this node.
    Node(&'a Node),
    /// No node lives: to the origin.
    Origin,
}

/// How near a node is to a visitor: country, then provider, then province. What is known to be the
/// same is nearer than what is not known, and that nearer than what is known to differ. Between
/// providers lines are narrow, so the provider goes before the province.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Nearness {
    /// The country.
    pub country: Match,
    /// The provider.
    pub isp: Match,
    /// The province.
    pub province: Match,
}

/// How two labels compare.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Match {
    /// Both are known, and they differ.
    Differs,
    /// One is not known.
    #[default]
    Unknown,
    /// Both are known and the same.
    Same,
}

impl Nearness {
    /// Compares where two are.
    #[must_use]
    pub fn of(visitor: &Labels, node: &Labels) -> Self {
        let compare = |mine: &Option<Box<str>>, theirs: &Option<Box<str>>| match (mine, theirs) {
            (Some(mine), Some(theirs)) if mine == theirs => Match::Same,
            (Some(_), Some(_)) => Match::Differs,
            _ => Match::Unknown,
        };
        Self {
            country: compare(&visitor.country, &node.country),
            isp: compare(&visitor.isp, &node.isp),
            province: compare(&visitor.province, &node.province),
        }
    }
}

/// The living node that should serve this path to this visitor, or the origin if none lives.
#[must_use]
pub fn choose<'a>(
    roster: &'a Roster,
    policy: Policy,
    path: &ImagePath,
    visitor: &Labels,
    now: Instant,
) -> Target<'a> {
    // Most fleets and visitors have no labels: then all are as near.
    if visitor.is_empty() || !roster.is_labelled() {
        return Target::of(pick(roster.alive(now), policy, path));
    }
    let nearness = |node: &&Node| Nearness::of(visitor, &node.labels);
    let nearest = roster.alive(now).map(|node| nearness(&node)).max();
    let near = roster
        .alive(now)
        .filter(|node| Some(nearness(node)) == nearest);
    Target::of(pick(near, policy, path))
}

impl<'a> Target<'a> {
    fn of(node: Option<&'a Node>) -> Self {
        node.map_or(Self::Origin, Self::Node)
    }
}

fn pick<'a>(
    mut nodes: impl Iterator<Item = &'a Node>,
    policy: Policy,
    path: &ImagePath,
) -> Option<&'a Node> {
    match policy {
        // The roster is in the order of ids, which is the order of priority.
        Policy::Priority => nodes.next(),
        Policy::Affinity => nodes.max_by_key(|node| affinity(&node.lease.id, path)),
        Policy::Weighted => nodes.max_by(|one, other| {
            let score = |node: &Node| weighted(affinity(&node.lease.id, path), node.weight);
            score(one).total_cmp(&score(other))
        }),
    }
}

/// Rendezvous hashing: every jump computes the same, whatever its build, without talking.
fn affinity(id: &NodeId, path: &ImagePath) -> u64 {
    xxh3_64_with_seed(path.as_str().as_bytes(), xxh3_64(id.as_str().as_bytes()))
}

/// Weighted rendezvous hashing: a node wins a share of paths that is its share of all weights, and
/// when a weight changes, only so many paths move as have to.
fn weighted(hash: u64, weight: u32) -> f64 {
    // The upper 53 bits, as a number between 0 and 1 that is neither.
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit exactly")]
    let drawn = ((hash >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
    f64::from(weight) / -drawn.ln()
}

#[cfg(test)]
mod tests;
