//! Waiting for the thing itself, with a deadline, instead of for some time.

use std::future::Future;
use std::time::{Duration, Instant};

/// Longest wait for anything that happens on one machine: far above what a busy one needs, so
/// that only what never happens fails.
pub const DEADLINE: Duration = Duration::from_mins(1);

/// How often is looked: often enough that nobody feels it.
const LOOK: Duration = Duration::from_millis(10);

/// Waits until `look` gives something.
///
/// # Panics
/// It never did; `what` says what was waited for.
pub fn until<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    let seen = within(DEADLINE, look);
    seen.unwrap_or_else(|| panic!("waited {DEADLINE:?} in vain until {what}"))
}

/// The same for so long, for whoever says himself what is wrong when it never came.
pub fn within<T>(limit: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + limit;
    loop {
        if let Some(seen) = look() {
            return Some(seen);
        }
        if Instant::now() >= end {
            return None;
        }
        std::thread::sleep(LOOK);
    }
}

/// Waits until `look` gives something, without holding a thread.
///
/// # Panics
/// It never did; `what` says what was waited for.
pub async fn until_async<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut look: impl FnMut() -> F,
) -> T {
    let end = Instant::now() + DEADLINE;
    loop {
        if let Some(seen) = look().await {
            return seen;
        }
        assert!(
            Instant::now() < end,
            "waited {DEADLINE:?} in vain until {what}"
        );
        tokio::time::sleep(LOOK).await;
    }
}
