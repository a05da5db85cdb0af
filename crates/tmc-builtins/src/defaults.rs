//! Defaulting of built-in kinds: what `SetDefaults_*` of Kubernetes fill in, and the members that
//! its encoder always writes (`status: {}`, a container's `resources: {}`).
//!
//! Kubernetes decides by Go types when a field counts as absent, and so do the helpers here: a
//! pointer is absent when missing or null, so that an explicit zero stays; a plain string or number
//! is absent when it is zero too. Members of a wrong type are left to validation.
//!
//! Left out is what only the member can choose (cluster IPs, node ports, a Job's selector, which
//! carries the member's uid) and what Kubernetes' admission plugins add (service account, priority
//! and tolerations of Pods).

mod cluster;
mod network;
mod pod;
mod workloads;

use serde_json::{Map, Value};
use tmc_apimachinery::GroupVersionKind;

pub(crate) type Object = Map<String, Value>;

/// Fills defaults of an object of a built-in kind; other kinds are left alone.
///
/// Idempotent; an explicit value stays, zero included where Kubernetes tells zero from absent.
/// Also what decoding and encoding do in Kubernetes: a Secret's `stringData` moves into `data`,
/// quantities are written in canonical form, empty lists and maps go (`tolerations: []`), and so do
/// zero values of fields that cannot tell zero from absent (`hostNetwork: false`). What only the member may choose is left open: cluster IPs, node
/// ports, selectors of Jobs.
pub fn default(gvk: &GroupVersionKind, object: &mut Value) {
    let shared = crate::shared();
    let definition = shared.iter().find(|d| d.gvk == *gvk);
    if let Some(schema) = definition.and_then(|d| d.schema.as_ref()) {
        crate::omit::omit(schema.root(), object);
    }
    // Before filling, which compares and copies amounts.
    crate::quantities::canonicalize(gvk, object);
    if let Some(members) = object.as_object_mut() {
        fill(gvk, members);
    }
}

fn fill(gvk: &GroupVersionKind, object: &mut Object) {
    match (gvk.group.as_str(), gvk.version.as_str()) {
        ("", "v1") => core(&gvk.kind, object),
        ("apps", "v1") => workloads::apps(&gvk.kind, object),
        ("batch", "v1") => workloads::batch(&gvk.kind, object),
        ("autoscaling", "v2") => workloads::autoscaling(&gvk.kind, object),
        ("policy", "v1") => workloads::policy(&gvk.kind, object),
        ("networking.k8s.io", "v1") => network::networking(&gvk.kind, object),
        ("discovery.k8s.io", "v1") => network::discovery(&gvk.kind, object),
        ("rbac.authorization.k8s.io", "v1") => cluster::rbac(&gvk.kind, object),
        ("storage.k8s.io", "v1") => cluster::storage(&gvk.kind, object),
        ("scheduling.k8s.io", "v1") => cluster::scheduling(&gvk.kind, object),
        ("certificates.k8s.io", "v1") => {
            made(object, "status");
        }
        ("coordination.k8s.io", "v1") => {
            made(object, "spec");
        }
        ("apiextensions.k8s.io", "v1") => cluster::apiextensions(&gvk.kind, object),
        _ => {}
    }
}

fn core(kind: &str, object: &mut Object) {
    match kind {
        "Pod" => pod::pod(object),
        "PodTemplate" => pod::template(object, "template"),
        "ReplicationController" => workloads::replication_controller(object),
        "Service" => network::service(object),
        "Endpoints" => network::endpoints(object),
        "Namespace" => cluster::namespace(object),
        "Node" => cluster::node(object),
        "Secret" => cluster::secret(object),
        "PersistentVolume" => cluster::persistent_volume(object),
        "PersistentVolumeClaim" => cluster::persistent_volume_claim(object),
        "LimitRange" => cluster::limit_range(object),
        "ResourceQuota" => cluster::resource_quota(object),
        "Event" => {
            made(object, "source");
            set_empty_text(object, "reportingComponent");
            set_empty_text(object, "reportingInstance");
        }
        _ => {}
    }
}

/// Whether a member is missing or null.
fn absent(object: &Object, key: &str) -> bool {
    object.get(key).is_none_or(Value::is_null)
}

/// Fills a pointer field.
fn set(object: &mut Object, key: &str, value: impl Into<Value>) {
    if absent(object, key) {
        object.insert(key.to_owned(), value.into());
    }
}

/// Fills a plain string field, which an empty string leaves absent.
fn set_text(object: &mut Object, key: &str, text: &str) {
    if absent(object, key) || object[key] == "" {
        object.insert(key.to_owned(), text.into());
    }
}

/// Writes a plain string field that is always written.
fn set_empty_text(object: &mut Object, key: &str) {
    set(object, key, "");
}

/// Fills a plain number field, which zero leaves absent.
fn set_number(object: &mut Object, key: &str, number: i64) {
    if absent(object, key) || object[key] == 0 {
        object.insert(key.to_owned(), number.into());
    }
}

/// Fills a list field, which an empty list leaves absent.
fn set_list(object: &mut Object, key: &str, list: impl FnOnce() -> Value) {
    let empty = object
        .get(key)
        .and_then(Value::as_array)
        .is_some_and(Vec::is_empty);
    if absent(object, key) || empty {
        object.insert(key.to_owned(), list());
    }
}

/// A member that is an object.
fn member<'a>(object: &'a mut Object, key: &str) -> Option<&'a mut Object> {
    object.get_mut(key)?.as_object_mut()
}

/// A member that is an object, made where absent; `None` if it is anything else.
fn made<'a>(object: &'a mut Object, key: &str) -> Option<&'a mut Object> {
    set(object, key, Map::new());
    member(object, key)
}

/// Calls `f` for each object in a list.
fn each(object: &mut Object, key: &str, mut f: impl FnMut(&mut Object)) {
    let list = object.get_mut(key).and_then(Value::as_array_mut);
    list.into_iter()
        .flatten()
        .filter_map(Value::as_object_mut)
        .for_each(&mut f);
}

fn text<'a>(object: &'a Object, key: &str) -> &'a str {
    object.get(key).and_then(Value::as_str).unwrap_or("")
}

/// Takes labels over from a template into an object that has none.
fn labels_from(template: Option<Value>, object: &mut Object) {
    let labels = template
        .and_then(|t| t.pointer("/metadata/labels").cloned())
        .filter(|labels| labels.as_object().is_some_and(|map| !map.is_empty()));
    let (Some(labels), Some(metadata)) = (labels, made(object, "metadata")) else {
        return;
    };
    let none = absent(metadata, "labels") || metadata["labels"] == Value::Object(Map::new());
    if none {
        metadata.insert("labels".into(), labels);
    }
}

#[cfg(test)]
pub(crate) mod tests;
