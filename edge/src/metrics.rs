//! What a monitor sees, in one table. The manual prints it from here.

use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric as _};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

use crate::cache::{Answer, How, Store};
use crate::traffic::Counters;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Result {
    result: &'static str,
}

/// Answers by how they came about.
#[derive(Clone, Debug)]
pub(crate) struct Answers {
    all: Family<Result, Counter>,
    /// One of them, found once: it is counted far more often than the others.
    hits: Counter,
}

impl Default for Answers {
    fn default() -> Self {
        let all = Family::<Result, Counter>::default();
        let hits = all.get_or_create(&Result { result: "hit" }).clone();
        Self { all, hits }
    }
}

impl Answers {
    /// One more that was held and fresh.
    pub(crate) fn hit(&self) {
        self.hits.inc();
    }

    /// One more.
    pub(crate) fn count(&self, answer: &Answer) {
        let result = match answer {
            Answer::Stored { how, .. } | Answer::Coming { how, .. } => match how {
                How::Hit => "hit",
                How::Miss => "miss",
                How::Revalidated => "revalidated",
                How::Expired => "expired",
                How::Stale => "stale",
            },
            Answer::Absent { .. } => "absent",
            Answer::Failed(_) => "failed",
        };
        self.all.get_or_create(&Result { result }).inc();
    }
}

/// All metrics of an edge.
pub(crate) fn registry(answers: &Answers, counters: Arc<Counters>, store: Arc<Store>) -> Registry {
    let mut registry = Registry::with_prefix("tuyun_edge");
    registry.register(
        "answers",
        "Requests for pictures, by result",
        answers.all.clone(),
    );
    registry.register_collector(Box::new(Figures { counters, store }));
    registry
}

struct Figures {
    counters: Arc<Counters>,
    store: Arc<Store>,
}

impl std::fmt::Debug for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Figures").finish_non_exhaustive()
    }
}

impl Collector for Figures {
    fn encode(
        &self,
        mut encoder: DescriptorEncoder<'_>,
    ) -> std::result::Result<(), std::fmt::Error> {
        let seen = self.counters.read();
        let index = self.store.index();
        let counters = [
            ("sent", "Bytes sent to visitors", seen.traffic_out),
            ("fetched", "Bytes fetched from the origin", seen.traffic_in),
        ];
        for (name, help, value) in counters {
            let counter = ConstCounter::new(value);
            counter.encode(encoder.encode_descriptor(
                name,
                help,
                Some(&Unit::Bytes),
                prometheus_client::metrics::MetricType::Counter,
            )?)?;
        }
        let gauges = [
            (
                "cache",
                "Bytes of pictures on disk",
                Some(&Unit::Bytes),
                index.bytes(),
            ),
            (
                "cache_limit",
                "Bytes of pictures that may be on disk",
                Some(&Unit::Bytes),
                self.store.budget().max_bytes,
            ),
            (
                "memory",
                "Bytes of pictures in memory",
                Some(&Unit::Bytes),
                self.store.memory_bytes(),
            ),
            ("entries", "Pictures on disk", None, index.entries()),
            (
                "storing",
                "Whether pictures can be stored",
                None,
                u64::from(self.store.keeps()),
            ),
        ];
        for (name, help, unit, value) in gauges {
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            gauge.encode(encoder.encode_descriptor(
                name,
                help,
                unit,
                prometheus_client::metrics::MetricType::Gauge,
            )?)?;
        }
        Ok(())
    }
}
