//! `workload.kcp.io/v1alpha1`: member clusters as the hub knows them.
//!
//! A [`Cluster`] holds the hub's way into a member and leads to a derived [`SyncTarget`]; a
//! SyncTarget without a Cluster belongs to an agent that somebody else runs (`External`).

mod cells;
mod cluster;
pub mod heartbeat;
mod quota;
mod readiness;
mod sync_target;
mod urls;

pub use cells::Cell;
pub use cluster::{
    ApiGroup, Capabilities, Cluster, ClusterPhase, ClusterSpec, ClusterStatus, CredentialKind,
    Credentials, DEFAULT_KUBECONFIG_KEY, KubeconfigSecretRef, NodeCounts, ResourceSummary,
    SyncTargetRef, SyncTargetTemplate,
};
pub use quota::{Burst, OnExceeded, QuotaScope, QuotaScopeName, QuotaSpec, ScopeOperator};
pub use readiness::{ClusterFacts, Readiness, SyncTargetFacts, cluster, sync_target};
pub use sync_target::{
    ApiExportRef, CapacityBasis, ClusterRef, DEFAULT_HEARTBEAT_INTERVAL, DEFAULT_RESYNC_PERIOD,
    Deletion, EvictionStrategy, PodSecurity, ResourceRequirements, SyncState, SyncTarget,
    SyncTargetPhase, SyncTargetSpec, SyncTargetStatus, SyncedResource, SyncerConfig, SyncerMode,
    SyncerStatus, Taint, TaintEffect, TunnelWorkspace, VirtualWorkspace,
};
pub use urls::{syncer_url, upsyncer_url};

/// API group of this module's kinds.
pub const GROUP: &str = "workload.kcp.io";
/// Their version.
pub const VERSION: &str = "v1alpha1";

/// Types of the conditions of a SyncTarget and of a Cluster.
pub mod condition {
    /// SyncTarget: the Cluster it refers to exists.
    pub const CLUSTER_AVAILABLE: &str = "ClusterAvailable";
    /// SyncTarget: its syncer is installed and runs.
    pub const SYNCER_READY: &str = "SyncerReady";
    /// SyncTarget: beats arrive in time.
    pub const HEARTBEAT_HEALTHY: &str = "HeartbeatHealthy";
    /// SyncTarget: something of what it is to sync is accepted.
    pub const API_AVAILABLE: &str = "APIAvailable";
    /// SyncTarget, from the agent's report or written by the agent: it may do in the member what it has
    /// to.
    pub const SYNCER_AUTHORIZED: &str = "SyncerAuthorized";
    /// SyncTarget, written by the agent: the member's APIs are reported.
    pub const API_IMPORTER_READY: &str = "APIImporterReady";
    /// SyncTarget: there is room; not part of Ready.
    pub const RESOURCES_AVAILABLE: &str = "ResourcesAvailable";
    /// SyncTarget: its quotas are kept; not part of Ready.
    pub const WITHIN_QUOTA: &str = "WithinQuota";
    /// Cluster: the registered credential can be used.
    pub const CREDENTIALS_VALID: &str = "CredentialsValid";
    /// Cluster: the member answers.
    pub const CONNECTED: &str = "Connected";
    /// Cluster: it is known what the member serves.
    pub const CAPABILITIES_DISCOVERED: &str = "CapabilitiesDiscovered";
    /// Cluster: the syncer's account and rules are in the member.
    pub const RBAC_READY: &str = "RBACReady";
    /// Cluster: its SyncTarget is Ready.
    pub const SYNC_TARGET_READY: &str = "SyncTargetReady";
}

/// Reasons of these conditions.
pub mod reason {
    /// The referenced Cluster does not exist (any more).
    pub const CLUSTER_NOT_FOUND: &str = "ClusterNotFound";
    /// The referenced Cluster could not be read.
    pub const CLUSTER_LOOKUP_FAILED: &str = "ClusterLookupFailed";
    /// Installing the syncer failed.
    pub const SYNCER_DEPLOYMENT_FAILED: &str = "SyncerDeploymentFailed";
    /// The syncer is installed but not healthy.
    pub const SYNCER_UNHEALTHY: &str = "SyncerUnhealthy";
    /// No beat, or none for too long.
    pub const ERROR_HEARTBEAT: &str = "ErrorHeartbeat";
    /// Nothing of what is to be synced is accepted.
    pub const NO_ACCEPTED_APIS: &str = "NoAcceptedAPIs";
    /// The syncer lacks rights.
    pub const SYNCER_UNAUTHORIZED: &str = "SyncerUnauthorized";
    /// More than 90 % of a resource is allocated.
    pub const HIGH_UTILIZATION: &str = "HighUtilization";
    /// A quota is exceeded.
    pub const QUOTA_EXCEEDED: &str = "QuotaExceeded";
    /// The object is being deleted.
    pub const TERMINATING: &str = "Terminating";
    /// The kubeconfig's Secret does not exist.
    pub const SECRET_NOT_FOUND: &str = "SecretNotFound";
    /// The kubeconfig is missing, malformed or incomplete.
    pub const INVALID_CREDENTIALS: &str = "InvalidCredentials";
    /// The credential's validity has ended.
    pub const CREDENTIALS_EXPIRED: &str = "CredentialsExpired";
    /// The kubeconfig uses a feature that is not allowed.
    pub const CREDENTIALS_FORBIDDEN: &str = "CredentialsForbidden";
    /// The member did not answer.
    pub const CONNECTION_FAILED: &str = "ConnectionFailed";
    /// The member did not answer in time.
    pub const CONNECTION_TIMEOUT: &str = "ConnectionTimeout";
    /// The member's certificate, or ours, is not accepted.
    pub const TLS_ERROR: &str = "TLSError";
    /// The member does not accept the credential.
    pub const UNAUTHORIZED: &str = "Unauthorized";
    /// The member's address is one that must not be dialled.
    pub const ENDPOINT_FORBIDDEN: &str = "EndpointForbidden";
    /// Discovery failed.
    pub const DISCOVERY_FAILED: &str = "DiscoveryFailed";
    /// Account or rules could not be made in the member.
    pub const RBAC_FAILED: &str = "RBACFailed";
    /// A SyncTarget of the derived name exists and belongs to somebody else.
    pub const SYNC_TARGET_CONFLICT: &str = "SyncTargetConflict";
    /// The derived SyncTarget is not Ready.
    pub const SYNC_TARGET_NOT_READY: &str = "SyncTargetNotReady";
}
