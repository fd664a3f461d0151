//! How many visitors were sent on in each of the last seconds.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;

/// Seconds that are kept: what a plot shows.
const SECONDS: usize = 60;

/// Redirects by second.
#[derive(Debug, Default)]
pub struct Pulse(Mutex<Beats>);

#[derive(Debug, Default)]
struct Beats {
    total: u64,
    seconds: VecDeque<u64>,
}

impl Pulse {
    /// Redirects in each of the last seconds, the oldest first.
    #[must_use]
    pub fn seconds(&self) -> Vec<u64> {
        self.0.lock().seconds.iter().copied().collect()
    }

    /// A second has passed, and so many were sent on in all.
    fn beat(&self, total: u64) {
        let mut beats = self.0.lock();
        let new = total.saturating_sub(beats.total);
        beats.total = total;
        if beats.seconds.len() == SECONDS {
            beats.seconds.pop_front();
        }
        beats.seconds.push_back(new);
    }

    /// Counts until `stop`.
    pub async fn run(self: Arc<Self>, metrics: Arc<Metrics>, stop: CancellationToken) {
        let mut clock = tokio::time::interval(Duration::from_secs(1));
        clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        while stop.run_until_cancelled(clock.tick()).await.is_some() {
            self.beat(metrics.to_node.get() + metrics.to_origin.get());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_second_has_its_own_and_a_minute_is_kept() {
        let pulse = Pulse::default();
        for total in [3, 3, 10] {
            pulse.beat(total);
        }
        assert_eq!(pulse.seconds(), [3, 0, 7]);
        for total in 11..100 {
            pulse.beat(total);
        }
        assert_eq!(pulse.seconds(), [1; SECONDS]);
    }
}
