//! How long passes of the controllers take on a hub full of objects.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result};
use futures::StreamExt as _;
use serde_json::json;
use tmc_runtime::ResourceClient;

use super::conditions::Conditions;
use super::histogram::{Histogram, histograms};
use super::liveness::{FLEET, Fleet};
use crate::pacing::Pace;

/// Targets among which the objects are divided.
pub(super) const TARGETS: usize = 10;
/// Namespaces, each placed by itself.
const NAMESPACES: usize = 100;
/// Requests under way at once.
const CONCURRENT: usize = 64;
/// The hub is quiet once it has written nothing for so long.
const QUIET: Duration = Duration::from_secs(3);
/// What the controllers call the time of their passes.
const METRIC: &str = "workqueue_work_duration_seconds";

/// Passes of the controllers while objects came, changed and went.
pub(super) struct Passes {
    /// From the first request until every object had its labels.
    pub(super) filled: Duration,
    /// Of each controller.
    pub(super) by_controller: BTreeMap<String, Histogram>,
}

impl Passes {
    /// All of them together.
    pub(super) fn all(&self) -> Histogram {
        self.by_controller
            .values()
            .fold(Histogram::default(), |all, one| all.and(one))
    }
}

/// Fills a hub with ConfigMaps, then creates others at a pace, and looks at the passes of that time.
///
/// # Errors
/// When the hub refuses an object.
pub(super) async fn passes(fleet: &Fleet, objects: usize, pace: Pace) -> Result<Passes> {
    let context = fleet.hub.context(FLEET);
    let placements = context.resource("scheduling.kcp.io", "v1alpha1", "placements");
    let bound = Conditions::of(&placements, "Scheduled").await?;
    let maps = context.resource("", "v1", "configmaps");
    let start = std::time::Instant::now();
    for index in 0..NAMESPACES {
        let name = namespace(index);
        let labels = json!({"bench": name});
        let object = json!({"apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": name, "labels": labels}});
        context
            .resource("", "v1", "namespaces")
            .create("", &object)
            .await?;
        let placement = json!({
            "apiVersion": "scheduling.kcp.io/v1alpha1", "kind": "Placement",
            "metadata": {"name": name},
            "spec": {
                "namespaceSelector": {"matchLabels": labels}, "locationSelectors": [{}],
                "locationResource": {
                    "group": "workload.kcp.io", "version": "v1alpha1", "resource": "synctargets",
                },
            },
        });
        placements.create("", &placement).await?;
    }
    bound.until(true, NAMESPACES).await?;
    fill(&maps, objects).await?;
    quiet(fleet).await?;
    let filled = start.elapsed() - QUIET;
    let before = histograms(&fleet.hub.metrics().await?, METRIC);
    let client = maps.clone();
    pace.offer(move |index| {
        let maps = client.clone();
        async move { create(&maps, "later", index).await }
    })
    .await?;
    quiet(fleet).await?;
    let mut after = histograms(&fleet.hub.metrics().await?, METRIC);
    for (controller, histogram) in &mut after {
        if let Some(before) = before.get(controller) {
            *histogram = histogram.since(before);
        }
    }
    Ok(Passes {
        filled,
        by_controller: after,
    })
}

fn namespace(index: usize) -> String {
    format!("bench-{index:03}")
}

async fn create(maps: &ResourceClient, prefix: &str, index: usize) -> Result<()> {
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": format!("{prefix}-{index:06}")}, "data": {"index": index.to_string()}});
    maps.create(&namespace(index % NAMESPACES), &object)
        .await
        .context("no ConfigMap")?;
    Ok(())
}

async fn fill(maps: &ResourceClient, count: usize) -> Result<()> {
    let requests = (0..count).map(|index| create(maps, "full", index));
    let mut answers = futures::stream::iter(requests).buffer_unordered(CONCURRENT);
    while let Some(answer) = answers.next().await {
        answer?;
    }
    Ok(())
}

/// Waits until the hub writes nothing any more.
async fn quiet(fleet: &Fleet) -> Result<()> {
    let mut last = fleet.hub.revision().await?;
    loop {
        tokio::time::sleep(QUIET).await;
        let now = fleet.hub.revision().await?;
        // A write now and then is no work that is left.
        if now - last <= 2 {
            return Ok(());
        }
        last = now;
    }
}
