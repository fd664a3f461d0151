//! The line in front of the committer.
//!
//! It is woken by what somebody waits for, and by the first of what nobody waits for; what comes after that is
//! found when its time is over. With `durability = "fsync"` that is thousands of changes for one wake-up.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{CommitFailed, Order};
use crate::threads::{Condvar, Mutex};

/// How long a change that nobody waits for may stay out of the database (design 5.1, invariant 1:
/// with `durability = "fsync"` the barrier follows within a second).
const LINGER: Duration = Duration::from_secs(1);

#[derive(Default)]
pub(super) struct Orders {
    line: Mutex<Line>,
    came: Condvar,
}

#[derive(Default)]
struct Line {
    waiting: VecDeque<Order>,
    /// Somebody waits for one of these.
    urgent: bool,
    committer: Committer,
}

/// What the committer would be woken by.
#[derive(Default)]
enum Committer {
    #[default]
    Busy,
    Idle,
    Lingering,
    Gone,
}

impl Orders {
    /// Puts one at the end of the line. Once the committer is gone, it is dropped, and whoever waits for it
    /// is told by that.
    pub(super) fn push(&self, order: Order) {
        let wake = {
            let mut line = self.line.lock();
            if matches!(line.committer, Committer::Gone) {
                return;
            }
            line.urgent |= order.is_urgent();
            line.waiting.push_back(order);
            match line.committer {
                Committer::Idle => true,
                Committer::Lingering => line.urgent,
                Committer::Busy | Committer::Gone => false,
            }
        };
        if wake {
            self.came.notify_all();
        }
    }

    /// Waits until there is something urgent, or for a while once there is anything; then takes all. With a
    /// `limit`, so long at most: for who has work that waits already.
    pub(super) fn gather(&self, limit: Option<Duration>) -> VecDeque<Order> {
        let mut end = limit.map(|limit| Instant::now() + limit);
        let mut line = self.line.lock();
        while !line.urgent {
            match end {
                None if line.waiting.is_empty() => {
                    line.committer = Committer::Idle;
                    self.came.wait(&mut line);
                }
                None => end = Some(Instant::now() + LINGER),
                Some(end) => {
                    line.committer = Committer::Lingering;
                    let left = end.saturating_duration_since(Instant::now());
                    if self.came.wait_for(&mut line, left).timed_out() {
                        break;
                    }
                }
            }
        }
        line.committer = Committer::Busy;
        line.urgent = false;
        std::mem::take(&mut line.waiting)
    }
}

/// The committer's end of the line. When it goes, also in a panic, nobody is left waiting, and no change is
/// taken any more.
pub(super) struct End<'a> {
    orders: &'a Orders,
    failing: Arc<Mutex<Option<CommitFailed>>>,
    expected: bool,
}

impl<'a> End<'a> {
    pub(super) fn new(orders: &'a Orders, failing: Arc<Mutex<Option<CommitFailed>>>) -> Self {
        Self {
            orders,
            failing,
            expected: false,
        }
    }

    /// It was told to stop.
    pub(super) fn expected(&mut self) {
        self.expected = true;
    }
}

impl Drop for End<'_> {
    fn drop(&mut self) {
        if !self.expected {
            tracing::error!("the committer has ended: changes are refused until a restart");
            let why = CommitFailed::other("the committer has ended; restart tuyunfs");
            self.failing.lock().get_or_insert(why);
        }
        let left = {
            let mut line = self.orders.line.lock();
            line.committer = Committer::Gone;
            std::mem::take(&mut line.waiting)
        };
        drop(left);
    }
}
