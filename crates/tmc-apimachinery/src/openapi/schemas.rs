//! The components of a document: each kind, its list, and everything that they refer to.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::definition::{ApiSet, ResourceDefinition};
use crate::names::GroupVersionKind;
use crate::schema::{Definitions, object_meta_schema};

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";
const CONTAINER: &str = "#/components/schemas/";
const API_VERSION: &str = "APIVersion defines the versioned schema of this representation of an object. Servers should convert recognized schemas to the latest internal value, and may reject unrecognized values. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#resources";
const KIND: &str = "Kind is a string value representing the REST resource this object represents. Servers may infer this from the endpoint the client submits requests to. Cannot be updated. In CamelCase. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds";
const EMBEDDED_API_VERSION: &str = "apiVersion defines the versioned schema of this representation of an object. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#resources";
const EMBEDDED_KIND: &str = "kind is a string value representing the type of this object. In CamelCase. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds";
const METADATA: &str = "Standard object's metadata. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata";

/// The schemas collected for one document.
pub(super) struct Components {
    sources: Vec<Arc<Definitions>>,
    done: BTreeMap<String, Value>,
}

impl Components {
    /// Nothing yet; definitions are looked up in those of the whole set.
    pub(super) fn new(set: &ApiSet) -> Self {
        let mut sources: Vec<Arc<Definitions>> = Vec::new();
        for definitions in set.iter().filter_map(|d| d.schema.as_ref()?.definitions()) {
            if !sources.iter().any(|known| Arc::ptr_eq(known, definitions)) {
                sources.push(definitions.clone());
            }
        }
        Self {
            sources,
            done: BTreeMap::new(),
        }
    }

    /// The components by name.
    pub(super) fn finish(self) -> BTreeMap<String, Value> {
        self.done
    }

    /// A reference to the schema of a kind, which is included; `None` if it is not described.
    pub(super) fn kind(&mut self, definition: &ResourceDefinition) -> Option<Value> {
        let name = component_name(definition);
        if !self.done.contains_key(&name) {
            let schema = definition.schema.as_deref();
            let mut value = match schema {
                Some(schema) if schema.component_name().is_none() => {
                    let source = schema.source().clone();
                    self.reserve(&name);
                    let mut value = self.converted(source);
                    self.identify(&mut value, API_VERSION, KIND);
                    value
                }
                _ => {
                    let source = self.source(&name)?;
                    self.reserve(&name);
                    self.converted(source)
                }
            };
            mark(&mut value, &definition.gvk, &definition.gvk.kind);
            self.done.insert(name.clone(), value);
        }
        Some(reference(&name))
    }

    /// A reference to the schema of a kind's lists, which is included.
    pub(super) fn list(&mut self, definition: &ResourceDefinition) -> Option<Value> {
        let items = self.kind(definition)?;
        let own = component_name(definition);
        let prefix = own.rsplit_once('.').map_or("", |(prefix, _)| prefix);
        let name = format!("{prefix}.{}", definition.list_kind);
        if !self.done.contains_key(&name) {
            let kind = &definition.gvk.kind;
            let metadata = self.meta("ListMeta");
            let mut value = json!({
                "description": format!("{} is a list of {kind}", definition.list_kind),
                "type": "object",
                "required": ["items"],
                "properties": {
                    "apiVersion": {"description": API_VERSION, "type": "string"},
                    "kind": {"description": KIND, "type": "string"},
                    "metadata": {"description": "Standard list metadata.", "allOf": [metadata]},
                    "items": {
                        "description": format!("List of {}. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md", definition.plural),
                        "type": "array", "items": items,
                    },
                },
            });
            mark(&mut value, &definition.gvk, &definition.list_kind);
            self.done.insert(name.clone(), value);
        }
        Some(reference(&name))
    }

    /// A reference to a type of `meta/v1`, which is included.
    pub(super) fn meta(&mut self, kind: &str) -> Value {
        let name = format!("{META}.{kind}");
        self.include(&name);
        reference(&name)
    }

    /// A reference to the kind of a subresource, which is included; `None` if it is not described.
    pub(super) fn subresource(&mut self, gvk: &GroupVersionKind) -> Option<Value> {
        let name = built_in_name(gvk);
        if !self.done.contains_key(&name) {
            let source = self.source(&name).or_else(|| fallback(&name))?;
            self.reserve(&name);
            let mut value = self.converted(source);
            mark(&mut value, gvk, &gvk.kind);
            self.done.insert(name.clone(), value);
        }
        Some(reference(&name))
    }

    fn source(&self, name: &str) -> Option<Value> {
        self.sources
            .iter()
            .find_map(|definitions| definitions.get(name))
    }

    /// Marks a name as being included, so that recursive types end.
    fn reserve(&mut self, name: &str) {
        self.done.insert(name.to_owned(), Value::Null);
    }

    fn include(&mut self, name: &str) {
        if !self.done.contains_key(name) {
            self.reserve(name);
            let source = self.source(name).or_else(|| fallback(name));
            let value = self.converted(source.unwrap_or_else(|| json!({"type": "object"})));
            self.done.insert(name.to_owned(), value);
        }
    }

    /// Gives a resource the fields that every resource has, with descriptions of the first two.
    fn identify(&mut self, value: &mut Value, api_version: &str, kind: &str) {
        let metadata = self.meta("ObjectMeta");
        let Value::Object(schema) = value else { return };
        let properties = schema.entry("properties").or_insert_with(|| json!({}));
        properties["apiVersion"] = json!({"description": api_version, "type": "string"});
        properties["kind"] = json!({"description": kind, "type": "string"});
        properties["metadata"] = json!({"description": METADATA, "allOf": [metadata]});
    }

    /// A schema as documents carry it: references in one form and included, the long spelling of
    /// int-or-string, embedded resources identified.
    fn converted(&mut self, schema: Value) -> Value {
        let Value::Object(source) = schema else {
            return schema;
        };
        let mut out = Map::new();
        for (keyword, value) in source {
            let value = match (keyword.as_str(), value) {
                ("$ref", Value::String(target)) => {
                    let name = target.rsplit('/').next().unwrap_or_default();
                    self.include(name);
                    format!("{CONTAINER}{name}").into()
                }
                ("properties" | "patternProperties", Value::Object(members)) => {
                    let members = members.into_iter().map(|(k, v)| (k, self.converted(v)));
                    Value::Object(members.collect())
                }
                ("items" | "additionalProperties" | "not", inner) => self.converted(inner),
                ("allOf" | "anyOf" | "oneOf", Value::Array(branches)) => {
                    Value::Array(branches.into_iter().map(|b| self.converted(b)).collect())
                }
                (_, other) => other,
            };
            out.insert(keyword, value);
        }
        if out.len() > 1
            && let Some(target) = out.remove("$ref")
        {
            out.insert("allOf".into(), json!([{"$ref": target}]));
        }
        let is =
            |out: &Map<String, Value>, keyword: &str| out.get(keyword) == Some(&Value::Bool(true));
        if is(&out, "x-kubernetes-int-or-string")
            && !out.contains_key("anyOf")
            && !out.contains_key("allOf")
        {
            out.insert(
                "anyOf".into(),
                json!([{"type": "integer"}, {"type": "string"}]),
            );
        }
        let embedded = is(&out, "x-kubernetes-embedded-resource");
        let mut value = Value::Object(out);
        if embedded {
            self.identify(&mut value, EMBEDDED_API_VERSION, EMBEDDED_KIND);
            value["required"] = embedded_required(&value);
        }
        value
    }
}

fn embedded_required(schema: &Value) -> Value {
    let mut names: Vec<Value> = schema["required"].as_array().cloned().unwrap_or_default();
    for name in ["apiVersion", "kind"] {
        if !names.iter().any(|n| n == name) {
            names.push(name.into());
        }
    }
    names.into()
}

fn reference(name: &str) -> Value {
    json!({"$ref": format!("{CONTAINER}{name}")})
}

/// Names the kind that a component describes.
fn mark(schema: &mut Value, gvk: &GroupVersionKind, kind: &str) {
    if let Value::Object(schema) = schema {
        let kinds = json!([{"group": gvk.group, "version": gvk.version, "kind": kind}]);
        schema.insert("x-kubernetes-group-version-kind".into(), kinds);
    }
}

/// The name of a kind's component: that of its definition, or the reversed group, version, kind.
fn component_name(definition: &ResourceDefinition) -> String {
    let named = definition.schema.as_ref().and_then(|s| s.component_name());
    match named {
        Some(name) => name.to_owned(),
        None if definition.custom || definition.schema.is_some() => {
            let gvk = &definition.gvk;
            let reversed: Vec<&str> = gvk.group.rsplit('.').collect();
            format!("{}.{}.{}", reversed.join("."), gvk.version, gvk.kind)
        }
        None => built_in_name(&definition.gvk),
    }
}

/// The name that Kubernetes gives a type of its own (`rbac.authorization.k8s.io` is `rbac`).
fn built_in_name(gvk: &GroupVersionKind) -> String {
    let group = gvk
        .group
        .split('.')
        .next()
        .filter(|g| !g.is_empty())
        .unwrap_or("core");
    format!("io.k8s.api.{group}.{}.{}", gvk.version, gvk.kind)
}

/// Types that documents need and no definition of the set describes.
fn fallback(name: &str) -> Option<Value> {
    let text = json!({"type": "string"});
    let whole = json!({"type": "integer", "format": "int64"});
    let replicas = json!({"type": "integer", "format": "int32"});
    if name == "io.k8s.api.autoscaling.v1.Scale" {
        return Some(json!({
            "description": "Scale represents a scaling request for a resource.", "type": "object",
            "properties": {
                "apiVersion": {"description": API_VERSION, "type": "string"},
                "kind": {"description": KIND, "type": "string"},
                "metadata": {"description": METADATA, "allOf": [{"$ref": format!("{CONTAINER}{META}.ObjectMeta")}]},
                "spec": {"description": "spec defines the behavior of the scale.", "type": "object", "properties": {"replicas": replicas}},
                "status": {"description": "status is the current status of the scale. Read-only.", "type": "object",
                           "required": ["replicas"], "properties": {"replicas": replicas, "selector": text}},
            },
        }));
    }
    Some(match name.strip_prefix(META)?.strip_prefix('.')? {
        "ObjectMeta" => {
            let mut schema = object_meta_schema();
            schema["description"] = "ObjectMeta is metadata that all persisted resources must have, which includes all objects users must create.".into();
            schema
        }
        "ListMeta" => json!({
            "description": "ListMeta describes metadata that synthetic resources must have, including lists and various status objects.",
            "type": "object",
            "properties": {"continue": text, "remainingItemCount": whole, "resourceVersion": text, "selfLink": text},
        }),
        "Patch" => json!({
            "description": "Patch is provided to give a concrete name and type to the Kubernetes PATCH request body.",
            "type": "object",
        }),
        "Status" => json!({
            "description": "Status is a return value for calls that don't return other objects.",
            "type": "object",
            "properties": {
                "apiVersion": {"description": API_VERSION, "type": "string"},
                "kind": {"description": KIND, "type": "string"},
                "metadata": {"type": "object"}, "status": text, "message": text, "reason": text,
                "code": replicas, "details": {"type": "object"},
            },
        }),
        "DeleteOptions" => json!({
            "description": "DeleteOptions may be provided when deleting an API object.",
            "type": "object",
            "properties": {
                "apiVersion": {"description": API_VERSION, "type": "string"},
                "kind": {"description": KIND, "type": "string"},
                "dryRun": {"type": "array", "items": text}, "gracePeriodSeconds": whole,
                "orphanDependents": {"type": "boolean"}, "propagationPolicy": text,
                "preconditions": {"type": "object", "properties": {"uid": text, "resourceVersion": text}},
            },
        }),
        _ => return None,
    })
}
