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
    use serde_json::{Value, json};

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
