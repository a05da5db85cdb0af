//! The labels and annotations that a namespace should have.

use std::collections::BTreeSet;
use std::collections::btree_map::Entry;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value, json};

use tmc_api::conditions::{self, Condition, Severity};
use tmc_api::keys::{PLACEMENT_ANNOTATION, STATE_SYNC, deletion_annotation, state_label};

use crate::slim::states;
use crate::system::is_system_namespace;

/// A namespace, with all its labels (placements select by them).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Namespace {
    /// Metadata.
    pub metadata: k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta,
    /// Status, of which the conditions are looked at.
    #[serde(default, deserialize_with = "conditions_of")]
    pub status: NamespaceStatus,
}

/// Conditions of a [`Namespace`], ours among others'.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct NamespaceStatus {
    /// In no order, and as they are: those of others are none of our business, and whoever may write
    /// them must not be able to hide a namespace from us.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Value>,
}

fn conditions_of<'de, D: Deserializer<'de>>(de: D) -> Result<NamespaceStatus, D::Error> {
    let mut status = Value::deserialize(de)?;
    let conditions = match status.get_mut("conditions").map(Value::take) {
        Some(Value::Array(conditions)) => conditions,
        _ => Vec::new(),
    };
    Ok(NamespaceStatus { conditions })
}

/// Condition of a namespace: whether its objects have targets (as kcp's namespace controller has it).
pub const SCHEDULED: &str = "NamespaceScheduled";

impl Namespace {
    /// Whether its deletion was asked for.
    pub fn is_deleting(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
    }

    /// The value of the state label of a target that is to have its objects: not one that is to
    /// remove them.
    pub fn wanted_state(&self, key: &str) -> Option<&str> {
        let labels = self.metadata.labels.as_ref()?;
        let leaving = self
            .metadata
            .annotations
            .as_ref()
            .is_some_and(|annotations| annotations.contains_key(&deletion_annotation(key)));
        labels
            .get(&state_label(key))
            .map(String::as_str)
            .filter(|_| !leaving)
    }

    /// Whether a target is still to remove its copies.
    pub fn is_leaving(&self) -> bool {
        self.target_keys()
            .iter()
            .any(|key| self.wanted_state(key).is_none())
    }

    /// The keys of every target in its state labels.
    pub fn target_keys(&self) -> Vec<String> {
        let labels = self.metadata.labels.iter();
        labels
            .flat_map(states)
            .map(|(key, _)| key.to_owned())
            .collect()
    }
}

/// What the placements of the workspace say about one namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Placed {
    /// A placement selects it, with a Location or without.
    pub asked_for: bool,
    /// A placement with a Location selects it.
    pub selected: bool,
    /// The keys of the targets of those placements.
    pub targets: BTreeSet<String>,
}

/// The namespace as it should be.
///
/// A target that drops out keeps its copies until `may_leave` says that others have taken over; then
/// it is asked to remove them (deletion annotation, with `now`); only when `in_use` says that no
/// object carries its mark any more the label goes.
pub fn reconcile(
    namespace: &Namespace,
    placed: &Placed,
    in_use: impl Fn(&str) -> bool,
    may_leave: impl Fn(&str) -> bool,
    now: &str,
) -> Namespace {
    let mut new = namespace.clone();
    let name = namespace.metadata.name.as_deref().unwrap_or_default();
    let nothing = Placed::default();
    let placed = if is_system_namespace(name) {
        &nothing
    } else {
        placed
    };
    let mut labels = new.metadata.labels.take().unwrap_or_default();
    let mut annotations = new.metadata.annotations.take().unwrap_or_default();
    let present: Vec<String> = states(&labels).map(|(key, _)| key.to_owned()).collect();
    if let Some(time) = &namespace.metadata.deletion_timestamp {
        // It goes everywhere; what placements say no longer matters.
        for key in present {
            annotations
                .entry(deletion_annotation(&key))
                .or_insert_with(|| time.0.to_string());
        }
    } else {
        if placed.selected {
            annotations.entry(PLACEMENT_ANNOTATION.into()).or_default();
        } else {
            annotations.remove(PLACEMENT_ANNOTATION);
        }
        for key in &placed.targets {
            labels
                .entry(state_label(key))
                .or_insert_with(|| STATE_SYNC.into());
            annotations.remove(&deletion_annotation(key));
        }
        for key in present.iter().filter(|key| !placed.targets.contains(*key)) {
            let mark = deletion_annotation(key);
            match annotations.entry(mark) {
                Entry::Vacant(mark) if may_leave(key) => drop(mark.insert(now.to_owned())),
                Entry::Occupied(mark) if !in_use(key) => {
                    mark.remove();
                    labels.remove(&state_label(key));
                }
                Entry::Vacant(_) | Entry::Occupied(_) => {}
            }
        }
    }
    new.metadata.labels = Some(labels).filter(|map| !map.is_empty());
    new.metadata.annotations = Some(annotations).filter(|map| !map.is_empty());
    new
}

/// The conditions that the namespace should have. A namespace that no placement was made for is nobody's
/// business here: it has none of ours.
///
/// Of a namespace that is on its way out nothing is said: others write its conditions then.
pub fn conditions(namespace: &Namespace, placed: &Placed, now: Timestamp) -> Vec<Value> {
    let mut all = namespace.status.conditions.clone();
    if namespace.is_deleting() {
        return all;
    }
    let name = namespace.metadata.name.as_deref().unwrap_or_default();
    let at = all
        .iter()
        .position(|condition| condition["type"] == SCHEDULED);
    if !placed.asked_for || is_system_namespace(name) {
        at.map(|at| all.remove(at));
        return all;
    }
    let known = at.and_then(|at| serde_json::from_value(all[at].clone()).ok());
    let mut ours: Vec<Condition> = known.into_iter().collect();
    // Conditions of Kubernetes' own kinds have no severity.
    let no = |message| Condition::no(SCHEDULED, Severity::None, "Unschedulable", message);
    let condition = if !placed.selected {
        no("No available placements")
    } else if placed.targets.is_empty() {
        no("No available sync targets")
    } else {
        Condition::yes(SCHEDULED)
    };
    conditions::set(&mut ours, condition, now);
    let ours = ours.iter().map(|condition| json!(condition));
    match at {
        Some(at) => drop(all.splice(at..=at, ours)),
        None => all.extend(ours),
    }
    all
}

#[cfg(test)]
mod properties;

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &str = "2030-01-01T00:00:00Z";

    fn namespace(name: &str, labels: Value, annotations: Value) -> Namespace {
        serde_json::from_value(json!({
            "metadata": {"name": name, "labels": labels, "annotations": annotations}
        }))
        .unwrap()
    }

    fn placed(targets: &[&str]) -> Placed {
        Placed {
            asked_for: true,
            selected: true,
            targets: targets.iter().map(|t| (*t).to_owned()).collect(),
        }
    }

    fn parts(namespace: &Namespace) -> (Value, Value) {
        (
            json!(namespace.metadata.labels),
            json!(namespace.metadata.annotations),
        )
    }

    /// Reconciles, checks that a second pass changes nothing, and gives labels and annotations.
    fn run(old: &Namespace, placed: &Placed, in_use: bool) -> (Value, Value) {
        let new = reconcile(old, placed, |_| in_use, |_| true, NOW);
        let later = "2030-01-01T00:00:09Z";
        // With copies still in use, another pass at another time has nothing to add.
        assert_eq!(reconcile(&new, placed, |_| true, |_| true, later), new);
        parts(&new)
    }

    #[test]
    fn a_selected_namespace_gets_label_and_annotation_for_its_targets() {
        let old = namespace("ns", json!({"team": "a"}), json!(null));
        let (labels, annotations) = run(&old, &placed(&["K1", "K2"]), false);
        assert_eq!(
            labels,
            json!({"team": "a", "state.workload.kcp.io/K1": "Sync", "state.workload.kcp.io/K2": "Sync"})
        );
        assert_eq!(annotations, json!({"scheduling.kcp.io/placement": ""}));
    }

    #[test]
    fn a_namespace_is_leaving_while_a_target_is_asked_to_remove_its_copies() {
        let fresh = namespace("ns", json!({}), json!(null));
        let placed_once = reconcile(&fresh, &placed(&["K1"]), |_| true, |_| true, NOW);
        assert!(!placed_once.is_leaving());
        let asked = reconcile(&placed_once, &placed(&[]), |_| true, |_| true, NOW);
        assert!(asked.is_leaving());
        assert!(!reconcile(&asked, &placed(&[]), |_| false, |_| true, NOW).is_leaving());
    }

    #[test]
    fn a_placement_without_a_target_leaves_only_its_annotation() {
        let old = namespace("ns", json!({}), json!({}));
        let (labels, annotations) = run(&old, &placed(&[]), false);
        assert_eq!(
            (labels, annotations),
            (json!(null), json!({"scheduling.kcp.io/placement": ""}))
        );
    }

    #[test]
    fn a_namespace_that_nothing_selects_stays_as_it_is() {
        let old = namespace("ns", json!({"team": "a"}), json!({"x": "y"}));
        assert_eq!(run(&old, &Placed::default(), false), parts(&old));
    }

    #[test]
    fn system_namespaces_are_never_placed() {
        for name in [
            "kube-system",
            "kube-public",
            "kube-node-lease",
            "kcp-system",
        ] {
            let old = namespace(name, json!({}), json!({}));
            assert_eq!(
                run(&old, &placed(&["K1"]), false),
                (json!(null), json!(null)),
                "{name}"
            );
        }
    }

    #[test]
    fn a_target_that_drops_out_is_asked_first_and_forgotten_only_when_nothing_is_left_there() {
        let old = namespace(
            "ns",
            json!({"state.workload.kcp.io/K1": "Sync"}),
            json!({"scheduling.kcp.io/placement": ""}),
        );
        let asked = reconcile(&old, &placed(&["K2"]), |_| true, |_| true, NOW);
        let (labels, annotations) = parts(&asked);
        assert_eq!(
            labels,
            json!({"state.workload.kcp.io/K1": "Sync", "state.workload.kcp.io/K2": "Sync"})
        );
        assert_eq!(
            annotations,
            json!({"scheduling.kcp.io/placement": "", "deletion.internal.workload.kcp.io/K1": NOW})
        );
        assert_eq!(asked.wanted_state("K1"), None);
        assert_eq!(asked.wanted_state("K2"), Some("Sync"));
        let forgotten = reconcile(&asked, &placed(&["K2"]), |_| false, |_| true, NOW);
        let (labels, annotations) = parts(&forgotten);
        assert_eq!(labels, json!({"state.workload.kcp.io/K2": "Sync"}));
        assert_eq!(annotations, json!({"scheduling.kcp.io/placement": ""}));
    }

    #[test]
    fn a_target_that_drops_out_keeps_its_copies_until_others_have_taken_over() {
        let old = namespace(
            "ns",
            json!({"state.workload.kcp.io/K1": "Sync"}),
            json!({"scheduling.kcp.io/placement": ""}),
        );
        let waiting = reconcile(&old, &placed(&["K2"]), |_| true, |_| false, NOW);
        assert_eq!(waiting.wanted_state("K1"), Some("Sync"));
        assert_eq!(waiting.wanted_state("K2"), Some("Sync"));
        // One that came back before that never noticed.
        let back = reconcile(&waiting, &placed(&["K1"]), |_| true, |_| true, NOW);
        assert_eq!(back.wanted_state("K1"), Some("Sync"));
        let asked = reconcile(&waiting, &placed(&["K2"]), |_| true, |_| true, NOW);
        assert_eq!(asked.wanted_state("K1"), None);
    }

    #[test]
    fn a_label_is_never_dropped_in_the_pass_that_asks() {
        let old = namespace(
            "ns",
            json!({"state.workload.kcp.io/K1": "Sync"}),
            json!(null),
        );
        let new = reconcile(&old, &Placed::default(), |_| false, |_| true, NOW);
        assert_eq!(new.target_keys(), ["K1"]);
    }

    #[test]
    fn a_target_that_comes_back_loses_its_deletion_mark() {
        let old = namespace(
            "ns",
            json!({"state.workload.kcp.io/K1": "Sync"}),
            json!({"deletion.internal.workload.kcp.io/K1": NOW}),
        );
        let (labels, annotations) = run(&old, &placed(&["K1"]), true);
        assert_eq!(labels, json!({"state.workload.kcp.io/K1": "Sync"}));
        assert_eq!(annotations, json!({"scheduling.kcp.io/placement": ""}));
    }

    #[test]
    fn a_namespace_that_is_deleted_is_removed_everywhere() {
        let mut old = namespace(
            "ns",
            json!({"state.workload.kcp.io/K1": "Sync"}),
            json!(null),
        );
        old.metadata = serde_json::from_value(json!({
            "name": "ns", "deletionTimestamp": "2029-12-31T00:00:00Z",
            "labels": {"state.workload.kcp.io/K1": "Sync"},
        }))
        .unwrap();
        let (labels, annotations) = run(&old, &placed(&["K1", "K2"]), false);
        assert_eq!(labels, json!({"state.workload.kcp.io/K1": "Sync"}));
        assert_eq!(
            annotations,
            json!({"deletion.internal.workload.kcp.io/K1": "2029-12-31T00:00:00Z"})
        );
    }

    #[test]
    fn a_namespace_that_placements_select_says_whether_it_has_targets() {
        let now: Timestamp = NOW.parse().unwrap();
        let mut namespace = namespace("shop", json!({}), json!({}));
        let others = json!({"type": "Strange", "status": "Perhaps", "more": 1});
        namespace.status.conditions = vec![others.clone()];
        let placed = |selected, targets: &[&str]| Placed {
            asked_for: true,
            selected,
            targets: targets.iter().map(|key| (*key).to_owned()).collect(),
        };
        for (placed, reason, message) in [
            (
                placed(false, &[]),
                "Unschedulable",
                "No available placements",
            ),
            (
                placed(true, &[]),
                "Unschedulable",
                "No available sync targets",
            ),
            (placed(true, &["k"]), "", ""),
        ] {
            namespace.status.conditions = conditions(&namespace, &placed, now);
            assert_eq!(namespace.status.conditions[0], others);
            let found = namespace.status.conditions[1].clone();
            let found: Condition = serde_json::from_value(found).unwrap();
            assert_eq!((&*found.reason, &*found.message), (reason, message));
            assert_eq!(found.is_true(), reason.is_empty());
            assert_eq!(found.severity, Severity::None);
            let again = conditions(&namespace, &placed, "2031-01-01T00:00:00Z".parse().unwrap());
            assert_eq!(again, namespace.status.conditions, "said once");
        }
        let nobody_asks = conditions(&namespace, &Placed::default(), now);
        assert_eq!(nobody_asks, std::slice::from_ref(&others));
        let mut leaving = namespace.clone();
        leaving.metadata.deletion_timestamp = serde_json::from_value(json!(NOW)).unwrap();
        let said = conditions(&leaving, &placed(false, &[]), now);
        assert_eq!(said, leaving.status.conditions);
        namespace.metadata.name = Some("kube-system".into());
        assert_eq!(conditions(&namespace, &placed(true, &["k"]), now), [others]);
    }

    #[test]
    fn whatever_is_in_a_status_a_namespace_can_be_read() {
        for status in [
            json!(null),
            json!(3),
            json!({"conditions": null}),
            json!({"conditions": [7]}),
        ] {
            let object = json!({"metadata": {"name": "shop"}, "status": status});
            let namespace: Namespace = serde_json::from_value(object).unwrap();
            assert!(namespace.status.conditions.len() < 2);
        }
    }
}
