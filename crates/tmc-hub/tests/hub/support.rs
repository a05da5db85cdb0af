//! A hub in memory and clients of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tmc_apimachinery::GroupVersionResource;
use tmc_apimachinery::admission::AdmitAll;
use tmc_apimachinery::user::{GROUP_MASTERS, UserInfo};
use tmc_hub::environment::{Environment, SystemEnvironment};
use tmc_hub::storage::{Extracted, Layout, Store};
use tmc_hub::{Hub, HubOptions};
use tmc_runtime::{Connection, ResourceClient};
use tmc_server::surface::InProcessIdentity;
use tmc_server::tls::{CertificateAuthority, Validity};
use tmc_server::{Server, VersionInfo};

pub(crate) struct TestHub {
    pub(crate) hub: Hub,
    server: Server,
}

struct TestSigner(CertificateAuthority);

impl tmc_hub::Signer for TestSigner {
    fn sign(
        &self,
        request: &str,
        ttl: Duration,
        scope: Option<&tmc_apimachinery::ClusterName>,
    ) -> Result<String, String> {
        let group = scope.map(|cluster| format!("{}{cluster}", tmc_hub::SCOPE_GROUP_PREFIX));
        let groups: Vec<&str> = group.iter().map(String::as_str).collect();
        let validity = Validity::starting_now(ttl);
        self.0
            .sign_request_adding(request, &groups, validity)
            .map_err(|e| e.to_string())
    }
}

pub(crate) async fn start() -> TestHub {
    start_with(Layout::Workspaces).await
}

pub(crate) async fn start_with(layout: Layout) -> TestHub {
    start_at(layout, Arc::new(SystemEnvironment)).await
}

/// A clock that is ahead of the machine's by as many seconds as a test wants.
#[derive(Default)]
pub(crate) struct AheadClock(pub(crate) AtomicI64);

impl Environment for AheadClock {
    fn now(&self) -> jiff::Timestamp {
        let ahead = self.0.load(Ordering::SeqCst);
        jiff::Timestamp::now() + jiff::SignedDuration::from_secs(ahead)
    }

    fn uid(&self) -> String {
        SystemEnvironment.uid()
    }
}

pub(crate) async fn start_at(layout: Layout, environment: Arc<dyn Environment>) -> TestHub {
    let engine = Box::new(tmc_store::engine::Memory::default());
    let store = Store::open(engine, |_, value| Extracted::of(value), Default::default()).unwrap();
    start_on(store, layout, environment).await
}

/// A hub on what another one may have left.
pub(crate) async fn start_on(
    store: Store,
    layout: Layout,
    environment: Arc<dyn Environment>,
) -> TestHub {
    let ca =
        CertificateAuthority::generate("ca", Validity::starting_now(Duration::from_secs(9999)));
    let hub = Hub::start(HubOptions {
        store,
        environment,
        admission: Arc::new(AdmitAll),
        layout,
        everywhere: tmc_api::crd::crds(),
        signer: Some(Arc::new(TestSigner(ca.unwrap()))),
        token_keys: None,
        base_url: Arc::new(|| "https://hub.example".to_owned()),
    })
    .await
    .unwrap();
    let server = Server::builder(VersionInfo::new(36, "v1.36.2"))
        .surface(Arc::new(hub.clone()))
        .tokens(hub.service_account_tokens())
        .build();
    TestHub { hub, server }
}

impl TestHub {
    pub(crate) fn client(
        &self,
        user: UserInfo,
        path: &str,
        group: &str,
        version: &str,
        resource: &str,
    ) -> ResourceClient {
        let service = self.server.service().with_identity(InProcessIdentity(user));
        let client = Connection::in_process(service).client(path);
        ResourceClient::new(client, GroupVersionResource::new(group, version, resource))
    }

    /// As the bearer of a token.
    pub(crate) fn bearer(
        &self,
        token: &str,
        path: &str,
        group: &str,
        version: &str,
        resource: &str,
    ) -> ResourceClient {
        let connection = Connection::in_process(self.server.service())
            .with_bearer(token)
            .unwrap();
        let gvr = GroupVersionResource::new(group, version, resource);
        ResourceClient::new(connection.client(path), gvr)
    }

    /// Sends an object to a path as the administrator.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> Result<Value, kube::Error> {
        let user = UserInfo::new("admin", &[GROUP_MASTERS]);
        let service = self.server.service().with_identity(InProcessIdentity(user));
        let request = http::Request::post(path)
            .header("content-type", "application/json")
            .body(serde_json::to_vec(body).unwrap())
            .unwrap();
        Connection::in_process(service)
            .client("")
            .request(request)
            .await
    }

    /// Sends a DELETE as the administrator, and goes away as soon as the hub has to wait for anything.
    pub(crate) fn delete_and_leave(&self, path: &str) {
        let user = UserInfo::new("admin", &[GROUP_MASTERS]);
        let mut service = self.server.service().with_identity(InProcessIdentity(user));
        let body = kube::client::Body::empty();
        let request = http::Request::delete(path).body(body).unwrap();
        let answer = tower::Service::call(&mut service, request);
        assert!(futures::FutureExt::now_or_never(answer).is_none());
    }

    /// As the administrator.
    pub(crate) fn admin(
        &self,
        path: &str,
        group: &str,
        version: &str,
        resource: &str,
    ) -> ResourceClient {
        self.client(
            UserInfo::new("admin", &[GROUP_MASTERS]),
            path,
            group,
            version,
            resource,
        )
    }

    /// As a user without groups.
    pub(crate) fn user(
        &self,
        name: &str,
        path: &str,
        group: &str,
        version: &str,
        resource: &str,
    ) -> ResourceClient {
        self.client(UserInfo::new(name, &[]), path, group, version, resource)
    }

    pub(crate) fn configmaps(&self, path: &str) -> ResourceClient {
        self.admin(path, "", "v1", "configmaps")
    }

    /// Makes a workspace below root and waits until it is Ready.
    pub(crate) async fn workspace(&self, name: &str) -> String {
        let client = self.admin("/clusters/root", "tenancy.kcp.io", "v1alpha1", "workspaces");
        let object = json!({"apiVersion": "tenancy.kcp.io/v1alpha1", "kind": "Workspace",
            "metadata": {"name": name}, "spec": {}});
        client.create("", &object).await.unwrap();
        eventually(|| async { client.get("", name).await.unwrap()["status"]["phase"] == "Ready" })
            .await;
        format!("/clusters/root:{name}")
    }

    /// Gives a user a ClusterRole in a workspace.
    pub(crate) async fn grant(&self, path: &str, user: &str, role: &str) {
        let api = "rbac.authorization.k8s.io";
        let client = self.admin(path, api, "v1", "clusterrolebindings");
        let object = json!({
            "apiVersion": format!("{api}/v1"), "kind": "ClusterRoleBinding",
            "metadata": {"generateName": "grant-"},
            "roleRef": {"apiGroup": api, "kind": "ClusterRole", "name": role},
            "subjects": [{"apiGroup": api, "kind": "User", "name": user}],
        });
        client.create("", &object).await.unwrap();
    }
}

pub(crate) fn configmap(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"k": "v"}})
}

/// Polls until a condition holds; panics after ten seconds.
pub(crate) async fn eventually<F, Fut>(mut holds: F)
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
