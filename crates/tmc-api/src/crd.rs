//! CustomResourceDefinitions of our kinds.

use kube::CustomResourceExt;
use serde_json::{Map, Value, json};

use crate::scheduling::{Location, Placement};
use crate::tenancy::{LogicalCluster, Shard, Workspace};
use crate::workload::{Cluster, SyncTarget};

/// Every CustomResourceDefinition, in a stable order: structural schemas without references, as a
/// real API server takes them.
pub fn crds() -> Vec<Value> {
    [
        LogicalCluster::crd(),
        Shard::crd(),
        Location::crd(),
        Placement::crd(),
        Workspace::crd(),
        Cluster::crd(),
        SyncTarget::crd(),
    ]
    .into_iter()
    .map(|crd| {
        let mut value = json!(crd);
        tidy(&mut value);
        value
    })
    .collect()
}

/// Makes a derived definition what Kubernetes' own generator would have made.
fn tidy(crd: &mut Value) {
    let Some(versions) = crd
        .pointer_mut("/spec/versions")
        .and_then(Value::as_array_mut)
    else {
        return;
    };
    for version in versions {
        if let Some(schema) = version.pointer_mut("/schema/openAPIV3Schema") {
            tidy_schema(schema);
            add_identity(schema);
            make_spec_optional(schema);
        }
    }
}

/// The fields of every object, so that `kubectl explain` knows them.
fn add_identity(schema: &mut Value) {
    for (name, text) in [
        ("apiVersion", "Version of the schema of this object."),
        ("kind", "Kind of this object."),
    ] {
        schema["properties"][name] = json!({"type": "string", "description": text});
    }
    schema["properties"]["metadata"] = json!({"type": "object"});
}

/// A spec without required fields need not be given: it then is the empty one, defaulted.
fn make_spec_optional(schema: &mut Value) {
    if schema.pointer("/properties/spec/required").is_some() {
        return;
    }
    schema["properties"]["spec"]["default"] = json!({});
    if let Some(root) = schema.as_object_mut() {
        root.remove("required");
    }
}

fn tidy_schema(schema: &mut Value) {
    let Some(node) = schema.as_object_mut() else {
        return;
    };
    // Null means absence in all our types; saying so per field would only make null a value.
    node.remove("nullable");
    node.remove("title");
    drop_null(node);
    bounded_integers(node);
    whole_bounds(node);
    atomic_selectors(node);
    one_line(node);
    if let Some(children) = node.get_mut("properties").and_then(Value::as_object_mut) {
        children.values_mut().for_each(tidy_schema);
    }
    for keyword in ["items", "additionalProperties"] {
        if let Some(child) = node.get_mut(keyword) {
            tidy_schema(child);
        }
    }
}

/// An optional enumeration lists null among its values.
fn drop_null(node: &mut Map<String, Value>) {
    if let Some(values) = node.get_mut("enum").and_then(Value::as_array_mut) {
        values.retain(|value| !value.is_null());
    }
}

/// Kubernetes knows the formats int32 and int64 only.
fn bounded_integers(node: &mut Map<String, Value>) {
    let format = match node.get("format").and_then(Value::as_str) {
        Some("uint8" | "uint16" | "uint32") => "int32",
        Some("uint" | "uint64") => "int64",
        _ => return,
    };
    node.insert("format".into(), format.into());
}

/// Bounds of integers are integers, not floating point numbers.
fn whole_bounds(node: &mut Map<String, Value>) {
    for keyword in ["minimum", "maximum"] {
        let Some(bound) = node.get_mut(keyword) else {
            continue;
        };
        if let Some(number) = bound
            .as_f64()
            .filter(|n| n.fract() == 0.0 && n.abs() < 1e15)
        {
            *bound = json!(number as i64);
        }
    }
}

/// A label selector is one thing: appliers own all of it or nothing.
fn atomic_selectors(node: &mut Map<String, Value>) {
    let is_selector = node
        .get("properties")
        .and_then(Value::as_object)
        .is_some_and(|members| {
            members.len() == 2
                && members.contains_key("matchLabels")
                && members.contains_key("matchExpressions")
        });
    if is_selector {
        node.insert("x-kubernetes-map-type".into(), "atomic".into());
    }
}

/// Descriptions flow: line breaks are those of the source.
fn one_line(node: &mut Map<String, Value>) {
    if let Some(Value::String(text)) = node.get_mut("description") {
        *text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    }
}

#[cfg(test)]
mod tests {
    use tmc_apimachinery::schema::Schema;

    use super::*;

    fn schema(crd: &Value) -> &Value {
        &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    }

    #[test]
    fn every_schema_is_structural() {
        for crd in crds() {
            let name = &crd["metadata"]["name"];
            if let Err(causes) = Schema::compile(schema(&crd)) {
                panic!("{name}: {causes:#?}");
            }
        }
    }

    fn named(name: &str) -> Value {
        crds()
            .into_iter()
            .find(|crd| crd["metadata"]["name"] == name)
            .unwrap()
    }

    #[test]
    fn the_order_is_stable_and_every_kind_has_a_status_subresource() {
        let names: Vec<_> = crds()
            .iter()
            .map(|crd| crd["metadata"]["name"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(
            names,
            [
                "logicalclusters.core.kcp.io",
                "shards.core.kcp.io",
                "locations.scheduling.kcp.io",
                "placements.scheduling.kcp.io",
                "workspaces.tenancy.kcp.io",
                "clusters.workload.kcp.io",
                "synctargets.workload.kcp.io",
            ]
        );
        for crd in crds() {
            assert_eq!(crd["apiVersion"], "apiextensions.k8s.io/v1");
            assert_eq!(crd["kind"], "CustomResourceDefinition");
            assert_eq!(
                crd["spec"]["versions"][0]["subresources"]["status"],
                json!({})
            );
            assert_eq!(crd["spec"]["names"]["categories"], json!(["kcp"]));
        }
        assert_eq!(crds(), crds());
    }

    #[test]
    fn no_schema_holds_references_nullables_or_formats_that_kubernetes_does_not_know() {
        fn walk(value: &Value, visit: &mut impl FnMut(&str, &Value)) {
            match value {
                Value::Object(members) => {
                    for (key, inner) in members {
                        visit(key, inner);
                        walk(inner, visit);
                    }
                }
                Value::Array(items) => items.iter().for_each(|item| walk(item, visit)),
                _ => {}
            }
        }
        for crd in crds() {
            walk(schema(&crd), &mut |key, value| match key {
                "$ref" | "$defs" | "oneOf" | "allOf" | "anyOf" | "nullable" => panic!("{key}"),
                "format" if value.is_string() => {
                    assert!(["int32", "int64", "date-time"].contains(&value.as_str().unwrap()));
                }
                "description" if value.is_string() => {
                    let text = value.as_str().unwrap();
                    assert!(!text.contains("crate::") && !text.contains('\n'), "{text}");
                }
                _ => {}
            });
        }
    }

    #[test]
    fn columns_and_short_names_are_those_of_kcp() {
        let columns = |name| {
            let crd = named(name);
            let list = crd["spec"]["versions"][0]["additionalPrinterColumns"]
                .as_array()
                .unwrap();
            list.iter()
                .map(|c| c["name"].as_str().unwrap().to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(
            columns("synctargets.workload.kcp.io"),
            ["Location", "Ready", "Synced API resources", "Key", "Age"]
        );
        assert_eq!(
            columns("workspaces.tenancy.kcp.io"),
            ["Type", "Region", "Phase", "URL", "Age"]
        );
        let workspaces = named("workspaces.tenancy.kcp.io");
        assert_eq!(workspaces["spec"]["names"]["shortNames"], json!(["ws"]));
    }

    /// The object as a server would store it, or what it finds wrong with it.
    fn served(crd: &str, mut object: Value) -> Result<Value, Vec<String>> {
        let crd = named(crd);
        let compiled = Schema::compile(schema(&crd)).unwrap();
        compiled.prune(&mut object);
        compiled.default(&mut object);
        let causes = compiled.validate(&object);
        if causes.is_empty() {
            Ok(object)
        } else {
            Err(causes.into_iter().map(|c| c.field).collect())
        }
    }

    #[test]
    fn a_bare_object_is_complete_after_defaulting() {
        let bare = |kind: &str, group: &str| json!({"apiVersion": format!("{group}/v1alpha1"), "kind": kind, "metadata": {"name": "x"}});
        let target = served(
            "synctargets.workload.kcp.io",
            bare("SyncTarget", "workload.kcp.io"),
        )
        .unwrap();
        let target: SyncTarget = serde_json::from_value(target).unwrap();
        assert_eq!(target.spec, crate::workload::SyncTargetSpec::default());
        let placement = served(
            "placements.scheduling.kcp.io",
            bare("Placement", "scheduling.kcp.io"),
        )
        .unwrap();
        assert_eq!(placement["spec"]["targets"], 1);
        assert_eq!(
            placement["spec"]["locationResource"]["resource"],
            "synctargets"
        );
        assert!(
            served(
                "workspaces.tenancy.kcp.io",
                bare("Workspace", "tenancy.kcp.io")
            )
            .is_ok()
        );
        let missing = served(
            "clusters.workload.kcp.io",
            bare("Cluster", "workload.kcp.io"),
        );
        assert_eq!(missing.unwrap_err(), ["spec"]);
    }

    #[test]
    fn schemas_refuse_what_types_forbid() {
        let target = |spec: Value| {
            served(
                "synctargets.workload.kcp.io",
                json!({"apiVersion": "workload.kcp.io/v1alpha1", "kind": "SyncTarget", "metadata": {"name": "x"}, "spec": spec}),
            )
        };
        for (spec, field) in [
            (json!({"podSecurity": "open"}), "spec.podSecurity"),
            (
                json!({"syncerConfig": {"replicas": 0}}),
                "spec.syncerConfig.replicas",
            ),
            (
                json!({"syncerConfig": {"replicas": 6}}),
                "spec.syncerConfig.replicas",
            ),
            (
                json!({"syncerConfig": {"resyncPeriod": "soon"}}),
                "spec.syncerConfig.resyncPeriod",
            ),
            (json!({"evictAfter": "5m"}), "spec.evictAfter"),
            (
                json!({"cells": [{"name": "a"}, {"name": "a"}]}),
                "spec.cells[1]",
            ),
            (json!({"cells": [{"name": "A"}]}), "spec.cells[0].name"),
            (
                json!({"cells": [{"name": "a", "capacity": {"cpu": "lots"}}]}),
                "spec.cells[0].capacity.cpu",
            ),
            (
                json!({"clusterRef": {"name": "a"}}),
                "spec.clusterRef.namespace",
            ),
        ] {
            let found = target(spec.clone()).unwrap_err();
            assert!(found.iter().any(|f| f == field), "{spec}: {found:?}");
        }
        for spec in [
            json!({"cells": [{"name": "a", "capacity": {"cpu": 4, "memory": "16Gi"}}]}),
            json!({"taints": [{"key": "a", "effect": "NoSchedule"}, {"key": "a", "effect": "NoExecute"}]}),
            json!({"syncerConfig": {"heartbeatInterval": "1m30s"}}),
            json!({"clusterRef": null, "evictAfter": "2026-01-01T00:00:00Z"}),
        ] {
            let stored = target(spec.clone()).unwrap_or_else(|e| panic!("{spec}: {e:?}"));
            serde_json::from_value::<SyncTarget>(stored).unwrap();
        }
    }

    #[test]
    fn a_placement_counts_targets_by_number_or_all() {
        let placement = |targets: Value| {
            served(
                "placements.scheduling.kcp.io",
                json!({"apiVersion": "scheduling.kcp.io/v1alpha1", "kind": "Placement", "metadata": {"name": "x"}, "spec": {"targets": targets}}),
            )
        };
        for good in [json!(1), json!(7), json!("All")] {
            assert!(placement(good).is_ok());
        }
        for bad in [json!(0), json!(-3), json!("all"), json!(true), json!([])] {
            assert!(placement(bad.clone()).is_err(), "{bad}");
        }
    }
}
