//! What holds of any object in any namespace.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::json;
use tmc_api::keys::STATE_SYNC;

use super::*;

/// Targets, of which the third is leaving and the last does not exist.
const KEYS: [&str; 4] = ["K1", "K2", "K3", "GONE"];
const FIRST: &str = "2030-01-01T00:00:00Z";
const LATER: &str = "2031-01-01T00:00:00Z";

/// Of each target: the state label, whether there is a deletion mark, and what else is drawn.
type Draw = (Option<&'static str>, bool, u8);

fn any_draws() -> impl Strategy<Value = [Draw; 4]> {
    let states = vec![None, Some(STATE_SYNC), Some(STATE_UPSYNC), Some("")];
    prop::array::uniform4((prop::sample::select(states), any::<bool>(), 0_u8..6))
}

/// Labels and annotations of these draws.
fn marks(draws: &[Draw; 4]) -> (BTreeMap<String, String>, BTreeMap<String, String>) {
    let (mut labels, mut annotations) = (BTreeMap::new(), BTreeMap::new());
    for (key, (state, asked, _)) in KEYS.into_iter().zip(draws) {
        labels.extend(state.map(|state| (state_label(key), state.to_owned())));
        annotations.extend(asked.then(|| (deletion_annotation(key), "t".to_owned())));
    }
    (labels, annotations)
}

prop_compose! {
    fn any_object()(
        draws in any_draws(),
        namespace in prop::sample::select(vec!["shop", "kube-system"]),
        (deleting, others, message) in any::<(bool, bool, bool)>(),
    ) -> Slim {
        let (mut labels, mut annotations) = marks(&draws);
        let mut finalizers = Vec::new();
        for (key, (_, _, more)) in KEYS.into_iter().zip(draws) {
            finalizers.extend(more.is_multiple_of(2).then(|| syncer_finalizer(key)));
            let report = match more / 2 {
                0 => json!({REPORTED_MESSAGE: "no", "status": {}}),
                1 => json!({"status": {REPORTED_MESSAGE: 1}}),
                _ => continue,
            };
            annotations.insert(diff_annotation(key), report.to_string());
        }
        annotations.extend(message.then(|| (MESSAGE_ANNOTATION.to_owned(), "no".to_owned())));
        if others {
            labels.insert("kcp.io/other".into(), "a".into());
            annotations.insert("workload.kcp.io/other".into(), "b".into());
            finalizers.insert(0, "x/y".into());
            finalizers.push("x/z".into());
        }
        serde_json::from_value(json!({
            "metadata": {
                "name": "web", "namespace": namespace, "uid": "u", "resourceVersion": "1",
                "labels": labels, "annotations": annotations, "finalizers": finalizers,
                "deletionTimestamp": deleting.then_some("2029-12-31T00:00:00Z"),
                "ownerReferences": [{"controller": true}],
            },
            "type": "Opaque", "spec": {"replicas": 3},
        }))
        .unwrap()
    }
}

prop_compose! {
    fn any_namespace()(draws in any_draws(), deleting in any::<bool>()) -> Namespace {
        let (labels, annotations) = marks(&draws);
        serde_json::from_value(json!({"metadata": {
            "name": "shop", "labels": labels, "annotations": annotations,
            "deletionTimestamp": deleting.then_some("2029-12-31T00:00:00Z"),
        }}))
        .unwrap()
    }
}

fn standing(key: &str) -> Standing {
    match key {
        "GONE" => Standing::Gone,
        "K3" => Standing::Leaving,
        _ => Standing::Here,
    }
}

/// An object without what is this controller's. Of finalizers that is one of a target that does not
/// exist.
fn others(object: &Slim) -> Slim {
    let mut rest = object.clone();
    let meta = &mut rest.metadata;
    for key in KEYS {
        meta.labels.remove(&state_label(key));
        meta.annotations.remove(&deletion_annotation(key));
    }
    meta.annotations.remove(MESSAGE_ANNOTATION);
    meta.finalizers
        .retain(|name| *name != syncer_finalizer("GONE"));
    rest
}

proptest! {
    #[test]
    fn a_second_pass_over_an_object_writes_nothing(
        (object, namespace, excluded) in (any_object(), any_namespace(), any::<bool>()),
    ) {
        let new = reconcile(&object, &namespace, excluded, standing, FIRST);
        prop_assert_eq!(reconcile(&new, &namespace, excluded, standing, LATER), new);
    }

    #[test]
    fn what_others_wrote_into_an_object_stays(
        (object, namespace, excluded) in (any_object(), any_namespace(), any::<bool>()),
    ) {
        let new = reconcile(&object, &namespace, excluded, standing, FIRST);
        prop_assert_eq!(others(&new), others(&object));
        let gone = syncer_finalizer("GONE");
        prop_assert!(!new.metadata.finalizers.contains(&gone), "nobody is left to remove it");
    }

    #[test]
    fn a_target_gets_an_object_only_while_it_stays_and_loses_every_mark_once_it_is_gone(
        (object, namespace, excluded) in (any_object(), any_namespace(), any::<bool>()),
    ) {
        let new = reconcile(&object, &namespace, excluded, standing, FIRST);
        let labels = &new.metadata.labels;
        let had = |key| object.metadata.labels.contains_key(&state_label(key));
        prop_assert!(had("K3") || !labels.contains_key(&state_label("K3")));
        let state = labels.get(&state_label("GONE"));
        prop_assert!(state.is_none_or(|state| state == STATE_UPSYNC), "{:?}", state);
    }

    /// A target that exists and has a copy keeps label and finalizer: it is only ever asked.
    #[test]
    fn no_target_loses_an_object_while_it_has_a_copy(
        (object, namespace, excluded) in (any_object(), any_namespace(), any::<bool>()),
    ) {
        let new = reconcile(&object, &namespace, excluded, standing, FIRST);
        for key in KEYS.into_iter().filter(|key| standing(key) != Standing::Gone) {
            let (label, finalizer) = (state_label(key), syncer_finalizer(key));
            let has_copy = object.metadata.finalizers.contains(&finalizer);
            if has_copy && object.metadata.labels.contains_key(&label) {
                prop_assert!(new.metadata.labels.contains_key(&label), "{}", key);
                prop_assert!(new.metadata.finalizers.contains(&finalizer), "{}", key);
            }
        }
    }
}
