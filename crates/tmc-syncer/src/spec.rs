//! What to do in the member, and on the view, for one object.

use serde_json::Value;
use tmc_api::keys;
use tmc_apimachinery::meta::meta;

use crate::mapping::Target;
use crate::mutate::is_applied;

/// One step for one object. After each but the last two the object is looked at again.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Tell the hub that this target holds a copy, before there is one.
    AddFinalizer,
    /// Apply this in the member.
    Apply(Value),
    /// Delete the member's copy, if it is still this one.
    Delete {
        /// Its uid.
        uid: String,
    },
    /// Tell the hub that the copy is gone.
    RemoveFinalizer,
    /// Everything is as it should be.
    Nothing,
}

/// Decides from the object as the view shows it (`None`: not this target's any more), the member's
/// copy, and what should be applied.
pub fn decide(
    view: Option<&Value>,
    downstream: Option<&Value>,
    desired: impl FnOnce(&Value) -> Value,
    target: &Target,
) -> Action {
    let delete = |copy: &Value| {
        // Deleted already: its finalizers in the member hold it, waiting is all there is to do.
        if meta(copy).deletion_timestamp().is_empty() {
            Action::Delete {
                uid: meta(copy).uid().to_owned(),
            }
        } else {
            Action::Nothing
        }
    };
    let Some(view) = view else {
        return downstream.map_or(Action::Nothing, delete);
    };
    let finalizer = keys::syncer_finalizer(&target.key());
    let held = meta(view).finalizers().contains(&finalizer.as_str());
    if !meta(view).deletion_timestamp().is_empty() {
        return match downstream {
            Some(copy) => delete(copy),
            // Without our finalizer the hub still has our state label to take away.
            None => Action::RemoveFinalizer,
        };
    }
    if !held {
        return Action::AddFinalizer;
    }
    let desired = desired(view);
    match downstream {
        Some(copy) if is_applied(&desired, copy) => Action::Nothing,
        _ => Action::Apply(desired),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tmc_apimachinery::ClusterName;

    use super::*;

    fn target() -> Target {
        Target {
            cluster: ClusterName::new("root"),
            name: "one".into(),
            uid: "u1".into(),
        }
    }

    fn view(held: bool, deleting: bool) -> Value {
        let mut object = json!({"metadata": {"name": "web"}, "spec": {"x": 1}});
        if held {
            object["metadata"]["finalizers"] = json!([keys::syncer_finalizer(&target().key())]);
        }
        if deleting {
            object["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        }
        object
    }

    fn copy(spec: i64) -> Value {
        json!({"metadata": {"name": "web", "uid": "d"}, "spec": {"x": spec}})
    }

    fn step(view: Option<&Value>, downstream: Option<&Value>) -> Action {
        let desired = |view: &Value| json!({"metadata": {"name": "web"}, "spec": view["spec"]});
        decide(view, downstream, desired, &target())
    }

    #[test]
    fn the_finalizer_comes_before_the_copy() {
        assert_eq!(step(Some(&view(false, false)), None), Action::AddFinalizer);
        assert!(matches!(
            step(Some(&view(true, false)), None),
            Action::Apply(_)
        ));
    }

    #[test]
    fn a_copy_that_is_right_is_left_alone_and_a_drifted_one_repaired() {
        assert_eq!(
            step(Some(&view(true, false)), Some(&copy(1))),
            Action::Nothing
        );
        assert!(matches!(
            step(Some(&view(true, false)), Some(&copy(2))),
            Action::Apply(_)
        ));
    }

    #[test]
    fn on_removal_the_copy_goes_before_the_finalizer() {
        let gone = view(true, true);
        assert_eq!(
            step(Some(&gone), Some(&copy(1))),
            Action::Delete { uid: "d".into() }
        );
        assert_eq!(step(Some(&gone), None), Action::RemoveFinalizer);
    }

    #[test]
    fn a_copy_that_the_member_still_finalizes_is_waited_for() {
        let mut dying = copy(1);
        dying["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        assert_eq!(step(Some(&view(true, true)), Some(&dying)), Action::Nothing);
        assert_eq!(step(None, Some(&dying)), Action::Nothing);
    }

    #[test]
    fn a_copy_of_something_no_longer_ours_is_deleted_by_uid() {
        assert_eq!(
            step(None, Some(&copy(1))),
            Action::Delete { uid: "d".into() }
        );
        assert_eq!(step(None, None), Action::Nothing);
    }
}
