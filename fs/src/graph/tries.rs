//! How often, and for how long, one request is tried.

use std::time::Duration;

use tokio::time::Instant;

/// Tries of one request. With waits of 1, 2, 4 and 8 seconds a hiccup of the service is outlasted;
/// longer troubles are for the outbox, which waits without holding anything.
const TRIES: u32 = 5;

/// No try starts later than this after the first: five tries of a dead line would be minutes.
const BUDGET: Duration = Duration::from_mins(1);

/// The budget of one call.
pub(super) struct Tries {
    so_far: u32,
    until: Instant,
}

impl Tries {
    pub(super) fn new() -> Self {
        Self {
            so_far: 0,
            until: Instant::now() + BUDGET,
        }
    }

    /// Counts a try that failed. True when it was the last.
    pub(super) fn spent(&mut self) -> bool {
        self.so_far += 1;
        self.so_far >= TRIES || Instant::now() >= self.until
    }

    /// 1, 2, 4, 8 seconds, with up to a quarter taken off at random, so that requests that failed
    /// together do not come back together.
    pub(super) fn pause(&self) -> Duration {
        Duration::from_secs(1 << self.so_far.min(5)).mul_f64(1.0 - 0.25 * rand::random::<f64>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn tries_end_by_number_and_by_time() {
        let mut tries = Tries::new();
        assert_eq!(
            (1..=TRIES).position(|_| tries.spent()),
            Some(TRIES as usize - 1)
        );
        let mut tries = Tries::new();
        tokio::time::advance(BUDGET).await;
        assert!(tries.spent());
    }
}
