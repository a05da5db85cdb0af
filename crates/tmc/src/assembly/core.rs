//! A hub in one process, without a listener: store, guards, server, virtual workspace, controllers.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Result;
use serde_json::json;
use tmc_apimachinery::definition::ResourceDefinition;
use tmc_apimachinery::user::{GROUP_CONTROLLERS, UserInfo};
use tmc_apimachinery::{ClusterName, GroupVersionResource};
use tmc_controllers::Handle;
use tmc_hub::storage::{Extracted, Layout, Store as ObjectStore};
use tmc_hub::{Hub, HubOptions, KeyVault, Signer};
use tmc_runtime::{Connection, ResourceClient};
use tmc_server::surface::InProcessIdentity;
use tmc_server::{Server, VersionInfo};
use tmc_store::engine::Engine;
use tmc_virtual::syncer::Definitions;
use tokio_util::sync::CancellationToken;

use super::access::HubAccess;
use super::beats::Beats;
use super::controllers::{self, ControllerSettings};
use super::members::Members;
use super::metrics::Metrics;
use super::surroundings::{Part, Surroundings};
use super::views::{ViewSettings, syncer_workspace};

/// Kubernetes minor version whose API the hub speaks.
const MINOR: u32 = 36;

/// What a hub is put together from.
pub struct CoreOptions {
    /// Where objects are kept.
    pub engine: Box<dyn Engine>,
    /// Signs client certificates; without one, requests stay pending.
    pub signer: Option<Arc<dyn Signer>>,
    /// Keeps the keys of ServiceAccount tokens; without one, tokens end with the process.
    pub token_keys: Option<Arc<dyn KeyVault>>,
    /// `https://host:port` under which others reach the hub.
    pub url: String,
    /// Where the hub listens: members are never looked for there.
    pub listening: Vec<SocketAddr>,
    /// `resource.group` names that targets sync.
    pub sync_resources: Vec<String>,
    /// Simulated members of this process.
    pub members: Arc<Members>,
    /// Time, randomness and wires.
    pub surroundings: Arc<dyn Surroundings>,
}

/// A hub with its controllers and views, which nobody outside of this process can reach yet.
pub struct Core {
    hub: Hub,
    server: Server,
    store: ObjectStore,
    stop: CancellationToken,
    controllers: Handle,
}

impl Core {
    /// Starts everything; returns when requests are answered.
    ///
    /// # Errors
    /// One sentence: the store cannot be used, a resource is unknown, …
    pub async fn start(options: CoreOptions) -> Result<Self> {
        let around = options.surroundings.clone();
        let url = options.url.clone();
        let store = open_store(options.engine, &*around)?;
        let stop = CancellationToken::new();
        let issuers = Issuers {
            signer: options.signer,
            token_keys: options.token_keys,
        };
        let hub = start_hub(&store, issuers, &url, &*around).await?;
        let registry = Arc::default();
        let server = Server::builder(VersionInfo::new(MINOR, version()))
            .config(super::limits::server_config())
            .registry(Arc::clone(&registry))
            .surface(Arc::new(hub.clone()))
            .tokens(hub.service_account_tokens())
            .stop(stop.clone())
            .build();
        let runtime = as_part(&server, &*around, Part::Controllers, "controllers");
        ensure_compute(&runtime).await?;
        let beats = Arc::new(Beats::default());
        let workspace = syncer_workspace(view_settings(&hub, &server, &beats, &*around), &stop);
        server.add_surface(Arc::new(workspace));
        let settings = ControllerSettings {
            url,
            listening: options.listening,
            sync_resources: options.sync_resources,
            members: options.members,
            beats,
            server: server.clone(),
            surroundings: around,
            metrics: Arc::new(Metrics::new(&registry)),
        };
        let controllers = controllers::start(&hub, runtime, settings, &stop)?;
        Ok(Self {
            hub,
            server,
            store,
            stop,
            controllers,
        })
    }

    /// The hub.
    pub fn hub(&self) -> &Hub {
        &self.hub
    }

    /// Its server.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// Cancelled when it is to end.
    pub fn stop_token(&self) -> &CancellationToken {
        &self.stop
    }

    /// A connection inside this process as a user.
    pub fn connection_as(&self, user: UserInfo) -> Connection {
        connection_as(&self.server, user)
    }

    /// Ends watches and workers, then `before` is waited for, then the store is closed.
    pub async fn stop(self, before: impl Future<Output = ()>) {
        self.stop.cancel();
        self.controllers.stop().await;
        before.await;
        self.store.close().await;
    }
}

/// Version as `kubectl version` shows it.
fn version() -> String {
    format!("v1.{MINOR}.2+tmc-{}", env!("CARGO_PKG_VERSION"))
}

/// A connection inside this process as a user. It does not keep the server: views, which are a part of
/// it, have such connections too.
pub fn connection_as(server: &Server, user: UserInfo) -> Connection {
    let service = server.weak_service();
    Connection::in_process(service.with_identity(InProcessIdentity(user)))
}

/// The identity of a part of the hub that writes for the system.
fn controllers_user(part: &str) -> UserInfo {
    UserInfo::new(&format!("system:tmc:{part}"), &[GROUP_CONTROLLERS])
}

/// A hub's API as the system sees it that a part of this process belongs to.
fn as_part(
    server: &Server,
    around: &dyn Surroundings,
    part: Part<'_>,
    name: &str,
) -> tmc_runtime::Hub {
    let direct = connection_as(server, controllers_user(name));
    tmc_runtime::Hub {
        connection: around.wire(part, direct),
        workspaces: true,
    }
}

fn open_store(engine: Box<dyn Engine>, around: &dyn Surroundings) -> Result<ObjectStore> {
    let extract = |_: &_, value: &_| Extracted::of(value);
    Ok(ObjectStore::open(engine, extract, around.store())?)
}

/// What signs in a hub's name.
struct Issuers {
    /// Client certificates.
    signer: Option<Arc<dyn Signer>>,
    /// Where the keys for ServiceAccount tokens are kept.
    token_keys: Option<Arc<dyn KeyVault>>,
}

async fn start_hub(
    store: &ObjectStore,
    issuers: Issuers,
    url: &str,
    around: &dyn Surroundings,
) -> Result<Hub> {
    let base_url = url.to_owned();
    let access = Arc::new(super::guards::LateAccess::default());
    let hub = Hub::start(HubOptions {
        store: store.clone(),
        environment: around.environment(),
        admission: super::guards::guards(access.clone(), url),
        layout: Layout::Workspaces,
        everywhere: tmc_api::crd::crds(),
        signer: issuers.signer,
        token_keys: issuers.token_keys,
        base_url: Arc::new(move || base_url.clone()),
    })
    .await?;
    access.fill(&hub);
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

fn view_settings(
    hub: &Hub,
    server: &Server,
    beats: &Arc<Beats>,
    around: &dyn Surroundings,
) -> ViewSettings {
    let urls = hub.clone();
    ViewSettings {
        hub: as_part(server, around, Part::Views, "virtual-workspaces"),
        definitions: Arc::new(HubDefinitions(hub.clone())),
        access: Arc::new(HubAccess(hub.clone())),
        beats: beats.clone(),
        workspace_url: Arc::new(move |cluster| urls.workspace_url(cluster)),
        clock: around.clock(),
        jitter: around.jitter(),
    }
}
