//! What the hub makes for agents that do not run inside it.

use serde_json::json;
use tmc_api::agent::AgentId;
use tmc_apimachinery::meta::meta;
use tmc_runtime::client::{DeleteParams, ListParams, PatchKind};

use crate::support::{World, eventually};

#[tokio::test]
async fn an_external_target_has_an_account_on_the_hub_which_is_repaired_and_goes_with_it() {
    let world = World::start().await;
    let context = world.context("root:compute");
    let targets = context.resource("workload.kcp.io", "v1alpha1", "synctargets");
    let target = json!({
        "apiVersion": "workload.kcp.io/v1alpha1", "kind": "SyncTarget",
        "metadata": {"name": "west"}, "spec": {"syncerConfig": {"mode": "External"}},
    });
    let target = targets.create("", &target).await.unwrap();
    let cluster = meta(&target).cluster().to_owned();
    let agent = AgentId::new(&cluster, "west", meta(&target).uid());
    let name = agent.name();
    let roles = context.resource("rbac.authorization.k8s.io", "v1", "clusterroles");
    let bindings = context.resource("rbac.authorization.k8s.io", "v1", "rolebindings");
    let accounts = context.resource("", "v1", "serviceaccounts");
    eventually("an account with its rights", || async {
        bindings.get("default", &name).await.is_ok()
    })
    .await;
    assert!(accounts.get("default", &name).await.is_ok());
    let role = roles.get("", &name).await.unwrap();
    assert!(agent.owns(&role));
    assert_eq!(role["rules"][1]["resourceNames"], json!(["west"]), "{role}");

    targets
        .delete("", "west", &DeleteParams::default())
        .await
        .unwrap();
    eventually("no SyncTarget", || async {
        targets.get("", "west").await.is_err()
    })
    .await;
    let params = ListParams {
        labels: agent.selector(),
        ..ListParams::default()
    };
    for client in [&roles, &bindings, &accounts] {
        let left = client.list("", &params).await.unwrap();
        assert_eq!(left["items"], json!([]), "{left}");
    }
    world.embedded.stop().await.unwrap();
}

#[tokio::test]
async fn mode_deployment_is_refused_while_the_hub_is_on_loopback() {
    let world = World::start().await;
    let _member = world.member("east").await;
    let context = world.context("root:compute");
    let targets = context.resource("workload.kcp.io", "v1alpha1", "synctargets");
    eventually("a SyncTarget", || async {
        world.target().await["metadata"]["name"].is_string()
    })
    .await;
    let target = world.target().await;
    let patch = json!({"spec": {"syncerConfig": {"mode": "Deployment"}}});
    let refused = targets
        .patch("", meta(&target).name(), "", PatchKind::Merge, &patch)
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Some(422), "{refused}");
    assert!(refused.to_string().contains("--external-url"), "{refused}");
    world.embedded.stop().await.unwrap();
}
