//! Changes to a drive, by the service's rules about names, conflicts and versions.

use jiff::Timestamp;

use super::{
    Drive, FileBody, Folder, Item, Kind, Mark, Place, Stamps, item::Version, tree::new_item,
};
use crate::{clock, content::Content, names, refusal::Refusal};

/// What to do when the name is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Conflict {
    Fail,
    Replace,
    Rename,
}

impl Conflict {
    pub(crate) fn parse(text: &str) -> Result<Self, Refusal> {
        match text {
            "fail" => Ok(Self::Fail),
            "replace" => Ok(Self::Replace),
            "rename" => Ok(Self::Rename),
            _ => Err(Refusal::invalid("Unknown conflict behavior.")),
        }
    }
}

/// A change of name, folder or times.
#[derive(Debug, Clone, Default)]
pub(crate) struct Relocation {
    pub(crate) parent: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) created: Option<Timestamp>,
    pub(crate) modified: Option<Timestamp>,
}

/// What a PATCH does besides what it says; some back ends do, some do not.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct MoveQuirks {
    pub(crate) resets_mtime: bool,
    pub(crate) bumps_ctag: bool,
}

impl Drive {
    /// Puts a file. Gives its id and whether it is new.
    pub(crate) fn put_file(
        &mut self,
        place: Place,
        content: Content,
        conflict: Conflict,
        stamps: Stamps,
        now: Timestamp,
    ) -> Result<(String, bool), Refusal> {
        let (parent, name) = match place {
            Place::Free { parent, name } => (parent, name),
            Place::Taken(id) => {
                let item = self.find(&id)?;
                match (conflict, &item.parent) {
                    (Conflict::Replace, _) => {
                        self.set_content(&id, content, stamps, now)?;
                        return Ok((id, false));
                    }
                    (Conflict::Rename, Some(parent)) => {
                        (parent.clone(), self.vacant(parent, &item.name))
                    }
                    (Conflict::Fail, _) | (Conflict::Rename, None) => {
                        return Err(Refusal::name_exists());
                    }
                }
            }
        };
        let body = FileBody {
            content,
            number: 1,
            older: Vec::new(),
        };
        let id = self.create(&parent, &name, Kind::File(body), stamps, now)?;
        Ok((id, true))
    }

    /// Makes a folder. Gives its id and whether it is new.
    pub(crate) fn make_folder(
        &mut self,
        parent: &str,
        name: &str,
        conflict: Conflict,
        stamps: Stamps,
        now: Timestamp,
    ) -> Result<(String, bool), Refusal> {
        let mut name = name.to_owned();
        if let Some(there) = self.child(parent, &name) {
            match conflict {
                Conflict::Replace if there.folder().is_some() => {
                    return Ok((there.id.clone(), false));
                }
                Conflict::Rename => name = self.vacant(parent, &name),
                Conflict::Replace | Conflict::Fail => return Err(Refusal::name_exists()),
            }
        }
        let kind = Kind::Folder(Folder::default());
        Ok((self.create(parent, &name, kind, stamps, now)?, true))
    }

    /// Adds an item under a free name.
    pub(crate) fn create(
        &mut self,
        parent: &str,
        name: &str,
        kind: Kind,
        stamps: Stamps,
        now: Timestamp,
    ) -> Result<String, Refusal> {
        if self.find(parent)?.folder().is_none() {
            return Err(Refusal::invalid("The parent is not a folder."));
        }
        names::check(name, &self.path(parent), self.switches.personal)?;
        let now = clock::cut(now, self.switches.millis);
        let stamps = self.cut(stamps);
        let id = self.mint.item();
        let item = new_item(id.clone(), Some(parent.to_owned()), name, kind, stamps, now);
        let size = item.size();
        self.used += size;
        self.items.insert(id.clone(), item);
        self.link(parent, name, &id);
        self.ripple(Some(parent.to_owned()), signed(size));
        self.touch(&id, now);
        Ok(id)
    }

    /// Gives a file new bytes; the old ones become a version.
    pub(crate) fn set_content(
        &mut self,
        id: &str,
        content: Content,
        stamps: Stamps,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let keeps_all = self.switches.version_per_patch;
        let now = clock::cut(now, self.switches.millis);
        let stamps = self.cut(stamps);
        self.refuse_locked(id)?;
        let item = self.expect(id);
        let before = item.modified;
        let Kind::File(body) = &mut item.kind else {
            return Err(Refusal::name_exists());
        };
        let (old, new) = (body.content.length(), content.length());
        body.older.push(Version {
            number: body.number,
            content: std::mem::replace(&mut body.content, content),
            modified: before,
        });
        body.number += 1;
        item.modified = now;
        item.stamps.modified = stamps.modified;
        item.etag += 1;
        item.ctag += 1;
        let parent = item.parent.clone();
        self.used = if keeps_all {
            self.used + new
        } else {
            (self.used + new).saturating_sub(old)
        };
        self.ripple(parent, signed(new) - signed(old));
        self.touch(id, now);
        Ok(())
    }

    /// Renames, moves or stamps an item; all at once or not at all.
    pub(crate) fn relocate(
        &mut self,
        id: &str,
        change: &Relocation,
        conflict: Conflict,
        quirks: MoveQuirks,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let item = self.find(id)?;
        let moves = change.parent.is_some() || change.name.is_some();
        if moves && item.is_root() {
            return Err(Refusal::denied("The root cannot be renamed or moved."));
        }
        self.refuse_locked(id)?;
        if moves {
            self.move_item(id, change, conflict, now)?;
        }
        let (millis, versions) = (self.switches.millis, self.switches.version_per_patch);
        let now = clock::cut(now, millis);
        let mut grown = 0;
        let item = self.expect(id);
        item.etag += 1;
        if moves && quirks.bumps_ctag {
            item.ctag += 1;
        }
        match change.modified {
            Some(modified) => item.stamps.modified = clock::cut(modified, millis),
            None if moves && quirks.resets_mtime => item.stamps.modified = now,
            None => {}
        }
        if let Some(created) = change.created {
            item.stamps.created = clock::cut(created, millis);
        }
        if versions && let Kind::File(body) = &mut item.kind {
            body.older.push(Version {
                number: body.number,
                content: body.content.clone(),
                modified: item.modified,
            });
            body.number += 1;
            grown = body.content.length();
        }
        item.modified = now;
        let parent = item.parent.clone();
        self.used += grown;
        self.ripple(parent, 0);
        self.touch(id, now);
        Ok(())
    }

    fn move_item(
        &mut self,
        id: &str,
        change: &Relocation,
        conflict: Conflict,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let item = self.find(id)?;
        let size = signed(item.size());
        let from = item.parent.clone().ok_or_else(Refusal::not_found)?;
        let old_name = item.name.clone();
        let is_file = item.file().is_some();
        let to = change.parent.clone().unwrap_or_else(|| from.clone());
        let mut name = change.name.clone().unwrap_or_else(|| old_name.clone());
        if self.find(&to)?.folder().is_none() {
            return Err(Refusal::invalid("The new parent is not a folder."));
        }
        if self.is_within(&to, id) {
            return Err(Refusal::invalid("An item cannot be moved into itself."));
        }
        names::check(&name, &self.path(&to), self.switches.personal)?;
        if let Some(target) = self.child(&to, &name).filter(|target| target.id != id) {
            let (target_id, both_files) = (target.id.clone(), is_file && target.file().is_some());
            match conflict {
                // Folders are never replaced, whatever was asked.
                Conflict::Replace if both_files => self.remove(&target_id, now)?,
                Conflict::Rename => name = self.vacant(&to, &name),
                Conflict::Replace | Conflict::Fail => return Err(Refusal::name_exists()),
            }
        }
        self.unlink(&from, &old_name);
        self.link(&to, &name, id);
        if from != to {
            self.ripple(Some(from.clone()), -size);
            self.ripple(Some(to.clone()), size);
        }
        let seq = self.seq + 1;
        let item = self.expect(id);
        item.name = name;
        if from != to {
            item.left = Some((from, seq));
        }
        item.parent = Some(to);
        Ok(())
    }

    /// Deletes an item and all below it.
    pub(crate) fn remove(&mut self, id: &str, now: Timestamp) -> Result<(), Refusal> {
        let item = self.find(id)?;
        let Some(parent) = item.parent.clone() else {
            return Err(Refusal::denied("The root cannot be deleted."));
        };
        self.refuse_locked(id)?;
        let item = self.find(id)?;
        let (name, size) = (item.name.clone(), signed(item.size()));
        let mut gone: Vec<String> = self.below(id).iter().map(|item| item.id.clone()).collect();
        gone.push(id.to_owned());
        let batch = self.seq + 1;
        for each in &gone {
            let (keeps, all) = (self.switches.restore, self.switches.version_per_patch);
            let item = self.expect(each);
            item.deleted = Some(batch);
            let mut freed = 0;
            if let Kind::File(body) = &mut item.kind {
                freed = body.content.length();
                if all {
                    freed += body
                        .older
                        .iter()
                        .map(|old| old.content.length())
                        .sum::<u64>();
                }
                if !keeps {
                    body.older.clear();
                }
            }
            self.used = self.used.saturating_sub(freed);
            if each == id || self.switches.tombstone_descendants {
                self.touch(each, now);
            } else {
                let seq = self.items[each].seq;
                self.feed.remove(&seq);
            }
        }
        self.unlink(&parent, &name);
        self.ripple(Some(parent), -size);
        Ok(())
    }

    /// Brings a deleted item back to where it was, with all that went with it.
    pub(crate) fn restore(&mut self, id: &str, now: Timestamp) -> Result<(), Refusal> {
        let item = self.items.get(id).ok_or_else(Refusal::not_found)?;
        let (Some(batch), Some(parent)) = (item.deleted, item.parent.clone()) else {
            return Err(Refusal::invalid("The item is not deleted."));
        };
        self.find(&parent)?;
        if self.child(&parent, &item.name).is_some() {
            return Err(Refusal::name_exists());
        }
        let name = item.name.clone();
        let back: Vec<String> = self
            .items
            .values()
            .filter(|item| item.deleted == Some(batch))
            .map(|item| item.id.clone())
            .collect();
        let mut grown = 0;
        for each in &back {
            let item = self.expect(each);
            item.deleted = None;
            item.etag += 1;
            grown += item.file().map_or(0, |body| body.content.length());
            self.touch(each, now);
        }
        self.used += grown;
        let size = signed(self.find(id)?.size());
        self.link(&parent, &name, id);
        self.ripple(Some(parent), size);
        Ok(())
    }

    /// Copies an item and all below it.
    pub(crate) fn copy(
        &mut self,
        id: &str,
        parent: &str,
        name: &str,
        conflict: Conflict,
        now: Timestamp,
    ) -> Result<String, Refusal> {
        if self.is_within(parent, id) {
            return Err(Refusal::invalid("An item cannot be copied into itself."));
        }
        let mut name = name.to_owned();
        if let Some(there) = self.child(parent, &name) {
            match conflict {
                Conflict::Rename => name = self.vacant(parent, &name),
                Conflict::Replace if there.file().is_some() => {
                    let there = there.id.clone();
                    self.remove(&there, now)?;
                }
                Conflict::Replace | Conflict::Fail => return Err(Refusal::name_exists()),
            }
        }
        // A copy does not keep the client's times.
        let stamps = Stamps {
            created: now,
            modified: now,
        };
        let source = self.find(id)?;
        let (kind, children) = match &source.kind {
            Kind::File(body) => {
                let content = body.content.clone();
                (
                    Kind::File(FileBody {
                        content,
                        number: 1,
                        older: Vec::new(),
                    }),
                    Vec::new(),
                )
            }
            Kind::Folder(folder) => (
                Kind::Folder(Folder::default()),
                folder.children.values().cloned().collect(),
            ),
            Kind::Package => (Kind::Package, Vec::new()),
        };
        let copied = self.create(parent, &name, kind, stamps, now)?;
        for child in children {
            let name = self.find(&child)?.name.clone();
            self.copy(&child, &copied, &name, Conflict::Fail, now)?;
        }
        Ok(copied)
    }

    /// Changes the eTag alone, as the service's own later work does.
    pub(crate) fn bump(&mut self, id: &str, now: Timestamp) -> Result<(), Refusal> {
        self.find(id)?;
        self.expect(id).etag += 1;
        self.touch(id, now);
        Ok(())
    }

    pub(crate) fn mark(&mut self, id: &str, mark: Option<Mark>) -> Result<(), Refusal> {
        self.find(id)?;
        self.expect(id).mark = mark;
        Ok(())
    }

    /// A free name near this one.
    fn vacant(&self, parent: &str, name: &str) -> String {
        (1..=u32::MAX)
            .map(|number| names::numbered(name, number))
            .find(|name| self.child(parent, name).is_none())
            .expect("a folder has fewer names than there are numbers")
    }

    fn refuse_locked(&self, id: &str) -> Result<(), Refusal> {
        let locked = self
            .get(id)
            .is_some_and(|item: &Item| item.mark == Some(Mark::Locked));
        if !locked {
            return Ok(());
        }
        Err(Refusal::new(
            423,
            "resourceLocked",
            "The resource you are attempting to access is locked for editing.",
        )
        .inner("resourceLocked"))
    }

    fn cut(&self, stamps: Stamps) -> Stamps {
        let millis = self.switches.millis;
        Stamps {
            created: clock::cut(stamps.created, millis),
            modified: clock::cut(stamps.modified, millis),
        }
    }
}

fn signed(size: u64) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}
