//! What a folder holds, asked of the drive: for a program that looks in, and to compare with what
//! is known.
//!
//! A listing is no snapshot: while its pages are read, changes make holes in it
//! (`graph-api.md` 5.1), and items that are a moment old may lack (trap T23). So what it lacks is
//! asked for by id before it counts as gone, and found where it has moved to.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::SystemTime;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use parking_lot::Mutex;
use tokio::sync::RwLock;

use super::{NodeId, Vfs, VfsError, tell_of_withheld};
use crate::outbox::ledger::{Books, Ledger};
use crate::ports::{Drive, DriveError};
use crate::tree::{Effects, Item, ItemId, Scope, Terms};

type Listing = Shared<BoxFuture<'static, Result<(), Arc<DriveError>>>>;

/// Listings under way, by folder.
pub(super) type Listings = Arc<Mutex<HashMap<NodeId, Listing>>>;

/// Missing items are asked for one by one up to this many: a page's worth of requests at most.
/// Where more lack, a second listing is cheaper, and what both lack is gone.
const ASKED: usize = 32;

impl Vfs {
    /// Fetches a folder's children and brings them into the tree, once for all who want it.
    pub(super) async fn list_from_drive(&self, dir: NodeId) -> Result<(), VfsError> {
        let Some(item) = self.ledger.books().tree.item_of(dir).cloned() else {
            return Ok(()); // the drive has never seen it: all children are known
        };
        let listing = {
            let mut listings = self.listings.lock();
            if let Some(running) = listings.get(&dir) {
                running.clone()
            } else {
                let work = self.lister(self.drive.clone(), false).list(dir, item);
                let listings_of = self.listings.clone();
                let task = self.tasks.spawn(async move {
                    let result = work.await.map_err(Arc::new);
                    listings_of.lock().remove(&dir);
                    result.map(drop)
                });
                let ended = |error| {
                    Err(Arc::new(DriveError::Unavailable {
                        what: format!("a listing ended early: {error}"),
                        retry_after: None,
                    }))
                };
                let shared = task.map(move |done| done.unwrap_or_else(ended)).boxed();
                let shared = shared.shared();
                listings.insert(dir, shared.clone());
                shared
            }
        };
        self.in_time(listing).await
    }

    /// Compares a folder with the drive, which is asked through `drive`. With `keep_local`, what
    /// the drive lacks and we hold is sent again. Returns whether anything was news.
    ///
    /// # Errors
    /// The drive cannot be asked, or does not let anybody look into this folder.
    pub async fn compare(
        &self,
        dir: NodeId,
        drive: Arc<dyn Drive>,
        keep_local: bool,
    ) -> Result<bool, DriveError> {
        let Some(item) = self.ledger.books().tree.item_of(dir).cloned() else {
            return Ok(false);
        };
        self.lister(drive, keep_local).list(dir, item).await
    }

    fn lister(&self, drive: Arc<dyn Drive>, keep_local: bool) -> Lister {
        Lister {
            ledger: self.ledger.clone(),
            remote: self.remote.clone(),
            guard: self.config.guard,
            drive,
            keep_local,
        }
    }
}

/// Lists a folder, and settles what the listing lacks.
struct Lister {
    ledger: Arc<Ledger>,
    drive: Arc<dyn Drive>,
    remote: Arc<RwLock<()>>,
    guard: Option<usize>,
    keep_local: bool,
}

impl Lister {
    async fn list(self, dir: NodeId, folder: ItemId) -> Result<bool, DriveError> {
        // No round is applied meanwhile: a listing must not bring back what one has replaced.
        let _reading = self.remote.read().await;
        let mut items = self.drive.children(&folder).await?;
        let doubted = self.settle_missing(dir, &folder, &mut items).await?;
        let now = SystemTime::now();
        let (effects, _ticket) = self.ledger.change(|books| {
            if books.tree.item_of(dir) != Some(&folder) {
                return Effects::default(); // replaced meanwhile; the next look lists that
            }
            let Books { tree, writing, .. } = books;
            let terms = Terms {
                writing: &|id| writing.contains(&id),
                guard: self.guard,
                keep_local: self.keep_local,
                doubted: Some(&doubted),
            };
            tree.apply(&items, Scope::Listing(dir), terms, now)
        });
        tell_of_withheld(effects.withheld);
        let news = effects != Effects::default();
        self.ledger.announce(effects);
        Ok(news)
    }

    /// Looks for what a listing lacks. What is found is put with the items; what cannot be asked
    /// for is doubted.
    async fn settle_missing(
        &self,
        dir: NodeId,
        folder: &ItemId,
        items: &mut Vec<Item>,
    ) -> Result<HashSet<ItemId>, DriveError> {
        let mut doubted = HashSet::new();
        let mut missing = self.missing(dir, items);
        if missing.len() > ASKED {
            let known: HashSet<ItemId> = items.iter().map(|item| item.id.clone()).collect();
            let again = self.drive.children(folder).await?;
            items.extend(again.into_iter().filter(|item| !known.contains(&item.id)));
            missing = self.missing(dir, items);
            if missing.len() > ASKED {
                return Ok(doubted); // two listings agree, and the guard counts them
            }
        }
        for id in missing {
            match self.drive.item(&id).await {
                Ok(item) => items.push(item),
                Err(DriveError::NotFound) => {}
                Err(DriveError::Refused { .. } | DriveError::Locked(_)) => {
                    doubted.insert(id);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(doubted)
    }

    fn missing(&self, dir: NodeId, items: &[Item]) -> Vec<ItemId> {
        let listed: HashSet<&ItemId> = items.iter().map(|item| &item.id).collect();
        let books = self.ledger.books();
        let missing = books
            .tree
            .missing_from(dir, &|id| listed.contains(id), SystemTime::now());
        missing.into_iter().map(|(_, id)| id).collect()
    }
}
