//! Where a living item goes: to the node that it is, or to a new one, or beside one of ours.

use super::super::describe::{adopt, baseline, file_hash, kind_of, same_content, target};
use super::super::node::{Baseline, Kind, Node, Place};
use super::super::{Generation, Item, ItemFacet, NodeId};
use super::{Scope, Taking};

impl Taking<'_, '_> {
    /// Places items, going over those that found their name taken until nothing moves any more.
    pub(super) fn place_all<'i>(&mut self, mut items: Vec<&'i Item>) -> Vec<&'i Item> {
        loop {
            let before = items.len();
            items.retain(|item| !self.place(item));
            if items.is_empty() || items.len() == before {
                return items;
            }
        }
    }

    /// Brings one living item in. False: its name is taken, try again later.
    fn place(&mut self, item: &Item) -> bool {
        let tree = &*self.tree;
        let older = |etag| tree.own.is_superseded(&item.id, etag);
        if tree.grave(&item.id).is_some()
            || tree.own.is_deleted(&item.id, self.now)
            || item.etag.as_ref().is_some_and(older)
        {
            return true;
        }
        let Some(node) = tree.by_item(&item.id) else {
            return self.discover(item);
        };
        let (id, back) = (node.id, node.withheld.is_some());
        if back {
            // Restored from the recycle bin: what is below is looked at at once.
            self.tree.edit(id, self.now, |node| {
                (node.withheld, node.listed_at) = (None, None);
            });
        }
        id == NodeId::ROOT || self.update(id, item)
    }

    /// Whether a name is free for an item: what holds it goes, if it is among the dead.
    fn vacate(&mut self, holder: NodeId) {
        if self.dead.contains(&holder) {
            self.wither(holder);
        }
    }

    fn discover(&mut self, item: &Item) -> bool {
        if self.tree.was_sought(item, self.now) {
            return true;
        }
        let (Some(parent), Some(name)) = (&item.parent, &item.name) else {
            return true;
        };
        let Some(dir) = self.tree.by_item(parent) else {
            return true;
        };
        let (dir, listed) = (dir.id, dir.listed);
        if !listed && self.scope != Scope::Listing(dir) {
            return true; // nobody has asked for this folder yet
        }
        if let Some(holder) = self.tree.variant(dir, name).map(|holder| holder.id) {
            self.vacate(holder);
        }
        if let Some(holder) = self.tree.variant(dir, name).cloned() {
            if holder.baseline.is_some() {
                return false;
            }
            self.meet(&holder, item);
            return true;
        }
        let Some(base) = baseline(item, Generation(0), None) else {
            return true;
        };
        let (parent, name) = (dir, name.clone());
        self.effects.entries.push((dir, name.clone()));
        let place = Place { parent, name };
        let fill = |node: &mut Node| adopt(node, item, base);
        let id = self.tree.insert(place, kind_of(item), self.now, fill);
        if self.scope == Scope::Round && kind_of(item) == Kind::File {
            self.effects.put.push(id);
        }
        true
    }

    /// Two things of one name that did not know of each other: one is the same as the other, or
    /// both are kept.
    fn meet(&mut self, local: &Node, item: &Item) {
        let same = match (&item.facet, local.kind) {
            (ItemFacet::Folder, Kind::Directory) => Some(Generation(0)),
            (ItemFacet::File { hash, .. }, Kind::File) => local.recognise(item.size, *hash),
            _ => None,
        };
        let Some(generation) = same else {
            self.keep_both(local.id, Some(item));
            return;
        };
        self.tree.failed(local.id);
        let base = baseline(item, generation, None);
        self.tree.edit(local.id, self.now, |node| {
            node.baseline = base;
            if node.kind == Kind::Directory {
                node.listed = false; // theirs may have children that we never saw
            }
        });
        let place = local.place.iter();
        let entries = place.map(|place| (place.parent, place.name.clone()));
        self.effects.entries.extend(entries);
    }

    /// Lets a node of ours give way, and tells everybody under which name it is now.
    fn keep_both(&mut self, ours: NodeId, item: Option<&Item>) {
        let place = |taking: &Self| {
            let node = taking.tree.node(ours)?;
            let place = node.place.as_ref()?;
            Some((place.parent, place.name.clone()))
        };
        let before = place(self);
        self.tree.keep_both(ours, item, self.now);
        let after = place(self);
        self.effects
            .entries
            .extend([before, after].into_iter().flatten());
        let theirs = item.and_then(|item| self.tree.by_item(&item.id));
        let theirs = theirs.map(|node| node.id);
        let files = [Some(ours), theirs].into_iter().flatten().filter(|id| {
            let node = self.tree.node(*id);
            node.is_some_and(|node| node.kind == Kind::File)
        });
        self.effects.put.extend(files);
    }

    /// Takes news of an item that a node stands for. False: its new name is taken.
    fn update(&mut self, id: NodeId, item: &Item) -> bool {
        let Some(node) = self.tree.node(id).cloned() else {
            return true;
        };
        let Some(base) = node.baseline.clone() else {
            return true;
        };
        if !self.relocate(&node, &base, item) {
            return false;
        }
        let Some(node) = self.tree.node(id).cloned() else {
            return true;
        };
        let leads = target(item);
        if node.kind == Kind::Directory && node.target != leads {
            self.tree.edit(id, self.now, |node| {
                (node.target, node.listed) = (leads, false);
            });
        }
        if base.etag.is_some() && base.etag == item.etag {
            return true;
        }
        let unchanged = node.kind != Kind::File || same_content(&base, item);
        let busy = node.content_pending() || (self.terms.writing)(id);
        if unchanged {
            self.tree.edit(id, self.now, |node| {
                if let Some(base) = &mut node.baseline {
                    base.etag.clone_from(&item.etag);
                    base.ctag = item.ctag.clone().or(base.ctag.take());
                    base.hash = file_hash(item).or(base.hash);
                }
            });
        } else if let Some(generation) = node.recognise(item.size, file_hash(item)) {
            // One of ours, whose reply was lost: what is newer goes on top of it.
            self.tree.edit(id, self.now, |node| {
                let place = node.baseline.as_ref();
                node.baseline = baseline(item, generation, place);
            });
        } else if !busy {
            let now = self.now;
            self.tree.edit(id, now, |node| {
                node.generation = node.generation.next();
                let place = node.baseline.as_ref();
                node.baseline = baseline(item, node.generation, place);
                node.held = None;
                node.size = item.size;
                node.mtime = item.modified.unwrap_or(now);
                node.ctime = now;
            });
            if let Some(held) = node.held {
                self.tree.discard(held.content);
            }
            self.effects.nodes.push((id, true));
            self.effects.put.push(id);
        } else {
            // Both sides changed it: the version that we hold stays as it was, so that the upload
            // meets a 412 and both contents are kept. One that is under way may come before it.
            self.tree.put_off(&item.id);
        }
        true
    }

    /// Leaves a folder where it is, which the drive tells to be in one that is within it here: a move
    /// of ours is under way that crosses theirs, and wins.
    pub(super) fn crosses(&mut self, item: &Item) -> bool {
        let (Some(parent), Some(name)) = (&item.parent, &item.name) else {
            return false;
        };
        let (Some(node), Some(dir)) = (self.tree.by_item(&item.id), self.tree.by_item(parent))
        else {
            return false;
        };
        let (id, mut at) = (node.id, dir);
        if !self.tree.is_within(at.id, id) {
            return false;
        }
        let mut ours = false;
        while at.id != id {
            ours |= self.tree.is_pending(at);
            let above = at.place.as_ref();
            let Some(above) = above.and_then(|place| self.tree.node(place.parent)) else {
                return false;
            };
            at = above;
        }
        if ours {
            self.tree.edit(id, self.now, |node| {
                if let Some(base) = &mut node.baseline {
                    (base.parent, base.name) = (parent.clone(), name.clone());
                }
            });
        }
        ours
    }

    /// Follows a remote rename or move. False: the new name is taken, try again later.
    fn relocate(&mut self, node: &Node, base: &Baseline, item: &Item) -> bool {
        let (Some(parent), Some(name)) = (item.parent.as_ref(), item.name.as_ref()) else {
            return true;
        };
        if *parent == base.parent && *name == base.name {
            return true;
        }
        let Some(place) = &node.place else {
            return true;
        };
        let ours_moved =
            place.name != base.name || self.tree.item_of(place.parent) != Some(&base.parent);
        let now = self.now;
        let set = |taking: &mut Self, to: Option<Place>| {
            taking.tree.edit(node.id, now, |node| {
                if let Some(base) = &mut node.baseline {
                    (base.parent, base.name) = (parent.clone(), name.clone());
                }
                if to.is_some() {
                    node.place = to;
                    node.ctime = now;
                }
            });
        };
        if ours_moved {
            set(self, None); // our own move is pending, and wins
            return true;
        }
        let old = (place.parent, place.name.clone());
        match self.tree.by_item(parent).map(|dir| (dir.id, dir.listed)) {
            // What is between has left it too, of which news are still to be taken, or is on its way
            // there by a move of ours.
            Some((dir, true)) if self.tree.is_within(dir, node.id) => return false,
            Some((dir, true)) => {
                let other = |taking: &Self| {
                    let other = taking.tree.variant(dir, name)?;
                    (other.id != node.id).then_some((other.id, other.baseline.is_some()))
                };
                if let Some((other, _)) = other(self) {
                    self.vacate(other);
                }
                match other(self) {
                    Some((_, true)) => return false,
                    Some((other, false)) => self.keep_both(other, None),
                    None => {}
                }
                let was = self.tree.path(node.id);
                let (parent, name) = (dir, name.clone());
                self.effects.entries.push((dir, name.clone()));
                set(self, Some(Place { parent, name }));
                let folder = node.kind == Kind::Directory;
                self.effects.gone.extend(was.map(|path| (path, folder)));
                if node.kind == Kind::File {
                    self.effects.put.push(node.id);
                }
            }
            // Moved out of the mount, or to a folder that nobody has looked into.
            _ => {
                self.wither(node.id);
            }
        }
        self.effects.entries.push(old);
        true
    }
}
