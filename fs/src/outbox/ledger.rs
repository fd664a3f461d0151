//! The tree under its lock, with the journal behind it.
//!
//! Whoever changes the tree does it here: one short lock, one batch of rows handed to the
//! committer in the order of the lock, one ticket to wait on after the lock is gone. Nothing
//! waits for the disk or the network while the lock is held; with `durability = "fsync"`, one
//! `write(2)` puts the change into the log, in that order.

use std::collections::{HashMap, HashSet};
use std::ops::DerefMut;
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use tokio::sync::Notify;

use super::feed::{Feed, What};
use super::journal::{Journal, Ticket};
use super::unwritten::Unwritten;
use crate::ports::Invalidate;
use crate::threads::Mutex;
use crate::tree::{Batch, ContentId, Effects, Node, NodeId, QuickXorHash, Tree};

/// What is decided together, under one lock.
pub struct Books {
    /// Names and places.
    pub tree: Tree,
    /// Nodes that are open.
    pub open: HashSet<NodeId>,
    /// Nodes that are open and changed, with nothing of the change sealed yet.
    pub writing: HashSet<NodeId>,
    /// Nodes that lost their name while they were open: readable and writable until the last close.
    pub orphans: HashMap<NodeId, Node>,
    /// When contents were last read.
    pub used: HashMap<ContentId, SystemTime>,
    /// Contents that the drive has confirmed, with no record of that on the disk yet; `true`: writing it
    /// has failed, and is tried again. To a start they are the only copies.
    pub unrecorded: HashMap<ContentId, bool>,
    /// What the journal has not got to the disk yet, and so is not sent.
    pub unwritten: Unwritten,
    /// Content files to be removed at the next start, should this run end before it removes them.
    pub doomed: Vec<ContentId>,
}

impl Books {
    /// A node that has a name, or had one when it was opened.
    #[must_use]
    pub fn node(&self, id: NodeId) -> Option<&Node> {
        self.tree.node(id).or_else(|| self.orphans.get(&id))
    }

    /// All rows that have changed, and others.
    fn batch(&mut self, others: Batch) -> Batch {
        let mut batch = self.tree.batch();
        batch.append(others);
        batch.doomed.append(&mut self.doomed);
        batch
    }

    /// Changes size and times of a file that is being written.
    pub fn sketch(&mut self, id: NodeId, change: impl FnOnce(&mut Node)) {
        match self.orphans.get_mut(&id) {
            Some(orphan) => change(orphan),
            None => self.tree.sketch(id, change),
        }
    }
}

/// The tree, the journal, and who has to hear of changes.
pub struct Ledger {
    books: Mutex<Books>,
    journal: Journal,
    /// What edges and other readers are told.
    pub feed: Feed,
    kernel: OnceLock<Arc<dyn Invalidate>>,
    /// There may be something new to send.
    pub wake: Notify,
}

impl Ledger {
    /// A ledger of a tree and its journal. `prefix` is put before the paths of the feed.
    #[must_use]
    pub fn new(tree: Tree, journal: Journal, prefix: &str) -> Self {
        let books = Books {
            tree,
            open: HashSet::new(),
            writing: HashSet::new(),
            orphans: HashMap::new(),
            used: HashMap::new(),
            unrecorded: HashMap::new(),
            unwritten: Unwritten::new(journal.durable()),
            doomed: Vec::new(),
        };
        Self {
            books: Mutex::new(books),
            journal,
            feed: Feed::new(prefix),
            kernel: OnceLock::new(),
            wake: Notify::new(),
        }
    }

    /// Says who keeps caches in the kernel. Once, after the mount.
    pub fn set_kernel(&self, kernel: Arc<dyn Invalidate>) {
        let _ = self.kernel.set(kernel);
    }

    /// Looks, without changing anything that has rows.
    pub fn books(&self) -> impl DerefMut<Target = Books> + '_ {
        self.books.lock()
    }

    /// The journal.
    #[must_use]
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Changes the tree and queues the rows. Wait on the ticket where durability was promised.
    pub fn change<R>(&self, change: impl FnOnce(&mut Books) -> R) -> (R, Ticket) {
        self.change_with(|books| (change(books), Batch::default()))
    }

    /// The same, with rows besides those of the tree.
    pub fn change_with<R>(&self, change: impl FnOnce(&mut Books) -> (R, Batch)) -> (R, Ticket) {
        let mut books = self.books.lock();
        let (result, extra) = change(&mut books);
        let batch = books.batch(extra);
        let touched = Unwritten::of(&batch, &books.tree);
        let ticket = self.journal.commit(batch);
        books.unwritten.add(touched, ticket.number);
        (result, ticket)
    }

    /// Notes what is being done about what is pending: that does not have to wait for its own note.
    pub fn note<R>(&self, note: impl FnOnce(&mut Books) -> R) -> R {
        let mut books = self.books.lock();
        let result = note(&mut books);
        let batch = books.batch(Batch::default());
        self.journal.commit(batch);
        result
    }

    /// Tells the kernel and the feed what remote news mean for them.
    pub fn announce(&self, effects: Effects) {
        if let Some(kernel) = self.kernel.get() {
            for (parent, name) in &effects.entries {
                kernel.entry(*parent, name);
            }
            let open: Vec<bool> = {
                let books = self.books.lock();
                effects
                    .nodes
                    .iter()
                    .map(|(id, _)| books.open.contains(id))
                    .collect()
            };
            for ((id, content), open) in effects.nodes.iter().zip(open) {
                // An open file keeps its content until the last close, which invalidates.
                kernel.node(*id, *content && !open);
            }
        }
        for (path, folder) in effects.gone {
            self.feed.push(if folder {
                What::DeletePrefix { path }
            } else {
                What::Delete { path }
            });
        }
        for id in effects.put {
            self.announce_put(id);
        }
    }

    /// Tells the feed that a file has new sealed content.
    pub fn announce_put(&self, id: NodeId) {
        let put = {
            let books = self.books.lock();
            books.tree.node(id).and_then(|node| {
                Some(What::Put {
                    path: books.tree.path(id)?,
                    etag: etag(node),
                    size: node.size,
                })
            })
        };
        if let Some(put) = put {
            self.feed.push(put);
        }
    }

    /// Drops what the kernel keeps of a node.
    pub fn invalidate_node(&self, id: NodeId, content: bool) {
        if let Some(kernel) = self.kernel.get() {
            kernel.node(id, content);
        }
    }

    /// Drops what the kernel keeps of a name.
    pub fn invalidate_entry(&self, parent: NodeId, name: &str) {
        if let Some(kernel) = self.kernel.get() {
            kernel.entry(parent, name);
        }
    }
}

/// The strong validator of a node's newest sealed content: hash and size of the bytes that we
/// hold, else of those that the drive has (design 3.1).
#[must_use]
pub fn etag(node: &Node) -> Option<String> {
    match &node.held {
        Some(held) => held.hash.map(|hash| etag_of(hash, held.size)),
        None => node
            .baseline
            .as_ref()
            .and_then(|base| Some(etag_of(base.hash?, base.size))),
    }
}

/// A validator from a hash and a size.
#[must_use]
pub fn etag_of(hash: QuickXorHash, size: u64) -> String {
    use std::fmt::Write;
    let mut text = String::with_capacity(49);
    for byte in hash.0 {
        let _ = write!(text, "{byte:02x}");
    }
    let _ = write!(text, "-{size:x}");
    text
}

#[cfg(all(test, feature = "schedules"))]
mod schedules;
