//! The namespace in memory: nodes, their names, and what differs from the drive.
//!
//! Every change goes through [`edit`](Tree::edit) or [`insert`](Tree::insert), which keep the
//! indexes true and remember which rows a commit has to write. Nothing here waits or asks.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::SystemTime;

use super::name::units;
use super::node::{Grave, Kind, Node, Place};
use super::own::OwnWrites;
use super::rows::{Batch, Stored, encode};
use super::spelling::shown_text;
use super::{ContentId, Fold, Generation, ItemId, News, NodeId};

/// All that is known of the mounted folder.
#[derive(Debug)]
pub struct Tree {
    nodes: HashMap<NodeId, Box<Node>>,
    children: HashMap<NodeId, BTreeMap<Fold, NodeId>>,
    by_item: HashMap<ItemId, NodeId>,
    pub(super) graves: HashMap<ItemId, Grave>,
    /// How many nodes lead to other drives.
    links: usize,
    /// Which item has a name on the drive, as far as we know: a name is vacated before reuse.
    pub(super) taken: HashMap<(ItemId, Fold), ItemId>,
    /// The graves of what is sought under a name.
    pub(super) sought: HashMap<(ItemId, Fold), ItemId>,
    pending: BTreeSet<(SystemTime, NodeId)>,
    /// The folders among them.
    pending_folders: BTreeSet<(SystemTime, NodeId)>,
    next: u64,
    touched: BTreeSet<NodeId>,
    pub(super) touched_graves: BTreeSet<ItemId>,
    garbage: Vec<ContentId>,
    /// Nodes that a request may have made on the drive, though no reply said so.
    pub(super) attempted: HashSet<NodeId>,
    /// Nodes whose last request the run before may not have heard of.
    pub(super) unsure: HashSet<NodeId>,
    /// Nodes for which a request that makes an item, or gives it content, is under way right now.
    pub(super) under_way: HashSet<NodeId>,
    /// Items whose news could not be taken when they came.
    pub(super) late: HashMap<ItemId, News>,
    pub(super) own: OwnWrites,
    pub(super) host: String,
    /// Length of the mounted folder's own path on the drive.
    above: usize,
}

impl Tree {
    /// A tree of what was stored, or of an empty folder when `stored` is.
    #[must_use]
    pub fn load(stored: Stored, host: String, now: SystemTime) -> Self {
        let mut tree = Self {
            nodes: HashMap::with_capacity(stored.nodes.len() + 1),
            children: HashMap::new(),
            by_item: HashMap::new(),
            graves: HashMap::new(),
            links: 0,
            taken: HashMap::new(),
            sought: HashMap::new(),
            pending: BTreeSet::new(),
            pending_folders: BTreeSet::new(),
            next: NodeId::ROOT.0 + 1,
            touched: BTreeSet::new(),
            touched_graves: BTreeSet::new(),
            garbage: Vec::new(),
            attempted: HashSet::new(),
            unsure: HashSet::new(),
            under_way: HashSet::new(),
            late: HashMap::new(),
            own: OwnWrites::default(),
            host,
            above: 0,
        };
        for grave in stored.graves {
            tree.dig(grave);
        }
        // Parents first in `nodes`, whatever order the rows had: whether a place differs from
        // the drive's depends on the parent's item.
        for mut node in stored.nodes {
            if let Some(held) = &node.held {
                node.size = held.size;
            } else if let Some(base) = &node.baseline {
                node.size = base.size;
            }
            // The run before may have ended in the middle of a request.
            if node.baseline.is_none() {
                tree.attempted.insert(node.id);
            } else {
                tree.unsure.insert(node.id);
            }
            tree.next = tree.next.max(node.id.0 + 1);
            tree.nodes.insert(node.id, Box::new(node));
        }
        if !tree.nodes.contains_key(&NodeId::ROOT) {
            let nowhere = Place {
                parent: NodeId::ROOT,
                name: String::new(),
            };
            let mut root = Node::new(NodeId::ROOT, nowhere, Kind::Directory, now);
            root.place = None;
            root.listed = false;
            tree.nodes.insert(root.id, Box::new(root));
            tree.touched.insert(NodeId::ROOT);
        }
        let ids: Vec<NodeId> = tree.nodes.keys().copied().collect();
        for id in ids {
            tree.index(id, now);
        }
        let Self { unsure, nodes, .. } = &mut tree;
        unsure.retain(|id| {
            nodes
                .get(id)
                .is_some_and(|node| node.pending_since.is_some())
        });
        tree
    }

    /// A node.
    #[must_use]
    pub fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(&id).map(|node| &**node)
    }

    /// The child of exactly this name.
    #[must_use]
    pub fn child(&self, parent: NodeId, name: &str) -> Option<&Node> {
        self.variant(parent, name)
            .filter(|node| node.place.as_ref().is_some_and(|place| place.name == name))
    }

    /// The child whose name the drive would take for this one: case and Unicode form ignored.
    #[must_use]
    pub fn variant(&self, parent: NodeId, name: &str) -> Option<&Node> {
        let id = self.children.get(&parent)?.get(&Fold::of(name))?;
        self.node(*id)
    }

    /// All children of a folder, those that are never shown included.
    pub fn children(&self, parent: NodeId) -> impl Iterator<Item = &Node> {
        self.children
            .get(&parent)
            .into_iter()
            .flatten()
            .filter_map(|(_, id)| self.node(*id))
    }

    /// The node of an item.
    #[must_use]
    pub fn by_item(&self, item: &ItemId) -> Option<&Node> {
        self.node(*self.by_item.get(item)?)
    }

    /// All nodes that differ from the drive, those that differ the longest first.
    pub fn pending(&self) -> impl Iterator<Item = &Node> {
        self.pending.iter().filter_map(|(_, id)| self.node(*id))
    }

    /// The folders among them.
    pub fn pending_folders(&self) -> impl Iterator<Item = &Node> {
        self.pending_folders
            .iter()
            .filter_map(|(_, id)| self.node(*id))
    }

    /// All nodes.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.values().map(|node| &**node)
    }

    /// How many nodes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether nothing at all is known; never, since there is a root.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The path below the mount's root as applications spell it, without a leading slash; empty for
    /// the root itself, and `None` for what is not linked anywhere.
    #[must_use]
    pub fn path(&self, id: NodeId) -> Option<String> {
        let mut names = Vec::new();
        let mut at = self.nodes.get(&id)?;
        while at.id != NodeId::ROOT {
            let place = at.place.as_ref()?;
            names.push(shown_text(&place.name));
            at = self.nodes.get(&place.parent)?;
        }
        names.reverse();
        Some(names.join("/"))
    }

    /// Says where on the drive the mounted folder is: paths are limited from the drive's root on.
    pub fn set_root_path(&mut self, path: &str) {
        let parts = path.split('/').filter(|part| !part.is_empty());
        self.above = parts.map(|part| 1 + units(part)).sum();
    }

    /// Length of a node's path from the drive's root on, as the service counts it.
    pub(super) fn path_units(&self, id: NodeId) -> usize {
        let mut sum = self.above;
        let mut at = self.nodes.get(&id);
        while let Some(place) = at.and_then(|node| node.place.as_ref()) {
            sum += 1 + units(&place.name);
            at = self.nodes.get(&place.parent);
        }
        sum
    }

    /// Length of the longest path below a node, from the node on.
    pub(super) fn depth_units(&self, id: NodeId) -> usize {
        let mut longest = 0;
        let mut open = vec![(id, 0)];
        while let Some((id, sum)) = open.pop() {
            longest = longest.max(sum);
            open.extend(self.children(id).map(|node| {
                let own = node
                    .place
                    .as_ref()
                    .map_or(0, |place| 1 + units(&place.name));
                (node.id, sum + own)
            }));
        }
        longest
    }

    /// Whether `inner` is `outer` or lies below it.
    #[must_use]
    pub fn is_within(&self, inner: NodeId, outer: NodeId) -> bool {
        let mut at = Some(inner);
        while let Some(id) = at {
            if id == outer {
                return true;
            }
            at = self
                .nodes
                .get(&id)
                .and_then(|n| n.place.as_ref())
                .map(|place| place.parent);
        }
        false
    }

    /// Numbers up to this one have been given already.
    pub fn reserve_above(&mut self, highest: NodeId) {
        self.next = self.next.max(highest.0 + 1);
    }

    /// Adds a node of the next free number.
    pub fn insert(
        &mut self,
        place: Place,
        kind: Kind,
        now: SystemTime,
        fill: impl FnOnce(&mut Node),
    ) -> NodeId {
        let id = NodeId(self.next);
        self.next += 1;
        let mut node = Node::new(id, place, kind, now);
        fill(&mut node);
        self.nodes.insert(id, Box::new(node));
        self.index(id, now);
        self.touched.insert(id);
        id
    }

    /// Adds a node under a number that is already in use outside, as after a crash.
    pub fn insert_as(&mut self, node: Node, now: SystemTime) {
        self.next = self.next.max(node.id.0 + 1);
        let id = node.id;
        self.nodes.insert(id, Box::new(node));
        self.index(id, now);
        self.touched.insert(id);
    }

    /// Changes a node, and whatever depends on it.
    pub fn edit<R>(
        &mut self,
        id: NodeId,
        now: SystemTime,
        change: impl FnOnce(&mut Node) -> R,
    ) -> Option<R> {
        self.unindex(id);
        let node = self.nodes.get_mut(&id)?;
        let items: Vec<ItemId> = node.items().cloned().collect();
        let result = change(node);
        let moved = node.kind == Kind::Directory && !node.items().eq(&items);
        self.index(id, now);
        self.touched.insert(id);
        if moved {
            // Another item stands for this folder now: its children are elsewhere on the drive.
            let below: Vec<NodeId> = self
                .children
                .get(&id)
                .into_iter()
                .flat_map(|c| c.values().copied())
                .collect();
            for child in below {
                self.unindex(child);
                self.index(child, now);
                self.touched.insert(child);
            }
        }
        Some(result)
    }

    /// Changes what no index depends on and no row needs: sizes and times of a file being written.
    pub fn sketch(&mut self, id: NodeId, change: impl FnOnce(&mut Node)) {
        if let Some(node) = self.nodes.get_mut(&id) {
            change(node);
        }
    }

    /// Forgets a node. Its content, if any, becomes garbage unless `keep_content`.
    pub fn remove(&mut self, id: NodeId, keep_content: bool) -> Option<Node> {
        self.unindex(id);
        let node = self.nodes.remove(&id)?;
        self.attempted.remove(&id);
        self.children.remove(&id);
        self.touched.insert(id);
        if let (Some(held), false) = (&node.held, keep_content) {
            self.garbage.push(held.content);
        }
        Some(*node)
    }

    /// Says that a content file is no longer referred to.
    pub fn discard(&mut self, content: ContentId) {
        self.garbage.push(content);
    }

    /// The rows of all that changed since the last call.
    pub fn batch(&mut self) -> Batch {
        let nodes = std::mem::take(&mut self.touched)
            .into_iter()
            .map(|id| (id, self.nodes.get(&id).map(encode)))
            .collect();
        let graves = std::mem::take(&mut self.touched_graves)
            .into_iter()
            .map(|item| {
                let row = self.graves.get(&item).map(encode);
                (item, row)
            })
            .collect();
        Batch {
            nodes,
            graves,
            garbage: std::mem::take(&mut self.garbage),
            ..Batch::default()
        }
    }

    /// Whether a node differs from what the drive has.
    #[must_use]
    pub fn is_pending(&self, node: &Node) -> bool {
        let Some(place) = &node.place else {
            return false;
        };
        match (&node.baseline, node.kind) {
            (_, Kind::Hidden) => false,
            // Of what the drive says is gone, only new content counts: it is made anew for that.
            (Some(_), _) if node.withheld.is_some() => node.content_pending(),
            (None, Kind::Directory) => true,
            (None, Kind::File) => node.content_pending(),
            (Some(base), _) => {
                node.content_pending()
                    || node.mtime_unsent
                    || base.name != place.name
                    || self.item_of(place.parent) != Some(&base.parent)
            }
        }
    }

    /// The item that holds a folder's children, once the drive has it.
    #[must_use]
    pub fn item_of(&self, id: NodeId) -> Option<&ItemId> {
        self.nodes.get(&id)?.items().last()
    }

    /// The link to another drive that a node is, or is below; none in the mounted drive itself.
    #[must_use]
    pub fn link_above(&self, id: NodeId) -> Option<NodeId> {
        let mut at = Some(id);
        while let Some(node) = at.and_then(|id| self.nodes.get(&id)) {
            if node.target.is_some() {
                return Some(node.id);
            }
            at = node.place.as_ref().map(|place| place.parent);
        }
        None
    }

    /// Whether there are links to other drives.
    #[must_use]
    pub fn has_links(&self) -> bool {
        self.links > 0
    }

    /// Raises a node's generation above another, when it takes over that one's item.
    pub(super) fn raise(node: &mut Node, above: Generation) {
        node.generation = node.generation.max(above).next();
        if let Some(held) = &mut node.held {
            held.generation = node.generation;
        }
    }

    fn unindex(&mut self, id: NodeId) {
        let Some(node) = self.nodes.get(&id) else {
            return;
        };
        if let Some(since) = node.pending_since {
            self.pending.remove(&(since, id));
            self.pending_folders.remove(&(since, id));
        }
        if let Some(place) = &node.place
            && let Some(names) = self.children.get_mut(&place.parent)
        {
            let fold = Fold::of(&place.name);
            if names.get(&fold) == Some(&id) {
                names.remove(&fold);
            }
        }
        self.links -= usize::from(node.target.is_some());
        for item in node.items() {
            if self.by_item.get(item) == Some(&id) {
                self.by_item.remove(item);
            }
        }
        if let Some(base) = &node.baseline {
            let key = (base.parent.clone(), Fold::of(&base.name));
            if self.taken.get(&key) == Some(&base.item) {
                self.taken.remove(&key);
            }
        }
    }

    fn index(&mut self, id: NodeId, now: SystemTime) {
        let Some(node) = self.nodes.get(&id) else {
            return;
        };
        let pending = self.is_pending(node);
        let fold = node.place.as_ref().map(|place| Fold::of(&place.name));
        if let (Some(place), Some(fold)) = (&node.place, &fold) {
            self.children
                .entry(place.parent)
                .or_default()
                .insert(fold.clone(), id);
        }
        self.links += usize::from(node.target.is_some());
        for item in node.items() {
            self.by_item.insert(item.clone(), id);
        }
        let Some(node) = self.nodes.get_mut(&id) else {
            return;
        };
        if let Some(base) = &mut node.baseline {
            // One text for all children of a folder.
            if let Some((parent, _)) = self.by_item.get_key_value(&base.parent) {
                base.parent = parent.clone();
            }
            let same = node
                .place
                .as_ref()
                .is_some_and(|place| place.name == base.name);
            let fold = fold.filter(|_| same);
            let fold = fold.unwrap_or_else(|| Fold::of(&base.name));
            self.taken
                .insert((base.parent.clone(), fold), base.item.clone());
        }
        if pending {
            let since = *node.pending_since.get_or_insert(now);
            self.pending.insert((since, id));
            if node.kind == Kind::Directory {
                self.pending_folders.insert((since, id));
            }
        } else {
            node.pending_since = None;
            node.parked = None;
        }
    }
}
