//! Volumes, claims, storage classes and limits.

use std::collections::HashSet;

use serde_json::Value;
use tmc_apimachinery::definition::NameRule;
use tmc_apimachinery::quantity::Quantity;
use tmc_apimachinery::status::Cause;

use super::checks::{
    items, list, map, one_of, optional_name, present, put, same, selector, text, unique,
};
use crate::report::{Field, Report};

const MODES: [&str; 4] = [
    "ReadOnlyMany",
    "ReadWriteMany",
    "ReadWriteOnce",
    "ReadWriteOncePod",
];
const VOLUME_MODES: &[&str] = &["Block", "Filesystem"];
const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";

fn quantity(value: Option<&Value>) -> Option<Quantity> {
    value
        .and_then(Value::as_str)
        .and_then(|text| Quantity::parse(text).ok())
}

fn access_modes(spec: &Value, field: &Field, report: &mut Report) {
    let modes: Vec<&str> = list(spec, "accessModes")
        .iter()
        .filter_map(Value::as_str)
        .collect();
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
        report.required(
            &field.child("accessModes"),
            "at least 1 access mode is required",
        );
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
    optional_name(
        spec,
        "volumeAttributesClassName",
        NameRule::Subdomain,
        field,
        report,
    );
    one_of(spec, "volumeMode", VOLUME_MODES, field, report);
}

pub(super) fn persistent_volume_claim(object: &Value, old: Option<&Value>, report: &mut Report) {
    let (spec, field) = (&object["spec"], Field::new("spec"));
    claim_spec(spec, &field, report);
    let Some(old) = old else { return };
    let old_spec = &old["spec"];
    let bound = object
        .pointer("/status/phase")
        .is_some_and(|phase| phase == "Bound");
    let fixed = |spec: &Value| {
        let mut spec = spec.clone();
        let annotated = old
            .pointer("/metadata/annotations")
            .is_some_and(|a| a.get(CLASS_ANNOTATION).is_some());
        // A class may be set where there was none; an annotation may become the field.
        if old_spec.get("storageClassName").is_none_or(Value::is_null) || annotated {
            put(&mut spec, "storageClassName", Value::Null);
        }
        if text(old_spec, "volumeName").is_empty() {
            put(&mut spec, "volumeName", Value::Null);
        }
        if bound {
            put(&mut spec, "volumeAttributesClassName", Value::Null);
            if let Some(requests) = spec
                .pointer_mut("/resources/requests")
                .and_then(Value::as_object_mut)
            {
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
    if map(spec, "capacity").next().is_none() {
        report.required(&field.child("capacity"), "");
    }
    if spec.pointer("/capacity/storage").is_none() {
        let given = spec.get("capacity").unwrap_or(&Value::Null);
        report.push(Cause::not_supported("spec.capacity", given, &["storage"]));
    }
    let policies = ["Delete", "Recycle", "Retain"];
    one_of(
        spec,
        "persistentVolumeReclaimPolicy",
        &policies,
        &field,
        report,
    );
    one_of(spec, "volumeMode", VOLUME_MODES, &field, report);
    optional_name(
        spec,
        "storageClassName",
        NameRule::Subdomain,
        &field,
        report,
    );
}

pub(super) fn storage_class(object: &Value, report: &mut Report) {
    let root = Field::new("");
    if text(object, "provisioner").is_empty() {
        report.required(&Field::new("provisioner"), "");
    }
    one_of(
        object,
        "reclaimPolicy",
        &["Delete", "Retain"],
        &root,
        report,
    );
    one_of(
        object,
        "volumeBindingMode",
        &["Immediate", "WaitForFirstConsumer"],
        &root,
        report,
    );
}

pub(super) fn limit_range(object: &Value, report: &mut Report) {
    let mut kinds = HashSet::new();
    for (limit, at) in items(&object["spec"], "limits", &Field::new("spec")) {
        let kind = text(limit, "type");
        unique(&mut kinds, kind, &at.child("type"), report);
        if kind == "Pod" {
            for key in ["default", "defaultRequest"] {
                if present(limit, key)
                    .and_then(Value::as_object)
                    .is_some_and(|m| !m.is_empty())
                {
                    let why = "may not be specified when `type` is 'Pod'";
                    report.forbidden(&at.child(key), why);
                }
            }
        }
        amounts(limit, &at, report);
    }
}

/// Two amounts of which the first may not exceed the second: where the error stands, which of the
/// two it shows, and what Kubernetes calls them.
struct Order {
    low: (&'static str, &'static str),
    high: (&'static str, &'static str),
    field: &'static str,
    shown: &'static str,
}

const fn order(
    low: (&'static str, &'static str),
    high: (&'static str, &'static str),
    field: &'static str,
    shown: &'static str,
) -> Order {
    Order {
        low,
        high,
        field,
        shown,
    }
}

const MIN: (&str, &str) = ("min", "min value");
const MAX: (&str, &str) = ("max", "max value");
const DEFAULT: (&str, &str) = ("default", "default value");
const REQUEST: (&str, &str) = ("defaultRequest", "default request value");

const ORDERS: [Order; 6] = [
    order(MIN, MAX, "min", "min"),
    order(MIN, REQUEST, "defaultRequest", "defaultRequest"),
    order(REQUEST, MAX, "defaultRequest", "defaultRequest"),
    order(
        REQUEST,
        ("default", "default limit value"),
        "defaultRequest",
        "defaultRequest",
    ),
    order(MIN, DEFAULT, "default", "min"),
    order(DEFAULT, MAX, "default", "max"),
];

fn amounts(limit: &Value, field: &Field, report: &mut Report) {
    for Order {
        low,
        high,
        field: at,
        shown,
    } in ORDERS
    {
        for (name, value) in map(limit, low.0) {
            let pair = (quantity(Some(value)), quantity(limit[high.0].get(name)));
            if let (Some(least), Some(most)) = pair
                && least > most
            {
                let value = if shown == low.0 { least } else { most };
                let why = format!("{} {least} is greater than {} {most}", low.1, high.1);
                report.invalid(&field.child(at).key(name), value.to_string(), why);
            }
        }
    }
}
