//! When something became so, from what the objects record of it.

use jiff::Timestamp;
use serde_json::Value;
use tmc_api::keys::{diff_annotation, syncer_finalizer};
use tmc_api::synced::SYNCED;
use tmc_apimachinery::meta::meta;
use tmc_controllers::coordination::conditions::TARGET_LOST;

use crate::output::{self, list, text};

/// When an object was made.
pub(super) fn created(object: &Value) -> Option<Timestamp> {
    output::time(object, "/metadata/creationTimestamp")
}

/// When a condition became what it is.
pub(super) fn changed(condition: &Value) -> Option<Timestamp> {
    output::time(condition, "/lastTransitionTime")
}

/// Since when an object has a condition as it is now.
pub(super) fn condition(object: &Value, kind: &str) -> Option<Timestamp> {
    output::find_condition(object, kind).and_then(changed)
}

/// Since when an object has a condition that is True.
pub(super) fn holds(object: &Value, kind: &str) -> Option<Timestamp> {
    output::find_condition(object, kind)
        .filter(|condition| condition["status"] == "True")
        .and_then(changed)
}

/// Since when an object has a condition that is False.
pub(super) fn fails(object: &Value, kind: &str) -> Option<Timestamp> {
    output::find_condition(object, kind)
        .filter(|condition| condition["status"] == "False")
        .and_then(changed)
}

/// The last of the times that are known: what follows from all of them did not happen before.
pub(super) fn last<const N: usize>(times: [Option<Timestamp>; N]) -> Option<Timestamp> {
    times.into_iter().flatten().max()
}

/// When the syncer of a target had an object at the latest: its finalizer is in what somebody
/// manages since then, or the member reports of the copy. A report from before `earliest` is of an
/// earlier copy.
pub(super) fn taken_by(
    object: &Value,
    key: &str,
    earliest: Option<Timestamp>,
) -> Option<Timestamp> {
    let reported = reported(object, key)
        .filter(|at| earliest.is_none_or(|earliest| *at >= earliest))
        .min();
    let finalizer = format!("v:\"{}\"", syncer_finalizer(key));
    let managed = managed(object, &["f:metadata", "f:finalizers", &finalizer]);
    reported.into_iter().chain(managed).min()
}

/// The times in what the member of a target reports of an object. What the hub says of its own is no
/// report.
fn reported(object: &Value, key: &str) -> impl Iterator<Item = Timestamp> {
    let report: Value = meta(object)
        .annotation(&diff_annotation(key))
        .and_then(|report| serde_json::from_str(report).ok())
        .unwrap_or_default();
    // A word in place of a status says that the report is the object's own status.
    let status = match &report["status"] {
        Value::String(_) => object["status"].clone(),
        kept => kept.clone(),
    };
    let conditions = list(&status, "/conditions").to_vec().into_iter();
    conditions
        .filter(|condition| condition["type"] != SYNCED && condition["reason"] != TARGET_LOST)
        .filter_map(|condition| changed(&condition))
}

/// When a field was there at the latest, from the times of those who manage it. Hubs of a Kubernetes
/// API server record them.
fn managed(object: &Value, field: &[&str]) -> Option<Timestamp> {
    let owns = |entry: &&Value| {
        let mut steps = field.iter();
        steps
            .try_fold(&entry["fieldsV1"], |at, step| at.get(step))
            .is_some()
    };
    let entries = list(object, "/metadata/managedFields").iter().filter(owns);
    entries
        .filter_map(|entry| text(entry, "/time").parse().ok())
        .min()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn at(text: &str) -> Option<Timestamp> {
        Some(format!("2030-01-01T00:{text}Z").parse().expect("a time"))
    }

    fn condition_at(minute: &str) -> Value {
        json!({"type": "Available", "status": "True", "lastTransitionTime": format!("2030-01-01T00:{minute}Z")})
    }

    fn object(report: &Value, conditions: &Value) -> Value {
        json!({
            "metadata": {"annotations": {"diff.syncer.internal.kcp.io/K": report.to_string()}},
            "status": {"conditions": conditions},
        })
    }

    #[rstest]
    #[case::promoted(json!({"status": "##promoted##"}), json!([condition_at("02:00"), condition_at("03:00")]), at("02:00"))]
    #[case::kept_apart(json!({"status": {"conditions": [condition_at("04:00")]}}), json!([condition_at("02:00")]), at("04:00"))]
    #[case::of_an_earlier_copy(json!({"status": "##promoted##"}), json!([condition_at("00:30")]), None)]
    #[case::no_report(json!({}), json!([condition_at("02:00")]), None)]
    #[case::no_conditions(json!({"status": {"replicas": 1}}), json!([]), None)]
    #[case::words_of_the_hub(json!({"status": "##promoted##"}), json!([
        {"type": "Synced", "status": "True", "lastTransitionTime": "2030-01-01T00:02:00Z"},
        {"type": "Available", "status": "Unknown", "reason": "TargetLost", "lastTransitionTime": "2030-01-01T00:02:00Z"}]), None)]
    fn a_report_of_the_member_proves_that_its_syncer_has_the_object(
        #[case] report: Value,
        #[case] conditions: Value,
        #[case] expected: Option<Timestamp>,
    ) {
        let object = object(&report, &conditions);
        assert_eq!(taken_by(&object, "K", at("01:00")), expected);
        assert_eq!(taken_by(&object, "OTHER", at("01:00")), None);
    }

    #[test]
    fn whoever_manages_the_finalizer_proves_it_too() {
        let entry = |finalizer: &str, minute: &str| {
            json!({"manager": "m", "time": format!("2030-01-01T00:{minute}Z"),
                "fieldsV1": {"f:metadata": {"f:finalizers": {".": {}, finalizer: {}}}}})
        };
        let mine = "v:\"workload.kcp.io/syncer-K\"";
        let object = json!({"metadata": {"managedFields": [
            entry("v:\"other\"", "01:00"), entry(mine, "05:00"), entry(mine, "03:00"), {"manager": "n"}]}});
        assert_eq!(taken_by(&object, "K", None), at("03:00"));
    }
}
