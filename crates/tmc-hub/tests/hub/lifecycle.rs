use serde_json::json;
use tmc_apimachinery::meta::meta;
use tmc_runtime::client::{DeleteParams, PatchKind};

use crate::support::{configmap, eventually, start};

#[tokio::test]
async fn a_workspace_is_born_ready_with_its_namespace_and_knows_its_path() {
    let hub = start().await;
    let path = hub.workspace("team").await;
    let namespaces = hub.admin(&path, "", "v1", "namespaces");
    let default = namespaces.get("", "default").await.unwrap();
    assert_eq!(
        meta(&default).label("kubernetes.io/metadata.name"),
        Some("default")
    );
    let clusters = hub.admin(&path, "core.kcp.io", "v1alpha1", "logicalclusters");
    let cluster = clusters.get("", "cluster").await.unwrap();
    assert_eq!(meta(&cluster).annotation("kcp.io/path"), Some("root:team"));
    assert_eq!(
        cluster["status"]["URL"],
        "https://hub.example/clusters/root:team"
    );
    let by_name = format!("/clusters/{}", meta(&cluster).cluster());
    hub.configmaps(&by_name)
        .create("default", &configmap("x"))
        .await
        .unwrap();
    hub.configmaps(&path).get("default", "x").await.unwrap();
}

#[tokio::test]
async fn a_workspace_takes_everything_in_it_along() {
    let hub = start().await;
    let path = hub.workspace("team").await;
    let cluster = hub.hub.resolve("root:team").unwrap();
    hub.configmaps(&path)
        .create("default", &configmap("x"))
        .await
        .unwrap();
    let inner = hub.admin(&path, "tenancy.kcp.io", "v1alpha1", "workspaces");
    let object = json!({"apiVersion": "tenancy.kcp.io/v1alpha1", "kind": "Workspace",
        "metadata": {"name": "inner"}, "spec": {}});
    inner.create("", &object).await.unwrap();
    let client = hub.admin("/clusters/root", "tenancy.kcp.io", "v1alpha1", "workspaces");
    client
        .delete("", "team", &DeleteParams::default())
        .await
        .unwrap();
    eventually(|| async { client.get("", "team").await.is_err() }).await;
    assert!(hub.hub.resolve(cluster.as_str()).is_none());
    let left = hub
        .configmaps("/clusters/*")
        .list("", &Default::default())
        .await
        .unwrap();
    assert!(left["items"].as_array().unwrap().is_empty());
    // A workspace of the same name is another one.
    hub.workspace("team").await;
    assert_ne!(hub.hub.resolve("root:team").unwrap(), cluster);
}

#[tokio::test]
async fn a_workspace_cannot_be_pointed_at_another_logical_cluster() {
    let hub = start().await;
    hub.workspace("team").await;
    let client = hub.admin("/clusters/root", "tenancy.kcp.io", "v1alpha1", "workspaces");
    let patch = json!({"spec": {"cluster": "root"}});
    let error = client
        .patch("", "team", "", PatchKind::Merge, &patch)
        .await
        .unwrap_err();
    assert_eq!(error.code(), Some(422));
    assert!(error.to_string().contains("spec.cluster"), "{error}");
    let forged = json!({"apiVersion": "tenancy.kcp.io/v1alpha1", "kind": "Workspace",
        "metadata": {"name": "evil"}, "spec": {"cluster": "root"}});
    let made = client.create("", &forged).await.unwrap();
    assert_ne!(
        made["spec"]["cluster"], "root",
        "the hub names logical clusters"
    );
}

#[tokio::test]
async fn a_namespace_is_emptied_before_it_goes_and_waits_for_finalizers() {
    let hub = start().await;
    let namespaces = hub.admin("/clusters/root", "", "v1", "namespaces");
    let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}});
    namespaces.create("", &object).await.unwrap();
    let configmaps = hub.configmaps("/clusters/root");
    configmaps.create("shop", &configmap("free")).await.unwrap();
    let mut held = configmap("held");
    held["metadata"]["finalizers"] = json!(["example.org/held"]);
    configmaps.create("shop", &held).await.unwrap();
    namespaces
        .delete("", "shop", &DeleteParams::default())
        .await
        .unwrap();
    eventually(|| async {
        let namespace = namespaces.get("", "shop").await.unwrap();
        configmaps.get("shop", "free").await.is_err()
            && namespace["status"]["conditions"]
                .to_string()
                .contains("configmaps has 1")
    })
    .await;
    let error = configmaps
        .create("shop", &configmap("late"))
        .await
        .unwrap_err();
    assert_eq!(error.code(), Some(403));
    assert!(error.to_string().contains("being terminated"), "{error}");
    let patch = json!({"metadata": {"finalizers": null}});
    configmaps
        .patch("shop", "held", "", PatchKind::Merge, &patch)
        .await
        .unwrap();
    eventually(|| async { namespaces.get("", "shop").await.is_err() }).await;
}

#[tokio::test]
async fn the_default_namespace_stays() {
    let hub = start().await;
    let namespaces = hub.admin("/clusters/root", "", "v1", "namespaces");
    let error = namespaces
        .delete("", "default", &DeleteParams::default())
        .await
        .unwrap_err();
    assert_eq!(error.code(), Some(403));
    assert!(error.to_string().contains("may not be deleted"), "{error}");
}
