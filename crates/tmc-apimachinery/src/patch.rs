//! Patches: JSON (RFC 6902), merge (RFC 7386) and strategic merge (Kubernetes).
//!
//! All of them leave the document as it was if they fail. Patches are hostile input: the number of
//! operations, the nesting and what copying may add are bounded, and no operation costs more than
//! a small multiple of the request's size.

mod json;
mod lists;
mod strategic;

use serde_json::{Map, Value};

pub use json::{MAX_COPIED_BYTES, MAX_JSON_PATCH_OPERATIONS};

use crate::schema::Node;
use crate::status::{ApiError, Reason, Result};

/// Applies a JSON patch.
///
/// Strict RFC 6902 but for two leniences of Kubernetes that clients rely on: `replace` of an absent
/// member of an existing object adds it (an agent's first heartbeat does that), and `test` for null
/// passes if the member is absent.
///
/// # Errors
/// 400 for a patch that is not one, 413 for more than [`MAX_JSON_PATCH_OPERATIONS`] operations or
/// more than [`MAX_COPIED_BYTES`] copied, 422 when a path is missing, a `test` fails or the result
/// would be nested too deep or no longer be an object. The document is then unchanged.
pub fn json_patch(document: &mut Value, patch: &[u8]) -> Result<()> {
    let operations = json::read(patch)?;
    let mut patched = document.clone();
    json::apply(&mut patched, operations)?;
    if document.is_object() && !patched.is_object() {
        let why = "the JSON patch must leave a JSON object";
        return Err(ApiError::new(Reason::Invalid, why));
    }
    *document = patched;
    Ok(())
}

/// Applies a JSON merge patch.
///
/// # Errors
/// 400 for a patch that is not an object.
pub fn merge_patch(document: &mut Value, patch: &Value) -> Result<()> {
    object(patch, "a merge patch")?;
    json_patch::merge(document, patch);
    Ok(())
}

/// Applies a strategic merge patch with the patch facts of a schema.
///
/// Where the schema knows nothing (`None`, or below a field without facts), lists are replaced as in
/// a merge patch; the directives (`$patch`, `$retainKeys`, `$deleteFromPrimitiveList/…`,
/// `$setElementOrder/…`) work everywhere and never get into the document.
///
/// # Errors
/// 400 for a malformed directive, a list item without its merge key, or a wrong type. The document
/// is then unchanged.
pub fn strategic_merge_patch(
    document: &mut Value,
    patch: &Value,
    schema: Option<Node<'_>>,
) -> Result<()> {
    let patch = object(patch, "a strategic merge patch")?;
    let mut patched = match &*document {
        Value::Object(map) => map.clone(),
        _ => Map::new(),
    };
    strategic::merge_map(&mut patched, patch, schema)?;
    *document = Value::Object(patched);
    Ok(())
}

fn object<'a>(patch: &'a Value, what: &str) -> Result<&'a Map<String, Value>> {
    patch
        .as_object()
        .ok_or_else(|| ApiError::bad_request(format!("{what} must be a JSON object")))
}

/// A merge patch that turns `old` into `new`; `None` if they are equal.
///
/// For objects without nulls, `merge_patch(old, merge_diff(old, new))` gives `new`. A merge patch
/// cannot express a null value: a null in `new` becomes a removal.
pub fn merge_diff(old: &Value, new: &Value) -> Option<Value> {
    if old == new {
        return None;
    }
    let (Value::Object(before), Value::Object(after)) = (old, new) else {
        return Some(new.clone());
    };
    let mut diff = Map::new();
    for key in before.keys().filter(|key| !after.contains_key(*key)) {
        diff.insert(key.clone(), Value::Null);
    }
    for (key, value) in after {
        let change = match before.get(key) {
            None => Some(value.clone()),
            Some(current) => merge_diff(current, value),
        };
        diff.extend(change.map(|change| (key.clone(), change)));
    }
    Some(Value::Object(diff))
}

#[cfg(test)]
mod tests;
