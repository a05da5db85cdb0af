//! CustomResourceDefinitions: accepted and established in the write that stores them, compiled into
//! resource definitions when their workspace is first asked what it serves.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};
use tmc_apimachinery::definition::{
    NameRule, ResourceDefinition, ScalePaths, Scope, Subresources, Verbs,
};
use tmc_apimachinery::meta::meta;
use tmc_apimachinery::schema::Schema;
use tmc_apimachinery::status::{ApiError, Cause};
use tmc_apimachinery::table::{Cell, Column};
use tmc_apimachinery::{ClusterName, GroupResource, GroupVersionKind};

use crate::environment::timestamp;
use crate::storage::{Core, Place};

/// Holds a CustomResourceDefinition until its objects are gone.
pub(crate) const FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";

/// The resource of CustomResourceDefinitions.
pub(crate) fn resource() -> GroupResource {
    GroupResource::new("apiextensions.k8s.io", "customresourcedefinitions")
}

/// Completes names and status: this hub accepts names and establishes at once, since nothing else
/// in the workspace can hold them meanwhile.
pub(crate) fn complete(crd: &mut Value, now: Timestamp) {
    if meta(crd).deletion_timestamp().is_empty() {
        tmc_apimachinery::meta::add_finalizer(crd, FINALIZER);
    }
    let names = crd["spec"]["names"].clone();
    let stored: Vec<Value> = versions(crd)
        .iter()
        .filter(|version| version["storage"] == true)
        .map(|version| version["name"].clone())
        .collect();
    let since = |kind: &str, crd: &Value| {
        let conditions = crd.pointer("/status/conditions").and_then(Value::as_array);
        conditions
            .and_then(|list| list.iter().find(|c| c["type"] == kind))
            .map_or_else(
                || json!(timestamp(now)),
                |c| c["lastTransitionTime"].clone(),
            )
    };
    let conditions = json!([
        {"type": "NamesAccepted", "status": "True", "reason": "NoConflicts",
         "message": "no conflicts found", "lastTransitionTime": since("NamesAccepted", crd)},
        {"type": "Established", "status": "True", "reason": "InitialNamesAccepted",
         "message": "the initial names have been accepted",
         "lastTransitionTime": since("Established", crd)},
    ]);
    crd["status"] =
        json!({"acceptedNames": names, "storedVersions": stored, "conditions": conditions});
}

fn versions(crd: &Value) -> &[Value] {
    crd.pointer("/spec/versions")
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

/// Refuses a definition of what the hub itself serves, in any version, and of groups that are the
/// hub's: an alias would reach the same objects past every rule about them.
pub(crate) fn check(core: &Core, place: &Place, crd: &Value) -> Result<(), ApiError> {
    let gvk = &place.definition.gvk;
    if gvk.group != "apiextensions.k8s.io" {
        return Ok(());
    }
    let group = text(&crd["spec"]["group"]);
    let plural = text(&crd["spec"]["names"]["plural"]);
    let resource = GroupResource::new(&group, &plural);
    let reserved = group == "kcp.io" || group.ends_with(".kcp.io");
    if !reserved && !core.catalog.is_taken(&resource) {
        return Ok(());
    }
    let why = "this group or resource is the hub's own; choose a group of your own domain";
    let cause = Cause::invalid("spec.group", &crd["spec"]["group"], why);
    Err(ApiError::invalid(
        &gvk.group,
        &gvk.kind,
        meta(crd).name(),
        vec![cause],
    ))
}

/// The definitions of a workspace's custom resources. One that does not compile is left out: it was
/// refused on write, so it can only be data of another version of this program.
pub(crate) fn definitions(core: &Core, cluster: &ClusterName) -> Vec<Arc<ResourceDefinition>> {
    let crds = core.read_all(&resource(), cluster, "");
    crds.iter()
        .filter_map(|crd| compile(crd).ok())
        .flatten()
        .map(Arc::new)
        .collect()
}

/// The definitions of one CustomResourceDefinition, one per served version.
///
/// # Errors
/// Field errors of the schema that does not compile.
pub fn compile(crd: &Value) -> Result<Vec<ResourceDefinition>, Vec<Cause>> {
    let storage = versions(crd)
        .iter()
        .find(|version| version["storage"] == true)
        .map(|version| text(&version["name"]))
        .unwrap_or_default();
    versions(crd)
        .iter()
        .filter(|version| version["served"] == true)
        .map(|version| compile_version(crd, version, &storage))
        .collect()
}

fn compile_version(
    crd: &Value,
    version: &Value,
    storage: &str,
) -> Result<ResourceDefinition, Vec<Cause>> {
    let names = &crd["spec"]["names"];
    let group = text(&crd["spec"]["group"]);
    let kind = text(&names["kind"]);
    let schema = match version.pointer("/schema/openAPIV3Schema") {
        Some(source) => Some(Arc::new(Schema::compile(source)?)),
        None => None,
    };
    let or = |value: &Value, other: String| {
        let given = text(value);
        if given.is_empty() { other } else { given }
    };
    let list_of = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().map(text).collect()
    };
    let namespaced = crd["spec"]["scope"] != "Cluster";
    let mut selectable: Vec<String> = Vec::new();
    for field in version["selectableFields"].as_array().into_iter().flatten() {
        selectable.push(text(&field["jsonPath"]).trim_start_matches('.').to_owned());
    }
    Ok(ResourceDefinition {
        gvk: GroupVersionKind::new(&group, &text(&version["name"]), &kind),
        plural: text(&names["plural"]),
        singular: or(&names["singular"], kind.to_lowercase()),
        list_kind: or(&names["listKind"], format!("{kind}List")),
        short_names: list_of(&names["shortNames"]),
        categories: list_of(&names["categories"]),
        scope: if namespaced {
            Scope::Namespaced
        } else {
            Scope::Cluster
        },
        verbs: Verbs::ALL,
        subresources: subresources(&version["subresources"]),
        schema,
        columns: columns(version),
        strategic: false,
        selectable_fields: selectable,
        name_rule: NameRule::Subdomain,
        generation: true,
        custom: true,
        immutable_fields: Vec::new(),
        storage_version: storage.to_owned(),
    })
}

fn subresources(source: &Value) -> Subresources {
    let path = |value: &Value| text(value).trim_start_matches('.').to_owned();
    let scale = source
        .get("scale")
        .filter(|s| s.is_object())
        .map(|scale| ScalePaths {
            spec_replicas: path(&scale["specReplicasPath"]),
            status_replicas: path(&scale["statusReplicasPath"]),
            selector: Some(path(&scale["labelSelectorPath"])).filter(|p| !p.is_empty()),
        });
    Subresources {
        status: source.get("status").is_some(),
        scale,
        ..Subresources::default()
    }
}

fn columns(version: &Value) -> Vec<Column> {
    let given = version["additionalPrinterColumns"].as_array();
    let column = |c: &Value| Column {
        name: text(&c["name"]),
        kind: text(&c["type"]),
        format: text(&c["format"]),
        description: text(&c["description"]),
        priority: c["priority"]
            .as_i64()
            .and_then(|p| i32::try_from(p).ok())
            .unwrap_or(0),
        cell: Cell::JsonPath(text(&c["jsonPath"])),
    };
    given.into_iter().flatten().map(column).collect()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Definitions of the kinds that every workspace serves, from their CustomResourceDefinitions.
///
/// # Errors
/// Field errors of a schema that does not compile: a defect of this program.
pub fn compile_all(crds: &[Value]) -> Result<Vec<Arc<ResourceDefinition>>, Vec<Cause>> {
    let mut all: HashMap<_, Arc<ResourceDefinition>> = HashMap::new();
    for crd in crds {
        for mut definition in compile(crd)? {
            if definition.gvk.kind == "Cluster" {
                definition.name_rule = NameRule::Label;
            }
            all.insert(definition.gvr(), Arc::new(definition));
        }
    }
    Ok(all.into_values().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crd() -> Value {
        json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": "widgets.example.org"},
            "spec": {
                "group": "example.org", "scope": "Namespaced",
                "names": {"plural": "widgets", "kind": "Widget", "shortNames": ["wd"]},
                "versions": [
                    {"name": "v1", "served": true, "storage": true,
                     "schema": {"openAPIV3Schema": {"type": "object"}},
                     "subresources": {"status": {}, "scale": {
                        "specReplicasPath": ".spec.replicas",
                        "statusReplicasPath": ".status.replicas"}},
                     "additionalPrinterColumns": [
                        {"name": "Size", "type": "string", "jsonPath": ".spec.size"}]},
                    {"name": "v1beta1", "served": false, "storage": false},
                ],
            },
        })
    }

    #[test]
    fn a_definition_is_established_in_the_write_that_stores_it_and_stays_so() {
        let mut object = crd();
        complete(&mut object, Timestamp::UNIX_EPOCH);
        let once = object.clone();
        complete(&mut object, Timestamp::MAX);
        assert_eq!(once, object, "a second pass changes nothing");
        assert_eq!(
            object.pointer("/status/storedVersions"),
            Some(&json!(["v1"]))
        );
        assert_eq!(meta(&object).finalizers(), [FINALIZER]);
    }

    #[test]
    fn each_served_version_becomes_a_definition_with_its_subresources() {
        let all = compile(&crd()).expect("it compiles");
        assert_eq!(all.len(), 1);
        let widget = &all[0];
        assert_eq!(widget.list_kind, "WidgetList");
        assert_eq!(widget.singular, "widget");
        assert!(widget.subresources.status && widget.namespaced());
        let scale = widget.subresources.scale.as_ref().expect("scale");
        assert_eq!(scale.spec_replicas, "spec.replicas");
        assert_eq!(widget.columns[0].name, "Size");
    }
}
