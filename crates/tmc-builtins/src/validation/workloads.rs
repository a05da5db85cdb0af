//! Deployments, ReplicaSets, StatefulSets, DaemonSets and their elders.

use serde_json::{Value, json};
use tmc_apimachinery::definition::NameRule;
use tmc_apimachinery::selector::LabelSelector;

use super::checks::{
    amount, int_or_percent, items, list, non_negative, optional_name, present, same, selector,
    selects_everything, text,
};
use super::pod;
use crate::report::{Field, Report};

pub(super) fn apps(kind: &str, object: &Value, old: Option<&Value>, report: &mut Report) {
    let (spec, field) = (&object["spec"], Field::new("spec"));
    match kind {
        "Deployment" => deployment(spec, &field, report),
        "ReplicaSet" => {
            non_negative(spec, &["replicas", "minReadySeconds"], &field, report);
            // Kubernetes says `deployment` here, too.
            selected_template(spec, "deployment", &field, report);
            pod::template(&spec["template"], &field.child("template"), report);
            only_always(spec, "ReplicaSet", &field, report);
        }
        "StatefulSet" => stateful_set(spec, old.map(|old| &old["spec"]), &field, report),
        "DaemonSet" => daemon_set(spec, &field, report),
        "ControllerRevision" => {
            non_negative(object, &["revision"], &Field::new(""), report);
        }
        _ => {}
    }
}

/// The selector must be there, say something and match the labels of the template.
fn selected_template(spec: &Value, kind: &str, field: &Field, report: &mut Report) {
    let Some(given) = present(spec, "selector") else {
        report.required(&field.child("selector"), "");
        return;
    };
    selector(spec, "selector", field, report);
    if selects_everything(given) {
        let why = format!("empty selector is invalid for {kind}");
        report.invalid(&field.child("selector"), given.clone(), why);
    }
    let template = &spec["template"];
    if let Ok(parsed) = LabelSelector::from_object(given)
        && !parsed.matches_object(template)
    {
        let labels = template
            .pointer("/metadata/labels")
            .cloned()
            .unwrap_or_else(|| json!({}));
        let at = field.child("template").child("metadata").child("labels");
        report.invalid(&at, labels, "`selector` does not match template `labels`");
    }
}

/// Pods of controllers that keep them running always restart and never end.
fn only_always(spec: &Value, kind: &str, field: &Field, report: &mut Report) {
    let (pod, at) = (
        &spec["template"]["spec"],
        field.child("template").child("spec"),
    );
    let policy = text(pod, "restartPolicy");
    if !matches!(policy, "" | "Always") {
        report.not_supported(&at.child("restartPolicy"), policy, &["Always"]);
    }
    if present(pod, "activeDeadlineSeconds").is_some() {
        let why = format!("activeDeadlineSeconds in {kind} is not Supported");
        report.forbidden(&at.child("activeDeadlineSeconds"), why);
    }
}

fn deployment(spec: &Value, field: &Field, report: &mut Report) {
    let counts = [
        "replicas",
        "minReadySeconds",
        "revisionHistoryLimit",
        "progressDeadlineSeconds",
    ];
    non_negative(spec, &counts, field, report);
    selected_template(spec, "deployment", field, report);
    pod::template(&spec["template"], &field.child("template"), report);
    only_always(spec, "ReplicaSet", field, report);
    deployment_strategy(&spec["strategy"], &field.child("strategy"), report);
    let ready = spec
        .get("minReadySeconds")
        .and_then(Value::as_i64)
        .unwrap_or(0);
    if let Some(deadline) = spec.get("progressDeadlineSeconds").and_then(Value::as_i64)
        && deadline <= ready
    {
        let at = field.child("progressDeadlineSeconds");
        report.invalid(&at, deadline, "must be greater than minReadySeconds");
    }
}

fn deployment_strategy(strategy: &Value, field: &Field, report: &mut Report) {
    let at = field.child("rollingUpdate");
    match text(strategy, "type") {
        "Recreate" if present(strategy, "rollingUpdate").is_some() => {
            report.forbidden(
                &at,
                "may not be specified when strategy `type` is 'Recreate'",
            );
        }
        "Recreate" => {}
        "RollingUpdate" => {
            let update = &strategy["rollingUpdate"];
            int_or_percent(update, "maxUnavailable", true, &at, report);
            int_or_percent(update, "maxSurge", false, &at, report);
            if amount(update, "maxUnavailable") == 0 && amount(update, "maxSurge") == 0 {
                let why = "may not be 0 when `maxSurge` is 0";
                report.invalid(
                    &at.child("maxUnavailable"),
                    update["maxUnavailable"].clone(),
                    why,
                );
            }
        }
        other => report.not_supported(field, other, &["Recreate", "RollingUpdate"]),
    }
}

fn daemon_set(spec: &Value, field: &Field, report: &mut Report) {
    non_negative(
        spec,
        &["minReadySeconds", "revisionHistoryLimit"],
        field,
        report,
    );
    selected_template(spec, "daemonset", field, report);
    pod::template(&spec["template"], &field.child("template"), report);
    only_always(spec, "DaemonSet", field, report);
    let (strategy, at) = (&spec["updateStrategy"], field.child("updateStrategy"));
    match text(strategy, "type") {
        "OnDelete" => {}
        "RollingUpdate" => {
            let (update, at) = (&strategy["rollingUpdate"], at.child("rollingUpdate"));
            int_or_percent(update, "maxUnavailable", true, &at, report);
            int_or_percent(update, "maxSurge", true, &at, report);
            match (
                amount(update, "maxUnavailable") != 0,
                amount(update, "maxSurge") != 0,
            ) {
                (true, true) => report.invalid(
                    &at.child("maxSurge"),
                    update["maxSurge"].clone(),
                    "may not be set when maxUnavailable is non-zero",
                ),
                (false, false) => report.required(
                    &at.child("maxUnavailable"),
                    "cannot be 0 when maxSurge is 0",
                ),
                _ => {}
            }
        }
        other => report.not_supported(&at, other, &["RollingUpdate", "OnDelete"]),
    }
}

fn stateful_set(spec: &Value, old: Option<&Value>, field: &Field, report: &mut Report) {
    let policy = text(spec, "podManagementPolicy");
    if !matches!(policy, "" | "OrderedReady" | "Parallel") {
        let why = "must be 'OrderedReady' or 'Parallel'";
        report.invalid(&field.child("podManagementPolicy"), policy, why);
    }
    stateful_strategy(
        &spec["updateStrategy"],
        &field.child("updateStrategy"),
        report,
    );
    let retention = &spec["persistentVolumeClaimRetentionPolicy"];
    for key in ["whenDeleted", "whenScaled"] {
        let at = field.child("persistentVolumeClaimRetentionPolicy");
        super::checks::one_of(retention, key, &["Retain", "Delete"], &at, report);
    }
    non_negative(
        spec,
        &["replicas", "minReadySeconds", "revisionHistoryLimit"],
        field,
        report,
    );
    non_negative(
        &spec["ordinals"],
        &["start"],
        &field.child("ordinals"),
        report,
    );
    if old.is_none() {
        optional_name(spec, "serviceName", NameRule::Label, field, report);
        for (claim, at) in items(spec, "volumeClaimTemplates", field) {
            super::storage::claim_spec(&claim["spec"], &at.child("spec"), report);
        }
    }
    selected_template(spec, "statefulset", field, report);
    let claims: Vec<&str> = list(spec, "volumeClaimTemplates")
        .iter()
        .map(|claim| text(&claim["metadata"], "name"))
        .collect();
    pod::template_with_claims(&spec["template"], &claims, &field.child("template"), report);
    only_always(spec, "StatefulSet", field, report);
    if let Some(old) = old {
        stateful_update(spec, old, field, report);
    }
}

fn stateful_strategy(strategy: &Value, field: &Field, report: &mut Report) {
    let (update, at) = (
        present(strategy, "rollingUpdate"),
        field.child("rollingUpdate"),
    );
    match (text(strategy, "type"), update) {
        ("OnDelete", Some(update)) => {
            let why = "only allowed for updateStrategy 'RollingUpdate'";
            report.invalid(&at, update.clone(), why);
        }
        ("RollingUpdate", Some(update)) => {
            non_negative(update, &["partition"], &at, report);
            int_or_percent(update, "maxUnavailable", true, &at, report);
            if present(update, "maxUnavailable").is_some() && amount(update, "maxUnavailable") == 0
            {
                let value = update["maxUnavailable"].clone();
                report.invalid(&at.child("maxUnavailable"), value, "cannot be 0");
            }
        }
        ("OnDelete" | "RollingUpdate", None) => {}
        _ => {
            let why = "must be 'RollingUpdate' or 'OnDelete'";
            report.invalid(field, strategy.clone(), why);
        }
    }
}

/// The members of a StatefulSet's spec that an update may change.
const STATEFUL_MUTABLE: [&str; 7] = [
    "replicas",
    "template",
    "updateStrategy",
    "minReadySeconds",
    "ordinals",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
];

fn stateful_update(spec: &Value, old: &Value, field: &Field, report: &mut Report) {
    let fixed = |spec: &Value| {
        let mut spec = spec.clone();
        if let Some(members) = spec.as_object_mut() {
            members.retain(|key, _| !STATEFUL_MUTABLE.contains(&key.as_str()));
            // The status of a claim template is filled by versions differently and means nothing.
            for claim in members
                .get_mut("volumeClaimTemplates")
                .and_then(Value::as_array_mut)
                .into_iter()
                .flatten()
            {
                if let Some(claim) = claim.as_object_mut() {
                    claim.remove("status");
                }
            }
        }
        spec
    };
    if !same(&fixed(spec), &fixed(old)) {
        let why = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";
        report.forbidden(field, why);
    }
}

pub(super) fn replication_controller(object: &Value, report: &mut Report) {
    let (spec, field) = (&object["spec"], Field::new("spec"));
    non_negative(spec, &["replicas", "minReadySeconds"], &field, report);
    let selector = spec["selector"]
        .as_object()
        .filter(|selector| !selector.is_empty());
    let Some(selector) = selector else {
        report.required(&field.child("selector"), "");
        return;
    };
    let Some(template) = present(spec, "template") else {
        report.required(&field.child("template"), "");
        return;
    };
    let labels = &template["metadata"]["labels"];
    if selector
        .iter()
        .any(|(key, value)| labels.get(key) != Some(value))
    {
        let at = field.child("template").child("metadata").child("labels");
        report.invalid(
            &at,
            labels.clone(),
            "`selector` does not match template `labels`",
        );
    }
    pod::template(template, &field.child("template"), report);
    only_always(spec, "ReplicationController", &field, report);
}
