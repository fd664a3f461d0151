//! Silence when the service asks for it: one gate for everything behind one token.
//!
//! Requests during `Retry-After` count against the budget and lengthen the block (section 9.1,
//! trap T34), so the gate holds all of them, not only the one that was refused.

use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::time::Instant;

/// When the service says 429 without saying for how long: what it usually asks for at least.
pub(super) const UNSAID: Duration = Duration::from_secs(15);

/// The longest silence that is believed: the documentation speaks of an hour at most.
const LONGEST: Duration = Duration::from_hours(1);

/// Open, or closed until a moment.
pub(super) struct Gate(watch::Sender<Option<Instant>>);

impl Gate {
    pub(super) fn new() -> Self {
        Self(watch::Sender::new(None))
    }

    /// Closes the gate for this long; a longer silence that is under way stays.
    pub(super) fn close(&self, silence: Duration) {
        let until = Instant::now() + silence.min(LONGEST);
        self.0.send_if_modified(|held| {
            let longer = held.is_none_or(|now| now < until);
            if longer {
                *held = Some(until);
            }
            longer
        });
    }

    /// How long the gate stays closed.
    pub(super) fn closed_for(&self) -> Option<Duration> {
        let until = (*self.0.borrow())?;
        until
            .checked_duration_since(Instant::now())
            .filter(|left| !left.is_zero())
    }

    /// Waits until the gate is open, unless that takes longer than `patience`: then says at once
    /// how long it would take. The gate may be closed anew while somebody waits.
    pub(super) async fn pass(&self, patience: Duration) -> Result<(), Duration> {
        let until = Instant::now() + patience;
        while let Some(left) = self.closed_for() {
            if Instant::now() + left > until {
                return Err(left);
            }
            tokio::time::sleep(left).await;
        }
        Ok(())
    }
}

/// `Retry-After` in seconds or as a date (section 9.1).
pub(super) fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let at = httpdate::parse_http_date(value).ok()?;
    Some(at.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_read_as_seconds_or_as_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        assert_eq!(retry_after("12", now), Some(Duration::from_secs(12)));
        assert_eq!(
            retry_after("Sun, 06 Nov 1994 08:49:47 GMT", now),
            Some(Duration::from_secs(10))
        );
        assert_eq!(retry_after("soon", now), None);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_passes_a_closed_gate_before_its_time() {
        let gate = Gate::new();
        gate.close(Duration::from_secs(30));
        gate.close(Duration::from_secs(5));
        let start = Instant::now();
        gate.pass(Duration::from_secs(30)).await.unwrap();
        assert!(start.elapsed() >= Duration::from_secs(30));
        assert_eq!(gate.closed_for(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_less_patience_than_the_gate_is_told_at_once() {
        let gate = Gate::new();
        gate.close(Duration::from_secs(30));
        let start = Instant::now();
        let left = gate.pass(Duration::from_secs(29)).await.unwrap_err();
        assert!(left > Duration::from_secs(29));
        assert!(start.elapsed() < Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_silence_beyond_an_hour_is_not_believed() {
        let gate = Gate::new();
        gate.close(Duration::from_hours(1_000_000));
        assert!(gate.closed_for().unwrap() <= LONGEST);
    }
}
