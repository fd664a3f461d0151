//! How things stand, for whoever asks by `tuyunfs status`.

use std::path::PathBuf;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::{NodeId, Vfs};

/// How things stand.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Changes that the drive does not have yet, parked ones included, and what it is about to get of a file
    /// that has been deleted since.
    pub pending: usize,
    /// Names under which a request without a reply may have left something: they are looked at.
    #[serde(default)]
    pub seeking: usize,
    /// Bytes that the drive does not have yet.
    pub pending_bytes: u64,
    /// Requests under way.
    pub sending: usize,
    /// Since when the oldest change waits, in seconds since 1970.
    pub oldest_pending: Option<u64>,
    /// Changes that the drive refuses.
    pub parked: Vec<ParkedChange>,
    /// Why nothing is sent at present.
    pub paused: Option<String>,
    /// Why nothing can be made durable at present.
    pub journal_failing: Option<String>,
    /// Bytes of confirmed contents on our disk.
    pub cached_bytes: u64,
    /// How many contents that are.
    pub cached_files: usize,
    /// Bytes that are free on our disk, as far as it tells.
    #[serde(default)]
    pub disk_free: Option<u64>,
    /// That is less than it should be: what the drive has is given up, and the rest is sent at once.
    #[serde(default)]
    pub disk_short: bool,
    /// Files and folders that are known.
    pub nodes: usize,
    /// Files that are open.
    pub open_files: usize,
    /// Files and folders that the drive says are gone and that stay until a person has decided.
    #[serde(default)]
    pub withheld: usize,
    /// The mounted folder itself is gone from the drive.
    #[serde(default)]
    pub root_gone: bool,
}

/// A change that waits for a person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParkedChange {
    /// Path below the root.
    pub path: String,
    /// The drive's reason.
    pub why: String,
    /// Since when, in seconds since 1970.
    pub since: u64,
    /// It is a deletion.
    #[serde(default)]
    pub deleted: bool,
    /// The drive has an item of it.
    #[serde(default)]
    pub on_drive: bool,
    /// The bytes that it does not take, where they are.
    #[serde(default)]
    pub content: Option<PathBuf>,
}

impl ParkedChange {
    /// Whether this is where it is, as a person may write it.
    #[must_use]
    pub fn is_at(&self, path: &str) -> bool {
        self.path == path.trim_start_matches('/')
    }
}

impl Vfs {
    /// How things stand.
    #[must_use]
    pub fn status(&self) -> Status {
        let sending = self.outbox.sending();
        let paused = self.outbox.paused().map(|pause| pause.why);
        let journal_failing = self.ledger.journal().failing().map(|why| why.to_string());
        let disk_free = self.look_at_disk();
        let disk_short = self.is_short_of_room();
        let books = self.ledger.books();
        let tree = &books.tree;
        let mut status = Status {
            disk_free,
            disk_short,
            sending,
            paused,
            journal_failing,
            nodes: tree.len(),
            open_files: books.open.len(),
            ..Status::default()
        };
        for node in tree.pending() {
            status.pending += 1;
            if node.content_pending() {
                status.pending_bytes += node.held.as_ref().map_or(0, |held| held.size);
            }
            let since = node.pending_since.map(seconds);
            status.oldest_pending = [status.oldest_pending, since].into_iter().flatten().min();
            if let Some(parked) = &node.parked {
                status.parked.push(ParkedChange {
                    path: tree.path(node.id).unwrap_or_default(),
                    why: parked.why.clone(),
                    since: seconds(parked.since),
                    deleted: false,
                    on_drive: node.baseline.is_some(),
                    content: node
                        .held
                        .as_ref()
                        .and_then(|held| self.store.place(held.content)),
                });
            }
        }
        for grave in tree.graves() {
            if !tree.is_owed(grave) {
                status.seeking += 1;
                continue;
            }
            status.pending += 1;
            status.oldest_pending = [status.oldest_pending, Some(seconds(grave.since))]
                .into_iter()
                .flatten()
                .min();
            if let Some(parked) = &grave.parked {
                status.parked.push(ParkedChange {
                    path: tree.path_of_grave(grave),
                    why: parked.why.clone(),
                    since: seconds(parked.since),
                    deleted: true,
                    on_drive: true,
                    content: None,
                });
            }
        }
        for node in tree.nodes() {
            if node.withheld.is_some() {
                status.withheld += 1;
                status.root_gone |= node.id == NodeId::ROOT;
            }
            if let (Some(_), Some(held)) = (node.evictable(), &node.held) {
                status.cached_files += 1;
                status.cached_bytes += held.size;
            }
        }
        if status.root_gone {
            let why = "the mounted folder is gone from the drive: see `tuyunfs deletions`";
            status.paused = Some(why.to_owned());
        }
        status
    }

    /// Waits until the drive has everything but what is parked.
    pub async fn flushed(&self) {
        // The outbox wakes nobody at its end; a look four times a second costs next to nothing.
        while !self.outbox.is_drained() {
            tokio::time::sleep(std::time::Duration::from_millis(250)).await;
        }
    }
}

fn seconds(at: SystemTime) -> u64 {
    at.duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}
