//! What the drive no longer has: removed here too, unless it is ours alone, or suspiciously much.
//!
//! A script run wild on some other machine, or a service that forgot, must not empty a picture
//! host. So a round that takes more than the guard allows takes nothing: its nodes are marked as
//! *withheld*, stay readable with their bytes out of eviction's reach, and a person decides.

use std::collections::HashSet;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::super::node::Kind;
use super::super::{Item, ItemId, NodeId, Tree};
use super::{Effects, Scope, Taking, Terms, Writing};

/// Paths that a person is shown; of more, only the number.
const SHOWN: usize = 1000;

/// What a person is asked about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Withheld {
    /// How many files.
    pub count: usize,
    /// How many of them have their bytes here, and could be sent again.
    pub here: usize,
    /// Their paths, and whether their bytes are here: those first that are. At most 1,000.
    pub files: Vec<(String, bool)>,
    /// How many folders.
    pub folders: usize,
    /// The mounted folder itself is gone.
    pub root: bool,
    /// Since when.
    pub since: Option<SystemTime>,
}

impl Tree {
    /// Children that the drive had in a folder and that a listing lacks, but for those that we
    /// wrote so recently that a listing may not show them yet (trap T23).
    pub fn missing_from(
        &self,
        dir: NodeId,
        listed: &dyn Fn(&ItemId) -> bool,
        now: SystemTime,
    ) -> Vec<(NodeId, ItemId)> {
        let Some(folder) = self.item_of(dir) else {
            return Vec::new();
        };
        self.children(dir)
            .filter_map(|node| Some((node.id, node.baseline.as_ref()?)))
            .filter(|(_, base)| {
                base.parent == *folder && !listed(&base.item) && !self.own.is_young(&base.item, now)
            })
            .map(|(id, base)| (id, base.item.clone()))
            .collect()
    }

    /// Ends pending deletions that have happened, and tells which nodes the tombstones mean. The
    /// root's own marks it: nothing can be sent until it is back.
    pub(super) fn buried_or_going(&mut self, dead: &[&Item], now: SystemTime) -> Vec<NodeId> {
        let mut going = Vec::new();
        for item in dead {
            if self.grave(&item.id).is_some() {
                self.set_grave(item.id.clone(), None);
            }
            match self.by_item(&item.id).map(|node| node.id) {
                Some(NodeId::ROOT) => self.withhold(NodeId::ROOT, now),
                // The reply may be of before or of after the end.
                Some(id) if self.under_way.contains(&id) => self.put_off_gone(&item.id),
                Some(id) => going.push(id),
                None => self.put_off_unknown(&item.id),
            }
        }
        going
    }

    /// Says that the drive no longer has a node, which stays until a person has decided.
    pub fn withhold(&mut self, id: NodeId, now: SystemTime) {
        self.edit(id, now, |node| {
            node.withheld.get_or_insert(now);
        });
    }

    /// What waits for a decision.
    #[must_use]
    pub fn withheld(&self) -> Withheld {
        let mut all = Withheld::default();
        for node in self.nodes() {
            let Some(since) = node.withheld else { continue };
            all.since = Some(all.since.map_or(since, |at| at.min(since)));
            match node.kind {
                _ if node.id == NodeId::ROOT => all.root = true,
                Kind::File => {
                    let path = self.path(node.id).unwrap_or_default();
                    all.files.push((path, node.held.is_some()));
                }
                Kind::Directory | Kind::Hidden => all.folders += 1,
            }
        }
        all.count = all.files.len();
        all.here = all.files.iter().filter(|file| file.1).count();
        all.files.sort_by(|a, b| (!a.1, &a.0).cmp(&(!b.1, &b.0)));
        all.files.truncate(SHOWN);
        all
    }

    /// The decision that what is withheld may go.
    pub fn let_go(&mut self, writing: Writing<'_>, now: SystemTime) -> Effects {
        let going = self.release(now);
        let mut taking = Taking {
            tree: self,
            scope: Scope::Round,
            terms: Terms::plain(writing),
            now,
            dead: HashSet::new(),
            effects: Effects::default(),
        };
        taking.remove(&going);
        taking.effects
    }

    /// The decision that what is withheld is to be on the drive: what we hold is sent again.
    /// Files whose bytes are not here cannot be; they go, and are in the drive's recycle bin.
    pub fn send_again(&mut self, writing: Writing<'_>, now: SystemTime) -> Effects {
        let going = self.release(now);
        let mut taking = Taking {
            tree: self,
            scope: Scope::Round,
            terms: Terms {
                keep_local: true,
                ..Terms::plain(writing)
            },
            now,
            dead: HashSet::new(),
            effects: Effects::default(),
        };
        taking.remove(&going);
        taking.effects
    }

    fn release(&mut self, now: SystemTime) -> Vec<NodeId> {
        let all: Vec<NodeId> = self
            .nodes()
            .filter(|node| node.withheld.is_some() && node.id != NodeId::ROOT)
            .map(|node| node.id)
            .collect();
        for id in &all {
            self.edit(*id, now, |node| node.withheld = None);
        }
        all
    }

    fn gather(&self, id: NodeId, into: &mut HashSet<NodeId>) {
        let mut open = vec![id];
        while let Some(id) = open.pop() {
            if into.insert(id) {
                open.extend(self.children(id).map(|node| node.id));
            }
        }
    }
}

impl Taking<'_, '_> {
    /// Removes what is gone: files first, folders last.
    pub(super) fn remove(&mut self, going: &[NodeId]) {
        let mut all = HashSet::new();
        for id in going {
            if self.tree.node(*id).is_some() {
                self.tree.gather(*id, &mut all);
            }
        }
        all.retain(|id| self.tree.node(*id).is_some_and(|n| n.withheld.is_none()));
        // What goes with the mounted folder itself waits for the same decision.
        let rootless = self
            .tree
            .node(NodeId::ROOT)
            .is_some_and(|root| root.withheld.is_some());
        let guard = if rootless { Some(0) } else { self.terms.guard };
        if guard.is_some_and(|most| all.len() > most) {
            self.effects.withheld += all.len();
            for id in all {
                self.tree.withhold(id, self.now);
            }
            return;
        }
        let (folders, files): (Vec<NodeId>, Vec<NodeId>) = going.iter().partition(|id| {
            self.tree
                .node(**id)
                .is_some_and(|node| node.kind == Kind::Directory)
        });
        for id in files.into_iter().chain(folders) {
            self.wither(id);
        }
    }

    /// Whether a child was moved here, and the drive still has it where it was.
    fn is_elsewhere(&self, child: NodeId, folder: NodeId) -> bool {
        let base = self
            .tree
            .node(child)
            .and_then(|node| node.baseline.as_ref());
        let parent = base.map(|base| &base.parent);
        parent.is_some_and(|parent| self.tree.item_of(folder) != Some(parent))
            && !self.dead.contains(&child)
    }

    /// Removes a node that the drive no longer has, with what is below it, except what has to be
    /// sent. Returns whether all of it is gone.
    pub(super) fn wither(&mut self, id: NodeId) -> bool {
        let path = self.tree.path(id);
        let below: Vec<NodeId> = self.tree.children(id).map(|node| node.id).collect();
        let mut alone = true;
        for child in below {
            alone &= !self.is_elsewhere(child, id) && self.wither(child);
        }
        let Some(node) = self.tree.node(id) else {
            return true;
        };
        if node.withheld.is_some() {
            return false;
        }
        let ours = self.terms.keep_local
            && (node.held.is_some() || (node.kind == Kind::Directory && node.listed));
        let unsent = node.content_pending()
            || (node.baseline.is_none() && node.kind == Kind::Directory)
            || (self.terms.writing)(id);
        if ours || unsent || !alone {
            self.tree.edit(id, self.now, |node| node.baseline = None);
            return false;
        }
        let folder = node.kind == Kind::Directory;
        if let Some(place) = &node.place {
            self.effects
                .entries
                .push((place.parent, place.name.clone()));
        }
        self.effects.gone.extend(path.map(|path| (path, folder)));
        self.tree.remove(id, false);
        true
    }
}
