//! Is it worth asking this base at present?
//!
//! A base that has failed several times in a row is left alone for a while, so that visitors are not
//! kept waiting for what will not come, and backups are asked at once. Then one question is let
//! through; its answer decides for all.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Failures in a row after which a base is left alone. One picture that an origin chokes on must not
/// do it, and a page has a dozen pictures.
const IN_A_ROW: u32 = 5;

/// How long it is left alone at first: a restart takes about as long.
const FIRST_REST: Duration = Duration::from_secs(1);

/// And at the most: how long a visitor may have to wait after the origin is back.
const LONGEST_REST: Duration = Duration::from_secs(30);

/// What is known of a base's health.
#[derive(Debug, Default)]
pub(super) struct Breaker(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    failures: u32,
    /// Until when nobody asks, and how long that rest is.
    rest: Option<(Instant, Duration)>,
    /// One has been let through since.
    trying: bool,
}

impl Breaker {
    /// Whether to ask now; if not, how long to wait. After a rest only one may, until it is known how
    /// it went or another rest has passed.
    pub(super) fn may_ask(&self, now: Instant) -> Result<(), Duration> {
        let mut state = self.0.lock();
        match state.rest {
            Some((until, _)) if now < until => Err(until - now),
            Some((_, rest)) => {
                state.rest = Some((now + rest, rest));
                state.trying = true;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// It answered.
    pub(super) fn worked(&self) {
        *self.0.lock() = State::default();
    }

    /// It did not, and wants to be left alone for so long, if it said so.
    pub(super) fn failed(&self, now: Instant, wish: Option<Duration>) {
        let mut state = self.0.lock();
        state.failures = state.failures.saturating_add(1);
        if state.failures < IN_A_ROW {
            return;
        }
        let rest = match state.rest {
            // They had asked before the rest began, and say nothing new.
            Some(_) if !state.trying => return,
            Some((_, rest)) => (rest * 2).min(LONGEST_REST),
            None => FIRST_REST,
        };
        let rest = wish.unwrap_or_default().clamp(rest, LONGEST_REST);
        state.rest = Some((now + rest, rest));
        state.trying = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn broken(began: Instant) -> Breaker {
        let breaker = Breaker::default();
        for _ in 0..IN_A_ROW {
            assert_eq!(breaker.may_ask(began), Ok(()));
            breaker.failed(began, None);
        }
        breaker
    }

    #[test]
    fn a_base_that_fails_now_and_then_is_asked_always() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        for _ in 0..100 {
            for _ in 1..IN_A_ROW {
                breaker.failed(now, None);
            }
            breaker.worked();
            assert_eq!(breaker.may_ask(now), Ok(()));
        }
    }

    #[test]
    fn after_failures_in_a_row_it_is_left_alone_and_then_asked_once() {
        let now = Instant::now();
        let breaker = broken(now);
        assert_eq!(breaker.may_ask(now), Err(FIRST_REST));
        let later = now + FIRST_REST;
        assert_eq!(breaker.may_ask(later), Ok(()));
        assert!(breaker.may_ask(later).is_err(), "one is enough");
        breaker.worked();
        assert_eq!(breaker.may_ask(later), Ok(()));
        assert_eq!(breaker.may_ask(later), Ok(()));
    }

    #[test]
    fn each_failed_question_doubles_the_rest_up_to_half_a_minute() {
        let mut now = Instant::now();
        let breaker = broken(now);
        for rest in [1, 2, 4, 8, 16, 30, 30] {
            assert_eq!(breaker.may_ask(now), Err(rest * SECOND));
            now += rest * SECOND;
            assert_eq!(breaker.may_ask(now), Ok(()));
            breaker.failed(now, None);
        }
    }

    #[test]
    fn those_who_had_asked_before_do_not_prolong_the_rest() {
        let now = Instant::now();
        let breaker = broken(now);
        for _ in 0..100 {
            breaker.failed(now, None);
        }
        assert_eq!(breaker.may_ask(now), Err(FIRST_REST));
    }

    #[test]
    fn an_origin_may_say_how_long_it_wants_to_be_left_alone() {
        let now = Instant::now();
        let breaker = broken(now);
        let later = now + FIRST_REST;
        assert_eq!(breaker.may_ask(later), Ok(()));
        breaker.failed(later, Some(20 * SECOND));
        assert_eq!(breaker.may_ask(later), Err(20 * SECOND));
    }
}
