//! Contents that are not here, asked of the drive once for all who want them.
//!
//! A fetch belongs to nobody who waits for it: it runs as a task of its own, and a caller that
//! gives up, or runs out of time, takes nothing from the others.

use std::collections::HashMap;
use std::future::Future;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use parking_lot::Mutex;

use super::seal::HASH_HERE;
use super::{NodeId, SMALL, Vfs, VfsError};
use crate::content::disk::is_passing;
use crate::content::fill::Fill;
use crate::content::readahead::{CAP, ReadAhead};
use crate::content::room::FILE;
use crate::content::store::{Blob, Store};
use crate::outbox::damage::{Flaw, proven, put_aside, take_note};
use crate::outbox::ledger::Books;
use crate::ports::DriveError;
use crate::tree::{ContentId, Generation, Held, Node, QuickXorHash, Scope, Terms};

/// Contents that are here in part, by node.
pub(super) type Fills = Arc<Mutex<HashMap<NodeId, (Generation, Arc<Fill>)>>>;

/// Large contents that were not what the drive had described, with the hash that they had: when
/// the same bytes come again, they are the file, and the description is of another stream
/// (trap T5).
pub(super) type Doubts = Mutex<lru::LruCache<NodeId, (Generation, Option<QuickXorHash>)>>;

/// So many are remembered. Such a file that is forgotten is fetched once more.
const DOUBTED: NonZeroUsize = NonZeroUsize::new(1024).expect("more than none");

pub(super) fn no_doubts() -> Doubts {
    Mutex::new(lru::LruCache::new(DOUBTED))
}

/// Contents up to this size are read to the end before their first reader in a run gets them: a second or
/// two of a slow disk. Larger ones are compared by size there, and to the end before they are sent.
const READ_TO_THE_END: u64 = 256 << 20;

/// How many contents may be here in part at once. Each is a file and a descriptor; a crawler
/// that opens more large files than this at a time makes the oldest start over.
const FILLS: usize = 256;

impl Vfs {
    /// Waits for something of the network's, at most as long as a call may.
    pub(super) async fn in_time<T, E>(
        &self,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, VfsError>
    where
        VfsError: From<E>,
    {
        match tokio::time::timeout(self.config.timeout, work).await {
            Ok(done) => Ok(done?),
            Err(_) => Err(VfsError::TimedOut),
        }
    }

    /// The fill of a node's present content.
    pub(super) fn fill(&self, id: NodeId) -> Result<(Generation, Arc<Fill>), VfsError> {
        let (generation, item, size) = {
            let books = self.ledger.books();
            let node = books.node(id).ok_or(VfsError::NotFound)?;
            let base = node.baseline.as_ref().ok_or(VfsError::NotFound)?;
            (node.generation, base.item.clone(), base.size)
        };
        let mut fills = self.fills.lock();
        if let Some((of, fill)) = fills.get(&id)
            && *of == generation
        {
            return Ok((generation, fill.clone()));
        }
        if fills.len() >= FILLS
            && let Some(other) = fills.keys().find(|other| **other != id).copied()
        {
            fills.remove(&other);
        }
        let fill = Fill::start(&self.store, self.drive.clone(), item, size)?;
        fills.insert(id, (generation, fill.clone()));
        Ok((generation, fill))
    }

    /// Completes a node's content: one request for a file that is not here at all.
    pub(super) async fn complete(self: &Arc<Self>, id: NodeId) -> Result<Arc<Blob>, VfsError> {
        // What was replaced remotely while it was being fetched is fetched anew, once.
        for last in [false, true] {
            let (generation, fill) = self.fill(id)?;
            self.room_to_fetch(FILE + fill.size()).await?;
            match self.in_time(fill.complete()).await {
                Ok(blob) => {
                    self.adopt(id, generation, &blob).await;
                    return Ok(blob);
                }
                // What has come stays: the next open goes on from there.
                Err(VfsError::TimedOut) => return Err(VfsError::TimedOut),
                Err(error) => {
                    if matches!(error, VfsError::Unreachable(_)) {
                        self.look_again(id, &error).await;
                    }
                    self.forget_fill(id, generation, &fill);
                    if last || self.generation(id) == Some(generation) {
                        return Err(error);
                    }
                }
            }
        }
        Err(VfsError::TimedOut)
    }

    /// A fill that is complete becomes the content that we hold.
    pub(super) async fn adopt(&self, id: NodeId, generation: Generation, blob: &Arc<Blob>) {
        let wanted = {
            let books = self.ledger.books();
            books.tree.node(id).is_some_and(|node| {
                node.generation == generation && node.held.is_none() && node.baseline.is_some()
            })
        };
        if wanted {
            let hashing = blob.clone();
            let hashed = tokio::task::spawn_blocking(move || hashing.quick_xor()).await;
            let Ok(Ok((size, hash))) = hashed else { return };
            let held = Held {
                content: blob.id(),
                generation,
                size,
                hash: Some(hash),
            };
            let now = SystemTime::now();
            let (named, _ticket) = self.ledger.change(|books| {
                let node = books.tree.node(id);
                if node
                    .is_some_and(|node| node.held.as_ref().is_some_and(|h| h.content == blob.id()))
                {
                    return true; // another reader of the same fill was faster
                }
                let fits = node.is_some_and(|node| {
                    node.generation == generation
                        && node.held.is_none()
                        && (is_what_was_told(node, &held) || self.came_twice(id, &held))
                });
                if fits {
                    books.used.insert(held.content, now);
                    books.tree.edit(id, now, |node| {
                        // The stream's own length counts, not the one that was told (trap T5).
                        node.size = held.size;
                        node.held = Some(held);
                    });
                }
                fits
            });
            if !named {
                // No record will ever name it; whoever reads it has it open.
                self.store.remove(blob.id());
            }
        }
        self.fills.lock().remove(&id);
    }

    /// Whether the same odd bytes came before.
    fn came_twice(&self, id: NodeId, held: &Held) -> bool {
        let these = (held.generation, held.hash);
        self.doubts.lock().put(id, these) == Some(these)
    }

    /// What we hold of a node, as it was sealed; `None`: it is to be fetched again. At the first open in a
    /// run it is read to the end, as a disk may have damaged it while nobody looked.
    pub(super) async fn whole(
        &self,
        id: NodeId,
        mut held: Held,
    ) -> Result<Option<Arc<Blob>>, VfsError> {
        loop {
            let content = held.content;
            let known = self.ledger.books().used.contains_key(&content);
            let hash = held.hash.filter(|_| !known && held.size <= READ_TO_THE_END);
            let found = if hash.is_some() && held.size > HASH_HERE {
                let (store, size) = (self.store.clone(), held.size);
                tokio::task::spawn_blocking(move || proven(&store, content, size, hash))
                    .await
                    .map_err(std::io::Error::other)?
            } else {
                proven(&self.store, content, held.size, hash)
            };
            let now = SystemTime::now();
            let (why, error) = match found {
                Ok(blob) => {
                    self.ledger.books().used.insert(content, now);
                    return Ok(Some(blob));
                }
                // The only copy is never given up, and never passed over.
                Err(Flaw::Unreadable(error))
                    if is_passing(&error) || !self.is_confirmed(id, content) =>
                {
                    return Err(error.into());
                }
                Err(Flaw::Unreadable(error)) => {
                    let what = format!("content {content} cannot be read: {error}");
                    let why = put_aside(&self.store, content, &what);
                    (why, VfsError::from(error))
                }
                Err(Flaw::Damaged(what)) => {
                    let why = put_aside(&self.store, content, &what);
                    (why.clone(), VfsError::Damaged(why))
                }
            };
            let (again, ticket) = take_note(&self.ledger, id, content, &why, now);
            match again {
                Some(true) => {
                    tracing::warn!(node = %id, why, "a cached content is damaged; it is fetched again");
                    return Ok(None);
                }
                Some(false) => {
                    let path = self.ledger.books().tree.path(id);
                    tracing::error!(
                        path,
                        why,
                        "a file that the drive does not have is damaged: see `tuyunfs status`"
                    );
                    ticket.durable().await.ok();
                    return Err(error);
                }
                // Nobody had it open: it was given up, or a newer one has taken its place.
                None => {
                    let books = self.ledger.books();
                    match books.node(id).ok_or(VfsError::NotFound)?.held.clone() {
                        Some(newer) if newer.content != content => held = newer,
                        Some(_) => return Err(error),
                        None => return Ok(None),
                    }
                }
            }
        }
    }

    /// Reads of a content that is here in part, and takes it for whole once it is.
    pub(super) async fn read_part(
        self: &Arc<Self>,
        id: NodeId,
        (generation, fill): (Generation, &Arc<Fill>),
        ahead: &Mutex<ReadAhead>,
        offset: u64,
        len: usize,
    ) -> Result<(Bytes, Option<Arc<Blob>>), VfsError> {
        if !fill.holds(offset, len) {
            self.room_to_fetch(fill.size().min(CAP)).await?;
        }
        let reading = fill.read(offset, len, &mut ahead.lock());
        let bytes = match self.in_time(reading).await {
            Ok(bytes) => bytes,
            Err(error) => {
                self.replaced_meanwhile(id, generation, fill, &error).await;
                return Err(error);
            }
        };
        let whole = fill.is_complete();
        if let Some(blob) = whole.clone().filter(|_| fill.claim()) {
            // It is read to the end first, which takes longer than any reader waits.
            let this = self.clone();
            self.tasks
                .spawn(async move { this.adopt(id, generation, &blob).await });
        }
        Ok((bytes, whole))
    }

    fn is_confirmed(&self, id: NodeId, content: ContentId) -> bool {
        let books = self.ledger.books();
        books.tree.node(id).and_then(Node::evictable) == Some(content)
    }

    /// After a read that failed: of a content that was replaced while it was being fetched, the next open
    /// gets the newer one.
    async fn replaced_meanwhile(
        &self,
        id: NodeId,
        generation: Generation,
        fill: &Arc<Fill>,
        error: &VfsError,
    ) {
        if matches!(error, VfsError::Unreachable(why) if matches!(**why, DriveError::Conflict)) {
            self.look_again(id, error).await;
            self.forget_fill(id, generation, fill);
        }
    }

    fn forget_fill(&self, id: NodeId, generation: Generation, fill: &Arc<Fill>) {
        let mut fills = self.fills.lock();
        if fills
            .get(&id)
            .is_some_and(|(of, it)| *of == generation && Arc::ptr_eq(it, fill))
        {
            fills.remove(&id);
        }
    }

    pub(super) fn generation(&self, id: NodeId) -> Option<Generation> {
        self.ledger.books().node(id).map(|node| node.generation)
    }

    /// The content was not what we were told: asks for the item, so that the tree knows.
    async fn look_again(&self, id: NodeId, error: &VfsError) {
        let item = {
            let books = self.ledger.books();
            books
                .node(id)
                .and_then(|node| node.baseline.as_ref())
                .map(|base| base.item.clone())
        };
        let Some(item) = item else { return };
        tracing::debug!(node = %id, %error, "content was not as expected; asking for the item");
        let Ok(now_there) = self.in_time(self.drive.item(&item)).await else {
            return;
        };
        let now = SystemTime::now();
        let (effects, _ticket) = self.ledger.change(|books| {
            let Books { tree, writing, .. } = books;
            let writing = |id| writing.contains(&id);
            tree.apply(&[now_there], Scope::Round, Terms::plain(&writing), now)
        });
        self.ledger.announce(effects);
    }

    /// The store of contents.
    #[must_use]
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }
}

/// Whether fetched bytes are those that the drive described. A small file comes in one piece and
/// is what it is, whatever its hash was told to be (trap T5); a large one came in ranges, and is
/// fetched a second time before it is believed against its description.
fn is_what_was_told(node: &crate::tree::Node, held: &Held) -> bool {
    let Some(base) = &node.baseline else {
        return false;
    };
    let told = base
        .hash
        .filter(|_| base.size == held.size && held.size > SMALL);
    told.is_none_or(|told| held.hash == Some(told))
}
