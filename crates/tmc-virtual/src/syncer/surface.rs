//! The workspace as an API surface: paths, authorization, endpoints.

use std::any::Any;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use http::StatusCode;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, json};
use tmc_api::syncer::{MAX_FRAME, SUBPROTOCOL, SessionConfig};
use tmc_api::time::Span;
use tmc_api::workload::{SyncState, SyncedResource};
use tmc_apimachinery::definition::ApiSet;
use tmc_apimachinery::meta::meta;
use tmc_apimachinery::status::{ApiError, Reason, Result};
use tmc_apimachinery::user::{Attributes, Decision, UserInfo};
use tmc_apimachinery::{ClusterName, ClusterScope, GroupVersionResource};
use tmc_runtime::{Clock, ClusterKey, Hub, Store};
use tmc_server::resource::ResourceStore;
use tmc_server::respond::{self, json_response};
use tmc_server::surface::{
    ApiSurface, RequestContext, Resolution, Resolved, Response, SpecialRequest,
};
use tmc_server::websocket;

use super::api_set::{ApiSets, Definitions, endpoint_definitions, resources};
use super::endpoints::{BeatSink, beat_answer, read_beat, resource_rows};
use super::session::{Configured, Session, Sessions};
use super::shares::Shares;
use super::storage::{Hidden, SyncerStore};
use super::targets::{Domain, TargetId, TargetView, is_hosted};
use super::transform::TargetKeys;
use super::vigil::{Entitled, Standing, Vigils};
use crate::url;

/// Beat interval until it is decided what a target syncs.
const UNEVALUATED_INTERVAL: Duration = Duration::from_millis(100);
const ENDPOINTS: &str = "/apis/syncer.kcp.io/v1alpha1/";

/// Marks a request to the root of a target: endpoints, and what is said of them.
struct Root(Arc<Domain>);

/// Asks a hub whether somebody may `sync` a SyncTarget (one SubjectAccessReview).
#[async_trait]
pub trait SyncAccess: Send + Sync {
    /// Whether `user` holds verb `sync` on `synctargets/<name>` in the target's logical cluster.
    /// Errors are no opinion, never a yes.
    async fn may_sync(&self, user: &UserInfo, target: &TargetId) -> Decision;
}

/// The part of a Cluster that the workspace reads: which Secret it keeps secret.
#[derive(Debug, Deserialize)]
pub struct ClusterView {
    spec: ClusterSpec,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ClusterSpec {
    kubeconfig_secret_ref: SecretRef,
}

#[derive(Debug, Deserialize)]
struct SecretRef {
    name: String,
}

/// Index of Clusters by the Secret they refer to; see [`secret_index`].
pub const BY_SECRET: &str = "secret";

/// Values of the index [`BY_SECRET`].
pub fn secret_index(key: &ClusterKey, cluster: &ClusterView) -> Vec<String> {
    vec![secret_key(
        key.cluster.as_str(),
        &key.namespace,
        &cluster.spec.kubeconfig_secret_ref.name,
    )]
}

fn secret_key(cluster: &str, namespace: &str, name: &str) -> String {
    format!("{cluster}/{namespace}/{name}")
}

/// What the workspace stands on.
pub struct SyncerDependencies {
    /// The hub, as the virtual workspaces' own identity.
    pub hub: Hub,
    /// Every SyncTarget.
    pub targets: Store<TargetView>,
    /// Every Cluster, indexed with [`secret_index`].
    pub clusters: Store<ClusterView>,
    /// What the hub serves.
    pub definitions: Arc<dyn Definitions>,
    /// Permission to sync.
    pub access: Arc<dyn SyncAccess>,
    /// Where heartbeats go.
    pub beats: Arc<dyn BeatSink>,
    /// Open sessions; whoever fills `targets` tells it of changes
    /// ([`Sessions::target_changed`]).
    pub sessions: Arc<Sessions>,
    /// URL of a logical cluster, for the view's `workspace-url` annotation.
    pub workspace_url: Arc<dyn Fn(&ClusterName) -> String + Send + Sync>,
    /// The time at which beats come in.
    pub clock: Clock,
}

/// The syncer virtual workspace.
pub struct SyncerWorkspace {
    store: SyncerStore,
    entitled: Arc<dyn Entitled>,
    targets: Store<TargetView>,
    clusters: Store<ClusterView>,
    domains: Mutex<Shares<TargetId, Weak<Domain>>>,
    sets: ApiSets,
    /// What the root of every target serves.
    endpoints: Arc<ApiSet>,
    access: Arc<dyn SyncAccess>,
    beats: Arc<dyn BeatSink>,
    clock: Clock,
    sessions: Arc<Sessions>,
}

struct NeverSynced(Store<ClusterView>);

impl Hidden for NeverSynced {
    fn hides(&self, resource: &str, cluster: &ClusterName, object: &Value) -> bool {
        if resource != "secrets" {
            return false;
        }
        let kind = object["type"].as_str().unwrap_or_default();
        let internal = [
            "tmc.kcp.io/kubeconfig",
            "kubernetes.io/service-account-token",
            "bootstrap.kubernetes.io/token",
        ];
        let at = meta(object);
        let key = secret_key(cluster.as_str(), at.namespace(), at.name());
        internal.contains(&kind) || !self.0.by_index(BY_SECRET, &key).is_empty()
    }
}

/// The targets there are, and who may sync them.
struct Entitlements {
    targets: Store<TargetView>,
    access: Arc<dyn SyncAccess>,
}

#[async_trait]
impl Entitled for Entitlements {
    async fn standing(&self, user: &UserInfo, target: &TargetId) -> Standing {
        if current(&self.targets, target).is_none() {
            return Standing::Gone;
        }
        let allowed =
            is_hosted(user, target) || self.access.may_sync(user, target).await == Decision::Allow;
        if allowed {
            Standing::Entitled
        } else {
            Standing::Refused
        }
    }
}

/// The SyncTarget with exactly this identity.
fn current(targets: &Store<TargetView>, target: &TargetId) -> Option<Arc<TargetView>> {
    target.among(|key| targets.get(key))
}

/// What sessions are configured with: the target's own settings, and a mark of what it syncs.
struct FromTargets(Store<TargetView>);

impl Configured for FromTargets {
    fn config(&self, target: &TargetId) -> Option<SessionConfig> {
        let view = current(&self.0, target)?;
        let mut hasher = DefaultHasher::new();
        resources(accepted(&view)).hash(&mut hasher);
        Some(SessionConfig {
            resources: Some(format!("{:016x}", hasher.finish())),
            ..view.config()
        })
    }
}

/// The resources that a target accepted, in their first version.
fn accepted(target: &TargetView) -> impl Iterator<Item = GroupVersionResource> {
    let synced = target.synced().iter();
    synced
        .filter(|r| r.state == SyncState::Accepted)
        .filter_map(|r| {
            let version = r.versions.first()?;
            Some(GroupVersionResource::new(&r.group, version, &r.resource))
        })
}

impl SyncerWorkspace {
    /// A workspace on a hub.
    pub fn new(dependencies: SyncerDependencies) -> Self {
        let SyncerDependencies {
            hub,
            targets,
            clusters,
            definitions,
            access,
            beats,
            clock,
            sessions,
            workspace_url,
        } = dependencies;
        let hidden = Arc::new(NeverSynced(clusters.clone()));
        let entitled: Arc<dyn Entitled> = Arc::new(Entitlements {
            targets: targets.clone(),
            access: access.clone(),
        });
        Self {
            store: SyncerStore {
                hub,
                hidden,
                workspace_url,
                vigils: Arc::new(Vigils::new(entitled.clone())),
                clock: clock.clone(),
            },
            entitled,
            targets,
            clusters,
            domains: Mutex::default(),
            sets: ApiSets::new(definitions),
            endpoints: Arc::new(ApiSet::new(endpoint_definitions())),
            access,
            beats,
            clock,
            sessions,
        }
    }

    fn domain(&self, path: &url::SyncerPath) -> Option<Arc<Domain>> {
        let id = TargetId {
            cluster: path.cluster.clone(),
            name: path.name.clone(),
            uid: path.uid.clone(),
        };
        let Some(target) = current(&self.targets, &id) else {
            tracing::info!(target = %path.name, cluster = %path.cluster, "a syncer asked for a SyncTarget that is not there, or has another uid");
            return None;
        };
        let mut domains = self.domains.lock();
        let known = domains.get(&id).and_then(Weak::upgrade);
        if let Some(known) = known.filter(|known| Arc::ptr_eq(&known.made_of, &target)) {
            return Some(known);
        }
        let domain = Arc::new(domain_of_target(id.clone(), target));
        domains.insert(id, Arc::downgrade(&domain), |weak| weak.strong_count() > 0);
        Some(domain)
    }

    fn answer_resources(&self, domain: &Domain) -> Value {
        let set = self.sets.set(&domain.resources);
        let rows = resource_rows(&set, domain.made_of.synced(), |gvr| self.sets.of_hub(gvr));
        json!({"apiVersion": "syncer.kcp.io/v1alpha1", "kind": "SyncedResourceList",
               "metadata": {}, "items": rows})
    }

    /// Opens a session; the answer is the end of the HTTP side.
    fn connect(
        &self,
        domain: &Domain,
        user: &UserInfo,
        request: &SpecialRequest,
    ) -> Result<Response> {
        let accepted = websocket::accept(request, SUBPROTOCOL, MAX_FRAME)?;
        let slot = self.sessions.reserve(&domain.target, self.beats.clone());
        let slot = slot.ok_or_else(|| {
            let mut error = ApiError::new(
                Reason::TooManyRequests,
                "this SyncTarget has too many sessions already: run fewer syncer replicas",
            );
            error.retry_after = Some(10);
            error
        })?;
        let session = Session {
            target: domain.target.clone(),
            user: user.clone(),
            credentials: accepted.credentials(),
            slot,
            beats: self.beats.clone(),
            entitled: self.entitled.clone(),
            configured: Arc::new(FromTargets(self.targets.clone())),
            clock: self.clock.clone(),
            stop: accepted.stop(),
        };
        Ok(accepted.start(move |socket| session.run(socket)))
    }

    fn endpoint(&self, domain: &Domain, name: &str, request: &SpecialRequest) -> Result<Value> {
        match (name, &request.method) {
            ("resources", &http::Method::GET) => Ok(self.answer_resources(domain)),
            ("heartbeat", &http::Method::POST) => {
                let beat = read_beat(&request.body, &domain.target, self.clock.now())?;
                let received = beat.received;
                let reported = beat.report.as_ref().is_some_and(|r| r["apis"].is_array());
                let next = self.beats.beat(&domain.target, beat)?;
                let mut next = domain.interval.unwrap_or(next);
                if reported && !domain.evaluated {
                    // What the agent reported is being looked at: it should ask again soon.
                    next = next.min(UNEVALUATED_INTERVAL);
                }
                Ok(beat_answer(received, next))
            }
            ("resources" | "heartbeat", method) => Err(ApiError::method_not_allowed(format!(
                "{method} is not possible on {name}: use {}",
                if name == "heartbeat" { "POST" } else { "GET" }
            ))),
            _ => Err(ApiError::no_such_path()),
        }
    }
}

fn domain_of_target(id: TargetId, target: Arc<TargetView>) -> Domain {
    let key = tmc_api::hashes::sync_target_key(id.cluster.as_str(), &id.name);
    let undecided = |r: &SyncedResource| r.state == SyncState::Pending;
    Domain {
        target: id,
        keys: TargetKeys::new(&key),
        resources: resources(accepted(&target)),
        evaluated: !target.synced().is_empty() && !target.synced().iter().any(undecided),
        interval: target.config().heartbeat_interval.map(Span::duration),
        made_of: target,
    }
}

fn domain_of(context: &RequestContext) -> Option<&Domain> {
    let domain = context.resolved.domain.as_ref()?;
    match domain.downcast_ref::<Root>() {
        Some(root) => Some(&root.0),
        None => domain.downcast_ref::<Domain>(),
    }
}

#[async_trait]
impl ApiSurface for SyncerWorkspace {
    fn name(&self) -> &'static str {
        "syncer"
    }

    fn resolve(&self, path: &str) -> Resolution {
        let Some(parsed) = url::parse("syncer", path) else {
            return Resolution::NotMine;
        };
        if self.ready().is_err() {
            return Resolution::NotMine;
        }
        // A hub without workspaces has one, and answers to no other name.
        let other = |scope: &ClusterScope| matches!(scope, ClusterScope::One(cluster) if cluster.as_str() != ClusterName::ROOT);
        if !self.store.hub.workspaces && parsed.scope.as_ref().is_some_and(other) {
            return Resolution::NotMine;
        }
        let Some(domain) = self.domain(&parsed) else {
            return Resolution::NotMine;
        };
        let (scope, domain): (_, Arc<dyn Any + Send + Sync>) = match parsed.scope {
            Some(scope) => (scope, domain),
            None => (ClusterScope::One(parsed.cluster), Arc::new(Root(domain))),
        };
        Resolution::Accepted(Resolved {
            scope,
            path: parsed.rest,
            domain: Some(domain),
        })
    }

    fn ready(&self) -> std::result::Result<(), String> {
        if self.targets.has_synced() && self.clusters.has_synced() {
            Ok(())
        } else {
            Err("SyncTargets and Clusters have not been listed yet".into())
        }
    }

    async fn authorize(&self, context: &RequestContext, attributes: &Attributes) -> Decision {
        let Some(domain) = domain_of(context) else {
            return Decision::NoOpinion("no SyncTarget".into());
        };
        if is_hosted(&attributes.user, &domain.target) {
            return Decision::Allow;
        }
        self.access.may_sync(&attributes.user, &domain.target).await
    }

    async fn api_set(&self, context: &RequestContext) -> Result<Arc<ApiSet>> {
        let domain = domain_of(context).ok_or_else(ApiError::no_such_path)?;
        let at_root = |domain: &Arc<dyn Any + Send + Sync>| domain.is::<Root>();
        if context.resolved.domain.as_ref().is_some_and(at_root) {
            return Ok(self.endpoints.clone());
        }
        Ok(self.sets.set(&domain.resources))
    }

    fn store(&self) -> &dyn ResourceStore {
        &self.store
    }

    async fn special(
        &self,
        context: &RequestContext,
        request: &SpecialRequest,
    ) -> Option<Response> {
        let name = context.resolved.path.strip_prefix(ENDPOINTS)?;
        let domain = domain_of(context)?;
        let answer = match name {
            "connect" => self.connect(domain, &context.user, request),
            _ => self
                .endpoint(domain, name, request)
                .map(|value| json_response(StatusCode::OK, &value)),
        };
        Some(answer.unwrap_or_else(|error| respond::error_response(&error)))
    }
}
