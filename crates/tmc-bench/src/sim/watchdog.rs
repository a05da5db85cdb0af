//! Looks at every change of the hub as it becomes durable.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::Value;
use tmc_apimachinery::meta::meta;
use tmc_store::Key;

use super::disk::{Line, Witness};
use super::invariants::{placement_agrees_with_itself, target_agrees_with_itself};
use super::snapshot::EVENTS;
use super::trace::Trace;

const TARGETS: &str = "workload.kcp.io/synctargets/";
const CLUSTERS: &str = "workload.kcp.io/clusters/";
const PLACEMENTS: &str = "scheduling.kcp.io/placements/";
const LEASES: &str = "coordination.k8s.io/leases/";

/// Notes every change and reports what no single change may do.
pub(crate) fn witness(trace: &Trace) -> Witness {
    let trace = trace.clone();
    Box::new(move |line, live| {
        trace.note(|| {
            let what = if line.deleted { "removed" } else { "wrote" };
            format!("revision {}: {what} {}", line.revision, line.key)
        });
        for violation in judge(line, live) {
            trace.violation(&violation);
        }
    })
}

fn judge(line: &Line, live: &BTreeMap<Key, Bytes>) -> Vec<String> {
    if line.deleted {
        return Vec::new();
    }
    if line.key.starts_with(TARGETS) {
        return target_agrees_with_itself(&read(&line.value));
    }
    if line.key.starts_with(PLACEMENTS) {
        let after = read(&line.value);
        let torn = placement_agrees_with_itself(&after);
        let before = line.before.as_ref().map(read);
        let dropped = before.and_then(|before| dropped_target(&before, &after, live));
        return torn.into_iter().chain(dropped).collect();
    }
    Vec::new()
}

fn read(bytes: &Bytes) -> Value {
    serde_json::from_slice(bytes).unwrap_or_default()
}

fn targets(placement: &Value) -> &[Value] {
    let list = placement
        .pointer("/status/syncTargets")
        .and_then(Value::as_array);
    list.map_or(&[], Vec::as_slice)
}

/// A Placement that lost its targets although nobody asked for that and they are still there: what
/// runs is taken away without anywhere to go.
fn dropped_target(before: &Value, after: &Value, live: &BTreeMap<Key, Bytes>) -> Option<String> {
    let unasked =
        meta(before).generation() == meta(after).generation() && !meta(after).is_being_deleted();
    if !unasked || targets(before).is_empty() || !targets(after).is_empty() {
        return None;
    }
    let exists = |target: &Value| {
        let text = |field: &str| target[field].as_str().unwrap_or_default();
        let key = format!("{TARGETS}{}//{}", text("cluster"), text("name"));
        live.get(&*key).map(read).is_some_and(|found| {
            meta(&found).uid() == text("uid") && !meta(&found).is_being_deleted()
        })
    };
    targets(before).iter().all(exists).then(|| {
        format!(
            "Placement {} lost its targets to nothing",
            meta(after).name()
        )
    })
}

/// What was written in a time in which nothing happened, apart from the times of beats and probes, and
/// from Events that end. `most` is how often one object may have its times written.
pub(crate) fn unrest(lines: &[Line], most: usize) -> Vec<String> {
    let mut times: BTreeMap<&Key, usize> = BTreeMap::new();
    let mut wrong = Vec::new();
    let lines = lines.iter().filter(|line| !line.key.starts_with(LEASES));
    for line in lines.filter(|line| !is_end_of_event(line)) {
        if only_times_moved(line) {
            *times.entry(&line.key).or_default() += 1;
        } else {
            let what = if line.deleted { "removed" } else { "written" };
            wrong.push(format!(
                "{} was {what} though nothing happened: {}",
                line.key,
                change(line)
            ));
        }
    }
    let often = times.into_iter().filter(|(_, count)| *count > most);
    wrong
        .extend(often.map(|(key, count)| format!("the times of {key} were written {count} times")));
    wrong
}

/// Whether the hub by itself removed an Event whose time was over.
pub(crate) fn is_end_of_event(line: &Line) -> bool {
    line.deleted && line.key.starts_with(EVENTS)
}

/// What a line changed, for people.
pub(crate) fn change(line: &Line) -> String {
    let before = line.before.as_ref().map(read).unwrap_or_default();
    let patch = tmc_apimachinery::patch::merge_diff(&before, &read(&line.value));
    let text = patch.unwrap_or_default().to_string();
    text.chars().take(600).collect()
}

fn only_times_moved(line: &Line) -> bool {
    let (Some(before), false) = (&line.before, line.deleted) else {
        return false;
    };
    let times: &[&str] = if line.key.starts_with(TARGETS) {
        // Who beat, and what is synced, is noted with when.
        &[
            "lastSyncerHeartbeatTime",
            "lastHeartbeatTime",
            "syncerIdentity",
            "syncerStatus/lastSyncTime",
            "syncerStatus/syncedResources",
        ]
    } else if line.key.starts_with(CLUSTERS) {
        &["lastProbeTime", "capabilities/observedAt"]
    } else {
        return false;
    };
    let without = |bytes: &Bytes| {
        let mut object = read(bytes);
        for time in times {
            remove(&mut object["status"], time);
        }
        if let Some(metadata) = object["metadata"].as_object_mut() {
            metadata.remove("resourceVersion");
            metadata.remove("managedFields");
        }
        object
    };
    without(before) == without(&line.value)
}

/// Removes what a path leads to, and what holds nothing else.
fn remove(value: &mut Value, path: &str) {
    let Some(fields) = value.as_object_mut() else {
        return;
    };
    let (field, rest) = path.split_once('/').unwrap_or((path, ""));
    if let Some(inner) = fields.get_mut(field).filter(|_| !rest.is_empty()) {
        remove(inner, rest);
        if inner.as_object().is_some_and(|inner| !inner.is_empty()) {
            return;
        }
    }
    fields.remove(field);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn line(key: &str, before: &Value, after: &Value) -> Line {
        let bytes = |value: &Value| Bytes::from(value.to_string());
        Line {
            revision: 1,
            key: key.into(),
            value: bytes(after),
            deleted: false,
            before: Some(bytes(before)),
        }
    }

    #[test]
    fn only_times_of_beats_and_probes_may_move_and_not_too_often() {
        let target = |phase: &str, at: &str| json!({"metadata": {"name": "east"}, "status": {"phase": phase, "lastHeartbeatTime": at}});
        let key = format!("{TARGETS}c//east");
        let beat = line(&key, &target("Ready", "1"), &target("Ready", "2"));
        assert!(unrest(std::slice::from_ref(&beat), 1).is_empty());
        assert_eq!(unrest(&[beat.clone(), beat], 1).len(), 1);
        let mut reported = target("Ready", "2");
        reported["status"]["syncerStatus"] = json!({"lastSyncTime": "1", "syncedResources": 3});
        let report = line(&key, &target("Ready", "1"), &reported);
        assert!(unrest(&[report], 1).is_empty());
        reported["status"]["syncerStatus"]["replicas"] = json!(2);
        let replicas = line(&key, &target("Ready", "1"), &reported);
        assert_eq!(unrest(&[replicas], 1).len(), 1);
        let other = line(&key, &target("Ready", "1"), &target("NotReady", "2"));
        assert_eq!(unrest(&[other], 1).len(), 1);
        let work = line("apps/deployments/c/n/d", &json!({}), &json!({"a": 1}));
        assert_eq!(unrest(&[work], 1).len(), 1);
        let mut event = line(&format!("{EVENTS}c/n/e"), &json!({}), &json!({"a": 1}));
        assert_eq!(unrest(std::slice::from_ref(&event), 1).len(), 1);
        event.deleted = true;
        assert!(unrest(&[event], 1).is_empty());
    }

    #[test]
    fn a_placement_may_not_lose_a_target_that_is_still_there() {
        let placement = |generation: i64, targets: Value| {
            json!({"metadata": {"name": "p", "generation": generation},
                   "status": {"syncTargets": targets}})
        };
        let target = json!([{"cluster": "c", "name": "east", "uid": "u"}]);
        let (before, after) = (placement(1, target.clone()), placement(1, json!([])));
        let there = json!({"metadata": {"name": "east", "uid": "u"}}).to_string();
        let key: Key = format!("{TARGETS}c//east").into();
        let mut live = BTreeMap::from([(key, Bytes::from(there))]);
        assert!(dropped_target(&before, &after, &live).is_some());
        assert!(dropped_target(&before, &placement(2, json!([])), &live).is_none());
        assert!(dropped_target(&before, &placement(1, target), &live).is_none());
        live.clear();
        assert!(dropped_target(&before, &after, &live).is_none());
    }
}
