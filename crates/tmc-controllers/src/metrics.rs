//! What controllers measure; who shows it is somebody else's business.

use std::time::Duration;

use jiff::Timestamp;
use tmc_runtime::ClusterKey;

/// Takes measurements. Called on passes, so it must be cheap.
pub trait Metrics: Send + Sync + 'static {
    /// When the registered credential of a Cluster ends; `None` if it has no end, there is none, or
    /// the Cluster is gone.
    fn credential_expires(&self, cluster: &ClusterKey, at: Option<Timestamp>);

    /// A pass of a controller, by the name of its queue, has ended.
    fn reconciled(&self, controller: &'static str, took: Duration, failed: bool);
}
