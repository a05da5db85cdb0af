//! The syncer's virtual workspace over any hub.

use std::sync::Arc;

use tmc_apimachinery::{ClusterName, GroupVersionResource};
use tmc_runtime::{Clock, Hub, Informer, Jitter, ResourceClient};
use tmc_virtual::syncer::{
    BY_SECRET, BeatSink, ClusterView, Definitions, Sessions, SyncAccess, SyncerDependencies,
    SyncerWorkspace, TargetView, secret_index,
};
use tokio_util::sync::CancellationToken;

/// What differs from hub to hub.
pub struct ViewSettings {
    /// The hub, as the identity of the virtual workspaces.
    pub hub: Hub,
    /// What it serves.
    pub definitions: Arc<dyn Definitions>,
    /// Permission to sync.
    pub access: Arc<dyn SyncAccess>,
    /// Where heartbeats go.
    pub beats: Arc<dyn BeatSink>,
    /// URL of a logical cluster.
    pub workspace_url: Arc<dyn Fn(&ClusterName) -> String + Send + Sync>,
    /// The time.
    pub clock: Clock,
    /// Randomness for retries.
    pub jitter: Jitter,
}

/// The syncer's workspace; what it watches ends with `stop`.
pub fn syncer_workspace(settings: ViewSettings, stop: &CancellationToken) -> SyncerWorkspace {
    let hub = settings.hub;
    // A hub without workspaces is one workspace named root.
    let only = (!hub.workspaces).then(|| ClusterName::new(ClusterName::ROOT));
    let client = |resource: &str| {
        let gvr = GroupVersionResource::new("workload.kcp.io", "v1alpha1", resource);
        ResourceClient::new(hub.wildcard(), gvr)
    };
    let sessions = Arc::new(Sessions::default());
    let told = sessions.clone();
    let targets = Informer::<TargetView>::new(client("synctargets"), only.clone())
        .on_change(move |key, _| told.target_changed(key));
    let clusters =
        Informer::<ClusterView>::new(client("clusters"), only).index(BY_SECRET, secret_index);
    SyncerWorkspace::new(SyncerDependencies {
        targets: targets.jitter(settings.jitter.clone()).spawn(stop.clone()),
        clusters: clusters.jitter(settings.jitter).spawn(stop.clone()),
        hub,
        definitions: settings.definitions,
        access: settings.access,
        beats: settings.beats,
        sessions,
        workspace_url: settings.workspace_url,
        clock: settings.clock,
    })
}
