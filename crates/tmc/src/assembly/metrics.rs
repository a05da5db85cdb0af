//! What the controllers measure, in the registry behind `/metrics`.

use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use jiff::Timestamp;
use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tmc_runtime::ClusterKey;

/// Which Cluster; there are as many as are registered.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ClusterLabels {
    workspace: String,
    namespace: String,
    cluster: String,
}

/// Measurements of the controllers.
pub struct Metrics {
    credential_ends: Family<ClusterLabels, Gauge<i64, AtomicI64>>,
}

impl Metrics {
    /// Registers the metrics.
    pub fn new(registry: &Arc<Mutex<Registry>>) -> Self {
        let metrics = Self {
            credential_ends: Family::default(),
        };
        registry.lock().register(
            "tmc_cluster_credential_expiry_timestamp_seconds",
            "When the registered credential of a Cluster ends, in seconds since 1970",
            metrics.credential_ends.clone(),
        );
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
}

#[cfg(test)]
mod tests {
    use tmc_apimachinery::ClusterName;
    use tmc_controllers::metrics::Metrics as _;

    use super::*;

    #[test]
    fn an_end_is_shown_while_the_cluster_is_there() {
        let registry = Arc::default();
        let metrics = Metrics::new(&registry);
        let key = ClusterKey::new(&ClusterName::new("c"), "default", "east");
        let text = || {
            let mut text = String::new();
            prometheus_client::encoding::text::encode(&mut text, &registry.lock()).unwrap();
            text
        };
        metrics.credential_expires(&key, Some(Timestamp::from_second(2_000_000_000).unwrap()));
        let line = r#"tmc_cluster_credential_expiry_timestamp_seconds{workspace="c",namespace="default",cluster="east"} 2000000000"#;
        assert!(text().contains(line), "{}", text());
        metrics.credential_expires(&key, None);
        assert!(!text().contains("east"), "{}", text());
    }
}
