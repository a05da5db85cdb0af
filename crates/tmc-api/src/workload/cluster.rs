//! Cluster: the hub's own way into a member.

use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cells::{self, Cell};
use super::sync_target::{ApiExportRef, Deletion, PodSecurity, SyncerConfig, Taint};
use crate::conditions::Condition;
use crate::quantities::{ResourceList, resource_list_schema};
use crate::text_enum::text_enum;
use crate::time::Time;

/// `spec.kubeconfigSecretRef.key` where nothing is said.
pub const DEFAULT_KUBECONFIG_KEY: &str = "kubeconfig";

fn default_kubeconfig_key() -> String {
    DEFAULT_KUBECONFIG_KEY.to_owned()
}

/// How a member is reached and what its SyncTarget starts with.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "workload.kcp.io",
    version = "v1alpha1",
    kind = "Cluster",
    plural = "clusters",
    singular = "cluster",
    namespaced,
    category = "kcp",
    status = "ClusterStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "Cluster is a member cluster that the hub reaches by itself, with a registered kubeconfig.",
    printcolumn = r#"{"name": "Location", "type": "string", "jsonPath": ".spec.location"}"#,
    printcolumn = r#"{"name": "Version", "type": "string", "jsonPath": ".status.capabilities.kubernetesVersion"}"#,
    printcolumn = r#"{"name": "Ready", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Ready\")].status"}"#,
    printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct ClusterSpec {
    /// The Secret that holds the kubeconfig.
    pub kubeconfig_secret_ref: KubeconfigSecretRef,
    /// Where the member is: a label value, handed on to the SyncTarget's label `location`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub location: Option<String>,
    /// Labels handed on to the SyncTarget.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// What the SyncTarget is made with; later changes belong to the SyncTarget.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sync_target_template: Option<SyncTargetTemplate>,
    /// What a deletion is to do; set before the DELETE, handed on to the SyncTarget.
    #[serde(default, skip_serializing_if = "Deletion::is_default")]
    pub deletion: Deletion,
}

/// A Secret in the Cluster's own namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct KubeconfigSecretRef {
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The key in it (default `kubeconfig`).
    #[serde(default = "default_kubeconfig_key")]
    #[schemars(length(min = 1))]
    pub key: String,
}

/// The fields of a SyncTarget that a Cluster hands on when it makes one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SyncTargetTemplate {
    /// As in the SyncTarget.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub syncer_config: Option<SyncerConfig>,
    /// As in the SyncTarget.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "cells::deserialize"
    )]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub cells: Vec<Cell>,
    /// As in the SyncTarget.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend(
        "x-kubernetes-list-type" = "map",
        "x-kubernetes-list-map-keys" = ["key", "effect"]
    ))]
    pub taints: Vec<Taint>,
    /// As in the SyncTarget.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        rename = "supportedAPIExports"
    )]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["path", "export"]))]
    pub supported_api_exports: Vec<ApiExportRef>,
    /// As in the SyncTarget.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unschedulable: bool,
    /// As in the SyncTarget.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_security: Option<PodSecurity>,
}

text_enum! {
    /// Phase of a Cluster: derived from its conditions, never an input.
    ClusterPhase {
        /// Credential or connection are not known to work.
        #[default]
        Pending = "Pending",
        /// Both work; the rest is on its way.
        Registered = "Registered",
        /// All is well.
        Ready = "Ready",
        /// It worked, and credential or connection do not any more.
        Unavailable = "Unavailable",
        /// It is being deleted.
        Terminating = "Terminating",
    }
}

/// How a member is, seen from the hub.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterStatus {
    /// The conditions in one word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<ClusterPhase>,
    /// The truth.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// Generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// What the member serves, as last discovered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<Capabilities>,
    /// Facts of the credential; never the credential.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<Credentials>,
    /// The derived SyncTarget.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sync_target_ref: Option<SyncTargetRef>,
    /// The member's resources, from its SyncTarget.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_summary: Option<ResourceSummary>,
    /// When the last probe ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_probe_time: Option<Time>,
}

/// What a member serves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Capabilities {
    /// Its `gitVersion`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub kubernetes_version: String,
    /// Its API groups, sorted by name, bounded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub api_groups: Vec<ApiGroup>,
    /// Whether there were more groups than are kept.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub api_groups_truncated: bool,
    /// What can be used of it (`NetworkPolicies`, `HPA`, …), sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub features: Vec<String>,
    /// When it was last discovered with success; what is older is stale.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_at: Option<Time>,
}

/// An API group of a member.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApiGroup {
    /// Its name, empty for core.
    pub name: String,
    /// Its versions, in Kubernetes' order of priority.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub versions: Vec<String>,
    /// The version that the member prefers.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub preferred_version: String,
    /// Its resources, only for groups that are synced.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<String>,
}

text_enum! {
    /// What a kubeconfig identifies itself with.
    CredentialKind {
        /// A client certificate.
        ClientCertificate = "ClientCertificate",
        /// A bearer token.
        #[default]
        Token = "Token",
    }
}

/// Facts of a credential.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Credentials {
    /// What it is.
    pub kind: CredentialKind,
    /// When it ends; absent if unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expiration_time: Option<Time>,
    /// Opaque fingerprint of the Secret's content, so that a rotation is visible.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub fingerprint: String,
}

/// A SyncTarget in the same workspace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct SyncTargetRef {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
}

/// A member's resources.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResourceSummary {
    /// Its nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<NodeCounts>,
    /// Totals of its nodes.
    #[serde(default, skip_serializing_if = "ResourceList::is_empty")]
    #[schemars(schema_with = "resource_list_schema")]
    pub capacity: ResourceList,
    /// Totals of what pods may use.
    #[serde(default, skip_serializing_if = "ResourceList::is_empty")]
    #[schemars(schema_with = "resource_list_schema")]
    pub allocatable: ResourceList,
    /// What is reserved.
    #[serde(default, skip_serializing_if = "ResourceList::is_empty")]
    #[schemars(schema_with = "resource_list_schema")]
    pub allocated: ResourceList,
}

/// How many nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NodeCounts {
    /// All.
    pub total: u32,
    /// Those that are ready.
    pub ready: u32,
}

impl Cluster {
    /// Its conditions; none before the first status.
    pub fn conditions(&self) -> &[Condition] {
        self.status.as_ref().map_or(&[], |s| &s.conditions)
    }

    /// What a derived SyncTarget says of its owner in
    /// [`crate::keys::OWNER_CLUSTER_ANNOTATION`]: `<namespace>/<name>/<uid>`.
    pub fn owner_annotation(&self) -> String {
        let part = |text: &Option<String>| text.clone().unwrap_or_default();
        let meta = &self.metadata;
        format!(
            "{}/{}/{}",
            part(&meta.namespace),
            part(&meta.name),
            part(&meta.uid)
        )
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_key_of_the_kubeconfig_has_a_default_and_the_owner_annotation_three_parts() {
        let cluster: Cluster = serde_json::from_value(json!({
            "apiVersion": "workload.kcp.io/v1alpha1", "kind": "Cluster",
            "metadata": {"name": "east", "namespace": "default", "uid": "u"},
            "spec": {"kubeconfigSecretRef": {"name": "east-kubeconfig"}},
        }))
        .unwrap();
        assert_eq!(cluster.spec.kubeconfig_secret_ref.key, "kubeconfig");
        assert_eq!(cluster.owner_annotation(), "default/east/u");
        assert!(cluster.conditions().is_empty());
    }
}
