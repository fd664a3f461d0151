//! What to send next, and what to hold back.
//!
//! Pure: it reads the tree and the time, and answers with steps that may run at once, side by
//! side. The order of design 5.2 follows from five rules. A child waits for its parent's item. A
//! name is vacated before it is reused. A folder is moved only to where everything above is in its
//! place, and deleted after everything that leaves it or is on its way into it. A content waits until
//! the file has been quiet for the settle time.

mod step;

use std::collections::HashSet;
use std::time::{Duration, SystemTime};

pub use self::step::{Step, Subject, aside, sent};
use crate::tree::{Baseline, Grave, ItemId, Kind, Node, NodeId, Tree};

/// What holds steps back, besides the tree itself.
pub trait Holds {
    /// Whether a step on this subject is under way.
    fn busy(&self, subject: &Subject) -> bool;
    /// Whether a step under way puts something into this folder, also where nobody wants it there
    /// any more.
    fn entering(&self, folder: &ItemId) -> bool;
    /// Until when a subject has to be left alone after a failure.
    fn until(&self, subject: &Subject) -> Option<SystemTime>;
    /// Until when nothing that takes space is to be sent, since the drive is full.
    fn full_until(&self) -> Option<SystemTime>;
}

/// Steps that may run now, and when to look again.
#[derive(Debug, Default, PartialEq)]
pub struct Plan {
    /// Steps, the longest waiting first.
    pub steps: Vec<Step>,
    /// The earliest time at which a step that only waits for time may run.
    pub wake: Option<SystemTime>,
}

/// At most `room` steps that may run now.
pub fn plan(
    tree: &Tree,
    holds: &impl Holds,
    settle: Duration,
    drive_has_versions: bool,
    room: usize,
    now: SystemTime,
) -> Plan {
    let mut planner = Planner {
        tree,
        holds,
        settle,
        drive_has_versions,
        now,
        plan: Plan::default(),
        used: HashSet::new(),
        inhabited: None,
    };
    if tree
        .node(NodeId::ROOT)
        .is_some_and(|root| root.withheld.is_some())
    {
        return planner.plan; // the drive lacks the very folder: a person decides
    }
    for node in tree.pending() {
        if planner.plan.steps.len() >= room {
            return planner.plan;
        }
        if planner.is_too_new(node) {
            break;
        }
        planner.consider(node);
    }
    for node in tree.pending_folders() {
        if planner.plan.steps.len() >= room {
            return planner.plan;
        }
        planner.consider(node);
    }
    for grave in tree.graves() {
        if planner.plan.steps.len() >= room {
            break;
        }
        planner.consider_grave(&grave.item);
    }
    planner.plan
}

/// Whom a move waits for.
#[derive(Clone, Copy)]
enum Wait<'t> {
    /// This item has to give its name free.
    Name(&'t ItemId),
    /// This folder has to come to its place.
    Place(&'t ItemId),
}

/// Why waiting alone would not help.
enum Knot<'t> {
    /// Each waits for the next, and the last for this one.
    Cycle,
    /// What is waited for is deleted once this one has left it: for this folder.
    InDeleted(&'t ItemId),
}

struct Planner<'a, H> {
    tree: &'a Tree,
    holds: &'a H,
    settle: Duration,
    drive_has_versions: bool,
    now: SystemTime,
    plan: Plan,
    used: HashSet<Subject>,
    /// Folders on the drive that something has yet to leave.
    inhabited: Option<HashSet<&'a ItemId>>,
}

impl<H: Holds> Planner<'_, H> {
    /// Whether a file, and with it everything that changed after it, has not been quiet for the
    /// settle time: thousands that were just written are not looked at one by one each time. What
    /// claims to be of the future is looked at, since the clock may have been set back.
    fn is_too_new(&mut self, node: &Node) -> bool {
        let since = node.pending_since.unwrap_or(self.now);
        let due = since + self.settle;
        let too_new = node.kind == Kind::File && since <= self.now && due > self.now;
        if too_new {
            self.plan.wake = Some(self.plan.wake.map_or(due, |wake| wake.min(due)));
        }
        too_new
    }

    /// A folder goes after everything that leaves it.
    fn is_inhabited(&mut self, item: &ItemId) -> bool {
        let tree = self.tree;
        let inhabited = self.inhabited.get_or_insert_with(|| {
            let deleted = tree.graves().map(|grave| &grave.parent);
            let leaving = tree.pending().filter_map(|node| node.baseline.as_ref());
            deleted.chain(leaving.map(|base| &base.parent)).collect()
        });
        inhabited.contains(item)
    }

    fn consider(&mut self, node: &Node) {
        if node.parked.is_some() {
            return;
        }
        let Some(step) = self.step_for(node) else {
            return;
        };
        // A folder is made at once, since its children wait for it.
        let quiet = if matches!(step, Step::CreateFolder { .. }) {
            node.ctime
        } else {
            node.ctime + self.settle
        };
        self.offer(step, quiet);
    }

    fn step_for(&self, node: &Node) -> Option<Step> {
        let place = node.place.as_ref()?;
        let parent = self.tree.item_of(place.parent);
        let Some(base) = &node.baseline else {
            let parent = parent?; // a child waits for its parent's item
            let holder = self.tree.holder(parent, &place.name);
            let grave = holder.and_then(|item| self.tree.grave(item));
            // What is only sought under the name may be this node's to take over.
            let own = |grave: &Grave| {
                let sought = Subject::Item(grave.item.clone());
                grave.sought && grave.kind == node.kind && !self.holds.busy(&sought)
            };
            if holder.is_some() && !grave.is_some_and(own) {
                return None; // a name is vacated before it is reused
            }
            let (parent, name) = (parent.clone(), place.name.clone());
            return match node.kind {
                Kind::Directory => Some(Step::CreateFolder {
                    node: node.id,
                    parent,
                    name,
                }),
                Kind::File => {
                    let held = node.held.clone()?;
                    let modified = node.mtime_unsent.then_some(node.mtime);
                    Some(Step::Create {
                        node: node.id,
                        parent,
                        name,
                        held,
                        modified,
                    })
                }
                Kind::Hidden => None,
            };
        };
        // What the drive says is gone cannot be moved there; its new content finds that out.
        let settled =
            node.withheld.is_some() || (base.name == place.name && Some(&base.parent) == parent);
        // Where the place is not free yet, new content need not wait for it.
        if !settled && let Some(step) = self.move_step(node, base, parent, &place.name) {
            return Some(step);
        }
        if node.content_pending() {
            return Some(Step::Replace {
                node: node.id,
                item: base.item.clone(),
                etag: base.etag.clone(),
                held: node.held.clone()?,
                modified: node.mtime_unsent.then_some(node.mtime),
            });
        }
        (node.mtime_unsent && settled && !self.drive_has_versions).then(|| Step::SetTime {
            node: node.id,
            item: base.item.clone(),
            modified: node.mtime,
        })
    }

    fn move_step(
        &self,
        node: &Node,
        base: &Baseline,
        parent: Option<&ItemId>,
        name: &str,
    ) -> Option<Step> {
        let to = |parent: &ItemId, name: String, over| Step::Move {
            node: node.id,
            item: base.item.clone(),
            parent: parent.clone(),
            name,
            modified: node.mtime,
            over,
        };
        let Some(wait) = self.waits_for(node) else {
            return parent.map(|parent| to(parent, name.to_owned(), None));
        };
        // Who steps aside does so under a name that nobody else uses. The tree's baseline then says
        // so, which is what makes it survive a crash.
        let aside = aside(&base.item);
        match self.knot(base, wait) {
            Some(Knot::Cycle) => return Some(to(&base.parent, aside, None)),
            Some(Knot::InDeleted(folder)) => return Some(to(folder, aside, None)),
            None => {}
        }
        let Wait::Name(blocker) = wait else {
            return None; // the folder that it goes to has yet to come to its own place
        };
        let grave = self.tree.grave(blocker)?;
        if grave.sought {
            // Nobody knows whether there is anything under the name: a move that replaces nothing
            // finds out.
            let there = !self.tree.may_arrive(grave);
            return parent
                .filter(|_| there)
                .map(|parent| to(parent, name.to_owned(), None));
        }
        // Files are replaced in one request; folders never are (trap T21).
        let replace = grave.kind == Kind::File && node.kind == Kind::File;
        parent
            .filter(|_| replace)
            .map(|parent| to(parent, name.to_owned(), Some(blocker.clone())))
    }

    /// Whether a folder is a deleted one, or lies in it among others that are deleted.
    fn lies_in(&self, folder: &ItemId, deleted: &ItemId) -> bool {
        let mut at = folder;
        while let Some(grave) = self.tree.grave(at) {
            if at == deleted {
                return true;
            }
            at = &grave.parent;
        }
        false
    }

    /// Whom a node's move has to wait for.
    fn waits_for(&self, node: &Node) -> Option<Wait<'_>> {
        let place = || self.unsettled_above(node).map(Wait::Place);
        let Some(name) = self.blocker(node) else {
            return place();
        };
        // Where nobody knows whether there is anything under the name, the move finds out.
        let sought = self.tree.grave(name).filter(|grave| grave.sought);
        match sought.filter(|grave| !self.tree.may_arrive(grave)) {
            Some(_) => place().or(Some(Wait::Name(name))),
            None => Some(Wait::Name(name)),
        }
    }

    /// The item whose name has to be vacated before this node's item can go to its place: the one
    /// that holds the place, or, when the folder there has yet to be made, the one that holds
    /// the folder's name. That may be this node's own item, on its way into the new folder.
    fn blocker(&self, node: &Node) -> Option<&ItemId> {
        let mut place = node.place.as_ref()?;
        let own = node.baseline.as_ref().map(|base| &base.item);
        if let Some(parent) = self.tree.item_of(place.parent) {
            return self
                .tree
                .holder(parent, &place.name)
                .filter(|holder| Some(*holder) != own);
        }
        loop {
            place = self.tree.node(place.parent)?.place.as_ref()?;
            if let Some(parent) = self.tree.item_of(place.parent) {
                return self.tree.holder(parent, &place.name);
            }
        }
    }

    /// The topmost folder above a folder's new place that is not in its own place on the drive yet.
    /// A folder goes only to where everything above is settled: else it might be sent into itself,
    /// into what has yet to leave it, or cross another that goes the other way.
    fn unsettled_above(&self, node: &Node) -> Option<&ItemId> {
        let base = node.baseline.as_ref()?;
        let mut at = node.place.as_ref()?.parent;
        if node.kind != Kind::Directory || self.tree.item_of(at) == Some(&base.parent) {
            return None;
        }
        let mut top = None;
        while let Some(dir) = self.tree.node(at) {
            let Some(place) = dir.place.as_ref().filter(|_| at != NodeId::ROOT) else {
                break;
            };
            if let Some(base) = &dir.baseline
                && (self.tree.item_of(place.parent) != Some(&base.parent)
                    || self.holds.busy(&Subject::Item(base.item.clone())))
            {
                top = Some(&base.item);
            }
            at = place.parent;
        }
        top
    }

    /// Whether nothing moves until this node steps aside. Following from each to the one that it
    /// waits for ends either at this node again, and of those whose names are waited for one has to
    /// give way; or at a folder that is to be deleted, which this node has yet to leave.
    fn knot(&self, base: &Baseline, wait: Wait<'_>) -> Option<Knot<'_>> {
        let mut in_the_way = HashSet::new();
        let mut seen = HashSet::new();
        let mut wait = wait;
        loop {
            let (Wait::Name(at) | Wait::Place(at)) = wait;
            if let Wait::Name(named) = wait {
                in_the_way.insert(named);
            }
            if let Some(grave) = self.tree.grave(at) {
                let lies_there = self.lies_in(&base.parent, at);
                return lies_there.then_some(Knot::InDeleted(&grave.parent));
            }
            if *at == base.item {
                let first = in_the_way.into_iter().min_by_key(|item| item.as_str());
                return (first == Some(&base.item)).then_some(Knot::Cycle);
            }
            if !seen.insert(at) {
                return None; // a cycle further on, which others break
            }
            wait = self.waits_for(self.tree.by_item(at)?)?;
        }
    }

    fn consider_grave(&mut self, item: &ItemId) {
        let Some(grave) = self.tree.grave(item) else {
            return;
        };
        if grave.parked.is_some() {
            return;
        }
        let folder = grave.kind == Kind::Directory;
        let inhabited = folder && (self.is_inhabited(item) || self.holds.entering(item));
        // A file whose name a moved file waits for is replaced by that move.
        let replaced = !folder
            && self.tree.by_item(&grave.parent).is_some_and(|dir| {
                self.tree.child(dir.id, &grave.name).is_some_and(|heir| {
                    heir.kind == Kind::File
                        && heir.baseline.is_some()
                        && heir.parked.is_none()
                        && self.tree.is_pending(heir)
                })
            });
        if inhabited || replaced {
            return;
        }
        let heir = self.tree.by_item(&grave.parent);
        let heir = heir.and_then(|dir| self.tree.child(dir.id, &grave.name));
        let asks = |heir: &Node| {
            heir.kind == grave.kind && heir.parked.is_none() && self.tree.is_pending(heir)
        };
        if grave.sought && heir.is_some_and(asks) {
            return; // whoever has the name now finds out
        }
        if grave.sought && self.tree.may_arrive(grave) {
            return; // the end of that request looks again
        }
        if grave.sought {
            let grave = grave.clone();
            return self.offer(Step::Seek { grave }, self.now);
        }
        let step = Step::Delete {
            item: item.clone(),
            etag: grave.etag.clone(),
            kind: grave.kind,
        };
        self.offer(step, grave.since + self.settle);
    }

    fn offer(&mut self, step: Step, quiet: SystemTime) {
        let subjects = step.subjects();
        let full = self.holds.full_until().filter(|_| step.takes_space());
        let held = subjects.iter().filter_map(|s| self.holds.until(s)).max();
        let held = held.max(full);
        // A clock that was set back must not delay an upload by the difference.
        let quiet = if quiet > self.now + self.settle {
            self.now
        } else {
            quiet
        };
        let due = held.map_or(quiet, |held| held.max(quiet));
        if due > self.now {
            self.plan.wake = Some(self.plan.wake.map_or(due, |wake| wake.min(due)));
            return;
        }
        let taken = |subject| self.used.contains(subject) || self.holds.busy(subject);
        if subjects.iter().any(taken) {
            return; // looked at again when the other step ends
        }
        self.used.extend(subjects);
        self.plan.steps.push(step);
    }
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
