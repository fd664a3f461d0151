//! Asks nodes for their figures: what they have served, how busy they are, and what the last days were.
//!
//! One jump of the fleet asks and tells the others. Of originals, which have no health call, this is
//! the only sign whether they live: any answer but a 5xx is one.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::Deserialize;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tuyun_protocol::{Base, NodeId};

use super::{Asker, Finding};
use crate::keeper::Keeper;
use crate::roster::{Day, Kind, Sighting};

/// Originals are asked no oftener than this, whatever is set.
pub const ORIGINALS: Duration = Duration::from_secs(30);

/// The days are asked for at each so manieth time: they change slowly.
const DAYS_EACH: u64 = 10;

/// Days that are kept, and the longest date.
const MOST_DAYS: usize = 14;
const DATE: usize = 10;

/// Nodes asked at once.
const AT_ONCE: usize = 16;

/// How soon a node is asked that has just come.
const FIRST: Duration = Duration::from_secs(2);

/// How often is looked whose time has come.
const LOOK: Duration = Duration::from_millis(500);

/// Asks for figures.
pub struct Figures {
    asker: Asker,
    period: Duration,
}

/// What `/_api/status` says, as far as it matters.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Status {
    get: u64,
    hits: Option<u64>,
    traffic_in: u64,
    traffic_out: u64,
}

impl Figures {
    /// Prepares asking each `period`; zero: never.
    #[must_use]
    pub fn new(asker: Asker, period: Duration) -> Self {
        Self { asker, period }
    }

    /// Asks until `stop`.
    pub async fn run(&self, keeper: &Arc<Keeper>, stop: CancellationToken) {
        if self.period.is_zero() {
            return;
        }
        let work = async {
            let mut due: HashMap<NodeId, Instant> = HashMap::new();
            let mut asked = 0_u64;
            let mut running = JoinSet::new();
            loop {
                let now = Instant::now();
                let roster = Arc::clone(&keeper.roster());
                due.retain(|id, _| roster.nodes().iter().any(|node| node.lease.id == *id));
                for node in roster.nodes().iter().filter(|node| now < node.until) {
                    let period = self.period_of(node.lease.kind);
                    // Soon, so that a page shows something, and not all jumps at once.
                    let first = || now + (period / 4).min(FIRST).mul_f64(rand::random());
                    let at = due.entry(node.lease.id.clone()).or_insert_with(first);
                    if *at > now || running.len() >= AT_ONCE {
                        continue;
                    }
                    *at = now + period.mul_f64(1.0 + rand::random::<f64>() / 10.0);
                    asked += 1;
                    let job = Job {
                        asker: self.asker.clone(),
                        keeper: Arc::clone(keeper),
                        id: node.lease.id.clone(),
                        url: node.lease.url.clone(),
                        kind: node.lease.kind,
                        life: period,
                        before: node.sighting.clone(),
                        days: asked % DAYS_EACH == 1,
                    };
                    running.spawn(job.run());
                }
                tokio::select! {
                    () = tokio::time::sleep(LOOK.min(self.period / 2)) => {}
                    Some(_) = running.join_next() => {}
                }
            }
        };
        stop.run_until_cancelled(work).await;
    }

    fn period_of(&self, kind: Kind) -> Duration {
        match kind {
            Kind::Tuyun => self.period,
            Kind::Original => self.period.max(ORIGINALS),
        }
    }
}

/// One node's turn.
struct Job {
    asker: Asker,
    keeper: Arc<Keeper>,
    id: NodeId,
    url: Base,
    kind: Kind,
    life: Duration,
    before: Option<Arc<Sighting>>,
    days: bool,
}

impl Job {
    async fn run(self) {
        // A little less than the period: the one who asked last is the next in time again.
        if !self.keeper.turn(&self.id, self.life.mul_f64(0.95)).await {
            return;
        }
        let found = self.asker.ask(&self.url, "_api/status").await;
        let before = self
            .before
            .as_deref()
            .filter(|seen| seen.url == self.url.as_str());
        let (well, status) = match &found {
            Finding::Private => return,
            Finding::Missed => (false, None),
            Finding::Answer(status, body) if status.is_success() => {
                (true, serde_json::from_slice::<Status>(body).ok())
            }
            // An original that knows no such call lives as well.
            Finding::Answer(status, _) => (
                !status.is_server_error() && self.kind == Kind::Original,
                None,
            ),
        };
        let no_days = before.is_none_or(|seen| seen.days.is_empty());
        let days = if well && status.is_some() && (self.days || no_days) {
            let found = self.asker.ask(&self.url, "_api/traffic").await;
            Some(days_of(&found))
        } else {
            None
        };
        let seen = sighting(&self.url, before, well, status, days, now_millis());
        self.keeper.saw(&self.id, seen).await;
    }
}

/// What was seen, with what is still known from before.
fn sighting(
    url: &Base,
    before: Option<&Sighting>,
    well: bool,
    status: Option<Status>,
    days: Option<Vec<Day>>,
    at: u64,
) -> Sighting {
    let mut seen = before.cloned().unwrap_or_default();
    let elapsed = at.saturating_sub(seen.at);
    let known = seen.at > 0;
    seen.url = url.to_string();
    // Two jumps' clocks may differ; news is news all the same.
    seen.at = at.max(seen.at + 1);
    seen.well = well;
    seen.rate = 0;
    if let Some(status) = status {
        // Smaller than before: it has started anew.
        let sent = status.traffic_out.checked_sub(seen.traffic_out);
        if let (true, Some(sent)) = (known && elapsed > 0, sent) {
            seen.rate = sent.saturating_mul(1000) / elapsed;
        }
        seen.get = status.get;
        seen.hits = status.hits;
        seen.traffic_in = status.traffic_in;
        seen.traffic_out = status.traffic_out;
    }
    if let Some(days) = days {
        seen.days = days;
    }
    seen
}

/// The days in an answer, as far as they can be shown.
fn days_of(found: &Finding) -> Vec<Day> {
    let Finding::Answer(status, body) = found else {
        return Vec::new();
    };
    if !status.is_success() {
        return Vec::new();
    }
    let days: Vec<Day> = serde_json::from_slice(body).unwrap_or_default();
    let is_date = |day: &Day| {
        day.date.len() == DATE
            && day
                .date
                .bytes()
                .all(|byte| byte.is_ascii_digit() || byte == b'-')
    };
    days.into_iter().filter(is_date).take(MOST_DAYS).collect()
}

fn now_millis() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use reqwest::StatusCode;

    use super::*;

    fn url() -> Base {
        Base::parse("https://a.example/").unwrap()
    }

    fn says(traffic_out: u64) -> Status {
        Status {
            traffic_out,
            ..Status::default()
        }
    }

    #[test]
    fn the_rate_is_what_was_sent_between_two_looks() {
        let first = sighting(&url(), None, true, Some(says(1_000_000)), None, 10_000);
        assert_eq!(first.rate, 0, "since when is not known");
        let second = sighting(
            &url(),
            Some(&first),
            true,
            Some(says(1_500_000)),
            None,
            15_000,
        );
        assert_eq!(second.rate, 100_000);
        let restarted = sighting(&url(), Some(&second), true, Some(says(100)), None, 20_000);
        assert_eq!((restarted.rate, restarted.traffic_out), (0, 100));
        let earlier = sighting(&url(), Some(&second), false, None, None, 1_000);
        assert!(earlier.at > second.at, "a clock that lags hides no news");
        assert_eq!(earlier.traffic_out, 1_500_000, "what was known is kept");
    }

    #[test]
    fn only_days_that_can_be_shown_are_kept() {
        let answer = |text: &str| days_of(&Finding::Answer(StatusCode::OK, text.into()));
        let days = answer(
            r#"[{"date":"2026-11-27","traffic_out":5,"traffic_in":1,"more":[]},
                {"date":"<script>a</script>"},{"date":"2026-11-2x"}]"#,
        );
        assert_eq!((days.len(), days[0].traffic_out), (1, 5));
        assert!(answer("{}").is_empty() && answer("<html>").is_empty());
        assert!(days_of(&Finding::Missed).is_empty());
    }
}
