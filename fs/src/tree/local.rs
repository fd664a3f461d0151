//! What applications do to names: create, remove, rename.
//!
//! Each is one step in memory and one batch of rows. None of them asks the drive.

use std::time::SystemTime;

use super::name::{self, BadName};
use super::node::{Kind, Node, Place, Trace};
use super::{NodeId, Tree};

/// Why a name cannot be changed as asked.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing of that name, or the node is gone.
    #[error("no such file or folder")]
    NotFound,
    /// The name, or one that the drive takes for the same, is in use.
    #[error("something of that name exists")]
    Exists,
    /// The folder has children.
    #[error("the folder is not empty")]
    NotEmpty,
    /// A folder was needed.
    #[error("not a folder")]
    NotDirectory,
    /// A file was needed.
    #[error("a folder")]
    IsDirectory,
    /// A folder cannot be moved into itself.
    #[error("a folder cannot be moved into itself")]
    IntoItself,
    /// The two places are in different drives, of which one is seen through a link.
    #[error("nothing can be moved between drives: copy it")]
    OtherDrive,
    /// The drive could not store the name.
    #[error(transparent)]
    Bad(#[from] BadName),
}

impl Tree {
    /// Makes a new file or folder.
    ///
    /// # Errors
    /// The name is taken or cannot be stored, or the parent is not a folder.
    pub fn create(
        &mut self,
        parent: NodeId,
        name: &str,
        kind: Kind,
        now: SystemTime,
    ) -> Result<NodeId, NameError> {
        self.folder(parent)?;
        if self.variant(parent, name).is_some() {
            return Err(NameError::Exists);
        }
        self.check_place(parent, name, None)?;
        let place = Place {
            parent,
            name: name.to_owned(),
        };
        let id = self.insert(place, kind, now, |_| {});
        self.sketch(parent, |dir| (dir.mtime, dir.ctime) = (now, now));
        Ok(id)
    }

    /// Removes a file's name. Its content becomes garbage unless somebody has it open.
    ///
    /// # Errors
    /// There is no such file.
    pub fn unlink(
        &mut self,
        parent: NodeId,
        name: &str,
        open: bool,
        now: SystemTime,
    ) -> Result<Node, NameError> {
        let node = self.shown(parent, name)?;
        if node.kind == Kind::Directory {
            return Err(NameError::IsDirectory);
        }
        let id = node.id;
        self.drop_node(id, open, now).ok_or(NameError::NotFound)
    }

    /// Removes an empty folder, all of whose children are known.
    ///
    /// # Errors
    /// There is no such folder, or it has children (those that are never shown count).
    pub fn rmdir(
        &mut self,
        parent: NodeId,
        name: &str,
        now: SystemTime,
    ) -> Result<Node, NameError> {
        let node = self.shown(parent, name)?;
        if node.kind != Kind::Directory {
            return Err(NameError::NotDirectory);
        }
        let id = node.id;
        if self.children(id).next().is_some() {
            return Err(NameError::NotEmpty);
        }
        self.drop_node(id, false, now).ok_or(NameError::NotFound)
    }

    /// Gives a node another place; whatever holds that place is displaced, and returned.
    ///
    /// A file renamed over another becomes new content of the *target's* item, so that its id
    /// and its history stay (design 5.2). `open` tells whether the target is open.
    ///
    /// # Errors
    /// One of the two does not fit.
    pub fn rename(
        &mut self,
        from: (NodeId, &str),
        to: (NodeId, &str),
        open: impl Fn(NodeId) -> bool,
        now: SystemTime,
    ) -> Result<(NodeId, Option<Node>), NameError> {
        let source = self.shown(from.0, from.1)?.clone();
        self.folder(to.0)?;
        if source.kind == Kind::Directory && self.is_within(to.0, source.id) {
            return Err(NameError::IntoItself);
        }
        if self.link_above(from.0) != self.link_above(to.0) {
            return Err(NameError::OtherDrive);
        }
        let target = self
            .variant(to.0, to.1)
            .filter(|node| node.id != source.id)
            .cloned();
        if let Some(target) = &target {
            self.may_displace(&source, target, to.1)?;
        } else if from != to {
            self.check_place(to.0, to.1, Some(source.id))?;
        }
        if from != to {
            self.leave_trace(source.id, now);
        }
        let displaced = target.map(|target| self.displace(source.id, target, &open, now));
        let place = Place {
            parent: to.0,
            name: to.1.to_owned(),
        };
        self.edit(source.id, now, |node| {
            node.place = Some(place);
            node.ctime = now;
        });
        for dir in [from.0, to.0] {
            self.sketch(dir, |dir| (dir.mtime, dir.ctime) = (now, now));
        }
        Ok((source.id, displaced))
    }

    /// Lets two nodes change places.
    ///
    /// # Errors
    /// One of them does not exist, or one would end up inside itself.
    pub fn exchange(
        &mut self,
        a: (NodeId, &str),
        b: (NodeId, &str),
        now: SystemTime,
    ) -> Result<(NodeId, NodeId), NameError> {
        let (one, other) = (self.shown(a.0, a.1)?.clone(), self.shown(b.0, b.1)?.clone());
        if self.is_within(b.0, one.id) || self.is_within(a.0, other.id) {
            return Err(NameError::IntoItself);
        }
        if self.link_above(a.0) != self.link_above(b.0) {
            return Err(NameError::OtherDrive);
        }
        self.leave_trace(one.id, now);
        self.leave_trace(other.id, now);
        // Out of the way first: the index holds one node a name.
        self.edit(one.id, now, |node| node.place = None);
        self.edit(other.id, now, |node| {
            (node.place, node.ctime) = (one.place.clone(), now);
        });
        self.edit(one.id, now, |node| {
            (node.place, node.ctime) = (other.place.clone(), now);
        });
        Ok((one.id, other.id))
    }

    /// Whether the drive can store something here: the name by itself, the whole path, and the
    /// paths of all that comes along.
    fn check_place(
        &self,
        parent: NodeId,
        name: &str,
        moved: Option<NodeId>,
    ) -> Result<(), BadName> {
        name::check(name)?;
        let below = moved.map_or(0, |id| self.depth_units(id));
        // The slash before the first part is not counted.
        if self.path_units(parent) + name::units(name) + below > name::PATH_UNITS {
            return Err(BadName::PathTooLong);
        }
        Ok(())
    }

    fn may_displace(&self, source: &Node, target: &Node, name: &str) -> Result<(), NameError> {
        if target.place.as_ref().is_none_or(|place| place.name != name) {
            return Err(NameError::Exists);
        }
        match (source.kind, target.kind) {
            (_, Kind::Hidden) => Err(NameError::Exists),
            (Kind::Directory, Kind::Directory) if self.children(target.id).next().is_some() => {
                Err(NameError::NotEmpty)
            }
            (Kind::Directory, Kind::File) => Err(NameError::NotDirectory),
            (Kind::File | Kind::Hidden, Kind::Directory) => Err(NameError::IsDirectory),
            _ => Ok(()),
        }
    }

    fn displace(
        &mut self,
        source: NodeId,
        target: Node,
        open: &impl Fn(NodeId) -> bool,
        now: SystemTime,
    ) -> Node {
        let (id, kind) = (target.id, target.kind);
        self.leave_trace(id, now);
        self.remove(id, open(id));
        let Some(item) = target.baseline.clone() else {
            return target;
        };
        // Bytes that are here, or still being written, can be sent as the target's new content.
        // Others would have to be fetched first: their item is moved over the target instead.
        let takes_over = kind == Kind::File
            && self
                .node(source)
                .is_some_and(|node| node.held.is_some() || node.baseline.is_none());
        if !takes_over {
            self.bury(item, kind, target.unconfirmed(), now);
            return target;
        }
        let above = item.generation;
        let given: Vec<Trace> = target
            .unconfirmed()
            .into_iter()
            .map(|trace| Trace {
                generation: above,
                ..trace
            })
            .collect();
        let left = self.edit(source, now, |node| {
            let traces = node.unconfirmed();
            // What the item may have got from us is older than what it gets now.
            node.traces = given;
            let left = node.baseline.replace(item);
            Self::raise(node, above);
            left.map(|left| (left, traces))
        });
        if let Some(Some((own, traces))) = left {
            self.bury(own, Kind::File, traces, now);
        }
        target
    }

    fn drop_node(&mut self, id: NodeId, keep_content: bool, now: SystemTime) -> Option<Node> {
        self.leave_trace(id, now);
        let node = self.remove(id, keep_content)?;
        if let Some(base) = node.baseline.clone() {
            // Of a link, the link alone is deleted, whatever it leads to.
            let link = node.target.is_some();
            let kind = if link { Kind::Hidden } else { node.kind };
            self.bury(base, kind, node.unconfirmed(), now);
        }
        if let Some(place) = &node.place {
            self.sketch(place.parent, |dir| (dir.mtime, dir.ctime) = (now, now));
        }
        Some(node)
    }

    fn shown(&self, parent: NodeId, name: &str) -> Result<&Node, NameError> {
        self.child(parent, name)
            .filter(|node| node.kind != Kind::Hidden)
            .ok_or(NameError::NotFound)
    }

    fn folder(&self, id: NodeId) -> Result<(), NameError> {
        match self.node(id) {
            None => Err(NameError::NotFound),
            Some(node) if node.kind == Kind::Directory => Ok(()),
            Some(_) => Err(NameError::NotDirectory),
        }
    }
}
