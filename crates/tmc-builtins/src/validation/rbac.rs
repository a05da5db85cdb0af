//! Roles and bindings.

use serde_json::Value;
use tmc_apimachinery::definition::NameRule;
use tmc_apimachinery::selector::LabelSelector;

use super::checks::{items, list, optional_name, present, required_text, same, text};
use crate::report::{Field, Report};

const GROUP: &str = "rbac.authorization.k8s.io";

pub(super) fn rbac(kind: &str, object: &Value, old: Option<&Value>, report: &mut Report) {
    match kind {
        "Role" => rules(object, true, report),
        "ClusterRole" => {
            rules(object, false, report);
            aggregation(object, report);
        }
        "RoleBinding" => binding(object, old, &["Role", "ClusterRole"], report),
        "ClusterRoleBinding" => binding(object, old, &["ClusterRole"], report),
        _ => {}
    }
}

fn rules(role: &Value, namespaced: bool, report: &mut Report) {
    for (rule, at) in items(role, "rules", &Field::new("")) {
        let has = |key: &str| !list(rule, key).is_empty();
        if !has("verbs") {
            report.required(&at.child("verbs"), "verbs must contain at least one value");
        }
        if has("nonResourceURLs") {
            let (urls, at) = (rule["nonResourceURLs"].clone(), at.child("nonResourceURLs"));
            if namespaced {
                let why = "namespaced rules cannot apply to non-resource URLs";
                report.invalid(&at, urls.clone(), why);
            }
            if has("apiGroups") || has("resources") || has("resourceNames") {
                let why = "rules cannot apply to both regular resources and non-resource URLs";
                report.invalid(&at, urls, why);
            }
            continue;
        }
        if !has("apiGroups") {
            let why = "resource rules must supply at least one api group";
            report.required(&at.child("apiGroups"), why);
        }
        if !has("resources") {
            let why = "resource rules must supply at least one resource";
            report.required(&at.child("resources"), why);
        }
    }
}

fn aggregation(role: &Value, report: &mut Report) {
    let Some(rule) = present(role, "aggregationRule") else {
        return;
    };
    let field = Field::new("aggregationRule");
    if list(rule, "clusterRoleSelectors").is_empty() {
        let why = "at least one clusterRoleSelector required if aggregationRule is non-nil";
        report.required(&field.child("clusterRoleSelectors"), why);
    }
    for (selector, at) in items(rule, "clusterRoleSelectors", &field) {
        report.extend(LabelSelector::validate_object(at.as_str(), selector));
    }
}

fn binding(object: &Value, old: Option<&Value>, kinds: &[&str], report: &mut Report) {
    let (role, field) = (&object["roleRef"], Field::new("roleRef"));
    let group = text(role, "apiGroup");
    if group != GROUP {
        report.not_supported(&field.child("apiGroup"), group, &[GROUP]);
    }
    let kind = text(role, "kind");
    if !kinds.contains(&kind) {
        report.not_supported(&field.child("kind"), kind, kinds);
    }
    required_text(role, "name", &field, report);
    optional_name(role, "name", NameRule::PathSegment, &field, report);
    let namespaced = kinds.len() > 1;
    for (subject, at) in items(object, "subjects", &Field::new("")) {
        self::subject(subject, namespaced, &at, report);
    }
    if let Some(old) = old
        && !same(role, &old["roleRef"])
    {
        report.invalid(&field, role.clone(), "cannot change roleRef");
    }
}

fn subject(subject: &Value, namespaced: bool, field: &Field, report: &mut Report) {
    required_text(subject, "name", field, report);
    let group = text(subject, "apiGroup");
    let at = field.child("apiGroup");
    match text(subject, "kind") {
        "ServiceAccount" => {
            optional_name(subject, "name", NameRule::Subdomain, field, report);
            if !group.is_empty() {
                report.not_supported(&at, group, &[""]);
            }
            if !namespaced {
                required_text(subject, "namespace", field, report);
            }
        }
        "User" | "Group" if group != GROUP => report.not_supported(&at, group, &[GROUP]),
        "User" | "Group" => {}
        other => {
            let kinds = ["ServiceAccount", "User", "Group"];
            report.not_supported(&field.child("kind"), other, &kinds);
        }
    }
}
