use proptest::prelude::*;
use rstest::rstest;
use serde_json::json;

use super::*;
use crate::defaults::tests::any_object;

/// The errors of an object after defaulting, as `field: message`.
fn errors_of_update(
    api_version: &str,
    kind: &str,
    mut object: Value,
    old: Option<&Value>,
) -> Vec<String> {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let gvk = GroupVersionKind::new(group, version, kind);
    crate::default(&gvk, &mut object);
    let causes = validate(&gvk, &object, old);
    causes
        .into_iter()
        .map(|c| format!("{}: {}", c.field, c.message))
        .collect()
}

fn errors(api_version: &str, kind: &str, object: Value) -> Vec<String> {
    errors_of_update(api_version, kind, object, None)
}

fn deployment(pod: Value) -> Value {
    json!({"spec": {
        "selector": {"matchLabels": {"app": "web"}},
        "template": {"metadata": {"labels": {"app": "web"}}, "spec": pod},
    }})
}

fn errors_of_pod(pod: Value) -> Vec<String> {
    errors("apps/v1", "Deployment", deployment(pod))
}

#[test]
fn a_plain_deployment_is_right() {
    let pod = json!({"containers": [{"name": "web", "image": "nginx"}]});
    assert_eq!(errors_of_pod(pod), [""; 0]);
}

#[test]
fn a_selector_must_match_the_labels_of_its_template() {
    let mut object = deployment(json!({"containers": [{"name": "web", "image": "nginx"}]}));
    object["spec"]["template"]["metadata"]["labels"] = json!({"app": "other"});
    assert_eq!(
        errors("apps/v1", "Deployment", object),
        [
            "spec.template.metadata.labels: Invalid value: {\"app\":\"other\"}: `selector` does not match template `labels`"
        ]
    );
}

#[test]
fn environment_variables_of_one_name_are_allowed_as_in_kubernetes() {
    let env = json!([{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]);
    let pod = json!({"containers": [{"name": "web", "image": "nginx", "env": env}]});
    assert_eq!(errors_of_pod(pod), [""; 0]);
}

#[test]
fn containers_of_a_stateful_set_may_mount_the_volumes_of_its_claims() {
    let container = json!({"name": "db", "image": "db", "volumeMounts": [{"name": "data", "mountPath": "/data"}]});
    let mut object = deployment(json!({"containers": [container]}));
    object["spec"]["volumeClaimTemplates"] = json!([{"metadata": {"name": "data"}, "spec": {
        "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}]);
    assert_eq!(errors("apps/v1", "StatefulSet", object.clone()), [""; 0]);
    assert_eq!(
        errors("apps/v1", "Deployment", object),
        ["spec.template.spec.containers[0].volumeMounts[0].name: Not found: \"data\""]
    );
}

#[rstest]
#[case("*/5 * * * *", None)]
#[case("0 0 1,15 * mon-FRI", None)]
#[case("0 22 * * 1-5/2", None)]
#[case("? * * * *", None)]
#[case("@every 1h30m", None)]
#[case("@reboot", Some("unrecognized descriptor: @reboot"))]
#[case(
    "@every soon",
    Some("failed to parse duration @every soon: time: invalid duration \"soon\"")
)]
#[case("* * *", Some("expected exactly 5 fields, found 3: [* * *]"))]
#[case("60 * * * *", Some("end of range (60) above maximum (59): 60"))]
#[case("* * 0 * *", Some("beginning of range (0) below minimum (1): 0"))]
#[case("*/0 * * * *", Some("step of range should be a positive number: */0"))]
#[case(
    "9-3 * * * *",
    Some("beginning of range (9) beyond end of range (3): 9-3")
)]
#[case("1/2/3 * * * *", Some("too many slashes: 1/2/3"))]
#[case("1-2-3 * * * *", Some("too many hyphens: 1-2-3"))]
fn schedules_are_those_of_cron(#[case] schedule: &str, #[case] fault: Option<&str>) {
    let pod = json!({"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]});
    let object = json!({"spec": {"schedule": schedule,
        "jobTemplate": {"spec": {"template": {"spec": pod}}}}});
    let expected: Vec<String> = fault
        .map(|fault| {
            format!(
                "spec.schedule: Invalid value: {}: {fault}",
                Value::from(schedule)
            )
        })
        .into_iter()
        .collect();
    assert_eq!(errors("batch/v1", "CronJob", object), expected);
}

#[test]
fn an_immutable_config_map_keeps_mark_and_data_but_not_labels() {
    let old = json!({"immutable": true, "data": {"a": "1"}});
    let update = |new: Value| errors_of_update("v1", "ConfigMap", new, Some(&old));
    let why = "Forbidden: field is immutable when `immutable` is set";
    assert_eq!(
        update(json!({"immutable": true, "data": {"a": "1"}, "metadata": {"labels": {"x": "y"}}})),
        [""; 0]
    );
    assert_eq!(
        update(json!({"immutable": true, "data": {"a": "2"}})),
        [format!("data: {why}")]
    );
    assert_eq!(
        update(json!({"data": {"a": "1"}})),
        [format!("immutable: {why}")]
    );
}

#[test]
fn no_error_shows_what_a_secret_holds() {
    let secrets = [
        json!({"data": {"key": "hunter2!"}}),
        json!({"type": "kubernetes.io/dockerconfigjson", "stringData": {".dockerconfigjson": "hunter2!"}}),
    ];
    for secret in secrets {
        let errors = errors("v1", "Secret", secret);
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert!(
            !errors[0].contains("hunter2") && !errors[0].contains("aHVudGVyMi"),
            "{errors:?}"
        );
    }
}

#[test]
fn a_role_reference_cannot_be_changed() {
    let binding = |role: &str| {
        json!({"roleRef": {
        "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": role}})
    };
    let errors = errors_of_update(
        "rbac.authorization.k8s.io/v1",
        "RoleBinding",
        binding("b"),
        Some(&binding("a")),
    );
    assert_eq!(errors.len(), 1);
    assert!(
        errors[0].starts_with("roleRef: Invalid value:")
            && errors[0].ends_with("cannot change roleRef")
    );
}

#[test]
fn the_schema_of_a_custom_resource_is_held_to_the_rules_of_structural_schemas() {
    let crd = |schema: Value| {
        json!({
            "metadata": {"name": "widgets.example.org"},
            "spec": {
                "group": "example.org", "scope": "Namespaced",
                "names": {"plural": "widgets", "kind": "Widget"},
                "versions": [{"name": "v1", "served": true, "storage": true,
                              "schema": {"openAPIV3Schema": schema}}],
            },
        })
    };
    let check = |schema| {
        errors(
            "apiextensions.k8s.io/v1",
            "CustomResourceDefinition",
            crd(schema),
        )
    };
    assert_eq!(check(json!({"type": "object"})), [""; 0]);
    let wrong = check(json!({"type": "object", "properties": {"spec": {"properties": {"a": {}}}}}));
    assert!(!wrong.is_empty());
    for error in wrong {
        assert!(
            error.starts_with("spec.versions[0].schema.openAPIV3Schema.properties[spec]"),
            "{error}"
        );
    }
}

#[test]
fn conversion_by_webhook_is_refused_since_it_would_not_be_done() {
    let crd = json!({
        "metadata": {"name": "widgets.example.org"},
        "spec": {
            "group": "example.org", "scope": "Cluster", "conversion": {"strategy": "Webhook"},
            "names": {"plural": "widgets", "kind": "Widget"},
            "versions": [{"name": "v1", "served": true, "storage": true,
                          "schema": {"openAPIV3Schema": {"type": "object"}}}],
        },
    });
    assert_eq!(
        errors("apiextensions.k8s.io/v1", "CustomResourceDefinition", crd),
        ["spec.conversion.strategy: Unsupported value: \"Webhook\": supported values: \"None\""]
    );
}

#[test]
fn a_hostile_object_does_not_make_a_hostile_answer() {
    let containers: Vec<Value> = (0..10_000).map(|_| json!({"name": "Bad Name"})).collect();
    assert_eq!(errors_of_pod(json!({"containers": containers})).len(), 100);
}

#[rstest]
#[case("10.1.0.0/16", true)]
#[case("10.0.0.0/8", false)]
#[case("11.0.0.0/16", false)]
#[case("fd00::/16", false)]
fn exceptions_of_a_block_lie_inside_it(#[case] except: &str, #[case] right: bool) {
    let peer = json!({"ipBlock": {"cidr": "10.0.0.0/8", "except": [except]}});
    let policy = json!({"spec": {"ingress": [{"from": [peer]}]}});
    assert_eq!(
        errors("networking.k8s.io/v1", "NetworkPolicy", policy).is_empty(),
        right
    );
}

#[test]
fn a_claim_keeps_its_spec_but_may_be_given_a_class_and_a_volume_once() {
    let claim = |spec: Value| {
        let mut all = json!({"accessModes": ["ReadWriteOnce"], "volumeMode": "Filesystem",
            "resources": {"requests": {"storage": "1Gi"}}});
        all.as_object_mut()
            .unwrap()
            .extend(spec.as_object().unwrap().clone());
        json!({"spec": all, "status": {"phase": "Pending"}})
    };
    let check = |old: Value, new: Value| {
        errors_of_update("v1", "PersistentVolumeClaim", claim(new), Some(&claim(old)))
    };
    assert_eq!(
        check(
            json!({}),
            json!({"volumeName": "v", "storageClassName": "fast"})
        ),
        [""; 0]
    );
    assert_eq!(
        check(json!({"volumeName": "v"}), json!({"volumeName": "w"})).len(),
        1
    );
    assert_eq!(
        check(
            json!({"storageClassName": "a"}),
            json!({"storageClassName": "b"})
        )
        .len(),
        1
    );
}

#[test]
fn what_is_no_quantity_is_named_with_its_place() {
    let pod = json!({"containers": [{"name": "c", "image": "i", "resources": {"limits": {"cpu": "lots"}}}]});
    let errors = errors_of_pod(pod);
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(errors[0].starts_with("spec.template.spec.containers[0].resources.limits[cpu]: Invalid value: \"lots\": quantities must match"));
}

proptest! {
    #[test]
    fn nothing_makes_validation_or_columns_panic(object in any_object(), old in any_object()) {
        for definition in crate::definitions() {
            validate(&definition.gvk, &object, None);
            validate(&definition.gvk, &object, Some(&old));
            for column in &definition.columns {
                if let tmc_apimachinery::table::Cell::Function(make) = column.cell {
                    make(&object, 0);
                }
            }
        }
    }
}
