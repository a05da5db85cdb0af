//! The taints of a lost target: there for people and tools to see, and for tolerations to name.

use tmc_api::conditions::{self, READY};
use tmc_api::keys::{TAINT_NOT_READY, TAINT_UNREACHABLE};
use tmc_api::workload::{SyncTarget, Taint};

use crate::placement::facts::{Loss, lost};

/// The taints that a target should have: its own, and of the hub's that of its loss.
///
/// They follow the conditions in its status. One that was never heard has none; one that is
/// Unknown keeps what it has, and gets none; one that is being deleted is left as it is.
pub fn taints(target: &SyncTarget) -> Vec<Taint> {
    let now = &target.spec.taints;
    let ready = conditions::get(target.conditions(), READY);
    let unknown = ready.is_none_or(|ready| !ready.is_true() && !ready.is_false());
    if target.metadata.deletion_timestamp.is_some() {
        return now.clone();
    }
    let loss = lost(target).map(|lost| lost.loss);
    // Silence is certain whatever else is unknown.
    if unknown && loss != Some(Loss::Unreachable) {
        return now.clone();
    }
    let wanted = loss.map(Loss::taint);
    let hubs = |taint: &Taint| [TAINT_UNREACHABLE, TAINT_NOT_READY].contains(&&*taint.key);
    let mut taints: Vec<Taint> = now
        .iter()
        .filter(|taint| !hubs(taint) || Some(*taint) == wanted.as_ref())
        .cloned()
        .collect();
    taints.extend(wanted.filter(|wanted| !now.contains(wanted)));
    taints
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    fn target(ready: &str, heartbeat: &str, taints: &[&str]) -> SyncTarget {
        let at = "2030-01-01T00:00:00Z";
        let taints: Vec<Value> = taints
            .iter()
            .map(|key| json!({"key": key, "effect": "NoExecute"}))
            .collect();
        serde_json::from_value(json!({
            "apiVersion": "workload.kcp.io/v1alpha1", "kind": "SyncTarget",
            "metadata": {"name": "t"}, "spec": {"taints": taints},
            "status": {"lastSyncerHeartbeatTime": at, "conditions": [
                {"type": "Ready", "status": ready, "lastTransitionTime": at},
                {"type": "HeartbeatHealthy", "status": heartbeat, "lastTransitionTime": at},
            ]},
        }))
        .unwrap()
    }

    const SILENT: &str = "tmc.kcp.io/unreachable";
    const UNREADY: &str = "tmc.kcp.io/not-ready";

    #[rstest]
    #[case::well("True", "True", &["gpu"], &["gpu"])]
    #[case::silent("False", "False", &["gpu"], &["gpu", SILENT])]
    #[case::still_silent("False", "False", &[SILENT, "gpu"], &[SILENT, "gpu"])]
    #[case::not_ready("False", "True", &[], &[UNREADY])]
    #[case::heard_again("False", "True", &[SILENT], &[UNREADY])]
    #[case::back("True", "True", &[UNREADY, "gpu", SILENT], &["gpu"])]
    #[case::nobody_knows("Unknown", "True", &[], &[])]
    #[case::nobody_knows_yet("Unknown", "True", &[UNREADY], &[UNREADY])]
    #[case::silent_whatever_else("Unknown", "False", &[], &[SILENT])]
    fn a_lost_target_has_one_taint_of_the_hub_and_one_that_is_back_none(
        #[case] ready: &str,
        #[case] heartbeat: &str,
        #[case] before: &[&str],
        #[case] expected: &[&str],
    ) {
        let mut target = target(ready, heartbeat, before);
        let new = taints(&target);
        assert_eq!(new.iter().map(|t| &*t.key).collect::<Vec<_>>(), expected);
        target.spec.taints.clone_from(&new);
        assert_eq!(taints(&target), new, "a second pass changes nothing");
    }

    #[test]
    fn what_was_never_heard_or_is_going_is_not_tainted() {
        let mut fresh = target("False", "False", &[]);
        fresh.status.as_mut().unwrap().last_syncer_heartbeat_time = None;
        assert_eq!(taints(&fresh), []);
        let mut going = target("False", "False", &[]);
        going.metadata.deletion_timestamp =
            serde_json::from_value(json!("2030-01-01T00:00:00Z")).unwrap();
        assert_eq!(taints(&going), []);
    }
}
