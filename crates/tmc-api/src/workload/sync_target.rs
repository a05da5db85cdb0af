//! SyncTarget: the registration of one member cluster.

use std::time::Duration;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cells::{self, Cell};
use super::quota::QuotaSpec;
use crate::conditions::Condition;
use crate::hashes;
use crate::quantities::{ResourceList, resource_list_schema};
use crate::text_enum::text_enum;
use crate::time::{Span, Time};

/// `spec.syncerConfig.heartbeatInterval` where nothing is said.
pub const DEFAULT_HEARTBEAT_INTERVAL: Span = Span::seconds(10);
/// `spec.syncerConfig.resyncPeriod` where nothing is said.
pub const DEFAULT_RESYNC_PERIOD: Span = Span::seconds(600);

/// What is wanted of a target.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "workload.kcp.io",
    version = "v1alpha1",
    kind = "SyncTarget",
    plural = "synctargets",
    singular = "synctarget",
    category = "kcp",
    status = "SyncTargetStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "SyncTarget is the registration of one member cluster: what its syncer is to do, and how it is.",
    printcolumn = r#"{"name": "Location", "type": "string", "jsonPath": ".metadata.labels.location"}"#,
    printcolumn = r#"{"name": "Ready", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Ready\")].status"}"#,
    printcolumn = r#"{"name": "Synced API resources", "type": "string", "jsonPath": ".status.syncedResources[*].resource"}"#,
    printcolumn = r#"{"name": "Key", "type": "string", "jsonPath": ".metadata.labels.internal\\.workload\\.kcp\\.io/key"}"#,
    printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct SyncTargetSpec {
    /// The Cluster that holds the credential for the member; immutable once set. Without it the
    /// agent is somebody else's to run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_ref: Option<ClusterRef>,
    /// Failure domains inside the target. None means one anonymous cell of unknown capacity.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "cells::deserialize"
    )]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub cells: Vec<Cell>,
    /// Taints of the whole target, unique by key and effect. Those of the domain `tmc.kcp.io` are
    /// set by the hub.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend(
        "x-kubernetes-list-type" = "map",
        "x-kubernetes-list-map-keys" = ["key", "effect"]
    ))]
    pub taints: Vec<Taint>,
    /// How its syncer is run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub syncer_config: Option<SyncerConfig>,
    /// Which APIs it offers beside the built-in ones.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        rename = "supportedAPIExports"
    )]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["path", "export"]))]
    pub supported_api_exports: Vec<ApiExportRef>,
    /// Pod Security level of the namespaces made in the member.
    #[serde(default)]
    pub pod_security: PodSecurity,
    /// Whether it is cordoned: no new placements; what is there stays.
    #[serde(default)]
    pub unschedulable: bool,
    /// From when on what is there is moved away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evict_after: Option<Time>,
    /// How workload leaves a lost target.
    #[serde(default)]
    pub eviction_strategy: EvictionStrategy,
    /// Quotas of this target alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resource_quotas: Vec<QuotaSpec>,
    /// What a deletion is to do; set before the DELETE.
    #[serde(default, skip_serializing_if = "Deletion::is_default")]
    pub deletion: Deletion,
}

/// A Cluster in the same workspace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct ClusterRef {
    /// Its name.
    #[schemars(length(min = 1))]
    pub name: String,
    /// Its namespace.
    #[schemars(length(min = 1))]
    pub namespace: String,
}

text_enum! {
    /// What a taint does to workload that does not tolerate it.
    TaintEffect {
        /// No new placements.
        #[default]
        NoSchedule = "NoSchedule",
        /// No new placements if there is any other target.
        PreferNoSchedule = "PreferNoSchedule",
        /// No new placements, and what is there leaves.
        NoExecute = "NoExecute",
    }
}

/// A reason not to place workload on a target or cell.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Taint {
    /// A qualified name.
    #[schemars(length(min = 1, max = 317))]
    pub key: String,
    /// A label value; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 63))]
    pub value: String,
    /// What it does.
    pub effect: TaintEffect,
}

text_enum! {
    /// Who runs the syncer.
    SyncerMode {
        /// The hub, as a task of its own.
        Hosted = "Hosted",
        /// The member, in a Deployment that the hub installs and follows.
        Deployment = "Deployment",
        /// The member's owner, from rendered YAML; the hub holds no credential.
        #[default]
        External = "External",
    }
}

/// How the syncer of a target is run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SyncerConfig {
    /// Who runs it. Default: `External` without `clusterRef`, else `Hosted`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<SyncerMode>,
    /// Its container image. Default: that of the hub's own release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub image: Option<String>,
    /// How many of it, 1 to 5 (default 1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 5))]
    pub replicas: Option<i32>,
    /// Its compute resources.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
    /// Its namespace in the member. Default: derived from the target's name and uid, so that two
    /// hubs can share a member.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 63),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    )]
    pub downstream_namespace: Option<String>,
    /// How often everything is looked at again (default `10m`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resync_period: Option<Span>,
    /// How often it says that it lives (default `10s`); after three intervals without a beat the
    /// target is NotReady.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heartbeat_interval: Option<Span>,
}

/// Compute resources of a container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ResourceRequirements {
    /// What it needs at least.
    #[serde(default, skip_serializing_if = "ResourceList::is_empty")]
    #[schemars(schema_with = "resource_list_schema")]
    pub requests: ResourceList,
    /// What it gets at most; nowhere below the request.
    #[serde(default, skip_serializing_if = "ResourceList::is_empty")]
    #[schemars(schema_with = "resource_list_schema")]
    pub limits: ResourceList,
}

/// An APIExport.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct ApiExportRef {
    /// Path of its workspace; empty means the target's own.
    #[serde(default)]
    pub path: String,
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub export: String,
}

text_enum! {
    /// Level of the Pod Security Standards.
    PodSecurity {
        /// Anything goes.
        Privileged = "privileged",
        /// No known privilege escalation.
        #[default]
        Baseline = "baseline",
        /// Hardened.
        Restricted = "restricted",
    }
}

text_enum! {
    /// How workload leaves a lost target.
    EvictionStrategy {
        /// After the grace, at a bounded rate.
        #[default]
        Graceful = "Graceful",
        /// At once.
        Immediate = "Immediate",
    }
}

/// What a deletion is to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Deletion {
    /// Complete it although the member is gone for good; what was left behind is recorded.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub force: bool,
    /// Leave the copies in the member running.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub keep_workloads: bool,
}

impl Deletion {
    /// Whether nothing out of the ordinary is asked for.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

text_enum! {
    /// Phase of a target: derived from its conditions, never an input.
    SyncTargetPhase {
        /// Nothing was heard yet and the syncer is not ours to start, or not started.
        #[default]
        Pending = "Pending",
        /// Nothing was heard yet from the syncer that the hub started.
        Scheduling = "Scheduling",
        /// Every required component is well.
        Ready = "Ready",
        /// Some required component is not.
        NotReady = "NotReady",
        /// It is being deleted.
        Terminating = "Terminating",
    }
}

/// How a target is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SyncTargetStatus {
    /// The conditions in one word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<SyncTargetPhase>,
    /// The truth.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// Generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Uid of the Cluster that `clusterRef` first led to.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        rename = "clusterUID"
    )]
    pub cluster_uid: Option<String>,
    /// URLs of its views, one entry a shard.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub virtual_workspaces: Vec<VirtualWorkspace>,
    /// The first of them.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        rename = "virtualWorkspaceURL"
    )]
    pub virtual_workspace_url: Option<String>,
    /// URLs of its tunnels, in the same order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tunnel_workspaces: Vec<TunnelWorkspace>,
    /// What it syncs, sorted by group and resource.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub synced_resources: Vec<SyncedResource>,
    /// Reported totals of the member's nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "resource_list_schema")]
    pub capacity: Option<ResourceList>,
    /// Reported totals of what pods may use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "resource_list_schema")]
    pub allocatable: Option<ResourceList>,
    /// Sum of the live reservations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "resource_list_schema")]
    pub allocated_resources: Option<ResourceList>,
    /// What may still be reserved, never negative; a resource without any bound is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "resource_list_schema")]
    pub available_resources: Option<ResourceList>,
    /// What `availableResources` starts from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity_basis: Option<CapacityBasis>,
    /// How its syncer is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub syncer_status: Option<SyncerStatus>,
    /// Last beat, as kcp's agents write it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_syncer_heartbeat_time: Option<Time>,
    /// Last beat. Moves on transitions and every few minutes only; the live age is elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_heartbeat_time: Option<Time>,
    /// The syncer replica at work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub syncer_identity: Option<String>,
}

/// URLs of a target's views on one shard; each holds the target's uid.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VirtualWorkspace {
    /// What it is to run.
    #[serde(rename = "syncerURL")]
    pub syncer_url: String,
    /// What it brings up.
    #[serde(
        default,
        skip_serializing_if = "String::is_empty",
        rename = "upsyncerURL"
    )]
    pub upsyncer_url: String,
}

/// URL of a target's tunnel on one shard.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TunnelWorkspace {
    /// The URL.
    pub url: String,
}

text_enum! {
    /// Whether a resource is synced.
    SyncState {
        /// Not decided yet.
        #[default]
        Pending = "Pending",
        /// It is.
        Accepted = "Accepted",
        /// The member serves it in another shape, or not at all.
        Incompatible = "Incompatible",
    }
}

/// A resource that a target is to sync.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SyncedResource {
    /// Its group, empty for core.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// Its plural name.
    pub resource: String,
    /// Its versions, in Kubernetes' order of priority.
    #[schemars(length(min = 1))]
    pub versions: Vec<String>,
    /// Identity of the export it comes from; empty for a built-in resource.
    #[serde(default)]
    pub identity_hash: String,
    /// Whether it is synced.
    #[serde(default)]
    pub state: SyncState,
}

text_enum! {
    /// What a target's availability is counted from.
    CapacityBasis {
        /// Reported `allocatable`.
        Reported = "Reported",
        /// The sum of the cells' declared capacity.
        Declared = "Declared",
        /// Nothing is known.
        #[default]
        None = "None",
    }
}

/// How a target's syncer is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SyncerStatus {
    /// At least one replica, and all of them ready, of the current generation.
    #[serde(default)]
    pub ready: bool,
    /// The Deployment's observed generation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// How many there should be; a Hosted task counts as one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// How many are ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_replicas: Option<i32>,
    /// Last time that it wrote something into the member; from the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_sync_time: Option<Time>,
    /// How many objects it keeps in the member; from the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub synced_resources: Option<i64>,
}

impl SyncTargetSpec {
    /// Who runs the syncer, the default applied.
    pub fn mode(&self) -> SyncerMode {
        let fallback = match self.cluster_ref {
            Some(_) => SyncerMode::Hosted,
            None => SyncerMode::External,
        };
        self.syncer_config
            .as_ref()
            .and_then(|c| c.mode)
            .unwrap_or(fallback)
    }

    /// How often the syncer beats, the default applied; never zero.
    pub fn heartbeat_interval(&self) -> Duration {
        positive(
            self.syncer_config
                .as_ref()
                .and_then(|c| c.heartbeat_interval),
        )
        .unwrap_or(DEFAULT_HEARTBEAT_INTERVAL.duration())
    }

    /// How often the syncer looks at everything again, the default applied; never zero.
    pub fn resync_period(&self) -> Duration {
        positive(self.syncer_config.as_ref().and_then(|c| c.resync_period))
            .unwrap_or(DEFAULT_RESYNC_PERIOD.duration())
    }
}

fn positive(span: Option<Span>) -> Option<Duration> {
    span.filter(|s| !s.is_zero()).map(Span::duration)
}

impl SyncTarget {
    /// The syncer's namespace in the member, the default applied.
    pub fn downstream_namespace(&self) -> String {
        let given = self
            .spec
            .syncer_config
            .as_ref()
            .and_then(|c| c.downstream_namespace.clone());
        given.unwrap_or_else(|| {
            let name = self.metadata.name.as_deref().unwrap_or_default();
            hashes::agent_namespace(name, self.metadata.uid.as_deref().unwrap_or_default())
        })
    }

    /// Its conditions; none before the first status.
    pub fn conditions(&self) -> &[Condition] {
        self.status.as_ref().map_or(&[], |s| &s.conditions)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn spec(value: serde_json::Value) -> SyncTargetSpec {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn an_object_of_upstream_tooling_is_read_and_has_effective_defaults() {
        let upstream = json!({
            "apiVersion": "workload.kcp.io/v1alpha1", "kind": "SyncTarget",
            "metadata": {"name": "east", "uid": "u"},
            "spec": {"unschedulable": false, "supportedAPIExports": [{"export": "kubernetes"}]},
        });
        let target: SyncTarget = serde_json::from_value(upstream).unwrap();
        assert_eq!(target.spec.mode(), SyncerMode::External);
        assert_eq!(target.spec.heartbeat_interval(), Duration::from_secs(10));
        assert_eq!(target.spec.resync_period(), Duration::from_secs(600));
        assert_eq!(target.spec.pod_security, PodSecurity::Baseline);
        assert_eq!(target.spec.supported_api_exports[0].path, "");
        assert_eq!(target.downstream_namespace(), hashes::agent_id("east", "u"));
        assert!(target.conditions().is_empty());
    }

    #[test]
    fn with_a_cluster_the_hub_runs_the_syncer_unless_told_otherwise() {
        let cluster = json!({"name": "a", "namespace": "default"});
        assert_eq!(
            spec(json!({"clusterRef": cluster})).mode(),
            SyncerMode::Hosted
        );
        let told = json!({"clusterRef": cluster, "syncerConfig": {"mode": "Deployment"}});
        assert_eq!(spec(told).mode(), SyncerMode::Deployment);
    }

    #[test]
    fn an_interval_of_zero_never_reaches_a_controller() {
        let zero = spec(json!({"syncerConfig": {"heartbeatInterval": "0s", "resyncPeriod": "0"}}));
        assert_eq!(
            zero.heartbeat_interval(),
            DEFAULT_HEARTBEAT_INTERVAL.duration()
        );
        assert_eq!(zero.resync_period(), DEFAULT_RESYNC_PERIOD.duration());
    }

    #[test]
    fn a_given_namespace_in_the_member_is_used() {
        let mut target = SyncTarget::new("east", SyncTargetSpec::default());
        target.spec.syncer_config = Some(SyncerConfig {
            downstream_namespace: Some("mine".into()),
            ..Default::default()
        });
        assert_eq!(target.downstream_namespace(), "mine");
    }
}
