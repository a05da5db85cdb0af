//! What is served where: built-in kinds and the kinds of tmc everywhere, custom resources in the
//! workspace that defines them.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;
use tmc_apimachinery::definition::{ApiSet, ResourceDefinition};
use tmc_apimachinery::{ClusterName, GroupResource};

/// The sets of served resources. A set is made when first asked for and dropped when a definition
/// in its workspace changes, so a request always sees one consistent set.
pub(crate) struct Catalog {
    base: Vec<Arc<ResourceDefinition>>,
    everywhere: Arc<ApiSet>,
    by_cluster: RwLock<HashMap<ClusterName, Arc<ApiSet>>>,
}

impl Catalog {
    /// A catalog with what every workspace serves.
    pub(crate) fn new(base: Vec<Arc<ResourceDefinition>>) -> Self {
        let everywhere = Arc::new(ApiSet::new(base.iter().cloned()));
        Self {
            base,
            everywhere,
            by_cluster: RwLock::default(),
        }
    }

    /// What every workspace serves; also what the wildcard serves.
    pub(crate) fn everywhere(&self) -> &Arc<ApiSet> {
        &self.everywhere
    }

    /// What a workspace serves; `custom` reads its custom resources when the set is not at hand.
    /// Workspaces without custom resources share one set.
    pub(crate) fn cluster(
        &self,
        cluster: &ClusterName,
        custom: impl FnOnce() -> Vec<Arc<ResourceDefinition>>,
    ) -> Arc<ApiSet> {
        if let Some(set) = self.by_cluster.read().get(cluster) {
            return set.clone();
        }
        // Reading under the write lock keeps an invalidation from slipping in between.
        let mut sets = self.by_cluster.write();
        let custom = custom();
        let set = if custom.is_empty() {
            self.everywhere.clone()
        } else {
            // What every workspace serves is not to be had under another version either: keys in
            // the store carry no version.
            let own = custom
                .into_iter()
                .filter(|definition| !self.is_taken(&definition.group_resource()));
            Arc::new(ApiSet::new(own.chain(self.base.iter().cloned())))
        };
        sets.insert(cluster.clone(), set.clone());
        set
    }

    /// Whether every workspace serves a resource, in whatever version.
    pub(crate) fn is_taken(&self, resource: &GroupResource) -> bool {
        self.everywhere.by_group_resource(resource).is_some()
    }

    /// Forgets a workspace's set.
    pub(crate) fn invalidate(&self, cluster: &str) {
        self.by_cluster.write().remove(&ClusterName::new(cluster));
    }
}
