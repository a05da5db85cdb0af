//! The rules of schemas as tables, and properties over generated schemas and objects.

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::json;

use super::*;

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
    causes.into_iter().map(|c| format!("{}: {}", c.field, c.message)).collect()
}

fn mistakes(source: Value) -> Vec<String> {
    Schema::compile(&source).map(|_| Vec::new()).unwrap_or_else(lines)
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
            "extra", "metadata.managedFields[0].y", "metadata.odd", "spec.b",
            "spec.free.object.x", "spec.list[0].m", "spec.map.one.z", "spec.open.closed.out",
            "spec.pod.metadata.odd", "spec.pod.spec.x", "spec.pod.y",
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
        (int.clone(), json!("string"), r#"spec.x: Invalid value: "string": spec.x in body must be of type integer: "string""#),
        (int.clone(), json!(null), r#"spec.x: Invalid value: "null": spec.x in body must be of type integer: "null""#),
        (int, json!(1.5), r#"spec.x: Invalid value: "number": spec.x in body must be of type integer: "number""#),
        (json!({"type": "string"}), json!([1]), r#"spec.x: Invalid value: "array": spec.x in body must be of type string: "array""#),
        (json!({"x-kubernetes-int-or-string": true}), json!(true), r#"spec.x: Invalid value: "boolean": spec.x in body must be of type integer,string: "boolean""#),
        (json!({"type": "integer", "format": "int32"}), json!(3_000_000_000_u64), "spec.x: Invalid value: 3000000000: Checked value must be of type integer with format int32 in spec.x"),
        (json!({"type": "integer", "format": "int32"}), json!(true), r#"spec.x: Invalid value: "": spec.x in body must be of type int32: """#),
        (json!({"type": "string", "enum": ["a", "b"]}), json!("c"), r#"spec.x: Unsupported value: "c": supported values: "a", "b""#),
        (json!({"type": "integer", "enum": [1, 2]}), json!(3), r#"spec.x: Unsupported value: 3: supported values: "1", "2""#),
        (json!({"type": "string", "pattern": "^a$"}), json!("b"), "spec.x: Invalid value: \"b\": spec.x in body should match '^a$'"),
        (json!({"type": "string", "maxLength": 2}), json!("äöü"), "spec.x: Too long: may not be more than 2 bytes"),
        (json!({"type": "string", "minLength": 3}), json!("ab"), "spec.x: Invalid value: \"ab\": spec.x in body should be at least 3 chars long"),
        (json!({"type": "string", "format": "date-time"}), json!("now"), r#"spec.x: Invalid value: "now": spec.x in body must be of type date-time: "now""#),
        (json!({"type": "integer", "maximum": 10}), json!(11), "spec.x: Invalid value: 11: spec.x in body should be less than or equal to 10"),
        (json!({"type": "integer", "maximum": 10, "exclusiveMaximum": true}), json!(10), "spec.x: Invalid value: 10: spec.x in body should be less than 10"),
        (json!({"type": "number", "minimum": 0.5}), json!(0.25), "spec.x: Invalid value: 0.25: spec.x in body should be greater than or equal to 0.5"),
        (json!({"type": "integer", "minimum": 0, "exclusiveMinimum": true}), json!(0), "spec.x: Invalid value: 0: spec.x in body should be greater than 0"),
        (json!({"type": "integer", "multipleOf": 5}), json!(7), "spec.x: Invalid value: 7: spec.x in body should be a multiple of 5"),
        (json!({"type": "array", "items": {"type": "integer"}, "maxItems": 1}), json!([1, 2]), "spec.x: Too many: 2: must have at most 1 item"),
        (json!({"type": "array", "items": {"type": "integer"}, "minItems": 1}), json!([]), "spec.x: Invalid value: 0: spec.x in body should have at least 1 items"),
        (json!({"type": "array", "items": {"type": "integer"}}), json!([1, "x"]), r#"spec.x[1]: Invalid value: "string": spec.x[1] in body must be of type integer: "string""#),
        (json!({"type": "object", "additionalProperties": {"type": "integer"}}), json!({"k": "x"}), r#"spec.x.k: Invalid value: "string": spec.x.k in body must be of type integer: "string""#),
        (json!({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}), json!({}), "spec.x.a: Required value"),
        (json!({"type": "object", "additionalProperties": {"type": "integer"}, "maxProperties": 1}), json!({"a": 1, "b": 2}), "spec.x: Too many: 2: must have at most 1 item"),
        (json!({"type": "object", "additionalProperties": {"type": "integer"}, "minProperties": 1}), json!({}), "spec.x: Invalid value: 0: spec.x in body should have at least 1 properties"),
        (json!({"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"}), json!(["a", "b", "a", "a"]), r#"spec.x[2]: Duplicate value: "a""#),
    ];
    for (schema, value, expected) in cases {
        assert_eq!(says(schema.clone(), value.clone()), [expected], "{schema} {value}");
    }
}

#[test]
fn what_is_valid_passes() {
    for (schema, value) in [
        (json!({"type": "integer"}), json!(1.0)),
        (json!({"type": "number"}), json!(1)),
        (json!({"type": "string", "nullable": true}), json!(null)),
        (json!({"x-kubernetes-int-or-string": true}), json!("10%")),
        (json!({"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]}), json!(1)),
        (json!({"x-kubernetes-int-or-string": true, "allOf": [{"anyOf": [{"type": "integer"}, {"type": "string"}]}, {"pattern": "x"}]}), json!(3)),
        (json!({"type": "string", "format": "made-up"}), json!("?")),
        (json!({"type": "number", "multipleOf": 0.1}), json!(0.3)),
        (json!({"type": "integer", "enum": [1, 2]}), json!(2.0)),
        (json!({"type": "string", "maxLength": 3}), json!("äöü")),
    ] {
        assert_eq!(says(schema.clone(), value.clone()), Vec::<String>::new(), "{schema} {value}");
    }
}

#[test]
fn nested_value_validations_explain_the_branch_that_fits_best() {
    let object = |rules: Value| {
        let mut schema = json!({"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "integer"}}});
        schema.as_object_mut().expect("object").extend(rules.as_object().expect("object").clone());
        schema
    };
    let any = object(json!({"anyOf": [{"required": ["a"]}, {"required": ["b"], "properties": {"b": {"minimum": 5}}}]}));
    assert_eq!(says(any.clone(), json!({"a": "x"})), Vec::<String>::new());
    assert_eq!(
        says(any, json!({})),
        ["spec.x: Invalid value: \"\": \"spec.x\" must validate at least one schema (anyOf)", "spec.x.a: Required value"]
    );
    let one = object(json!({"oneOf": [{"required": ["a"]}, {"required": ["b"]}]}));
    assert_eq!(says(one.clone(), json!({"b": 1})), Vec::<String>::new());
    assert_eq!(
        says(one, json!({"a": "x", "b": 1})),
        ["spec.x: Invalid value: \"\": \"spec.x\" must validate one and only one schema (oneOf). Found 2 valid alternatives"]
    );
    let all = object(json!({"allOf": [{"required": ["a"]}, {"properties": {"b": {"maximum": 1}}}]}));
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
        says(list(json!(["n"])), json!([{"n": "a"}, {"n": "b"}, {"n": "a"}])),
        [r#"spec.x[2]: Duplicate value: {"n":"a"}"#]
    );
    let two = list(json!(["n", "p"]));
    assert_eq!(says(two.clone(), json!([{"n": "a", "p": "UDP"}, {"n": "a"}])), Vec::<String>::new());
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
            "spec.x.apiVersion: Required value: must not be empty",
            r#"spec.x.kind: Invalid value: "integer": spec.x.kind in body must be of type string: "integer""#,
            r#"spec.x.metadata.name: Invalid value: "integer": spec.x.metadata.name in body must be of type string: "integer""#,
        ]
    );
    assert_eq!(says(pod, json!({"apiVersion": "v1", "kind": "Pod", "any": 1})), Vec::<String>::new());
}

#[test]
fn an_update_is_not_blamed_for_what_it_leaves_alone() {
    let schema = spec(json!({
        "old": {"type": "string", "maxLength": 1},
        "list": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["n"],
                 "items": {"type": "object", "required": ["n"], "properties": {"n": {"type": "string"}, "v": {"type": "integer", "maximum": 1}}}},
    }));
    let old = json!({"spec": {"old": "too long", "list": [{"n": "a", "v": 5}, {"n": "b", "v": 1}]}});
    let mut new = json!({"spec": {"old": "too long", "list": [{"n": "b", "v": 9}, {"n": "a", "v": 5}]}});
    assert_eq!(
        lines(schema.validate_update(&new, &old)),
        ["spec.list[0].v: Invalid value: 9: spec.list[0].v in body should be less than or equal to 1"]
    );
    new["spec"]["old"] = json!("changed");
    assert_eq!(schema.validate_update(&new, &old).len(), 2);
    assert_eq!(schema.validate(&old).len(), 2);
}

#[test]
fn what_is_not_structural_is_refused_with_its_path() {
    let x = |schema: Value| json!({"type": "object", "properties": {"x": schema}});
    for (source, expected) in [
        (json!({}), "type: Required value: must not be empty at the root"),
        (json!("x"), ": Invalid value: \"x\": must be a schema object"),
        (json!({"type": "array", "items": {"type": "string"}}), "type: Invalid value: \"array\": must be object at the root"),
        (x(json!({})), "properties[x].type: Required value: must not be empty for specified object fields"),
        (x(json!({"type": "strange"})), "properties[x].type: Unsupported value: \"strange\": supported values: \"array\", \"boolean\", \"integer\", \"number\", \"object\", \"string\""),
        (x(json!({"type": "array"})), "properties[x].items: Required value: must be specified"),
        (x(json!({"type": "array", "items": {}})), "properties[x].items.type: Required value: must not be empty for specified array items"),
        (x(json!({"type": "string", "pattern": "("})), "properties[x].pattern: Invalid value: \"(\": must be a valid regular expression, but isn't: unclosed group"),
        (x(json!({"type": "string", "maxLength": "1"})), "properties[x].maxLength: Invalid value: \"1\": must be a non-negative integer"),
        (x(json!({"type": "string", "nullable": 1})), "properties[x].nullable: Invalid value: 1: must be a boolean"),
        (x(json!({"type": "number", "minimum": "1"})), "properties[x].minimum: Invalid value: \"1\": must be a number"),
        (x(json!({"type": "number", "multipleOf": 0})), "properties[x].multipleOf: Invalid value: 0: must be greater than zero"),
        (x(json!({"type": "object", "required": [1]})), "properties[x].required: Invalid value: [1]: must be a list of strings"),
        (x(json!({"type": "string", "enum": 1})), "properties[x].enum: Invalid value: 1: must be a list of values"),
        (x(json!({"type": "object", "properties": 1})), "properties[x].properties: Invalid value: 1: must be an object"),
        (x(json!({"type": "object", "allOf": 1})), "properties[x].allOf: Invalid value: 1: must be a list of schemas"),
        (x(json!({"type": "object", "pattern": 1})), "properties[x].pattern: Invalid value: 1: must be a string"),
        (x(json!({"type": "object", "$ref": "#/x"})), "properties[x].$ref: Forbidden: $ref is not supported"),
        (x(json!({"type": "string", "anyOf": [{"type": "string"}]})), "properties[x].anyOf[0].type: Forbidden: must be empty to be structural"),
        (x(json!({"type": "object", "not": {"required": ["y"], "properties": {"y": {"minLength": 1}}}})), "properties[x].properties[y]: Required value: because it is defined in properties[x].not.properties[y]"),
        (x(json!({"type": "object", "oneOf": [{"items": {"minLength": 1}}]})), "properties[x].items: Required value: because it is defined in properties[x].oneOf[0].items"),
        (x(json!({"type": "object", "additionalProperties": {"type": "string"}, "properties": {"a": {"type": "string"}}})), "properties[x].additionalProperties: Forbidden: additionalProperties and properties are mutual exclusive"),
        (x(json!({"type": "object", "additionalProperties": false})), "properties[x].additionalProperties: Forbidden: additionalProperties cannot be set to false"),
        (json!({"type": "object", "additionalProperties": true}), "additionalProperties: Forbidden: must not be used at the root"),
        (x(json!({"type": "object", "x-kubernetes-embedded-resource": true})), "properties[x].properties: Required value: must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields"),
        (x(json!({"type": "string", "x-kubernetes-list-type": "set"})), "properties[x].type: Invalid value: \"string\": must be array if x-kubernetes-list-type is specified"),
        (x(json!({"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "bag"})), "properties[x].x-kubernetes-list-type: Unsupported value: \"bag\": supported values: \"atomic\", \"map\", \"set\""),
        (x(json!({"type": "object", "x-kubernetes-map-type": "bag"})), "properties[x].x-kubernetes-map-type: Unsupported value: \"bag\": supported values: \"atomic\", \"granular\""),
        (x(json!({"type": "array", "items": {"type": "object"}, "x-kubernetes-list-type": "map"})), "properties[x].x-kubernetes-list-map-keys: Required value: must not be empty if x-kubernetes-list-type is map"),
        (x(json!({"type": "array", "items": {"type": "object"}, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["n"]})), "properties[x].x-kubernetes-list-map-keys[0]: Invalid value: \"n\": entries must all be names of item properties"),
        (x(json!({"type": "array", "items": {"type": "object", "properties": {"n": {"type": "string"}}}, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["n"]})), "properties[x].items.properties[n].default: Required value: this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property"),
        (x(json!({"type": "array", "items": {"type": "string"}, "uniqueItems": true})), "properties[x].uniqueItems: Forbidden: uniqueItems cannot be set to true since the runtime complexity becomes quadratic"),
        (x(json!({"type": "integer", "default": "a"})), "properties[x].default: Invalid value: \"string\":  in body must be of type integer: \"string\""),
        (x(json!({"type": "object", "default": {"y": 1}})), "properties[x].default: Invalid value: {\"y\":1}: must not have fields that the schema does not know: y"),
        (json!({"type": "object", "properties": {"metadata": {"type": "object", "properties": {"labels": {"type": "object"}}}}}), "properties[metadata]: Forbidden: must not specify anything other than name and generateName, but metadata is implicitly specified"),
        (json!({"type": "object", "properties": {"kind": {"type": "integer"}}}), "properties[kind].type: Invalid value: \"integer\": must be string"),
    ] {
        assert_eq!(mistakes(source.clone()), [expected], "{source}");
    }
}

fn definitions() -> Arc<Definitions> {
    Arc::new(Definitions::new([
        ("Thing".to_owned(), json!({
            "type": "object",
            "properties": {
                "apiVersion": {"type": "string"},
                "spec": {"$ref": "#/components/schemas/Props"},
                "wrapped": {"allOf": [{"$ref": "#/components/schemas/Props"}], "default": {"size": 3}},
                "raw": {"type": "object"},
                "ports": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["port"],
                          "x-kubernetes-patch-strategy": "merge", "x-kubernetes-patch-merge-key": "port",
                          "items": {"$ref": "#/components/schemas/Port"}},
                "size": {"oneOf": [{"type": "string"}, {"type": "number"}]},
                "either": {"type": "string", "format": "int-or-string"},
            },
        })),
        ("Props".to_owned(), json!({
            "type": "object", "x-kubernetes-map-type": "atomic",
            "properties": {
                "size": {"type": "integer"},
                "not": {"$ref": "#/components/schemas/Props"},
                "items": {"type": "array", "items": {"$ref": "#/components/schemas/Props"}},
            },
        })),
        ("Port".to_owned(), json!({"type": "object", "required": ["port"], "properties": {
            "port": {"type": "integer"}, "protocol": {"type": "string", "default": "TCP"}}})),
        ("Broken".to_owned(), json!({"type": "object", "properties": {"x": {"type": 7}}})),
        ("Circle".to_owned(), json!({"$ref": "#/components/schemas/Circle"})),
        ("Endless".to_owned(), json!({"type": "object", "properties": {
            "next": {"allOf": [{"$ref": "#/components/schemas/Endless"}], "default": {}}}})),
    ]))
}

fn referring(name: &str) -> Schema {
    let source = json!({"$ref": format!("#/components/schemas/{name}")});
    Schema::compile_with(&source, definitions()).expect("compiles")
}

#[test]
fn built_in_schemas_share_recursive_definitions() {
    let schema = referring("Thing");
    assert_eq!(schema.component_name(), Some("Thing"));
    assert!(schema.definitions().is_some_and(|d| d.names().count() == 6));
    let mut object = json!({
        "kind": "Thing",
        "spec": {"not": {"not": {"size": 1, "odd": 1}}, "items": [{"items": [{"odd": 2}]}]},
        "raw": {"any": {"thing": 1}}, "ports": [{"port": 80}, {"port": 80, "protocol": "UDP"}],
        "size": 0.5, "either": 3,
    });
    assert_eq!(schema.prune(&mut object), ["spec.items[0].items[0].odd", "spec.not.not.odd"]);
    schema.default(&mut object);
    assert_eq!(object["wrapped"], json!({"size": 3}));
    assert_eq!(object["ports"][0]["protocol"], "TCP");
    assert_eq!(object["raw"], json!({"any": {"thing": 1}}));
    assert_eq!(lines(schema.validate(&object)), [r#"ports[1]: Duplicate value: {"port":80}"#]);
    object["spec"]["not"]["not"]["size"] = json!("x");
    assert_eq!(schema.validate(&object)[0].field, "ports[1]");
    assert!(schema.validate(&object).iter().any(|c| c.field == "spec.not.not.size"));
    object["size"] = json!(true);
    assert!(lines(schema.validate(&object)).iter().any(|l| l.contains("Found none valid")));
}

#[test]
fn nodes_tell_what_patches_need() {
    let schema = referring("Thing");
    let ports = schema.root().property("ports").expect("ports");
    assert_eq!((ports.patch_strategy(), ports.patch_merge_key()), ("merge", Some("port")));
    assert_eq!(ports.list_type(), ListType::Map);
    assert_eq!(ports.list_map_keys().collect::<Vec<_>>(), ["port"]);
    let port = ports.items().expect("items");
    assert_eq!(port.property_names().collect::<Vec<_>>(), ["port", "protocol"]);
    assert_eq!(port.property("protocol").and_then(|n| n.default()), Some(&json!("TCP")));
    let props = schema.root().property("spec").and_then(|n| n.property("not")).expect("not");
    assert!(props.map_atomic() && !props.is_map() && !props.nullable());
    assert!(props.property("none").is_none() && props.items().is_none());
    assert!(schema.root().property("raw").is_some_and(|n| n.preserves_unknown_fields()));
    assert_eq!(schema.root().patch_strategy(), "");
    assert_eq!(schema.root().list_type(), ListType::Atomic);
}

#[test]
fn unusable_definitions_refuse_and_are_found_by_a_check() {
    for (name, why) in [("Broken", "schema definition \"Broken\" is unusable"), ("Circle", "circle")] {
        let said = lines(referring(name).validate(&json!({"x": 1})));
        assert!(said.iter().any(|l| l.contains(why)), "{said:?}");
    }
    let found = definitions().check();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].field, "Broken: properties[x].type");
    let unknown = Schema::compile_with(&json!({"$ref": "#/components/schemas/None"}), definitions());
    assert_eq!(lines(unknown.expect_err("unknown")), ["$ref: Invalid value: \"#/components/schemas/None\": names no definition of this set"]);
}

#[test]
fn endless_defaults_and_deep_objects_end() {
    let schema = referring("Endless");
    let mut object = json!({});
    schema.default(&mut object);
    let mut deep = json!({});
    for _ in 0..2_000 {
        deep = json!({"next": deep});
    }
    assert!(lines(schema.validate(&deep)).iter().any(|l| l.contains("nested too deeply")));
    schema.prune(&mut deep);
    assert_eq!(lines(schema.validate(&deep)).len(), 1);
}

#[test]
fn hostile_schemas_are_refused_and_hostile_objects_end() {
    let mut deep = json!({"type": "object"});
    for _ in 0..80 {
        deep = json!({"type": "object", "properties": {"x": deep}});
    }
    assert!(mistakes(deep)[0].contains("must not nest more than 64 schemas"));
    let wide: serde_json::Map<_, _> = (0..100_001).map(|i| (format!("p{i}"), json!({"type": "string"}))).collect();
    assert!(mistakes(json!({"type": "object", "properties": wide}))[0].contains("must not hold more than"));
    // A small object cannot be blown up without bound.
    let big = "x".repeat(1 << 20);
    let bomb = spec(json!({"l": {"type": "array", "items": {"type": "object", "properties": {"d": {"type": "string", "default": big}}}}}));
    let mut object = json!({"spec": {"l": vec![json!({}); 1000]}});
    bomb.default(&mut object);
    assert!(object.to_string().len() < 20 << 20);
    // A mistake in each of many items is reported, but not without end.
    let list = json!({"type": "array", "items": {"type": "integer"}});
    assert_eq!(says(list, json!(vec!["x"; 10_000])).len(), 100);
    // A long value is not echoed whole.
    let said = says(json!({"type": "string", "pattern": "^a$"}), json!("b".repeat(100_000)));
    assert!(said[0].len() < 3_000);
}

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
            inner.clone().prop_map(|s| json!({"type": "array", "items": s, "x-kubernetes-list-type": "set"})),
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
