//! Which object of the hub is which object of the member.

use serde_json::Value;
use tmc_api::hashes::{self, Locator, SyncTargetLocator};
use tmc_api::keys;
use tmc_apimachinery::ClusterName;
use tmc_apimachinery::meta::meta;
use tmc_runtime::ClusterKey;

/// The SyncTarget that an agent works for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Logical cluster of the SyncTarget.
    pub cluster: ClusterName,
    /// Its name.
    pub name: String,
    /// Its uid: a re-created SyncTarget is another one.
    pub uid: String,
}

impl Target {
    /// The SyncTargetKey.
    pub fn key(&self) -> String {
        hashes::sync_target_key(self.cluster.as_str(), &self.name)
    }

    /// Path of its syncer view on the hub.
    pub fn view_path(&self) -> String {
        format!(
            "/services/syncer/{}/{}/{}",
            self.cluster, self.name, self.uid
        )
    }

    /// The locator of a namespace of the hub (empty for cluster-scoped objects).
    pub fn locator(&self, cluster: &ClusterName, namespace: &str) -> Locator {
        Locator {
            sync_target: SyncTargetLocator {
                cluster: self.cluster.to_string(),
                name: self.name.clone(),
                uid: self.uid.clone(),
            },
            cluster: cluster.to_string(),
            namespace: namespace.to_owned(),
        }
    }

    /// The member's namespace for a namespace of the hub.
    pub fn downstream_namespace(&self, cluster: &ClusterName, namespace: &str) -> String {
        hashes::downstream_namespace(&self.locator(cluster, namespace))
    }

    /// The hub's namespace behind a namespace of the member, if it is one of this target's.
    pub fn upstream_namespace(&self, namespace: &Value) -> Option<(ClusterName, String)> {
        let text = meta(namespace).annotation(keys::NAMESPACE_LOCATOR_ANNOTATION)?;
        let locator = Locator::parse(text).ok()?;
        let cluster = ClusterName::parse(&locator.cluster)?;
        (locator == self.locator(&cluster, &locator.namespace))
            .then_some((cluster, locator.namespace))
    }
}

/// The member's name for an object of the hub: names that a member makes on its own are moved away.
pub fn downstream_name<'a>(resource: &str, name: &'a str) -> &'a str {
    match (resource, name) {
        ("configmaps", "kube-root-ca.crt") => "kcp-root-ca.crt",
        _ => name,
    }
}

/// The hub's name for an object of the member.
pub fn upstream_name<'a>(resource: &str, name: &'a str) -> &'a str {
    match (resource, name) {
        ("configmaps", "kcp-root-ca.crt") => "kube-root-ca.crt",
        _ => name,
    }
}

/// Where an object of the hub is in the member.
pub fn downstream_key(target: &Target, resource: &str, key: &ClusterKey) -> ClusterKey {
    ClusterKey {
        cluster: ClusterName::new(ClusterName::ROOT),
        namespace: target.downstream_namespace(&key.cluster, &key.namespace),
        name: downstream_name(resource, &key.name).to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn target() -> Target {
        Target {
            cluster: ClusterName::new("root"),
            name: "one".into(),
            uid: "u1".into(),
        }
    }

    #[test]
    fn a_namespace_made_for_this_target_leads_back_and_a_strangers_does_not() {
        let user = ClusterName::new("2abc");
        let of = |target: &Target| {
            let locator = target.locator(&user, "shop").to_json();
            json!({"metadata": {"annotations": {"kcp.io/namespace-locator": locator}}})
        };
        assert_eq!(
            target().upstream_namespace(&of(&target())),
            Some((user.clone(), "shop".into()))
        );
        let other = Target {
            uid: "u2".into(),
            ..target()
        };
        assert_eq!(target().upstream_namespace(&of(&other)), None);
        assert_eq!(target().upstream_namespace(&json!({"metadata": {}})), None);
    }

    #[test]
    fn a_name_that_the_member_owns_is_moved_away_and_back() {
        assert_eq!(
            downstream_name("configmaps", "kube-root-ca.crt"),
            "kcp-root-ca.crt"
        );
        assert_eq!(
            upstream_name("configmaps", "kcp-root-ca.crt"),
            "kube-root-ca.crt"
        );
        assert_eq!(
            downstream_name("secrets", "kube-root-ca.crt"),
            "kube-root-ca.crt"
        );
    }
}
