//! Deletions that the drive has not heard of, and the names that they hold until it has.

use std::time::SystemTime;

use super::node::{Baseline, Grave, Kind, Trace};
use super::{Fold, ItemId, Tree};

impl Tree {
    /// A pending deletion.
    #[must_use]
    pub fn grave(&self, item: &ItemId) -> Option<&Grave> {
        self.graves.get(item)
    }

    /// Where it was, below the root; without its folder, where that is unknown.
    #[must_use]
    pub fn path_of_grave(&self, grave: &Grave) -> String {
        let dir = self
            .by_item(&grave.parent)
            .and_then(|dir| self.path(dir.id));
        match dir.as_deref() {
            None | Some("") => grave.name.clone(),
            Some(dir) => format!("{dir}/{}", grave.name),
        }
    }

    /// All pending deletions.
    pub fn graves(&self) -> impl Iterator<Item = &Grave> {
        self.graves.values()
    }

    /// Which item has a name on the drive, as far as we know, and where we know of none, what is
    /// sought under the name.
    #[must_use]
    pub fn holder(&self, parent: &ItemId, name: &str) -> Option<&ItemId> {
        let key = (parent.clone(), Fold::of(name));
        self.taken.get(&key).or_else(|| self.sought.get(&key))
    }

    /// The grave of what is sought under a name, whoever has it.
    #[must_use]
    pub(super) fn sought_at(&self, parent: &ItemId, name: &str) -> Option<&Grave> {
        let item = self.sought.get(&(parent.clone(), Fold::of(name)))?;
        self.graves.get(item)
    }

    /// Remembers an item that has to be deleted on the drive, with the contents that requests of
    /// ours may have given it.
    pub fn bury(&mut self, base: Baseline, kind: Kind, traces: Vec<Trace>, now: SystemTime) {
        let grave = Grave {
            item: base.item.clone(),
            parent: base.parent,
            name: base.name,
            etag: base.etag,
            hash: base.hash,
            kind,
            since: now,
            parked: None,
            traces,
            sought: false,
            of: None,
        };
        self.set_grave(base.item, Some(grave));
    }

    /// Writes or removes a pending deletion.
    pub fn set_grave(&mut self, item: ItemId, grave: Option<Grave>) {
        if let Some(old) = self.graves.remove(&item) {
            let key = (old.parent, Fold::of(&old.name));
            let names = if old.sought {
                &mut self.sought
            } else {
                &mut self.taken
            };
            if names.get(&key) == Some(&item) {
                names.remove(&key);
            }
        }
        if let Some(grave) = grave {
            self.dig(grave);
        }
        self.touched_graves.insert(item);
    }

    /// Adds a grave to what is known, as it was stored.
    pub(super) fn dig(&mut self, grave: Grave) {
        let names = if grave.sought {
            &mut self.sought
        } else {
            &mut self.taken
        };
        names
            .entry((grave.parent.clone(), Fold::of(&grave.name)))
            .or_insert_with(|| grave.item.clone());
        self.graves.insert(grave.item.clone(), grave);
    }
}
