//! One fetch a key, for any number of readers.
//!
//! The first who misses starts a task; everyone else joins it. The task belongs to nobody: it goes
//! on when the first reader leaves, and stores what it got for the next. A key leaves the list of
//! running fills only once its entry can be found in the store, so between the two there is no gap
//! in which a second fetch could start.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;
use tuyun_protocol::ImagePath;

use super::absent::Absent;
use super::change::Change;
use super::freshness::Verdict;
use super::key::{Key, Scope};
use super::record::{Head, Moment, Record};
use super::source::{FetchError, Fetched, Source};
use super::spool::{Reader, Spool};
use super::store::Store;
use crate::traffic::Counters;

mod keep;

/// Fetches at once. A home line is full with a dozen; a fast one with slow origins may want a
/// hundred; and a thousand would only share out the same bandwidth in smaller shreds.
const AT_ONCE: usize = 256;

/// How long a fetch may wait for its turn. Beyond that the visitor is better told to come back.
const TURN: Duration = Duration::from_secs(10);

/// How far a fill has come.
#[derive(Clone, Debug)]
pub(super) enum Stage {
    /// The origin is being asked.
    Asking,
    /// A picture comes; read along.
    Coming(Arc<Coming>),
    /// The store has it: look there.
    Settled,
    /// The origin has no such picture.
    Absent,
    /// No answer.
    Failed(Arc<FetchError>),
}

/// A picture that comes.
#[derive(Debug)]
pub struct Coming {
    /// What the origin said.
    pub head: Head,
    /// Its length, if known.
    pub length: Option<u64>,
    /// Whether it is being stored.
    pub kept: bool,
}

/// A place among those who wait for a fill.
pub(super) struct Ticket {
    stage: watch::Receiver<Stage>,
    /// Reads along from the first byte.
    pub reader: Reader,
    /// Somebody else had started it.
    pub collapsed: bool,
}

impl Ticket {
    /// Waits until it is clear what comes.
    pub(super) async fn outcome(&mut self) -> Stage {
        let clear = self
            .stage
            .wait_for(|stage| !matches!(stage, Stage::Asking))
            .await;
        match clear {
            Ok(stage) => stage.clone(),
            Err(_) => Stage::Failed(Arc::new(FetchError::GivenUp)),
        }
    }
}

struct Fill {
    stage: watch::Sender<Stage>,
    spool: Arc<Spool>,
    doomed: Arc<AtomicBool>,
}

impl Fill {
    /// The very response that this record stands for came by this fill, which is about to end:
    /// whoever finds it too old has to ask again, not to read it once more.
    fn has_brought(&self, held: &Record) -> bool {
        matches!(&*self.stage.borrow(), Stage::Coming(coming) if coming.head == held.head)
    }
}

/// All fills that run.
pub(super) struct Fills<S> {
    source: S,
    store: Arc<Store>,
    absent: Arc<Absent>,
    counters: Arc<Counters>,
    running: Mutex<HashMap<Key, Arc<Fill>>>,
    tasks: TaskTracker,
    turns: Semaphore,
    ailing: AtomicBool,
}

impl<S: Source> Fills<S> {
    /// None yet.
    pub(super) fn new(
        source: S,
        store: Arc<Store>,
        absent: Arc<Absent>,
        counters: Arc<Counters>,
    ) -> Self {
        Self {
            source,
            store,
            absent,
            counters,
            running: Mutex::default(),
            tasks: TaskTracker::new(),
            turns: Semaphore::new(AT_ONCE),
            ailing: AtomicBool::new(false),
        }
    }

    /// Joins the fill of a key, or starts it. `held` is the version to ask about.
    pub(super) fn join(
        self: &Arc<Self>,
        path: &ImagePath,
        key: &Key,
        held: Option<Arc<Record>>,
    ) -> Ticket {
        let mut running = self.running.lock();
        if let Some(fill) = running.get(key)
            && !held.as_ref().is_some_and(|held| fill.has_brought(held))
            && let Some(reader) = fill.spool.attach()
        {
            return Ticket {
                stage: fill.stage.subscribe(),
                reader,
                collapsed: true,
            };
        }
        let fill = Arc::new(Fill {
            stage: watch::Sender::new(Stage::Asking),
            spool: Spool::new(),
            doomed: Arc::new(AtomicBool::new(false)),
        });
        let reader = fill
            .spool
            .attach()
            .expect("nothing has passed of a spool just made");
        let stage = fill.stage.subscribe();
        running.insert(key.clone(), Arc::clone(&fill));
        drop(running);
        let work = Work {
            fills: Arc::clone(self),
            fill,
            key: key.clone(),
        };
        let path = path.clone();
        self.tasks.spawn(async move { work.run(&path, held).await });
        Ticket {
            stage,
            reader,
            collapsed: false,
        }
    }

    /// What is on its way is not to be stored: it was asked for before this purge. Call it before
    /// the store is purged.
    pub(super) fn doom(&self, scope: &Scope) {
        self.running.lock().retain(|key, fill| {
            let meant = scope.covers(key.as_str());
            if meant {
                fill.doomed.store(true, Ordering::Release);
            }
            !meant
        });
    }

    /// The last fetch failed: those who have something stale to show need not wait for the next.
    #[must_use]
    pub(super) fn ailing(&self) -> bool {
        self.ailing.load(Ordering::Relaxed)
    }

    /// How many run.
    #[must_use]
    pub(super) fn running(&self) -> usize {
        self.running.lock().len()
    }

    /// Waits for the fills that run. No more may be started.
    pub(super) async fn drain(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// One fill at work. Dropped, however it ended, it leaves nobody waiting.
struct Work<S: Source> {
    fills: Arc<Fills<S>>,
    fill: Arc<Fill>,
    key: Key,
}

impl<S: Source> Work<S> {
    async fn run(&self, path: &ImagePath, held: Option<Arc<Record>>) {
        let held = match self.look_again(held).await {
            Ok(held) => held,
            Err(AlreadyThere) => return self.tell(Stage::Settled),
        };
        // Held to the end of the body.
        let turn = timeout(TURN, self.fills.turns.acquire()).await;
        let fetched = match &turn {
            Ok(Ok(_)) => {
                self.fills
                    .source
                    .fetch(path, held.as_deref().map(|held| &held.head))
                    .await
            }
            Ok(Err(_)) => Err(FetchError::GivenUp),
            Err(_) => Err(FetchError::Busy),
        };
        self.fills.ailing.store(fetched.is_err(), Ordering::Relaxed);
        match fetched {
            Ok(Fetched::Picture(incoming)) => keep::keep(self, incoming, held.as_deref()).await,
            Ok(Fetched::Unchanged(head)) => {
                if let Some(held) = held {
                    self.renew(&held, head).await;
                }
                self.tell(Stage::Settled);
            }
            Ok(Fetched::Absent) => {
                self.drop_held(held.as_deref()).await;
                if !self.fill.doomed.load(Ordering::Acquire) {
                    self.fills.absent.learn(&self.key, Moment::now());
                }
                self.tell(Stage::Absent);
            }
            Err(error) => {
                tracing::warn!(
                    path = path.as_str(),
                    error = &error as &dyn std::error::Error,
                    "a picture could not be fetched"
                );
                self.tell(Stage::Failed(Arc::new(error)));
            }
        }
    }

    /// Between the reader's look and our start another fill may have ended. Looks at the body, too:
    /// a damaged entry is none.
    async fn look_again(
        &self,
        held: Option<Arc<Record>>,
    ) -> Result<Option<Arc<Record>>, AlreadyThere> {
        let now = Moment::now();
        let Some(found) = self.fills.store.lookup(&self.key, now).await else {
            return Ok(None);
        };
        let same = held.is_some_and(|held| held.head == found.record.head);
        if !same && self.fills.store.judge(&found.record.head, now) == Verdict::Fresh {
            return Err(AlreadyThere);
        }
        Ok(Some(found.record))
    }

    async fn renew(&self, held: &Record, head: Head) {
        let change = Change::Renew {
            key: self.key.clone(),
            body: held.body,
            head,
        };
        if let Err(error) = self.fills.store.commit(change).await {
            // The entry stays stale and is asked about again.
            self.fills.store.not_kept(&error);
        }
    }

    async fn drop_held(&self, held: Option<&Record>) {
        if let Some(held) = held {
            let change = Change::Remove {
                key: self.key.clone(),
                body: held.body,
            };
            if let Err(error) = self.fills.store.commit(change).await {
                self.fills.store.not_kept(&error);
            }
        }
    }

    /// The last word: whoever comes from now on starts anew.
    fn tell(&self, stage: Stage) {
        self.unlist();
        self.fill.stage.send_replace(stage);
    }

    /// Nobody may join any more.
    fn unlist(&self) {
        let mut running = self.fills.running.lock();
        if running
            .get(&self.key)
            .is_some_and(|fill| Arc::ptr_eq(fill, &self.fill))
        {
            running.remove(&self.key);
        }
    }
}

impl<S: Source> Drop for Work<S> {
    fn drop(&mut self) {
        self.unlist();
        self.fill.spool.cut();
        self.fill.stage.send_if_modified(|stage| {
            let asking = matches!(stage, Stage::Asking);
            if asking {
                *stage = Stage::Failed(Arc::new(FetchError::GivenUp));
            }
            asking
        });
    }
}

struct AlreadyThere;

#[cfg(test)]
mod tests;
