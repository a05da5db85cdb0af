//! Marks of a SyncTarget that come, or stay, when nobody expects them any more: nothing waits for them
//! for ever, and no copy stays unsaid.

use std::time::Duration;

use http::Method;
use rstest::rstest;
use serde_json::{Value, json};
use tmc_api::hashes::sync_target_key;
use tmc_api::keys::{DOWNSTREAM_CLUSTER_LABEL, NAMESPACE_LOCATOR_ANNOTATION, state_label};
use tmc_controllers::synctarget::removal::CLEARING_ANNOTATION as CLEARING;

use crate::hub::FakeHub;
use crate::member::HOME;
use crate::removal::{
    copy, delete, is_made, is_marked, nothing_is_left, tombstones, until_gone, with_a_copy,
};
use crate::world::{World, condition, deployment, namespace};
use crate::{CLUSTER_BINDINGS, DEPLOYMENTS, NAMESPACES, TARGETS};

/// A Deployment in a namespace that no Placement selects, of which the agent holds a copy, as a pass
/// leaves it that had not seen the target's deletion.
fn place_late(hub: &FakeHub, key: &str) {
    let mut object = deployment("web", "nginx");
    object["metadata"]["labels"] = json!({(state_label(key)): "Sync"});
    object["metadata"]["finalizers"] = json!([format!("workload.kcp.io/syncer-{key}")]);
    hub.create("demo", DEPLOYMENTS, object);
}

/// What an agent makes in its member for the namespace `web` of `demo`.
fn copied_namespace(target: &Value, key: &str) -> Value {
    let locator = json!({
        "syncTarget": {
            "cluster": "compute", "name": target["metadata"]["name"],
            "uid": target["metadata"]["uid"],
        },
        "cluster": "demo", "namespace": "web",
    });
    json!({"metadata": {
        "name": "kcp-web", "labels": {DOWNSTREAM_CLUSTER_LABEL: key},
        "annotations": {NAMESPACE_LOCATOR_ANNOTATION: locator.to_string()},
    }})
}

/// `east` with a syncer of a mode, and an empty namespace `web` in `demo`: gives the name of the
/// SyncTarget and its key.
async fn with_a_syncer(world: &World, mode: &str) -> (String, String) {
    let spec = json!({"syncTargetTemplate": {"syncerConfig": {"mode": mode}}});
    world.register("compute", "east", &spec);
    world.hub.until("a syncer", |_| is_made(world, mode)).await;
    world.hub.create("demo", NAMESPACES, namespace("web"));
    let name = world.target()["metadata"]["name"].clone();
    let name = name.as_str().unwrap().to_owned();
    let key = sync_target_key("compute", &name);
    (name, key)
}

fn is_clearing(world: &World) -> bool {
    !world.target()["metadata"]["annotations"][CLEARING].is_null()
}

/// The agent has removed its copy.
fn remove_copy(hub: &FakeHub) {
    let removed = json!({"metadata": {"finalizers": null}});
    hub.patch("demo", DEPLOYMENTS, "web/nginx", removed);
}

#[tokio::test(start_paused = true)]
async fn a_copy_that_no_informer_has_heard_of_yet_is_waited_for() {
    let world = World::start().await;
    let name = world.ready_east(&json!({})).await;
    let hub = &world.hub;
    let key = sync_target_key("compute", &name);
    hub.create("demo", NAMESPACES, namespace("web"));
    hub.withhold(Some(DEPLOYMENTS));
    place_late(hub, &key);
    delete(hub, &name, &json!({}));
    let ready = |_: &FakeHub| condition(&world.target(), "Ready").2;
    hub.until("a reason", |hub| ready(hub).contains("just before"))
        .await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(world.syncers.running.lock().len(), 1, "its syncer works on");
    hub.withhold(None);
    hub.until("a mark", |hub| is_marked(hub, &key)).await;
    assert_eq!(world.syncers.running.lock().len(), 1, "its syncer works on");
    remove_copy(hub);
    until_gone(hub).await;
    assert!(!copy(hub).to_string().contains(&key));
    nothing_is_left(&world).await;
    world.stop().await;
}

#[rstest]
#[tokio::test(start_paused = true)]
async fn a_mark_that_comes_when_the_agent_is_being_removed_is_nobodys(
    #[values("Hosted", "Deployment")] mode: &str,
    #[values(true, false)] the_hub_restarts: bool,
) {
    let mut world = World::start().await;
    let (name, key) = with_a_syncer(&world, mode).await;
    world.members.silence("east", true);
    delete(&world.hub, &name, &json!({}));
    world
        .hub
        .until("a beginning", |_| is_clearing(&world))
        .await;
    place_late(&world.hub, &key);
    // It may even have made a copy.
    let made = copied_namespace(&world.target(), &key);
    world.members.of("east").create(HOME, NAMESPACES, made);
    if the_hub_restarts {
        world = world.restart().await;
    }
    let hub = &world.hub;
    hub.until("no mark", |hub| !copy(hub).to_string().contains(&key))
        .await;
    world.members.silence("east", false);
    until_gone(hub).await;
    nothing_is_left(&world).await;
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_note_of_another_removal_means_nothing() {
    let world = World::start().await;
    let (name, key) = with_a_copy(&world).await;
    let hub = &world.hub;
    let copied = json!({"metadata": {"annotations": {CLEARING: "another-uid"}}});
    hub.patch("compute", TARGETS, &name, copied);
    delete(hub, &name, &json!({}));
    hub.until("a mark", |hub| is_marked(hub, &key)).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(world.syncers.running.lock().len(), 1, "its syncer works on");
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_an_external_agent_may_have_made_of_the_last_marks_is_recorded() {
    let world = World::start().await;
    let (name, key) = with_a_syncer(&world, "External").await;
    let hub = &world.hub;
    hub.faults.refuse(Method::DELETE, CLUSTER_BINDINGS, "", 500);
    delete(hub, &name, &json!({}));
    hub.until("a beginning", |_| is_clearing(&world)).await;
    place_late(hub, &key);
    hub.until("no mark", |hub| !copy(hub).to_string().contains(&key))
        .await;
    hub.faults.relent();
    until_gone(hub).await;
    let records = tombstones(hub);
    assert_eq!(records.len(), 1, "{records:?}");
    assert_eq!(records[0]["reason"], "LeftBehind");
    let says = records[0]["message"].as_str().unwrap();
    assert!(says.contains(&key), "{says}");
    nothing_is_left(&world).await;
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_target_whose_mode_was_changed_last_keeps_its_syncer_until_its_copies_are_gone() {
    let world = World::start().await;
    let (name, key) = with_a_copy(&world).await;
    let hub = &world.hub;
    let external = json!({"spec": {"syncerConfig": {"mode": "External"}}});
    hub.patch("compute", TARGETS, &name, external);
    delete(hub, &name, &json!({}));
    hub.until("a mark", |hub| is_marked(hub, &key)).await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(world.syncers.running.lock().len(), 1, "its syncer works on");
    remove_copy(hub);
    until_gone(hub).await;
    nothing_is_left(&world).await;
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_still_has_copies_to_remove_is_repaired() {
    let world = World::start().await;
    let (name, key) = with_a_syncer(&world, "Deployment").await;
    let hub = &world.hub;
    place_late(hub, &key);
    delete(hub, &name, &json!({}));
    hub.until("a mark", |hub| is_marked(hub, &key)).await;
    let member = world.members.of("east");
    let agent = &member.all(HOME, DEPLOYMENTS)[0]["metadata"];
    let agent = ["namespace", "name"].map(|field| agent[field].as_str().unwrap().to_owned());
    member.delete(HOME, DEPLOYMENTS, &agent.join("/"));
    assert!(!is_made(&world, "Deployment"));
    hub.until("its agent", |_| is_made(&world, "Deployment"))
        .await;
    remove_copy(hub);
    until_gone(hub).await;
    nothing_is_left(&world).await;
    world.stop().await;
}

#[rstest]
#[case::force(json!({"force": true}))]
#[case::keep(json!({"keepWorkloads": true}))]
#[tokio::test(start_paused = true)]
async fn an_object_that_its_owner_holds_back_holds_up_no_removal(#[case] deletion: Value) {
    let world = World::start().await;
    let (name, key) = with_a_copy(&world).await;
    let hub = &world.hub;
    let mut finalizers = copy(hub)["metadata"]["finalizers"].clone();
    finalizers.as_array_mut().unwrap().push("x/y".into());
    let held = json!({"metadata": {"finalizers": finalizers}});
    hub.patch("demo", DEPLOYMENTS, "web/nginx", held);
    hub.delete("demo", DEPLOYMENTS, "web/nginx");
    delete(hub, &name, &deletion);
    until_gone(hub).await;
    let left = copy(hub);
    assert_eq!(left["metadata"]["finalizers"], json!(["x/y"]));
    assert!(!left.to_string().contains(&key), "{left}");
    world.stop().await;
}

#[rstest]
#[case::a_kind_that_is_not_served_any_more(404, json!({}), true)]
#[case::a_kind_that_cannot_be_asked_for(500, json!({}), false)]
#[case::nobody_waits_for_its_copies(500, json!({"force": true}), true)]
#[tokio::test(start_paused = true)]
async fn a_kind_that_cannot_be_listed_holds_up_only_who_waits_for_its_copies(
    #[case] code: u16,
    #[case] deletion: Value,
    #[case] goes: bool,
) {
    let world = World::start().await;
    let name = world.ready_east(&json!({})).await;
    let hub = &world.hub;
    hub.faults.refuse_lists(DEPLOYMENTS, code);
    delete(hub, &name, &deletion);
    if !goes {
        let waits = |_: &FakeHub| {
            let says = condition(&world.target(), "Ready").2;
            says.contains("does not say what has copies")
        };
        hub.until("a reason", waits).await;
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(world.syncers.running.lock().len(), 1, "its syncer works on");
        hub.faults.refuse_lists("", 0);
    }
    until_gone(hub).await;
    world.stop().await;
}
