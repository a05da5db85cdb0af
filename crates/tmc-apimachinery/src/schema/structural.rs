//! What makes a schema structural (KEP-1693), and what Kubernetes demands of list types and
//! defaults, for custom resources.

use serde_json::{Map, Value, json};

use super::compile::Level;
use super::shape::{Additional, ListType, Shape, Start, Types};
use super::trail::Trail;
use super::{defaults, prune, validate};
use crate::status::Cause;

/// `anyOf: [{type: integer}, {type: string}]`, the long spelling of int-or-string.
pub(super) fn is_int_or_string(branches: &[Value]) -> bool {
    *branches == [json!({"type": "integer"}), json!({"type": "string"})]
}

/// A branch that only holds that spelling.
pub(super) fn only_int_or_string(branch: &Value) -> bool {
    let any_of = branch.get("anyOf").and_then(Value::as_array);
    any_of.is_some_and(|b| is_int_or_string(b)) && branch.as_object().is_some_and(|o| o.len() == 1)
}

/// Everything wrong with one node; its children were checked before.
pub(super) fn check(
    source: &Map<String, Value>,
    shape: &Shape,
    level: Level,
    trail: &Trail<'_>,
) -> Vec<Cause> {
    let mut causes = Vec::new();
    if level == Level::Nested {
        check_nested(source, trail, &mut causes);
        return causes;
    }
    let said = |keyword: &str| source.get(keyword).is_some_and(|t| !t.is_null() && t != "");
    // What is said wrongly has been reported, or will be, by itself.
    let named = said("type") || said("x-kubernetes-preserve-unknown-fields");
    check_keywords(source, level, trail, &mut causes);
    check_type(shape, named, level, trail, &mut causes);
    check_members(shape, level, trail, &mut causes);
    check_lists(shape, trail, &mut causes);
    if shape.embedded || level == Level::Root {
        check_identity(shape, level, trail, &mut causes);
    }
    if level == Level::Root {
        check_complete(shape, shape, trail, trail, &mut causes);
    }
    causes
}

/// Keywords of JSON Schema that custom resources must not use, and values that some must not have.
fn check_keywords(
    source: &Map<String, Value>,
    level: Level,
    trail: &Trail<'_>,
    causes: &mut Vec<Cause>,
) {
    const REFUSED: [&str; 5] = [
        "additionalItems",
        "definitions",
        "dependencies",
        "id",
        "patternProperties",
    ];
    for keyword in REFUSED.iter().filter(|k| source.contains_key(**k)) {
        causes.push(Cause::forbidden(
            at(trail, keyword),
            format!("{keyword} is not supported"),
        ));
    }
    if source.get("type").is_some_and(|t| t == "null") {
        let why = "type cannot be set to null, use nullable as an alternative";
        causes.push(Cause::forbidden(at(trail, "type"), why));
    }
    let preserve = "x-kubernetes-preserve-unknown-fields";
    if source.get(preserve) == Some(&Value::Bool(false)) {
        let why = "must be true or undefined";
        causes.push(Cause::invalid(at(trail, preserve), &false.into(), why));
    }
    if level == Level::Root && source.get("nullable") == Some(&Value::Bool(true)) {
        let why = "nullable cannot be true at the root";
        causes.push(Cause::forbidden(at(trail, "nullable"), why));
    }
}

fn at(trail: &Trail<'_>, keyword: &str) -> String {
    trail.field(keyword).to_string()
}

fn check_nested(source: &Map<String, Value>, trail: &Trail<'_>, causes: &mut Vec<Cause>) {
    const EMPTY: &[(&str, &str)] = &[
        ("type", "must be empty to be structural"),
        ("title", "must be empty to be structural"),
        ("description", "must be empty to be structural"),
        ("default", "must be undefined to be structural"),
        ("additionalProperties", "must be undefined to be structural"),
        ("nullable", "must be false to be structural"),
        (
            "x-kubernetes-preserve-unknown-fields",
            "must be false to be structural",
        ),
        (
            "x-kubernetes-embedded-resource",
            "must be false to be structural",
        ),
        (
            "x-kubernetes-int-or-string",
            "must be false to be structural",
        ),
        (
            "x-kubernetes-list-map-keys",
            "must be empty to be structural",
        ),
        (
            "x-kubernetes-list-type",
            "must be undefined to be structural",
        ),
        (
            "x-kubernetes-map-type",
            "must be undefined to be structural",
        ),
        ("x-kubernetes-validations", "must be empty to be structural"),
    ];
    let blank =
        |v: &Value| matches!(v, Value::Null | Value::Bool(false)) || v == "" || *v == json!([]);
    for (keyword, why) in EMPTY {
        let set = source
            .get(*keyword)
            .is_some_and(|v| !blank(v) || *keyword == "additionalProperties");
        if set {
            causes.push(Cause::forbidden(at(trail, keyword), why));
        }
    }
}

/// `named` tells that a type was given, even if it is none that exists (which is reported).
fn check_type(
    shape: &Shape,
    named: bool,
    level: Level,
    trail: &Trail<'_>,
    causes: &mut Vec<Cause>,
) {
    if shape.types == Types::ARRAY && shape.items.is_none() {
        causes.push(Cause::required(at(trail, "items"), "must be specified"));
    }
    let int_or_string = shape.types == Types::INT_OR_STRING;
    if int_or_string && shape.preserve_unknown {
        let why = "must be false if x-kubernetes-int-or-string is true";
        let field = at(trail, "x-kubernetes-preserve-unknown-fields");
        causes.push(Cause::invalid(field, &true.into(), why));
    }
    let field = at(trail, "type");
    if shape.embedded && shape.types != Types::OBJECT {
        let why = "must be object if x-kubernetes-embedded-resource is true";
        causes.push(if shape.types.is_empty() {
            Cause::required(field, why)
        } else {
            Cause::invalid(field, &shape.types.names().into(), why)
        });
    } else if shape.types.is_empty() && !named && !shape.preserve_unknown {
        causes.push(Cause::required(
            field,
            match level {
                Level::Root => "must not be empty at the root",
                Level::Item => "must not be empty for specified array items",
                Level::Field | Level::Nested => "must not be empty for specified object fields",
            },
        ));
    } else if level == Level::Root && !shape.types.is_empty() && shape.types != Types::OBJECT {
        let why = "must be object at the root";
        causes.push(Cause::invalid(field, &shape.types.names().into(), why));
    }
}

fn check_members(shape: &Shape, level: Level, trail: &Trail<'_>, causes: &mut Vec<Cause>) {
    if !matches!(shape.additional, Additional::Absent) {
        let field = at(trail, "additionalProperties");
        if level == Level::Root {
            causes.push(Cause::forbidden(field, "must not be used at the root"));
        } else if shape.embedded {
            let why = "must not be used if x-kubernetes-embedded-resource is set";
            causes.push(Cause::forbidden(field, why));
        } else if !matches!(shape.additional, Additional::Forbidden) && !shape.properties.is_empty()
        {
            causes.push(Cause::forbidden(
                field,
                "additionalProperties and properties are mutual exclusive",
            ));
        }
    }
    if shape.embedded && !shape.preserve_unknown && shape.properties.is_empty() {
        causes.push(Cause::required(
            at(trail, "properties"),
            "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields",
        ));
    }
    if shape.rules.as_ref().is_some_and(|r| r.unique_items) {
        let why =
            "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
        causes.push(Cause::forbidden(at(trail, "uniqueItems"), why));
    }
}

/// `apiVersion`, `kind` and `metadata` of a resource are what Kubernetes says they are.
fn check_identity(shape: &Shape, level: Level, trail: &Trail<'_>, causes: &mut Vec<Cause>) {
    let properties = trail.field("properties");
    for (name, types, why) in [
        ("apiVersion", Types::STRING, "must be string"),
        ("kind", Types::STRING, "must be string"),
        ("metadata", Types::OBJECT, "must be object"),
    ] {
        let Some(found) = shape.property(name) else {
            continue;
        };
        if found.types != types {
            let field = at(&properties.key(name), "type");
            causes.push(Cause::invalid(field, &found.types.names().into(), why));
        }
    }
    if level != Level::Root {
        return;
    }
    if let Some(metadata) = shape.property("metadata") {
        if metadata
            .extras
            .as_ref()
            .is_some_and(|e| e.default.is_some())
        {
            let field = at(&properties.key("metadata"), "default");
            causes.push(Cause::forbidden(
                field,
                "must not be set in top-level metadata",
            ));
        }
        let named = |(name, _): &(Box<str>, Shape)| matches!(&**name, "name" | "generateName");
        let plain = metadata.properties.iter().all(named)
            && matches!(metadata.additional, Additional::Absent)
            && !metadata.preserve_unknown
            && !metadata.embedded;
        if !plain {
            causes.push(Cause::forbidden(
                properties.key("metadata").to_string(),
                "must not specify anything other than name and generateName, but metadata is implicitly specified",
            ));
        }
    }
}

fn check_lists(shape: &Shape, trail: &Trail<'_>, causes: &mut Vec<Cause>) {
    let Some(extras) = &shape.extras else { return };
    if extras.list_type.is_some() && shape.types != Types::ARRAY {
        let why = "must be array if x-kubernetes-list-type is specified";
        causes.push(Cause::invalid(
            at(trail, "type"),
            &shape.types.names().into(),
            why,
        ));
    }
    if extras.map_atomic.is_some() && shape.types != Types::OBJECT {
        let why = "must be object if x-kubernetes-map-type is specified";
        causes.push(Cause::invalid(
            at(trail, "type"),
            &shape.types.names().into(),
            why,
        ));
    }
    if extras.list_type == Some(ListType::Set)
        && let Some(items) = &shape.items
    {
        check_set_items(items, trail, causes);
    }
    if extras.list_type != Some(ListType::Map) {
        if !extras.list_map_keys.is_empty() {
            let why = "must be map if x-kubernetes-list-map-keys is non-empty";
            causes.push(Cause::required(at(trail, "x-kubernetes-list-type"), why));
        }
        return;
    }
    if extras.list_map_keys.is_empty() {
        let why = "must not be empty if x-kubernetes-list-type is map";
        causes.push(Cause::required(
            at(trail, "x-kubernetes-list-map-keys"),
            why,
        ));
    }
    let Some(items) = &shape.items else { return };
    check_map_items(items, &extras.list_map_keys, trail, causes);
}

/// Items of a set are compared as a whole, so they must be scalars or atomic.
fn check_set_items(items: &Shape, trail: &Trail<'_>, causes: &mut Vec<Cause>) {
    let extras = items.extras.as_deref();
    let (keyword, atomic) = match items.types {
        Types::OBJECT => (
            "x-kubernetes-map-type",
            extras.is_some_and(|e| e.map_atomic == Some(true)),
        ),
        Types::ARRAY => (
            "x-kubernetes-list-type",
            extras.is_some_and(|e| e.list_type == Some(ListType::Atomic)),
        ),
        _ => return,
    };
    if !atomic {
        let why = "must be atomic as item of a list with x-kubernetes-list-type=set";
        causes.push(Cause::invalid(
            at(&trail.field("items"), keyword),
            &Value::Null,
            why,
        ));
    }
}

fn check_map_items(items: &Shape, keys: &[Box<str>], trail: &Trail<'_>, causes: &mut Vec<Cause>) {
    let at_items = trail.field("items");
    if items.types != Types::OBJECT {
        let why = "must be object if parent array's x-kubernetes-list-type is map";
        causes.push(Cause::invalid(
            at(&at_items, "type"),
            &items.types.names().into(),
            why,
        ));
        return;
    }
    let required = |key: &str| {
        items
            .rules
            .as_ref()
            .is_some_and(|r| r.required.iter().any(|name| **name == *key))
    };
    for key in keys {
        let Some(found) = items.property(key) else {
            let why = "entries must all be names of item properties";
            let given = Value::from(keys.iter().map(|k| &**k).collect::<Vec<_>>());
            causes.push(Cause::invalid(
                at(trail, "x-kubernetes-list-map-keys"),
                &given,
                why,
            ));
            continue;
        };
        if found.types.has(Types::OBJECT.or(Types::ARRAY)) {
            let properties = at_items.field("properties");
            let why = "must be a scalar type if parent array's x-kubernetes-list-type is map";
            let field = at(&properties.key(key), "type");
            causes.push(Cause::invalid(field, &found.types.names().into(), why));
        }
        let default = found.extras.as_ref().is_some_and(|e| e.default.is_some());
        if !default && !required(key) {
            let properties = at_items.field("properties");
            causes.push(Cause::required(
                at(&properties.key(key), "default"),
                "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property",
            ));
        }
    }
}

/// Every field that a value validation names must be described outside of it, too.
fn check_complete(
    rules_of: &Shape,
    own: &Shape,
    own_trail: &Trail<'_>,
    rule_trail: &Trail<'_>,
    causes: &mut Vec<Cause>,
) {
    let Some(rules) = &rules_of.rules else { return };
    for (keyword, branches) in [
        ("allOf", &rules.all_of),
        ("anyOf", &rules.any_of),
        ("oneOf", &rules.one_of),
    ] {
        let list = rule_trail.field(keyword);
        for (i, branch) in branches.iter().enumerate() {
            check_branch(branch, own, own_trail, &list.index(i), causes);
        }
    }
    if let Some(not) = &rules.not {
        check_branch(not, own, own_trail, &rule_trail.field("not"), causes);
    }
}

fn check_branch(
    branch: &Shape,
    own: &Shape,
    own_trail: &Trail<'_>,
    rule_trail: &Trail<'_>,
    causes: &mut Vec<Cause>,
) {
    check_complete(branch, own, own_trail, rule_trail, causes);
    let missing = |own: &Trail<'_>, rule: &Trail<'_>| {
        Cause::required(own.to_string(), &format!("because it is defined in {rule}"))
    };
    let (own_properties, rule_properties) = (
        own_trail.field("properties"),
        rule_trail.field("properties"),
    );
    for (name, inner) in &branch.properties {
        let (own_at, rule_at) = (own_properties.key(name), rule_properties.key(name));
        match own.property(name) {
            Some(found) => check_branch(inner, found, &own_at, &rule_at, causes),
            None => causes.push(missing(&own_at, &rule_at)),
        }
    }
    if let Some(inner) = &branch.items {
        let (own_at, rule_at) = (own_trail.field("items"), rule_trail.field("items"));
        match &own.items {
            Some(found) => check_branch(inner, found, &own_at, &rule_at, causes),
            None => causes.push(missing(&own_at, &rule_at)),
        }
    }
}

/// A default must be a valid value of its own schema, with nothing that pruning would drop.
pub(super) fn check_default(shape: &Shape, trail: &Trail<'_>) -> Vec<Cause> {
    let Some(default) = shape.extras.as_ref().and_then(|e| e.default.as_ref()) else {
        return Vec::new();
    };
    let field = at(trail, "default");
    let mut value = default.clone();
    let unknown = prune::prune(None, shape, &mut value, Start::Value);
    if !unknown.is_empty() {
        let why = "must not have unknown fields";
        return vec![Cause::invalid(field, default, why)];
    }
    defaults::apply(None, shape, &mut value, Start::Value);
    validate::validate(None, shape, &value, None, Start::Value)
        .into_iter()
        .map(|cause| {
            let inner = cause.field.trim_start_matches("<nil>");
            let dot = if inner.is_empty() || inner.starts_with('[') {
                ""
            } else {
                "."
            };
            Cause {
                field: format!("{field}{dot}{inner}"),
                ..cause
            }
        })
        .collect()
}
