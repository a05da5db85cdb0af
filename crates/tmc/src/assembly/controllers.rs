//! The controllers on the embedded hub.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Result, anyhow};
use tmc_apimachinery::{GroupResource, GroupVersionResource};
use tmc_controllers::connector::{Outbound, OwnListeners};
use tmc_controllers::eviction;
use tmc_controllers::kubeconfig::Allowances;
use tmc_controllers::placement::filter::Unlimited;
use tmc_controllers::{Deps, Handle, Manager};
use tmc_hub::Hub;
use tmc_server::Server;
use tokio_util::sync::CancellationToken;

use super::beats::Beats;
use super::hosted::Hosted;
use super::members::Members;
use super::metrics::Metrics;
use super::surroundings::Surroundings;

/// What the controllers are started with.
pub struct ControllerSettings {
    /// URL of the hub.
    pub url: String,
    /// Where it listens.
    pub listening: Vec<SocketAddr>,
    /// `resource.group` names that targets sync.
    pub sync_resources: Vec<String>,
    /// Simulated members.
    pub members: Arc<Members>,
    /// Heartbeats.
    pub beats: Arc<Beats>,
    /// This process's server, for Hosted syncers.
    pub server: Server,
    /// Time, randomness and wires.
    pub surroundings: Arc<dyn Surroundings>,
    /// Takes what the controllers measure.
    pub metrics: Arc<Metrics>,
}

/// Starts the controllers.
///
/// # Errors
/// Naming a resource of `--sync-resources` that the hub does not serve.
pub fn start(
    hub: &Hub,
    runtime: tmc_runtime::Hub,
    settings: ControllerSettings,
    stop: &CancellationToken,
) -> Result<Handle> {
    let (url, around) = (settings.url, settings.surroundings);
    let deps = Deps {
        base_url: Arc::new(move || url.clone()),
        sync_resources: resources(hub, &settings.sync_resources)?,
        beats: settings.beats.live.clone(),
        hosted: Arc::new(Hosted::new(&settings.server, around.clone(), stop)),
        outbound: Outbound::new(OwnListeners::new(settings.listening), settings.members),
        allowances: Allowances::default(),
        agents: around.agents(),
        metrics: settings.metrics,
        clock: around.clock(),
        jitter: around.jitter(),
        eviction: eviction::Rules::default(),
        quota: Arc::new(Unlimited),
    };
    Ok(Manager::start(runtime, deps))
}

/// The resources behind `resource.group` names, in the version that the hub prefers.
fn resources(hub: &Hub, names: &[String]) -> Result<Vec<GroupVersionResource>> {
    let set = hub.everywhere();
    let resource = |name: &String| {
        let (resource, group) = name.split_once('.').unwrap_or((name, ""));
        let definition = set.by_group_resource(&GroupResource::new(group, resource));
        let definition = definition.ok_or_else(|| {
            anyhow!("--sync-resources {name}: the hub serves no such resource; write plural.group, like deployments.apps")
        })?;
        if !definition.namespaced() {
            return Err(not_namespaced(name));
        }
        Ok(definition.gvr())
    };
    names.iter().map(resource).collect()
}

/// Placements choose namespaces, so what is in none never reaches a cluster.
pub(super) fn not_namespaced(name: &str) -> anyhow::Error {
    anyhow!(
        "--sync-resources {name}: objects of this kind are in no namespace, and only what is in one is synced; leave it out"
    )
}
