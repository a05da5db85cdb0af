//! Workload controllers, autoscalers and disruption budgets.

use serde_json::{Value, json};

use super::pod;
use super::{
    Object, absent, labels_from, made, member, set, set_empty_text, set_list, set_text, text,
};

const ROLLING_UPDATE: &str = "RollingUpdate";

pub(super) fn apps(kind: &str, object: &mut Object) {
    match kind {
        "Deployment" => deployment(object),
        "ReplicaSet" => replica_set(object),
        "StatefulSet" => stateful_set(object),
        "DaemonSet" => daemon_set(object),
        _ => {}
    }
}

fn deployment(object: &mut Object) {
    made(object, "status");
    let Some(spec) = made(object, "spec") else {
        return;
    };
    set(spec, "replicas", 1);
    if let Some(strategy) = made(spec, "strategy") {
        set_text(strategy, "type", ROLLING_UPDATE);
        if text(strategy, "type") == ROLLING_UPDATE
            && let Some(update) = made(strategy, "rollingUpdate")
        {
            set(update, "maxUnavailable", "25%");
            set(update, "maxSurge", "25%");
        }
    }
    set(spec, "revisionHistoryLimit", 10);
    set(spec, "progressDeadlineSeconds", 600);
    pod::template(spec, "template");
}

fn replica_set(object: &mut Object) {
    if let Some(status) = made(object, "status") {
        set(status, "replicas", 0);
    }
    let Some(spec) = made(object, "spec") else {
        return;
    };
    set(spec, "replicas", 1);
    pod::template(spec, "template");
}

pub(super) fn replication_controller(object: &mut Object) {
    if let Some(status) = made(object, "status") {
        set(status, "replicas", 0);
    }
    let Some(spec) = made(object, "spec") else {
        return;
    };
    set(spec, "replicas", 1);
    let template = spec.get("template").cloned();
    let labels = template
        .as_ref()
        .and_then(|t| t.pointer("/metadata/labels"));
    let selects = spec
        .get("selector")
        .and_then(Value::as_object)
        .is_some_and(|s| !s.is_empty());
    if let Some(labels) = labels
        && !selects
    {
        spec.insert("selector".into(), labels.clone());
    }
    if template.is_some() {
        pod::template(spec, "template");
    }
    labels_from(template, object);
}

fn stateful_set(object: &mut Object) {
    if let Some(status) = made(object, "status") {
        set(status, "replicas", 0);
        set(status, "availableReplicas", 0);
    }
    let Some(spec) = made(object, "spec") else {
        return;
    };
    set_text(spec, "podManagementPolicy", "OrderedReady");
    set_empty_text(spec, "serviceName");
    if let Some(strategy) = made(spec, "updateStrategy") {
        if text(strategy, "type").is_empty() {
            set_text(strategy, "type", ROLLING_UPDATE);
            made(strategy, "rollingUpdate");
        }
        if text(strategy, "type") == ROLLING_UPDATE
            && let Some(update) = member(strategy, "rollingUpdate")
        {
            set(update, "partition", 0);
        }
    }
    if let Some(retention) = made(spec, "persistentVolumeClaimRetentionPolicy") {
        set_text(retention, "whenDeleted", "Retain");
        set_text(retention, "whenScaled", "Retain");
    }
    set(spec, "replicas", 1);
    set(spec, "revisionHistoryLimit", 10);
    super::each(spec, "volumeClaimTemplates", |claim| {
        set_text(claim, "apiVersion", "v1");
        set_text(claim, "kind", "PersistentVolumeClaim");
        super::cluster::persistent_volume_claim(claim);
    });
    pod::template(spec, "template");
}

fn daemon_set(object: &mut Object) {
    if let Some(status) = made(object, "status") {
        for count in [
            "currentNumberScheduled",
            "desiredNumberScheduled",
            "numberMisscheduled",
            "numberReady",
        ] {
            set(status, count, 0);
        }
    }
    let Some(spec) = made(object, "spec") else {
        return;
    };
    if let Some(strategy) = made(spec, "updateStrategy") {
        set_text(strategy, "type", ROLLING_UPDATE);
        if text(strategy, "type") == ROLLING_UPDATE
            && let Some(update) = made(strategy, "rollingUpdate")
        {
            set(update, "maxUnavailable", 1);
            set(update, "maxSurge", 0);
        }
    }
    set(spec, "revisionHistoryLimit", 10);
    pod::template(spec, "template");
}

pub(super) fn batch(kind: &str, object: &mut Object) {
    match kind {
        "Job" => job(object),
        "CronJob" => cron_job(object),
        _ => {}
    }
}

fn job(object: &mut Object) {
    made(object, "status");
    let Some(spec) = made(object, "spec") else {
        return;
    };
    if pod::lacks(spec, &["completions", "parallelism"]) {
        set(spec, "completions", 1);
    }
    set(spec, "parallelism", 1);
    let limit = if absent(spec, "backoffLimitPerIndex") {
        6
    } else {
        i32::MAX
    };
    set(spec, "backoffLimit", limit);
    set(spec, "completionMode", "NonIndexed");
    set(spec, "suspend", false);
    let policy = if absent(spec, "podFailurePolicy") {
        "TerminatingOrFailed"
    } else {
        "Failed"
    };
    set(spec, "podReplacementPolicy", policy);
    set(spec, "manualSelector", false);
    job_template(spec);
    let template = spec.get("template").cloned();
    labels_from(template, object);
}

/// What a Job's spec and the one in a CronJob have in common.
fn job_template(spec: &mut Object) {
    if let Some(policy) = member(spec, "podFailurePolicy") {
        super::each(policy, "rules", |rule| {
            super::each(rule, "onPodConditions", |pattern| {
                set_text(pattern, "status", "True")
            });
        });
    }
    pod::template(spec, "template");
}

fn cron_job(object: &mut Object) {
    made(object, "status");
    let Some(spec) = made(object, "spec") else {
        return;
    };
    set_text(spec, "concurrencyPolicy", "Allow");
    set(spec, "suspend", false);
    set(spec, "successfulJobsHistoryLimit", 3);
    set(spec, "failedJobsHistoryLimit", 1);
    if let Some(template) = made(spec, "jobTemplate") {
        made(template, "metadata");
        if let Some(job) = made(template, "spec") {
            job_template(job);
        }
    }
}

pub(super) fn autoscaling(kind: &str, object: &mut Object) {
    if kind != "HorizontalPodAutoscaler" {
        return;
    }
    if let Some(status) = made(object, "status") {
        set(status, "desiredReplicas", 0);
    }
    let Some(spec) = made(object, "spec") else {
        return;
    };
    set(spec, "minReplicas", 1);
    set_list(spec, "metrics", || {
        json!([{"type": "Resource", "resource": {
            "name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}])
    });
    let Some(behavior) = member(spec, "behavior") else {
        return;
    };
    if let Some(up) = made(behavior, "scaleUp") {
        set(up, "stabilizationWindowSeconds", 0);
        scaling_rules(
            up,
            json!([
                {"type": "Pods", "value": 4, "periodSeconds": 15},
                {"type": "Percent", "value": 100, "periodSeconds": 15},
            ]),
        );
    }
    if let Some(down) = made(behavior, "scaleDown") {
        scaling_rules(
            down,
            json!([{"type": "Percent", "value": 100, "periodSeconds": 15}]),
        );
    }
}

fn scaling_rules(rules: &mut Object, policies: Value) {
    set(rules, "selectPolicy", "Max");
    set(rules, "policies", policies);
}

pub(super) fn policy(kind: &str, object: &mut Object) {
    if kind != "PodDisruptionBudget" {
        return;
    }
    made(object, "spec");
    if let Some(status) = made(object, "status") {
        for count in [
            "currentHealthy",
            "desiredHealthy",
            "disruptionsAllowed",
            "expectedPods",
        ] {
            set(status, count, 0);
        }
    }
}
