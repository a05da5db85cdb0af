//! The rules that see every write to the embedded hub.

use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use tmc_admission::{AgentAccess, GuardConfig};
use tmc_apimachinery::admission::Admission;
use tmc_apimachinery::user::{Attributes, Decision, ResourceTarget, Target, UserInfo};
use tmc_apimachinery::{ClusterName, ClusterScope};
use tmc_hub::{Hub, WeakHub};

/// Knows agents by the hub's roles. The hub needs its guards before its first write, so this is
/// connected to the hub afterwards; until then nobody is an agent.
#[derive(Default)]
pub struct LateAccess(OnceLock<WeakHub>);

impl LateAccess {
    /// Connects it to the hub, once.
    pub fn fill(&self, hub: &Hub) {
        // A second hub would be a defect of the assembly; the first one stays.
        let _ = self.0.set(hub.downgrade());
    }
}

/// What is asked of the hub about an agent.
pub fn sync_attributes(user: &UserInfo, cluster: &ClusterName, target: &str) -> Attributes {
    Attributes {
        user: user.clone(),
        cluster: ClusterScope::One(cluster.clone()),
        verb: "sync".into(),
        target: Target::Resource(ResourceTarget {
            group: "workload.kcp.io".into(),
            version: "v1alpha1".into(),
            resource: "synctargets".into(),
            name: target.to_owned(),
            ..ResourceTarget::default()
        }),
    }
}

#[async_trait]
impl AgentAccess for LateAccess {
    async fn may_sync(&self, user: &UserInfo, cluster: &ClusterName, target: &str) -> bool {
        let hub = self.0.get().and_then(WeakHub::upgrade);
        hub.is_some_and(|hub| {
            hub.review_access(&sync_attributes(user, cluster, target)) == Decision::Allow
        })
    }
}

/// The guards of a hub whose URL is `url`.
pub fn guards(agents: Arc<LateAccess>, url: &str) -> Arc<dyn Admission> {
    let host = url
        .parse::<http::Uri>()
        .ok()
        .and_then(|uri| uri.host().map(str::to_owned));
    let host = host.unwrap_or_default();
    let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    let hub_on_loopback = host == "localhost" || address.is_ok_and(|a| a.is_loopback());
    Arc::new(tmc_admission::guards(GuardConfig {
        hub_on_loopback,
        agents,
        ..GuardConfig::default()
    }))
}
