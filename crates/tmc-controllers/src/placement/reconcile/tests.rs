//! Placements as tables.

use std::collections::BTreeMap;
use std::sync::Arc;

use rstest::rstest;
use serde_json::{Value, json};
use tmc_api::conditions::ConditionStatus;
use tmc_api::hashes::sync_target_key;
use tmc_api::scheduling::Location;
use tmc_api::workload::SyncTarget;
use tmc_apimachinery::{ClusterName, GroupResource};

use super::super::facts::TargetFacts;
use super::super::filter::{PlacementQuota, Unlimited};
use super::*;
use crate::eviction::Rules;

pub(super) fn now() -> Timestamp {
    "2030-01-01T00:00:00Z".parse().unwrap()
}

pub(super) fn location(name: &str, labels: Value, selector: Value) -> Arc<Location> {
    Arc::new(
        serde_json::from_value(json!({
            "apiVersion": "scheduling.kcp.io/v1alpha1", "kind": "Location",
            "metadata": {"name": name, "labels": labels},
            "spec": {"instanceSelector": selector},
        }))
        .unwrap(),
    )
}

pub(super) fn target(name: &str, ready: bool) -> Arc<SyncTarget> {
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

pub(super) fn changed(
    target: &Arc<SyncTarget>,
    change: impl FnOnce(&mut SyncTarget),
) -> Arc<SyncTarget> {
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

pub(super) fn any_location() -> Placement {
    placement(json!({"locationSelectors": [{}], "namespaceSelector": {}}))
}

/// What [`Observed`] is made of.
#[derive(Clone)]
pub(super) struct World {
    pub(super) provider: Provider,
    pub(super) permission: Permission,
    pub(super) locations: Vec<Arc<Location>>,
    pub(super) targets: Vec<Arc<SyncTarget>>,
    /// How many other Placements have a target, by name.
    pub(super) load: BTreeMap<&'static str, u32>,
    pub(super) bound: bool,
    pub(super) in_use: BTreeSet<GroupResource>,
    pub(super) quota: Arc<dyn PlacementQuota>,
    pub(super) turn: bool,
}

impl World {
    pub(super) fn plan(&self, placement: &Placement, now: Timestamp) -> Plan {
        let cluster = match &self.provider {
            Provider::Own(cluster) | Provider::Foreign(cluster) => cluster.clone(),
            Provider::Unknown => ClusterName::new("c1"),
        };
        let facts = self
            .targets
            .iter()
            .map(|target| TargetFacts::new(&cluster, target));
        let locations = self.locations.iter().map(|location| (**location).clone());
        let fleet = Fleet::new(facts.collect(), locations.collect());
        for (name, load) in &self.load {
            if let Some(member) = fleet.member(name) {
                member.load.set(*load);
            }
        }
        let observed = Observed {
            own_path: "root:demo",
            provider: &self.provider,
            permission: &self.permission,
            fleet: &fleet,
            bound: self.bound,
            in_use: &self.in_use,
            quota: &*self.quota,
            rules: Rules::default(),
            listening_since: now - jiff::SignedDuration::from_hours(9),
            turn: self.turn,
        };
        plan(placement, &observed, now)
    }
}

/// Two targets, each with its own Location, in the own workspace; the west has some load already.
pub(super) fn two() -> World {
    World {
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
        load: [("west", 1)].into(),
        bound: true,
        in_use: BTreeSet::new(),
        quota: Arc::new(Unlimited),
        turn: true,
    }
}

/// Applies the status, checks that a second pass changes nothing, and the invariants.
pub(super) fn run(placement: &Placement, world: &World) -> Placement {
    let mut new = placement.clone();
    new.status = Some(world.plan(placement, now()).status);
    let later = now() + jiff::SignedDuration::from_secs(5);
    let second = world.plan(&new, later);
    assert_eq!(
        new.status.as_ref(),
        Some(&second.status),
        "a second pass writes nothing"
    );
    assert_eq!(second.notices, [], "and tells nothing");
    let new = metadata(&new, &second.status.sync_targets);
    assert_eq!(metadata(&new, &second.status.sync_targets), new);
    check_invariants(&new, world);
    new
}

fn check_invariants(placement: &Placement, world: &World) {
    let status = placement.status.clone().unwrap();
    let located = status.selected_location.is_some();
    assert_eq!(status.phase == PlacementPhase::Pending, !located);
    assert_eq!(
        status.phase == PlacementPhase::Bound,
        located && world.bound
    );
    assert!(located || status.sync_targets.is_empty());
    let annotations = placement.metadata.annotations.as_ref();
    let annotation = annotations.and_then(|a| a.get(PLACEMENT_SYNC_TARGET_ANNOTATION));
    let only = match &status.sync_targets[..] {
        [only] => Some(&only.key),
        _ => None,
    };
    assert_eq!(annotation, only);
    assert!(status.sync_targets.is_sorted() && status.sync_targets.len() <= MAX_TARGETS);
    let keys = |list: &[TargetDecision]| list.iter().map(|d| d.key.clone()).collect::<Vec<_>>();
    let picked: Vec<_> = status.sync_targets.iter().map(|t| t.key.clone()).collect();
    assert_eq!(
        keys(&status.decisions),
        picked,
        "a reason for each, in the same order"
    );
    assert!(status.rejections.len() <= 16);
}

pub(super) fn view(placement: &Placement) -> (PlacementPhase, Option<&str>, Option<&str>) {
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
    let observed = World {
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
fn an_invalid_selector_of_namespaces_is_a_condition_and_not_silence() {
    let near = json!({"matchExpressions": [{"key": "a", "operator": "Near", "values": ["b"]}]});
    let new = run(
        &placement(json!({"locationSelectors": [{}], "namespaceSelector": near})),
        &World {
            bound: false,
            ..two()
        },
    );
    assert_eq!(view(&new).0, PlacementPhase::Unbound);
    let ready = conditions::get(new.conditions(), READY).unwrap();
    assert_eq!(
        (ready.status, &*ready.reason),
        (ConditionStatus::False, "NamespaceSelectorInvalid")
    );
    assert!(ready.message.contains("operator"), "{}", ready.message);
}

#[test]
fn a_location_without_a_fit_target_is_selected_but_not_scheduled() {
    let observed = World {
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
        &World {
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
pub(super) fn run_once(placement: &Placement, world: &World) -> Placement {
    let mut new = placement.clone();
    new.status = Some(world.plan(placement, now()).status);
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
        &World {
            locations: vec![],
            ..two()
        },
    );
    assert_eq!(
        view(&stays),
        (PlacementPhase::Bound, Some("east"), Some("east"))
    );
    assert_eq!(reasons(&stays).1, "LocationNotFound");
}

fn foreign(permission: Permission) -> World {
    World {
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
    let unknown = World {
        provider: Provider::Unknown,
        locations: vec![],
        targets: vec![],
        ..foreign(Permission::Only(BTreeSet::new()))
    };
    assert_eq!(run(&at_compute(), &unknown).status, denied.status);
    let empty = World {
        locations: vec![],
        ..foreign(Permission::Only(BTreeSet::new()))
    };
    assert_eq!(run(&at_compute(), &empty).status, denied.status);
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
        let observed = World {
            targets: vec![target],
            ..two()
        };
        assert_eq!(view(&run(&any_location(), &observed)).2.is_some(), fits);
    }
}

#[test]
fn load_spreads_placements_and_its_own_does_not_count() {
    let mut observed = two();
    observed.load = [("east", 3)].into();
    assert_eq!(view(&run(&any_location(), &observed)).2, Some("west"));
    let mut several = any_location();
    several.spec.targets = TargetCount::Count(2);
    let both = run(&several, &two());
    assert_eq!(both.status.unwrap().sync_targets.len(), 2);
}

pub(super) fn scheduled(placement: &Placement) -> Condition {
    conditions::get(placement.conditions(), condition::SCHEDULED)
        .unwrap()
        .clone()
}

#[test]
fn several_targets_have_no_annotation_and_a_reason_each() {
    let mut all = any_location();
    all.spec.targets = TargetCount::All;
    let new = run(&all, &two());
    let status = new.status.clone().unwrap();
    assert_eq!(status.sync_targets.len(), 2);
    assert!(
        status
            .decisions
            .iter()
            .all(|d| !d.message.is_empty() && d.time.is_some())
    );
    let locations: BTreeSet<_> = status.decisions.iter().map(|d| &*d.location).collect();
    assert_eq!(locations, BTreeSet::from(["east", "west"]));
    assert_eq!(scheduled(&new).message, "2 SyncTargets");
}

#[rstest]
#[case(
    TargetCount::Count(3),
    2,
    "NoValidTarget",
    "2 of 3 SyncTargets; there are no others"
)]
#[case(TargetCount::Count(20), 20, "TooManyTargets", "which is 16")]
#[case(TargetCount::All, 17, "TooManyTargets", "which is 16")]
fn fewer_targets_than_wanted_are_used_and_told(
    #[case] wanted: TargetCount,
    #[case] count: usize,
    #[case] reason: &str,
    #[case] text: &str,
) {
    let mut placement = any_location();
    placement.spec.targets = wanted;
    let world = World {
        locations: vec![location("all", json!({}), json!({}))],
        targets: (0..count).map(|n| target(&format!("t{n}"), true)).collect(),
        ..two()
    };
    let new = run(&placement, &world);
    assert_eq!(
        new.status.as_ref().unwrap().sync_targets.len(),
        count.min(16)
    );
    let scheduled = scheduled(&new);
    assert_eq!(
        (scheduled.status, &*scheduled.reason),
        (ConditionStatus::False, reason)
    );
    assert!(scheduled.message.contains(text), "{}", scheduled.message);
}

#[test]
fn the_condition_says_why_this_target_and_later_changes_of_others_do_not_touch_it() {
    let bound = run(&any_location(), &two());
    let text = "east: best of 2: free capacity unknown, 0 other Placements";
    assert_eq!(scheduled(&bound).message, text);
    let mut other = two();
    other.targets[1] = target("west", false);
    other.load.clear();
    assert_eq!(run(&bound, &other).status, bound.status);
}

#[test]
fn only_what_is_in_use_has_to_be_accepted() {
    let accepts = |name: &str, accepted: &str, refused: &str| {
        changed(&target(name, true), |t| {
            t.status.as_mut().unwrap().synced_resources = serde_json::from_value(json!([
                {"group": "apps", "resource": accepted, "versions": ["v1"], "state": "Accepted"},
                {"group": "apps", "resource": refused, "versions": ["v1"], "state": "Incompatible"},
            ]))
            .unwrap();
        })
    };
    let mut world = two();
    world.targets = vec![
        accepts("east", "deployments", "statefulsets"),
        accepts("west", "statefulsets", "deployments"),
    ];
    let idle = run(&any_location(), &world);
    assert_eq!(view(&idle).2, Some("east"));
    world.in_use = [GroupResource::new("apps", "statefulsets")].into();
    assert_eq!(view(&run(&any_location(), &world)).2, Some("west"));
    // One that has a target which does not accept it moves to one that does.
    assert_eq!(view(&run(&idle, &world)).2, Some("west"));
    world.targets.pop();
    let nowhere = run(&any_location(), &world);
    let message = scheduled(&nowhere).message;
    assert!(
        message.contains("1 without statefulsets.apps, which is in use"),
        "{message}"
    );
    let stays = run(&idle, &world);
    assert_eq!(view(&stays).2, Some("east"));
    assert!(
        scheduled(&stays).message.contains("stays"),
        "{}",
        scheduled(&stays).message
    );
}

struct Full;

impl PlacementQuota for Full {
    fn check(&self, _: &tmc_api::scheduling::PlacementSpec, _: &TargetFacts) -> Result<(), String> {
        Err("cpu is used up".into())
    }
}

#[test]
fn a_quota_keeps_newcomers_away_and_is_named() {
    let full = World {
        quota: Arc::new(Full),
        ..two()
    };
    let new = run(&any_location(), &full);
    assert_eq!(reasons(&new).3, "QuotaExceeded");
    assert!(scheduled(&new).message.contains("cpu is used up"));
    let bound = run(&any_location(), &two());
    assert_eq!(
        view(&run(&bound, &full)).2,
        Some("east"),
        "what is there stays"
    );
}

#[test]
fn another_workspace_is_told_numbers_and_no_names() {
    let mut lost = foreign(Permission::All);
    lost.targets[0] = target("east", false);
    lost.targets[1] = target("west", false);
    let status = run(&at_compute(), &lost).status.unwrap();
    assert_eq!(
        (
            status.rejections[0].count,
            status.rejections[0].examples.len()
        ),
        (2, 0)
    );
    let mut own = two();
    own.targets = lost.targets;
    let status = run(&any_location(), &own).status.unwrap();
    assert_eq!(status.rejections[0].examples, ["east", "west"]);
}

#[test]
fn a_permission_for_another_location_does_not_cover_what_was_found_through_this_one() {
    let some = |name: &str| Permission::Only([name.to_owned()].into());
    let east = run(&at_compute(), &foreign(some("east")));
    assert_eq!(view(&east).2, Some("east"));
    let mut revoked = foreign(some("west"));
    revoked.targets[1] = target("west", false);
    let left = run(&east, &revoked);
    assert_eq!(
        view(&left).2,
        None,
        "the use ends although nothing else is fit"
    );
}
