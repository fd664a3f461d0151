//! The report as figures, looked up when somebody asks for them.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;
use tuyun_chassis::http::control::Readiness;

use super::report::{Facts, Report};
use crate::graph::PushState;
use crate::graph::Traffic;

/// How old readiness may be: a balancer asks every few seconds.
const LOOK: Duration = Duration::from_secs(2);

/// A registry with all figures of the daemon.
#[must_use]
pub fn registry(facts: Arc<Facts>) -> Registry {
    let mut registry = Registry::with_prefix("tuyunfs");
    registry.register_collector(Box::new(Figures(facts)));
    registry
}

#[derive(Debug)]
struct Figures(Arc<Facts>);

impl Collector for Figures {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let report = self.0.report();
        for (name, help, figure) in figures(&report, SystemTime::now()) {
            let gauge = ConstGauge::new(figure);
            let metric = encoder.encode_descriptor(name, help, None, gauge.metric_type())?;
            gauge.encode(metric)?;
        }
        encode_traffic(&mut encoder, &report.traffic)
    }
}

/// What was asked of the service: counters that only grow.
fn encode_traffic(
    encoder: &mut DescriptorEncoder<'_>,
    traffic: &Traffic,
) -> Result<(), std::fmt::Error> {
    let help = "Requests to the service, by endpoint and by how they went";
    let mut metric = encoder.encode_descriptor(REQUESTS, help, None, MetricType::Counter)?;
    for (endpoint, classes) in &traffic.requests {
        for (class, count) in classes {
            let labels = [("endpoint", endpoint.as_str()), ("status", class.as_str())];
            let family = metric.encode_family(&labels)?;
            ConstCounter::new(*count).encode(family)?;
        }
    }
    for (name, help, count) in counters(traffic) {
        let counter = ConstCounter::new(count);
        let metric = encoder.encode_descriptor(name, help, None, counter.metric_type())?;
        counter.encode(metric)?;
    }
    Ok(())
}

const REQUESTS: &str = "graph_requests";

/// The counters besides; the manual prints this table, too.
fn counters(traffic: &Traffic) -> [(&'static str, &'static str, u64); 4] {
    [
        (
            "graph_retries",
            "Requests that were tried again",
            traffic.retries,
        ),
        (
            "graph_throttled_seconds",
            "Silence that the service asked for",
            traffic.throttled_seconds,
        ),
        (
            "graph_sent_bytes",
            "Bytes of content sent",
            traffic.bytes_up,
        ),
        (
            "graph_received_bytes",
            "Bytes of content received",
            traffic.bytes_down,
        ),
    ]
}

/// A name, what it means, and the figure.
type Figure = (&'static str, &'static str, u64);

/// All figures; the manual prints these tables.
fn figures(report: &Report, now: SystemTime) -> Vec<Figure> {
    let mut figures = of_the_work(report, now);
    figures.extend(of_the_service(report));
    figures
}

/// How the sign-in and the drive's own word of changes stand.
fn of_the_service(report: &Report) -> Vec<Figure> {
    let is = |state: &str| u64::from(report.sign_in.state.name() == state);
    vec![
        (
            "signed_in",
            "1 when there is a sign-in that works, as far as is known",
            is("signed_in"),
        ),
        (
            "sign_in_needed",
            "1 when a person has to sign in",
            is("sign_in_needed"),
        ),
        (
            "sign_in_unreachable",
            "1 when the login authority cannot be reached",
            is("unreachable"),
        ),
        (
            "sign_in_misconfigured",
            "1 when the settings or the app's registration are refused",
            is("misconfigured"),
        ),
        (
            "sign_in_since_seconds",
            "Since when sign-in stands so, in seconds since 1970",
            report.sign_in.since,
        ),
        (
            "sign_in_lasts_until_seconds",
            "When the sign-in ends if it is not used before, in seconds since 1970; 0 when unknown",
            report.sign_in.lasts_until.unwrap_or_default(),
        ),
        (
            "push_connected",
            "1 while the drive tells of changes as they happen",
            (report.push.state == PushState::Connected).into(),
        ),
        (
            "push_notices",
            "How often it has told of something since the start",
            report.push.notices,
        ),
    ]
}

/// What is done, and what is to be done.
fn of_the_work(report: &Report, now: SystemTime) -> Vec<Figure> {
    let local = &report.local;
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let oldest = local
        .oldest_pending
        .map_or(0, |since| now.saturating_sub(since));
    vec![
        (
            "up_since_seconds",
            "When the daemon started, in seconds since 1970",
            report.since,
        ),
        (
            "mounted",
            "1 when the folder is mounted",
            report.mount.is_some().into(),
        ),
        (
            "online",
            "1 when the last look for remote changes reached the drive",
            report.remote.online.into(),
        ),
        (
            "pending_changes",
            "Changes that the drive does not have yet",
            local.pending as u64,
        ),
        (
            "pending_bytes",
            "Bytes that the drive does not have yet",
            local.pending_bytes,
        ),
        (
            "pending_oldest_seconds",
            "Age of the oldest of these changes",
            oldest,
        ),
        (
            "sending",
            "Requests of changes under way",
            local.sending as u64,
        ),
        (
            "parked_changes",
            "Changes that the drive refuses",
            local.parked.len() as u64,
        ),
        (
            "journal_failing",
            "1 when nothing can be made durable",
            local.journal_failing.is_some().into(),
        ),
        (
            "graph_requests_5m",
            "Requests of the last five minutes",
            report.traffic.last_5_minutes,
        ),
        (
            "graph_budget_5m",
            "How many of these the service allows",
            report.traffic.budget_5_minutes,
        ),
        (
            "cached_bytes",
            "Bytes held that the drive has, too",
            local.cached_bytes,
        ),
        (
            "cached_files",
            "Files held that the drive has, too",
            local.cached_files as u64,
        ),
        ("known_nodes", "Files and folders known", local.nodes as u64),
        ("open_files", "Files that are open", local.open_files as u64),
        (
            "drive_free_bytes",
            "Space left on the drive, as far as it tells",
            report.drive.space_free,
        ),
    ]
}

/// Keeps readiness in step with the report until `stop`: mounted, signed in, journal writable.
pub async fn keep_ready(facts: Arc<Facts>, readiness: Readiness, stop: CancellationToken) {
    loop {
        let report = facts.report();
        let needed = report.sign_in.state.to_do();
        let needed = needed.map(|what| format!("{what} (since {})", stamp(report.sign_in.since)));
        for (part, trouble) in [
            ("sign_in", needed),
            ("journal", report.local.journal_failing),
        ] {
            match trouble {
                Some(why) => readiness.down(part, why),
                None => readiness.up(part),
            }
        }
        if stop
            .run_until_cancelled(tokio::time::sleep(LOOK))
            .await
            .is_none()
        {
            return;
        }
    }
}

fn stamp(seconds: u64) -> String {
    let at = i64::try_from(seconds).ok();
    let at = at.and_then(|at| jiff::Timestamp::from_second(at).ok());
    at.unwrap_or_default().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::AuthState;

    #[test]
    fn the_figures_are_those_of_the_report() {
        let mut report = crate::control::report::example();
        report.local.pending = 3;
        report.local.oldest_pending = Some(90);
        let now = UNIX_EPOCH + Duration::from_secs(100);
        let table = figures(&report, now);
        let figure = |name| table.iter().find(|(known, ..)| *known == name).unwrap().2;
        assert_eq!(figure("pending_changes"), 3);
        assert_eq!(figure("pending_oldest_seconds"), 10);
        assert_eq!(
            (figure("mounted"), figure("signed_in"), figure("online")),
            (1, 1, 1)
        );
        assert_eq!((figure("push_connected"), figure("push_notices")), (1, 7));
        assert_eq!(figure("sign_in_since_seconds"), 1_700_000_000);
        assert_eq!(figure("sign_in_lasts_until_seconds"), 1_707_776_000);
        for state in [
            AuthState::SignedIn,
            AuthState::SignInNeeded {
                why: "revoked".into(),
                claims: None,
            },
            AuthState::Unreachable { why: "dns".into() },
            AuthState::Misconfigured {
                why: "secret".into(),
            },
        ] {
            report.sign_in.state = state;
            let table = figures(&report, now);
            let names = [
                "signed_in",
                "sign_in_needed",
                "sign_in_unreachable",
                "sign_in_misconfigured",
            ];
            let set: u64 = names
                .iter()
                .map(|name| table.iter().find(|(known, ..)| known == name).unwrap().2)
                .sum();
            assert_eq!(set, 1, "{:?}", report.sign_in.state);
        }
        let names: std::collections::HashSet<_> = table.iter().map(|(name, ..)| name).collect();
        assert_eq!(names.len(), table.len(), "no name twice");
    }

    #[derive(Debug)]
    struct Only(Traffic);

    impl Collector for Only {
        fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
            encode_traffic(&mut encoder, &self.0)
        }
    }

    #[test]
    fn what_was_asked_of_the_service_is_told_by_endpoint_and_status() {
        let classes = [("2xx".to_owned(), 7), ("429".to_owned(), 1)].into();
        let traffic = Traffic {
            requests: [("item".to_owned(), classes)].into(),
            throttled_seconds: 12,
            ..Traffic::default()
        };
        let mut registry = Registry::with_prefix("tuyunfs");
        registry.register_collector(Box::new(Only(traffic)));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            r#"tuyunfs_graph_requests_total{endpoint="item",status="2xx"} 7"#,
            r#"tuyunfs_graph_requests_total{endpoint="item",status="429"} 1"#,
            "tuyunfs_graph_throttled_seconds_total 12",
        ] {
            assert!(text.lines().any(|told| told == line), "{line}: {text}");
        }
    }
}
