//! What holds from any world to any other.

use proptest::prelude::*;

use serde_json::json;

use super::leaving_tests::silent;
use super::tests::*;
use super::*;

/// A world of a few targets, each well, lost for a while, cordoned or drained, in up to three
/// Locations.
fn world(draws: &[(u8, u8)], turn: bool) -> World {
    let targets = draws.iter().enumerate().map(|(n, (how, home))| {
        let name = format!("t{n}");
        let target = match how {
            0 => silent(&name, 600),
            1 => silent(&name, 60),
            2 => changed(&target(&name, true), |t| t.spec.unschedulable = true),
            3 => changed(&target(&name, true), |t| {
                t.spec.evict_after = serde_json::from_value(json!("2029-12-31T00:00:00Z")).unwrap();
            }),
            _ => target(&name, true),
        };
        changed(&target, |t| {
            let label = (String::from("home"), home.to_string());
            t.metadata.labels = Some([label].into());
        })
    });
    let home = |n: u8| json!({"matchLabels": {"home": n.to_string()}});
    World {
        locations: (0..3)
            .map(|n| location(&format!("l{n}"), json!({"n": n.to_string()}), home(n)))
            .collect(),
        targets: targets.collect(),
        turn,
        ..two()
    }
}

proptest! {
    /// From any world to any other: phases, annotation, order and reasons are as they should be,
    /// equal inputs give equal plans, a second pass changes nothing, the last healthy copy stays.
    #[test]
    fn invariants_hold_from_any_world_to_any_other(
        before in prop::collection::vec((0_u8..8, 0_u8..4), 0..8),
        after in prop::collection::vec((0_u8..8, 0_u8..4), 0..8),
        select in prop::option::of(0_u8..3),
        targets in prop_oneof![Just(TargetCount::All), (1_u32..5).prop_map(TargetCount::Count)],
        (bound, turn) in (any::<bool>(), any::<bool>()),
    ) {
        let mut placement = any_location();
        placement.spec.targets = targets;
        // Turns are used up: a pass that moves is followed by one that may not.
        let first = settle(&placement, &World { bound, ..world(&before, turn) });
        if let Some(n) = select {
            placement.spec.location_selectors =
                serde_json::from_value(json!([{"matchLabels": {"n": n.to_string()}}])).unwrap();
        }
        let mut next = placement.clone();
        next.status.clone_from(&first.status);
        next.metadata.annotations.clone_from(&first.metadata.annotations);
        let world = World { bound, ..world(&after, turn) };
        prop_assert_eq!(world.plan(&next, now()), world.plan(&next, now()));
        let second = settle(&next, &world);
        let healthy = |t: &PickedTarget| world.targets.iter().any(|target| {
            target.metadata.name.as_ref() == Some(&t.name)
                && conditions::is_true(target.conditions(), READY)
        });
        let targets = |p: &Placement| p.status.clone().unwrap().sync_targets;
        if targets(&first).iter().any(healthy) {
            prop_assert!(targets(&second).iter().any(healthy), "the last healthy copy is evicted");
        }
    }
}

fn settle(placement: &Placement, world: &World) -> Placement {
    let mut new = placement.clone();
    new.status = Some(world.plan(placement, now()).status);
    let new = metadata(&new, &new.status.clone().unwrap().sync_targets);
    run(
        &new,
        &World {
            turn: false,
            ..world.clone()
        },
    )
}
