//! Many Placements that wait for the same thing, and get it.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use futures::StreamExt as _;
use serde_json::{Value, json};
use tmc_runtime::ResourceClient;

use super::conditions::Conditions;
use super::liveness::FLEET;
use crate::hub::OwnHub;

/// Requests under way at once.
const CONCURRENT: usize = 64;

/// How Placements were scheduled.
pub(super) struct Scheduled {
    pub(super) placements: usize,
    /// From the first request until all existed, with no Location to choose.
    pub(super) made: Duration,
    /// From the request for the Location until a watch showed all Placements as Scheduled.
    pub(super) took: Duration,
    /// Changes that the hub made durable in that time.
    pub(super) writes: u64,
}

impl Scheduled {
    /// Placements a second.
    pub(super) fn rate(&self) -> f64 {
        self.placements as f64 / self.took.as_secs_f64()
    }
}

/// Makes Placements that find no Location, then the Location with every target of the fleet.
///
/// # Errors
/// When a Placement is never scheduled.
pub(super) async fn schedule(hub: &OwnHub, placements: usize) -> Result<Scheduled> {
    let context = hub.context(FLEET);
    let resource = |name| context.resource("scheduling.kcp.io", "v1alpha1", name);
    let (client, locations) = (resource("placements"), resource("locations"));
    let scheduled = Conditions::of(&client, "Scheduled").await?;
    let start = Instant::now();
    make(&client, placements).await?;
    let made = start.elapsed();
    // Each has been looked at once, in vain.
    scheduled.until(false, placements).await?;
    let before = hub.revision().await?;
    let start = Instant::now();
    locations
        .create("", &location())
        .await
        .context("no Location")?;
    let since = scheduled.until(true, placements).await?;
    let last = since.values().max().context("no Placements")?;
    Ok(Scheduled {
        placements,
        made,
        took: last.saturating_duration_since(start),
        writes: hub.revision().await? - before,
    })
}

async fn make(client: &ResourceClient, count: usize) -> Result<()> {
    let requests = (0..count).map(|index| {
        let object = placement(index);
        async move { client.create("", &object).await }
    });
    let mut answers = futures::stream::iter(requests).buffer_unordered(CONCURRENT);
    while let Some(answer) = answers.next().await {
        answer.context("no Placement")?;
    }
    Ok(())
}

fn location() -> Value {
    json!({
        "apiVersion": "scheduling.kcp.io/v1alpha1", "kind": "Location",
        "metadata": {"name": "everywhere", "labels": {"bench": "everywhere"}},
        "spec": {
            "resource": {"group": "workload.kcp.io", "version": "v1alpha1", "resource": "synctargets"},
            "instanceSelector": {},
        },
    })
}

fn placement(index: usize) -> Value {
    json!({
        "apiVersion": "scheduling.kcp.io/v1alpha1", "kind": "Placement",
        "metadata": {"name": format!("placement-{index:05}")},
        "spec": {
            "namespaceSelector": {"matchLabels": {"bench": format!("none-{index}")}},
            "locationSelectors": [{"matchLabels": {"bench": "everywhere"}}],
            "locationResource": {"group": "workload.kcp.io", "version": "v1alpha1", "resource": "synctargets"},
        },
    })
}
