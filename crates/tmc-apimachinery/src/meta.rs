//! Reading and writing `metadata` of JSON objects, and the rules for names, labels and annotations.
//!
//! Readers take any JSON and never fail: what is absent or of the wrong type reads as empty, so an
//! object must pass [`validate_metadata`] before its metadata is trusted. Writers make what is
//! missing on the way and replace what is not an object.

mod names;
mod validate;

use std::collections::BTreeMap;

use serde_json::{Map, Value};

pub use names::{
    generated_name, validate_generate_name, validate_label_value, validate_name,
    validate_qualified_name,
};
pub(crate) use names::{label_value_faults, qualified_name_faults};
pub(crate) use validate::validate_field_manager;
pub use validate::{MAX_ANNOTATION_BYTES, validate_metadata};

/// Borrowed access to an object's metadata; absent members read as empty.
#[derive(Clone, Copy, Debug)]
pub struct Meta<'a>(&'a Value);

/// Wraps an object for reading its metadata.
pub fn meta(object: &Value) -> Meta<'_> {
    Meta(object)
}

impl<'a> Meta<'a> {
    fn text(&self, key: &str) -> &'a str {
        self.0
            .get("metadata")
            .and_then(|m| m.get(key))
            .and_then(Value::as_str)
            .unwrap_or("")
    }

    /// `metadata.name`.
    pub fn name(&self) -> &'a str {
        self.text("name")
    }

    /// `metadata.generateName`.
    pub fn generate_name(&self) -> &'a str {
        self.text("generateName")
    }

    /// `metadata.namespace`.
    pub fn namespace(&self) -> &'a str {
        self.text("namespace")
    }

    /// `metadata.uid`.
    pub fn uid(&self) -> &'a str {
        self.text("uid")
    }

    /// `metadata.resourceVersion`.
    pub fn resource_version(&self) -> &'a str {
        self.text("resourceVersion")
    }

    /// `metadata.deletionTimestamp`, empty while not being deleted.
    pub fn deletion_timestamp(&self) -> &'a str {
        self.text("deletionTimestamp")
    }

    /// `metadata.generation`, 0 if absent.
    pub fn generation(&self) -> i64 {
        self.0
            .pointer("/metadata/generation")
            .and_then(Value::as_i64)
            .unwrap_or(0)
    }

    /// One label.
    pub fn label(&self, key: &str) -> Option<&'a str> {
        self.0.get("metadata")?.get("labels")?.get(key)?.as_str()
    }

    /// One annotation.
    pub fn annotation(&self, key: &str) -> Option<&'a str> {
        self.0
            .get("metadata")?
            .get("annotations")?
            .get(key)?
            .as_str()
    }

    /// All labels.
    pub fn labels(&self) -> BTreeMap<String, String> {
        string_map(self.0.get("metadata").and_then(|m| m.get("labels")))
    }

    /// All annotations.
    pub fn annotations(&self) -> BTreeMap<String, String> {
        string_map(self.0.get("metadata").and_then(|m| m.get("annotations")))
    }

    /// `metadata.finalizers`.
    pub fn finalizers(&self) -> Vec<&'a str> {
        self.0
            .pointer("/metadata/finalizers")
            .and_then(Value::as_array)
            .map(|list| list.iter().filter_map(Value::as_str).collect())
            .unwrap_or_default()
    }

    /// `metadata.ownerReferences`; items that are not objects included as they are.
    pub fn owner_references(&self) -> &'a [Value] {
        self.0
            .pointer("/metadata/ownerReferences")
            .and_then(Value::as_array)
            .map_or(&[], Vec::as_slice)
    }

    /// The owner reference with `controller: true`, if there is one.
    pub fn controller(&self) -> Option<&'a Value> {
        let is_controller = |o: &&Value| o.get("controller").and_then(Value::as_bool) == Some(true);
        self.owner_references().iter().find(is_controller)
    }

    /// Whether a finalizer is present.
    pub fn has_finalizer(&self, name: &str) -> bool {
        self.finalizers().contains(&name)
    }

    /// Whether the object has a `deletionTimestamp`.
    pub fn is_being_deleted(&self) -> bool {
        !self.deletion_timestamp().is_empty()
    }

    /// The logical cluster in the annotation `kcp.io/cluster`.
    pub fn cluster(&self) -> &'a str {
        self.annotation("kcp.io/cluster").unwrap_or("")
    }
}

fn string_map(value: Option<&Value>) -> BTreeMap<String, String> {
    let pairs = value.and_then(Value::as_object).into_iter().flatten();
    pairs
        .filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_owned())))
        .collect()
}

/// Deepest nesting of lists and objects that an object may have.
///
/// JSON readers, this project's included, stop at a nesting of 127; an object comes inside a list or
/// a review, so it must stay well below, lest one object make a whole list unreadable.
pub const MAX_DEPTH: usize = 100;

/// How deep lists and objects are nested in a value; 0 for a scalar.
pub fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(map) => 1 + map.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// `metadata` for writing, made where absent.
///
/// What is not an object (the document itself or its `metadata`) is replaced by an empty one.
pub fn metadata_mut(object: &mut Value) -> &mut Map<String, Value> {
    member(as_map(object), "metadata")
}

/// Sets a member of `metadata` (`name`, `uid`, `generation`, …).
pub fn set(object: &mut Value, key: &str, value: impl Into<Value>) {
    metadata_mut(object).insert(key.to_owned(), value.into());
}

/// Removes a member of `metadata` and returns it.
pub fn remove(object: &mut Value, key: &str) -> Option<Value> {
    object.get_mut("metadata")?.as_object_mut()?.remove(key)
}

/// Sets a label, making `metadata` and `labels` where absent.
pub fn set_label(object: &mut Value, key: &str, text: &str) {
    member(metadata_mut(object), "labels").insert(key.to_owned(), text.into());
}

/// Sets an annotation, making `metadata` and `annotations` where absent.
pub fn set_annotation(object: &mut Value, key: &str, text: &str) {
    member(metadata_mut(object), "annotations").insert(key.to_owned(), text.into());
}

/// Removes a label; an emptied map goes too. Says whether it was there.
pub fn remove_label(object: &mut Value, key: &str) -> bool {
    remove_key(object, "labels", key)
}

/// Removes an annotation; an emptied map goes too. Says whether it was there.
pub fn remove_annotation(object: &mut Value, key: &str) -> bool {
    remove_key(object, "annotations", key)
}

/// Adds a finalizer; says whether it was absent.
pub fn add_finalizer(object: &mut Value, name: &str) -> bool {
    if meta(object).has_finalizer(name) {
        return false;
    }
    let list = metadata_mut(object)
        .entry("finalizers")
        .or_insert_with(|| Value::Array(Vec::new()));
    match list {
        Value::Array(items) => items.push(name.into()),
        other => *other = Value::Array(vec![name.into()]),
    }
    true
}

/// Removes a finalizer; an emptied list goes too. Says whether it was there.
pub fn remove_finalizer(object: &mut Value, name: &str) -> bool {
    let Some(list) = object
        .pointer_mut("/metadata/finalizers")
        .and_then(Value::as_array_mut)
    else {
        return false;
    };
    let before = list.len();
    list.retain(|item| item.as_str() != Some(name));
    let (found, empty) = (list.len() < before, list.is_empty());
    if found && empty {
        remove(object, "finalizers");
    }
    found
}

fn remove_key(object: &mut Value, map: &str, key: &str) -> bool {
    let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else {
        return false;
    };
    let Some(entries) = metadata.get_mut(map).and_then(Value::as_object_mut) else {
        return false;
    };
    let found = entries.remove(key).is_some();
    if found && entries.is_empty() {
        metadata.remove(map);
    }
    found
}

/// The map in `value`, which becomes an empty one if it is anything else.
fn as_map(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    match value {
        Value::Object(map) => map,
        _ => unreachable!("made an object above"),
    }
}

fn member<'a>(map: &'a mut Map<String, Value>, key: &str) -> &'a mut Map<String, Value> {
    as_map(map.entry(key).or_insert(Value::Null))
}

#[cfg(test)]
mod tests;
