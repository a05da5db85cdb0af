//! Objects on their way to a member, and their status on its way back.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use futures::StreamExt as _;
use serde_json::{Value, json};
use tmc_api::keys::{STATE_PREFIX, SYNCER_FINALIZER_PREFIX};
use tmc_apimachinery::meta::meta;
use tmc_runtime::ResourceClient;
use tmc_runtime::client::PatchKind;

use crate::member::{Cluster, StatusKind};
use crate::pacing::Pace;
use crate::rig::Workspace;
use crate::sightings::{Sightings, Wanted};
use crate::stats::Samples;

/// Requests of a burst under way at once.
const CONCURRENT: usize = 64;
/// Objects whose status is written in turn.
const STATUS_OBJECTS: usize = 50;
/// Objects sent before the clock starts, to make the member's namespace and open connections.
const WARM_UP: usize = 20;

/// A ConfigMap with `bytes` of data.
fn config_map(name: &str, bytes: usize) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name},
        "data": {"text": "x".repeat(bytes)}})
}

fn names(prefix: &str, count: usize) -> Vec<Wanted> {
    (0..count)
        .map(|index| (format!("{prefix}-{index:05}"), 0))
        .collect()
}

/// How objects got from the hub to the member, each time from when the object was to be sent.
pub(crate) struct Propagation {
    /// Until a watch on the member showed it.
    pub(crate) arrived: Samples,
    /// Until a watch on the hub showed it: plain, labelled for its target, held by its syncer.
    pub(crate) on_hub: [Samples; 3],
}

/// Creates ConfigMaps on the hub at the pace and follows them to the member.
///
/// # Errors
/// When a request is refused or an object never arrives.
pub(crate) async fn propagation(
    hub: &Workspace,
    member: &Cluster,
    pace: Pace,
) -> Result<Propagation> {
    let namespace = "latency";
    hub.namespace(namespace).await?;
    let above = hub.0.resource("", "v1", "configmaps");
    let seen = Sightings::of(&member.resource("", "v1", "configmaps"), "", |_| 0).await?;
    let before = Sightings::of(&above, namespace, stage).await?;
    let warm = names("warm", WARM_UP);
    for (name, _) in &warm {
        above.create(namespace, &config_map(name, 64)).await?;
    }
    seen.all(&warm).await?;
    let wanted = names("cm", pace.count);
    let intended = create_all(&above, namespace, &wanted, pace).await?;
    let arrived = differences(&intended, &seen.all(&wanted).await?);
    let mut on_hub = [Samples::default(), Samples::default(), Samples::default()];
    for (stage, samples) in (0..).zip(&mut on_hub) {
        let staged: Vec<Wanted> = wanted
            .iter()
            .map(|(name, _)| (name.clone(), stage))
            .collect();
        *samples = differences(&intended, &before.all(&staged).await?);
    }
    Ok(Propagation { arrived, on_hub })
}

/// How far an object has come on the hub: 1 with a target's label, 2 with a syncer's finalizer.
fn stage(object: &Value) -> u64 {
    let held = meta(object)
        .finalizers()
        .iter()
        .any(|f| f.starts_with(SYNCER_FINALIZER_PREFIX));
    let labels = object
        .pointer("/metadata/labels")
        .and_then(Value::as_object);
    let labelled = labels.is_some_and(|l| l.keys().any(|key| key.starts_with(STATE_PREFIX)));
    if held { 2 } else { u64::from(labelled) }
}

async fn create_all(
    client: &ResourceClient,
    namespace: &'static str,
    wanted: &[Wanted],
    pace: Pace,
) -> Result<Vec<Instant>> {
    let objects: Vec<Value> = wanted
        .iter()
        .map(|(name, _)| config_map(name, 64))
        .collect();
    let client = client.clone();
    pace.offer(move |index| {
        let (client, object) = (client.clone(), objects[index].clone());
        async move {
            client.create(namespace, &object).await?;
            Ok(())
        }
    })
    .await
}

/// The same with the member alone: ConfigMaps created in it at the pace until its own watch showed
/// them. Nothing that goes through the member can be faster.
///
/// # Errors
/// When a request is refused or an object never arrives.
pub(crate) async fn member_alone(member: &Cluster, pace: Pace) -> Result<Samples> {
    let namespace = "alone";
    let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
    member
        .resource("", "v1", "namespaces")
        .create("", &object)
        .await?;
    let maps = member.resource("", "v1", "configmaps");
    let seen = Sightings::of(&maps, "", |_| 0).await?;
    let warm = names("alone-warm", WARM_UP);
    for (name, _) in &warm {
        maps.create(namespace, &config_map(name, 64)).await?;
    }
    seen.all(&warm).await?;
    let wanted = names("alone", pace.count);
    let intended = create_all(&maps, namespace, &wanted, pace).await?;
    Ok(differences(&intended, &seen.all(&wanted).await?))
}

/// How a status got from the member to the hub: until a watch on the hub showed it, or a later one
/// of the same object.
pub(crate) struct StatusBack {
    /// From when it was to be written in the member.
    pub(crate) from_write: Samples,
    /// From when a watch on the member showed it: without the member's own part.
    pub(crate) from_watch: Samples,
}

/// Writes the status of synced objects in the member at the pace and follows it to the hub.
///
/// # Errors
/// When a request is refused or a status never arrives.
pub(crate) async fn status_back(
    hub: &Workspace,
    member: &Cluster,
    pace: Pace,
) -> Result<StatusBack> {
    let (namespace, kind) = ("status", member.status_kind());
    hub.namespace(namespace).await?;
    let above = hub.0.resource("apps", "v1", kind.resource);
    let below = member.resource("apps", "v1", kind.resource);
    let arrived = Sightings::of(&below, "", replicas).await?;
    let objects = names("app", STATUS_OBJECTS);
    for (name, _) in &objects {
        above.create(namespace, &workload(kind, name)).await?;
    }
    arrived.all(&objects).await?;
    let back = Sightings::of(&above, namespace, replicas).await?;
    let copies: Vec<Value> = objects
        .iter()
        .filter_map(|(name, _)| arrived.last(name))
        .collect();
    // A first round in which nothing is measured: what creation left to do is done by then.
    for copy in &copies {
        write_status(&below, copy, 1).await?;
    }
    let level = |index: usize| (index / STATUS_OBJECTS) as u64 + 2;
    back.all(
        &objects
            .iter()
            .map(|(name, _)| (name.clone(), 1))
            .collect::<Vec<_>>(),
    )
    .await?;
    let wanted: Vec<Wanted> = (0..pace.count)
        .map(|index| (objects[index % STATUS_OBJECTS].0.clone(), level(index)))
        .collect();
    let intended = pace
        .offer(move |index| {
            let (below, copy) = (below.clone(), copies[index % STATUS_OBJECTS].clone());
            async move { write_status(&below, &copy, level(index)).await }
        })
        .await?;
    let back = back.all(&wanted).await?;
    Ok(StatusBack {
        from_write: differences(&intended, &back),
        from_watch: differences(&arrived.all(&wanted).await?, &back),
    })
}

fn workload(kind: StatusKind, name: &str) -> Value {
    let labels = json!({"app": name});
    let mut object = json!({
        "apiVersion": "apps/v1", "kind": kind.kind, "metadata": {"name": name},
        "spec": {
            "replicas": 0, "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "app", "image": "registry.k8s.io/pause:3.10"}]},
            },
        },
    });
    if kind.kind == "StatefulSet" {
        object["spec"]["serviceName"] = name.into();
    }
    object
}

fn replicas(object: &Value) -> u64 {
    object
        .pointer("/status/replicas")
        .and_then(Value::as_u64)
        .unwrap_or(0)
}

async fn write_status(client: &ResourceClient, copy: &Value, level: u64) -> Result<()> {
    let (namespace, name) = (meta(copy).namespace(), meta(copy).name());
    let status = json!({"observedGeneration": meta(copy).generation(), "replicas": level});
    let patch = json!({"status": status});
    client
        .patch(namespace, name, "status", PatchKind::Merge, &patch)
        .await?;
    Ok(())
}

fn differences(from: &[Instant], to: &[Instant]) -> Samples {
    Samples::new(
        from.iter()
            .zip(to)
            .map(|(from, to)| to.saturating_duration_since(*from))
            .collect(),
    )
}

/// How a burst went.
pub(crate) struct Burst {
    pub(crate) objects: usize,
    /// From the first request to the last answer.
    pub(crate) accepted: Duration,
    /// From the first request until the last object was in the member.
    pub(crate) arrived: Duration,
}

impl Burst {
    /// Objects a second, over the whole.
    pub(crate) fn rate(&self) -> f64 {
        self.objects as f64 / self.arrived.as_secs_f64()
    }
}

/// Creates ConfigMaps in one namespace as fast as the hub takes them, 64 requests at once.
///
/// # Errors
/// When a request is refused or an object never arrives.
pub(crate) async fn burst(
    hub: &Workspace,
    member: &Cluster,
    (namespace, objects, bytes): (&'static str, usize, usize),
) -> Result<Burst> {
    hub.namespace(namespace).await?;
    let maps = hub.0.resource("", "v1", "configmaps");
    let seen = Sightings::of(&member.resource("", "v1", "configmaps"), "", |_| 0).await?;
    let warm = names(&format!("{namespace}-warm"), 1);
    maps.create(namespace, &config_map(&warm[0].0, bytes))
        .await?;
    seen.all(&warm).await?;
    let wanted = names(namespace, objects);
    let start = Instant::now();
    let requests = futures::stream::iter(&wanted).map(|(name, _)| {
        let (maps, object) = (maps.clone(), config_map(name, bytes));
        async move { maps.create(namespace, &object).await }
    });
    let mut answers = requests.buffer_unordered(CONCURRENT);
    while let Some(answer) = answers.next().await {
        answer?;
    }
    let accepted = start.elapsed();
    let last = seen
        .all(&wanted)
        .await?
        .into_iter()
        .max()
        .context("no objects")?;
    Ok(Burst {
        objects,
        accepted,
        arrived: last.saturating_duration_since(start),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rig::Rig;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn every_measurement_runs_against_a_simulated_member() {
        let rig = Rig::start().await.expect("a hub");
        let member = Cluster::simulated().await.expect("a member");
        let hub = rig
            .hosted("one", &member.kubeconfig())
            .await
            .expect("bound");
        let pace = Pace {
            count: 60,
            rate: 100.0,
        };
        let there = propagation(&hub, &member, pace)
            .await
            .expect("objects arrive");
        assert_eq!(there.arrived.len(), 60);
        let [plain, labelled, held] = there.on_hub.map(|samples| samples.percentile(50.0));
        assert!(plain <= labelled && labelled <= held);
        assert_eq!(
            member_alone(&member, pace).await.expect("arrives").len(),
            60
        );
        let back = status_back(&hub, &member, pace)
            .await
            .expect("status comes back");
        assert_eq!((back.from_write.len(), back.from_watch.len()), (60, 60));
        let burst = burst(&hub, &member, ("burst", 100, 10))
            .await
            .expect("objects arrive");
        assert!(burst.arrived >= Duration::ZERO && burst.rate() > 0.0);
        rig.stop().await.expect("ends well");
    }
}
