//! The task that sends.
//!
//! It asks the planner what may run, runs that side by side, and brings each reply into the tree
//! before the next step on the same node. What fails waits a little longer each time; when the
//! drive as a whole cannot be reached, everything waits. Nothing is ever dropped: what the drive
//! refuses for good is parked, with its reason, for a person to see.

use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::ledger::Ledger;
use super::plan::{Holds, Step, Subject, plan};
use super::settle::{Outcome, Settle};
use super::unwritten::Unwritten;
use crate::content::store::Store;
use crate::ports::Drive;
use crate::tree::{ItemId, NodeId};

/// How the outbox goes about its work.
#[derive(Clone, Debug)]
pub struct OutboxConfig {
    /// Quiet time before an upload starts.
    pub settle: Duration,
    /// Steps side by side.
    pub uploads: usize,
    /// How long to go on after a stop while there is progress.
    pub grace: Duration,
    /// A change of metadata makes a version on this drive (business and libraries, trap T17).
    pub drive_has_versions: bool,
}

/// First wait after a failure; doubled each time.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// Longest wait after failures: an hour offline is noticed within a minute of its end.
const LONGEST_WAIT: Duration = Duration::from_mins(1);

/// Between two plans that only news have asked for: closes by the thousand must not make as many plans, and
/// nobody sees a picture get to the drive so much later.
const CALM: Duration = Duration::from_millis(10);

/// How long a failure counts after its wait: whatever is to be tried again is tried long before.
const FORGOTTEN: Duration = Duration::from_mins(10);

/// The longest silence that is kept, whatever is asked for: the documentation speaks of an hour at
/// most (`graph-api.md` 9.1).
const LONGEST_SILENCE: Duration = Duration::from_hours(1);

/// How long a locked item is left alone: somebody has it open in Office (`graph-api.md` 8.2).
const LOCKED_WAIT: Duration = Duration::from_mins(2);

/// What is said while the drive has no room.
const FULL: &str = "the drive is full: uploads wait, and are kept here; deletions and renames go on. \
    Make room on the drive, or get more";

/// How long a full drive, or a dead sign-in, is left alone before the next look.
const PERSON_WAIT: Duration = Duration::from_secs(30);

/// The task that sends, and what it knows of failures.
pub struct Outbox {
    settle: Settle,
    config: OutboxConfig,
    holds: Mutex<HoldTable>,
    /// The disk is short of room: nothing waits to be quiet.
    hurried: AtomicBool,
}

#[derive(Default)]
struct HoldTable {
    /// Steps under way, and what they work on.
    running: usize,
    busy: HashSet<Subject>,
    failed: HashMap<Subject, Failure>,
    pause: Option<Pause>,
    pauses: u32,
    /// The drive is full: until when nothing that takes space is sent.
    full: Option<SystemTime>,
}

struct Failure {
    times: u32,
    until: SystemTime,
}

/// When to plan again, unless something happens before.
#[derive(Default)]
struct Next {
    at: Option<SystemTime>,
    /// Also once the journal has got further.
    for_disk: bool,
}

/// Why nothing is sent at present.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pause {
    /// What the drive said.
    pub why: String,
    /// When it is asked again.
    pub until: SystemTime,
}

/// What holds steps back: what is known of failures, and the disk.
struct AllHolds<'a> {
    table: &'a HoldTable,
    unwritten: &'a Unwritten,
    /// Something waits for the disk alone.
    for_disk: Cell<bool>,
}

impl Holds for AllHolds<'_> {
    fn busy(&self, subject: &Subject) -> bool {
        let unwritten = self.unwritten.has(subject);
        self.for_disk.set(self.for_disk.get() || unwritten);
        unwritten || self.table.busy.contains(subject)
    }

    fn entering(&self, folder: &ItemId) -> bool {
        let into = |subject: &Subject| matches!(subject, Subject::Name(dir, _) if dir == folder);
        self.table.busy.iter().any(into)
    }

    fn until(&self, subject: &Subject) -> Option<SystemTime> {
        self.table.until(subject)
    }

    fn full_until(&self) -> Option<SystemTime> {
        self.table.full
    }
}

impl Outbox {
    /// An outbox of a ledger's tree, to a drive.
    #[must_use]
    pub fn new(
        ledger: Arc<Ledger>,
        store: Arc<Store>,
        drive: Arc<dyn Drive>,
        config: OutboxConfig,
    ) -> Self {
        Self {
            settle: Settle {
                ledger,
                store,
                drive,
                drive_has_versions: config.drive_has_versions,
            },
            config,
            holds: Mutex::default(),
            hurried: AtomicBool::new(false),
        }
    }

    /// Why nothing is sent at present, or nothing that takes space, if so.
    #[must_use]
    pub fn paused(&self) -> Option<Pause> {
        let now = SystemTime::now();
        let holds = self.holds.lock();
        let pause = holds.pause.clone().filter(|pause| pause.until > now);
        // Also while it is tried again: that it is full is over once something was taken.
        pause.or_else(|| {
            holds.full.map(|until| Pause {
                why: FULL.to_owned(),
                until,
            })
        })
    }

    /// How many steps are under way.
    #[must_use]
    pub fn sending(&self) -> usize {
        self.holds.lock().running
    }

    /// Whether nothing is left to send but what is parked.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        let books = self.settle.ledger.books();
        books.tree.pending().all(|node| node.parked.is_some())
            && books
                .tree
                .graves()
                .all(|grave| grave.parked.is_some() || !books.tree.is_owed(grave))
    }

    /// Lets parked steps and waiting failures run again: all, or what is parked at a path. Returns how
    /// many were parked.
    pub fn retry(&self, path: Option<&str>) -> usize {
        if path.is_none() {
            let mut holds = self.holds.lock();
            holds.failed.clear();
            (holds.pause, holds.full) = (None, None);
        }
        let freed = self.settle.unpark(path, SystemTime::now());
        self.settle.ledger.wake.notify_one();
        freed
    }

    /// Whether what is pending goes at once, and does not wait until its file has been quiet.
    pub fn hurry(&self, hurried: bool) {
        if self.hurried.swap(hurried, Ordering::AcqRel) != hurried {
            self.settle.ledger.wake.notify_one();
        }
    }

    /// Ends the wait for a drive that could not be asked: it can be again.
    pub fn resume(&self) {
        {
            let mut holds = self.holds.lock();
            (holds.pause, holds.pauses) = (None, 0);
        }
        self.settle.ledger.wake.notify_one();
    }

    /// Sends until `stop`, then for `grace` what can still be sent.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut running: JoinSet<(Step, Outcome)> = JoinSet::new();
        let mut deadline = None;
        let mut durable = self.settle.ledger.journal().durable();
        loop {
            if stop.is_cancelled() && deadline.is_none() {
                deadline = Some(tokio::time::Instant::now() + self.config.grace);
            }
            let planned = tokio::time::Instant::now();
            let next = self.start_steps(&mut running);
            if deadline.is_some() && running.is_empty() {
                // What waits for the disk goes on in a moment, unless the disk refuses.
                let done = if next.for_disk {
                    next.at.is_none() && self.settle.ledger.journal().failing().is_some()
                } else {
                    self.is_drained() || self.stuck()
                };
                if done {
                    return;
                }
            }
            let sleep = next.at.map_or(LONGEST_WAIT, |at| {
                at.duration_since(SystemTime::now()).unwrap_or_default()
            });
            tokio::select! {
                () = stop.cancelled(), if deadline.is_none() => {}
                () = until(deadline) => {
                    running.abort_all();
                    while running.join_next().await.is_some() {}
                    self.none_runs();
                    tracing::info!("stopped with changes unsent; they are journaled and go on at the next start");
                    return;
                }
                Some(done) = running.join_next() => self.finish(done),
                () = self.woken(planned) => {}
                () = Self::written(&mut durable, planned), if next.for_disk => {}
                () = tokio::time::sleep(sleep) => {}
            }
        }
    }

    /// Waits until there may be something new to send, and a moment longer where the last plan is young.
    /// Whatever else ends the wait, the next plan finds what this was woken by.
    async fn woken(&self, planned: tokio::time::Instant) {
        self.settle.ledger.wake.notified().await;
        tokio::time::sleep_until(planned + CALM).await;
    }

    /// The same until the journal has got further, which it does a thousand times a second at most.
    async fn written(durable: &mut watch::Receiver<u64>, planned: tokio::time::Instant) {
        if durable.changed().await.is_err() {
            // The committer has ended: nothing gets further.
            std::future::pending::<()>().await;
        }
        tokio::time::sleep_until(planned + CALM).await;
    }

    /// Forgets which steps are under way: they have ended, somehow.
    fn none_runs(&self) {
        self.settle.ledger.books().tree.all_ended();
        let mut holds = self.holds.lock();
        holds.busy.clear();
        holds.running = 0;
    }

    fn stuck(&self) -> bool {
        let books = self.settle.ledger.books();
        let root = books.tree.node(NodeId::ROOT);
        let rootless = root.is_some_and(|root| root.withheld.is_some());
        drop(books);
        let now = SystemTime::now();
        let waits = |failure: &Failure| failure.until > now;
        rootless || self.paused().is_some() || self.holds.lock().failed.values().any(waits)
    }

    fn start_steps(self: &Arc<Self>, running: &mut JoinSet<(Step, Outcome)>) -> Next {
        let now = SystemTime::now();
        let room = self.config.uploads.saturating_sub(running.len());
        let mut books = self.settle.ledger.books();
        books.unwritten.forget_written();
        let mut holds = self.holds.lock();
        if let Some(pause) = &holds.pause {
            if pause.until > now {
                return Next {
                    at: Some(pause.until),
                    for_disk: false,
                };
            }
            holds.pause = None;
        }
        if room == 0 {
            return Next::default();
        }
        holds.forget(now);
        let hurried = self.hurried.load(Ordering::Acquire);
        let settle = if hurried {
            Duration::ZERO
        } else {
            self.config.settle
        };
        let all_holds = AllHolds {
            table: &holds,
            unwritten: &books.unwritten,
            for_disk: Cell::new(false),
        };
        let plan = plan(
            &books.tree,
            &all_holds,
            settle,
            self.config.drive_has_versions,
            room,
            now,
        );
        let for_disk = all_holds.for_disk.get();
        drop(books);
        for step in plan.steps {
            holds.busy.extend(step.subjects());
            holds.running += 1;
            let this = Arc::clone(self);
            running.spawn(async move {
                let outcome = this.settle.perform(&step).await;
                (step, outcome)
            });
        }
        Next {
            at: plan.wake,
            for_disk,
        }
    }

    fn finish(&self, done: Result<(Step, Outcome), tokio::task::JoinError>) {
        let (step, outcome) = match done {
            Ok(done) => done,
            Err(error) => {
                // The step that panicked is unknown here: give all of them free, and slowly.
                tracing::error!(%error, "a step of the outbox panicked");
                self.none_runs();
                self.holds.lock().pause("a step panicked".into(), None);
                return;
            }
        };
        tracing::debug!(?step, ?outcome, "sent a step");
        let mut holds = self.holds.lock();
        holds.running = holds.running.saturating_sub(1);
        for subject in step.subjects() {
            holds.busy.remove(&subject);
        }
        let subject = step.subject();
        match outcome {
            Outcome::Done => {
                if step.takes_space() {
                    holds.full = None;
                }
                holds.failed.remove(&subject);
                (holds.pause, holds.pauses) = (None, 0);
            }
            Outcome::Again => holds.fail(subject, None),
            Outcome::Later(wait) => holds.fail(subject, Some(wait)),
            Outcome::Locked => holds.fail(subject, Some(LOCKED_WAIT)),
            Outcome::Parked => {
                holds.failed.remove(&subject);
            }
            Outcome::Pause { why, after } => holds.pause(why, after),
            Outcome::Person { why } => holds.pause(why, Some(PERSON_WAIT)),
            Outcome::Full => holds.is_full(),
        }
    }
}

impl HoldTable {
    fn until(&self, subject: &Subject) -> Option<SystemTime> {
        self.failed.get(subject).map(|failure| failure.until)
    }

    fn fail(&mut self, subject: Subject, wait: Option<Duration>) {
        let failure = self.failed.entry(subject).or_insert(Failure {
            times: 0,
            until: SystemTime::now(),
        });
        let wait = wait.unwrap_or_else(|| backoff(failure.times));
        failure.times += 1;
        failure.until = SystemTime::now() + wait;
    }

    /// Forgets failures of what nobody has tried again since it could be: it was deleted, or is done.
    fn forget(&mut self, now: SystemTime) {
        self.failed
            .retain(|_, failure| failure.until + FORGOTTEN > now);
    }

    fn is_full(&mut self) {
        if self.full.is_none() {
            tracing::warn!("{FULL}");
        }
        self.full = Some(SystemTime::now() + PERSON_WAIT);
    }

    fn pause(&mut self, why: String, after: Option<Duration>) {
        let wait = after.unwrap_or_else(|| backoff(self.pauses));
        let wait = wait.min(LONGEST_SILENCE);
        if self.pauses == 0 {
            tracing::warn!(
                why,
                wait_s = wait.as_secs(),
                "nothing can be sent at present; changes are kept"
            );
        }
        self.pauses += 1;
        self.pause = Some(Pause {
            why,
            until: SystemTime::now() + wait,
        });
    }
}

async fn until(deadline: Option<tokio::time::Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Doubles from a second to a minute, with up to a quarter taken off at random, so that several
/// steps that failed together do not come back together.
fn backoff(times: u32) -> Duration {
    let whole = FIRST_WAIT
        .saturating_mul(1 << times.min(6))
        .min(LONGEST_WAIT);
    whole.mul_f64(1.0 - 0.25 * rand::random::<f64>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_of_what_is_gone_is_forgotten_in_the_end() {
        let mut holds = HoldTable::default();
        holds.fail(Subject::Node(NodeId(7)), None);
        let until = holds.until(&Subject::Node(NodeId(7))).expect("it waits");
        holds.forget(until + FORGOTTEN / 2);
        assert_eq!(holds.failed.len(), 1, "tried again, it waits longer");
        holds.forget(until + FORGOTTEN);
        assert!(holds.failed.is_empty());
    }

    #[test]
    fn a_silence_of_ages_is_kept_for_an_hour() {
        let mut holds = HoldTable::default();
        holds.pause("throttled".into(), Some(Duration::MAX));
        let until = holds.pause.expect("it waits").until;
        assert!(until <= SystemTime::now() + LONGEST_SILENCE);
    }
}
