use rstest::rstest;
use serde_json::json;

use super::*;

const NOW: i64 = 1_714_521_600; // 2024-05-01T00:00:00Z

/// The cells of an object by header.
fn cell(kind: &str, header: &str, object: &Value) -> Value {
    let column = specs(kind).iter().find(|column| column.name == header);
    let column = column.unwrap_or_else(|| panic!("{kind} has no column {header}"));
    (column.make)(object, NOW)
}

#[test]
fn an_object_with_nothing_in_it_has_a_row() {
    for kind in crate::kinds::KINDS {
        for column in specs(kind.kind) {
            let cell = (column.make)(&json!({}), NOW);
            assert!(!cell.is_null(), "{} {}", kind.kind, column.name);
        }
    }
}

#[rstest]
#[case(json!({"phase": "Running"}), "Running")]
#[case(json!({"phase": "Failed", "reason": "Evicted"}), "Evicted")]
#[case(json!({"containerStatuses": [{"state": {"terminated": {"signal": 9}}}]}), "Signal:9")]
#[case(json!({"containerStatuses": [{"state": {"terminated": {"exitCode": 3}}}]}), "ExitCode:3")]
#[case(json!({"initContainerStatuses": [{"state": {"running": {}}}]}), "Init:0/0")]
#[case(json!({"initContainerStatuses": [{"state": {"terminated": {"signal": 9, "exitCode": 1}}}]}), "Init:Signal:9")]
#[case(json!({"initContainerStatuses": [{"state": {"waiting": {"reason": "ErrImagePull"}}}]}), "Init:ErrImagePull")]
#[case(json!({"conditions": [{"type": "PodScheduled", "reason": "SchedulingGated"}]}), "SchedulingGated")]
fn the_status_of_a_pod_sums_up_its_containers(#[case] status: Value, #[case] text: &str) {
    assert_eq!(cell("Pod", "Status", &json!({"status": status})), text);
}

#[test]
fn a_pod_that_is_being_deleted_is_terminating_unless_it_has_ended() {
    let pod = |phase: &str, reason: &str| {
        json!({"metadata": {"deletionTimestamp": "2024-05-01T00:00:00Z"},
               "status": {"phase": phase, "reason": reason}})
    };
    assert_eq!(cell("Pod", "Status", &pod("Running", "")), "Terminating");
    assert_eq!(cell("Pod", "Status", &pod("Succeeded", "")), "Succeeded");
    assert_eq!(
        cell("Pod", "Status", &pod("Running", "NodeLost")),
        "Unknown"
    );
}

#[test]
fn restarts_tell_when_the_last_one_was() {
    let status = json!({"containerStatuses": [
        {"restartCount": 2, "lastState": {"terminated": {"finishedAt": "2024-04-30T23:59:00Z"}}},
        {"restartCount": 1, "lastState": {"terminated": {"finishedAt": "2024-04-30T23:00:00Z"}}},
    ]});
    assert_eq!(
        cell("Pod", "Restarts", &json!({"status": status})),
        "3 (60s ago)"
    );
}

#[test]
fn a_load_balancer_shows_all_its_addresses_or_that_it_waits() {
    let service = |status: Value, external: Value| json!({"spec": {"type": "LoadBalancer", "externalIPs": external}, "status": {"loadBalancer": status}});
    let shown = |service: &Value| cell("Service", "External-IP", service);
    assert_eq!(shown(&service(json!({}), json!([]))), "<pending>");
    let both = json!({"ingress": [{"ip": "9.9.9.9"}, {"hostname": "a.example"}]});
    assert_eq!(
        shown(&service(both.clone(), json!([]))),
        "9.9.9.9,a.example"
    );
    assert_eq!(
        shown(&service(both, json!(["8.8.8.8"]))),
        "9.9.9.9,a.example,8.8.8.8"
    );
    assert_eq!(shown(&service(json!({}), json!(["8.8.8.8"]))), "8.8.8.8");
}

#[test]
fn long_lists_are_cut_with_the_number_of_what_is_left() {
    let addresses: Vec<Value> = (1..=5)
        .map(|n| json!({"ip": format!("10.0.0.{n}")}))
        .collect();
    let endpoints = json!({"subsets": [{"addresses": addresses, "ports": [{"port": 80}]}]});
    assert_eq!(
        cell("Endpoints", "Endpoints", &endpoints),
        "10.0.0.1:80,10.0.0.2:80,10.0.0.3:80 + 2 more..."
    );
    let rules: Vec<Value> = (0..5).map(|n| json!({"host": format!("h{n}")})).collect();
    assert_eq!(
        cell("Ingress", "Hosts", &json!({"spec": {"rules": rules}})),
        "h0,h1,h2 + 2 more..."
    );
    assert_eq!(
        cell(
            "Endpoints",
            "Endpoints",
            &json!({"subsets": [{"addresses": [{"ip": "fd00::1"}], "ports": [{"port": 1}]}]})
        ),
        "[fd00::1]:1"
    );
}

#[rstest]
#[case(json!({"type": "Pods", "pods": {"target": {"averageValue": "5"}}}), json!({}), "<unknown>/5")]
#[case(
    json!({"type": "Resource", "resource": {"name": "cpu", "target": {"averageUtilization": 80}}}),
    json!({"resource": {"current": {"averageUtilization": 40}}}),
    "cpu: 40%/80%"
)]
#[case(json!({"type": "External", "external": {"target": {"value": "3"}}}), json!({"external": {"current": {"value": "1"}}}), "1/3")]
#[case(json!({"type": "Object", "object": {"target": {"averageValue": "3"}}}), json!({}), "<unknown>/3 (avg)")]
#[case(json!({"type": "New"}), json!({}), "<unknown type>")]
fn metrics_show_their_current_and_target_values(
    #[case] spec: Value,
    #[case] status: Value,
    #[case] text: &str,
) {
    let autoscaler = json!({"spec": {"metrics": [spec]}, "status": {"currentMetrics": [status]}});
    assert_eq!(
        cell("HorizontalPodAutoscaler", "Targets", &autoscaler),
        text
    );
}

#[test]
fn a_job_tells_its_state_its_completions_and_how_long_it_took() {
    let job = json!({
        "spec": {"parallelism": 3},
        "status": {"succeeded": 1, "startTime": "2024-04-30T23:59:30Z",
                   "conditions": [{"type": "Suspended", "status": "True"}]},
    });
    assert_eq!(cell("Job", "Status", &job), "Suspended");
    assert_eq!(cell("Job", "Completions", &job), "1/1 of 3");
    assert_eq!(cell("Job", "Duration", &job), "30s");
}

#[test]
fn the_default_class_is_marked() {
    let class = json!({"metadata": {"name": "fast", "annotations": {
        "storageclass.kubernetes.io/is-default-class": "true"}}});
    assert_eq!(cell("StorageClass", "Name", &class), "fast (default)");
    assert_eq!(cell("IngressClass", "Name", &class), "fast");
}

#[test]
fn subjects_of_a_binding_are_listed_by_kind() {
    let binding = json!({"subjects": [
        {"kind": "User", "name": "ann"}, {"kind": "Group", "name": "dev"}, {"kind": "User", "name": "bob"},
        {"kind": "ServiceAccount", "namespace": "ci", "name": "robot"},
    ]});
    assert_eq!(cell("RoleBinding", "Users", &binding), "ann, bob");
    assert_eq!(cell("ClusterRoleBinding", "Groups", &binding), "dev");
    assert_eq!(cell("RoleBinding", "ServiceAccounts", &binding), "ci/robot");
}

#[test]
fn a_controller_revision_names_its_controller() {
    let revision = json!({"metadata": {"ownerReferences": [
        {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "db", "controller": true}]}});
    assert_eq!(
        cell("ControllerRevision", "Controller", &revision),
        "statefulset.apps/db"
    );
}
