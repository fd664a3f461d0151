//! The items of one drive, found by id, by name and by path.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;

use super::{Folder, Item, Kind, Stamps};
use crate::{
    clock, ids,
    ids::Mint,
    names,
    profile::{Switches, TagForm},
    refusal::Refusal,
};

/// One drive.
#[derive(Debug)]
pub(crate) struct Drive {
    pub(crate) id: String,
    pub(crate) switches: Switches,
    pub(crate) root: String,
    pub(super) items: HashMap<String, Item>,
    /// Every item that changed, by its last change.
    pub(super) feed: BTreeMap<u64, String>,
    /// The last change.
    pub(crate) seq: u64,
    /// Delta tokens of another epoch are too old.
    pub(crate) epoch: u64,
    /// What counts against the quota.
    pub(crate) used: u64,
    pub(super) mint: Mint,
}

/// Where an address leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// To an item that is there.
    Taken(String),
    /// To a name that is free in a folder that is there.
    Free {
        /// The folder.
        parent: String,
        /// The name, as it was asked for.
        name: String,
    },
}

impl Drive {
    pub(crate) fn new(switches: Switches, now: Timestamp) -> Self {
        let (id, mut mint) = Mint::drive(&switches);
        let root = mint.item();
        let now = clock::cut(now, switches.millis);
        let mut drive = Self {
            id,
            switches,
            root: root.clone(),
            items: HashMap::new(),
            feed: BTreeMap::new(),
            seq: 0,
            epoch: 1,
            used: 0,
            mint,
        };
        let stamps = Stamps {
            created: now,
            modified: now,
        };
        let kind = Kind::Folder(Folder::default());
        drive.items.insert(
            root.clone(),
            new_item(root.clone(), None, "root", kind, stamps, now),
        );
        drive.touch(&root, now);
        drive
    }

    /// The living item of this id.
    pub(crate) fn get(&self, id: &str) -> Option<&Item> {
        self.items.get(id).filter(|item| item.is_live())
    }

    /// The living item of this id, or 404.
    pub(crate) fn find(&self, id: &str) -> Result<&Item, Refusal> {
        self.get(id).ok_or_else(Refusal::not_found)
    }

    /// The item of this id, deleted ones included.
    pub(crate) fn remembered(&self, id: &str) -> Option<&Item> {
        self.items.get(id)
    }

    pub(crate) fn child(&self, parent: &str, name: &str) -> Option<&Item> {
        let id = self
            .get(parent)?
            .folder()?
            .children
            .get(&names::key(name))?;
        self.get(id)
    }

    /// Follows names from a base.
    pub(crate) fn resolve(&self, base: &str, path: &[String]) -> Result<Place, Refusal> {
        let mut at = self.find(base)?;
        for (depth, name) in path.iter().enumerate() {
            let last = depth + 1 == path.len();
            match self.child(&at.id, name) {
                Some(child) => at = child,
                None if last && at.folder().is_some() => {
                    return Ok(Place::Free {
                        parent: at.id.clone(),
                        name: name.clone(),
                    });
                }
                None => return Err(Refusal::not_found()),
            }
        }
        Ok(Place::Taken(at.id.clone()))
    }

    /// Names from the root down to the item, decoded and joined by `/`; empty for the root.
    pub(crate) fn path(&self, id: &str) -> String {
        let mut names = Vec::new();
        let mut at = self.items.get(id);
        while let Some(item) = at {
            let Some(parent) = &item.parent else { break };
            names.push(item.name.as_str());
            at = self.items.get(parent);
        }
        names.reverse();
        names.join("/")
    }

    /// Whether `id` is `folder` or lies below it.
    pub(crate) fn is_within(&self, id: &str, folder: &str) -> bool {
        let mut at = Some(id);
        while let Some(here) = at {
            if here == folder {
                return true;
            }
            at = self.items.get(here).and_then(|item| item.parent.as_deref());
        }
        false
    }

    /// All living items below a folder, parents first.
    pub(crate) fn below(&self, folder: &str) -> Vec<&Item> {
        let mut found = Vec::new();
        let mut open = vec![folder];
        while let Some(id) = open.pop() {
            let Some(folder) = self.get(id).and_then(Item::folder) else {
                continue;
            };
            for child in folder.children.values() {
                found.extend(self.get(child));
                open.push(child);
            }
        }
        found
    }

    /// Whether an id names this drive. Personal ids compare without regard to case.
    pub(crate) fn answers_to(&self, id: &str) -> bool {
        if self.switches.personal {
            self.id.eq_ignore_ascii_case(id)
        } else {
            self.id == id
        }
    }

    /// How item ids compare: exactly.
    pub(super) fn expect(&mut self, id: &str) -> &mut Item {
        self.items
            .get_mut(id)
            .expect("the caller has just looked this item up under the same lock")
    }

    /// Notes that an item changed.
    pub(super) fn touch(&mut self, id: &str, now: Timestamp) {
        self.seq += 1;
        let seq = self.seq;
        let item = self.expect(id);
        let before = std::mem::replace(&mut item.seq, seq);
        item.changed = now;
        self.feed.remove(&before);
        self.feed.insert(seq, id.to_owned());
    }

    /// Carries a change of size, and the change itself, to the folders above.
    pub(super) fn ripple(&mut self, from: Option<String>, grown: i64) {
        let mut at = from;
        while let Some(id) = at {
            let item = self.expect(&id);
            item.ctag += 1;
            if let Kind::Folder(folder) = &mut item.kind {
                folder.size = folder.size.saturating_add_signed(grown);
            }
            let above = item.parent.clone();
            at = above;
        }
    }

    pub(super) fn link(&mut self, parent: &str, name: &str, id: &str) {
        if let Kind::Folder(folder) = &mut self.expect(parent).kind {
            folder.children.insert(names::key(name), id.to_owned());
        }
    }

    pub(super) fn unlink(&mut self, parent: &str, name: &str) {
        if let Kind::Folder(folder) = &mut self.expect(parent).kind {
            folder.children.remove(&names::key(name));
        }
    }
}

pub(super) fn new_item(
    id: String,
    parent: Option<String>,
    name: &str,
    kind: Kind,
    stamps: Stamps,
    now: Timestamp,
) -> Item {
    Item {
        id,
        guid: ids::guid(),
        parent,
        name: name.to_owned(),
        kind,
        mark: None,
        created: now,
        modified: now,
        stamps,
        etag: 1,
        ctag: 1,
        seq: 0,
        changed: now,
        deleted: None,
        left: None,
    }
}

impl Switches {
    /// Which SHA sums files of this drive show.
    pub(crate) fn sha(&self) -> crate::content::Sha {
        crate::content::Sha {
            one: self.sha1,
            two: self.sha256,
        }
    }

    /// Whether the drive lives on the SharePoint back end.
    pub(crate) fn on_sharepoint(&self) -> bool {
        self.tags == TagForm::Guid
    }
}
