//! What only the system writes: its own kinds, `/status` of ours, LogicalClusters.

use std::collections::BTreeSet;

use serde_json::{Map, Value};
use tmc_api::workload::condition::{API_IMPORTER_READY, SYNCER_AUTHORIZED};
use tmc_api::{scheduling, tenancy, workload};
use tmc_apimachinery::GroupVersionKind;
use tmc_apimachinery::admission::Operation;

use crate::Writer;

/// Groups whose kinds are ours (or kcp's).
const OUR_GROUPS: [&str; 8] = [
    workload::GROUP,
    scheduling::GROUP,
    tenancy::GROUP,
    tenancy::CORE_GROUP,
    "apiresource.kcp.io",
    "apis.kcp.io",
    "fleet.kcp.io",
    "syncer.kcp.io",
];

/// Fields of a SyncTarget's status that its agent writes (types, section 1.2).
const AGENT_FIELDS: [&str; 4] = [
    "capacity",
    "allocatable",
    "lastSyncerHeartbeatTime",
    "syncerIdentity",
];
/// Fields of `syncerStatus` that its agent writes.
const AGENT_SYNCER_FIELDS: [&str; 2] = ["lastSyncTime", "syncedResources"];
/// Conditions that its agent writes.
const AGENT_CONDITIONS: [&str; 2] = [SYNCER_AUTHORIZED, API_IMPORTER_READY];

/// Why a writer may not write a system-written kind, if so.
pub(crate) fn refuse_system_kind(gvk: &GroupVersionKind, writer: Writer) -> Option<String> {
    let allowed = match (gvk.group.as_str(), gvk.kind.as_str()) {
        (workload::GROUP, "SyncedStatus") => {
            matches!(writer, Writer::Controller | Writer::VirtualWorkspace)
        }
        (scheduling::GROUP, "PlacementDecision")
        | (workload::GROUP, "ResourceReservation" | "QuotaLedger") => writer == Writer::Controller,
        _ => true,
    };
    (!allowed).then(|| format!("{} objects are written by the system only", gvk.kind))
}

/// Why a writer may not do this to a LogicalCluster, if so. Its labels and annotations are free
/// (reserved ones have their own rule); its owners and finalizers are not.
pub(crate) fn refuse_logical_cluster(
    gvk: &GroupVersionKind,
    writer: Writer,
    operation: Operation,
    (new, old): (Option<&Value>, Option<&Value>),
) -> Option<&'static str> {
    let concerned = gvk.group == tenancy::CORE_GROUP && gvk.kind == "LogicalCluster";
    if !concerned || writer == Writer::Controller {
        return None;
    }
    let spec = |object: Option<&Value>| object.and_then(|o| o.get("spec")).cloned();
    let changes = |field: &&str| list(new, field) != list(old, field);
    match operation {
        Operation::Create => Some("logical clusters are made with their Workspace"),
        Operation::Update if spec(new) != spec(old) => {
            Some("the spec of a logical cluster is written by the system only")
        }
        // An owner that is gone would take the workspace with it, a finalizer would hold it.
        Operation::Update if ["ownerReferences", "finalizers"].iter().any(changes) => {
            Some("owners and finalizers of a logical cluster are written by the system only")
        }
        Operation::Update => None,
        Operation::Delete => {
            let deletable = old.and_then(|o| o.pointer("/spec/directlyDeletable"));
            let why = "delete the Workspace that it belongs to instead";
            (deletable != Some(&Value::Bool(true))).then_some(why)
        }
    }
}

/// A list of the metadata; one that is absent or null is empty.
fn list<'a>(object: Option<&'a Value>, field: &str) -> &'a [Value] {
    let metadata = object.and_then(|object| object.get("metadata"));
    let list = metadata.and_then(|metadata| metadata.get(field)?.as_array());
    list.map_or(&[], Vec::as_slice)
}

/// Whether a subresource is the status of one of our kinds.
pub(crate) fn is_our_status(gvk: &GroupVersionKind, subresource: &str) -> bool {
    subresource == "status" && OUR_GROUPS.contains(&gvk.group.as_str())
}

/// What an agent changed in the status of its SyncTarget that is not its to write, as field paths.
pub(crate) fn foreign_to_agents(new: &Value, old: &Value) -> Vec<String> {
    let (new, old) = (status(new), status(old));
    let mut found = Vec::new();
    for field in differing(&new, &old, &AGENT_FIELDS) {
        match field.as_str() {
            "conditions" => found.extend(foreign_conditions(new.get(&field), old.get(&field))),
            "syncerStatus" => {
                let (new, old) = (object(new.get(&field)), object(old.get(&field)));
                let names = differing(&new, &old, &AGENT_SYNCER_FIELDS);
                found.extend(
                    names
                        .into_iter()
                        .map(|name| format!("status.{field}.{name}")),
                );
            }
            _ => found.push(format!("status.{field}")),
        }
    }
    found
}

fn object(value: Option<&Value>) -> Map<String, Value> {
    value
        .and_then(Value::as_object)
        .cloned()
        .unwrap_or_default()
}

fn status(target: &Value) -> Map<String, Value> {
    object(target.get("status"))
}

/// Names of members that differ, except some.
fn differing(
    new: &Map<String, Value>,
    old: &Map<String, Value>,
    except: &[&str],
) -> BTreeSet<String> {
    let names = new.keys().chain(old.keys());
    names
        .filter(|name| !except.contains(&name.as_str()) && new.get(*name) != old.get(*name))
        .cloned()
        .collect()
}

fn foreign_conditions(new: Option<&Value>, old: Option<&Value>) -> Vec<String> {
    let kind = |condition: &Value| {
        condition
            .get("type")
            .and_then(Value::as_str)
            .map(str::to_owned)
    };
    let by_type = |list: Option<&Value>| -> Vec<(Option<String>, Value)> {
        let list = list.and_then(Value::as_array).into_iter().flatten();
        let mut list: Vec<_> = list.map(|c| (kind(c), c.clone())).collect();
        list.retain(|(name, _)| {
            !name
                .as_deref()
                .is_some_and(|name| AGENT_CONDITIONS.contains(&name))
        });
        list.sort_by(|(a, _), (b, _)| a.cmp(b));
        list
    };
    let (new, old) = (by_type(new), by_type(old));
    let mut names = BTreeSet::new();
    for (name, condition) in new.iter().chain(&old) {
        let entry = (name.clone(), condition.clone());
        if !(new.contains(&entry) && old.contains(&entry)) {
            names.insert(name.clone().unwrap_or_default());
        }
    }
    names
        .into_iter()
        .map(|name| format!("status.conditions[{name}]"))
        .collect()
}
