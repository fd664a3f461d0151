//! What was asked of the service, and how it went: the figures behind `status` and the metrics.

use std::collections::BTreeMap;
use std::time::Duration;

use parking_lot::Mutex;
use reqwest::Method;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

/// Requests that one person's sign-in may make in five minutes (section 9.2).
const BUDGET: u64 = 3000;

/// The window of that budget, minute by minute.
const MINUTES: usize = 5;

/// What was asked of the service since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Traffic {
    /// Requests, by endpoint and by how they went: `2xx`, `3xx`, `4xx`, `429`, `5xx`, `lost`.
    pub requests: BTreeMap<String, BTreeMap<String, u64>>,
    /// Requests that were tried again.
    pub retries: u64,
    /// Seconds of silence that the service asked for.
    pub throttled_seconds: u64,
    /// Bytes of content sent.
    pub bytes_up: u64,
    /// Bytes of content received.
    pub bytes_down: u64,
    /// Requests of the last five minutes.
    pub last_5_minutes: u64,
    /// How many of these the service allows.
    pub budget_5_minutes: u64,
}

/// Counts.
pub(super) struct Meter {
    since: Instant,
    counts: Mutex<Counts>,
}

#[derive(Default)]
struct Counts {
    requests: BTreeMap<(&'static str, &'static str), u64>,
    retries: u64,
    throttled: Duration,
    up: u64,
    down: u64,
    /// The minute that the last slot is of, and the counts of the last ones.
    minute: u64,
    window: [u64; MINUTES],
}

impl Counts {
    /// Moves the window on to a minute.
    fn turn(&mut self, minute: u64) {
        let by = usize::try_from(minute.saturating_sub(self.minute)).unwrap_or(MINUTES);
        let by = by.min(MINUTES);
        self.window.rotate_left(by);
        self.window[MINUTES - by..].fill(0);
        self.minute = self.minute.max(minute);
    }
}

impl Meter {
    pub(super) fn new() -> Self {
        Self {
            since: Instant::now(),
            counts: Mutex::default(),
        }
    }

    fn minute(&self) -> u64 {
        self.since.elapsed().as_secs() / 60
    }

    /// A request and its end; `None`: no reply came.
    pub(super) fn request(&self, endpoint: &'static str, status: Option<u16>) {
        let mut counts = self.counts.lock();
        *counts
            .requests
            .entry((endpoint, class(status)))
            .or_default() += 1;
        counts.turn(self.minute());
        counts.window[MINUTES - 1] += 1;
    }

    pub(super) fn retry(&self) {
        self.counts.lock().retries += 1;
    }

    pub(super) fn throttled(&self, silence: Duration) {
        self.counts.lock().throttled += silence;
    }

    pub(super) fn up(&self, bytes: u64) {
        self.counts.lock().up += bytes;
    }

    pub(super) fn down(&self, bytes: u64) {
        self.counts.lock().down += bytes;
    }

    pub(super) fn traffic(&self) -> Traffic {
        let mut counts = self.counts.lock();
        counts.turn(self.minute());
        let mut requests: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
        for ((endpoint, class), count) in &counts.requests {
            let of = requests.entry((*endpoint).to_owned()).or_default();
            of.insert((*class).to_owned(), *count);
        }
        Traffic {
            requests,
            retries: counts.retries,
            throttled_seconds: counts.throttled.as_secs(),
            bytes_up: counts.up,
            bytes_down: counts.down,
            last_5_minutes: counts.window.iter().sum(),
            budget_5_minutes: BUDGET,
        }
    }
}

fn class(status: Option<u16>) -> &'static str {
    match status {
        None => "lost",
        Some(429) => "429",
        Some(..=299) => "2xx",
        Some(300..=399) => "3xx",
        Some(400..=499) => "4xx",
        Some(500..) => "5xx",
    }
}

/// Which operation of Graph's a request is.
pub(super) fn endpoint(method: &Method, url: &str) -> &'static str {
    let path = url.split('?').next().unwrap_or(url);
    let last = path.rsplit('/').next().unwrap_or(path);
    match (method.as_str(), last) {
        ("GET", "children") => "children",
        ("GET", "delta") => "delta",
        ("GET", "content") => "content",
        ("GET", _) if path.contains("/subscriptions/") => "push",
        ("GET", _) if path.contains("/items/") || last == "root" => "item",
        ("GET", _) => "drive",
        ("POST", "children") => "create_folder",
        ("POST", "createUploadSession") => "create_session",
        ("PUT", _) => "upload",
        ("PATCH", _) => "update",
        ("DELETE", _) => "delete",
        _ => "other",
    }
}

/// Which operation of a storage host's a request is.
pub(super) fn storage_endpoint(method: &Method) -> &'static str {
    match method.as_str() {
        "PUT" => "fragment",
        "GET" => "session_status",
        "DELETE" => "session_cancel",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn requests_are_counted_by_endpoint_and_class_and_over_five_minutes() {
        let meter = Meter::new();
        for _ in 0..3 {
            meter.request("item", Some(200));
        }
        meter.request("item", Some(429));
        meter.request("fragment", None);
        let traffic = meter.traffic();
        assert_eq!(traffic.requests["item"]["2xx"], 3);
        assert_eq!(traffic.requests["item"]["429"], 1);
        assert_eq!(traffic.requests["fragment"]["lost"], 1);
        assert_eq!(traffic.last_5_minutes, 5);
        tokio::time::advance(Duration::from_mins(4)).await;
        meter.request("item", Some(503));
        assert_eq!(meter.traffic().last_5_minutes, 6);
        tokio::time::advance(Duration::from_mins(1)).await;
        assert_eq!(meter.traffic().last_5_minutes, 1);
        assert_eq!(meter.traffic().requests["item"]["5xx"], 1);
    }

    #[test]
    fn a_request_is_named_by_what_it_does() {
        let base = "https://graph.test/v1.0/drives/b!1";
        for (method, path, name) in [
            (Method::GET, "/items/1?$select=id", "item"),
            (Method::GET, "/root", "item"),
            (Method::GET, "/root/delta?token=latest", "delta"),
            (Method::GET, "/items/1/children?$top=1", "children"),
            (Method::PUT, "/items/1:/content:/content", "upload"),
            (
                Method::POST,
                "/items/1/createUploadSession",
                "create_session",
            ),
            (Method::PATCH, "/items/1", "update"),
            (Method::GET, "?$select=quota", "drive"),
        ] {
            assert_eq!(endpoint(&method, &format!("{base}{path}")), name);
        }
    }
}
