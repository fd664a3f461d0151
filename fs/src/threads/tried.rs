//! The same as the system's, for a scheduler that decides who goes on at each step.
//!
//! A time limit may be over at any step: no clock runs in here.

use std::ops::{Deref, DerefMut};
use std::time::Duration;

pub(crate) use shuttle::sync::atomic;
pub(crate) use shuttle::thread;

/// A lock that is not poisoned.
#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(shuttle::sync::Mutex<T>);

/// What holds it, and what is held.
pub(crate) struct MutexGuard<'a, T>(
    Option<shuttle::sync::MutexGuard<'a, T>>,
    &'a shuttle::sync::Mutex<T>,
);

/// What is written where a guard lends itself out.
const HELD: &str = "it holds the lock but for the time of a wait";

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(shuttle::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        let held = self.0.lock().expect("a test that panics is over");
        MutexGuard(Some(held), &self.0)
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_deref().expect(HELD)
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.as_deref_mut().expect(HELD)
    }
}

/// A lock for many readers that is not poisoned.
#[derive(Debug, Default)]
pub(crate) struct RwLock<T>(shuttle::sync::RwLock<T>);

impl<T> RwLock<T> {
    pub(crate) fn read(&self) -> shuttle::sync::RwLockReadGuard<'_, T> {
        self.0.read().expect("a test that panics is over")
    }

    pub(crate) fn write(&self) -> shuttle::sync::RwLockWriteGuard<'_, T> {
        self.0.write().expect("a test that panics is over")
    }
}

/// A wait for a change of what a lock guards.
#[derive(Debug, Default)]
pub(crate) struct Condvar(shuttle::sync::Condvar);

/// Its time was over before anybody came.
pub(crate) struct TimedOut(bool);

impl TimedOut {
    pub(crate) fn timed_out(&self) -> bool {
        self.0
    }
}

impl Condvar {
    pub(crate) fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        let held = guard.0.take().expect(HELD);
        guard.0 = Some(self.0.wait(held).expect("a test that panics is over"));
    }

    /// What has come by the next time that this thread gets its turn.
    #[expect(clippy::unused_self, reason = "as the system's")]
    pub(crate) fn wait_for<T>(&self, guard: &mut MutexGuard<'_, T>, _limit: Duration) -> TimedOut {
        let lock = guard.1;
        guard.0 = None;
        shuttle::thread::yield_now();
        guard.0 = Some(lock.lock().expect("a test that panics is over"));
        TimedOut(true)
    }

    pub(crate) fn notify_all(&self) {
        self.0.notify_all();
    }
}

/// Channels.
pub(crate) mod mpsc {
    pub(crate) use shuttle::sync::mpsc::{RecvError, Sender};

    #[derive(Debug)]
    pub(crate) struct Receiver<T>(shuttle::sync::mpsc::Receiver<T>);

    pub(crate) fn channel<T>() -> (Sender<T>, Receiver<T>) {
        let (sender, receiver) = shuttle::sync::mpsc::channel();
        (sender, Receiver(receiver))
    }

    impl<T> Receiver<T> {
        pub(crate) fn recv(&self) -> Result<T, RecvError> {
            self.0.recv()
        }
    }

    /// As the system's: what nobody took goes with the channel.
    impl<T> Drop for Receiver<T> {
        fn drop(&mut self) {
            if !std::thread::panicking() {
                self.0.try_iter().for_each(drop);
            }
        }
    }

    impl<T> IntoIterator for Receiver<T> {
        type Item = T;
        type IntoIter = All<T>;

        fn into_iter(self) -> All<T> {
            All(self)
        }
    }

    /// All that comes.
    pub(crate) struct All<T>(Receiver<T>);

    impl<T> Iterator for All<T> {
        type Item = T;

        fn next(&mut self) -> Option<T> {
            self.0.recv().ok()
        }
    }
}

/// Runs a piece of work in many orders: a few in a test, and as many as
/// `GAUNTLET_ROUNDS` says, from a seed that is printed, in the gauntlet.
#[cfg(test)]
pub(crate) fn in_many_orders(gate: &str, title: &str, work: impl Fn() + Send + Sync + 'static) {
    use shuttle::scheduler::{PctScheduler, RandomScheduler};
    use shuttle::{Config, Runner};
    use std::sync::Arc;

    // Most mistakes show in some ten.
    let long = std::env::var_os("GAUNTLET_ROUNDS").is_some();
    let orders = if long { 150 } else { 40 };
    let mut config = Config::new();
    // redb needs more than the default of 32 KiB.
    config.stack_size = 1 << 20;
    let work = Arc::new(work);
    crate::vfs::tests::gate::run(gate, title, 1, |seed| {
        let (one, other) = (work.clone(), work.clone());
        let random = RandomScheduler::new_from_seed(seed, orders);
        Runner::new(random, config.clone()).run(move || one());
        // A few changes of turn in a run that is otherwise by rank: another kind of order.
        let ranked = PctScheduler::new_from_seed(seed, 3, orders);
        Runner::new(ranked, config.clone()).run(move || other());
        vec![("orders", 2 * orders as u64)]
    });
}
