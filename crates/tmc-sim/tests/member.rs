//! A simulated member as its clients see it.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tmc_apimachinery::GroupVersionResource;
use tmc_hub::environment::SystemEnvironment;
use tmc_runtime::ResourceClient;
use tmc_runtime::client::{DeleteParams, ListParams, PatchKind};
use tmc_sim::{Behaviour, Member};

async fn member(behaviour: Behaviour) -> Member {
    Member::start(Arc::new(SystemEnvironment), behaviour)
        .await
        .unwrap()
}

fn quick() -> Behaviour {
    Behaviour {
        ready_after: Duration::from_millis(10),
        ..Behaviour::default()
    }
}

fn deployment(replicas: i64) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "c", "image": "nginx"}]}}},
    })
}

async fn eventually<F, Fut>(mut holds: F)
where
    F: FnMut() -> Fut,
    Fut: Future<Output = bool>,
{
    for _ in 0..2000 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("the condition did not come true in ten seconds");
}

async fn count(member: &Member, group: &str, resource: &str) -> usize {
    let client = member.resource(group, "v1", resource);
    let list = client
        .list("default", &ListParams::default())
        .await
        .unwrap();
    list["items"].as_array().unwrap().len()
}

async fn available(member: &Member) -> i64 {
    let client = member.resource("apps", "v1", "deployments");
    let found = client.get("default", "web").await.unwrap();
    if found["status"]["observedGeneration"] != found["metadata"]["generation"] {
        return -1;
    }
    found["status"]["availableReplicas"].as_i64().unwrap_or(0)
}

#[tokio::test]
async fn a_deployment_becomes_available_follows_its_scale_and_takes_its_children_along() {
    let member = member(quick()).await;
    let client = member.resource("apps", "v1", "deployments");
    client
        .apply("default", "web", "test", &deployment(2))
        .await
        .unwrap();
    eventually(|| async { available(&member).await == 2 }).await;
    assert_eq!(count(&member, "", "pods").await, 2);
    let patch = json!({"spec": {"replicas": 1}});
    client
        .patch("default", "web", "", PatchKind::Merge, &patch)
        .await
        .unwrap();
    eventually(|| async { available(&member).await == 1 }).await;
    eventually(|| async { count(&member, "", "pods").await == 1 }).await;
    client
        .delete("default", "web", &DeleteParams::default())
        .await
        .unwrap();
    eventually(|| async { count(&member, "apps", "replicasets").await == 0 }).await;
    eventually(|| async { count(&member, "", "pods").await == 0 }).await;
}

#[tokio::test]
async fn a_new_template_replaces_the_pods() {
    let member = member(quick()).await;
    let client = member.resource("apps", "v1", "deployments");
    client
        .apply("default", "web", "test", &deployment(1))
        .await
        .unwrap();
    eventually(|| async { count(&member, "", "pods").await == 1 }).await;
    let mut changed = deployment(1);
    changed["spec"]["template"]["spec"]["containers"][0]["image"] = "nginx:2".into();
    client
        .apply("default", "web", "test", &changed)
        .await
        .unwrap();
    let pods = member.resource("", "v1", "pods");
    eventually(|| async {
        let list = pods.list("default", &ListParams::default()).await.unwrap();
        let items = list["items"].as_array().unwrap();
        items.len() == 1 && items[0].pointer("/spec/containers/0/image") == Some(&json!("nginx:2"))
    })
    .await;
}

#[tokio::test]
async fn a_member_that_cannot_pull_images_says_so_and_is_never_available() {
    let failing = Behaviour {
        failure: Some("ImagePullBackOff".into()),
        ..quick()
    };
    let member = member(failing).await;
    let client = member.resource("apps", "v1", "deployments");
    client
        .apply("default", "web", "test", &deployment(1))
        .await
        .unwrap();
    let pods = member.resource("", "v1", "pods");
    eventually(|| async {
        let list = pods.list("default", &ListParams::default()).await.unwrap();
        list.to_string().contains("ImagePullBackOff")
    })
    .await;
    let found = client.get("default", "web").await.unwrap();
    assert_eq!(found["status"].get("availableReplicas"), None);
}

#[tokio::test]
async fn a_member_shows_its_nodes_with_their_room() {
    let member = member(quick()).await;
    let nodes = member.resource("", "v1", "nodes");
    let list = nodes.list("", &ListParams::default()).await.unwrap();
    let nodes = list["items"].as_array().unwrap();
    assert_eq!(nodes.len(), 3);
    assert_eq!(
        nodes[0].pointer("/status/allocatable/cpu"),
        Some(&json!("8"))
    );
}

#[tokio::test]
async fn a_deployment_deleted_in_the_foreground_goes_after_its_pods() {
    let member = member(quick()).await;
    let client = member.resource("apps", "v1", "deployments");
    client
        .apply("default", "web", "test", &deployment(3))
        .await
        .unwrap();
    eventually(|| async { available(&member).await == 3 }).await;
    let foreground = DeleteParams {
        propagation: Some("Foreground"),
        ..DeleteParams::default()
    };
    client.delete("default", "web", &foreground).await.unwrap();
    eventually(|| async { client.get("default", "web").await.is_err() }).await;
    assert_eq!(count(&member, "", "pods").await, 0);
    assert_eq!(count(&member, "apps", "replicasets").await, 0);
}

#[tokio::test]
async fn a_token_of_a_member_has_the_rights_of_its_account_there() {
    let member = member(quick()).await;
    let account =
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "robot"}});
    let accounts = member.resource("", "v1", "serviceaccounts");
    accounts.create("default", &account).await.unwrap();
    let request =
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}});
    let request = http::Request::post("/api/v1/namespaces/default/serviceaccounts/robot/token")
        .header("content-type", "application/json")
        .body(serde_json::to_vec(&request).unwrap())
        .unwrap();
    let client = member.connection().client("");
    let answer: Value = client.request(request).await.unwrap();
    let token = answer["status"]["token"].as_str().unwrap();
    let maps = |token: &str| {
        let connection = member.connection().with_bearer(token).unwrap();
        let gvr = GroupVersionResource::new("", "v1", "configmaps");
        ResourceClient::new(connection.client(""), gvr)
    };
    let list = ListParams::default();
    let error = maps(token).list("default", &list).await.unwrap_err();
    assert_eq!(error.code(), Some(403), "{error}");
    let rbac = "rbac.authorization.k8s.io";
    let binding = json!({"apiVersion": format!("{rbac}/v1"), "kind": "ClusterRoleBinding",
        "metadata": {"name": "robot"},
        "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": "view"},
        "subjects": [{"kind": "ServiceAccount", "namespace": "default", "name": "robot"}]});
    let bindings = member.resource(rbac, "v1", "clusterrolebindings");
    bindings.create("", &binding).await.unwrap();
    maps(token).list("default", &list).await.unwrap();
    let error = maps("nonsense").list("default", &list).await.unwrap_err();
    assert_eq!(error.code(), Some(401), "{error}");
}
