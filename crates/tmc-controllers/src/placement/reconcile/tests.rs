//! Placements as tables.

use rstest::rstest;
use serde_json::{Value, json};
use tmc_api::conditions::ConditionStatus;

use super::*;

fn now() -> Timestamp {
    "2030-01-01T00:00:00Z".parse().unwrap()
}

fn location(name: &str, labels: Value, selector: Value) -> Arc<Location> {
    Arc::new(
        serde_json::from_value(json!({
            "apiVersion": "scheduling.kcp.io/v1alpha1", "kind": "Location",
            "metadata": {"name": name, "labels": labels},
            "spec": {"instanceSelector": selector},
        }))
        .unwrap(),
    )
}

fn target(name: &str, ready: bool) -> Arc<SyncTarget> {
    Arc::new(
        serde_json::from_value(json!({
            "apiVersion": "workload.kcp.io/v1alpha1", "kind": "SyncTarget",
            "metadata": {"name": name, "uid": format!("u-{name}"), "labels": {"location": name}},
            "spec": {},
            "status": {"conditions": [{"type": "Ready", "status": if ready {"True"} else {"False"}}]},
        }))
        .unwrap(),
    )
}

fn changed(target: &Arc<SyncTarget>, change: impl FnOnce(&mut SyncTarget)) -> Arc<SyncTarget> {
    let mut target = (**target).clone();
    change(&mut target);
    Arc::new(target)
}

fn placement(spec: Value) -> Placement {
    serde_json::from_value(json!({
        "apiVersion": "scheduling.kcp.io/v1alpha1", "kind": "Placement",
        "metadata": {"name": "p", "generation": 4}, "spec": spec,
    }))
    .unwrap()
}

fn any_location() -> Placement {
    placement(json!({"locationSelectors": [{}], "namespaceSelector": {}}))
}

/// Two targets, each with its own Location, in the own workspace; the west has some load already.
fn two() -> Observed {
    Observed {
        own_path: "root:demo".into(),
        provider: Provider::Own(ClusterName::new("c1")),
        permission: Permission::All,
        locations: vec![
            location(
                "east",
                json!({"location": "east"}),
                json!({"matchLabels": {"location": "east"}}),
            ),
            location(
                "west",
                json!({"location": "west"}),
                json!({"matchLabels": {"location": "west"}}),
            ),
        ],
        targets: vec![target("east", true), target("west", true)],
        load: [(sync_target_key("c1", "west"), 1)].into(),
        bound: true,
    }
}

/// Applies the status, checks that a second pass changes nothing, and the invariants.
fn run(placement: &Placement, observed: &Observed) -> Placement {
    let mut new = placement.clone();
    new.status = Some(status(placement, observed, now()));
    let later = now() + jiff::SignedDuration::from_secs(5);
    let second = status(&new, observed, later);
    assert_eq!(
        new.status.as_ref(),
        Some(&second),
        "a second pass writes nothing"
    );
    let status = new.status.clone().unwrap();
    assert_eq!(
        status.phase == PlacementPhase::Pending,
        status.selected_location.is_none()
    );
    let new = metadata(&new, &status.sync_targets);
    assert_eq!(metadata(&new, &status.sync_targets), new);
    let annotation = new
        .metadata
        .annotations
        .as_ref()
        .and_then(|a| a.get(PLACEMENT_SYNC_TARGET_ANNOTATION));
    assert_eq!(
        annotation,
        status.sync_targets.first().map(|target| &target.key)
    );
    new
}

fn view(placement: &Placement) -> (PlacementPhase, Option<&str>, Option<&str>) {
    let status = placement.status.as_ref().unwrap();
    (
        status.phase,
        status.selected_location.as_ref().map(|l| &*l.location_name),
        status.sync_targets.first().map(|t| &*t.name),
    )
}

fn reasons(placement: &Placement) -> (ConditionStatus, &str, ConditionStatus, &str) {
    let get = |kind| conditions::get(placement.conditions(), kind).unwrap();
    let (ready, scheduled) = (get(READY), get(condition::SCHEDULED));
    (
        ready.status,
        &ready.reason,
        scheduled.status,
        &scheduled.reason,
    )
}

const GOOD: (ConditionStatus, &str, ConditionStatus, &str) =
    (ConditionStatus::True, "", ConditionStatus::True, "");

#[test]
fn a_placement_is_bound_to_the_target_of_the_location_it_selects() {
    let west = placement(json!({
        "locationSelectors": [{"matchLabels": {"location": "west"}}], "namespaceSelector": {},
    }));
    let new = run(&west, &two());
    assert_eq!(
        view(&new),
        (PlacementPhase::Bound, Some("west"), Some("west"))
    );
    assert_eq!(reasons(&new), GOOD);
    let status = new.status.unwrap();
    assert_eq!(status.selected_location.unwrap().path, "root:demo");
    assert_eq!(status.observed_generation, Some(4));
    let picked = &status.sync_targets[0];
    assert_eq!(picked.key, sync_target_key("c1", "west"));
    assert_eq!((&*picked.cluster, &*picked.uid), ("c1", "u-west"));
}

#[test]
fn without_a_bound_namespace_it_is_unbound() {
    let observed = Observed {
        bound: false,
        ..two()
    };
    assert_eq!(
        view(&run(&any_location(), &observed)).0,
        PlacementPhase::Unbound
    );
}

#[rstest]
#[case::no_selectors(json!({"namespaceSelector": {}}), "LocationNoMatch", "[{}]")]
#[case::no_match(json!({"locationSelectors": [{"matchLabels": {"location": "north"}}]}), "LocationNoMatch", "matches")]
#[case::bad_operator(
    json!({"locationSelectors": [{"matchExpressions": [{"key": "a", "operator": "Near", "values": ["b"]}]}]}),
    "LocationInvalid", "operator")]
#[case::other_resource(
    json!({"locationSelectors": [{}], "locationResource": {"group": "", "version": "v1", "resource": "nodes"}}),
    "LocationInvalid", "synctargets")]
fn what_selects_nothing_is_a_condition_with_a_remedy(
    #[case] spec: Value,
    #[case] reason: &str,
    #[case] remedy: &str,
) {
    let new = run(&placement(spec), &two());
    assert_eq!(view(&new), (PlacementPhase::Pending, None, None));
    assert_eq!(reasons(&new).1, reason);
    let message = &conditions::get(new.conditions(), READY).unwrap().message;
    assert!(message.contains(remedy), "{message}");
}

#[test]
fn a_location_without_a_fit_target_is_selected_but_not_scheduled() {
    let observed = Observed {
        targets: vec![target("east", false)],
        ..two()
    };
    let new = run(&any_location(), &observed);
    assert_eq!(view(&new), (PlacementPhase::Bound, Some("east"), None));
    let scheduled = conditions::get(new.conditions(), condition::SCHEDULED).unwrap();
    assert_eq!(scheduled.reason, "NoValidTarget");
    assert!(
        scheduled.message.contains("1 not Ready"),
        "{}",
        scheduled.message
    );
    let none = run(
        &any_location(),
        &Observed {
            targets: vec![],
            ..two()
        },
    );
    let scheduled = conditions::get(none.conditions(), condition::SCHEDULED).unwrap();
    assert!(
        scheduled.message.contains("tmc cluster register"),
        "{}",
        scheduled.message
    );
}

#[test]
fn a_lost_target_is_kept_and_so_is_a_cordoned_one() {
    let bound = run(&any_location(), &two());
    assert_eq!(view(&bound).2, Some("east"));
    let mut lost = two();
    lost.targets[0] = target("east", false);
    assert_eq!(view(&run(&bound, &lost)).2, Some("east"));
    let mut cordoned = two();
    cordoned.targets[0] = changed(&cordoned.targets[0], |t| t.spec.unschedulable = true);
    assert_eq!(view(&run(&bound, &cordoned)).2, Some("east"));
    // A new one goes elsewhere.
    assert_eq!(view(&run(&any_location(), &cordoned)).2, Some("west"));
}

#[test]
fn a_target_that_is_deleted_or_made_anew_is_left() {
    let bound = run(&any_location(), &two());
    let mut deleted = two();
    deleted.targets[0] = changed(&deleted.targets[0], |t| {
        t.metadata.deletion_timestamp =
            serde_json::from_value(json!("2029-01-01T00:00:00Z")).unwrap();
    });
    assert_eq!(view(&run(&bound, &deleted)).2, Some("west"));
    deleted.targets.remove(1);
    assert_eq!(view(&run(&bound, &deleted)).2, None);
    let mut anew = two();
    anew.targets[0] = changed(&anew.targets[0], |t| t.metadata.uid = Some("other".into()));
    let moved = run(&bound, &anew);
    assert_eq!(moved.status.unwrap().sync_targets[0].uid, "other");
}

#[test]
fn draining_starts_at_its_time() {
    let bound = run(&any_location(), &two());
    for (at, expected) in [
        ("2030-01-01T00:00:01Z", "east"),
        ("2030-01-01T00:00:00Z", "west"),
    ] {
        let mut draining = two();
        draining.targets[0] = changed(&draining.targets[0], |t| {
            t.spec.evict_after = serde_json::from_value(json!(at)).unwrap();
        });
        assert_eq!(view(&run_once(&bound, &draining)).2, Some(expected), "{at}");
    }
}

/// Without the second pass, which would be later.
fn run_once(placement: &Placement, observed: &Observed) -> Placement {
    let mut new = placement.clone();
    new.status = Some(status(placement, observed, now()));
    new
}

#[test]
fn another_location_moves_only_where_there_is_a_fit_target() {
    let bound = run(&any_location(), &two());
    let mut west = bound.clone();
    west.spec.location_selectors =
        serde_json::from_value(json!([{"matchLabels": {"location": "west"}}])).unwrap();
    assert_eq!(
        view(&run(&west, &two())),
        (PlacementPhase::Bound, Some("west"), Some("west"))
    );
    let mut lost = two();
    lost.targets[1] = target("west", false);
    let stays = run(&west, &lost);
    assert_eq!(view(&stays).2, Some("east"));
    assert_eq!(reasons(&stays).1, "LocationInvalid");
    // Locations that are gone evict nothing.
    let stays = run(
        &bound,
        &Observed {
            locations: vec![],
            ..two()
        },
    );
    assert_eq!(
        view(&stays),
        (PlacementPhase::Bound, Some("east"), Some("east"))
    );
    assert_eq!(reasons(&stays).1, "LocationInvalid");
}

fn foreign(permission: Permission) -> Observed {
    Observed {
        provider: Provider::Foreign(ClusterName::new("c2")),
        permission,
        ..two()
    }
}

fn at_compute() -> Placement {
    placement(
        json!({"locationSelectors": [{}], "locationWorkspace": "root:compute", "namespaceSelector": {}}),
    )
}

#[test]
fn a_foreign_location_needs_permission() {
    let allowed = run(&at_compute(), &foreign(Permission::All));
    let status = allowed.status.clone().unwrap();
    assert_eq!(status.selected_location.unwrap().path, "root:compute");
    assert_eq!(status.sync_targets[0].cluster, "c2");
    let some = Permission::Only(["west".to_owned()].into());
    assert_eq!(view(&run(&at_compute(), &foreign(some))).1, Some("west"));
    let denied = run(&at_compute(), &foreign(Permission::Only(BTreeSet::new())));
    assert_eq!(view(&denied), (PlacementPhase::Pending, None, None));
    assert_eq!(reasons(&denied).3, "LocationForbidden");
    let message = &conditions::get(denied.conditions(), condition::SCHEDULED)
        .unwrap()
        .message;
    let remedy = "tmc workspace grant root:compute --workspace root:demo --role use";
    assert!(message.contains(remedy), "{message}");
    // Permission that is taken away ends the use.
    let revoked = run(&allowed, &foreign(Permission::Only(BTreeSet::new())));
    assert_eq!(view(&revoked), (PlacementPhase::Pending, None, None));
}

#[test]
fn a_workspace_that_does_not_exist_looks_like_one_that_grants_nothing() {
    let denied = run(&at_compute(), &foreign(Permission::Only(BTreeSet::new())));
    let unknown = Observed {
        provider: Provider::Unknown,
        locations: vec![],
        targets: vec![],
        ..foreign(Permission::Only(BTreeSet::new()))
    };
    assert_eq!(run(&at_compute(), &unknown).status, denied.status);
    let empty = Observed {
        locations: vec![],
        ..foreign(Permission::Only(BTreeSet::new()))
    };
    assert_eq!(run(&at_compute(), &empty).status, denied.status);
}

#[test]
fn several_targets_are_refused_in_words() {
    let mut many = any_location();
    many.spec.targets = TargetCount::All;
    let new = run(&many, &two());
    let scheduled = conditions::get(new.conditions(), condition::SCHEDULED).unwrap();
    assert!(
        scheduled.message.contains("spec.targets"),
        "{}",
        scheduled.message
    );
}

#[test]
fn a_taint_counts_when_the_target_or_all_of_its_cells_have_it() {
    let spec = |cells: Value| {
        changed(&target("east", true), |t| {
            t.spec.cells = serde_json::from_value(cells).unwrap()
        })
    };
    let taint = json!([{"key": "a", "effect": "NoSchedule"}]);
    let half = spec(json!([{"name": "one", "taints": taint}, {"name": "two"}]));
    let whole = spec(json!([{"name": "one", "taints": taint}, {"name": "two", "taints": taint}]));
    for (target, fits) in [(half, true), (whole, false)] {
        let observed = Observed {
            targets: vec![target],
            ..two()
        };
        assert_eq!(view(&run(&any_location(), &observed)).2.is_some(), fits);
    }
}

#[test]
fn load_spreads_placements() {
    let mut observed = two();
    observed.load = [(sync_target_key("c1", "east"), 3)].into();
    assert_eq!(view(&run(&any_location(), &observed)).2, Some("west"));
}

#[test]
fn the_scarcer_of_cpu_and_memory_is_what_is_free() {
    for (available, total, expected) in [
        (
            json!({"cpu": "1", "memory": "3Gi"}),
            json!({"cpu": "4", "memory": "4Gi"}),
            Some(25),
        ),
        (
            json!({"memory": "4Ti"}),
            json!({"cpu": "4", "memory": "4Ti"}),
            Some(100),
        ),
        (json!({"cpu": "4"}), json!({"cpu": "0"}), Some(100)),
        (json!({}), json!({"cpu": "4"}), None),
    ] {
        let target = changed(&target("east", true), |t| {
            let status = t.status.get_or_insert_default();
            status.available_resources = serde_json::from_value(available.clone()).unwrap();
            status.allocatable = serde_json::from_value(total.clone()).unwrap();
        });
        assert_eq!(free(&target), expected, "{available} of {total}");
    }
    assert_eq!(free(&target("east", true)), None);
}
