//! What cells of several kinds have in common. Nothing here fails: absent members show as
//! Kubernetes shows zero values.

use serde_json::Value;
use tmc_apimachinery::meta::meta;
use tmc_apimachinery::selector::LabelSelector;
use tmc_apimachinery::table;

/// Text at a JSON pointer, empty if there is none.
pub(super) fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or("")
}

/// Text at a JSON pointer, or a stand-in for absent and empty.
pub(super) fn text_or<'a>(object: &'a Value, pointer: &str, other: &'a str) -> &'a str {
    match text(object, pointer) {
        "" => other,
        found => found,
    }
}

/// Number at a JSON pointer, 0 if there is none.
pub(super) fn number(object: &Value, pointer: &str) -> i64 {
    object.pointer(pointer).and_then(Value::as_i64).unwrap_or(0)
}

/// Items of the list at a JSON pointer.
pub(super) fn list<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    object
        .pointer(pointer)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

/// Number of members of the map at a JSON pointer.
pub(super) fn size(object: &Value, pointer: &str) -> usize {
    object
        .pointer(pointer)
        .and_then(Value::as_object)
        .map_or(0, serde_json::Map::len)
}

/// A quantity at a JSON pointer as text, `0` if there is none.
pub(super) fn quantity(object: &Value, pointer: &str) -> String {
    match object.pointer(pointer) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        _ => "0".to_owned(),
    }
}

/// Whether the condition of a type is `True`.
pub(super) fn condition_is_true(object: &Value, kind: &str) -> bool {
    list(object, "/status/conditions")
        .iter()
        .find(|c| c["type"] == kind)
        .is_some_and(|c| c["status"] == "True")
}

/// Time since a timestamp, as tables show it; `<unknown>` if there is none.
pub(super) fn since(timestamp: &str, now: i64) -> String {
    table::age(timestamp, now)
}

/// The whole seconds since the epoch of a timestamp.
pub(super) fn seconds(timestamp: &str) -> Option<i64> {
    timestamp
        .parse::<jiff::Timestamp>()
        .ok()
        .map(jiff::Timestamp::as_second)
}

pub(super) fn age(object: &Value, now: i64) -> Value {
    since(text(object, "/metadata/creationTimestamp"), now).into()
}

pub(super) fn created_at(object: &Value, _now: i64) -> Value {
    text(object, "/metadata/creationTimestamp").into()
}

/// Labels or another map of strings as `a=b,c=d`, `<none>` if empty.
pub(super) fn labels(object: &Value, pointer: &str) -> String {
    let map = object.pointer(pointer).and_then(Value::as_object);
    let mut pairs: Vec<String> = map
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    pairs.sort();
    or_none(pairs.join(","))
}

pub(super) fn or_none(text: String) -> String {
    if text.is_empty() {
        "<none>".to_owned()
    } else {
        text
    }
}

/// A LabelSelector object as text, `<none>` if it selects everything or is absent.
pub(super) fn selector_at(object: &Value, pointer: &str) -> String {
    match object.pointer(pointer) {
        None | Some(Value::Null) => "<none>".to_owned(),
        Some(selector) => LabelSelector::from_object(selector).map_or_else(
            |_| "<error>".to_owned(),
            |selector| or_none(selector.to_string()),
        ),
    }
}

pub(super) fn selector(object: &Value, _now: i64) -> Value {
    selector_at(object, "/spec/selector").into()
}

/// A member of each object in a list, comma-separated.
pub(super) fn joined(items: &[Value], member: &str) -> String {
    let texts = items
        .iter()
        .map(|item| item[member].as_str().unwrap_or_default());
    texts.collect::<Vec<_>>().join(",")
}

pub(super) fn template_containers(object: &Value, _now: i64) -> Value {
    joined(list(object, "/spec/template/spec/containers"), "name").into()
}

pub(super) fn template_images(object: &Value, _now: i64) -> Value {
    joined(list(object, "/spec/template/spec/containers"), "image").into()
}

/// The name, marked where an annotation makes the object the default of its kind.
pub(super) fn name_or_default(object: &Value, annotations: &[&str]) -> Value {
    let meta = meta(object);
    let default = annotations
        .iter()
        .any(|key| meta.annotation(key) == Some("true"));
    let mark = if default { " (default)" } else { "" };
    format!("{}{mark}", meta.name()).into()
}

/// The first items of a list, and how many more there are.
pub(super) fn first_of(items: &[String], shown: usize, separator: &str) -> String {
    let text = items[..items.len().min(shown)].join(separator);
    match items.len().saturating_sub(shown) {
        0 => text,
        more => format!("{text} + {more} more..."),
    }
}
