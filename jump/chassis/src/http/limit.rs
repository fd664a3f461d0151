//! So many requests per second and address, no more.
//!
//! Memory is bounded: whoever has not asked within the last second costs nothing once the table is
//! swept, and it is swept whenever it has grown large.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::DashMapStateStore;
use governor::{Quota, RateLimiter};
use http::StatusCode;

use super::{Client, Problem};

/// Addresses held before sweeping is worth it: about 2 MB.
const MANY: usize = 32_768;
/// Requests between two looks at the table's size; the look visits every shard.
const SWEEP_EVERY: u32 = 4_096;

/// Refused; it works again after this time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooMany(pub Duration);

impl From<TooMany> for Problem {
    fn from(TooMany(wait): TooMany) -> Self {
        Self::of(StatusCode::TOO_MANY_REQUESTS, "Too many requests.").retry_after(wait)
    }
}

/// Counts requests by address.
pub struct Limiter<C: Clock = DefaultClock> {
    table: Option<Table<C>>,
    clock: C,
    asked: AtomicU32,
}

type Key = std::net::IpAddr;
type Table<C> = RateLimiter<Key, DashMapStateStore<Key>, C, NoOpMiddleware<<C as Clock>::Instant>>;

impl Limiter {
    /// Allows `per_second` requests a second and address, as many at once; 0 allows all.
    #[must_use]
    pub fn new(per_second: u32) -> Self {
        Self::with_clock(per_second, DefaultClock::default())
    }
}

impl<C: Clock + Clone> Limiter<C> {
    fn with_clock(per_second: u32, clock: C) -> Self {
        let table = NonZeroU32::new(per_second)
            .map(|rate| RateLimiter::dashmap_with_clock(Quota::per_second(rate), clock.clone()));
        Self {
            table,
            clock,
            asked: AtomicU32::new(0),
        }
    }

    /// Counts one request of this client.
    ///
    /// # Errors
    /// When it was one too many.
    pub fn check(&self, client: Client) -> Result<(), TooMany> {
        let Some(table) = &self.table else {
            return Ok(());
        };
        let asked = self.asked.fetch_add(1, Ordering::Relaxed);
        if asked.is_multiple_of(SWEEP_EVERY) && table.len() > MANY {
            table.retain_recent();
            table.shrink_to_fit();
        }
        let refused = |not_until: governor::NotUntil<C::Instant>| {
            TooMany(not_until.wait_time_from(self.clock.now()))
        };
        table.check_key(&client.key()).map_err(refused)
    }
}

#[cfg(test)]
mod tests {
    use governor::clock::FakeRelativeClock;

    use super::*;

    fn client(number: u32) -> Client {
        Client(std::net::Ipv4Addr::from_bits(number).into())
    }

    #[test]
    fn the_limit_is_per_address_and_recovers() {
        let clock = FakeRelativeClock::default();
        let limiter = Limiter::with_clock(2, clock.clone());
        assert_eq!(limiter.check(client(1)), Ok(()));
        assert_eq!(limiter.check(client(1)), Ok(()));
        assert_eq!(
            limiter.check(client(1)),
            Err(TooMany(Duration::from_millis(500)))
        );
        assert_eq!(limiter.check(client(2)), Ok(()));
        clock.advance(Duration::from_millis(500));
        assert_eq!(limiter.check(client(1)), Ok(()));
    }

    #[test]
    fn no_limit_allows_all() {
        let limiter = Limiter::new(0);
        assert!((0..1000).all(|_| limiter.check(client(1)).is_ok()));
    }

    #[test]
    fn memory_stays_bounded_however_many_addresses_ask() {
        let clock = FakeRelativeClock::default();
        let limiter = Limiter::with_clock(30, clock.clone());
        for number in 0..200_000 {
            limiter.check(client(number)).unwrap();
            clock.advance(Duration::from_millis(1));
        }
        let held = limiter.table.as_ref().unwrap().len();
        assert!(
            held <= MANY + SWEEP_EVERY as usize,
            "{held} addresses are held"
        );
    }
}
