use proptest::prelude::*;
use rstest::rstest;
use serde_json::json;

use super::*;
use crate::meta::{MAX_DEPTH, depth};
use crate::schema::Schema;

fn patched(document: Value, patch: Value) -> Result<Value> {
    let mut document = document;
    let before = document.clone();
    let result = json_patch(&mut document, patch.to_string().as_bytes());
    if result.is_err() {
        assert_eq!(document, before, "a patch that fails changes nothing");
    }
    result.map(|()| document)
}

#[rstest]
#[case(json!([]), json!({"a": {"b": 1}, "l": [1, 2]}))]
#[case(json!([{"op": "add", "path": "/a/c", "value": 2}]), json!({"a": {"b": 1, "c": 2}, "l": [1, 2]}))]
#[case(json!([{"op": "add", "path": "/l/-", "value": 3}]), json!({"a": {"b": 1}, "l": [1, 2, 3]}))]
#[case(json!([{"op": "add", "path": "/l/0", "value": 0}]), json!({"a": {"b": 1}, "l": [0, 1, 2]}))]
#[case(json!([{"op": "remove", "path": "/a/b"}]), json!({"a": {}, "l": [1, 2]}))]
#[case(json!([{"op": "replace", "path": "/a/b", "value": null}]), json!({"a": {"b": null}, "l": [1, 2]}))]
#[case(json!([{"op": "replace", "path": "/a/new", "value": 5}]), json!({"a": {"b": 1, "new": 5}, "l": [1, 2]}))]
#[case(json!([{"op": "replace", "path": "/x~1y", "value": 5}]), json!({"a": {"b": 1}, "l": [1, 2], "x/y": 5}))]
#[case(json!([{"op": "move", "from": "/a/b", "path": "/c"}]), json!({"a": {}, "c": 1, "l": [1, 2]}))]
#[case(json!([{"op": "copy", "from": "/l", "path": "/a/b"}]), json!({"a": {"b": [1, 2]}, "l": [1, 2]}))]
#[case(json!([{"op": "test", "path": "/a", "value": {"b": 1}}, {"op": "remove", "path": "/a"}]), json!({"l": [1, 2]}))]
#[case(json!([{"op": "test", "path": "/none", "value": null}, {"op": "remove", "path": "/a"}]), json!({"l": [1, 2]}))]
fn a_json_patch_is_applied(#[case] patch: Value, #[case] expected: Value) {
    assert_eq!(
        patched(json!({"a": {"b": 1}, "l": [1, 2]}), patch).unwrap(),
        expected
    );
}

#[rstest]
#[case(json!([{"op": "remove", "path": "/none"}]), "operation 0 on path \"/none\"")]
#[case(json!([{"op": "replace", "path": "/none/x", "value": 1}]), "path is invalid")]
#[case(json!([{"op": "replace", "path": "/l/7", "value": 1}]), "path is invalid")]
#[case(json!([{"op": "add", "path": "/l/7", "value": 1}]), "path is invalid")]
#[case(json!([{"op": "test", "path": "/a/b", "value": 2}]), "value did not match")]
#[case(json!([{"op": "test", "path": "/none/x", "value": null}]), "does not apply")]
#[case(json!([{"op": "test", "path": "/none", "value": 1}]), "does not apply")]
#[case(json!([{"op": "move", "from": "/none", "path": "/b"}]), "\"from\" path is invalid")]
#[case(json!([{"op": "move", "from": "/a", "path": "/a/b/c"}]), "cannot move the value inside itself")]
#[case(json!([{"op": "remove", "path": "/a"}, {"op": "copy", "from": "/none", "path": "/b"}]), "operation 1 on path \"/b\"")]
#[case(json!([{"op": "remove", "path": ""}]), "does not apply")]
#[case(json!([{"op": "replace", "path": "", "value": [1]}]), "must leave a JSON object")]
fn a_patch_that_does_not_fit_is_unprocessable(#[case] patch: Value, #[case] part: &str) {
    let error = patched(json!({"a": {"b": 1}, "l": [1, 2]}), patch).expect_err("does not fit");
    assert_eq!((error.code, error.reason), (422, crate::Reason::Invalid));
    assert!(error.message.contains(part), "{}", error.message);
}

#[rstest]
#[case("", "EOF")]
#[case("{}", "must be a list of operations")]
#[case("[1]", "error decoding patch")]
#[case(r#"[{"op": "spill", "path": "/a"}]"#, "unknown variant `spill`")]
#[case(r#"[{"op": "add", "path": "/a"}]"#, "missing field `value`")]
#[case(r#"[{"op": "add", "path": "a", "value": 1}]"#, "error decoding patch")]
#[case(r#"[{"op": "copy", "path": "/a"}]"#, "missing field `from`")]
fn what_is_not_a_patch_is_a_bad_request(#[case] patch: &str, #[case] part: &str) {
    let error = json_patch(&mut json!({"a": 1}), patch.as_bytes()).expect_err("not a patch");
    assert_eq!(error.code, 400);
    assert!(error.message.contains(part), "{}", error.message);
}

#[test]
fn a_patch_has_at_most_ten_thousand_operations() {
    let patch = |n: usize| json!(vec![json!({"op": "test", "path": "/a", "value": 1}); n]);
    assert!(patched(json!({"a": 1}), patch(10_000)).is_ok());
    let error = patched(json!({"a": 1}), patch(10_001)).expect_err("too many");
    assert_eq!(
        (error.code, error.reason),
        (413, crate::Reason::RequestEntityTooLarge)
    );
    assert_eq!(
        error.message,
        "The allowed maximum operations in a JSON patch is 10000, got 10001"
    );
}

#[test]
fn copies_cannot_blow_up_an_object() {
    let doubling: Vec<_> = (0..60)
        .map(|i| json!({"op": "copy", "from": "", "path": format!("/b{i}")}))
        .collect();
    let error = patched(json!({"a": "x".repeat(1000)}), json!(doubling)).expect_err("too much");
    assert_eq!(error.code, 413);
    let wide: Vec<_> = (0..60)
        .map(|i| json!({"op": "copy", "from": "/a", "path": format!("/b{i}")}))
        .collect();
    let error = patched(json!({"a": "x".repeat(100_000)}), json!(wide)).expect_err("too much");
    assert_eq!(error.code, 413);
    assert!(
        error.message.contains("exceed 3145728 bytes"),
        "{}",
        error.message
    );
}

#[test]
fn a_patch_cannot_nest_an_object_deeper_than_can_be_read_back() {
    let nest = |levels: usize| (0..levels).fold(json!(1), |inner, _| json!({"a": inner}));
    let add = |value: Value| json!([{"op": "add", "path": "/a", "value": value}]);
    assert_eq!(
        depth(&patched(json!({}), add(nest(MAX_DEPTH - 1))).unwrap()),
        MAX_DEPTH
    );
    let error = patched(json!({}), add(nest(MAX_DEPTH))).expect_err("too deep");
    assert_eq!(error.code, 422);
    assert!(
        error.message.contains("deeper than 100 levels"),
        "{}",
        error.message
    );

    let mut moves = vec![json!({"op": "add", "path": "/b", "value": nest(60)})];
    moves.push(json!({"op": "move", "from": "/b", "path": format!("/c{}/x", "/a".repeat(58))}));
    assert!(patched(json!({"c": nest(60)}), json!(moves)).is_err());
}

#[test]
fn a_patch_cannot_carry_a_huge_value_around() {
    let big: Vec<_> = (0..100_000).collect();
    let head = json!(vec![json!({"op": "add", "path": "/l/0", "value": 1}); 1000]);
    let error = patched(json!({"l": big}), head).expect_err("too much work");
    assert_eq!(error.code, 413);
    assert!(
        error.message.contains("moves too much data"),
        "{}",
        error.message
    );
}

#[rstest]
#[case(json!({"a": 1}), json!({"a": {"b": null, "c": 1}}), json!({"a": {"c": 1}}))]
#[case(json!({"a": {"b": 1, "c": 2}}), json!({"a": {"b": null}}), json!({"a": {"c": 2}}))]
#[case(json!({"a": [1, 2]}), json!({"a": [3]}), json!({"a": [3]}))]
#[case(json!({"a": 1}), json!({}), json!({"a": 1}))]
#[case(json!({"a": 1}), json!({"b": {"c": {"d": null}}}), json!({"a": 1, "b": {"c": {}}}))]
fn a_merge_patch_is_applied(
    #[case] document: Value,
    #[case] patch: Value,
    #[case] expected: Value,
) {
    let mut document = document;
    merge_patch(&mut document, &patch).unwrap();
    assert_eq!(document, expected);
}

#[test]
fn a_patch_that_is_no_object_is_a_bad_request() {
    for patch in [json!(1), json!([]), json!(null), json!("a")] {
        let mut document = json!({"a": 1});
        assert_eq!(
            merge_patch(&mut document, &patch)
                .expect_err("no object")
                .code,
            400
        );
        let strategic = strategic_merge_patch(&mut document, &patch, None);
        assert_eq!(strategic.expect_err("no object").code, 400);
        assert_eq!(document, json!({"a": 1}));
    }
}

#[test]
fn a_merge_diff_is_as_small_as_the_change() {
    let old = json!({"a": {"b": 1, "c": [1], "d": 1}, "e": 1});
    let new = json!({"a": {"b": 1, "c": [2], "f": {}}, "e": 1});
    assert_eq!(
        merge_diff(&old, &new),
        Some(json!({"a": {"c": [2], "d": null, "f": {}}}))
    );
    assert_eq!(merge_diff(&old, &old), None);
}

fn value_without_nulls() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::from),
        (0..5).prop_map(Value::from),
        "[a-c]{0,2}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-e]", inner, 0..4)
                .prop_map(|m| Value::Object(m.into_iter().collect())),
        ]
    })
}

fn object_without_nulls() -> impl Strategy<Value = Value> {
    prop::collection::btree_map("[a-e]", value_without_nulls(), 0..5)
        .prop_map(|m| Value::Object(m.into_iter().collect()))
}

fn pod_schema() -> Schema {
    Schema::compile(&json!({
        "type": "object",
        "properties": {
            "spec": {
                "type": "object",
                "properties": {
                    "replicas": {"type": "integer"},
                    "strategy": {
                        "type": "object",
                        "x-kubernetes-patch-strategy": "retainKeys",
                        "properties": {
                            "type": {"type": "string"},
                            "rollingUpdate": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                        },
                    },
                    "selector": {
                        "type": "object",
                        "x-kubernetes-patch-strategy": "replace",
                        "additionalProperties": {"type": "string"},
                    },
                    "finalizers": {
                        "type": "array", "items": {"type": "string"},
                        "x-kubernetes-patch-strategy": "merge",
                    },
                    "args": {"type": "array", "items": {"type": "string"}},
                    "volumes": {
                        "type": "array",
                        "x-kubernetes-patch-strategy": "merge,retainKeys",
                        "x-kubernetes-patch-merge-key": "name",
                        "items": {"type": "object", "properties": {"name": {"type": "string"}}, "x-kubernetes-preserve-unknown-fields": true},
                    },
                    "containers": {
                        "type": "array",
                        "x-kubernetes-patch-strategy": "merge",
                        "x-kubernetes-patch-merge-key": "name",
                        "items": {
                            "type": "object",
                            "properties": {
                                "name": {"type": "string"},
                                "image": {"type": "string"},
                                "command": {"type": "array", "items": {"type": "string"}},
                                "ports": {
                                    "type": "array",
                                    "x-kubernetes-patch-strategy": "merge",
                                    "x-kubernetes-patch-merge-key": "containerPort",
                                    "items": {"type": "object", "properties": {
                                        "containerPort": {"type": "integer"},
                                        "protocol": {"type": "string"},
                                    }},
                                },
                            },
                        },
                    },
                },
            },
        },
    }))
    .unwrap_or_else(|causes| panic!("{causes:?}"))
}

/// Patches `spec` under the schema above.
fn strategic(spec: Value, patch: Value) -> Result<Value> {
    let schema = pod_schema();
    let mut document = json!({"spec": spec});
    let before = document.clone();
    let result = strategic_merge_patch(&mut document, &json!({"spec": patch}), Some(schema.root()));
    if result.is_err() {
        assert_eq!(document, before, "a patch that fails changes nothing");
    }
    result.map(|()| document["spec"].take())
}

#[rstest]
#[case::scalars_replace(json!({"replicas": 1}), json!({"replicas": 2}), json!({"replicas": 2}))]
#[case::null_removes(json!({"replicas": 1, "args": []}), json!({"replicas": null}), json!({"args": []}))]
#[case::null_of_what_is_absent_is_nothing(json!({}), json!({"replicas": null}), json!({}))]
#[case::nested_nulls_do_not_get_in(json!({}), json!({"strategy": {"type": "a", "rollingUpdate": null}}), json!({"strategy": {"type": "a"}}))]
#[case::maps_merge(json!({"strategy": {"type": "a"}}), json!({"strategy": {"rollingUpdate": {"x": 1}}}), json!({"strategy": {"type": "a", "rollingUpdate": {"x": 1}}}))]
#[case::maps_with_the_strategy_replace(json!({"selector": {"a": "1"}}), json!({"selector": {"b": "2"}}), json!({"selector": {"b": "2"}}))]
#[case::replace_directive(json!({"strategy": {"type": "a"}}), json!({"strategy": {"$patch": "replace", "rollingUpdate": {}}}), json!({"strategy": {"rollingUpdate": {}}}))]
#[case::delete_directive(json!({"strategy": {"type": "a"}, "replicas": 1}), json!({"strategy": {"$patch": "delete"}}), json!({"strategy": {}, "replicas": 1}))]
#[case::merge_directive(json!({"strategy": {"type": "a"}}), json!({"strategy": {"$patch": "merge", "rollingUpdate": {}}}), json!({"strategy": {"type": "a", "rollingUpdate": {}}}))]
#[case::delete_of_what_is_absent(json!({}), json!({"strategy": {"$patch": "delete"}}), json!({}))]
#[case::retain_keys(json!({"strategy": {"type": "a", "rollingUpdate": {}}}), json!({"strategy": {"$retainKeys": ["type"], "type": "b"}}), json!({"strategy": {"type": "b"}}))]
#[case::retain_keys_with_null(json!({"strategy": {"type": "a", "rollingUpdate": {}}}), json!({"strategy": {"$retainKeys": ["type"], "type": "b", "rollingUpdate": null}}), json!({"strategy": {"type": "b"}}))]
#[case::atomic_lists_replace(json!({"args": ["a", "b"]}), json!({"args": ["c"]}), json!({"args": ["c"]}))]
#[case::primitive_lists_merge(json!({"finalizers": ["a", "b"]}), json!({"finalizers": ["c", "a"]}), json!({"finalizers": ["c", "a", "b"]}))]
#[case::primitive_lists_delete(json!({"finalizers": ["a", "b", "c"]}), json!({"$deleteFromPrimitiveList/finalizers": ["b", "x"]}), json!({"finalizers": ["a", "c"]}))]
#[case::primitive_lists_delete_and_add(json!({"finalizers": ["a", "b"]}), json!({"$deleteFromPrimitiveList/finalizers": ["b"], "finalizers": ["c"]}), json!({"finalizers": ["c", "a"]}))]
#[case::delete_from_an_absent_list(json!({}), json!({"$deleteFromPrimitiveList/finalizers": ["b"]}), json!({}))]
#[case::primitive_order(json!({"finalizers": ["a", "b", "c"]}), json!({"$setElementOrder/finalizers": ["c", "d", "a"], "finalizers": ["d"]}), json!({"finalizers": ["b", "c", "d", "a"]}))]
#[case::a_type_change_replaces(json!({"args": {"x": 1}}), json!({"args": ["c"]}), json!({"args": ["c"]}))]
#[case::null_lists_count_as_absent(json!({"finalizers": null}), json!({"$setElementOrder/finalizers": ["a"], "finalizers": ["a"]}), json!({"finalizers": ["a"]}))]
fn strategic_merge_of_maps_and_scalars(
    #[case] spec: Value,
    #[case] patch: Value,
    #[case] expected: Value,
) {
    assert_eq!(strategic(spec, patch).unwrap(), expected);
}

#[rstest]
#[case::merge_by_key(
    json!([{"name": "a", "image": "1"}, {"name": "b", "image": "1"}]),
    json!({"containers": [{"name": "b", "image": "2"}]}),
    json!([{"name": "a", "image": "1"}, {"name": "b", "image": "2"}])
)]
#[case::new_items_come_after_what_stands(
    json!([{"name": "a"}]),
    json!({"containers": [{"name": "c", "image": null, "command": ["x"]}]}),
    json!([{"name": "c", "command": ["x"]}, {"name": "a"}])
)]
#[case::nested_lists_merge(
    json!([{"name": "a", "ports": [{"containerPort": 1}], "command": ["x"]}]),
    json!({"containers": [{"name": "a", "ports": [{"containerPort": 2}, {"containerPort": 1, "protocol": "UDP"}], "command": ["y"]}]}),
    json!([{"name": "a", "ports": [{"containerPort": 2}, {"containerPort": 1, "protocol": "UDP"}], "command": ["y"]}])
)]
#[case::delete_item(
    json!([{"name": "a"}, {"name": "b"}, {"name": "a", "image": "2"}]),
    json!({"containers": [{"name": "a", "$patch": "delete"}, {"name": "c", "$patch": "delete"}]}),
    json!([{"name": "b"}])
)]
#[case::replace_list(
    json!([{"name": "a"}, {"name": "b"}]),
    json!({"containers": [{"$patch": "replace"}, {"name": "z", "image": null}, {"name": "a"}]}),
    json!([{"name": "z"}, {"name": "a"}])
)]
#[case::replace_item(
    json!([{"name": "a", "ports": [{"containerPort": 1}]}]),
    json!({"containers": [{"name": "a", "ports": [{"$patch": "replace"}]}]}),
    json!([{"name": "a", "ports": []}])
)]
#[case::order(
    json!([{"name": "a"}, {"name": "b"}, {"name": "c"}]),
    json!({"$setElementOrder/containers": [{"name": "c"}, {"name": "a"}], "containers": [{"name": "a", "image": "2"}]}),
    json!([{"name": "b"}, {"name": "c"}, {"name": "a", "image": "2"}])
)]
#[case::order_alone(
    json!([{"name": "a"}, {"name": "b"}]),
    json!({"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}]}),
    json!([{"name": "b"}, {"name": "a"}])
)]
#[case::order_with_delete(
    json!([{"name": "a"}, {"name": "b"}, {"name": "c"}]),
    json!({"$setElementOrder/containers": [{"name": "c"}, {"name": "a"}], "containers": [{"name": "b", "$patch": "delete"}]}),
    json!([{"name": "c"}, {"name": "a"}])
)]
#[case::server_items_keep_their_place(
    json!([{"name": "s1"}, {"name": "a"}, {"name": "s2"}, {"name": "b"}, {"name": "s3"}]),
    json!({"$setElementOrder/containers": [{"name": "a"}, {"name": "n"}, {"name": "b"}], "containers": [{"name": "n"}]}),
    json!([{"name": "s1"}, {"name": "a"}, {"name": "n"}, {"name": "s2"}, {"name": "b"}, {"name": "s3"}])
)]
#[case::what_is_added_takes_the_place_of_what_is_deleted(
    json!([{"name": "a"}, {"name": "b"}, {"name": "s"}]),
    json!({"$setElementOrder/containers": [{"name": "a"}, {"name": "n"}], "containers": [{"name": "b", "$patch": "delete"}, {"name": "n"}]}),
    json!([{"name": "a"}, {"name": "s"}, {"name": "n"}])
)]
#[case::empty(json!([]), json!({"containers": []}), json!([]))]
fn strategic_merge_of_lists_of_maps(
    #[case] containers: Value,
    #[case] patch: Value,
    #[case] expected: Value,
) {
    let spec = strategic(json!({"containers": containers}), patch).unwrap();
    assert_eq!(spec["containers"], expected);
}

#[test]
fn a_list_that_was_not_there_is_taken_without_directives() {
    let patch = json!({
        "$setElementOrder/containers": [{"name": "b"}, {"name": "a"}],
        "containers": [{"name": "x", "$patch": "delete"}, {"name": "b", "image": null}, {"name": "a"}],
        "$retainKeys": ["containers", "volumes"],
        "volumes": [{"$patch": "replace"}, {"name": "v", "$retainKeys": ["name"]}],
    });
    assert_eq!(
        strategic(json!({"replicas": 3}), patch).unwrap(),
        json!({"containers": [{"name": "b"}, {"name": "a"}], "volumes": [{"name": "v"}]})
    );
}

#[test]
fn an_item_keeps_only_the_keys_to_retain() {
    let spec = json!({"volumes": [{"name": "v", "emptyDir": {}}, {"name": "w", "emptyDir": {}}]});
    let patch =
        json!({"volumes": [{"name": "v", "$retainKeys": ["name", "secret"], "secret": {"x": 1}}]});
    assert_eq!(
        strategic(spec, patch).unwrap(),
        json!({"volumes": [{"name": "v", "secret": {"x": 1}}, {"name": "w", "emptyDir": {}}]})
    );
}

#[rstest]
#[case(json!({"strategy": {"$patch": "spill"}}), "unknown patch type: \"spill\"")]
#[case(json!({"strategy": {"$patch": 1}}), "unknown patch type: 1")]
#[case(json!({"containers": [{"name": "a", "$patch": "spill"}]}), "unknown patch type")]
#[case(json!({"containers": [{"image": "x"}]}), "does not contain its declared merge key \"name\"")]
#[case(json!({"containers": [{"$patch": "delete"}]}), "does not contain its declared merge key \"name\"")]
#[case(json!({"containers": ["x"]}), "list element types are not identical")]
#[case(json!({"containers": [["x"]]}), "lists of lists are not supported")]
#[case(json!({"strategy": {"$retainKeys": "type"}}), "$retainKeys must be a list of strings")]
#[case(json!({"strategy": {"$retainKeys": ["x"], "type": "b"}}), "\"type\" is missing")]
#[case(json!({"$setElementOrder/containers": {}}), "must be a list")]
#[case(json!({"$setElementOrder": []}), "is malformed")]
#[case(json!({"$setElementOrder/": []}), "is malformed")]
#[case(json!({"$deleteFromPrimitiveList": []}), "is malformed")]
#[case(json!({"$deleteFromPrimitiveList/finalizers": "a"}), "must be a list")]
#[case(json!({"$setElementOrder/containers": [{"name": "b"}], "containers": [{"name": "a"}]}), "not in the order")]
#[case(json!({"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}], "containers": [{"name": "a"}, {"name": "b"}]}), "not in the order")]
#[case(json!({"$setElementOrder/containers": [{"image": "b"}]}), "merge key")]
#[case(json!({"$setElementOrder/containers": [], "containers": {}}), "in the patch is none")]
#[case(json!({"$setElementOrder/strategy": []}), "of the object is none")]
fn a_malformed_strategic_patch_is_a_bad_request(#[case] patch: Value, #[case] part: &str) {
    let spec = json!({"containers": [{"name": "a"}], "strategy": {"type": "a"}});
    let error = strategic(spec, patch).expect_err("malformed");
    assert_eq!(error.code, 400);
    assert!(error.message.contains(part), "{}", error.message);
}

#[test]
fn the_root_can_be_replaced_and_need_not_be_there() {
    let mut document = json!({"a": 1});
    strategic_merge_patch(&mut document, &json!({"$patch": "replace", "b": 2}), None).unwrap();
    assert_eq!(document, json!({"b": 2}));
    let mut document = json!(null);
    strategic_merge_patch(&mut document, &json!({"b": [{"c": null}]}), None).unwrap();
    assert_eq!(document, json!({"b": [{}]}));
}

#[test]
fn where_nothing_is_known_lists_are_replaced_and_directives_still_obeyed() {
    let mut document = json!({"l": [{"name": "a"}, {"name": "b"}], "p": [1, 2], "m": {"x": 1}});
    let patch = json!({
        "$setElementOrder/l": [{"name": "b"}, {"name": "a"}],
        "l": [{"name": "a", "x": 1}],
        "$deleteFromPrimitiveList/p": [1],
        "m": {"$patch": "replace", "y": 2},
    });
    strategic_merge_patch(&mut document, &patch, None).unwrap();
    assert_eq!(
        document,
        json!({"l": [{"name": "a", "x": 1}], "p": [2], "m": {"y": 2}})
    );
}

#[test]
fn long_lists_are_merged_in_linear_time() {
    let list: Vec<_> = (0..20_000)
        .map(|i| json!({"name": format!("c{i}")}))
        .collect();
    let patch = json!({"$setElementOrder/containers": list, "containers": list});
    let started = std::time::Instant::now();
    strategic(json!({"containers": list}), patch).unwrap();
    assert!(
        started.elapsed().as_secs() < 20,
        "quadratic: {:?}",
        started.elapsed()
    );
}

/// What a schema-less strategic patch without directives means.
fn has_no_null_in_lists(value: &Value) -> bool {
    match value {
        Value::Array(items) => items
            .iter()
            .all(|i| !i.is_null() && has_no_null_in_lists(i)),
        Value::Object(map) => map.values().all(has_no_null_in_lists),
        _ => true,
    }
}

proptest! {
    #[test]
    fn a_merge_diff_leads_from_old_to_new(old in object_without_nulls(), new in object_without_nulls()) {
        let mut document = old.clone();
        if let Some(diff) = merge_diff(&old, &new) {
            merge_patch(&mut document, &diff).unwrap();
        }
        prop_assert_eq!(document, new);
    }

    #[test]
    fn without_a_schema_a_strategic_patch_is_a_merge_patch(
        old in object_without_nulls(), new in object_without_nulls(),
    ) {
        prop_assume!(has_no_null_in_lists(&new));
        if let Some(diff) = merge_diff(&old, &new) {
            let mut document = old.clone();
            strategic_merge_patch(&mut document, &diff, None).unwrap();
            prop_assert_eq!(document, new);
        }
    }

    #[test]
    fn a_strategic_patch_applied_twice_changes_nothing_more(
        images in prop::collection::vec(("[a-d]", "[x-z]"), 0..5),
        changes in prop::collection::btree_map("[a-f]", "[x-z]", 0..5),
    ) {
        let list = |pairs: Vec<(String, String)>| -> Vec<Value> {
            pairs.into_iter().map(|(n, i)| json!({"name": n, "image": i})).collect()
        };
        let patch = json!({"containers": list(changes.into_iter().collect())});
        let once = strategic(json!({"containers": list(images)}), patch.clone()).unwrap();
        prop_assert_eq!(strategic(once.clone(), patch).unwrap(), once);
    }

    #[test]
    fn no_json_patch_panics_or_leaves_half_a_change(
        document in object_without_nulls(),
        operations in prop::collection::vec(
            ("(add|remove|replace|move|copy|test)", "(/[a-e0-3-]){0,3}", "(/[a-e0-3-]){0,3}",
             value_without_nulls()), 0..6),
    ) {
        let operations: Vec<_> = operations
            .into_iter()
            .map(|(op, path, from, value)| json!({"op": op, "path": path, "from": from, "value": value}))
            .collect();
        let _ = patched(document, json!(operations));
    }

    #[test]
    fn no_strategic_patch_panics(
        spec in object_without_nulls(), patch in object_without_nulls(), directive in "[$](patch|retainKeys|setElementOrder/[a-e]|deleteFromPrimitiveList/[a-e])",
        value in value_without_nulls(),
    ) {
        let mut patch = patch;
        patch[directive] = value;
        let _ = strategic(spec, patch);
    }
}
