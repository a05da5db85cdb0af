//! `ObjectMeta` as every resource has it, whatever its schema says: fields and their types.

use std::sync::LazyLock;

use serde_json::{Value, json};

use super::compile::{self, Mode};
use super::shape::{Definitions, Shape};

/// Whether a member of a resource's root is implied and never pruned.
pub(super) fn implied(name: &str) -> bool {
    matches!(name, "apiVersion" | "kind" | "metadata")
}

/// The shape of `metadata`.
pub(super) fn shape() -> &'static Shape {
    static SHAPE: LazyLock<Shape> = LazyLock::new(|| {
        compile::compile(&source(), Mode::Lenient(&Definitions::default()))
            .unwrap_or_else(|_| Shape::refusing("the schema of metadata is unusable".into()))
    });
    &SHAPE
}

/// The schema of `metadata`, as OpenAPI has it.
pub(super) fn source() -> Value {
    let (text, time) = (
        json!({"type": "string"}),
        json!({"type": "string", "format": "date-time"}),
    );
    let whole = json!({"type": "integer", "format": "int64"});
    let words = json!({"type": "object", "additionalProperties": text});
    let owner = json!({
        "type": "object",
        "properties": {
            "apiVersion": text, "kind": text, "name": text, "uid": text,
            "controller": {"type": "boolean"}, "blockOwnerDeletion": {"type": "boolean"},
        },
    });
    let manager = json!({
        "type": "object",
        "properties": {
            "manager": text, "operation": text, "apiVersion": text, "time": time,
            "fieldsType": text, "fieldsV1": {"type": "object"}, "subresource": text,
        },
    });
    json!({
        "type": "object",
        "properties": {
            "name": text, "generateName": text, "namespace": text, "selfLink": text, "uid": text,
            "resourceVersion": text, "generation": whole, "creationTimestamp": time,
            "deletionTimestamp": time, "deletionGracePeriodSeconds": whole,
            "labels": words, "annotations": words,
            "ownerReferences": {"type": "array", "items": owner},
            "finalizers": {"type": "array", "items": text},
            "managedFields": {"type": "array", "items": manager},
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_of_metadata_compiles() {
        assert!(shape().rules.is_none());
        assert_eq!(shape().properties.len(), 15);
    }
}
