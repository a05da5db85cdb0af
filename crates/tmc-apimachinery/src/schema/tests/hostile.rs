//! Schemas and objects that are meant to hurt.

use serde_json::json;

use super::*;

fn mistakes(source: Value) -> Vec<String> {
    Schema::compile(&source)
        .map(|_| Vec::new())
        .unwrap_or_else(lines)
}

#[test]
fn hostile_schemas_are_refused_and_hostile_objects_end() {
    let mut deep = json!({"type": "object"});
    for _ in 0..80 {
        deep = json!({"type": "object", "properties": {"x": deep}});
    }
    assert!(mistakes(deep)[0].contains("must not nest more than 64 schemas"));
    let wide: serde_json::Map<_, _> = (0..100_001)
        .map(|i| (format!("p{i}"), json!({"type": "string"})))
        .collect();
    assert!(
        mistakes(json!({"type": "object", "properties": wide}))[0]
            .contains("must not hold more than")
    );
    // A small object cannot be blown up without bound.
    let big = "x".repeat(1 << 20);
    let bomb = spec(
        json!({"l": {"type": "array", "items": {"type": "object", "properties": {"d": {"type": "string", "default": big}}}}}),
    );
    let mut object = json!({"spec": {"l": vec![json!({}); 1000]}});
    bomb.default(&mut object);
    assert!(object.to_string().len() < 20 << 20);
    // A mistake in each of many items is reported, but not without end.
    let list = json!({"type": "array", "items": {"type": "integer"}});
    assert_eq!(says(list, json!(vec!["x"; 10_000])).len(), 100);
    // A long value is not echoed whole.
    let said = says(
        json!({"type": "string", "pattern": "^a$"}),
        json!("b".repeat(100_000)),
    );
    assert!(said[0].len() < 3_000);
}

#[test]
fn a_validation_that_costs_too_much_is_refused_even_inside_a_branch() {
    let many: Vec<_> = (0..30_000).map(|i| json!({"maximum": i + 10})).collect();
    let schema = spec(json!({
        "l": {"type": "array", "items": {"type": "integer", "allOf": many}},
    }));
    let said = lines(schema.validate(&json!({"spec": {"l": vec![1; 2_000]}})));
    assert_eq!(
        said,
        [
            "<nil>: Invalid value: \"\": is nested too deeply, or its schema is too expensive, to be validated"
        ]
    );
}
