//! Whether an object is still as it was rendered.

use serde_json::Value;
use tmc_apimachinery::quantity::Quantity;

/// Whether everything of `desired` is in `found` with the same value, lists item by item. What a
/// server adds (defaults, status, metadata) does not count; an empty member counts as an absent one;
/// amounts are compared as amounts (`1000m` is `1`).
pub fn covers(found: &Value, desired: &Value) -> bool {
    match (found, desired) {
        (Value::Object(found), Value::Object(desired)) => {
            desired.iter().all(|(key, wanted)| match found.get(key) {
                Some(found) => covers(found, wanted),
                None => is_empty(wanted),
            })
        }
        (Value::Array(found), Value::Array(desired)) => {
            found.len() == desired.len() && found.iter().zip(desired).all(|(f, d)| covers(f, d))
        }
        (found, desired) => found == desired || same_amount(found, desired),
    }
}

fn same_amount(found: &Value, desired: &Value) -> bool {
    let amount = |value: &Value| -> Option<Quantity> {
        match value {
            Value::String(text) if text.starts_with(|c: char| c.is_ascii_digit()) => {
                text.parse().ok()
            }
            Value::Number(number) => number.to_string().parse().ok(),
            _ => None,
        }
    };
    matches!((amount(found), amount(desired)), (Some(a), Some(b)) if a == b)
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(members) => members.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::String(text) => text.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_server_adds_is_no_drift() {
        let desired =
            json!({"spec": {"replicas": 1, "cpu": "1000m", "volumes": [], "items": [{"a": 1}]}});
        let found = json!({
            "spec": {"replicas": 1, "cpu": "1", "paused": false, "items": [{"a": 1, "b": 2}]},
            "status": {"replicas": 1},
        });
        assert!(covers(&found, &desired));
    }

    #[test]
    fn a_changed_removed_or_added_part_is() {
        let desired = json!({"spec": {"replicas": 1, "items": [{"a": 1}]}});
        for found in [
            json!({"spec": {"replicas": 2, "items": [{"a": 1}]}}),
            json!({"spec": {"replicas": 1}}),
            json!({"spec": {"replicas": 1, "items": [{"a": 1}, {"a": 2}]}}),
            json!({"spec": {"replicas": 1, "items": [{"a": "1"}, {}]}}),
            json!({}),
        ] {
            assert!(!covers(&found, &desired), "{found}");
        }
    }
}
