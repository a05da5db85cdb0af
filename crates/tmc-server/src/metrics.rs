//! Metrics of the server, under Kubernetes' names, with labels that a client cannot multiply.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64};

use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// What a request was, as far as the server understood it before it answered. Texts from outside
/// get in only once they are known to name something that is served.
#[derive(Clone, Debug, Default)]
pub(crate) struct Record {
    pub(crate) surface: &'static str,
    pub(crate) verb: &'static str,
    pub(crate) group: String,
    pub(crate) resource: String,
    pub(crate) user: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RequestLabels {
    surface: &'static str,
    verb: &'static str,
    group: String,
    resource: String,
    code: u16,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct LatencyLabels {
    surface: &'static str,
    verb: &'static str,
    group: String,
    resource: String,
}

/// Seconds; finer than Kubernetes' at the low end, where an embedded hub lives.
const BUCKETS: [f64; 15] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0,
];

/// Counters and histograms of one server.
pub(crate) struct Metrics {
    registry: Arc<Mutex<Registry>>,
    requests: Family<RequestLabels, Counter<u64, AtomicU64>>,
    latency: Family<LatencyLabels, Histogram, fn() -> Histogram>,
    in_flight: Gauge<i64, AtomicI64>,
    watches: Gauge<i64, AtomicI64>,
}

impl Metrics {
    /// Registers the server's metrics with a registry that others may use as well.
    pub(crate) fn new(registry: Arc<Mutex<Registry>>) -> Self {
        let metrics = Self {
            registry,
            requests: Family::default(),
            latency: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
            in_flight: Gauge::default(),
            watches: Gauge::default(),
        };
        {
            let mut registry = metrics.registry.lock();
            registry.register(
                "apiserver_request",
                "Requests answered",
                metrics.requests.clone(),
            );
            registry.register(
                "apiserver_request_duration_seconds",
                "Time to the head of the answer, watches not counted",
                metrics.latency.clone(),
            );
            registry.register(
                "apiserver_current_inflight_requests",
                "Requests being served, watches not counted",
                metrics.in_flight.clone(),
            );
            registry.register("apiserver_watches", "Open watches", metrics.watches.clone());
        }
        metrics
    }

    /// Counts an answer; `seconds` is the time to its head.
    pub(crate) fn observe(&self, record: &Record, code: u16, seconds: f64) {
        let (surface, verb) = (record.surface, record.verb);
        let (group, resource) = (record.group.clone(), record.resource.clone());
        if verb != "watch" {
            let labels = LatencyLabels {
                surface,
                verb,
                group: group.clone(),
                resource: resource.clone(),
            };
            self.latency.get_or_create(&labels).observe(seconds);
        }
        self.requests
            .get_or_create(&RequestLabels {
                surface,
                verb,
                group,
                resource,
                code,
            })
            .inc();
    }

    /// The gauge of open watches.
    pub(crate) fn watches(&self) -> &Gauge<i64, AtomicI64> {
        &self.watches
    }

    /// The gauge of requests being served.
    pub(crate) fn in_flight(&self) -> &Gauge<i64, AtomicI64> {
        &self.in_flight
    }

    /// The text exposition of the whole registry.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry.lock());
        text
    }
}

/// One more while it lives.
pub(crate) struct Counted(Gauge<i64, AtomicI64>);

impl Counted {
    pub(crate) fn new(gauge: &Gauge<i64, AtomicI64>) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// The verb as a label: one of a fixed list.
pub(crate) fn verb_label(verb: &str) -> &'static str {
    const VERBS: [&str; 11] = [
        "get",
        "list",
        "watch",
        "create",
        "update",
        "patch",
        "delete",
        "deletecollection",
        "post",
        "put",
        "head",
    ];
    VERBS
        .into_iter()
        .find(|known| *known == verb)
        .unwrap_or("other")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invented_verb_makes_no_new_series() {
        assert_eq!(verb_label("watch"), "watch");
        assert_eq!(verb_label("brew-coffee"), "other");
    }

    #[test]
    fn an_answer_is_counted_under_its_labels() {
        let metrics = Metrics::new(Arc::default());
        let record = Record {
            surface: "hub",
            verb: "get",
            ..Record::default()
        };
        metrics.observe(&record, 200, 0.001);
        {
            let _open = Counted::new(metrics.watches());
            assert!(metrics.text().contains("apiserver_watches 1"));
        }
        let text = metrics.text();
        assert!(text.contains("apiserver_watches 0"), "{text}");
        let line = "apiserver_request_total{surface=\"hub\",verb=\"get\",group=\"\",resource=\"\",code=\"200\"} 1";
        assert!(text.contains(line), "{text}");
    }
}
