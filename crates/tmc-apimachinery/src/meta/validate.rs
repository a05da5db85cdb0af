//! `ValidateObjectMeta`: labels, annotations, finalizers, owner references, and the types of all
//! members.

use serde_json::{Map, Value, json};

use super::names::{qualified_name_faults, validate_label_value, validate_qualified_name};
use crate::status::Cause;

/// Most bytes that the keys and values of all annotations of an object may have together.
pub const MAX_ANNOTATION_BYTES: usize = 256 * 1024;

/// Most owners that an object may name: each is looked up whenever the object is.
const MAX_OWNERS: usize = 64;

const MAX_MANAGER_BYTES: usize = 128;
const MAX_SUBRESOURCE_BYTES: usize = 256;
const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

/// Errors in labels, annotations (256 KiB in total), finalizers and owner references, with paths
/// and wording as Kubernetes' `ValidateObjectMeta`; of more than 64 owners; and of members with a wrong JSON type.
/// Names are checked by [`super::validate_name`], since their rule depends on the kind.
pub fn validate_metadata(object: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    let metadata = match object.get("metadata") {
        Some(Value::Object(metadata)) => metadata,
        None | Some(Value::Null) => return causes,
        Some(other) => return vec![wrong_type("metadata", other, "an object")],
    };
    check_scalars(metadata, &mut causes);
    check_labels(metadata, &mut causes);
    check_annotations(metadata, &mut causes);
    check_owners(metadata, &mut causes);
    check_finalizers(metadata, &mut causes);
    check_managed_fields(metadata, &mut causes);
    causes
}

fn wrong_type(field: impl Into<String>, value: &Value, wanted: &str) -> Cause {
    Cause::type_invalid(field, &abbreviated(value), format_args!("must be {wanted}"))
}

/// The value itself if short, else its JSON type: an error must not echo megabytes.
fn abbreviated(value: &Value) -> Value {
    match value {
        Value::Array(_) => "array".into(),
        Value::Object(_) => "object".into(),
        Value::String(text) if text.len() > 256 => "string".into(),
        other => other.clone(),
    }
}

fn too_long(field: impl Into<String>, max: usize) -> Cause {
    Cause {
        reason: "FieldValueTooLong".into(),
        message: format!("Too long: may not be more than {max} bytes"),
        field: field.into(),
    }
}

fn too_many(field: &str, count: usize, max: usize) -> Cause {
    Cause {
        reason: "FieldValueTooMany".into(),
        message: format!("Too many: {count}: must have at most {max} items"),
        field: field.into(),
    }
}

fn check_scalars(metadata: &Map<String, Value>, causes: &mut Vec<Cause>) {
    const TEXTS: [&str; 8] = [
        "name",
        "generateName",
        "namespace",
        "selfLink",
        "uid",
        "resourceVersion",
        "creationTimestamp",
        "deletionTimestamp",
    ];
    for key in TEXTS {
        match metadata.get(key) {
            None | Some(Value::Null | Value::String(_)) => {}
            Some(other) => causes.push(wrong_type(format!("metadata.{key}"), other, "a string")),
        }
    }
    for key in ["generation", "deletionGracePeriodSeconds"] {
        let field = format!("metadata.{key}");
        match metadata.get(key) {
            None | Some(Value::Null) => {}
            Some(value) => {
                match value.as_i64() {
                    None => causes.push(wrong_type(field, value, "an integer")),
                    Some(number) if number < 0 && key == "generation" => causes.push(
                        Cause::invalid(field, value, "must be greater than or equal to 0"),
                    ),
                    Some(_) => {}
                }
            }
        }
    }
}

/// The text pairs of a map of `metadata`; whatever is not one is reported.
fn text_pairs<'a>(
    metadata: &'a Map<String, Value>,
    key: &str,
    causes: &mut Vec<Cause>,
) -> Vec<(&'a str, &'a str)> {
    let field = format!("metadata.{key}");
    let mut pairs = Vec::new();
    match metadata.get(key) {
        None | Some(Value::Null) => {}
        Some(Value::Object(map)) => {
            for (name, value) in map {
                match value {
                    Value::String(text) => pairs.push((name.as_str(), text.as_str())),
                    Value::Null => pairs.push((name.as_str(), "")),
                    other => causes.push(wrong_type(format!("{field}[{name}]"), other, "a string")),
                }
            }
        }
        Some(other) => causes.push(wrong_type(field, other, "an object with string values")),
    }
    pairs
}

/// The items of a list of `metadata`; another type is reported.
fn items<'a>(metadata: &'a Map<String, Value>, key: &str, causes: &mut Vec<Cause>) -> &'a [Value] {
    match metadata.get(key) {
        None | Some(Value::Null) => &[],
        Some(Value::Array(items)) => items,
        Some(other) => {
            causes.push(wrong_type(format!("metadata.{key}"), other, "a list"));
            &[]
        }
    }
}

fn check_labels(metadata: &Map<String, Value>, causes: &mut Vec<Cause>) {
    for (key, text) in text_pairs(metadata, "labels", causes) {
        causes.extend(validate_qualified_name("metadata.labels", key));
        causes.extend(validate_label_value("metadata.labels", text));
    }
}

fn check_annotations(metadata: &Map<String, Value>, causes: &mut Vec<Cause>) {
    let pairs = text_pairs(metadata, "annotations", causes);
    for (key, _) in &pairs {
        // As for label keys, except that the case of the prefix does not matter.
        let faults = qualified_name_faults(&key.to_lowercase());
        let cause = |fault| Cause::invalid("metadata.annotations", &Value::from(*key), fault);
        causes.extend(faults.into_iter().map(cause));
    }
    if pairs.iter().map(|(k, v)| k.len() + v.len()).sum::<usize>() > MAX_ANNOTATION_BYTES {
        causes.push(too_long("metadata.annotations", MAX_ANNOTATION_BYTES));
    }
}

fn check_owners(metadata: &Map<String, Value>, causes: &mut Vec<Cause>) {
    let field = "metadata.ownerReferences";
    let mut controller = None;
    let owners = items(metadata, "ownerReferences", causes);
    if owners.len() > MAX_OWNERS {
        causes.push(too_many(field, owners.len(), MAX_OWNERS));
        return;
    }
    for (index, owner) in owners.iter().enumerate() {
        let Value::Object(reference) = owner else {
            causes.push(wrong_type(format!("{field}[{index}]"), owner, "an object"));
            continue;
        };
        check_owner(reference, field, causes);
        for key in ["controller", "blockOwnerDeletion"] {
            if let Some(value) = reference
                .get(key)
                .filter(|v| !v.is_boolean() && !v.is_null())
            {
                causes.push(wrong_type(
                    format!("{field}[{index}].{key}"),
                    value,
                    "a boolean",
                ));
            }
        }
        if reference.get("controller") == Some(&Value::Bool(true)) {
            let name = format!("{}/{}", text(reference, "kind"), text(reference, "name"));
            match &controller {
                None => controller = Some(name),
                Some(first) => causes.push(Cause::invalid(
                    field,
                    &metadata["ownerReferences"],
                    format_args!(
                        "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {name}"
                    ),
                )),
            }
        }
    }
}

fn text<'a>(map: &'a Map<String, Value>, key: &str) -> &'a str {
    map.get(key).and_then(Value::as_str).unwrap_or("")
}

fn check_owner(reference: &Map<String, Value>, field: &str, causes: &mut Vec<Cause>) {
    let version = text(reference, "apiVersion");
    for key in ["apiVersion", "kind", "name", "uid"] {
        match reference.get(key) {
            None | Some(Value::Null | Value::String(_)) => {}
            Some(other) => {
                causes.push(wrong_type(format!("{field}.{key}"), other, "a string"));
                return;
            }
        }
    }
    if crate::names::GroupVersion::parse(version).is_none() {
        let why = "version must not be empty";
        causes.push(Cause::invalid(
            format!("{field}.apiVersion"),
            &version.into(),
            why,
        ));
    }
    for key in ["kind", "name", "uid"] {
        if text(reference, key).is_empty() {
            causes.push(Cause::invalid(
                format!("{field}.{key}"),
                &"".into(),
                "must not be empty",
            ));
        }
    }
    if version == "v1" && text(reference, "kind") == "Event" {
        let why = "/v1, Kind=Event is disallowed from being an owner";
        causes.push(Cause::invalid(field, &json!(reference), why));
    }
}

fn check_finalizers(metadata: &Map<String, Value>, causes: &mut Vec<Cause>) {
    let field = "metadata.finalizers";
    let list = items(metadata, "finalizers", causes);
    for (index, item) in list.iter().enumerate() {
        match item.as_str() {
            Some(name) => causes.extend(validate_qualified_name(field, name)),
            None => causes.push(wrong_type(format!("{field}[{index}]"), item, "a string")),
        }
    }
    let has = |name| list.iter().any(|item| item.as_str() == Some(name));
    if has(ORPHAN) && has(FOREGROUND) {
        let why = format!("finalizer {ORPHAN} and {FOREGROUND} cannot be both set");
        causes.push(Cause::invalid(field, &json!(list), why));
    }
}

fn check_managed_fields(metadata: &Map<String, Value>, causes: &mut Vec<Cause>) {
    for (index, item) in items(metadata, "managedFields", causes).iter().enumerate() {
        let field = format!("metadata.managedFields[{index}]");
        let Value::Object(entry) = item else {
            causes.push(wrong_type(field, item, "an object"));
            continue;
        };
        let operation = text(entry, "operation");
        if !matches!(operation, "Apply" | "Update") {
            let why = "must be `Apply` or `Update`";
            causes.push(Cause::invalid(
                format!("{field}.operation"),
                &operation.into(),
                why,
            ));
        }
        let kind = text(entry, "fieldsType");
        if !matches!(kind, "" | "FieldsV1") {
            let why = "must be `FieldsV1`";
            causes.push(Cause::invalid(
                format!("{field}.fieldsType"),
                &kind.into(),
                why,
            ));
        }
        causes.extend(validate_field_manager(
            &format!("{field}.manager"),
            text(entry, "manager"),
        ));
        if text(entry, "subresource").len() > MAX_SUBRESOURCE_BYTES {
            causes.push(too_long(
                format!("{field}.subresource"),
                MAX_SUBRESOURCE_BYTES,
            ));
        }
    }
}

/// Errors of a field manager's name: at most 128 bytes, printable characters only.
pub(crate) fn validate_field_manager(field: &str, manager: &str) -> Vec<Cause> {
    let mut causes = Vec::new();
    if manager.len() > MAX_MANAGER_BYTES {
        causes.push(too_long(field, MAX_MANAGER_BYTES));
    }
    // One error is enough: the text is the user's and may be all control characters.
    let unprintable = manager
        .char_indices()
        .find(|(_, c)| c.is_control() || is_odd_space(*c));
    if let Some((position, c)) = unprintable {
        let why = format!(
            "invalid character U+{:04X} (at position {position})",
            u32::from(c)
        );
        causes.push(Cause::invalid(field, &manager.into(), why));
    }
    causes
}

/// White space other than the ASCII blank is not printable in Go's sense.
fn is_odd_space(c: char) -> bool {
    c.is_whitespace() && c != ' '
}
