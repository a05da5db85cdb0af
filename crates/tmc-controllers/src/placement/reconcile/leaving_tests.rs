//! What makes a Placement leave a target, as tables.

use std::sync::Arc;

use serde_json::json;
use tmc_api::scheduling::HoldReason;
use tmc_api::workload::SyncTarget;

use super::tests::*;

/// Silent since some seconds before now.
pub(super) fn silent(name: &str, seconds: i64) -> Arc<SyncTarget> {
    let since = (now() - jiff::SignedDuration::from_secs(seconds)).to_string();
    changed(&target(name, false), |t| {
        let status = t.status.as_mut().unwrap();
        status.last_syncer_heartbeat_time = serde_json::from_value(json!(since)).unwrap();
        status.conditions = serde_json::from_value(json!([
            {"type": "Ready", "status": "False", "lastTransitionTime": since},
            {"type": "HeartbeatHealthy", "status": "False", "lastTransitionTime": since}]))
        .unwrap();
    })
}

#[test]
fn a_loss_is_borne_for_the_grace_without_a_write_and_then_moved_and_told() {
    let bound = run(&any_location(), &two());
    let mut lost = two();
    lost.targets[0] = silent("east", 100);
    let plan = lost.plan(&bound, now());
    assert_eq!(Some(&plan.status), bound.status.as_ref());
    assert_eq!(
        plan.next,
        Some(now() + jiff::SignedDuration::from_secs(200))
    );
    assert!(!plan.used_turn);
    let due = lost.plan(&bound, plan.next.unwrap());
    assert!(due.used_turn);
    assert_eq!(due.status.sync_targets[0].name, "west");
    assert_eq!(
        due.notices[0].message,
        "to west from east, which is unreachable"
    );
    let why = &due.status.decisions[0].message;
    assert_eq!(
        why,
        "takes over from east, which is unreachable; no other is fit"
    );
    // Not its turn: it is noted, and told to nobody.
    lost.turn = false;
    let waits = lost.plan(&bound, plan.next.unwrap());
    assert_eq!(waits.status.sync_targets[0].name, "east");
    let held = waits.status.decisions[0].leaving.as_ref().unwrap().held;
    assert_eq!(
        (held, waits.notices.len()),
        (Some(HoldReason::RateLimited), 0)
    );
    // Back in time: nothing is noted any more.
    let mut waiting = bound.clone();
    waiting.status = Some(waits.status);
    assert_eq!(
        two().plan(&waiting, now()).status.decisions[0].leaving,
        None
    );
}

#[test]
fn what_is_held_is_a_warning_once_and_in_the_condition() {
    let bound = run(&any_location(), &two());
    let mut lost = two();
    lost.targets = vec![silent("east", 600), silent("west", 600)];
    let plan = lost.plan(&bound, now());
    assert_eq!(plan.notices[0].reason, "EvictionHeld");
    let held = run(&bound, &lost);
    let text = "east is unreachable, but stays: no other SyncTarget is fit to take over";
    assert_eq!(scheduled(&held).message, text);
    assert!(scheduled(&held).is_true(), "it has a target");
    assert!(crate::placement::is_looking(&held) && !crate::placement::is_looking(&bound));
}

#[test]
fn while_a_third_of_a_location_is_lost_at_once_nothing_moves() {
    let mut world = two();
    world.locations = vec![location("all", json!({}), json!({}))];
    world.targets = (0..9).map(|n| target(&format!("t{n}"), true)).collect();
    let bound = run(&any_location(), &world);
    let name = view(&bound).2.unwrap().to_owned();
    for target in world
        .targets
        .iter_mut()
        .filter(|t| t.metadata.name.as_ref() == Some(&name))
    {
        *target = silent(&name, 600);
    }
    let moved = run_once(&bound, &world);
    assert_ne!(view(&moved).2, Some(&*name));
    for n in (0..9).filter(|n| format!("t{n}") != name).take(2) {
        world.targets[n] = silent(&format!("t{n}"), 590);
    }
    let stays = run(&bound, &world);
    assert_eq!(view(&stays).2, Some(&*name));
    let leaving = stays.status.unwrap().decisions[0].leaving.clone().unwrap();
    assert_eq!(leaving.held, Some(HoldReason::PartitionGuard));
}

#[test]
fn a_taint_borne_for_a_time_is_remembered_from_when_it_was_seen() {
    let mut placement = any_location();
    placement.spec.tolerations = serde_json::from_value(json!([
        {"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 60}]))
    .unwrap();
    let bound = run(&placement, &two());
    let mut tainted = two();
    tainted.targets[0] = changed(&tainted.targets[0], |t| {
        t.spec.taints =
            serde_json::from_value(json!([{"key": "a", "effect": "NoExecute"}])).unwrap();
    });
    let seen = run(&bound, &tainted);
    assert_eq!(view(&seen).2, Some("east"));
    let minute = now() + jiff::SignedDuration::from_secs(60);
    assert_eq!(tainted.plan(&seen, now()).next, Some(minute));
    assert_eq!(
        tainted.plan(&seen, minute).status.sync_targets[0].name,
        "west"
    );
}
