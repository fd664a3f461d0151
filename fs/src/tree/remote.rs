//! What the drive says, brought into the tree: delta rounds and listings.
//!
//! A local change that is still pending wins over what is told here; the outbox settles it with
//! the drive, under the versions that were known when it was made. Nothing that the drive has not
//! confirmed is ever given up (invariant 4). What lives is placed first and what is gone goes
//! last, so that a folder's tombstone never takes what has moved out of it (trap T2).

mod place;
mod removal;

use std::collections::{HashMap, HashSet};
use std::time::SystemTime;

pub use self::removal::Withheld;
use super::{Item, ItemFacet, ItemId, NodeId, Tree};

/// Which part of the drive the items speak for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Some items that changed.
    Round,
    /// All children of a folder: what is not among them is gone.
    Listing(NodeId),
}

/// Which open files count as changed, though nothing of them is sealed yet.
pub type Writing<'a> = &'a dyn Fn(NodeId) -> bool;

/// How news are to be taken.
#[derive(Clone, Copy)]
pub struct Terms<'a> {
    /// Which open files count as changed.
    pub writing: Writing<'a>,
    /// If more nodes than this would go at once, all of them stay until a person has decided.
    pub guard: Option<usize>,
    /// The service may have lost items itself: what it lacks and we hold is sent again.
    pub keep_local: bool,
    /// Items that a listing lacks though nobody knows that they are gone.
    pub doubted: Option<&'a HashSet<ItemId>>,
}

impl<'a> Terms<'a> {
    /// What is gone goes, however much that is.
    #[must_use]
    pub fn plain(writing: Writing<'a>) -> Self {
        Self {
            writing,
            guard: None,
            keep_local: false,
            doubted: None,
        }
    }
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
    /// Nodes that the drive says are gone and that stay until a person has decided.
    pub withheld: usize,
}

impl Effects {
    /// Adds what came after.
    pub fn append(&mut self, later: Self) {
        self.entries.extend(later.entries);
        self.nodes.extend(later.nodes);
        self.put.extend(later.put);
        self.gone.extend(later.gone);
        self.withheld += later.withheld;
    }
}

impl Tree {
    /// Takes items in their latest state; of an id that comes twice, the last one counts.
    pub fn apply(
        &mut self,
        items: &[Item],
        scope: Scope,
        terms: Terms<'_>,
        now: SystemTime,
    ) -> Effects {
        let newest: HashMap<&ItemId, &Item> = items.iter().map(|item| (&item.id, item)).collect();
        let (dead, alive): (Vec<&Item>, Vec<&Item>) = items
            .iter()
            .filter(|item| std::ptr::eq(newest[&item.id], *item))
            .partition(|item| item.facet == ItemFacet::Deleted);
        let mut going = self.buried_or_going(&dead, now);
        let mut taking = Taking {
            tree: self,
            scope,
            terms,
            now,
            dead: going.iter().copied().collect(),
            effects: Effects::default(),
        };
        let waiting = taking.place_all(alive);
        if let Scope::Listing(dir) = scope {
            let listed = |id: &ItemId| newest.contains_key(id);
            let missing = taking.tree.missing_from(dir, &listed, now);
            let sure = |id: &ItemId| terms.doubted.is_none_or(|doubted| !doubted.contains(id));
            going.extend(missing.into_iter().filter(|(_, id)| sure(id)).map(|m| m.0));
        }
        taking.remove(&going);
        let mut left = HashSet::new();
        for item in taking.place_all(waiting) {
            if taking.crosses(item) {
                continue;
            }
            // The name is still taken, by an item that the drive must have moved away without
            // telling yet, or by one that we are about to move there: list the folder again when
            // somebody asks, or with the next that are due.
            let dir = item.parent.as_ref().and_then(|p| taking.tree.by_item(p));
            if let Some(dir) = dir.map(|dir| dir.id) {
                left.insert(dir);
                taking.tree.edit(dir, now, |dir| {
                    (dir.listed, dir.listed_at) = (false, None);
                });
            }
        }
        if let Scope::Listing(dir) = scope {
            let compared = (!left.contains(&dir)).then_some(now);
            taking.tree.edit(dir, now, |dir| {
                (dir.listed, dir.listed_at) = (true, compared);
            });
        }
        taking.effects
    }

    /// Takes it that the drive no longer has an item: what was pending on it is made anew.
    pub fn lost(&mut self, id: NodeId, writing: Writing<'_>, now: SystemTime) -> Effects {
        let mut taking = Taking {
            tree: self,
            scope: Scope::Round,
            terms: Terms::plain(writing),
            now,
            dead: HashSet::new(),
            effects: Effects::default(),
        };
        taking.wither(id);
        taking.effects
    }
}

/// News on their way into the tree.
struct Taking<'t, 'a> {
    tree: &'t mut Tree,
    scope: Scope,
    terms: Terms<'a>,
    now: SystemTime,
    /// Nodes whose tombstones are among the news.
    dead: HashSet<NodeId>,
    effects: Effects,
}
