use proptest::prelude::*;
use rstest::rstest;
use serde_json::json;
use tmc_apimachinery::GroupVersionKind;

use super::*;

fn defaulted(group: &str, version: &str, kind: &str, mut object: Value) -> Value {
    let gvk = GroupVersionKind::new(group, version, kind);
    default(&gvk, &mut object);
    object
}

fn pod(spec: Value) -> Value {
    defaulted("", "v1", "Pod", json!({"spec": spec}))
}

#[rstest]
#[case("nginx", "Always")]
#[case("nginx:latest", "Always")]
#[case("nginx:1.27", "IfNotPresent")]
#[case("registry:5000/nginx", "Always")]
#[case("registry:5000/nginx:1", "IfNotPresent")]
#[case("localhost/nginx", "Always")]
#[case("nginx@sha256:abc", "IfNotPresent")]
#[case("nginx:latest@sha256:abc", "Always")]
#[case("", "IfNotPresent")]
#[case("Not-A-Reference", "IfNotPresent")]
fn images_are_always_pulled_only_if_their_tag_is_latest(#[case] image: &str, #[case] policy: &str) {
    let pod = pod(json!({"containers": [{"name": "c", "image": image}]}));
    assert_eq!(pod["spec"]["containers"][0]["imagePullPolicy"], policy);
}

#[test]
fn an_explicit_zero_stays_where_kubernetes_tells_zero_from_absent() {
    let deployment = defaulted(
        "apps",
        "v1",
        "Deployment",
        json!({"spec": {
            "replicas": 0, "revisionHistoryLimit": 0,
            "strategy": {"rollingUpdate": {"maxSurge": 0}},
            "template": {"spec": {"terminationGracePeriodSeconds": 0}},
        }}),
    );
    let spec = &deployment["spec"];
    assert_eq!(spec["replicas"], 0);
    assert_eq!(spec["revisionHistoryLimit"], 0);
    assert_eq!(
        spec["strategy"]["rollingUpdate"],
        json!({"maxSurge": 0, "maxUnavailable": "25%"})
    );
    assert_eq!(spec["template"]["spec"]["terminationGracePeriodSeconds"], 0);
}

#[test]
fn a_zero_is_replaced_where_kubernetes_takes_it_for_absent() {
    let pod =
        pod(json!({"containers": [{"livenessProbe": {"timeoutSeconds": 0, "periodSeconds": 0}}]}));
    let probe = &pod["spec"]["containers"][0]["livenessProbe"];
    assert_eq!(probe["timeoutSeconds"], 1);
    assert_eq!(probe["periodSeconds"], 10);
}

#[test]
fn a_null_is_replaced_by_the_default() {
    let job = defaulted(
        "batch",
        "v1",
        "Job",
        json!({"spec": {"backoffLimit": null}}),
    );
    assert_eq!(job["spec"]["backoffLimit"], 6);
}

#[test]
fn requests_follow_limits_in_pods_but_not_in_templates() {
    let containers =
        json!([{"resources": {"limits": {"cpu": "2", "memory": "1Gi"}, "requests": {"cpu": "1"}}}]);
    let pod = pod(json!({"containers": containers}));
    assert_eq!(
        pod["spec"]["containers"][0]["resources"]["requests"],
        json!({"cpu": "1", "memory": "1Gi"})
    );
    let template = json!({"spec": {"template": {"spec": {"containers": containers}}}});
    let set = defaulted("apps", "v1", "ReplicaSet", template);
    let container = &set["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["resources"]["requests"], json!({"cpu": "1"}));
}

#[rstest]
#[case(json!({}), "BestEffort")]
#[case(json!({"requests": {"cpu": "1"}}), "Burstable")]
#[case(json!({"limits": {"cpu": "1"}}), "Burstable")]
#[case(json!({"limits": {"cpu": "1", "memory": "1Gi"}}), "Guaranteed")]
#[case(json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "0.5"}}), "Burstable")]
#[case(json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1000m"}}), "Guaranteed")]
#[case(json!({"limits": {"cpu": "0", "memory": "0"}}), "BestEffort")]
fn pods_get_their_quality_of_service_class(#[case] resources: Value, #[case] class: &str) {
    let pod = pod(json!({"containers": [{"resources": resources}]}));
    assert_eq!(pod["status"]["qosClass"], class);
}

#[test]
fn ports_become_host_ports_in_pods_on_the_network_of_the_host() {
    let containers =
        json!([{"ports": [{"containerPort": 80}, {"containerPort": 81, "hostPort": 81}]}]);
    let pod = pod(json!({"hostNetwork": true, "containers": containers}));
    assert_eq!(pod["spec"]["containers"][0]["ports"][0]["hostPort"], 80);
}

#[test]
fn requests_of_a_whole_pod_follow_its_limits_unless_containers_ask() {
    let pod = pod(json!({
        "resources": {"limits": {"cpu": "2", "memory": "1Gi"}},
        "containers": [{"resources": {"requests": {"memory": "1Mi"}}}],
    }));
    assert_eq!(pod["spec"]["resources"]["requests"], json!({"cpu": "2"}));
}

#[test]
fn a_partial_status_of_a_container_is_completed() {
    let pod = json!({"status": {"containerStatuses": [{"name": "c", "ready": true}]}});
    let pod = defaulted("", "v1", "Pod", pod);
    assert_eq!(
        pod["status"]["containerStatuses"][0],
        json!({"name": "c", "ready": true, "restartCount": 0, "image": "", "imageID": "",
               "state": {}, "lastState": {}})
    );
}

#[test]
fn a_service_account_shows_under_its_old_and_its_new_name() {
    let pod = pod(json!({"serviceAccount": "robot"}));
    assert_eq!(pod["spec"]["serviceAccountName"], "robot");
}

#[test]
fn addresses_of_a_service_are_left_to_the_member() {
    let service = defaulted(
        "",
        "v1",
        "Service",
        json!({"spec": {"ports": [{"port": 80}]}}),
    );
    assert_eq!(
        service["spec"],
        json!({
            "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}], "type": "ClusterIP",
            "sessionAffinity": "None", "internalTrafficPolicy": "Cluster",
        })
    );
}

#[test]
fn a_given_address_shows_in_both_fields() {
    let spec = |spec: Value| defaulted("", "v1", "Service", json!({"spec": spec}))["spec"].clone();
    assert_eq!(
        spec(json!({"clusterIP": "None"}))["clusterIPs"],
        json!(["None"])
    );
    assert_eq!(
        spec(json!({"clusterIPs": ["10.0.0.1"]}))["clusterIP"],
        "10.0.0.1"
    );
    let changed = spec(json!({"clusterIP": "10.0.0.2", "clusterIPs": ["10.0.0.1"]}));
    assert_eq!(changed["clusterIPs"], json!(["10.0.0.2"]));
}

#[test]
fn string_data_of_a_secret_moves_into_its_data() {
    let secret = defaulted(
        "",
        "v1",
        "Secret",
        json!({"data": {"a": "b2xk", "c": "Yw=="}, "stringData": {"a": "new"}}),
    );
    assert_eq!(
        secret,
        json!({"type": "Opaque", "data": {"a": "bmV3", "c": "Yw=="}})
    );
}

#[test]
fn quantities_are_written_in_canonical_form_and_numbers_become_text() {
    let claim = |storage: Value| {
        let spec = json!({"resources": {"requests": {"storage": storage}}});
        let claim = defaulted("", "v1", "PersistentVolumeClaim", json!({"spec": spec}));
        claim["spec"]["resources"]["requests"]["storage"].clone()
    };
    assert_eq!(claim(json!("1024Mi")), "1Gi");
    assert_eq!(claim(json!(0.5)), "500m");
    assert_eq!(
        claim(json!("0.1m")),
        "1m",
        "amounts of resources are rounded up to thousandths"
    );
    assert_eq!(
        claim(json!("plenty")),
        "plenty",
        "left for validation to report"
    );
}

#[test]
fn what_the_encoder_leaves_out_is_left_out() {
    let pod = pod(json!({
        "hostNetwork": false, "nodeSelector": {}, "tolerations": [], "serviceAccountName": "",
        "automountServiceAccountToken": false, "affinity": {}, "volumes": [{"name": "v", "emptyDir": {}}],
        "containers": [{"name": "c", "image": "i:1", "env": [{"name": "A", "value": ""}], "command": []}],
    }));
    let spec = pod["spec"].as_object().unwrap();
    for gone in [
        "hostNetwork",
        "nodeSelector",
        "tolerations",
        "serviceAccountName",
    ] {
        assert!(!spec.contains_key(gone), "{gone}");
    }
    assert_eq!(
        spec["automountServiceAccountToken"], false,
        "a pointer tells false from absent"
    );
    assert_eq!(spec["affinity"], json!({}), "so does an object");
    assert_eq!(spec["volumes"], json!([{"name": "v", "emptyDir": {}}]));
    assert_eq!(spec["containers"][0]["env"], json!([{"name": "A"}]));
    assert!(spec["containers"][0].get("command").is_none());
}

#[test]
fn what_users_keep_in_maps_is_not_touched() {
    let data = json!({"host": "", "medium": "", "count": ""});
    let map = defaulted(
        "",
        "v1",
        "ConfigMap",
        json!({"data": data, "metadata": {"labels": {"tty": ""}}}),
    );
    assert_eq!(map["data"], data);
    assert_eq!(map["metadata"]["labels"], json!({"tty": ""}));
    let schema = json!({"type": "object", "properties": {"a": {"default": [], "type": "array"}}});
    let crd = json!({"spec": {"versions": [{"schema": {"openAPIV3Schema": schema}}]}});
    let crd = defaulted(
        "apiextensions.k8s.io",
        "v1",
        "CustomResourceDefinition",
        crd,
    );
    let kept = crd.pointer("/spec/versions/0/schema/openAPIV3Schema/properties/a/default");
    assert_eq!(kept, Some(&json!([])));
}

#[test]
fn a_network_policy_is_about_what_it_has_rules_for() {
    let types = |spec: Value| {
        let policy = defaulted(
            "networking.k8s.io",
            "v1",
            "NetworkPolicy",
            json!({"spec": spec}),
        );
        policy["spec"]["policyTypes"].clone()
    };
    assert_eq!(types(json!({})), json!(["Ingress"]));
    assert_eq!(types(json!({"egress": [{}]})), json!(["Ingress", "Egress"]));
    assert_eq!(types(json!({"policyTypes": ["Egress"]})), json!(["Egress"]));
}

#[test]
fn names_of_a_custom_resource_follow_from_its_kind() {
    let crd = json!({"spec": {"names": {"kind": "Widget", "plural": "widgets"}}});
    let crd = defaulted(
        "apiextensions.k8s.io",
        "v1",
        "CustomResourceDefinition",
        crd,
    );
    assert_eq!(
        crd["spec"],
        json!({
            "names": {"kind": "Widget", "plural": "widgets", "singular": "widget", "listKind": "WidgetList"},
            "conversion": {"strategy": "None"},
        })
    );
}

#[test]
fn kinds_of_others_are_left_alone() {
    let widget = json!({"spec": {"list": [], "size": 0}});
    assert_eq!(
        defaulted("example.org", "v1", "Widget", widget.clone()),
        widget
    );
}

/// JSON of the members that the built-in kinds have, with values of any type.
pub(crate) fn any_object() -> impl Strategy<Value = Value> {
    let names = prop::sample::select(vec![
        "spec",
        "template",
        "metadata",
        "labels",
        "status",
        "containers",
        "resources",
        "limits",
        "cpu",
        "ports",
        "port",
        "env",
        "valueFrom",
        "volumes",
        "name",
        "selector",
        "matchLabels",
        "strategy",
        "rollingUpdate",
        "maxSurge",
        "type",
        "data",
        "stringData",
        "rules",
        "subjects",
        "roleRef",
        "clusterIPs",
        "clusterIP",
        "conditions",
        "versions",
        "names",
        "kind",
        "schema",
        "openAPIV3Schema",
        "jobTemplate",
        "schedule",
        "volumeClaimTemplates",
        "requests",
        "storage",
        "initContainers",
        "tolerations",
        "nodeSelector",
        "image",
        "subsets",
        "addresses",
        "limits",
        "updateStrategy",
        "behavior",
        "metrics",
        "ingress",
        "egress",
        "backend",
        "spec",
        "spec",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-2_i64..70_000).prop_map(Value::from),
        "[a-zA-Z0-9%*/ -]{0,6}".prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 64, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map(names.clone(), inner, 0..6)
                .prop_map(|map| map.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()),
        ]
    })
}

proptest! {
    #[test]
    fn defaulting_anything_twice_is_defaulting_it_once(object in any_object()) {
        for definition in crate::definitions() {
            let mut once = object.clone();
            default(&definition.gvk, &mut once);
            let mut twice = once.clone();
            default(&definition.gvk, &mut twice);
            prop_assert_eq!(&once, &twice, "{}", definition.gvk.kind);
        }
    }
}
