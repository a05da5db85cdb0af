//! A small API set for tests of discovery and OpenAPI documents.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::json;

use crate::definition::{
    ApiSet, NameRule, ResourceDefinition, ScalePaths, Scope, Subresources, Verbs,
};
use crate::names::GroupVersionKind;
use crate::schema::{Definitions, Schema};

fn definitions() -> Arc<Definitions> {
    let reference = |name: &str| json!({"$ref": format!("#/components/schemas/{name}")});
    let meta = "io.k8s.apimachinery.pkg.apis.meta.v1";
    Arc::new(Definitions::new([
        (
            "io.k8s.api.apps.v1.Deployment".to_owned(),
            json!({
                "description": "Deployment enables declarative updates.", "type": "object",
                "properties": {
                    "apiVersion": {"type": "string"}, "kind": {"type": "string"},
                    "metadata": {"description": "Standard metadata.", "$ref": format!("#/components/schemas/{meta}.ObjectMeta")},
                    "spec": reference("io.k8s.api.apps.v1.DeploymentSpec"),
                },
            }),
        ),
        (
            "io.k8s.api.apps.v1.DeploymentSpec".to_owned(),
            json!({"type": "object", "properties": {
                "replicas": {"type": "integer", "format": "int32"},
                "default": {"type": "string"}, "$ref": {"type": "string"},
                "deeper": reference("io.k8s.api.apps.v1.DeploymentSpec"),
            }}),
        ),
        (
            format!("{meta}.ObjectMeta"),
            json!({"description": "ObjectMeta is metadata.", "type": "object",
                   "properties": {"name": {"type": "string"}, "creationTimestamp": reference(&format!("{meta}.Time"))}}),
        ),
        (
            format!("{meta}.Time"),
            json!({"type": "string", "format": "date-time"}),
        ),
        (
            "io.k8s.api.core.v1.ServiceAccount".to_owned(),
            json!({"type": "object"}),
        ),
        (
            "io.k8s.api.unused.v1.Thing".to_owned(),
            json!({"type": "object"}),
        ),
    ]))
}

fn definition(gvk: GroupVersionKind, plural: &str) -> ResourceDefinition {
    ResourceDefinition {
        plural: plural.into(),
        singular: gvk.kind.to_lowercase(),
        list_kind: format!("{}List", gvk.kind),
        short_names: Vec::new(),
        categories: Vec::new(),
        scope: Scope::Namespaced,
        verbs: Verbs::ALL,
        subresources: Subresources::default(),
        schema: None,
        columns: Vec::new(),
        strategic: false,
        selectable_fields: Vec::new(),
        name_rule: NameRule::default(),
        generation: true,
        custom: false,
        immutable_fields: Vec::new(),
        storage_version: "v1".into(),
        gvk,
    }
}

/// A built-in kind whose schema is a reference.
pub(crate) fn built_in(group: &str, version: &str, kind: &str, plural: &str) -> ResourceDefinition {
    let name = format!(
        "io.k8s.api.{}.{version}.{kind}",
        if group.is_empty() { "core" } else { group }
    );
    let source = json!({"$ref": format!("#/components/schemas/{name}")});
    ResourceDefinition {
        schema: Some(Arc::new(
            Schema::compile_with(&source, definitions()).expect("compiles"),
        )),
        strategic: true,
        ..definition(GroupVersionKind::new(group, version, kind), plural)
    }
}

fn status_and_scale() -> Subresources {
    Subresources {
        status: true,
        scale: Some(ScalePaths {
            spec_replicas: "spec.replicas".into(),
            status_replicas: "status.replicas".into(),
            selector: None,
        }),
        ..Subresources::default()
    }
}

/// A custom resource.
pub(crate) fn custom(group: &str, version: &str, kind: &str, plural: &str) -> ResourceDefinition {
    let source = json!({
        "description": "Foo is for tests.", "type": "object",
        "properties": {
            "metadata": {"type": "object"},
            "spec": {
                "type": "object",
                "properties": {
                    "port": {"x-kubernetes-int-or-string": true},
                    "pod": {"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true},
                },
            },
        },
    });
    ResourceDefinition {
        schema: Some(Arc::new(Schema::compile(&source).expect("compiles"))),
        short_names: vec!["fo".into()],
        categories: vec!["all".into()],
        custom: true,
        ..definition(GroupVersionKind::new(group, version, kind), plural)
    }
}

/// Deployments, service accounts, a review, and a custom resource in two versions.
pub(crate) fn set() -> ApiSet {
    let deployments = ResourceDefinition {
        short_names: vec!["deploy".into()],
        categories: vec!["all".into()],
        subresources: status_and_scale(),
        ..built_in("apps", "v1", "Deployment", "deployments")
    };
    let token = GroupVersionKind::new("authentication.k8s.io", "v1", "TokenRequest");
    let accounts = ResourceDefinition {
        subresources: Subresources {
            other: BTreeMap::from([("token".to_owned(), (token, Verbs::CREATE))]),
            ..Subresources::default()
        },
        ..built_in("", "v1", "ServiceAccount", "serviceaccounts")
    };
    let review = ResourceDefinition {
        scope: Scope::Cluster,
        verbs: Verbs::CREATE,
        ..definition(
            GroupVersionKind::new("authorization.k8s.io", "v1", "SelfSubjectAccessReview"),
            "selfsubjectaccessreviews",
        )
    };
    let foos = ResourceDefinition {
        subresources: status_and_scale(),
        ..custom("aaa.example.com", "v1", "Foo", "foos")
    };
    let old = custom("aaa.example.com", "v1alpha1", "Foo", "foos");
    ApiSet::new([deployments, accounts, review, foos, old].map(Arc::new))
}
