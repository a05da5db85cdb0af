//! Properties over generated schemas and objects.

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-c]{0,3}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-e]", inner, 0..5)
                .prop_map(|m| Value::Object(m.into_iter().collect())),
        ]
    })
}

/// Structural schemas, defaults included where they are valid.
fn schemas() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(json!({"type": "string", "default": "d"})),
        Just(json!({"type": "string", "nullable": true, "maxLength": 2, "pattern": "^a"})),
        Just(json!({"type": "integer", "minimum": 0, "default": 3})),
        Just(json!({"type": "number", "multipleOf": 0.5})),
        Just(json!({"type": "boolean"})),
        Just(json!({"x-kubernetes-int-or-string": true})),
        Just(json!({"x-kubernetes-preserve-unknown-fields": true})),
    ];
    leaf.prop_recursive(4, 30, 4, |inner| {
        let properties = prop::collection::btree_map("[a-e]", inner.clone(), 0..4);
        prop_oneof![
            inner.clone().prop_map(|s| {
                let scalar = !matches!(s["type"].as_str(), Some("object" | "array"));
                let kind = if scalar { "set" } else { "atomic" };
                json!({"type": "array", "items": s, "x-kubernetes-list-type": kind})
            }),
            inner.prop_map(|s| json!({"type": "object", "additionalProperties": s, "minProperties": 1})),
            (properties, any::<bool>(), any::<bool>()).prop_map(|(p, open, default)| {
                let mut schema = json!({"type": "object", "properties": p, "anyOf": [{"required": ["a"]}, {"not": {"required": ["b"]}}]});
                if open {
                    schema["x-kubernetes-preserve-unknown-fields"] = json!(true);
                }
                if default {
                    schema["nullable"] = json!(true);
                }
                schema
            }),
        ]
    })
}

proptest! {
    #[test]
    fn pruning_and_defaulting_twice_change_nothing_more(schema in schemas(), value in values()) {
        let schema = spec(json!({"x": schema}));
        let mut object = json!({"spec": {"x": value}});
        schema.prune(&mut object);
        schema.default(&mut object);
        let once = object.clone();
        prop_assert_eq!(schema.prune(&mut object), Vec::<String>::new());
        schema.default(&mut object);
        prop_assert_eq!(object, once);
    }

    #[test]
    fn no_schema_and_no_object_make_anything_panic(schema in values(), like in schemas(), value in values()) {
        let _ = Schema::compile(&schema);
        let _ = Schema::compile_with(&schema, Arc::default());
        let like = spec(json!({"x": like}));
        for mut object in [value.clone(), json!({"spec": {"x": value.clone()}}), json!({"metadata": value})] {
            like.validate(&object);
            like.validate_update(&object, &json!({"spec": {"x": []}}));
            like.prune(&mut object);
            like.default(&mut object);
        }
    }
}
