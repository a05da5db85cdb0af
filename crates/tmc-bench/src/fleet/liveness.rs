//! Many targets with live sessions on one hub: what each costs, how its loss is noticed, how all come
//! back at once.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use futures::StreamExt as _;
use serde_json::{Value, json};
use tmc::commands::workspace::create;
use tmc_api::syncer::Report;
use tmc_apimachinery::ClusterName;
use tmc_apimachinery::meta::meta;
use tmc_runtime::ResourceClient;
use tmc_syncer::Target;

use super::agents::{Agents, Which};
use super::conditions::Conditions;
use super::tempo::Tempo;
use crate::hub::OwnHub;
use crate::member::Cluster;
use crate::process::Memory;
use crate::stats::Samples;

/// The workspace of the targets.
pub(super) const FLEET: &str = "root:fleet";
/// Requests under way at once.
const CONCURRENT: usize = 64;
/// Intervals without a beat after which a target counts as lost.
pub(super) const MISSED: u32 = 3;

/// A hub with targets whose agents are connected.
pub(super) struct Fleet {
    pub(super) hub: OwnHub,
    pub(super) agents: Agents,
    targets: usize,
    tempo: Tempo,
    ready: Conditions,
    /// Its memory before there was any target.
    empty: Memory,
}

/// How the targets came up.
pub(super) struct Started {
    /// From the first request until all targets existed.
    pub(super) made: Duration,
    /// From the start of the first agent until all targets were Ready.
    pub(super) ready: Duration,
    /// Watches of each agent.
    pub(super) watches: usize,
    /// Memory of the hub with sessions, before the watches.
    pub(super) sessions: Memory,
}

/// What the targets cost while nothing happens.
pub(super) struct Quiet {
    /// How long nothing happened.
    pub(super) window: Duration,
    pub(super) before: Memory,
    pub(super) memory: Memory,
    /// Changes that the hub made durable.
    pub(super) writes: u64,
    /// Time of processors that the hub took.
    pub(super) processor: Duration,
}

impl Fleet {
    /// Starts a hub, makes targets and connects their agents.
    ///
    /// # Errors
    /// When one of the targets never gets ready.
    pub(super) async fn start(targets: usize, tempo: Tempo) -> Result<(Self, Started)> {
        let mut hub = OwnHub::start().await?;
        tokio::time::sleep(tempo.settle()).await;
        let empty = hub.memory()?;
        let report = report().await?;
        create(&hub.context("root"), "fleet", false).await?;
        let client = sync_targets(&hub);
        let start = Instant::now();
        let made_targets = make(&client, targets, tempo.beat()).await?;
        let made = start.elapsed();
        let ready = Conditions::of(&client, "Ready").await?;
        let start = Instant::now();
        let agents = Agents::start(&hub.endpoint, made_targets, report)?;
        ready.until(true, targets).await?;
        let ready_in = start.elapsed();
        tokio::time::sleep(tempo.settle()).await;
        let sessions = hub.memory()?;
        let watches = agents.watch().await? / targets.max(1);
        let fleet = Self {
            hub,
            agents,
            targets,
            tempo,
            ready,
            empty,
        };
        let started = Started {
            made,
            ready: ready_in,
            watches,
            sessions,
        };
        Ok((fleet, started))
    }

    /// Looks at the hub while nothing happens.
    ///
    /// # Errors
    /// When it does not answer.
    pub(super) async fn quiet(&mut self, window: Duration) -> Result<Quiet> {
        // What the start left to do is done by then, and the connections of its requests are closed.
        tokio::time::sleep(self.tempo.idle() + self.tempo.settle()).await;
        let (writes, processor) = (self.hub.revision().await?, self.hub.processor_time()?);
        let start = Instant::now();
        tokio::time::sleep(window).await;
        Ok(Quiet {
            window: start.elapsed(),
            before: self.empty,
            memory: self.hub.memory()?,
            writes: self.hub.revision().await? - writes,
            processor: self.hub.processor_time()? - processor,
        })
    }

    /// Silences agents; from the last beat of each until a watch shows its target as not Ready.
    ///
    /// # Errors
    /// When one is not noticed.
    pub(super) async fn silence(&self, which: Which) -> Result<Samples> {
        self.agents.silence(which);
        let lost = self.ready.until(false, which.of(self.targets)).await?;
        let beats = self.agents.last_beats(which);
        let noticed = beats.iter().filter_map(|(name, beat)| {
            let at = lost.get(name)?;
            Some(at.saturating_duration_since(*beat))
        });
        Ok(Samples::new(noticed.collect()))
    }

    /// Lets all agents connect again at once; from then until a watch shows each target as Ready.
    ///
    /// # Errors
    /// When one does not come back.
    pub(super) async fn resume(&self) -> Result<Samples> {
        let start = Instant::now();
        self.agents.resume();
        let back = self.ready.until(true, self.targets).await?;
        let times = back.values();
        Ok(Samples::new(
            times
                .map(|at| at.saturating_duration_since(start))
                .collect(),
        ))
    }
}

/// The SyncTargets of the fleet.
fn sync_targets(hub: &OwnHub) -> ResourceClient {
    hub.context(FLEET)
        .resource("workload.kcp.io", "v1alpha1", "synctargets")
}

/// What every agent reports: that its member serves what a simulated member serves.
async fn report() -> Result<Report> {
    let member = Cluster::simulated().await?;
    let apis = tmc_syncer::discovery::served_apis(&member.connection().base_client()).await?;
    let report = json!({
        "apis": apis, "nodes": {"total": 3, "ready": 3},
        "capacity": {"cpu": "12", "memory": "48Gi", "pods": "330"},
        "allocatable": {"cpu": "12", "memory": "48Gi", "pods": "330"},
        "observedAt": "2026-01-01T00:00:00.000Z",
    });
    Ok(serde_json::from_value(report)?)
}

async fn make(client: &ResourceClient, count: usize, beat: Duration) -> Result<Vec<Target>> {
    let requests = (0..count).map(|index| {
        let object = target(index, beat);
        async move { client.create("", &object).await }
    });
    let mut answers = futures::stream::iter(requests).buffer_unordered(CONCURRENT);
    let mut made = Vec::with_capacity(count);
    while let Some(answer) = answers.next().await {
        let object = answer.context("no target")?;
        let meta = meta(&object);
        let cluster = meta.annotation("kcp.io/cluster").unwrap_or_default();
        made.push(Target {
            cluster: ClusterName::new(cluster),
            name: meta.name().to_owned(),
            uid: meta.uid().to_owned(),
        });
    }
    Ok(made)
}

fn target(index: usize, beat: Duration) -> Value {
    json!({
        "apiVersion": "workload.kcp.io/v1alpha1", "kind": "SyncTarget",
        "metadata": {
            "name": format!("member-{index:05}"),
            "labels": {"region": format!("region-{}", index % 10)},
        },
        "spec": {"syncerConfig": {"mode": "External", "heartbeatInterval": format!("{}s", beat.as_secs())}},
    })
}
