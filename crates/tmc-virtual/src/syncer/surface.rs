//! The workspace as an API surface: paths, authorization, endpoints.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::StatusCode;
use http_body_util::{BodyExt, Full};
use serde::Deserialize;
use serde_json::{Value, json};
use tmc_apimachinery::definition::ApiSet;
use tmc_apimachinery::meta::meta;
use tmc_apimachinery::status::{ApiError, Result};
use tmc_apimachinery::user::{Attributes, Decision, UserInfo};
use tmc_apimachinery::{ClusterName, ClusterScope, GroupVersionResource};
use tmc_runtime::{Clock, ClusterKey, Hub, Store};
use tmc_server::resource::ResourceStore;
use tmc_server::surface::{
    ApiSurface, RequestContext, Resolution, Resolved, Response, SpecialRequest,
};

use super::api_set::{ApiSets, Definitions, resources};
use super::endpoints::{BeatSink, beat_answer, read_beat, resource_row};
use super::storage::{Entitled, Hidden, SyncerStore};
use super::targets::{Domain, TargetId, TargetView, is_hosted};
use super::transform::TargetKeys;
use crate::url;

/// Beat interval until it is decided what a target syncs.
const UNEVALUATED_INTERVAL: Duration = Duration::from_millis(100);
const ENDPOINTS: &str = "/apis/syncer.kcp.io/v1alpha1/";

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
    /// URL of a logical cluster, for the view's `workspace-url` annotation.
    pub workspace_url: Arc<dyn Fn(&ClusterName) -> String + Send + Sync>,
    /// The time at which beats come in.
    pub clock: Clock,
}

/// The syncer virtual workspace.
pub struct SyncerWorkspace {
    store: SyncerStore,
    targets: Store<TargetView>,
    clusters: Store<ClusterView>,
    sets: ApiSets,
    access: Arc<dyn SyncAccess>,
    beats: Arc<dyn BeatSink>,
    clock: Clock,
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
    async fn is_entitled(&self, user: &UserInfo, target: &TargetId) -> bool {
        let key = ClusterKey::new(&target.cluster, "", &target.name);
        let current = self.targets.get(&key);
        current.is_some_and(|current| current.uid() == target.uid)
            && (is_hosted(user, target)
                || self.access.may_sync(user, target).await == Decision::Allow)
    }
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
            workspace_url,
        } = dependencies;
        let hidden = Arc::new(NeverSynced(clusters.clone()));
        Self {
            store: SyncerStore {
                hub,
                hidden,
                workspace_url,
                entitled: Arc::new(Entitlements {
                    targets: targets.clone(),
                    access: access.clone(),
                }),
            },
            targets,
            clusters,
            sets: ApiSets::new(definitions),
            access,
            beats,
            clock,
        }
    }

    fn domain(&self, path: &url::SyncerPath) -> Option<Domain> {
        let key = ClusterKey {
            cluster: path.cluster.clone(),
            namespace: String::new(),
            name: path.name.clone(),
        };
        let target = self.targets.get(&key)?;
        if target.uid() != path.uid {
            tracing::info!(target = %path.name, cluster = %path.cluster, "a syncer asked with the uid of another SyncTarget");
            return None;
        }
        let accepted = target
            .synced()
            .iter()
            .filter(|r| r.state == tmc_api::workload::SyncState::Accepted);
        let accepted = accepted.filter_map(|r| {
            Some(GroupVersionResource::new(
                &r.group,
                r.versions.first()?,
                &r.resource,
            ))
        });
        let id = TargetId {
            cluster: path.cluster.clone(),
            name: path.name.clone(),
            uid: path.uid.clone(),
        };
        let keys = TargetKeys::new(&tmc_api::hashes::sync_target_key(
            id.cluster.as_str(),
            &id.name,
        ));
        let resources = resources(accepted);
        let undecided = |r: &tmc_api::workload::SyncedResource| {
            r.state == tmc_api::workload::SyncState::Pending
        };
        let evaluated = !target.synced().is_empty() && !target.synced().iter().any(undecided);
        Some(Domain {
            target: id,
            keys,
            resources,
            evaluated,
        })
    }

    fn answer_resources(&self, domain: &Domain) -> Value {
        let set = self.sets.set(&domain.resources);
        let rows: Vec<Value> = set
            .iter()
            .map(|d| resource_row(&d.gvr(), &d.gvk.kind, d.namespaced()))
            .collect();
        json!({"apiVersion": "syncer.kcp.io/v1alpha1", "kind": "SyncedResourceList",
               "metadata": {}, "items": rows})
    }

    fn endpoint(&self, domain: &Domain, name: &str, request: &SpecialRequest) -> Result<Value> {
        match (name, &request.method) {
            ("resources", &http::Method::GET) => Ok(self.answer_resources(domain)),
            ("heartbeat", &http::Method::POST) => {
                let beat = read_beat(&request.body, &domain.target, self.clock.now())?;
                let received = beat.received;
                let mut next = self.beats.beat(&domain.target, beat)?;
                if !domain.evaluated {
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

fn domain_of(context: &RequestContext) -> Option<&Domain> {
    context.resolved.domain.as_ref()?.downcast_ref::<Domain>()
}

fn json_response(status: StatusCode, value: &Value) -> Response {
    let body = Full::new(Bytes::from(value.to_string())).map_err(|never| match never {});
    let mut response = http::Response::new(body.boxed_unsync());
    *response.status_mut() = status;
    let json = http::HeaderValue::from_static("application/json");
    response
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, json);
    response
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
        let scope = parsed.scope.unwrap_or(ClusterScope::One(parsed.cluster));
        let domain: Arc<dyn std::any::Any + Send + Sync> = Arc::new(domain);
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
        Some(match self.endpoint(domain, name, request) {
            Ok(value) => json_response(StatusCode::OK, &value),
            Err(error) => {
                let status = StatusCode::from_u16(error.code).unwrap_or(StatusCode::BAD_REQUEST);
                json_response(status, &error.to_status())
            }
        })
    }
}
