//! SyncTarget: defaults, validation, immutability.

use super::*;

#[tokio::test]
async fn a_bare_sync_target_is_completed() {
    let object = Write::new(TARGET, USER)
        .admit(named(json!(null)))
        .await
        .unwrap();
    assert_eq!(
        object["spec"],
        json!({
            "unschedulable": false, "podSecurity": "baseline", "evictionStrategy": "Graceful",
            "syncerConfig": {
                "mode": "External", "replicas": 1, "image": "example.com/tmc:v1",
                "resyncPeriod": "10m0s", "heartbeatInterval": "10s",
                "downstreamNamespace": tmc_api::hashes::agent_id("east", "u1"),
            },
        })
    );
    let owned = json!({"clusterRef": {"name": "east", "namespace": "default"}});
    let object = Write::new(TARGET, USER).admit(named(owned)).await.unwrap();
    assert_eq!(object["spec"]["syncerConfig"]["mode"], "Hosted");
    let unborn = json!({"metadata": {"generateName": "x-"}});
    let unborn = Write::new(TARGET, USER).admit(unborn).await.unwrap();
    assert!(
        unborn["spec"]["syncerConfig"]
            .get("downstreamNamespace")
            .is_none()
    );
}

#[tokio::test]
async fn cells_are_labelled_and_their_map_form_is_turned_into_a_list() {
    let admit = async |cells: Value| {
        let object = Write::new(TARGET, USER)
            .admit(named(json!({"cells": cells})))
            .await
            .unwrap();
        object["spec"]["cells"].clone()
    };
    assert_eq!(
        admit(json!([{"name": "a"}, {"name": "b", "labels": {"location": "x"}}])).await,
        json!([
            {"name": "a", "labels": {"location": "a"}},
            {"name": "b", "labels": {"location": "x"}},
        ])
    );
    assert_eq!(
        admit(json!({"zone": "1"})).await,
        json!([{"name": "default", "labels": {"zone": "1", "location": "default"}}])
    );
    assert_eq!(admit(json!({})).await, json!([]));
}

#[tokio::test]
async fn every_validation_of_a_sync_target_names_its_field() {
    let taint = |key: &str| json!({"key": key, "effect": "NoSchedule"});
    let syncer = |config: Value| named(json!({"syncerConfig": config}));
    let quota = |quota: Value| named(json!({"resourceQuotas": [quota]}));
    let cells = |cells: Value| named(json!({"cells": cells}));
    expect_faults(
        TARGET,
        vec![
            (named(json!({"clusterRef": {"name": "", "namespace": "x"}})), "spec.clusterRef.name"),
            (named(json!({"clusterRef": {"name": "x", "namespace": "A"}})), "spec.clusterRef.namespace"),
            (cells(json!([{"name": "A"}])), "spec.cells[0].name"),
            (cells(json!([{"name": ""}])), "spec.cells[0].name"),
            (cells(json!([{"name": "a"}, {"name": "a"}])), "spec.cells[1].name"),
            (cells(json!([{"name": "a", "labels": {"-": "x"}}])), "spec.cells[0].labels[-]"),
            (cells(json!([{"name": "a", "capacity": {"cpu": "-1"}}])), "spec.cells[0].capacity[cpu]"),
            (cells(json!([{"name": "a", "taints": [taint("a b")]}])), "spec.cells[0].taints[0].key"),
            (cells(json!([{"name": "a", "taints": [taint("tmc.kcp.io/x")]}])), "spec.cells[0].taints[0].key"),
            (cells(json!("x")), "spec"),
            (named(json!({"taints": [taint("")]})), "spec.taints[0].key"),
            (named(json!({"taints": [taint("a"), taint("a")]})), "spec.taints[1]"),
            (named(json!({"taints": [{"key": "a", "value": "b c", "effect": "NoSchedule"}]})), "spec.taints[0].value"),
            (named(json!({"taints": [taint("tmc.kcp.io/unreachable")]})), "spec.taints[0].key"),
            (named(json!({"taints": [{"key": "a", "effect": "Explode"}]})), "spec"),
            (syncer(json!({"mode": "Hosted"})), "spec.syncerConfig.mode"),
            (syncer(json!({"mode": "Deployment"})), "spec.syncerConfig.mode"),
            (syncer(json!({"image": "not an image"})), "spec.syncerConfig.image"),
            (syncer(json!({"image": ""})), "spec.syncerConfig.image"),
            (syncer(json!({"replicas": 0})), "spec.syncerConfig.replicas"),
            (syncer(json!({"replicas": 6})), "spec.syncerConfig.replicas"),
            (syncer(json!({"downstreamNamespace": "a.b"})), "spec.syncerConfig.downstreamNamespace"),
            (syncer(json!({"heartbeatInterval": "0s"})), "spec.syncerConfig.heartbeatInterval"),
            (syncer(json!({"heartbeatInterval": "1ns"})), "spec.syncerConfig.heartbeatInterval"),
            (syncer(json!({"heartbeatInterval": "999ms"})), "spec.syncerConfig.heartbeatInterval"),
            (syncer(json!({"heartbeatInterval": "-1s"})), "spec"),
            (syncer(json!({"resyncPeriod": "0"})), "spec.syncerConfig.resyncPeriod"),
            (syncer(json!({"resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}})), "spec.syncerConfig.resources.requests[cpu]"),
            (syncer(json!({"resources": {"limits": {"cpu": "-1"}}})), "spec.syncerConfig.resources.limits[cpu]"),
            (named(json!({"supportedAPIExports": [{"path": "Root", "export": "a"}]})), "spec.supportedAPIExports[0].path"),
            (named(json!({"supportedAPIExports": [{"export": "A"}]})), "spec.supportedAPIExports[0].export"),
            (named(json!({"supportedAPIExports": [{"export": "a"}, {"path": "", "export": "a"}]})), "spec.supportedAPIExports[1]"),
            (named(json!({"evictAfter": "5m"})), "spec"),
            (named(json!({"podSecurity": "open"})), "spec"),
            (quota(json!({"hard": {"cpu": "-1"}})), "spec.resourceQuotas[0].hard[cpu]"),
            (quota(json!({"hard": {"cpu": "1"}, "soft": {"cpu": "2"}})), "spec.resourceQuotas[0].soft[cpu]"),
            (quota(json!({"scopes": [{"scopeName": "Workspace", "operator": "In"}]})), "spec.resourceQuotas[0].scopes[0].values"),
            (quota(json!({"scopes": [{"scopeName": "Workspace", "operator": "Exists", "values": ["a"]}]})), "spec.resourceQuotas[0].scopes[0].values"),
            (quota(json!({"overcommit": {"cpu": 99}})), "spec.resourceQuotas[0].overcommit[cpu]"),
            (quota(json!({"burst": {"percent": 99}})), "spec.resourceQuotas[0].burst.percent"),
            (quota(json!({"burst": {"maxDuration": "0s"}})), "spec.resourceQuotas[0].burst.maxDuration"),
            (quota(json!({"burst": {"priorityClasses": ["A"]}})), "spec.resourceQuotas[0].burst.priorityClasses[0]"),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_full_and_valid_sync_target_passes() {
    expect_fine(
        TARGET,
        vec![named(json!({
            "clusterRef": {"name": "east", "namespace": "default"},
            "cells": [{"name": "a", "capacity": {"cpu": "4", "memory": "16Gi", "example.com/gpu": 0}}],
            "taints": [{"key": "a", "effect": "NoSchedule"}, {"key": "a", "effect": "NoExecute"}],
            "syncerConfig": {"mode": "Hosted", "replicas": 5, "heartbeatInterval": "30s",
                "resources": {"requests": {"cpu": "100m"}, "limits": {"cpu": "1"}}},
            "supportedAPIExports": [{"path": "root:compute", "export": "kubernetes"}, {"export": "kubernetes"}],
            "evictAfter": "2026-01-01T00:00:00Z",
            "resourceQuotas": [{"hard": {"cpu": "0"}, "overcommit": {"cpu": 150}, "burst": {"percent": 120, "maxDuration": "1h"},
                "scopes": [{"scopeName": "PriorityClass", "operator": "NotIn", "values": ["low"]}], "onExceeded": "Evict"}],
            "deletion": {"force": true},
        }))],
    )
    .await;
}

#[tokio::test]
async fn a_deployment_beside_a_hub_on_loopback_is_refused_with_the_remedy() {
    let object = named(json!({
        "clusterRef": {"name": "a", "namespace": "b"}, "syncerConfig": {"mode": "Deployment"},
    }));
    let error = Write::new(TARGET, USER).refused(object).await;
    assert!(error.message.contains("--external-url"), "{error}");
}

#[tokio::test]
async fn a_target_deployed_before_the_hub_moved_to_loopback_can_still_be_cordoned() {
    let spec = |unschedulable: bool| {
        named(json!({
            "clusterRef": {"name": "a", "namespace": "b"}, "unschedulable": unschedulable,
            "syncerConfig": {"mode": "Deployment"},
        }))
    };
    Write::new(TARGET, USER)
        .over(spec(false))
        .admit(spec(true))
        .await
        .unwrap();
}

#[tokio::test]
async fn an_interval_from_before_there_was_a_bound_may_stay_but_not_come_back() {
    let spec = |unschedulable: bool, interval: &str| {
        named(json!({"unschedulable": unschedulable,
            "syncerConfig": {"heartbeatInterval": interval}}))
    };
    Write::new(TARGET, USER)
        .over(spec(false, "100ms"))
        .admit(spec(true, "100ms"))
        .await
        .unwrap();
    let found = Write::new(TARGET, USER)
        .over(spec(false, "1s"))
        .faults(spec(false, "100ms"))
        .await;
    assert_eq!(found, ["spec.syncerConfig.heartbeatInterval"]);
}

#[tokio::test]
async fn the_cluster_of_a_target_is_set_once() {
    let with = |name: &str| named(json!({"clusterRef": {"name": name, "namespace": "default"}}));
    Write::new(TARGET, USER)
        .over(named(json!({})))
        .admit(with("a"))
        .await
        .unwrap();
    for new in [
        with("b"),
        named(json!({})),
        named(json!({"clusterRef": null})),
    ] {
        for groups in [USER, CONTROLLER] {
            let found = Write::new(TARGET, groups)
                .over(with("a"))
                .faults(new.clone())
                .await;
            assert!(found.contains(&"spec.clusterRef".to_owned()), "{found:?}");
        }
    }
}

#[tokio::test]
async fn taints_of_the_hub_are_kept_when_a_user_replaces_the_list() {
    let hub = json!({"key": "tmc.kcp.io/unreachable", "effect": "NoExecute"});
    let mine = json!({"key": "mine", "effect": "NoSchedule"});
    let old = named(json!({"taints": [hub]}));
    let admit = async |groups, spec: Value| {
        let write = Write::new(TARGET, groups).over(old.clone());
        write.admit(named(spec)).await.unwrap()["spec"]["taints"].clone()
    };
    assert_eq!(
        admit(USER, json!({"taints": [mine]})).await,
        json!([mine, hub])
    );
    assert_eq!(admit(USER, json!({})).await, json!([hub]));
    assert_eq!(
        admit(CONTROLLER, json!({"taints": [mine]})).await,
        json!([mine])
    );
    let changed =
        json!({"taints": [{"key": "tmc.kcp.io/unreachable", "value": "x", "effect": "NoExecute"}]});
    let found = Write::new(TARGET, USER)
        .over(old.clone())
        .faults(named(changed))
        .await;
    assert_eq!(found, ["spec.taints[0].key"]);
}

#[tokio::test]
async fn metadata_of_an_object_that_became_invalid_can_still_be_written() {
    let stale = || {
        let mut object = named(json!({"unschedulable": false, "podSecurity": "baseline",
            "evictionStrategy": "Graceful", "syncerConfig": {"mode": "External", "replicas": 9,
            "resyncPeriod": "10m", "heartbeatInterval": "10s", "image": "a", "downstreamNamespace": "b"}}));
        object["metadata"]["finalizers"] = json!(["example.com/x"]);
        object
    };
    let mut new = stale();
    new["metadata"]["finalizers"] = json!([]);
    Write::new(TARGET, USER)
        .over(stale())
        .admit(new.clone())
        .await
        .unwrap();
    new["spec"]["unschedulable"] = json!(true);
    Write::new(TARGET, USER).over(stale()).faults(new).await;
}
