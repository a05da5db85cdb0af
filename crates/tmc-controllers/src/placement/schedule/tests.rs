//! Choices as tables, and what holds in every world.

use std::time::Duration;

use proptest::prelude::*;
use rstest::rstest;
use serde_json::{Value, json};
use tmc_api::scheduling::PlacementSpec;
use tmc_api::workload::SyncTarget;
use tmc_apimachinery::ClusterName;
use tmc_apimachinery::patch::merge_patch;

use super::super::facts::TargetFacts;
use super::super::filter::{Unlimited, unfit};
use super::super::request::Held;
use super::*;
use crate::eviction::Circumstances;

fn now() -> Timestamp {
    "2030-01-01T00:00:00Z".parse().unwrap()
}

/// A good target, changed.
fn target(name: &str, changes: Value) -> TargetFacts {
    let mut object = json!({
        "apiVersion": "workload.kcp.io/v1alpha1", "kind": "SyncTarget",
        "metadata": {"name": name, "uid": format!("u-{name}")}, "spec": {},
        "status": {
            "conditions": [{"type": "Ready", "status": "True"}],
            "lastSyncerHeartbeatTime": "2030-01-01T00:00:00Z",
        },
    });
    merge_patch(&mut object, &changes).unwrap();
    let target: SyncTarget = serde_json::from_value(object).unwrap();
    let mut facts = TargetFacts::new(&ClusterName::new("c"), &target);
    // So that names decide between equals.
    facts.target.key = format!("K{name}");
    facts
}

fn lost(seconds: i64) -> Value {
    let since = (now() - jiff::SignedDuration::from_secs(seconds)).to_string();
    json!({"status": {"conditions": [
        {"type": "Ready", "status": "False", "lastTransitionTime": since},
        {"type": "HeartbeatHealthy", "status": "False", "lastTransitionTime": since},
    ]}})
}

fn drained() -> Value {
    json!({"spec": {"evictAfter": "2029-12-31T23:00:00Z"}})
}

fn free(percent: u8) -> Value {
    json!({"status": {"allocatable": {"cpu": "100"}, "availableResources": {"cpu": percent.to_string()}}})
}

/// What a test wants of [`schedule`] beside the targets.
struct Wish {
    spec: Value,
    has: &'static [&'static str],
    turn: bool,
    guard: bool,
    load: &'static [(&'static str, u32)],
    /// Targets that belong to no Location that matches.
    outside: &'static [&'static str],
}

impl Default for Wish {
    fn default() -> Self {
        Self {
            spec: json!({}),
            has: &[],
            turn: true,
            guard: false,
            load: &[],
            outside: &[],
        }
    }
}

fn run(wish: &Wish, targets: &[TargetFacts]) -> Decision {
    let spec: PlacementSpec = serde_json::from_value(wish.spec.clone()).unwrap();
    let candidates: Vec<_> = targets
        .iter()
        .map(|facts| Candidate {
            facts,
            location: (!wish.outside.contains(&&*facts.target.name)).then_some("l"),
            homes: &[],
            load: wish
                .load
                .iter()
                .find(|(n, _)| *n == facts.target.name)
                .map_or(0, |(_, l)| *l),
        })
        .collect();
    let has: Vec<PickedTarget> = wish
        .has
        .iter()
        .map(|name| PickedTarget {
            key: format!("K{name}"),
            cluster: "c".into(),
            name: (*name).into(),
            uid: format!("u-{name}"),
        })
        .collect();
    let current: Vec<_> = has
        .iter()
        .map(|target| Held {
            target,
            decision: None,
        })
        .collect();
    let request = Request {
        here: Circumstances {
            spec: &spec,
            in_use: &BTreeSet::new(),
            grace: Duration::from_secs(300),
            listening_since: now() - jiff::SignedDuration::from_hours(9),
            now: now(),
        },
        current: &current,
        quota: &Unlimited,
        guard: &|_| wish.guard,
        turn: wish.turn,
    };
    schedule(&request, &candidates)
}

fn names(decision: &Decision) -> String {
    let mut names: Vec<_> = decision
        .picks
        .iter()
        .map(|pick| &*pick.target.name)
        .collect();
    names.sort_unstable();
    names.join(" ")
}

fn holds(decision: &Decision) -> Vec<HoldReason> {
    decision
        .picks
        .iter()
        .filter_map(|pick| pick.leaving.as_ref()?.held)
        .collect()
}

#[rstest]
#[case::equal_names_decide(vec![("a", json!({})), ("b", json!({}))], &[], "a")]
#[case::less_load(vec![("a", json!({})), ("b", json!({}))], &[("a", 1)], "b")]
#[case::more_free_than_unknown(vec![("a", json!({})), ("b", free(60))], &[], "b")]
#[case::less_free_than_unknown(vec![("a", free(40)), ("b", json!({}))], &[], "b")]
#[case::capacity_and_load_together(vec![("a", free(90)), ("b", free(10))], &[("a", 1)], "a")]
#[case::a_soft_taint_before_all(
    vec![("a", json!({})), ("b", json!({"spec": {"taints": [{"key": "x", "effect": "PreferNoSchedule"}]},
        "status": {"allocatable": {"cpu": "1"}, "availableResources": {"cpu": "1"}}}))],
    &[("a", 9)], "a")]
#[case::a_soft_taint_on_some_cells_does_not_count(
    vec![("b", json!({"spec": {"taints": [{"key": "x", "effect": "PreferNoSchedule"}]}})),
        ("c", json!({"spec": {"cells": [
            {"name": "one", "taints": [{"key": "x", "effect": "PreferNoSchedule"}]}, {"name": "two"}]}}))],
    &[], "c")]
#[case::unfit_ones_are_not_looked_at(vec![("a", lost(1)), ("b", drained()), ("c", json!({}))], &[], "c")]
fn the_best_of_those_that_are_fit_is_picked(
    #[case] targets: Vec<(&str, Value)>,
    #[case] load: &'static [(&'static str, u32)],
    #[case] expected: &str,
) {
    let targets: Vec<_> = targets
        .into_iter()
        .map(|(n, changes)| target(n, changes))
        .collect();
    let decision = run(
        &Wish {
            load,
            ..Wish::default()
        },
        &targets,
    );
    assert_eq!(names(&decision), expected);
    assert!(decision.picks[0].new.is_some(), "with its reason");
}

#[test]
fn reasons_are_in_words() {
    let targets = [target("a", free(70)), target("b", lost(1))];
    let decision = run(&Wish::default(), &targets);
    let only = decision.picks[0].new.clone().unwrap();
    assert_eq!(only, (PickReason::OnlyFit, "no other is fit".into()));
    assert_eq!(decision.rejected.unwrap().why(), "1 not Ready");
    let targets = [target("a", free(70)), target("b", json!({}))];
    let decision = run(
        &Wish {
            load: &[("a", 1)],
            ..Wish::default()
        },
        &targets,
    );
    let best = decision.picks[0].new.clone().unwrap();
    assert_eq!(names(&decision), "b");
    let words = "best of 2: free capacity unknown, 0 other Placements";
    assert_eq!(best, (PickReason::BestScore, words.into()));
}

#[rstest]
#[case::lost_for_less_than_the_grace(lost(299), "a")]
#[case::lost_for_the_grace(lost(300), "b")]
#[case::cordoned(json!({"spec": {"unschedulable": true}}), "a")]
#[case::tainted_for_newcomers(json!({"spec": {"taints": [{"key": "x", "effect": "NoSchedule"}]}}), "a")]
#[case::tainted_for_all(json!({"spec": {"taints": [{"key": "x", "effect": "NoExecute"}]}}), "b")]
#[case::drained(drained(), "b")]
#[case::deleted(json!({"metadata": {"deletionTimestamp": "2029-01-01T00:00:00Z"}}), "b")]
#[case::made_anew(json!({"metadata": {"uid": "other"}}), "b")]
fn what_a_placement_has_it_keeps_unless_something_makes_it_leave(
    #[case] changes: Value,
    #[case] expected: &str,
) {
    let better = target("b", free(100));
    let wish = Wish {
        has: &["a"],
        load: &[("a", 9)],
        ..Wish::default()
    };
    let decision = run(&wish, &[target("a", changes), better]);
    assert_eq!(names(&decision), expected);
    assert_eq!(decision.left.len(), usize::from(expected == "b"));
}

#[rstest]
#[case::no_replacement(drained(), lost(1), true, false, "a", Some(HoldReason::NoReplacement))]
#[case::guarded(lost(600), json!({}), true, true, "a", Some(HoldReason::PartitionGuard))]
#[case::drained_while_guarded(drained(), json!({}), true, true, "a", Some(HoldReason::PartitionGuard))]
#[case::not_its_turn(drained(), json!({}), false, false, "a", Some(HoldReason::RateLimited))]
#[case::immediate_needs_no_turn(
    json!({"spec": {"evictionStrategy": "Immediate"}, "status": lost(1)["status"]}), json!({}), false, false, "b", None)]
#[case::forced_waits_for_nothing(
    json!({"spec": drained()["spec"], "metadata": {"annotations": {"tmc.kcp.io/force-drain": "true"}}}),
    json!({}), false, true, "b", None)]
#[case::forced_takes_the_last(
    json!({"spec": drained()["spec"], "metadata": {"annotations": {"tmc.kcp.io/force-drain": "true"}}}),
    lost(1), false, true, "", None)]
#[case::deletion_takes_the_last(
    json!({"metadata": {"deletionTimestamp": "2029-01-01T00:00:00Z"}}), lost(1), false, true, "", None)]
fn what_is_to_be_left_may_be_held(
    #[case] changes: Value,
    #[case] other: Value,
    #[case] turn: bool,
    #[case] guard: bool,
    #[case] expected: &str,
    #[case] hold: Option<HoldReason>,
) {
    let wish = Wish {
        has: &["a"],
        turn,
        guard,
        ..Wish::default()
    };
    let decision = run(&wish, &[target("a", changes), target("b", other)]);
    assert_eq!(names(&decision), expected);
    assert_eq!(holds(&decision), hold.into_iter().collect::<Vec<_>>());
}

#[test]
fn it_says_when_the_next_one_is_to_be_left() {
    let wish = Wish {
        has: &["a", "b"],
        spec: json!({"targets": 2}),
        ..Wish::default()
    };
    let later = json!({"spec": {"evictAfter": "2030-01-01T00:01:00Z"}});
    let decision = run(&wish, &[target("a", lost(100)), target("b", later)]);
    assert_eq!(
        decision.next,
        Some(now() + jiff::SignedDuration::from_secs(60))
    );
    assert_eq!(names(&decision), "a b");
}

#[rstest]
#[case::as_many_as_wanted(json!({"targets": 2}), &[], "a b")]
#[case::all(json!({"targets": "All"}), &[], "a b c")]
#[case::more_than_there_are(json!({"targets": 9}), &[], "a b c")]
#[case::filled_up(json!({"targets": 2}), &["c"], "a c")]
#[case::the_surplus_goes(json!({"targets": 1}), &["a", "b", "c"], "a")]
fn several_targets_are_picked_and_kept(
    #[case] spec: Value,
    #[case] has: &'static [&'static str],
    #[case] expected: &str,
) {
    let targets = ["a", "b", "c"].map(|name| target(name, json!({})));
    let wish = Wish {
        spec,
        has,
        ..Wish::default()
    };
    assert_eq!(names(&run(&wish, &targets)), expected);
}

#[test]
fn of_a_surplus_what_is_unwell_goes_first() {
    let wish = Wish {
        spec: json!({"targets": 1}),
        has: &["a", "b", "c"],
        ..Wish::default()
    };
    let cordoned = json!({"spec": {"unschedulable": true}});
    let targets = [
        target("a", lost(1)),
        target("b", cordoned),
        target("c", json!({})),
    ];
    assert_eq!(names(&run(&wish, &targets)), "c");
}

#[test]
fn several_targets_are_spread_over_failure_domains() {
    let cell = |name: &str| json!({"spec": {"cells": [{"name": name}]}});
    let targets = [
        target("a", cell("one")),
        target("b", cell("one")),
        target("c", cell("two")),
        target("d", json!({"metadata": {"labels": {"location": "two"}}})),
    ];
    let two = Wish {
        spec: json!({"targets": 2}),
        ..Wish::default()
    };
    assert_eq!(names(&run(&two, &targets)), "a c");
    let three = Wish {
        spec: json!({"targets": 3}),
        ..Wish::default()
    };
    let decision = run(&three, &targets);
    assert_eq!(names(&decision), "a b c");
    let words = &decision.picks[1].new.as_ref().unwrap().1;
    assert!(words.contains("failure domain shared with 1"), "{words}");
}

#[rstest]
#[case::all(json!({"targets": "All"}), "b", vec![])]
#[case::divided(json!({"targets": 2, "replicas": "Divided"}), "b", vec![])]
#[case::duplicated(json!({"targets": 2}), "a b", vec![HoldReason::NoReplacement])]
fn the_share_of_a_lost_target_is_carried_by_the_others_if_they_share(
    #[case] spec: Value,
    #[case] expected: &str,
    #[case] hold: Vec<HoldReason>,
) {
    let wish = Wish {
        spec,
        has: &["a", "b"],
        ..Wish::default()
    };
    let decision = run(&wish, &[target("a", lost(600)), target("b", json!({}))]);
    assert_eq!(
        (names(&decision), holds(&decision)),
        (expected.to_owned(), hold)
    );
    // Of two lost ones nobody carries anything.
    let decision = run(&wish, &[target("a", lost(600)), target("b", lost(601))]);
    assert_eq!(names(&decision), "a b");
}

#[test]
fn one_target_is_moved_a_turn() {
    let wish = Wish {
        spec: json!({"targets": 2}),
        has: &["a", "b"],
        ..Wish::default()
    };
    let targets = [
        target("a", drained()),
        target("b", drained()),
        target("c", json!({})),
        target("d", json!({})),
    ];
    let decision = run(&wish, &targets);
    assert_eq!(names(&decision), "b c");
    assert_eq!(holds(&decision), [HoldReason::RateLimited]);
    assert!(decision.used_turn);
}

#[test]
fn a_target_outside_moves_only_to_one_that_is_fit() {
    let wish = Wish {
        has: &["a"],
        outside: &["a"],
        turn: false,
        ..Wish::default()
    };
    let decision = run(&wish, &[target("a", json!({})), target("b", json!({}))]);
    assert_eq!(names(&decision), "b");
    let decision = run(&wish, &[target("a", json!({})), target("b", lost(1))]);
    assert_eq!(names(&decision), "a");
    assert_eq!(holds(&decision), [HoldReason::NoReplacement]);
}

#[rstest]
#[case(json!({"targets": "All"}), 16, false)]
#[case(json!({"targets": "All"}), 17, true)]
#[case(json!({"targets": 20}), 15, false)]
#[case(json!({"targets": 20}), 18, true)]
#[case(json!({"targets": 16}), 40, false)]
fn no_more_than_sixteen_are_picked_and_it_is_told(
    #[case] spec: Value,
    #[case] count: usize,
    #[case] crowded: bool,
) {
    let targets: Vec<_> = (0..count)
        .map(|n| target(&format!("t{n:02}"), json!({})))
        .collect();
    let decision = run(
        &Wish {
            spec,
            ..Wish::default()
        },
        &targets,
    );
    assert_eq!(
        (decision.picks.len(), decision.crowded),
        (count.min(16), crowded)
    );
}

/// A random target: how it is (see the match), free capacity, load, cell.
type Draw = (u8, u8, u32, u8);

fn drawn(draws: &[Draw]) -> (Vec<TargetFacts>, Vec<u32>) {
    let facts = draws
        .iter()
        .enumerate()
        .map(|(n, (how, percent, _, cell))| {
            let mut changes = match how {
                0 => lost(600),
                1 => lost(10),
                2 => drained(),
                3 => json!({"spec": {"unschedulable": true}}),
                4 => json!({"spec": {"taints": [{"key": "x", "effect": "NoExecute"}]}}),
                5 => json!({"metadata": {"deletionTimestamp": "2029-01-01T00:00:00Z"}}),
                _ => json!({}),
            };
            if *how > 5 {
                merge_patch(&mut changes, &free(*percent)).unwrap();
            }
            changes["spec"]["cells"] = json!([{"name": format!("c{cell}")}]);
            target(&format!("t{n:02}"), changes)
        });
    (facts.collect(), draws.iter().map(|draw| draw.2).collect())
}

proptest! {
    /// In every world: equal inputs in any order give the same decision; a second pass changes
    /// nothing; no more is picked than wanted but for what is held; what is picked anew is fit; and a
    /// healthy target is left only where another healthy one is.
    #[test]
    fn invariants_hold_in_every_world(
        draws in prop::collection::vec((0_u8..12, 0_u8..=100, 0_u32..4, 0_u8..3), 0..22),
        has in prop::collection::btree_set(0_usize..24, 0..5),
        targets in prop_oneof![Just(json!("All")), (1_u32..20).prop_map(|n| json!(n))],
        replicas in prop_oneof![Just("Duplicated"), Just("Divided")],
        (turn, guard, rotate) in (any::<bool>(), any::<bool>(), 0_usize..22),
    ) {
        let (facts, loads) = drawn(&draws);
        let spec = json!({"targets": targets, "replicas": replicas});
        let spec: PlacementSpec = serde_json::from_value(spec).unwrap();
        let in_use = BTreeSet::new();
        let here = Circumstances {
            spec: &spec, in_use: &in_use, grace: Duration::from_secs(300),
            listening_since: now() - jiff::SignedDuration::from_hours(9), now: now(),
        };
        let mut candidates: Vec<_> = facts.iter().zip(&loads)
            .map(|(facts, load)| Candidate { facts, location: Some("l"), homes: &[], load: *load }).collect();
        let picked = |n: usize| facts.get(n).map_or_else(
            || PickedTarget { key: format!("K{n}"), ..PickedTarget::default() }, |f| f.target.clone());
        let has: Vec<PickedTarget> = has.into_iter().map(picked).collect();
        let decide = |has: &[PickedTarget], candidates: &[Candidate<'_>], turn| {
            let current: Vec<_> = has.iter().map(|target| Held { target, decision: None }).collect();
            let request = Request {
                here, current: &current, quota: &Unlimited, guard: &|_| guard, turn,
            };
            schedule(&request, candidates)
        };
        let first = decide(&has, &candidates, turn);
        if !candidates.is_empty() {
            let by = rotate % candidates.len();
            candidates.rotate_left(by);
        }
        prop_assert_eq!(&decide(&has, &candidates, turn), &first);
        let got: Vec<_> = first.picks.iter().map(|pick| pick.target.clone()).collect();
        prop_assert!(got.is_sorted() && got.windows(2).all(|pair| pair[0] != pair[1]));
        // The turn is over.
        let second = decide(&got, &candidates, false);
        let again: Vec<_> = second.picks.iter().map(|pick| pick.target.clone()).collect();
        prop_assert_eq!(&again, &got);
        prop_assert_eq!(&second.left, &vec![]);
        let leaving = |d: &Decision| d.picks.iter().map(|p| p.leaving.clone()).collect::<Vec<_>>();
        prop_assert_eq!(leaving(&second), leaving(&first));
        let limit = match spec.targets { TargetCount::Count(n) => n as usize, TargetCount::All => 99 };
        let held = holds(&first).len();
        prop_assert!(got.len() <= limit.min(MAX_TARGETS) + held && got.len() <= MAX_TARGETS);
        let find = |target: &PickedTarget| facts.iter().find(|f| f.target == *target);
        for pick in first.picks.iter().filter(|pick| pick.new.is_some()) {
            let facts = find(&pick.target).unwrap();
            let draining = facts.is_draining(now());
            prop_assert_eq!(unfit(&spec, &in_use, &Unlimited, facts, draining), None);
        }
        let healthy = |target: &PickedTarget| find(target).is_some_and(|f| f.ready && !f.deleting);
        let left_healthy = first.left.iter().any(|left| healthy(&left.target));
        prop_assert!(!left_healthy || got.iter().any(healthy), "the last healthy copy");
        if guard {
            let evicted = [LeaveReason::Unreachable, LeaveReason::NotReady, LeaveReason::Draining,
                LeaveReason::Tainted];
            let surplus = has.len() > limit.min(MAX_TARGETS);
            let moved = first.left.iter().any(|left| evicted.contains(&left.reason));
            prop_assert!(surplus || !moved || first.picks.iter().all(|pick| pick.new.is_none()));
        }
    }
}
