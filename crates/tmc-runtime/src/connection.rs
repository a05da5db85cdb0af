//! Connections to hubs and members: `kube::Client`s for every part of one server over one
//! transport.

use tmc_apimachinery::ClusterName;

/// One API server, reached over one shared transport (a pool, or a service in this process).
/// Cheap to clone.
#[derive(Clone)]
pub struct Connection {}

impl Connection {
    /// Over a tower service in this process (no socket). The service must already carry the
    /// caller's identity.
    pub fn in_process<S, B>(_service: S) -> Self
    where
        S: tower::Service<http::Request<kube::client::Body>, Response = http::Response<B>>
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
        S::Error: Into<tower::BoxError>,
        B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
        B::Error: Into<tower::BoxError>,
    {
        unimplemented!()
    }

    /// Over HTTPS as a kubeconfig says (its current context unless named). The path of the
    /// `server` URL is kept apart: see [`Connection::base_path`]. HTTP/2 where the server offers it.
    ///
    /// # Errors
    /// A sentence naming the part of the kubeconfig that cannot be used.
    pub fn from_kubeconfig(
        _kubeconfig: &kube::config::Kubeconfig,
        _context: Option<&str>,
    ) -> Result<Self, crate::Error> {
        unimplemented!()
    }

    /// Path of the kubeconfig's `server` URL (`/clusters/root`), empty if none.
    pub fn base_path(&self) -> &str {
        unimplemented!()
    }

    /// A client whose requests go below `path` (`""`, `/clusters/root`,
    /// `/services/syncer/…/clusters/*`), replacing the kubeconfig's own path.
    pub fn client(&self, _path: &str) -> kube::Client {
        unimplemented!()
    }
}

/// A hub: a connection plus how it lays out workspaces.
#[derive(Clone)]
pub struct Hub {
    /// The transport.
    pub connection: Connection,
    /// Whether there are workspaces (`/clusters/<name>`), or one plain Kubernetes API.
    pub workspaces: bool,
}

impl Hub {
    /// A client for one logical cluster (`/clusters/<name>`, or no prefix on a plain hub).
    pub fn cluster(&self, _name: &ClusterName) -> kube::Client {
        unimplemented!()
    }

    /// A client for list and watch over all logical clusters (`/clusters/*`).
    pub fn wildcard(&self) -> kube::Client {
        unimplemented!()
    }
}
