//! Somebody else was there: who has the name, and whose bytes are they?

use std::time::SystemTime;

use super::{Outcome, Settle};
use crate::ports::DriveError;
use crate::tree::{Generation, Held, Item, ItemFacet, ItemId, NodeId, QuickXorHash, Sent, Tree};

impl Settle {
    /// The name of a new file exists on the drive: our own reply was lost, or somebody was first.
    pub(super) async fn name_taken(
        &self,
        node: NodeId,
        parent: &ItemId,
        name: &str,
        held: &Held,
    ) -> Result<Outcome, DriveError> {
        let item = match self.drive.child(parent, name).await {
            // Not visible yet, or held by a running upload session.
            Err(DriveError::NotFound) => return Ok(Outcome::Again),
            other => other?,
        };
        if self.is_known(node, &item) {
            return Ok(Outcome::Again);
        }
        if self.is_ours(&item, held).await? {
            self.take(node, &item, Sent::Content(held.generation), |_| {})
                .await;
        } else if let Some(sent) = self.recognise(node, &item) {
            self.take(node, &item, Sent::Content(sent), |_| {}).await;
        } else if !self.wants(node, parent, name) {
            return Ok(Outcome::Again);
        } else {
            return Ok(self.both(node, None, &item).await);
        }
        Ok(Outcome::Done)
    }

    /// The item was changed since we last saw it.
    pub(super) async fn conflict(
        &self,
        node: NodeId,
        id: &ItemId,
        held: &Held,
    ) -> Result<Outcome, DriveError> {
        let item = match self.drive.item(id).await {
            Err(DriveError::NotFound) => return self.missing(node, id).await,
            other => other?,
        };
        if self.is_ours(&item, held).await? {
            self.take(node, &item, Sent::Content(held.generation), |_| {})
                .await;
            return Ok(Outcome::Done);
        }
        if let Some(sent) = self.recognise(node, &item) {
            self.take(node, &item, Sent::Content(sent), |_| {}).await;
            return Ok(Outcome::Again);
        }
        let known = {
            let books = self.ledger.books();
            books.tree.node(node).and_then(|node| node.baseline.clone())
        };
        let same_bytes = known
            .as_ref()
            .is_some_and(|base| match (base.hash, hash_of(&item)) {
                (Some(ours), Some(theirs)) => ours == theirs && base.size == item.size,
                _ => base.ctag.is_some() && base.ctag == item.ctag,
            });
        if same_bytes {
            // Only its tags moved: our content goes on top of the version that it has now.
            self.take(node, &item, Sent::Nothing, |_| {}).await;
            return Ok(Outcome::Again);
        }
        Ok(self.both(node, Some(id), &item).await)
    }

    /// Keeps both: the remote file under the name, ours beside it. `of` is the item that the
    /// request was for: what stands for another one by now has nothing to do with its clash.
    pub(super) async fn both(&self, node: NodeId, of: Option<&ItemId>, item: &Item) -> Outcome {
        let now = SystemTime::now();
        let (names, ticket) = self.ledger.change(|books| {
            let before = books.tree.node(node)?;
            if before.baseline.as_ref().map(|base| &base.item) != of {
                return None;
            }
            let before = before.place.clone();
            books.tree.failed(node); // somebody else has the name, so that ours has no effect
            books.tree.keep_both(node, Some(item), now);
            let after = books.tree.node(node).and_then(|node| node.place.clone());
            Some((before, after))
        });
        let Some(names) = names else {
            return Outcome::Again;
        };
        if let (Some(before), Some(after)) = &names {
            tracing::warn!(
                name = before.name,
                copy = after.name,
                "changed here and on the drive: the drive's version keeps the name, ours is beside it"
            );
            self.ledger.invalidate_entry(before.parent, &before.name);
            self.ledger.invalidate_entry(after.parent, &after.name);
            self.ledger.invalidate_node(node, false);
        }
        self.ledger.announce_put(node);
        if let Err(error) = ticket.durable().await {
            tracing::warn!(%error, "a conflict copy is not in the journal yet");
        }
        Outcome::Done
    }

    /// Something that we do not know of holds the name that an item is to get: list the folder,
    /// so that it is known, and gives way or is kept beside.
    pub(super) async fn move_blocked(
        &self,
        node: NodeId,
        parent: &ItemId,
        name: &str,
    ) -> Result<Outcome, DriveError> {
        let item = match self.drive.child(parent, name).await {
            Err(DriveError::NotFound) => return Ok(Outcome::Again),
            other => other?,
        };
        let now = SystemTime::now();
        let (names, ticket) = self.ledger.change(|books| {
            let owner = books.tree.by_item(&item.id).map(|n| n.id);
            let place = books.tree.node(node)?.place.clone()?;
            match owner {
                // The move took effect and its reply was lost.
                Some(owner) if owner == node => {
                    books.tree.confirm(&item, node, Sent::Place, now);
                    None
                }
                Some(_) => None, // known, and about to leave the name itself
                None if books.tree.grave(&item.id).is_some() => None,
                None if books.tree.was_sought(&item, now) => None,
                None if !wants(&books.tree, node, parent, name) => None,
                None => {
                    books.tree.give_way(node, &item, now);
                    Some(place)
                }
            }
        });
        if let Some(place) = names {
            self.ledger.invalidate_entry(place.parent, &place.name);
        }
        ticket.durable().await.ok();
        Ok(Outcome::Again)
    }

    /// Whether a file still is to have a name: it may have been renamed while a request for the
    /// old one was under way.
    pub(super) fn wants(&self, node: NodeId, parent: &ItemId, name: &str) -> bool {
        wants(&self.ledger.books().tree, node, parent, name)
    }

    /// Whether an item that has the name is one of ours, and on its way from it: deleted here, or
    /// another file's, which was or will be renamed.
    pub(super) fn is_known(&self, node: NodeId, item: &Item) -> bool {
        let books = self.ledger.books();
        let owner = books.tree.by_item(&item.id).map(|owner| owner.id);
        owner.is_some_and(|owner| owner != node) || books.tree.grave(&item.id).is_some()
    }

    /// Which older content of ours an item has: its request took effect, and nobody told.
    fn recognise(&self, node: NodeId, item: &Item) -> Option<Generation> {
        let books = self.ledger.books();
        books.tree.node(node)?.recognise(item.size, hash_of(item))
    }

    /// Whether an item on the drive has just the bytes that we hold.
    pub(super) async fn is_ours(&self, item: &Item, held: &Held) -> Result<bool, DriveError> {
        let (
            ItemFacet::File {
                hash: Some(theirs), ..
            },
            true,
        ) = (&item.facet, item.size == held.size)
        else {
            // Without a hash, only empty files are known to be equal.
            let file = matches!(item.facet, ItemFacet::File { .. });
            return Ok(file && item.size == 0 && held.size == 0);
        };
        Ok(self.hash(held).await? == *theirs)
    }

    pub(super) async fn hash(&self, held: &Held) -> Result<QuickXorHash, DriveError> {
        if let Some(hash) = held.hash {
            return Ok(hash);
        }
        let blob = self.store.load(held.content).map_err(DriveError::Disk)?;
        tokio::task::spawn_blocking(move || blob.quick_xor())
            .await
            .map_err(|error| DriveError::Disk(std::io::Error::other(error)))?
            .map(|(_, hash)| hash)
            .map_err(DriveError::Disk)
    }
}

pub(super) fn wants(tree: &Tree, node: NodeId, parent: &ItemId, name: &str) -> bool {
    let place = tree.node(node).and_then(|node| node.place.as_ref());
    place.is_some_and(|place| place.name == name && tree.item_of(place.parent) == Some(parent))
}

/// The hash that the drive tells of an item.
pub(super) fn hash_of(item: &Item) -> Option<QuickXorHash> {
    match item.facet {
        ItemFacet::File { hash, .. } => hash,
        ItemFacet::Folder | ItemFacet::Deleted | ItemFacet::Shortcut { .. } | ItemFacet::Other => {
            None
        }
    }
}
