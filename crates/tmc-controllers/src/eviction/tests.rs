//! When targets are left, as tables.

use proptest::prelude::*;
use rstest::rstest;
use serde_json::{Value, json};
use tmc_apimachinery::ClusterName;
use tmc_apimachinery::patch::merge_patch;

use super::*;

fn at(seconds: i64) -> Timestamp {
    let start: Timestamp = "2030-01-01T00:00:00Z".parse().unwrap();
    start + SignedDuration::from_secs(seconds)
}

/// A target that is well, changed.
fn target(changes: Value) -> SyncTarget {
    let mut object = json!({
        "apiVersion": "workload.kcp.io/v1alpha1", "kind": "SyncTarget",
        "metadata": {"name": "t", "uid": "u"}, "spec": {},
        "status": {
            "conditions": [{"type": "Ready", "status": "True"}],
            "lastSyncerHeartbeatTime": "2030-01-01T00:00:00Z",
            "syncedResources": [
                {"group": "apps", "resource": "deployments", "versions": ["v1"], "state": "Accepted"},
            ],
        },
    });
    merge_patch(&mut object, &changes).unwrap();
    serde_json::from_value(object).unwrap()
}

/// The conditions of a target lost at a time, and heard or not.
fn lost(seconds: i64, heard: bool) -> Value {
    let time = at(seconds).to_string();
    let heartbeat = if heard { "True" } else { "False" };
    json!({"conditions": [
        {"type": "Ready", "status": "False", "lastTransitionTime": time},
        {"type": "HeartbeatHealthy", "status": heartbeat, "lastTransitionTime": time},
    ]})
}

fn leaves(changes: Value, spec: Value, now: i64) -> Option<(LeaveReason, i64)> {
    let spec: PlacementSpec = serde_json::from_value(spec).unwrap();
    let in_use = BTreeSet::from([GroupResource::new("apps", "deployments")]);
    let here = Circumstances {
        spec: &spec,
        in_use: &in_use,
        grace: Duration::from_secs(300),
        listening_since: at(-1000),
        now: at(now),
    };
    let facts = TargetFacts::new(&ClusterName::new("c"), &target(changes));
    let exit = exit(&here, &facts, true, None)?;
    Some((exit.reason, exit.due.duration_since(at(0)).as_secs()))
}

fn tolerating(tolerations: Value) -> Value {
    json!({"tolerations": tolerations})
}

const TAINTED: &str = r#"[{"key": "a", "value": "v", "effect": "NoExecute"}]"#;

fn tainted() -> Value {
    let taints: Value = serde_json::from_str(TAINTED).unwrap();
    json!({"spec": {"taints": taints}})
}

#[rstest]
#[case::well(json!({}), json!({}), None)]
#[case::cordoned(json!({"spec": {"unschedulable": true}}), json!({}), None)]
#[case::tainted_softly(
    json!({"spec": {"taints": [{"key": "a", "effect": "NoSchedule"}]}}), json!({}), None)]
#[case::silent(json!({"status": lost(-10, false)}), json!({}), Some((LeaveReason::Unreachable, 290)))]
#[case::unready(json!({"status": lost(-10, true)}), json!({}), Some((LeaveReason::NotReady, 290)))]
#[case::silent_at_once(
    json!({"status": lost(-10, false), "spec": {"evictionStrategy": "Immediate"}}), json!({}),
    Some((LeaveReason::Unreachable, -10)))]
#[case::silent_and_borne_a_minute(
    json!({"status": lost(-10, false)}),
    tolerating(json!([{"key": "tmc.kcp.io/unreachable", "operator": "Exists",
        "effect": "NoExecute", "tolerationSeconds": 60}])),
    Some((LeaveReason::Unreachable, 50)))]
#[case::silent_and_borne_for_ever(
    json!({"status": lost(-10, false)}),
    tolerating(json!([{"key": "tmc.kcp.io/unreachable", "operator": "Exists"}])), None)]
#[case::of_two_times_the_shorter(
    json!({"status": lost(-10, false)}),
    tolerating(json!([
        {"key": "tmc.kcp.io/unreachable", "operator": "Exists"},
        {"operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 20},
        {"operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 30}])),
    Some((LeaveReason::Unreachable, 10)))]
#[case::a_toleration_of_the_other_loss(
    json!({"status": lost(-10, true)}),
    tolerating(json!([{"key": "tmc.kcp.io/unreachable", "operator": "Exists"}])),
    Some((LeaveReason::NotReady, 290)))]
#[case::drained(
    json!({"spec": {"evictAfter": "2029-12-31T23:59:50Z"}}), json!({}), Some((LeaveReason::Draining, -10)))]
#[case::drained_later(
    json!({"spec": {"evictAfter": "2030-01-01T00:00:10Z"}}), json!({}), Some((LeaveReason::Draining, 10)))]
#[case::drained_by_force(
    json!({"spec": {"evictAfter": "2029-12-31T23:59:50Z"},
        "metadata": {"annotations": {"tmc.kcp.io/force-drain": "true"}}}), json!({}),
    Some((LeaveReason::ForceDrained, -10)))]
#[case::force_without_a_drain(
    json!({"metadata": {"annotations": {"tmc.kcp.io/force-drain": "true"}}}), json!({}), None)]
#[case::lost_before_it_is_drained(
    json!({"status": lost(-290, false), "spec": {"evictAfter": "2030-01-01T00:00:50Z"}}), json!({}),
    Some((LeaveReason::Unreachable, 10)))]
#[case::tainted(tainted(), json!({}), Some((LeaveReason::Tainted, 0)))]
#[case::tainted_and_borne_a_minute(
    tainted(),
    tolerating(json!([{"key": "a", "value": "v", "effect": "NoExecute", "tolerationSeconds": 60}])),
    Some((LeaveReason::Tainted, 60)))]
#[case::tainted_and_borne(tainted(), tolerating(json!([{"key": "a", "value": "v"}])), None)]
#[case::one_cell_tainted(
    json!({"spec": {"cells": [{"name": "a", "taints": [{"key": "a", "effect": "NoExecute"}]}, {"name": "b"}]}}),
    json!({}), None)]
#[case::all_cells_tainted(
    json!({"spec": {"cells": [{"name": "a", "taints": [{"key": "a", "effect": "NoExecute"}]}]}}),
    json!({}), Some((LeaveReason::Tainted, 0)))]
#[case::does_not_serve_what_is_in_use(
    json!({"status": {"syncedResources": [
        {"group": "apps", "resource": "deployments", "versions": ["v1"], "state": "Incompatible"}]}}),
    json!({}), Some((LeaveReason::ApiNotAccepted, 0)))]
#[case::nobody_knows_what_it_serves(json!({"status": {"syncedResources": []}}), json!({}), None)]
fn a_target_is_left_for_a_reason_and_at_a_time(
    #[case] changes: Value,
    #[case] spec: Value,
    #[case] expected: Option<(LeaveReason, i64)>,
) {
    assert_eq!(leaves(changes, spec, 0), expected);
}

#[test]
fn a_hub_that_was_away_gives_a_fresh_grace() {
    let spec = PlacementSpec::default();
    let in_use = BTreeSet::new();
    let here = Circumstances {
        spec: &spec,
        in_use: &in_use,
        grace: Duration::from_secs(300),
        listening_since: at(1000),
        now: at(1001),
    };
    let facts = TargetFacts::new(
        &ClusterName::new("c"),
        &target(json!({"status": lost(0, false)})),
    );
    let exit = exit(&here, &facts, true, None).unwrap();
    assert_eq!((exit.since, exit.due), (at(0), at(1300)));
}

#[test]
fn a_taint_is_borne_from_when_it_was_seen_first() {
    let spec: PlacementSpec = serde_json::from_value(tolerating(json!([
        {"key": "a", "value": "v", "effect": "NoExecute", "tolerationSeconds": 60}])))
    .unwrap();
    let in_use = BTreeSet::new();
    let here = Circumstances {
        spec: &spec,
        in_use: &in_use,
        grace: Duration::from_secs(300),
        listening_since: at(0),
        now: at(50),
    };
    let facts = TargetFacts::new(&ClusterName::new("c"), &target(tainted()));
    let seen = Leaving {
        reason: LeaveReason::Tainted,
        since: Some(at(20).into()),
        held: None,
    };
    assert_eq!(exit(&here, &facts, true, Some(&seen)).unwrap().due, at(80));
    let other = Leaving {
        reason: LeaveReason::Draining,
        ..seen
    };
    assert_eq!(
        exit(&here, &facts, true, Some(&other)).unwrap().due,
        at(110)
    );
}

#[rstest]
#[case(LeaveReason::Unreachable, false, true, true)]
#[case(LeaveReason::Unreachable, true, false, true)]
#[case(LeaveReason::Draining, true, true, true)]
#[case(LeaveReason::ForceDrained, false, false, false)]
#[case(LeaveReason::NotSelected, false, false, false)]
fn moves_wait_for_their_turn_and_for_the_guard_unless_somebody_asked_for_them(
    #[case] reason: LeaveReason,
    #[case] immediate: bool,
    #[case] paced: bool,
    #[case] guarded: bool,
) {
    let strategy = if immediate { "Immediate" } else { "Graceful" };
    let target = target(json!({"spec": {"evictionStrategy": strategy}}));
    let facts = TargetFacts::new(&ClusterName::new("c"), &target);
    let exit = Exit {
        reason,
        since: at(0),
        due: at(0),
    };
    assert_eq!((exit.is_paced(&facts), exit.is_guarded()), (paced, guarded));
}

#[rstest]
#[case(json!({}), false)]
#[case(json!({"metadata": {"annotations": {"tmc.kcp.io/force-drain": "true"}}}), false)]
#[case(json!({"metadata": {"annotations": {"tmc.kcp.io/force-drain": "true"}},
    "spec": {"evictAfter": "2030-01-01T00:00:00Z"}}), true)]
#[case(json!({"metadata": {"annotations": {"tmc.kcp.io/force-drain": "false"}},
    "spec": {"evictAfter": "2030-01-01T00:00:00Z"}}), false)]
#[case(json!({"spec": {"deletion": {"force": true}}}), false)]
#[case(json!({"spec": {"deletion": {"force": true}},
    "metadata": {"deletionTimestamp": "2030-01-01T00:00:00Z"}}), true)]
fn force_is_asked_for_twice(#[case] changes: Value, #[case] expected: bool) {
    assert_eq!(is_forced(&target(changes), at(0)), expected);
}

#[rstest]
// all; when lost; expected
#[case::two_of_two(2, &[0, 0], false)]
#[case::three_of_ten(10, &[0, 100, 200], false)]
#[case::three_of_nine(9, &[0, 100, 200], true)]
#[case::at_the_ends_of_a_grace(9, &[0, 100, 300], true)]
#[case::over_a_longer_time(9, &[0, 100, 301], false)]
#[case::three_at_once_after_others(9, &[0, 1000, 1001, 1002], true)]
#[case::one_a_day(5, &[0, 86_400, 172_800], false)]
#[case::none(9, &[], false)]
fn the_guard_holds_while_three_and_a_third_were_lost_at_once(
    #[case] all: usize,
    #[case] lost: &[i64],
    #[case] expected: bool,
) {
    let lost = lost.iter().map(|seconds| at(*seconds)).collect();
    assert_eq!(is_partition(all, lost, Duration::from_secs(300)), expected);
}

#[test]
fn the_guard_is_for_each_location() {
    let location = |name: &str, selector: Value| {
        let object = json!({
            "apiVersion": "scheduling.kcp.io/v1alpha1", "kind": "Location",
            "metadata": {"name": name}, "spec": {"instanceSelector": selector},
        });
        serde_json::from_value(object).unwrap()
    };
    let facts = (0..12).map(|n| {
        let region = if n < 4 { "eu" } else { "us" };
        let mut changes =
            json!({"metadata": {"name": format!("t{n}"), "labels": {"region": region}}});
        if n < 3 {
            changes["status"] = lost(0, false);
        }
        TargetFacts::new(&ClusterName::new("c"), &target(changes))
    });
    let fleet = Fleet::new(
        facts.collect(),
        vec![
            location("all", json!({})),
            location("eu", json!({"matchLabels": {"region": "eu"}})),
            location("us", json!({"matchLabels": {"region": "us"}})),
        ],
    );
    let guarded = guarded(&fleet, Duration::from_secs(300));
    assert_eq!(guarded, BTreeSet::from(["eu".to_owned()]));
}

proptest! {
    /// The guard agrees with looking at every window one by one.
    #[test]
    fn the_guard_is_what_a_scan_of_all_windows_finds(
        all in 1_usize..20, lost in prop::collection::vec(0_i64..2000, 0..12)
    ) {
        let lost: Vec<_> = lost.into_iter().take(all).map(at).collect();
        let grace = SignedDuration::from_secs(300);
        let scan = lost.iter().any(|start| {
            let inside = lost.iter().filter(|t| **t >= *start && **t <= *start + grace).count();
            inside >= 3 && inside * 100 > all * 30
        });
        prop_assert_eq!(is_partition(all, lost, Duration::from_secs(300)), scan);
    }
}
