//! The labels, annotations and finalizers that a namespaced object should have.

use std::collections::btree_map::Entry;

use serde_json::Value;
use tmc_api::keys::{
    KUBECONFIG_SECRET_TYPE, MESSAGE_ANNOTATION, PLACEMENT_ANNOTATION, REPORTED_MESSAGE,
    STATE_UPSYNC, deletion_annotation, diff_annotation, state_label, syncer_finalizer,
};

use crate::namespace::reconcile::Namespace;
use crate::slim::Slim;
use crate::synctarget::tombstone::TOMBSTONE_LABEL;
use crate::system::is_system_namespace;

/// How a SyncTarget stands to objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It takes them.
    Here,
    /// It is on its way out: what it has its agent removes, and it gets nothing new.
    Leaving,
    /// It does not exist, or has no agent any more: its marks are nobody's.
    Gone,
}

/// The object as it should be in its namespace.
///
/// * A target that the namespace wants gets the state label.
/// * A target that is to go: while it holds its finalizer, it is asked to remove its copy (deletion
///   annotation); without the finalizer there is no copy, and every mark goes.
/// * An object whose deletion was asked for is to be removed by every target that has it.
/// * Every mark of a SyncTarget that is gone goes: nobody is left to remove a copy.
///
/// `excluded` objects never leave the hub, whatever their namespace says.
pub fn reconcile(
    object: &Slim,
    namespace: &Namespace,
    excluded: bool,
    standing: impl Fn(&str) -> Standing,
    now: &str,
) -> Slim {
    let mut new = object.clone();
    let is_gone = |key: &str| standing(key) == Standing::Gone;
    let gone: Vec<String> = object
        .syncer_finalizers()
        .filter(|key| is_gone(key))
        .map(str::to_owned)
        .collect();
    new.metadata
        .finalizers
        .retain(|f| !gone.iter().any(|key| *f == syncer_finalizer(key)));
    let stays = excluded || is_system_namespace(&object.metadata.namespace);
    if let Some(time) = &object.metadata.deletion_timestamp {
        for (key, _) in object.states() {
            if is_gone(key) {
                unmark(&mut new, key);
            } else {
                mark(&mut new, key, time);
            }
        }
        return new;
    }
    for (key, state) in object.states() {
        if state == STATE_UPSYNC {
            // What the target brings up is the upsyncer's business.
            continue;
        }
        match namespace
            .wanted_state(key)
            .filter(|_| !stays && !is_gone(key))
        {
            Some(wanted) => {
                new.metadata
                    .labels
                    .insert(state_label(key), wanted.to_owned());
                new.metadata.annotations.remove(&deletion_annotation(key));
            }
            None if new.metadata.finalizers.contains(&syncer_finalizer(key)) => {
                mark(&mut new, key, now);
            }
            None => unmark(&mut new, key),
        }
    }
    forget_words(&mut new);
    if stays || namespace.is_deleting() {
        return new;
    }
    for key in namespace.target_keys() {
        let takes = standing(&key) == Standing::Here;
        if let Some(wanted) = namespace.wanted_state(&key).filter(|_| takes) {
            let label = new.metadata.labels.entry(state_label(&key));
            if let Entry::Vacant(label) = label {
                label.insert(wanted.to_owned());
                // A mark from before would ask the target to remove what it is just being given.
                new.metadata.annotations.remove(&deletion_annotation(&key));
            }
        }
    }
    new
}

/// Takes back what only targets had to say that do not have the object any more.
fn forget_words(object: &mut Slim) {
    let annotations = &object.metadata.annotations;
    if !annotations.contains_key(MESSAGE_ANNOTATION) {
        return;
    }
    let speaks = |key: &str| {
        let report = annotations.get(&diff_annotation(key));
        let report = report.and_then(|text| serde_json::from_str::<Value>(text).ok());
        report.is_some_and(|report| report.get(REPORTED_MESSAGE).is_some())
    };
    if !object.states().any(|(key, _)| speaks(key)) {
        object.metadata.annotations.remove(MESSAGE_ANNOTATION);
    }
}

fn unmark(object: &mut Slim, key: &str) {
    object.metadata.labels.remove(&state_label(key));
    let annotations = &mut object.metadata.annotations;
    annotations.remove(&deletion_annotation(key));
}

fn mark(object: &mut Slim, key: &str, time: &str) {
    let annotations = &mut object.metadata.annotations;
    annotations
        .entry(deletion_annotation(key))
        .or_insert_with(|| time.to_owned());
}

/// Kinds whose objects run something: the ones a user misses when there is no placement.
const WORKLOADS: [(&str, &str); 6] = [
    ("apps", "deployments"),
    ("apps", "statefulsets"),
    ("apps", "daemonsets"),
    ("apps", "replicasets"),
    ("batch", "jobs"),
    ("batch", "cronjobs"),
];

/// Whether a user should be told that this object goes nowhere: a workload of the user's own, in a
/// namespace of the user's own that no placement selects.
pub fn is_homeless(group: &str, resource: &str, object: &Slim, namespace: &Namespace) -> bool {
    WORKLOADS.contains(&(group, resource))
        && !object.has_controller()
        && object.metadata.deletion_timestamp.is_none()
        && !namespace.is_deleting()
        && !is_system_namespace(&object.metadata.namespace)
        && namespace.target_keys().is_empty()
        && !namespace
            .metadata
            .annotations
            .as_ref()
            .is_some_and(|a| a.contains_key(PLACEMENT_ANNOTATION))
}

/// Types of Secrets that are the hub's own: identities and registered credentials.
const HUB_SECRET_TYPES: [&str; 3] = [
    KUBECONFIG_SECRET_TYPE,
    "kubernetes.io/service-account-token",
    "bootstrap.kubernetes.io/token",
];

/// Whether an object never leaves the hub. `referenced` says whether a Cluster names this Secret.
pub fn is_excluded(group: &str, resource: &str, object: &Slim, referenced: bool) -> bool {
    match (group, resource) {
        ("", "secrets") => {
            let kind = object.secret_type.as_deref().unwrap_or_default();
            referenced || HUB_SECRET_TYPES.contains(&kind)
        }
        // Members make these two themselves, with their own content.
        ("", "configmaps") => {
            object.metadata.name == "kube-root-ca.crt"
                || object.metadata.labels.contains_key(TOMBSTONE_LABEL)
        }
        ("", "serviceaccounts") => object.metadata.name == "default",
        // The way to the API server itself, where the hub is a Kubernetes API server.
        ("", "services") => {
            object.metadata.name == "kubernetes" && object.metadata.namespace == "default"
        }
        _ => false,
    }
}

#[cfg(test)]
mod properties;

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    const NOW: &str = "2030-01-01T00:00:00Z";
    const L1: &str = "state.workload.kcp.io/K1";
    const L2: &str = "state.workload.kcp.io/K2";
    const LEAVING: &str = "state.workload.kcp.io/LEAVES";
    const D1: &str = "deletion.internal.workload.kcp.io/K1";
    const F1: &str = "workload.kcp.io/syncer-K1";

    fn namespace(labels: Value, annotations: Value) -> Namespace {
        serde_json::from_value(json!({"metadata": {"labels": labels, "annotations": annotations}}))
            .unwrap()
    }

    fn object(labels: Value, annotations: Value, finalizers: Value) -> Slim {
        serde_json::from_value(json!({"metadata": {
            "name": "web", "namespace": "ns", "uid": "u", "resourceVersion": "1",
            "labels": labels, "annotations": annotations, "finalizers": finalizers,
        }}))
        .unwrap()
    }

    fn standing(key: &str) -> Standing {
        match key {
            "GONE" => Standing::Gone,
            "LEAVES" => Standing::Leaving,
            _ => Standing::Here,
        }
    }

    /// Reconciles with K1 and K2 existing, checks that a second pass changes nothing, and gives
    /// labels, annotations and finalizers.
    fn run(object: &Slim, namespace: &Namespace, excluded: bool) -> Value {
        let new = reconcile(object, namespace, excluded, standing, NOW);
        let again = reconcile(&new, namespace, excluded, standing, "2031-01-01T00:00:00Z");
        assert_eq!(again, new, "a second pass changes nothing");
        json!([
            new.metadata.labels,
            new.metadata.annotations,
            new.metadata.finalizers
        ])
    }

    #[rstest]
    // object: labels, annotations, finalizers; namespace: labels, annotations; expected.
    #[case::a_new_object_gets_the_labels_of_its_namespace(
        json!({}), json!({}), json!([]), json!({L1: "Sync", L2: "Sync"}), json!({}),
        json!([{L1: "Sync", L2: "Sync"}, {}, []]))]
    #[case::a_target_that_is_leaving_gets_nothing_new(
        json!({}), json!({}), json!([]), json!({L1: "Sync"}), json!({D1: NOW}),
        json!([{}, {}, []]))]
    #[case::a_copy_downstream_is_asked_for_removal(
        json!({L1: "Sync"}), json!({}), json!([F1, "x/y"]), json!({L1: "Sync"}), json!({D1: "t"}),
        json!([{L1: "Sync"}, {D1: NOW}, [F1, "x/y"]]))]
    #[case::without_a_copy_every_mark_goes(
        json!({L1: "Sync"}), json!({D1: NOW}), json!(["x/y"]), json!({L1: "Sync"}), json!({D1: "t"}),
        json!([{}, {}, ["x/y"]]))]
    #[case::a_namespace_without_the_target_removes_too(
        json!({L1: "Sync"}), json!({}), json!([F1]), json!({}), json!({}),
        json!([{L1: "Sync"}, {D1: NOW}, [F1]]))]
    #[case::a_target_that_came_back_is_wanted_again(
        json!({L1: "Sync"}), json!({D1: NOW}), json!([F1]), json!({L1: "Sync"}), json!({}),
        json!([{L1: "Sync"}, {}, [F1]]))]
    #[case::a_mark_from_before_asks_a_new_target_for_nothing(
        json!({}), json!({D1: NOW}), json!([]), json!({L1: "Sync"}), json!({}),
        json!([{L1: "Sync"}, {}, []]))]
    #[case::the_state_of_the_namespace_is_copied(
        json!({L1: ""}), json!({}), json!([]), json!({L1: "Sync"}), json!({}),
        json!([{L1: "Sync"}, {}, []]))]
    #[case::what_a_target_brings_up_is_left_alone(
        json!({L1: "Upsync"}), json!({}), json!([]), json!({}), json!({}),
        json!([{L1: "Upsync"}, {}, []]))]
    #[case::a_target_on_its_way_out_gets_nothing_new(
        json!({}), json!({}), json!([]), json!({LEAVING: "Sync", L2: "Sync"}), json!({}),
        json!([{L2: "Sync"}, {}, []]))]
    #[case::a_target_on_its_way_out_keeps_what_its_namespace_still_wants(
        json!({LEAVING: "Sync"}), json!({}), json!([]), json!({LEAVING: "Sync"}), json!({}),
        json!([{LEAVING: "Sync"}, {}, []]))]
    #[case::a_finalizer_of_a_vanished_target_goes_with_its_label(
        json!({"state.workload.kcp.io/GONE": "Sync"}), json!({}),
        json!(["workload.kcp.io/syncer-GONE", "x/y"]),
        json!({"state.workload.kcp.io/GONE": "Sync"}), json!({}),
        json!([{}, {}, ["x/y"]]))]
    fn objects_follow_their_namespace(
        #[case] labels: Value,
        #[case] annotations: Value,
        #[case] finalizers: Value,
        #[case] namespace_labels: Value,
        #[case] namespace_annotations: Value,
        #[case] expected: Value,
    ) {
        let object = object(labels, annotations, finalizers);
        assert_eq!(
            run(
                &object,
                &namespace(namespace_labels, namespace_annotations),
                false
            ),
            expected
        );
    }

    #[test]
    fn a_deleted_object_is_removed_by_every_target_that_has_it_and_by_no_other() {
        let mut object = object(json!({L1: "Sync"}), json!({}), json!([F1]));
        object.metadata.deletion_timestamp = Some("2029-12-31T00:00:00Z".into());
        let wanted = namespace(json!({L1: "Sync", L2: "Sync"}), json!({}));
        let expected = json!([{L1: "Sync"}, {D1: "2029-12-31T00:00:00Z"}, [F1]]);
        assert_eq!(run(&object, &wanted, false), expected);
    }

    #[test]
    fn a_deleted_object_is_not_held_by_a_vanished_target() {
        let mut object = object(
            json!({"state.workload.kcp.io/GONE": "Sync"}),
            json!({}),
            json!(["workload.kcp.io/syncer-GONE", "x/y"]),
        );
        object.metadata.deletion_timestamp = Some(NOW.into());
        assert_eq!(
            run(&object, &namespace(json!({}), json!({})), false),
            json!([{}, {}, ["x/y"]]),
            "whatever else holds it"
        );
    }

    #[test]
    fn excluded_objects_get_no_label_and_lose_one_they_have() {
        let wanted = namespace(json!({L1: "Sync"}), json!({}));
        assert_eq!(
            run(&object(json!({}), json!({}), json!([])), &wanted, true),
            json!([{}, {}, []])
        );
        let labelled = object(json!({L1: "Sync"}), json!({}), json!([]));
        assert_eq!(run(&labelled, &wanted, true), json!([{}, {}, []]));
        let mut system = object(json!({}), json!({}), json!([]));
        system.metadata.namespace = "kube-system".into();
        assert_eq!(run(&system, &wanted, false), json!([{}, {}, []]));
    }

    #[rstest]
    #[case("secrets", "s", "tmc.kcp.io/kubeconfig", false, true)]
    #[case("secrets", "s", "kubernetes.io/service-account-token", false, true)]
    #[case("secrets", "s", "bootstrap.kubernetes.io/token", false, true)]
    #[case("secrets", "s", "Opaque", true, true)]
    #[case("secrets", "s", "Opaque", false, false)]
    #[case("configmaps", "kube-root-ca.crt", "", false, true)]
    #[case("configmaps", "mine", "", false, false)]
    #[case("serviceaccounts", "default", "", false, true)]
    #[case("serviceaccounts", "mine", "", false, false)]
    #[case("services", "default", "", false, false)]
    fn the_hubs_own_objects_are_excluded(
        #[case] resource: &str,
        #[case] name: &str,
        #[case] kind: &str,
        #[case] referenced: bool,
        #[case] expected: bool,
    ) {
        let mut object = object(json!({}), json!({}), json!([]));
        object.metadata.name = name.into();
        object.secret_type = Some(kind.into());
        assert_eq!(is_excluded("", resource, &object, referenced), expected);
        assert!(!is_excluded("example.com", resource, &object, false));
    }

    #[test]
    fn the_record_of_a_removal_stays_on_the_hub() {
        let tombstone = object(json!({TOMBSTONE_LABEL: "true"}), json!({}), json!([]));
        assert!(is_excluded("", "configmaps", &tombstone, false));
        assert!(!is_excluded("apps", "deployments", &tombstone, false));
    }

    #[test]
    fn the_service_of_a_hubs_own_api_server_stays_there_and_its_namesakes_do_not() {
        let mut own = object(json!({}), json!({}), json!([]));
        own.metadata.name = "kubernetes".into();
        own.metadata.namespace = "default".into();
        assert!(is_excluded("", "services", &own, false));
        own.metadata.namespace = "team".into();
        assert!(!is_excluded("", "services", &own, false));
    }

    #[test]
    fn only_a_users_own_workload_without_a_placement_is_homeless() {
        let plain = object(json!({}), json!({}), json!([]));
        let empty = namespace(json!({}), json!({}));
        assert!(is_homeless("apps", "deployments", &plain, &empty));
        assert!(!is_homeless("", "configmaps", &plain, &empty));
        let placed = namespace(json!({}), json!({"scheduling.kcp.io/placement": ""}));
        assert!(!is_homeless("apps", "deployments", &plain, &placed));
        assert!(!is_homeless(
            "apps",
            "deployments",
            &plain,
            &namespace(json!({L1: "Sync"}), json!({}))
        ));
        let mut owned = plain.clone();
        owned.metadata.owner_references = vec![crate::slim::SlimOwner { controller: true }];
        assert!(!is_homeless("apps", "replicasets", &owned, &empty));
    }

    #[test]
    fn only_our_labels_and_annotations_are_kept_of_an_object() {
        let object = object(
            json!({"app": "web", L1: "Sync", "a.kcp.io.evil/x": "1", "kcp.io/y": "2"}),
            json!({"kubectl.kubernetes.io/last-applied-configuration": "{}"}),
            json!([]),
        );
        let keys: Vec<_> = object.metadata.labels.keys().map(String::as_str).collect();
        assert_eq!(keys, ["kcp.io/y", L1]);
        assert!(object.metadata.annotations.is_empty());
    }

    #[test]
    fn words_go_with_the_last_target_that_says_them() {
        let said = json!({MESSAGE_ANNOTATION: "no", diff_annotation("K1"): r#"{"message":"no"}"#});
        let silent =
            json!({MESSAGE_ANNOTATION: "no", diff_annotation("K1"): r#"{"status":{"message":1}}"#});
        let here = namespace(json!({L1: "Sync"}), json!({}));
        let kept = run(
            &object(json!({L1: "Sync"}), said, json!([F1])),
            &here,
            false,
        );
        assert_eq!(kept[1][MESSAGE_ANNOTATION], "no");
        let gone = run(
            &object(json!({L1: "Sync"}), silent, json!([F1])),
            &here,
            false,
        );
        assert_eq!(gone[1].get(MESSAGE_ANNOTATION), None);
    }
}
