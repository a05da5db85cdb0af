//! The last step: what came back.

use serde_json::Value;
use tmc_apimachinery::meta::meta;

use super::step::Step;
use super::world::World;
use crate::output::{self, list, text};

/// Reason of conditions whose target was lost.
const TARGET_LOST: &str = "TargetLost";
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
        return Step::skipped("status", format!("{resource} bring none back"));
    }
    let conditions = list(object, "/status/conditions");
    let since = |c: &Value| output::time(c, "/lastTransitionTime");
    if let Some(lost) = conditions.iter().find(|c| c["reason"] == TARGET_LOST) {
        return Step::failed(
            "status",
            "unknown: the cluster it runs on is not heard any more",
        )
        .because(TARGET_LOST)
        .since(since(lost))
        .advise(format!(
            "Bring the cluster back ({on}), or wait until the hub moves it"
        ));
    }
    if let Some(synced) = conditions
        .iter()
        .find(|c| c["type"] == "Synced" && c["status"] == "False")
    {
        return Step::failed("status", text(synced, "/message"))
            .because(text(synced, "/reason"))
            .since(since(synced))
            .advise(
                "Change the object so that the cluster takes it, or have the cluster allow it",
            );
    }
    if object
        .get("status")
        .is_none_or(|s| s.as_object().is_none_or(serde_json::Map::is_empty))
    {
        return Step::waiting("status", "none has come back yet")
            .advise("Wait a moment; if this stays, look at the cluster's syncer: tmc doctor");
    }
    let observed = object
        .pointer("/status/observedGeneration")
        .and_then(Value::as_i64);
    let wanted = meta(object).generation();
    if let Some(observed) = observed.filter(|observed| *observed < wanted) {
        return Step::waiting(
            "status",
            format!("the cluster has seen generation {observed} of {wanted}"),
        )
        .advise("Wait for the cluster to see the last change");
    }
    if let Some(ill) = conditions
        .iter()
        .find(|c| ILL.contains(&text(c, "/type")) && c["status"] == "True")
    {
        return Step::failed("status", output::reason_and_message(ill))
            .because(text(ill, "/type"))
            .since(since(ill))
            .advise("Correct what the message names");
    }
    let well = WELL
        .iter()
        .find_map(|kind| output::find_condition(object, kind));
    match well {
        None => Step::done("status", format!("has come back{}", replicas(object))),
        Some(condition) if condition["status"] == "True" => Step::done(
            "status",
            format!("{}{}", text(condition, "/type"), replicas(object)),
        )
        .since(since(condition)),
        Some(condition) => stalled(object, condition).since(since(condition)),
    }
}

fn stalled(object: &Value, condition: &Value) -> Step {
    let kind = text(condition, "/type");
    let text_of = format!("not {kind} yet{}", replicas(object));
    let progressing = output::find_condition(object, "Progressing");
    if let Some(stuck) = progressing.filter(|c| c["status"] == "False") {
        return Step::failed("status", format!("{text_of}: {}", text(stuck, "/message")))
            .because(text(stuck, "/reason"))
            .advise("Look at its pods in the cluster: image, resources, probes");
    }
    Step::waiting("status", text_of)
        .because(text(condition, "/reason"))
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
