//! Which node gets this path?
//!
//! Decided from the roster, the path and the time alone. Who is alive is the roster's knowledge.

use std::time::Instant;

use tuyun_protocol::{ImagePath, NodeId};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::roster::{Node, Roster};

/// How a living node is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// One main node, the others in waiting: the lowest id that lives.
    Priority,
    /// One path keeps to one node; when a node leaves, only its own paths move.
    Affinity,
}

/// Where a visitor is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<'a> {
    /// To this node.
    Node(&'a Node),
    /// No node lives: to the origin.
    Origin,
}

/// The living node that should serve this path, or the origin if none lives.
#[must_use]
pub fn choose<'a>(
    roster: &'a Roster,
    policy: Policy,
    path: &ImagePath,
    now: Instant,
) -> Target<'a> {
    let mut alive = roster.alive(now);
    let node = match policy {
        // The roster is in the order of ids, which is the order of priority.
        Policy::Priority => alive.next(),
        Policy::Affinity => alive.max_by_key(|node| affinity(&node.lease.id, path)),
    };
    node.map_or(Target::Origin, Target::Node)
}

/// Rendezvous hashing: every jump computes the same, whatever its build, without talking.
fn affinity(id: &NodeId, path: &ImagePath) -> u64 {
    xxh3_64_with_seed(path.as_str().as_bytes(), xxh3_64(id.as_str().as_bytes()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::roster::tests::{lease, table_of};

    fn path(text: &str) -> ImagePath {
        ImagePath::parse(text).unwrap()
    }

    fn chosen(ids: &[&str], policy: Policy, asked: &str) -> Option<String> {
        let now = Instant::now();
        let roster = table_of(ids, now).snapshot(now);
        match choose(&roster, policy, &path(asked), now) {
            Target::Node(node) => Some(node.lease.id.to_string()),
            Target::Origin => None,
        }
    }

    #[test]
    fn priority_takes_the_lowest_number_then_the_first_name() {
        assert_eq!(
            chosen(&["10", "2", "a"], Policy::Priority, "x"),
            Some("2".into())
        );
        assert_eq!(chosen(&["b", "a"], Policy::Priority, "x"), Some("a".into()));
        assert_eq!(chosen(&[], Policy::Priority, "x"), None);
    }

    #[test]
    fn a_node_whose_lease_ran_out_gets_nobody_from_that_moment() {
        let now = Instant::now();
        let mut table = table_of(&[], now);
        table
            .hear(lease("1"), Duration::from_secs(20), now)
            .unwrap();
        let roster = table.snapshot(now);
        let last = now + Duration::from_nanos(19_999_999_999);
        assert!(matches!(
            choose(&roster, Policy::Priority, &path("x"), last),
            Target::Node(_)
        ));
        let end = now + Duration::from_secs(20);
        assert_eq!(
            choose(&roster, Policy::Priority, &path("x"), end),
            Target::Origin
        );
    }

    #[test]
    fn affinity_spreads_paths_over_all_nodes() {
        let ids = ["1", "2", "3", "4"];
        let mut count = std::collections::BTreeMap::new();
        for number in 0..1000 {
            let asked = format!("pic/{number}.webp");
            *count
                .entry(chosen(&ids, Policy::Affinity, &asked).unwrap())
                .or_insert(0) += 1;
        }
        assert!(
            count.len() == 4 && count.values().all(|got| *got > 180),
            "{count:?}"
        );
    }

    proptest! {
        #[test]
        fn when_a_node_leaves_only_its_own_paths_move(asked in "[a-z]{1,12}", gone in 0_usize..4) {
            let all = ["1", "2", "3", "4"];
            let left: Vec<_> = all.iter().copied().filter(|id| *id != all[gone]).collect();
            let before = chosen(&all, Policy::Affinity, &asked).unwrap();
            let after = chosen(&left, Policy::Affinity, &asked).unwrap();
            prop_assert!(before == all[gone] || before == after);
        }
    }
}
