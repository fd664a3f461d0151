//! Room for new contents: gives up what the drive has confirmed, the longest unused first.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio_util::sync::CancellationToken;

use super::Vfs;
pub use crate::content::eviction::Budget;
use crate::content::eviction::{Entry, choose};
use crate::content::room::least;
use crate::outbox::journal::Ticket;
use crate::outbox::ledger::Books;
use crate::tree::{ContentId, NodeId};

/// How often the budget is looked at. A home line fills at most some hundred MB in that time,
/// which `min_free` has to be larger than.
const SWEEP: Duration = Duration::from_secs(20);

impl Vfs {
    /// Keeps contents within their budget until `stop`.
    pub async fn keep_budget(self: Arc<Self>, stop: CancellationToken) {
        while stop
            .run_until_cancelled(tokio::time::timeout(SWEEP, self.room.sweep.notified()))
            .await
            .is_some()
        {
            let this = self.clone();
            let swept = tokio::task::spawn_blocking(move || {
                this.look_at_disk();
                this.evict(SystemTime::now());
                this.intents.compact_if_large()
            });
            if let Ok(Err(error)) = swept.await {
                tracing::warn!(%error, "cannot shorten the intent log; it goes on growing");
            }
        }
    }

    /// Gives up what is over the budget. Returns which contents those were; their room is there once the
    /// ticket is through.
    pub fn evict(&self, now: SystemTime) -> (Vec<ContentId>, Option<Ticket>) {
        let free = self.look_at_disk().unwrap_or(u64::MAX);
        let mut owners: HashMap<ContentId, NodeId> = HashMap::new();
        let mut entries = Vec::new();
        {
            let mut books = self.ledger.books();
            let Books { tree, used, .. } = &mut *books;
            let held = tree.nodes().filter_map(|node| node.held.as_ref());
            let held: HashSet<ContentId> = held.map(|held| held.content).collect();
            // Of what was replaced or deleted since nobody asks when it was read.
            used.retain(|content, _| held.contains(content));
            for node in books.tree.nodes() {
                let (Some(content), Some(held)) = (node.evictable(), &node.held) else {
                    continue;
                };
                if books.open.contains(&node.id) || books.unrecorded.contains_key(&content) {
                    continue;
                }
                owners.insert(content, node.id);
                let used = books.used.get(&content).copied().unwrap_or(node.ctime);
                entries.push(Entry {
                    id: content,
                    bytes: held.size,
                    last_used: used,
                });
            }
        }
        let budget = Budget {
            min_free: least(self.config.budget.min_free),
            ..self.config.budget
        };
        let chosen = choose(entries, budget, free, now);
        if chosen.is_empty() {
            return (chosen, None);
        }
        let (given_up, ticket) = self.ledger.change(|books| {
            let mut given_up = Vec::new();
            for content in chosen {
                let Some(id) = owners.get(&content).copied() else {
                    continue;
                };
                // Looked at again: it may have been opened or written since.
                let still = !books.open.contains(&id)
                    && !books.unrecorded.contains_key(&content)
                    && books.tree.node(id).and_then(crate::tree::Node::evictable) == Some(content);
                if still {
                    books.tree.edit(id, now, |node| {
                        if let Some(held) = node.held.take() {
                            // The bytes that we had are the drive's: so is their hash.
                            if let Some(base) = &mut node.baseline {
                                base.hash = base.hash.or(held.hash);
                            }
                        }
                    });
                    books.tree.discard(content);
                    books.used.remove(&content);
                    given_up.push(content);
                }
            }
            given_up
        });
        (given_up, Some(ticket))
    }
}
