use base64::Engine;

use super::*;

/// A small encoder, for the tests alone.
fn number(field: u32, value: u64) -> Vec<u8> {
    let mut out = varint(u64::from(field) << 3);
    out.extend(varint(value));
    out
}

fn bytes(field: u32, content: impl AsRef<[u8]>) -> Vec<u8> {
    let content = content.as_ref();
    let mut out = varint(u64::from(field) << 3 | 2);
    out.extend(varint(content.len() as u64));
    out.extend(content);
    out
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

fn object(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
    let type_meta = [bytes(1, api_version), bytes(2, kind)].concat();
    [
        MAGIC.to_vec(),
        bytes(1, type_meta),
        bytes(2, raw),
        bytes(3, ""),
        bytes(4, ""),
    ]
    .concat()
}

#[test]
fn what_kubectl_sends_for_a_namespace_is_read() {
    // `kubectl create namespace foo`, version 1.36.
    let sent = "azhzAAoPCgJ2MRIJTmFtZXNwYWNlEhsKEwoDZm9vEgAaACIAKgAyADgAQgASABoCCgAaACIA";
    let sent = base64::engine::general_purpose::STANDARD
        .decode(sent)
        .unwrap();
    let expected = json!({
        "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "foo"},
    });
    assert_eq!(decode(&sent).unwrap().unwrap(), expected);
}

#[test]
fn a_review_keeps_what_was_asked_for() {
    let attributes = [
        bytes(1, "ns"),
        bytes(2, "get"),
        bytes(3, ""),
        bytes(5, "pods"),
    ]
    .concat();
    let raw = [
        bytes(1, []),
        bytes(2, bytes(1, attributes)),
        bytes(3, number(1, 0)),
    ]
    .concat();
    let review = object("authorization.k8s.io/v1", "SelfSubjectAccessReview", &raw);
    let value = decode(&review).unwrap().unwrap();
    let expected = json!({"namespace": "ns", "verb": "get", "resource": "pods"});
    assert_eq!(value["spec"]["resourceAttributes"], expected);
}

#[test]
fn zeros_that_were_set_stay_and_zeros_that_mean_nothing_go() {
    let spec = [number(1, 0), number(5, 0), number(7, 0)].concat();
    let value = decode(&object("apps/v1", "Deployment", &bytes(2, spec)))
        .unwrap()
        .unwrap();
    // replicas is a pointer in Go, minReadySeconds and paused are not.
    assert_eq!(value["spec"], json!({"replicas": 0}));
}

#[test]
fn every_kind_of_value_is_read() {
    let entry = |value: Vec<u8>| [bytes(1, "k"), value].concat();
    let secret = [
        bytes(2, entry(bytes(2, [0xff, 0x00]))),
        bytes(3, "Opaque"),
        number(5, 1),
    ]
    .concat();
    let value = decode(&object("v1", "Secret", &secret)).unwrap().unwrap();
    assert_eq!(
        (&value["data"], &value["immutable"]),
        (&json!({"k": "/wA="}), &json!(true))
    );

    let port = |target: Vec<u8>| bytes(1, [number(3, 80), bytes(4, target)].concat());
    let named = [number(1, 1), number(2, 0), bytes(3, "http")].concat();
    let spec = [port(named), port([number(1, 0), number(2, 8080)].concat())].concat();
    let value = decode(&object("v1", "Service", &bytes(2, spec)))
        .unwrap()
        .unwrap();
    assert_eq!(value["spec"]["ports"][0]["targetPort"], "http");
    assert_eq!(
        value["spec"]["ports"][1],
        json!({"port": 80, "targetPort": 8080})
    );

    let quantity = entry(bytes(2, bytes(1, "250m")));
    let resources = bytes(8, bytes(2, quantity));
    // An inlined member: the source of a volume.
    let volume = [bytes(1, "v"), bytes(2, bytes(2, bytes(1, "Memory")))].concat();
    let pod = [
        bytes(2, [bytes(1, "c"), resources].concat()),
        bytes(1, volume),
    ]
    .concat();
    let value = decode(&object("v1", "Pod", &bytes(2, pod)))
        .unwrap()
        .unwrap();
    assert_eq!(
        value["spec"]["containers"][0]["resources"]["requests"],
        json!({"k": "250m"})
    );
    assert_eq!(
        value["spec"]["volumes"][0],
        json!({"name": "v", "emptyDir": {"medium": "Memory"}})
    );

    let moment = [number(1, 1_700_000_000), number(2, 5_000)].concat();
    let lease = bytes(2, [bytes(3, &moment), number(2, 15)].concat());
    let value = decode(&object("coordination.k8s.io/v1", "Lease", &lease))
        .unwrap()
        .unwrap();
    assert_eq!(value["spec"]["acquireTime"], "2023-11-14T22:13:20.000005Z");

    let metadata = bytes(1, bytes(9, &moment));
    let value = decode(&object("v1", "ConfigMap", &metadata))
        .unwrap()
        .unwrap();
    assert_eq!(
        value["metadata"]["deletionTimestamp"],
        "2023-11-14T22:13:20Z"
    );

    let extra = bytes(5, entry(bytes(2, [bytes(1, "a"), bytes(1, "b")].concat())));
    let review = object(
        "authorization.k8s.io/v1",
        "SubjectAccessReview",
        &bytes(2, extra),
    );
    assert_eq!(
        decode(&review).unwrap().unwrap()["spec"]["extra"],
        json!({"k": ["a", "b"]})
    );

    let revision = object(
        "apps/v1",
        "ControllerRevision",
        &bytes(2, bytes(1, r#"{"a":1}"#)),
    );
    assert_eq!(decode(&revision).unwrap().unwrap()["data"], json!({"a": 1}));
}

#[test]
fn numbers_may_be_negative_and_lists_of_them_packed() {
    let packed = bytes(4, [varint(1), varint(2)].concat());
    let pod = bytes(2, [bytes(14, packed), number(25, -5i64 as u64)].concat());
    let value = decode(&object("v1", "Pod", &pod)).unwrap().unwrap();
    assert_eq!(
        value["spec"]["securityContext"]["supplementalGroups"],
        json!([1, 2])
    );
    assert_eq!(value["spec"]["priority"], -5);
}

#[test]
fn delete_options_are_read_in_whatever_group_they_are_sent() {
    let raw = [
        number(1, 0),
        bytes(2, bytes(1, "u")),
        bytes(4, "Foreground"),
    ]
    .concat();
    let value = decode(&object("apps/v1", "DeleteOptions", &raw))
        .unwrap()
        .unwrap();
    let expected = json!({
        "apiVersion": "apps/v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0,
        "preconditions": {"uid": "u"}, "propagationPolicy": "Foreground",
    });
    assert_eq!(value, expected);
}

#[test]
fn a_kind_without_a_layout_is_none() {
    assert_eq!(decode(&object("example.com/v1", "Widget", &[])), Ok(None));
    assert_eq!(decode(&object("v1", "PodList", &[])), Ok(None));
}

#[test]
fn malformed_bytes_are_refused_with_the_field() {
    let spec = bytes(2, bytes(1, "text where a number belongs"));
    let error = decode(&object("apps/v1", "Deployment", &spec)).unwrap_err();
    assert_eq!(error.to_string(), "spec: replicas: is of another wire type");
    for bad in [&b""[..], b"k8s", b"{}", b"k8s\0\xff", b"k8s\0\x0a\xff\x01"] {
        assert!(decode(bad).is_err(), "{bad:?}");
    }
    let name = bytes(1, bytes(1, [0xff, 0xfe]));
    let error = decode(&object("v1", "ConfigMap", &name)).unwrap_err();
    assert_eq!(error.to_string(), "metadata: name: is not UTF-8");
    let late = bytes(1, bytes(9, number(1, u64::MAX >> 1)));
    assert!(decode(&object("v1", "ConfigMap", &late)).is_err());
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_it_panic(raw: Vec<u8>) {
        let _ = decode(&object("v1", "Pod", &raw));
        let _ = decode(&[MAGIC, &raw].concat());
    }
}
