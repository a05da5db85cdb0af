//! What a cluster makes of a Deployment, as pure functions: its ReplicaSets, their Pods, and the
//! statuses that sum them up.

use serde_json::{Value, json};
use sha2::{Digest, Sha224};
use tmc_apimachinery::meta::meta;

/// Label that ties Pods to the template they were made from.
const TEMPLATE_HASH: &str = "pod-template-hash";

/// An owner reference to `owner` as its managing controller.
pub fn owner_reference(owner: &Value) -> Value {
    json!({
        "apiVersion": owner["apiVersion"], "kind": owner["kind"],
        "name": meta(owner).name(), "uid": meta(owner).uid(),
        "controller": true, "blockOwnerDeletion": true,
    })
}

/// The uid of an object's managing controller, empty if it has none.
pub fn controller_uid(object: &Value) -> &str {
    let owners = object
        .pointer("/metadata/ownerReferences")
        .and_then(Value::as_array);
    let controller = owners.and_then(|list| list.iter().find(|o| o["controller"] == true));
    controller.and_then(|o| o["uid"].as_str()).unwrap_or("")
}

/// `spec.replicas`, 1 if absent.
pub fn replicas(object: &Value) -> i64 {
    object
        .pointer("/spec/replicas")
        .and_then(Value::as_i64)
        .unwrap_or(1)
}

fn template_hash(deployment: &Value) -> String {
    let digest = Sha224::digest(deployment["spec"]["template"].to_string().as_bytes());
    tmc_api::hashes::base36(&digest)[..10].to_owned()
}

/// The ReplicaSet that a Deployment wants for its current template.
pub fn replica_set(deployment: &Value) -> Value {
    let hash = template_hash(deployment);
    let spec = &deployment["spec"];
    let mut template = spec["template"].clone();
    template["metadata"]["labels"][TEMPLATE_HASH] = hash.as_str().into();
    let mut selector = spec["selector"].clone();
    selector["matchLabels"][TEMPLATE_HASH] = hash.as_str().into();
    json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet",
        "metadata": {
            "name": format!("{}-{hash}", meta(deployment).name()),
            "namespace": meta(deployment).namespace(),
            "labels": template["metadata"]["labels"],
            "ownerReferences": [owner_reference(deployment)],
        },
        "spec": {"replicas": replicas(deployment), "selector": selector, "template": template},
    })
}

/// A Pod of a ReplicaSet, on a node.
pub fn pod(replica_set: &Value, node: &str) -> Value {
    let template = &replica_set["spec"]["template"];
    let mut spec = template["spec"].clone();
    spec["nodeName"] = node.into();
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "generateName": format!("{}-", meta(replica_set).name()),
            "namespace": meta(replica_set).namespace(),
            "labels": template["metadata"]["labels"],
            "annotations": template["metadata"].get("annotations").cloned().unwrap_or(json!({})),
            "ownerReferences": [owner_reference(replica_set)],
        },
        "spec": spec,
    })
}

/// The status of a Pod whose containers run, or cannot (`failure` names why).
pub fn pod_status(pod: &Value, now: &str, failure: Option<&str>) -> Value {
    let ready = failure.is_none();
    let containers: Vec<Value> = pod["spec"]["containers"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|container| {
            let state = match failure {
                None => json!({"running": {"startedAt": now}}),
                Some(reason) => json!({"waiting": {"reason": reason}}),
            };
            json!({"name": container["name"], "image": container["image"], "imageID": "",
                   "ready": ready, "started": ready, "restartCount": 0, "state": state})
        })
        .collect();
    let condition = |kind: &str, good: bool| json!({"type": kind, "status": if good { "True" } else { "False" }, "lastTransitionTime": now});
    json!({
        "phase": if ready { "Running" } else { "Pending" },
        "startTime": now, "hostIP": "127.0.0.1", "podIP": "10.244.0.1",
        "conditions": [
            condition("Initialized", true), condition("Ready", ready),
            condition("ContainersReady", ready), condition("PodScheduled", true),
        ],
        "containerStatuses": containers,
    })
}

/// Whether a Pod is Ready.
pub fn is_ready(pod: &Value) -> bool {
    let conditions = pod.pointer("/status/conditions").and_then(Value::as_array);
    conditions.is_some_and(|l| {
        l.iter()
            .any(|c| c["type"] == "Ready" && c["status"] == "True")
    })
}

/// The status of a ReplicaSet with these Pods.
pub fn replica_set_status(replica_set: &Value, pods: &[&Value]) -> Value {
    let ready = pods.iter().filter(|pod| is_ready(pod)).count();
    let mut status = json!({
        "replicas": pods.len(), "fullyLabeledReplicas": pods.len(),
        "observedGeneration": meta(replica_set).generation(),
    });
    if ready > 0 {
        status["readyReplicas"] = ready.into();
        status["availableReplicas"] = ready.into();
    }
    status
}

fn count(status: &Value, key: &str) -> i64 {
    status[key].as_i64().unwrap_or(0)
}

/// The status of a Deployment with these ReplicaSets. Transition times move only on a change.
pub fn deployment_status(deployment: &Value, sets: &[&Value], now: &str) -> Value {
    let wanted = replicas(deployment);
    let current = replica_set(deployment);
    let name = meta(&current).name();
    let newest = sets.iter().find(|set| meta(set).name() == name);
    let sum = |key| {
        sets.iter()
            .map(|set| count(&set["status"], key))
            .sum::<i64>()
    };
    let (total, ready) = (sum("replicas"), sum("readyReplicas"));
    let updated = newest.map_or(0, |set| count(&set["status"], "replicas"));
    let complete = updated == wanted && total == wanted && ready == wanted;
    let mut status = json!({"observedGeneration": meta(deployment).generation()});
    for (key, number) in [
        ("replicas", total),
        ("updatedReplicas", updated),
        ("readyReplicas", ready),
        ("availableReplicas", ready),
        ("unavailableReplicas", (wanted - ready).max(0)),
    ] {
        if number > 0 {
            status[key] = number.into();
        }
    }
    let available = ready >= wanted - max_unavailable(wanted);
    let progress = if complete {
        (
            "NewReplicaSetAvailable",
            format!("ReplicaSet \"{name}\" has successfully progressed."),
        )
    } else {
        (
            "ReplicaSetUpdated",
            format!("ReplicaSet \"{name}\" is progressing."),
        )
    };
    let availability = if available {
        (
            "MinimumReplicasAvailable",
            "Deployment has minimum availability.",
        )
    } else {
        (
            "MinimumReplicasUnavailable",
            "Deployment does not have minimum availability.",
        )
    };
    status["conditions"] = json!([
        condition(
            deployment,
            "Available",
            available,
            availability.0,
            availability.1,
            now
        ),
        condition(
            deployment,
            "Progressing",
            true,
            progress.0,
            &progress.1,
            now
        ),
    ]);
    status
}

/// A quarter, rounded down: the default of `maxUnavailable`.
fn max_unavailable(wanted: i64) -> i64 {
    wanted / 4
}

fn condition(
    deployment: &Value,
    kind: &str,
    good: bool,
    reason: &str,
    message: &str,
    now: &str,
) -> Value {
    let status = if good { "True" } else { "False" };
    let known = deployment
        .pointer("/status/conditions")
        .and_then(Value::as_array);
    let known = known.and_then(|list| list.iter().find(|c| c["type"] == kind));
    let keep = |key: &str, same: bool| match known {
        Some(condition) if same => condition[key].clone(),
        _ => now.into(),
    };
    let same = known.is_some_and(|c| c["status"] == status);
    let unchanged = same && known.is_some_and(|c| c["reason"] == reason && c["message"] == message);
    json!({
        "type": kind, "status": status, "reason": reason, "message": message,
        "lastTransitionTime": keep("lastTransitionTime", same),
        "lastUpdateTime": keep("lastUpdateTime", unchanged),
    })
}

/// How many replicas a ReplicaSet should have while its Deployment moves to a new template: the
/// newest has all at once, older ones go when it is ready.
pub fn scale_of(deployment: &Value, set: &Value, newest_ready: bool) -> i64 {
    let current = replica_set(deployment);
    if meta(set).name() == meta(&current).name() {
        replicas(deployment)
    } else if newest_ready {
        0
    } else {
        replicas(set)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deployment(replicas: i64) -> Value {
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "web", "namespace": "shop", "uid": "u", "generation": 2},
            "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}},
                "template": {"metadata": {"labels": {"app": "web"}},
                    "spec": {"containers": [{"name": "c", "image": "i"}]}}},
        })
    }

    fn set_with(deployment: &Value, replicas: i64, ready: i64) -> Value {
        let mut set = replica_set(deployment);
        set["status"] = json!({"replicas": replicas, "readyReplicas": ready});
        set
    }

    #[test]
    fn a_deployment_is_available_when_its_pods_are_ready_and_stays_so_without_new_times() {
        let mut web = deployment(2);
        let set = set_with(&web, 2, 2);
        web["status"] = deployment_status(&web, &[&set], "t1");
        assert_eq!(web["status"]["availableReplicas"], 2);
        assert_eq!(web["status"]["observedGeneration"], 2);
        assert_eq!(
            web.pointer("/status/conditions/0/status"),
            Some(&json!("True"))
        );
        assert_eq!(
            deployment_status(&web, &[&set], "t2"),
            web["status"],
            "a second pass is no change"
        );
    }

    #[test]
    fn a_deployment_without_ready_pods_is_not_available() {
        let web = deployment(2);
        let status = deployment_status(&web, &[&set_with(&web, 2, 0)], "t");
        assert_eq!(
            status.pointer("/conditions/0/status"),
            Some(&json!("False"))
        );
        assert_eq!(status["unavailableReplicas"], 2);
    }

    #[test]
    fn another_template_is_another_replica_set_and_the_old_one_goes_when_the_new_is_ready() {
        let web = deployment(2);
        let old = replica_set(&web);
        let mut changed = web.clone();
        changed["spec"]["template"]["spec"]["containers"][0]["image"] = "j".into();
        assert_ne!(meta(&replica_set(&changed)).name(), meta(&old).name());
        assert_eq!(scale_of(&changed, &old, false), 2);
        assert_eq!(scale_of(&changed, &old, true), 0);
        assert_eq!(scale_of(&changed, &replica_set(&changed), false), 2);
    }

    #[test]
    fn a_failing_pod_is_pending_with_its_reason() {
        let pod = pod(&replica_set(&deployment(1)), "node-1");
        let status = pod_status(&pod, "t", Some("ImagePullBackOff"));
        assert_eq!(status["phase"], "Pending");
        assert_eq!(
            status.pointer("/containerStatuses/0/state/waiting/reason"),
            Some(&json!("ImagePullBackOff"))
        );
        let mut failed = pod;
        failed["status"] = status;
        assert!(!is_ready(&failed));
    }
}
