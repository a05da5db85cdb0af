//! Review kinds: questions that are answered, not stored.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};
use tmc_apimachinery::status::{ApiError, Cause, Result};
use tmc_apimachinery::user::{Attributes, Decision, ResourceTarget, Target, UserInfo};
use tmc_apimachinery::{ClusterScope, GroupVersionKind};
use tmc_server::resource::{Object, Written};

use crate::storage::{Core, Place};

/// Whether objects of a kind are reviews.
pub(crate) fn is_review(gvk: &GroupVersionKind) -> bool {
    matches!(
        (gvk.group.as_str(), gvk.kind.as_str()),
        (
            "authorization.k8s.io",
            "SubjectAccessReview"
                | "LocalSubjectAccessReview"
                | "SelfSubjectAccessReview"
                | "SelfSubjectRulesReview"
        ) | ("authentication.k8s.io", "SelfSubjectReview" | "TokenReview")
    )
}

impl Core {
    /// Answers a review.
    pub(crate) fn review(self: &Arc<Self>, place: &Place, mut object: Value) -> Result<Written> {
        let status = match place.definition.gvk.kind.as_str() {
            "SelfSubjectReview" => json!({"userInfo": *place.user}),
            "TokenReview" => self.review_token(place, &object["spec"])?,
            "SelfSubjectRulesReview" => self.rules_review(place, &object)?,
            "SelfSubjectAccessReview" => {
                let attributes = attributes(place, (*place.user).clone(), &object["spec"])?;
                access_status(&self.review_access(&attributes))
            }
            kind => {
                let user = subject(&object["spec"], kind)?;
                let attributes = attributes(place, user, &object["spec"])?;
                if kind == "LocalSubjectAccessReview" {
                    check_namespace(place, &attributes)?;
                }
                access_status(&self.review_access(&attributes))
            }
        };
        object["apiVersion"] = place.definition.api_version().into();
        object["kind"] = place.definition.gvk.kind.as_str().into();
        object["status"] = status;
        if !object["metadata"].is_object() {
            object["metadata"] = json!({"creationTimestamp": null});
        }
        Ok(Written {
            object: Object::from_value(&object),
            created: true,
            warnings: Vec::new(),
        })
    }

    fn rules_review(&self, place: &Place, object: &Value) -> Result<Value> {
        let namespace = object["spec"]["namespace"].as_str().unwrap_or_default();
        if namespace.is_empty() {
            return Err(ApiError::bad_request(
                "no namespace on request: set spec.namespace",
            ));
        }
        let (mut resources, mut paths) = (Vec::new(), Vec::new());
        if crate::rbac::is_privileged(&place.user) {
            resources.push(json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}));
            paths.push(json!({"verbs": ["*"], "nonResourceURLs": ["*"]}));
        }
        for rules in self
            .rbac
            .rules_for(self, &place.cluster, &place.user, namespace)
        {
            for rule in rules.iter() {
                let list = if rule.paths.is_empty() {
                    &mut resources
                } else {
                    &mut paths
                };
                list.push(rule.to_value());
            }
        }
        Ok(json!({"resourceRules": resources, "nonResourceRules": paths, "incomplete": false}))
    }
}

fn access_status(decision: &Decision) -> Value {
    match decision {
        Decision::Allow => json!({"allowed": true}),
        Decision::Deny(reason) => json!({"allowed": false, "denied": true, "reason": reason}),
        Decision::NoOpinion(reason) if reason.is_empty() => json!({"allowed": false}),
        Decision::NoOpinion(reason) => json!({"allowed": false, "reason": reason}),
    }
}

fn invalid(kind: &str, field: &str, why: &str) -> ApiError {
    let cause = Cause::required(field, why);
    ApiError::invalid("authorization.k8s.io", kind, "", vec![cause])
}

/// The subject of a SubjectAccessReview. An empty one would ask about nobody, so it is refused.
fn subject(spec: &Value, kind: &str) -> Result<UserInfo> {
    let texts = |value: &Value| -> Vec<String> {
        let list = value.as_array().into_iter().flatten();
        list.filter_map(|v| v.as_str().map(str::to_owned)).collect()
    };
    let name = spec["user"].as_str().unwrap_or_default().to_owned();
    let groups = texts(&spec["groups"]);
    if name.is_empty() && groups.is_empty() {
        return Err(invalid(
            kind,
            "spec.user",
            "at least one of user or groups must be specified",
        ));
    }
    let mut extra = BTreeMap::new();
    for (key, values) in spec["extra"].as_object().into_iter().flatten() {
        extra.insert(key.clone(), texts(values));
    }
    Ok(UserInfo {
        name,
        uid: spec["uid"].as_str().unwrap_or_default().to_owned(),
        groups,
        extra,
    })
}

fn attributes(place: &Place, user: UserInfo, spec: &Value) -> Result<Attributes> {
    let kind = &place.definition.gvk.kind;
    let text = |value: &Value, key: &str| value[key].as_str().unwrap_or_default().to_owned();
    let (resource, path) = (&spec["resourceAttributes"], &spec["nonResourceAttributes"]);
    let (verb, target) = match (resource.is_object(), path.is_object()) {
        (true, false) => {
            let target = ResourceTarget {
                group: text(resource, "group"),
                version: text(resource, "version"),
                resource: text(resource, "resource"),
                subresource: text(resource, "subresource"),
                namespace: text(resource, "namespace"),
                name: text(resource, "name"),
            };
            (text(resource, "verb"), Target::Resource(target))
        }
        (false, true) => (text(path, "verb"), Target::Path(text(path, "path"))),
        _ => {
            return Err(invalid(
                kind,
                "spec.resourceAttributes",
                "exactly one of nonResourceAttributes or resourceAttributes must be specified",
            ));
        }
    };
    Ok(Attributes {
        user,
        cluster: ClusterScope::One(place.cluster.clone()),
        verb,
        target,
    })
}

fn check_namespace(place: &Place, attributes: &Attributes) -> Result<()> {
    match &attributes.target {
        Target::Resource(target) if target.namespace == place.namespace => Ok(()),
        _ => Err(ApiError::bad_request(format!(
            "spec.resourceAttributes.namespace must be the namespace of the URL, {}",
            place.namespace
        ))),
    }
}
