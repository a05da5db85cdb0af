//! CustomResourceDefinitions: names, versions, structural schemas.

use std::collections::HashSet;

use serde_json::Value;
use tmc_apimachinery::definition::NameRule;
use tmc_apimachinery::meta::meta;
use tmc_apimachinery::schema::Schema;

use super::checks::{items, list, name_faults, one_of, present, text};
use crate::report::{Field, Report};

const COLUMN_TYPES: [&str; 5] = ["boolean", "date", "integer", "number", "string"];
const APPROVAL: &str = "api-approved.kubernetes.io";

pub(super) fn definition(object: &Value, old: Option<&Value>, report: &mut Report) {
    let (spec, field) = (&object["spec"], Field::new("spec"));
    let (group, plural) = (text(spec, "group"), text(&spec["names"], "plural"));
    let name = meta(object).name();
    if old.is_none() && name != format!("{plural}.{group}") {
        let at = Field::new("metadata").child("name");
        report.invalid(&at, name, "must be spec.names.plural+\".\"+spec.group");
    }
    check_group(object, group, old, &field.child("group"), report);
    match text(spec, "scope") {
        "" => report.required(&field.child("scope"), ""),
        _ => one_of(spec, "scope", &["Cluster", "Namespaced"], &field, report),
    }
    names(&spec["names"], &field.child("names"), report);
    versions(spec, old.map(|old| &old["spec"]), &field, report);
    if spec.get("preserveUnknownFields") == Some(&Value::Bool(true)) {
        let why = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead";
        report.invalid(&field.child("preserveUnknownFields"), true, why);
    }
    // Versions are converted by `apiVersion` alone; to say otherwise would corrupt objects.
    let at = field.child("conversion");
    one_of(&spec["conversion"], "strategy", &["None"], &at, report);
    if let Some(old) = old {
        stored_versions(spec, old, report);
    }
}

fn check_group(
    object: &Value,
    group: &str,
    old: Option<&Value>,
    field: &Field,
    report: &mut Report,
) {
    if group.is_empty() {
        report.required(field, "");
        return;
    }
    let faults = name_faults(group, NameRule::Subdomain);
    if !faults.is_empty() {
        report.invalid(field, group, faults.join(","));
    } else if !group.contains('.') {
        report.invalid(field, group, "should be a domain with at least one dot");
    }
    let protected = ["k8s.io", "kubernetes.io"]
        .iter()
        .any(|domain| group == *domain || group.ends_with(&format!(".{domain}")));
    let approved = |object: &Value| {
        meta(object)
            .annotation(APPROVAL)
            .is_some_and(|a| !a.is_empty())
    };
    if protected && !approved(object) && old.is_none_or(approved) {
        let at = Field::new("metadata").child("annotations").key(APPROVAL);
        let why = "protected groups must have approval annotation \"api-approved.kubernetes.io\", see https://github.com/kubernetes/enhancements/pull/1111";
        report.required(&at, why);
    }
}

fn names(names: &Value, field: &Field, report: &mut Report) {
    for key in ["plural", "singular", "kind", "listKind"] {
        let name = text(names, key);
        if name.is_empty() {
            report.required(&field.child(key), "");
            continue;
        }
        let mixed = matches!(key, "kind" | "listKind");
        let checked = if mixed {
            name.to_lowercase()
        } else {
            name.to_owned()
        };
        let faults = name_faults(&checked, NameRule::Dns1035).join(",");
        if faults.is_empty() {
            continue;
        }
        let prefix = if mixed {
            "may have mixed case, but should otherwise match: "
        } else {
            ""
        };
        report.invalid(&field.child(key), name, format!("{prefix}{faults}"));
    }
    let kind = text(names, "kind");
    if !kind.is_empty() && kind == text(names, "listKind") {
        report.invalid(
            &field.child("listKind"),
            kind,
            "kind and listKind may not be the same",
        );
    }
    for key in ["shortNames", "categories"] {
        let at = field.child(key);
        for (index, name) in list(names, key)
            .iter()
            .filter_map(Value::as_str)
            .enumerate()
        {
            let faults = name_faults(name, NameRule::Dns1035);
            if !faults.is_empty() {
                report.invalid(&at.index(index), name, faults.join(","));
            }
        }
    }
}

fn versions(spec: &Value, old: Option<&Value>, field: &Field, report: &mut Report) {
    let all = list(spec, "versions");
    let at = field.child("versions");
    let unique: HashSet<&str> = all.iter().map(|v| text(v, "name")).collect();
    if unique.len() < all.len() {
        report.invalid(&at, names_of(all), "must contain unique version names");
    }
    let storing = all.iter().filter(|v| v["storage"] == true).count();
    if storing != 1 {
        let why = "must have exactly one version marked as storage version";
        report.invalid(&at, names_of(all), why);
    }
    for (version, at) in items(spec, "versions", field) {
        let name = text(version, "name");
        let faults = name_faults(name, NameRule::Dns1035);
        if !faults.is_empty() {
            report.invalid(&at.child("name"), name, faults.join(","));
        }
        let before = old.and_then(|old| {
            list(old, "versions")
                .iter()
                .find(|v| text(v, "name") == name)
        });
        schema(
            version,
            before,
            &at.child("schema").child("openAPIV3Schema"),
            report,
        );
        columns(version, &at, report);
        subresources(version, &at, report);
    }
}

/// Only names: whole versions would make a message of many pages.
fn names_of(versions: &[Value]) -> Vec<Value> {
    versions
        .iter()
        .map(|version| version["name"].clone())
        .collect()
}

fn schema(version: &Value, before: Option<&Value>, field: &Field, report: &mut Report) {
    let source = |version: &'_ Value| {
        version
            .pointer("/schema/openAPIV3Schema")
            .filter(|s| !s.is_null())
            .cloned()
    };
    let Some(given) = source(version) else {
        report.required(field, "");
        return;
    };
    if before
        .and_then(source)
        .is_some_and(|before| before == given)
    {
        return;
    }
    if let Err(causes) = Schema::compile(&given) {
        for mut cause in causes {
            let dot = if cause.field.is_empty() || cause.field.starts_with('[') {
                ""
            } else {
                "."
            };
            cause.field = format!("{field}{dot}{}", cause.field);
            report.push(cause);
        }
    }
}

fn columns(version: &Value, field: &Field, report: &mut Report) {
    for (column, at) in items(version, "additionalPrinterColumns", field) {
        if text(column, "name").is_empty() {
            report.required(&at.child("name"), "");
        }
        let one_of = format!("must be one of {}", COLUMN_TYPES.join(","));
        match text(column, "type") {
            "" => report.required(&at.child("type"), &one_of),
            kind if !COLUMN_TYPES.contains(&kind) => {
                report.invalid(&at.child("type"), kind, one_of);
            }
            _ => {}
        }
        if text(column, "jsonPath").is_empty() {
            report.required(&at.child("JSONPath"), "");
        }
    }
}

fn subresources(version: &Value, field: &Field, report: &mut Report) {
    let Some(scale) = present(&version["subresources"], "scale") else {
        return;
    };
    let at = field.child("subresources").child("scale");
    for (key, parent, needed) in [
        ("specReplicasPath", ".spec", true),
        ("statusReplicasPath", ".status", true),
        ("labelSelectorPath", "", false),
    ] {
        let (path, at) = (text(scale, key), at.child(key));
        let inside = |parent: &str| path.starts_with(&format!("{parent}."));
        if path.is_empty() {
            if needed {
                report.required(&at, "");
            }
        } else if needed && !inside(parent) {
            report.invalid(&at, path, format!("should be a json path under {parent}"));
        } else if !needed && !inside(".spec") && !inside(".status") {
            report.invalid(
                &at,
                path,
                "should be a json path under either .spec or .status",
            );
        }
    }
}

/// A version under which objects were stored stays until none are.
fn stored_versions(spec: &Value, old: &Value, report: &mut Report) {
    let kept: HashSet<&str> = list(spec, "versions")
        .iter()
        .map(|v| text(v, "name"))
        .collect();
    let stored = list(&old["status"], "storedVersions");
    let at = Field::new("status").child("storedVersions");
    for (index, version) in stored.iter().filter_map(Value::as_str).enumerate() {
        if !kept.contains(version) {
            let why = format!(
                "missing from spec.versions; {version} was previously a storage version, and must remain in spec.versions until a storage migration ensures no data remains persisted in {version} and removes {version} from status.storedVersions"
            );
            report.invalid(&at.index(index), version, why);
        }
    }
}
