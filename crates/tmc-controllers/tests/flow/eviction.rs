//! Leaving targets: after a loss, by a drain, by force; and what is never left.

use std::time::Duration;

use serde_json::{Value, json};

use crate::hub::FakeHub;
use crate::world::{World, name_of, namespace, picked, placement, ready, state, syncer, told};
use crate::{DEPLOYMENTS, NAMESPACES, PLACEMENTS, TARGETS, placed};

async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

fn uid(hub: &FakeHub, key: &str) -> String {
    let target = hub.get("compute", TARGETS, &name_of(hub, key)).unwrap();
    target["metadata"]["uid"].as_str().unwrap().to_owned()
}

fn taints(hub: &FakeHub, key: &str) -> Vec<Value> {
    let target = hub.get("compute", TARGETS, &name_of(hub, key)).unwrap();
    target["spec"]["taints"]
        .as_array()
        .cloned()
        .unwrap_or_default()
}

fn has_copy(hub: &FakeHub, key: &str) -> bool {
    let object = hub.get("demo", DEPLOYMENTS, "web/nginx").unwrap();
    let finalizers = object["metadata"]["finalizers"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    finalizers.contains(&json!(format!("workload.kcp.io/syncer-{key}")))
}

fn is_marked(hub: &FakeHub, resource: &str, name: &str, key: &str) -> bool {
    let mark = format!("deletion.internal.workload.kcp.io/{key}");
    !hub.get("demo", resource, name).unwrap()["metadata"]["annotations"][mark].is_null()
}

/// Whether neither the Deployment nor its namespace knows of a target.
fn is_forgotten(hub: &FakeHub, key: &str) -> bool {
    [(DEPLOYMENTS, "web/nginx"), (NAMESPACES, "web")]
        .iter()
        .all(|(resource, name)| {
            !hub.get("demo", resource, name)
                .unwrap()
                .to_string()
                .contains(key)
        })
}

fn drain(hub: &FakeHub, key: &str) {
    let spec = json!({"spec": {"evictAfter": "2030-01-01T00:00:01Z"}});
    hub.patch("compute", TARGETS, &name_of(hub, key), spec);
}

#[tokio::test(start_paused = true)]
async fn a_lost_target_is_left_after_the_grace_and_removes_its_copies_when_it_is_back() {
    let world = World::start().await;
    let (here, other) = placed(&world).await;
    let hub = &world.hub;
    let (old, _new) = (syncer(hub, &here), syncer(hub, &other));
    hub.until("a copy", |hub| has_copy(hub, &here)).await;
    old.abort();
    world.syncers.silent.lock().push(uid(hub, &here));
    hub.until("a taint", |hub| {
        taints(hub, &here) == [json!({"key": "tmc.kcp.io/unreachable", "effect": "NoExecute"})]
    })
    .await;
    pass(297).await;
    assert_eq!(picked(hub, "p"), [&*here], "the grace is not over");
    hub.until("moved", |hub| picked(hub, "p") == [&*other])
        .await;
    hub.until("taken over", |hub| has_copy(hub, &other)).await;
    hub.until("the old copy asked to go", |hub| {
        is_marked(hub, DEPLOYMENTS, "web/nginx", &here)
    })
    .await;
    pass(600).await;
    assert!(has_copy(hub, &here), "nobody is there to remove it");
    let message = format!(
        "to {} from {}, which is unreachable",
        name_of(hub, &other),
        name_of(hub, &here)
    );
    assert_eq!(told(hub, "Moved"), [message]);

    world.syncers.silent.lock().clear();
    let _old = syncer(hub, &here);
    hub.until("no trace", |hub| is_forgotten(hub, &here)).await;
    hub.until("no taint", |hub| taints(hub, &here).is_empty())
        .await;
    pass(60).await;
    assert_eq!(picked(hub, "p"), [&*other]);
    assert!(has_copy(hub, &other) && is_forgotten(hub, &here));
    let annotation = &hub.get("demo", PLACEMENTS, "p").unwrap()["metadata"]["annotations"];
    assert_eq!(annotation["internal.workload.kcp.io/synctarget"], *other);
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_drained_target_keeps_its_copies_until_another_has_taken_over() {
    let world = World::start().await;
    let (here, other) = placed(&world).await;
    let hub = &world.hub;
    let _old = syncer(hub, &here);
    hub.until("a copy", |hub| has_copy(hub, &here)).await;
    drain(hub, &here);
    hub.until("the other target", |hub| {
        state(hub, DEPLOYMENTS, "web/nginx", &other)
    })
    .await;
    pass(600).await;
    assert!(
        !is_marked(hub, NAMESPACES, "web", &here),
        "the other has no copy yet"
    );
    assert!(has_copy(hub, &here));
    // A copy alone is not enough: it has to be as well off as the old one.
    let finalizers = [&here, &other].map(|key| format!("workload.kcp.io/syncer-{key}"));
    hub.patch(
        "demo",
        DEPLOYMENTS,
        "web/nginx",
        json!({"metadata": {"finalizers": finalizers}}),
    );
    pass(60).await;
    assert!(
        !is_marked(hub, NAMESPACES, "web", &here),
        "it is not available"
    );
    let report = json!({"status": {"conditions": [{"type": "Available", "status": "True"}]}});
    let diff = format!("diff.syncer.internal.kcp.io/{other}");
    let annotations = json!({"metadata": {"annotations": {diff: report.to_string()}}});
    hub.patch("demo", DEPLOYMENTS, "web/nginx", annotations);
    hub.until("no trace", |hub| is_forgotten(hub, &here)).await;
    assert!(has_copy(hub, &other) && state(hub, NAMESPACES, "web", &other));
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_cordoned_target_is_left_alone_and_gets_nothing_new() {
    let world = World::start().await;
    let (here, other) = placed(&world).await;
    let hub = &world.hub;
    let cordon = json!({"spec": {"unschedulable": true}});
    hub.patch("compute", TARGETS, &name_of(hub, &here), cordon);
    pass(900).await;
    assert_eq!(picked(hub, "p"), [&*here]);
    let mut second = placement("root:compute");
    second["metadata"]["name"] = "q".into();
    hub.create("demo", PLACEMENTS, second);
    hub.until("the other", |hub| picked(hub, "q") == [&*other])
        .await;
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_only_healthy_target_is_not_drained_but_by_force() {
    let world = World::start().await;
    let (here, other) = placed(&world).await;
    let hub = &world.hub;
    let _old = syncer(hub, &here);
    hub.until("a copy", |hub| has_copy(hub, &here)).await;
    world.syncers.silent.lock().push(uid(hub, &other));
    hub.until("a lost target", |hub| {
        !ready(&hub.get("compute", TARGETS, &name_of(hub, &other)).unwrap())
    })
    .await;
    drain(hub, &here);
    hub.until("a warning", |hub| told(hub, "EvictionHeld").len() == 1)
        .await;
    pass(600).await;
    assert_eq!(picked(hub, "p"), [&*here]);
    assert_eq!(told(hub, "EvictionHeld").len(), 1, "once");
    let status = hub.get("demo", PLACEMENTS, "p").unwrap()["status"].clone();
    assert_eq!(
        status["decisions"][0]["leaving"]["held"], "NoReplacement",
        "{status}"
    );
    let force = json!({"metadata": {"annotations": {"tmc.kcp.io/force-drain": "true"}}});
    hub.patch("compute", TARGETS, &name_of(hub, &here), force);
    hub.until("no trace", |hub| is_forgotten(hub, &here)).await;
    assert!(picked(hub, "p").is_empty());
    // The other one is back: it gets it.
    world.syncers.silent.lock().clear();
    hub.until("placed again", |hub| picked(hub, "p") == [&*other])
        .await;
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_placement_on_all_targets_labels_for_each_and_for_those_that_join() {
    let world = World::start().await;
    let (here, other) = placed(&world).await;
    let hub = &world.hub;
    hub.patch("demo", PLACEMENTS, "p", json!({"spec": {"targets": "All"}}));
    let both = |hub: &FakeHub| {
        [&here, &other]
            .iter()
            .all(|key| state(hub, DEPLOYMENTS, "web/nginx", key))
    };
    hub.until("both", both).await;
    let annotations = hub.get("demo", PLACEMENTS, "p").unwrap()["metadata"]["annotations"].clone();
    assert!(annotations["internal.workload.kcp.io/synctarget"].is_null());
    world.register("compute", "north", &json!({}));
    hub.until("the third", |hub| picked(hub, "p").len() == 3)
        .await;
    let mut second = namespace("more");
    second["metadata"]["labels"] = json!({"team": "a"});
    hub.create("demo", NAMESPACES, second);
    hub.until("all of them", |hub| {
        picked(hub, "p")
            .iter()
            .all(|key| state(hub, NAMESPACES, "more", key))
    })
    .await;
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn moves_are_spread_over_time() {
    let world = World::start().await;
    let (here, other) = placed(&world).await;
    let hub = &world.hub;
    for n in 0..5 {
        let mut more = placement("root:compute");
        more["metadata"]["name"] = format!("q{n}").into();
        hub.create("demo", PLACEMENTS, more);
    }
    let names: Vec<String> = std::iter::once("p".to_owned())
        .chain((0..5).map(|n| format!("q{n}")))
        .collect();
    let on = |hub: &FakeHub, key: &str| {
        names
            .iter()
            .filter(|name| picked(hub, name) == [key])
            .count()
    };
    hub.until("all placed", |hub| on(hub, &here) + on(hub, &other) == 6)
        .await;
    let moving = on(hub, &here);
    assert!(moving > 1, "both are used");
    let start = tokio::time::Instant::now();
    drain(hub, &here);
    hub.until("the first", |hub| on(hub, &other) == 6 - moving + 1)
        .await;
    hub.until("all", |hub| on(hub, &other) == 6).await;
    let seconds = start.elapsed().as_secs_f64();
    let expected = 2.0 * (moving - 1) as f64;
    assert!(
        (expected..expected + 1.5).contains(&seconds),
        "{moving} moves in {seconds} s"
    );
    world.stop().await;
}
