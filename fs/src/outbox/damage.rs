//! Contents that are not what was sealed: put aside with their data, and told to a person (invariant 4).
//!
//! Disks flip bits, and people delete files. A content that the drive has is fetched again. Of one that it
//! does not have, what is left is the only copy: it is neither sent nor shown as if it were the picture, and
//! the file waits, parked, until somebody writes it anew or gives it up.

use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use super::journal::Ticket;
use super::ledger::Ledger;
use crate::content::store::{Blob, Store};
use crate::tree::{ContentId, Node, NodeId, Parked, QuickXorHash};

/// What can be wrong with a content.
#[derive(Debug)]
pub enum Flaw {
    /// Its bytes are not those that were sealed: says in which way.
    Damaged(String),
    /// The disk cannot tell.
    Unreadable(io::Error),
}

/// A content that is what was sealed: so long, and where a hash is given, to the byte. Blocks.
///
/// # Errors
/// It is not, or the disk cannot tell.
pub fn proven(
    store: &Store,
    content: ContentId,
    size: u64,
    hash: Option<QuickXorHash>,
) -> Result<Arc<Blob>, Flaw> {
    let blob = store.load(content).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Flaw::Damaged(format!("content {content} is missing")),
        _ => Flaw::Unreadable(error),
    })?;
    let len = blob.len().map_err(Flaw::Unreadable)?;
    if len != size {
        let what = format!("content {content} has {len} bytes, sealed were {size}");
        return Err(Flaw::Damaged(what));
    }
    let Some(hash) = hash else {
        return Ok(blob);
    };
    if blob.quick_xor().map_err(Flaw::Unreadable)? == (size, hash) {
        return Ok(blob);
    }
    let what = format!("the bytes of content {content} are not those sealed");
    Err(Flaw::Damaged(what))
}

/// Moves what is left of a damaged content to the quarantine. Returns what a person should know.
#[must_use]
pub fn put_aside(store: &Store, content: ContentId, what: &str) -> String {
    match store.quarantine(content, what) {
        Ok(kept) => format!("{what}; what is left of it is in {}", kept.display()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => match store.quarantined(content) {
            Some(kept) => format!(
                "{what}: it was damaged, and what is left is in {}",
                kept.display()
            ),
            None => format!("{what}; nothing is left of it"),
        },
        Err(error) => format!("{what}, and it cannot be put aside: {error}"),
    }
}

/// Takes note that a content was damaged. What the drive has is to be fetched again: `true`. Anything
/// else is parked: `false`. `None`: the file has another content by now, or none.
pub fn take_note(
    ledger: &Ledger,
    id: NodeId,
    content: ContentId,
    why: &str,
    now: SystemTime,
) -> (Option<bool>, Ticket) {
    ledger.change(|books| {
        let node = books.tree.node(id);
        let still = |node: &&Node| node.held.as_ref().map(|it| it.content) == Some(content);
        let confirmed = node.filter(still)?.evictable().is_some();
        books.tree.edit(id, now, |node| {
            if confirmed {
                node.held = None;
            } else {
                let why = why.to_owned();
                node.parked = Some(Parked { why, since: now });
            }
        });
        Some(confirmed)
    })
}
