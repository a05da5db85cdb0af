//! Every rule through the trait, as a hub calls it: mutate, then validate.

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::json;
use tmc_apimachinery::schema::Schema;
use tmc_apimachinery::user::UserInfo;
use tmc_apimachinery::{ClusterName, GroupVersionKind, GroupVersionResource};

use super::*;
use crate::{AgentAccess, GROUP_VIRTUAL_WORKSPACE, guards};

const USER: &[&str] = &["team"];
const MASTER: &[&str] = &["system:masters"];
const CONTROLLER: &[&str] = &["system:tmc:controllers"];
const VIEW: &[&str] = &[GROUP_VIRTUAL_WORKSPACE];

/// The user `agent` may sync the target `east` of `root`.
struct OneAgent;

#[async_trait]
impl AgentAccess for OneAgent {
    async fn may_sync(&self, user: &UserInfo, cluster: &ClusterName, target: &str) -> bool {
        user.name == "agent" && cluster.as_str() == "root" && target == "east"
    }
}

fn config() -> GuardConfig {
    GuardConfig {
        syncer_image: Some("example.com/tmc:v1".into()),
        hub_on_loopback: true,
        agents: Arc::new(OneAgent),
    }
}

/// One write: as whom, of what, where.
struct Write<'a> {
    kind: (&'a str, &'a str, &'a str),
    user: &'a str,
    groups: &'a [&'a str],
    subresource: &'a str,
    operation: Operation,
    old: Option<Value>,
    name: &'a str,
}

impl<'a> Write<'a> {
    fn new(kind: (&'a str, &'a str, &'a str), groups: &'a [&'a str]) -> Self {
        Self {
            kind,
            user: "someone",
            groups,
            subresource: "",
            operation: Operation::Create,
            old: None,
            name: "east",
        }
    }

    fn over(mut self, old: Value) -> Self {
        self.operation = Operation::Update;
        self.old = Some(old);
        self
    }

    fn by(mut self, user: &'a str) -> Self {
        self.user = user;
        self
    }

    fn on(mut self, subresource: &'a str) -> Self {
        self.subresource = subresource;
        self
    }

    async fn admit(&self, mut object: Value) -> Result<Value> {
        let (group, kind, plural) = self.kind;
        let (user, cluster) = (
            UserInfo::new(self.user, self.groups),
            ClusterName::new("root"),
        );
        let gvk = GroupVersionKind::new(group, "v1alpha1", kind);
        let gvr = GroupVersionResource::new(group, "v1alpha1", plural);
        let request = AdmissionRequest {
            operation: self.operation,
            cluster: &cluster,
            gvk: &gvk,
            gvr: &gvr,
            subresource: self.subresource,
            namespace: "",
            name: self.name,
            user: &user,
            dry_run: false,
            old: self.old.as_ref(),
        };
        let guards = guards(config());
        if self.operation == Operation::Delete {
            guards.validate(&request, None).await?;
            return Ok(Value::Null);
        }
        guards.mutate(&request, &mut object).await?;
        guards.validate(&request, Some(&object)).await?;
        Ok(object)
    }

    async fn refused(&self, object: Value) -> ApiError {
        match self.admit(object.clone()).await {
            Err(error) => error,
            Ok(_) => panic!("admitted: {object}"),
        }
    }

    /// The fields named in a 422.
    async fn faults(&self, object: Value) -> Vec<String> {
        let error = self.refused(object.clone()).await;
        assert_eq!(error.code, 422, "{object}: {error}");
        error.causes.into_iter().map(|cause| cause.field).collect()
    }
}

const TARGET: (&str, &str, &str) = ("workload.kcp.io", "SyncTarget", "synctargets");
const CLUSTER: (&str, &str, &str) = ("workload.kcp.io", "Cluster", "clusters");
const LOCATION: (&str, &str, &str) = ("scheduling.kcp.io", "Location", "locations");
const PLACEMENT: (&str, &str, &str) = ("scheduling.kcp.io", "Placement", "placements");
const WORKSPACE: (&str, &str, &str) = ("tenancy.kcp.io", "Workspace", "workspaces");
const LOGICAL: (&str, &str, &str) = ("core.kcp.io", "LogicalCluster", "logicalclusters");
const CONFIG_MAP: (&str, &str, &str) = ("", "ConfigMap", "configmaps");

fn named(spec: Value) -> Value {
    json!({"metadata": {"name": "east", "uid": "u1"}, "spec": spec})
}

fn cluster(spec: Value) -> Value {
    let mut spec = spec;
    spec["kubeconfigSecretRef"] = json!({"name": "east-kubeconfig"});
    named(spec)
}

async fn expect_faults(kind: (&str, &str, &str), cases: Vec<(Value, &str)>) {
    for (object, field) in cases {
        let found = Write::new(kind, USER).faults(object.clone()).await;
        assert!(found.iter().any(|f| f == field), "{object}: {found:?}");
    }
}

async fn expect_fine(kind: (&str, &str, &str), cases: Vec<Value>) {
    for object in cases {
        let answer = Write::new(kind, USER).admit(object.clone()).await;
        answer.unwrap_or_else(|error| panic!("{object}: {error}"));
    }
}

// ---- reserved keys ----

fn labelled(key: &str, value: &str) -> Value {
    json!({"metadata": {"name": "east", "labels": {key: value}}})
}

fn annotated(key: &str, value: &str) -> Value {
    json!({"metadata": {"name": "east", "annotations": {key: value}}})
}

fn finalized(key: &str) -> Value {
    json!({"metadata": {"name": "east", "finalizers": [key]}})
}

#[tokio::test]
async fn a_user_cannot_set_a_reserved_key_and_is_told_which() {
    for key in [
        "state.workload.kcp.io/K",
        "kcp.io/tenant-id",
        "tmc.kcp.io/owner-cluster",
        "State.Workload.KCP.io/K",
        "kcp.io/",
        "internal.workload.kcp.io/key",
    ] {
        for groups in [USER, MASTER] {
            for (field, object) in [
                ("labels", labelled(key, "Sync")),
                ("labels", labelled(key, "")),
                ("annotations", annotated(key, "x")),
                ("finalizers", finalized(key)),
            ] {
                let found = Write::new(CONFIG_MAP, groups).faults(object).await;
                assert_eq!(found, [format!("metadata.{field}[{key}]")]);
            }
        }
    }
}

#[tokio::test]
async fn keys_that_only_look_reserved_are_free() {
    for key in [
        "evil-kcp.io/x",
        "evilkcp.io/x",
        "kcp.io.example.com/x",
        "example.com/kcp.io",
        "kcp.io",
        "",
        "/",
        "experimental.summarizing.workload.kcp.io",
    ] {
        for object in [labelled(key, "x"), annotated(key, "x"), finalized(key)] {
            Write::new(CONFIG_MAP, USER).admit(object).await.unwrap();
        }
    }
}

#[tokio::test]
async fn the_exceptions_are_annotations_only() {
    for key in [
        "workload.kcp.io/skip-default-object-creation",
        "experimental.spec-diff.workload.kcp.io/K",
        "experimental.workload.kcp.io/upsync-derived-resources",
        "featuregates.experimental.workload.kcp.io/advancedscheduling",
    ] {
        Write::new(CONFIG_MAP, USER)
            .admit(annotated(key, "x"))
            .await
            .unwrap();
        Write::new(CONFIG_MAP, USER)
            .faults(labelled(key, "x"))
            .await;
    }
}

#[tokio::test]
async fn controllers_and_virtual_workspaces_write_reserved_keys() {
    for groups in [CONTROLLER, VIEW] {
        let write =
            Write::new(CONFIG_MAP, groups).over(labelled("state.workload.kcp.io/A", "Sync"));
        let object = write
            .admit(labelled("state.workload.kcp.io/B", "Sync"))
            .await
            .unwrap();
        assert_eq!(
            object["metadata"]["labels"],
            json!({"state.workload.kcp.io/B": "Sync"})
        );
    }
}

#[tokio::test]
async fn an_update_that_omits_reserved_keys_keeps_them() {
    let old = json!({"metadata": {
        "name": "east",
        "labels": {"state.workload.kcp.io/K": "Sync", "mine": "1"},
        "annotations": {"diff.syncer.internal.kcp.io/K": "{}", "other": "1"},
        "finalizers": ["example.com/x", "workload.kcp.io/syncer-K"],
    }});
    for new in [
        json!({"metadata": {"name": "east"}}),
        json!({}),
        json!({"metadata": {"labels": null, "finalizers": null}}),
    ] {
        let kept = Write::new(CONFIG_MAP, USER)
            .over(old.clone())
            .admit(new)
            .await
            .unwrap();
        let kept = &kept["metadata"];
        assert_eq!(kept["labels"], json!({"state.workload.kcp.io/K": "Sync"}));
        assert_eq!(
            kept["annotations"],
            json!({"diff.syncer.internal.kcp.io/K": "{}"})
        );
        assert_eq!(kept["finalizers"], json!(["workload.kcp.io/syncer-K"]));
    }
}

#[tokio::test]
async fn a_changed_reserved_key_is_refused_and_an_unchanged_one_passes() {
    let old = labelled("state.workload.kcp.io/K", "Sync");
    let write = Write::new(CONFIG_MAP, USER).over(old.clone());
    write.admit(old).await.unwrap();
    let found = write
        .faults(labelled("state.workload.kcp.io/K", "Upsync"))
        .await;
    assert_eq!(found, ["metadata.labels[state.workload.kcp.io/K]"]);
    let found = write
        .faults(labelled("state.workload.kcp.io/K2", "Sync"))
        .await;
    assert_eq!(found, ["metadata.labels[state.workload.kcp.io/K2]"]);
}

#[tokio::test]
async fn masters_may_remove_reserved_keys_but_a_manifest_that_never_knew_them_removes_nothing() {
    let old = json!({"metadata": {
        "name": "east",
        "labels": {"state.workload.kcp.io/K": "Sync"},
        "annotations": {"kcp.io/cluster": "root", "kcp.io/path": "root"},
        "finalizers": ["workload.kcp.io/syncer-K"],
    }});
    let write = Write::new(CONFIG_MAP, MASTER).over(old);
    let edited = json!({"metadata": {"name": "east", "annotations": {"kcp.io/cluster": "root"}}});
    let removed = write.admit(edited).await.unwrap();
    assert!(removed["metadata"].get("labels").is_none());
    assert!(removed["metadata"].get("finalizers").is_none());
    assert_eq!(removed["metadata"]["annotations"]["kcp.io/path"], "root");
    let kept = write
        .admit(json!({"metadata": {"name": "east"}}))
        .await
        .unwrap();
    assert_eq!(
        kept["metadata"]["labels"]["state.workload.kcp.io/K"],
        "Sync"
    );
    assert_eq!(
        kept["metadata"]["finalizers"],
        json!(["workload.kcp.io/syncer-K"])
    );
}

#[tokio::test]
async fn what_comes_from_the_url_is_never_taken_from_the_client() {
    let lie = json!({"metadata": {"name": "east", "annotations": {"kcp.io/cluster": "other", "kcp.io/path": "root:other", "a": "b"}}});
    for groups in [USER, MASTER] {
        let object = Write::new(CONFIG_MAP, groups)
            .admit(lie.clone())
            .await
            .unwrap();
        assert_eq!(object["metadata"]["annotations"], json!({"a": "b"}));
        let old = annotated("kcp.io/path", "root:mine");
        let object = Write::new(CONFIG_MAP, groups)
            .over(old)
            .admit(lie.clone())
            .await
            .unwrap();
        assert_eq!(
            object["metadata"]["annotations"],
            json!({"kcp.io/path": "root:mine", "a": "b"})
        );
    }
}

#[tokio::test]
async fn an_agent_writes_the_display_annotation_of_its_own_imports_only() {
    let import = (
        "apiresource.kcp.io",
        "APIResourceImport",
        "apiresourceimports",
    );
    let object = |location: &str| {
        let mut object = annotated("apiresource.kcp.io/apiVersion", "v1");
        object["spec"] = json!({"location": location});
        object
    };
    Write::new(import, USER)
        .by("agent")
        .admit(object("east"))
        .await
        .unwrap();
    for write in [
        Write::new(import, USER)
            .by("agent")
            .over(json!({"spec": {"location": "west"}})),
        Write::new(import, USER).by("other"),
        Write::new(CONFIG_MAP, USER).by("agent"),
    ] {
        write.faults(object("east")).await;
    }
    Write::new(import, USER)
        .by("agent")
        .faults(object("west"))
        .await;
    let mut other = object("east");
    other["metadata"]["labels"] = json!({"state.workload.kcp.io/K": "Sync"});
    assert_eq!(
        Write::new(import, USER)
            .by("agent")
            .faults(other)
            .await
            .len(),
        1
    );
}

#[tokio::test]
async fn keys_that_the_hub_gives_a_new_workspace_are_not_held_against_its_creator() {
    let given = json!({"metadata": {
        "name": "shop",
        "annotations": {"experimental.tenancy.kcp.io/owner": "{}", "internal.tenancy.kcp.io/shard": "x"},
        "finalizers": ["core.kcp.io/logicalcluster"],
    }, "spec": {"cluster": "2abc", "URL": "https://hub/clusters/root:shop"}});
    let user = UserInfo::new("someone", USER);
    let cluster = ClusterName::new("root");
    let gvk = GroupVersionKind::new("tenancy.kcp.io", "v1alpha1", "Workspace");
    let gvr = GroupVersionResource::new("tenancy.kcp.io", "v1alpha1", "workspaces");
    let request = AdmissionRequest {
        operation: Operation::Create,
        cluster: &cluster,
        gvk: &gvk,
        gvr: &gvr,
        subresource: "",
        namespace: "",
        name: "shop",
        user: &user,
        dry_run: false,
        old: None,
    };
    let guards = guards(config());
    guards.validate(&request, Some(&given)).await.unwrap();
    let error = guards
        .mutate(&request, &mut given.clone())
        .await
        .unwrap_err();
    assert_eq!(
        error.causes.len(),
        3,
        "the client itself may not send them: {error}"
    );
}

// ---- system-written kinds and status ----

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
        (json!({"conditions": [ready, ready]}), "none"),
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
        if field == "none" {
            continue;
        }
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
        let mut delete = Write::new(LOGICAL, groups).over(object.clone());
        delete.operation = Operation::Delete;
        assert_eq!(delete.refused(Value::Null).await.code, 403);
        delete.old = Some(changed);
        delete.admit(Value::Null).await.unwrap();
    }
    Write::new(LOGICAL, CONTROLLER).admit(object).await.unwrap();
}

// ---- SyncTarget ----

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
    let unborn = Write::new(TARGET, USER).admit(json!({"metadata": {"generateName": "x-"}}));
    let unborn = unborn.await.unwrap();
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

// ---- Cluster ----

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

// ---- Location and Placement ----

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

// ---- Workspace ----

#[tokio::test]
async fn every_validation_of_a_workspace_names_its_field() {
    let with_name = |name: &str| json!({"metadata": {"name": name}});
    let mount = json!({"ref": {"apiVersion": "v1", "kind": "X", "name": "x"}});
    expect_faults(
        WORKSPACE,
        vec![
            (named(json!({"mount": mount})), "spec.mount"),
            (named(json!({"type": {"name": "-a"}})), "spec.type.name"),
            (named(json!({"type": {"name": ""}})), "spec.type.name"),
            (named(json!({"type": {"name": "1a"}})), "spec.type.name"),
            (
                named(json!({"type": {"name": "x".repeat(64)}})),
                "spec.type.name",
            ),
            (
                named(json!({"type": {"name": "a", "path": "a:"}})),
                "spec.type.path",
            ),
            (
                named(json!({"location": {"selector": {"matchLabels": {"": "x"}}}})),
                "spec.location.selector.matchLabels",
            ),
            (with_name("a:b"), "metadata.name"),
            (with_name("a.b"), "metadata.name"),
            (with_name("A"), "metadata.name"),
        ],
    )
    .await;
    expect_fine(
        WORKSPACE,
        vec![
            with_name("shop"),
            named(json!({"type": {"name": "team", "path": "root"}})),
        ],
    )
    .await;
}

#[tokio::test]
async fn what_a_workspace_was_given_cannot_change() {
    let old = named(json!({"type": {"name": "team"}, "cluster": "2abc", "URL": "https://hub/a"}));
    let change = |pointer: &str, value: Value| {
        let mut new = old.clone();
        *new.pointer_mut(pointer).unwrap() = value;
        new
    };
    for (new, field) in [
        (change("/spec/type", json!({"name": "other"})), "spec.type"),
        (change("/spec/type", json!(null)), "spec.type"),
        (change("/spec/cluster", json!("2xyz")), "spec.cluster"),
        (change("/spec/cluster", json!(null)), "spec.cluster"),
        (change("/spec/URL", json!("https://evil")), "spec.URL"),
        (change("/spec/URL", json!(null)), "spec.URL"),
    ] {
        for groups in [USER, MASTER] {
            let found = Write::new(WORKSPACE, groups)
                .over(old.clone())
                .faults(new.clone())
                .await;
            assert!(found.iter().any(|f| f == field), "{field}: {found:?}");
        }
    }
    let moved = change("/spec/URL", json!("https://hub/b"));
    Write::new(WORKSPACE, CONTROLLER)
        .over(old.clone())
        .admit(moved)
        .await
        .unwrap();
    let write = Write::new(WORKSPACE, CONTROLLER).over(old.clone());
    assert_eq!(
        write.faults(change("/spec/cluster", json!("2xyz"))).await,
        ["spec.cluster"]
    );
    let fresh = Write::new(WORKSPACE, CONTROLLER).over(named(json!({})));
    fresh
        .admit(named(json!({"cluster": "2abc", "URL": "https://hub/a"})))
        .await
        .unwrap();
    let fresh = Write::new(WORKSPACE, USER).over(named(json!({})));
    fresh.faults(named(json!({"cluster": "2abc"}))).await;
}

// ---- properties ----

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        prop_oneof![
            Just("Exists"),
            Just("Divided"),
            Just("a"),
            Just(""),
            Just("kcp.io/x"),
            Just("10s")
        ]
        .prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 48, 4, |inner| {
        let key = prop_oneof![
            Just("name"),
            Just("key"),
            Just("cells"),
            Just("taints"),
            Just("syncerConfig"),
            Just("labels"),
            Just("metadata"),
            Just("spec"),
            Just("annotations"),
            Just("finalizers"),
            Just("clusterRef"),
            Just("tolerations"),
            Just("division"),
            Just("weights"),
            Just("state.workload.kcp.io/K"),
            Just("kubeconfigSecretRef"),
            Just("type"),
            Just("mount"),
            Just("matchLabels"),
            Just("instanceSelector"),
            Just("conditions"),
            Just("status"),
        ]
        .prop_map(str::to_owned);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            prop::collection::btree_map(key, inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(future)
}

const KINDS: [(&str, &str, &str); 7] = [
    TARGET, CLUSTER, LOCATION, PLACEMENT, WORKSPACE, LOGICAL, CONFIG_MAP,
];

fn defaulted(kind: (&str, &str, &str), mut object: Value) -> Value {
    let gvk = GroupVersionKind::new(kind.0, "v1alpha1", kind.1);
    Guards::new(config()).default(Kind::of(&gvk), &mut object);
    object
}

proptest! {
    #[test]
    fn unknown_content_never_panics(
        spec in any_json(), metadata in any_json(), old in any_json(), kind in 0usize..7, who in 0usize..4,
    ) {
        let groups = [USER, MASTER, CONTROLLER, VIEW][who];
        let object = json!({"metadata": metadata, "spec": spec});
        for subresource in ["", "status"] {
            let create = Write::new(KINDS[kind], groups).on(subresource).by("agent");
            let _ = run(create.admit(object.clone()));
            let _ = run(create.admit(spec.clone()));
            let update = Write::new(KINDS[kind], groups).on(subresource).by("agent").over(old.clone());
            let _ = run(update.admit(object.clone()));
        }
    }

    #[test]
    fn defaulting_is_idempotent(spec in any_json(), kind in 0usize..7) {
        let object = json!({"metadata": {"name": "east", "uid": "u"}, "spec": spec});
        let once = defaulted(KINDS[kind], object);
        prop_assert_eq!(defaulted(KINDS[kind], once.clone()), once);
    }

    #[test]
    fn no_user_changes_what_is_reserved(
        old in prop::collection::btree_map("(state\\.workload\\.)?kcp\\.io/[a-c]|[a-c]", "[x-y]", 0..4),
        new in prop::collection::btree_map("(state\\.workload\\.)?kcp\\.io/[a-c]|[a-c]", "[x-y]", 0..4),
    ) {
        let object = |labels: &std::collections::BTreeMap<String, String>| {
            json!({"metadata": {"name": "east", "labels": labels}})
        };
        let write = Write::new(CONFIG_MAP, USER).over(object(&old));
        if let Ok(stored) = run(write.admit(object(&new))) {
            let reserved = |labels: &Value| -> Vec<(String, Value)> {
                let map = labels.as_object().cloned().unwrap_or_default();
                map.into_iter().filter(|(key, _)| keys::is_reserved(key)).collect()
            };
            prop_assert_eq!(reserved(&stored["metadata"]["labels"]), reserved(&json!(old)));
        }
    }
}

#[tokio::test]
async fn defaulted_objects_satisfy_their_schemas() {
    for (kind, object) in [
        (TARGET, named(json!({"cells": {"zone": "a"}}))),
        (
            CLUSTER,
            cluster(json!({"syncTargetTemplate": {"cells": [{"name": "a"}]}})),
        ),
        (LOCATION, named(json!({}))),
        (
            PLACEMENT,
            named(json!({"tolerations": [{"key": "a"}], "replicas": "Divided", "division": {}})),
        ),
        (WORKSPACE, named(json!({}))),
    ] {
        let mut object = Write::new(kind, USER).admit(object).await.unwrap();
        object["apiVersion"] = format!("{}/v1alpha1", kind.0).into();
        object["kind"] = kind.1.into();
        let crds = tmc_api::crd::crds();
        let crd = crds
            .iter()
            .find(|crd| crd["spec"]["names"]["kind"] == kind.1)
            .unwrap();
        let source = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        let schema = Schema::compile(source).unwrap();
        assert_eq!(schema.prune(&mut object), Vec::<String>::new());
        assert!(
            schema.validate(&object).is_empty(),
            "{:?}",
            schema.validate(&object)
        );
        let stored = object.clone();
        schema.default(&mut object);
        let again = Write::new(kind, USER)
            .over(stored)
            .admit(object.clone())
            .await
            .unwrap();
        assert_eq!(again, object);
    }
}
