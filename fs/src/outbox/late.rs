//! Looks at items whose news came while they could not be taken.

use std::time::SystemTime;

use super::ledger::{Books, Ledger};
use crate::ports::{Drive, DriveError};
use crate::tree::{Item, ItemFacet, ItemId, News, Scope, Terms};

/// Brings in what has become of items that had news at the wrong time.
///
/// # Errors
/// The drive cannot be asked; the rest is looked at the next time.
pub async fn catch_up(ledger: &Ledger, drive: &dyn Drive) -> Result<(), DriveError> {
    let mut late = {
        let Books { tree, writing, .. } = &mut *ledger.books();
        tree.take_late(&|id| writing.contains(&id))
    };
    let mut items = Vec::new();
    let mut unsure = Vec::new();
    let mut failed = None;
    while let Some((id, news)) = late.pop() {
        match drive.item(&id).await {
            Ok(item) => items.push(item),
            Err(DriveError::NotFound) => {
                let now = SystemTime::now();
                // A 404 alone counts when it comes again two minutes later (invariant 7).
                if news == News::Gone || ledger.books().tree.missed(&id, now) {
                    items.push(deleted(id));
                } else {
                    unsure.push((id, news));
                }
            }
            Err(error) => {
                late.push((id, news));
                failed = Some(error);
                break;
            }
        }
    }
    let now = SystemTime::now();
    let (effects, _ticket) = ledger.change(|books| {
        let Books { tree, writing, .. } = books;
        tree.still_late(late.into_iter().chain(unsure));
        let writing = |id| writing.contains(&id);
        tree.apply(&items, Scope::Round, Terms::plain(&writing), now)
    });
    ledger.announce(effects);
    failed.map_or(Ok(()), Err)
}

/// What a round says of an item that is gone.
fn deleted(id: ItemId) -> Item {
    Item {
        id,
        parent: None,
        name: None,
        facet: ItemFacet::Deleted,
        size: 0,
        etag: None,
        ctag: None,
        modified: None,
        created: None,
    }
}
