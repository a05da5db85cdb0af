//! Cluster: defaults, validation, names.

use super::*;

#[tokio::test]
async fn a_clusters_key_and_cells_are_filled() {
    let spec = json!({"syncTargetTemplate": {"cells": [{"name": "a"}]}});
    let object = Write::new(CLUSTER, USER)
        .admit(cluster(spec))
        .await
        .unwrap();
    assert_eq!(object["spec"]["kubeconfigSecretRef"]["key"], "kubeconfig");
    assert_eq!(
        object["spec"]["syncTargetTemplate"]["cells"][0]["labels"]["location"],
        "a"
    );
}

#[tokio::test]
async fn every_validation_of_a_cluster_names_its_field() {
    let secret = |reference: Value| named(json!({"kubeconfigSecretRef": reference}));
    let template = |part: Value| cluster(json!({"syncTargetTemplate": part}));
    let with_name = |name: &str| {
        let mut object = cluster(json!({}));
        object["metadata"]["name"] = name.into();
        object
    };
    expect_faults(
        CLUSTER,
        vec![
            (named(json!({})), "spec.kubeconfigSecretRef"),
            (json!({"metadata": {"name": "east"}}), "spec.kubeconfigSecretRef"),
            (secret(json!({"name": ""})), "spec.kubeconfigSecretRef.name"),
            (secret(json!({"name": "A"})), "spec.kubeconfigSecretRef.name"),
            (secret(json!({"name": "a", "key": ""})), "spec.kubeconfigSecretRef.key"),
            (secret(json!({"name": "a", "key": "../x"})), "spec.kubeconfigSecretRef.key"),
            (secret(json!({"name": "a", "namespace": "other"})), "spec.kubeconfigSecretRef.namespace"),
            (cluster(json!({"location": "not a label"})), "spec.location"),
            (cluster(json!({"labels": {"a": "not a label"}})), "spec.labels[a]"),
            (cluster(json!({"labels": {"state.workload.kcp.io/K": "Sync"}})), "spec.labels[state.workload.kcp.io/K]"),
            (template(json!({"syncerConfig": {"replicas": 7}})), "spec.syncTargetTemplate.syncerConfig.replicas"),
            (template(json!({"syncerConfig": {"mode": "Deployment"}})), "spec.syncTargetTemplate.syncerConfig.mode"),
            (template(json!({"taints": [{"key": "tmc.kcp.io/x", "effect": "NoSchedule"}]})), "spec.syncTargetTemplate.taints[0].key"),
            (template(json!({"cells": [{"name": "a", "taints": [{"key": "kcp.io/x", "effect": "NoSchedule"}]}]})), "spec.syncTargetTemplate.cells[0].taints[0].key"),
            (template(json!({"supportedAPIExports": [{"export": ""}]})), "spec.syncTargetTemplate.supportedAPIExports[0].export"),
            (with_name("kcp"), "metadata.name"),
            (with_name("system"), "metadata.name"),
            (with_name("default"), "metadata.name"),
            (with_name("kube-system"), "metadata.name"),
            (with_name("a.b"), "metadata.name"),
            (with_name(&"x".repeat(64)), "metadata.name"),
            (with_name(""), "metadata.name"),
        ],
    )
    .await;
    expect_fine(
        CLUSTER,
        vec![
            with_name("kcp-1"),
            template(json!({"syncerConfig": {"mode": "Hosted"}})),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_kubeconfig_reference_never_shows_more_than_the_field() {
    let object = named(json!({"kubeconfigSecretRef": {"name": "a", "key": "x y"}}));
    let error = Write::new(CLUSTER, USER).refused(object).await;
    assert!(
        error.message.contains("spec.kubeconfigSecretRef.key"),
        "{error}"
    );
}
