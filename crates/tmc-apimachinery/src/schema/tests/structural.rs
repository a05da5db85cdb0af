//! What makes a schema of a custom resource acceptable.

use serde_json::json;

use super::*;

fn mistakes(source: Value) -> Vec<String> {
    Schema::compile(&source)
        .map(|_| Vec::new())
        .unwrap_or_else(lines)
}

#[test]
fn what_is_not_structural_is_refused_with_its_path() {
    let x = |schema: Value| json!({"type": "object", "properties": {"x": schema}});
    for (source, expected) in [
        (
            x(json!({"type": "object", "patternProperties": {}})),
            "properties[x].patternProperties: Forbidden: patternProperties is not supported",
        ),
        (
            x(json!({"type": "array", "items": [{"type": "string"}]})),
            "properties[x].items: Forbidden: items must be a schema object and not an array",
        ),
        (
            x(json!({"x-kubernetes-preserve-unknown-fields": false})),
            "properties[x].x-kubernetes-preserve-unknown-fields: Invalid value: false: must be true or undefined",
        ),
        (
            x(json!({"anyOf": [{"type": "integer"}, {"type": "string"}]})),
            "properties[x].type: Required value: must not be empty for specified object fields",
        ),
        (
            x(
                json!({"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "object"}}),
            ),
            "properties[x].items.x-kubernetes-map-type: Invalid value: null: must be atomic as item of a list with x-kubernetes-list-type=set",
        ),
        (
            x(
                json!({"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "array", "items": {"type": "string"}}}),
            ),
            "properties[x].items.x-kubernetes-list-type: Invalid value: null: must be atomic as item of a list with x-kubernetes-list-type=set",
        ),
        (
            x(
                json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["n"],
                     "items": {"type": "object", "required": ["n"], "properties": {"n": {"type": "object"}}}}),
            ),
            "properties[x].items.properties[n].type: Invalid value: \"object\": must be a scalar type if parent array's x-kubernetes-list-type is map",
        ),
        (
            x(
                json!({"type": "array", "items": {"type": "string"}, "x-kubernetes-list-map-keys": ["n"]}),
            ),
            "properties[x].x-kubernetes-list-type: Required value: must be map if x-kubernetes-list-map-keys is non-empty",
        ),
        (
            x(
                json!({"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["n"]}),
            ),
            "properties[x].items.type: Invalid value: \"string\": must be object if parent array's x-kubernetes-list-type is map",
        ),
        (
            x(json!({"type": "string", "x-kubernetes-map-type": "atomic"})),
            "properties[x].type: Invalid value: \"string\": must be object if x-kubernetes-map-type is specified",
        ),
        (
            x(
                json!({"x-kubernetes-int-or-string": true, "x-kubernetes-preserve-unknown-fields": true}),
            ),
            "properties[x].x-kubernetes-preserve-unknown-fields: Invalid value: true: must be false if x-kubernetes-int-or-string is true",
        ),
        (
            x(
                json!({"type": "string", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true}),
            ),
            "properties[x].type: Invalid value: \"string\": must be object if x-kubernetes-embedded-resource is true",
        ),
        (
            x(
                json!({"x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true}),
            ),
            "properties[x].type: Required value: must be object if x-kubernetes-embedded-resource is true",
        ),
        (
            x(
                json!({"type": "object", "additionalProperties": {"type": "string"}, "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true}),
            ),
            "properties[x].additionalProperties: Forbidden: must not be used if x-kubernetes-embedded-resource is set",
        ),
        (
            json!({"type": "object", "nullable": true}),
            "nullable: Forbidden: nullable cannot be true at the root",
        ),
        (
            json!({"type": "object", "properties": {"metadata": {"type": "object", "default": {}}}}),
            "properties[metadata].default: Forbidden: must not be set in top-level metadata",
        ),
        (
            json!({}),
            "type: Required value: must not be empty at the root",
        ),
        (
            json!("x"),
            ": Invalid value: \"x\": must be a schema object",
        ),
        (
            json!({"type": "array", "items": {"type": "string"}}),
            "type: Invalid value: \"array\": must be object at the root",
        ),
        (
            x(json!({})),
            "properties[x].type: Required value: must not be empty for specified object fields",
        ),
        (
            x(json!({"type": "strange"})),
            "properties[x].type: Unsupported value: \"strange\": supported values: \"array\", \"boolean\", \"integer\", \"number\", \"object\", \"string\"",
        ),
        (
            x(json!({"type": "array"})),
            "properties[x].items: Required value: must be specified",
        ),
        (
            x(json!({"type": "array", "items": {}})),
            "properties[x].items.type: Required value: must not be empty for specified array items",
        ),
        (
            x(json!({"type": "string", "pattern": "("})),
            "properties[x].pattern: Invalid value: \"(\": must be a valid regular expression, but isn't: unclosed group",
        ),
        (
            x(json!({"type": "string", "maxLength": "1"})),
            "properties[x].maxLength: Invalid value: \"1\": must be a non-negative integer",
        ),
        (
            x(json!({"type": "string", "nullable": 1})),
            "properties[x].nullable: Invalid value: 1: must be a boolean",
        ),
        (
            x(json!({"type": "number", "minimum": "1"})),
            "properties[x].minimum: Invalid value: \"1\": must be a number",
        ),
        (
            x(json!({"type": "number", "multipleOf": 0})),
            "properties[x].multipleOf: Invalid value: 0: must be greater than zero",
        ),
        (
            x(json!({"type": "object", "required": [1]})),
            "properties[x].required: Invalid value: [1]: must be a list of strings",
        ),
        (
            x(json!({"type": "string", "enum": 1})),
            "properties[x].enum: Invalid value: 1: must be a list of values",
        ),
        (
            x(json!({"type": "object", "properties": 1})),
            "properties[x].properties: Invalid value: 1: must be an object",
        ),
        (
            x(json!({"type": "object", "allOf": 1})),
            "properties[x].allOf: Invalid value: 1: must be a list of schemas",
        ),
        (
            x(json!({"type": "object", "pattern": 1})),
            "properties[x].pattern: Invalid value: 1: must be a string",
        ),
        (
            x(json!({"type": "object", "$ref": "#/x"})),
            "properties[x].$ref: Forbidden: $ref is not supported",
        ),
        (
            x(json!({"type": "string", "anyOf": [{"type": "string"}]})),
            "properties[x].anyOf[0].type: Forbidden: must be empty to be structural",
        ),
        (
            json!({"type": "object", "not": {"required": ["y"], "properties": {"y": {"minLength": 1}}}}),
            "properties[y]: Required value: because it is defined in not.properties[y]",
        ),
        (
            json!({"type": "object", "properties": {"l": {"type": "object"}},
                   "oneOf": [{"properties": {"l": {"items": {"minLength": 1}}}}]}),
            "properties[l].items: Required value: because it is defined in oneOf[0].properties[l].items",
        ),
        (
            x(
                json!({"type": "object", "additionalProperties": {"type": "string"}, "properties": {"a": {"type": "string"}}}),
            ),
            "properties[x].additionalProperties: Forbidden: additionalProperties and properties are mutual exclusive",
        ),
        (
            json!({"type": "object", "additionalProperties": true}),
            "additionalProperties: Forbidden: must not be used at the root",
        ),
        (
            x(json!({"type": "object", "x-kubernetes-embedded-resource": true})),
            "properties[x].properties: Required value: must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields",
        ),
        (
            x(json!({"type": "string", "x-kubernetes-list-type": "set"})),
            "properties[x].type: Invalid value: \"string\": must be array if x-kubernetes-list-type is specified",
        ),
        (
            x(
                json!({"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "bag"}),
            ),
            "properties[x].x-kubernetes-list-type: Unsupported value: \"bag\": supported values: \"atomic\", \"set\", \"map\"",
        ),
        (
            x(json!({"type": "object", "x-kubernetes-map-type": "bag"})),
            "properties[x].x-kubernetes-map-type: Unsupported value: \"bag\": supported values: \"atomic\", \"granular\"",
        ),
        (
            x(
                json!({"type": "array", "items": {"type": "object"}, "x-kubernetes-list-type": "map"}),
            ),
            "properties[x].x-kubernetes-list-map-keys: Required value: must not be empty if x-kubernetes-list-type is map",
        ),
        (
            x(
                json!({"type": "array", "items": {"type": "object"}, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["n"]}),
            ),
            "properties[x].x-kubernetes-list-map-keys: Invalid value: [\"n\"]: entries must all be names of item properties",
        ),
        (
            x(
                json!({"type": "array", "items": {"type": "object", "properties": {"n": {"type": "string"}}}, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["n"]}),
            ),
            "properties[x].items.properties[n].default: Required value: this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property",
        ),
        (
            x(json!({"type": "array", "items": {"type": "string"}, "uniqueItems": true})),
            "properties[x].uniqueItems: Forbidden: uniqueItems cannot be set to true since the runtime complexity becomes quadratic",
        ),
        (
            x(json!({"type": "integer", "default": "a"})),
            "properties[x].default: Invalid value: \"string\":  in body must be of type integer: \"string\"",
        ),
        (
            x(json!({"type": "object", "default": {"y": 1}})),
            "properties[x].default: Invalid value: {\"y\":1}: must not have unknown fields",
        ),
        (
            json!({"type": "object", "properties": {"metadata": {"type": "object", "properties": {"labels": {"type": "object"}}}}}),
            "properties[metadata]: Forbidden: must not specify anything other than name and generateName, but metadata is implicitly specified",
        ),
        (
            json!({"type": "object", "properties": {"kind": {"type": "integer"}}}),
            "properties[kind].type: Invalid value: \"integer\": must be string",
        ),
    ] {
        assert_eq!(mistakes(source.clone()), [expected], "{source}");
    }
}

#[test]
fn a_null_type_is_pointed_to_nullable() {
    let said = mistakes(json!({"type": "object", "properties": {"x": {"type": "null"}}}));
    assert!(
        said.iter()
            .any(|l| l.ends_with("use nullable as an alternative")),
        "{said:?}"
    );
}

#[test]
fn what_other_tools_generate_compiles() {
    // A root that keeps everything, a restricted name, maps closed by `false`, both spellings of
    // int-or-string, a preserved field that says what it may be.
    compiled(json!({
        "type": "object", "x-kubernetes-preserve-unknown-fields": true,
        "properties": {
            "metadata": {"type": "object", "properties": {"name": {"type": "string", "pattern": "^a"}}},
            "closed": {"type": "object", "additionalProperties": false},
            "port": {"anyOf": [{"type": "integer"}, {"type": "string"}], "x-kubernetes-int-or-string": true},
            "size": {"allOf": [{"anyOf": [{"type": "integer"}, {"type": "string"}]}, {"pattern": "^1"}], "x-kubernetes-int-or-string": true},
            "any": {"x-kubernetes-preserve-unknown-fields": true, "anyOf": [{"type": "integer"}, {"type": "string"}]},
            "rule": {"type": "integer", "x-kubernetes-validations": [{"rule": "self > 0"}]},
        },
    }));
}
