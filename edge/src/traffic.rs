//! How much came in and went out, in all and by day.
//!
//! [`Counters`] are what requests touch: a few atomics. [`Ledger`] is where they end up: a row a day
//! in a small database, written every few seconds and at the end, so that a kill loses little and a
//! restart nothing. Days are those of the machine's time zone, which is the one a home line's
//! traffic is counted in. [`Meter`] closes the node while what it may send is used up.

mod cap;
mod ledger;
mod meter;

use std::sync::atomic::{AtomicU64, Ordering};

pub use self::cap::{Caps, Sent, Span};
pub use self::ledger::{Day, Ledger, LedgerError};
pub use self::meter::Meter;

/// Amounts since some point.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Amounts {
    /// Requests for pictures.
    #[serde(default)]
    pub get: u64,
    /// Bytes sent to visitors.
    #[serde(default)]
    pub traffic_out: u64,
    /// Bytes fetched from the origin.
    #[serde(default)]
    pub traffic_in: u64,
    /// Requests answered without waiting for the origin.
    #[serde(default)]
    pub hits: u64,
}

impl Amounts {
    /// Both together.
    #[must_use]
    pub fn plus(self, more: Self) -> Self {
        Self {
            get: self.get + more.get,
            traffic_out: self.traffic_out + more.traffic_out,
            traffic_in: self.traffic_in + more.traffic_in,
            hits: self.hits + more.hits,
        }
    }

    /// What has been added to `earlier`, which these counters showed before.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            get: self.get - earlier.get,
            traffic_out: self.traffic_out - earlier.traffic_out,
            traffic_in: self.traffic_in - earlier.traffic_in,
            hits: self.hits - earlier.hits,
        }
    }
}

/// Counts since the start; they only grow.
#[derive(Debug, Default)]
pub struct Counters {
    get: AtomicU64,
    traffic_out: AtomicU64,
    traffic_in: AtomicU64,
    hits: AtomicU64,
}

impl Counters {
    /// A request for a picture.
    pub fn asked(&self) {
        self.get.fetch_add(1, Ordering::Relaxed);
    }

    /// It was answered from what is held.
    pub fn hit(&self) {
        self.hits.fetch_add(1, Ordering::Relaxed);
    }

    /// Bytes handed to a visitor's connection.
    pub fn went_out(&self, bytes: u64) {
        self.traffic_out.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bytes from the origin.
    pub fn came_in(&self, bytes: u64) {
        self.traffic_in.fetch_add(bytes, Ordering::Relaxed);
    }

    /// What has been counted.
    #[must_use]
    pub fn read(&self) -> Amounts {
        Amounts {
            get: self.get.load(Ordering::Relaxed),
            traffic_out: self.traffic_out.load(Ordering::Relaxed),
            traffic_in: self.traffic_in.load(Ordering::Relaxed),
            hits: self.hits.load(Ordering::Relaxed),
        }
    }
}
