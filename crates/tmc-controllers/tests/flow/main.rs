//! All controllers together, against a small hub and in virtual time: what users do, and what
//! targets are to see of it.

#![allow(clippy::unwrap_used)]

mod hub;
mod world;

use serde_json::json;
use tmc_api::hashes::sync_target_key;
use world::{World, deployment, namespace};

const TARGETS: &str = "synctargets/workload.kcp.io";
const CLUSTERS: &str = "clusters/workload.kcp.io";
const LOCATIONS: &str = "locations/scheduling.kcp.io";
const PLACEMENTS: &str = "placements/scheduling.kcp.io";
const NAMESPACES: &str = "namespaces/";
const DEPLOYMENTS: &str = "deployments/apps";
const SECRETS: &str = "secrets/";

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
