use proptest::prelude::*;
use rstest::rstest;
use serde_json::{Value, json};

use super::*;

const SINCE: &str = "2030-01-01T00:00:00Z";

fn now() -> Timestamp {
    "2030-01-01T01:00:00Z".parse().unwrap()
}

fn deployments() -> GroupResource {
    GroupResource::new("apps", "deployments")
}

fn kind(resource: &GroupResource) -> Kind<'_> {
    let listed = super::super::kinds::conditions(resource);
    Kind { resource, listed }
}

/// Targets whose keys begin with `L` are lost.
fn lost(key: &str) -> Option<Loss> {
    let since = Some(Time::new(SINCE.parse().unwrap()));
    key.starts_with('L').then_some(Loss { since })
}

/// A Deployment on targets, with what each has on record (null: nothing), and its status.
fn object(targets: &[&str], records: Value, status: Value) -> Value {
    let labels: Map<String, Value> = targets
        .iter()
        .map(|key| (format!("{STATE_PREFIX}{key}"), STATE_SYNC.into()))
        .collect();
    let annotations: Map<String, Value> = records
        .as_object()
        .unwrap()
        .iter()
        .map(|(key, status)| {
            (
                diff_annotation(key),
                json!({"status": status}).to_string().into(),
            )
        })
        .collect();
    let finalizers: Vec<String> = targets.iter().map(|key| syncer_finalizer(key)).collect();
    let mut object = json!({"metadata": {
        "name": "web", "uid": "u", "resourceVersion": "1", "labels": labels, "annotations": annotations,
        "finalizers": finalizers,
    }});
    if !status.is_null() {
        object["status"] = status;
    }
    object
}

/// What targets have on record, and the status.
fn outcome(object: &Value) -> Value {
    let annotations = meta(object).annotations();
    let records: Map<String, Value> = diffs(&annotations)
        .map(|(key, text)| (key.to_owned(), read(text)["status"].clone()))
        .collect();
    json!([records, object.get("status")])
}

fn plan(object: &Value) -> Vec<Write> {
    let writes = writes(&kind(&deployments()), object, lost, now());
    let (labels, annotations) = (meta(object).labels(), meta(object).annotations());
    assert!(
        writes.is_empty() || is_due(&labels, &annotations, lost),
        "what has writes is looked at"
    );
    writes
}

/// What an API server makes of a write: one part of the object changes.
fn apply(object: &Value, write: &Write) -> Value {
    match write {
        Write::Main(new) => {
            let mut new = new.clone();
            match object.get("status") {
                Some(status) => new["status"] = status.clone(),
                None => drop(new.as_object_mut().unwrap().remove("status")),
            }
            new
        }
        Write::Status(new) => {
            let mut object = object.clone();
            match new.get("status") {
                Some(status) => object["status"] = status.clone(),
                None => drop(object.as_object_mut().unwrap().remove("status")),
            }
            object
        }
    }
}

/// The object when all is written, whether in one go or with a crash after each write.
fn settle(object: &Value) -> Value {
    let all = plan(object);
    let whole = all
        .iter()
        .fold(object.clone(), |at, write| apply(&at, write));
    assert_eq!(plan(&whole), [], "a second pass writes nothing");
    let mut crashing = object.clone();
    for _ in 0..4 {
        if let Some(first) = plan(&crashing).first() {
            crashing = apply(&crashing, first);
        }
    }
    assert_eq!(crashing, whole, "a crash after any write heals");
    whole
}

fn available(status: &str, reason: &str, message: &str) -> Value {
    json!({"type": "Available", "status": status, "reason": reason, "message": message, "lastTransitionTime": SINCE})
}

fn status(replicas: i64, condition: Value) -> Value {
    json!({"replicas": replicas, "conditions": [condition]})
}

fn well(replicas: i64) -> Value {
    status(replicas, available("True", "R", "m"))
}

fn unknown(replicas: i64, message: &str) -> Value {
    let mut condition = available("Unknown", "TargetLost", message);
    condition["lastTransitionTime"] = "2030-01-01T01:00:00Z".into();
    status(replicas, condition)
}

const LOST: &str = "not heard from since 2030-01-01T00:00:00Z";
const ONE_LOST: &str = "1 of 2 places: TargetLost: not heard from since 2030-01-01T00:00:00Z";

#[rstest]
#[case::alone_and_heard(object(&["A"], json!({"A": "##promoted##"}), well(2)),
    json!([{"A": "##promoted##"}, well(2)]))]
#[case::alone_and_lost(object(&["L"], json!({"L": "##promoted##"}), well(2)),
    json!([{"L": well(2)}, unknown(2, LOST)]))]
#[case::lost_with_its_report_already_kept(object(&["L"], json!({"L": well(2)}), well(2)),
    json!([{"L": well(2)}, unknown(2, LOST)]))]
#[case::back(object(&["A"], json!({"A": well(2)}), unknown(2, LOST)),
    json!([{"A": "##promoted##"}, well(2)]))]
#[case::back_with_the_status_already_restored(object(&["A"], json!({"A": well(2)}), well(2)),
    json!([{"A": "##promoted##"}, well(2)]))]
#[case::promoted_without_a_status(object(&["L"], json!({"L": "##promoted##"}), json!(null)),
    json!([{}, null]))]
#[case::two(object(&["A", "B"], json!({"A": well(2), "B": well(1)}), well(2)),
    json!([{"A": well(2), "B": well(1)}, well(3)]))]
#[case::a_second_one_came(object(&["A", "B"], json!({"A": "##promoted##", "B": well(1)}), well(2)),
    json!([{"A": well(2), "B": well(1)}, well(3)]))]
#[case::one_of_two_is_lost(object(&["A", "L"], json!({"A": well(2), "L": well(1)}), well(3)),
    json!([{"A": well(2), "L": well(1)}, unknown(2, ONE_LOST)]))]
#[case::and_came_back(object(&["A", "B"], json!({"A": well(2), "B": well(1)}), unknown(2, ONE_LOST)),
    json!([{"A": well(2), "B": well(1)}, well(3)]))]
#[case::one_vanished_and_one_is_left(object(&["A"], json!({"A": well(2), "B": well(1)}), well(3)),
    json!([{"A": "##promoted##"}, well(2)]))]
#[case::who_spoke_vanished(object(&["A"], json!({"B": "##promoted##"}), well(1)),
    json!([{}, null]))]
#[case::all_vanished(object(&[], json!({"A": well(2), "B": well(1)}), well(3)),
    json!([{}, null]))]
#[case::never_reported(object(&["A", "B"], json!({}), json!(null)),
    json!([{}, null]))]
fn status_and_reports_become_what_they_should_be(#[case] object: Value, #[case] expected: Value) {
    assert_eq!(outcome(&settle(&object)), expected);
}

#[test]
fn the_loss_of_a_stateful_set_is_told_and_taken_back_when_its_target_returns() {
    let resource = GroupResource::new("apps", "statefulsets");
    let reported = json!({"replicas": 3, "readyReplicas": 3});
    let settle = |object: Value, lost: &dyn Fn(&str) -> Option<Loss>| {
        let all = writes(&kind(&resource), &object, lost, now());
        let whole = all.iter().fold(object, |at, write| apply(&at, write));
        assert_eq!(writes(&kind(&resource), &whole, lost, now()), []);
        whole
    };
    let well = object(&["L"], json!({"L": "##promoted##"}), reported.clone());
    let gone = settle(well, &lost);
    let mut told = unknown(3, LOST);
    told["readyReplicas"] = 3.into();
    assert_eq!(outcome(&gone), json!([{"L": reported}, told]));
    let back = settle(gone, &|_| None);
    assert_eq!(outcome(&back), json!([{"L": "##promoted##"}, reported]));
}

#[test]
fn what_is_kept_is_written_before_what_replaces_it() {
    let kinds = |object: &Value| -> Vec<&str> {
        let writes = plan(object);
        let kind = |write: &Write| match write {
            Write::Status(_) => "status",
            Write::Main(_) => "main",
        };
        writes.iter().map(kind).collect()
    };
    let lost = object(&["L"], json!({"L": "##promoted##"}), well(2));
    assert_eq!(kinds(&lost), ["main", "status"]);
    let back = object(&["A"], json!({"A": well(2)}), unknown(2, LOST));
    assert_eq!(kinds(&back), ["status", "main"]);
    let two = object(
        &["A", "B"],
        json!({"A": "##promoted##", "B": well(1)}),
        well(2),
    );
    assert_eq!(kinds(&two), ["main", "status"]);
}

#[test]
fn a_target_that_is_to_remove_the_object_does_not_count_while_another_stays() {
    let mut leaving = object(&["A", "L"], json!({"A": well(2), "L": well(1)}), well(3));
    leaving["metadata"]["annotations"][deletion_annotation("L")] = SINCE.into();
    assert_eq!(outcome(&settle(&leaving))[1], well(2));
    leaving["metadata"]["annotations"][deletion_annotation("A")] = SINCE.into();
    assert_eq!(outcome(&settle(&leaving))[1], unknown(2, ONE_LOST));
    let mut moving = object(&["A", "B"], json!({"A": "##promoted##"}), well(2));
    moving["metadata"]["annotations"][deletion_annotation("A")] = SINCE.into();
    assert_eq!(
        outcome(&settle(&moving)),
        json!([{"A": well(2)}, null]),
        "nobody who stays has said anything"
    );
}

#[rstest]
#[case::nothing_is_promoted(json!([{"fieldPath": "status", "promoteToUpstream": false}]), false)]
#[case::another_field(json!([{"fieldPath": "spec.x", "promoteToUpstream": true}]), false)]
#[case::unreadable(json!("status"), false)]
#[case::in_any_case(json!([{"FieldPath": "status", "PromoteToUpstream": true}]), true)]
fn objects_that_summarise_otherwise_are_left_alone(#[case] fields: Value, #[case] acts: bool) {
    let mut object = object(&["L"], json!({"L": "##promoted##"}), well(2));
    object["metadata"]["annotations"][SUMMARIZING_ANNOTATION] = fields.to_string().into();
    assert_eq!(plan(&object).is_empty(), !acts);
}

#[test]
fn what_targets_bring_up_is_left_alone() {
    let mut object = object(&["L"], json!({"L": "##promoted##"}), well(2));
    object["metadata"]["labels"] = json!({(format!("{STATE_PREFIX}L")): STATE_UPSYNC});
    assert_eq!(plan(&object), []);
}

#[test]
fn other_fields_of_a_report_are_kept() {
    let mut object = object(&["L"], json!({}), well(2));
    let report = json!({"spec.clusterIP": "1.1.1.1", "status": "##promoted##"}).to_string();
    object["metadata"]["annotations"][diff_annotation("L")] = report.into();
    let settled = settle(&object);
    let kept = read(meta(&settled).annotation(&diff_annotation("L")).unwrap());
    assert_eq!(
        json!(kept),
        json!({"spec.clusterIP": "1.1.1.1", "status": well(2)})
    );
}

#[test]
fn an_object_with_one_target_that_is_heard_costs_nothing() {
    let object = object(&["A"], json!({"A": "##promoted##"}), well(2));
    let (labels, annotations) = (meta(&object).labels(), meta(&object).annotations());
    assert!(!is_due(&labels, &annotations, lost));
    assert!(
        !is_due(&labels, &BTreeMap::new(), lost),
        "nor one that has not reported"
    );
}

proptest! {
    /// Targets come, go, report, are lost and return in any order: what is on record of a target is
    /// never lost, and the object always settles.
    #[test]
    fn whatever_happens_the_object_settles_and_no_report_is_lost(
        steps in prop::collection::vec((0_usize..4, 0_u8..4, 0_i64..5), 1..25),
    ) {
        let keys = ["A", "B", "L", "LL"];
        let mut now = object(&[], json!({}), json!(null));
        let mut reported: BTreeMap<&str, Value> = BTreeMap::new();
        for (target, what, replicas) in steps {
            let key = keys[target];
            let label = format!("{STATE_PREFIX}{key}");
            match what {
                0 => now["metadata"]["labels"][&label] = STATE_SYNC.into(),
                1 => {
                    now["metadata"]["labels"].as_object_mut().unwrap().remove(&label);
                    reported.remove(key);
                }
                _ if meta(&now).label(&label).is_some() => {
                    let text = json!({"status": well(replicas)}).to_string();
                    now["metadata"]["annotations"][diff_annotation(key)] = text.into();
                    reported.insert(key, well(replicas));
                }
                _ => {}
            }
            now = settle(&now);
            let annotations = meta(&now).annotations();
            for (key, status) in &reported {
                let kept = read(&annotations[&diff_annotation(key)])["status"].clone();
                let kept = if kept == PROMOTED { now["status"].clone() } else { kept };
                prop_assert_eq!(&kept, status);
            }
            if reported.is_empty() && meta(&now).labels().is_empty() {
                prop_assert_eq!(now.get("status"), None);
            }
        }
    }
}

/// The object, with what each target says of it.
fn saying(mut object: Value, words: &[(&str, &str)]) -> Value {
    for (key, said) in words {
        let name = diff_annotation(key);
        let mut report = meta(&object)
            .annotation(&name)
            .map(read)
            .unwrap_or_default();
        report.insert(REPORTED_MESSAGE.into(), (*said).into());
        set_annotation(&mut object, &name, &Value::Object(report).to_string());
    }
    object
}

/// Status, message and time of the condition `Synced`.
fn synced_of(object: &Value) -> Option<(&str, &str, &str)> {
    let list = object.get("status")?.get("conditions")?.as_array()?;
    let own = list.iter().find(|c| c["type"] == synced::SYNCED)?;
    let text = |field: &str| own[field].as_str();
    Some((
        text("status")?,
        text("message")?,
        text("lastTransitionTime")?,
    ))
}

#[test]
fn an_object_on_several_targets_is_synced_once_none_refuses_it_any_more() {
    const NOW: &str = "2030-01-01T01:00:00Z";
    let records = json!({"A": well(1), "B": well(2)});
    let healthy = settle(&object(&["A", "B"], records, json!(null)));
    assert_eq!(synced_of(&healthy), None, "nobody ever refused it");
    let refused = settle(&saying(healthy, &[("B", "no"), ("A", "never")]));
    assert_eq!(synced_of(&refused), Some(("False", "never; no", NOW)));
    let mut taken = refused.clone();
    for (key, record) in [("A", well(1)), ("B", well(2))] {
        let report = json!({"status": record}).to_string();
        set_annotation(&mut taken, &diff_annotation(key), &report);
    }
    let taken = settle(&taken);
    assert_eq!(synced_of(&taken), Some(("True", "", NOW)));
    assert_eq!(taken["status"]["replicas"], 3);
}

#[test]
fn what_nobody_has_reported_yet_can_be_refused_all_the_same() {
    let silent = object(&["A", "B"], json!({}), json!(null));
    let refused = settle(&saying(silent, &[("B", "no")]));
    assert_eq!(synced_of(&refused).map(|s| s.0), Some("False"));
}

#[test]
fn a_lost_target_keeps_its_words_and_gets_back_its_report_without_the_condition() {
    let own = json!({"type": synced::SYNCED, "status": "False", "reason": synced::REFUSED,
        "message": "no", "lastTransitionTime": SINCE});
    let mut status = well(1);
    status["conditions"].as_array_mut().unwrap().push(own);
    let promoted = object(&["L"], json!({"L": PROMOTED}), status);
    let lost = settle(&saying(promoted, &[("L", "no")]));
    assert_eq!(synced_of(&lost), Some(("False", "no", SINCE)));
    assert_eq!(
        outcome(&lost)[0]["L"],
        well(1),
        "kept as the target said it"
    );
    let back = writes(&kind(&deployments()), &lost, |_| None, now());
    let back = back.iter().fold(lost, |at, write| apply(&at, write));
    assert_eq!(synced_of(&back), Some(("False", "no", SINCE)));
    assert_eq!(outcome(&back)[0]["L"], PROMOTED);
}

#[test]
fn what_nobody_has_come_to_yet_is_not_taken() {
    let own = json!({"type": synced::SYNCED, "status": "False", "reason": synced::REFUSED,
        "message": "no", "lastTransitionTime": SINCE});
    let mut moved = object(&["B"], json!({"A": PROMOTED}), json!({"conditions": [own]}));
    moved["metadata"]["finalizers"] = json!([]);
    assert_eq!(synced_of(&settle(&moved)), None);
}

#[test]
fn of_a_strict_kind_the_status_goes_without_our_condition() {
    let refused = saying(
        object(&["A", "B"], json!({"A": well(1)}), json!(null)),
        &[("B", "no")],
    );
    let resource = deployments();
    let of = |listed| {
        let kind = Kind {
            listed,
            ..kind(&resource)
        };
        let all = writes(&kind, &refused, lost, now());
        all.iter()
            .fold(refused.clone(), |at, write| apply(&at, write))
    };
    assert!(synced_of(&of(Listed::Yes)).is_some());
    let plain = of(Listed::No);
    assert_eq!(synced_of(&plain), None);
    assert!(!plain["status"].is_null(), "what the others report is told");
}

#[test]
fn what_is_to_be_nowhere_is_not_synced() {
    let own = json!({"type": synced::SYNCED, "status": "False", "reason": synced::REFUSED,
        "message": "no", "lastTransitionTime": SINCE});
    let left = object(&[], json!({"A": PROMOTED}), json!({"conditions": [own]}));
    assert_eq!(settle(&left).get("status"), None);
}

/// What an API server would take, with its bound on annotations.
fn is_storable(object: &Value) -> bool {
    tmc_apimachinery::meta::validate_metadata(object).is_empty()
}

#[test]
fn a_lost_target_that_said_too_much_is_unknown_like_any_other() {
    let verbose = status(1, available("True", "R", &"x".repeat(300_000)));
    let told = |object: &Value| {
        let own = &object["status"]["conditions"][0];
        (own["status"].clone(), own["reason"].clone())
    };
    let alone = object(&["L"], json!({"L": PROMOTED}), verbose.clone());
    let alone = settle(&alone);
    assert!(is_storable(&alone));
    assert_eq!(told(&alone), (json!("Unknown"), json!("TargetLost")));
    let several = object(
        &["L", "B"],
        json!({"L": PROMOTED, "B": well(1)}),
        verbose.clone(),
    );
    assert!(is_storable(&settle(&several)));
    let stored = settle(&object(
        &["A", "B"],
        json!({"A": verbose, "B": well(1)}),
        well(2),
    ));
    assert!(
        is_storable(&stored),
        "what was kept before there was a bound"
    );
}

#[test]
fn a_loss_adds_no_condition_where_none_may_be_added() {
    let resource = GroupResource::new("apps", "statefulsets");
    let running = object(&["L"], json!({"L": PROMOTED}), json!({"replicas": 3}));
    let conditions = |listed| {
        let kind = Kind {
            resource: &resource,
            listed,
        };
        let all = writes(&kind, &running, lost, now());
        let after = all
            .iter()
            .fold(running.clone(), |at, write| apply(&at, write));
        after["status"]["conditions"].clone()
    };
    assert_eq!(conditions(Listed::Yes)[0]["reason"], "TargetLost");
    assert_eq!(conditions(Listed::No), Value::Null);
}
