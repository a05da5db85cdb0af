//! Which targets a Placement may be put on, and what is in the way of the others.

use std::collections::{BTreeMap, BTreeSet};

use tmc_api::scheduling::{MAX_EXAMPLES, MAX_REJECTIONS, PlacementSpec, Rejection};
use tmc_apimachinery::GroupResource;

use super::facts::TargetFacts;
use crate::eviction::{admits, is_usable};

/// What is in the way of a target; ordered as it is checked.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Unfit {
    /// Being deleted.
    Deleting,
    /// Not Ready.
    NotReady,
    /// Cordoned.
    Cordoned,
    /// Being drained.
    Draining,
    /// Serves none of the synced APIs.
    NoApis,
    /// Does not accept a resource that is in use.
    ApiNotAccepted(GroupResource),
    /// Has a taint that is not tolerated.
    Tainted,
    /// All of its cells have one.
    CellsTainted,
    /// Has less of a resource than is asked for.
    TooSmall(String),
    /// A quota says no: why.
    Quota(String),
}

impl Unfit {
    /// In words that follow a number: `2 not Ready`.
    pub fn words(&self) -> String {
        match self {
            Self::Deleting => "being deleted".into(),
            Self::NotReady => "not Ready".into(),
            Self::Cordoned => "cordoned".into(),
            Self::Draining => "being drained".into(),
            Self::NoApis => "without accepted APIs".into(),
            Self::ApiNotAccepted(resource) => format!("without {resource}, which is in use"),
            Self::Tainted => "with a taint that is not tolerated".into(),
            Self::CellsTainted => "with such a taint on each of its cells".into(),
            Self::TooSmall(resource) => format!("with too little {resource} free"),
            Self::Quota(why) => format!("over quota ({why})"),
        }
    }

    /// In one word.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Deleting => "Deleting",
            Self::NotReady => "NotReady",
            Self::Cordoned => "Cordoned",
            Self::Draining => "Draining",
            Self::NoApis => "NoAcceptedAPIs",
            Self::ApiNotAccepted(_) => "ApiNotAccepted",
            Self::Tainted => "Tainted",
            Self::CellsTainted => "CellsTainted",
            Self::TooSmall(_) => "InsufficientCapacity",
            Self::Quota(_) => "QuotaExceeded",
        }
    }
}

/// Whether a quota leaves room for a Placement on a target.
pub trait PlacementQuota: Send + Sync + 'static {
    /// Asks; an error says in one clause what is short. Decides nothing that lasts: reserving is
    /// done when objects are labelled.
    ///
    /// # Errors
    /// What is short.
    fn check(&self, spec: &PlacementSpec, target: &TargetFacts) -> Result<(), String>;
}

/// No quota: everything is allowed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unlimited;

impl PlacementQuota for Unlimited {
    fn check(&self, _: &PlacementSpec, _: &TargetFacts) -> Result<(), String> {
        Ok(())
    }
}

/// What is in the way of putting a Placement on a target; nothing, if it is fit.
pub fn unfit(
    spec: &PlacementSpec,
    in_use: &BTreeSet<GroupResource>,
    quota: &dyn PlacementQuota,
    target: &TargetFacts,
    draining: bool,
) -> Option<Unfit> {
    let simple = [
        (target.deleting, Unfit::Deleting),
        (!target.ready, Unfit::NotReady),
        (target.cordoned, Unfit::Cordoned),
        (draining, Unfit::Draining),
        (!target.apis, Unfit::NoApis),
    ];
    if let Some((_, why)) = simple.into_iter().find(|(applies, _)| *applies) {
        return Some(why);
    }
    if let Some(missing) = in_use.iter().find(|used| !target.accepted.contains(*used)) {
        return Some(Unfit::ApiNotAccepted(missing.clone()));
    }
    if !admits(spec, &target.taints) {
        return Some(Unfit::Tainted);
    }
    if !target.cells.is_empty() && !target.cells.iter().any(|cell| is_usable(spec, cell)) {
        return Some(Unfit::CellsTainted);
    }
    if let Some(short) = too_small(spec, target) {
        return Some(Unfit::TooSmall(short));
    }
    quota.check(spec, target).err().map(Unfit::Quota)
}

/// The first resource of which less is free than the Placement's floor; what is not known is enough.
fn too_small(spec: &PlacementSpec, target: &TargetFacts) -> Option<String> {
    let floor = spec.resource_requirements.as_ref()?;
    if floor.requests.is_empty() {
        return None;
    }
    let room = target.room(|cell| is_usable(spec, cell));
    let short = |(name, wanted): &(&String, _)| room.get(*name).is_some_and(|free| free < *wanted);
    floor
        .requests
        .iter()
        .find(short)
        .map(|(name, _)| name.clone())
}

/// Targets that something was in the way of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rejected {
    /// How many.
    pub count: u32,
    /// The first of them by name.
    pub examples: BTreeSet<String>,
}

/// What was in the way of how many targets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally(BTreeMap<Unfit, Rejected>);

impl Tally {
    /// Counts a target.
    pub fn add(&mut self, unfit: Unfit, name: &str) {
        let rejected = self.0.entry(unfit).or_default();
        rejected.count = rejected.count.saturating_add(1);
        let last = rejected.examples.last();
        if rejected.examples.len() == MAX_EXAMPLES && last.is_some_and(|last| **last < *name) {
            return;
        }
        rejected.examples.insert(name.to_owned());
        if rejected.examples.len() > MAX_EXAMPLES {
            rejected.examples.pop_last();
        }
    }

    /// Whether nothing was in the way of any target.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a quota was in the way of some target, which thus was fit otherwise.
    pub fn is_over_quota(&self) -> bool {
        self.0.keys().any(|unfit| matches!(unfit, Unfit::Quota(_)))
    }

    /// In one clause: `2 not Ready, 1 cordoned`.
    pub fn why(&self) -> String {
        let kinds = self.0.iter().take(MAX_REJECTIONS);
        let parts: Vec<String> = kinds
            .map(|(unfit, rejected)| format!("{} {}", rejected.count, unfit.words()))
            .collect();
        parts.join(", ")
    }

    /// For the status. Names are for who owns the targets: other workspaces get numbers only.
    pub fn rejections(&self, named: bool) -> Vec<Rejection> {
        let kinds = self.0.iter().take(MAX_REJECTIONS);
        kinds
            .map(|(unfit, rejected)| Rejection {
                reason: unfit.reason().into(),
                message: unfit.words(),
                count: rejected.count,
                examples: rejected
                    .examples
                    .iter()
                    .filter(|_| named)
                    .cloned()
                    .collect(),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};
    use tmc_api::workload::SyncTarget;
    use tmc_apimachinery::ClusterName;

    use super::*;

    struct Full;

    impl PlacementQuota for Full {
        fn check(&self, _: &PlacementSpec, _: &TargetFacts) -> Result<(), String> {
            Err("cpu is used up".into())
        }
    }

    /// A good target, changed.
    fn target(changes: &Value) -> TargetFacts {
        let mut object = json!({
            "apiVersion": "workload.kcp.io/v1alpha1", "kind": "SyncTarget",
            "metadata": {"name": "t", "uid": "u"}, "spec": {},
            "status": {
                "conditions": [{"type": "Ready", "status": "True"}],
                "syncedResources": [
                    {"group": "apps", "resource": "deployments", "versions": ["v1"], "state": "Accepted"},
                    {"group": "apps", "resource": "statefulsets", "versions": ["v1"], "state": "Incompatible"},
                ],
                "allocatable": {"cpu": "4"},
            },
        });
        tmc_apimachinery::patch::merge_patch(&mut object, changes).unwrap();
        let target: SyncTarget = serde_json::from_value(object).unwrap();
        TargetFacts::new(&ClusterName::new("c"), &target)
    }

    fn check(changes: Value, spec: Value, in_use: &[&str]) -> Option<Unfit> {
        let spec: PlacementSpec = serde_json::from_value(spec).unwrap();
        let in_use = in_use
            .iter()
            .map(|r| GroupResource::new("apps", r))
            .collect();
        let target = target(&changes);
        let now = "2030-01-01T00:00:00Z".parse().unwrap();
        unfit(&spec, &in_use, &Unlimited, &target, target.is_draining(now))
    }

    fn taint(effect: &str) -> Value {
        json!([{"key": "a", "value": "v", "effect": effect}])
    }

    #[rstest]
    #[case::good(json!({}), None)]
    #[case::deleting(json!({"metadata": {"deletionTimestamp": "2029-01-01T00:00:00Z"}}), Some(Unfit::Deleting))]
    #[case::not_ready(json!({"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}}), Some(Unfit::NotReady))]
    #[case::cordoned(json!({"spec": {"unschedulable": true}}), Some(Unfit::Cordoned))]
    #[case::draining(json!({"spec": {"evictAfter": "2030-01-01T00:00:00Z"}}), Some(Unfit::Draining))]
    #[case::draining_later(json!({"spec": {"evictAfter": "2030-01-01T00:00:01Z"}}), None)]
    #[case::no_apis(json!({"status": {"conditions": [
        {"type": "APIAvailable", "status": "False"}, {"type": "Ready", "status": "True"}]}}), Some(Unfit::NoApis))]
    #[case::tainted(json!({"spec": {"taints": taint("NoSchedule")}}), Some(Unfit::Tainted))]
    #[case::tainted_hard(json!({"spec": {"taints": taint("NoExecute")}}), Some(Unfit::Tainted))]
    #[case::tainted_softly(json!({"spec": {"taints": taint("PreferNoSchedule")}}), None)]
    #[case::one_cell_left(json!({"spec": {"cells": [
        {"name": "a", "taints": taint("NoSchedule")}, {"name": "b"}]}}), None)]
    #[case::no_cell_left(json!({"spec": {"cells": [
        {"name": "a", "taints": taint("NoSchedule")}, {"name": "b", "taints": taint("NoExecute")}]}}),
        Some(Unfit::CellsTainted))]
    fn a_target_is_fit_unless_something_is_in_the_way(
        #[case] changes: Value,
        #[case] expected: Option<Unfit>,
    ) {
        assert_eq!(check(changes, json!({}), &["deployments"]), expected);
    }

    #[test]
    fn only_the_resources_in_use_have_to_be_accepted() {
        assert_eq!(check(json!({}), json!({}), &[]), None);
        let missing = GroupResource::new("apps", "statefulsets");
        assert_eq!(
            check(json!({}), json!({}), &["deployments", "statefulsets"]),
            Some(Unfit::ApiNotAccepted(missing.clone()))
        );
        let words = Unfit::ApiNotAccepted(missing).words();
        assert_eq!(words, "without statefulsets.apps, which is in use");
    }

    #[rstest]
    #[case("NoSchedule", json!({"key": "a", "operator": "Exists"}), None)]
    #[case("NoSchedule", json!({"key": "a", "value": "w"}), Some(Unfit::Tainted))]
    #[case("NoExecute", json!({"key": "a", "value": "v"}), None)]
    #[case("NoExecute", json!({"key": "a", "value": "v", "effect": "NoExecute", "tolerationSeconds": 60}),
        Some(Unfit::Tainted))]
    fn a_taint_must_be_tolerated_and_for_good(
        #[case] effect: &str,
        #[case] toleration: Value,
        #[case] expected: Option<Unfit>,
    ) {
        let spec = json!({"tolerations": [toleration]});
        assert_eq!(
            check(json!({"spec": {"taints": taint(effect)}}), spec, &[]),
            expected
        );
    }

    #[rstest]
    #[case(json!({"cpu": "4"}), None)]
    #[case(json!({"cpu": "4001m"}), Some(Unfit::TooSmall("cpu".into())))]
    #[case(json!({"example.com/gpu": "1"}), None)]
    fn the_floor_must_fit_into_what_is_known_to_be_free(
        #[case] requests: Value,
        #[case] expected: Option<Unfit>,
    ) {
        let spec = json!({"resourceRequirements": {"requests": requests}});
        assert_eq!(check(json!({}), spec, &[]), expected);
    }

    #[test]
    fn a_quota_is_asked_last_and_says_why() {
        let (spec, in_use) = (PlacementSpec::default(), BTreeSet::new());
        let good = unfit(&spec, &in_use, &Full, &target(&json!({})), false);
        assert_eq!(good.unwrap().words(), "over quota (cpu is used up)");
        let cordoned = target(&json!({"spec": {"unschedulable": true}}));
        let found = unfit(&spec, &in_use, &Full, &cordoned, false);
        assert_eq!(found, Some(Unfit::Cordoned));
    }

    #[test]
    fn rejections_are_bounded_and_name_targets_to_their_owner_only() {
        let mut tally = Tally::default();
        for i in (0..1000).rev() {
            tally.add(Unfit::NotReady, &format!("t{i}"));
        }
        tally.add(Unfit::Cordoned, "x");
        let own = tally.rejections(true);
        assert_eq!(
            (own[0].count, own[0].examples.join(" ")),
            (1000, "t0 t1 t10".to_owned())
        );
        assert!(
            tally
                .rejections(false)
                .iter()
                .all(|r| r.examples.is_empty())
        );
        assert_eq!(tally.why(), "1000 not Ready, 1 cordoned");
        for i in 0..100 {
            tally.add(Unfit::TooSmall(format!("r{i}")), "x");
        }
        assert_eq!(tally.rejections(true).len(), MAX_REJECTIONS);
    }
}
