//! One step: send it, and settle what came of it.
//!
//! A reply may have been lost, another client may have been faster, the service may have changed
//! tags by itself. So a refusal is looked into before it counts: the item is fetched, and content
//! decides first, by hash and size; tags second (`graph-api.md`, traps T4 and T15).

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::ledger::{Books, Ledger};
use super::plan::{Step, sent};
use crate::content::store::Store;
use crate::ports::{Drive, DriveError, Update, Upload, UploadTarget};
use crate::tree::{
    ETag, Held, Item, ItemFacet, ItemId, Kind, Node, NodeId, Parked, QuickXorHash, Sent, Terms,
    Tree,
};

/// What became of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It took effect, or is settled otherwise.
    Done,
    /// Try this one again after a while.
    Again,
    /// Somebody has the item open: try again in minutes.
    Locked,
    /// It waits for a person.
    Parked,
    /// The drive cannot be reached, or asks for silence.
    Pause {
        /// What it said.
        why: String,
        /// For how long, if it said so.
        after: Option<Duration>,
    },
    /// Everything waits for a person: sign-in, or a full drive.
    Person {
        /// What is needed.
        why: String,
    },
}

/// Sends steps and brings replies into the tree.
pub(super) struct Settle {
    pub(super) ledger: Arc<Ledger>,
    pub(super) store: Arc<Store>,
    pub(super) drive: Arc<dyn Drive>,
    pub(super) drive_has_versions: bool,
}

impl Settle {
    /// Performs one step.
    pub(super) async fn perform(&self, step: &Step) -> Outcome {
        let result = match step {
            Step::CreateFolder { node, parent, name } => {
                self.create_folder(*node, parent, name).await
            }
            Step::Create {
                node,
                parent,
                name,
                held,
                modified,
            } => {
                let target = UploadTarget::New {
                    parent: parent.clone(),
                    name: name.clone(),
                };
                match self.upload(target, held, *modified).await {
                    Err(DriveError::NameTaken) => self.name_taken(*node, parent, name, held).await,
                    Err(DriveError::NotFound) => self.folder_missing(parent).await,
                    other => self.confirm(other, *node, step, *modified).await,
                }
            }
            Step::Replace {
                node,
                item,
                etag,
                held,
                modified,
            } => {
                let target = UploadTarget::Replace {
                    id: item.clone(),
                    held: etag.clone(),
                };
                match self.upload(target, held, *modified).await {
                    Err(DriveError::Conflict) => self.conflict(*node, item, held).await,
                    Err(DriveError::NotFound) => self.missing(*node, item).await,
                    other => self.confirm(other, *node, step, *modified).await,
                }
            }
            Step::Move {
                node,
                item,
                parent,
                name,
                modified,
                over,
            } => {
                let update = Update {
                    place: Some((parent.clone(), name.clone())),
                    replace: over.is_some(),
                    modified: Some(*modified),
                    held: None, // a rename does not care for the version: the content is theirs
                };
                match self.drive.update(item, update).await {
                    Err(DriveError::NotFound) => self.missing(*node, item).await,
                    Err(DriveError::NameTaken) => self.move_blocked(*node, parent, name).await,
                    Ok(moved) => {
                        self.replaced(over.as_ref());
                        self.confirm(Ok(moved), *node, step, None).await
                    }
                    other => self.confirm(other, *node, step, None).await,
                }
            }
            Step::SetTime {
                node,
                item,
                modified,
            } => {
                let update = Update {
                    modified: Some(*modified),
                    ..Update::default()
                };
                let set = self.drive.update(item, update).await;
                match set {
                    Err(DriveError::NotFound) => self.missing(*node, item).await,
                    other => self.confirm(other, *node, step, Some(*modified)).await,
                }
            }
            Step::Delete { item, etag, kind } => self.delete(item, etag.as_ref(), *kind).await,
        };
        match result {
            Ok(outcome) => outcome,
            Err(error) => self.classify(step, error).await,
        }
    }

    /// Lets everything that is parked run again.
    pub(super) fn unpark(&self, now: SystemTime) -> usize {
        let (count, _ticket) = self.ledger.change(|books| {
            let nodes: Vec<NodeId> = books
                .tree
                .pending()
                .filter(|n| n.parked.is_some())
                .map(|n| n.id)
                .collect();
            let graves: Vec<_> = books
                .tree
                .graves()
                .filter(|g| g.parked.is_some())
                .cloned()
                .collect();
            let count = nodes.len() + graves.len();
            for id in nodes {
                books.tree.edit(id, now, |node| node.parked = None);
            }
            for mut grave in graves {
                grave.parked = None;
                books.tree.set_grave(grave.item.clone(), Some(grave));
            }
            count
        });
        count
    }

    async fn create_folder(
        &self,
        node: NodeId,
        parent: &ItemId,
        name: &str,
    ) -> Result<Outcome, DriveError> {
        let item = match self.drive.create_folder(parent, name).await {
            Err(DriveError::NameTaken) => {
                let there = self.drive.child(parent, name).await;
                match there {
                    Ok(item) if item.facet == ItemFacet::Folder => {
                        // Made by another client, or by us with the reply lost: it may have
                        // children that we do not know of.
                        self.take(node, &item, Sent::Nothing, |node| node.listed = false)
                            .await;
                        return Ok(Outcome::Done);
                    }
                    Ok(item) => {
                        self.both(node, &item).await;
                        return Ok(Outcome::Done);
                    }
                    Err(DriveError::NotFound) => return Ok(Outcome::Again),
                    Err(error) => return Err(error),
                }
            }
            Err(DriveError::NotFound) => return self.folder_missing(parent).await,
            other => other?,
        };
        self.take(node, &item, Sent::Place, |_| {}).await;
        Ok(Outcome::Done)
    }

    async fn upload(
        &self,
        target: UploadTarget,
        held: &Held,
        modified: Option<SystemTime>,
    ) -> Result<Item, DriveError> {
        let blob = self.store.load(held.content).map_err(DriveError::Disk)?;
        let file = blob.file();
        let there = file.metadata().map_err(DriveError::Disk)?.len();
        if there != held.size {
            // Never send what is not what was sealed.
            return Err(DriveError::Disk(std::io::Error::other(format!(
                "content {} has {there} bytes, sealed were {}",
                held.content, held.size
            ))));
        }
        self.drive
            .upload(Upload {
                target,
                file,
                size: held.size,
                modified,
            })
            .await
    }

    async fn confirm(
        &self,
        reply: Result<Item, DriveError>,
        node: NodeId,
        step: &Step,
        time_sent: Option<SystemTime>,
    ) -> Result<Outcome, DriveError> {
        let item = reply?;
        let versions = self.drive_has_versions;
        self.take(node, &item, sent(step), |node| {
            // On drives where a later change of time would make a version, the time that went
            // with the upload is the last one that is sent.
            if node.mtime_unsent && (versions || time_sent == Some(node.mtime)) {
                node.mtime_unsent = versions && node.content_pending();
            }
        })
        .await;
        Ok(Outcome::Done)
    }

    /// Brings a reply into the tree and waits until that is durable: only then does the content
    /// count as confirmed, and may be evicted.
    async fn take(&self, node: NodeId, item: &Item, sent: Sent, then: impl FnOnce(&mut Node)) {
        let now = SystemTime::now();
        let ((), ticket) = self.ledger.change(|books| {
            books.tree.confirm(item, node, sent, now);
            if books.tree.node(node).is_some() {
                books.tree.edit(node, now, then);
            }
        });
        if let Err(error) = ticket.durable().await {
            tracing::warn!(%error, "sent, but that is not in the journal yet");
        }
    }

    /// The name of a new file exists on the drive: our own reply was lost, or somebody was first.
    async fn name_taken(
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
        if self.is_ours(&item, held).await? {
            self.take(node, &item, Sent::Content(held.generation), |_| {})
                .await;
        } else {
            self.both(node, &item).await;
        }
        Ok(Outcome::Done)
    }

    /// The item was changed since we last saw it.
    async fn conflict(
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
        self.both(node, &item).await;
        Ok(Outcome::Done)
    }

    /// Keeps both: the remote file under the name, ours beside it.
    async fn both(&self, node: NodeId, item: &Item) {
        let now = SystemTime::now();
        let (names, ticket) = self.ledger.change(|books| {
            let before = books.tree.node(node).and_then(|node| node.place.clone());
            books.tree.keep_both(node, Some(item), now);
            let after = books.tree.node(node).and_then(|node| node.place.clone());
            (before, after)
        });
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
    }

    /// The drive says 404 to an id: counts only when it says so again two minutes later
    /// (invariant 7); then what is pending is made anew.
    async fn missing(&self, node: NodeId, item: &ItemId) -> Result<Outcome, DriveError> {
        let now = SystemTime::now();
        let young = self.ledger.books().tree.is_young(item, now);
        let gone = !young && self.ledger.books().tree.missed(item, now);
        if !gone {
            return Ok(Outcome::Again);
        }
        let (effects, ticket) = self.ledger.change(|books| {
            let Books { tree, writing, .. } = books;
            tree.lost(node, &|id| writing.contains(&id), now)
        });
        self.ledger.announce(effects);
        if let Err(error) = ticket.durable().await {
            tracing::warn!(%error, "a loss on the drive is not in the journal yet");
        }
        Ok(Outcome::Done)
    }

    /// A new child was refused with 404: its folder may be gone without a tombstone (trap T1).
    async fn folder_missing(&self, folder: &ItemId) -> Result<Outcome, DriveError> {
        match self.drive.item(folder).await {
            Err(DriveError::NotFound) => {}
            // It is there: the drive was late with it, or refuses children by this word.
            other => return other.map(|_| Outcome::Again),
        }
        let owner = self.ledger.books().tree.by_item(folder).map(|dir| dir.id);
        match owner {
            Some(NodeId::ROOT) => {
                self.root_missing(folder).await;
                Ok(Outcome::Again)
            }
            Some(dir) => self.missing(dir, folder).await,
            None => Ok(Outcome::Again),
        }
    }

    /// The mounted folder itself answers 404: nothing can be sent until it is back, or made anew.
    async fn root_missing(&self, folder: &ItemId) {
        let now = SystemTime::now();
        let (gone, ticket) = self.ledger.change(|books| {
            let gone = books.tree.missed(folder, now);
            if gone {
                books.tree.withhold(NodeId::ROOT, now);
            }
            gone
        });
        if gone {
            tracing::error!(
                "the mounted folder is gone from the drive; changes are kept here: \
                 see `tuyunfs deletions`"
            );
            ticket.durable().await.ok();
        }
    }

    /// Something that we do not know of holds the name that an item is to get: list the folder,
    /// so that it is known, and gives way or is kept beside.
    async fn move_blocked(
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

    fn replaced(&self, over: Option<&ItemId>) {
        let Some(over) = over else { return };
        let ((), _ticket) = self
            .ledger
            .change(|books| books.tree.set_grave(over.clone(), None));
    }

    async fn delete(
        &self,
        item: &ItemId,
        etag: Option<&ETag>,
        kind: Kind,
    ) -> Result<Outcome, DriveError> {
        // A folder's eTag says nothing of its children: what counts is that it is empty.
        if kind == Kind::Directory {
            let left = match self.drive.children(item).await {
                Err(DriveError::NotFound) => Vec::new(),
                other => other?,
            };
            if !left.is_empty() {
                return self.restore(item).await;
            }
        }
        let held = if kind == Kind::File { etag } else { None };
        match self.drive.delete(item, held).await {
            Ok(()) | Err(DriveError::NotFound) => {}
            Err(DriveError::Conflict) => return self.deleted_but_changed(item).await,
            Err(error) => return Err(error),
        }
        let now = SystemTime::now();
        let ((), ticket) = self.ledger.change(|books| {
            books.tree.set_grave(item.clone(), None);
            books.tree.note_deleted(item, now);
        });
        ticket.durable().await.ok();
        Ok(Outcome::Done)
    }

    /// Deleted here, and changed there since: with other content it stays, with only other tags
    /// it goes.
    async fn deleted_but_changed(&self, item: &ItemId) -> Result<Outcome, DriveError> {
        let there = match self.drive.item(item).await {
            Err(DriveError::NotFound) => None,
            other => Some(other?),
        };
        let (outcome, ticket) = self.ledger.change(|books| {
            let Some(mut grave) = books.tree.grave(item).cloned() else {
                return Outcome::Done;
            };
            match &there {
                Some(now_there) if grave.hash.is_some() && grave.hash == hash_of(now_there) => {
                    grave.etag.clone_from(&now_there.etag);
                    books.tree.set_grave(item.clone(), Some(grave));
                    Outcome::Again
                }
                _ => {
                    books.tree.set_grave(item.clone(), None);
                    Outcome::Done
                }
            }
        });
        ticket.durable().await.ok();
        if let (Some(item), Outcome::Done) = (there, &outcome) {
            self.reappear(&[item]).await;
        }
        Ok(outcome)
    }

    /// A folder that was deleted here has children on the drive that were never seen here: it
    /// comes back.
    async fn restore(&self, id: &ItemId) -> Result<Outcome, DriveError> {
        let item = self.drive.item(id).await?;
        let ((), ticket) = self
            .ledger
            .change(|books| books.tree.set_grave(id.clone(), None));
        ticket.durable().await.ok();
        tracing::warn!(
            name = item.name,
            "a deleted folder has new files on the drive: it stays"
        );
        self.reappear(&[item]).await;
        Ok(Outcome::Done)
    }

    async fn reappear(&self, items: &[Item]) {
        let now = SystemTime::now();
        let (effects, ticket) = self.ledger.change(|books| {
            let Books { tree, writing, .. } = books;
            let writing = |id| writing.contains(&id);
            tree.apply(
                items,
                crate::tree::Scope::Round,
                Terms::plain(&writing),
                now,
            )
        });
        self.ledger.announce(effects);
        ticket.durable().await.ok();
    }

    /// Whether an item on the drive has just the bytes that we hold.
    async fn is_ours(&self, item: &Item, held: &Held) -> Result<bool, DriveError> {
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

    async fn hash(&self, held: &Held) -> Result<QuickXorHash, DriveError> {
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

    async fn classify(&self, step: &Step, error: DriveError) -> Outcome {
        match error {
            DriveError::Unavailable { what, retry_after } => Outcome::Pause {
                why: what,
                after: retry_after,
            },
            DriveError::SignIn(why) => Outcome::Person {
                why: format!("sign-in is needed: {why}"),
            },
            DriveError::QuotaFull => Outcome::Person {
                why: "the drive is full".into(),
            },
            DriveError::Locked(_) => Outcome::Locked,
            // Looked into where they can happen; here, the state changed between two requests.
            DriveError::NotFound | DriveError::NameTaken | DriveError::Conflict => Outcome::Again,
            DriveError::Refused { .. }
            | DriveError::NotSupported(_)
            | DriveError::Resync { .. }
            | DriveError::Disk(_) => {
                self.park(step, &chain(&error)).await;
                Outcome::Parked
            }
        }
    }

    async fn park(&self, step: &Step, why: &str) {
        let now = SystemTime::now();
        let parked = Parked {
            why: why.to_owned(),
            since: now,
        };
        let (path, ticket) = self.ledger.change(|books| {
            let tree: &mut Tree = &mut books.tree;
            match step {
                Step::Delete { item, .. } => {
                    let mut grave = tree.grave(item).cloned()?;
                    let name = grave.name.clone();
                    grave.parked = Some(parked);
                    tree.set_grave(item.clone(), Some(grave));
                    Some(name)
                }
                Step::CreateFolder { node, .. }
                | Step::Create { node, .. }
                | Step::Replace { node, .. }
                | Step::Move { node, .. }
                | Step::SetTime { node, .. } => {
                    tree.edit(*node, now, |node| node.parked = Some(parked));
                    tree.path(*node)
                }
            }
        });
        tracing::error!(
            path,
            why,
            "the drive refuses a change; it is kept here: see `tuyunfs status`"
        );
        ticket.durable().await.ok();
    }
}

fn hash_of(item: &Item) -> Option<QuickXorHash> {
    match item.facet {
        ItemFacet::File { hash, .. } => hash,
        ItemFacet::Folder | ItemFacet::Deleted | ItemFacet::Other => None,
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut at = error.source();
    while let Some(cause) = at {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        at = cause.source();
    }
    text
}
