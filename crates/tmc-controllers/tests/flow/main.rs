//! All controllers together, against a small hub and in virtual time: what users do, and what
//! targets are to see of it.

#![allow(clippy::unwrap_used)]

mod accounts;
mod agents;
mod coordination;
mod eviction;
mod faults;
mod histories;
mod hub;
mod late_marks;
mod logs;
mod member;
mod registration;
mod removal;
mod storms;
mod targets;
mod world;

use serde_json::json;
use tmc_api::hashes::sync_target_key;
use tmc_api::keys::{deletion_annotation, state_label, syncer_finalizer};
use world::{World, deployment, namespace};

const TARGETS: &str = "synctargets/workload.kcp.io";
const CLUSTERS: &str = "clusters/workload.kcp.io";
const LOCATIONS: &str = "locations/scheduling.kcp.io";
const PLACEMENTS: &str = "placements/scheduling.kcp.io";
const NAMESPACES: &str = "namespaces/";
const DEPLOYMENTS: &str = "deployments/apps";
const SECRETS: &str = "secrets/";
const EVENTS: &str = "events/";
const ACCOUNTS: &str = "serviceaccounts/";
const CLUSTER_ROLES: &str = "clusterroles/rbac.authorization.k8s.io";
const ROLES: &str = "roles/rbac.authorization.k8s.io";
const BINDINGS: &str = "rolebindings/rbac.authorization.k8s.io";
const LEASES: &str = "leases/coordination.k8s.io";
const CLUSTER_BINDINGS: &str = "clusterrolebindings/rbac.authorization.k8s.io";

#[tokio::test(start_paused = true)]
async fn from_a_registered_kubeconfig_to_a_labelled_deployment() {
    let world = World::start().await;
    let hub = &world.hub;
    world.register("compute", "east", &json!({"location": "east"}));
    hub.until("a SyncTarget", |hub| hub.all("compute", TARGETS).len() == 1)
        .await;
    hub.until("a ready SyncTarget", |hub| {
        world::ready(&hub.all("compute", TARGETS)[0])
    })
    .await;
    hub.until("a ready Cluster", |hub| {
        world::ready(&hub.all("compute", CLUSTERS)[0])
    })
    .await;
    let target = hub.all("compute", TARGETS).remove(0);
    let name = target["metadata"]["name"].as_str().unwrap();
    let key = sync_target_key("compute", name);
    assert_eq!(
        target["metadata"]["labels"]["internal.workload.kcp.io/key"],
        *key
    );
    assert_eq!(target["metadata"]["labels"]["location"], "east");
    assert_eq!(target["status"]["phase"], "Ready");
    let location = hub
        .get("compute", LOCATIONS, "default")
        .expect("the first Location");
    assert_eq!(location["spec"]["instanceSelector"], json!({}));
    hub.until("an available instance", |hub| {
        hub.get("compute", LOCATIONS, "default").unwrap()["status"]["availableInstances"] == 1
    })
    .await;

    hub.grant("demo", "compute");
    hub.create("demo", NAMESPACES, namespace("web"));
    hub.create("demo", DEPLOYMENTS, deployment("web", "nginx"));
    hub.create("demo", PLACEMENTS, world::placement("root:compute"));
    hub.until("a labelled Deployment", |hub| {
        world::state(hub, DEPLOYMENTS, "web/nginx", &key)
    })
    .await;
    let placement = hub.get("demo", PLACEMENTS, "p").unwrap();
    assert_eq!(placement["status"]["phase"], "Bound", "{placement}");
    assert_eq!(
        placement["status"]["selectedLocation"],
        json!({"path": "root:compute", "locationName": "default"})
    );
    assert_eq!(
        placement["metadata"]["annotations"]["internal.workload.kcp.io/synctarget"],
        *key
    );
    let namespace = hub.get("demo", NAMESPACES, "web").unwrap();
    assert_eq!(
        namespace["metadata"]["annotations"]["scheduling.kcp.io/placement"],
        ""
    );
    world.stop().await;
}

/// Two members `east` and `west` in `compute`, `demo` placed on one of them: gives the keys of that
/// one and the other.
async fn placed(world: &World) -> (String, String) {
    let hub = &world.hub;
    hub.grant("demo", "compute");
    hub.create("demo", NAMESPACES, namespace("web"));
    hub.create("demo", DEPLOYMENTS, deployment("web", "nginx"));
    world.register("compute", "east", &json!({}));
    world.register("compute", "west", &json!({}));
    hub.until("two ready targets", |hub| {
        hub.all("compute", TARGETS)
            .iter()
            .filter(|target| world::ready(target))
            .count()
            == 2
    })
    .await;
    hub.create("demo", PLACEMENTS, world::placement("root:compute"));
    hub.until("a bound Placement", |hub| {
        hub.get("demo", PLACEMENTS, "p").unwrap()["status"]["phase"] == "Bound"
    })
    .await;
    let placement = hub.get("demo", PLACEMENTS, "p").unwrap();
    let here = placement["status"]["syncTargets"][0]["key"]
        .as_str()
        .unwrap()
        .to_owned();
    let names = hub.all("compute", TARGETS);
    let keys = names
        .iter()
        .map(|t| sync_target_key("compute", t["metadata"]["name"].as_str().unwrap()));
    let other = keys.into_iter().find(|key| *key != here).unwrap();
    hub.until("a labelled Deployment", |hub| {
        world::state(hub, DEPLOYMENTS, "web/nginx", &here)
    })
    .await;
    (here, other)
}

fn name_of(world: &World, key: &str) -> String {
    world::name_of(&world.hub, key)
}

#[tokio::test(start_paused = true)]
async fn once_all_is_in_place_beats_write_nothing() {
    let world = World::start().await;
    placed(&world).await;
    // Discovery and probes are over, too.
    tokio::time::sleep(std::time::Duration::from_secs(90)).await;
    let before = world.hub.writes();
    tokio::time::sleep(std::time::Duration::from_secs(180)).await;
    assert_eq!(world.hub.writes()[before.len()..], [] as [String; 0]);
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_silent_target_is_noticed_without_an_event_and_keeps_its_placement() {
    let world = World::start().await;
    let (here, _) = placed(&world).await;
    let name = name_of(&world, &here);
    let uid = world.hub.get("compute", TARGETS, &name).unwrap()["metadata"]["uid"].clone();
    world
        .syncers
        .silent
        .lock()
        .push(uid.as_str().unwrap().to_owned());
    let start = tokio::time::Instant::now();
    world
        .hub
        .until("a lost target", |hub| {
            hub.get("compute", TARGETS, &name).unwrap()["status"]["phase"] == "NotReady"
        })
        .await;
    let seconds = start.elapsed().as_secs();
    assert!((20..=31).contains(&seconds), "{seconds}");
    tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    let placement = world.hub.get("demo", PLACEMENTS, "p").unwrap();
    assert_eq!(placement["status"]["syncTargets"][0]["key"], *here);
    assert!(world::state(&world.hub, DEPLOYMENTS, "web/nginx", &here));
    world.syncers.silent.lock().clear();
    world
        .hub
        .until("the target back", |hub| {
            world::ready(&hub.get("compute", TARGETS, &name).unwrap())
        })
        .await;
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_unregistered_cluster_takes_its_target_and_all_marks_along() {
    let world = World::start().await;
    let (here, other) = placed(&world).await;
    let hub = &world.hub;
    let finalizer = format!("workload.kcp.io/syncer-{here}");
    hub.patch(
        "demo",
        DEPLOYMENTS,
        "web/nginx",
        json!({"metadata": {"finalizers": [finalizer, "x/y"]}}),
    );
    let name = name_of(&world, &here);
    let cluster = name.rsplit_once('-').unwrap().0.to_owned();
    hub.patch(
        "compute",
        CLUSTERS,
        &format!("default/{cluster}"),
        json!({"spec": {"deletion": {"force": true}}}),
    );
    hub.delete("compute", CLUSTERS, &format!("default/{cluster}"));
    hub.until("no Cluster", |hub| {
        hub.get("compute", CLUSTERS, &format!("default/{cluster}"))
            .is_none()
    })
    .await;
    assert!(hub.get("compute", TARGETS, &name).is_none());
    assert_eq!(world.syncers.running.lock().len(), 1);
    hub.until("the other target", |hub| {
        world::state(hub, DEPLOYMENTS, "web/nginx", &other)
    })
    .await;
    hub.until("no trace", |hub| {
        let object = hub.get("demo", DEPLOYMENTS, "web/nginx").unwrap();
        !object.to_string().contains(&here) && object["metadata"]["finalizers"] == json!(["x/y"])
    })
    .await;
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_refused_workspace_is_told_the_remedy_and_served_once_it_is_granted() {
    let world = World::start().await;
    let hub = &world.hub;
    world.register("compute", "east", &json!({}));
    hub.create("demo", NAMESPACES, namespace("web"));
    hub.create("demo", PLACEMENTS, world::placement("root:compute"));
    let scheduled = |hub: &hub::FakeHub| {
        let placement = hub.get("demo", PLACEMENTS, "p").unwrap();
        let list = placement["status"]["conditions"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        list.into_iter()
            .find(|c| c["type"] == "Scheduled")
            .unwrap_or_default()
    };
    hub.until("a refusal", |hub| {
        scheduled(hub)["reason"] == "LocationForbidden"
    })
    .await;
    let message = scheduled(hub)["message"].as_str().unwrap().to_owned();
    assert!(
        message.contains("tmc workspace grant root:compute --workspace root:demo --role use"),
        "{message}"
    );
    tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    hub.grant("demo", "compute");
    let start = tokio::time::Instant::now();
    hub.until("scheduled", |hub| scheduled(hub)["status"] == "True")
        .await;
    assert!(start.elapsed().as_secs() <= 6, "{:?}", start.elapsed());
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_bad_kubeconfig_is_a_condition_and_a_good_one_heals_it() {
    let world = World::start().await;
    let hub = &world.hub;
    world.register("compute", "east", &json!({}));
    hub.until("ready", |hub| {
        world::ready(&hub.all("compute", CLUSTERS)[0])
    })
    .await;
    let reason = |hub: &hub::FakeHub| {
        let cluster = hub.get("compute", CLUSTERS, "default/east").unwrap();
        let list = cluster["status"]["conditions"].as_array().unwrap().clone();
        let ready = list.into_iter().find(|c| c["type"] == "Ready").unwrap();
        ready["reason"].as_str().unwrap_or_default().to_owned()
    };
    for (data, expected) in [
        (
            json!({"data": {"kubeconfig": null, "other": "YQ=="}}),
            "InvalidCredentials",
        ),
        (
            json!({"data": world::kubeconfig_secret("s", "east", "wrong")["data"]}),
            "Unauthorized",
        ),
        (
            json!({"data": world::kubeconfig_secret("s", "east", "right")["data"]}),
            "",
        ),
    ] {
        hub.patch("compute", SECRETS, "default/east-kubeconfig", data);
        let start = tokio::time::Instant::now();
        hub.until(expected, |hub| reason(hub) == expected).await;
        // Sooner than the next probe: the Secret is watched.
        assert!(start.elapsed().as_secs() < 30, "{:?}", start.elapsed());
        let syncers = world.syncers.running.lock().len();
        assert_eq!(syncers, usize::from(expected.is_empty()), "{expected}");
    }
    hub.delete("compute", SECRETS, "default/east-kubeconfig");
    hub.until("gone", |hub| reason(hub) == "SecretNotFound")
        .await;
    hub.until("stopped", |_| world.syncers.running.lock().is_empty())
        .await;
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_strangers_sync_target_is_never_adopted() {
    let world = World::start().await;
    let hub = &world.hub;
    let name = tmc_api::hashes::derived_sync_target("default", "east");
    hub.create("compute", TARGETS, json!({
        "apiVersion": "workload.kcp.io/v1alpha1", "kind": "SyncTarget", "metadata": {"name": name}, "spec": {},
    }));
    world.register("compute", "east", &json!({}));
    hub.until("a conflict", |hub| {
        hub.get("compute", CLUSTERS, "default/east")
            .unwrap()
            .to_string()
            .contains("SyncTargetConflict")
    })
    .await;
    hub.delete("compute", CLUSTERS, "default/east");
    hub.until("no Cluster", |hub| {
        hub.get("compute", CLUSTERS, "default/east").is_none()
    })
    .await;
    assert!(
        hub.get("compute", TARGETS, &name).is_some(),
        "it is not ours to delete"
    );
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_belongs_to_the_hub_stays_there() {
    let world = World::start().await;
    let (here, _) = placed(&world).await;
    let hub = &world.hub;
    world.register("demo", "own", &json!({}));
    hub.create("demo", NAMESPACES, namespace("default"));
    hub.create("demo", NAMESPACES, namespace("kube-system"));
    for (namespace, name, kind) in [
        ("default", "token", "kubernetes.io/service-account-token"),
        ("kube-system", "any", "Opaque"),
        ("default", "mine", "Opaque"),
    ] {
        let meta = json!({"name": name, "namespace": namespace});
        hub.create("demo", SECRETS, json!({"metadata": meta, "type": kind}));
    }
    hub.until("a labelled Secret", |hub| {
        world::state(hub, SECRETS, "default/mine", &here)
    })
    .await;
    tokio::time::sleep(std::time::Duration::from_secs(5)).await;
    for name in ["default/own-kubeconfig", "default/token", "kube-system/any"] {
        assert!(!world::state(hub, SECRETS, name, &here), "{name}");
    }
    assert!(!world::state(hub, NAMESPACES, "kube-system", &here));
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_workload_without_a_placement_gets_one_event() {
    let world = World::start().await;
    let hub = &world.hub;
    hub.create("demo", NAMESPACES, namespace("web"));
    hub.create("demo", DEPLOYMENTS, deployment("web", "nginx"));
    hub.until("an Event", |hub| hub.all("demo", "events/").len() == 1)
        .await;
    let event = hub.all("demo", "events/").remove(0);
    assert!(
        event["message"]
            .as_str()
            .unwrap()
            .contains("tmc bind compute"),
        "{event}"
    );
    hub.patch(
        "demo",
        DEPLOYMENTS,
        "web/nginx",
        json!({"metadata": {"finalizers": ["x/y"]}}),
    );
    tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    assert_eq!(hub.all("demo", "events/").len(), 1);
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn deleting_an_object_or_its_namespace_asks_every_target_to_remove_it() {
    let world = World::start().await;
    let (here, _) = placed(&world).await;
    let hub = &world.hub;
    let finalizer = format!("workload.kcp.io/syncer-{here}");
    hub.patch(
        "demo",
        DEPLOYMENTS,
        "web/nginx",
        json!({"metadata": {"finalizers": [finalizer]}}),
    );
    hub.delete("demo", DEPLOYMENTS, "web/nginx");
    let mark = format!("deletion.internal.workload.kcp.io/{here}");
    hub.until("a mark", |hub| {
        hub.get("demo", DEPLOYMENTS, "web/nginx").unwrap()["metadata"]["annotations"][&mark]
            == "2030-01-01T00:00:00Z"
    })
    .await;
    hub.patch(
        "demo",
        NAMESPACES,
        "web",
        json!({"metadata": {"finalizers": ["kubernetes"]}}),
    );
    hub.delete("demo", NAMESPACES, "web");
    hub.until("a mark on the namespace", |hub| {
        !hub.get("demo", NAMESPACES, "web").unwrap()["metadata"]["annotations"][&mark].is_null()
    })
    .await;
    hub.patch(
        "demo",
        DEPLOYMENTS,
        "web/nginx",
        json!({"metadata": {"finalizers": null}}),
    );
    assert!(hub.get("demo", DEPLOYMENTS, "web/nginx").is_none());
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_restart_of_the_controllers_changes_nothing() {
    let world = World::start().await;
    placed(&world).await;
    tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    let before = world.hub.writes();
    let world = world.restart().await;
    tokio::time::sleep(std::time::Duration::from_secs(25)).await;
    let news: Vec<_> = world.hub.writes().split_off(before.len());
    assert!(news.is_empty(), "{news:?}");
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_object_that_loses_its_marks_with_its_life_lets_its_namespace_go() {
    let world = World::start().await;
    let (key, _) = placed(&world).await;
    let hub = &world.hub;
    let (label, deletion) = (state_label(&key), deletion_annotation(&key));
    let held = json!({"metadata": {"finalizers": [syncer_finalizer(&key)]}});
    hub.patch("demo", DEPLOYMENTS, "web/nginx", held);
    hub.delete("demo", DEPLOYMENTS, "web/nginx");
    hub.delete("demo", PLACEMENTS, "p");
    hub.until("a namespace that is left", |hub| {
        let namespace = hub.get("demo", NAMESPACES, "web").unwrap();
        namespace["metadata"]["annotations"][&deletion].is_string()
    })
    .await;
    // The last write of the target's agent: finalizer and marks at once, and the object is gone.
    let done = json!({"metadata": {"finalizers": [], "labels": {&label: null},
                                   "annotations": {&deletion: null}}});
    hub.patch("demo", DEPLOYMENTS, "web/nginx", done);
    hub.until("a namespace without marks", |hub| {
        let namespace = hub.get("demo", NAMESPACES, "web").unwrap();
        namespace["metadata"]["labels"].get(&label).is_none()
    })
    .await;
    world.stop().await;
}
