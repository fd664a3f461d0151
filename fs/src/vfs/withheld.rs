//! What the drive says is gone and a person has to decide about.

use std::time::SystemTime;

use super::{NodeId, Vfs, VfsError};
use crate::outbox::ledger::Books;
use crate::tree::{Baseline, Generation, Item, Withheld};

/// A person's decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decision {
    /// It may go here too.
    Accept,
    /// It is to be on the drive: what is here is sent again.
    Restore,
}

/// Says that a round took more than the guard allows.
pub fn tell_of_withheld(count: usize) {
    if count > 0 {
        tracing::error!(
            count,
            "the drive says that suspiciously much is gone at once; all of it is kept here: \
             see `tuyunfs deletions`"
        );
    }
}

impl Vfs {
    /// If more than this is gone at once, a person is asked.
    #[must_use]
    pub fn guard(&self) -> Option<usize> {
        self.config.guard
    }

    /// What waits for a decision.
    #[must_use]
    pub fn withheld(&self) -> Withheld {
        self.ledger.books().tree.withheld()
    }

    /// Carries out a decision. When the mounted folder itself is gone, `root` is made in its
    /// place first.
    ///
    /// # Errors
    /// The drive cannot make that folder, or the journal cannot be written.
    pub async fn decide(&self, decision: Decision, root: &str) -> Result<(), VfsError> {
        let renewed = if self.withheld().root {
            Some(self.in_time(self.drive.folder_at(root)).await?)
        } else {
            None
        };
        let now = SystemTime::now();
        let (effects, ticket) = self.ledger.change(|books| {
            let Books { tree, writing, .. } = books;
            if let Some(item) = &renewed {
                tree.edit(NodeId::ROOT, now, |root| {
                    let same = root.baseline.as_ref().is_some_and(|b| b.item == item.id);
                    if !same {
                        root.baseline = Some(baseline_of_root(item));
                    }
                    (root.withheld, root.listed_at) = (None, None);
                });
            }
            let writing = |id| writing.contains(&id);
            match decision {
                Decision::Accept => tree.let_go(&writing, now),
                Decision::Restore => tree.send_again(&writing, now),
            }
        });
        self.ledger.announce(effects);
        self.ledger.wake.notify_one();
        ticket.durable().await?;
        Ok(())
    }

    /// The mounted folder could not be found by its id: when that lasts, nothing can be sent until
    /// it is back or made anew (invariant 7).
    pub async fn root_is_missing(&self) {
        let now = SystemTime::now();
        let ((), ticket) = self.ledger.change(|books| {
            let item = books.tree.item_of(NodeId::ROOT).cloned();
            if item.is_some_and(|item| books.tree.missed(&item, now)) {
                books.tree.withhold(NodeId::ROOT, now);
            }
        });
        ticket.durable().await.ok();
    }

    /// A folder cannot be compared at present: it has its turn again like the others.
    pub fn mark_compared(&self, dir: NodeId) {
        let now = SystemTime::now();
        self.ledger.change(|books| {
            books.tree.edit(dir, now, |dir| dir.listed_at = Some(now));
        });
    }
}

/// What the mounted folder's item makes of the root.
#[must_use]
pub fn baseline_of_root(root: &Item) -> Baseline {
    Baseline {
        item: root.id.clone(),
        // The drive's own root has no folder above it.
        parent: root.parent.clone().unwrap_or_else(|| root.id.clone()),
        name: root.name.clone().unwrap_or_default(),
        etag: None,
        ctag: None,
        size: 0,
        hash: None,
        generation: Generation(0),
    }
}
