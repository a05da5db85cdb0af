//! Checks that many kinds share.

use std::collections::HashSet;

use serde_json::{Map, Value};
use tmc_apimachinery::definition::NameRule;
use tmc_apimachinery::meta::{validate_label_value, validate_name, validate_qualified_name};
use tmc_apimachinery::selector::LabelSelector;

use crate::report::{Field, Report};

pub(super) fn text<'a>(object: &'a Value, key: &str) -> &'a str {
    object.get(key).and_then(Value::as_str).unwrap_or("")
}

pub(super) fn list<'a>(object: &'a Value, key: &str) -> &'a [Value] {
    object
        .get(key)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

/// The pairs of a map; none if it is absent.
pub(super) fn map<'a>(
    object: &'a Value,
    key: &str,
) -> impl Iterator<Item = (&'a String, &'a Value)> {
    object
        .get(key)
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
}

/// A member that is neither missing nor null.
pub(super) fn present<'a>(object: &'a Value, key: &str) -> Option<&'a Value> {
    object.get(key).filter(|value| !value.is_null())
}

/// The objects of a list with the paths of its items.
pub(super) fn items<'a>(
    object: &'a Value,
    key: &str,
    field: &Field,
) -> impl Iterator<Item = (&'a Value, Field)> {
    let field = field.child(key);
    list(object, key)
        .iter()
        .enumerate()
        .map(move |(index, item)| (item, field.index(index)))
}

/// What is wrong with a name, without the value that errors put in front.
pub(super) fn name_faults(name: &str, rule: NameRule) -> Vec<String> {
    let prefix = format!("Invalid value: {}: ", Value::from(name));
    let causes = validate_name("", name, rule);
    causes
        .into_iter()
        .map(|cause| match cause.message.strip_prefix(&prefix) {
            Some(fault) => fault.to_owned(),
            None => cause.message,
        })
        .collect()
}

/// A name that must be there and keep a rule.
pub(super) fn required_name(
    object: &Value,
    key: &str,
    rule: NameRule,
    field: &Field,
    report: &mut Report,
) {
    match text(object, key) {
        "" => report.required(&field.child(key), ""),
        _ => optional_name(object, key, rule, field, report),
    }
}

/// A name that must keep a rule if it is there.
pub(super) fn optional_name(
    object: &Value,
    key: &str,
    rule: NameRule,
    field: &Field,
    report: &mut Report,
) {
    let name = text(object, key);
    if !name.is_empty() {
        report.extend(validate_name(field.child(key).as_str(), name, rule));
    }
}

pub(super) fn required_text(object: &Value, key: &str, field: &Field, report: &mut Report) {
    if text(object, key).is_empty() {
        report.required(&field.child(key), "");
    }
}

/// One of some values, if the member is there.
pub(super) fn one_of(
    object: &Value,
    key: &str,
    supported: &[&str],
    field: &Field,
    report: &mut Report,
) {
    if let Some(value) = object.get(key).and_then(Value::as_str)
        && !supported.contains(&value)
    {
        report.not_supported(&field.child(key), value, supported);
    }
}

/// Numbers that may not be below zero.
pub(super) fn non_negative(object: &Value, keys: &[&str], field: &Field, report: &mut Report) {
    for key in keys {
        if let Some(number) = object.get(*key).and_then(Value::as_i64)
            && number < 0
        {
            report.invalid(
                &field.child(key),
                number,
                "must be greater than or equal to 0",
            );
        }
    }
}

pub(super) fn port_number(number: i64, field: &Field, report: &mut Report) {
    if !(1..=65535).contains(&number) {
        report.invalid(field, number, "must be between 1 and 65535, inclusive");
    }
}

/// A port given by number or name, if the member is there.
pub(super) fn port_number_or_name(port: &Value, field: &Field, report: &mut Report) {
    match port {
        Value::Number(_) => port_number(port.as_i64().unwrap_or(0), field, report),
        Value::String(name) => port_name(name, field, report),
        _ => {}
    }
}

/// The name of a port (`IANA_SVC_NAME`).
pub(super) fn port_name(name: &str, field: &Field, report: &mut Report) {
    let bytes = name.as_bytes();
    let lower = |b: &u8| b.is_ascii_lowercase();
    let known = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-';
    let faults = [
        (name.len() > 15, "must be no more than 15 characters"),
        (
            bytes.is_empty() || !bytes.iter().all(known),
            "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)",
        ),
        (
            !bytes.iter().any(lower),
            "must contain at least one letter (a-z)",
        ),
        (name.contains("--"), "must not contain consecutive hyphens"),
        (
            name.starts_with('-') || name.ends_with('-'),
            "must not begin or end with a hyphen",
        ),
    ];
    for (_, fault) in faults.iter().filter(|(wrong, _)| *wrong) {
        report.invalid(field, name, fault);
    }
}

pub(super) const PROTOCOLS: &[&str] = &["SCTP", "TCP", "UDP"];

/// Says so for each value seen before; empty ones are another error.
pub(super) fn unique(seen: &mut HashSet<String>, value: &str, field: &Field, report: &mut Report) {
    if !value.is_empty() && !seen.insert(value.to_owned()) {
        report.duplicate(field, value);
    }
}

/// Keys and values of labels.
pub(super) fn labels(object: &Value, key: &str, field: &Field, report: &mut Report) {
    let field = field.child(key);
    for (key, value) in map(object, key) {
        report.extend(validate_qualified_name(field.as_str(), key));
        report.extend(validate_label_value(
            field.as_str(),
            value.as_str().unwrap_or_default(),
        ));
    }
}

pub(super) fn annotations(object: &Value, key: &str, field: &Field, report: &mut Report) {
    let field = field.child(key);
    for (key, _) in map(object, key) {
        // Upper case is allowed in the prefix of annotations.
        report.extend(validate_qualified_name(field.as_str(), &key.to_lowercase()));
    }
}

/// A LabelSelector object, if it is there.
pub(super) fn selector(object: &Value, key: &str, field: &Field, report: &mut Report) {
    if let Some(selector) = present(object, key) {
        report.extend(LabelSelector::validate_object(
            field.child(key).as_str(),
            selector,
        ));
    }
}

/// Whether a selector object says nothing.
pub(super) fn selects_everything(selector: &Value) -> bool {
    map(selector, "matchLabels").next().is_none() && list(selector, "matchExpressions").is_empty()
}

/// An int-or-percent that may not be below zero nor, as a percentage, above a hundred.
pub(super) fn int_or_percent(
    object: &Value,
    key: &str,
    at_most_all: bool,
    field: &Field,
    report: &mut Report,
) {
    let field = field.child(key);
    match present(object, key) {
        Some(Value::Number(number)) if number.as_i64().is_some_and(|n| n < 0) => {
            report.invalid(&field, number.as_i64(), "must be greater than or equal to 0");
        }
        Some(Value::String(text)) => match percent(text) {
            None => report.invalid(
                &field,
                text.as_str(),
                "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')",
            ),
            Some(value) if at_most_all && value > 100 => {
                report.invalid(&field, text.as_str(), "must not be greater than 100%");
            }
            Some(_) => {}
        },
        _ => {}
    }
}

fn percent(text: &str) -> Option<u64> {
    let digits = text.strip_suffix('%').filter(|d| !d.is_empty())?;
    digits
        .bytes()
        .all(|b| b.is_ascii_digit())
        .then(|| digits.parse().unwrap_or(u64::MAX))
}

/// The number of an int-or-percent.
pub(super) fn amount(object: &Value, key: &str) -> u64 {
    match object.get(key) {
        Some(Value::String(text)) => percent(text).unwrap_or(0),
        Some(value) => value.as_i64().unwrap_or(0).unsigned_abs(),
        None => 0,
    }
}

/// Whether two values mean the same: absent, null and empty are one.
pub(super) fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            let covered = |a: &Map<String, Value>, b: &Map<String, Value>| {
                a.iter()
                    .all(|(key, value)| same(value, b.get(key).unwrap_or(&Value::Null)))
            };
            covered(a, b) && covered(b, a)
        }
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        _ => a == b || (is_empty(a) && is_empty(b)),
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
        _ => false,
    }
}

/// Writes a member of an object; anything else stays as it is.
pub(super) fn put(object: &mut Value, key: &str, value: Value) {
    if let Some(members) = object.as_object_mut() {
        members.insert(key.to_owned(), value);
    }
}

/// The items of a list for writing; none if it is no list.
pub(super) fn items_mut<'a>(
    object: &'a mut Value,
    key: &str,
) -> impl Iterator<Item = &'a mut Value> {
    object
        .get_mut(key)
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
}
