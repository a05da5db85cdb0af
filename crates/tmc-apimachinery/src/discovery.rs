//! Discovery documents: `/api`, `/apis`, group lists, resource lists, and the aggregated form.
//!
//! Every document is a function of the set alone: sorted, free of clock and chance, so that equal
//! sets give equal bytes and a hash of them can be an ETag. Groups of built-in kinds stand before
//! groups of custom resources only, since clients resolve an ambiguous name (`deployments`) to the
//! first group that has it, and a tenant must not be able to shadow a built-in one.

#[cfg(test)]
pub(crate) mod fixtures;

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::definition::{ApiSet, ResourceDefinition, Verbs};
use crate::names::{GroupVersion, GroupVersionKind};
use crate::version_priority::compare_versions;

/// What a client is told of a stored kind's storage: changes when the stored version does.
fn storage_version_hash(definition: &ResourceDefinition) -> Option<String> {
    if definition.schema.is_none() || !definition.verbs.contains(Verbs::GET) {
        return None; // nothing of it is stored
    }
    let gvk = &definition.gvk;
    let text = format!("{}/{}/{}", gvk.group, definition.storage_version, gvk.kind);
    let hash = Sha256::digest(text.as_bytes());
    Some(base64::engine::general_purpose::STANDARD.encode(&hash[..8]))
}

/// The served versions of each group, highest priority first; the core group is left out.
fn groups(set: &ApiSet) -> Vec<(&str, Vec<&str>)> {
    let mut found: BTreeMap<(bool, &str), BTreeSet<&str>> = BTreeMap::new();
    let built_in: BTreeSet<&str> = set
        .iter()
        .filter(|d| !d.custom)
        .map(|d| d.gvk.group.as_str())
        .collect();
    for definition in set.iter().filter(|d| served(d) && !d.gvk.group.is_empty()) {
        let group = definition.gvk.group.as_str();
        let key = (!built_in.contains(group), group);
        found
            .entry(key)
            .or_default()
            .insert(&definition.gvk.version);
    }
    found
        .into_iter()
        .map(|((_, group), versions)| (group, by_priority(versions)))
        .collect()
}

fn by_priority<'a>(versions: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let mut versions: Vec<&str> = versions.into_iter().collect();
    versions.sort_by(|a, b| compare_versions(a, b));
    versions
}

fn served(definition: &ResourceDefinition) -> bool {
    definition.verbs != Verbs::NONE || !definition.subresources.other.is_empty()
}

/// The resources of one group-version by name.
fn resources<'a>(
    set: &'a ApiSet,
    group: &'a str,
    version: &'a str,
) -> impl Iterator<Item = &'a ResourceDefinition> {
    let here = move |d: &&ResourceDefinition| {
        d.gvk.group == group && d.gvk.version == version && served(d)
    };
    set.iter().map(|d| &**d).filter(here)
}

/// Verbs as discovery lists them: alphabetical, for custom resources in kube-apiserver's own
/// order, which `kubectl api-resources -o wide` prints as it comes.
fn verb_names(definition: &ResourceDefinition) -> Vec<&'static str> {
    const CUSTOM: [&str; 8] = [
        "delete",
        "deletecollection",
        "get",
        "list",
        "patch",
        "create",
        "update",
        "watch",
    ];
    let mut names = definition.verbs.names();
    if definition.custom {
        names.sort_by_key(|name| CUSTOM.iter().position(|n| n == name));
    }
    names
}

/// A subresource: name, kind that it answers with, verbs.
struct Subresource<'a> {
    name: &'a str,
    kind: GroupVersionKind,
    verbs: Verbs,
}

/// Everything under a resource that has a verb, by name.
fn subresources(definition: &ResourceDefinition) -> Vec<Subresource<'_>> {
    let mut found = Vec::new();
    let given = |verb: Verbs| {
        if definition.verbs.contains(verb) {
            verb
        } else {
            Verbs::NONE
        }
    };
    let verbs = given(Verbs::GET)
        .and(given(Verbs::PATCH))
        .and(given(Verbs::UPDATE));
    if definition.subresources.status {
        found.push(Subresource {
            name: "status",
            kind: definition.gvk.clone(),
            verbs,
        });
    }
    if definition.subresources.scale.is_some() {
        let kind = GroupVersionKind::new("autoscaling", "v1", "Scale");
        found.push(Subresource {
            name: "scale",
            kind,
            verbs,
        });
    }
    for (name, (kind, verbs)) in &definition.subresources.other {
        found.push(Subresource {
            name,
            kind: kind.clone(),
            verbs: *verbs,
        });
    }
    found.retain(|s| s.verbs != Verbs::NONE);
    found.sort_by(|a, b| a.name.cmp(b.name));
    found
}

/// `GET /api` (`APIVersions`).
pub fn api_versions(set: &ApiSet) -> Value {
    let core: BTreeSet<&str> = set
        .iter()
        .filter(|d| d.gvk.group.is_empty())
        .map(|d| d.gvk.version.as_str())
        .collect();
    json!({
        "kind": "APIVersions",
        "versions": by_priority(core),
        "serverAddressByClientCIDRs": [],
    })
}

/// `GET /apis` (`APIGroupList`).
pub fn group_list(set: &ApiSet) -> Value {
    let groups: Vec<Value> = groups(set)
        .iter()
        .map(|(name, versions)| group_value(name, versions))
        .collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

/// `GET /apis/<group>` (`APIGroup`), `None` if nothing of it is served.
pub fn group(set: &ApiSet, group: &str) -> Option<Value> {
    let groups = groups(set);
    let (name, versions) = groups.iter().find(|(name, _)| *name == group)?;
    let mut value = group_value(name, versions);
    value["kind"] = "APIGroup".into();
    value["apiVersion"] = "v1".into();
    Some(value)
}

fn group_value(name: &str, versions: &[&str]) -> Value {
    let version = |v: &&str| json!({"groupVersion": format!("{name}/{v}"), "version": v});
    json!({
        "name": name,
        "versions": versions.iter().map(version).collect::<Vec<_>>(),
        "preferredVersion": versions.first().map(version),
    })
}

/// `GET /apis/<group>/<version>` or `/api/v1` (`APIResourceList`); `None` if nothing of it is
/// served.
pub fn resource_list(set: &ApiSet, gv: &GroupVersion) -> Option<Value> {
    let list: Vec<Value> = resources(set, &gv.group, &gv.version)
        .flat_map(|d| resource_values(d, gv))
        .collect();
    (!list.is_empty()).then(|| {
        json!({
            "kind": "APIResourceList", "apiVersion": "v1",
            "groupVersion": gv.to_string(), "resources": list,
        })
    })
}

/// A resource and its subresources.
fn resource_values(definition: &ResourceDefinition, gv: &GroupVersion) -> Vec<Value> {
    let mut main = Map::new();
    main.insert("name".into(), definition.plural.as_str().into());
    main.insert("singularName".into(), definition.singular.as_str().into());
    main.insert("namespaced".into(), definition.namespaced().into());
    main.insert("kind".into(), definition.gvk.kind.as_str().into());
    main.insert("verbs".into(), json!(verb_names(definition)));
    insert_names(definition, &mut main);
    if let Some(hash) = storage_version_hash(definition) {
        main.insert("storageVersionHash".into(), hash.into());
    }
    let parts = subresources(definition).into_iter().map(|part| {
        let mut value = json!({
            "name": format!("{}/{}", definition.plural, part.name),
            "singularName": "",
            "namespaced": definition.namespaced(),
            "kind": part.kind.kind,
            "verbs": part.verbs.names(),
        });
        if part.kind.group_version() != *gv {
            value["group"] = part.kind.group.into();
            value["version"] = part.kind.version.into();
        }
        value
    });
    let main = (definition.verbs != Verbs::NONE).then_some(Value::Object(main));
    main.into_iter().chain(parts).collect()
}

fn insert_names(definition: &ResourceDefinition, into: &mut Map<String, Value>) {
    for (key, names) in [
        ("shortNames", &definition.short_names),
        ("categories", &definition.categories),
    ] {
        if !names.is_empty() {
            into.insert(key.into(), json!(names));
        }
    }
}

/// `GET /api` or `/apis` asked for as `APIGroupDiscoveryList` (`apidiscovery.k8s.io/v2`);
/// `legacy` true for `/api`. Answer it as
/// `application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList`.
pub fn aggregated(set: &ApiSet, legacy: bool) -> Value {
    let items: Vec<Value> = if legacy {
        let core = set.iter().filter(|d| d.gvk.group.is_empty() && served(d));
        let versions = by_priority(
            core.map(|d| d.gvk.version.as_str())
                .collect::<BTreeSet<_>>(),
        );
        match versions.is_empty() {
            true => Vec::new(),
            false => {
                vec![json!({"metadata": {}, "versions": aggregated_versions(set, "", &versions)})]
            }
        }
    } else {
        let item = |(name, versions): &(&str, Vec<&str>)| json!({"metadata": {"name": name}, "versions": aggregated_versions(set, name, versions)});
        groups(set).iter().map(item).collect()
    };
    json!({
        "kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2",
        "metadata": {}, "items": items,
    })
}

fn aggregated_versions(set: &ApiSet, group: &str, versions: &[&str]) -> Vec<Value> {
    let one = |version: &&str| {
        let resources: Vec<Value> = resources(set, group, version)
            .map(aggregated_resource)
            .collect();
        json!({"version": version, "resources": resources, "freshness": "Current"})
    };
    versions.iter().map(one).collect()
}

fn aggregated_resource(definition: &ResourceDefinition) -> Value {
    let kind = |gvk: &GroupVersionKind| json!({"group": gvk.group, "version": gvk.version, "kind": gvk.kind});
    let mut value = Map::new();
    value.insert("resource".into(), definition.plural.as_str().into());
    value.insert("responseKind".into(), kind(&definition.gvk));
    let scope = if definition.namespaced() {
        "Namespaced"
    } else {
        "Cluster"
    };
    value.insert("scope".into(), scope.into());
    value.insert(
        "singularResource".into(),
        definition.singular.as_str().into(),
    );
    value.insert("verbs".into(), json!(verb_names(definition)));
    insert_names(definition, &mut value);
    let parts: Vec<Value> = subresources(definition)
        .iter()
        .map(|part| {
            json!({
                "subresource": part.name, "responseKind": kind(&part.kind),
                "verbs": part.verbs.names(),
            })
        })
        .collect();
    if !parts.is_empty() {
        value.insert("subresources".into(), parts.into());
    }
    Value::Object(value)
}

#[cfg(test)]
mod tests {
    use super::fixtures::{built_in, custom, set};
    use super::*;
    use crate::definition::{ScalePaths, Subresources};

    #[test]
    fn the_core_group_is_listed_at_api_alone() {
        assert_eq!(
            api_versions(&set()),
            json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []})
        );
        assert_eq!(group(&set(), ""), None);
    }

    #[test]
    fn custom_groups_stand_behind_built_in_ones_and_prefer_the_best_version() {
        let list = group_list(&set());
        let names: Vec<_> = list["groups"]
            .as_array()
            .expect("list")
            .iter()
            .map(|g| &g["name"])
            .collect();
        assert_eq!(names, ["apps", "authorization.k8s.io", "aaa.example.com"]);
        assert_eq!(
            group(&set(), "aaa.example.com"),
            Some(json!({
                "kind": "APIGroup", "apiVersion": "v1", "name": "aaa.example.com",
                "versions": [
                    {"groupVersion": "aaa.example.com/v1", "version": "v1"},
                    {"groupVersion": "aaa.example.com/v1alpha1", "version": "v1alpha1"},
                ],
                "preferredVersion": {"groupVersion": "aaa.example.com/v1", "version": "v1"},
            }))
        );
        assert_eq!(group(&set(), "none"), None);
    }

    #[test]
    fn resources_are_listed_with_their_subresources_as_the_real_server_does() {
        assert_eq!(
            resource_list(&set(), &GroupVersion::new("apps", "v1")),
            Some(json!({
                "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "apps/v1",
                "resources": [
                    {
                        "name": "deployments", "singularName": "deployment", "namespaced": true,
                        "kind": "Deployment", "shortNames": ["deploy"], "categories": ["all"],
                        "verbs": ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"],
                        "storageVersionHash": "8aSe+NMegvE=",
                    },
                    {
                        "name": "deployments/scale", "singularName": "", "namespaced": true,
                        "group": "autoscaling", "version": "v1", "kind": "Scale",
                        "verbs": ["get", "patch", "update"],
                    },
                    {
                        "name": "deployments/status", "singularName": "", "namespaced": true,
                        "kind": "Deployment", "verbs": ["get", "patch", "update"],
                    },
                ],
            }))
        );
        assert_eq!(
            resource_list(&set(), &GroupVersion::new("apps", "v2")),
            None
        );
    }

    #[test]
    fn reviews_have_no_storage_and_further_subresources_name_their_kind() {
        let reviews = resource_list(&set(), &GroupVersion::new("authorization.k8s.io", "v1"));
        assert_eq!(
            reviews.expect("served")["resources"],
            json!([{
                "name": "selfsubjectaccessreviews", "singularName": "selfsubjectaccessreview",
                "namespaced": false, "kind": "SelfSubjectAccessReview", "verbs": ["create"],
            }])
        );
        let core = resource_list(&set(), &GroupVersion::new("", "v1")).expect("served");
        assert_eq!(
            core["resources"][1],
            json!({
                "name": "serviceaccounts/token", "singularName": "", "namespaced": true,
                "group": "authentication.k8s.io", "version": "v1", "kind": "TokenRequest",
                "verbs": ["create"],
            })
        );
    }

    #[test]
    fn the_aggregated_form_says_the_same() {
        let list = aggregated(&set(), false);
        assert_eq!(
            (&list["kind"], &list["apiVersion"]),
            (
                &json!("APIGroupDiscoveryList"),
                &json!("apidiscovery.k8s.io/v2")
            )
        );
        assert_eq!(
            list["items"][2],
            json!({
                "metadata": {"name": "aaa.example.com"},
                "versions": [
                    {
                        "version": "v1", "freshness": "Current",
                        "resources": [{
                            "resource": "foos", "scope": "Namespaced", "singularResource": "foo",
                            "responseKind": {"group": "aaa.example.com", "version": "v1", "kind": "Foo"},
                            "verbs": ["delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"],
                            "shortNames": ["fo"], "categories": ["all"],
                            "subresources": [
                                {"subresource": "scale", "verbs": ["get", "patch", "update"],
                                 "responseKind": {"group": "autoscaling", "version": "v1", "kind": "Scale"}},
                                {"subresource": "status", "verbs": ["get", "patch", "update"],
                                 "responseKind": {"group": "aaa.example.com", "version": "v1", "kind": "Foo"}},
                            ],
                        }],
                    },
                    {
                        "version": "v1alpha1", "freshness": "Current",
                        "resources": [{
                            "resource": "foos", "scope": "Namespaced", "singularResource": "foo",
                            "responseKind": {"group": "aaa.example.com", "version": "v1alpha1", "kind": "Foo"},
                            "verbs": ["delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"],
                            "shortNames": ["fo"], "categories": ["all"],
                        }],
                    },
                ],
            })
        );
        let core = aggregated(&set(), true);
        assert_eq!(core["items"][0]["metadata"], json!({}));
        assert_eq!(
            core["items"][0]["versions"][0]["resources"][0]["resource"],
            "serviceaccounts"
        );
        assert_eq!(aggregated(&ApiSet::default(), true)["items"], json!([]));
    }

    #[test]
    fn what_a_surface_cannot_do_is_not_announced() {
        let mut view = built_in("apps", "v1", "Deployment", "deployments");
        view.verbs = Verbs::GET.and(Verbs::LIST).and(Verbs::WATCH);
        view.subresources = Subresources {
            status: true,
            scale: Some(ScalePaths {
                spec_replicas: "spec.replicas".into(),
                status_replicas: "status.replicas".into(),
                selector: None,
            }),
            ..Subresources::default()
        };
        let mut hidden = custom("aaa.example.com", "v1", "Foo", "foos");
        hidden.verbs = Verbs::NONE;
        hidden.subresources = Subresources::default();
        let set = ApiSet::new([view.into(), hidden.into()]);
        let list = resource_list(&set, &GroupVersion::new("apps", "v1")).expect("served");
        assert_eq!(list["resources"][1]["verbs"], json!(["get"]));
        assert_eq!(group_list(&set)["groups"].as_array().map(Vec::len), Some(1));
        assert_eq!(
            resource_list(&set, &GroupVersion::new("aaa.example.com", "v1")),
            None
        );
    }
}
