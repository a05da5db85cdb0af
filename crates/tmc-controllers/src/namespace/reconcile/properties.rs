//! What holds of any namespace and whatever placements say about it.

use std::collections::BTreeMap;

use proptest::prelude::*;
use tmc_api::keys::STATE_UPSYNC;

use super::*;

const KEYS: [&str; 4] = ["K1", "K2", "K3", "K4"];
const FIRST: &str = "2030-01-01T00:00:00Z";
const LATER: &str = "2031-01-01T00:00:00Z";

/// Of each target: its state label, whether it was asked to remove its copies, whether placements want
/// it, whether objects carry its mark, whether others have taken over.
type Draw = (Option<&'static str>, bool, bool, bool, bool);

fn any_draw() -> impl Strategy<Value = Draw> {
    let states = vec![None, Some(STATE_SYNC), Some(STATE_UPSYNC), Some("")];
    let state = prop::sample::select(states);
    (
        state,
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
    )
}

/// Everything that placements and others say.
#[derive(Clone, Debug)]
struct World {
    placed: Placed,
    in_use: BTreeSet<&'static str>,
    may_leave: BTreeSet<&'static str>,
}

impl World {
    fn pass(&self, namespace: &Namespace, now: &str) -> Namespace {
        let in_use = |key: &str| self.in_use.contains(key);
        let may_leave = |key: &str| self.may_leave.contains(key);
        let mut new = reconcile(namespace, &self.placed, in_use, may_leave, now);
        new.status.conditions = conditions(&new, &self.placed, now.parse().unwrap());
        new
    }
}

prop_compose! {
    fn any_world()(
        draws in prop::array::uniform4(any_draw()),
        name in prop::sample::select(vec!["shop", "kube-system"]),
        (deleting, annotated, asked_for, selected, others) in any::<(bool, bool, bool, bool, bool)>(),
        said in prop::option::of(any::<bool>()),
    ) -> (Namespace, World) {
        let (mut labels, mut annotations) = (BTreeMap::new(), BTreeMap::new());
        let mut world = World {
            placed: Placed { asked_for: asked_for || selected, selected, targets: BTreeSet::new() },
            in_use: BTreeSet::new(),
            may_leave: BTreeSet::new(),
        };
        for (key, (state, asked, wanted, used, leaves)) in KEYS.into_iter().zip(draws) {
            labels.extend(state.map(|state| (state_label(key), state.to_owned())));
            annotations.extend(asked.then(|| (deletion_annotation(key), "t".to_owned())));
            world.placed.targets.extend((wanted && selected).then(|| key.to_owned()));
            world.in_use.extend(used.then_some(key));
            world.may_leave.extend(leaves.then_some(key));
        }
        annotations.extend(annotated.then(|| (PLACEMENT_ANNOTATION.to_owned(), String::new())));
        let mut conditions = Vec::new();
        if others {
            let foreign = ["team", "kcp.io/other", "workload.kcp.io/other"];
            labels.extend(foreign.map(|key| (key.to_owned(), "a".to_owned())));
            annotations.extend(foreign.map(|key| (key.to_owned(), "b".to_owned())));
            conditions.extend([json!(7), json!({"type": "Strange", "status": "Perhaps"})]);
        }
        conditions.extend(said.map(|yes| {
            let status = if yes { "True" } else { "False" };
            json!({"type": SCHEDULED, "status": status, "lastTransitionTime": "2029-01-01T00:00:00Z"})
        }));
        if others {
            conditions.push(json!({"type": "Last"}));
        }
        let namespace = json!({
            "metadata": {
                "name": name, "uid": "u", "resourceVersion": "5", "finalizers": ["x/y"],
                "ownerReferences": [{"apiVersion": "v1", "kind": "K", "name": "o", "uid": "o"}],
                "labels": labels, "annotations": annotations,
                "deletionTimestamp": deleting.then_some("2029-12-31T00:00:00Z"),
            },
            "status": {"conditions": conditions},
        });
        (serde_json::from_value(namespace).unwrap(), world)
    }
}

/// A namespace without what is this controller's.
fn others(namespace: &Namespace) -> Namespace {
    let mut rest = namespace.clone();
    let mut labels = rest.metadata.labels.take().unwrap_or_default();
    let mut annotations = rest.metadata.annotations.take().unwrap_or_default();
    for key in KEYS {
        labels.remove(&state_label(key));
        annotations.remove(&deletion_annotation(key));
    }
    annotations.remove(PLACEMENT_ANNOTATION);
    rest.metadata.labels = Some(labels);
    rest.metadata.annotations = Some(annotations);
    rest.status
        .conditions
        .retain(|condition| condition["type"] != SCHEDULED);
    rest
}

fn is_asked(namespace: &Namespace, key: &str) -> bool {
    let annotations = namespace.metadata.annotations.as_ref();
    annotations.is_some_and(|all| all.contains_key(&deletion_annotation(key)))
}

proptest! {
    /// A pass is a function of what is seen: the next writes nothing. But for a target that was asked
    /// only now although nobody has its mark: that one's label goes in the pass after, and then no more.
    #[test]
    fn a_second_pass_over_a_namespace_writes_nothing((namespace, world) in any_world()) {
        let new = world.pass(&namespace, FIRST);
        let again = world.pass(&new, LATER);
        let asked_in_vain = KEYS.iter().any(|key| {
            is_asked(&new, key) && !is_asked(&namespace, key) && !world.in_use.contains(key)
        });
        if asked_in_vain && !namespace.is_deleting() {
            prop_assert_eq!(world.pass(&again, LATER), again);
        } else {
            prop_assert_eq!(again, new);
        }
    }

    #[test]
    fn what_others_wrote_into_a_namespace_stays((namespace, world) in any_world()) {
        prop_assert_eq!(others(&world.pass(&namespace, FIRST)), others(&namespace));
    }

    /// A label is only ever taken from a target that was asked before and whose mark nobody has; one
    /// that is there is never given another value.
    #[test]
    fn no_target_loses_a_namespace_without_having_been_asked((namespace, world) in any_world()) {
        let new = world.pass(&namespace, FIRST);
        let label = |of: &Namespace, key: &str| {
            of.metadata.labels.as_ref().and_then(|all| all.get(&state_label(key)).cloned())
        };
        for key in KEYS {
            let (before, after) = (label(&namespace, key), label(&new, key));
            if before.is_some() && before != after {
                prop_assert_eq!(after, None);
                prop_assert!(is_asked(&namespace, key) && !world.in_use.contains(key), "{}", key);
            }
        }
    }
}
