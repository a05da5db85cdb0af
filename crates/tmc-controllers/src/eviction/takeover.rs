//! Make before break: a target's copies go when others have taken over, a namespace at a time, for
//! the objects of a namespace need each other.

use serde_json::Value;
use tmc_api::keys::{DIFF_PREFIX, STATE_UPSYNC, diff_annotation, syncer_finalizer};

use crate::slim::{Slim, is_available};

/// What stands for a value that is the object's own (wire protocol, section 3).
const PROMOTED: &str = "##promoted##";

/// Kinds whose objects run something for as long as they are there, and report whether it runs.
const SERVING: [(&str, &str); 4] = [
    ("apps", "deployments"),
    ("apps", "statefulsets"),
    ("apps", "daemonsets"),
    ("apps", "replicasets"),
];

/// An object with its group and plural resource.
#[derive(Clone, Copy, Debug)]
pub struct Placed<'a> {
    /// Group.
    pub group: &'a str,
    /// Plural resource.
    pub resource: &'a str,
    /// The object.
    pub object: &'a Slim,
}

/// Whether a target can let go of one object: it has no copy, the object is going anyway, or every
/// one of `heirs` has a copy that is as well off as its own.
///
/// As well off is a copy that is there (its syncer's finalizer), and of what serves one that is
/// Available, unless the old one is not either.
pub fn is_taken_over(placed: Placed<'_>, leaving: &str, heirs: &[&str]) -> bool {
    let object = placed.object;
    let brought_up = object
        .states()
        .any(|(key, state)| key == leaving && state == STATE_UPSYNC);
    let has_copy = |key: &str| object.metadata.finalizers.contains(&syncer_finalizer(key));
    if brought_up || object.metadata.deletion_timestamp.is_some() || !has_copy(leaving) {
        return true;
    }
    let serves = SERVING.contains(&(placed.group, placed.resource));
    let must_serve = reported(object, leaving).unwrap_or(serves);
    let as_well_off = |key: &&str| {
        let serving = reported(object, key).unwrap_or(!serves);
        has_copy(key) && (serving || !must_serve)
    };
    !heirs.is_empty() && heirs.iter().all(as_well_off)
}

/// Whether a target reported that an object is Available; `None` if it reported nothing of that kind.
fn reported(object: &Slim, key: &str) -> Option<bool> {
    let text = object.metadata.annotations.get(&diff_annotation(key))?;
    let report: Value = serde_json::from_str(text).ok()?;
    match report.get("status")? {
        Value::String(mark) if mark == PROMOTED => object.available,
        status => is_available(status),
    }
}

/// What [`is_taken_over`] looks at, of an object that several targets have; `None` for the others.
/// Two versions of an object with the same answer are alike to those that wait for a handover.
pub fn handover(object: &Slim) -> Option<Vec<(String, bool, Option<bool>)>> {
    object.states().nth(1)?;
    let keys = object.states().map(|(key, _)| key);
    let facts = keys.map(|key| {
        let has_copy = object.metadata.finalizers.contains(&syncer_finalizer(key));
        (key.to_owned(), has_copy, reported(object, key))
    });
    Some(facts.collect())
}

/// Whether two versions of an object can differ in what [`handover`] says: cheaper than asking it.
pub fn may_differ(before: &Slim, after: &Slim) -> bool {
    let reports = |object: &Slim| {
        let all = object.metadata.annotations.clone();
        all.into_iter()
            .filter(|(key, _)| key.starts_with(DIFF_PREFIX))
            .collect::<Vec<_>>()
    };
    before.available != after.available
        || before.metadata.finalizers != after.metadata.finalizers
        || before.metadata.labels != after.metadata.labels
        || reports(before) != reports(after)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    const F1: &str = "workload.kcp.io/syncer-K1";
    const F2: &str = "workload.kcp.io/syncer-K2";

    fn object(finalizers: Value, reports: Value) -> Slim {
        let mut annotations = serde_json::Map::new();
        for (key, report) in reports.as_object().unwrap() {
            annotations.insert(diff_annotation(key), report.to_string().into());
        }
        serde_json::from_value(json!({
            "metadata": {
                "name": "web", "finalizers": finalizers, "annotations": annotations,
                "labels": {"state.workload.kcp.io/K1": "Sync", "state.workload.kcp.io/K2": "Sync"},
            },
            "status": {"conditions": [{"type": "Available", "status": "True"}]},
        }))
        .unwrap()
    }

    fn status(available: &str) -> Value {
        json!({"status": {"conditions": [{"type": "Available", "status": available}]}})
    }

    #[rstest]
    // resource; finalizers; reports; expected
    #[case::nothing_there_yet("configmaps", json!([F1]), json!({}), false)]
    #[case::there("configmaps", json!([F1, F2]), json!({}), true)]
    #[case::no_copy_to_lose("deployments", json!([]), json!({}), true)]
    #[case::there_but_silent("deployments", json!([F1, F2]), json!({"K1": status("True")}), false)]
    #[case::there_but_not_available(
        "deployments", json!([F1, F2]), json!({"K1": status("True"), "K2": status("False")}), false)]
    #[case::available(
        "deployments", json!([F1, F2]), json!({"K1": status("True"), "K2": status("True")}), true)]
    #[case::available_without_a_copy(
        "deployments", json!([F1]), json!({"K1": status("True"), "K2": status("True")}), false)]
    #[case::the_old_one_never_was(
        "deployments", json!([F1, F2]), json!({"K1": status("False"), "K2": status("False")}), true)]
    #[case::of_the_old_one_nothing_is_known("deployments", json!([F1, F2]), json!({}), false)]
    #[case::promoted(
        "deployments", json!([F1, F2]), json!({"K2": {"status": "##promoted##"}}), true)]
    #[case::a_job_reports_no_availability(
        "jobs", json!([F1, F2]), json!({"K1": {"status": {"succeeded": 1}}}), true)]
    #[case::a_custom_kind_that_does(
        "widgets", json!([F1, F2]), json!({"K1": status("True"), "K2": status("False")}), false)]
    fn an_object_is_taken_over_when_the_new_copy_is_as_well_off(
        #[case] resource: &str,
        #[case] finalizers: Value,
        #[case] reports: Value,
        #[case] expected: bool,
    ) {
        let object = object(finalizers, reports);
        let group = if resource == "deployments" {
            "apps"
        } else {
            ""
        };
        let placed = Placed {
            group,
            resource,
            object: &object,
        };
        assert_eq!(is_taken_over(placed, "K1", &["K2"]), expected);
        // Nobody to take over takes nothing over.
        let alone = is_taken_over(placed, "K1", &[]);
        assert_eq!(alone, !object.metadata.finalizers.contains(&F1.to_owned()));
    }

    #[test]
    fn what_is_deleted_or_brought_up_by_the_target_holds_nothing_up() {
        let mut going = object(json!([F1]), json!({}));
        fn placed(object: &Slim) -> Placed<'_> {
            Placed {
                group: "apps",
                resource: "deployments",
                object,
            }
        }
        assert!(!is_taken_over(placed(&going), "K1", &["K2"]));
        going.metadata.deletion_timestamp = Some("2030-01-01T00:00:00Z".into());
        assert!(is_taken_over(placed(&going), "K1", &["K2"]));
        let mut brought_up = object(json!([F1]), json!({}));
        brought_up
            .metadata
            .labels
            .insert("state.workload.kcp.io/K1".into(), "Upsync".into());
        assert!(is_taken_over(placed(&brought_up), "K1", &["K2"]));
    }

    #[test]
    fn only_what_a_handover_waits_for_makes_two_versions_differ() {
        let before = object(json!([F1]), json!({"K1": status("True")}));
        let mut after = before.clone();
        after.metadata.resource_version = "2".into();
        assert!(!may_differ(&before, &after));
        after.metadata.finalizers.push(F2.into());
        assert!(may_differ(&before, &after));
        assert_ne!(handover(&before), handover(&after));
        let mut alone = before.clone();
        alone.metadata.labels.remove("state.workload.kcp.io/K2");
        assert_eq!(handover(&alone), None);
    }
}
