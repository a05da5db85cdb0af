//! What a view serves: the resources its target syncs, with the verbs of a view. One definition a
//! resource is shared by all targets, one set by all targets that sync the same.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tmc_apimachinery::GroupVersionResource;
use tmc_apimachinery::definition::{ApiSet, ResourceDefinition, Subresources, Verbs};

/// Resources that every view has beside what its target syncs.
const ALWAYS: [&str; 4] = ["configmaps", "namespaces", "secrets", "serviceaccounts"];
/// Never in a view: a syncer brings workloads down, not pods.
const NEVER: [&str; 1] = ["pods"];

/// Looks up what the hub serves.
pub trait Definitions: Send + Sync {
    /// The hub's definition of a resource; `None` if it serves none.
    fn definition(&self, gvr: &GroupVersionResource) -> Option<Arc<ResourceDefinition>>;
}

/// Sets and definitions made so far.
pub(super) struct ApiSets {
    definitions: Arc<dyn Definitions>,
    shared: Mutex<HashMap<GroupVersionResource, Arc<ResourceDefinition>>>,
    sets: Mutex<HashMap<Vec<GroupVersionResource>, Arc<ApiSet>>>,
}

impl ApiSets {
    pub(super) fn new(definitions: Arc<dyn Definitions>) -> Self {
        Self {
            definitions,
            shared: Mutex::default(),
            sets: Mutex::default(),
        }
    }

    /// The set of a view of these resources (sorted).
    pub(super) fn set(&self, resources: &[GroupVersionResource]) -> Arc<ApiSet> {
        if let Some(set) = self.sets.lock().get(resources) {
            return set.clone();
        }
        let definitions = resources.iter().filter_map(|gvr| self.view_of(gvr));
        let set = Arc::new(ApiSet::new(definitions));
        self.sets.lock().insert(resources.to_vec(), set.clone());
        set
    }

    fn view_of(&self, gvr: &GroupVersionResource) -> Option<Arc<ResourceDefinition>> {
        if let Some(known) = self.shared.lock().get(gvr) {
            return Some(known.clone());
        }
        let view = Arc::new(view_definition(&*self.definitions.definition(gvr)?));
        self.shared.lock().insert(gvr.clone(), view.clone());
        Some(view)
    }
}

/// The resources of a view: what the target accepted, plus what every view has, less pods.
pub(super) fn resources(
    accepted: impl IntoIterator<Item = GroupVersionResource>,
) -> Vec<GroupVersionResource> {
    let always = ALWAYS
        .iter()
        .map(|name| GroupVersionResource::new("", "v1", name));
    let mut all: Vec<_> = always.chain(accepted).collect();
    all.retain(|gvr| !(gvr.group.is_empty() && NEVER.contains(&gvr.resource.as_str())));
    all.sort();
    all.dedup();
    all
}

/// A hub's definition with the verbs of a view: no create, no delete, no scale.
fn view_definition(hub: &ResourceDefinition) -> ResourceDefinition {
    let verbs = Verbs::GET
        .and(Verbs::LIST)
        .and(Verbs::WATCH)
        .and(Verbs::UPDATE)
        .and(Verbs::PATCH);
    ResourceDefinition {
        gvk: hub.gvk.clone(),
        plural: hub.plural.clone(),
        singular: hub.singular.clone(),
        list_kind: hub.list_kind.clone(),
        short_names: hub.short_names.clone(),
        categories: hub.categories.clone(),
        scope: hub.scope,
        verbs,
        subresources: Subresources {
            status: hub.subresources.status,
            ..Subresources::default()
        },
        schema: hub.schema.clone(),
        columns: hub.columns.clone(),
        strategic: false,
        selectable_fields: hub.selectable_fields.clone(),
        name_rule: hub.name_rule,
        generation: hub.generation,
        custom: hub.custom,
        immutable_fields: Vec::new(),
        storage_version: hub.storage_version.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_has_the_common_resources_once_and_never_pods() {
        let of = |group: &str, name: &str| GroupVersionResource::new(group, "v1", name);
        let all = resources([of("apps", "deployments"), of("", "pods"), of("", "secrets")]);
        let names: Vec<&str> = all.iter().map(|gvr| gvr.resource.as_str()).collect();
        assert_eq!(
            names,
            [
                "configmaps",
                "namespaces",
                "secrets",
                "serviceaccounts",
                "deployments"
            ]
        );
    }
}
