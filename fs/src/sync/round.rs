//! One round of delta: all of its pages, then one transaction with the link behind it.

use std::collections::HashSet;
use std::time::SystemTime;

use super::{LINK_FACT, Sync};
use crate::outbox::ledger::Books;
use crate::ports::{DeltaFrom, DeltaLink, DeltaNext, DriveError};
use crate::tree::{Batch, Item, Scope, Terms};
use crate::vfs::tell_of_withheld;

/// Pages of a round. At 200 items a page this is two million changes; a service that goes on
/// longer is in a loop (trap T33).
const PAGES: usize = 10_000;

impl Sync {
    pub(super) async fn delta_round(&self) -> Result<usize, DriveError> {
        let resume = self.link.lock().clone();
        let Some(link) = resume else {
            return self.start_over(false).await;
        };
        let (items, next) = self.pages(link).await?;
        self.apply(&items, next).await;
        Ok(items.len())
    }

    /// All pages from a link on.
    async fn pages(&self, mut link: DeltaLink) -> Result<(Vec<Item>, DeltaLink), DriveError> {
        let mut items: Vec<Item> = Vec::new();
        let mut seen = HashSet::new();
        loop {
            if seen.len() >= PAGES || !seen.insert(link.0.clone()) {
                tracing::warn!(pages = seen.len(), "a round of changes does not end");
                return Err(DriveError::Resync {
                    start: None,
                    keep_local: false,
                });
            }
            let page = match self.drive.delta(DeltaFrom::Link(link)).await {
                // A link that the service no longer finds is one that is too old.
                Err(DriveError::NotFound) => {
                    return Err(DriveError::Resync {
                        start: None,
                        keep_local: false,
                    });
                }
                other => other?,
            };
            items.extend(page.items);
            match page.next {
                DeltaNext::Page(next) => link = next,
                DeltaNext::Round(next) => return Ok((items, next)),
            }
        }
    }

    /// Brings a round into the tree, with the link that resumes after it.
    pub(super) async fn apply(&self, items: &[Item], link: DeltaLink) {
        let _alone = self.vfs.remote().write().await;
        let now = SystemTime::now();
        let ledger = self.vfs.ledger();
        let guard = self.vfs.guard();
        let (effects, ticket) = ledger.change_with(|books| {
            let Books { tree, writing, .. } = books;
            let writing = |id| writing.contains(&id);
            let terms = Terms {
                guard,
                ..Terms::plain(&writing)
            };
            let effects = tree.apply(items, Scope::Round, terms, now);
            let mut batch = Batch::default();
            batch.fact(LINK_FACT, Some(&link));
            (effects, batch)
        });
        let durable = ticket.durable().await;
        tell_of_withheld(effects.withheld);
        ledger.announce(effects);
        ledger.wake.notify_one();
        match durable {
            Ok(()) => *self.link.lock() = Some(link),
            Err(error) => {
                tracing::warn!(%error, "a round of remote changes is not in the journal; it is asked for again");
            }
        }
    }
}
