//! Objects on several targets.

use serde_json::{Value, json};
use tmc_apimachinery::meta::meta;
use tmc_runtime::ResourceClient;
use tmc_runtime::client::{DeleteParams, PatchKind};

use crate::support::{World, bind_args, copies, deployment, eventually, named};

async fn web(client: &ResourceClient) -> Value {
    client.get("default", "web").await.unwrap()
}

fn is_available(object: &Value, replicas: i64) -> bool {
    let conditions = object["status"]["conditions"].as_array();
    let mut available = conditions
        .into_iter()
        .flatten()
        .filter(|c| c["type"] == "Available");
    object["status"]["availableReplicas"] == replicas
        && object["status"]["observedGeneration"] == object["metadata"]["generation"]
        && available.any(|c| c["status"] == "True")
}

/// Whether an object stays the same for a while: nobody writes against anybody.
async fn is_quiet(client: &ResourceClient) -> bool {
    let before = web(client).await;
    tokio::time::sleep(std::time::Duration::from_millis(700)).await;
    before["metadata"]["resourceVersion"] == web(client).await["metadata"]["resourceVersion"]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployment_on_two_targets_has_one_status_and_keeps_that_of_the_one_that_stays() {
    let world = World::start().await;
    let (one, two) = (world.member("one").await, world.member("two").await);
    let shop = world.bound_workspace("shop", "one").await;
    let deployments = shop.resource("apps", "v1", "deployments");
    deployments
        .create("default", &deployment("web", 2))
        .await
        .unwrap();
    eventually("it is available on one", || async {
        is_available(&web(&deployments).await, 2)
    })
    .await;

    let mut second = bind_args("two");
    second.name = Some("second".into());
    tmc::commands::bind::compute(&shop, &second).await.unwrap();
    eventually("it is available on both", || async {
        is_available(&web(&deployments).await, 4)
    })
    .await;
    eventually("all is quiet", || is_quiet(&deployments)).await;
    for member in [&one, &two] {
        let below = member.resource("apps", "v1", "deployments");
        assert!(named(&copies(&below).await, "web").is_some());
    }

    let patch = json!({"spec": {"replicas": 3}});
    deployments
        .patch("default", "web", "", PatchKind::Merge, &patch)
        .await
        .unwrap();
    eventually("both follow an edit", || async {
        is_available(&web(&deployments).await, 6)
    })
    .await;

    let placements = shop.resource("scheduling.kcp.io", "v1alpha1", "placements");
    placements
        .delete("", "second", &DeleteParams::default())
        .await
        .unwrap();
    eventually("one status is left", || async {
        is_available(&web(&deployments).await, 3)
    })
    .await;
    eventually("and one copy", || async {
        copies(&two.resource("apps", "v1", "deployments"))
            .await
            .is_empty()
    })
    .await;
    eventually("all is quiet", || is_quiet(&deployments)).await;
    let web = web(&deployments).await;
    let reports = meta(&web).annotations();
    let reports: Vec<_> = reports
        .iter()
        .filter(|(key, _)| key.starts_with("diff."))
        .collect();
    assert_eq!(reports.len(), 1, "{web}");
    assert_eq!(reports[0].1, r###"{"status":"##promoted##"}"###);
    world.embedded.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn divided_replicas_run_where_they_were_sent_and_add_up() {
    let world = World::start().await;
    let members = [world.member("one").await, world.member("two").await];
    let shop = world.bound_workspace("shop", "one").await;
    let placements = shop.resource("scheduling.kcp.io", "v1alpha1", "placements");
    let list = placements.list("", &Default::default()).await.unwrap();
    let name = meta(&list["items"][0]).name().to_owned();
    let both = json!({"spec": {"targets": 2, "replicas": "Divided", "locationSelectors": [{}]}});
    placements
        .patch("", &name, "", PatchKind::Merge, &both)
        .await
        .unwrap();
    eventually("the Placement has both", || async {
        let placement = placements.get("", &name).await.unwrap();
        placement["status"]["syncTargets"]
            .as_array()
            .is_some_and(|picked| picked.len() == 2)
    })
    .await;

    let deployments = shop.resource("apps", "v1", "deployments");
    deployments
        .create("default", &deployment("web", 5))
        .await
        .unwrap();
    let run = |wanted: [i64; 2]| {
        let members = &members;
        async move {
            let mut found = Vec::new();
            for member in members {
                let below = copies(&member.resource("apps", "v1", "deployments")).await;
                found.extend(named(&below, "web").and_then(|web| web["spec"]["replicas"].as_i64()));
            }
            found.sort_unstable();
            found == wanted
        }
    };
    eventually("each runs its share", || run([2, 3])).await;
    eventually("the shares add up", || async {
        is_available(&web(&deployments).await, 5)
    })
    .await;
    eventually("all is quiet", || is_quiet(&deployments)).await;

    let patch = json!({"spec": {"replicas": 7}});
    deployments
        .patch("default", "web", "", PatchKind::Merge, &patch)
        .await
        .unwrap();
    eventually("more are divided", || run([3, 4])).await;
    eventually("they add up", || async {
        is_available(&web(&deployments).await, 7)
    })
    .await;

    let whole = json!({"spec": {"replicas": "Duplicated"}});
    placements
        .patch("", &name, "", PatchKind::Merge, &whole)
        .await
        .unwrap();
    eventually("each runs all", || run([7, 7])).await;
    eventually("all add up", || async {
        is_available(&web(&deployments).await, 14)
    })
    .await;
    eventually("all is quiet", || is_quiet(&deployments)).await;
    world.embedded.stop().await.unwrap();
}
