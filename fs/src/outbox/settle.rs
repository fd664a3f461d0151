//! One step: send it, and settle what came of it.
//!
//! A reply may have been lost, another client may have been faster, the service may have changed
//! tags by itself. So a refusal is looked into before it counts: the item is fetched, and content
//! decides first, by hash and size; tags second (`graph-api.md`, traps T4 and T15).

mod clash;
mod gone;

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use self::clash::wants;
use super::damage::{Flaw, proven, put_aside};
use super::late::catch_up;
use super::ledger::Ledger;
use super::plan::{Step, aside, sent};
use crate::content::disk::is_passing;
use crate::content::store::Store;
use crate::ports::{Drive, DriveError, Update, Upload, UploadTarget};
use crate::tree::{Grave, Held, Item, ItemFacet, ItemId, Node, NodeId, Parked, Sent, Tree};

/// What became of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It took effect, or is settled otherwise.
    Done,
    /// Try this one again after a while.
    Again,
    /// Look again after this time.
    Later(Duration),
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
    /// The drive has no room: what takes space waits.
    Full,
    /// Everything waits for a person: sign-in.
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
        if !self.attempt(step) {
            return Outcome::Later(Duration::ZERO);
        }
        if let Step::Replace { node, .. } = step {
            self.ledger.books().tree.begun(*node);
        }
        let outcome = match self.send(step).await {
            Ok(outcome) => outcome,
            Err(error) => self.classify(step, error).await,
        };
        if let Step::CreateFolder { node, .. }
        | Step::Create { node, .. }
        | Step::Replace { node, .. } = step
        {
            self.ledger.books().tree.ended(*node);
        }
        outcome
    }

    /// Notes that a step may make an item, before it is sent: from then on a rename or a deletion leaves a
    /// note of where to look for that. One that came before is planned anew: `false`.
    fn attempt(&self, step: &Step) -> bool {
        let (Step::CreateFolder { node, parent, name }
        | Step::Create {
            node, parent, name, ..
        }) = step
        else {
            return true;
        };
        let now = SystemTime::now();
        self.ledger.note(|books| {
            let wanted = wants(&books.tree, *node, parent, name);
            if wanted {
                books.tree.attempt(*node, now);
            }
            wanted
        })
    }

    async fn send(&self, step: &Step) -> Result<Outcome, DriveError> {
        match step {
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
                if let Some(there) = self.moved_before(*node, item, parent, name).await? {
                    return self.confirm(Ok(there), *node, step, None).await;
                }
                if let Some(over) = over
                    && let Some(outcome) = self.changed_under(over, parent, name).await?
                {
                    return Ok(outcome);
                }
                let update = Update {
                    place: Some((parent.clone(), name.clone())),
                    replace: over.is_some(),
                    modified: Some(*modified),
                    held: None, // a rename does not care for the version: the content is theirs
                };
                match self.drive.update(item, update).await {
                    Err(DriveError::NotFound) => self.missing(*node, item).await,
                    Err(DriveError::NameTaken) => self.move_blocked(*node, parent, name).await,
                    Err(error @ DriveError::Unavailable { .. }) => {
                        self.ledger.books().tree.stay_unsure(*node);
                        Err(error)
                    }
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
            Step::Seek { grave } => self.seek(grave).await,
            Step::Delete { item, etag, kind } => self.delete(item, etag.as_ref(), *kind).await,
        }
    }

    /// The item, if the run before has moved it and ended before the reply: moving it again would
    /// make another version on some drives.
    async fn moved_before(
        &self,
        node: NodeId,
        item: &ItemId,
        parent: &ItemId,
        name: &str,
    ) -> Result<Option<Item>, DriveError> {
        if !self.ledger.books().tree.take_unsure(node) {
            return Ok(None);
        }
        match self.drive.item(item).await {
            Ok(there) => {
                let is_there =
                    there.parent.as_ref() == Some(parent) && there.name.as_deref() == Some(name);
                Ok(is_there.then_some(there))
            }
            Err(DriveError::NotFound) => Ok(None), // the request itself finds that out
            Err(error) => {
                self.ledger.books().tree.stay_unsure(node);
                Err(error)
            }
        }
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
                    Ok(item) if self.is_known(node, &item) => return Ok(Outcome::Again),
                    Ok(_) if !self.wants(node, parent, name) => return Ok(Outcome::Again),
                    Ok(item) if item.facet == ItemFacet::Folder => {
                        // Made by another client, or by us with the reply lost: it may have
                        // children that we do not know of. They are fetched here, so that no
                        // program that works in its new folder has to wait for the drive.
                        let children = self.drive.children(&item.id).await?;
                        self.take(node, &item, Sent::Nothing, |_| {}).await;
                        self.reappear(&children).await;
                        return Ok(Outcome::Done);
                    }
                    Ok(item) => return Ok(self.both(node, None, &item).await),
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
        // Never send what is not what was sealed.
        let (store, content, size, hash) = (self.store.clone(), held.content, held.size, held.hash);
        let proof = tokio::task::spawn_blocking(move || {
            proven(&store, content, size, hash).map_err(|flaw| match flaw {
                Flaw::Damaged(what) => io::Error::other(put_aside(&store, content, &what)),
                Flaw::Unreadable(error) => error,
            })
        });
        let proof = proof.await.map_err(io::Error::other);
        let blob = proof.flatten().map_err(DriveError::Disk)?;
        let file = blob.file();
        self.drive
            .upload(Upload {
                target,
                content: held.content,
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
        if let Err(error) = catch_up(&self.ledger, &*self.drive).await {
            tracing::debug!(%error, "what came meanwhile is looked at in the next round");
        }
        Ok(Outcome::Done)
    }

    /// Brings a reply into the tree and waits until that is durable: only then does the content
    /// count as confirmed, and may be evicted.
    async fn take(&self, node: NodeId, item: &Item, sent: Sent, then: impl FnOnce(&mut Node)) {
        let now = SystemTime::now();
        let (content, ticket) = self.ledger.change(|books| {
            books.tree.confirm(item, node, sent, now);
            if books.tree.node(node).is_some() {
                books.tree.edit(node, now, then);
            }
            let content = books.tree.node(node).and_then(Node::evictable);
            books
                .unrecorded
                .extend(content.map(|content| (content, false)));
            content
        });
        let recorded = ticket.durable().await;
        let mut books = self.ledger.books();
        match (recorded, content) {
            // What came before it is on the disk, too.
            (Ok(()), _) => books
                .unrecorded
                .retain(|it, failed| !*failed && Some(*it) != content),
            (Err(error), content) => {
                tracing::warn!(%error, "sent, but that is not in the journal yet");
                books
                    .unrecorded
                    .extend(content.map(|content| (content, true)));
            }
        }
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
            DriveError::QuotaFull => Outcome::Full,
            DriveError::Locked(_) => Outcome::Locked,
            // Looked into where they can happen; here, the state changed between two requests.
            DriveError::NotFound | DriveError::NameTaken | DriveError::Conflict => Outcome::Again,
            DriveError::Disk(error) if is_passing(&error) => Outcome::Again,
            // It was asked for what nobody wants any more.
            DriveError::Refused { .. } | DriveError::Disk(_) if self.is_outdated(step) => {
                Outcome::Later(Duration::ZERO)
            }
            DriveError::Refused { .. }
            | DriveError::NotSupported(_)
            | DriveError::Resync { .. }
            | DriveError::Disk(_) => {
                if let Step::CreateFolder { node, .. } | Step::Create { node, .. } = step {
                    self.ledger.books().tree.failed(*node);
                }
                self.park(step, &chain(&error)).await;
                Outcome::Parked
            }
        }
    }

    /// Whether a move goes to where its node is no longer to go, or a content is no longer the newest: that one
    /// is removed once its successor is safe, also under the feet of an upload.
    fn is_outdated(&self, step: &Step) -> bool {
        match step {
            Step::Move {
                node,
                item,
                parent,
                name,
                ..
            } => *name != aside(item) && !self.wants(*node, parent, name),
            Step::Create { node, held, .. } | Step::Replace { node, held, .. } => {
                let books = self.ledger.books();
                let newest = books.tree.node(*node).and_then(|node| node.held.as_ref());
                newest.map(|newest| newest.content) != Some(held.content)
            }
            Step::CreateFolder { .. }
            | Step::SetTime { .. }
            | Step::Seek { .. }
            | Step::Delete { .. } => false,
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
                Step::Delete { item, .. }
                | Step::Seek {
                    grave: Grave { item, .. },
                } => {
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
            "a change cannot be sent; it is kept here: see `tuyunfs status`"
        );
        ticket.durable().await.ok();
    }

    /// Lets what is parked run again: everything, or at a path.
    pub(super) fn unpark(&self, path: Option<&str>, now: SystemTime) -> usize {
        let wanted = |at: Option<String>| path.is_none_or(|path| at.as_deref() == Some(path));
        let (count, _ticket) = self.ledger.change(|books| {
            let nodes: Vec<NodeId> = books
                .tree
                .pending()
                .filter(|n| n.parked.is_some() && wanted(books.tree.path(n.id)))
                .map(|n| n.id)
                .collect();
            let graves: Vec<_> = books
                .tree
                .graves()
                .filter(|g| g.parked.is_some() && wanted(Some(books.tree.path_of_grave(g))))
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
