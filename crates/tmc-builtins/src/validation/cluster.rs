//! Events, leases, nodes, priorities, autoscalers, disruption budgets, certificate requests.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use tmc_apimachinery::definition::NameRule;
use tmc_apimachinery::meta::{meta, validate_qualified_name};

use super::checks::{
    int_or_percent, items, list, one_of, optional_name, present, required_text, selector, text,
};
use crate::report::{Field, Report};

const PEM_REQUEST: &[u8] = b"-----BEGIN CERTIFICATE REQUEST-----";
const MAX_USER_PRIORITY: i64 = 1_000_000_000;

pub(super) fn event(object: &Value, report: &mut Report) {
    let namespace = meta(object).namespace();
    let involved = text(&object["involvedObject"], "namespace");
    let at = Field::new("involvedObject").child("namespace");
    let timed = !text(object, "eventTime").is_empty();
    let elsewhere = if involved.is_empty() {
        // Events about objects without a namespace live in `default`.
        namespace != "default" && !(timed && namespace == "kube-system")
    } else {
        !timed && involved != namespace
    };
    if elsewhere && !namespace.is_empty() {
        report.invalid(&at, involved, "does not match event.namespace");
    }
    if !timed {
        return;
    }
    let root = Field::new("");
    for key in [
        "reportingComponent",
        "reportingInstance",
        "action",
        "reason",
    ] {
        required_text(object, key, &root, report);
    }
    let component = text(object, "reportingComponent");
    report.extend(validate_qualified_name("reportingComponent", component));
    for (key, most) in [
        ("reportingInstance", 128),
        ("action", 128),
        ("reason", 128),
        ("message", 1024),
    ] {
        if text(object, key).len() > most {
            report.invalid(
                &Field::new(key),
                "",
                format!("can have at most {most} characters"),
            );
        }
    }
}

pub(super) fn lease(object: &Value, report: &mut Report) {
    let (spec, field) = (&object["spec"], Field::new("spec"));
    let number = |key: &str| spec.get(key).and_then(Value::as_i64);
    if let Some(seconds) = number("leaseDurationSeconds").filter(|s| *s <= 0) {
        report.invalid(
            &field.child("leaseDurationSeconds"),
            seconds,
            "must be greater than 0",
        );
    }
    if let Some(count) = number("leaseTransitions").filter(|c| *c < 0) {
        let why = "must be greater than or equal to 0";
        report.invalid(&field.child("leaseTransitions"), count, why);
    }
}

pub(super) fn node(object: &Value, report: &mut Report) {
    for (taint, at) in items(&object["spec"], "taints", &Field::new("spec")) {
        let at_key = at.child("key");
        let key = text(taint, "key");
        report.extend(validate_qualified_name(at_key.as_str(), key));
        let effects = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
        match text(taint, "effect") {
            "" => report.required(&at.child("effect"), ""),
            _ => one_of(taint, "effect", &effects, &at, report),
        }
    }
}

pub(super) fn priority_class(object: &Value, old: Option<&Value>, report: &mut Report) {
    let value = object.get("value").and_then(Value::as_i64).unwrap_or(0);
    let name = meta(object).name();
    if name.starts_with("system-") {
        let known = matches!(
            (name, value),
            ("system-node-critical", 2_000_001_000) | ("system-cluster-critical", 2_000_000_000)
        );
        if !known {
            let why = format!(
                "priority class names with 'system-' prefix are reserved for system use only. error: {name} is not a known system priority class"
            );
            report.forbidden(&Field::new("metadata").child("name"), why);
        }
    } else if value > MAX_USER_PRIORITY {
        let why =
            format!("maximum allowed value of a user defined priority is {MAX_USER_PRIORITY}");
        report.forbidden(&Field::new("value"), why);
    }
    let policies = ["PreemptLowerPriority", "Never"];
    one_of(
        object,
        "preemptionPolicy",
        &policies,
        &Field::new(""),
        report,
    );
    if old.is_some_and(|old| old.get("value").and_then(Value::as_i64).unwrap_or(0) != value) {
        report.forbidden(&Field::new("value"), "may not be changed in an update.");
    }
}

pub(super) fn pod_disruption_budget(object: &Value, report: &mut Report) {
    let (spec, field) = (&object["spec"], Field::new("spec"));
    if present(spec, "minAvailable").is_some() && present(spec, "maxUnavailable").is_some() {
        let why = "minAvailable and maxUnavailable cannot be both set";
        report.invalid(&field, spec.clone(), why);
    }
    int_or_percent(spec, "minAvailable", true, &field, report);
    int_or_percent(spec, "maxUnavailable", true, &field, report);
    selector(spec, "selector", &field, report);
    let policies = ["AlwaysAllow", "IfHealthyBudget"];
    one_of(
        spec,
        "unhealthyPodEvictionPolicy",
        &policies,
        &field,
        report,
    );
}

pub(super) fn horizontal_pod_autoscaler(object: &Value, report: &mut Report) {
    let (spec, field) = (&object["spec"], Field::new("spec"));
    let number = |key: &str| spec.get(key).and_then(Value::as_i64);
    let (least, most) = (number("minReplicas"), number("maxReplicas").unwrap_or(0));
    if let Some(least) = least.filter(|least| *least < 0) {
        report.invalid(
            &field.child("minReplicas"),
            least,
            "must be greater than or equal to 1",
        );
    }
    let at = field.child("maxReplicas");
    match most {
        0 => report.required(&at, "must be set and greater than 0"),
        ..0 => report.invalid(&at, most, "must be greater than or equal to 1"),
        _ => {}
    }
    if least.is_some_and(|least| most < least) {
        report.invalid(&at, most, "must be greater than or equal to `minReplicas`");
    }
    let (target, at) = (&spec["scaleTargetRef"], field.child("scaleTargetRef"));
    for key in ["kind", "name"] {
        required_text(target, key, &at, report);
        optional_name(target, key, NameRule::PathSegment, &at, report);
    }
    let version = text(target, "apiVersion");
    if !version.contains('/') {
        report.invalid(
            &at.child("apiVersion"),
            version,
            "apiVersion must specify API group",
        );
    }
    metrics(spec, &field, report);
}

fn metrics(spec: &Value, field: &Field, report: &mut Report) {
    const SOURCES: [(&str, &str); 5] = [
        ("ContainerResource", "containerResource"),
        ("External", "external"),
        ("Object", "object"),
        ("Pods", "pods"),
        ("Resource", "resource"),
    ];
    for (metric, at) in items(spec, "metrics", field) {
        let kind = text(metric, "type");
        let Some((_, source)) = SOURCES.iter().find(|(name, _)| *name == kind) else {
            let kinds = SOURCES.map(|(name, _)| name);
            report.not_supported(&at.child("type"), kind, &kinds);
            continue;
        };
        let Some(given) = present(metric, source) else {
            report.required(
                &at.child(source),
                "must populate information for the given metric source",
            );
            continue;
        };
        for (_, other) in SOURCES.iter().filter(|(_, other)| other != source) {
            if present(metric, other).is_some() {
                let why = "must populate the given metric source only";
                report.forbidden(&at.child(other), why);
            }
        }
        if matches!(*source, "resource" | "containerResource") && text(given, "name").is_empty() {
            report.required(
                &at.child(source).child("name"),
                "must specify a resource name",
            );
        }
        let (target, at) = (&given["target"], at.child(source).child("target"));
        if text(target, "type").is_empty() {
            report.required(&at.child("type"), "must specify a metric target type");
        }
        if !["Utilization", "Value", "AverageValue"].contains(&text(target, "type")) {
            let why = "must be either Utilization, Value, or AverageValue";
            report.invalid(&at.child("type"), text(target, "type"), why);
        }
        let utilization = target.get("averageUtilization").and_then(Value::as_i64);
        if let Some(percent) = utilization.filter(|percent| *percent < 1) {
            report.invalid(
                &at.child("averageUtilization"),
                percent,
                "must be greater than 0",
            );
        }
    }
}

pub(super) fn certificate_signing_request(object: &Value, report: &mut Report) {
    let (spec, field) = (&object["spec"], Field::new("spec"));
    let request = STANDARD.decode(text(spec, "request")).unwrap_or_default();
    if !request
        .windows(PEM_REQUEST.len())
        .any(|part| part == PEM_REQUEST)
    {
        let why = "PEM block type must be CERTIFICATE REQUEST";
        report.invalid(&field.child("request"), text(spec, "request"), why);
    }
    if list(spec, "usages").is_empty() {
        report.required(&field.child("usages"), "");
    }
    match text(spec, "signerName") {
        "" => report.required(&field.child("signerName"), ""),
        name if !name.contains('/') => {
            let why =
                "must be a fully qualified domain and path of the form 'example.com/signer-name'";
            report.invalid(&field.child("signerName"), name, why);
        }
        _ => {}
    }
    if let Some(seconds) = spec.get("expirationSeconds").and_then(Value::as_i64)
        && seconds < 600
    {
        let why = "may not specify a duration less than 600 seconds (10 minutes)";
        report.invalid(&field.child("expirationSeconds"), seconds, why);
    }
    let has = |kind: &str| {
        list(&object["status"], "conditions")
            .iter()
            .any(|c| c["type"] == kind)
    };
    if has("Approved") && has("Denied") {
        let at = Field::new("status").child("conditions");
        report.invalid(
            &at,
            "Denied",
            "Approved and Denied conditions are mutually exclusive",
        );
    }
}
