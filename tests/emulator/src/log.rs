//! What was asked, by whom and with what outcome.
//!
//! A request is noted when it arrives and completed when its reply leaves, so that a test can wait
//! for either. Secrets never get in: of login and storage requests only the path is kept.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    time::Instant,
};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::route::Route;

/// The log keeps so many requests; older ones remain in the counts alone.
const KEPT: usize = 100_000;

/// One of the service's three hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Host {
    /// The sign-in.
    Login,
    /// The API.
    Graph,
    /// Uploads in sessions, downloads, copy monitors and notifications.
    Storage,
}

/// One request.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Entry {
    /// Counts from 0 since the start, over resets.
    pub number: u64,
    /// What was asked.
    pub route: Route,
    /// Whom.
    pub host: Host,
    /// The HTTP method.
    pub method: String,
    /// The path, for Graph with its query; without secrets.
    pub path: String,
    /// The status of the reply; none while it is on its way, or when none was sent.
    pub status: Option<u16>,
    /// Whether the request came to its end, with a reply or without.
    pub done: bool,
    /// Milliseconds from the emulator's start to the arrival.
    pub arrived_ms: u64,
    /// Milliseconds from the arrival to the reply.
    pub took_ms: Option<u64>,
    /// A member of a `$batch`.
    pub batched: bool,
    /// The connection it came by; each has its own number.
    pub connection: u64,
    /// The length that the request declared for its body.
    pub sent: Option<u64>,
    /// The seconds of the reply's `Retry-After`.
    pub retry_after: Option<u64>,
    /// The fault that was done to it.
    pub fault: Option<String>,
    /// The client's name for itself.
    pub user_agent: Option<String>,
}

/// The record of all requests.
#[derive(Debug)]
pub(crate) struct Log {
    started: Instant,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    entries: VecDeque<Entry>,
    next: u64,
    /// Where the present counting began.
    reset_at: u64,
    counts: HashMap<Route, Count>,
}

/// Requests of one route since the last reset.
#[derive(Debug, Clone, Copy, Default)]
struct Count {
    arrived: u64,
    done: u64,
}

impl Log {
    pub(crate) fn new() -> Self {
        Self {
            started: Instant::now(),
            inner: Mutex::default(),
        }
    }

    /// Notes an arrival and gives its number.
    pub(crate) fn arrive(&self, mut entry: Entry) -> u64 {
        entry.arrived_ms = self.elapsed();
        let mut inner = self.inner.lock();
        let number = inner.next;
        inner.next += 1;
        entry.number = number;
        if inner.entries.len() == KEPT {
            inner.entries.pop_front();
        }
        inner.counts.entry(entry.route).or_default().arrived += 1;
        inner.entries.push_back(entry);
        number
    }

    /// Completes an entry.
    pub(crate) fn finish(&self, number: u64, complete: impl FnOnce(&mut Entry)) {
        let now = self.elapsed();
        let mut guard = self.inner.lock();
        let inner = &mut *guard;
        let Some(first) = inner.entries.front().map(|entry| entry.number) else {
            return;
        };
        let at = number
            .checked_sub(first)
            .and_then(|at| usize::try_from(at).ok());
        let Some(entry) = at.and_then(|at| inner.entries.get_mut(at)) else {
            return;
        };
        entry.took_ms = Some(now.saturating_sub(entry.arrived_ms));
        entry.done = true;
        complete(entry);
        if number >= inner.reset_at {
            inner.counts.entry(entry.route).or_default().done += 1;
        }
    }

    pub(crate) fn entries(&self) -> Vec<Entry> {
        let inner = self.inner.lock();
        inner
            .entries
            .iter()
            .filter(|entry| entry.number >= inner.reset_at)
            .cloned()
            .collect()
    }

    /// Requests of a route since the last reset.
    pub(crate) fn arrived(&self, route: Route) -> u64 {
        self.inner
            .lock()
            .counts
            .get(&route)
            .map_or(0, |count| count.arrived)
    }

    /// Requests of a route that came to their end since the last reset.
    pub(crate) fn completed(&self, route: Route) -> u64 {
        self.inner
            .lock()
            .counts
            .get(&route)
            .map_or(0, |count| count.done)
    }

    /// All requests since the last reset.
    pub(crate) fn total(&self) -> u64 {
        self.inner
            .lock()
            .counts
            .values()
            .map(|count| count.arrived)
            .sum()
    }

    /// How often each route was asked since the last reset.
    pub(crate) fn counts(&self) -> BTreeMap<Route, u64> {
        let inner = self.inner.lock();
        inner
            .counts
            .iter()
            .map(|(route, count)| (*route, count.arrived))
            .collect()
    }

    pub(crate) fn reset(&self) {
        let mut inner = self.inner.lock();
        inner.reset_at = inner.next;
        inner.counts.clear();
    }

    fn elapsed(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}
