//! Controllers and virtual workspaces beside a hub that is a Kubernetes API server: one workspace
//! named `root`, any number of replicas of this process.
//!
//! Every replica serves the virtual workspaces. One leads (a Lease): it runs the controllers and the
//! Hosted syncers, behind a fence that ends with its term. What the others hear of agents reaches it
//! through Leases ([`relay`]).

pub mod cache;
pub mod crds;
pub mod definitions;
pub mod discovery;
pub mod doorway;
pub mod relay;
pub mod reports;
pub mod reviews;
pub mod serving;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use kube::config::Kubeconfig;
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use serde_json::json;
use tmc_apimachinery::{ClusterName, GroupVersionResource};
use tmc_controllers::connector::{NoSimulatedMembers, Outbound, OwnListeners};
use tmc_controllers::eviction;
use tmc_controllers::kubeconfig::Allowances;
use tmc_controllers::placement::filter::Unlimited;
use tmc_controllers::{AgentSettings, Deps, Manager};
use tmc_runtime::lease::{Election, ElectionOptions, Moments, Term, Times};
use tmc_runtime::{
    Clock, Connection, Credential, Endpoint, Hub, Jitter, ResourceClient, SystemDialer,
};
use tmc_server::{Server, VersionInfo};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use self::definitions::HubDefinitions;
use self::doorway::Doorway;
use self::relay::{Leases, Relay, Relayed};
use self::reviews::{AccessReviews, TokenReviews};
use self::serving::GivenCertificate;
use super::beats::Beats;
use super::hosted::Hosted;
use super::metrics::Metrics;
use super::surroundings::Machine;
use super::views::{ViewSettings, syncer_workspace};
use crate::cli::DEFAULT_IMAGE;

/// Namespace of what the replicas keep on the hub. Nothing of it is ever synced.
pub const NAMESPACE: &str = "kcp-system";
/// The Lease that the leader holds.
pub const LEASE: &str = "tmc-controllers";
/// How long agents of a term may take to end before its Lease is given up.
const WIND_DOWN: Duration = Duration::from_secs(8);

/// What a replica is started with.
pub struct KubernetesOptions {
    /// Kubeconfig of the hub.
    pub kubeconfig: Kubeconfig,
    /// Whether to apply the definitions of our kinds.
    pub install_crds: bool,
    /// Where to serve virtual workspaces, already taken; `None`: nowhere.
    pub listener: Option<TcpListener>,
    /// URL under which agents reach the virtual workspaces.
    pub url: String,
    /// Certificate to serve with; otherwise one is made.
    pub certificate: Option<GivenCertificate>,
    /// `resource.group` names that targets sync.
    pub sync_resources: Vec<String>,
    /// This replica, at this start; a DNS label.
    pub identity: String,
}

/// A replica that is ready to stand for election.
pub struct Replica {
    shared: Arc<Shared>,
    election: Election,
    stop: CancellationToken,
    publishing: JoinHandle<()>,
    serving: Option<JoinHandle<std::io::Result<()>>>,
}

/// What every term needs.
struct Shared {
    hub: Hub,
    server: Server,
    url: String,
    sync_resources: Vec<GroupVersionResource>,
    own: OwnListeners,
    agents: AgentSettings,
    relay: Arc<Relay>,
    leases: Leases,
    metrics: Arc<Metrics>,
}

impl Replica {
    /// Connects, installs what is asked for, and serves virtual workspaces.
    ///
    /// # Errors
    /// One sentence: the hub cannot be reached or lacks our kinds, a file cannot be used, …
    pub async fn start(options: KubernetesOptions) -> Result<Self> {
        let endpoint = Endpoint::from_kubeconfig(&options.kubeconfig, None)
            .map_err(|error| anyhow!("--hub-kubeconfig: {error}"))?;
        let hub = connect(&endpoint)?;
        let client = hub.cluster(&ClusterName::new(ClusterName::ROOT));
        discovery::check_kubernetes(&client).await?;
        if options.install_crds {
            crds::install(&hub).await?;
        }
        crds::check(&hub).await?;
        ensure_namespace(&hub).await?;
        let sync_resources = discovery::resources(&client, &options.sync_resources).await?;
        let stop = CancellationToken::new();
        let beats = Arc::new(Beats::default());
        let relay = Arc::new(Relay::new(beats.live.clone()));
        let registry = Arc::default();
        let server = server(&hub, &endpoint, &beats, &relay, &registry, &stop).await?;
        let listen = options.listener.as_ref();
        let listen = listen.map(TcpListener::local_addr).transpose()?;
        let (serving, hub_ca) = match options.listener {
            Some(listener) => {
                let given = options.certificate.as_ref();
                let (serving, ca) =
                    serve(&hub, &server, listener, &options.url, given, &stop).await?;
                (Some(serving), ca)
            }
            None => (None, serving::published(&hub).await?),
        };
        let shared = Arc::new(Shared {
            own: own_listeners(&endpoint, listen).await?,
            leases: relay.read_others(&hub, &options.identity, &stop),
            url: options.url,
            sync_resources,
            agents: AgentSettings {
                // What agents reach of the hub is under the URL of the virtual workspaces.
                image: DEFAULT_IMAGE.into(),
                hub_ca: hub_ca.into_bytes(),
            },
            relay: relay.clone(),
            server,
            hub: hub.clone(),
            metrics: Arc::new(Metrics::new(&registry)),
        });
        let identity = options.identity;
        let publish = relay.publish(hub.clone(), identity.clone(), stop.clone());
        let election = election(&hub, &identity)?;
        Ok(Self {
            shared,
            election,
            publishing: tokio::spawn(publish),
            serving,
            stop,
        })
    }

    /// Stands for election and leads when elected, until `stop`; then everything ends in order: the
    /// term with its writers, the Lease, the listener.
    ///
    /// # Errors
    /// When the listener had failed.
    pub async fn run(self, stop: CancellationToken) -> Result<()> {
        let shared = self.shared;
        self.election
            .run(stop, move |term| lead(shared.clone(), term))
            .await;
        self.stop.cancel();
        // It ends by itself; a panic in it was logged where it happened.
        let _ = self.publishing.await;
        match self.serving {
            Some(serving) => serving
                .await
                .context("the listener broke off")?
                .context("the listener failed"),
            None => Ok(()),
        }
    }
}

fn connect(endpoint: &Endpoint) -> Result<Hub> {
    let connection = Connection::https(endpoint, Arc::new(SystemDialer))
        .map_err(|error| anyhow!("--hub-kubeconfig: {error}"))?;
    Ok(Hub {
        connection,
        workspaces: false,
    })
}

async fn ensure_namespace(hub: &Hub) -> Result<()> {
    let root = hub.cluster(&ClusterName::new(ClusterName::ROOT));
    let client = ResourceClient::new(root, GroupVersionResource::new("", "v1", "namespaces"));
    let namespace =
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
    crate::context::ensure(&client, "", &namespace)
        .await
        .map(drop)
        .with_context(|| format!("Namespace {NAMESPACE}"))
}

/// The server of the virtual workspaces, which nobody outside of this process can reach yet.
async fn server(
    hub: &Hub,
    endpoint: &Endpoint,
    beats: &Arc<Beats>,
    relay: &Arc<Relay>,
    registry: &Arc<Mutex<Registry>>,
    stop: &CancellationToken,
) -> Result<Server> {
    let anonymous = endpoint.clone().with_credential(Credential::Anonymous);
    let doorway = Doorway::new(connect(&anonymous)?.connection);
    let definitions = HubDefinitions::watch(hub, stop);
    // A view made before would lack custom resources for good.
    definitions.synced().await;
    let url = format!(
        "https://{}:{}{}",
        bracketed(endpoint.host()),
        endpoint.port(),
        endpoint.base_path()
    );
    let workspace = syncer_workspace(
        ViewSettings {
            hub: hub.clone(),
            definitions: Arc::new(definitions),
            access: Arc::new(AccessReviews::new(hub)),
            beats: Arc::new(Relayed {
                sink: beats.clone(),
                relay: relay.clone(),
            }),
            workspace_url: Arc::new(move |_| url.clone()),
            clock: Clock::system(),
            jitter: Jitter::random(),
        },
        stop,
    );
    Ok(Server::builder(VersionInfo::default())
        .config(super::limits::server_config())
        .registry(Arc::clone(registry))
        .surface(Arc::new(workspace))
        .surface(Arc::new(doorway))
        .tokens(Arc::new(TokenReviews::new(hub)))
        .stop(stop.clone())
        .build())
}

fn bracketed(host: &str) -> String {
    if host.contains(':') {
        format!("[{host}]")
    } else {
        host.to_owned()
    }
}

/// The addresses that members must not have: the hub's, as far as they are known now, and our own.
async fn own_listeners(endpoint: &Endpoint, listen: Option<SocketAddr>) -> Result<OwnListeners> {
    let (host, port) = (endpoint.host(), endpoint.port());
    let found = tokio::net::lookup_host((host, port))
        .await
        .with_context(|| format!("--hub-kubeconfig: the name {host} cannot be resolved"))?;
    Ok(OwnListeners::new(found.chain(listen).collect()))
}

/// Starts to serve; the task, and the authority that agents trust.
async fn serve(
    hub: &Hub,
    server: &Server,
    listener: TcpListener,
    url: &str,
    given: Option<&GivenCertificate>,
    stop: &CancellationToken,
) -> Result<(JoinHandle<std::io::Result<()>>, String)> {
    let prepared = serving::prepare(hub, listener.local_addr()?, url, given).await?;
    let (server, stop) = (server.clone(), stop.clone());
    let serving =
        tokio::spawn(async move { server.serve(listener, Some(prepared.tls), stop).await });
    Ok((serving, prepared.ca))
}

fn election(hub: &Hub, identity: &str) -> Result<Election> {
    let options = ElectionOptions {
        namespace: NAMESPACE.into(),
        name: LEASE.into(),
        identity: identity.to_owned(),
        times: Times::default(),
        clock: Moments::system(),
        jitter: Jitter::random(),
    };
    Election::new(hub, options).map_err(|why| anyhow!(why))
}

/// One term: controllers and Hosted syncers, until it is over.
async fn lead(shared: Arc<Shared>, term: Term) {
    let fence = &term.fence;
    let hub = shared.hub.fenced(fence);
    let stop = CancellationToken::new();
    let hosted =
        Arc::new(Hosted::new(&shared.server, Arc::new(Machine::default()), &stop).fenced(fence));
    let url = shared.url.clone();
    let deps = Deps {
        base_url: Arc::new(move || url.clone()),
        sync_resources: shared.sync_resources.clone(),
        beats: shared.relay.clone(),
        hosted: hosted.clone(),
        outbound: Outbound::new(shared.own.clone(), Arc::new(NoSimulatedMembers)).fenced(fence),
        allowances: Allowances::default(),
        agents: shared.agents.clone(),
        metrics: shared.metrics.clone(),
        eviction: eviction::Rules::default(),
        quota: Arc::new(Unlimited),
        clock: Clock::system(),
        jitter: Jitter::random(),
    };
    shared.relay.set_leading(true);
    let controllers = Manager::start(hub.clone(), deps);
    tokio::select! {
        () = term.over.cancelled() => {}
        () = shared.leases.sweep(&hub) => {}
    }
    stop.cancel();
    // Both at once: none of them goes on because another one hangs.
    let wind_down = async { tokio::join!(hosted.ended(), controllers.stop()) };
    if tokio::time::timeout(WIND_DOWN, wind_down).await.is_err() {
        // The fence keeps whatever still runs from writing.
        tracing::warn!("a term has ended with work under way");
    }
    shared.relay.set_leading(false);
}
