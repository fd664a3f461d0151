//! The one who writes the index.
//!
//! Takes all changes that wait, makes them in one transaction, deletes the bodies that are nobody's
//! then, tells memory what changed, and answers. It ends when told to and nothing waits any more.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::change::{Change, Outcome};
use super::disk::Disk;
use super::index::{Index, IndexError};
use super::memory::Memory;
use super::store::ChangeError;

/// Changes in one transaction. More would make the first of them wait long on a slow disk.
const BATCH: usize = 256;

/// A change and who waits for it.
pub(super) struct Job {
    pub(super) change: Change,
    pub(super) reply: oneshot::Sender<Result<Outcome, ChangeError>>,
}

/// The writer of the index.
pub struct Committer {
    queue: mpsc::Receiver<Job>,
    index: Arc<Index>,
    disk: Arc<Disk>,
    memory: Arc<Memory>,
}

impl Committer {
    pub(super) fn new(
        queue: mpsc::Receiver<Job>,
        index: Arc<Index>,
        disk: Arc<Disk>,
        memory: Arc<Memory>,
    ) -> Self {
        Self {
            queue,
            index,
            disk,
            memory,
        }
    }

    /// Writes until `stop`, and then what waits still.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            let got = tokio::select! {
                biased;
                got = self.queue.recv_many(&mut batch, BATCH) => got,
                () = stop.cancelled() => 0,
            };
            if got == 0 {
                break;
            }
            self.write(std::mem::take(&mut batch)).await;
        }
    }

    async fn write(&self, batch: Vec<Job>) {
        let (changes, replies): (Vec<_>, Vec<_>) =
            batch.into_iter().map(|job| (job.change, job.reply)).unzip();
        let (index, disk, memory) = (
            Arc::clone(&self.index),
            Arc::clone(&self.disk),
            Arc::clone(&self.memory),
        );
        let written = tokio::task::spawn_blocking(move || {
            let outcomes = index.apply(&changes)?;
            settle(&changes, &outcomes, &disk, &memory);
            Ok::<_, IndexError>(outcomes)
        })
        .await;
        // Whoever does not wait any more does not need the answer.
        match written {
            Ok(Ok(outcomes)) => {
                for (reply, outcome) in replies.into_iter().zip(outcomes) {
                    let _ = reply.send(Ok(outcome));
                }
            }
            Ok(Err(error)) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the index was not written"
                );
                let error = Arc::new(error);
                for reply in replies {
                    let _ = reply.send(Err(ChangeError::Index(Arc::clone(&error))));
                }
            }
            // A panic; it has been printed. Dropping the replies tells those who wait.
            Err(_) => {}
        }
    }
}

/// After the commit: what memory repeats of the old state goes, and so do the bodies.
fn settle(changes: &[Change], outcomes: &[Outcome], disk: &Disk, memory: &Memory) {
    for (change, outcome) in changes.iter().zip(outcomes) {
        match change {
            Change::Put { key, .. } | Change::Renew { key, .. } => memory.forget(key),
            // A use does not change what memory repeats.
            Change::Touch(_)
            | Change::Remove { .. }
            | Change::Purge(_)
            | Change::Evict { .. }
            | Change::Unused { .. } => {}
        }
        for (key, body) in &outcome.gone {
            memory.forget(key);
            if let Err(error) = disk.remove(*body) {
                tracing::warn!(%body, %error, "a body cannot be deleted; the next start tries again");
            }
        }
    }
}
