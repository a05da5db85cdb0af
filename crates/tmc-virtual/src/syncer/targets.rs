//! Which SyncTargets there are, and who speaks for them.

use std::sync::Arc;

use serde::Deserialize;
use tmc_api::syncer::SessionConfig;
use tmc_api::time::Span;
use tmc_api::workload::SyncedResource;
use tmc_apimachinery::user::UserInfo;
use tmc_apimachinery::{ClusterName, GroupVersionResource};
use tmc_runtime::ClusterKey;

use super::transform::TargetKeys;

/// Group of Hosted syncers. Set only on requests made inside the hub's process.
pub const GROUP_HOSTED: &str = "system:tmc:hosted-syncers";

/// A SyncTarget's identity: compared exactly, all three.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TargetId {
    /// Logical cluster.
    pub cluster: ClusterName,
    /// Name.
    pub name: String,
    /// Uid.
    pub uid: String,
}

impl TargetId {
    /// The SyncTarget of exactly this identity: `named` gives the one that has the workspace and the
    /// name now, which may be another by its uid.
    pub(super) fn among(
        &self,
        named: impl FnOnce(&ClusterKey) -> Option<Arc<TargetView>>,
    ) -> Option<Arc<TargetView>> {
        let key = ClusterKey::new(&self.cluster, "", &self.name);
        named(&key).filter(|found| found.uid() == self.uid)
    }
}

/// What an accepted path carries to authorization and storage; shared by all requests while the
/// SyncTarget stays as it is.
#[derive(Debug)]
pub(super) struct Domain {
    pub target: TargetId,
    pub keys: TargetKeys,
    /// What is to be synced, sorted, with what every view has.
    pub resources: Vec<GroupVersionResource>,
    /// The version of the SyncTarget that this was made of.
    pub made_of: Arc<TargetView>,
    /// Whether it has been decided what the target syncs.
    pub evaluated: bool,
    /// Time between beats, if the target has one of its own.
    pub interval: Option<std::time::Duration>,
}

/// The parts of a SyncTarget that the workspace reads.
#[derive(Debug, Deserialize)]
pub struct TargetView {
    #[serde(default)]
    metadata: Metadata,
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    #[serde(default)]
    pod_security: Option<String>,
    #[serde(default)]
    syncer_config: SyncerConfig,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SyncerConfig {
    #[serde(default)]
    heartbeat_interval: Option<String>,
    #[serde(default)]
    resync_period: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
struct Metadata {
    #[serde(default)]
    uid: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    #[serde(default)]
    synced_resources: Vec<SyncedResource>,
}

impl TargetView {
    pub(super) fn uid(&self) -> &str {
        &self.metadata.uid
    }

    pub(super) fn synced(&self) -> &[SyncedResource] {
        &self.status.synced_resources
    }

    /// What the target's agent is configured with, apart from its resources. What cannot be read is
    /// left out, and so at the agent's default.
    pub(super) fn config(&self) -> SessionConfig {
        let span = |text: &Option<String>| {
            let span = text.as_deref()?.parse::<Span>().ok()?;
            (!span.is_zero()).then_some(span)
        };
        SessionConfig {
            heartbeat_interval: span(&self.spec.syncer_config.heartbeat_interval),
            resync_period: span(&self.spec.syncer_config.resync_period),
            pod_security: self.spec.pod_security.clone(),
            resources: None,
        }
    }
}

/// The identity of the Hosted syncer of a target, built from its fields and never parsed back.
pub fn hosted_user(target: &TargetId) -> UserInfo {
    let name = format!(
        "system:syncer:{}:{}:{}",
        target.cluster, target.name, target.uid
    );
    UserInfo::new(&name, &[GROUP_HOSTED])
}

/// Whether a user is the Hosted syncer of exactly this target.
pub(super) fn is_hosted(user: &UserInfo, target: &TargetId) -> bool {
    user.in_group(GROUP_HOSTED) && user.name == hosted_user(target).name
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use proptest::prelude::*;

    use super::*;
    use crate::url;

    fn target(cluster: &str, name: &str, uid: &str) -> TargetId {
        TargetId {
            cluster: ClusterName::new(cluster),
            name: name.into(),
            uid: uid.into(),
        }
    }

    #[test]
    fn a_hosted_identity_speaks_for_exactly_its_own_target() {
        let own = target("root", "one", "u1");
        let user = hosted_user(&own);
        assert!(is_hosted(&user, &own));
        for other in [
            target("root", "one", "u"),
            target("root", "one", "u12"),
            target("root", "on", "u1"),
            target("roo", "one", "u1"),
        ] {
            assert!(!is_hosted(&user, &other), "{other:?}");
        }
    }

    #[test]
    fn an_agents_configuration_is_what_can_be_read_of_the_spec() {
        let config = |spec: serde_json::Value| {
            let view: TargetView =
                serde_json::from_value(serde_json::json!({"spec": spec})).expect("a view");
            view.config()
        };
        let all = config(serde_json::json!({"podSecurity": "restricted",
            "syncerConfig": {"mode": "External", "heartbeatInterval": "5s", "resyncPeriod": "1h"}}));
        assert_eq!(all.heartbeat_interval, Some(Span::seconds(5)));
        assert_eq!(all.resync_period, Some(Span::seconds(3600)));
        assert_eq!(all.pod_security.as_deref(), Some("restricted"));
        let odd = config(serde_json::json!({"syncerConfig": {"heartbeatInterval": "0s"}}));
        assert_eq!(odd, SessionConfig::default());
        assert_eq!(config(serde_json::json!({})), SessionConfig::default());
    }

    #[test]
    fn the_name_alone_proves_nothing() {
        let own = target("root", "one", "u1");
        let forged = UserInfo::new(&hosted_user(&own).name, &[]);
        assert!(!is_hosted(&forged, &own));
    }

    /// Targets that are easily taken for one another: the same few letters, which may move from the
    /// end of a part to the start of the next.
    fn alike() -> impl Strategy<Value = Vec<TargetId>> {
        let one = ("(system:)?[ab]{1,2}", "[ab]{1,2}", "[ab]{1,2}")
            .prop_map(|(cluster, name, uid)| target(&cluster, &name, &uid));
        prop::collection::vec(one, 2..16).prop_map(|mut ids| {
            let mut seen = HashSet::new();
            ids.retain(|id| seen.insert(id.clone()));
            ids
        })
    }

    fn view_of(id: &TargetId) -> Arc<TargetView> {
        let object = serde_json::json!({"metadata": {"uid": id.uid}});
        Arc::new(serde_json::from_value(object).expect("a view"))
    }

    /// The target whose view a path leads to, of those that there are.
    fn led_to(path: &str, there: &HashMap<ClusterKey, Arc<TargetView>>) -> Option<TargetId> {
        let url::SyncerPath {
            cluster, name, uid, ..
        } = url::parse("syncer", path)?;
        let id = TargetId { cluster, name, uid };
        id.among(|key| there.get(key).cloned()).map(|_| id)
    }

    proptest! {
        #[test]
        fn a_path_leads_to_the_target_that_it_names_or_nowhere(ids in alike()) {
            let mut names = HashSet::new();
            let named = |id: &TargetId| ClusterKey::new(&id.cluster, "", &id.name);
            // Of several uids only one has the name now.
            let (current, former): (Vec<_>, Vec<_>) =
                ids.into_iter().partition(|id| names.insert(named(id)));
            let there = current.iter().map(|id| (named(id), view_of(id))).collect();
            let path = |id: &TargetId| {
                format!("/services/syncer/{}/{}/{}/clusters/*/api", id.cluster, id.name, id.uid)
            };
            for id in &current {
                prop_assert_eq!(led_to(&path(id), &there), Some(id.clone()));
            }
            for id in &former {
                prop_assert_eq!(led_to(&path(id), &there), None);
            }
        }

        #[test]
        fn a_hosted_syncer_opens_no_view_but_its_own(ids in alike()) {
            for user in &ids {
                for id in &ids {
                    prop_assert_eq!(is_hosted(&hosted_user(user), id), user == id);
                }
            }
        }
    }
}
