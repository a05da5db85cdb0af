//! Strategic merge: maps and directives. Lists are in `lists`.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::lists;
use crate::schema::Node;
use crate::status::{ApiError, Result};

/// What is to be done with the map in which it stands: `replace`, `delete` or `merge`.
const PATCH: &str = "$patch";
/// The only keys that are to stay in a map.
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_FROM: &str = "$deleteFromPrimitiveList";
const ELEMENT_ORDER: &str = "$setElementOrder";

/// A `$patch` directive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Directive {
    Replace,
    Delete,
    Merge,
}

/// The `$patch` directive of a map, if it has one.
pub(super) fn directive(map: &Map<String, Value>) -> Result<Option<Directive>> {
    let Some(value) = map.get(PATCH) else {
        return Ok(None);
    };
    match value.as_str() {
        Some("replace") => Ok(Some(Directive::Replace)),
        Some("delete") => Ok(Some(Directive::Delete)),
        Some("merge") => Ok(Some(Directive::Merge)),
        _ => Err(ApiError::bad_request(format!(
            "unknown patch type: {value} in {PATCH}; use replace, delete or merge"
        ))),
    }
}

/// How a field is patched.
#[derive(Clone, Copy)]
pub(super) struct Field<'a> {
    pub(super) name: &'a str,
    pub(super) node: Option<Node<'a>>,
}

impl<'a> Field<'a> {
    fn of(parent: Option<Node<'a>>, name: &'a str) -> Self {
        Self {
            name,
            node: parent.and_then(|p| p.property(name)),
        }
    }

    /// Whether the patch strategy names `strategy`.
    pub(super) fn has(&self, strategy: &str) -> bool {
        let strategies = self.node.map_or("", |n| n.patch_strategy());
        strategies.split(',').any(|s| s.trim() == strategy)
    }

    /// The member that identifies an item, for lists of maps.
    pub(super) fn merge_key(&self) -> Option<&'a str> {
        self.node.and_then(|n| n.patch_merge_key())
    }
}

/// Merges a patch map into a map of the document.
pub(super) fn merge_map(
    original: &mut Map<String, Value>,
    patch: &Map<String, Value>,
    node: Option<Node<'_>>,
) -> Result<()> {
    match directive(patch)? {
        Some(Directive::Replace) => {
            *original = cleaned_map(patch);
            return Ok(());
        }
        Some(Directive::Delete) => {
            original.clear();
            return Ok(());
        }
        Some(Directive::Merge) | None => {}
    }
    retain_keys(original, patch)?;
    delete_from_lists(original, patch)?;
    let ordered = merge_ordered_lists(original, patch, node)?;
    for (key, value) in patch {
        if !is_directive(key) && !ordered.contains(key.as_str()) {
            merge_member(original, value, Field::of(node, key))?;
        }
    }
    Ok(())
}

/// Whether a key speaks to the patcher rather than naming a field.
fn is_directive(key: &str) -> bool {
    let prefix = key.split('/').next().unwrap_or(key);
    matches!(prefix, PATCH | RETAIN_KEYS | DELETE_FROM | ELEMENT_ORDER)
}

fn merge_member(original: &mut Map<String, Value>, patch: &Value, field: Field<'_>) -> Result<()> {
    if patch.is_null() {
        original.remove(field.name);
        return Ok(());
    }
    match (original.get_mut(field.name), patch) {
        (Some(Value::Object(old)), Value::Object(new)) => {
            if field.has("replace") {
                *old = cleaned_map(new);
                return Ok(());
            }
            merge_map(old, new, field.node)
        }
        (Some(Value::Array(old)), Value::Array(new)) => {
            *old = lists::merge(std::mem::take(old), new, field)?;
            Ok(())
        }
        (_, new) => {
            match cleaned_member(new)? {
                Some(value) => original.insert(field.name.to_owned(), value),
                None => original.remove(field.name),
            };
            Ok(())
        }
    }
}

/// The keys with a directive's prefix: the field they are for, and their list.
fn lists_of<'a>(
    patch: &'a Map<String, Value>,
    prefix: &'static str,
) -> impl Iterator<Item = Result<(&'a str, &'a Vec<Value>)>> {
    let keys = patch.iter().filter(move |(key, _)| key.starts_with(prefix));
    keys.map(move |(key, value)| {
        let field = key[prefix.len()..]
            .strip_prefix('/')
            .filter(|f| !f.is_empty());
        match (field, value) {
            (Some(field), Value::Array(items)) => Ok((field, items)),
            (Some(_), _) => Err(ApiError::bad_request(format!(
                "the value of {key:?} must be a list"
            ))),
            (None, _) => Err(ApiError::bad_request(format!(
                "{key:?} is malformed: {prefix}/<field> is required"
            ))),
        }
    })
}

/// `$retainKeys`: removes all other keys, which must cover the patch's own.
fn retain_keys(original: &mut Map<String, Value>, patch: &Map<String, Value>) -> Result<()> {
    let Some(value) = patch.get(RETAIN_KEYS) else {
        return Ok(());
    };
    let keys = value
        .as_array()
        .and_then(|list| {
            list.iter()
                .map(Value::as_str)
                .collect::<Option<BTreeSet<_>>>()
        })
        .ok_or_else(|| ApiError::bad_request(format!("{RETAIN_KEYS} must be a list of strings")))?;
    let stray = patch
        .iter()
        .find(|(k, v)| !v.is_null() && !is_directive(k) && !keys.contains(k.as_str()));
    if let Some((key, _)) = stray {
        return Err(ApiError::bad_request(format!(
            "{RETAIN_KEYS} must name every field of the patch beside it, but {key:?} is missing"
        )));
    }
    original.retain(|key, _| keys.contains(key.as_str()));
    Ok(())
}

/// `$deleteFromPrimitiveList/<field>`: removes the values from the list.
fn delete_from_lists(original: &mut Map<String, Value>, patch: &Map<String, Value>) -> Result<()> {
    for entry in lists_of(patch, DELETE_FROM) {
        let (field, gone) = entry?;
        if let Some(Value::Array(list)) = original.get_mut(field) {
            let gone: BTreeSet<String> = gone.iter().map(Value::to_string).collect();
            list.retain(|item| !gone.contains(&item.to_string()));
        }
    }
    Ok(())
}

/// `$setElementOrder/<field>`: merges the lists with their order; returns their names.
fn merge_ordered_lists<'a>(
    original: &mut Map<String, Value>,
    patch: &'a Map<String, Value>,
    node: Option<Node<'_>>,
) -> Result<BTreeSet<&'a str>> {
    let mut done = BTreeSet::new();
    for entry in lists_of(patch, ELEMENT_ORDER) {
        let (name, order) = entry?;
        let change = match patch.get(name) {
            // A removal of the list: nothing to order.
            Some(Value::Null) => continue,
            None => None,
            Some(Value::Array(items)) => Some(items),
            Some(_) => {
                return Err(ApiError::bad_request(format!(
                    "{ELEMENT_ORDER}/{name} is for a list, but {name:?} in the patch is none"
                )));
            }
        };
        let current = match original.get_mut(name) {
            None | Some(Value::Null) => None,
            Some(Value::Array(items)) => Some(std::mem::take(items)),
            Some(_) => {
                return Err(ApiError::bad_request(format!(
                    "{ELEMENT_ORDER}/{name} is for a list, but {name:?} of the object is none"
                )));
            }
        };
        let merged = lists::merge_ordered(current, change, order, Field::of(node, name))?;
        if let Some(list) = merged {
            original.insert(name.to_owned(), Value::Array(list));
        }
        done.insert(name);
    }
    Ok(done)
}

/// A map of the patch as it goes into the document as a whole: without nulls and directives.
pub(super) fn cleaned_map(patch: &Map<String, Value>) -> Map<String, Value> {
    let kept = patch
        .iter()
        .filter(|(key, value)| !is_directive(key) && !value.is_null());
    kept.filter_map(|(key, value)| Some((key.clone(), cleaned(value)?)))
        .collect()
}

/// A value that the document does not have yet. A map to be deleted leaves nothing.
fn cleaned_member(patch: &Value) -> Result<Option<Value>> {
    if let Value::Object(map) = patch {
        directive(map)?;
    }
    Ok(cleaned(patch))
}

/// A value without nulls in maps and without directives; `None` for a map to be deleted, and for
/// a list item that is only a directive.
fn cleaned(patch: &Value) -> Option<Value> {
    match patch {
        Value::Object(map) => {
            let deleted = map.get(PATCH).is_some_and(|d| d == "delete");
            (!deleted).then(|| Value::Object(cleaned_map(map)))
        }
        Value::Array(items) => Some(Value::Array(cleaned_list(items))),
        scalar => Some(scalar.clone()),
    }
}

/// A list of the patch as it goes into the document as a whole.
pub(super) fn cleaned_list(items: &[Value]) -> Vec<Value> {
    let is_marker = |item: &&Value| {
        let replace = |d: &Value| d == "replace";
        item.get(PATCH).is_some_and(replace)
    };
    items
        .iter()
        .filter(|item| !is_marker(item))
        .filter_map(cleaned)
        .collect()
}
