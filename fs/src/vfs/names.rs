//! Changes of names: each durable before it is acknowledged, and none of them asks the drive.

use std::sync::Arc;
use std::time::SystemTime;

use super::{Attr, Kind, NodeId, RenameFlags, Table, Vfs, VfsError};
use crate::outbox::feed::What;
use crate::outbox::journal::Ticket;
use crate::outbox::ledger::Books;
use crate::tree::Node;

impl Vfs {
    /// Makes a folder.
    ///
    /// # Errors
    /// The name is in use or cannot be stored, or nothing can be made durable.
    pub async fn mkdir(
        self: &Arc<Self>,
        parent: NodeId,
        name: &str,
        bits: u32,
    ) -> Result<Attr, VfsError> {
        self.may_change()?;
        self.know_children(parent).await?;
        let now = SystemTime::now();
        let (made, ticket) = self.ledger.change(|books| {
            let id = books.tree.create(parent, name, Kind::Directory, now)?;
            books.tree.edit(id, now, |node| node.mode = Some(bits));
            Ok::<_, VfsError>(books.tree.node(id).map(Attr::from))
        });
        let attr = made?.ok_or(VfsError::NotFound)?;
        ticket.promised().await?;
        self.ledger.wake.notify_one();
        Ok(attr)
    }

    /// Removes a file's name. Whoever has it open goes on reading and writing.
    ///
    /// # Errors
    /// There is no such file, or nothing can be made durable.
    pub async fn unlink(self: &Arc<Self>, parent: NodeId, name: &str) -> Result<(), VfsError> {
        self.may_change()?;
        self.lookup(parent, name).await?;
        let now = SystemTime::now();
        let (gone, ticket) = self.change_names(|books, table| {
            let path = path_of(books, parent, name);
            let id = books
                .tree
                .child(parent, name)
                .map(|node| node.id)
                .ok_or(VfsError::NotFound)?;
            let open = books.open.contains(&id);
            let node = books.tree.unlink(parent, name, open, now)?;
            let id = node.id;
            unname(books, node, open.then_some(table));
            Ok::<_, VfsError>((path, id))
        });
        let (path, id) = gone?;
        if let Some(path) = path {
            self.ledger.feed.push(What::Delete { path });
        }
        self.forget_live(id);
        ticket.promised().await?;
        self.ledger.wake.notify_one();
        Ok(())
    }

    /// Removes an empty folder.
    ///
    /// # Errors
    /// It has children, or cannot be known to have none.
    pub async fn rmdir(self: &Arc<Self>, parent: NodeId, name: &str) -> Result<(), VfsError> {
        self.may_change()?;
        let attr = self.lookup(parent, name).await?;
        if attr.kind == Kind::Directory {
            self.know_children(attr.node).await?;
        }
        let now = SystemTime::now();
        let (gone, ticket) = self.ledger.change(|books| {
            let path = path_of(books, parent, name);
            books.tree.rmdir(parent, name, now)?;
            Ok::<_, VfsError>(path)
        });
        if let Some(path) = gone? {
            self.ledger.feed.push(What::DeletePrefix { path });
        }
        ticket.promised().await?;
        self.ledger.wake.notify_one();
        Ok(())
    }

    /// Gives a file or folder another place; what holds that place is replaced in the same step.
    ///
    /// # Errors
    /// One of the two does not fit, or nothing can be made durable.
    pub async fn rename(
        self: &Arc<Self>,
        parent: NodeId,
        name: &str,
        to_parent: NodeId,
        to_name: &str,
        flags: RenameFlags,
    ) -> Result<(), VfsError> {
        self.may_change()?;
        let source = self.lookup(parent, name).await?;
        let replaces = match self.lookup(to_parent, to_name).await {
            Ok(_) if flags.no_replace => return Err(VfsError::Exists),
            Ok(target) if target.kind == Kind::Directory && !flags.exchange => {
                self.know_children(target.node).await?;
                false
            }
            Ok(_) => !flags.exchange,
            Err(VfsError::NotFound) => false,
            Err(error) => return Err(error),
        };
        if replaces {
            self.keep_fetched(source.node).await?;
        }
        let now = SystemTime::now();
        let (renamed, ticket) = self.change_names(|books, table| {
            let was = path_of(books, parent, name);
            let (from, to) = ((parent, name), (to_parent, to_name));
            if flags.exchange {
                let (one, other) = books.tree.exchange(from, to, now)?;
                return Ok::<_, VfsError>((one, was, Some(other), None));
            }
            let open = books.open.clone();
            let (id, displaced) = books.tree.rename(from, to, |id| open.contains(&id), now)?;
            let gone = displaced.as_ref().map(|node| node.id);
            if let Some(node) = displaced {
                let open = books.open.contains(&node.id);
                unname(books, node, open.then_some(table));
            }
            Ok((id, was, None, gone))
        });
        let (moved, was, other, gone) = renamed?;
        if let Some(gone) = gone {
            self.forget_live(gone);
        }
        self.tell_moved(moved, was, other);
        ticket.promised().await?;
        self.ledger.wake.notify_one();
        Ok(())
    }

    /// Waits until everything that was acknowledged so far is durable. With `durability = "close"` it is,
    /// once acknowledged.
    ///
    /// # Errors
    /// The journal cannot be written, or the disk has refused the bytes of a file, and refuses a copy of them.
    pub async fn fsync_dir(&self) -> Result<(), VfsError> {
        self.ledger.journal().everything().durable().await?;
        self.copy_refused().await
    }

    /// The content of a file that the drive has was not made to last: it could be fetched again. Under
    /// the name of another it is to be sent, and may be all that there is.
    async fn keep_fetched(&self, id: NodeId) -> Result<(), VfsError> {
        let content = {
            let books = self.ledger.books();
            books.tree.node(id).and_then(Node::evictable)
        };
        let Some(content) = content else {
            return Ok(());
        };
        match self.store.load(content) {
            Ok(blob) => {
                let synced = tokio::task::spawn_blocking(move || blob.sync()).await;
                Ok(synced.map_err(std::io::Error::other)??)
            }
            // Given up just now: its item is moved instead.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Changes names, with what is open in view.
    fn change_names<R>(&self, change: impl FnOnce(&mut Books, &Table) -> R) -> (R, Ticket) {
        let table = self.table.lock();
        self.ledger.change(|books| change(books, &table))
    }

    fn tell_moved(&self, moved: NodeId, was: Option<String>, other: Option<NodeId>) {
        let folder = |id: NodeId| {
            let books = self.ledger.books();
            books
                .tree
                .node(id)
                .is_some_and(|node| node.kind == Kind::Directory)
        };
        if let Some(path) = was {
            let what = if folder(moved) {
                What::DeletePrefix { path }
            } else {
                What::Delete { path }
            };
            self.ledger.feed.push(what);
        }
        for id in std::iter::once(moved).chain(other) {
            if folder(id) {
                if let Some(path) = self.path(id) {
                    self.ledger.feed.push(What::DeletePrefix { path });
                }
            } else {
                self.ledger.announce_put(id);
            }
        }
    }

    /// What is being written to a file without a name is nobody's after a crash, which the record of
    /// its removal says already: the intent log need not.
    fn forget_live(&self, id: NodeId) {
        let live = self.table.lock().live_content(id);
        let Some(content) = live else { return };
        if let Err(error) = self.intents.end(content) {
            tracing::warn!(%error, "cannot write the intent log; a restart will look at one content more");
        }
    }
}

/// A node that lost its name: kept while it is open, with a note for the next start in the same
/// record, also of what is being written to it.
fn unname(books: &mut Books, node: Node, open: Option<&Table>) {
    let Some(table) = open else { return };
    let held = node.held.as_ref().map(|held| held.content);
    books.doomed.extend(held);
    books.doomed.extend(table.live_content(node.id));
    books.orphans.insert(node.id, node);
}

fn path_of(books: &Books, parent: NodeId, name: &str) -> Option<String> {
    books
        .tree
        .child(parent, name)
        .and_then(|node| books.tree.path(node.id))
}
