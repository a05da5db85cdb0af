use std::sync::Arc;

use serde_json::{Value, json};
use tmc_apimachinery::GroupVersionResource;
use tmc_apimachinery::meta::meta;
use tmc_controllers::connector::{SIMULATED_SUFFIX, SimulatedMembers};
use tmc_runtime::client::ListParams;
use tmc_runtime::{Connection, Credential, ResourceClient};

use crate::support::{World, eventually};

const RBAC: &str = "rbac.authorization.k8s.io";

/// A token of a new ServiceAccount, which holds a new ClusterRole.
pub(crate) async fn account(
    connection: &Connection,
    path: &str,
    name: &str,
    rules: Value,
) -> String {
    let client = |group: &str, resource: &str| {
        let gvr = GroupVersionResource::new(group, "v1", resource);
        ResourceClient::new(connection.client(path), gvr)
    };
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}});
    let accounts = client("", "serviceaccounts");
    accounts.create("default", &account).await.unwrap();
    let role = json!({"apiVersion": format!("{RBAC}/v1"), "kind": "ClusterRole",
        "metadata": {"name": name}, "rules": rules});
    let roles = client(RBAC, "clusterroles");
    roles.create("", &role).await.unwrap();
    let binding = json!({"apiVersion": format!("{RBAC}/v1"), "kind": "ClusterRoleBinding",
        "metadata": {"name": name},
        "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": name},
        "subjects": [{"kind": "ServiceAccount", "namespace": "default", "name": name}]});
    let bindings = client(RBAC, "clusterrolebindings");
    bindings.create("", &binding).await.unwrap();
    let body =
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}});
    let url = format!("/api/v1/namespaces/default/serviceaccounts/{name}/token");
    let request = http::Request::post(url)
        .header("content-type", "application/json")
        .body(serde_json::to_vec(&body).unwrap())
        .unwrap();
    let answer: Value = connection.client(path).request(request).await.unwrap();
    answer["status"]["token"].as_str().unwrap().to_owned()
}

/// The hub over TLS, by a token.
pub(crate) fn bearer(world: &World, token: &str) -> Connection {
    use base64::Engine as _;
    let authority = world.authority.certificate();
    let authority = base64::engine::general_purpose::STANDARD.encode(authority);
    let kubeconfig = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {
            "server": world.embedded.url(), "certificate-authority-data": authority}}],
        "users": [{"name": "c", "user": {"token": token}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c"}}],
    });
    let kubeconfig = serde_json::from_value(kubeconfig).unwrap();
    Connection::from_kubeconfig(&kubeconfig, None).unwrap()
}

fn configmaps(connection: &Connection, path: &str) -> ResourceClient {
    let gvr = GroupVersionResource::new("", "v1", "configmaps");
    ResourceClient::new(connection.client(path), gvr)
}

pub(crate) fn may_sync() -> Value {
    json!([{"verbs": ["get", "sync"], "apiGroups": ["workload.kcp.io"], "resources": ["synctargets"]}])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_view_is_open_to_a_service_account_of_the_targets_workspace_that_may_sync() {
    let world = World::start().await;
    let _member = world.member("one").await;
    let target = world.target().await;
    let at = meta(&target);
    let view = format!(
        "/services/syncer/{}/{}/{}/clusters/*",
        at.cluster(),
        at.name(),
        at.uid()
    );
    let admin = world.context("root:compute").connection;
    let compute = format!("/clusters/{}", at.cluster());
    let syncer = account(&admin, &compute, "syncer", may_sync()).await;
    let nobody = account(&admin, &compute, "nobody", json!([])).await;
    // An account of the same name and with the same role, elsewhere.
    let stranger = account(&admin, "/clusters/root", "syncer", may_sync()).await;
    let list = ListParams::default();
    eventually("the account of the workspace sees the view", || async {
        let maps = configmaps(&bearer(&world, &syncer), &view);
        maps.list("", &list).await.is_ok()
    })
    .await;
    for (token, code) in [(&nobody, 403), (&stranger, 403)] {
        let maps = configmaps(&bearer(&world, token), &view);
        let error = maps.list("", &list).await.unwrap_err();
        assert_eq!(error.code(), Some(code), "{error}");
    }
    let accounts = ResourceClient::new(
        admin.client(&compute),
        GroupVersionResource::new("", "v1", "serviceaccounts"),
    );
    accounts
        .delete("default", "syncer", &Default::default())
        .await
        .unwrap();
    let maps = configmaps(&bearer(&world, &syncer), &view);
    let error = maps.list("", &list).await.unwrap_err();
    assert_eq!(error.code(), Some(401), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_simulated_member_is_reached_with_tokens_of_its_own_accounts() {
    let world = World::start().await;
    let member = world.member("one").await;
    let rules = json!([{"verbs": ["list"], "apiGroups": [""], "resources": ["configmaps"]}]);
    let token = account(member.connection(), "", "reader", rules).await;
    let members: Arc<dyn SimulatedMembers> = world.members.clone();
    let connect = |token: &str| {
        let host = format!("one{SIMULATED_SUFFIX}");
        let credential = Credential::Token(token.to_owned());
        configmaps(&members.connect(&host, &credential).unwrap(), "")
    };
    let list = ListParams::default();
    connect(&token).list("default", &list).await.unwrap();
    let refused = connect(&token).get("default", "x").await.unwrap_err();
    assert_eq!(refused.code(), Some(403), "{refused}");
    let hub = world.context("root").connection;
    let hub_token = account(&hub, "/clusters/root", "r", json!([])).await;
    for stranger in ["nonsense", &hub_token] {
        let error = connect(stranger).list("default", &list).await.unwrap_err();
        assert_eq!(error.code(), Some(401), "{error}");
    }
}
