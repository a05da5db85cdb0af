use rstest::rstest;
use serde_json::json;

use super::*;
use crate::definition::NameRule;

#[test]
fn absent_and_mistyped_metadata_reads_as_empty() {
    for object in [
        json!(null),
        json!({}),
        json!({"metadata": 5}),
        json!({"metadata": {"name": 1}}),
    ] {
        let meta = meta(&object);
        assert_eq!((meta.name(), meta.namespace(), meta.uid()), ("", "", ""));
        assert_eq!(
            (meta.generation(), meta.label("a"), meta.annotation("a")),
            (0, None, None)
        );
        assert!(meta.labels().is_empty() && meta.annotations().is_empty());
        assert!(meta.finalizers().is_empty() && meta.owner_references().is_empty());
        assert!(!meta.is_being_deleted() && meta.controller().is_none());
        assert_eq!(
            (
                meta.cluster(),
                meta.resource_version(),
                meta.generate_name()
            ),
            ("", "", "")
        );
    }
}

#[test]
fn present_metadata_is_read() {
    let object = json!({"metadata": {
        "name": "a", "namespace": "b", "generation": 3, "deletionTimestamp": "2020-01-01T00:00:00Z",
        "labels": {"l": "1"}, "annotations": {"kcp.io/cluster": "root"}, "finalizers": ["x/y"],
        "ownerReferences": [{"name": "p"}, {"name": "c", "controller": true}],
    }});
    let meta = meta(&object);
    assert_eq!(
        (meta.name(), meta.namespace(), meta.generation()),
        ("a", "b", 3)
    );
    assert_eq!((meta.label("l"), meta.cluster()), (Some("1"), "root"));
    assert!(meta.is_being_deleted() && meta.has_finalizer("x/y"));
    assert_eq!(meta.controller().map(|o| &o["name"]), Some(&json!("c")));
}

#[test]
fn setting_makes_what_is_missing_and_removing_clears_what_is_empty() {
    let mut object = json!({"kind": "A"});
    set_label(&mut object, "a", "1");
    set_annotation(&mut object, "b", "2");
    set(&mut object, "name", "n");
    set(&mut object, "generation", 2);
    assert_eq!(
        object,
        json!({"kind": "A", "metadata": {
            "labels": {"a": "1"}, "annotations": {"b": "2"}, "name": "n", "generation": 2,
        }})
    );
    assert!(!remove_label(&mut object, "b") && remove_label(&mut object, "a"));
    assert!(!remove_label(&mut object, "a") && remove_annotation(&mut object, "b"));
    assert_eq!(remove(&mut object, "name"), Some(json!("n")));
    assert_eq!(remove(&mut object, "name"), None);
    assert_eq!(object, json!({"kind": "A", "metadata": {"generation": 2}}));
}

#[test]
fn setting_replaces_what_is_not_an_object() {
    let mut object = json!({"metadata": {"labels": null, "finalizers": "x"}});
    set_label(&mut object, "a", "1");
    assert!(add_finalizer(&mut object, "f"));
    assert_eq!(
        object,
        json!({"metadata": {"labels": {"a": "1"}, "finalizers": ["f"]}})
    );
    let mut object = json!([1]);
    set_annotation(&mut object, "a", "1");
    assert_eq!(object, json!({"metadata": {"annotations": {"a": "1"}}}));
}

#[test]
fn finalizers_are_added_once_and_removed_wholly() {
    let mut object = json!({});
    assert!(add_finalizer(&mut object, "a/b") && add_finalizer(&mut object, "c/d"));
    assert!(!add_finalizer(&mut object, "a/b"));
    assert!(!remove_finalizer(&mut object, "x"));
    assert!(remove_finalizer(&mut object, "a/b"));
    assert_eq!(object, json!({"metadata": {"finalizers": ["c/d"]}}));
    assert!(remove_finalizer(&mut object, "c/d"));
    assert_eq!(object, json!({"metadata": {}}));
    assert!(!remove_finalizer(&mut object, "c/d"));
}

#[test]
fn nesting_is_counted() {
    assert_eq!(depth(&json!(1)), 0);
    assert_eq!(depth(&json!({})), 1);
    assert_eq!(depth(&json!({"a": [1, {"b": 2}], "c": 3})), 3);
}

const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const DNS1035: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";

#[rstest]
#[case(NameRule::Subdomain, "a", &[])]
#[case(NameRule::Subdomain, "a-b.c1.0", &[])]
#[case(NameRule::Subdomain, "A", &[SUBDOMAIN])]
#[case(NameRule::Subdomain, "a_b", &[SUBDOMAIN])]
#[case(NameRule::Subdomain, "a..b", &[SUBDOMAIN])]
#[case(NameRule::Subdomain, "-a", &[SUBDOMAIN])]
#[case(NameRule::Subdomain, "a.", &[SUBDOMAIN])]
#[case(NameRule::Subdomain, "a/b", &[SUBDOMAIN])]
#[case(NameRule::Subdomain, "ä", &[SUBDOMAIN])]
#[case(NameRule::Label, "123-abc", &[])]
#[case(NameRule::Label, "a.b", &["must not contain dots"])]
#[case(NameRule::Label, "A.b", &[LABEL])]
#[case(NameRule::Label, "a-", &[LABEL])]
#[case(NameRule::Dns1035, "a1-b", &[])]
#[case(NameRule::Dns1035, "1a", &[DNS1035])]
#[case(NameRule::Dns1035, "a.b", &[DNS1035])]
#[case(NameRule::PathSegment, "system:Any Thing", &[])]
#[case(NameRule::PathSegment, ".", &["may not be '.'"])]
#[case(NameRule::PathSegment, "..", &["may not be '..'"])]
#[case(NameRule::PathSegment, "a/b%", &["may not contain '/'", "may not contain '%'"])]
fn names_are_refused_with_the_words_of_kubernetes(
    #[case] rule: NameRule,
    #[case] name: &str,
    #[case] faults: &[&str],
) {
    let expected: Vec<String> = faults
        .iter()
        .map(|fault| format!("Invalid value: {name:?}: {fault}"))
        .collect();
    let causes = validate_name("metadata.name", name, rule);
    assert_eq!(
        causes.iter().map(|c| c.message.clone()).collect::<Vec<_>>(),
        expected
    );
    assert!(
        causes
            .iter()
            .all(|c| c.field == "metadata.name" && c.reason == "FieldValueInvalid")
    );
}

#[test]
fn names_have_a_length_and_must_be_there() {
    let fault = |name: &str, rule| {
        validate_name("metadata.name", name, rule)[0]
            .message
            .clone()
    };
    assert!(
        fault(&"a".repeat(254), NameRule::Subdomain).ends_with("must be no more than 253 bytes")
    );
    assert!(fault(&"a".repeat(64), NameRule::Label).ends_with("must be no more than 63 bytes"));
    assert!(fault(&"a".repeat(64), NameRule::Dns1035).ends_with("must be no more than 63 bytes"));
    assert!(validate_name("n", &"a".repeat(253), NameRule::Subdomain).is_empty());
    assert_eq!(
        fault("", NameRule::PathSegment),
        "Required value: name or generateName is required"
    );
}

#[test]
fn a_generated_name_is_cut_to_fit() {
    assert!(validate_generate_name("metadata.generateName", "web-", NameRule::Label).is_empty());
    assert!(
        validate_generate_name("metadata.generateName", "..", NameRule::PathSegment).is_empty()
    );
    let causes = validate_generate_name("metadata.generateName", "Web-", NameRule::Label);
    assert!(
        causes[0]
            .message
            .starts_with("Invalid value: \"Web-\": a lowercase")
    );
    assert_eq!(generated_name("web-", "abcde"), "web-abcde");
    assert_eq!(generated_name(&"a".repeat(80), "abcde").len(), 63);
    assert_eq!(generated_name(&"ä".repeat(80), "abcde").len(), 63);
    assert_eq!(
        generated_name(&format!("x{}", "ä".repeat(80)), "abcde").len(),
        62
    );
}

const KEY: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";

#[test]
fn label_keys_are_refused_with_the_words_of_kubernetes() {
    let faults = |key: &str| {
        let causes = validate_qualified_name("metadata.labels", key);
        let start = format!("Invalid value: {key:?}: ");
        causes
            .iter()
            .map(|c| c.message.replace(&start, ""))
            .collect::<Vec<_>>()
    };
    for fine in ["a", "A_b.c-1", "example.com/a", &"a".repeat(63)] {
        assert!(faults(fine).is_empty(), "{fine}");
    }
    assert_eq!(faults("-"), [format!("name part {KEY}")]);
    assert_eq!(
        faults(""),
        [
            "name part must be non-empty".to_owned(),
            format!("name part {KEY}")
        ]
    );
    assert_eq!(faults("/a"), ["prefix part must be non-empty"]);
    assert_eq!(faults("A/a"), [format!("prefix part {SUBDOMAIN}")]);
    let long = "a".repeat(64);
    assert_eq!(faults(&long), ["name part must be no more than 63 bytes"]);
    assert_eq!(
        faults("a/b/c"),
        [format!(
            "a valid label key {KEY} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
        )]
    );
}

#[test]
fn label_values_are_refused_with_the_words_of_kubernetes() {
    for fine in ["", "a", "A_b.c-1"] {
        assert!(validate_label_value("f", fine).is_empty());
    }
    assert_eq!(
        validate_label_value("metadata.labels", "a b")[0].message,
        "Invalid value: \"a b\": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
    );
    assert!(
        validate_label_value("f", &"a".repeat(64))[0]
            .message
            .ends_with("63 bytes")
    );
}

#[test]
fn right_metadata_has_no_errors() {
    for object in [
        json!({}),
        json!({"metadata": null}),
        json!({"metadata": {
            "name": "a", "creationTimestamp": null, "generation": 1, "labels": {"a": "b", "n": null},
            "annotations": {"Example.COM/a": "any text"}, "finalizers": ["orphan", "a.b/c"],
            "ownerReferences": [
                {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u", "controller": true},
                {"apiVersion": "apps/v1", "kind": "D", "name": "p", "uid": "u", "controller": false},
            ],
            "managedFields": [{"manager": "kubectl edit", "operation": "Update", "fieldsType": "FieldsV1"}],
        }}),
    ] {
        assert_eq!(validate_metadata(&object), []);
    }
}

#[rstest]
#[case(json!(5), "metadata", "must be an object")]
#[case(json!({"name": 1}), "metadata.name", "Invalid value: 1: must be a string")]
#[case(json!({"generation": "1"}), "metadata.generation", "must be an integer")]
#[case(json!({"generation": -1}), "metadata.generation", "must be greater than or equal to 0")]
#[case(json!({"labels": []}), "metadata.labels", "must be an object with string values")]
#[case(json!({"labels": {"a": 1}}), "metadata.labels[a]", "must be a string")]
#[case(json!({"labels": {"a b": "c"}}), "metadata.labels", "\"a b\": name part must consist")]
#[case(json!({"labels": {"a": "b c"}}), "metadata.labels", "\"b c\": a valid label must be")]
#[case(json!({"annotations": {"a b": "c"}}), "metadata.annotations", "\"a b\": name part must consist")]
#[case(json!({"finalizers": ["a b"]}), "metadata.finalizers", "\"a b\": name part must consist")]
#[case(json!({"finalizers": [1]}), "metadata.finalizers[0]", "must be a string")]
#[case(json!({"finalizers": {}}), "metadata.finalizers", "must be a list")]
#[case(json!({"finalizers": ["orphan", "foregroundDeletion"]}), "metadata.finalizers", "finalizer orphan and foregroundDeletion cannot be both set")]
#[case(json!({"ownerReferences": [1]}), "metadata.ownerReferences[0]", "must be an object")]
#[case(json!({"ownerReferences": [{"kind": "A", "name": "a", "uid": "u"}]}), "metadata.ownerReferences.apiVersion", "version must not be empty")]
#[case(json!({"ownerReferences": [{"apiVersion": "v1", "name": "a", "uid": "u"}]}), "metadata.ownerReferences.kind", "must not be empty")]
#[case(json!({"ownerReferences": [{"apiVersion": "v1", "kind": "A", "uid": "u"}]}), "metadata.ownerReferences.name", "must not be empty")]
#[case(json!({"ownerReferences": [{"apiVersion": "v1", "kind": "A", "name": "a"}]}), "metadata.ownerReferences.uid", "must not be empty")]
#[case(json!({"ownerReferences": [{"apiVersion": "v1", "kind": "A", "name": "a", "uid": 1}]}), "metadata.ownerReferences.uid", "must be a string")]
#[case(json!({"ownerReferences": [{"apiVersion": "v1", "kind": "A", "name": "a", "uid": "u", "controller": 1}]}), "metadata.ownerReferences[0].controller", "must be a boolean")]
#[case(json!({"ownerReferences": [{"apiVersion": "v1", "kind": "Event", "name": "a", "uid": "u"}]}), "metadata.ownerReferences", "/v1, Kind=Event is disallowed from being an owner")]
#[case(json!({"managedFields": [1]}), "metadata.managedFields[0]", "must be an object")]
#[case(json!({"managedFields": [{"operation": "x"}]}), "metadata.managedFields[0].operation", "must be `Apply` or `Update`")]
#[case(json!({"managedFields": [{"operation": "Apply", "fieldsType": "x"}]}), "metadata.managedFields[0].fieldsType", "must be `FieldsV1`")]
#[case(json!({"managedFields": [{"operation": "Apply", "manager": "a\u{7}"}]}), "metadata.managedFields[0].manager", "invalid character U+0007")]
fn wrong_metadata_is_refused_with_its_field(
    #[case] metadata: Value,
    #[case] field: &str,
    #[case] part: &str,
) {
    let causes = validate_metadata(&json!({"metadata": metadata}));
    let found = causes
        .iter()
        .any(|c| c.field == field && c.message.contains(part));
    assert!(found, "{causes:?}");
}

#[test]
fn an_object_has_so_many_owners_and_no_more() {
    let owner = json!({"apiVersion": "v1", "kind": "A", "name": "a", "uid": "u"});
    let owned = |count: usize| json!({"metadata": {"ownerReferences": vec![owner.clone(); count]}});
    assert_eq!(validate_metadata(&owned(64)), []);
    let causes = validate_metadata(&owned(65));
    assert_eq!(causes.len(), 1);
    assert_eq!(causes[0].field, "metadata.ownerReferences");
    assert_eq!(
        causes[0].message,
        "Too many: 65: must have at most 64 items"
    );
}

#[test]
fn two_controllers_are_refused() {
    let owner = |name: &str| json!({"apiVersion": "v1", "kind": "A", "name": name, "uid": "u", "controller": true});
    let causes =
        validate_metadata(&json!({"metadata": {"ownerReferences": [owner("a"), owner("b")]}}));
    assert!(causes[0].message.ends_with("Only one reference can have Controller set to true. Found \"true\" in references for A/a and A/b"));
}

#[test]
fn annotations_have_a_total_size() {
    let object = |n: usize| json!({"metadata": {"annotations": {"a": "x".repeat(n)}}});
    assert_eq!(validate_metadata(&object(MAX_ANNOTATION_BYTES - 1)), []);
    let causes = validate_metadata(&object(MAX_ANNOTATION_BYTES));
    assert_eq!(
        causes[0].message,
        "Too long: may not be more than 262144 bytes"
    );
    assert_eq!(causes[0].reason, "FieldValueTooLong");
}

#[test]
fn an_error_does_not_echo_a_huge_value() {
    let causes = validate_metadata(&json!({"metadata": {"finalizers": "x".repeat(1 << 20)}}));
    assert!(causes[0].message.len() < 100);
}
