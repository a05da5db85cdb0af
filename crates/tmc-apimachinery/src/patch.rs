//! Patches: JSON (RFC 6902), merge (RFC 7386) and strategic merge (Kubernetes).

use serde_json::Value;

use crate::schema::Node;
use crate::status::Result;

/// Most operations that one JSON patch may hold, as in Kubernetes.
pub const MAX_JSON_PATCH_OPERATIONS: usize = 10_000;

/// Applies a JSON patch. `replace` of an absent member of an existing object adds it (protocol:
/// an agent's first heartbeat relies on it); everything else is strict RFC 6902.
///
/// # Errors
/// 400 for a patch that is not one, 413 for more than [`MAX_JSON_PATCH_OPERATIONS`] operations,
/// 422 when a path is missing or a `test` fails.
pub fn json_patch(_document: &mut Value, _patch: &[u8]) -> Result<()> {
    unimplemented!()
}

/// Applies a JSON merge patch.
///
/// # Errors
/// 400 for a patch that is not an object.
pub fn merge_patch(_document: &mut Value, _patch: &Value) -> Result<()> {
    unimplemented!()
}

/// Applies a strategic merge patch with the patch facts of a schema.
///
/// # Errors
/// 400 for a malformed directive, a list item without its merge key, or a wrong type.
pub fn strategic_merge_patch(
    _document: &mut Value,
    _patch: &Value,
    _schema: Option<Node<'_>>,
) -> Result<()> {
    unimplemented!()
}

/// A merge patch that turns `old` into `new`; `None` if they are equal.
pub fn merge_diff(_old: &Value, _new: &Value) -> Option<Value> {
    unimplemented!()
}
