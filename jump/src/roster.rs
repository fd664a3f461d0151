//! The nodes: their leases, and who is alive.
//!
//! The [`Table`] gathers what is known: heartbeats heard here, leases listed by the registry, and
//! probes. A [`Roster`] is its picture at one moment, which redirects read without a lock.
//!
//! While the registry is out of reach the table goes on by itself. What was heard here runs out in
//! its time; what others had heard is held, since their heartbeats cannot be seen.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use tuyun_protocol::{Base, NodeId};

/// Nodes at most. Whoever has the shared token could invent more of them until memory runs out;
/// a fleet of thousands would need another design than one process that probes all.
pub const MOST_NODES: usize = 4096;

/// Probes that have to fail, one after the other, before a node counts as dead: one packet lost on
/// a home line is no death.
const FAILURES: u8 = 2;

/// How much later than we heard it a listed lease may end and still be the one we heard.
const SLACK: Duration = Duration::from_secs(2);

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
}

/// The nodes at one moment, in the order of priority.
#[derive(Clone, Debug, Default)]
pub struct Roster {
    nodes: Vec<Node>,
}

impl Roster {
    /// The nodes that may get visitors.
    pub fn alive(&self, now: Instant) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(move |node| node.is_alive(now))
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

/// There is no room for another node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there are {MOST_NODES} nodes already")]
pub struct Full;

/// What is known of all nodes.
#[derive(Debug)]
pub struct Table {
    entries: BTreeMap<NodeId, Entry>,
    /// Who left here and when, as long as a listing could still know them.
    left: HashMap<NodeId, Left>,
    /// Since when the registry is out of reach.
    outage: Option<Instant>,
    /// How long others' leases are held in an outage: the longest life a lease can have.
    hold: Duration,
}

#[derive(Debug)]
struct Entry {
    lease: Lease,
    until: Instant,
    /// Whether this jump heard it itself, and nobody heard it later.
    heard: bool,
    /// Whether the registry has it as we have it.
    saved: bool,
    changed: Instant,
    failures: u8,
}

#[derive(Clone, Copy, Debug)]
struct Left {
    at: Instant,
    saved: bool,
}

/// What the registry has yet to be told.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Unsaved {
    /// Leases to put, with the time they have left.
    pub leases: Vec<(Lease, Duration)>,
    /// Nodes to remove.
    pub gone: Vec<NodeId>,
}

impl Table {
    /// An empty table; others' leases are held for `hold` when the registry is out of reach.
    #[must_use]
    pub fn new(hold: Duration) -> Self {
        Self {
            entries: BTreeMap::new(),
            left: HashMap::new(),
            outage: None,
            hold,
        }
    }

    /// A heartbeat that was admitted, good for `ttl`. What probes know stays, as long as the node
    /// is at the same address; the lease as it now counts is returned.
    ///
    /// # Errors
    /// When it is a new node and there is no room.
    pub fn hear(&mut self, mut lease: Lease, ttl: Duration, now: Instant) -> Result<Lease, Full> {
        let known = self.entries.get(&lease.id);
        if known.is_none() && self.entries.len() >= MOST_NODES {
            return Err(Full);
        }
        let same = known.filter(|entry| entry.lease.url == lease.url);
        lease.proven |= same.is_some_and(|entry| entry.lease.proven);
        let failures = same.map_or(0, |entry| entry.failures);
        self.left.remove(&lease.id);
        let entry = Entry {
            lease: lease.clone(),
            until: now + ttl,
            heard: true,
            saved: false,
            changed: now,
            failures,
        };
        self.entries.insert(lease.id.clone(), entry);
        Ok(lease)
    }

    /// The node leaves. Whether it was known.
    pub fn leave(&mut self, id: &NodeId, now: Instant) -> bool {
        if self.left.len() < MOST_NODES {
            self.left.insert(
                id.clone(),
                Left {
                    at: now,
                    saved: false,
                },
            );
        }
        self.entries.remove(id).is_some()
    }

    /// The registry knows this lease as it was at `changed`.
    pub fn saved(&mut self, id: &NodeId, changed: Instant) {
        if let Some(entry) = self.entries.get_mut(id)
            && entry.changed <= changed
        {
            entry.saved = true;
        }
    }

    /// The registry knows that the node left.
    pub fn removed(&mut self, id: &NodeId) {
        if let Some(left) = self.left.get_mut(id) {
            left.saved = true;
        }
    }

    /// What the registry was not told, because it could not be reached.
    #[must_use]
    pub fn unsaved(&self, now: Instant) -> Unsaved {
        let entries = self
            .entries
            .values()
            .filter(|entry| !entry.saved && now < entry.until);
        let leases = entries
            .map(|entry| (entry.lease.clone(), entry.until - now))
            .collect();
        let gone = self.left.iter().filter(|(_, left)| !left.saved);
        Unsaved {
            leases,
            gone: gone.map(|(id, _)| id.clone()).collect(),
        }
    }

    /// What the registry holds, as asked at `asked`. What changed here since then is newer and
    /// stays; everything else is as listed.
    pub fn reconcile(&mut self, listed: Vec<(Lease, Duration)>, asked: Instant, now: Instant) {
        self.outage = None;
        let mut before = std::mem::take(&mut self.entries);
        for (lease, remaining) in listed {
            let old = before.remove(&lease.id);
            let left_since = self
                .left
                .get(&lease.id)
                .is_some_and(|left| left.at >= asked || !left.saved);
            if left_since || self.entries.len() >= MOST_NODES {
                continue;
            }
            let until = asked + remaining;
            let entry = match old {
                Some(old) if old.changed >= asked || !old.saved => old,
                Some(old) if old.lease.url == lease.url => Entry {
                    heard: old.heard && until <= old.until + SLACK,
                    failures: old.failures,
                    until,
                    lease,
                    saved: true,
                    changed: old.changed,
                },
                Some(_) | None => Entry {
                    lease,
                    until,
                    heard: false,
                    saved: true,
                    changed: asked,
                    failures: 0,
                },
            };
            self.entries.insert(entry.lease.id.clone(), entry);
        }
        let newer = before
            .into_iter()
            .filter(|(_, old)| old.changed >= asked || !old.saved);
        self.entries.extend(newer);
        self.left.retain(|_, left| left.at >= asked || !left.saved);
        self.forget(now);
    }

    /// The registry cannot be reached.
    pub fn lost(&mut self, now: Instant) {
        self.outage.get_or_insert(now);
        self.forget(now);
    }

    /// Whether the registry is out of reach.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.outage.is_some()
    }

    /// A probe of the node at this address came back. Returns the lease that it proved, when it is
    /// the first that reached the node there.
    pub fn probed(
        &mut self,
        id: &NodeId,
        url: &Base,
        reached: bool,
        now: Instant,
    ) -> Option<Lease> {
        let entry = self
            .entries
            .get_mut(id)
            .filter(|entry| entry.lease.url == *url)?;
        if !reached {
            entry.failures = entry.failures.saturating_add(1);
            return None;
        }
        entry.failures = 0;
        if entry.lease.proven {
            return None;
        }
        entry.lease.proven = true;
        entry.saved = false;
        entry.changed = now;
        Some(entry.lease.clone())
    }

    /// The time a node's lease has left.
    #[must_use]
    pub fn remaining(&self, id: &NodeId, now: Instant) -> Option<Duration> {
        self.entries
            .get(id)
            .map(|entry| entry.until.saturating_duration_since(now))
    }

    /// The nodes as they are now.
    #[must_use]
    pub fn snapshot(&self, now: Instant) -> Roster {
        let living = self.entries.values().map(|entry| (entry, self.end(entry)));
        let nodes = living
            .filter(|(_, until)| now < *until)
            .map(|(entry, until)| Node {
                lease: entry.lease.clone(),
                until,
                health: match entry {
                    Entry {
                        failures: FAILURES..,
                        ..
                    } => Health::Down,
                    Entry {
                        lease: Lease { proven: false, .. },
                        ..
                    } => Health::Unproven,
                    Entry { .. } => Health::Up,
                },
            });
        Roster {
            nodes: nodes.collect(),
        }
    }

    /// When a lease ends: in an outage, what others heard is held.
    fn end(&self, entry: &Entry) -> Instant {
        match self.outage {
            Some(since) if !entry.heard => entry.until.max(since + self.hold),
            Some(_) | None => entry.until,
        }
    }

    fn forget(&mut self, now: Instant) {
        let held_until = self.outage.map(|since| since + self.hold);
        self.entries.retain(|_, entry| {
            let held = !entry.heard && held_until.is_some_and(|end| now < end);
            held || now < entry.until
        });
    }
}

#[cfg(test)]
pub(crate) mod tests;
