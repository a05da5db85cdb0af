//! What a target reports leaves room for what others have to say.

use serde_json::{Value, json};

use super::tests::{URL, applied, setting, status_of, upstream};
use super::*;

/// A status that says far too much.
fn verbose() -> Value {
    let long = "x".repeat(300_000);
    json!({"availableReplicas": 2, "conditions": [
        {"type": "Available", "status": "True", "message": long},
        {"type": "Progressing", "status": "True", "message": "well"}]})
}

fn with_status(object: &Value, target: &str, status: Value) -> Value {
    let writes = status_of(object, target, status).expect("merged");
    let object = applied(object, &writes);
    assert_eq!(tmc_apimachinery::meta::validate_metadata(&object), []);
    object
}

/// The object after another target was assigned to it and has said that it is about to make a copy.
fn taken_over(mut object: Value, target: &str) -> Value {
    let keys = TargetKeys::new(target);
    set_label(&mut object, &keys.state, SYNC);
    let mut body = view(&object, &keys, URL).expect("view");
    add_finalizer(&mut body, &keys.finalizer);
    let writes = merge(&object, &body, &keys, Part::Main, &setting()).expect("merged");
    let object = applied(&object, &writes);
    assert!(keys.holds(&object));
    assert_eq!(tmc_apimachinery::meta::validate_metadata(&object), []);
    object
}

#[test]
fn a_target_that_says_too_much_does_not_keep_another_from_taking_over() {
    // As a view without a bound has stored it.
    let mut object = upstream(&["k1"]);
    object["status"] = verbose();
    let promoted = json!({"status": PROMOTED}).to_string();
    set_annotation(&mut object, &TargetKeys::new("k1").diff, &promoted);
    for object in [
        taken_over(object, "k2"),
        taken_over(with_status(&upstream(&["k1"]), "k1", verbose()), "k2"),
        with_status(&upstream(&["k1", "k2"]), "k1", verbose()),
    ] {
        let kept = recorded(&object, &TargetKeys::new("k1").diff).expect("report");
        let conditions = &kept["status"]["conditions"];
        assert_eq!(kept["status"]["availableReplicas"], 2);
        assert_eq!(conditions[0]["status"], "True");
        assert_eq!(conditions[1], verbose()["conditions"][1]);
        let again = status_of(&object, "k1", verbose()).expect("merged");
        assert_eq!(again, [], "said again, it changes nothing");
    }
}

#[test]
fn sixteen_targets_that_say_too_much_leave_room_for_each_other() {
    let names: Vec<String> = (0..16).map(|n| format!("k{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let items: Vec<Value> = (0..20_000).map(|n| json!({"item": n})).collect();
    let said = json!({"items": items, "conditions": [{"type": "Available", "status": "True"}]});
    let reported = names.iter().fold(upstream(&names), |object, name| {
        with_status(&object, name, said.clone())
    });
    taken_over(reported, "another");
}

#[test]
fn a_long_status_of_a_single_target_is_shown_in_full() {
    let items: Vec<Value> = (0..5_000).map(|n| json!({"item": n})).collect();
    let said = json!({"items": items, "conditions": [{"type": "Ready", "status": "True"}]});
    let object = with_status(&upstream(&["k1"]), "k1", said.clone());
    assert_eq!(object["status"], said);
    let object = taken_over(object, "k2");
    assert_eq!(object["status"], said, "until others have something to say");
    let seen = view(&object, &TargetKeys::new("k1"), URL).expect("view");
    assert_eq!(seen["status"], json!({"conditions": said["conditions"]}));
    let huge = json!({"items": vec![json!("x".repeat(1000)); 1000], "phase": "Ready"});
    let object = with_status(&upstream(&["k1"]), "k1", huge);
    assert!(object["status"].to_string().len() <= tmc_api::report::MAX_SHOWN);
    assert_eq!(object["status"]["phase"], "Ready");
}

#[test]
fn a_part_of_the_spec_that_does_not_fit_is_not_kept_rather_than_cut() {
    let mut object = upstream(&["k1"]);
    let fields = json!([{"fieldPath": "spec.notes", "promoteToUpstream": false}]);
    set_annotation(
        &mut object,
        keys::SUMMARIZING_ANNOTATION,
        &fields.to_string(),
    );
    let notes = json!("x".repeat(50_000));
    object["spec"]["notes"] = notes.clone();
    let object = taken_over(object, "k1");
    let seen = view(&object, &TargetKeys::new("k1"), URL).expect("view");
    assert_eq!(seen["spec"]["notes"], notes);
    assert_eq!(object["spec"]["notes"], notes);
}
