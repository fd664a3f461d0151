//! What has changed and is not in the journal's database yet: it is not sent.
//!
//! Otherwise a power cut could leave on the drive what nobody here remembers to have made, and what
//! was never acknowledged would come back as the work of another client.

use std::collections::HashMap;

use tokio::sync::watch;

use super::plan::Subject;
use crate::tree::{Batch, Tree};

/// The last change of each node and pending deletion that the disk may not have yet.
#[derive(Debug)]
pub struct Unwritten {
    last: HashMap<Subject, u64>,
    durable: watch::Receiver<u64>,
}

impl Unwritten {
    /// Nothing, with the journal's word on how far it has got.
    #[must_use]
    pub fn new(durable: watch::Receiver<u64>) -> Self {
        Self {
            last: HashMap::new(),
            durable,
        }
    }

    /// What of a batch may have to be sent.
    #[must_use]
    pub fn of(batch: &Batch, tree: &Tree) -> Vec<Subject> {
        let is_pending = |id| {
            let node = tree.node(id);
            node.is_some_and(|node| node.pending_since.is_some())
        };
        let nodes = batch.nodes.iter().map(|(id, _)| *id);
        let nodes = nodes.filter(|id| is_pending(*id)).map(Subject::Node);
        let graves = batch.graves.iter().filter(|(_, row)| row.is_some());
        let graves = graves.map(|(item, _)| Subject::Item(item.clone()));
        nodes.chain(graves).collect()
    }

    /// Takes what the change with this number has touched.
    pub fn add(&mut self, subjects: Vec<Subject>, number: u64) {
        self.last
            .extend(subjects.into_iter().map(|subject| (subject, number)));
    }

    /// Forgets what has got to the disk.
    pub fn forget_written(&mut self) {
        if self.durable.has_changed().unwrap_or(true) {
            let durable = *self.durable.borrow_and_update();
            self.last.retain(|_, number| *number > durable);
        }
    }

    /// Whether the disk may not have the last change of this yet.
    #[must_use]
    pub fn has(&self, subject: &Subject) -> bool {
        self.last.contains_key(subject)
    }
}
