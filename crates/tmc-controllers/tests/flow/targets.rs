//! SyncTargets and whoever wakes them: what is written, when, and what survives a failure.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use tmc_api::time::Time;
use tmc_apimachinery::meta::meta;
use tmc_apimachinery::{ClusterName, GroupVersionResource};
use tmc_controllers::heartbeat::{Beat, TargetId};
use tokio::time::Instant;

use crate::hub::FakeHub;
use crate::world::{World, beat, condition, deployment, namespace, picked, placement, ready};
use crate::{ACCOUNTS, CLUSTERS, DEPLOYMENTS, LOCATIONS, NAMESPACES, PLACEMENTS, TARGETS, placed};

async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

fn external(hub: &FakeHub, spec: &Value) -> Value {
    let target = json!({
        "apiVersion": "workload.kcp.io/v1alpha1", "kind": "SyncTarget",
        "metadata": {"name": "west"}, "spec": spec,
    });
    hub.create("compute", TARGETS, target)
}

fn west(hub: &FakeHub) -> Value {
    hub.get("compute", TARGETS, "west").unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_cluster_that_comes_or_goes_is_noticed_by_its_targets_at_once() {
    let world = World::start().await;
    let hub = &world.hub;
    external(
        hub,
        &json!({
            "clusterRef": {"name": "east", "namespace": "default"},
            "syncerConfig": {"mode": "External"},
        }),
    );
    let available = |hub: &FakeHub| condition(&west(hub), "ClusterAvailable");
    hub.until("no Cluster", |hub| available(hub).1 == "ClusterNotFound")
        .await;
    pass(100).await;
    world.register("compute", "east", &json!({}));
    let start = Instant::now();
    hub.until("a Cluster", |hub| available(hub).0 == "True")
        .await;
    assert!(start.elapsed() < Duration::from_secs(2));
    pass(100).await;
    hub.delete("compute", CLUSTERS, "default/east");
    hub.until("no Cluster", |hub| {
        hub.get("compute", CLUSTERS, "default/east").is_none()
    })
    .await;
    let start = Instant::now();
    hub.until("its loss", |hub| available(hub).1 == "ClusterNotFound")
        .await;
    assert!(start.elapsed() < Duration::from_secs(2));
    assert_eq!(west(hub)["status"]["phase"], "NotReady");
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_decided_before_everything_is_listed() {
    let mut world = World::start().await;
    placed(&world).await;
    // The times of beats and probes are written anew after five minutes: this is over by then.
    pass(60).await;
    let before = world.hub.writes();
    for resource in [TARGETS, CLUSTERS, LOCATIONS, PLACEMENTS, NAMESPACES] {
        // Within the grace of a hub that restarts.
        world
            .hub
            .faults
            .slow_down(resource, Duration::from_secs(15));
        world = world.restart().await;
        pass(20).await;
        let news = world.hub.writes().split_off(before.len());
        assert!(news.is_empty(), "{resource}: {news:?}");
    }
    world.stop().await;
}

/// An object without what changes with each write.
fn rest(object: &Value, parts: &[&str]) -> Value {
    let mut object = object.clone();
    for part in ["resourceVersion", "generation"].iter().chain(parts) {
        object["metadata"][*part] = Value::Null;
    }
    object
}

#[tokio::test(start_paused = true)]
async fn the_finalizer_is_written_alone_and_before_anything_is_made() {
    let world = World::start().await;
    let hub = &world.hub;
    let mut changes = hub.changes();
    external(hub, &json!({}));
    hub.until("an account", |hub| !hub.all("compute", ACCOUNTS).is_empty())
        .await;
    hub.until("a status", |hub| west(hub)["status"]["phase"] == "Pending")
        .await;
    changes.retain_new(hub, TARGETS);
    let seen = changes.seen();
    let finalizers = &seen[1]["metadata"]["finalizers"];
    assert_eq!(*finalizers, json!(["workload.kcp.io/synctarget"]));
    let part = ["finalizers"];
    assert_eq!(rest(&seen[1], &part), rest(&seen[0], &part));
    let version = |object: &Value| meta(object).resource_version().parse::<u64>().unwrap();
    let account = &hub.all("compute", ACCOUNTS)[0];
    assert!(version(account) > version(&seen[1]));
    // What follows is metadata or status, never both, and each pass observed the generation.
    for pair in seen.windows(2) {
        let status = pair[0].get("status") != pair[1].get("status");
        let parts = |object: &Value| {
            (
                rest(object, &[])["metadata"].clone(),
                object["spec"].clone(),
            )
        };
        assert_ne!(status, parts(&pair[0]) != parts(&pair[1]), "{pair:?}");
    }
    let last = west(hub);
    assert_eq!(
        last["status"]["observedGeneration"],
        last["metadata"]["generation"]
    );
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_write_that_fails_is_tried_again_ever_later_and_what_it_said_is_not_lost() {
    let world = World::start().await;
    let hub = &world.hub;
    hub.faults.refuse(Method::PATCH, TARGETS, "status", 500);
    crate::world::externals(&world, 1);
    pass(60).await;
    let tries = hub.faults.relent();
    assert!((4..=24).contains(&tries.len()), "{tries:?}");
    let gap = |n: usize| tries[n + 1] - tries[n];
    assert!(gap(tries.len() - 2) > 4 * gap(0), "{tries:?}");
    hub.until("a ready target", |hub| {
        hub.all("compute", TARGETS).iter().all(ready)
    })
    .await;
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_silent_target_is_noticed_although_another_write_of_it_keeps_failing() {
    let world = World::start().await;
    let name = world.ready_east(&json!({})).await;
    let hub = &world.hub;
    hub.faults.refuse(Method::PATCH, TARGETS, "", 422);
    // Somebody takes away what every pass writes.
    let key = "internal.workload.kcp.io/key";
    let without = json!({"metadata": {"labels": {key: null}}});
    hub.patch("compute", TARGETS, &name, without);
    pass(60).await;
    assert!(ready(&world.target()), "the failure alone says nothing");
    let uid = world.target()["metadata"]["uid"].clone();
    let silent = || world.syncers.silent.lock();
    silent().push(uid.as_str().unwrap().to_owned());
    let start = Instant::now();
    let is_false = |kind| condition(&world.target(), kind).0 == "False";
    hub.until("its loss", |_| {
        is_false("HeartbeatHealthy") && is_false("Ready")
    })
    .await;
    let seconds = start.elapsed().as_secs();
    assert!((20..=31).contains(&seconds), "{seconds}");
    let tries = hub.faults.relent();
    assert!((4..=40).contains(&tries.len()), "not hot: {tries:?}");
    silent().clear();
    hub.until("the target back", |_| {
        ready(&world.target()) && !world.target()["metadata"]["labels"][key].is_null()
    })
    .await;
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_only_beats_is_ready_and_gets_work_once_it_says_what_its_member_serves() {
    let world = World::start().await;
    let hub = &world.hub;
    hub.grant("demo", "compute");
    let uid = external(hub, &json!({}))["metadata"]["uid"].clone();
    // As kcp's agents do it, every twenty seconds and a little later than that.
    let (patching, clock) = (hub.clone(), world.clock.clone());
    let agent = tokio::spawn(async move {
        loop {
            let now = Time::new(clock.now()).to_string();
            let beat = json!({"lastSyncerHeartbeatTime": now});
            patching.patch_status("compute", TARGETS, "west", &beat);
            tokio::time::sleep(Duration::from_secs(22)).await;
        }
    });
    hub.until("a ready target", |hub| ready(&west(hub))).await;
    assert_eq!(condition(&west(hub), "APIAvailable").0, "True");
    let resources = &west(hub)["status"]["syncedResources"];
    assert_eq!(resources[0]["state"], "Pending", "nothing is made up");
    hub.create("demo", NAMESPACES, namespace("web"));
    hub.create("demo", DEPLOYMENTS, deployment("web", "nginx"));
    hub.create("demo", PLACEMENTS, placement("root:compute"));
    let scheduled =
        |hub: &FakeHub| condition(&hub.get("demo", PLACEMENTS, "p").unwrap(), "Scheduled");
    hub.until("no target", |hub| scheduled(hub).1 == "NoValidTarget")
        .await;
    pass(100).await;
    assert!(
        scheduled(hub).2.contains("1 without accepted APIs"),
        "{:?}",
        scheduled(hub)
    );
    assert!(picked(hub, "p").is_empty());
    assert!(ready(&west(hub)), "its beats are heard all the time");
    let apis = [GroupVersionResource::new("apps", "v1", "deployments")];
    let id = TargetId::new(&ClusterName::new("compute"), "west", uid.as_str().unwrap());
    world.beats.record(
        &id,
        Beat {
            apis: Some(std::sync::Arc::new(apis.into())),
            ..beat(world.clock.now())
        },
    );
    hub.until("a target", |hub| picked(hub, "p").len() == 1)
        .await;
    agent.abort();
    hub.until("its loss", |hub| {
        condition(&west(hub), "HeartbeatHealthy").0 == "False"
    })
    .await;
    world.stop().await;
}
