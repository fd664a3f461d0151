//! Is a node dead, as far as those can tell who ask it?
//!
//! Two misses in a row are a death: one packet lost on a home line is none. The first answer after a
//! death brings the node back, unless it keeps dying: each death makes the next return slower, so that
//! visitors are not thrown to and fro by a line that comes and goes. Old deaths are forgiven.

use std::time::{Duration, Instant};

/// Misses in a row that are a death.
const FAILURES: u8 = 2;

/// After this time a death counts half: a line that was quiet for an hour has a clean slate.
const HALF_LIFE: Duration = Duration::from_mins(5);

/// Answers in a row that are asked of the worst: two minutes of probes each four seconds.
const MOST_ANSWERS: u32 = 32;

/// What probes have found so far.
#[derive(Clone, Debug, PartialEq)]
pub struct Watch {
    failures: u8,
    /// Answers in a row since the death, while dead.
    answers: u32,
    dead: bool,
    /// Deaths, faded with time.
    deaths: f32,
    faded: Option<Instant>,
}

impl Default for Watch {
    fn default() -> Self {
        Self {
            failures: 0,
            answers: 0,
            dead: false,
            deaths: 0.0,
            faded: None,
        }
    }
}

impl Watch {
    /// The node did not answer, or not well.
    pub fn missed(&mut self, now: Instant) {
        self.answers = 0;
        self.failures = self.failures.saturating_add(1);
        if !self.dead && self.failures >= FAILURES {
            self.fade(now);
            self.deaths += 1.0;
            self.dead = true;
        }
    }

    /// The node answered.
    pub fn reached(&mut self, now: Instant) {
        self.failures = 0;
        if !self.dead {
            return;
        }
        self.answers += 1;
        self.fade(now);
        if self.answers >= self.needed() {
            self.dead = false;
            self.answers = 0;
        }
    }

    /// Whether visitors had better go elsewhere.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.dead
    }

    /// Whether the last probe failed and the next decides: no reason to wait long for it.
    #[must_use]
    pub fn is_in_doubt(&self) -> bool {
        !self.dead && self.failures > 0
    }

    /// Answers in a row that end a death: 1, then 2, 4, 8, … for one that dies again and again.
    #[must_use]
    pub fn needed(&self) -> u32 {
        let again = self.deaths - 1.0;
        if again < 0.5 {
            return 1;
        }
        let doubled = again.round().min(6.0).exp2();
        // From 2 to 64: it fits, and has no sign.
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "bounded above"
        )]
        let needed = doubled as u32;
        needed.min(MOST_ANSWERS)
    }

    fn fade(&mut self, now: Instant) {
        if let Some(then) = self.faded {
            let halves =
                now.saturating_duration_since(then).as_secs_f32() / HALF_LIFE.as_secs_f32();
            self.deaths *= (-halves).exp2();
        }
        self.faded = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROBE: Duration = Duration::from_secs(4);

    /// Answers that bring a dead node back from `now` on.
    fn return_of(watch: &mut Watch, now: &mut Instant) -> u32 {
        let mut answers = 0;
        while watch.is_dead() {
            *now += PROBE;
            watch.reached(*now);
            answers += 1;
        }
        answers
    }

    fn death_of(watch: &mut Watch, now: &mut Instant) {
        for _ in 0..FAILURES {
            *now += PROBE;
            watch.missed(*now);
        }
        assert!(watch.is_dead());
    }

    #[test]
    fn one_miss_is_a_doubt_and_two_are_a_death() {
        let now = Instant::now();
        let mut watch = Watch::default();
        watch.missed(now);
        assert!(watch.is_in_doubt() && !watch.is_dead());
        watch.reached(now);
        watch.missed(now);
        assert!(!watch.is_dead());
        watch.missed(now);
        assert!(watch.is_dead());
    }

    #[test]
    fn the_first_answer_ends_the_first_death() {
        let (mut watch, mut now) = (Watch::default(), Instant::now());
        death_of(&mut watch, &mut now);
        assert_eq!(return_of(&mut watch, &mut now), 1);
    }

    #[test]
    fn a_node_that_keeps_dying_returns_more_and_more_slowly_up_to_a_bound() {
        let (mut watch, mut now) = (Watch::default(), Instant::now());
        let returns: Vec<u32> = (0..12)
            .map(|_| {
                death_of(&mut watch, &mut now);
                return_of(&mut watch, &mut now)
            })
            .collect();
        assert_eq!(returns[..3], [1, 2, 4]);
        assert!(returns.iter().all(|answers| *answers <= MOST_ANSWERS));
        assert!(returns[11] >= 8, "{returns:?}");
    }

    #[test]
    fn an_hour_of_health_forgives_all() {
        let (mut watch, mut now) = (Watch::default(), Instant::now());
        for _ in 0..5 {
            death_of(&mut watch, &mut now);
            return_of(&mut watch, &mut now);
        }
        now += Duration::from_hours(1);
        death_of(&mut watch, &mut now);
        assert_eq!(return_of(&mut watch, &mut now), 1);
    }

    #[test]
    fn a_miss_on_the_way_back_starts_the_count_again() {
        let (mut watch, mut now) = (Watch::default(), Instant::now());
        death_of(&mut watch, &mut now);
        return_of(&mut watch, &mut now);
        death_of(&mut watch, &mut now);
        watch.reached(now);
        watch.missed(now);
        watch.reached(now);
        assert!(watch.is_dead(), "two in a row are asked of it");
        watch.reached(now);
        assert!(!watch.is_dead());
    }
}
