//! The assembly: a store, a catalog and rules become an API surface.

use std::sync::{Arc, Weak};

use async_trait::async_trait;
use serde_json::Value;
use tmc_apimachinery::admission::Admission;
use tmc_apimachinery::definition::ApiSet;
use tmc_apimachinery::status::{ApiError, Result};
use tmc_apimachinery::user::{Attributes, Decision, Target};
use tmc_apimachinery::{ClusterName, ClusterScope, names};
use tmc_server::resource::ResourceStore;
use tmc_server::surface::{
    ApiSurface, RequestContext, Resolution, Resolved, Response, SpecialRequest, TokenAuthenticator,
};

use crate::catalog::Catalog;
use crate::custom_resources;
use crate::environment::SharedEnvironment;
use crate::expiry;
use crate::garbage;
use crate::identities::Signer;
use crate::lifecycle;
use crate::rbac::{self, Rbac};
use crate::storage::{Core, HubStore, Layout, Store};
use crate::tokens::{KeyVault, Keys, ServiceAccountTokens};
use crate::workspaces::workspaces;

/// What a hub is made of.
pub struct HubOptions {
    /// Where objects are kept.
    pub store: Store,
    /// Time and randomness.
    pub environment: SharedEnvironment,
    /// Rules that see every write.
    pub admission: Arc<dyn Admission>,
    /// Workspaces, or one plain cluster.
    pub layout: Layout,
    /// CustomResourceDefinitions of kinds that every workspace serves.
    pub everywhere: Vec<Value>,
    /// Signs client certificates; without one, requests stay pending.
    pub signer: Option<Arc<dyn Signer>>,
    /// Keeps the keys of ServiceAccount tokens; without one they are made anew at each start, and
    /// tokens end with the process.
    pub token_keys: Option<Arc<dyn KeyVault>>,
    /// `https://host:port` that URLs in objects start with.
    pub base_url: Arc<dyn Fn() -> String + Send + Sync>,
}

/// An embedded hub. Cheap to clone; its lifecycle task ends when the last clone is dropped.
#[derive(Clone)]
pub struct Hub {
    core: Arc<Core>,
    store: HubStore,
}

/// A hub that may have ended, for what the hub itself holds.
#[derive(Clone)]
pub struct WeakHub(Weak<Core>);

impl WeakHub {
    /// The hub, while somebody has it.
    pub fn upgrade(&self) -> Option<Hub> {
        self.0.upgrade().map(Hub::of)
    }
}

/// Marks a path whose workspace does not exist, until the caller is known to be allowed to hear so.
struct UnknownWorkspace(String);

impl Hub {
    /// Starts a hub on a store: makes workspace `root` where absent, then goes on with everything
    /// that was unfinished. Needs a tokio runtime.
    ///
    /// # Errors
    /// 500 if the store does not take the first objects, a shipped definition does not compile, or
    /// the keys of ServiceAccount tokens cannot be read.
    pub async fn start(options: HubOptions) -> Result<Self> {
        let mut definitions = tmc_builtins::definitions();
        let custom = custom_resources::compile_all(&options.everywhere)
            .map_err(|causes| ApiError::internal(format!("shipped definitions: {causes:?}")))?;
        definitions.extend(custom);
        let tokens = Keys::open(options.token_keys, options.environment.clone())
            .map_err(ApiError::internal)?;
        let (triggers, receiver) = tokio::sync::mpsc::unbounded_channel();
        let core = Arc::new(Core {
            store: options.store,
            environment: options.environment,
            catalog: Catalog::new(definitions),
            rbac: Rbac::default(),
            admission: options.admission,
            layout: options.layout,
            triggers,
            signer: options.signer,
            tokens,
            alive: tokio::sync::watch::Sender::default(),
            base_url: options.base_url,
        });
        core.bootstrap().await?;
        tokio::spawn(garbage::run(Arc::downgrade(&core), core.alive.subscribe()));
        tokio::spawn(lifecycle::run(Arc::downgrade(&core), receiver));
        tokio::spawn(expiry::run(Arc::downgrade(&core), core.alive.subscribe()));
        Ok(Self::of(core))
    }

    fn of(core: Arc<Core>) -> Self {
        Self {
            store: HubStore(core.clone()),
            core,
        }
    }

    /// The hub without keeping it.
    pub fn downgrade(&self) -> WeakHub {
        WeakHub(Arc::downgrade(&self.core))
    }

    /// The logical cluster at a path (`root:team`) or of a name; `None` if there is none.
    pub fn resolve(&self, path: &str) -> Option<ClusterName> {
        self.core.resolve_cluster(path)
    }

    /// The path of a logical cluster.
    pub fn path(&self, cluster: &ClusterName) -> Option<String> {
        self.core.cluster_path(cluster)
    }

    /// Decides as a SubjectAccessReview in the attributes' logical cluster would.
    pub fn review_access(&self, attributes: &Attributes) -> Decision {
        self.core.review_access(attributes)
    }

    /// Authenticates requests by the ServiceAccount tokens that this hub issued.
    pub fn service_account_tokens(&self) -> Arc<dyn TokenAuthenticator> {
        Arc::new(ServiceAccountTokens(self.core.clone()))
    }

    /// What every workspace serves.
    pub fn everywhere(&self) -> Arc<ApiSet> {
        self.core.catalog.everywhere().clone()
    }

    /// URL of a logical cluster, by its path.
    pub fn workspace_url(&self, cluster: &ClusterName) -> String {
        let path = self.path(cluster).unwrap_or_else(|| cluster.to_string());
        self.core.workspace_url(&path)
    }

    /// Revision of the newest change.
    pub fn revision(&self) -> u64 {
        self.core.store.revision()
    }

    fn resolve_workspace(&self, text: &str, rest: &str) -> Resolution {
        let accepted = |scope, domain| {
            Resolution::Accepted(Resolved {
                scope,
                path: rest.to_owned(),
                domain,
            })
        };
        if text == "*" {
            return accepted(ClusterScope::All, None);
        }
        let well_formed = names::is_workspace_path(text) || ClusterName::parse(text).is_some();
        if !well_formed {
            return Resolution::Refused(ApiError::bad_request(format!(
                "invalid cluster: \"{text}\" does not match the regex"
            )));
        }
        match self.core.resolve_cluster(text) {
            Some(cluster) => accepted(ClusterScope::One(cluster), None),
            None => {
                let unknown = Arc::new(UnknownWorkspace(text.to_owned()));
                accepted(
                    ClusterScope::One(ClusterName::new("unknown:")),
                    Some(unknown),
                )
            }
        }
    }
}

fn unknown_workspace(context: &RequestContext) -> Option<&str> {
    let domain = context.resolved.domain.as_ref()?;
    domain
        .downcast_ref::<UnknownWorkspace>()
        .map(|unknown| unknown.0.as_str())
}

#[async_trait]
impl ApiSurface for Hub {
    fn name(&self) -> &'static str {
        "hub"
    }

    fn resolve(&self, path: &str) -> Resolution {
        if self.core.layout == Layout::Plain {
            let ours = ["/api", "/apis", "/openapi", "/version"];
            let first = path
                .split('/')
                .nth(1)
                .map(|s| format!("/{s}"))
                .unwrap_or_default();
            if !ours.contains(&first.as_str()) {
                return Resolution::NotMine;
            }
            let scope = ClusterScope::One(ClusterName::new(ClusterName::ROOT));
            return Resolution::Accepted(Resolved {
                scope,
                path: path.to_owned(),
                domain: None,
            });
        }
        let Some(rest) = path.strip_prefix("/clusters/") else {
            return Resolution::NotMine;
        };
        match rest.find('/') {
            Some(at) => self.resolve_workspace(&rest[..at], &rest[at..]),
            None => self.resolve_workspace(rest, "/"),
        }
    }

    fn ready(&self) -> std::result::Result<(), String> {
        Ok(())
    }

    async fn authorize(&self, context: &RequestContext, attributes: &Attributes) -> Decision {
        if unknown_workspace(context).is_some() {
            return if rbac::is_privileged(&attributes.user) {
                Decision::Allow
            } else {
                Decision::Deny("workspace access not permitted".into())
            };
        }
        // `kubectl version` works for whoever may enter; nothing else is open.
        if let Target::Path(path) = &attributes.target
            && path == "/"
            && attributes.verb == "get"
        {
            let entry = Attributes {
                verb: "access".into(),
                ..attributes.clone()
            };
            return self.core.authorize(&entry);
        }
        self.core.authorize(attributes)
    }

    async fn api_set(&self, context: &RequestContext) -> Result<Arc<ApiSet>> {
        if let Some(path) = unknown_workspace(context) {
            return Err(ApiError::not_found(&workspaces(), path));
        }
        Ok(match &context.resolved.scope {
            ClusterScope::All => self.core.catalog.everywhere().clone(),
            ClusterScope::One(cluster) => self.core.api_set(cluster),
        })
    }

    fn store(&self) -> &dyn ResourceStore {
        &self.store
    }

    async fn special(&self, _: &RequestContext, _: &SpecialRequest) -> Option<Response> {
        None
    }
}
