//! Volumes, claims, storage classes and limits.

use std::collections::HashSet;

use serde_json::Value;
use tmc_apimachinery::definition::NameRule;
use tmc_apimachinery::quantity::Quantity;

use super::checks::{items, list, map, one_of, optional_name, present, put, same, selector, text, unique};
use super::report::{Field, Report};

const MODES: [&str; 4] = ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
const VOLUME_MODES: &[&str] = &["Block", "Filesystem"];
const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";

fn quantity(value: Option<&Value>) -> Option<Quantity> {
    value.and_then(Value::as_str).and_then(|text| Quantity::parse(text).ok())
}

fn access_modes(spec: &Value, field: &Field, report: &mut Report) {
    let modes: Vec<&str> =
        list(spec, "accessModes").iter().filter_map(Value::as_str).collect();
    let at = field.child("accessModes");
    for mode in modes.iter().filter(|mode| !MODES.contains(mode)) {
        report.not_supported(&at, mode, &MODES);
    }
    if modes.contains(&"ReadWriteOncePod") && modes.iter().any(|mode| *mode != "ReadWriteOncePod") {
        report.forbidden(&at, "may not use ReadWriteOncePod with other access modes");
    }
}

/// The spec of a claim, also of one that a template makes.
pub(super) fn claim_spec(spec: &Value, field: &Field, report: &mut Report) {
    if list(spec, "accessModes").is_empty() {
        report.required(&field.child("accessModes"), "at least 1 access mode is required");
    }
    access_modes(spec, field, report);
    selector(spec, "selector", field, report);
    let at = field.child("resources").key("storage");
    match spec.pointer("/resources/requests/storage") {
        None => report.required(&at, ""),
        Some(size) => {
            if quantity(Some(size)).is_some_and(|size| size <= Quantity::ZERO) {
                report.invalid(&at, size.clone(), "must be greater than zero");
            }
        }
    }
    optional_name(spec, "storageClassName", NameRule::Subdomain, field, report);
    optional_name(spec, "volumeAttributesClassName", NameRule::Subdomain, field, report);
    one_of(spec, "volumeMode", VOLUME_MODES, field, report);
}

pub(super) fn persistent_volume_claim(object: &Value, old: Option<&Value>, report: &mut Report) {
    let (spec, field) = (&object["spec"], Field::new("spec"));
    claim_spec(spec, &field, report);
    let Some(old) = old else { return };
    let old_spec = &old["spec"];
    let bound = object.pointer("/status/phase").is_some_and(|phase| phase == "Bound");
    let fixed = |spec: &Value| {
        let mut spec = spec.clone();
        let annotated = old.pointer("/metadata/annotations").is_some_and(|a| a.get(CLASS_ANNOTATION).is_some());
        // A class may be set where there was none; an annotation may become the field.
        if old_spec.get("storageClassName").is_none_or(Value::is_null) || annotated {
            put(&mut spec, "storageClassName", Value::Null);
        }
        if text(old_spec, "volumeName").is_empty() {
            put(&mut spec, "volumeName", Value::Null);
        }
        if bound {
            put(&mut spec, "volumeAttributesClassName", Value::Null);
            if let Some(requests) = spec.pointer_mut("/resources/requests").and_then(Value::as_object_mut) {
                requests.remove("storage");
            }
        }
        spec
    };
    if !same(&fixed(spec), &fixed(old_spec)) {
        let why = "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";
        report.forbidden(&field, why);
    }
    let size = |spec: &Value| quantity(spec.pointer("/resources/requests/storage"));
    let capacity = quantity(old.pointer("/status/capacity/storage")).unwrap_or(Quantity::ZERO);
    if let (Some(new), Some(before)) = (size(spec), size(old_spec))
        && new < before
        && new <= capacity
    {
        let at = field.child("resources").child("requests").child("storage");
        report.forbidden(&at, "field can not be less than status.capacity");
    }
}

pub(super) fn persistent_volume(object: &Value, report: &mut Report) {
    let (spec, field) = (&object["spec"], Field::new("spec"));
    if list(spec, "accessModes").is_empty() {
        report.required(&field.child("accessModes"), "");
    }
    access_modes(spec, &field, report);
    if spec.pointer("/capacity/storage").is_none() {
        report.required(&field.child("capacity"), "");
    }
    let policies = ["Delete", "Recycle", "Retain"];
    one_of(spec, "persistentVolumeReclaimPolicy", &policies, &field, report);
    one_of(spec, "volumeMode", VOLUME_MODES, &field, report);
    optional_name(spec, "storageClassName", NameRule::Subdomain, &field, report);
}

pub(super) fn storage_class(object: &Value, report: &mut Report) {
    let root = Field::new("");
    if text(object, "provisioner").is_empty() {
        report.required(&Field::new("provisioner"), "");
    }
    one_of(object, "reclaimPolicy", &["Delete", "Retain"], &root, report);
    one_of(object, "volumeBindingMode", &["Immediate", "WaitForFirstConsumer"], &root, report);
}

pub(super) fn limit_range(object: &Value, report: &mut Report) {
    let mut kinds = HashSet::new();
    for (limit, at) in items(&object["spec"], "limits", &Field::new("spec")) {
        let kind = text(limit, "type");
        unique(&mut kinds, kind, &at.child("type"), report);
        if kind == "Pod" {
            for key in ["default", "defaultRequest"] {
                if present(limit, key).and_then(Value::as_object).is_some_and(|m| !m.is_empty()) {
                    let why = "may not be specified when `type` is 'Pod'";
                    report.forbidden(&at.child(key), why);
                }
            }
        }
        amounts(limit, &at, report);
    }
}

/// Pairs of amounts of which the first may not exceed the second; where the error is reported, and
/// what Kubernetes calls them.
const ORDER: [(&str, &str, &str, &str, &str); 6] = [
    ("min", "max", "min", "min value", "max value"),
    ("min", "defaultRequest", "defaultRequest", "min value", "default request value"),
    ("defaultRequest", "max", "defaultRequest", "default request value", "max value"),
    ("defaultRequest", "default", "defaultRequest", "default request value", "default limit value"),
    ("min", "default", "default", "min value", "default value"),
    ("default", "max", "default", "default value", "max value"),
];

fn amounts(limit: &Value, field: &Field, report: &mut Report) {
    for (low, high, at, low_name, high_name) in ORDER {
        for (name, value) in map(limit, low) {
            let pair = (quantity(Some(value)), quantity(limit[high].get(name)));
            if let (Some(low), Some(high)) = pair
                && low > high
            {
                let shown = if at == high_name { high } else { low };
                let why = format!("{low_name} {low} is greater than {high_name} {high}");
                report.invalid(&field.child(at).key(name), shown.to_string(), why);
            }
        }
    }
}
