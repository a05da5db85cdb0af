//! System-written kinds, status of ours, LogicalClusters.

use super::*;

#[tokio::test]
async fn system_written_kinds_are_closed_to_everyone_else() {
    for (group, kind, plural) in [
        (
            "scheduling.kcp.io",
            "PlacementDecision",
            "placementdecisions",
        ),
        ("workload.kcp.io", "SyncedStatus", "syncedstatuses"),
        (
            "workload.kcp.io",
            "ResourceReservation",
            "resourcereservations",
        ),
        ("workload.kcp.io", "QuotaLedger", "quotaledgers"),
    ] {
        let kind = (group, kind, plural);
        for groups in [USER, MASTER] {
            assert_eq!(
                Write::new(kind, groups)
                    .refused(named(json!({})))
                    .await
                    .code,
                403
            );
            let update = Write::new(kind, groups).over(named(json!({})));
            assert_eq!(update.refused(named(json!({}))).await.code, 403);
            let mut delete = Write::new(kind, groups).over(named(json!({})));
            delete.operation = Operation::Delete;
            assert_eq!(delete.refused(Value::Null).await.code, 403);
        }
        Write::new(kind, CONTROLLER)
            .admit(named(json!({})))
            .await
            .unwrap();
        let view = Write::new(kind, VIEW).admit(named(json!({}))).await;
        assert_eq!(view.is_ok(), kind.1 == "SyncedStatus");
    }
    let same_name = ("example.com", "QuotaLedger", "quotaledgers");
    Write::new(same_name, USER)
        .admit(named(json!({})))
        .await
        .unwrap();
}

#[tokio::test]
async fn status_of_our_kinds_is_the_controllers() {
    for kind in [TARGET, CLUSTER, LOCATION, PLACEMENT, WORKSPACE, LOGICAL] {
        let (old, mut new) = (named(json!({})), named(json!({})));
        new["status"] = json!({"phase": "Ready"});
        for groups in [USER, MASTER, VIEW] {
            let write = Write::new(kind, groups).on("status").over(old.clone());
            assert_eq!(write.refused(new.clone()).await.code, 403, "{kind:?}");
        }
        Write::new(kind, CONTROLLER)
            .on("status")
            .over(old)
            .admit(new)
            .await
            .unwrap();
    }
    let deployment = ("apps", "Deployment", "deployments");
    let write = Write::new(deployment, USER)
        .on("status")
        .over(named(json!({})));
    write.admit(named(json!({}))).await.unwrap();
}

fn target_status(status: Value) -> Value {
    json!({"metadata": {"name": "east"}, "spec": {}, "status": status})
}

#[tokio::test]
async fn an_agent_writes_its_own_fields_of_its_own_target() {
    let ready = json!({"type": "Ready", "status": "False"});
    let authorized = json!({"type": "SyncerAuthorized", "status": "True"});
    let old = target_status(json!({
        "phase": "NotReady", "conditions": [ready],
        "syncerStatus": {"ready": true, "syncedResources": 1},
    }));
    let new = target_status(json!({
        "phase": "NotReady", "conditions": [authorized, ready],
        "syncerStatus": {"ready": true, "syncedResources": 2, "lastSyncTime": "2026-01-01T00:00:00Z"},
        "lastSyncerHeartbeatTime": "2026-01-01T00:00:00Z", "capacity": {"cpu": "4"},
        "allocatable": {"cpu": "3"}, "syncerIdentity": "pod-1",
    }));
    let write = || {
        Write::new(TARGET, USER)
            .by("agent")
            .on("status")
            .over(old.clone())
    };
    write().admit(new.clone()).await.unwrap();
    let mut elsewhere = write();
    elsewhere.name = "west";
    assert_eq!(elsewhere.refused(new.clone()).await.code, 403);
    assert_eq!(write().by("other").refused(new).await.code, 403);
    for (status, field) in [
        (json!({"phase": "Ready"}), "status.phase"),
        (
            json!({"conditions": [{"type": "Ready", "status": "True"}]}),
            "status.conditions[Ready]",
        ),
        (json!({"conditions": []}), "status.conditions[Ready]"),
        (
            json!({"conditions": [ready, {"status": "True"}]}),
            "status.conditions[]",
        ),
        (
            json!({"syncerStatus": {"ready": false, "syncedResources": 1}}),
            "status.syncerStatus.ready",
        ),
        (
            json!({"virtualWorkspaceURL": "https://evil"}),
            "status.virtualWorkspaceURL",
        ),
        (
            json!({"availableResources": {"cpu": "1k"}}),
            "status.availableResources",
        ),
    ] {
        let error = write().refused(target_status(status.clone())).await;
        assert_eq!(error.code, 403);
        let fields: Vec<_> = error.causes.iter().map(|c| c.field.as_str()).collect();
        assert!(fields.contains(&field), "{status}: {fields:?}");
    }
}

#[tokio::test]
async fn a_logical_cluster_is_neither_made_nor_changed_nor_removed_by_hand() {
    let object = named(json!({"directlyDeletable": false}));
    for groups in [USER, MASTER, VIEW] {
        assert_eq!(
            Write::new(LOGICAL, groups)
                .refused(object.clone())
                .await
                .code,
            403
        );
        let changed = named(json!({"directlyDeletable": true}));
        let write = Write::new(LOGICAL, groups).over(object.clone());
        assert_eq!(write.refused(changed.clone()).await.code, 403);
        let mut labels = object.clone();
        labels["metadata"]["labels"] = json!({"mine": "1"});
        write.admit(labels).await.unwrap();
        let owner = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "gone", "uid": "x"});
        for (field, list) in [
            ("ownerReferences", json!([owner])),
            ("finalizers", json!(["example.com/hold"])),
        ] {
            let mut held = object.clone();
            held["metadata"][field] = list;
            assert_eq!(write.refused(held.clone()).await.code, 403, "{field}");
            let kept = Write::new(LOGICAL, groups).over(held.clone());
            kept.admit(held).await.unwrap();
            let mut empty = object.clone();
            empty["metadata"][field] = json!([]);
            write.admit(empty).await.unwrap();
        }
        let mut delete = Write::new(LOGICAL, groups).over(object.clone());
        delete.operation = Operation::Delete;
        assert_eq!(delete.refused(Value::Null).await.code, 403);
        delete.old = Some(changed);
        delete.admit(Value::Null).await.unwrap();
    }
    Write::new(LOGICAL, CONTROLLER).admit(object).await.unwrap();
}
