//! Pods and pod templates.

use std::collections::HashSet;

use serde_json::Value;
use tmc_apimachinery::definition::NameRule;
use tmc_apimachinery::meta::validate_qualified_name;

use super::checks::{
    annotations, items, items_mut, labels, list, map, one_of, optional_name, present, put,
    required_name, required_text, same, selector, text,
};
use super::containers;
use crate::report::{Field, Report};

/// The members of a volume that are no source.
const NO_SOURCE: [&str; 1] = ["name"];

/// What an update of a Pod may change.
const UPDATABLE: &str = "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

pub(super) fn pod(object: &Value, old: Option<&Value>, report: &mut Report) {
    let field = Field::new("spec");
    pod_spec(&object["spec"], &[], &field, report);
    if let Some(old) = old {
        update(&object["spec"], &old["spec"], &field, report);
    }
}

/// A template: like a pod without a name.
pub(super) fn template(template: &Value, field: &Field, report: &mut Report) {
    template_with_claims(template, &[], field, report);
}

/// A template whose containers may also mount the volumes of claims of these names.
pub(super) fn template_with_claims(
    template: &Value,
    claims: &[&str],
    field: &Field,
    report: &mut Report,
) {
    labels(&template["metadata"], "labels", field, report);
    annotations(&template["metadata"], "annotations", field, report);
    let spec = field.child("spec");
    pod_spec(&template["spec"], claims, &spec, report);
    if !list(&template["spec"], "ephemeralContainers").is_empty() {
        let why = "ephemeral containers not allowed in pod template";
        report.forbidden(&spec.child("ephemeralContainers"), why);
    }
}

fn pod_spec(spec: &Value, claims: &[&str], field: &Field, report: &mut Report) {
    let mut volumes = volumes(spec, field, report);
    volumes.extend(claims);
    containers::all(spec, &volumes, field, report);
    one_of(
        spec,
        "restartPolicy",
        &["Always", "OnFailure", "Never"],
        field,
        report,
    );
    let policies = ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
    one_of(spec, "dnsPolicy", &policies, field, report);
    one_of(
        spec,
        "preemptionPolicy",
        &["PreemptLowerPriority", "Never"],
        field,
        report,
    );
    labels(spec, "nodeSelector", field, report);
    for (secret, at) in items(spec, "imagePullSecrets", field) {
        required_text(secret, "name", &at, report);
    }
    for (key, rule) in [
        ("serviceAccountName", NameRule::Subdomain),
        ("nodeName", NameRule::Subdomain),
        ("priorityClassName", NameRule::Subdomain),
        ("runtimeClassName", NameRule::Subdomain),
        ("hostname", NameRule::Label),
        ("subdomain", NameRule::Label),
    ] {
        optional_name(spec, key, rule, field, report);
    }
    if let Some(seconds) = spec.get("activeDeadlineSeconds").and_then(Value::as_i64)
        && !(1..=i64::from(i32::MAX)).contains(&seconds)
    {
        let why = "must be between 1 and 2147483647, inclusive";
        report.invalid(&field.child("activeDeadlineSeconds"), seconds, why);
    }
    tolerations(spec, field, report);
    spread(spec, field, report);
    affinity(&spec["affinity"], &field.child("affinity"), report);
    host_network(spec, field, report);
}

/// Checks volumes and returns the names of those that are right.
fn volumes<'a>(spec: &'a Value, field: &Field, report: &mut Report) -> HashSet<&'a str> {
    let mut names = HashSet::new();
    for (volume, at) in items(spec, "volumes", field) {
        let before = report.len();
        volume_source(volume, &at, report);
        required_name(volume, "name", NameRule::Label, &at, report);
        let name = text(volume, "name");
        if names.contains(name) {
            report.duplicate(&at.child("name"), name);
        }
        if report.len() == before {
            names.insert(name);
        }
    }
    names
}

fn volume_source(volume: &Value, field: &Field, report: &mut Report) {
    let sources: Vec<&String> = volume
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(key, value)| !NO_SOURCE.contains(&key.as_str()) && !value.is_null())
        .map(|(key, _)| key)
        .collect();
    if sources.is_empty() {
        report.required(field, "must specify a volume type");
    }
    for more in sources.iter().skip(1) {
        report.forbidden(
            &field.child(more),
            "may not specify more than 1 volume type",
        );
    }
    let source = |key: &str| present(volume, key).map(|source| (source, field.child(key)));
    if let Some((secret, at)) = source("secret") {
        required_text(secret, "secretName", &at, report);
    }
    if let Some((config, at)) = source("configMap") {
        required_text(config, "name", &at, report);
    }
    if let Some((claim, at)) = source("persistentVolumeClaim") {
        required_text(claim, "claimName", &at, report);
    }
    if let Some((path, at)) = source("hostPath") {
        required_text(path, "path", &at, report);
        if text(path, "path").split('/').any(|part| part == "..") {
            report.invalid(
                &at.child("path"),
                text(path, "path"),
                "must not contain '..'",
            );
        }
    }
    for key in ["secret", "configMap", "downwardAPI", "projected"] {
        let Some((source, at)) = source(key) else {
            continue;
        };
        file_mode(source, "defaultMode", &at, report);
        for (item, at) in items(source, "items", &at) {
            file_mode(item, "mode", &at, report);
            if key != "downwardAPI" {
                required_text(item, "key", &at, report);
            }
            required_text(item, "path", &at, report);
        }
    }
}

fn file_mode(object: &Value, key: &str, field: &Field, report: &mut Report) {
    if let Some(mode) = object.get(key).and_then(Value::as_i64)
        && !(0..=0o777).contains(&mode)
    {
        let why = "must be a number between 0 and 0777 (octal), both inclusive";
        report.invalid(&field.child(key), mode, why);
    }
}

fn tolerations(spec: &Value, field: &Field, report: &mut Report) {
    for (toleration, at) in items(spec, "tolerations", field) {
        let (key, operator) = (text(toleration, "key"), text(toleration, "operator"));
        if key.is_empty() && operator != "Exists" {
            let why = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            report.invalid(&at.child("operator"), operator, why);
        }
        if !key.is_empty() {
            let at = at.child("key");
            report.extend(validate_qualified_name(at.as_str(), key));
        }
        let effect = text(toleration, "effect");
        if present(toleration, "tolerationSeconds").is_some() && effect != "NoExecute" {
            let why = "effect must be 'NoExecute' when `tolerationSeconds` is set";
            report.invalid(&at.child("effect"), effect, why);
        }
        let value = text(toleration, "value");
        if operator == "Exists" && !value.is_empty() {
            let why = "value must be empty when `operator` is 'Exists'";
            report.invalid(&at.child("operator"), value, why);
        }
        if !effect.is_empty() {
            let effects = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
            one_of(toleration, "effect", &effects, &at, report);
        }
    }
}

fn spread(spec: &Value, field: &Field, report: &mut Report) {
    for (constraint, at) in items(spec, "topologySpreadConstraints", field) {
        let skew = constraint
            .get("maxSkew")
            .and_then(Value::as_i64)
            .unwrap_or(0);
        if skew <= 0 {
            report.invalid(&at.child("maxSkew"), skew, "must be greater than zero");
        }
        if text(constraint, "topologyKey").is_empty() {
            report.required(&at.child("topologyKey"), "can not be empty");
        }
        let actions = ["DoNotSchedule", "ScheduleAnyway"];
        one_of(constraint, "whenUnsatisfiable", &actions, &at, report);
        selector(constraint, "labelSelector", &at, report);
    }
}

fn affinity(affinity: &Value, field: &Field, report: &mut Report) {
    for kind in ["podAffinity", "podAntiAffinity"] {
        let at = field.child(kind);
        for (term, at) in items(
            &affinity[kind],
            "requiredDuringSchedulingIgnoredDuringExecution",
            &at,
        ) {
            affinity_term(term, &at, report);
        }
        for (weighted, at) in items(
            &affinity[kind],
            "preferredDuringSchedulingIgnoredDuringExecution",
            &at,
        ) {
            weight(weighted, &at, report);
            affinity_term(
                &weighted["podAffinityTerm"],
                &at.child("podAffinityTerm"),
                report,
            );
        }
    }
    let at = field.child("nodeAffinity");
    let node = &affinity["nodeAffinity"];
    for (weighted, at) in items(node, "preferredDuringSchedulingIgnoredDuringExecution", &at) {
        weight(weighted, &at, report);
    }
    if let Some(required) = present(node, "requiredDuringSchedulingIgnoredDuringExecution")
        && list(required, "nodeSelectorTerms").is_empty()
    {
        let at = at
            .child("requiredDuringSchedulingIgnoredDuringExecution")
            .child("nodeSelectorTerms");
        report.required(&at, "must have at least one node selector term");
    }
}

fn weight(weighted: &Value, field: &Field, report: &mut Report) {
    let weight = weighted.get("weight").and_then(Value::as_i64).unwrap_or(0);
    if !(1..=100).contains(&weight) {
        report.invalid(&field.child("weight"), weight, "must be in the range 1-100");
    }
}

fn affinity_term(term: &Value, field: &Field, report: &mut Report) {
    selector(term, "labelSelector", field, report);
    selector(term, "namespaceSelector", field, report);
    let (key, at) = (text(term, "topologyKey"), field.child("topologyKey"));
    if key.is_empty() {
        report.required(&at, "can not be empty");
    }
    report.extend(validate_qualified_name(at.as_str(), key));
}

fn host_network(spec: &Value, field: &Field, report: &mut Report) {
    if spec.get("hostNetwork") != Some(&Value::Bool(true)) {
        return;
    }
    for (container, at) in items(spec, "containers", field) {
        for (port, at) in items(container, "ports", &at) {
            let number = |key: &str| port.get(key).and_then(Value::as_i64).unwrap_or(0);
            let host = number("hostPort");
            if host != 0 && host != number("containerPort") {
                let why = "must match `containerPort` when `hostNetwork` is true";
                report.invalid(&at.child("hostPort"), host, why);
            }
        }
    }
}

fn update(new: &Value, old: &Value, field: &Field, report: &mut Report) {
    if same(new, old) {
        return;
    }
    for key in ["containers", "initContainers"] {
        if list(new, key).len() != list(old, key).len() {
            report.forbidden(
                &field.child(key),
                "pod updates may not add or remove containers",
            );
            return;
        }
    }
    let mut allowed = new.clone();
    for key in ["containers", "initContainers"] {
        for (container, before) in items_mut(&mut allowed, key).zip(list(old, key)) {
            put(container, "image", before["image"].clone());
        }
    }
    let mut keys = vec!["activeDeadlineSeconds"];
    if list(old, "tolerations")
        .iter()
        .all(|t| list(new, "tolerations").contains(t))
    {
        keys.push("tolerations");
    }
    if list(new, "schedulingGates")
        .iter()
        .all(|g| list(old, "schedulingGates").contains(g))
    {
        keys.push("schedulingGates");
    }
    // There is no binding here: who schedules writes the node, once.
    if text(old, "nodeName").is_empty() {
        keys.push("nodeName");
    }
    let negative = old["terminationGracePeriodSeconds"]
        .as_i64()
        .is_some_and(|s| s < 0);
    if negative && new["terminationGracePeriodSeconds"] == 1 {
        keys.push("terminationGracePeriodSeconds");
    }
    let gated = !list(old, "schedulingGates").is_empty();
    let kept = map(old, "nodeSelector").all(|(k, v)| new["nodeSelector"].get(k) == Some(v));
    if gated && kept {
        keys.push("nodeSelector");
    }
    for key in keys {
        put(&mut allowed, key, old[key].clone());
    }
    if !same(&allowed, old) {
        let why = format!("pod updates may not change fields other than {UPDATABLE}");
        report.forbidden(field, why);
    }
}
