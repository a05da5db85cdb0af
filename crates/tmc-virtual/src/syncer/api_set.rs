//! What a view serves: the resources its target syncs, with the verbs of a view. One definition a
//! resource is shared by all targets, one set by all targets that sync the same.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tmc_api::synced::Listed;
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

    /// What the hub has of a resource, in a view or not.
    pub(super) fn of_hub(&self, gvr: &GroupVersionResource) -> Option<Arc<ResourceDefinition>> {
        self.definitions.definition(gvr)
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

/// Whether objects of a resource may have the condition `Synced`: they have a list of conditions, and
/// their schema does not name the types that there are.
pub(super) fn conditions_of(definition: &ResourceDefinition) -> Listed {
    const TYPES: &str = "/properties/status/properties/conditions/items/properties/type/enum";
    let Some(schema) = &definition.schema else {
        return Listed::ByStatus;
    };
    if !definition.subresources.status || schema.source().pointer(TYPES).is_some() {
        return Listed::No;
    }
    let Some(status) = schema.root().property("status") else {
        return if schema.root().preserves_unknown_fields() {
            Listed::ByStatus
        } else {
            Listed::No
        };
    };
    match status.property("conditions") {
        Some(list) => match list.items().and_then(|item| item.property("type")) {
            Some(_) => Listed::Yes,
            None => Listed::No,
        },
        None if status.preserves_unknown_fields() => Listed::ByStatus,
        None => Listed::No,
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};
    use tmc_apimachinery::schema::Schema;

    use super::*;

    fn definition(plural: &str) -> ResourceDefinition {
        let all = tmc_builtins::definitions();
        let mut all = all.iter();
        let found = all.find(|definition| definition.plural == plural);
        view_definition(found.expect("a built-in resource"))
    }

    #[rstest]
    #[case("deployments", Listed::Yes)]
    #[case("jobs", Listed::Yes)]
    #[case("configmaps", Listed::No)]
    #[case("ingresses", Listed::No)]
    fn a_built_in_kind_tells_whether_it_has_conditions(
        #[case] plural: &str,
        #[case] expected: Listed,
    ) {
        assert_eq!(conditions_of(&definition(plural)), expected);
    }

    #[rstest]
    #[case::list(json!({"type": "array", "items": {"type": "object",
        "properties": {"type": {"type": "string"}}}}), Listed::Yes)]
    #[case::named_types(json!({"type": "array", "items": {"type": "object",
        "properties": {"type": {"type": "string", "enum": ["Ready"]}}}}), Listed::No)]
    #[case::words(json!({"type": "array", "items": {"type": "string"}}), Listed::No)]
    #[case::text(json!({"type": "string"}), Listed::No)]
    fn a_custom_kind_tells_it_in_its_schema(#[case] conditions: Value, #[case] expected: Listed) {
        let schema = json!({"type": "object", "properties": {
            "status": {"type": "object", "properties": {"conditions": conditions}}}});
        let custom = ResourceDefinition {
            schema: Some(Arc::new(Schema::compile(&schema).expect("a schema"))),
            ..definition("deployments")
        };
        assert_eq!(conditions_of(&custom), expected);
    }

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
