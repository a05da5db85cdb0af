//! The embedded hub, assembled: store, guards, server, virtual workspace, controllers.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow};
use serde_json::json;
use tmc_apimachinery::definition::ResourceDefinition;
use tmc_apimachinery::user::{GROUP_CONTROLLERS, UserInfo};
use tmc_apimachinery::{ClusterName, GroupVersionResource};
use tmc_controllers::Handle;
use tmc_hub::environment::SystemEnvironment;
use tmc_hub::storage::{Extracted, Layout, Store as ObjectStore};
use tmc_hub::{Hub, HubOptions};
use tmc_runtime::{Connection, Informer, ResourceClient};
use tmc_server::surface::InProcessIdentity;
use tmc_server::{Server, VersionInfo};
use tmc_store::engine::Engine;
use tmc_virtual::syncer::{
    BY_SECRET, ClusterView, Definitions, SyncerDependencies, SyncerWorkspace, TargetView,
    secret_index,
};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::access::HubAccess;
use super::authority::Authority;
use super::beats::Beats;
use super::controllers::{self, ControllerSettings};
use super::members::Members;
use crate::kubeconfig::{self, Identity};

/// Kubernetes minor version whose API the hub speaks.
const MINOR: u32 = 36;

/// What an embedded hub is started with.
pub struct EmbeddedOptions {
    /// Where objects are kept.
    pub engine: Box<dyn Engine>,
    /// The certificate authority.
    pub authority: Authority,
    /// Where to listen; see [`bind`].
    pub listener: TcpListener,
    /// URL under which others reach the hub, if not `https://<listen>`.
    pub external_url: Option<String>,
    /// `resource.group` names that targets sync.
    pub sync_resources: Vec<String>,
    /// Simulated members of this process.
    pub members: Arc<Members>,
}

/// Takes an address to listen on, port 0 a free one. Done before any data is touched, so that a port
/// in use changes nothing.
///
/// # Errors
/// One sentence naming the address and the remedy.
pub async fn bind(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        let why = match error.kind() {
            std::io::ErrorKind::AddrInUse => {
                "the port is in use; stop what uses it or choose another with --listen".into()
            }
            _ => error.to_string(),
        };
        anyhow!("cannot listen on {address}: {why}")
    })
}

/// A running hub.
pub struct Embedded {
    hub: Hub,
    server: Server,
    url: String,
    authority: Authority,
    store: ObjectStore,
    stop: CancellationToken,
    serving: JoinHandle<std::io::Result<()>>,
    controllers: Handle,
}

impl Embedded {
    /// Starts everything; returns when requests are answered.
    ///
    /// # Errors
    /// One sentence: the store cannot be used, a resource is unknown, …
    pub async fn start(options: EmbeddedOptions) -> Result<Self> {
        let listener = options.listener;
        let address = listener.local_addr()?;
        let url = options
            .external_url
            .clone()
            .unwrap_or_else(|| format!("https://{address}"));
        let names = server_names(address, &url);
        let pair = options.authority.server(&names)?;
        let tls = tmc_server::tls::server_config(&pair, Some(options.authority.certificate()))?;
        let store = open_store(options.engine)?;
        let stop = CancellationToken::new();
        let hub = start_hub(&store, &options.authority, &url).await?;
        let server = Server::builder(VersionInfo::new(MINOR, version()))
            .surface(Arc::new(hub.clone()))
            .stop(stop.clone())
            .build();
        let runtime = tmc_runtime::Hub {
            connection: connection_as(&server, controllers_user("controllers")),
            workspaces: true,
        };
        ensure_compute(&runtime).await?;
        let beats = Arc::new(Beats::default());
        let workspace = syncer_workspace(&hub, &server, &beats, &stop);
        server.add_surface(Arc::new(workspace));
        let settings = ControllerSettings {
            url: url.clone(),
            listen: address,
            sync_resources: options.sync_resources,
            members: options.members,
            beats,
            server: server.clone(),
        };
        let controllers = controllers::start(&hub, runtime, settings, &stop)?;
        let serving = {
            let (server, stop) = (server.clone(), stop.clone());
            tokio::spawn(async move { server.serve(listener, Some(tls), stop).await })
        };
        let authority = options.authority;
        Ok(Self {
            hub,
            server,
            url,
            authority,
            store,
            stop,
            serving,
            controllers,
        })
    }

    /// `https://host:port`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The hub.
    pub fn hub(&self) -> &Hub {
        &self.hub
    }

    /// A connection inside this process as a user.
    pub fn connection_as(&self, user: UserInfo) -> Connection {
        connection_as(&self.server, user)
    }

    /// The administrator's kubeconfig, context `root`.
    ///
    /// # Errors
    /// When the certificate cannot be made.
    pub fn admin_kubeconfig(&self) -> Result<String> {
        use base64::Engine as _;
        let base64 = base64::engine::general_purpose::STANDARD;
        let pair = self.authority.administrator()?;
        let cluster = kubeconfig::hub_cluster(&self.url, "root", self.authority.certificate());
        let identity = Identity {
            user: "admin".into(),
            certificate: base64.encode(pair.certificate),
            key: base64.encode(pair.key),
        };
        kubeconfig::render(&cluster, "root", &identity)
    }

    /// Ends it: no new requests, watches and workers end, the store is closed.
    ///
    /// # Errors
    /// When the listener had failed.
    pub async fn stop(self) -> Result<()> {
        self.stop.cancel();
        self.controllers.stop().await;
        let served = self.serving.await.context("the listener broke off")?;
        self.store.close().await;
        served.context("the listener failed")
    }
}

/// Version as `kubectl version` shows it.
fn version() -> String {
    format!("v1.{MINOR}.2+tmc-{}", env!("CARGO_PKG_VERSION"))
}

/// A connection inside this process as a user.
pub fn connection_as(server: &Server, user: UserInfo) -> Connection {
    Connection::in_process(server.service().with_identity(InProcessIdentity(user)))
}

/// The identity of a part of the hub that writes for the system.
fn controllers_user(part: &str) -> UserInfo {
    UserInfo::new(&format!("system:tmc:{part}"), &[GROUP_CONTROLLERS])
}

/// Names that the server's certificate is for.
fn server_names(address: SocketAddr, url: &str) -> Vec<String> {
    let mut names = vec!["localhost".to_owned(), address.ip().to_string()];
    if address.ip().is_unspecified() {
        names.push("127.0.0.1".into());
    }
    let host = url
        .parse::<http::Uri>()
        .ok()
        .and_then(|uri| uri.host().map(str::to_owned));
    names.extend(host.map(|host| host.trim_matches(['[', ']']).to_owned()));
    names.sort();
    names.dedup();
    names
}

fn open_store(engine: Box<dyn Engine>) -> Result<ObjectStore> {
    Ok(ObjectStore::open(
        engine,
        |_, value| Extracted::of(value),
        Default::default(),
    )?)
}

async fn start_hub(store: &ObjectStore, authority: &Authority, url: &str) -> Result<Hub> {
    let base_url = url.to_owned();
    let access = Arc::new(super::guards::LateAccess::default());
    let hub = Hub::start(HubOptions {
        store: store.clone(),
        environment: Arc::new(SystemEnvironment),
        admission: super::guards::guards(access.clone(), url),
        layout: Layout::Workspaces,
        everywhere: tmc_api::crd::crds(),
        signer: Some(Arc::new(authority.clone())),
        base_url: Arc::new(move || base_url.clone()),
    })
    .await?;
    access.fill(hub.clone());
    Ok(hub)
}

/// Every hub has `root:compute`, where clusters are registered unless somebody says otherwise.
async fn ensure_compute(hub: &tmc_runtime::Hub) -> Result<()> {
    let root = ClusterName::new(ClusterName::ROOT);
    let gvr = GroupVersionResource::new("tenancy.kcp.io", "v1alpha1", "workspaces");
    let client = ResourceClient::new(hub.cluster(&root), gvr);
    let workspace = json!({
        "apiVersion": "tenancy.kcp.io/v1alpha1", "kind": "Workspace",
        "metadata": {"name": "compute"}, "spec": {},
    });
    crate::context::ensure(&client, "", &workspace).await?;
    crate::context::wait_for(10, || async {
        let found = client.get("", "compute").await?;
        let ready = found["status"]["phase"] == "Ready";
        Ok(if ready {
            Ok(())
        } else {
            Err("workspace root:compute is not ready".to_owned())
        })
    })
    .await
}

struct HubDefinitions(Hub);

impl Definitions for HubDefinitions {
    fn definition(&self, gvr: &GroupVersionResource) -> Option<Arc<ResourceDefinition>> {
        self.0.everywhere().get(gvr).cloned()
    }
}

fn syncer_workspace(
    hub: &Hub,
    server: &Server,
    beats: &Arc<Beats>,
    stop: &CancellationToken,
) -> SyncerWorkspace {
    let runtime = tmc_runtime::Hub {
        connection: connection_as(server, controllers_user("virtual-workspaces")),
        workspaces: true,
    };
    let wildcard = |resource: &str| {
        let gvr = GroupVersionResource::new("workload.kcp.io", "v1alpha1", resource);
        ResourceClient::new(runtime.wildcard(), gvr)
    };
    let targets = Informer::<TargetView>::new(wildcard("synctargets"), None).spawn(stop.clone());
    let clusters = Informer::<ClusterView>::new(wildcard("clusters"), None)
        .index(BY_SECRET, secret_index)
        .spawn(stop.clone());
    let urls = hub.clone();
    SyncerWorkspace::new(SyncerDependencies {
        hub: runtime,
        targets,
        clusters,
        definitions: Arc::new(HubDefinitions(hub.clone())),
        access: Arc::new(HubAccess(hub.clone())),
        beats: beats.clone(),
        workspace_url: Arc::new(move |cluster| urls.workspace_url(cluster)),
    })
}
