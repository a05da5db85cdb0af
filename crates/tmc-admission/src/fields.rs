//! Reading, filling and checking fields of JSON objects.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tmc_api::quantities::{Quantity, ResourceList};
use tmc_api::time::Span;
use tmc_apimachinery::definition::NameRule;
use tmc_apimachinery::meta;
use tmc_apimachinery::selector::LabelSelector;
use tmc_apimachinery::status::Cause;

/// A field, unless it is absent or null.
pub(crate) fn present<'a>(object: &'a Value, pointer: &str) -> Option<&'a Value> {
    object.pointer(pointer).filter(|value| !value.is_null())
}

/// Sets `field` of the object at `parent` if it is absent or null; leaves everything else as it
/// is, an explicit zero included. What is no object is left for validation to refuse.
pub(crate) fn fill(parent: &mut Value, field: &str, default: impl FnOnce() -> Value) {
    let Some(members) = parent.as_object_mut() else {
        return;
    };
    if members.get(field).is_none_or(Value::is_null) {
        members.insert(field.to_owned(), default());
    }
}

/// `field` of `parent` as an object, made where absent or null; `None` where there is anything
/// else.
pub(crate) fn child<'a>(parent: &'a mut Value, field: &str) -> Option<&'a mut Value> {
    fill(parent, field, || json!({}));
    parent.get_mut(field).filter(|value| value.is_object())
}

/// The items of a list field; none where there is no list.
pub(crate) fn items<'a>(parent: &'a mut Value, field: &str) -> impl Iterator<Item = &'a mut Value> {
    parent
        .get_mut(field)
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
}

/// Reads a part of an object as its type; an absent or null one as `{}`.
pub(crate) fn read<T: DeserializeOwned>(
    field: &str,
    value: Option<&Value>,
) -> Result<T, Vec<Cause>> {
    let value = value
        .filter(|v| !v.is_null())
        .cloned()
        .unwrap_or_else(|| json!({}));
    if !value.is_object() {
        return Err(vec![Cause::type_invalid(
            field,
            &value,
            "must be an object",
        )]);
    }
    serde_json::from_value(value).map_err(|error| {
        vec![Cause {
            reason: "FieldValueInvalid".into(),
            message: format!("Invalid value: {error}"),
            field: field.to_owned(),
        }]
    })
}

/// Errors of a text that must be a DNS-1123 label.
pub(crate) fn dns_label(field: &str, text: &str) -> Vec<Cause> {
    name(field, text, NameRule::Label)
}

/// Errors of a text that must be a DNS-1123 subdomain.
pub(crate) fn dns_subdomain(field: &str, text: &str) -> Vec<Cause> {
    name(field, text, NameRule::Subdomain)
}

fn name(field: &str, text: &str, rule: NameRule) -> Vec<Cause> {
    if text.is_empty() {
        return vec![Cause::required(field, "must not be empty")];
    }
    meta::validate_name(field, text, rule)
}

/// Errors of labels: keys and values, keys of a reserved domain if they are not wanted.
pub(crate) fn labels(field: &str, labels: &BTreeMap<String, String>) -> Vec<Cause> {
    let mut causes = Vec::new();
    for (key, value) in labels {
        let at = format!("{field}[{key}]");
        causes.extend(meta::validate_qualified_name(&at, key));
        causes.extend(meta::validate_label_value(&at, value));
    }
    causes
}

/// Errors of an optional label selector, taken from the object as it is.
pub(crate) fn selector(field: &str, value: Option<&Value>) -> Vec<Cause> {
    value
        .map(|v| LabelSelector::validate_object(field, v))
        .unwrap_or_default()
}

/// Errors of a workspace path.
pub(crate) fn workspace_path(field: &str, path: &str) -> Vec<Cause> {
    if tmc_apimachinery::names::is_workspace_path(path) {
        return Vec::new();
    }
    let why =
        "must be a workspace path: lower-case names separated by ':', such as \"root:compute\"";
    vec![Cause::invalid(field, &json!(path), why)]
}

/// What a quantity must be.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sign {
    /// Zero or more.
    NotNegative,
    /// More than zero.
    Positive,
}

/// Errors of a list of resources: names and signs.
pub(crate) fn resources(field: &str, list: &ResourceList, sign: Sign) -> Vec<Cause> {
    let mut causes = Vec::new();
    for (name, quantity) in list {
        let at = format!("{field}[{name}]");
        causes.extend(meta::validate_qualified_name(&at, name));
        causes.extend(quantity_sign(&at, quantity, sign));
    }
    causes
}

fn quantity_sign(field: &str, quantity: &Quantity, sign: Sign) -> Option<Cause> {
    let value = json!(quantity.to_string());
    match sign {
        _ if quantity.is_negative() => Some(Cause::invalid(
            field,
            &value,
            "must be greater than or equal to 0",
        )),
        Sign::Positive if quantity.is_zero() => {
            Some(Cause::invalid(field, &value, "must be greater than 0"))
        }
        _ => None,
    }
}

/// Errors where an amount of `lower` is above that of the same resource in `upper`.
pub(crate) fn not_above(
    field: &str,
    lower: &ResourceList,
    upper: &ResourceList,
    what: &str,
) -> Vec<Cause> {
    let above = lower
        .iter()
        .filter(|(name, amount)| upper.get(*name).is_some_and(|u| *amount > u));
    above
        .map(|(name, amount)| {
            let why = format!("must be less than or equal to the {what} of {name}");
            Cause::invalid(format!("{field}[{name}]"), &json!(amount.to_string()), why)
        })
        .collect()
}

/// Errors of an optional span outside of its bounds.
pub(crate) fn span(field: &str, span: Option<Span>, least: Duration, most: Duration) -> Vec<Cause> {
    let Some(span) = span else { return Vec::new() };
    let why = if span.is_zero() {
        "must be greater than 0".to_owned()
    } else if span.duration() < least || span.duration() > most {
        format!(
            "must be between {} and {}",
            Span::new(least),
            Span::new(most)
        )
    } else {
        return Vec::new();
    };
    vec![Cause::invalid(field, &json!(span), why)]
}

/// Errors of fields that came a second time: `at(i)` names the field of the i-th.
pub(crate) fn duplicates<K: Ord>(
    keys: impl IntoIterator<Item = K>,
    at: impl Fn(usize) -> String,
    show: impl Fn(&K) -> Value,
) -> Vec<Cause> {
    let mut seen = std::collections::BTreeSet::new();
    let mut causes = Vec::new();
    for (i, key) in keys.into_iter().enumerate() {
        if seen.contains(&key) {
            causes.push(Cause::duplicate(at(i), &show(&key)));
        }
        seen.insert(key);
    }
    causes
}

/// The error of a field that cannot change (any more).
pub(crate) fn immutable(field: &str, new: Option<&Value>) -> Cause {
    Cause::invalid(field, new.unwrap_or(&Value::Null), "field is immutable")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filling_replaces_absence_and_null_and_nothing_else() {
        let mut object = json!({"zero": 0, "no": false, "empty": "", "null": null});
        for field in ["zero", "no", "empty", "null", "absent"] {
            fill(&mut object, field, || json!("default"));
        }
        assert_eq!(
            object,
            json!({"zero": 0, "no": false, "empty": "", "null": "default", "absent": "default"})
        );
        let mut list = json!([1]);
        fill(&mut list, "a", || json!(1));
        assert_eq!(list, json!([1]));
    }

    #[test]
    fn a_child_is_made_where_nothing_is_and_left_where_something_else_is() {
        let mut object = json!({"text": "x"});
        assert!(child(&mut object, "spec").is_some());
        assert!(child(&mut object, "text").is_none());
        assert_eq!(object, json!({"text": "x", "spec": {}}));
    }

    #[test]
    fn a_span_has_bounds_and_zero_its_own_message() {
        let check = |text: &str| {
            let (least, most) = (Duration::from_secs(1), Duration::from_secs(60));
            span("f", Some(text.parse().unwrap()), least, most)
        };
        assert!(check("1s").is_empty() && check("1m").is_empty());
        assert!(check("0s")[0].message.contains("greater than 0"));
        assert!(check("61s")[0].message.contains("between 1s and 1m0s"));
        assert!(check("10ms")[0].message.contains("between"));
    }

    #[test]
    fn duplicates_are_named_where_they_come_again() {
        let causes = duplicates(["a", "b", "a"], |i| format!("x[{i}]"), |k| json!(k));
        assert_eq!(causes.len(), 1);
        assert_eq!(causes[0].field, "x[2]");
    }

    #[test]
    fn amounts_are_compared_by_resource() {
        let list = |value: Value| serde_json::from_value::<ResourceList>(value).unwrap();
        let low = list(json!({"cpu": "2", "memory": "1Gi", "pods": 5}));
        let high = list(json!({"cpu": "1500m", "memory": "1Gi"}));
        let causes = not_above("f", &low, &high, "limit");
        assert_eq!(causes.len(), 1);
        assert_eq!(causes[0].field, "f[cpu]");
    }
}
