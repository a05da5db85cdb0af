//! How SyncTargets go: in order, by force, and leaving their copies.

use std::sync::atomic::Ordering;
use std::time::Duration;

use http::Method;
use rstest::rstest;
use serde_json::{Value, json};
use tmc_api::agent::AgentId;
use tmc_api::hashes::sync_target_key;
use tmc_apimachinery::ClusterName;
use tmc_controllers::heartbeat::TargetId;

use crate::hub::FakeHub;
use crate::member::HOME;
use crate::world::{World, beat, condition, deployment, namespace, placement};
use crate::{
    ACCOUNTS, CLUSTER_BINDINGS, CLUSTER_ROLES, CLUSTERS, DEPLOYMENTS, EVENTS, NAMESPACES,
    PLACEMENTS, SECRETS, TARGETS,
};

/// `east` in `compute` with a Deployment of `demo` on it, of which its agent holds a copy: gives the
/// name of the SyncTarget and its key.
pub(crate) async fn with_a_copy(world: &World) -> (String, String) {
    let hub = &world.hub;
    let name = world.ready_east(&json!({})).await;
    let key = sync_target_key("compute", &name);
    hub.grant("demo", "compute");
    hub.create("demo", NAMESPACES, namespace("web"));
    hub.create("demo", DEPLOYMENTS, deployment("web", "nginx"));
    hub.create("demo", PLACEMENTS, placement("root:compute"));
    hub.until("a labelled Deployment", |hub| {
        crate::world::state(hub, DEPLOYMENTS, "web/nginx", &key)
    })
    .await;
    let finalizer = format!("workload.kcp.io/syncer-{key}");
    hub.patch(
        "demo",
        DEPLOYMENTS,
        "web/nginx",
        json!({"metadata": {"finalizers": [finalizer]}}),
    );
    (name, key)
}

pub(crate) fn copy(hub: &FakeHub) -> Value {
    hub.get("demo", DEPLOYMENTS, "web/nginx").unwrap()
}

pub(crate) fn is_marked(hub: &FakeHub, key: &str) -> bool {
    let mark = format!("deletion.internal.workload.kcp.io/{key}");
    !copy(hub)["metadata"]["annotations"][mark].is_null()
}

fn events(hub: &FakeHub, reason: &str) -> Vec<Value> {
    let events = hub.all("compute", EVENTS);
    events
        .into_iter()
        .filter(|e| e["reason"] == reason)
        .collect()
}

/// The data of the records of removals.
pub(crate) fn tombstones(hub: &FakeHub) -> Vec<Value> {
    let all = hub.all("compute", CONFIG_MAPS).into_iter();
    let marked = all.filter(|o| o["metadata"]["labels"]["tmc.kcp.io/tombstone"] == "true");
    marked.map(|mut o| o["data"].take()).collect()
}

pub(crate) fn delete(hub: &FakeHub, name: &str, deletion: &Value) {
    hub.patch(
        "compute",
        TARGETS,
        name,
        json!({"spec": {"deletion": deletion}}),
    );
    // A Cluster would make another at once.
    hub.delete("compute", CLUSTERS, "default/east");
    hub.delete("compute", TARGETS, name);
}

#[tokio::test(start_paused = true)]
async fn a_target_waits_for_its_copies_and_then_takes_its_account_along() {
    let world = World::start().await;
    let (name, key) = with_a_copy(&world).await;
    let hub = &world.hub;
    let member = world.members.of("east");
    let agent = AgentId::new(
        "compute",
        &name,
        world.target()["metadata"]["uid"].as_str().unwrap(),
    );
    delete(hub, &name, &json!({}));
    hub.until("a mark", |hub| is_marked(hub, &key)).await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    let target = world.target();
    assert_eq!(target["status"]["phase"], "Terminating");
    let (_, reason, message) = condition(&target, "Ready");
    assert_eq!(reason, "Terminating");
    assert!(message.contains("1 objects still have copies"), "{message}");
    assert_eq!(world.syncers.running.lock().len(), 1, "its syncer works on");
    assert!(member.get(HOME, CLUSTER_ROLES, &agent.name()).is_some());
    // The agent has removed its copy.
    hub.patch(
        "demo",
        DEPLOYMENTS,
        "web/nginx",
        json!({"metadata": {"finalizers": null}}),
    );
    until_gone(hub).await;
    assert!(hub.all("compute", TARGETS).is_empty());
    assert!(world.syncers.running.lock().is_empty());
    assert!(member.all(HOME, CLUSTER_ROLES).is_empty());
    assert!(member.all(HOME, ACCOUNTS).is_empty());
    assert!(member.all(HOME, NAMESPACES).is_empty());
    assert!(events(hub, "ForcedRemoval").is_empty());
    assert!(events(hub, "LeftBehind").is_empty());
    assert!(tombstones(hub).is_empty());
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn force_removes_a_target_whose_member_is_gone_for_good_and_leaves_a_tombstone() {
    let world = World::start().await;
    let (name, key) = with_a_copy(&world).await;
    let hub = &world.hub;
    world.members.silence("east", true);
    // The SyncTarget alone: its Cluster stays, and keeps the tombstone.
    hub.patch(
        "compute",
        TARGETS,
        &name,
        json!({"spec": {"deletion": {"force": true}}}),
    );
    let uid = world.target()["metadata"]["uid"].clone();
    hub.delete("compute", TARGETS, &name);
    hub.until("another one, or none", |hub| {
        hub.all("compute", TARGETS)
            .iter()
            .all(|t| t["metadata"]["uid"] != uid)
    })
    .await;
    assert!(
        copy(hub)["metadata"]["finalizers"]
            .as_array()
            .is_none_or(Vec::is_empty)
    );
    let told = events(hub, "ForcedRemoval");
    assert_eq!(told.len(), 1);
    let message = told[0]["message"].as_str().unwrap();
    assert!(
        message.contains("1 objects") && message.contains(&key),
        "{message}"
    );
    assert_eq!(
        events(hub, "LeftBehind").len(),
        1,
        "what is in the member is recorded"
    );
    let records = tombstones(hub);
    assert_eq!(records.len(), 1, "{records:?}");
    assert_eq!(records[0]["reason"], "ForcedRemoval");
    let cluster = hub.get("compute", CLUSTERS, "default/east").unwrap();
    let tombstone = cluster["metadata"]["annotations"]["tmc.kcp.io/tombstone"]
        .as_str()
        .unwrap();
    assert!(tombstone.contains(uid.as_str().unwrap()), "{tombstone}");
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn kept_workloads_lose_their_marks_without_ever_being_asked_to_go() {
    let world = World::start().await;
    let (name, key) = with_a_copy(&world).await;
    let hub = &world.hub;
    let mut changes = hub.changes();
    delete(hub, &name, &json!({"keepWorkloads": true}));
    until_gone(hub).await;
    let object = copy(hub);
    assert!(!object.to_string().contains(&key), "{object}");
    let mark = format!("deletion.internal.workload.kcp.io/{key}");
    changes.retain_new(hub, DEPLOYMENTS);
    for version in changes.seen() {
        let asked = !version["metadata"]["annotations"][&mark].is_null();
        assert!(
            !asked,
            "the agent was asked to remove a copy that stays: {version}"
        );
    }
    assert!(events(hub, "ForcedRemoval").is_empty());
    world.stop().await;
}

#[rstest]
#[case::keep(json!({"keepWorkloads": true}), true)]
#[case::force(json!({"force": true}), false)]
#[tokio::test(start_paused = true)]
async fn a_syncer_that_is_at_something_is_waited_for_and_by_force_not_for_ever(
    #[case] deletion: Value,
    #[case] waits: bool,
) {
    let world = World::start().await;
    let (name, key) = with_a_copy(&world).await;
    let hub = &world.hub;
    world.syncers.busy.store(true, Ordering::Relaxed);
    delete(hub, &name, &deletion);
    tokio::time::sleep(Duration::from_secs(30)).await;
    let has_marks = || copy(hub).to_string().contains(&key);
    assert!(has_marks(), "they are still its own");
    let (_, _, why) = condition(&world.target(), "Ready");
    assert!(why.contains("finishes what it has begun"), "{why}");
    if waits {
        tokio::time::sleep(Duration::from_secs(300)).await;
        assert!(has_marks());
        world.syncers.busy.store(false, Ordering::Relaxed);
    }
    until_gone(hub).await;
    assert!(!has_marks());
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_silent_member_does_not_hold_up_a_removal_for_ever() {
    let world = World::start().await;
    let name = world.ready_east(&json!({})).await;
    let hub = &world.hub;
    world.members.silence("east", true);
    let start = tokio::time::Instant::now();
    delete(hub, &name, &json!({}));
    let mut waited = false;
    while hub.get("compute", CLUSTERS, "default/east").is_some() {
        tokio::time::sleep(Duration::from_secs(1)).await;
        waited |= start.elapsed() > Duration::from_secs(60);
        assert!(start.elapsed() < Duration::from_secs(300), "it must end");
    }
    assert!(waited, "the member is asked again for a while");
    let left = events(hub, "LeftBehind");
    assert_eq!(left.len(), 1);
    assert!(
        left[0]["message"]
            .as_str()
            .unwrap()
            .contains("tmc.kcp.io/synctarget-uid=")
    );
    let records = tombstones(hub);
    assert_eq!(records.len(), 1, "{records:?}");
    assert_eq!(records[0]["reason"], "LeftBehind");
    assert_eq!(records[0]["syncTarget"], *name);
    world.stop().await;
}

#[rstest]
#[tokio::test(start_paused = true)]
async fn nothing_is_given_up_before_its_record_is_made_which_is_made_once(
    #[values(true, false)] the_hub_restarts: bool,
) {
    let mut world = World::start().await;
    let (_, key) = with_a_copy(&world).await;
    let target = world.target();
    world.members.silence("east", true);
    world.hub.faults.refuse(Method::POST, CONFIG_MAPS, "", 500);
    let how = json!({"spec": {"deletion": {"force": true}}});
    world.hub.patch("compute", CLUSTERS, "default/east", how);
    world.hub.delete("compute", CLUSTERS, "default/east");
    let says = |_: &FakeHub| condition(&world.target(), "Ready").2;
    let waits = |hub: &FakeHub| says(hub).contains("the record of what stays in the member");
    world.hub.until("a reason", waits).await;
    if the_hub_restarts {
        world = world.restart().await;
    }
    let hub = &world.hub;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(copy(hub).to_string().contains(&key), "its marks stay");
    assert!(tombstones(hub).is_empty());
    let tries = hub.faults.relent();
    assert!((2..=30).contains(&tries.len()), "not hot: {tries:?}");
    until_gone(hub).await;
    assert!(!copy(hub).to_string().contains(&key));
    let records = tombstones(hub);
    assert_eq!(records.len(), 1, "{records:?}");
    let record = &records[0];
    assert_eq!(record["uid"], target["metadata"]["uid"]);
    assert_eq!(record["cluster"], "east");
    assert_eq!(
        (&record["key"], &record["objects"]),
        (&key.into(), &"1".into())
    );
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_config_map_that_has_the_name_of_the_record_does_not_stand_for_it() {
    let world = World::start().await;
    let (name, _) = with_a_copy(&world).await;
    let hub = &world.hub;
    let uid = world.target()["metadata"]["uid"].clone();
    let taken = format!("tombstone-{}", uid.as_str().unwrap());
    let held = json!({
        "metadata": {"name": taken, "namespace": "default", "finalizers": ["x/y"]},
        "data": {"uid": uid},
    });
    hub.create("compute", CONFIG_MAPS, held);
    hub.delete("compute", CONFIG_MAPS, &format!("default/{taken}"));
    delete(hub, &name, &json!({"force": true}));
    until_gone(hub).await;
    let records = tombstones(hub);
    assert_eq!(records.len(), 1, "{records:?}");
    assert_eq!(
        (&records[0]["uid"], &records[0]["syncTarget"]),
        (&uid, &name.into())
    );
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_syncer_works_on_when_force_is_taken_back_in_time() {
    let world = World::start().await;
    let (name, key) = with_a_copy(&world).await;
    let hub = &world.hub;
    hub.faults.refuse(Method::POST, CONFIG_MAPS, "", 500);
    delete(hub, &name, &json!({"force": true}));
    hub.until("a stop", |_| world.syncers.running.lock().is_empty())
        .await;
    let orderly = json!({"spec": {"deletion": {"force": false}}});
    hub.patch("compute", TARGETS, &name, orderly);
    hub.until("its syncer", |_| world.syncers.running.lock().len() == 1)
        .await;
    hub.until("a mark", |hub| is_marked(hub, &key)).await;
    hub.faults.relent();
    let removed = json!({"metadata": {"finalizers": null}});
    hub.patch("demo", DEPLOYMENTS, "web/nginx", removed);
    until_gone(hub).await;
    assert!(tombstones(hub).is_empty());
    nothing_is_left(&world).await;
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_left_in_a_silent_member_is_recorded_before_the_target_goes() {
    let world = World::start().await;
    let name = world.ready_east(&json!({})).await;
    let hub = &world.hub;
    world.members.silence("east", true);
    hub.faults.refuse(Method::POST, CONFIG_MAPS, "", 403);
    delete(hub, &name, &json!({}));
    tokio::time::sleep(Duration::from_secs(600)).await;
    let says = condition(&world.target(), "Ready").2;
    assert!(says.contains("the record of what stays"), "{says}");
    hub.faults.relent();
    until_gone(hub).await;
    assert_eq!(tombstones(hub).len(), 1);
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_a_stranger_has_in_the_member_is_never_removed() {
    let world = World::start().await;
    let name = world.ready_east(&json!({})).await;
    let hub = &world.hub;
    let member = world.members.of("east");
    let agent = AgentId::new(
        "compute",
        &name,
        world.target()["metadata"]["uid"].as_str().unwrap(),
    );
    // The label alone proves nothing.
    member.create(
        HOME,
        CLUSTER_ROLES,
        json!({"metadata": {"name": "theirs", "labels": agent.labels()}}),
    );
    delete(hub, &name, &json!({}));
    until_gone(hub).await;
    let left: Vec<Value> = member.all(HOME, CLUSTER_ROLES);
    assert_eq!(left.len(), 1);
    assert_eq!(left[0]["metadata"]["name"], "theirs");
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_member_of_a_cluster_that_somebody_else_holds_back_is_visited_no_more() {
    const OTHER: &str = "example.com/backup";
    const EAST: &str = "default/east";
    let world = World::start().await;
    world.ready_east(&json!({})).await;
    let hub = &world.hub;
    let finalizers = |hub: &FakeHub| {
        let cluster = hub.get("compute", CLUSTERS, EAST).unwrap();
        cluster["metadata"]["finalizers"].clone()
    };
    let mut both = finalizers(hub);
    both.as_array_mut().unwrap().push(OTHER.into());
    let held = json!({"metadata": {"finalizers": both}});
    hub.patch("compute", CLUSTERS, EAST, held);
    hub.delete("compute", CLUSTERS, EAST);
    hub.until("only the other finalizer", |hub| {
        finalizers(hub) == json!([OTHER])
    })
    .await;
    nothing_is_left(&world).await;
    world.stop().await;
}

pub(crate) async fn until_gone(hub: &FakeHub) {
    hub.until("no Cluster", |hub| {
        hub.get("compute", CLUSTERS, "default/east").is_none()
    })
    .await;
}

const CONFIG_MAPS: &str = "configmaps/";
const MADE: [&str; 6] = [
    ACCOUNTS,
    CLUSTER_ROLES,
    CLUSTER_BINDINGS,
    DEPLOYMENTS,
    "roles/rbac.authorization.k8s.io",
    "rolebindings/rbac.authorization.k8s.io",
];

/// Nothing is left of what was made for a target or its Cluster: in `compute`, in memory, and in
/// `east`, unless an Event says that something was left behind there.
pub(crate) async fn nothing_is_left(world: &World) {
    let member = world.members.of("east");
    let told = !events(&world.hub, "LeftBehind").is_empty();
    for resource in MADE.iter().chain(&[SECRETS, NAMESPACES]) {
        let left = member.all(HOME, resource);
        assert!(told || left.is_empty(), "in the member: {left:?}");
    }
    for resource in MADE.iter().chain(&[TARGETS]) {
        let left = world.hub.all("compute", resource);
        assert_eq!(left, [] as [Value; 0], "on the hub");
    }
    assert!(world.syncers.running.lock().is_empty());
    // Visits under way end, and find nobody to tell.
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(world.handle.remembered(), []);
    assert!(world.beats.is_empty());
}

/// Whether the syncer of the only target is there, in its mode.
pub(crate) fn is_made(world: &World, mode: &str) -> bool {
    match mode {
        "Hosted" => world.syncers.running.lock().len() == 1,
        "Deployment" => !world.members.of("east").all(HOME, DEPLOYMENTS).is_empty(),
        _ => !world.hub.all("compute", CLUSTER_BINDINGS).is_empty(),
    }
}

#[rstest]
#[tokio::test(start_paused = true)]
async fn after_a_deletion_nothing_is_left_anywhere_in_any_mode(
    #[values("Hosted", "Deployment", "External")] mode: &str,
    #[values(json!({}), json!({"force": true}), json!({"keepWorkloads": true}))] deletion: Value,
    #[values(true, false)] with_its_cluster: bool,
) {
    let world = World::start().await;
    let hub = &world.hub;
    let spec = json!({"syncTargetTemplate": {"syncerConfig": {"mode": mode}}});
    world.register("compute", "east", &spec);
    hub.until("a syncer", |_| is_made(&world, mode)).await;
    let target = world.target();
    let text = |field: &str| target["metadata"][field].as_str().unwrap().to_owned();
    let id = TargetId::new(&ClusterName::new("compute"), &text("name"), &text("uid"));
    world.beats.record(&id, beat(world.clock.now()));
    if with_its_cluster {
        let how = json!({"spec": {"deletion": deletion}});
        hub.patch("compute", CLUSTERS, "default/east", how);
        hub.delete("compute", CLUSTERS, "default/east");
    } else {
        delete(hub, &id.name, &deletion);
    }
    until_gone(hub).await;
    assert!(events(hub, "LeftBehind").is_empty());
    let records = usize::from(deletion["force"] == true);
    assert_eq!(tombstones(hub).len(), records, "by force alone");
    nothing_is_left(&world).await;
    world.stop().await;
}

#[rstest]
#[case::hosted("Hosted")]
#[case::deployment("Deployment")]
#[tokio::test(start_paused = true)]
async fn a_target_that_somebody_else_holds_gets_nothing_anew(#[case] mode: &str) {
    let world = World::start().await;
    let hub = &world.hub;
    let spec = json!({"syncTargetTemplate": {"syncerConfig": {"mode": mode}}});
    world.register("compute", "east", &spec);
    hub.until("a syncer", |_| is_made(&world, mode)).await;
    let target = world.target();
    let name = target["metadata"]["name"].as_str().unwrap();
    let mut finalizers = target["metadata"]["finalizers"].clone();
    finalizers.as_array_mut().unwrap().push("x/y".into());
    let held = json!({"metadata": {"finalizers": finalizers}});
    hub.patch("compute", TARGETS, name, held);
    hub.delete("compute", TARGETS, name);
    hub.until("the end of our part", |_| {
        world.target()["metadata"]["finalizers"] == json!(["x/y"])
    })
    .await;
    // Longer than anything is left as it is without being looked at again.
    tokio::time::sleep(Duration::from_secs(800)).await;
    assert!(world.syncers.running.lock().is_empty());
    let member = world.members.of("east");
    for resource in [
        ACCOUNTS,
        CLUSTER_ROLES,
        CLUSTER_BINDINGS,
        DEPLOYMENTS,
        NAMESPACES,
    ] {
        assert_eq!(member.all(HOME, resource), [] as [Value; 0], "{resource}");
    }
    assert_eq!(world.target()["status"]["phase"], "Terminating");
    hub.delete("compute", CLUSTERS, "default/east");
    hub.patch(
        "compute",
        TARGETS,
        name,
        json!({"metadata": {"finalizers": null}}),
    );
    until_gone(hub).await;
    nothing_is_left(&world).await;
    world.stop().await;
}
