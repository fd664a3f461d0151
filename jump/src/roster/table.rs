//! What is known of all nodes, and how it changes.
//!
//! While the registry is out of reach the table goes on by itself. What was heard here runs out in
//! its time; what others had heard is held, since their heartbeats cannot be seen.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tuyun_protocol::{Base, NodeId};

use super::{
    CAPACITY, Health, Kind, Lease, MOST_NODES, Node, Order, Roster, Sighting, load, weight,
};
use crate::health::Watch;

/// How much later than we heard it a listed lease may end and still be the one we heard.
const SLACK: Duration = Duration::from_secs(2);

/// By how much the load has to change to count: each change moves some paths to other nodes, where
/// they are not cached yet.
const STEADY: u8 = 10;

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
    orders: HashMap<NodeId, Ordered>,
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
    watch: Watch,
    /// How busy it is, as it counts.
    load: u8,
    sighting: Option<Arc<Sighting>>,
}

/// An order, or that there is none any more.
#[derive(Clone, Debug)]
struct Ordered {
    order: Option<Order>,
    /// When it was given here; `None`: it came from the registry.
    given: Option<Instant>,
    saved: bool,
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
    /// Orders given or taken back.
    pub orders: Vec<(NodeId, Option<Order>)>,
}

/// What the registry holds of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its lease.
    pub lease: Lease,
    /// The time it has left.
    pub remaining: Duration,
    /// The operator's order.
    pub order: Option<Order>,
    /// Its figures.
    pub sighting: Option<Sighting>,
}

/// What a restart remembers of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// Its lease.
    pub lease: Lease,
    /// The time it has left.
    pub remaining: Duration,
}

impl Table {
    /// An empty table; others' leases are held for `hold` when the registry is out of reach.
    #[must_use]
    pub fn new(hold: Duration) -> Self {
        Self {
            entries: BTreeMap::new(),
            left: HashMap::new(),
            outage: None,
            orders: HashMap::new(),
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
        let kept = same.map(|entry| (entry.watch.clone(), entry.load, entry.sighting.clone()));
        let (watch, load, sighting) = kept.unwrap_or_default();
        self.left.remove(&lease.id);
        let entry = Entry {
            lease: lease.clone(),
            until: now + ttl,
            heard: true,
            saved: false,
            changed: now,
            watch,
            load,
            sighting,
        };
        let entry = self
            .entries
            .entry(lease.id.clone())
            .insert_entry(entry)
            .into_mut();
        entry.settle_load(&self.orders);
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
        let orders = self.orders.iter().filter(|(_, ordered)| !ordered.saved);
        Unsaved {
            leases,
            gone: gone.map(|(id, _)| id.clone()).collect(),
            orders: orders
                .map(|(id, ordered)| (id.clone(), ordered.order.clone()))
                .collect(),
        }
    }

    /// What the registry holds, as asked at `asked`. What changed here since then is newer and
    /// stays; everything else is as listed. A registry that comes back from an outage may have lost
    /// everything: what was heard here and lives is told to it again.
    pub fn reconcile(&mut self, listed: Vec<Listed>, asked: Instant, now: Instant) {
        let back = self.outage.take().is_some();
        let mut before = std::mem::take(&mut self.entries);
        for item in listed {
            let Listed {
                lease,
                remaining,
                order,
                sighting,
            } = item;
            self.listed_order(&lease.id, order, asked);
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
                    watch: old.watch,
                    load: old.load,
                    sighting: old.sighting,
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
                    watch: Watch::default(),
                    load: 0,
                    sighting: None,
                },
            };
            let id = entry.lease.id.clone();
            self.entries.insert(id.clone(), entry);
            if let Some(sighting) = sighting {
                self.seen(&id, sighting, now);
            }
            if let Some(entry) = self.entries.get_mut(&id) {
                entry.settle_load(&self.orders);
            }
        }
        let kept = before.into_iter().filter_map(|(id, mut old)| {
            if back && old.heard {
                old.saved = false;
            }
            (old.changed >= asked || !old.saved).then_some((id, old))
        });
        self.entries.extend(kept);
        self.left.retain(|_, left| left.at >= asked || !left.saved);
        self.orders.retain(|_, ordered| {
            let recent = ordered.given.is_some_and(|given| given >= asked);
            ordered.order.is_some() || !ordered.saved || recent
        });
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
            entry.watch.missed(now);
            return None;
        }
        entry.watch.reached(now);
        if entry.lease.proven {
            return None;
        }
        entry.lease.proven = true;
        entry.saved = false;
        entry.changed = now;
        Some(entry.lease.clone())
    }

    /// A node's lease as it counts.
    #[must_use]
    pub fn lease(&self, id: &NodeId) -> Option<&Lease> {
        self.entries.get(id).map(|entry| &entry.lease)
    }

    /// The time a node's lease has left.
    #[must_use]
    pub fn remaining(&self, id: &NodeId, now: Instant) -> Option<Duration> {
        self.entries
            .get(id)
            .map(|entry| entry.until.saturating_duration_since(now))
    }

    /// Somebody of the fleet has asked a node for its figures. Older news than what is known is none.
    /// Of an original this is the only sign whether it lives.
    pub fn seen(&mut self, id: &NodeId, sighting: Sighting, now: Instant) {
        let Some(entry) = self.entries.get_mut(id) else {
            return;
        };
        let known = entry.sighting.as_ref().map_or(0, |known| known.at);
        if sighting.at <= known || sighting.url != entry.lease.url.as_str() {
            return;
        }
        if entry.lease.kind == Kind::Original {
            if sighting.well {
                entry.watch.reached(now);
            } else {
                entry.watch.missed(now);
            }
        }
        entry.sighting = Some(Arc::new(sighting));
        entry.settle_load(&self.orders);
    }

    /// What the operator orders about a node; `None` takes an order back.
    pub fn order(&mut self, id: &NodeId, order: Option<Order>, now: Instant) {
        if self.orders.len() >= MOST_NODES && !self.orders.contains_key(id) {
            return;
        }
        let ordered = Ordered {
            order: order.filter(|order| *order != Order::default()),
            given: Some(now),
            saved: false,
        };
        self.orders.insert(id.clone(), ordered);
        if let Some(entry) = self.entries.get_mut(id) {
            entry.settle_load(&self.orders);
        }
    }

    /// What is ordered about a node.
    #[must_use]
    pub fn ordered(&self, id: &NodeId) -> Order {
        let ordered = self
            .orders
            .get(id)
            .and_then(|ordered| ordered.order.clone());
        ordered.unwrap_or_default()
    }

    /// The registry knows the order as it was given at `given`.
    pub fn order_saved(&mut self, id: &NodeId, given: Instant) {
        if let Some(ordered) = self.orders.get_mut(id)
            && ordered.given.is_none_or(|at| at <= given)
        {
            ordered.saved = true;
        }
    }

    fn listed_order(&mut self, id: &NodeId, order: Option<Order>, asked: Instant) {
        let newer =
            |ordered: &Ordered| !ordered.saved || ordered.given.is_some_and(|given| given >= asked);
        if self.orders.get(id).is_some_and(newer) {
            return;
        }
        match order {
            Some(order) => {
                let ordered = Ordered {
                    order: Some(order),
                    given: None,
                    saved: true,
                };
                self.orders.insert(id.clone(), ordered);
            }
            None => {
                self.orders.remove(id);
            }
        }
    }

    /// What a restart remembers. With `tell`, the registry has forgotten it and is told again.
    pub fn restore(
        &mut self,
        nodes: Vec<Restored>,
        orders: Vec<(NodeId, Order)>,
        tell: bool,
        now: Instant,
    ) {
        for Restored { lease, remaining } in nodes.into_iter().take(MOST_NODES) {
            let entry = Entry {
                until: now + remaining.min(self.hold),
                heard: false,
                saved: !tell,
                changed: now,
                watch: Watch::default(),
                load: lease.report.load.unwrap_or(0),
                sighting: None,
                lease,
            };
            self.entries.entry(entry.lease.id.clone()).or_insert(entry);
        }
        for (id, order) in orders.into_iter().take(MOST_NODES) {
            let ordered = Ordered {
                order: Some(order),
                given: None,
                saved: !tell,
            };
            self.orders.entry(id).or_insert(ordered);
        }
    }

    /// What a restart should remember: the leases that live, and all orders.
    #[must_use]
    pub fn remember(&self, now: Instant) -> (Vec<Restored>, Vec<(NodeId, Order)>) {
        let living = self.entries.values().filter(|entry| now < self.end(entry));
        let nodes = living.map(|entry| Restored {
            lease: entry.lease.clone(),
            remaining: self.end(entry) - now,
        });
        let orders = self.orders.iter().filter_map(|(id, ordered)| {
            let order = ordered.order.clone()?;
            Some((id.clone(), order))
        });
        (nodes.collect(), orders.collect())
    }

    /// The nodes as they are now.
    #[must_use]
    pub fn snapshot(&self, now: Instant) -> Roster {
        let living = self.entries.values().map(|entry| (entry, self.end(entry)));
        living
            .filter(|(_, until)| now < *until)
            .map(|(entry, until)| {
                let order = self.ordered(&entry.lease.id);
                let report = &entry.lease.report;
                Node {
                    lease: entry.lease.clone(),
                    until,
                    health: if entry.watch.is_dead() {
                        Health::Down
                    } else if !entry.lease.proven {
                        Health::Unproven
                    } else if report.draining || order.drain {
                        Health::Draining
                    } else {
                        Health::Up
                    },
                    doubt: entry.watch.is_in_doubt(),
                    weight: weight(entry.capacity(&order), entry.load),
                    load: entry.load,
                    labels: order.labels.clone().or(report.labels.clone()),
                    order,
                    sighting: entry.sighting.clone(),
                }
            })
            .collect()
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

impl Entry {
    fn capacity(&self, order: &Order) -> u32 {
        order
            .weight
            .or(self.lease.report.capacity)
            .unwrap_or(CAPACITY)
    }

    /// Takes the load that is known now, if it is another.
    fn settle_load(&mut self, orders: &HashMap<NodeId, Ordered>) {
        let order = orders.get(&self.lease.id).and_then(|it| it.order.as_ref());
        let capacity = self.capacity(order.unwrap_or(&Order::default()));
        let measured = || self.sighting.as_ref().map(|seen| load(seen.rate, capacity));
        let now = self.lease.report.load.or_else(measured).unwrap_or(0);
        if now.abs_diff(self.load) >= STEADY || now == 0 {
            self.load = now;
        }
    }
}
