//! What the controllers measure, in the registry behind `/metrics`.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64};
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use tmc_runtime::ClusterKey;

/// Which Cluster; there are as many as are registered.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ClusterLabels {
    workspace: String,
    namespace: String,
    cluster: String,
}

/// Which controller, by its queue.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct QueueLabels {
    name: &'static str,
}

/// Measurements of the controllers.
pub struct Metrics {
    credential_ends: Family<ClusterLabels, Gauge<i64, AtomicI64>>,
    passes: Family<QueueLabels, Histogram, fn() -> Histogram>,
    retries: Family<QueueLabels, Counter<u64, AtomicU64>>,
}

impl Metrics {
    /// Registers the metrics.
    pub fn new(registry: &Arc<Mutex<Registry>>) -> Self {
        let metrics = Self {
            credential_ends: Family::default(),
            // From 0.1 ms to 13 s, each half as long again: a p99 is known to that.
            passes: Family::new_with_constructor(|| {
                Histogram::new(exponential_buckets(0.0001, 1.5, 30))
            }),
            retries: Family::default(),
        };
        let mut registry = registry.lock();
        registry.register(
            "tmc_cluster_credential_expiry_timestamp_seconds",
            "When the registered credential of a Cluster ends, in seconds since 1970",
            metrics.credential_ends.clone(),
        );
        registry.register(
            "workqueue_work_duration_seconds",
            "How long a pass of a controller takes, by its queue",
            metrics.passes.clone(),
        );
        registry.register(
            "workqueue_retries",
            "Passes of a controller that failed and are tried again, by its queue",
            metrics.retries.clone(),
        );
        drop(registry);
        metrics
    }
}

impl tmc_controllers::metrics::Metrics for Metrics {
    fn credential_expires(&self, cluster: &ClusterKey, at: Option<Timestamp>) {
        let labels = ClusterLabels {
            workspace: cluster.cluster.to_string(),
            namespace: cluster.namespace.clone(),
            cluster: cluster.name.clone(),
        };
        match at {
            Some(at) => {
                self.credential_ends
                    .get_or_create(&labels)
                    .set(at.as_second());
            }
            None => {
                self.credential_ends.remove(&labels);
            }
        }
    }

    fn reconciled(&self, controller: &'static str, took: Duration, failed: bool) {
        let labels = QueueLabels { name: controller };
        self.passes
            .get_or_create(&labels)
            .observe(took.as_secs_f64());
        if failed {
            self.retries.get_or_create(&labels).inc();
        }
    }
}

#[cfg(test)]
mod tests {
    use tmc_apimachinery::ClusterName;
    use tmc_controllers::metrics::Metrics as _;

    use super::*;

    fn text(registry: &Arc<Mutex<Registry>>) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry.lock()).unwrap();
        text
    }

    #[test]
    fn passes_are_counted_by_controller_and_failures_beside() {
        let registry = Arc::default();
        let metrics = Metrics::new(&registry);
        metrics.reconciled("placement", Duration::from_millis(3), false);
        metrics.reconciled("placement", Duration::from_secs(60), true);
        let text = text(&registry);
        for line in [
            r#"workqueue_work_duration_seconds_count{name="placement"} 2"#,
            r#"workqueue_work_duration_seconds_bucket{le="+Inf",name="placement"} 2"#,
            r#"workqueue_retries_total{name="placement"} 1"#,
        ] {
            assert!(text.contains(line), "{text}");
        }
    }

    #[test]
    fn an_end_is_shown_while_the_cluster_is_there() {
        let registry = Arc::default();
        let metrics = Metrics::new(&registry);
        let key = ClusterKey::new(&ClusterName::new("c"), "default", "east");
        let text = || text(&registry);
        metrics.credential_expires(&key, Some(Timestamp::from_second(2_000_000_000).unwrap()));
        let line = r#"tmc_cluster_credential_expiry_timestamp_seconds{workspace="c",namespace="default",cluster="east"} 2000000000"#;
        assert!(text().contains(line), "{}", text());
        metrics.credential_expires(&key, None);
        assert!(!text().contains("east"), "{}", text());
    }
}
