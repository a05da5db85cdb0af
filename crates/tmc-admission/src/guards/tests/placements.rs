//! Location and Placement: defaults and validation.

use super::*;

#[tokio::test]
async fn locations_and_placements_are_about_sync_targets() {
    let targets =
        json!({"group": "workload.kcp.io", "version": "v1alpha1", "resource": "synctargets"});
    let object = Write::new(LOCATION, USER)
        .admit(named(json!({})))
        .await
        .unwrap();
    assert_eq!(object["spec"]["resource"], targets);
    let object = Write::new(PLACEMENT, USER)
        .admit(named(json!({})))
        .await
        .unwrap();
    assert_eq!(
        object["spec"],
        json!({"locationResource": targets, "targets": 1, "replicas": "Duplicated"})
    );
}

#[tokio::test]
async fn every_validation_of_a_location_names_its_field() {
    let nodes = json!({"group": "", "version": "v1", "resource": "nodes"});
    let label = |label: Value| named(json!({"availableSelectorLabels": [label]}));
    expect_faults(
        LOCATION,
        vec![
            (named(json!({"resource": nodes})), "spec.resource.resource"),
            (named(json!({"resource": nodes})), "spec.resource.group"),
            (named(json!({"instanceSelector": {"matchLabels": {"a": "b c"}}})), "spec.instanceSelector.matchLabels"),
            (named(json!({"instanceSelector": {"matchExpressions": [{"key": "a", "operator": "Near"}]}})), "spec.instanceSelector.matchExpressions[0].operator"),
            (label(json!({"key": "a b", "values": ["x"]})), "spec.availableSelectorLabels[0].key"),
            (label(json!({"key": "a", "values": []})), "spec.availableSelectorLabels[0].values"),
            (label(json!({"key": "a", "values": ["x y"]})), "spec.availableSelectorLabels[0].values[0]"),
            (named(json!({"availableSelectorLabels": [{"key": "a", "values": ["x"]}, {"key": "a", "values": ["y"]}]})), "spec.availableSelectorLabels[1].key"),
            (named(json!([])), "spec"),
        ],
    )
    .await;
    expect_fine(
        LOCATION,
        vec![
            named(json!({"instanceSelector": {}})),
            named(json!({"instanceSelector": null})),
        ],
    )
    .await;
}

#[tokio::test]
async fn every_validation_of_a_placement_names_its_field() {
    let toleration = |toleration: Value| named(json!({"tolerations": [toleration]}));
    let division = |replicas: &str, division: Value| {
        named(json!({"replicas": replicas, "division": division}))
    };
    let weight = |weight: i64| json!({"targetSelector": {}, "weight": weight});
    expect_faults(
        PLACEMENT,
        vec![
            (named(json!({"locationResource": {"group": "workload.kcp.io", "version": "v2", "resource": "synctargets"}})), "spec.locationResource.version"),
            (named(json!({"locationResource": {}})), "spec"),
            (named(json!({"locationSelectors": [{}, {"matchExpressions": [{"key": "a", "operator": "In"}]}]})), "spec.locationSelectors[1].matchExpressions[0].values"),
            (named(json!({"namespaceSelector": {"matchLabels": {"a b": "c"}}})), "spec.namespaceSelector.matchLabels"),
            (named(json!({"locationWorkspace": "root/compute"})), "spec.locationWorkspace"),
            (named(json!({"locationWorkspace": ""})), "spec.locationWorkspace"),
            (named(json!({"targets": 0})), "spec.targets"),
            (named(json!({"targets": 1_000_000})), "spec.targets"),
            (named(json!({"targets": "Some"})), "spec"),
            (toleration(json!({"key": ""})), "spec.tolerations[0].operator"),
            (toleration(json!({"key": "a b"})), "spec.tolerations[0].key"),
            (toleration(json!({"key": "a", "operator": "Exists", "value": "b"})), "spec.tolerations[0].value"),
            (toleration(json!({"key": "a", "value": "b c"})), "spec.tolerations[0].value"),
            (toleration(json!({"key": "a", "tolerationSeconds": 3})), "spec.tolerations[0].effect"),
            (toleration(json!({"key": "a", "effect": "NoSchedule", "tolerationSeconds": 3})), "spec.tolerations[0].effect"),
            (division("Duplicated", json!({})), "spec.division"),
            (division("Divided", json!({"strategy": "Weighted"})), "spec.division.weights"),
            (division("Divided", json!({"weights": [weight(1)]})), "spec.division.weights"),
            (division("Divided", json!({"strategy": "Weighted", "weights": [weight(0)]})), "spec.division.weights[0].weight"),
            (division("Divided", json!({"strategy": "Weighted", "weights": [weight(101)]})), "spec.division.weights[0].weight"),
            (named(json!({"resourceRequirements": {"requests": {"cpu": "0"}}})), "spec.resourceRequirements.requests[cpu]"),
            (named(json!({"resourceRequirements": {"requests": {"cpu": "-1"}}})), "spec.resourceRequirements.requests[cpu]"),
        ],
    )
    .await;
    expect_fine(
        PLACEMENT,
        vec![
            named(json!({"targets": "All", "locationSelectors": [{"matchLabels": {"location": "eu"}}], "namespaceSelector": {}})),
            named(json!({"locationWorkspace": "root:compute"})),
            toleration(json!({"operator": "Exists"})),
            toleration(json!({"key": "a", "effect": "NoExecute", "tolerationSeconds": -1})),
            division("Divided", json!({})),
            division("Divided", json!({"strategy": "Weighted", "weights": [weight(1), weight(100)]})),
            named(json!({"resourceRequirements": {"requests": {"cpu": "1m"}}})),
        ],
    )
    .await;
}
