//! What a view serves: the resources its target syncs, with the verbs of a view. One definition a
//! resource is shared by all targets, one set by all targets that sync the same.

use std::sync::Arc;

use parking_lot::Mutex;
use tmc_api::synced::Listed;
use tmc_apimachinery::definition::{
    ApiSet, NameRule, ResourceDefinition, Scope, Subresources, Verbs,
};
use tmc_apimachinery::{GroupVersionKind, GroupVersionResource};

use super::shares::Shares;
use crate::url::GROUP;

/// Resources that every view has beside what its target syncs.
const ALWAYS: [&str; 4] = ["configmaps", "namespaces", "secrets", "serviceaccounts"];
/// Never in a view: a syncer brings workloads down, not pods.
const NEVER: [&str; 1] = ["pods"];

/// Looks up what the hub serves.
pub trait Definitions: Send + Sync {
    /// The hub's definition of a resource; `None` if it serves none.
    fn definition(&self, gvr: &GroupVersionResource) -> Option<Arc<ResourceDefinition>>;
}

/// A definition of the hub, and what views show of it.
struct Shown {
    hub: Arc<ResourceDefinition>,
    view: Arc<ResourceDefinition>,
}

/// Sets and definitions made so far. What was made of a definition that the hub has changed since is
/// made anew when it is asked for.
pub(super) struct ApiSets {
    definitions: Arc<dyn Definitions>,
    shared: Mutex<Shares<GroupVersionResource, Shown>>,
    sets: Mutex<Shares<Vec<GroupVersionResource>, Arc<ApiSet>>>,
}

impl ApiSets {
    pub(super) fn new(definitions: Arc<dyn Definitions>) -> Self {
        Self {
            definitions,
            shared: Mutex::default(),
            sets: Mutex::default(),
        }
    }

    /// The set of a view of these resources (sorted), as the hub has them now.
    pub(super) fn set(&self, resources: &[GroupVersionResource]) -> Arc<ApiSet> {
        let views: Vec<_> = resources
            .iter()
            .filter_map(|gvr| self.view_of(gvr))
            .collect();
        let mut sets = self.sets.lock();
        if let Some(set) = sets.get(resources).filter(|set| is_of(set, &views)) {
            return set.clone();
        }
        let set = Arc::new(ApiSet::new(views));
        let used = |set: &Arc<ApiSet>| Arc::strong_count(set) > 1;
        sets.insert(resources.to_vec(), set.clone(), used);
        set
    }

    /// What the hub has of a resource, in a view or not.
    pub(super) fn of_hub(&self, gvr: &GroupVersionResource) -> Option<Arc<ResourceDefinition>> {
        self.definitions.definition(gvr)
    }

    fn view_of(&self, gvr: &GroupVersionResource) -> Option<Arc<ResourceDefinition>> {
        let hub = self.definitions.definition(gvr)?;
        let mut shared = self.shared.lock();
        if let Some(known) = shared
            .get(gvr)
            .filter(|known| Arc::ptr_eq(&known.hub, &hub))
        {
            return Some(known.view.clone());
        }
        let view = Arc::new(view_definition(&hub));
        let shown = Shown {
            hub,
            view: view.clone(),
        };
        let used = |shown: &Shown| Arc::strong_count(&shown.view) > 1;
        shared.insert(gvr.clone(), shown, used);
        Some(view)
    }
}

/// Whether a set is made of exactly these definitions, which are sorted.
fn is_of(set: &ApiSet, views: &[Arc<ResourceDefinition>]) -> bool {
    set.iter().count() == views.len()
        && set
            .iter()
            .zip(views)
            .all(|(own, view)| Arc::ptr_eq(own, view))
}

/// What is said of the endpoints at the root of a target. They are served apart, and nothing of them
/// is stored.
pub(super) fn endpoint_definitions() -> Vec<Arc<ResourceDefinition>> {
    let of = |plural: &str, kind: &str, verbs| {
        Arc::new(ResourceDefinition {
            gvk: GroupVersionKind::new(GROUP, "v1alpha1", kind),
            plural: plural.to_owned(),
            singular: plural.to_owned(),
            list_kind: format!("{kind}List"),
            short_names: Vec::new(),
            categories: Vec::new(),
            scope: Scope::Cluster,
            verbs,
            subresources: Subresources::default(),
            schema: None,
            columns: Vec::new(),
            strategic: false,
            selectable_fields: Vec::new(),
            name_rule: NameRule::default(),
            generation: false,
            custom: false,
            immutable_fields: Vec::new(),
            storage_version: "v1alpha1".to_owned(),
        })
    };
    vec![
        of("connect", "SyncerSession", Verbs::GET),
        of("heartbeat", "SyncerHeartbeat", Verbs::CREATE),
        of("resources", "SyncedResource", Verbs::LIST),
    ]
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

    /// A hub whose definitions can be replaced.
    #[derive(Default)]
    struct Changing(Mutex<Vec<Arc<ResourceDefinition>>>);

    impl Changing {
        fn define(&self, plural: &str, status: bool) {
            let mut made = definition(plural);
            made.subresources.status = status;
            let mut all = self.0.lock();
            all.retain(|known| known.plural != plural);
            all.push(Arc::new(made));
        }
    }

    impl Definitions for Changing {
        fn definition(&self, gvr: &GroupVersionResource) -> Option<Arc<ResourceDefinition>> {
            self.0.lock().iter().find(|d| d.gvr() == *gvr).cloned()
        }
    }

    #[test]
    fn a_view_follows_the_definitions_of_the_hub_and_is_made_anew_only_for_those() {
        let of = |group: &str, name: &str| GroupVersionResource::new(group, "v1", name);
        let (jobs, maps) = (of("batch", "jobs"), of("", "configmaps"));
        let hub = Arc::new(Changing::default());
        hub.define("jobs", false);
        hub.define("configmaps", false);
        let sets = ApiSets::new(hub.clone());
        let both = [maps.clone(), jobs.clone()];
        let (first, other) = (sets.set(&both), sets.set(std::slice::from_ref(&maps)));
        assert!(Arc::ptr_eq(&first, &sets.set(&both)), "nothing changed");
        hub.define("jobs", true);
        let second = sets.set(&both);
        let status = |set: &ApiSet| set.get(&jobs).map(|job| job.subresources.status);
        assert_eq!((status(&first), status(&second)), (Some(false), Some(true)));
        assert!(Arc::ptr_eq(&second, &sets.set(&both)));
        assert!(Arc::ptr_eq(&other, &sets.set(std::slice::from_ref(&maps))));
        hub.0.lock().retain(|known| known.plural != "jobs");
        assert_eq!(status(&sets.set(&both)), None);
        hub.define("jobs", false);
        assert_eq!(status(&sets.set(&both)), Some(false));
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
