//! The object form of label selectors (`meta/v1` LabelSelector).

use serde_json::Value;

use super::{LabelSelector, Operator, Requirement};
use crate::meta::{label_value_faults, qualified_name_faults};
use crate::status::Cause;

/// Reads a selector object. The fields of the errors begin with `.` (or are empty, for the
/// selector itself), so that a caller can put its own path in front.
pub(super) fn read(selector: &Value) -> Result<LabelSelector, Vec<Cause>> {
    let Value::Object(map) = selector else {
        return Err(vec![Cause::type_invalid("", selector, "must be an object")]);
    };
    let mut causes = Vec::new();
    let mut requirements = match_labels(map.get("matchLabels"), &mut causes);
    match map.get("matchExpressions") {
        None | Some(Value::Null) => {}
        Some(Value::Array(items)) => {
            for (index, item) in items.iter().enumerate() {
                let field = format!(".matchExpressions[{index}]");
                requirements.extend(expression(&field, item, &mut causes));
            }
        }
        Some(other) => {
            causes.push(Cause::type_invalid(
                ".matchExpressions",
                other,
                "must be a list",
            ));
        }
    }
    if causes.is_empty() {
        Ok(requirements.into_iter().collect())
    } else {
        Err(causes)
    }
}

fn invalid(field: impl Into<String>, text: &str, faults: Vec<String>) -> Vec<Cause> {
    let field = field.into();
    let value = Value::from(text);
    faults
        .into_iter()
        .map(|fault| Cause::invalid(field.clone(), &value, fault))
        .collect()
}

fn match_labels(labels: Option<&Value>, causes: &mut Vec<Cause>) -> Vec<Requirement> {
    let field = ".matchLabels";
    let mut requirements = Vec::new();
    match labels {
        None | Some(Value::Null) => {}
        Some(Value::Object(map)) => {
            for (key, value) in map {
                causes.extend(invalid(field, key, qualified_name_faults(key)));
                let Some(text) = text_or_null(value) else {
                    let at = format!("{field}[{key}]");
                    causes.push(Cause::type_invalid(at, value, "must be a string"));
                    continue;
                };
                causes.extend(invalid(field, text, label_value_faults(text)));
                requirements.push(Requirement::equals(key, text));
            }
        }
        Some(other) => causes.push(Cause::type_invalid(field, other, "must be an object")),
    }
    requirements
}

/// Text; null reads as empty, as in a decoded map of strings.
fn text_or_null(value: &Value) -> Option<&str> {
    if value.is_null() {
        Some("")
    } else {
        value.as_str()
    }
}

fn expression(field: &str, item: &Value, causes: &mut Vec<Cause>) -> Option<Requirement> {
    if !item.is_object() {
        causes.push(Cause::type_invalid(field, item, "must be an object"));
        return None;
    }
    let member = |name: &str| item.get(name).unwrap_or(&Value::Null);
    let key = member("key");
    let values = values(field, member("values"), causes)?;
    let key_text = text_or_null(key);
    let operator = operator(field, member("operator"), values, causes);
    match key_text {
        Some(text) => {
            causes.extend(invalid(
                format!("{field}.key"),
                text,
                qualified_name_faults(text),
            ));
        }
        None => {
            causes.push(Cause::type_invalid(
                format!("{field}.key"),
                key,
                "must be a string",
            ));
        }
    }
    Some(Requirement {
        key: key_text?.to_owned(),
        operator: operator?,
    })
}

fn values(field: &str, values: &Value, causes: &mut Vec<Cause>) -> Option<Vec<String>> {
    let field = format!("{field}.values");
    let items = match values {
        Value::Null => return Some(Vec::new()),
        Value::Array(items) => items,
        other => {
            causes.push(Cause::type_invalid(
                field,
                other,
                "must be a list of strings",
            ));
            return None;
        }
    };
    let mut texts = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        let field = format!("{field}[{index}]");
        match text_or_null(item) {
            Some(text) => {
                causes.extend(invalid(field, text, label_value_faults(text)));
                texts.push(text.to_owned());
            }
            None => causes.push(Cause::type_invalid(field, item, "must be a string")),
        }
    }
    Some(texts)
}

fn operator(
    field: &str,
    operator: &Value,
    values: Vec<String>,
    causes: &mut Vec<Cause>,
) -> Option<Operator> {
    let at = format!("{field}.values");
    let needed = "must be specified when `operator` is 'In' or 'NotIn'";
    let refused = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
    match (operator.as_str(), values.is_empty()) {
        (Some("In"), false) => return Some(Operator::In(values)),
        (Some("NotIn"), false) => return Some(Operator::NotIn(values)),
        (Some("Exists"), true) => return Some(Operator::Exists),
        (Some("DoesNotExist"), true) => return Some(Operator::DoesNotExist),
        (Some("In" | "NotIn"), true) => causes.push(Cause::required(at, needed)),
        (Some("Exists" | "DoesNotExist"), false) => causes.push(Cause::forbidden(at, refused)),
        _ => causes.push(Cause::invalid(
            format!("{field}.operator"),
            operator,
            "not a valid selector operator (use In, NotIn, Exists or DoesNotExist)",
        )),
    }
    None
}
