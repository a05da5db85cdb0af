//! What Kubernetes' documents say of fields and the generated types do not: how lists and maps
//! merge (`x-kubernetes-list-type`, `-list-map-keys`, `-map-type`, `-patch-strategy`,
//! `-patch-merge-key`), defaults, and which fields are not required after all.
//!
//! Strategic merge patch and server-side apply are wrong without these facts, silently: a list
//! whose merge key is unknown is replaced. A test compares every row with the OpenAPI documents of
//! Kubernetes. Left out are the defaults that only name the zero value of a Go field (`{}`, `""`,
//! `0`, `false`): they describe decoding, and as structural defaults they would add empty members.

mod core;
mod groups;

use serde_json::{Map, Value, json};

/// How the list or map in a field merges.
#[derive(Clone, Copy, Debug)]
enum Fact {
    /// A list of distinct scalars.
    Set,
    /// A set, also merged by strategic patches.
    MergeSet,
    /// A list of objects identified by these keys, replaced by strategic patches.
    Map(&'static [&'static str]),
    /// A list of objects identified by these keys; strategic patches merge by the first one.
    Merge(&'static [&'static str]),
    /// As `Merge` with one key; strategic patches may also say which members to keep (`$retainKeys`).
    MergeRetainingKeys(&'static str),
    /// A list that apply replaces and strategic patches merge by a key.
    MergeAtomic(&'static str),
    /// A map or object that apply replaces as a whole.
    AtomicMap,
    /// An object of an atomic type that is merged in this place.
    GranularMap,
    /// Only a strategy for strategic patches.
    Strategy(&'static str),
}

/// A default that is no zero value.
#[derive(Clone, Copy, Debug)]
enum Scalar {
    Int(i64),
    Text(&'static str),
}

/// The facts of one package of types.
struct Package {
    /// What component names begin with, `io.k8s.api.core.v1`.
    name: &'static str,
    /// Type, field, fact.
    fields: &'static [(&'static str, &'static str, Fact)],
    /// Type and those of its lists that are replaced as a whole and merge in no other way.
    atomic_lists: &'static [(&'static str, &'static [&'static str])],
    /// Types whose objects apply replaces as a whole.
    atomic_types: &'static [&'static str],
    /// Type, field, default.
    defaults: &'static [(&'static str, &'static str, Scalar)],
}

const PACKAGES: &[Package] = &[
    core::CORE,
    groups::APPS,
    groups::AUTHENTICATION,
    groups::AUTHORIZATION,
    groups::AUTOSCALING,
    groups::BATCH,
    groups::CERTIFICATES,
    groups::DISCOVERY,
    groups::NETWORKING,
    groups::POLICY,
    groups::RBAC,
    groups::STORAGE,
    groups::APIEXTENSIONS,
    groups::META,
];

/// Types whose `name` may be left out, though the generated types call it required.
const OPTIONAL_NAME: &[&str] = &[
    "ConfigMapEnvSource",
    "ConfigMapKeySelector",
    "ConfigMapProjection",
    "ConfigMapVolumeSource",
    "LocalObjectReference",
    "SecretEnvSource",
    "SecretKeySelector",
    "SecretProjection",
];

/// `x-kubernetes-unions` of types: discriminator (may be empty), field, its value.
const UNIONS: &[(&str, &str, &str, &str)] = &[
    (
        "AppArmorProfile",
        "type",
        "localhostProfile",
        "LocalhostProfile",
    ),
    ("PodSchedulingGroup", "", "podGroupName", "PodGroupName"),
    (
        "SeccompProfile",
        "type",
        "localhostProfile",
        "LocalhostProfile",
    ),
];

/// Completes the schema of a component with its facts.
pub(crate) fn annotate(component: &str, schema: &mut Map<String, Value>) {
    let Some((package, name)) = component.rsplit_once('.') else {
        return;
    };
    if package == core::CORE.name {
        annotate_core(name, schema);
    }
    let Some(facts) = PACKAGES.iter().find(|p| p.name == package) else {
        return;
    };
    if facts.atomic_types.contains(&name) {
        schema.insert("x-kubernetes-map-type".into(), json!("atomic"));
    }
    let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) else {
        return;
    };
    let mut set = |field: &str, extensions: Vec<(&str, Value)>| {
        if let Some(property) = properties.get_mut(field).and_then(Value::as_object_mut) {
            property.extend(
                extensions
                    .into_iter()
                    .map(|(key, value)| (key.to_owned(), value)),
            );
        }
    };
    for (_, fields) in facts.atomic_lists.iter().filter(|(of, _)| *of == name) {
        fields
            .iter()
            .for_each(|field| set(field, vec![(LIST_TYPE, json!("atomic"))]));
    }
    for (_, field, fact) in facts.fields.iter().filter(|(of, _, _)| *of == name) {
        set(field, extensions(*fact));
    }
    for (_, field, default) in facts.defaults.iter().filter(|(of, _, _)| *of == name) {
        let value = match default {
            Scalar::Int(number) => json!(number),
            Scalar::Text(text) => json!(text),
        };
        set(field, vec![("default", value)]);
    }
}

fn annotate_core(name: &str, schema: &mut Map<String, Value>) {
    if OPTIONAL_NAME.contains(&name)
        && let Some(required) = schema.get_mut("required").and_then(Value::as_array_mut)
    {
        required.retain(|field| field != "name");
        if required.is_empty() {
            schema.remove("required");
        }
    }
    for (_, discriminator, field, value) in UNIONS.iter().filter(|(of, ..)| *of == name) {
        let mut union = json!({"fields-to-discriminateBy": {*field: value}});
        if !discriminator.is_empty() {
            union["discriminator"] = json!(discriminator);
        }
        schema.insert("x-kubernetes-unions".into(), json!([union]));
    }
}

const LIST_TYPE: &str = "x-kubernetes-list-type";
const LIST_MAP_KEYS: &str = "x-kubernetes-list-map-keys";
const MAP_TYPE: &str = "x-kubernetes-map-type";
const MERGE_KEY: &str = "x-kubernetes-patch-merge-key";
const STRATEGY: &str = "x-kubernetes-patch-strategy";

/// The fact as OpenAPI extensions.
fn extensions(fact: Fact) -> Vec<(&'static str, Value)> {
    let map = |keys: &[&str]| vec![(LIST_TYPE, json!("map")), (LIST_MAP_KEYS, json!(keys))];
    let merged = |keys: &[&str], strategy: &str| {
        let patch = [
            (MERGE_KEY, json!(keys.first())),
            (STRATEGY, json!(strategy)),
        ];
        map(keys).into_iter().chain(patch).collect()
    };
    match fact {
        Fact::Set => vec![(LIST_TYPE, json!("set"))],
        Fact::MergeSet => vec![(LIST_TYPE, json!("set")), (STRATEGY, json!("merge"))],
        Fact::Map(keys) => map(keys),
        Fact::Merge(keys) => merged(keys, "merge"),
        Fact::MergeRetainingKeys(key) => merged(&[key], "merge,retainKeys"),
        Fact::MergeAtomic(key) => vec![
            (LIST_TYPE, json!("atomic")),
            (MERGE_KEY, json!(key)),
            (STRATEGY, json!("merge")),
        ],
        Fact::AtomicMap => vec![(MAP_TYPE, json!("atomic"))],
        Fact::GranularMap => vec![(MAP_TYPE, json!("granular"))],
        Fact::Strategy(strategy) => vec![(STRATEGY, json!(strategy))],
    }
}
