//! `tenancy.kcp.io/v1alpha1` and `core.kcp.io/v1alpha1`: workspaces and what lies behind them.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::conditions::Condition;
use crate::quantities::{ResourceList, resource_list_schema};
use crate::text_enum::text_enum;

/// API group of Workspaces.
pub const GROUP: &str = "tenancy.kcp.io";
/// API group of LogicalClusters and Shards.
pub const CORE_GROUP: &str = "core.kcp.io";
/// Version of both.
pub const VERSION: &str = "v1alpha1";
/// Name of the one LogicalCluster in every logical cluster.
pub const LOGICAL_CLUSTER_NAME: &str = "cluster";
/// Name of the first (on the embedded hub the only) Shard.
pub const ROOT_SHARD: &str = "root";

/// What is wanted of a workspace.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "tenancy.kcp.io",
    version = "v1alpha1",
    kind = "Workspace",
    plural = "workspaces",
    singular = "workspace",
    shortname = "ws",
    category = "kcp",
    status = "WorkspaceStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "Workspace is an isolated API endpoint, a child of the workspace that it is in.",
    printcolumn = r#"{"name": "Type", "type": "string", "jsonPath": ".spec.type.name"}"#,
    printcolumn = r#"{"name": "Region", "type": "string", "jsonPath": ".metadata.labels.region"}"#,
    printcolumn = r#"{"name": "Phase", "type": "string", "jsonPath": ".status.phase"}"#,
    printcolumn = r#"{"name": "URL", "type": "string", "jsonPath": ".spec.URL"}"#,
    printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct WorkspaceSpec {
    /// What it starts with; immutable. Default: what its parent's type makes of children.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r#type: Option<WorkspaceTypeRef>,
    /// Where it may be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<WorkspaceLocation>,
    /// Its logical cluster, given by the hub; immutable once set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// Where it is reached, given by the hub; cannot be unset.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "URL")]
    pub url: Option<String>,
    /// What is mounted at its place; immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mount: Option<Mount>,
}

/// A WorkspaceType.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct WorkspaceTypeRef {
    /// Its name.
    #[schemars(regex(pattern = r"^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$"))]
    pub name: String,
    /// Path of its workspace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(
        pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(:[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
    ))]
    pub path: Option<String>,
}

/// Where a workspace may be.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WorkspaceLocation {
    /// Which shards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
}

/// A mount.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Mount {
    /// The object whose URL answers in the workspace's place.
    #[serde(rename = "ref")]
    pub reference: MountRef,
}

/// An object that can be mounted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MountRef {
    /// Its API version.
    pub api_version: String,
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its namespace, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}

text_enum! {
    /// How far a workspace is.
    WorkspacePhase {
        /// It is being given a place.
        #[default]
        Scheduling = "Scheduling",
        /// It is being filled.
        Initializing = "Initializing",
        /// It can be used.
        Ready = "Ready",
        /// It cannot be reached.
        Unavailable = "Unavailable",
        /// It is switched off.
        Inactive = "Inactive",
        /// Its terminators are at work.
        Terminating = "Terminating",
        /// Its content is being deleted.
        Deleting = "Deleting",
    }
}

/// How a workspace is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WorkspaceStatus {
    /// How far it is.
    #[serde(default)]
    pub phase: WorkspacePhase,
    /// Its conditions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// Who has still to fill it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub initializers: Vec<String>,
    /// Who has still to empty it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub terminators: Vec<String>,
}

/// What a logical cluster is.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "core.kcp.io",
    version = "v1alpha1",
    kind = "LogicalCluster",
    plural = "logicalclusters",
    singular = "logicalcluster",
    category = "kcp",
    status = "LogicalClusterStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "LogicalCluster describes the logical cluster that it is in; there is one, named cluster.",
    printcolumn = r#"{"name": "Phase", "type": "string", "jsonPath": ".status.phase"}"#,
    printcolumn = r#"{"name": "URL", "type": "string", "jsonPath": ".status.URL"}"#,
    printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct LogicalClusterSpec {
    /// Whether it may be deleted by itself; else it goes with its owner.
    #[serde(default)]
    pub directly_deletable: bool,
    /// The object that it belongs to; none for `root`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<LogicalClusterOwner>,
    /// Who fills it at first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub initializers: Vec<String>,
    /// Who empties it at last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub terminators: Vec<String>,
}

/// The object that a logical cluster belongs to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LogicalClusterOwner {
    /// Its API version.
    pub api_version: String,
    /// Its resource.
    pub resource: String,
    /// Its name.
    pub name: String,
    /// Its namespace, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Its logical cluster.
    pub cluster: String,
    /// Its uid.
    pub uid: String,
}

/// How a logical cluster is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LogicalClusterStatus {
    /// Where it is reached.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "URL")]
    pub url: Option<String>,
    /// How far it is.
    #[serde(default)]
    pub phase: WorkspacePhase,
    /// Its conditions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// Who has still to fill it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub initializers: Vec<String>,
    /// Who has still to empty it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub terminators: Vec<String>,
}

/// Where a shard is reached.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "core.kcp.io",
    version = "v1alpha1",
    kind = "Shard",
    plural = "shards",
    singular = "shard",
    category = "kcp",
    status = "ShardStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "Shard is an API server that holds logical clusters; the embedded hub is the one called root.",
    printcolumn = r#"{"name": "URL", "type": "string", "jsonPath": ".spec.baseURL"}"#,
    printcolumn = r#"{"name": "External URL", "type": "string", "jsonPath": ".spec.externalURL"}"#,
    printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}"#
)]
pub struct ShardSpec {
    /// Where other shards reach it.
    #[serde(rename = "baseURL")]
    #[schemars(length(min = 1))]
    pub base_url: String,
    /// Where users reach it.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        rename = "externalURL"
    )]
    pub external_url: Option<String>,
    /// Where its virtual workspaces are.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        rename = "virtualWorkspaceURL"
    )]
    pub virtual_workspace_url: Option<String>,
}

/// How a shard is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ShardStatus {
    /// What it can hold.
    #[serde(default, skip_serializing_if = "ResourceList::is_empty")]
    #[schemars(schema_with = "resource_list_schema")]
    pub capacity: ResourceList,
    /// Its conditions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}
