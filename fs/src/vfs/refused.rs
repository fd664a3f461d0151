//! Bytes that the disk refused, brought there another way.
//!
//! A failed write is told once, and what it was about may still be in memory: as long as it is what was sealed, it
//! is copied to a new file, which takes the place of the refused one. Whoever waits for the bytes does that at
//! once; of what nobody waits for, a task of its own takes care. Until then the content is not safe, and whoever
//! asks whether it is hears that.

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio_util::sync::CancellationToken;

use super::opened::{Opened, Source};
use super::{NodeId, Vfs, VfsError};
use crate::content::store::Blob;
use crate::outbox::damage::{put_aside, take_note};
use crate::outbox::journal::Ticket;
use crate::tree::{Batch, ContentId, Held, Seal};

/// Before a copy that failed is tried again: a disk that is full needs somebody to make room.
const AGAIN: Duration = Duration::from_secs(1);

/// Longest wait between such tries: soon enough after the disk is well.
const AGAIN_AT_MOST: Duration = Duration::from_mins(1);

impl Vfs {
    /// Takes care of refused bytes that nobody waits for, until `stop`.
    pub async fn keep_refused(self: Arc<Self>, stop: CancellationToken) {
        let mut wait = AGAIN;
        let work = async {
            loop {
                self.store.refused().news.notified().await;
                while let Err(error) = self.copy_refused().await {
                    tracing::error!(%error, "the cache disk refused bytes, and refuses their copy; it is tried again");
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(AGAIN_AT_MOST);
                }
                wait = AGAIN;
            }
        };
        stop.run_until_cancelled(work).await;
    }

    /// Copies all that the disk has refused and that a file holds.
    ///
    /// # Errors
    /// The last reason why one of them is not safe.
    pub(super) async fn copy_refused(&self) -> Result<(), VfsError> {
        let refused = self.store.refused().left();
        if refused.is_empty() {
            return Ok(());
        }
        let owners: Vec<(NodeId, ContentId)> = {
            let books = self.ledger.books();
            let held = |node: &crate::tree::Node| Some((node.id, node.held.as_ref()?.content));
            let all = books.tree.nodes().filter_map(held);
            all.filter(|(_, content)| refused.contains(content))
                .collect()
        };
        let mut outcome = Ok(());
        for (owner, content) in owners {
            let file = self.enter(owner);
            let copied = {
                let _gate = file.gate.lock().await;
                self.copy_refused_of(owner, content).await
            };
            outcome = copied.and(outcome);
            self.leave(&file);
        }
        outcome
    }

    /// Copies what an open file has sealed, if the disk has refused it. Under the gate.
    pub(super) async fn keep(&self, file: &Opened) -> Result<(), VfsError> {
        let content = match (file.scratch(), file.source()) {
            (Some(scratch), _) => scratch.sealed,
            (None, Source::Sealed(blob)) => blob.id(),
            (None, Source::Unknown) => match file.through() {
                Some(through) => through.content,
                None => return Ok(()),
            },
            (None, Source::Live(_) | Source::Partial(..)) => return Ok(()),
        };
        if !self.store.refused().has(content) {
            return Ok(());
        }
        match self.owner_of(file, content) {
            Some((owner, _)) => self.copy_refused_of(owner, content).await,
            None => Ok(()), // a newer one has taken its place
        }
    }

    /// Which node holds a content of an open file: the file's own, or the copy beside it.
    pub(super) fn owner_of(&self, file: &Opened, content: ContentId) -> Option<(NodeId, Held)> {
        let books = self.ledger.books();
        let of = |id: NodeId| {
            let held = books.node(id)?.held.clone()?;
            (held.content == content).then_some((id, held))
        };
        of(file.node).or_else(|| of(file.beside()?))
    }

    async fn copy_refused_of(&self, owner: NodeId, content: ContentId) -> Result<(), VfsError> {
        let _alone = self.copying.lock().await;
        let refused = self.store.refused();
        if !refused.has(content) {
            return Ok(()); // somebody was faster
        }
        let (held, named) = {
            let books = self.ledger.books();
            let held = books.node(owner).and_then(|node| node.held.clone());
            (held, books.tree.node(owner).is_some())
        };
        let Some(held) = held.filter(|held| held.content == content) else {
            return Ok(()); // a newer one has taken its place
        };
        let why = match refused.gone(content) {
            Some(why) => why.to_string(),
            None if named => match self.copy_as_sealed(&held).await? {
                Some(copy) => return self.put_in_place(owner, &held, copy).await,
                None => self.give_up(owner, content).await?,
            },
            None => format!("the cache disk refused content {content}, whose file has no name"),
        };
        Err(VfsError::Damaged(why))
    }

    /// A copy, if it is what was sealed.
    async fn copy_as_sealed(&self, held: &Held) -> Result<Option<Arc<Blob>>, VfsError> {
        let (store, content, sealed) = (self.store.clone(), held.content, (held.size, held.hash));
        let copying = move || -> io::Result<Option<Arc<Blob>>> {
            let copy = store.copy_from_memory(&*store.load(content)?)?;
            let (size, hash) = copy.quick_xor()?;
            if (size, Some(hash)) == sealed {
                return Ok(Some(copy));
            }
            store.remove(copy.id());
            Ok(None)
        };
        let copied = tokio::task::spawn_blocking(copying).await;
        Ok(copied.map_err(io::Error::other)??)
    }

    async fn put_in_place(
        &self,
        owner: NodeId,
        held: &Held,
        copy: Arc<Blob>,
    ) -> Result<(), VfsError> {
        let Some(ticket) = self.replace(owner, held, copy.id()) else {
            self.store.remove(copy.id());
            return Ok(());
        };
        self.table
            .lock()
            .replace(held.content, &Source::Sealed(copy));
        ticket.durable().await?;
        tracing::warn!(node = %owner, "the cache disk refused a content; a copy has taken its place");
        Ok(())
    }

    /// What is left is not what was sealed: it is put aside. What the drive has is fetched again.
    async fn give_up(&self, owner: NodeId, content: ContentId) -> Result<String, VfsError> {
        let what = format!(
            "the cache disk refused bytes of content {content}, and they are in memory no more"
        );
        let store = self.store.clone();
        let aside = tokio::task::spawn_blocking(move || put_aside(&store, content, &what)).await;
        let why = aside.map_err(io::Error::other)?;
        self.store.refused().give_up(content, &why);
        let now = SystemTime::now();
        let (fetched_again, ticket) = take_note(&self.ledger, owner, content, &why, now);
        if fetched_again == Some(true) {
            self.table.lock().replace(content, &Source::Unknown);
        }
        tracing::error!(node = %owner, why, "a content is lost: see `tuyunfs status`");
        ticket.durable().await?;
        Ok(why)
    }

    /// Puts a copy in the place of what a node holds: the same version, in another file.
    fn replace(&self, owner: NodeId, held: &Held, copy: ContentId) -> Option<Ticket> {
        let now = SystemTime::now();
        let (replaced, ticket) = self.ledger.change_with(|books| {
            let mut batch = Batch::default();
            let node = books.tree.node(owner);
            let still = node
                .is_some_and(|node| node.held.as_ref().map(|it| it.content) == Some(held.content));
            if !still {
                return (false, batch);
            }
            let used = books.used.get(&held.content).copied().unwrap_or(now);
            books.used.insert(copy, used);
            books.tree.edit(owner, now, |node| {
                if let Some(held) = &mut node.held {
                    held.content = copy;
                }
            });
            batch.seals.extend(held.hash.map(|hash| Seal {
                node: owner,
                content: copy,
                size: held.size,
                hash,
                before: Some(held.clone()),
            }));
            (true, batch)
        });
        replaced.then_some(ticket)
    }
}
