//! What the drive refuses, and what a person decides about it: to try again, or to give it up.

use std::sync::Arc;
use std::time::SystemTime;

use super::{NodeId, Vfs, VfsError};
use crate::outbox::ledger::Books;
use crate::ports::DriveError;
use crate::tree::{Effects, Item, ItemId, Kind, Scope, Terms};

/// Why a change could not be given up.
#[derive(Debug, thiserror::Error)]
pub enum DiscardError {
    /// There is none.
    #[error("nothing is parked at {0}")]
    NotParked(String),
    /// A program has the file open.
    #[error("{0} is open; close it first")]
    Open(String),
    /// The folder still has something.
    #[error(
        "{0} is not empty, and nothing of it is on the drive; decide about what is in it first"
    )]
    NotEmpty(String),
    /// It could not be asked what counts now.
    #[error("cannot ask the drive what it has of {path}")]
    Unknown {
        /// Of which.
        path: String,
        /// Why.
        #[source]
        source: VfsError,
    },
    /// It was decided, and is not durable.
    #[error(transparent)]
    Failed(#[from] VfsError),
}

/// What is parked at a path.
enum Parked {
    /// A file or folder that the drive does not have.
    New(NodeId),
    /// A change of what it has.
    Change(NodeId, ItemId),
    /// A deletion.
    Deletion(ItemId),
}

impl Vfs {
    /// Lets parked changes run again: all of them, or those at a path. Returns how many there were.
    #[must_use]
    pub fn retry_parked(&self, path: Option<&str>) -> usize {
        self.outbox
            .retry(path.map(|path| path.trim_start_matches('/')))
    }

    /// Gives up what is parked at a path below the root: the drive's version counts, and what it does
    /// not have is deleted here.
    ///
    /// # Errors
    /// Nothing is parked there, it is open, or the drive cannot be asked.
    pub async fn discard_parked(self: &Arc<Self>, path: &str) -> Result<(), DiscardError> {
        let path = path.trim_start_matches('/');
        let parked = self.parked_at(path);
        let (item, node) = match parked.ok_or_else(|| DiscardError::NotParked(path.to_owned()))? {
            Parked::New(id) => return self.discard_new(id, path).await,
            Parked::Change(id, item) => (item, Some(id)),
            Parked::Deletion(item) => (item, None),
        };
        let there = match self.in_time(self.ask(&item)).await {
            Ok(there) => there,
            Err(source) => {
                let path = path.to_owned();
                return Err(DiscardError::Unknown { path, source });
            }
        };
        if let Some(id) = node
            && self.ledger.books().open.contains(&id)
        {
            return Err(DiscardError::Open(path.to_owned()));
        }
        let now = SystemTime::now();
        let (effects, ticket) = self.ledger.change(|books| {
            let Books { tree, writing, .. } = books;
            let writing = |id| writing.contains(&id);
            let mut effects = Effects::default();
            match node {
                Some(id) => effects = tree.give_up(id, now),
                None => tree.set_grave(item.clone(), None),
            }
            let news = match there {
                Some(there) => tree.apply(&[there], Scope::Round, Terms::plain(&writing), now),
                None => node.map_or_else(Effects::default, |id| tree.lost(id, &writing, now)),
            };
            effects.append(news);
            effects
        });
        self.ledger.announce(effects);
        self.ledger.wake.notify_one();
        ticket.durable().await.map_err(VfsError::from)?;
        Ok(())
    }

    fn parked_at(&self, path: &str) -> Option<Parked> {
        let books = self.ledger.books();
        let tree = &books.tree;
        let mut nodes = tree.pending().filter(|node| node.parked.is_some());
        if let Some(node) = nodes.find(|node| tree.path(node.id).as_deref() == Some(path)) {
            return Some(match &node.baseline {
                None => Parked::New(node.id),
                Some(base) => Parked::Change(node.id, base.item.clone()),
            });
        }
        let mut graves = tree.graves().filter(|grave| grave.parked.is_some());
        let grave = graves.find(|grave| tree.path_of_grave(grave) == path)?;
        Some(Parked::Deletion(grave.item.clone()))
    }

    /// What the drive has of an item; `None` when it says that there is none.
    async fn ask(&self, item: &ItemId) -> Result<Option<Item>, DriveError> {
        match self.drive.item(item).await {
            Err(DriveError::NotFound) => Ok(None),
            other => other.map(Some),
        }
    }

    async fn discard_new(self: &Arc<Self>, id: NodeId, path: &str) -> Result<(), DiscardError> {
        let (kind, place) = {
            let books = self.ledger.books();
            if books.open.contains(&id) {
                return Err(DiscardError::Open(path.to_owned()));
            }
            let node = books.tree.node(id);
            let place = node.and_then(|node| Some((node.kind, node.place.clone()?)));
            place.ok_or_else(|| DiscardError::NotParked(path.to_owned()))?
        };
        let removed = if kind == Kind::Directory {
            self.rmdir(place.parent, &place.name).await
        } else {
            self.unlink(place.parent, &place.name).await
        };
        match removed {
            Err(VfsError::NotEmpty) => Err(DiscardError::NotEmpty(path.to_owned())),
            Err(error) => Err(error.into()),
            Ok(()) => {
                self.ledger.invalidate_entry(place.parent, &place.name);
                Ok(())
            }
        }
    }
}
