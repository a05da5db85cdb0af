//! What a Location should look like.

use tmc_api::keys::LOCATION_LABELS_ANNOTATION;
use tmc_api::scheduling::{Location, LocationStatus};

use crate::placement::fleet::Instances;

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
/// them would take a new placement.
pub fn status(location: &Location, instances: Instances) -> LocationStatus {
    let mut status = location.status.clone().unwrap_or_default();
    status.observed_generation = location.metadata.generation;
    status.available_instances = Some(instances.available);
    status.instances = Some(instances.all);
    status
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;
    use serde_json::{Value, json};
    use tmc_api::time::Time;
    use tmc_api::workload::SyncTarget;
    use tmc_apimachinery::ClusterName;

    use super::*;
    use crate::placement::facts::TargetFacts;
    use crate::placement::fleet::Fleet;

    fn now() -> jiff::Timestamp {
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

    fn target(spec: Value, ready: &str) -> SyncTarget {
        serde_json::from_value(json!({
            "apiVersion": "workload.kcp.io/v1alpha1", "kind": "SyncTarget",
            "metadata": {"labels": {"location": "eu"}},
            "spec": spec, "status": {"conditions": [{"type": "Ready", "status": ready}]},
        }))
        .unwrap()
    }

    fn fleet(targets: impl IntoIterator<Item = SyncTarget>, locations: Vec<Location>) -> Fleet {
        let facts = targets.into_iter().enumerate().map(|(number, mut target)| {
            target.metadata.name = Some(format!("t{number}"));
            TargetFacts::new(&ClusterName::new("c"), &target)
        });
        Fleet::new(facts.collect(), locations)
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
    #[case::first(&[false], 0, true)]
    #[case::one_of_two_stays(&[true, false], 0, true)]
    #[case::no_target(&[], 0, false)]
    #[case::all_are_going(&[true], 0, false)]
    #[case::there_is_one_already(&[false], 1, false)]
    fn a_workspace_needs_a_first_location_with_its_first_target(
        #[case] deleting: &[bool],
        #[case] locations: usize,
        #[case] expected: bool,
    ) {
        let targets = deleting.iter().map(|deleting| {
            let mut target = target(json!({}), "True");
            if *deleting {
                target.metadata.deletion_timestamp =
                    serde_json::from_value(json!("2029-01-01T00:00:00Z")).unwrap();
            }
            target
        });
        let locations = (0..locations).map(|_| location(json!({}), json!(null)));
        let fleet = fleet(targets, locations.collect());
        assert_eq!(fleet.needs_location(), expected);
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
                let mut target = target(json!({"unschedulable": cordoned}), ready);
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
                (target, all || *eu, fit)
            };
            let drawn: Vec<_> = draws.iter().map(make).collect();
            let selector = if all { json!({}) } else { json!({"matchLabels": {"location": "eu"}}) };
            let mut location = location(json!({}), selector);
            let targets = drawn.iter().map(|(target, ..)| target.clone());
            let instances = fleet(targets, vec![location.clone()]).instances("l", now());
            let found = status(&location, instances);
            let count = |fits: fn(&(SyncTarget, bool, bool)) -> bool| {
                u32::try_from(drawn.iter().filter(|d| fits(d)).count()).ok()
            };
            prop_assert_eq!(found.instances, count(|(_, selected, _)| *selected));
            prop_assert_eq!(found.available_instances, count(|(_, selected, fit)| *selected && *fit));
            prop_assert!(found.available_instances <= found.instances);
            location.status = Some(found.clone());
            prop_assert_eq!(status(&location, instances), found);
        }
    }

    #[test]
    fn available_are_those_that_would_take_a_placement() {
        for (selector, all, available) in [
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
            let targets = [
                target(json!({}), "True"),
                target(json!({}), "False"),
                target(json!({"unschedulable": true}), "True"),
                target(json!({"evictAfter": "2030-01-01T00:00:00Z"}), "True"),
                target(json!({"evictAfter": "2030-01-01T00:00:01Z"}), "True"),
            ];
            let location = location(json!({}), selector);
            let instances = fleet(targets, vec![location.clone()]).instances("l", now());
            assert_eq!((instances.all, instances.available), (all, available));
            // One second from now one of them is drained.
            let next = (all > 0).then(|| now() + jiff::SignedDuration::from_secs(1));
            assert_eq!(instances.next_drain, next);
            let status = status(&location, instances);
            assert_eq!(
                (
                    status.instances,
                    status.available_instances,
                    status.observed_generation
                ),
                (Some(all), Some(available), Some(2))
            );
        }
    }
}
