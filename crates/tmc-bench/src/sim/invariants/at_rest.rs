//! What must hold once nothing has gone wrong for a while: everything that was asked for is done, and
//! nothing else is left.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use tmc_api::hashes::{Locator, SyncTargetLocator, downstream_namespace};
use tmc_api::keys::{self, deletion_annotation, syncer_finalizer};
use tmc_api::scheduling::{Location, Placement};
use tmc_apimachinery::meta::meta;

use super::{condition, locator, phase, shown, states};
use crate::sim::process::member_of;
use crate::sim::snapshot::{InMember, Snapshot, Work, target_key};

/// Namespaces whose objects never leave the hub.
const SYSTEM: [&str; 4] = [
    "kube-system",
    "kube-public",
    "kube-node-lease",
    "kcp-system",
];

/// What must hold once the fleet has converged. [`super::always`] is not repeated.
pub(crate) fn at_rest(snapshot: &Snapshot) -> Vec<String> {
    let mut wrong = Vec::new();
    wrong.extend(everything_is_ready(snapshot));
    wrong.extend(nothing_is_being_deleted(snapshot));
    for placement in &snapshot.placements {
        wrong.extend(placement_is_settled(snapshot, placement));
    }
    for namespace in &snapshot.namespaces {
        wrong.extend(namespace_is_placed(snapshot, namespace));
    }
    for work in &snapshot.work {
        wrong.extend(work_is_marked(snapshot, work));
        wrong.extend(work_is_in_its_members(snapshot, work));
    }
    for (name, member) in &snapshot.members {
        wrong.extend(member_holds_nothing_else(snapshot, name, member));
    }
    wrong
}

fn everything_is_ready(snapshot: &Snapshot) -> Vec<String> {
    let mut wrong = Vec::new();
    for (kind, objects) in [
        ("SyncTarget", &snapshot.targets),
        ("Cluster", &snapshot.clusters),
    ] {
        for object in objects
            .iter()
            .filter(|object| condition(object, "Ready") != "True")
        {
            let conditions = &object["status"]["conditions"];
            wrong.push(format!(
                "{kind} {} is not Ready: {conditions}",
                shown(object)
            ));
        }
    }
    for target in &snapshot.targets {
        if meta(target).label(keys::SYNC_TARGET_KEY_LABEL) != Some(&target_key(target)) {
            wrong.push(format!(
                "SyncTarget {} does not carry its key",
                shown(target)
            ));
        }
        // A report that was made while the member did not say it all is followed by a better one.
        if target.pointer("/status/allocatable").is_none() {
            wrong.push(format!(
                "what SyncTarget {} can take is not known",
                shown(target)
            ));
        }
        // What a member could not say of its agent's rights in the storm it is asked again.
        if condition(target, "SyncerAuthorized") != "True" {
            let conditions = &target["status"]["conditions"];
            wrong.push(format!(
                "the agent of SyncTarget {} is not known to have its rights: {conditions}",
                shown(target)
            ));
        }
    }
    for cluster in &snapshot.clusters {
        let named = cluster.pointer("/status/syncTargetRef/uid");
        let exists = snapshot
            .targets
            .iter()
            .any(|target| named.is_some_and(|uid| *uid == meta(target).uid()));
        if !exists {
            wrong.push(format!("Cluster {} has no SyncTarget", shown(cluster)));
        }
        // What could not be discovered in the storm is asked for again.
        if condition(cluster, "CapabilitiesDiscovered") != "True" {
            let conditions = &cluster["status"]["conditions"];
            wrong.push(format!(
                "Cluster {} has old capabilities: {conditions}",
                shown(cluster)
            ));
        }
    }
    wrong
}

fn nothing_is_being_deleted(snapshot: &Snapshot) -> Vec<String> {
    let work = snapshot.work.iter().map(|work| &work.object);
    let all = [
        &snapshot.targets,
        &snapshot.clusters,
        &snapshot.placements,
        &snapshot.namespaces,
    ];
    all.into_iter()
        .flatten()
        .chain(work)
        .filter(|object| meta(object).is_being_deleted())
        .map(|object| format!("{} {} does not go away", object["kind"], shown(object)))
        .collect()
}

/// The keys of the targets that a Placement has.
fn picked(placement: &Value) -> BTreeSet<String> {
    let targets = placement
        .pointer("/status/syncTargets")
        .and_then(Value::as_array);
    let keys = targets
        .into_iter()
        .flatten()
        .filter_map(|target| target["key"].as_str());
    keys.map(str::to_owned).collect()
}

fn labels(object: &Value) -> BTreeMap<String, String> {
    meta(object).labels()
}

fn typed<T: serde::de::DeserializeOwned>(object: &Value) -> Option<T> {
    serde_json::from_value(object.clone()).ok()
}

/// Whether new work may go to a target now.
fn is_open(snapshot: &Snapshot, target: &Value) -> bool {
    condition(target, "Ready") == "True"
        && target.pointer("/spec/unschedulable") != Some(&json!(true))
        && !is_draining(snapshot, target)
        && !meta(target).is_being_deleted()
}

fn is_draining(snapshot: &Snapshot, target: &Value) -> bool {
    let at = target.pointer("/spec/evictAfter").and_then(Value::as_str);
    let at = at.and_then(|text| text.parse::<jiff::Timestamp>().ok());
    at.is_some_and(|at| at <= snapshot.now)
}

/// Whether a Placement's Locations have a target that is open, other than these.
fn has_choice(snapshot: &Snapshot, placement: &Placement, but: &BTreeSet<String>) -> bool {
    let chosen = snapshot.locations.iter().filter(|location| {
        placement
            .spec
            .selects_location(&labels(location))
            .unwrap_or(false)
    });
    let mut chosen = chosen.filter_map(typed::<Location>);
    chosen.any(|location| {
        let targets = snapshot
            .targets
            .iter()
            .filter(|target| is_open(snapshot, target) && !but.contains(&target_key(target)));
        targets
            .into_iter()
            .any(|target| location.spec.selects(&labels(target)).unwrap_or(false))
    })
}

/// Types, 4.
fn placement_is_settled(snapshot: &Snapshot, placement: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    let name = shown(placement);
    let Some(read) = typed::<Placement>(placement) else {
        return vec![format!("Placement {name} cannot be read")];
    };
    let picked = picked(placement);
    let annotation = meta(placement).annotation(keys::PLACEMENT_SYNC_TARGET_ANNOTATION);
    let only = picked.first().filter(|_| picked.len() == 1);
    if annotation != only.map(String::as_str) {
        wrong.push(format!(
            "Placement {name} has {picked:?} and names {annotation:?}"
        ));
    }
    // Nothing leaves a target without another to go to.
    let choice = has_choice(snapshot, &read, &picked);
    if choice && picked.is_empty() {
        wrong.push(format!("Placement {name} has no target though one is open"));
    }
    for key in &picked {
        match snapshot.target(key) {
            None => wrong.push(format!("Placement {name} has a target that does not exist")),
            Some(target) if choice && is_draining(snapshot, target) => {
                wrong.push(format!(
                    "Placement {name} stays on {}, which drains",
                    shown(target)
                ));
            }
            Some(_) => {}
        }
    }
    let mine = snapshot.namespaces.iter().filter(|namespace| {
        meta(namespace).cluster() == meta(placement).cluster()
            && meta(namespace)
                .annotation(keys::PLACEMENT_ANNOTATION)
                .is_some()
            && read
                .spec
                .selects_namespace(&labels(namespace))
                .unwrap_or(false)
    });
    let bound = mine.count() > 0;
    let phase = phase(placement);
    if phase != "Pending" && (phase == "Bound") != bound {
        wrong.push(format!(
            "Placement {name} is {phase}, bound namespaces: {bound}"
        ));
    }
    wrong
}

/// A namespace is marked for exactly the targets of the Placements that select it.
fn namespace_is_placed(snapshot: &Snapshot, namespace: &Value) -> Vec<String> {
    let at = meta(namespace);
    let mut wanted = BTreeSet::new();
    let mut selected = false;
    if !SYSTEM.contains(&at.name()) {
        let here = snapshot
            .placements
            .iter()
            .filter(|placement| meta(placement).cluster() == at.cluster());
        for placement in here {
            let selects = typed::<Placement>(placement).is_some_and(|p| {
                p.spec
                    .selects_namespace(&labels(namespace))
                    .unwrap_or(false)
            });
            let located = placement
                .pointer("/status/selectedLocation")
                .is_some_and(|l| !l.is_null());
            if selects && located {
                selected = true;
                wanted.extend(picked(placement));
            }
        }
    }
    let mut wrong = marks_are(namespace, &wanted);
    if selected != at.annotation(keys::PLACEMENT_ANNOTATION).is_some() {
        wrong.push(format!(
            "namespace {} is selected: {selected}, but says otherwise",
            shown(namespace)
        ));
    }
    wrong
}

/// The state labels are exactly these, all `Sync`, and nothing is asked to go.
fn marks_are(object: &Value, wanted: &BTreeSet<String>) -> Vec<String> {
    let states = states(object);
    let mut wrong = Vec::new();
    let has: BTreeSet<String> = states.keys().cloned().collect();
    if has != *wanted {
        let kind = &object["kind"];
        wrong.push(format!(
            "{kind} {} is for {has:?}, should be for {wanted:?}",
            shown(object)
        ));
    }
    if states.values().any(|state| state != keys::STATE_SYNC) {
        wrong.push(format!("{} has a state other than Sync", shown(object)));
    }
    let annotations = meta(object).annotations();
    if annotations
        .keys()
        .any(|key| key.starts_with(keys::DELETION_PREFIX))
    {
        wrong.push(format!(
            "{} still is to be removed somewhere",
            shown(object)
        ));
    }
    wrong
}

/// An object is for the targets of its namespace, and these hold it.
fn work_is_marked(snapshot: &Snapshot, work: &Work) -> Vec<String> {
    let at = meta(&work.object);
    let namespace = snapshot.namespaces.iter().find(|namespace| {
        meta(namespace).cluster() == at.cluster() && meta(namespace).name() == at.namespace()
    });
    let Some(namespace) = namespace else {
        return vec![format!("{} is in no namespace", shown(&work.object))];
    };
    let stays = SYSTEM.contains(&at.namespace())
        || (work.resource == "configmaps" && at.name() == "kube-root-ca.crt");
    let wanted: BTreeSet<String> = if stays {
        BTreeSet::new()
    } else {
        states(namespace).into_keys().collect()
    };
    let mut wrong = marks_are(&work.object, &wanted);
    let held: BTreeSet<&str> = at
        .finalizers()
        .into_iter()
        .filter_map(|finalizer| finalizer.strip_prefix(keys::SYNCER_FINALIZER_PREFIX))
        .collect();
    if held != wanted.iter().map(String::as_str).collect() {
        wrong.push(format!(
            "{} {} is held by {held:?}, should be by {wanted:?}",
            work.resource,
            shown(&work.object)
        ));
    }
    wrong
}

/// The member of a target.
fn member<'a>(snapshot: &'a Snapshot, target: &Value) -> Option<&'a InMember> {
    snapshot.members.get(member_of(meta(target).name()))
}

/// Every member that an object is for has it as it should be, and its status is known.
fn work_is_in_its_members(snapshot: &Snapshot, work: &Work) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut copies = Vec::new();
    let states = states(&work.object);
    for key in states.keys() {
        let Some((target, member)) = snapshot
            .target(key)
            .and_then(|target| Some((target, member(snapshot, target)?)))
        else {
            wrong.push(format!(
                "{} is for a target that does not exist",
                shown(&work.object)
            ));
            continue;
        };
        let place = downstream_namespace(&locator_of(target, &work.object));
        let copy = member.work.iter().find(|copy| {
            let at = meta(&copy.object);
            copy.resource == work.resource
                && (at.namespace(), at.name()) == (&*place, meta(&work.object).name())
        });
        let name = format!(
            "{} {} in {}",
            work.resource,
            shown(&work.object),
            meta(target).name()
        );
        match copy {
            None => wrong.push(format!("{name} is missing")),
            Some(copy) => {
                copies.push(&copy.object);
                wrong.extend(differences(work, &copy.object).map(|what| format!("{name}: {what}")));
                let differs = if states.len() == 1 {
                    status_differs(&work.object, &copy.object)
                } else {
                    report_differs(&work.object, key, &copy.object)
                };
                wrong.extend(differs.map(|what| format!("{name}: {what}")));
            }
        }
    }
    if copies.len() > 1 && work.resource == "deployments" {
        let alone = placements_of(snapshot, &work.object) == 1;
        wrong.extend(sums_differ(&work.object, &copies, alone));
    }
    wrong
}

/// How many Placements have targets for an object: each divides for itself.
fn placements_of(snapshot: &Snapshot, object: &Value) -> usize {
    let at = meta(object);
    let namespace = snapshot.namespaces.iter().find(|namespace| {
        meta(namespace).cluster() == at.cluster() && meta(namespace).name() == at.namespace()
    });
    let selects = |placement: &&Value| {
        let here = meta(placement).cluster() == at.cluster() && !picked(placement).is_empty();
        let read = typed::<Placement>(placement).filter(|_| here);
        let labels = namespace.map(labels).unwrap_or_default();
        read.is_some_and(|p| p.spec.selects_namespace(&labels).unwrap_or(false))
    };
    snapshot.placements.iter().filter(selects).count()
}

/// What does not add up of a Deployment with several copies: the replicas of a divided one (if one
/// Placement alone divides them), and what the hub says is available.
fn sums_differ(object: &Value, copies: &[&Value], alone: bool) -> Vec<String> {
    let count = |object: &Value, field: &str| object.pointer(field).and_then(Value::as_i64);
    let sum = |field: &str| -> i64 {
        let counts = copies.iter().map(|copy| count(copy, field).unwrap_or(0));
        counts.sum()
    };
    let mut wrong = Vec::new();
    let (asked, run) = (count(object, "/spec/replicas"), sum("/spec/replicas"));
    if alone && is_divided(object) && asked != Some(run) {
        wrong.push(format!(
            "{} of {asked:?} replicas is divided into {run}",
            shown(object)
        ));
    }
    let said = count(object, "/status/availableReplicas");
    let available = sum("/status/availableReplicas");
    if said != Some(available) {
        wrong.push(format!(
            "{} says that {said:?} replicas are available, there are {available}",
            shown(object)
        ));
    }
    wrong
}

/// Whether its targets are to have shares of the replicas.
fn is_divided(object: &Value) -> bool {
    let annotations = meta(object).annotations();
    annotations
        .keys()
        .any(|key| key.starts_with(keys::SPEC_DIFF_PREFIX))
}

fn locator_of(target: &Value, object: &Value) -> Locator {
    let at = meta(target);
    Locator {
        sync_target: SyncTargetLocator {
            cluster: at.cluster().to_owned(),
            name: at.name().to_owned(),
            uid: at.uid().to_owned(),
        },
        cluster: meta(object).cluster().to_owned(),
        namespace: meta(object).namespace().to_owned(),
    }
}

/// The first field in which a copy is not what it should be.
fn differences(work: &Work, copy: &Value) -> Option<String> {
    let fields: &[&str] = match work.resource {
        "deployments" => &["/spec/replicas", "/spec/template/spec/containers/0/image"],
        _ => &["/data"],
    };
    let divided = is_divided(&work.object);
    fields
        .iter()
        .filter(|field| !(divided && **field == "/spec/replicas"))
        .find(|field| work.object.pointer(field) != copy.pointer(field))
        .map(|field| {
            format!(
                "{field} differs: {:?} and {:?}",
                work.object.pointer(field),
                copy.pointer(field)
            )
        })
}

/// The status of an object but for the generation, which each side counts by itself.
fn without_generation(object: &Value) -> Value {
    let mut status = object["status"].clone();
    if let Some(members) = status.as_object_mut() {
        members.remove("observedGeneration");
    }
    status
}

/// What is kept beside an object of one of its copies.
fn report_differs(object: &Value, key: &str, copy: &Value) -> Option<String> {
    let report = meta(object).annotation(&keys::diff_annotation(key));
    let report: Value = serde_json::from_str(report.unwrap_or("{}")).unwrap_or_default();
    let (known, real) = (without_generation(&report), without_generation(copy));
    (known != real).then(|| format!("its report is {known}, the member has {real}"))
}

/// What the hub shows of the only copy.
fn status_differs(object: &Value, copy: &Value) -> Option<String> {
    let (shown, real) = (without_generation(object), without_generation(copy));
    if shown != real {
        return Some(format!(
            "the hub shows status {shown}, the member has {real}"
        ));
    }
    let observed = object["status"]["observedGeneration"].as_i64();
    let stale = observed.is_some_and(|observed| observed != meta(object).generation());
    if stale {
        return Some("observedGeneration is not the hub's".to_owned());
    }
    let replicas = object.pointer("/spec/replicas").and_then(Value::as_i64);
    let available = object["status"]["availableReplicas"].as_i64();
    (replicas.is_some() && available != replicas)
        .then(|| format!("{available:?} of {replicas:?} replicas are available"))
}

/// Whether its SyncTarget went while the member did not answer, which somebody was told.
fn is_left_behind(snapshot: &Snapshot, locator: &Locator) -> bool {
    snapshot.left_behind.contains(&locator.sync_target.uid)
}

/// Whatever of ours is in a member has an owner on the hub, or somebody knows of it.
fn member_holds_nothing_else(snapshot: &Snapshot, name: &str, member: &InMember) -> Vec<String> {
    let mut wrong = Vec::new();
    for namespace in &member.namespaces {
        let Some(locator) = locator(namespace).filter(|at| !is_left_behind(snapshot, at)) else {
            continue;
        };
        let owner = snapshot.namespaces.iter().find(|owner| {
            meta(owner).cluster() == locator.cluster && meta(owner).name() == locator.namespace
        });
        let target = snapshot
            .targets
            .iter()
            .find(|target| meta(target).uid() == locator.sync_target.uid);
        let placed = owner
            .zip(target)
            .is_some_and(|(owner, target)| states(owner).contains_key(&target_key(target)));
        if !placed {
            wrong.push(format!(
                "{name}: namespace {} has no owner any more",
                locator.to_json()
            ));
        }
    }
    for work in &member.work {
        let at = meta(&work.object);
        let Some(key) = at.label(keys::DOWNSTREAM_CLUSTER_LABEL) else {
            continue;
        };
        let home = member
            .namespaces
            .iter()
            .find(|home| meta(home).name() == at.namespace());
        let locator = home.and_then(super::locator);
        let Some(locator) = locator.filter(|at| !is_left_behind(snapshot, at)) else {
            continue;
        };
        let owned = snapshot.work.iter().any(|owner| {
            let owner_at = meta(&owner.object);
            owner.resource == work.resource
                && (owner_at.cluster(), owner_at.namespace(), owner_at.name())
                    == (&*locator.cluster, &*locator.namespace, at.name())
                && states(&owner.object).contains_key(key)
                && owner_at.has_finalizer(&syncer_finalizer(key))
                && owner_at.annotation(&deletion_annotation(key)).is_none()
        });
        if !owned {
            wrong.push(format!(
                "{name}: {} {}/{} has no owner",
                work.resource,
                at.namespace(),
                at.name()
            ));
        }
    }
    wrong
}
