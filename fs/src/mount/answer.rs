//! How a request of the kernel's is answered without holding its thread.
//!
//! The future is polled once on the event thread: most operations are ready then, and cost no
//! hop to another thread. One that has to wait moves to the runtime, with the reply in it, and
//! the event thread takes the next request. A panic ends one request with EIO (the reply sends
//! that when it is dropped unanswered), never the mount.
//!
//! The kernel bounds how many there are: each waits in a process of its own, or counts against
//! the background requests that `init` allows.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::task::{Context, Poll, Waker};

use futures_util::FutureExt;
use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

/// Runs what answers requests.
#[derive(Clone)]
pub(super) struct Answers {
    runtime: Handle,
    waiting: TaskTracker,
}

impl Answers {
    pub(super) fn new(runtime: Handle) -> Self {
        Self {
            runtime,
            waiting: TaskTracker::new(),
        }
    }

    /// Runs `work` to its end, here if that is at once, else as a task.
    pub(super) fn run(&self, work: impl Future<Output = ()> + Send + 'static) {
        let _context = self.runtime.enter();
        let mut work = Box::pin(AssertUnwindSafe(work).catch_unwind());
        match work.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(outcome) => report(&outcome),
            // Polled again by the task, with a waker that counts.
            Poll::Pending => drop(self.waiting.spawn(async move { report(&work.await) })),
        }
    }

    /// The requests that are being waited for.
    pub(super) fn waiting(&self) -> &TaskTracker {
        &self.waiting
    }
}

fn report(outcome: &std::thread::Result<()>) {
    if outcome.is_err() {
        tracing::error!("a request panicked and was answered with EIO; please report this");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    #[test]
    fn ready_work_is_done_on_the_event_thread_and_other_work_is_not() {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .unwrap();
        let answers = Answers::new(runtime.handle().clone());
        let (sender, receiver) = mpsc::channel();
        let here = std::thread::current().id();
        let tell = sender.clone();
        answers.run(async move { tell.send(std::thread::current().id()).unwrap() });
        assert_eq!(receiver.try_recv(), Ok(here));
        answers.run(async move {
            tokio::time::sleep(Duration::from_millis(1)).await;
            sender.send(std::thread::current().id()).unwrap();
        });
        assert_ne!(
            receiver.recv_timeout(Duration::from_secs(10)).unwrap(),
            here
        );
    }

    #[test]
    fn a_panic_ends_one_request_only() {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .unwrap();
        let answers = Answers::new(runtime.handle().clone());
        answers.run(async { panic!("at once") });
        answers.run(async {
            tokio::task::yield_now().await;
            panic!("later");
        });
        answers.waiting().close();
        let limit = Duration::from_secs(10);
        let rest = async { tokio::time::timeout(limit, answers.waiting().wait()).await };
        assert!(runtime.block_on(rest).is_ok());
    }
}
