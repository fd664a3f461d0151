//! An item in the tree's words: what kind of node it makes, and whether its content is known.

use super::node::{Baseline, Kind, Node};
use super::{Generation, Item, ItemFacet, ItemId, QuickXorHash};

/// What an item is to us.
pub(super) fn kind_of(item: &Item) -> Kind {
    match item.facet {
        ItemFacet::File { .. } => Kind::File,
        ItemFacet::Folder | ItemFacet::Shortcut { folder: true, .. } => Kind::Directory,
        ItemFacet::Deleted | ItemFacet::Shortcut { .. } | ItemFacet::Other => Kind::Hidden,
    }
}

pub(super) fn file_hash(item: &Item) -> Option<QuickXorHash> {
    match item.facet {
        ItemFacet::File { hash, .. } => hash,
        ItemFacet::Folder | ItemFacet::Deleted | ItemFacet::Shortcut { .. } | ItemFacet::Other => {
            None
        }
    }
}

/// The folder of another drive that an item leads to.
pub(super) fn target(item: &Item) -> Option<ItemId> {
    match &item.facet {
        ItemFacet::Shortcut {
            drive,
            item,
            folder: true,
        } => Some(ItemId::in_drive(drive, item.as_str())),
        _ => None,
    }
}

/// The baseline that an item makes; fields that a reply left out stay as they were.
pub(super) fn baseline(
    item: &Item,
    generation: Generation,
    before: Option<&Baseline>,
) -> Option<Baseline> {
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

/// Makes a fresh node what an item says.
pub(super) fn adopt(node: &mut Node, item: &Item, base: Baseline) {
    node.generation = base.generation;
    node.target = target(item);
    node.baseline = Some(base);
    node.size = item.size;
    node.mtime = item.modified.unwrap_or(node.mtime);
    node.btime = item.created.unwrap_or(node.mtime);
    node.listed = false;
}

/// Whether an item's content is still the one that we know: hash and size first, tags second,
/// since photo processing moves tags without an edit (trap T4).
pub(super) fn same_content(base: &Baseline, item: &Item) -> bool {
    match (base.hash, file_hash(item)) {
        (Some(ours), Some(theirs)) => ours == theirs && base.size == item.size,
        _ => base.ctag.is_some() && base.ctag == item.ctag && base.size == item.size,
    }
}
