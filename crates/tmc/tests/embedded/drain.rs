//! Work moves from one member to another.

use serde_json::json;
use tmc_runtime::client::{ListParams, PatchKind};

use crate::support::{World, copies, deployment, eventually};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drained_member_hands_over_without_a_gap_and_is_emptied() {
    let world = World::start().await;
    let (one, two) = (world.member("one").await, world.member("two").await);
    let shop = world.bound_workspace("shop", "one").await;
    let deployments = shop.resource("apps", "v1", "deployments");
    deployments
        .create("default", &deployment("web", 2))
        .await
        .unwrap();
    eventually("it is available", || async {
        deployments.get("default", "web").await.unwrap()["status"]["availableReplicas"] == 2
    })
    .await;

    let placements = shop.resource("scheduling.kcp.io", "v1alpha1", "placements");
    let list = placements.list("", &ListParams::default()).await.unwrap();
    let name = list["items"][0]["metadata"]["name"].as_str().unwrap();
    let anywhere = json!({"spec": {"locationSelectors": [{}]}});
    placements
        .patch("", name, "", PatchKind::Merge, &anywhere)
        .await
        .unwrap();
    let compute = world.context("root:compute");
    let targets = compute.resource("workload.kcp.io", "v1alpha1", "synctargets");
    let params = ListParams {
        labels: "location=one".into(),
        ..ListParams::default()
    };
    let list = targets.list("", &params).await.unwrap();
    let target = list["items"][0]["metadata"]["name"].as_str().unwrap();
    let drain = json!({"spec": {"evictAfter": "2020-01-01T00:00:00Z"}});
    targets
        .patch("", target, "", PatchKind::Merge, &drain)
        .await
        .unwrap();

    let (on_one, on_two) = (
        one.resource("apps", "v1", "deployments"),
        two.resource("apps", "v1", "deployments"),
    );
    eventually("the old member is empty", || async {
        // In this order: what the first has lost the second must have.
        let (old, new) = (copies(&on_one).await, copies(&on_two).await);
        let serving = old
            .iter()
            .chain(&new)
            .any(|copy| copy["status"]["availableReplicas"] == 2);
        assert!(serving, "nothing runs: {old:?} {new:?}");
        old.is_empty()
    })
    .await;
    assert_eq!(copies(&on_two).await.len(), 1);
    eventually("the new member's status is the object's own", || async {
        let web = deployments.get("default", "web").await.unwrap();
        let finalizers = web["metadata"]["finalizers"].as_array().unwrap();
        finalizers.len() == 1 && web["status"]["availableReplicas"] == 2
    })
    .await;
    let events = shop.resource("", "v1", "events");
    let events = events
        .list("default", &ListParams::default())
        .await
        .unwrap();
    let items = events["items"].as_array().unwrap();
    let moved = items.iter().filter(|event| event["reason"] == "Moved");
    assert_eq!(moved.count(), 1, "told once");
    world.embedded.stop().await.unwrap();
}
