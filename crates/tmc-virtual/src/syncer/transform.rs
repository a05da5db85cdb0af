//! What a SyncTarget sees of an object, and what of its answer reaches the object: pure functions
//! (`view`, `merge`), the contract between hub and agents.

mod fields;

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use tmc_api::keys;
use tmc_api::synced::{self, Listed, Verdict};
use tmc_apimachinery::GroupResource;
use tmc_apimachinery::meta::{
    add_finalizer, meta, remove_annotation, remove_finalizer, remove_label, set_annotation,
    set_label,
};
use tmc_apimachinery::patch::json_patch;
use tmc_apimachinery::status::{ApiError, Reason, Result};

use fields::{Summarized, promotes_status, room, said, set_path, summarized};

/// Value of a recorded field that lives in the object itself.
const PROMOTED: &str = "##promoted##";
/// Value of a state label for objects to be run.
const SYNC: &str = "Sync";

/// The keys under which one SyncTarget's state is kept on an object.
#[derive(Clone, Debug)]
pub struct TargetKeys {
    /// The SyncTargetKey.
    pub key: String,
    state: String,
    deletion: String,
    soft_finalizers: String,
    finalizer: String,
    diff: String,
    spec_diff: String,
}

impl TargetKeys {
    /// The keys of the target with this SyncTargetKey.
    pub fn new(key: &str) -> Self {
        Self {
            key: key.to_owned(),
            state: keys::state_label(key),
            deletion: keys::deletion_annotation(key),
            soft_finalizers: keys::soft_finalizers_annotation(key),
            finalizer: keys::syncer_finalizer(key),
            diff: keys::diff_annotation(key),
            spec_diff: keys::spec_diff_annotation(key),
        }
    }

    /// The label selector of what this target may see.
    pub fn selector(&self) -> String {
        format!("{}={SYNC}", self.state)
    }

    /// Whether an object is this target's to see.
    pub fn sees(&self, object: &Value) -> bool {
        meta(object).label(&self.state) == Some(SYNC)
    }

    /// Whether an object says that this target has, or may have, a copy of it.
    pub fn holds(&self, object: &Value) -> bool {
        meta(object).has_finalizer(&self.finalizer)
    }

    /// Whether this target has a copy to remove now.
    pub fn must_remove(&self, object: &Value) -> bool {
        self.holds(object) && self.removal_due(object).is_some()
    }

    /// Whether this target has to remove its copy now: the deletion mark is set and no soft
    /// finalizer holds it back.
    fn removal_due(&self, upstream: &Value) -> Option<String> {
        let at = meta(upstream).annotation(&self.deletion)?;
        let held = meta(upstream)
            .annotation(&self.soft_finalizers)
            .unwrap_or("");
        held.is_empty().then(|| at.to_owned())
    }
}

/// What a merge depends on beside the object and the answer.
#[derive(Clone, Debug)]
pub struct Setting {
    /// The object's resource.
    pub resource: GroupResource,
    /// Whether its kind has conditions.
    pub conditions: Listed,
    /// The time at which conditions change.
    pub now: Timestamp,
}

/// Which part of an object a write is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The object without its status.
    Main,
    /// `/status`.
    Status,
}

/// A write upstream, in order; each carries the whole object and is conditional on the version
/// that the one before it produced.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    /// PUT `/status`.
    Status(Value),
    /// PUT the object.
    Main(Value),
}

/// The object as the target sees it.
///
/// # Errors
/// 500 naming the annotation that cannot be read.
pub fn view(upstream: &Value, target: &TargetKeys, workspace_url: &str) -> Result<Value> {
    let mut object = upstream.clone();
    let recorded = recorded(upstream, &target.diff)?;
    hide_internals(&mut object);
    apply_spec_diff(&mut object, target)?;
    let fields = summarized(upstream)?;
    for field in &fields {
        match recorded.get(&field.path) {
            Some(value) if value == PROMOTED => {}
            Some(value) => set_path(&mut object, &field.path, Some(value.clone())),
            None if field.promote => set_path(&mut object, &field.path, None),
            None => {}
        }
    }
    if promotes_status(&fields) {
        // The hub's own: a target finds what it said itself.
        let own = said(&object, "status");
        set_path(&mut object, "status", own);
    } else if synced::is_told(object.get("status")) {
        let status = synced::without(object.get("status").cloned());
        set_path(&mut object, "status", status);
    }
    // Its own words only: what it leaves out it has taken back.
    match recorded.get(keys::REPORTED_MESSAGE).and_then(Value::as_str) {
        Some(own) => set_annotation(&mut object, keys::MESSAGE_ANNOTATION, own),
        None => drop(remove_annotation(&mut object, keys::MESSAGE_ANNOTATION)),
    }
    if target.holds(upstream) {
        add_finalizer(&mut object, &target.finalizer);
    }
    if let Some(at) = target.removal_due(upstream) {
        object["metadata"]["deletionTimestamp"] = at.into();
    }
    set_annotation(&mut object, keys::WORKSPACE_URL_ANNOTATION, workspace_url);
    Ok(object)
}

/// What is left of a view for a target that is only to remove its copy: who the object is, and that it
/// goes.
pub fn stub(view: &Value, target: &TargetKeys) -> Value {
    let mut stub = json!({"metadata": {}});
    for member in ["apiVersion", "kind"] {
        if let Some(value) = view.get(member) {
            stub[member] = value.clone();
        }
    }
    for member in [
        "name",
        "namespace",
        "uid",
        "resourceVersion",
        "creationTimestamp",
        "deletionTimestamp",
        "finalizers",
    ] {
        if let Some(value) = view["metadata"].get(member) {
            stub["metadata"][member] = value.clone();
        }
    }
    set_label(&mut stub, &target.state, SYNC);
    for name in [keys::CLUSTER_ANNOTATION, keys::WORKSPACE_URL_ANNOTATION] {
        if let Some(value) = meta(view).annotation(name) {
            set_annotation(&mut stub, name, value);
        }
    }
    stub
}

/// Drops what belongs to the hub and to other targets.
fn hide_internals(object: &mut Value) {
    let Some(metadata) = object["metadata"].as_object_mut() else {
        return;
    };
    for key in [
        "finalizers",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
    ] {
        metadata.remove(key);
    }
    if let Some(annotations) = metadata
        .get_mut("annotations")
        .and_then(Value::as_object_mut)
    {
        annotations.retain(|key, _| !key.starts_with(keys::DIFF_PREFIX));
    }
}

fn apply_spec_diff(object: &mut Value, target: &TargetKeys) -> Result<()> {
    let Some(patch) = meta(object)
        .annotation(&target.spec_diff)
        .map(str::to_owned)
    else {
        return Ok(());
    };
    let Some(spec) = object.get_mut("spec") else {
        return Ok(());
    };
    json_patch(spec, patch.as_bytes())
        .map_err(|error| ApiError::internal(format!("annotation {}: {error}", target.spec_diff)))
}

/// What a target reported: field path → value.
fn recorded(upstream: &Value, annotation: &str) -> Result<Map<String, Value>> {
    match meta(upstream).annotation(annotation) {
        None => Ok(Map::new()),
        Some(text) => serde_json::from_str(text).map_err(|_| {
            ApiError::internal(format!("annotation {annotation} is not a JSON object"))
        }),
    }
}

fn record(object: &mut Value, annotation: &str, fields: &Map<String, Value>) {
    if fields.is_empty() {
        remove_annotation(object, annotation);
    } else {
        set_annotation(
            object,
            annotation,
            &Value::Object(fields.clone()).to_string(),
        );
    }
}

/// The writes that a target's answer comes to. The target can change the summarised fields, its own
/// finalizer and what it has to say ([`keys::MESSAGE_ANNOTATION`]); every other difference between
/// `body` and the view is dropped.
///
/// # Errors
/// 409 for a stale version, 404 if the object is no longer the target's, 403 for a body that gives
/// up the object although nothing asks for its removal, 500 for an unreadable annotation.
pub fn merge(
    upstream: &Value,
    body: &Value,
    target: &TargetKeys,
    part: Part,
    setting: &Setting,
) -> Result<Vec<Write>> {
    let resource = &setting.resource;
    let name = meta(upstream).name();
    let version = meta(body).resource_version();
    if !version.is_empty() && version != meta(upstream).resource_version() {
        return Err(ApiError::stale(resource, name));
    }
    if !target.sees(upstream) {
        return Err(ApiError::not_found(resource, name));
    }
    let owns = target.holds(body);
    if !owns && part == Part::Main && target.removal_due(upstream).is_some() {
        return remove(upstream, target, setting);
    }
    if !owns {
        let why = format!(
            "metadata.finalizers must hold {} while the object is assigned to this target",
            target.finalizer
        );
        return Err(ApiError::forbidden(resource, name, &why));
    }
    report(upstream, body, target, part, setting)
}

/// Other targets' state labels on an object.
fn other_targets(upstream: &Value, target: &TargetKeys) -> Vec<TargetKeys> {
    let labels = meta(upstream).labels();
    labels
        .keys()
        .filter_map(|label| label.strip_prefix(keys::STATE_PREFIX).map(TargetKeys::new))
        .filter(|other| other.key != target.key)
        .collect()
}

/// The one target that is left when `others` are all that remain: it must run the object, and have
/// said so with its finalizer.
fn heir<'a>(upstream: &Value, others: &'a [TargetKeys]) -> Option<&'a TargetKeys> {
    let [one] = others else { return None };
    (one.holds(upstream) && one.sees(upstream)).then_some(one)
}

/// The target is done with the object: its state goes. If exactly one other target is left running
/// it, that one's report becomes the object's own. What only the leaving target vouched for goes
/// with it, so that nobody reads the status of a copy that is no more.
fn remove(upstream: &Value, target: &TargetKeys, setting: &Setting) -> Result<Vec<Write>> {
    let mut object = upstream.clone();
    let others = other_targets(upstream, target);
    let own = recorded(upstream, &target.diff)?;
    let heir = heir(upstream, &others);
    let mut inherited = match heir {
        Some(heir) => recorded(upstream, &heir.diff)?,
        None => Map::new(),
    };
    let fields = summarized(upstream)?;
    for field in fields.iter().filter(|f| f.promote) {
        match inherited.get(&field.path).cloned() {
            Some(value) if value == PROMOTED => {}
            Some(value) => {
                set_path(&mut object, &field.path, Some(value));
                inherited.insert(field.path.clone(), PROMOTED.into());
            }
            None if is_orphaned(own.get(&field.path), &others) => {
                set_path(&mut object, &field.path, None);
            }
            None => {}
        }
    }
    if let Some(heir) = heir {
        record(&mut object, &heir.diff, &inherited);
    }
    remove_label(&mut object, &target.state);
    remove_finalizer(&mut object, &target.finalizer);
    for annotation in [
        &target.diff,
        &target.deletion,
        &target.spec_diff,
        &target.soft_finalizers,
    ] {
        remove_annotation(&mut object, annotation);
    }
    forget_vanished(&mut object, &others);
    let said = say(&mut object, &others)?;
    if others.len() < 2 {
        // Who has not come to it yet has nothing against it, and does not have it.
        let verdict = match said {
            None if heir.is_none() => Verdict::Nowhere,
            said => verdict(said),
        };
        mark(upstream, &mut object, &verdict, &fields, setting);
    }
    Ok(writes(upstream, object))
}

/// Whether the object's own value of a field stands on the report of a leaving target alone: it is
/// that report, or it was made of that report and of nobody's who stays. (What is left by several
/// others is theirs to be summarised anew.)
fn is_orphaned(reported: Option<&Value>, others: &[TargetKeys]) -> bool {
    reported.is_some_and(|value| value == PROMOTED || others.len() < 2)
}

/// Drops reports of targets that the object is no longer assigned to: one that vanished without
/// taking its leave may have left a mark of promotion, and must not find another target's report
/// under it when it returns.
fn forget_vanished(object: &mut Value, assigned: &[TargetKeys]) {
    let Some(annotations) = object
        .pointer_mut("/metadata/annotations")
        .and_then(Value::as_object_mut)
    else {
        return;
    };
    annotations.retain(|key, _| {
        !key.starts_with(keys::DIFF_PREFIX) || assigned.iter().any(|target| target.diff == *key)
    });
}

/// The target reports: promoted into the object while it is alone, recorded beside it otherwise.
fn report(
    upstream: &Value,
    body: &Value,
    target: &TargetKeys,
    part: Part,
    setting: &Setting,
) -> Result<Vec<Write>> {
    let mut object = upstream.clone();
    let mut others = other_targets(upstream, target);
    let alone = others.is_empty();
    let fields = summarized(upstream)?;
    let mut own = recorded(upstream, &target.diff)?;
    if !alone {
        unpromote(upstream, &mut object, &others, &fields)?;
        keep_promoted(upstream, &mut own, &fields);
    }
    for field in fields
        .iter()
        .filter(|f| (f.path == "status") == (part == Part::Status))
    {
        let promoted = alone && field.promote;
        let said = said(body, &field.path);
        let kept = said.map(|value| field.bounded(upstream, value, room(&fields, promoted)));
        // What does not fit changes nothing.
        let value = match kept {
            Some(None) => continue,
            kept => kept.flatten(),
        };
        match (value, promoted) {
            (Some(value), true) => {
                set_path(&mut object, &field.path, Some(value));
                own.insert(field.path.clone(), PROMOTED.into());
            }
            (Some(value), false) => {
                own.insert(field.path.clone(), value);
            }
            (None, promoted) => {
                // Said before and said no more: then the object says it no more either.
                if own.remove(&field.path).is_some() && promoted {
                    set_path(&mut object, &field.path, None);
                }
            }
        }
    }
    if part == Part::Main {
        hear(&mut own, body);
    }
    record(&mut object, &target.diff, &own);
    others.push(target.clone());
    forget_vanished(&mut object, &others);
    let said = say(&mut object, &others)?;
    // Of several the status is summarised elsewhere, which the last one to take back what it said
    // gives no reason for.
    if alone || synced::is_told(upstream.get("status")) {
        mark(upstream, &mut object, &verdict(said), &fields, setting);
    }
    if part == Part::Main {
        add_finalizer(&mut object, &target.finalizer);
    }
    Ok(writes(upstream, object))
}

/// Takes what a target has to say about the object, or no longer has, into its report.
fn hear(own: &mut Map<String, Value>, body: &Value) {
    let message = meta(body).annotation(keys::MESSAGE_ANNOTATION);
    own.remove(keys::REPORTED_MESSAGE);
    if let Some(text) = message.filter(|text| !text.is_empty()) {
        let text: String = text.chars().take(keys::MAX_MESSAGE).collect();
        own.insert(keys::REPORTED_MESSAGE.into(), text.into());
    }
}

/// Lets the object say what its targets have to say, and returns it.
fn say(object: &mut Value, assigned: &[TargetKeys]) -> Result<Option<String>> {
    let mut all = Vec::new();
    for target in assigned {
        let report = recorded(object, &target.diff)?;
        let message = report.get(keys::REPORTED_MESSAGE).and_then(Value::as_str);
        all.extend(message.map(str::to_owned));
    }
    let said = synced::together(all);
    match &said {
        Some(said) => set_annotation(object, keys::MESSAGE_ANNOTATION, said),
        None => drop(remove_annotation(object, keys::MESSAGE_ANNOTATION)),
    }
    Ok(said)
}

fn verdict(said: Option<String>) -> Verdict {
    said.map_or(Verdict::Taken, Verdict::Refused)
}

/// Gives the object's new status the condition `Synced` that it should have: none, if its status does
/// not come from its targets.
fn mark(
    upstream: &Value,
    object: &mut Value,
    verdict: &Verdict,
    fields: &[Summarized],
    setting: &Setting,
) {
    let (before, new) = (upstream.get("status"), object.get("status").cloned());
    let status = match (promotes_status(fields), synced::is_told(before)) {
        (true, _) => synced::with(new, before, verdict, setting.conditions, setting.now),
        (false, true) => synced::without(new),
        (false, false) => return,
    };
    set_path(object, "status", status);
}

/// A second target arrived: the promoted values of the one that was alone are kept as its report,
/// so that nothing is lost when the object's own fields are summarised from now on.
fn unpromote(
    upstream: &Value,
    object: &mut Value,
    others: &[TargetKeys],
    fields: &[Summarized],
) -> Result<()> {
    for other in others {
        let mut theirs = recorded(upstream, &other.diff)?;
        keep_promoted(upstream, &mut theirs, fields);
        record(object, &other.diff, &theirs);
    }
    Ok(())
}

/// Replaces marks of promotion in a report by the values that the object has, as far as there is room
/// for them beside it.
fn keep_promoted(upstream: &Value, report: &mut Map<String, Value>, fields: &[Summarized]) {
    for field in fields {
        let value = match report.remove(&field.path) {
            Some(value) if value == PROMOTED => said(upstream, &field.path),
            kept => kept,
        };
        let room = room(fields, false);
        if let Some(kept) = value.and_then(|value| field.bounded(upstream, value, room)) {
            report.insert(field.path.clone(), kept);
        }
    }
}

/// Splits a new version into writes: `/status` first, so that a crash in between only means that
/// the agent sends again.
fn writes(upstream: &Value, object: Value) -> Vec<Write> {
    let mut writes = Vec::new();
    if upstream.get("status") != object.get("status") {
        writes.push(Write::Status(object.clone()));
    }
    let without_status = |value: &Value| {
        let mut value = value.clone();
        if let Some(members) = value.as_object_mut() {
            members.remove("status");
        }
        value
    };
    if without_status(upstream) != without_status(&object) {
        writes.push(Write::Main(object));
    }
    writes
}

/// Whether an error of a conditional write only means that somebody else was faster.
pub(crate) fn is_race(error: &ApiError) -> bool {
    error.reason == Reason::Conflict
}

#[cfg(test)]
#[path = "transform_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "transform_laws.rs"]
mod laws;

#[cfg(test)]
#[path = "transform_room.rs"]
mod room;
