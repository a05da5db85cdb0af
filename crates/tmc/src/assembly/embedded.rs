//! The embedded hub: what [`Core`] puts together, with a certificate and a listener.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow};
use tmc_apimachinery::user::UserInfo;
use tmc_controllers::AgentSettings;
use tmc_hub::Hub;
use tmc_runtime::Connection;
use tmc_store::engine::Engine;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::authority::Authority;
use super::core::{Core, CoreOptions};
use super::members::Members;
use super::surroundings::Machine;
use crate::cli::DEFAULT_IMAGE;
use crate::kubeconfig::{self, Identity};

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
    core: Core,
    url: String,
    authority: Authority,
    serving: JoinHandle<std::io::Result<()>>,
}

impl Embedded {
    /// Starts everything; returns when requests are answered.
    ///
    /// # Errors
    /// One sentence: the store cannot be used, a resource is unknown, …
    pub async fn start(options: EmbeddedOptions) -> Result<Self> {
        let (listener, authority) = (options.listener, options.authority);
        let address = listener.local_addr()?;
        let url = options
            .external_url
            .unwrap_or_else(|| format!("https://{address}"));
        let names = server_names(address, &url);
        let pair = authority.server(&names)?;
        let tls = tmc_server::tls::server_config(&pair, Some(authority.certificate()))?;
        let core = Core::start(CoreOptions {
            engine: options.engine,
            signer: Some(Arc::new(authority.clone())),
            token_keys: Some(authority.token_keys()),
            url: url.clone(),
            listening: vec![address],
            sync_resources: options.sync_resources,
            members: options.members,
            surroundings: Arc::new(Machine::with_agents(AgentSettings {
                image: DEFAULT_IMAGE.into(),
                hub_ca: authority.certificate().as_bytes().to_vec(),
            })),
        })
        .await?;
        let serving = {
            let (server, stop) = (core.server().clone(), core.stop_token().clone());
            tokio::spawn(async move { server.serve(listener, Some(tls), stop).await })
        };
        Ok(Self {
            core,
            url,
            authority,
            serving,
        })
    }

    /// `https://host:port`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The hub.
    pub fn hub(&self) -> &Hub {
        self.core.hub()
    }

    /// A connection inside this process as a user.
    pub fn connection_as(&self, user: UserInfo) -> Connection {
        self.core.connection_as(user)
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
        let mut served = Ok(Ok(()));
        self.core.stop(async { served = self.serving.await }).await;
        served
            .context("the listener broke off")?
            .context("the listener failed")
    }
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
