use serde_json::{Value, json};
use tmc_apimachinery::meta::meta;
use tmc_hub::storage::Layout;
use tmc_runtime::ResourceClient;
use tmc_runtime::client::{DeleteParams, PatchKind};

use crate::support::{TestHub, configmap, eventually, start, start_with};

fn owned_by(mut object: Value, owner: &Value, block: bool) -> Value {
    let at = meta(owner);
    let reference = json!({"apiVersion": owner["apiVersion"], "kind": owner["kind"],
        "name": at.name(), "uid": at.uid(), "blockOwnerDeletion": block});
    match object["metadata"]["ownerReferences"].as_array_mut() {
        Some(list) => list.push(reference),
        None => object["metadata"]["ownerReferences"] = json!([reference]),
    }
    object
}

fn by(propagation: &'static str) -> DeleteParams {
    DeleteParams {
        propagation: Some(propagation),
        ..DeleteParams::default()
    }
}

async fn make(client: &ResourceClient, object: &Value) -> Value {
    client.create("default", object).await.unwrap()
}

async fn gone(client: &ResourceClient, name: &str) {
    eventually(|| async {
        client
            .get("default", name)
            .await
            .is_err_and(|error| error.code() == Some(404))
    })
    .await;
}

/// A deletion that is known to be collected after everything before it has been looked at.
async fn settled(hub: &TestHub, path: &str) {
    let maps = hub.configmaps(path);
    let owner = make(&maps, &configmap("probe-owner")).await;
    make(&maps, &owned_by(configmap("probe"), &owner, false)).await;
    let background = by("Background");
    maps.delete("default", "probe-owner", &background)
        .await
        .unwrap();
    gone(&maps, "probe").await;
}

/// An owner, its dependent, and that one's dependent.
async fn family(maps: &ResourceClient) -> (Value, Value, Value) {
    let owner = make(maps, &configmap("owner")).await;
    let child = make(maps, &owned_by(configmap("child"), &owner, true)).await;
    let grandchild = make(maps, &owned_by(configmap("grandchild"), &child, true)).await;
    (owner, child, grandchild)
}

#[tokio::test]
async fn dependents_go_with_their_owner_in_workspaces_and_plain_clusters() {
    for (layout, path) in [(Layout::Workspaces, "/clusters/root"), (Layout::Plain, "")] {
        let hub = start_with(layout).await;
        let maps = hub.configmaps(path);
        family(&maps).await;
        let background = by("Background");
        maps.delete("default", "owner", &background).await.unwrap();
        gone(&maps, "child").await;
        gone(&maps, "grandchild").await;
    }
}

#[tokio::test]
async fn a_foreground_deletion_waits_for_what_blocks_it() {
    let hub = start().await;
    let maps = hub.configmaps("/clusters/root");
    let owner = make(&maps, &configmap("owner")).await;
    let mut held = owned_by(configmap("child"), &owner, true);
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    make(&maps, &held).await;
    maps.delete("default", "owner", &by("Foreground"))
        .await
        .unwrap();
    eventually(|| async {
        let child = maps.get("default", "child").await.unwrap();
        meta(&child).is_being_deleted()
    })
    .await;
    let waiting = maps.get("default", "owner").await.unwrap();
    assert_eq!(meta(&waiting).finalizers(), ["foregroundDeletion"]);
    let freed = json!({"metadata": {"finalizers": null}});
    maps.patch("default", "child", "", PatchKind::Merge, &freed)
        .await
        .unwrap();
    gone(&maps, "child").await;
    gone(&maps, "owner").await;
}

#[tokio::test]
async fn orphans_stay_without_their_reference_and_keep_their_own_dependents() {
    let hub = start().await;
    let maps = hub.configmaps("/clusters/root");
    family(&maps).await;
    let answer = maps.delete("default", "owner", &by("Orphan")).await;
    answer.unwrap();
    gone(&maps, "owner").await;
    settled(&hub, "/clusters/root").await;
    let child = maps.get("default", "child").await.unwrap();
    assert!(meta(&child).owner_references().is_empty());
    maps.get("default", "grandchild").await.unwrap();
}

#[tokio::test]
async fn a_job_keeps_its_dependents_unless_told_otherwise() {
    let hub = start().await;
    let jobs = hub.admin("/clusters/root", "batch", "v1", "jobs");
    let job = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "once"},
        "spec": {"template": {"spec": {"restartPolicy": "Never",
            "containers": [{"name": "c", "image": "i"}]}}}});
    let maps = hub.configmaps("/clusters/root");
    let owner = make(&jobs, &job).await;
    make(&maps, &owned_by(configmap("kept"), &owner, false)).await;
    let unsaid = DeleteParams::default();
    jobs.delete("default", "once", &unsaid).await.unwrap();
    gone(&jobs, "once").await;
    settled(&hub, "/clusters/root").await;
    let kept = maps.get("default", "kept").await.unwrap();
    assert!(meta(&kept).owner_references().is_empty());
}

#[tokio::test]
async fn an_object_with_another_owner_stays_and_forgets_the_lost_one() {
    let hub = start().await;
    let maps = hub.configmaps("/clusters/root");
    let first = make(&maps, &configmap("first")).await;
    let second = make(&maps, &configmap("second")).await;
    let both = owned_by(owned_by(configmap("both"), &first, true), &second, true);
    make(&maps, &both).await;
    maps.delete("default", "first", &by("Background"))
        .await
        .unwrap();
    eventually(|| async {
        let left = maps.get("default", "both").await.unwrap();
        meta(&left).owner_references().len() == 1
    })
    .await;
    maps.delete("default", "second", &by("Background"))
        .await
        .unwrap();
    gone(&maps, "both").await;
}

#[tokio::test]
async fn an_owner_of_the_same_name_made_again_is_not_the_owner() {
    let hub = start().await;
    let maps = hub.configmaps("/clusters/root");
    let mut owner = make(&maps, &configmap("owner")).await;
    owner["metadata"]["uid"] = "11111111-2222-3333-4444-555555555555".into();
    make(&maps, &owned_by(configmap("late"), &owner, false)).await;
    gone(&maps, "late").await;
    maps.get("default", "owner").await.unwrap();
}

#[tokio::test]
async fn owners_that_cannot_be_known_delete_nothing() {
    let hub = start().await;
    let path = "/clusters/root";
    let maps = hub.configmaps(path);
    let stranger = |api: &str, kind: &str| {
        json!({"apiVersion": api, "kind": kind,
            "metadata": {"name": "x", "uid": "11111111-2222-3333-4444-555555555555"}})
    };
    for (name, api, kind) in [
        ("unserved", "example.com/v1", "Widget"),
        ("virtual", "authorization.k8s.io/v1", "SubjectAccessReview"),
        ("unversioned", "v9", "ConfigMap"),
    ] {
        let owner = stranger(api, kind);
        make(&maps, &owned_by(configmap(name), &owner, false)).await;
    }
    let roles = hub.admin(path, "rbac.authorization.k8s.io", "v1", "clusterroles");
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": {"name": "owned-by-a-namespaced"}, "rules": []});
    let role = owned_by(role, &stranger("v1", "ConfigMap"), false);
    roles.create("", &role).await.unwrap();
    settled(&hub, path).await;
    for name in ["unserved", "virtual", "unversioned"] {
        maps.get("default", name).await.unwrap();
    }
    roles.get("", "owned-by-a-namespaced").await.unwrap();
}

#[tokio::test]
async fn an_owner_in_another_workspace_owns_nothing_here_alive_or_gone() {
    let hub = start().await;
    let (a, b) = (hub.workspace("a").await, hub.workspace("b").await);
    let (there, here) = (hub.configmaps(&a), hub.configmaps(&b));
    let owner = make(&there, &configmap("owner")).await;
    make(&here, &owned_by(configmap("copy"), &owner, true)).await;
    eventually(|| async {
        let copy = here.get("default", "copy").await.unwrap();
        meta(&copy).owner_references().is_empty()
    })
    .await;
    there
        .delete("default", "owner", &by("Foreground"))
        .await
        .unwrap();
    gone(&there, "owner").await;
    settled(&hub, &b).await;
    here.get("default", "copy").await.unwrap();
}

#[tokio::test]
async fn among_many_absent_owners_those_of_another_workspace_are_told_apart() {
    let hub = start().await;
    let (a, b) = (hub.workspace("a").await, hub.workspace("b").await);
    let (there, here) = (hub.configmaps(&a), hub.configmaps(&b));
    let foreign = make(&there, &configmap("owner")).await;
    let mut copy = owned_by(configmap("copy"), &foreign, false);
    let mut lost = configmap("owner");
    lost["metadata"]["uid"] = "never-was".into();
    for _ in 0..20 {
        copy = owned_by(copy, &lost, false);
    }
    make(&here, &copy).await;
    // The foreign one is forgotten first; with owners that never were only, it then goes.
    gone(&here, "copy").await;
    make(&here, &owned_by(configmap("child"), &lost, false)).await;
    gone(&here, "child").await;
}

#[tokio::test]
async fn what_a_workspace_stands_on_does_not_go_with_an_owner() {
    let hub = start().await;
    let a = hub.workspace("a").await;
    let lost = json!({"apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": "never", "uid": "never-was"}});
    for (group, version, resource, name) in [
        ("core.kcp.io", "v1alpha1", "logicalclusters", "cluster"),
        ("", "v1", "namespaces", "default"),
    ] {
        let client = hub.admin(&a, group, version, resource);
        let object = client.get("", name).await.unwrap();
        let object = owned_by(object, &lost, false);
        client.replace("", name, "", &object).await.unwrap();
        eventually(|| async {
            let object = client.get("", name).await.unwrap();
            assert!(!meta(&object).is_being_deleted());
            meta(&object).owner_references().is_empty()
        })
        .await;
    }
}

#[tokio::test]
async fn a_late_dependent_of_an_owner_that_is_gone_goes_too() {
    let hub = start().await;
    let maps = hub.configmaps("/clusters/root");
    let owner = make(&maps, &configmap("owner")).await;
    maps.delete("default", "owner", &by("Background"))
        .await
        .unwrap();
    make(&maps, &owned_by(configmap("late"), &owner, false)).await;
    gone(&maps, "late").await;
}

#[tokio::test]
async fn many_dependents_go() {
    let hub = start_with(Layout::Plain).await;
    let maps = hub.configmaps("");
    let owner = make(&maps, &configmap("owner")).await;
    for number in 0..200 {
        let name = format!("child-{number}");
        make(&maps, &owned_by(configmap(&name), &owner, true)).await;
    }
    maps.delete("default", "owner", &by("Foreground"))
        .await
        .unwrap();
    gone(&maps, "owner").await;
    let left = maps.list("default", &Default::default()).await.unwrap();
    assert!(left["items"].as_array().unwrap().is_empty());
}

#[tokio::test]
async fn a_second_delete_may_change_what_becomes_of_dependents() {
    let hub = start().await;
    let maps = hub.configmaps("/clusters/root");
    let held = |mut object: Value| {
        object["metadata"]["finalizers"] = json!(["example.com/hold"]);
        object
    };
    let owner = make(&maps, &held(configmap("owner"))).await;
    make(&maps, &held(owned_by(configmap("child"), &owner, true))).await;
    let finalizers = || async {
        let owner = maps.get("default", "owner").await.unwrap();
        meta(&owner).finalizers().join(",")
    };
    for (propagation, expected) in [
        ("Background", "example.com/hold"),
        ("Foreground", "example.com/hold,foregroundDeletion"),
        ("Background", "example.com/hold"),
    ] {
        let delete = by(propagation);
        maps.delete("default", "owner", &delete).await.unwrap();
        assert_eq!(finalizers().await, expected);
    }
}
