//! What is not looked at: a change touches those that it matters to, once.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tmc_controllers::heartbeat::{Beat, NodeTotals, TargetId};

use crate::world::{World, beat, externals, picked, placement, ready};
use crate::{PLACEMENTS, TARGETS};

const PLACED: usize = 12;

/// Targets that all beat, and some Placements of one target each; nothing is left to do.
async fn quiet(world: &World, targets: usize) -> Vec<TargetId> {
    let hub = &world.hub;
    hub.grant("demo", "compute");
    let ids = externals(world, targets);
    hub.until("ready targets", |hub| {
        hub.all("compute", TARGETS).iter().all(ready)
    })
    .await;
    for n in 0..PLACED {
        let mut each = placement("root:compute");
        each["metadata"]["name"] = format!("p{n}").into();
        hub.create("demo", PLACEMENTS, each);
    }
    hub.until("placed", |hub| {
        (0..PLACED).all(|n| picked(hub, &format!("p{n}")).len() == 1)
    })
    .await;
    settle(world).await;
    ids
}

/// Waits until everything is worked off. Permissions are asked for again each minute, so the time
/// that may pass is short.
async fn settle(world: &World) {
    tokio::time::sleep(Duration::from_secs(2)).await;
    while !world.handle.is_idle() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn report(world: &World, id: &TargetId, cpu: &str) {
    let list = || [("cpu".to_owned(), cpu.parse().unwrap())].into();
    world.beats.record(
        id,
        Beat {
            totals: Some(Arc::new(NodeTotals {
                capacity: list(),
                allocatable: list(),
                ..NodeTotals::default()
            })),
            ..beat(world.clock.now())
        },
    );
}

#[tokio::test(start_paused = true)]
async fn beats_and_small_changes_of_capacity_touch_no_placement() {
    let world = World::start().await;
    let ids = quiet(&world, 1_000).await;
    let before = world.handle.placements_queued();
    // Everyone beats three times.
    tokio::time::sleep(Duration::from_secs(30)).await;
    for id in &ids {
        world.beats.record(id, beat(world.clock.now()));
    }
    settle(&world).await;
    assert_eq!(world.handle.placements_queued(), before, "beats");
    world.stop().await;

    let world = World::start().await;
    let ids = quiet(&world, 30).await;
    for id in &ids {
        report(&world, id, "100");
    }
    settle(&world).await;
    let before = world.handle.placements_queued();
    for id in &ids {
        report(&world, id, "99");
    }
    settle(&world).await;
    let seen = world.hub.all("compute", TARGETS);
    assert!(
        seen.iter()
            .all(|t| t["status"]["allocatable"]["cpu"] == "99"),
        "it was written"
    );
    assert_eq!(world.handle.placements_queued(), before, "a small change");
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_change_of_many_targets_is_looked_at_by_those_that_have_them_once() {
    let world = World::start().await;
    quiet(&world, 30).await;
    let hub = &world.hub;
    let before = world.handle.placements_queued();
    for target in hub.all("compute", TARGETS) {
        let name = target["metadata"]["name"].as_str().unwrap();
        hub.patch(
            "compute",
            TARGETS,
            name,
            json!({"spec": {"unschedulable": true}}),
        );
    }
    settle(&world).await;
    let queued = world.handle.placements_queued() - before;
    assert_eq!(
        queued, PLACED as u64,
        "each once, for the target that it has"
    );
    // One that looks for a target sees all of them change, at once.
    let mut looking = placement("root:compute");
    looking["metadata"]["name"] = "looking".into();
    hub.create("demo", PLACEMENTS, looking);
    settle(&world).await;
    let before = world.handle.placements_queued();
    for target in hub.all("compute", TARGETS) {
        let name = target["metadata"]["name"].as_str().unwrap();
        hub.patch(
            "compute",
            TARGETS,
            name,
            json!({"spec": {"unschedulable": false}}),
        );
    }
    settle(&world).await;
    assert_eq!(picked(hub, "looking").len(), 1);
    let queued = world.handle.placements_queued() - before;
    let most = 2 * PLACED as u64;
    assert!((PLACED as u64..=most).contains(&queued), "{queued}");
    world.stop().await;
}
