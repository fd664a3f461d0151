//! Silence when the service asks for it: one gate for each host behind one token.
//!
//! Requests during `Retry-After` count against the budget and lengthen the block (section 9.1,
//! trap T34), so a gate holds all of them, not only the one that was refused. Where the service
//! tells that its budget runs low, work that nobody waits for is spread over what is left of it.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use lru::LruCache;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::lanes::Rank;

/// The first silence after a refusal that does not say for how long (section 9.1: 1 to 2 seconds,
/// doubled each time).
const UNSAID: Duration = Duration::from_secs(2);

/// The longest of these.
const UNSAID_MOST: Duration = Duration::from_mins(5);

/// The longest silence that is believed: the documentation speaks of an hour at most.
const LONGEST: Duration = Duration::from_hours(1);

/// From this share of the budget on it is spread: the service tells it from 80 % of use on.
const LOW: u64 = 5;

/// Hosts that are kept apart: a drive has one for uploads and a few for downloads.
const HOSTS: NonZeroUsize = NonZeroUsize::new(64).expect("not zero");

/// Open, or closed until a moment.
pub(super) struct Gate(Mutex<State>);

struct State {
    closed_until: Option<Instant>,
    /// Refusals in a row that did not say for how long.
    unsaid: u32,
    /// Time between two requests that nobody waits for, and until when.
    spread: Option<(Duration, Instant)>,
    /// When the next of these may go.
    next: Instant,
}

/// What is left of a budget, as a reply tells it (section 9.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Budget {
    pub(super) limit: u64,
    pub(super) remaining: u64,
    pub(super) reset: Duration,
}

impl Gate {
    pub(super) fn new() -> Self {
        Self(Mutex::new(State {
            closed_until: None,
            unsaid: 0,
            spread: None,
            next: Instant::now(),
        }))
    }

    /// Closes the gate for as long as the service said, or for longer each time when it says
    /// nothing; a longer silence that is under way stays. Returns for how long.
    pub(super) fn close(&self, said: Option<Duration>) -> Duration {
        let mut state = self.0.lock();
        let now = Instant::now();
        let silence = said.unwrap_or_else(|| {
            // Those that were under way together are one refusal.
            if state.closed_until.is_none_or(|until| until <= now) {
                state.unsaid += 1;
            }
            unsaid(state.unsaid).mul_f64(1.0 - 0.25 * rand::random::<f64>())
        });
        let silence = silence.min(LONGEST);
        let until = now + silence;
        if state.closed_until.is_none_or(|held| held < until) {
            state.closed_until = Some(until);
        }
        silence
    }

    /// A request was served: what comes now is not the same trouble.
    pub(super) fn served(&self, budget: Option<Budget>) {
        let mut state = self.0.lock();
        state.unsaid = 0;
        let Some(budget) = budget else { return };
        let until = Instant::now() + budget.reset.min(LONGEST);
        if budget.remaining == 0 {
            state.closed_until = state.closed_until.max(Some(until));
        }
        let low = budget.remaining.saturating_mul(LOW) <= budget.limit;
        let left = u32::try_from(budget.remaining.max(1)).unwrap_or(u32::MAX);
        state.spread = low.then(|| (budget.reset / left, until));
    }

    /// How long the gate stays closed.
    pub(super) fn closed_for(&self) -> Option<Duration> {
        let until = self.0.lock().closed_until?;
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

    /// Waits for one's turn while the budget runs low; programs need not.
    pub(super) async fn turn(&self, rank: Rank, patience: Duration) -> Result<(), Duration> {
        let wait = {
            let mut state = self.0.lock();
            let now = Instant::now();
            let Some((spacing, _)) = state.spread.filter(|(_, until)| *until > now) else {
                return Ok(());
            };
            if rank == Rank::Program {
                return Ok(());
            }
            let at = state.next.max(now);
            let wait = at - now;
            if wait > patience {
                return Err(wait);
            }
            state.next = at + spacing;
            wait
        };
        tokio::time::sleep(wait).await;
        Ok(())
    }
}

/// Doubles from one refusal to the next.
fn unsaid(times: u32) -> Duration {
    UNSAID
        .saturating_mul(1 << times.saturating_sub(1).min(10))
        .min(UNSAID_MOST)
}

/// The gates of all hosts.
pub(super) struct Gates(Mutex<LruCache<Box<str>, Arc<Gate>>>);

impl Gates {
    pub(super) fn new() -> Self {
        Self(Mutex::new(LruCache::new(HOSTS)))
    }

    /// The longest time that any of them stays closed.
    pub(super) fn closed_for(&self) -> Option<Duration> {
        let gates = self.0.lock();
        gates.iter().filter_map(|(_, gate)| gate.closed_for()).max()
    }

    /// The gate of a URL's host.
    pub(super) fn of(&self, url: &str) -> Arc<Gate> {
        let host = host(url);
        let mut gates = self.0.lock();
        if let Some(gate) = gates.get(host) {
            return Arc::clone(gate);
        }
        let gate = Arc::new(Gate::new());
        gates.put(host.into(), Arc::clone(&gate));
        gate
    }
}

/// Host and port of a URL.
fn host(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split(['/', '?', '#']).next().unwrap_or(rest)
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

    const PROGRAM: Rank = Rank::Program;
    const BACKGROUND: Rank = Rank::Background;

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn retry_after_is_read_as_seconds_or_as_a_date() {
        let now = SystemTime::UNIX_EPOCH + seconds(784_111_777);
        assert_eq!(retry_after("12", now), Some(seconds(12)));
        assert_eq!(
            retry_after("Sun, 06 Nov 1994 08:49:47 GMT", now),
            Some(seconds(10))
        );
        assert_eq!(retry_after("soon", now), None);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_passes_a_closed_gate_before_its_time() {
        let gate = Gate::new();
        gate.close(Some(seconds(30)));
        gate.close(Some(seconds(5)));
        let start = Instant::now();
        gate.pass(seconds(30)).await.unwrap();
        assert!(start.elapsed() >= seconds(30));
        assert_eq!(gate.closed_for(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_less_patience_than_the_gate_is_told_at_once() {
        let gate = Gate::new();
        gate.close(Some(seconds(30)));
        let start = Instant::now();
        let left = gate.pass(seconds(29)).await.unwrap_err();
        assert!(left > seconds(29));
        assert!(start.elapsed() < seconds(1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_silence_beyond_an_hour_is_not_believed() {
        let gate = Gate::new();
        gate.close(Some(Duration::from_hours(1_000_000)));
        assert!(gate.closed_for().unwrap() <= LONGEST);
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_that_says_no_time_is_waited_for_longer_each_time() {
        let gate = Gate::new();
        let mut last = Duration::ZERO;
        for _ in 0..20 {
            let silence = gate.close(None);
            gate.close(None); // of one that was under way at the same time
            let grown = last.is_zero() || silence > last || silence > UNSAID_MOST.mul_f64(0.74);
            assert!(grown, "{silence:?} after {last:?}");
            assert!(silence <= UNSAID_MOST);
            last = silence;
            gate.pass(UNSAID_MOST).await.unwrap();
        }
        assert!(last > Duration::from_mins(3));
        gate.served(None);
        assert!(gate.close(None) <= UNSAID);
    }

    #[tokio::test(start_paused = true)]
    async fn a_low_budget_is_spread_over_what_nobody_waits_for() {
        let gate = Gate::new();
        let budget = |remaining| Budget {
            limit: 1200,
            remaining,
            reset: seconds(60),
        };
        gate.served(Some(budget(1000)));
        let start = Instant::now();
        for _ in 0..10 {
            gate.turn(BACKGROUND, seconds(20)).await.unwrap();
        }
        assert_eq!(start.elapsed(), Duration::ZERO, "there is plenty");
        gate.served(Some(budget(30)));
        for _ in 0..6 {
            gate.turn(BACKGROUND, seconds(20)).await.unwrap();
            gate.turn(PROGRAM, seconds(20)).await.unwrap();
        }
        assert_eq!(start.elapsed(), seconds(10));
        gate.served(Some(budget(0)));
        assert_eq!(gate.closed_for(), Some(seconds(60)));
    }

    #[test]
    fn each_host_has_a_gate_of_its_own() {
        let gates = Gates::new();
        gates
            .of("https://graph.test/v1.0/me")
            .close(Some(seconds(9)));
        assert!(gates.of("https://graph.test/v1.0/x").closed_for().is_some());
        assert!(gates.of("https://graph.test:444/x").closed_for().is_none());
        assert!(gates.of("https://storage.test?x=/").closed_for().is_none());
    }
}
