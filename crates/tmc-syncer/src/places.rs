//! Which namespace of the hub a namespace of the member is for.

use std::collections::HashMap;

use parking_lot::RwLock;
use serde_json::Value;
use tmc_apimachinery::ClusterName;
use tmc_apimachinery::meta::meta;
use tmc_runtime::ClusterKey;

use crate::mapping::Target;

/// A namespace of the hub: logical cluster and name.
type Home = (ClusterName, String);

/// What is known of the member's namespaces.
///
/// A name is learnt from either side, whichever is seen first, and known beyond the end of the
/// member's namespace: informers of different resources do not keep step, and the news of an object
/// (its last status, that it is gone) is not sent twice.
#[derive(Debug, Default)]
pub(crate) struct Places(RwLock<HashMap<String, Home>>);

impl Places {
    /// Learns from an object of the hub where its copies are.
    pub(crate) fn learn(&self, namespace: &str, owner: &ClusterKey) {
        if !self.0.read().contains_key(namespace) {
            let home = (owner.cluster.clone(), owner.namespace.clone());
            self.0.write().insert(namespace.to_owned(), home);
        }
    }

    /// Learns from a namespace of the member, if this target made it.
    pub(crate) fn learn_from(&self, namespace: &Value, target: &Target) {
        if let Some(home) = target.upstream_namespace(namespace) {
            let name = meta(namespace).name().to_owned();
            self.0.write().insert(name, home);
        }
    }

    /// The namespace of the hub behind one of the member.
    pub(crate) fn home(&self, namespace: &str) -> Option<Home> {
        self.0.read().get(namespace).cloned()
    }

    /// Forgets a namespace of which nothing is left on either side.
    pub(crate) fn forget(&self, namespace: &str) {
        self.0.write().remove(namespace);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::namespaces;

    fn target() -> Target {
        Target {
            cluster: ClusterName::new("compute"),
            name: "east".into(),
            uid: "u".into(),
        }
    }

    #[test]
    fn a_place_is_known_before_its_namespace_is_seen_and_after_it_is_gone() {
        let (places, target, team) = (Places::default(), target(), ClusterName::new("team"));
        let name = target.downstream_namespace(&team, "shop");
        assert_eq!(places.home(&name), None);
        places.learn(&name, &ClusterKey::new(&team, "shop", "web"));
        assert_eq!(places.home(&name), Some((team, "shop".to_owned())));
        places.forget(&name);
        assert_eq!(places.home(&name), None);
    }

    #[test]
    fn only_a_namespace_of_this_target_tells_where_it_comes_from() {
        let (places, target, team) = (Places::default(), target(), ClusterName::new("team"));
        let ours = namespaces::desired(&target, &team, "shop", "baseline");
        places.learn_from(&ours, &target);
        assert!(places.home(meta(&ours).name()).is_some());
        let other = Target {
            uid: "v".into(),
            ..target.clone()
        };
        let theirs = namespaces::desired(&other, &team, "shop", "baseline");
        places.learn_from(&theirs, &target);
        assert_eq!(places.home(meta(&theirs).name()), None);
    }
}
