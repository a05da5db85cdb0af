//! Replicas of `tmc controllers` beside a hub that is a real API server.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use serde_json::{Value, json};

use super::http::Api;
use super::hub::{is_true, tmc};
use super::ports;
use super::process::{Server, until_served};
use super::real::Real;
use super::wait::{seconds, until};

const CA: &str = "/api/v1/namespaces/kcp-system/configmaps/tmc-virtual-workspaces-ca";
const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/kcp-system/leases/tmc-controllers";

/// A replica.
pub(crate) struct Replica {
    name: String,
    port: u16,
    pub(crate) server: Server,
}

impl Replica {
    /// Starts one as the hub's user `name`, with `--install-crds`, and waits until its virtual
    /// workspaces are served.
    pub(crate) fn start(hub: &Real, name: &str) -> Self {
        let port = ports::free();
        let kubeconfig = hub.user_in(name, &["system:masters"]);
        let mut command = tmc();
        command
            .env("HOSTNAME", name)
            .args(["controllers", "--hub", "kubernetes"]);
        command.arg("--hub-kubeconfig").arg(kubeconfig);
        command.args(["--install-crds", "--serve-virtual-workspaces"]);
        command.arg(format!("127.0.0.1:{port}"));
        let log = hub.scratch().join(&format!("{name}.log"));
        let mut replica = Self {
            name: name.to_owned(),
            port,
            server: Server::start(name, &mut command, &log),
        };
        replica.until_ready(hub);
        replica
    }

    fn until_ready(&mut self, hub: &Real) {
        let (url, name) = (self.url(), self.name.clone());
        let served = until_served(std::slice::from_mut(&mut self.server), seconds(90), || {
            let config = hub.api().try_send(&Method::GET, CA, None)?;
            let ca = config.json()["data"]["ca.crt"].as_str().map(str::to_owned);
            let ca = ca.ok_or_else(|| config.to_string())?;
            let api = Api::from_kubeconfig(&kubeconfig(&url, &ca, ""));
            let answer = api.try_send(&Method::GET, "/readyz", None)?;
            if answer.code == 200 {
                Ok(())
            } else {
                Err(answer.to_string())
            }
        });
        served.unwrap_or_else(|why| panic!("{name}: {why}"));
    }

    /// Its name, which is that of its user on the hub.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// `https://host:port` of its virtual workspaces.
    pub(crate) fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// Requests to its virtual workspaces with a token.
    pub(crate) fn views(&self, hub: &Real, token: &str) -> Api {
        Api::with_token(&kubeconfig(&self.url(), &published(hub), ""), token)
    }

    /// A kubeconfig for an agent that knows nothing but this replica: its file.
    pub(crate) fn agent(&self, hub: &Real, token: &str) -> PathBuf {
        let server = format!("{}/clusters/root", self.url());
        let text = kubeconfig(&server, &published(hub), token);
        hub.scratch()
            .write(&format!("agent-of-{}.kubeconfig", self.name), text)
    }
}

/// The authority of the virtual workspaces.
fn published(hub: &Real) -> String {
    let config = hub.api().get(CA).expect(&[200]).json();
    config["data"]["ca.crt"]
        .as_str()
        .expect("published")
        .to_owned()
}

/// A kubeconfig with a token, or of nobody.
fn kubeconfig(server: &str, ca: &str, token: &str) -> String {
    let user = if token.is_empty() {
        json!({})
    } else {
        json!({"token": token})
    };
    let document = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "views",
        "clusters": [{"name": "views", "cluster": {
            "server": server, "certificate-authority-data": STANDARD.encode(ca),
        }}],
        "contexts": [{"name": "views", "context": {"cluster": "views", "user": "nobody"}}],
        "users": [{"name": "nobody", "user": user}],
    });
    document.to_string()
}

/// The Lease that the leader holds, as it is.
pub(crate) fn lease(hub: &Real) -> Value {
    hub.api().get(LEASE).json()
}

/// The name of the replica that holds the Lease, empty if none does.
pub(crate) fn leader(hub: &Real) -> String {
    let lease = lease(hub);
    let holder = lease["spec"]["holderIdentity"].as_str().unwrap_or_default();
    // `<name>-<random part>`.
    holder
        .rsplit_once('-')
        .map_or("", |(name, _)| name)
        .to_owned()
}

/// Registers a cluster as the hub's administrator with nothing but kubectl, and places every
/// namespace labelled `placed=<name>` on it; waits until it is ready. The name of its SyncTarget.
pub(crate) fn register(hub: &Real, name: &str, member: &Real) -> String {
    let config = STANDARD.encode(member.kubeconfig());
    hub.kubectl().apply(&format!(
        r#"
apiVersion: v1
kind: Secret
metadata: {{name: {name}-kubeconfig, namespace: default}}
type: tmc.kcp.io/kubeconfig
data: {{kubeconfig: {config}}}
---
apiVersion: workload.kcp.io/v1alpha1
kind: Cluster
metadata: {{name: {name}, namespace: default}}
spec:
  kubeconfigSecretRef: {{name: {name}-kubeconfig}}
  labels: {{location: {name}}}
---
apiVersion: scheduling.kcp.io/v1alpha1
kind: Location
metadata: {{name: {name}, labels: {{location: {name}}}}}
spec:
  resource: {{group: workload.kcp.io, version: v1alpha1, resource: synctargets}}
  instanceSelector: {{matchLabels: {{location: {name}}}}}
---
apiVersion: scheduling.kcp.io/v1alpha1
kind: Placement
metadata: {{name: {name}}}
spec:
  locationResource: {{group: workload.kcp.io, version: v1alpha1, resource: synctargets}}
  locationSelectors: [{{matchLabels: {{location: {name}}}}}]
  namespaceSelector: {{matchLabels: {{placed: {name}}}}}
"#
    ));
    let cluster = until("the cluster is Ready", seconds(90), || {
        let cluster = cluster(hub, name);
        is_true(&cluster, "Ready").map(|()| cluster)
    });
    let target = cluster["status"]["syncTargetRef"]["name"].as_str();
    target.expect("a SyncTarget of a Ready Cluster").to_owned()
}

fn cluster(hub: &Real, name: &str) -> Value {
    let path = format!("/apis/workload.kcp.io/v1alpha1/namespaces/default/clusters/{name}");
    hub.api().get(&path).json()
}
