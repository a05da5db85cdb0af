//! What must hold of a hub and its members, as functions of a snapshot. Each gives the sentences that
//! are not true.
//!
//! They know the contract (labels, annotations, conditions), not how controllers reach it.

mod at_rest;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde_json::Value;
use tmc_api::hashes::Locator;
use tmc_api::keys;
use tmc_apimachinery::meta::meta;

use super::snapshot::{InMember, Snapshot};
use super::users::ORIGIN;

pub(crate) use at_rest::at_rest;

/// What must hold at every moment, whatever goes wrong.
pub(crate) fn always(snapshot: &Snapshot) -> Vec<String> {
    let mut wrong = Vec::new();
    for target in &snapshot.targets {
        wrong.extend(target_agrees_with_itself(target));
    }
    for cluster in &snapshot.clusters {
        wrong.extend(ready_is_phase_ready(cluster, "Cluster"));
    }
    for location in &snapshot.locations {
        wrong.extend(location_counts(location));
    }
    for placement in &snapshot.placements {
        wrong.extend(placement_agrees_with_itself(placement));
    }
    for (name, member) in &snapshot.members {
        wrong.extend(
            member
                .disturbed
                .iter()
                .map(|what| format!("a stranger's object was touched: {what}")),
        );
        wrong.extend(workspaces_are_apart(snapshot, name, member));
    }
    wrong
}

/// The status of a condition, `Unknown` if it is absent.
pub(crate) fn condition<'a>(object: &'a Value, kind: &str) -> &'a str {
    let conditions = object
        .pointer("/status/conditions")
        .and_then(Value::as_array);
    conditions
        .and_then(|list| list.iter().find(|condition| condition["type"] == kind))
        .and_then(|condition| condition["status"].as_str())
        .unwrap_or("Unknown")
}

/// Name of an object for people: cluster, namespace, name.
pub(crate) fn shown(object: &Value) -> String {
    let at = meta(object);
    format!("{}/{}/{}", at.cluster(), at.namespace(), at.name())
}

/// The state labels of an object by target key.
pub(crate) fn states(object: &Value) -> BTreeMap<String, String> {
    let labels = meta(object).labels().into_iter();
    labels
        .filter_map(|(key, value)| Some((key.strip_prefix(keys::STATE_PREFIX)?.to_owned(), value)))
        .collect()
}

/// The locator of a member's namespace, if it was made by a syncer.
pub(crate) fn locator(namespace: &Value) -> Option<Locator> {
    let text = meta(namespace).annotation(keys::NAMESPACE_LOCATOR_ANNOTATION)?;
    Locator::parse(text).ok()
}

fn phase(object: &Value) -> &str {
    object
        .pointer("/status/phase")
        .and_then(Value::as_str)
        .unwrap_or_default()
}

fn ready_is_phase_ready(object: &Value, kind: &str) -> Option<String> {
    let (ready, phase) = (condition(object, "Ready"), phase(object));
    ((ready == "True") != (phase == "Ready")).then(|| {
        format!(
            "{kind} {} has Ready={ready} and phase {phase}",
            shown(object)
        )
    })
}

/// Types, 1.5.
pub(crate) fn target_agrees_with_itself(target: &Value) -> Vec<String> {
    let mut wrong: Vec<String> = ready_is_phase_ready(target, "SyncTarget")
        .into_iter()
        .collect();
    if condition(target, "Ready") == "True" {
        let cluster = target
            .pointer("/spec/clusterRef")
            .map(|_| "ClusterAvailable");
        let required = ["SyncerReady", "HeartbeatHealthy", "APIAvailable"]
            .into_iter()
            .chain(cluster);
        for kind in required.filter(|kind| condition(target, kind) != "True") {
            let status = condition(target, kind);
            wrong.push(format!(
                "SyncTarget {} is Ready with {kind}={status}",
                shown(target)
            ));
        }
    }
    let uid = meta(target).uid();
    let urls = target
        .pointer("/status/virtualWorkspaces")
        .and_then(Value::as_array);
    let urls = urls.map_or(&[][..], Vec::as_slice);
    let strange = urls
        .iter()
        .any(|url| !url["syncerURL"].as_str().unwrap_or_default().contains(uid));
    if strange {
        wrong.push(format!(
            "SyncTarget {} has a URL without its uid",
            shown(target)
        ));
    }
    let first = urls.first().map_or(&Value::Null, |url| &url["syncerURL"]);
    let mirror = target
        .pointer("/status/virtualWorkspaceURL")
        .unwrap_or(&Value::Null);
    let absent = |url: &Value| url.as_str().unwrap_or_default().is_empty();
    if first != mirror && !(absent(first) && absent(mirror)) {
        wrong.push(format!(
            "SyncTarget {} mirrors another URL than its first",
            shown(target)
        ));
    }
    if phase(target) == "Terminating" && !meta(target).is_being_deleted() {
        wrong.push(format!(
            "SyncTarget {} is Terminating but not being deleted",
            shown(target)
        ));
    }
    wrong
}

/// Types, 3.
fn location_counts(location: &Value) -> Option<String> {
    let count = |name: &str| location["status"][name].as_u64().unwrap_or(0);
    (count("availableInstances") > count("instances")).then(|| {
        format!(
            "Location {} has more available instances than instances",
            shown(location)
        )
    })
}

/// Types, 4, as far as one object tells.
pub(crate) fn placement_agrees_with_itself(placement: &Value) -> Option<String> {
    let selected = placement
        .pointer("/status/selectedLocation")
        .is_some_and(|l| !l.is_null());
    let phase = phase(placement);
    let wrong = match phase {
        "Bound" | "Unbound" => !selected,
        "Pending" => selected,
        _ => false,
    };
    wrong.then(|| {
        format!(
            "Placement {} is {phase}, selectedLocation: {selected}",
            shown(placement)
        )
    })
}

/// Nothing of one workspace or namespace is in another's.
fn workspaces_are_apart(snapshot: &Snapshot, name: &str, member: &InMember) -> Vec<String> {
    let mut wrong = Vec::new();
    for work in &member.work {
        let at = meta(&work.object);
        let Some(origin) = at.annotation(ORIGIN) else {
            continue;
        };
        let home = member
            .namespaces
            .iter()
            .find(|namespace| meta(namespace).name() == at.namespace());
        let Some(locator) = home.and_then(locator) else {
            wrong.push(format!(
                "{name}: {origin} is in {}, which no syncer made",
                at.namespace()
            ));
            continue;
        };
        let team = snapshot
            .teams
            .get(&locator.cluster)
            .map_or("?", String::as_str);
        let expected = format!("{team}/{}/{}", locator.namespace, at.name());
        if origin != expected {
            wrong.push(format!("{name}: {origin} is in the place of {expected}"));
        }
    }
    wrong
}
