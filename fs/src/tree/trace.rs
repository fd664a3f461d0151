//! What our own requests may have left on the drive without our hearing of it.
//!
//! A request that makes an item may take effect though its reply is lost, or though we are killed
//! before it arrives. If the file is meanwhile renamed or deleted here, nobody would connect that
//! item with it any more: it would come back as a stranger. So whoever leaves a place where a
//! request may have made an item leaves a grave that has to be sought, in the same transaction.

use std::time::SystemTime;

use super::node::{Grave, Kind, Trace};
use super::{Generation, Item, ItemId, NodeId, Tree};

impl Tree {
    /// Notes that a request is about to make a node's item. What was sought under its name is
    /// this node's to recognise from now on.
    pub fn attempt(&mut self, id: NodeId, now: SystemTime) {
        self.attempted.insert(id);
        self.under_way.insert(id);
        let Some(node) = self.node(id) else {
            return;
        };
        let (kind, place) = (node.kind, node.place.clone());
        let sought = place.and_then(|place| {
            self.sought_at(self.item_of(place.parent)?, &place.name)
                .cloned()
        });
        let own = |grave: &Grave| grave.kind == kind;
        if let Some(Grave { item, traces, .. }) = sought.filter(own) {
            self.set_grave(item, None);
            // Contents of another node: older than any of this one's.
            let older = traces.into_iter().map(|trace| Trace {
                generation: Generation(0),
                ..trace
            });
            self.edit(id, now, |node| node.traces.extend(older));
        }
    }

    /// Notes that new content for a node's item is under way: what becomes of the item meanwhile is
    /// looked at once that has ended.
    pub fn begun(&mut self, id: NodeId) {
        self.under_way.insert(id);
    }

    /// Notes that the request has ended, with a reply or without. With one, what it made is known,
    /// and nothing of it has to be sought.
    pub fn ended(&mut self, id: NodeId) {
        self.under_way.remove(&id);
        let made = self.node(id).and_then(|node| node.baseline.as_ref());
        let sought = made
            .and_then(|base| self.sought_at(&base.parent, &base.name))
            .filter(|grave| grave.of == Some(id))
            .map(|grave| grave.item.clone());
        if let Some(sought) = sought {
            self.set_grave(sought, None);
        }
    }

    /// Whether what is now to be sent may have been sent before, by this run or the one before, and
    /// nobody heard of the reply. Asked once: whoever asks looks.
    pub fn take_unsure(&mut self, id: NodeId) -> bool {
        self.unsure.remove(&id)
    }

    /// Notes that a request may have taken effect, and that nobody could look yet.
    pub fn stay_unsure(&mut self, id: NodeId) {
        self.unsure.insert(id);
    }

    /// Notes that no request is under way any more.
    pub fn all_ended(&mut self) {
        self.under_way.clear();
    }

    /// Whether what is sought may still be on its way: its reply will tell, and a look would not.
    #[must_use]
    pub fn may_arrive(&self, grave: &Grave) -> bool {
        grave.of.is_some_and(|of| self.under_way.contains(&of))
    }

    /// Whether the drive has something that is to be deleted, or may get it any moment. Of what is only
    /// sought nobody knows whether there is anything.
    #[must_use]
    pub fn is_owed(&self, grave: &Grave) -> bool {
        !grave.sought || self.may_arrive(grave)
    }

    /// Notes that the request had no effect.
    pub fn failed(&mut self, id: NodeId) {
        self.attempted.remove(&id);
    }

    /// To be called before a node leaves its place: what a request may have made there is sought.
    pub(super) fn leave_trace(&mut self, id: NodeId, now: SystemTime) {
        let attempted = self.attempted.contains(&id);
        let Some(node) = self.node(id).filter(|_| attempted) else {
            return;
        };
        let Some(place) = node.place.clone().filter(|_| node.baseline.is_none()) else {
            return;
        };
        let Some(parent) = self.item_of(place.parent).cloned() else {
            return;
        };
        let traces = node.unconfirmed();
        let kind = node.kind;
        if traces.is_empty() && kind == Kind::File {
            return; // nothing of it was ever sealed
        }
        self.attempted.remove(&id);
        let item = ItemId::new(format!("sought:{id}:{parent}:{}", place.name));
        let grave = Grave {
            item: item.clone(),
            parent,
            name: place.name,
            etag: None,
            hash: None,
            kind,
            since: now,
            parked: None,
            traces,
            sought: true,
            of: Some(id),
        };
        self.set_grave(item, Some(grave));
    }

    /// Whether an item that nobody knows may be one of those that are sought: if it is, it is to be
    /// deleted, and while that cannot be told it is kept out.
    pub fn was_sought(&mut self, item: &Item, now: SystemTime) -> bool {
        let (Some(parent), Some(name)) = (&item.parent, &item.name) else {
            return false;
        };
        let Some(grave) = self.sought_at(parent, name).cloned() else {
            return false;
        };
        match self.is_sought(&grave, item) {
            Some(true) => self.found(&grave.item, item, now),
            None => {}
            Some(false) => return false,
        }
        true
    }

    /// An item of ours got a place without replacing anything: nothing else was there.
    pub(super) fn nothing_to_seek(&mut self, parent: &ItemId, name: &str) {
        let sought = self.sought_at(parent, name);
        let sought = sought.filter(|grave| !self.may_arrive(grave));
        if let Some(item) = sought.map(|grave| grave.item.clone()) {
            self.set_grave(item, None);
        }
    }

    /// Whether an item is what a grave seeks; `None` when that cannot be told yet.
    #[must_use]
    pub fn is_sought(&self, grave: &Grave, item: &Item) -> Option<bool> {
        if self.by_item(&item.id).is_some() || super::describe::kind_of(item) != grave.kind {
            return Some(false);
        }
        if self.may_arrive(grave) {
            return None;
        }
        if grave.kind == Kind::Directory {
            return Some(true); // and deleted only if it is empty
        }
        if !grave.traces.iter().any(|trace| trace.size == item.size) {
            return Some(false);
        }
        let hash = super::describe::file_hash(item)?;
        Some(grave.knows(item.size, Some(hash)))
    }

    /// An item that was sought is there: it is to be deleted.
    pub fn found(&mut self, sought: &ItemId, item: &Item, now: SystemTime) {
        self.set_grave(sought.clone(), None);
        if let Some(base) = super::describe::baseline(item, Generation(0), None) {
            self.bury(base, super::describe::kind_of(item), Vec::new(), now);
        }
    }
}
