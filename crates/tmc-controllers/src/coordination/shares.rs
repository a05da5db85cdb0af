//! From the Placements of a workspace to the replicas that each target runs of one Deployment.

use std::collections::{BTreeMap, BTreeSet};

use tmc_api::keys::{SPEC_DIFF_PREFIX, spec_diff_annotation, state_label};
use tmc_api::scheduling::{Division, DivisionStrategy, Placement, ReplicaMode, selects};
use tmc_api::workload::SyncTarget;
use tmc_apimachinery::GroupVersionResource;
use tmc_runtime::ClusterKey;

use super::division::{Place, divide};
use super::spec_diff;
use crate::context::Context;
use crate::namespace::reconcile::Namespace;
use crate::slim::Slim;
use crate::stores::index;
use crate::system::is_system_namespace;

/// What one Placement asks of the targets that count for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Ask {
    /// How replicas are split; `None` if each target runs all of them.
    pub strategy: Option<DivisionStrategy>,
    /// The targets by key, with their weights.
    pub targets: BTreeMap<String, u64>,
}

/// Whether a Placement splits replicas.
pub(crate) fn is_divided(placement: &Placement) -> bool {
    placement.spec.replicas == ReplicaMode::Divided
}

/// Whether the replicas of a resource can be divided: those of Deployments.
pub(crate) fn is_divisible(gvr: &GroupVersionResource) -> bool {
    (&*gvr.group, &*gvr.resource) == ("apps", "deployments")
}

/// What every target is to run of `total` replicas: its share, or `None` for all of them. A target
/// that several Placements picked counts for the first of them only, so that what it holds belongs
/// to one division; a division over a single target is none.
pub fn shares(
    total: u64,
    asks: &[Ask],
    held: impl Fn(&str) -> u64,
) -> BTreeMap<String, Option<u64>> {
    let mut shares: BTreeMap<String, Option<u64>> = BTreeMap::new();
    for ask in asks {
        let new = |key: &&String| !shares.contains_key(*key);
        let own: Vec<String> = ask.targets.keys().filter(new).cloned().collect();
        let Some(strategy) = ask.strategy.filter(|_| own.len() > 1) else {
            shares.extend(own.into_iter().map(|key| (key, None)));
            continue;
        };
        let places: Vec<Place> = own
            .iter()
            .map(|key| Place {
                weight: ask.targets.get(key).copied().unwrap_or(0),
                held: held(key),
            })
            .collect();
        let divided = divide(total, strategy, &places).into_iter().map(Some);
        shares.extend(own.into_iter().zip(divided));
    }
    shares
}

/// The weight of a target in a division: that of the first selector that it matches (none: zero), or
/// its free CPU in thousandths of a core: what the ledger says is available, else what its nodes
/// have. (With `Equal` it means nothing.)
pub fn weight(division: &Division, target: &SyncTarget) -> u64 {
    let number = |n: i64| u64::try_from(n).unwrap_or(0);
    match division.strategy {
        DivisionStrategy::Equal => 1,
        DivisionStrategy::Weighted => {
            let labels = target.metadata.labels.clone().unwrap_or_default();
            let of = |selector| selects(Some(selector), &labels).unwrap_or(false);
            let found = division.weights.iter().find(|w| of(&w.target_selector));
            found.map_or(0, |w| number(w.weight.into()))
        }
        DivisionStrategy::Capacity => {
            let status = target.status.as_ref();
            let free = status.and_then(|s| {
                let known = s.available_resources.as_ref().or(s.allocatable.as_ref())?;
                known.get("cpu")
            });
            free.map_or(0, |cpu| number(cpu.milli_value()))
        }
    }
}

/// Puts the shares into an object's annotations. A target that runs all loses what was written for
/// it. So does one that no Placement wants, once it is rid of the object: until then it keeps its
/// share, so that it does not grow while others take over.
pub fn annotate(object: &mut Slim, shares: &BTreeMap<String, Option<u64>>) {
    let labels = &object.metadata.labels;
    let annotations = &mut object.metadata.annotations;
    let written = annotations
        .keys()
        .filter_map(|key| key.strip_prefix(SPEC_DIFF_PREFIX));
    let keys: BTreeSet<String> = written
        .map(str::to_owned)
        .chain(shares.keys().cloned())
        .collect();
    for key in keys {
        let name = spec_diff_annotation(&key);
        let before = annotations.get(&name).map(String::as_str);
        let share = match shares.get(&key) {
            Some(share) => *share,
            None if labels.contains_key(&state_label(&key)) => continue,
            None => None,
        };
        match spec_diff::with_share(before, share) {
            Some(text) => drop(annotations.insert(name, text)),
            None => drop(annotations.remove(&name)),
        }
    }
}

/// Divides the replicas of an object among its targets, as the Placements of its namespace want it.
/// Part of the write that labels it, so that no target sees a new object undivided.
pub(crate) fn apply(
    ctx: &Context,
    gvr: &GroupVersionResource,
    key: &ClusterKey,
    namespace: &Namespace,
    object: &mut Slim,
) {
    if object.metadata.deletion_timestamp.is_some() {
        return;
    }
    let shares = if is_divisible(gvr) {
        let total = u64::try_from(object.replicas.unwrap_or(1)).unwrap_or(0);
        let held = |target: &str| held(object, target);
        shares(total, &asks(ctx, key, namespace, object), held)
    } else {
        BTreeMap::new()
    };
    annotate(object, &shares);
}

fn held(object: &Slim, target: &str) -> u64 {
    let annotation = object
        .metadata
        .annotations
        .get(&spec_diff_annotation(target));
    spec_diff::share(annotation.map(String::as_str)).unwrap_or(0)
}

/// What the Placements that select a namespace ask for, in order of their names; nothing if none of
/// them divides and nothing is left of a division.
fn asks(ctx: &Context, key: &ClusterKey, namespace: &Namespace, object: &Slim) -> Vec<Ask> {
    let stores = &ctx.stores;
    let labels = namespace.metadata.labels.clone().unwrap_or_default();
    let mut placements = stores
        .placements
        .by_index(index::CLUSTER, key.cluster.as_str());
    placements.retain(|(_, placement)| {
        placement.metadata.deletion_timestamp.is_none()
            && placement.spec.selects_namespace(&labels).unwrap_or(false)
    });
    let divided = placements
        .iter()
        .any(|(_, placement)| is_divided(placement));
    let annotations = &object.metadata.annotations;
    let written = annotations
        .keys()
        .any(|key| key.starts_with(SPEC_DIFF_PREFIX));
    if !(divided || written) || is_system_namespace(&key.namespace) {
        return Vec::new();
    }
    placements.sort_by(|(a, _), (b, _)| a.cmp(b));
    placements
        .iter()
        .map(|(_, placement)| ask(ctx, placement))
        .collect()
}

fn ask(ctx: &Context, placement: &Placement) -> Ask {
    let division = placement.spec.division.clone().unwrap_or_default();
    let picked = placement
        .status
        .iter()
        .flat_map(|status| &status.sync_targets);
    let weighed = picked.filter_map(|picked| {
        let found = ctx.stores.sync_targets.by_index(index::TARGET, &picked.key);
        let (_, target) = found.into_iter().next()?;
        Some((picked.key.clone(), weight(&division, &target)))
    });
    Ask {
        strategy: is_divided(placement).then_some(division.strategy),
        targets: weighed.collect(),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    fn ask(strategy: Option<DivisionStrategy>, targets: &[&str]) -> Ask {
        let weighed = targets.iter().map(|key| ((*key).to_owned(), 1));
        Ask {
            strategy,
            targets: weighed.collect(),
        }
    }

    const EVEN: Option<DivisionStrategy> = Some(DivisionStrategy::Equal);

    #[rstest]
    #[case::one_placement(&[ask(EVEN, &["A", "B", "C"])], json!({"A": 2, "B": 2, "C": 1}))]
    #[case::everywhere_all(&[ask(None, &["A", "B"])], json!({"A": null, "B": null}))]
    #[case::alone(&[ask(EVEN, &["A"])], json!({"A": null}))]
    #[case::each_on_its_own(&[ask(EVEN, &["A", "B"]), ask(EVEN, &["C", "D"])], json!({"A": 3, "B": 2, "C": 3, "D": 2}))]
    #[case::the_first_decides(&[ask(None, &["A"]), ask(EVEN, &["A", "B", "C"])], json!({"A": null, "B": 3, "C": 2}))]
    #[case::nothing_left_to_divide(&[ask(EVEN, &["A", "B"]), ask(EVEN, &["B", "C"])], json!({"A": 3, "B": 2, "C": null}))]
    fn each_placement_divides_over_its_own_targets(#[case] asks: &[Ask], #[case] expected: Value) {
        let shares = shares(5, asks, |_| 0);
        assert_eq!(json!(shares), expected);
        let again = super::shares(5, asks, |key| shares[key].unwrap_or(0));
        assert_eq!(again, shares);
    }

    fn object(annotations: Value) -> Slim {
        let object = json!({"metadata": {"name": "web", "annotations": annotations}});
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn shares_are_written_kept_and_taken_back_and_a_users_patch_survives() {
        let name = spec_diff_annotation("A");
        let theirs = r#"[{"op":"add","path":"/paused","value":true}]"#;
        let mut object = object(json!({(name.as_str()): theirs, "kcp.io/other": "x"}));
        let shares = BTreeMap::from([("A".to_owned(), Some(2)), ("B".to_owned(), Some(1))]);
        annotate(&mut object, &shares);
        assert_eq!((held(&object, "A"), held(&object, "B")), (2, 1));
        let once = object.clone();
        annotate(&mut object, &shares);
        assert_eq!(object, once, "a second pass changes nothing");
        object
            .metadata
            .labels
            .insert(state_label("B"), "Sync".into());
        annotate(&mut object, &BTreeMap::from([("A".to_owned(), Some(3))]));
        assert_eq!(
            (held(&object, "A"), held(&object, "B")),
            (3, 1),
            "B is on its way out"
        );
        object.metadata.labels.clear();
        annotate(&mut object, &BTreeMap::from([("A".to_owned(), Some(3))]));
        assert_eq!((held(&object, "A"), held(&object, "B")), (3, 0), "and out");
        annotate(&mut object, &BTreeMap::from([("A".to_owned(), None)]));
        let left = json!({(name.as_str()): theirs, "kcp.io/other": "x"});
        assert_eq!(json!(object.metadata.annotations), left);
    }

    fn target(labels: Value, status: Value) -> SyncTarget {
        let object = json!({
            "apiVersion": "workload.kcp.io/v1alpha1", "kind": "SyncTarget",
            "metadata": {"name": "t", "labels": labels}, "spec": {}, "status": status,
        });
        serde_json::from_value(object).unwrap()
    }

    #[rstest]
    #[case::the_first_match(json!({"size": "big", "zone": "a"}), json!({}), "Weighted", 70)]
    #[case::another(json!({"zone": "a"}), json!({}), "Weighted", 30)]
    #[case::no_match(json!({}), json!({}), "Weighted", 0)]
    #[case::nodes(json!({}), json!({"allocatable": {"cpu": "3500m"}}), "Capacity", 3500)]
    #[case::the_ledger(json!({}), json!({"allocatable": {"cpu": "4"}, "availableResources": {"cpu": "1"}}), "Capacity", 1000)]
    #[case::unknown(json!({}), json!({}), "Capacity", 0)]
    #[case::even(json!({}), json!({}), "Equal", 1)]
    fn a_target_weighs_what_its_labels_or_its_free_cpu_say(
        #[case] labels: Value,
        #[case] status: Value,
        #[case] strategy: &str,
        #[case] expected: u64,
    ) {
        let division: Division = serde_json::from_value(json!({"strategy": strategy, "weights": [
            {"targetSelector": {"matchLabels": {"size": "big"}}, "weight": 70},
            {"targetSelector": {"matchLabels": {"zone": "a"}}, "weight": 30},
        ]}))
        .unwrap();
        assert_eq!(weight(&division, &target(labels, status)), expected);
    }
}
