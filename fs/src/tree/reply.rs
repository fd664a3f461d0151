//! What the drive answered to our own requests, and who gives way where two want one name.

use std::time::SystemTime;

use super::conflict::conflict_name;
use super::describe::{adopt, baseline, file_hash, kind_of, same_content};
use super::node::{Held, Kind, Place};
use super::{Effects, Generation, Item, ItemId, NodeId, Tree};

/// What a request of ours was to change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// The content: this one.
    Content(Generation),
    /// The name or the folder.
    Place,
    /// Only a time, or nothing: the item was looked at.
    Nothing,
}

impl Tree {
    /// Takes the drive's reply to something that we sent ourselves, for a node.
    pub fn confirm(&mut self, item: &Item, node: NodeId, sent: Sent, now: SystemTime) {
        let owner = self.by_item(&item.id).map(|node| node.id);
        if owner.is_none()
            && let Some(mut grave) = self.grave(&item.id).cloned()
        {
            // Deleted while the request was under way: delete the version that it made, unless it
            // shows that somebody else has written the file meanwhile.
            let carried = matches!(sent, Sent::Content(_));
            if carried || grave.kind != Kind::File || grave.knows(item.size, file_hash(item)) {
                self.own.note(&item.id, grave.etag.as_ref(), now);
                grave.etag.clone_from(&item.etag);
            }
            if let (Sent::Place, Some(parent), Some(name)) = (sent, &item.parent, &item.name) {
                // It is the new name that it has until it is deleted.
                (grave.parent, grave.name) = (parent.clone(), name.clone());
            }
            self.set_grave(item.id.clone(), Some(grave));
            return;
        }
        if owner.is_none() && self.own.is_deleted(&item.id, now) {
            return; // the reply was overtaken by a deletion of what it made
        }
        let id = owner.unwrap_or(node);
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
        let generation = match sent {
            Sent::Content(generation) if node == id => generation,
            _ => before
                .as_ref()
                .map_or(Generation(0), |base| base.generation),
        };
        let Some(mut base) = baseline(item, generation, before.as_ref()) else {
            return;
        };
        if let (Some(before), false) = (&before, stranger || sent == Sent::Place) {
            // Somebody else has moved it: the next round tells, and then the node follows. Taken
            // from here it would look as if we had moved it ourselves.
            base.parent.clone_from(&before.parent);
            base.name.clone_from(&before.name);
        }
        if let (Some(before), false) = (&before, stranger || matches!(sent, Sent::Content(_)))
            && kind_of(item) == Kind::File
            && !same_content(before, item)
        {
            // The reply to a rename shows content that another client wrote. Taken from here it
            // would count as known: ours would go over it, and its own news would be no news.
            base.etag.clone_from(&before.etag);
            base.ctag.clone_from(&before.ctag);
            (base.size, base.hash) = (before.size, before.hash);
        }
        if stranger {
            self.bury(base, kind_of(item), Vec::new(), now);
            return;
        }
        self.attempted.remove(&id);
        self.nothing_to_seek(&base.parent, &base.name);
        self.edit(id, now, |node| {
            node.baseline = Some(base);
            node.traces.retain(|trace| trace.generation > generation);
            node.parked = None;
        });
    }

    /// Gives up what is pending on a node that the drive has: its item is to be applied next, and
    /// counts. Content that was never sent becomes garbage.
    pub fn give_up(&mut self, id: NodeId, now: SystemTime) -> Effects {
        let mut effects = Effects::default();
        let Some(node) = self.node(id) else {
            return effects;
        };
        let unsent = node.held.clone().filter(|_| node.content_pending());
        let parent = node
            .place
            .as_ref()
            .and_then(|place| self.item_of(place.parent));
        let parent = parent.cloned();
        self.edit(id, now, |node| {
            (node.parked, node.mtime_unsent) = (None, false);
            let (Some(base), Some(place)) = (&mut node.baseline, &node.place) else {
                return;
            };
            // As if the place were the drive's: its news then say where it really is.
            base.name.clone_from(&place.name);
            base.parent = parent.unwrap_or_else(|| base.parent.clone());
            base.etag = None;
            if unsent.is_some() {
                (node.held, node.size) = (None, base.size);
                node.generation = node.generation.next();
                base.generation = node.generation;
                node.traces.clear();
            }
        });
        if let Some(held) = unsent {
            self.discard(held.content);
            effects.nodes.push((id, true));
            effects.put.push(id);
        }
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
        self.leave_trace(id, now);
        self.attempted.remove(&id);
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

    /// Forgets that we have just written an item.
    #[cfg(test)]
    pub(crate) fn outlive(&mut self, item: &ItemId) {
        self.own.outlive(item);
    }

    /// As if so much time had passed since all that was written here.
    #[cfg(test)]
    pub(crate) fn age(&mut self, by: std::time::Duration) {
        self.own.age(by);
    }

    /// Notes a 404 for an item's id. True once it has lasted for two minutes (invariant 7).
    pub fn missed(&mut self, item: &ItemId, now: SystemTime) -> bool {
        self.own.missed(item, now)
    }

    /// Whether an item that a listing shows in a folder is one that we have neither just deleted
    /// nor moved out of it.
    #[must_use]
    pub fn is_stranger(&self, item: &Item, folder: &ItemId, now: SystemTime) -> bool {
        let base = self
            .by_item(&item.id)
            .and_then(|node| node.baseline.as_ref());
        let elsewhere = base.is_some_and(|base| base.parent != *folder);
        !elsewhere && self.grave(&item.id).is_none() && !self.own.is_deleted(&item.id, now)
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
}
