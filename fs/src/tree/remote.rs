//! What the drive says, brought into the tree: delta rounds, listings, and our own results.
//!
//! A local change that is still pending wins over what is told here; the outbox settles it with
//! the drive, under the versions that were known when it was made. Nothing that the drive has not
//! confirmed is ever given up (invariant 4), and a folder's tombstone never takes what is alive
//! below it (trap T2).

use std::collections::HashMap;
use std::time::SystemTime;

use super::conflict::conflict_name;
use super::node::{Baseline, Held, Kind, Node, Place};
use super::{Generation, Item, ItemFacet, ItemId, NodeId, Tree};

/// Which part of the drive the items speak for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Some items that changed.
    Round,
    /// All children of a folder: what is not among them is gone.
    Listing(NodeId),
}

/// What others have to be told after remote news.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// Names that mean something else now.
    pub entries: Vec<(NodeId, String)>,
    /// Nodes whose attributes changed, and whether their content did.
    pub nodes: Vec<(NodeId, bool)>,
    /// Files that have new content, by node.
    pub put: Vec<NodeId>,
    /// Paths that are gone, and whether they were folders.
    pub gone: Vec<(String, bool)>,
}

/// Which open files count as changed, though nothing of them is sealed yet.
pub type Writing<'a> = &'a dyn Fn(NodeId) -> bool;

impl Tree {
    /// Takes items in their latest state; of an id that comes twice, the last one counts.
    pub fn apply(
        &mut self,
        items: &[Item],
        scope: Scope,
        writing: Writing<'_>,
        now: SystemTime,
    ) -> Effects {
        let mut effects = Effects::default();
        let newest: HashMap<&ItemId, usize> = items
            .iter()
            .enumerate()
            .map(|(at, item)| (&item.id, at))
            .collect();
        let items: Vec<&Item> = items
            .iter()
            .enumerate()
            .filter(|(at, item)| newest[&item.id] == *at)
            .map(|(_, item)| item)
            .collect();
        let (dead, alive): (Vec<&Item>, Vec<&Item>) = items
            .iter()
            .partition(|item| item.facet == ItemFacet::Deleted);

        let (folders, files): (Vec<&Item>, Vec<&Item>) = dead.into_iter().partition(|item| {
            self.by_item(&item.id)
                .is_some_and(|node| node.kind == Kind::Directory)
        });
        for item in files {
            self.apply_tombstone(&item.id, writing, &mut effects, now);
        }
        let waiting = self.place_all(alive, scope, writing, &mut effects, now);
        if let Scope::Listing(dir) = scope {
            self.sweep(dir, &newest, writing, &mut effects, now);
        }
        for item in folders {
            self.apply_tombstone(&item.id, writing, &mut effects, now);
        }
        for item in self.place_all(waiting, scope, writing, &mut effects, now) {
            // The name is still taken by an item that the drive must have moved away without
            // telling yet: list the folder again when somebody asks.
            if let Some(dir) = item
                .parent
                .as_ref()
                .and_then(|p| self.by_item(p))
                .map(|n| n.id)
            {
                self.edit(dir, now, |dir| dir.listed = false);
            }
        }
        if let Scope::Listing(dir) = scope {
            self.edit(dir, now, |dir| dir.listed = true);
        }
        effects
    }

    /// Takes the drive's reply to something that we sent ourselves. `made` is the node and the
    /// content that the request carried; without content, only its name or time.
    pub fn confirm(
        &mut self,
        item: &Item,
        made: Option<(NodeId, Option<Generation>)>,
        now: SystemTime,
    ) {
        let owner = self.by_item(&item.id).map(|node| node.id);
        if owner.is_none()
            && let Some(mut grave) = self.grave(&item.id).cloned()
        {
            // Deleted while the request was under way: delete the version that it made.
            self.own.note(&item.id, grave.etag.as_ref(), now);
            grave.etag.clone_from(&item.etag);
            self.set_grave(item.id.clone(), Some(grave));
            return;
        }
        let Some(id) = owner.or(made.map(|(id, _)| id)) else {
            return;
        };
        let before = self.node(id).and_then(|node| node.baseline.clone());
        self.own.note(
            &item.id,
            before.as_ref().and_then(|base| base.etag.as_ref()),
            now,
        );
        let stranger = match (&before, self.node(id)) {
            // The node was deleted, or took over another item, while its create was under way:
            // what the create made belongs to nobody.
            (_, None) => true,
            (Some(base), _) => base.item != item.id,
            (None, Some(_)) => false,
        };
        let generation = match made {
            Some((node, Some(sent))) if node == id => sent,
            _ => before
                .as_ref()
                .map_or(Generation(0), |base| base.generation),
        };
        let Some(base) = baseline(item, generation, before.as_ref()) else {
            return;
        };
        if stranger {
            self.bury(base, kind_of(item), now);
            return;
        }
        self.edit(id, now, |node| {
            node.baseline = Some(base);
            node.parked = None;
        });
    }

    /// Takes it that the drive no longer has an item: what was pending on it is made anew.
    pub fn lost(&mut self, id: NodeId, writing: Writing<'_>, now: SystemTime) -> Effects {
        let mut effects = Effects::default();
        self.wither(id, writing, &mut effects, now);
        effects
    }

    /// Lets the local version give way: it gets a name of its own and becomes a new file, and
    /// the item under the old name is taken as the drive tells it. Returns the copy's node.
    pub fn keep_both(
        &mut self,
        id: NodeId,
        item: Option<&Item>,
        now: SystemTime,
    ) -> Option<NodeId> {
        let node = self.node(id)?.clone();
        let place = node.place.clone()?;
        let name = self.free_name(place.parent, &place.name, now);
        self.edit(id, now, |node| {
            node.place = Some(Place {
                parent: place.parent,
                name,
            });
            node.baseline = None;
            node.ctime = now;
        });
        if let Some(item) = item {
            let generation = node.generation;
            if let Some(base) = baseline(item, generation, None) {
                self.insert(place, kind_of(item), now, |fresh| adopt(fresh, item, base));
            }
        }
        Some(id)
    }

    /// Adds a content as a new file beside a node, under the name of a conflict copy. `None` when
    /// the node has no place.
    pub fn insert_beside(&mut self, id: NodeId, held: Held, now: SystemTime) -> Option<NodeId> {
        let place = self.node(id)?.place.clone()?;
        let name = self.free_name(place.parent, &place.name, now);
        let beside = Place {
            parent: place.parent,
            name,
        };
        Some(self.insert(beside, Kind::File, now, |node| {
            node.generation = held.generation;
            node.size = held.size;
            node.held = Some(held);
        }))
    }

    /// Lets a moved node give way to an item that holds its new name and that was not known: the
    /// node gets a name beside it, and keeps its own item.
    pub fn give_way(&mut self, id: NodeId, item: &Item, now: SystemTime) {
        let Some(place) = self.node(id).and_then(|node| node.place.clone()) else {
            return;
        };
        let name = self.free_name(place.parent, &place.name, now);
        let aside = Place {
            parent: place.parent,
            name,
        };
        self.edit(id, now, |node| {
            node.place = Some(aside);
            node.ctime = now;
        });
        if let Some(base) = baseline(item, Generation(0), None) {
            self.insert(place, kind_of(item), now, |fresh| adopt(fresh, item, base));
        }
    }

    /// Whether our own write of an item is so recent that the drive may not show it everywhere.
    #[must_use]
    pub fn is_young(&self, item: &ItemId, now: SystemTime) -> bool {
        self.own.is_young(item, now)
    }

    /// Notes a 404 for an item's id. True once it has lasted for two minutes (invariant 7).
    pub fn missed(&mut self, item: &ItemId, now: SystemTime) -> bool {
        self.own.missed(item, now)
    }

    /// Notes that we deleted an item, which a listing may still show for a while.
    pub fn note_deleted(&mut self, item: &ItemId, now: SystemTime) {
        self.own.note_deleted(item, now);
    }

    fn free_name(&self, parent: NodeId, name: &str, now: SystemTime) -> String {
        let first = conflict_name(name, &self.host, now);
        let mut name = first.clone();
        let mut count = 2;
        while self.variant(parent, &name).is_some() {
            name = conflict_name(&format!("{first} {count}"), &self.host, now);
            count += 1;
        }
        name
    }

    fn apply_tombstone(
        &mut self,
        item: &ItemId,
        writing: Writing<'_>,
        effects: &mut Effects,
        now: SystemTime,
    ) {
        if self.grave(item).is_some() {
            self.set_grave(item.clone(), None);
        }
        if let Some(id) = self
            .by_item(item)
            .map(|node| node.id)
            .filter(|id| *id != NodeId::ROOT)
        {
            self.wither(id, writing, effects, now);
        }
    }

    fn sweep(
        &mut self,
        dir: NodeId,
        listed: &HashMap<&ItemId, usize>,
        writing: Writing<'_>,
        effects: &mut Effects,
        now: SystemTime,
    ) {
        let Some(folder) = self.item_of(dir).cloned() else {
            return;
        };
        let missing: Vec<NodeId> = self
            .children(dir)
            .filter(|node| {
                node.baseline.as_ref().is_some_and(|base| {
                    base.parent == folder
                        && !listed.contains_key(&base.item)
                        && !self.own.is_young(&base.item, now)
                })
            })
            .map(|node| node.id)
            .collect();
        for id in missing {
            self.wither(id, writing, effects, now);
        }
    }

    /// Removes a node that the drive no longer has, with what is below it, except what has to be
    /// sent. Returns whether all of it is gone.
    fn wither(
        &mut self,
        id: NodeId,
        writing: Writing<'_>,
        effects: &mut Effects,
        now: SystemTime,
    ) -> bool {
        let path = self.path(id);
        let below: Vec<NodeId> = self.children(id).map(|node| node.id).collect();
        let mut alone = true;
        for child in below {
            alone &= self.wither(child, writing, effects, now);
        }
        let Some(node) = self.node(id) else {
            return true;
        };
        let unsent = node.content_pending()
            || (node.baseline.is_none() && node.kind == Kind::Directory)
            || writing(id);
        if unsent || !alone {
            self.edit(id, now, |node| node.baseline = None);
            return false;
        }
        let folder = node.kind == Kind::Directory;
        if let Some(place) = &node.place {
            effects.entries.push((place.parent, place.name.clone()));
        }
        effects.gone.extend(path.map(|path| (path, folder)));
        self.remove(id, false);
        true
    }

    /// Places items, going over those that found their name taken until nothing moves any more.
    fn place_all<'a>(
        &mut self,
        mut items: Vec<&'a Item>,
        scope: Scope,
        writing: Writing<'_>,
        effects: &mut Effects,
        now: SystemTime,
    ) -> Vec<&'a Item> {
        loop {
            let before = items.len();
            items.retain(|item| !self.place(item, scope, writing, effects, now));
            if items.is_empty() || items.len() == before {
                return items;
            }
        }
    }

    /// Brings one living item in. False: its name is taken, try again later.
    fn place(
        &mut self,
        item: &Item,
        scope: Scope,
        writing: Writing<'_>,
        effects: &mut Effects,
        now: SystemTime,
    ) -> bool {
        if self.grave(&item.id).is_some() {
            return true;
        }
        if self.own.is_deleted(&item.id, now)
            || item
                .etag
                .as_ref()
                .is_some_and(|etag| self.own.is_superseded(&item.id, etag))
        {
            return true;
        }
        match self.by_item(&item.id).map(|node| node.id) {
            Some(NodeId::ROOT) => true,
            Some(id) => self.update(id, item, writing, effects, now),
            None => self.discover(item, scope, effects, now),
        }
    }

    fn discover(
        &mut self,
        item: &Item,
        scope: Scope,
        effects: &mut Effects,
        now: SystemTime,
    ) -> bool {
        let (Some(parent), Some(name)) = (&item.parent, &item.name) else {
            return true;
        };
        let Some(dir) = self.by_item(parent).map(|node| (node.id, node.listed)) else {
            return true;
        };
        let (dir, listed) = dir;
        if !listed && scope != Scope::Listing(dir) {
            return true; // nobody has asked for this folder yet
        }
        if let Some(holder) = self.variant(dir, name) {
            if holder.baseline.is_some() {
                return false;
            }
            let holder = holder.clone();
            self.meet(&holder, item, now);
            effects.entries.push((dir, name.clone()));
            return true;
        }
        let Some(base) = baseline(item, Generation(0), None) else {
            return true;
        };
        let place = Place {
            parent: dir,
            name: name.clone(),
        };
        let id = self.insert(place, kind_of(item), now, |node| adopt(node, item, base));
        effects.entries.push((dir, name.clone()));
        if scope == Scope::Round && kind_of(item) == Kind::File {
            effects.put.push(id);
        }
        true
    }

    /// Two things of one name that did not know of each other: one is the same as the other, or
    /// both are kept.
    fn meet(&mut self, local: &Node, item: &Item, now: SystemTime) {
        let same = match (&item.facet, local.kind) {
            (ItemFacet::Folder, Kind::Directory) => true,
            (
                ItemFacet::File {
                    hash: Some(theirs), ..
                },
                Kind::File,
            ) => local
                .held
                .as_ref()
                .is_some_and(|held| held.size == item.size && held.hash == Some(*theirs)),
            _ => false,
        };
        if !same {
            self.keep_both(local.id, Some(item), now);
            return;
        }
        let generation = local
            .held
            .as_ref()
            .map_or(Generation(0), |held| held.generation);
        let base = baseline(item, generation, None);
        self.edit(local.id, now, |node| {
            node.baseline = base;
            if node.kind == Kind::Directory {
                node.listed = false; // theirs may have children that we never saw
            }
        });
    }

    fn update(
        &mut self,
        id: NodeId,
        item: &Item,
        writing: Writing<'_>,
        effects: &mut Effects,
        now: SystemTime,
    ) -> bool {
        let Some(node) = self.node(id).cloned() else {
            return true;
        };
        let Some(base) = node.baseline.clone() else {
            return true;
        };
        if !self.relocate(&node, &base, item, writing, effects, now) {
            return false;
        }
        let Some(node) = self.node(id).cloned() else {
            return true;
        };
        if base.etag.is_some() && base.etag == item.etag {
            return true;
        }
        let unchanged = node.kind != Kind::File || same_content(&base, item);
        let busy = node.content_pending() || writing(id);
        if unchanged {
            self.edit(id, now, |node| {
                if let Some(base) = &mut node.baseline {
                    base.etag.clone_from(&item.etag);
                    base.ctag = item.ctag.clone().or(base.ctag.take());
                    base.hash = file_hash(item).or(base.hash);
                }
            });
        } else if !busy {
            let held = node.held.clone();
            self.edit(id, now, |node| {
                node.generation = node.generation.next();
                let place = node.baseline.as_ref();
                node.baseline = baseline(item, node.generation, place);
                node.held = None;
                node.size = item.size;
                node.mtime = item.modified.unwrap_or(now);
                node.ctime = now;
            });
            if let Some(held) = held {
                self.discard(held.content);
            }
            effects.nodes.push((id, true));
            effects.put.push(id);
        }
        // Else both sides changed it: the version that we hold stays as it was, so that the
        // upload meets a 412 and both contents are kept.
        true
    }

    /// Follows a remote rename or move. False: the new name is taken, try again later.
    fn relocate(
        &mut self,
        node: &Node,
        base: &Baseline,
        item: &Item,
        writing: Writing<'_>,
        effects: &mut Effects,
        now: SystemTime,
    ) -> bool {
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
            place.name != base.name || self.item_of(place.parent) != Some(&base.parent);
        let set = |tree: &mut Self, to: Option<Place>| {
            tree.edit(node.id, now, |node| {
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
        match self.by_item(parent).map(|dir| (dir.id, dir.listed)) {
            Some((dir, true)) => {
                let taken = self
                    .variant(dir, name)
                    .filter(|other| other.id != node.id)
                    .cloned();
                match taken {
                    Some(other) if other.baseline.is_some() => return false,
                    Some(other) => {
                        self.keep_both(other.id, None, now);
                    }
                    None => {}
                }
                let was = self.path(node.id);
                set(
                    self,
                    Some(Place {
                        parent: dir,
                        name: name.clone(),
                    }),
                );
                effects.entries.push((dir, name.clone()));
                effects
                    .gone
                    .extend(was.map(|path| (path, node.kind == Kind::Directory)));
                if node.kind == Kind::File {
                    effects.put.push(node.id);
                }
            }
            // Moved out of the mount, or to a folder that nobody has looked into.
            _ => {
                self.wither(node.id, writing, effects, now);
            }
        }
        effects.entries.push(old);
        true
    }
}

/// What an item is to us.
fn kind_of(item: &Item) -> Kind {
    match item.facet {
        ItemFacet::File { .. } => Kind::File,
        ItemFacet::Folder => Kind::Directory,
        ItemFacet::Deleted | ItemFacet::Other => Kind::Hidden,
    }
}

fn file_hash(item: &Item) -> Option<super::QuickXorHash> {
    match item.facet {
        ItemFacet::File { hash, .. } => hash,
        ItemFacet::Folder | ItemFacet::Deleted | ItemFacet::Other => None,
    }
}

/// The baseline that an item makes; fields that a reply left out stay as they were.
fn baseline(item: &Item, generation: Generation, before: Option<&Baseline>) -> Option<Baseline> {
    Some(Baseline {
        item: item.id.clone(),
        parent: item
            .parent
            .clone()
            .or_else(|| before.map(|base| base.parent.clone()))?,
        name: item
            .name
            .clone()
            .or_else(|| before.map(|base| base.name.clone()))?,
        etag: item.etag.clone(),
        ctag: item.ctag.clone(),
        size: item.size,
        hash: file_hash(item),
        generation,
    })
}

fn adopt(node: &mut Node, item: &Item, base: Baseline) {
    node.generation = base.generation;
    node.baseline = Some(base);
    node.size = item.size;
    node.mtime = item.modified.unwrap_or(node.mtime);
    node.btime = item.created.unwrap_or(node.mtime);
    node.listed = false;
}

/// Whether an item's content is still the one that we know: hash and size first, tags second,
/// since photo processing moves tags without an edit (trap T4).
fn same_content(base: &Baseline, item: &Item) -> bool {
    match (base.hash, file_hash(item)) {
        (Some(ours), Some(theirs)) => ours == theirs && base.size == item.size,
        _ => base.ctag.is_some() && base.ctag == item.ctag && base.size == item.size,
    }
}
