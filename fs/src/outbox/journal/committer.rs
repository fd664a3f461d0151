//! The thread that writes the database, in groups.
//!
//! It takes everything that waits and writes it in one transaction. While the database goes to the
//! disk, a second thread brings the contents that the group seals there, too: one wait for both,
//! and nobody is told before both are through. A group that could not be written stays first in
//! line and is tried again each second; whoever waited for it hears of the failure at once.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{oneshot, watch};

use super::changes::Changes;
use super::database::{Tables, Write};
use super::orders::{End, Orders};
use super::proof::Unproven;
use super::{CommitFailed, Contents, Order};
use crate::threads::mpsc::{Receiver, Sender, channel};
use crate::threads::{Mutex, thread};
use crate::tree::{Batch, ContentId};

/// How long a batch that could not be written waits for the next try. Short, since callers are
/// refused meanwhile; not shorter, since a full disk needs time to get better.
const RETRY: Duration = Duration::from_secs(1);

pub(super) struct Committer {
    pub(super) path: PathBuf,
    pub(super) tables: Tables,
    pub(super) failing: Arc<Mutex<Option<CommitFailed>>>,
    pub(super) contents: Arc<dyn Contents>,
    pub(super) changes: Arc<Changes>,
    /// Changes that are not in the database, because it could not be written.
    pub(super) unwritten: VecDeque<Change>,
    /// Removed from the disk, and still to be removed from the table of garbage.
    pub(super) removed: Vec<ContentId>,
    pub(super) unproven: Unproven,
    pub(super) barriers: Barriers,
    /// The number of the last change that survives a power cut.
    pub(super) reached: watch::Sender<u64>,
}

/// A change on its way.
pub(super) struct Change {
    /// Changes are counted in their order.
    pub(super) number: u64,
    pub(super) batch: Batch,
    /// Its number in the log of changes, if it is there.
    pub(super) noted: Option<u64>,
    /// The bytes that it seals are on the disk.
    pub(super) synced: bool,
}

type Waiter = (oneshot::Sender<Result<(), CommitFailed>>, Vec<ContentId>);

/// What came in at once.
#[derive(Default)]
struct Group {
    waiters: Vec<Waiter>,
    stop: bool,
}

impl Committer {
    pub(super) fn run(mut self, orders: &Orders) {
        let mut end = End::new(orders, self.failing.clone());
        loop {
            let retry = (!self.unwritten.is_empty()).then_some(RETRY);
            let mut group = Group::default();
            for order in orders.gather(retry) {
                if let Order::Commit { change, .. } = &order {
                    self.unproven.examined(&change.batch.proven);
                }
                group.take(order, &mut self.unwritten);
            }
            self.write(group.waiters);
            if group.stop {
                end.expected();
                return;
            }
        }
    }

    fn write(&mut self, waiters: Vec<Waiter>) {
        if self.unwritten.is_empty() {
            for (waiter, _) in waiters {
                let _ = waiter.send(Ok(()));
            }
            return;
        }
        let sealed: Vec<ContentId> = self
            .unwritten
            .iter()
            .filter(|change| !change.synced)
            .flat_map(|change| change.batch.seals.iter().map(|seal| seal.content))
            .collect();
        let syncing = self.barriers.begin(sealed);
        let change = self.unwritten.iter().rev().find_map(|change| change.noted);
        let result = self.tables.write(&Write {
            batches: self.unwritten.iter().map(|change| &change.batch).collect(),
            removed: &self.removed,
            proven: self.unproven.settled(),
            change,
        });
        let lost = syncing.end();
        for change in &mut self.unwritten {
            change.synced = true;
        }
        let result = result.map_err(|error| CommitFailed::of(&error));
        self.tell(&result);
        match &result {
            Ok(()) => {
                self.removed.clear();
                self.unproven.forget_settled();
                if let Some(change) = change {
                    self.changes.known(change);
                }
                self.clean_up(&lost);
            }
            Err(_) => self.unproven.lost(&lost),
        }
        for (waiter, seals) in waiters {
            let lost = lost.iter().find(|(content, _)| seals.contains(content));
            let outcome = match (&result, lost) {
                (Ok(()), Some((_, why))) => Err(why.clone()),
                (result, _) => result.clone(),
            };
            let _ = waiter.send(outcome);
        }
    }

    /// After a transaction: says how far it got, and removes what nothing refers to any more.
    fn clean_up(&mut self, lost: &[(ContentId, CommitFailed)]) {
        self.unproven.lost(lost);
        if let Some(last) = self.unwritten.iter().map(|change| change.number).max() {
            self.reached.send_if_modified(|reached| {
                let further = last > *reached;
                *reached = last.max(*reached);
                further
            });
        }
        let mut gone = Vec::new();
        for change in self.unwritten.drain(..) {
            for seal in change.batch.seals {
                gone.extend(self.unproven.sealed(seal));
            }
            for content in change.batch.garbage {
                gone.extend(self.unproven.dropped(content));
                gone.push(content);
                self.removed.push(content);
            }
        }
        for content in gone {
            self.contents.remove(content);
        }
    }

    fn tell(&self, result: &Result<(), CommitFailed>) {
        match result {
            Ok(()) => {
                if self.failing.lock().take().is_some() {
                    tracing::info!("the journal can be written again; nothing was lost");
                }
            }
            Err(why) => {
                if self.failing.lock().replace(why.clone()).is_none() {
                    tracing::error!(journal = %self.path.display(), error = %why,
                        "cannot write the journal: changes are refused until the disk is well");
                }
            }
        }
    }
}

impl Group {
    fn take(&mut self, order: Order, unwritten: &mut VecDeque<Change>) {
        match order {
            Order::Commit { change, waiter } => {
                let seals = change.batch.seals.iter().map(|seal| seal.content).collect();
                unwritten.push_back(*change);
                self.waiters.push((waiter, seals));
            }
            Order::Hurry => {}
            Order::Stop => self.stop = true,
        }
    }
}

/// The second thread, which brings contents to the disk.
pub(super) struct Barriers {
    contents: Sender<Vec<ContentId>>,
    outcomes: Receiver<Vec<(ContentId, CommitFailed)>>,
}

impl Barriers {
    pub(super) fn start(store: Arc<dyn Contents>) -> std::io::Result<Self> {
        let (contents, wanted) = channel::<Vec<ContentId>>();
        let (done, outcomes) = channel();
        thread::Builder::new()
            .name("barrier".into())
            .spawn(move || {
                for contents in wanted {
                    let failed = store
                        .make_durable(&contents)
                        .into_iter()
                        .map(|(content, error)| {
                            (
                                content,
                                CommitFailed {
                                    lost: true,
                                    ..CommitFailed::of(&error)
                                },
                            )
                        })
                        .collect();
                    if done.send(failed).is_err() {
                        return;
                    }
                }
            })?;
        Ok(Self { contents, outcomes })
    }

    fn begin(&self, contents: Vec<ContentId>) -> Syncing<'_> {
        let all = contents.clone();
        let asked = !contents.is_empty() && self.contents.send(contents).is_ok();
        Syncing {
            barriers: self,
            asked,
            all,
        }
    }
}

/// Contents on their way to the disk.
struct Syncing<'a> {
    barriers: &'a Barriers,
    asked: bool,
    all: Vec<ContentId>,
}

impl Syncing<'_> {
    /// Waits; what did not get there, and why.
    fn end(self) -> Vec<(ContentId, CommitFailed)> {
        if self.all.is_empty() {
            return Vec::new();
        }
        let outcome = self.asked.then(|| self.barriers.outcomes.recv().ok());
        outcome.flatten().unwrap_or_else(|| {
            let why = CommitFailed {
                lost: true,
                ..CommitFailed::other("the thread that syncs contents is gone")
            };
            self.all
                .into_iter()
                .map(|content| (content, why.clone()))
                .collect()
        })
    }
}
