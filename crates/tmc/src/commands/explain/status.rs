//! The last step: what came back.

use serde_json::Value;
use tmc_api::synced::SYNCED;
use tmc_apimachinery::meta::meta;
use tmc_controllers::coordination::conditions::TARGET_LOST;

use super::step::Step;
use super::times::{changed, created};
use super::world::World;
use crate::output::{self, list, text};

/// What to do about an object that a cluster refuses.
pub(super) const MAKE_FIT: &str =
    "Change the object so that the cluster takes it, or have the cluster allow it";
/// Kinds that never have a status of their own.
const WITHOUT: [&str; 3] = ["configmaps", "secrets", "serviceaccounts"];
/// Conditions that say that a workload does its work, in the order of how much they tell.
const WELL: [&str; 4] = ["Available", "Ready", "Complete", "Established"];
/// Conditions that say that it never will.
const ILL: [&str; 3] = ["Failed", "ReplicaFailure", "FailureTarget"];

/// The step about an object's status.
pub(super) fn step(world: &World, object: &Value, on: &str) -> Step {
    let resource = world.kind.resource.as_str();
    if (world.kind.group.is_empty() && WITHOUT.contains(&resource)) || resource == "namespaces" {
        return Step::skipped("status", "NoStatus", format!("{resource} bring none back"));
    }
    let conditions = list(object, "/status/conditions");
    if let Some(lost) = conditions.iter().find(|c| c["reason"] == TARGET_LOST) {
        let said = "unknown: nothing is heard from its cluster any more; the last status is shown";
        return Step::failed("status", TARGET_LOST, said)
            .since(changed(lost))
            .advise(format!(
                "Bring the cluster back ({on}), or wait until the hub moves it"
            ));
    }
    let synced = output::find_condition(object, SYNCED);
    if let Some(synced) = synced.filter(|c| c["status"] == "False") {
        return Step::failed("status", "NotSynced", text(synced, "/message"))
            .because(text(synced, "/reason"))
            .since(changed(synced))
            .advise(MAKE_FIT);
    }
    if is_empty(object) {
        return Step::waiting("status", "NotReported", "none has come back yet")
            .not_before(created(object))
            .advise("Wait a moment; if this stays, look at the cluster's syncer: tmc doctor");
    }
    let observed = object
        .pointer("/status/observedGeneration")
        .and_then(Value::as_i64);
    let wanted = meta(object).generation();
    if let Some(observed) = observed.filter(|observed| *observed < wanted) {
        let said = format!("the cluster has seen generation {observed} of {wanted}");
        return Step::waiting("status", "NotObserved", said)
            .not_before(created(object))
            .advise("Wait for the cluster to see the last change");
    }
    if let Some(ill) = conditions
        .iter()
        .find(|c| ILL.contains(&text(c, "/type")) && c["status"] == "True")
    {
        return Step::failed(
            "status",
            text(ill, "/type"),
            output::reason_and_message(ill),
        )
        .since(changed(ill))
        .advise("Correct what the message names");
    }
    let well = WELL
        .iter()
        .find_map(|kind| output::find_condition(object, kind));
    match well {
        None => {
            let said = format!("has come back{}", replicas(object));
            Step::done("status", "Reported", said).not_before(created(object))
        }
        Some(condition) if condition["status"] == "True" => {
            let kind = text(condition, "/type");
            Step::done("status", kind, format!("{kind}{}", replicas(object)))
                .because(text(condition, "/reason"))
                .since(changed(condition))
        }
        Some(condition) => stalled(object, condition),
    }
}

fn is_empty(object: &Value) -> bool {
    let status = object.get("status").and_then(Value::as_object);
    status.is_none_or(serde_json::Map::is_empty)
}

fn stalled(object: &Value, condition: &Value) -> Step {
    let kind = text(condition, "/type");
    let said = format!("not {kind} yet{}", replicas(object));
    let progressing = output::find_condition(object, "Progressing");
    if let Some(stuck) = progressing.filter(|c| c["status"] == "False") {
        let said = format!("{said}: {}", text(stuck, "/message"));
        return Step::failed("status", "NotProgressing", said)
            .because(text(stuck, "/reason"))
            .since(changed(condition))
            .since(changed(stuck))
            .advise("Look at its pods in the cluster: image, resources, probes");
    }
    Step::waiting("status", &format!("Not{kind}"), said)
        .because(text(condition, "/reason"))
        .since(changed(condition))
        .advise("Wait for its pods; if this stays, look at them in the cluster: image, resources, probes")
}

/// `: 1 of 2 replicas ready`, for kinds that count them.
fn replicas(object: &Value) -> String {
    let number = |pointer: &str| object.pointer(pointer).and_then(Value::as_i64);
    match number("/spec/replicas").or_else(|| number("/status/desiredNumberScheduled")) {
        None => String::new(),
        Some(wanted) => {
            let ready = number("/status/readyReplicas").or_else(|| number("/status/numberReady"));
            format!(": {} of {wanted} replicas ready", ready.unwrap_or(0))
        }
    }
}
