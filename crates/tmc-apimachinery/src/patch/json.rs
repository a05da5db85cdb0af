//! JSON patches (RFC 6902), operation by operation, within bounds.

use json_patch::{AddOperation, Patch, PatchOperation, jsonptr::Pointer};
use serde_json::Value;

use crate::meta::MAX_DEPTH;
use crate::status::{ApiError, Reason, Result};

/// Most operations that one JSON patch may hold, as in Kubernetes.
pub const MAX_JSON_PATCH_OPERATIONS: usize = 10_000;

/// Most bytes that the `copy` operations of one JSON patch may add, as in Kubernetes.
pub const MAX_COPIED_BYTES: usize = 3 * 1024 * 1024;

/// Most list items and bytes of values that one JSON patch may shift. It stops patches that insert
/// ten thousand times at the head of a huge list or carry a huge value around.
const MAX_WORK: usize = 32 * 1024 * 1024;

/// Reads a patch document.
pub(super) fn read(patch: &[u8]) -> Result<Vec<PatchOperation>> {
    let malformed =
        |e: serde_json::Error| ApiError::bad_request(format!("error decoding patch: {e}"));
    let patch: Value = serde_json::from_slice(patch).map_err(malformed)?;
    let Value::Array(operations) = &patch else {
        return Err(ApiError::bad_request(
            "error decoding patch: a JSON patch must be a list of operations",
        ));
    };
    if operations.len() > MAX_JSON_PATCH_OPERATIONS {
        return Err(ApiError::too_large(format!(
            "The allowed maximum operations in a JSON patch is {MAX_JSON_PATCH_OPERATIONS}, got {}",
            operations.len()
        )));
    }
    Ok(serde_json::from_value::<Patch>(patch).map_err(malformed)?.0)
}

/// Applies operations in order, until one fails.
pub(super) fn apply(document: &mut Value, operations: Vec<PatchOperation>) -> Result<()> {
    let mut bounds = Bounds::default();
    for (index, operation) in operations.into_iter().enumerate() {
        let place = Place {
            index,
            path: operation.path().to_string(),
        };
        bounds.check(document, &operation, &place)?;
        let Some(operation) = lenient(document, operation) else {
            continue;
        };
        json_patch::patch_unsafe(document, std::slice::from_ref(&operation))
            .map_err(|error| place.refuse(error.kind))?;
    }
    Ok(())
}

/// Where in a patch an error is.
struct Place {
    index: usize,
    path: String,
}

impl Place {
    fn says(&self, why: impl std::fmt::Display) -> String {
        let path = self.path.chars().take(256).collect::<String>();
        format!(
            "JSON patch operation {} on path {path:?} does not apply: {why}",
            self.index
        )
    }

    /// 422, as Kubernetes answers for a patch that does not fit the object.
    fn refuse(&self, why: impl std::fmt::Display) -> ApiError {
        ApiError::new(
            Reason::Invalid,
            format!(
                "the server rejected our request due to an error in our request: {}",
                self.says(why)
            ),
        )
    }

    fn too_large(&self, why: impl std::fmt::Display) -> ApiError {
        ApiError::too_large(self.says(why))
    }
}

/// The operation in the form in which the strict rules give the lenient result; `None` if there is
/// nothing to do.
fn lenient(document: &Value, operation: PatchOperation) -> Option<PatchOperation> {
    match operation {
        PatchOperation::Replace(replace) if absent_member(document, &replace.path) => {
            Some(PatchOperation::Add(AddOperation {
                path: replace.path,
                value: replace.value,
            }))
        }
        PatchOperation::Test(test)
            if test.value.is_null() && absent_member(document, &test.path) =>
        {
            None
        }
        other => Some(other),
    }
}

/// Whether a path names a member that an existing object does not have.
fn absent_member(document: &Value, path: &Pointer) -> bool {
    let Some((parent, key)) = path.split_back() else {
        return false;
    };
    match document.pointer(parent.as_str()) {
        Some(Value::Object(map)) => !map.contains_key(key.decoded().as_ref()),
        _ => false,
    }
}

/// What a patch has used of its bounds.
#[derive(Default)]
struct Bounds {
    copied: usize,
    work: usize,
}

impl Bounds {
    /// Accounts for an operation that is about to be applied.
    fn check(&mut self, document: &Value, operation: &PatchOperation, place: &Place) -> Result<()> {
        let path = operation.path();
        self.work += shifted(document, path);
        let size = match operation {
            PatchOperation::Add(add) => measure(&add.value),
            PatchOperation::Replace(replace) => measure(&replace.value),
            PatchOperation::Copy(copy) => {
                let size = measure_at(document, &copy.from);
                self.copied += size.bytes;
                self.work += size.bytes;
                size
            }
            PatchOperation::Move(change) => {
                let size = measure_at(document, &change.from);
                self.work += size.bytes + shifted(document, &change.from);
                size
            }
            PatchOperation::Remove(_) | PatchOperation::Test(_) => Size::default(),
        };
        if self.copied > MAX_COPIED_BYTES {
            return Err(place.too_large(format_args!(
                "the copies of the patch exceed {MAX_COPIED_BYTES} bytes"
            )));
        }
        if self.work > MAX_WORK {
            return Err(place.too_large("the patch moves too much data; send a merge patch"));
        }
        if path.tokens().count() + size.depth > MAX_DEPTH {
            return Err(place.refuse(format_args!(
                "the object would be nested deeper than {MAX_DEPTH} levels"
            )));
        }
        Ok(())
    }
}

/// Items of a list that a change at a path may shift.
fn shifted(document: &Value, path: &Pointer) -> usize {
    let parent = path
        .parent()
        .and_then(|parent| document.pointer(parent.as_str()));
    parent.and_then(Value::as_array).map_or(0, Vec::len)
}

/// Size of a value: its bytes when encoded, roughly, and its nesting.
#[derive(Clone, Copy, Default)]
struct Size {
    bytes: usize,
    depth: usize,
}

fn measure_at(document: &Value, path: &Pointer) -> Size {
    document
        .pointer(path.as_str())
        .map(measure)
        .unwrap_or_default()
}

fn measure(value: &Value) -> Size {
    let nested = |sizes: &mut dyn Iterator<Item = Size>| {
        let mut total = Size { bytes: 2, depth: 1 };
        for size in sizes {
            total.bytes += size.bytes + 1;
            total.depth = total.depth.max(size.depth + 1);
        }
        total
    };
    match value {
        Value::Array(items) => nested(&mut items.iter().map(measure)),
        Value::Object(map) => nested(&mut map.iter().map(|(key, value)| {
            let size = measure(value);
            Size {
                bytes: size.bytes + key.len() + 3,
                ..size
            }
        })),
        Value::String(text) => Size {
            bytes: text.len() + 2,
            depth: 0,
        },
        _ => Size { bytes: 8, depth: 0 },
    }
}
