//! What is no longer on the drive, or is to leave it.

use std::time::{Duration, SystemTime};

use super::super::ledger::Books;
use super::clash::hash_of;
use super::{Outcome, Settle};
use crate::ports::DriveError;
use crate::tree::{ETag, Grave, Item, ItemId, Kind, NodeId, Terms, YOUNG};

/// When what is sought is looked at for the second time; from then on at twice its age each time.
const SOON: Duration = Duration::from_secs(1);

/// How long to wait before the next look at what is sought for so long; the last look comes when the drive has
/// had the time that it may take to show everything, and not up to twice as late. `None`: it was the last.
fn next_look(age: Duration) -> Option<Duration> {
    let left = YOUNG.checked_sub(age).filter(|left| !left.is_zero())?;
    Some(age.max(SOON).min(left))
}

impl Settle {
    /// The drive says 404 to an id: counts only when it says so again two minutes later
    /// (invariant 7); then what is pending is made anew.
    pub(super) async fn missing(&self, node: NodeId, item: &ItemId) -> Result<Outcome, DriveError> {
        let now = SystemTime::now();
        let young = self.ledger.books().tree.is_young(item, now);
        let gone = !young && self.ledger.books().tree.missed(item, now);
        if !gone {
            return Ok(Outcome::Again);
        }
        let (effects, ticket) = self.ledger.change(|books| {
            let Books { tree, writing, .. } = books;
            tree.lost(node, &|id| writing.contains(&id), now)
        });
        self.ledger.announce(effects);
        if let Err(error) = ticket.durable().await {
            tracing::warn!(%error, "a loss on the drive is not in the journal yet");
        }
        Ok(Outcome::Done)
    }

    /// A new child was refused with 404: its folder may be gone without a tombstone (trap T1).
    pub(super) async fn folder_missing(&self, folder: &ItemId) -> Result<Outcome, DriveError> {
        match self.drive.item(folder).await {
            Err(DriveError::NotFound) => {}
            // It is there: the drive was late with it, or refuses children by this word.
            other => return other.map(|_| Outcome::Again),
        }
        let owner = self.ledger.books().tree.by_item(folder).map(|dir| dir.id);
        match owner {
            Some(NodeId::ROOT) => {
                self.root_missing(folder).await;
                Ok(Outcome::Again)
            }
            Some(dir) => self.missing(dir, folder).await,
            None => Ok(Outcome::Again),
        }
    }

    /// The mounted folder itself answers 404: nothing can be sent until it is back, or made anew.
    pub(super) async fn root_missing(&self, folder: &ItemId) {
        let now = SystemTime::now();
        let (gone, ticket) = self.ledger.change(|books| {
            let gone = books.tree.missed(folder, now);
            if gone {
                books.tree.withhold(NodeId::ROOT, now);
            }
            gone
        });
        if gone {
            tracing::error!(
                "the mounted folder is gone from the drive; changes are kept here: \
                 see `tuyunfs deletions`"
            );
            ticket.durable().await.ok();
        }
    }

    /// Before a move replaces a file, which no request makes conditional (trap T21): what another
    /// client has written since stays, and the move has to find another way.
    pub(super) async fn changed_under(
        &self,
        over: &ItemId,
        parent: &ItemId,
        name: &str,
    ) -> Result<Option<Outcome>, DriveError> {
        let there = match self.drive.item(over).await {
            // Who has the name now is asked by the name.
            Err(DriveError::NotFound) => self.drive.child(parent, name).await,
            other => other,
        };
        let there = match there {
            Ok(item) if item.id == *over => item,
            // What was to be replaced is gone, and whatever has the name is another's: a move that
            // replaces nothing finds out.
            Ok(_) | Err(DriveError::NotFound) => {
                let ((), ticket) = self
                    .ledger
                    .change(|books| books.tree.set_grave(over.clone(), None));
                ticket.durable().await.ok();
                return Ok(Some(Outcome::Again));
            }
            Err(error) => return Err(error),
        };
        let same = {
            let books = self.ledger.books();
            let grave = books.tree.grave(over);
            grave.is_some_and(|grave| {
                (grave.etag.is_some() && grave.etag == there.etag)
                    || grave.knows(there.size, hash_of(&there))
            })
        };
        if same {
            return Ok(None);
        }
        self.deleted_but_changed(over).await?;
        Ok(Some(Outcome::Again))
    }

    pub(super) fn replaced(&self, over: Option<&ItemId>) {
        let Some(over) = over else { return };
        let ((), _ticket) = self
            .ledger
            .change(|books| books.tree.set_grave(over.clone(), None));
    }

    pub(super) async fn delete(
        &self,
        item: &ItemId,
        etag: Option<&ETag>,
        kind: Kind,
    ) -> Result<Outcome, DriveError> {
        // A folder's eTag says nothing of its children: what counts is that it is empty.
        if kind == Kind::Directory {
            let left = match self.drive.children(item).await {
                Err(DriveError::NotFound) => Vec::new(),
                other => other?,
            };
            // A listing may still show what we have just deleted or moved (trap T23).
            let now = SystemTime::now();
            let (strangers, known) = {
                let books = self.ledger.books();
                let stranger = |left: &&Item| books.tree.is_stranger(left, item, now);
                let known = |left: &&Item| books.tree.by_item(&left.id).is_some();
                let known: Vec<ItemId> =
                    left.iter().filter(known).map(|it| it.id.clone()).collect();
                (left.iter().any(|left| stranger(&left)), known)
            };
            if strangers || self.lies_there(&known, item).await? {
                return self.restore(item).await;
            }
        }
        let held = if kind == Kind::File { etag } else { None };
        match self.drive.delete(item, held).await {
            Ok(()) | Err(DriveError::NotFound) => {}
            Err(DriveError::Conflict) => return self.deleted_but_changed(item).await,
            Err(error) => return Err(error),
        }
        let now = SystemTime::now();
        let ((), ticket) = self.ledger.change(|books| {
            books.tree.set_grave(item.clone(), None);
            books.tree.note_deleted(item, now);
        });
        ticket.durable().await.ok();
        Ok(Outcome::Done)
    }

    /// Whether one of these, which the tree has elsewhere, is in a folder that is to be deleted: by
    /// another client's doing, or by a move of ours whose reply was lost.
    async fn lies_there(&self, known: &[ItemId], folder: &ItemId) -> Result<bool, DriveError> {
        for id in known {
            match self.drive.item(id).await {
                Ok(item) if item.parent.as_ref() == Some(folder) => return Ok(true),
                Ok(_) | Err(DriveError::NotFound) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }

    /// Looks for what a request without a reply may have made under a name that was left since.
    pub(super) async fn seek(&self, grave: &Grave) -> Result<Outcome, DriveError> {
        let now = SystemTime::now();
        let found = match self.drive.child(&grave.parent, &grave.name).await {
            Err(DriveError::NotFound) => None,
            other => Some(other?),
        };
        let (outcome, ticket) = self.ledger.change(|books| {
            let tree = &mut books.tree;
            if tree.grave(&grave.item).is_none() {
                return Outcome::Done; // another file of that name has it by now
            }
            let age = now.duration_since(grave.since).unwrap_or_default();
            let sought = found.as_ref().map(|item| tree.is_sought(grave, item));
            // It may only be late (trap T23), or its hash may be.
            if let (None | Some(None), Some(wait)) = (sought, next_look(age)) {
                return Outcome::Later(wait);
            }
            match sought {
                Some(Some(true)) => {
                    if let Some(item) = &found {
                        tree.found(&grave.item, item, now);
                    }
                }
                _ => tree.set_grave(grave.item.clone(), None),
            }
            Outcome::Done
        });
        ticket.durable().await.ok();
        if let (Some(item), Outcome::Done) = (found, &outcome) {
            self.reappear(&[item]).await;
        }
        Ok(outcome)
    }

    /// Deleted here, and changed there since: with other content it stays, with only other tags
    /// it goes.
    pub(super) async fn deleted_but_changed(&self, item: &ItemId) -> Result<Outcome, DriveError> {
        let there = match self.drive.item(item).await {
            Err(DriveError::NotFound) => None,
            other => Some(other?),
        };
        let (outcome, ticket) = self.ledger.change(|books| {
            let Some(mut grave) = books.tree.grave(item).cloned() else {
                return Outcome::Done;
            };
            match &there {
                Some(now_there) if grave.knows(now_there.size, hash_of(now_there)) => {
                    grave.etag.clone_from(&now_there.etag);
                    books.tree.set_grave(item.clone(), Some(grave));
                    Outcome::Again
                }
                _ => {
                    books.tree.set_grave(item.clone(), None);
                    Outcome::Done
                }
            }
        });
        ticket.durable().await.ok();
        if let (Some(item), Outcome::Done) = (there, &outcome) {
            self.reappear(&[item]).await;
        }
        Ok(outcome)
    }

    /// A folder that was deleted here has children on the drive that were never seen here: it
    /// comes back.
    pub(super) async fn restore(&self, id: &ItemId) -> Result<Outcome, DriveError> {
        let item = self.drive.item(id).await?;
        let ((), ticket) = self
            .ledger
            .change(|books| books.tree.set_grave(id.clone(), None));
        ticket.durable().await.ok();
        tracing::warn!(
            name = item.name,
            "a deleted folder has new files on the drive: it stays"
        );
        self.reappear(&[item]).await;
        Ok(Outcome::Done)
    }

    /// Brings in what was found and belongs to nobody here. What somebody has by now was seen too long
    /// ago: a request of ours may have moved it since, and rounds tell of it in their order.
    pub(super) async fn reappear(&self, items: &[Item]) {
        let now = SystemTime::now();
        let (effects, ticket) = self.ledger.change(|books| {
            let Books { tree, writing, .. } = books;
            let writing = |id| writing.contains(&id);
            let strangers: Vec<Item> = items
                .iter()
                .filter(|item| tree.by_item(&item.id).is_none())
                .cloned()
                .collect();
            tree.apply(
                &strangers,
                crate::tree::Scope::Round,
                Terms::plain(&writing),
                now,
            )
        });
        self.ledger.announce(effects);
        ticket.durable().await.ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sought_is_looked_at_ever_later_and_for_the_last_time_when_it_must_show() {
        let (mut age, mut looks) = (Duration::ZERO, Vec::new());
        while let Some(wait) = next_look(age) {
            age += wait;
            looks.push(age.as_secs());
        }
        assert_eq!(looks, [1, 2, 4, 8, 16, 32, 64, 120]);
        let late = next_look(Duration::from_secs(119));
        assert_eq!(late, Some(Duration::from_secs(1)));
    }
}
