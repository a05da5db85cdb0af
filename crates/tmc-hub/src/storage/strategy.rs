//! What differs between kinds on the way into the store (`k8s.io/apiserver` calls these strategies):
//! which parts a verb may write, what a new object starts with, when a deleted one is gone.

use serde_json::{Value, json};
use tmc_apimachinery::definition::ResourceDefinition;
use tmc_apimachinery::meta::{add_finalizer, meta, remove_finalizer};
use tmc_apimachinery::options::Propagation;
use tmc_apimachinery::status::{ApiError, Cause, Result};

use super::{Core, Layout, Place};
use crate::garbage::{FOREGROUND, ORPHAN};

/// Namespaces that cannot be deleted.
const PERMANENT_NAMESPACES: [&str; 2] = ["default", "kcp-system"];

fn is(definition: &ResourceDefinition, group: &str, kind: &str) -> bool {
    definition.gvk.group == group && definition.gvk.kind == kind
}

fn is_namespace(definition: &ResourceDefinition) -> bool {
    is(definition, "", "Namespace")
}

/// Whether an object never goes because its owners are gone: what a workspace stands on.
pub(crate) fn is_permanent(definition: &ResourceDefinition, name: &str) -> bool {
    is(definition, "core.kcp.io", "LogicalCluster")
        || is_namespace(definition) && PERMANENT_NAMESPACES.contains(&name)
}

/// Takes away what a creator may not set: the status of kinds that have a status subresource.
pub(super) fn before_create(definition: &ResourceDefinition, object: &mut Value) {
    if definition.subresources.status
        && let Some(members) = object.as_object_mut()
    {
        members.remove("status");
    }
    if is_namespace(definition) {
        object["spec"] = json!({"finalizers": ["kubernetes"]});
        object["status"] = json!({"phase": "Active"});
    }
}

/// Derived parts that are a function of the rest, on create and update alike.
pub(super) fn after_default(core: &Core, place: &Place, object: &mut Value, old: Option<&Value>) {
    let definition = &place.definition;
    if is_namespace(definition) {
        let name = meta(object).name().to_owned();
        tmc_apimachinery::meta::set_label(object, "kubernetes.io/metadata.name", &name);
    }
    if is(
        definition,
        "apiextensions.k8s.io",
        "CustomResourceDefinition",
    ) {
        crate::custom_resources::complete(object, core.environment.now());
    }
    if is(
        definition,
        "certificates.k8s.io",
        "CertificateSigningRequest",
    ) {
        crate::identities::complete(core, place, object, old);
    }
    crate::workspaces::keep_assigned(place, object, old);
}

/// The object an update results in: what the verb may change from the new one, the rest from the
/// old one.
pub(super) fn merge_update(place: &Place, old: &Value, mut new: Value) -> Result<Value> {
    let definition = &place.definition;
    match place.subresource.as_str() {
        "" => {
            keep_server_metadata(old, &mut new);
            if definition.subresources.status {
                copy_member(old, &mut new, "status");
            }
            if is_namespace(definition) {
                copy_member(old, &mut new, "spec");
            }
            check_new_finalizers(place, old, &new)?;
            new["apiVersion"] = old["apiVersion"].clone();
            Ok(new)
        }
        // Who may write the status of a certificate request has not approved it.
        "status"
            if is(
                definition,
                "certificates.k8s.io",
                "CertificateSigningRequest",
            ) =>
        {
            Ok(old.clone())
        }
        "status" => {
            let mut merged = old.clone();
            copy_member(&new, &mut merged, "status");
            Ok(merged)
        }
        "finalize" if is_namespace(definition) => {
            let mut merged = old.clone();
            copy_member(&new, &mut merged, "spec");
            Ok(merged)
        }
        "approval" => {
            let mut merged = old.clone();
            if let Some(conditions) = new.pointer("/status/conditions") {
                if !merged["status"].is_object() {
                    merged["status"] = json!({});
                }
                merged["status"]["conditions"] = conditions.clone();
            }
            Ok(merged)
        }
        other => Err(ApiError::method_not_allowed(format!(
            "{}/{other} cannot be updated",
            place.resource()
        ))),
    }
}

fn keep_server_metadata(old: &Value, new: &mut Value) {
    if !new["metadata"].is_object() {
        new["metadata"] = json!({});
    }
    for key in [
        "name",
        "namespace",
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
        "generateName",
        "resourceVersion",
        "managedFields",
        "selfLink",
    ] {
        match old["metadata"].get(key) {
            Some(value) => new["metadata"][key] = value.clone(),
            None => {
                if let Some(metadata) = new["metadata"].as_object_mut() {
                    metadata.remove(key);
                }
            }
        }
    }
}

fn copy_member(from: &Value, to: &mut Value, key: &str) {
    let Some(members) = to.as_object_mut() else {
        return;
    };
    match from.get(key) {
        Some(value) => members.insert(key.to_owned(), value.clone()),
        None => members.remove(key),
    };
}

/// An object that is being deleted may lose finalizers, not gain any.
fn check_new_finalizers(place: &Place, old: &Value, new: &Value) -> Result<()> {
    if meta(old).deletion_timestamp().is_empty() {
        return Ok(());
    }
    let had = meta(old).finalizers();
    let added: Vec<&str> = meta(new)
        .finalizers()
        .into_iter()
        .filter(|name| !had.contains(name))
        .collect();
    if added.is_empty() {
        return Ok(());
    }
    let why = format!(
        "no new finalizers can be added if the object is being deleted, found new finalizers {added:?}"
    );
    let gvk = &place.definition.gvk;
    let cause = Cause::forbidden("metadata.finalizers", why);
    Err(ApiError::invalid(
        &gvk.group,
        &gvk.kind,
        meta(new).name(),
        vec![cause],
    ))
}

/// Counts a change of anything but metadata and status.
pub(super) fn bump_generation(definition: &ResourceDefinition, old: &Value, new: &mut Value) {
    if !definition.generation {
        return;
    }
    let counts = |member: &&String| {
        *member != "metadata" && !(definition.subresources.status && *member == "status")
    };
    let [before, after] = [old, &*new].map(|object| {
        let members = object.as_object().into_iter().flatten();
        members.filter(|(member, _)| counts(member))
    });
    if !before.eq(after) {
        new["metadata"]["generation"] = (meta(old).generation() + 1).into();
    }
}

/// Errors of fields that cannot change after creation.
pub(super) fn immutable_causes(
    definition: &ResourceDefinition,
    old: &Value,
    new: &Value,
) -> Vec<Cause> {
    let changed = |path: &&String| {
        let pointer = format!("/{}", path.replace('.', "/"));
        old.pointer(&pointer) != new.pointer(&pointer)
    };
    definition
        .immutable_fields
        .iter()
        .filter(changed)
        .map(|path| {
            let pointer = format!("/{}", path.replace('.', "/"));
            let value = new.pointer(&pointer).cloned().unwrap_or(Value::Null);
            Cause::invalid(path.as_str(), &value, "field is immutable")
        })
        .collect()
}

/// Some objects stay as long as their workspace does.
pub(super) fn check_deletable(place: &Place, name: &str) -> Result<()> {
    if is_namespace(&place.definition) && PERMANENT_NAMESPACES.contains(&name) {
        return Err(ApiError::forbidden(
            &place.resource(),
            name,
            "this namespace may not be deleted",
        ));
    }
    Ok(())
}

/// Says in the finalizers what is to become of dependents: as the caller wants it, else as finalizers
/// that are there already say it, else as the kind has it. Says whether that changed anything.
pub(super) fn set_propagation(
    definition: &ResourceDefinition,
    object: &mut Value,
    wanted: Option<Propagation>,
) -> bool {
    let has = |name| meta(object).has_finalizer(name);
    let present = match (has(ORPHAN), has(FOREGROUND)) {
        (true, _) => Some(Propagation::Orphan),
        (_, true) => Some(Propagation::Foreground),
        _ => None,
    };
    let default = if orphans_by_default(definition) {
        Propagation::Orphan
    } else {
        Propagation::Background
    };
    let propagation = wanted.or(present).unwrap_or(default);
    let mut changed = false;
    for (name, meant) in [
        (ORPHAN, Propagation::Orphan),
        (FOREGROUND, Propagation::Foreground),
    ] {
        changed |= if propagation == meant {
            add_finalizer(object, name)
        } else {
            remove_finalizer(object, name)
        };
    }
    changed
}

/// Kinds that are older than garbage collection keep what their clients expect.
fn orphans_by_default(definition: &ResourceDefinition) -> bool {
    is(definition, "", "ReplicationController") || is(definition, "batch", "Job")
}

/// Marks an object for deletion; the second time changes nothing.
pub(super) fn mark_deleted(definition: &ResourceDefinition, object: &mut Value, now: &str) {
    if !meta(object).deletion_timestamp().is_empty() {
        return;
    }
    object["metadata"]["deletionTimestamp"] = now.into();
    object["metadata"]["deletionGracePeriodSeconds"] = 0.into();
    if definition.generation {
        object["metadata"]["generation"] = (meta(object).generation() + 1).into();
    }
    if is_namespace(definition) {
        object["status"]["phase"] = "Terminating".into();
    }
}

/// Whether nothing holds an object that is marked for deletion.
pub(crate) fn deletion_complete(definition: &ResourceDefinition, object: &Value) -> bool {
    let held_by_content = is_namespace(definition)
        && object
            .pointer("/spec/finalizers")
            .and_then(Value::as_array)
            .is_some_and(|list| !list.is_empty());
    !meta(object).deletion_timestamp().is_empty()
        && meta(object).finalizers().is_empty()
        && !held_by_content
}

/// Whether this hub writes `kcp.io` keys at all.
pub(crate) fn has_workspaces(core: &Core) -> bool {
    core.layout == Layout::Workspaces
}
