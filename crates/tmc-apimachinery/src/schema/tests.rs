//! The rules of schemas as tables, and properties over generated schemas and objects.

use serde_json::json;

use super::*;

mod definitions;
mod hostile;
mod properties;
mod structural;

/// A resource schema whose `spec` has the given properties.
fn spec(properties: Value) -> Schema {
    compiled(json!({
        "type": "object",
        "properties": {"spec": {"type": "object", "properties": properties}},
    }))
}

fn compiled(source: Value) -> Schema {
    Schema::compile(&source).unwrap_or_else(|causes| panic!("{causes:#?}"))
}

/// What validation says of one value in `spec.x`, as `field: message` lines.
fn says(x: Value, value: Value) -> Vec<String> {
    lines(spec(json!({"x": x})).validate(&json!({"spec": {"x": value}})))
}

fn lines(causes: Vec<Cause>) -> Vec<String> {
    causes
        .into_iter()
        .map(|c| format!("{}: {}", c.field, c.message))
        .collect()
}

#[test]
fn pruning_drops_and_names_what_the_schema_does_not_know() {
    let schema = spec(json!({
        "a": {"type": "integer"},
        "list": {"type": "array", "items": {"type": "object", "properties": {"n": {"type": "string"}}}},
        "map": {"type": "object", "additionalProperties": {"type": "object", "properties": {"k": {"type": "string"}}}},
        "open": {"type": "object", "x-kubernetes-preserve-unknown-fields": true,
                 "properties": {"closed": {"type": "object", "properties": {"in": {"type": "string"}}}}},
        "free": {"type": "object", "additionalProperties": true},
        "pod": {"type": "object", "x-kubernetes-embedded-resource": true,
                "properties": {"spec": {"type": "object"}}},
        "bag": {"x-kubernetes-preserve-unknown-fields": true},
    }));
    let mut object = json!({
        "apiVersion": "v1", "kind": "K", "extra": 1,
        "metadata": {"name": "n", "odd": 1, "labels": {"a": "b"}, "managedFields": [{"fieldsV1": {"f:x": {}}, "y": 1}]},
        "spec": {
            "a": 1, "b": 2,
            "list": [{"n": "x", "m": 1}, "scalar"],
            "map": {"one": {"k": "v", "z": 1}},
            "open": {"any": {"thing": 1}, "closed": {"in": "x", "out": 1}},
            "free": {"scalar": 1, "object": {"x": 1}},
            "pod": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "odd": 1}, "spec": {"x": 1}, "y": 1},
            "bag": {"x": [{"y": {"z": 1}}]},
        },
    });
    let dropped = schema.prune(&mut object);
    assert_eq!(
        dropped,
        [
            "extra",
            "metadata.managedFields[0].y",
            "metadata.odd",
            "spec.b",
            "spec.free.object.x",
            "spec.list[0].m",
            "spec.map.one.z",
            "spec.open.closed.out",
            "spec.pod.metadata.odd",
            "spec.pod.spec.x",
            "spec.pod.y",
        ]
    );
    assert_eq!(
        object,
        json!({
            "apiVersion": "v1", "kind": "K",
            "metadata": {"name": "n", "labels": {"a": "b"}, "managedFields": [{"fieldsV1": {"f:x": {}}}]},
            "spec": {
                "a": 1,
                "list": [{"n": "x"}, "scalar"],
                "map": {"one": {"k": "v"}},
                "open": {"any": {"thing": 1}, "closed": {"in": "x"}},
                "free": {"scalar": 1, "object": {}},
                "pod": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {}},
                "bag": {"x": [{"y": {"z": 1}}]},
            },
        })
    );
    assert_eq!(schema.prune(&mut object), Vec::<String>::new());
}

#[test]
fn defaults_fill_absent_fields_and_replace_nulls_that_mean_nothing() {
    let schema = spec(json!({
        "replicas": {"type": "integer", "default": 1},
        "mode": {"type": "string", "nullable": true, "default": "a"},
        "plain": {"type": "string"},
        "nullable": {"type": "string", "nullable": true},
        "deep": {"type": "object", "default": {}, "properties": {"x": {"type": "integer", "default": 7}}},
        "list": {"type": "array", "items": {"type": "object", "properties": {"p": {"type": "string", "default": "TCP"}}}},
        "map": {"type": "object", "additionalProperties": {"type": "object", "properties": {"v": {"type": "integer", "default": 2}}}},
    }));
    let mut object = json!({
        "metadata": {"name": "n", "creationTimestamp": null},
        "spec": {"replicas": null, "mode": null, "plain": null, "nullable": null,
                 "list": [{}, {"p": "UDP"}], "map": {"a": {}, "b": null}},
    });
    schema.default(&mut object);
    assert_eq!(
        object,
        json!({
            "metadata": {"name": "n"},
            "spec": {"replicas": 1, "mode": null, "nullable": null, "deep": {"x": 7},
                     "list": [{"p": "TCP"}, {"p": "UDP"}], "map": {"a": {"v": 2}}},
        })
    );
    let mut empty = json!({});
    schema.default(&mut empty);
    assert_eq!(empty, json!({})); // no default, no spec
}

#[test]
fn mistakes_read_as_kubernetes_words_them() {
    let int = json!({"type": "integer"});
    let cases = [
        (
            int.clone(),
            json!("string"),
            r#"spec.x: Invalid value: "string": spec.x in body must be of type integer: "string""#,
        ),
        (
            int.clone(),
            json!(null),
            r#"spec.x: Invalid value: "null": spec.x in body must be of type integer: "null""#,
        ),
        (
            int,
            json!(1.5),
            r#"spec.x: Invalid value: "number": spec.x in body must be of type integer: "number""#,
        ),
        (
            json!({"type": "integer"}),
            json!(1e30),
            r#"spec.x: Invalid value: "number": spec.x in body must be of type integer: "number""#,
        ),
        (
            json!({"type": "integer", "format": "int32"}),
            json!(1.5),
            r#"spec.x: Invalid value: "float64": spec.x in body must be of type int32: "float64""#,
        ),
        (
            json!({"type": "string", "format": "date-time"}),
            json!(3),
            r#"spec.x: Invalid value: "int64": spec.x in body must be of type date-time: "int64""#,
        ),
        (
            json!({"type": "number", "maximum": 1e22}),
            json!(1e23),
            "spec.x: Invalid value: 1e+23: spec.x in body should be less than or equal to 1e+22",
        ),
        (
            json!({"type": "number", "format": "float"}),
            json!(1e300),
            "spec.x: Invalid value: 1e+300: Checked value must be of type number with format float in spec.x",
        ),
        (
            json!({"type": "string"}),
            json!([1]),
            r#"spec.x: Invalid value: "array": spec.x in body must be of type string: "array""#,
        ),
        (
            json!({"x-kubernetes-int-or-string": true}),
            json!(true),
            r#"spec.x: Invalid value: "boolean": spec.x in body must be of type integer,string: "boolean""#,
        ),
        (
            json!({"type": "integer", "format": "int32"}),
            json!(3_000_000_000_u64),
            "spec.x: Invalid value: 3000000000: Checked value must be of type integer with format int32 in spec.x",
        ),
        (
            json!({"type": "integer", "format": "int32"}),
            json!(true),
            r#"spec.x: Invalid value: "": spec.x in body must be of type int32: """#,
        ),
        (
            json!({"type": "string", "enum": ["a", "b"]}),
            json!("c"),
            r#"spec.x: Unsupported value: "c": supported values: "a", "b""#,
        ),
        (
            json!({"type": "integer", "enum": [1, 2]}),
            json!(3),
            r#"spec.x: Unsupported value: 3: supported values: "1", "2""#,
        ),
        (
            json!({"type": "string", "pattern": "^a$"}),
            json!("b"),
            "spec.x: Invalid value: \"b\": spec.x in body should match '^a$'",
        ),
        (
            json!({"type": "string", "maxLength": 2}),
            json!("äöü"),
            "spec.x: Too long: may not be more than 2 bytes",
        ),
        (
            json!({"type": "string", "minLength": 3}),
            json!("ab"),
            "spec.x: Invalid value: \"ab\": spec.x in body should be at least 3 chars long",
        ),
        (
            json!({"type": "string", "format": "date-time"}),
            json!("now"),
            r#"spec.x: Invalid value: "now": spec.x in body must be of type date-time: "now""#,
        ),
        (
            json!({"type": "integer", "maximum": 10}),
            json!(11),
            "spec.x: Invalid value: 11: spec.x in body should be less than or equal to 10",
        ),
        (
            json!({"type": "integer", "maximum": 10, "exclusiveMaximum": true}),
            json!(10),
            "spec.x: Invalid value: 10: spec.x in body should be less than 10",
        ),
        (
            json!({"type": "number", "minimum": 0.5}),
            json!(0.25),
            "spec.x: Invalid value: 0.25: spec.x in body should be greater than or equal to 0.5",
        ),
        (
            json!({"type": "integer", "minimum": 0, "exclusiveMinimum": true}),
            json!(0),
            "spec.x: Invalid value: 0: spec.x in body should be greater than 0",
        ),
        (
            json!({"type": "integer", "multipleOf": 5}),
            json!(7),
            "spec.x: Invalid value: 7: spec.x in body should be a multiple of 5",
        ),
        (
            json!({"type": "array", "items": {"type": "integer"}, "maxItems": 1}),
            json!([1, 2]),
            "spec.x: Too many: 2: must have at most 1 item",
        ),
        (
            json!({"type": "array", "items": {"type": "integer"}, "minItems": 1}),
            json!([]),
            "spec.x: Invalid value: 0: spec.x in body should have at least 1 items",
        ),
        (
            json!({"type": "array", "items": {"type": "integer"}}),
            json!([1, "x"]),
            r#"spec.x[1]: Invalid value: "string": spec.x[1] in body must be of type integer: "string""#,
        ),
        (
            json!({"type": "object", "additionalProperties": {"type": "integer"}}),
            json!({"k": "x"}),
            r#"spec.x.k: Invalid value: "string": spec.x.k in body must be of type integer: "string""#,
        ),
        (
            json!({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}),
            json!({}),
            "spec.x.a: Required value",
        ),
        (
            json!({"type": "object", "additionalProperties": {"type": "integer"}, "maxProperties": 1}),
            json!({"a": 1, "b": 2}),
            "spec.x: Too many: 2: must have at most 1 item",
        ),
        (
            json!({"type": "object", "additionalProperties": {"type": "integer"}, "minProperties": 1}),
            json!({}),
            "spec.x: Invalid value: 0: spec.x in body should have at least 1 properties",
        ),
        (
            json!({"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"}),
            json!(["a", "b", "a", "a"]),
            r#"spec.x[2]: Duplicate value: "a""#,
        ),
    ];
    for (schema, value, expected) in cases {
        assert_eq!(
            says(schema.clone(), value.clone()),
            [expected],
            "{schema} {value}"
        );
    }
}

#[test]
fn what_is_valid_passes() {
    for (schema, value) in [
        (json!({"type": "integer"}), json!(1.0)),
        (json!({"type": "number"}), json!(1)),
        (json!({"type": "string", "nullable": true}), json!(null)),
        (json!({"x-kubernetes-int-or-string": true}), json!("10%")),
        (
            json!({"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]}),
            json!(1),
        ),
        (
            json!({"x-kubernetes-int-or-string": true, "allOf": [{"anyOf": [{"type": "integer"}, {"type": "string"}]}, {"pattern": "x"}]}),
            json!(3),
        ),
        (json!({"type": "string", "format": "made-up"}), json!("?")),
        (json!({"type": "number", "multipleOf": 0.1}), json!(0.3)),
        (json!({"type": "integer", "enum": [1, 2]}), json!(2.0)),
        (json!({"type": "string", "maxLength": 3}), json!("äöü")),
    ] {
        assert_eq!(
            says(schema.clone(), value.clone()),
            Vec::<String>::new(),
            "{schema} {value}"
        );
    }
}

#[test]
fn nested_value_validations_explain_the_branch_that_fits_best() {
    let object = |rules: Value| {
        let mut schema = json!({"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "integer"}}});
        schema
            .as_object_mut()
            .expect("object")
            .extend(rules.as_object().expect("object").clone());
        schema
    };
    let any = object(
        json!({"anyOf": [{"required": ["a"]}, {"required": ["b"], "properties": {"b": {"minimum": 5}}}]}),
    );
    assert_eq!(says(any.clone(), json!({"a": "x"})), Vec::<String>::new());
    assert_eq!(
        says(any, json!({})),
        [
            "spec.x: Invalid value: \"\": \"spec.x\" must validate at least one schema (anyOf)",
            "spec.x.a: Required value"
        ]
    );
    let one = object(json!({"oneOf": [{"required": ["a"]}, {"required": ["b"]}]}));
    assert_eq!(says(one.clone(), json!({"b": 1})), Vec::<String>::new());
    assert_eq!(
        says(one, json!({"a": "x", "b": 1})),
        [
            "spec.x: Invalid value: \"\": \"spec.x\" must validate one and only one schema (oneOf). Found 2 valid alternatives"
        ]
    );
    let all =
        object(json!({"allOf": [{"required": ["a"]}, {"properties": {"b": {"maximum": 1}}}]}));
    assert_eq!(
        says(all, json!({"a": "x", "b": 2})),
        [
            "spec.x.b: Invalid value: 2: spec.x.b in body should be less than or equal to 1",
            "spec.x: Invalid value: \"\": \"spec.x\" must validate all the schemas (allOf)",
        ]
    );
    let not = object(json!({"not": {"required": ["a"]}}));
    assert_eq!(
        says(not, json!({"a": "x"})),
        ["spec.x: Invalid value: \"\": \"spec.x\" must not validate the schema (not)"]
    );
}

#[test]
fn lists_of_type_map_refuse_two_items_of_one_key() {
    let list = |keys: Value| {
        json!({
            "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": keys,
            "items": {"type": "object", "required": ["n"],
                      "properties": {"n": {"type": "string"}, "p": {"type": "string", "default": "TCP"}}},
        })
    };
    assert_eq!(
        says(
            list(json!(["n"])),
            json!([{"n": "a"}, {"n": "b"}, {"n": "a"}])
        ),
        [r#"spec.x[2]: Duplicate value: {"n":"a"}"#]
    );
    let two = list(json!(["n", "p"]));
    assert_eq!(
        says(two.clone(), json!([{"n": "a", "p": "UDP"}, {"n": "a"}])),
        Vec::<String>::new()
    );
    assert_eq!(
        says(two, json!([{"n": "a", "p": "UDP"}, {"n": "a", "p": "UDP"}])),
        [r#"spec.x[1]: Duplicate value: {"n":"a","p":"UDP"}"#]
    );
}

#[test]
fn metadata_is_checked_whatever_the_schema_says() {
    let schema = spec(json!({}));
    assert_eq!(
        lines(schema.validate(&json!({"metadata": {"labels": {"a": 1}, "finalizers": "x"}}))),
        [
            r#"metadata.finalizers: Invalid value: "string": metadata.finalizers in body must be of type array: "string""#,
            r#"metadata.labels.a: Invalid value: "integer": metadata.labels.a in body must be of type string: "integer""#,
        ]
    );
    let named = compiled(json!({"type": "object", "properties": {"metadata": {
        "type": "object", "properties": {"name": {"type": "string", "maxLength": 3}}}}}));
    assert_eq!(
        lines(named.validate(&json!({"metadata": {"name": "long"}}))),
        ["metadata.name: Too long: may not be more than 3 bytes"]
    );
}

#[test]
fn an_embedded_resource_must_say_what_it_is() {
    let pod = json!({"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true});
    assert_eq!(
        says(pod.clone(), json!({"kind": 1, "metadata": {"name": 1}})),
        [
            "spec.x.apiVersion: Required value",
            r#"spec.x.kind: Invalid value: "integer": spec.x.kind in body must be of type string: "integer""#,
            r#"spec.x.metadata.name: Invalid value: "integer": spec.x.metadata.name in body must be of type string: "integer""#,
        ]
    );
    assert_eq!(
        says(pod, json!({"apiVersion": "v1", "kind": "Pod", "any": 1})),
        Vec::<String>::new()
    );
}

#[test]
fn an_update_is_not_blamed_for_what_it_leaves_alone() {
    let schema = spec(json!({
        "old": {"type": "string", "maxLength": 1},
        "list": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["n"],
                 "items": {"type": "object", "required": ["n"], "properties": {"n": {"type": "string"}, "v": {"type": "integer", "maximum": 1}}}},
    }));
    let old =
        json!({"spec": {"old": "too long", "list": [{"n": "a", "v": 5}, {"n": "b", "v": 1}]}});
    let mut new =
        json!({"spec": {"old": "too long", "list": [{"n": "b", "v": 9}, {"n": "a", "v": 5}]}});
    assert_eq!(
        lines(schema.validate_update(&new, &old)),
        [
            "spec.list[0].v: Invalid value: 9: spec.list[0].v in body should be less than or equal to 1"
        ]
    );
    new["spec"]["old"] = json!("changed");
    assert_eq!(schema.validate_update(&new, &old).len(), 2);
    assert_eq!(schema.validate(&old).len(), 2);
}
