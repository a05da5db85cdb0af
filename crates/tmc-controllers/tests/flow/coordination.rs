//! Objects on several targets, and objects whose target is lost.

use std::time::Duration;

use serde_json::{Value, json};
use tmc_api::hashes::sync_target_key;
use tmc_api::keys::{diff_annotation, spec_diff_annotation, state_label};
use tmc_controllers::coordination::spec_diff::share;

use crate::hub::FakeHub;
use crate::world::{World, deployment, namespace};
use crate::{DEPLOYMENTS, LOCATIONS, NAMESPACES, PLACEMENTS, TARGETS, name_of, placed, world};

const WEB: &str = "web/nginx";
const PROMOTED: &str = "##promoted##";

fn web(hub: &FakeHub) -> Value {
    hub.get("demo", DEPLOYMENTS, WEB).unwrap()
}

fn status(replicas: i64) -> Value {
    json!({"observedGeneration": 1, "replicas": replicas, "availableReplicas": replicas,
        "conditions": [{"type": "Available", "status": "True", "reason": "Enough", "message": "m",
            "lastTransitionTime": "2030-01-01T00:00:00Z"}]})
}

/// Puts down what a target says of the Deployment, as its view does.
fn record(hub: &FakeHub, key: &str, status: &Value) {
    let text = json!({"status": status}).to_string();
    let patch = json!({"metadata": {"annotations": {(diff_annotation(key)): text}}});
    hub.patch("demo", DEPLOYMENTS, WEB, patch);
}

fn recorded(hub: &FakeHub, key: &str) -> Value {
    let text = web(hub)["metadata"]["annotations"][diff_annotation(key)].clone();
    serde_json::from_str::<Value>(text.as_str().unwrap()).unwrap()["status"].clone()
}

fn available(hub: &FakeHub) -> (String, String, String) {
    let condition = web(hub)["status"]["conditions"][0].clone();
    assert_eq!(condition["type"], "Available");
    let text = |field: &str| condition[field].as_str().unwrap_or_default().to_owned();
    (text("status"), text("reason"), text("message"))
}

/// Silences a target, or all hear of it again.
fn silence(world: &World, key: Option<&str>) {
    let mut silent = world.syncers.silent.lock();
    silent.clear();
    if let Some(key) = key {
        let target = world.hub.get("compute", TARGETS, &name_of(world, key));
        let uid = target.unwrap()["metadata"]["uid"].clone();
        silent.push(uid.as_str().unwrap().to_owned());
    }
}

async fn quiet(world: &World) {
    let writes = |hub: &FakeHub| {
        let all = hub.writes();
        all.into_iter().filter(|w| w.contains(DEPLOYMENTS)).count()
    };
    tokio::time::sleep(Duration::from_secs(20)).await;
    let before = writes(&world.hub);
    tokio::time::sleep(Duration::from_secs(90)).await;
    assert_eq!(writes(&world.hub), before, "nothing more is written");
}

#[tokio::test(start_paused = true)]
async fn nobody_vouches_for_what_a_lost_target_runs_until_it_is_back() {
    let world = World::start().await;
    let (here, _) = placed(&world).await;
    let hub = &world.hub;
    record(hub, &here, &json!(PROMOTED));
    hub.patch_status("demo", DEPLOYMENTS, WEB, &status(2));
    quiet(&world).await;
    assert_eq!(web(hub)["status"], status(2), "all is well");

    silence(&world, Some(&here));
    hub.until("an unknown state", |hub| available(hub).0 == "Unknown")
        .await;
    let (_, reason, message) = available(hub);
    assert_eq!(reason, "TargetLost");
    assert!(
        message.starts_with("not heard from since 2030-01-01T"),
        "{message}"
    );
    assert_eq!(web(hub)["status"]["availableReplicas"], 2, "figures stay");
    assert_eq!(recorded(hub, &here), status(2), "and so does what it said");
    quiet(&world).await;

    silence(&world, None);
    hub.until("the restored status", |hub| {
        web(hub)["status"] == status(2) && recorded(hub, &here) == PROMOTED
    })
    .await;
    quiet(&world).await;

    // A restart of the hub loses nobody.
    let before = web(&world.hub)["metadata"]["resourceVersion"].clone();
    let world = world.restart().await;
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!(web(&world.hub)["metadata"]["resourceVersion"], before);
    world.stop().await;
}

fn location(name: &str) -> Value {
    json!({
        "apiVersion": "scheduling.kcp.io/v1alpha1", "kind": "Location",
        "metadata": {"name": name, "labels": {"location": name}},
        "spec": {"instanceSelector": {"matchLabels": {"location": name}}},
    })
}

/// A Deployment on two targets, by one Placement for each: gives their keys.
async fn on_two(world: &World) -> [String; 2] {
    let hub = &world.hub;
    hub.grant("demo", "compute");
    hub.create("demo", NAMESPACES, namespace("web"));
    hub.create("demo", DEPLOYMENTS, deployment("web", "nginx"));
    for name in ["east", "west"] {
        hub.create("compute", LOCATIONS, location(name));
        world.register("compute", name, &json!({"location": name}));
        let mut placement = world::placement("root:compute");
        placement["metadata"]["name"] = name.into();
        placement["spec"]["locationSelectors"] = json!([{"matchLabels": {"location": name}}]);
        hub.create("demo", PLACEMENTS, placement);
    }
    let keys = |hub: &FakeHub| -> Vec<String> {
        let targets = hub.all("compute", TARGETS);
        let names = targets
            .iter()
            .map(|t| t["metadata"]["name"].as_str().unwrap());
        names.map(|name| sync_target_key("compute", name)).collect()
    };
    hub.until("a Deployment on both", |hub| {
        let keys = keys(hub);
        keys.len() == 2
            && keys
                .iter()
                .all(|key| world::state(hub, DEPLOYMENTS, WEB, key))
    })
    .await;
    keys(hub).try_into().unwrap()
}

#[tokio::test(start_paused = true)]
async fn what_two_targets_say_becomes_one_status_and_a_lost_one_counts_as_unknown() {
    let world = World::start().await;
    let [one, other] = on_two(&world).await;
    let hub = &world.hub;
    // The first was alone when it reported.
    hub.patch_status("demo", DEPLOYMENTS, WEB, &status(2));
    record(hub, &one, &json!(PROMOTED));
    hub.until("what is not known yet", |hub| available(hub).0 == "Unknown")
        .await;
    assert_eq!(recorded(hub, &one), status(2), "its report is kept");
    assert_eq!(
        available(hub).2,
        "1 of 2 places: NotReported: not reported yet"
    );
    assert_eq!(web(hub)["status"].get("observedGeneration"), None);

    record(hub, &other, &status(1));
    hub.until("both", |hub| web(hub)["status"] == status(3))
        .await;
    quiet(&world).await;

    silence(&world, Some(&other));
    hub.until("a lost target", |hub| available(hub).1 == "TargetLost")
        .await;
    let (_, _, message) = available(hub);
    assert!(
        message.starts_with("1 of 2 places: TargetLost: not heard from since"),
        "{message}"
    );
    assert!(
        !web(hub)["status"].to_string().contains("west"),
        "no target is named"
    );
    assert_eq!(web(hub)["status"]["availableReplicas"], 2);
    quiet(&world).await;

    silence(&world, None);
    hub.until("both again", |hub| available(hub).0 == "True")
        .await;
    assert_eq!(web(hub)["status"]["availableReplicas"], 3);
    quiet(&world).await;
    world.stop().await;
}

/// The share of each target in a version of the Deployment; `None` for one that runs all.
fn shares(web: &Value, keys: &[String]) -> Vec<Option<u64>> {
    let annotation =
        |key: &String| web["metadata"]["annotations"][spec_diff_annotation(key)].as_str();
    keys.iter().map(|key| share(annotation(key))).collect()
}

#[tokio::test(start_paused = true)]
async fn replicas_are_divided_before_any_target_sees_them() {
    let world = World::start().await;
    let hub = &world.hub;
    hub.grant("demo", "compute");
    hub.create("demo", NAMESPACES, namespace("web"));
    for name in ["east", "west"] {
        world.register("compute", name, &json!({}));
    }
    hub.until("two ready targets", |hub| {
        hub.all("compute", TARGETS)
            .iter()
            .filter(|t| world::ready(t))
            .count()
            == 2
    })
    .await;
    let mut placement = world::placement("root:compute");
    placement["spec"]["targets"] = 2.into();
    placement["spec"]["replicas"] = "Divided".into();
    hub.create("demo", PLACEMENTS, placement);
    let mut object = deployment("web", "nginx");
    object["spec"] = json!({"replicas": 5});
    let mut seen = hub.changes();
    hub.create("demo", DEPLOYMENTS, object);
    let targets = hub.all("compute", TARGETS);
    let names = targets
        .iter()
        .map(|t| t["metadata"]["name"].as_str().unwrap());
    let mut keys: Vec<String> = names.map(|name| sync_target_key("compute", name)).collect();
    keys.sort();
    hub.until("a Deployment on both", |hub| {
        keys.iter()
            .all(|key| world::state(hub, DEPLOYMENTS, WEB, key))
    })
    .await;
    assert_eq!(shares(&web(hub), &keys), [Some(3), Some(2)]);
    seen.retain_new(hub, DEPLOYMENTS);
    assert!(seen.seen().contains(&web(hub)));
    for version in seen.seen() {
        let sees = |key: &&String| !version["metadata"]["labels"][state_label(key)].is_null();
        for key in keys.iter().filter(sees) {
            assert_ne!(
                shares(version, std::slice::from_ref(key)),
                [None],
                "{version}"
            );
        }
    }
    quiet(&world).await;

    let scale = |replicas: i64| {
        hub.patch(
            "demo",
            DEPLOYMENTS,
            WEB,
            json!({"spec": {"replicas": replicas}}),
        );
    };
    scale(6);
    hub.until("one more", |hub| {
        shares(&web(hub), &keys) == [Some(3), Some(3)]
    })
    .await;
    scale(5);
    hub.until("one less", |hub| {
        shares(&web(hub), &keys) == [Some(3), Some(2)]
    })
    .await;

    let mode = |mode: &str| hub.patch("demo", PLACEMENTS, "p", json!({"spec": {"replicas": mode}}));
    mode("Duplicated");
    hub.until("all everywhere", |hub| {
        shares(&web(hub), &keys) == [None, None]
    })
    .await;
    mode("Divided");
    hub.until("divided again", |hub| {
        shares(&web(hub), &keys) == [Some(3), Some(2)]
    })
    .await;
    quiet(&world).await;
    world.stop().await;
}
