//! Reserved keys: labels, annotations and finalizers of the domain `kcp.io` and those under it
//! (charter, safety).
//!
//! What a user leaves unchanged passes; what an update omits is kept; any other change is refused
//! naming the key. `system:masters` may remove such keys, never set them; an update whose body was
//! not made from the stored object (it lacks `kcp.io/cluster`, which every stored object carries)
//! removes nothing. Annotations that the hub derives from the URL are not the client's to give:
//! its value is dropped.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};
use tmc_api::keys::{self, KeyPlace};
use tmc_apimachinery::status::Cause;

use super::Kind;
use crate::Writer;

const MAPS: [(KeyPlace, &str); 2] = [
    (KeyPlace::Label, "labels"),
    (KeyPlace::Annotation, "annotations"),
];

/// A reserved key that a writer may not change as it did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    /// Where.
    pub(crate) place: KeyPlace,
    /// Which.
    pub(crate) key: String,
}

impl Violation {
    /// The field error.
    pub(crate) fn cause(&self) -> Cause {
        let (field, what) = match self.place {
            KeyPlace::Label => ("labels", "label"),
            KeyPlace::Annotation => ("annotations", "annotation"),
            KeyPlace::Finalizer => ("finalizers", "finalizer"),
        };
        let key = &self.key;
        let why = format!(
            "the {what} \"{key}\" is reserved (domain {}): only the system may set or change it; leave it out, or as it is stored",
            keys::RESERVED_DOMAIN
        );
        Cause::forbidden(format!("metadata.{field}[{key}]"), why)
    }
}

fn entries<'a>(object: &'a Value, field: &str) -> Option<&'a Map<String, Value>> {
    object.get("metadata")?.get(field)?.as_object()
}

fn finalizers(object: &Value) -> impl Iterator<Item = &str> {
    let list = object
        .pointer("/metadata/finalizers")
        .and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str)
}

fn guarded(place: KeyPlace, key: &str) -> bool {
    keys::is_guarded(place, key) && !keys::comes_from_url(place, key)
}

/// Repairs what a rule may repair: drops what comes from the URL, puts back what an update omits.
pub(crate) fn repair(writer: Writer, object: &mut Value, old: Option<&Value>) {
    if writer.may_write_reserved_keys() {
        return;
    }
    let removes = writer == Writer::Master && old.is_some_and(|old| is_made_from(object, old));
    for key in [keys::CLUSTER_ANNOTATION, keys::PATH_ANNOTATION] {
        from_url(object, old, key);
    }
    let Some(old) = old.filter(|_| !removes) else {
        return;
    };
    for (place, field) in MAPS {
        let kept = entries(old, field).into_iter().flatten();
        for (key, value) in kept.filter(|(key, _)| guarded(place, key)) {
            restore(object, field, key, value);
        }
    }
    restore_finalizers(object, old);
}

/// Whether an update's body was made from the stored object (a patch, or read, changed and sent
/// back) rather than from a manifest that never knew the system's keys.
fn is_made_from(object: &Value, old: &Value) -> bool {
    let carries = |object: &Value| {
        entries(object, "annotations").is_some_and(|a| a.contains_key(keys::CLUSTER_ANNOTATION))
    };
    carries(object) || !carries(old)
}

/// An annotation that the hub derives from the URL: as it is stored, or absent.
fn from_url(object: &mut Value, old: Option<&Value>, key: &str) {
    match old.and_then(|o| entries(o, "annotations")?.get(key)) {
        Some(value) => {
            if let Some(map) = writable(object, "annotations") {
                map.insert(key.to_owned(), value.clone());
            }
        }
        None => {
            let map = object
                .pointer_mut("/metadata/annotations")
                .and_then(Value::as_object_mut);
            if let Some(map) = map {
                map.remove(key);
            }
        }
    }
}

fn restore(object: &mut Value, field: &str, key: &str, value: &Value) {
    if let Some(map) = writable(object, field) {
        map.entry(key).or_insert_with(|| value.clone());
    }
}

/// A map of the metadata, made where absent or null; `None` where there is something else, which
/// validation refuses.
fn writable<'a>(object: &'a mut Value, field: &str) -> Option<&'a mut Map<String, Value>> {
    let metadata = crate::fields::child(object, "metadata")?;
    crate::fields::child(metadata, field)?.as_object_mut()
}

fn restore_finalizers(object: &mut Value, old: &Value) {
    let present: BTreeSet<&str> = finalizers(object).collect();
    let missing: Vec<Value> = finalizers(old)
        .filter(|key| guarded(KeyPlace::Finalizer, key) && !present.contains(key))
        .map(Value::from)
        .collect();
    if missing.is_empty() {
        return;
    }
    let Some(metadata) = crate::fields::child(object, "metadata") else {
        return;
    };
    crate::fields::fill(metadata, "finalizers", || json!([]));
    if let Some(list) = metadata.get_mut("finalizers").and_then(Value::as_array_mut) {
        list.extend(missing);
    }
}

/// What a writer changed and may not: sorted by place, then key.
pub(crate) fn violations(writer: Writer, object: &Value, old: Option<&Value>) -> Vec<Violation> {
    if writer.may_write_reserved_keys() {
        return Vec::new();
    }
    let may_remove = writer == Writer::Master;
    let mut found = Vec::new();
    for (place, field) in MAPS {
        let new = entries(object, field);
        let before = old.and_then(|o| entries(o, field));
        let names = new.into_iter().chain(before).flat_map(Map::keys);
        let names: BTreeSet<&String> = names.filter(|key| guarded(place, key)).collect();
        for key in names {
            let (new, before) = (
                new.and_then(|m| m.get(key)),
                before.and_then(|m| m.get(key)),
            );
            if new != before && (!may_remove || new.is_some()) {
                found.push(Violation {
                    place,
                    key: key.clone(),
                });
            }
        }
    }
    let place = KeyPlace::Finalizer;
    let new: BTreeSet<&str> = finalizers(object).collect();
    let before: BTreeSet<&str> = old.into_iter().flat_map(finalizers).collect();
    for key in new
        .symmetric_difference(&before)
        .filter(|key| guarded(place, key))
    {
        if !may_remove || new.contains(key) {
            found.push(Violation {
                place,
                key: (*key).to_owned(),
            });
        }
    }
    found
}

/// Whether the hub itself gives this key to a new object of this kind, after the client's own
/// keys were looked at.
pub(crate) fn given_by_hub(kind: Kind, violation: &Violation) -> bool {
    const ANNOTATIONS: [&str; 3] = [
        keys::WORKSPACE_OWNER_ANNOTATION,
        keys::WORKSPACE_SHARD_ANNOTATION,
        keys::WORKSPACE_CLUSTER_ANNOTATION,
    ];
    let key = violation.key.as_str();
    kind == Kind::Workspace
        && match violation.place {
            KeyPlace::Annotation => ANNOTATIONS.contains(&key),
            KeyPlace::Finalizer => key == keys::LOGICAL_CLUSTER_FINALIZER,
            KeyPlace::Label => key == keys::WORKSPACE_PHASE_LABEL,
        }
}
