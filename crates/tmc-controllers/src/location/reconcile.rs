//! What a Location should look like, and whether a workspace needs its first one.

use std::sync::Arc;

use jiff::Timestamp;
use tmc_api::conditions::{self, READY};
use tmc_api::keys::LOCATION_LABELS_ANNOTATION;
use tmc_api::scheduling::{Location, LocationStatus, ResourceRef};
use tmc_api::workload::SyncTarget;

/// The Location with the metadata it should have: its labels in one annotation, for printing.
pub fn metadata(location: &Location) -> Location {
    let mut new = location.clone();
    let labels = location.metadata.labels.iter().flatten();
    let text = labels
        .map(|(key, value)| format!("{key}={value}"))
        .collect::<Vec<_>>()
        .join(",");
    let annotations = new.metadata.annotations.get_or_insert_default();
    if text.is_empty() {
        annotations.remove(LOCATION_LABELS_ANNOTATION);
    } else {
        annotations.insert(LOCATION_LABELS_ANNOTATION.into(), text);
    }
    if annotations.is_empty() {
        new.metadata.annotations = None;
    }
    new
}

/// The status it should have: how many SyncTargets of its workspace belong to it, and how many of
/// them would take a new placement. An invalid selector selects none.
pub fn status(location: &Location, targets: &[Arc<SyncTarget>], now: Timestamp) -> LocationStatus {
    let mut status = location.status.clone().unwrap_or_default();
    status.observed_generation = location.metadata.generation;
    let about_targets = location.spec.resource == ResourceRef::default();
    let selector = location.spec.selector().unwrap_or_default();
    let instances = || {
        targets
            .iter()
            .filter(|target| about_targets && selector.matches(target.metadata.labels.as_ref()))
    };
    let available = instances().filter(|target| is_available(target, now));
    status.available_instances = u32::try_from(available.count()).ok();
    status.instances = u32::try_from(instances().count()).ok();
    status
}

/// Whether a workspace needs its first Location: it has a SyncTarget that stays, no Location of any
/// name, and does not say that it wants none.
pub fn needs_first(targets: &[Arc<SyncTarget>], locations: usize, skips: bool) -> bool {
    let stays = |target: &Arc<SyncTarget>| target.metadata.deletion_timestamp.is_none();
    !skips && locations == 0 && targets.iter().any(stays)
}

fn is_available(target: &SyncTarget, now: Timestamp) -> bool {
    conditions::is_true(target.conditions(), READY)
        && target.metadata.deletion_timestamp.is_none()
        && !target.spec.unschedulable
        && target
            .spec
            .evict_after
            .is_none_or(|at| at.timestamp() > now)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;
    use serde_json::{Value, json};
    use tmc_api::time::Time;

    use super::*;

    fn now() -> Timestamp {
        "2030-01-01T00:00:00Z".parse().unwrap()
    }

    fn location(labels: Value, selector: Value) -> Location {
        serde_json::from_value(json!({
            "apiVersion": "scheduling.kcp.io/v1alpha1", "kind": "Location",
            "metadata": {"name": "l", "labels": labels, "generation": 2},
            "spec": {"instanceSelector": selector},
        }))
        .unwrap()
    }

    fn target(spec: Value, ready: &str) -> Arc<SyncTarget> {
        Arc::new(
            serde_json::from_value(json!({
                "apiVersion": "workload.kcp.io/v1alpha1", "kind": "SyncTarget",
                "metadata": {"name": "t", "labels": {"location": "eu"}},
                "spec": spec, "status": {"conditions": [{"type": "Ready", "status": ready}]},
            }))
            .unwrap(),
        )
    }

    #[test]
    fn labels_are_listed_sorted_for_printing() {
        let new = metadata(&location(json!({"b": "2", "a": "1"}), json!({})));
        assert_eq!(
            new.metadata.annotations.as_ref().unwrap()[LOCATION_LABELS_ANNOTATION],
            "a=1,b=2"
        );
        assert_eq!(metadata(&new), new);
        let mut bare = new;
        bare.metadata.labels = None;
        assert_eq!(metadata(&bare).metadata.annotations, None);
    }

    #[rstest]
    #[case::first(&[false], 0, false, true)]
    #[case::one_of_two_stays(&[true, false], 0, false, true)]
    #[case::no_target(&[], 0, false, false)]
    #[case::all_are_going(&[true], 0, false, false)]
    #[case::there_is_one_already(&[false], 1, false, false)]
    #[case::not_wanted(&[false], 0, true, false)]
    fn a_workspace_gets_its_first_location_with_its_first_target_unless_it_says_no(
        #[case] deleting: &[bool],
        #[case] locations: usize,
        #[case] skips: bool,
        #[case] expected: bool,
    ) {
        let targets: Vec<_> = deleting
            .iter()
            .map(|deleting| {
                let mut target = (*target(json!({}), "True")).clone();
                if *deleting {
                    target.metadata.deletion_timestamp =
                        serde_json::from_value(json!("2029-01-01T00:00:00Z")).unwrap();
                }
                Arc::new(target)
            })
            .collect();
        assert_eq!(needs_first(&targets, locations, skips), expected);
    }

    proptest! {
        /// Whatever the targets are like: no more are available than there are, none that nobody may
        /// be put on counts, and a second pass writes nothing.
        #[test]
        fn no_more_instances_are_available_than_there_are(
            draws in prop::collection::vec((any::<[bool; 3]>(), 0_u8..3, -1_i64..2), 0..12),
            all in any::<bool>(),
        ) {
            let make = |([cordoned, deleting, eu], ready, drain): &([bool; 3], u8, i64)| {
                let ready = ["True", "False", "Unknown"][usize::from(*ready)];
                let mut target = (*target(json!({"unschedulable": cordoned}), ready)).clone();
                let at = now() + jiff::SignedDuration::from_secs(*drain);
                if *drain < 1 {
                    target.spec.evict_after = Some(Time::new(at));
                }
                if *deleting {
                    target.metadata.deletion_timestamp = serde_json::from_value(json!(at.to_string())).unwrap();
                }
                if !eu {
                    target.metadata.labels = None;
                }
                let fit = ready == "True" && !cordoned && !deleting && *drain == 1;
                (Arc::new(target), all || *eu, fit)
            };
            let drawn: Vec<_> = draws.iter().map(make).collect();
            let targets: Vec<_> = drawn.iter().map(|(target, ..)| Arc::clone(target)).collect();
            let selector = if all { json!({}) } else { json!({"matchLabels": {"location": "eu"}}) };
            let mut location = location(json!({}), selector);
            let found = status(&location, &targets, now());
            let count = |fits: fn(&(Arc<SyncTarget>, bool, bool)) -> bool| {
                u32::try_from(drawn.iter().filter(|d| fits(d)).count()).ok()
            };
            prop_assert_eq!(found.instances, count(|(_, selected, _)| *selected));
            prop_assert_eq!(found.available_instances, count(|(_, selected, fit)| *selected && *fit));
            prop_assert!(found.available_instances <= found.instances);
            location.status = Some(found.clone());
            prop_assert_eq!(status(&location, &targets, now()), found);
        }
    }

    #[test]
    fn available_are_those_that_would_take_a_placement() {
        let targets = [
            target(json!({}), "True"),
            target(json!({}), "False"),
            target(json!({"unschedulable": true}), "True"),
            target(json!({"evictAfter": "2030-01-01T00:00:00Z"}), "True"),
            target(json!({"evictAfter": "2030-01-01T00:00:01Z"}), "True"),
        ];
        for (selector, instances, available) in [
            (json!({}), 5, 2),
            (json!({"matchLabels": {"location": "eu"}}), 5, 2),
            (json!({"matchLabels": {"location": "us"}}), 0, 0),
            (json!(null), 0, 0),
            (
                json!({"matchExpressions": [{"key": "a", "operator": "Near"}]}),
                0,
                0,
            ),
        ] {
            let mut location = location(json!({}), selector);
            let status = status(&location, &targets, now());
            assert_eq!(
                (status.instances, status.available_instances),
                (Some(instances), Some(available))
            );
            assert_eq!(status.observed_generation, Some(2));
            location.status = Some(status.clone());
            assert_eq!(super::status(&location, &targets, now()), status);
        }
    }
}
