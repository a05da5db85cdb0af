//! Schemas of built-in kinds, which refer into shared definitions.

use std::sync::Arc;

use serde_json::json;

use super::*;

fn definitions() -> Arc<Definitions> {
    Arc::new(Definitions::new([
        (
            "Thing".to_owned(),
            json!({
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
            }),
        ),
        (
            "Props".to_owned(),
            json!({
                "type": "object", "x-kubernetes-map-type": "atomic",
                "properties": {
                    "size": {"type": "integer"},
                    "not": {"$ref": "#/components/schemas/Props"},
                    "items": {"type": "array", "items": {"$ref": "#/components/schemas/Props"}},
                },
            }),
        ),
        (
            "Port".to_owned(),
            json!({"type": "object", "required": ["port"], "properties": {
            "port": {"type": "integer"}, "protocol": {"type": "string", "default": "TCP"}}}),
        ),
        (
            "Broken".to_owned(),
            json!({"type": "object", "properties": {"x": {"type": 7}}}),
        ),
        (
            "Circle".to_owned(),
            json!({"$ref": "#/components/schemas/Circle"}),
        ),
        (
            "Endless".to_owned(),
            json!({"type": "object", "properties": {
            "next": {"allOf": [{"$ref": "#/components/schemas/Endless"}], "default": {}}}}),
        ),
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
    assert_eq!(
        schema.prune(&mut object),
        ["spec.items[0].items[0].odd", "spec.not.not.odd"]
    );
    schema.default(&mut object);
    assert_eq!(object["wrapped"], json!({"size": 3}));
    assert_eq!(object["ports"][0]["protocol"], "TCP");
    assert_eq!(object["raw"], json!({"any": {"thing": 1}}));
    assert_eq!(
        lines(schema.validate(&object)),
        [] as [&str; 0],
        "built-in lists of type map may repeat a key"
    );
    object["spec"]["not"]["not"]["size"] = json!("x");
    assert!(
        schema
            .validate(&object)
            .iter()
            .any(|c| c.field == "spec.not.not.size")
    );
    object["size"] = json!(true);
    assert!(
        lines(schema.validate(&object))
            .iter()
            .any(|l| l.contains("Found none valid"))
    );
}

#[test]
fn nodes_tell_what_patches_need() {
    let schema = referring("Thing");
    let ports = schema.root().property("ports").expect("ports");
    assert_eq!(
        (ports.patch_strategy(), ports.patch_merge_key()),
        ("merge", Some("port"))
    );
    assert_eq!(ports.list_type(), ListType::Map);
    assert_eq!(ports.list_map_keys().collect::<Vec<_>>(), ["port"]);
    let port = ports.items().expect("items");
    assert_eq!(
        port.property_names().collect::<Vec<_>>(),
        ["port", "protocol"]
    );
    assert_eq!(
        port.property("protocol").and_then(|n| n.default()),
        Some(&json!("TCP"))
    );
    let props = schema
        .root()
        .property("spec")
        .and_then(|n| n.property("not"))
        .expect("not");
    assert!(props.map_atomic() && !props.is_map() && !props.nullable());
    assert!(props.property("none").is_none() && props.items().is_none());
    assert!(
        schema
            .root()
            .property("raw")
            .is_some_and(|n| n.preserves_unknown_fields())
    );
    assert_eq!(schema.root().patch_strategy(), "");
    assert_eq!(schema.root().list_type(), ListType::Atomic);
}

#[test]
fn unusable_definitions_refuse_and_are_found_by_a_check() {
    for (name, why) in [
        ("Broken", "schema definition \"Broken\" is unusable"),
        ("Circle", "circle"),
    ] {
        let said = lines(referring(name).validate(&json!({"x": 1})));
        assert!(said.iter().any(|l| l.contains(why)), "{said:?}");
    }
    let found = definitions().check();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].field, "Broken: properties[x].type");
    let unknown =
        Schema::compile_with(&json!({"$ref": "#/components/schemas/None"}), definitions());
    assert_eq!(
        lines(unknown.expect_err("unknown")),
        ["$ref: Invalid value: \"#/components/schemas/None\": names no definition of this set"]
    );
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
    assert!(
        lines(schema.validate(&deep))
            .iter()
            .any(|l| l.contains("nested too deeply"))
    );
    schema.prune(&mut deep);
    assert_eq!(lines(schema.validate(&deep)).len(), 1);
}
