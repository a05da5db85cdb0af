//! OpenAPI v3 documents of an API set: what kubectl's validation, `explain`, `diff` and `apply`
//! read.
//!
//! Two rules matter to clients. `fieldValidation` is listed with every PATCH, else kubectl
//! validates by itself with a document that it no longer finds. Strategic merge patch is announced
//! only for kinds whose schemas carry patch facts: where it is announced and facts are missing,
//! kubectl computes a patch that leaves removed list items in place. Apply patches are not
//! announced.

mod paths;
mod schemas;

use serde_json::{Map, Value, json};

use crate::definition::{ApiSet, ResourceDefinition};
use crate::names::GroupVersion;
use schemas::Components;

/// `GET /openapi/v3`: the index of group-version documents; `hash` names each one's content.
///
/// URLs start with `/openapi/v3`; clients put the prefix of their own server URL
/// (`/clusters/<name>`) before them.
pub fn index(set: &ApiSet, hash: impl Fn(&GroupVersion) -> String) -> Value {
    let mut paths = Map::new();
    for definition in set.iter() {
        let gv = definition.gvk.group_version();
        let path = prefix(&gv);
        let path = path.trim_start_matches('/');
        if !paths.contains_key(path) {
            let url = format!("/openapi/v3/{path}?hash={}", hash(&gv));
            paths.insert(path.to_owned(), json!({"serverRelativeURL": url}));
        }
    }
    json!({"paths": paths})
}

/// `GET /openapi/v3/apis/<group>/<version>`: paths and schemas of one group-version; `None` if
/// nothing of it is served. A function of the set alone: equal sets give equal bytes.
pub fn document(set: &ApiSet, gv: &GroupVersion) -> Option<Value> {
    let here: Vec<&ResourceDefinition> = set
        .iter()
        .map(|d| &**d)
        .filter(|d| d.gvk.group_version() == *gv)
        .collect();
    if here.is_empty() {
        return None;
    }
    let mut components = Components::new(set);
    let mut paths = Map::new();
    for definition in here {
        paths.append(&mut paths::of(definition, &mut components));
    }
    Some(json!({
        "openapi": "3.0.0",
        "info": {"title": "tmc", "version": env!("CARGO_PKG_VERSION")},
        "paths": paths,
        "components": {"schemas": components.finish()},
    }))
}

/// `/api/v1` or `/apis/<group>/<version>`.
fn prefix(gv: &GroupVersion) -> String {
    let root = if gv.group.is_empty() { "/api" } else { "/apis" };
    format!("{root}/{gv}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discovery::fixtures::set;

    fn apps() -> Value {
        document(&set(), &GroupVersion::new("apps", "v1")).expect("served")
    }

    fn custom() -> Value {
        document(&set(), &GroupVersion::new("aaa.example.com", "v1")).expect("served")
    }

    #[test]
    fn the_index_names_each_group_version_and_the_hash_of_its_document() {
        let index = index(&set(), |gv| format!("H{}", gv.version));
        assert_eq!(
            index,
            json!({"paths": {
                "api/v1": {"serverRelativeURL": "/openapi/v3/api/v1?hash=Hv1"},
                "apis/apps/v1": {"serverRelativeURL": "/openapi/v3/apis/apps/v1?hash=Hv1"},
                "apis/authorization.k8s.io/v1": {"serverRelativeURL": "/openapi/v3/apis/authorization.k8s.io/v1?hash=Hv1"},
                "apis/aaa.example.com/v1": {"serverRelativeURL": "/openapi/v3/apis/aaa.example.com/v1?hash=Hv1"},
                "apis/aaa.example.com/v1alpha1": {"serverRelativeURL": "/openapi/v3/apis/aaa.example.com/v1alpha1?hash=Hv1alpha1"},
            }})
        );
        assert_eq!(document(&set(), &GroupVersion::new("none", "v1")), None);
    }

    #[test]
    fn every_patch_lists_field_validation_and_its_kind() {
        for document in [apps(), custom()] {
            let paths = document["paths"].as_object().expect("paths");
            let patches: Vec<_> = paths.values().filter_map(|p| p.get("patch")).collect();
            assert_eq!(patches.len(), 3); // the object, its status, its scale
            for patch in patches {
                let parameters = patch["parameters"].as_array().expect("parameters");
                assert!(
                    parameters
                        .iter()
                        .any(|p| p["name"] == "fieldValidation" && p["in"] == "query")
                );
                assert!(patch["x-kubernetes-group-version-kind"]["kind"].is_string());
            }
        }
    }

    #[test]
    fn strategic_merge_is_announced_for_built_in_kinds_alone_and_apply_never() {
        let types = |document: &Value, path: &str| -> Vec<String> {
            let content = document["paths"][path]["patch"]["requestBody"]["content"].as_object();
            content.expect("content").keys().cloned().collect()
        };
        assert_eq!(
            types(
                &apps(),
                "/apis/apps/v1/namespaces/{namespace}/deployments/{name}"
            ),
            [
                "application/json-patch+json",
                "application/merge-patch+json",
                "application/strategic-merge-patch+json"
            ]
        );
        assert_eq!(
            types(
                &custom(),
                "/apis/aaa.example.com/v1/namespaces/{namespace}/foos/{name}/status"
            ),
            [
                "application/json-patch+json",
                "application/merge-patch+json"
            ]
        );
    }

    #[test]
    fn referenced_definitions_are_included_and_others_are_not() {
        let document = apps();
        let schemas = document["components"]["schemas"]
            .as_object()
            .expect("schemas");
        let names: Vec<_> = schemas.keys().map(String::as_str).collect();
        assert_eq!(
            names,
            [
                "io.k8s.api.apps.v1.Deployment",
                "io.k8s.api.apps.v1.DeploymentList",
                "io.k8s.api.apps.v1.DeploymentSpec",
                "io.k8s.api.autoscaling.v1.Scale",
                "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions",
                "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta",
                "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta",
                "io.k8s.apimachinery.pkg.apis.meta.v1.Patch",
                "io.k8s.apimachinery.pkg.apis.meta.v1.Status",
                "io.k8s.apimachinery.pkg.apis.meta.v1.Time",
            ]
        );
        let deployment = &schemas["io.k8s.api.apps.v1.Deployment"];
        assert_eq!(
            deployment["x-kubernetes-group-version-kind"],
            json!([{"group": "apps", "version": "v1", "kind": "Deployment"}])
        );
        // Facts beside a reference are kept by wrapping it.
        assert_eq!(
            deployment["properties"]["metadata"],
            json!({"description": "Standard metadata.",
                   "allOf": [{"$ref": "#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"}]})
        );
        // Properties that are named like keywords stay properties.
        let spec = &schemas["io.k8s.api.apps.v1.DeploymentSpec"]["properties"];
        assert_eq!(
            (&spec["$ref"], &spec["default"]),
            (&json!({"type": "string"}), &json!({"type": "string"}))
        );
        let list = &schemas["io.k8s.api.apps.v1.DeploymentList"];
        assert_eq!(
            list["x-kubernetes-group-version-kind"][0]["kind"],
            "DeploymentList"
        );
        assert_eq!(
            list["properties"]["items"]["items"],
            json!({"$ref": "#/components/schemas/io.k8s.api.apps.v1.Deployment"})
        );
    }

    #[test]
    fn custom_resources_are_described_as_kubernetes_does() {
        let document = custom();
        let foo = &document["components"]["schemas"]["com.example.aaa.v1.Foo"];
        assert_eq!(foo["description"], "Foo is for tests.");
        assert!(foo["properties"]["apiVersion"]["description"].is_string());
        assert_eq!(
            foo["properties"]["metadata"]["allOf"],
            json!([{"$ref": "#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"}])
        );
        let spec = &foo["properties"]["spec"]["properties"];
        assert_eq!(
            spec["port"],
            json!({"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]})
        );
        assert_eq!(spec["pod"]["required"], json!(["apiVersion", "kind"]));
        assert!(spec["pod"]["properties"]["metadata"]["allOf"].is_array());
        let meta =
            &document["components"]["schemas"]["io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"];
        assert_eq!(meta["description"], "ObjectMeta is metadata."); // from the built-in definitions
        assert!(document["components"]["schemas"]["com.example.aaa.v1.FooList"].is_object());
    }

    #[test]
    fn a_surface_without_built_in_kinds_brings_its_own_metadata() {
        let only: ApiSet = ApiSet::new(set().iter().filter(|d| d.custom).cloned());
        let document =
            document(&only, &GroupVersion::new("aaa.example.com", "v1")).expect("served");
        let schemas = &document["components"]["schemas"];
        let meta = &schemas["io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"];
        assert!(meta["properties"]["ownerReferences"].is_object());
        assert_no_dangling_reference(&document);
    }

    fn assert_no_dangling_reference(document: &Value) {
        fn references<'v>(value: &'v Value, found: &mut Vec<&'v str>) {
            match value {
                Value::Object(map) => {
                    found.extend(map.get("$ref").and_then(Value::as_str));
                    map.values().for_each(|v| references(v, found));
                }
                Value::Array(list) => list.iter().for_each(|v| references(v, found)),
                _ => {}
            }
        }
        let mut found = Vec::new();
        references(document, &mut found);
        for reference in found {
            let name = reference
                .strip_prefix("#/components/schemas/")
                .expect(reference);
            assert!(
                document["components"]["schemas"][name].is_object(),
                "{name}"
            );
        }
    }

    #[test]
    fn no_reference_dangles_and_equal_sets_give_equal_bytes() {
        for gv in [
            ("apps", "v1"),
            ("", "v1"),
            ("authorization.k8s.io", "v1"),
            ("aaa.example.com", "v1alpha1"),
        ] {
            let gv = GroupVersion::new(gv.0, gv.1);
            let one = document(&set(), &gv).expect("served");
            assert_no_dangling_reference(&one);
            assert_eq!(
                one.to_string(),
                document(&set(), &gv).expect("served").to_string()
            );
        }
    }

    #[test]
    fn paths_follow_scope_and_verbs() {
        let paths = |group: &str| -> Vec<String> {
            let document = document(&set(), &GroupVersion::new(group, "v1")).expect("served");
            let paths = document["paths"].as_object().expect("paths").clone();
            paths
                .into_iter()
                .flat_map(|(path, item)| {
                    let methods: Vec<String> =
                        item.as_object().expect("item").keys().cloned().collect();
                    methods
                        .into_iter()
                        .filter(|m| m != "parameters")
                        .map(move |m| format!("{m} {path}"))
                })
                .collect()
        };
        assert_eq!(
            paths("authorization.k8s.io"),
            ["post /apis/authorization.k8s.io/v1/selfsubjectaccessreviews"]
        );
        let core = paths("");
        assert!(core.contains(
            &"post /api/v1/namespaces/{namespace}/serviceaccounts/{name}/token".to_owned()
        ));
        assert!(core.contains(&"get /api/v1/serviceaccounts".to_owned()));
        assert!(core.contains(&"delete /api/v1/namespaces/{namespace}/serviceaccounts".to_owned()));
        assert_eq!(core.len(), 9);
    }
}
