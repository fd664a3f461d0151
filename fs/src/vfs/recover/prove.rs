//! Bytes against the seals that name them.
//!
//! A record and the bytes that it names go to the disk together, so a power cut may have left the
//! record alone. Each such content is read: what is not what was sealed is put aside, and the
//! node goes back to what it held before, which was kept for that.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use super::Start;
use crate::outbox::damage::{Flaw, proven};
use crate::tree::{Baseline, ContentId, Node, NodeId, Seal};

/// The contents of a node that were on their way to the disk.
struct Found<'a> {
    /// Those that did not get there, the newest first.
    torn: Vec<&'a Seal>,
    /// The newest one that did.
    whole: Option<&'a Seal>,
    /// One of which the disk cannot tell.
    unread: Option<&'a Seal>,
}

impl Found<'_> {
    fn is_whole(&self) -> bool {
        self.torn.is_empty() && self.unread.is_none()
    }
}

impl Start<'_> {
    /// Looks at the contents whose bytes were on their way when the last run ended. What was kept for the
    /// case that they had not got there, and is needed no more, becomes garbage.
    ///
    /// Where one has not got there, what was let go at the same moment may be all that is left of a file that
    /// it was renamed over: that is put aside, and is garbage no more. Before anything else changes: a start that
    /// ends half-way leaves the next one to find the same.
    ///
    /// Returns what the next start has to look at again: the disk cannot tell, and what was before stays as well.
    ///
    /// # Errors
    /// Something cannot be put aside.
    pub(super) fn prove(
        &mut self,
        seals: &BTreeMap<ContentId, Seal>,
        garbage: &mut BTreeSet<ContentId>,
    ) -> io::Result<BTreeSet<ContentId>> {
        let nodes: BTreeSet<NodeId> = seals.values().map(|seal| seal.node).collect();
        let found: Vec<_> = nodes.iter().map(|id| self.look(*id, seals)).collect();
        if !found.iter().all(Found::is_whole) {
            for content in garbage.iter() {
                self.keep(*content)?;
            }
        }
        let mut unread = BTreeSet::new();
        for found in found {
            for torn in found.torn {
                self.go_back(torn);
            }
            if let Some(seal) = found.unread {
                unread.insert(seal.content);
                unread.extend(earlier(seal, seals));
            }
            garbage.extend(
                found
                    .whole
                    .map(|seal| earlier(seal, seals))
                    .into_iter()
                    .flatten(),
            );
        }
        Ok(unread)
    }

    fn keep(&mut self, content: ContentId) -> io::Result<()> {
        let why = "it was replaced or deleted at the moment when the machine went down";
        match self.store.quarantine(content, why) {
            Ok(kept) => self.report.push(format!("{why}: {}", kept.display())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// What a node holds, from the newest back to what is there.
    fn look<'a>(&mut self, id: NodeId, seals: &'a BTreeMap<ContentId, Seal>) -> Found<'a> {
        let mut found = Found {
            torn: Vec::new(),
            whole: None,
            unread: None,
        };
        let mut newest = self.sealed(id, seals);
        while let Some(seal) = newest {
            match self.is_there(seal) {
                Ok(true) => {
                    found.whole = Some(seal);
                    return found;
                }
                Ok(false) => {
                    found.torn.push(seal);
                    let before = seal.before.as_ref();
                    newest = before.and_then(|before| seals.get(&before.content));
                }
                // Unknown is not absent: whoever opens it will hear the same from the disk.
                Err(error) => {
                    found.unread = Some(seal);
                    self.report
                        .push(format!("cannot read content {}: {error}", seal.content));
                    return found;
                }
            }
        }
        found
    }

    /// The seal of what a node holds, if that is one of these.
    fn sealed<'a>(&self, id: NodeId, seals: &'a BTreeMap<ContentId, Seal>) -> Option<&'a Seal> {
        let books = self.ledger.books();
        let held = books.tree.node(id)?.held.as_ref()?;
        seals.get(&held.content)
    }

    /// Whether its bytes are on the disk for good. After a kill they may be in memory alone, also such as the disk
    /// has refused, of which the kernel tells only once; and what was kept for the case that they are lost is let
    /// go after this.
    fn is_there(&self, seal: &Seal) -> io::Result<bool> {
        match proven(self.store, seal.content, seal.size, Some(seal.hash)) {
            Ok(blob) => {
                blob.write_again()?;
                blob.sync().map(|()| true)
            }
            Err(Flaw::Damaged(_)) => Ok(false),
            Err(Flaw::Unreadable(error)) => Err(error),
        }
    }

    fn go_back(&mut self, seal: &Seal) {
        let now = self.now;
        let (path, _ticket) = self.ledger.change(|books| {
            let path = books.tree.path(seal.node).unwrap_or_default();
            let base = books
                .tree
                .node(seal.node)
                .and_then(|node| node.baseline.clone());
            if seal.before.is_none() && base.is_none() {
                books.tree.remove(seal.node, true);
                return path;
            }
            books
                .tree
                .edit(seal.node, now, |node| go_back(node, seal, base.as_ref()));
            path
        });
        let why = format!("the machine went down while {path} was being closed");
        let line = match self.store.quarantine(seal.content, &why) {
            Ok(kept) => format!(
                "{why}; it is as it was before, and what was there of it is in {}",
                kept.display()
            ),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                format!("{why}; it is as it was before")
            }
            Err(error) => format!(
                "{why}; it is as it was before, and content {} cannot be put aside: {error}",
                seal.content
            ),
        };
        self.report.push(line);
    }
}

/// Gives a node what it held before a seal, or what the drive has.
fn go_back(node: &mut Node, seal: &Seal, base: Option<&Baseline>) {
    // The drive has confirmed the very bytes that are missing here: they are fetched again.
    let sent = base.is_some_and(|base| base.generation == node.generation);
    node.held = seal.before.clone().filter(|_| !sent);
    match (&mut node.held, base) {
        (Some(held), base) => {
            // The number that it had says nothing any more: the node may have taken over the item
            // of another since, whose contents have numbers of their own.
            let same = base.filter(|b| b.size == held.size && b.hash == held.hash);
            let confirmed = same.filter(|base| base.hash.is_some());
            let next = node.generation.next();
            held.generation = confirmed.map_or(next, |base| base.generation);
            (node.size, node.generation) = (held.size, held.generation);
        }
        (None, Some(base)) => (node.size, node.generation) = (base.size, base.generation),
        (None, None) => {}
    }
}

/// What a node held before a seal, and before that.
fn earlier(seal: &Seal, seals: &BTreeMap<ContentId, Seal>) -> Vec<ContentId> {
    let mut all = Vec::new();
    let mut at = seal.before.as_ref();
    while let Some(before) = at
        && !all.contains(&before.content)
    {
        all.push(before.content);
        at = seals
            .get(&before.content)
            .and_then(|seal| seal.before.as_ref());
    }
    all
}
