use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

pub(super) const URL: &str = "https://hub/clusters/a";

pub(super) fn deployments() -> GroupResource {
    GroupResource::new("apps", "deployments")
}

/// The merge of an answer about a Deployment.
pub(super) fn setting() -> Setting {
    Setting {
        resource: deployments(),
        conditions: Listed::Yes,
        now: "2030-01-01T00:00:00Z".parse().expect("a time"),
    }
}

pub(super) fn upstream(targets: &[&str]) -> Value {
    let mut object = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "shop", "resourceVersion": "7",
            "finalizers": ["someone/else"], "annotations": {"kcp.io/cluster": "a"}},
        "spec": {"replicas": 3},
    });
    for target in targets {
        let keys = TargetKeys::new(target);
        tmc_apimachinery::meta::set_label(&mut object, &keys.state, SYNC);
        add_finalizer(&mut object, &keys.finalizer);
    }
    object
}

pub(super) fn applied(upstream: &Value, writes: &[Write]) -> Value {
    let mut object = upstream.clone();
    for write in writes {
        match write {
            Write::Status(new) => match new.get("status") {
                Some(status) => object["status"] = status.clone(),
                None => drop(object.as_object_mut().map(|m| m.remove("status"))),
            },
            Write::Main(new) => {
                let status = object.get("status").cloned();
                object = new.clone();
                match status {
                    Some(status) => object["status"] = status,
                    None => drop(object.as_object_mut().map(|m| m.remove("status"))),
                }
            }
        }
    }
    object
}

pub(super) fn status_of(upstream: &Value, target: &str, status: Value) -> Result<Vec<Write>> {
    let keys = TargetKeys::new(target);
    let mut body = view(upstream, &keys, URL)?;
    body["status"] = status;
    merge(upstream, &body, &keys, Part::Status, &setting())
}

#[test]
fn a_view_hides_foreign_finalizers_deletion_and_every_report() {
    let mut object = upstream(&["k1", "k2"]);
    object["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    set_annotation(
        &mut object,
        "diff.syncer.internal.kcp.io/k2",
        "{\"status\":{\"x\":1}}",
    );
    let seen = view(&object, &TargetKeys::new("k1"), URL).expect("view");
    assert_eq!(meta(&seen).finalizers(), ["workload.kcp.io/syncer-k1"]);
    assert_eq!(meta(&seen).deletion_timestamp(), "");
    assert!(
        meta(&seen)
            .annotations()
            .keys()
            .all(|k| !k.starts_with("diff.syncer"))
    );
    assert_eq!(
        meta(&seen).annotation("internal.workload.kcp.io/workspace-url"),
        Some(URL)
    );
}

fn said(upstream: &Value) -> Option<&str> {
    meta(upstream).annotation(keys::MESSAGE_ANNOTATION)
}

/// The object after a target has written the view with these words, or none.
fn with_words(upstream: &Value, target: &str, words: Option<&str>) -> Value {
    let keys = TargetKeys::new(target);
    let mut body = view(upstream, &keys, URL).expect("view");
    match words {
        Some(words) => set_annotation(&mut body, keys::MESSAGE_ANNOTATION, words),
        None => drop(remove_annotation(&mut body, keys::MESSAGE_ANNOTATION)),
    }
    let writes = merge(upstream, &body, &keys, Part::Main, &setting()).expect("merged");
    applied(upstream, &writes)
}

#[test]
fn an_object_says_what_its_targets_say_and_each_of_them_sees_its_own_words() {
    let object = with_words(&upstream(&["k1", "k2"]), "k1", Some("too big"));
    assert_eq!(said(&object), Some("too big"));
    let object = with_words(&object, "k2", Some("not allowed"));
    assert_eq!(said(&object), Some("not allowed; too big"));
    let seen = view(&object, &TargetKeys::new("k1"), URL).expect("view");
    assert_eq!(said(&seen), Some("too big"));
    let object = with_words(&object, "k2", Some("too big"));
    assert_eq!(said(&object), Some("too big"), "each thing is said once");
    let object = with_words(&object, "k2", None);
    assert_eq!(said(&object), Some("too big"));
    let object = with_words(&object, "k1", None);
    assert_eq!(object, upstream(&["k1", "k2"]), "nothing is left of it");
}

/// Status and message of the condition `Synced`.
fn synced_of(object: &Value) -> Option<(&str, &str)> {
    let list = object.get("status")?.get("conditions")?.as_array()?;
    let own = list.iter().find(|c| c["type"] == synced::SYNCED)?;
    Some((own["status"].as_str()?, own["message"].as_str()?))
}

#[test]
fn a_refused_object_says_so_in_a_condition_that_outlasts_the_members_status() {
    let object = with_words(&upstream(&["k1"]), "k1", Some("no"));
    assert_eq!(synced_of(&object), Some(("False", "no")));
    let seen = view(&object, &TargetKeys::new("k1"), URL).expect("view");
    assert_eq!(seen.get("status"), None, "the target has not said it");
    let conditions = json!([{"type": "Available", "status": "True"}]);
    let status = json!({"replicas": 1, "conditions": conditions});
    let writes = status_of(&object, "k1", status.clone()).expect("merged");
    let object = applied(&object, &writes);
    assert_eq!(synced_of(&object), Some(("False", "no")));
    assert_eq!(object["status"]["conditions"][0], conditions[0]);
    let seen = view(&object, &TargetKeys::new("k1"), URL).expect("view");
    assert_eq!(seen["status"], status, "a target finds its own report");
    let object = with_words(&object, "k1", None);
    assert_eq!(synced_of(&object), Some(("True", "")));
    assert_eq!(said(&object), None);
}

#[test]
fn only_kinds_with_conditions_say_so_in_one() {
    let object = upstream(&["k1"]);
    let keys = TargetKeys::new("k1");
    let mut body = view(&object, &keys, URL).expect("view");
    set_annotation(&mut body, keys::MESSAGE_ANNOTATION, "no");
    let map = Setting {
        resource: GroupResource::new("", "configmaps"),
        conditions: Listed::No,
        ..setting()
    };
    let writes = merge(&object, &body, &keys, Part::Main, &map).expect("merged");
    let object = applied(&object, &writes);
    assert_eq!((said(&object), object.get("status")), (Some("no"), None));
}

#[test]
fn a_status_that_is_the_hubs_own_business_is_left_alone() {
    let mut object = upstream(&["k1"]);
    let fields = r#"[{"fieldPath":"spec.clusterIP","promoteToUpstream":true}]"#;
    set_annotation(&mut object, keys::SUMMARIZING_ANNOTATION, fields);
    let own = json!([{"type": "Synced", "status": "True", "reason": "Mine"}]);
    object["status"] = json!({"conditions": own});
    let after = with_words(&object, "k1", Some("no"));
    assert_eq!(after["status"], object["status"]);
}

/// An object that k1 refused while it was alone, and that is k2's too since then.
fn refused_by_one_of_two() -> Value {
    let alone = with_words(&upstream(&["k1"]), "k1", Some("no"));
    let mut both = upstream(&["k1", "k2"]);
    for part in ["/status", "/metadata/annotations"] {
        let value = alone.pointer(part).cloned().unwrap_or_default();
        let (parent, field) = part.rsplit_once('/').expect("a path");
        both.pointer_mut(parent).expect("it is there")[field] = value;
    }
    assert_eq!(synced_of(&both), Some(("False", "no")));
    both
}

#[test]
fn what_one_of_two_takes_back_last_is_told_although_no_status_is() {
    let taken = with_words(&refused_by_one_of_two(), "k1", None);
    assert_eq!(synced_of(&taken), Some(("True", "")));
    assert_eq!(said(&taken), None);
}

#[test]
fn what_was_refused_and_has_moved_is_not_taken_before_somebody_has_it() {
    let leave = |mut object: Value| {
        let keys = TargetKeys::new("k1");
        set_annotation(&mut object, &keys.deletion, "2026-01-01T00:00:00Z");
        let mut body = view(&object, &keys, URL).expect("view");
        remove_finalizer(&mut body, &keys.finalizer);
        let writes = merge(&object, &body, &keys, Part::Main, &setting()).expect("merged");
        applied(&object, &writes)
    };
    assert_eq!(
        synced_of(&leave(refused_by_one_of_two())),
        Some(("True", ""))
    );
    let mut waiting = refused_by_one_of_two();
    remove_finalizer(&mut waiting, &TargetKeys::new("k2").finalizer);
    assert_eq!(synced_of(&leave(waiting)), None);
}

#[test]
fn the_hubs_condition_goes_when_its_user_says_how_the_status_comes_about() {
    let mut object = refused_by_one_of_two();
    let fields = r#"[{"fieldPath":"status","promoteToUpstream":false}]"#;
    set_annotation(&mut object, keys::SUMMARIZING_ANNOTATION, fields);
    let seen = view(&object, &TargetKeys::new("k2"), URL).expect("view");
    assert_eq!(synced_of(&seen), None, "no target sees another's words");
    assert_eq!(synced_of(&with_words(&object, "k2", None)), None);
}

#[test]
fn words_outlast_a_status_and_go_with_the_target_that_said_them() {
    let object = with_words(&upstream(&["k1"]), "k1", Some("no"));
    let writes = status_of(&object, "k1", json!({"replicas": 1})).expect("merged");
    let mut object = applied(&object, &writes);
    assert_eq!(said(&object), Some("no"));
    let keys = TargetKeys::new("k1");
    set_annotation(&mut object, &keys.deletion, "2026-01-01T00:00:00Z");
    let mut body = view(&object, &keys, URL).expect("view");
    remove_finalizer(&mut body, &keys.finalizer);
    let writes = merge(&object, &body, &keys, Part::Main, &setting()).expect("merged");
    assert_eq!(said(&applied(&object, &writes)), None);
}

#[test]
fn words_are_cut_where_they_get_long() {
    let object = with_words(&upstream(&["k1"]), "k1", Some(&"ä".repeat(5000)));
    assert_eq!(
        said(&object).map(|said| said.chars().count()),
        Some(keys::MAX_MESSAGE)
    );
}

#[test]
fn a_status_that_no_target_vouches_for_is_not_shown() {
    let mut object = upstream(&["k1"]);
    object["status"] = json!({"replicas": 3});
    let seen = view(&object, &TargetKeys::new("k1"), URL).expect("view");
    assert_eq!(seen.get("status"), None);
}

#[test]
fn a_spec_diff_changes_only_the_view_of_its_own_target() {
    let mut object = upstream(&["k1", "k2"]);
    let patch = r#"[{"op":"replace","path":"/replicas","value":1}]"#;
    set_annotation(
        &mut object,
        "experimental.spec-diff.workload.kcp.io/k1",
        patch,
    );
    let of =
        |key| view(&object, &TargetKeys::new(key), URL).expect("view")["spec"]["replicas"].clone();
    assert_eq!((of("k1"), of("k2")), (json!(1), json!(3)));
}

#[test]
fn an_unreadable_annotation_is_named() {
    let mut object = upstream(&["k1"]);
    set_annotation(&mut object, "diff.syncer.internal.kcp.io/k1", "not json");
    let error = view(&object, &TargetKeys::new("k1"), URL).expect_err("unreadable");
    assert_eq!(error.code, 500);
    assert!(
        error.message.contains("diff.syncer.internal.kcp.io/k1"),
        "{error}"
    );
}

#[test]
fn the_deletion_mark_shows_as_a_deletion_timestamp_unless_a_soft_finalizer_holds_it() {
    let mut object = upstream(&["k1"]);
    set_annotation(
        &mut object,
        "deletion.internal.workload.kcp.io/k1",
        "2026-01-01T00:00:00Z",
    );
    let keys = TargetKeys::new("k1");
    let shown = |object: &Value| {
        meta(&view(object, &keys, URL).expect("view"))
            .deletion_timestamp()
            .to_owned()
    };
    assert_eq!(shown(&object), "2026-01-01T00:00:00Z");
    set_annotation(&mut object, "finalizers.workload.kcp.io/k1", "backup");
    assert_eq!(shown(&object), "");
}

#[test]
fn the_only_targets_status_becomes_the_objects_own_status_first() {
    let object = upstream(&["k1"]);
    let writes = status_of(&object, "k1", json!({"replicas": 3})).expect("merge");
    assert!(
        matches!(writes.as_slice(), [Write::Status(_), Write::Main(_)]),
        "{writes:?}"
    );
    let after = applied(&object, &writes);
    assert_eq!(after["status"], json!({"replicas": 3}));
    assert!(
        status_of(&after, "k1", json!({"replicas": 3}))
            .expect("merge")
            .is_empty()
    );
    let seen = view(&after, &TargetKeys::new("k1"), URL).expect("view");
    assert_eq!(seen["status"], json!({"replicas": 3}));
}

#[test]
fn with_several_targets_each_report_is_recorded_and_the_object_is_left_alone() {
    let mut object = upstream(&["k1"]);
    let writes = status_of(&object, "k1", json!({"replicas": 1})).expect("first");
    object = applied(&object, &writes);
    tmc_apimachinery::meta::set_label(&mut object, "state.workload.kcp.io/k2", SYNC);
    add_finalizer(&mut object, "workload.kcp.io/syncer-k2");
    let writes = status_of(&object, "k2", json!({"replicas": 2})).expect("second");
    let after = applied(&object, &writes);
    assert_eq!(
        after["status"],
        json!({"replicas": 1}),
        "the object's own status is untouched"
    );
    for (key, replicas) in [("k1", 1), ("k2", 2)] {
        let seen = view(&after, &TargetKeys::new(key), URL).expect("view");
        assert_eq!(
            seen["status"]["replicas"], replicas,
            "what {key} said is kept"
        );
    }
}

#[test]
fn the_last_but_one_target_leaves_its_report_to_the_one_that_stays() {
    let mut object = upstream(&["k1", "k2"]);
    for (key, n) in [("k1", 1), ("k2", 2)] {
        let writes = status_of(&object, key, json!({"replicas": n})).expect("merge");
        object = applied(&object, &writes);
    }
    set_annotation(
        &mut object,
        "deletion.internal.workload.kcp.io/k1",
        "2026-01-01T00:00:00Z",
    );
    let keys = TargetKeys::new("k1");
    let mut body = view(&object, &keys, URL).expect("view");
    remove_finalizer(&mut body, &keys.finalizer);
    let writes = merge(&object, &body, &keys, Part::Main, &setting()).expect("removal");
    let after = applied(&object, &writes);
    assert_eq!(after["status"], json!({"replicas": 2}));
    assert!(
        !meta(&after)
            .labels()
            .contains_key("state.workload.kcp.io/k1")
    );
    assert!(
        meta(&after)
            .annotations()
            .keys()
            .all(|k| !k.ends_with("/k1")),
        "{after}"
    );
}

#[test]
fn a_stub_says_who_goes_and_nothing_that_is_in_it() {
    let mut object = upstream(&["k1", "k2"]);
    let keys = TargetKeys::new("k1");
    object["data"] = json!({"kubeconfig": "c2VjcmV0"});
    object["type"] = "Opaque".into();
    object["metadata"]["labels"]["team"] = "secret".into();
    object["metadata"]["managedFields"] = json!([{"fieldsV1": {"f:secret": {}}}]);
    set_annotation(
        &mut object,
        "kubectl.kubernetes.io/last-applied-configuration",
        "secret",
    );
    assert!(!keys.must_remove(&object), "nobody asks for it");
    set_annotation(&mut object, &keys.deletion, "2026-01-01T00:00:00Z");
    assert!(keys.must_remove(&object));
    let stub = stub(&view(&object, &keys, URL).expect("view"), &keys);
    let expected = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "shop", "resourceVersion": "7",
            "deletionTimestamp": "2026-01-01T00:00:00Z",
            "labels": {"state.workload.kcp.io/k1": "Sync"},
            "annotations": {"kcp.io/cluster": "a", keys::WORKSPACE_URL_ANNOTATION: URL},
            "finalizers": ["workload.kcp.io/syncer-k1"]},
    });
    assert_eq!(stub, expected);
    let mut body = stub;
    remove_finalizer(&mut body, &keys.finalizer);
    let writes = merge(&object, &body, &keys, Part::Main, &setting()).expect("merged");
    let after = applied(&object, &writes);
    assert!(!keys.holds(&after) && !keys.sees(&after));
    assert_eq!(
        after["data"], object["data"],
        "the user's object stays whole"
    );
}

#[test]
fn when_the_last_target_leaves_nobody_vouches_for_the_status() {
    let mut object = upstream(&["k1"]);
    let writes = status_of(&object, "k1", json!({"replicas": 1})).expect("merge");
    object = applied(&object, &writes);
    set_annotation(
        &mut object,
        "deletion.internal.workload.kcp.io/k1",
        "2026-01-01T00:00:00Z",
    );
    let keys = TargetKeys::new("k1");
    let mut body = view(&object, &keys, URL).expect("view");
    remove_finalizer(&mut body, &keys.finalizer);
    let writes = merge(&object, &body, &keys, Part::Main, &setting()).expect("removal");
    let after = applied(&object, &writes);
    assert_eq!(after.get("status"), None);
    assert_eq!(meta(&after).finalizers(), ["someone/else"]);
}

#[test]
fn a_target_cannot_shed_an_object_that_nobody_asked_it_to_remove() {
    let object = upstream(&["k1"]);
    let keys = TargetKeys::new("k1");
    let mut body = view(&object, &keys, URL).expect("view");
    remove_finalizer(&mut body, &keys.finalizer);
    body["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    let error = merge(&object, &body, &keys, Part::Main, &setting()).expect_err("refused");
    assert_eq!(error.code, 403);
}

#[test]
fn a_soft_finalizer_holds_even_a_target_that_has_removed_its_copy() {
    let mut object = upstream(&["k1"]);
    set_annotation(
        &mut object,
        "deletion.internal.workload.kcp.io/k1",
        "2026-01-01T00:00:00Z",
    );
    set_annotation(&mut object, "finalizers.workload.kcp.io/k1", "backup");
    let keys = TargetKeys::new("k1");
    let mut body = view(&object, &keys, URL).expect("view");
    remove_finalizer(&mut body, &keys.finalizer);
    let error = merge(&object, &body, &keys, Part::Main, &setting()).expect_err("held");
    assert_eq!(error.code, 403);
}

#[test]
fn stale_and_foreign_writes_are_refused() {
    let object = upstream(&["k1"]);
    let keys = TargetKeys::new("k1");
    let mut body = view(&object, &keys, URL).expect("view");
    body["metadata"]["resourceVersion"] = "6".into();
    assert_eq!(
        merge(&object, &body, &keys, Part::Status, &setting())
            .expect_err("stale")
            .code,
        409
    );
    let stranger = TargetKeys::new("k9");
    let body = view(&object, &stranger, URL).expect("view");
    assert_eq!(
        merge(&object, &body, &stranger, Part::Main, &setting())
            .expect_err("foreign")
            .code,
        404
    );
}

#[test]
fn a_summarising_annotation_is_read_in_any_case() {
    let mut object = upstream(&["k1"]);
    let fields = r#"[{"fieldPath":"spec.clusterIP","PromoteToUpstream":true}]"#;
    set_annotation(
        &mut object,
        "experimental.summarizing.workload.kcp.io",
        fields,
    );
    let keys = TargetKeys::new("k1");
    let mut body = view(&object, &keys, URL).expect("view");
    body["spec"]["clusterIP"] = "10.0.0.1".into();
    body["spec"]["replicas"] = 99.into();
    let writes = merge(&object, &body, &keys, Part::Main, &setting()).expect("merge");
    let after = applied(&object, &writes);
    assert_eq!(
        after["spec"],
        json!({"replicas": 3, "clusterIP": "10.0.0.1"})
    );
}

#[test]
fn a_users_annotation_never_opens_metadata_to_an_agent() {
    let mut object = upstream(&["k1"]);
    let fields = r#"[{"fieldPath":"metadata.labels","promoteToUpstream":true},
        {"fieldPath":"metadata.annotations","promoteToUpstream":true},
        {"fieldPath":"metadata","promoteToUpstream":true}, {"fieldPath":"kind","promoteToUpstream":true}]"#;
    set_annotation(
        &mut object,
        "experimental.summarizing.workload.kcp.io",
        fields,
    );
    let keys = TargetKeys::new("k1");
    let mut body = view(&object, &keys, URL).expect("view");
    body["metadata"]["labels"]["state.workload.kcp.io/k2"] = "Sync".into();
    body["metadata"]["annotations"]["diff.syncer.internal.kcp.io/k2"] = "{}".into();
    body["kind"] = "Secret".into();
    let writes = merge(&object, &body, &keys, Part::Main, &setting()).expect("merge");
    assert!(writes.is_empty(), "{writes:?}");
    let seen = view(&object, &keys, URL).expect("view");
    assert_eq!(
        meta(&seen).cluster(),
        "a",
        "the view keeps what names the workspace"
    );
}

proptest! {
    /// Whatever an agent sends, only status, its own finalizer and its own report change upstream.
    #[test]
    fn an_agent_changes_nothing_but_its_report_and_its_finalizer(
        replicas in 0..9_i64, label in "[a-z]{1,5}", status in 0..9_i64, part in prop::bool::ANY,
    ) {
        let object = upstream(&["k1", "k2"]);
        let keys = TargetKeys::new("k1");
        let mut body = view(&object, &keys, URL).expect("view");
        body["spec"]["replicas"] = replicas.into();
        body["metadata"]["labels"][&label] = "x".into();
        body["metadata"]["name"] = "other".into();
        body["status"] = json!({"replicas": status});
        let part = if part { Part::Status } else { Part::Main };
        let writes = merge(&object, &body, &keys, part, &setting()).expect("merge");
        let mut after = applied(&object, &writes);
        remove_annotation(&mut after, "diff.syncer.internal.kcp.io/k1");
        prop_assert_eq!(after, object);
    }

    /// Sending again what the view shows is no change.
    #[test]
    fn a_view_sent_back_as_it_is_writes_nothing(status in 0..9_i64) {
        let object = upstream(&["k1"]);
        let first = status_of(&object, "k1", json!({"replicas": status})).expect("merge");
        let object = applied(&object, &first);
        let keys = TargetKeys::new("k1");
        let seen = view(&object, &keys, URL).expect("view");
        for part in [Part::Main, Part::Status] {
            let writes = merge(&object, &seen, &keys, part, &setting()).expect("merge");
            prop_assert!(writes.is_empty(), "{:?}", writes);
        }
    }
}
