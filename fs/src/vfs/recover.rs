//! The start: what the last run left behind, made whole, without asking the network (invariant 8).
//!
//! What cannot be made whole is moved aside with its data and reported; nothing that an
//! application wrote is deleted here (invariant 4).

mod prove;
mod salvage;
mod state;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use self::salvage::folder_in;
use self::state::State;
use crate::content::Disk;
use crate::content::intents::{Base, Intent, Intents};
use crate::content::store::Store;
use crate::outbox::damage::{Flaw, proven, put_aside, take_note};
use crate::outbox::journal::{Durability, JournalError};
use crate::outbox::ledger::Ledger;
use crate::tree::{
    Batch, ContentId, Generation, Held, Kind, Node, NodeId, Place, QuickXorHash, Tree,
    conflict_name,
};

/// What a start found.
pub struct Recovery {
    /// The tree and its journal.
    pub ledger: Arc<Ledger>,
    /// Contents.
    pub store: Arc<Store>,
    /// What is open for writing.
    pub intents: Arc<Intents>,
    /// Facts by name.
    pub facts: BTreeMap<String, Vec<u8>>,
    /// What a person should know: each line one thing that was moved aside or saved.
    pub report: Vec<String>,
}

impl Recovery {
    /// A fact.
    #[must_use]
    pub fn fact<T: serde::de::DeserializeOwned>(&self, name: &str) -> Option<T> {
        crate::tree::decode(self.facts.get(name)?).ok()
    }
}

/// Why a start is impossible.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The directory of the state.
    #[error("cannot use the state directory {path}: {what}")]
    State {
        /// Which.
        path: String,
        /// What was tried.
        what: &'static str,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
}

impl StartError {
    fn of(state_dir: &Path, what: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        let path = state_dir.display().to_string();
        move |source| Self::State { path, what, source }
    }
}

/// Reads the state directory back. Blocks: call it outside of the runtime's workers.
///
/// # Errors
/// Another daemon uses it, a newer one wrote it, or the disk refuses.
pub fn recover(
    state_dir: &Path,
    disk: Arc<dyn Disk>,
    host: &str,
    prefix: &str,
    durability: Durability,
    now: SystemTime,
) -> Result<Recovery, StartError> {
    let failed = |what| StartError::of(state_dir, what);
    let State {
        store,
        journal,
        mut recovered,
        salvage,
        folder,
        mut report,
    } = State::open(state_dir, &disk, durability, now)?;
    let (intents, open) = Intents::open(state_dir, disk).map_err(failed("open the intent log"))?;
    let highest = recovered
        .nodes
        .values()
        .filter_map(|node| node.held.as_ref().map(|held| held.content))
        .chain(recovered.seals.keys().copied())
        .chain(open.iter().map(|intent| intent.content))
        .chain(recovered.garbage.iter().copied())
        .max();
    if let Some(highest) = highest {
        store.reserve_above(highest);
    }

    report.extend(recovered.damaged.iter().map(|row| {
        format!(
            "a damaged row of the journal was left out: {}: {}",
            row.what, row.why
        )
    }));
    // A file that was made and never closed has its number from the intent log alone.
    let numbers = open.iter().flat_map(|intent| [intent.node, intent.parent]);
    let numbers = numbers.chain(recovered.seals.values().map(|seal| seal.node));
    let highest = numbers.chain(recovered.highest).max();
    let mut tree = Tree::load(recovered.take_stored(), host.to_owned(), now);
    tree.reserve_above(highest.unwrap_or(NodeId::ROOT));
    let ledger = Arc::new(Ledger::new(tree, journal, prefix));
    let mut start = Start {
        ledger: &ledger,
        store: &store,
        intents: &intents,
        report,
        folder,
        now,
    };
    let unread = start
        .prove(&recovered.seals, &mut recovered.garbage)
        .map_err(failed("put aside what a power cut has left"))?;
    start.bring_back(&salvage);
    start.reattach();
    start.examine(&open, &recovered.garbage);
    start.drop_unsealed();
    start
        .check_contents(&recovered.garbage, &unread, &open)
        .map_err(failed("list the contents"))?;
    let report = start.report;
    let garbage = recovered.garbage.into_iter().collect();
    let seals = recovered.seals.into_keys();
    let proven = seals.filter(|id| !unread.contains(id)).collect();
    let ((), _ticket) = ledger.change_with(|_| {
        (
            (),
            Batch {
                garbage,
                proven,
                ..Batch::default()
            },
        )
    });
    for line in &report {
        tracing::warn!("{line}");
    }
    let intents = Arc::new(intents);
    Ok(Recovery {
        ledger,
        store,
        intents,
        facts: recovered.facts,
        report,
    })
}

struct Start<'a> {
    ledger: &'a Ledger,
    store: &'a Store,
    intents: &'a Intents,
    report: Vec<String>,
    /// The folder for what comes back from a damaged journal.
    folder: Option<String>,
    now: SystemTime,
}

impl Start<'_> {
    /// Nodes whose folder is missing, after a damaged row, get a name in the root.
    fn reattach(&mut self) {
        let now = self.now;
        let (found, _ticket) = self.ledger.change(|books| {
            let astray: Vec<(NodeId, String)> = books
                .tree
                .nodes()
                .filter_map(|node| {
                    let place = node.place.as_ref()?;
                    let gone = books.tree.node(place.parent).is_none();
                    gone.then(|| (node.id, format!("recovered-{}-{}", node.id, place.name)))
                })
                .collect();
            for (id, name) in &astray {
                let place = Place {
                    parent: NodeId::ROOT,
                    name: name.clone(),
                };
                books.tree.edit(*id, now, |node| node.place = Some(place));
            }
            astray
        });
        for (_, name) in found {
            self.report.push(format!(
                "the folder of {name} is not in the journal; it is in the root now"
            ));
        }
    }

    /// Content that was open for writing: of the same boot, everything that was written is in
    /// the page cache or on the disk, and is sealed; of another boot, what is there may be torn.
    /// What was written to a file that has been removed since is garbage.
    fn examine(&mut self, open: &[Intent], garbage: &BTreeSet<ContentId>) {
        for intent in open {
            let named = {
                let books = self.ledger.books();
                let held = books
                    .tree
                    .node(intent.node)
                    .and_then(|node| node.held.as_ref());
                held.is_some_and(|held| held.content == intent.content)
            };
            let outcome = if named || garbage.contains(&intent.content) {
                Ok(()) // only the end of the intent was not written
            } else if intent.boot == self.intents.this_boot() {
                self.save(intent)
            } else {
                self.set_aside(intent)
            };
            match outcome {
                Ok(()) => {
                    if let Err(error) = self.intents.end(intent.content) {
                        tracing::warn!(%error, "cannot write the intent log");
                    }
                }
                Err(error) => self.report.push(format!(
                    "cannot look at content {} of {}: {error}; it stays where it is",
                    intent.content, intent.name
                )),
            }
        }
    }

    fn save(&mut self, intent: &Intent) -> std::io::Result<()> {
        let torn = match self.store.load(intent.content) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            other => other?,
        };
        if torn.len()? == 0 && !intent.closed {
            // Opened and never written: the content before it, if any, stays the newest.
            self.store.remove(intent.content);
            return Ok(());
        }
        // A copy: a process that was killed late may still have the old file mapped.
        let copy = self.store.copy(&torn)?;
        copy.sync()?;
        let (size, hash) = copy.quick_xor()?;
        if self.is_sealed(intent.node, size, hash) {
            // Nothing was written since.
            self.store.remove(copy.id());
            let ((), ticket) = self
                .ledger
                .change(|books| books.tree.discard(intent.content));
            return ticket.wait().map_err(std::io::Error::other);
        }
        let written = torn.stamp()?.modified;
        let now = self.now;
        let (saved, ticket) = self.ledger.change(|books| {
            if books.tree.node(intent.node).is_none() {
                let parent = match (&self.folder, books.tree.node(intent.parent)) {
                    (_, Some(parent)) => parent.id,
                    (Some(folder), None) => {
                        let made = folder_in(&mut books.tree, NodeId::ROOT, folder, now);
                        made.unwrap_or(NodeId::ROOT)
                    }
                    (None, None) => return false,
                };
                let mut name = intent.name.clone();
                if books.tree.variant(parent, &name).is_some() {
                    name = conflict_name(&name, "recovered", now);
                }
                let place = Place { parent, name };
                books
                    .tree
                    .insert_as(Node::new(intent.node, place, Kind::File, now), now);
            }
            let held = |generation| Held {
                content: copy.id(),
                generation,
                size,
                hash: Some(hash),
            };
            let node = books.tree.node(intent.node);
            let newer = |base: Base| {
                let content = |node: &Node| node.held.as_ref().map(|held| held.content);
                node.is_some_and(|node| base.is_outdated(node.generation, content(node)))
            };
            let outdated = intent.base.is_some_and(newer);
            if outdated {
                // The drive has had another version since this was begun.
                let copy = held(Generation(1));
                books.tree.insert_beside(intent.node, copy, now);
                books.tree.discard(intent.content);
                return true;
            }
            let replaced = books.tree.edit(intent.node, now, |node| {
                node.generation = node.generation.next();
                node.size = size;
                node.mtime = written;
                node.seal(held(node.generation))
            });
            if let Some(old) = replaced.flatten() {
                books.tree.discard(old.content);
            }
            books.tree.discard(intent.content);
            true
        });
        ticket.wait().map_err(std::io::Error::other)?;
        if saved {
            self.report.push(format!(
                "{} was open when the daemon died; what was written is saved",
                intent.name
            ));
            Ok(())
        } else {
            self.store.remove(copy.id());
            self.set_aside(intent)
        }
    }

    /// Whether a node holds these bytes already.
    fn is_sealed(&self, node: NodeId, size: u64, hash: QuickXorHash) -> bool {
        let books = self.ledger.books();
        let held = books.tree.node(node).and_then(|node| node.held.as_ref());
        held.is_some_and(|held| (held.size, held.hash) == (size, Some(hash)))
    }

    fn set_aside(&mut self, intent: &Intent) -> std::io::Result<()> {
        let why = format!(
            "{} was being written when the machine went down",
            intent.name
        );
        match self.store.load(intent.content) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
            Ok(blob) => {
                let (size, hash) = blob.quick_xor()?;
                if size == 0 || self.is_sealed(intent.node, size, hash) {
                    self.store.remove(intent.content);
                    return Ok(());
                }
            }
        }
        let kept = self.store.quarantine(intent.content, &why)?;
        self.report
            .push(format!("{why}; what was there is in {}", kept.display()));
        Ok(())
    }

    /// Files that were made and never closed, and that nobody wrote to.
    fn drop_unsealed(&mut self) {
        let ((), _ticket) = self.ledger.change(|books| {
            let never: Vec<NodeId> = books
                .tree
                .nodes()
                .filter(|n| n.kind == Kind::File && n.held.is_none() && n.baseline.is_none())
                .map(|node| node.id)
                .collect();
            for id in never {
                books.tree.remove(id, false);
            }
        });
    }

    /// Contents against records: both ways.
    fn check_contents(
        &mut self,
        garbage: &BTreeSet<ContentId>,
        unread: &BTreeSet<ContentId>,
        open: &[Intent],
    ) -> std::io::Result<()> {
        let on_disk: HashMap<ContentId, u64> = self
            .store
            .list()?
            .into_iter()
            .map(|found| (found.id, found.bytes))
            .collect();
        let mut named: HashSet<ContentId> = garbage.union(unread).copied().collect();
        named.extend(open.iter().map(|intent| intent.content));
        let (mut refetch, mut only) = (Vec::new(), Vec::new());
        {
            let books = self.ledger.books();
            for node in books.tree.nodes() {
                let Some(held) = &node.held else { continue };
                named.insert(held.content);
                if on_disk.get(&held.content) == Some(&held.size) {
                    continue;
                }
                if node.evictable().is_some() {
                    refetch.push((node.id, held.content));
                } else {
                    let path = books.tree.path(node.id).unwrap_or_default();
                    only.push((node.id, held.clone(), path));
                }
            }
        }
        for (id, held, path) in only {
            let what = match proven(self.store, held.content, held.size, None) {
                Err(Flaw::Damaged(what)) => what,
                // It was not there a moment ago: whoever opens it will hear.
                Ok(_) | Err(Flaw::Unreadable(_)) => continue,
            };
            let why = put_aside(self.store, held.content, &what);
            let (_, _ticket) = take_note(self.ledger, id, held.content, &why, self.now);
            self.report.push(format!(
                "the content of {path} was not uploaded, and is damaged: {why}; see `tuyunfs status`"
            ));
        }
        let now = self.now;
        for (id, content) in refetch {
            if on_disk.contains_key(&content) {
                let kept = self
                    .store
                    .quarantine(content, "not the size that was sealed")?;
                self.report
                    .push(format!("a cached content was damaged: {}", kept.display()));
            }
            let ((), _ticket) = self.ledger.change(|books| {
                books.tree.edit(id, now, |node| node.held = None);
            });
        }
        let after: HashSet<ContentId> = {
            let books = self.ledger.books();
            books
                .tree
                .nodes()
                .filter_map(|n| Some(n.held.as_ref()?.content))
                .collect()
        };
        for (id, size) in on_disk
            .iter()
            .filter(|(id, _)| !named.contains(id) && !after.contains(id))
        {
            if *size == 0 {
                self.store.remove(*id); // made, and the end came before anything was written
                continue;
            }
            let kept = self.store.quarantine(*id, "no record names it")?;
            self.report.push(format!(
                "a content that no record names is in {}",
                kept.display()
            ));
        }
        Ok(())
    }
}
