//! Threads that bring several contents to the disk at once.
//!
//! Barriers that are asked for side by side share one commit of the disk's own journal; one after the other, each new
//! file takes a commit of its own.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::Builder;

use parking_lot::Mutex;

/// How many barriers are under way at once: the writers that a busy host has at one moment.
const HANDS: usize = 8;

type Job = Box<dyn FnOnce() + Send>;

/// The threads. They end with the last of those who have jobs for them.
#[derive(Debug)]
pub(super) struct Crew(Sender<Job>);

impl Crew {
    pub(super) fn start() -> io::Result<Self> {
        let (jobs, wanted) = channel::<Job>();
        let wanted = Arc::new(Mutex::new(wanted));
        for hand in 0..HANDS {
            let wanted: Arc<Mutex<Receiver<Job>>> = wanted.clone();
            let next = move || wanted.lock().recv();
            Builder::new()
                .name(format!("barrier-{hand}"))
                .spawn(move || {
                    while let Ok(job) = next() {
                        job();
                    }
                })?;
        }
        Ok(Self(jobs))
    }

    /// Does something to each, side by side, and waits. What did not work, in their order; one that panics did not.
    pub(super) fn each<T: Copy + PartialEq + Send + 'static>(
        &self,
        all: &[T],
        work: impl Fn(T) -> io::Result<()> + Clone + Send + 'static,
    ) -> Vec<(T, io::Error)> {
        let (done, outcomes) = channel();
        for one in all.iter().copied() {
            let (work, done) = (work.clone(), done.clone());
            let job = move || drop(done.send((one, work(one))));
            let _ = self.0.send(Box::new(job));
        }
        drop(done);
        let mut outcomes: Vec<_> = outcomes.iter().collect();
        let outcome = |one: &T| {
            let at = outcomes.iter().position(|(it, _)| it == one);
            let outcome = at.map(|at| outcomes.swap_remove(at).1);
            let gone = || Err(io::Error::other("the thread that syncs contents is gone"));
            Some((*one, outcome.unwrap_or_else(gone).err()?))
        };
        all.iter().filter_map(outcome).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_did_not_work_is_told_and_nothing_else_and_a_panic_did_not_work() {
        let crew = Crew::start().unwrap();
        let numbers: Vec<u32> = (0..40).collect();
        let failed = crew.each(&numbers, |number| match number {
            7 | 31 => Err(io::Error::other("odd")),
            _ => Ok(()),
        });
        let failed: Vec<_> = failed.iter().map(|(number, _)| *number).collect();
        assert_eq!(failed, [7, 31]);
        let failed = crew.each(&[1, 2], |number| {
            assert!(number != 2, "a panic that is meant");
            Ok(())
        });
        assert_eq!(failed.len(), 1);
        assert_eq!(failed[0].0, 2);
        // One hand is gone; the others go on.
        assert!(crew.each(&numbers, |_| Ok(())).is_empty());
    }
}
