//! Phase and Ready of a SyncTarget and of a Cluster, as functions of their components.
//!
//! Ready is computed from the components alone, never from its own previous value, and the phase
//! after it. Invariant: Ready is True if and only if the phase is Ready.

use super::condition::*;
use super::reason;
use super::{ClusterPhase, SyncTargetPhase};
use crate::conditions::{self, Condition, READY, Severity, summarize};

/// A phase with the Ready condition that belongs to it (without a transition time).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Readiness<Phase> {
    /// The phase.
    pub phase: Phase,
    /// The condition `Ready`.
    pub ready: Condition,
}

impl<Phase> Readiness<Phase> {
    fn new(phase: Phase, ready: Condition) -> Self {
        Self { phase, ready }
    }

    fn no(phase: Phase, severity: Severity, reason: &str, message: &str) -> Self {
        Self::new(phase, Condition::no(READY, severity, reason, message))
    }
}

/// What decides on a SyncTarget beside its conditions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SyncTargetFacts {
    /// It has a `deletionTimestamp`.
    pub deleting: bool,
    /// It refers to a Cluster, so `ClusterAvailable` is required.
    pub has_cluster: bool,
    /// A beat of this uid was seen at some time.
    pub ever_heard: bool,
    /// The hub has started (or asked for) its syncer: Hosted or Deployment.
    pub syncer_requested: bool,
}

/// Phase and Ready of a SyncTarget (types, section 1.4: the first matching row).
pub fn sync_target(components: &[Condition], facts: SyncTargetFacts) -> Readiness<SyncTargetPhase> {
    use SyncTargetPhase as Phase;
    if facts.deleting {
        let why = "the target is being deleted";
        return Readiness::no(Phase::Terminating, Severity::Info, reason::TERMINATING, why);
    }
    if let Some(fatal) = fatal(components) {
        return Readiness::new(Phase::NotReady, as_ready(fatal));
    }
    if !facts.ever_heard {
        let phase = if facts.syncer_requested {
            Phase::Scheduling
        } else {
            Phase::Pending
        };
        let why = "No heartbeat yet seen";
        return Readiness::no(phase, Severity::Warning, reason::ERROR_HEARTBEAT, why);
    }
    let ready = summarize(components, &required_of_sync_target(components, facts));
    let phase = if ready.is_true() {
        Phase::Ready
    } else {
        Phase::NotReady
    };
    Readiness::new(phase, ready)
}

/// A failure that no heartbeat outweighs.
fn fatal(components: &[Condition]) -> Option<&Condition> {
    let missing = conditions::get(components, CLUSTER_AVAILABLE).filter(|c| c.is_false());
    let failed = || {
        conditions::get(components, SYNCER_READY)
            .filter(|c| c.is_false() && c.reason == reason::SYNCER_DEPLOYMENT_FAILED)
    };
    missing.or_else(failed)
}

fn as_ready(component: &Condition) -> Condition {
    Condition {
        r#type: READY.into(),
        last_transition_time: None,
        ..component.clone()
    }
}

fn required_of_sync_target(components: &[Condition], facts: SyncTargetFacts) -> Vec<&'static str> {
    let mut required = Vec::with_capacity(6);
    if facts.has_cluster {
        required.push(CLUSTER_AVAILABLE);
    }
    required.extend([SYNCER_READY, HEARTBEAT_HEALTHY, API_AVAILABLE]);
    // What agents report counts once they report it: kcp's do not all.
    let reported = |name: &&str| conditions::get(components, name).is_some();
    required.extend(
        [SYNCER_AUTHORIZED, API_IMPORTER_READY]
            .into_iter()
            .filter(reported),
    );
    required
}

/// What decides on a Cluster beside its conditions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClusterFacts {
    /// It has a `deletionTimestamp`.
    pub deleting: bool,
    /// `status.syncTargetRef` is set.
    pub has_sync_target: bool,
    /// Its capabilities were discovered at some time: a later failure only makes them stale.
    pub ever_discovered: bool,
}

/// Phase and Ready of a Cluster (types, sections 2.3 and 2.4).
pub fn cluster(components: &[Condition], facts: ClusterFacts) -> Readiness<ClusterPhase> {
    use ClusterPhase as Phase;
    if facts.deleting {
        let why = "the cluster is being deleted";
        return Readiness::no(Phase::Terminating, Severity::Info, reason::TERMINATING, why);
    }
    let mut required = vec![CREDENTIALS_VALID, CONNECTED];
    if !facts.ever_discovered {
        required.push(CAPABILITIES_DISCOVERED);
    }
    required.extend([RBAC_READY, SYNC_TARGET_READY]);
    let ready = summarize(components, &required);
    let either_false = conditions::is_false(components, CREDENTIALS_VALID)
        || conditions::is_false(components, CONNECTED);
    let both_true = conditions::is_true(components, CREDENTIALS_VALID)
        && conditions::is_true(components, CONNECTED);
    let phase = if ready.is_true() {
        Phase::Ready
    } else if either_false && facts.has_sync_target {
        Phase::Unavailable
    } else if both_true {
        Phase::Registered
    } else {
        Phase::Pending
    };
    Readiness::new(phase, ready)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::conditions::ConditionStatus;

    fn well() -> Vec<Condition> {
        [
            CLUSTER_AVAILABLE,
            SYNCER_READY,
            HEARTBEAT_HEALTHY,
            API_AVAILABLE,
        ]
        .map(Condition::yes)
        .to_vec()
    }

    fn with(mut list: Vec<Condition>, condition: Condition) -> Vec<Condition> {
        list.retain(|c| c.r#type != condition.r#type);
        list.push(condition);
        list
    }

    const HEARD: SyncTargetFacts = SyncTargetFacts {
        deleting: false,
        has_cluster: true,
        ever_heard: true,
        syncer_requested: true,
    };

    fn assert_target(
        conditions: &[Condition],
        facts: SyncTargetFacts,
        expected: (SyncTargetPhase, ConditionStatus, &str),
    ) {
        let found = sync_target(conditions, facts);
        let found = (
            found.phase,
            found.ready.status,
            found.ready.reason.as_str().to_owned(),
        );
        assert_eq!(found, (expected.0, expected.1, expected.2.to_owned()));
    }

    #[test]
    fn every_row_of_the_sync_targets_table_holds() {
        use ConditionStatus::{False, True, Unknown};
        use SyncTargetPhase::{NotReady, Pending, Ready, Scheduling, Terminating};
        let silent = SyncTargetFacts {
            ever_heard: false,
            ..HEARD
        };
        let gone = with(
            well(),
            Condition::no(CLUSTER_AVAILABLE, Severity::Error, "ClusterNotFound", ""),
        );
        let failed = with(
            well(),
            Condition::no(SYNCER_READY, Severity::Error, "SyncerDeploymentFailed", ""),
        );
        let unhealthy = with(
            well(),
            Condition::no(SYNCER_READY, Severity::Warning, "SyncerUnhealthy", ""),
        );
        let lost = with(
            well(),
            Condition::no(HEARTBEAT_HEALTHY, Severity::Warning, "ErrorHeartbeat", ""),
        );
        let open = with(
            well(),
            Condition::unknown(API_AVAILABLE, "NotEvaluated", ""),
        );
        assert_target(&well(), HEARD, (Ready, True, ""));
        assert_target(
            &well(),
            SyncTargetFacts {
                deleting: true,
                ..HEARD
            },
            (Terminating, False, "Terminating"),
        );
        assert_target(&gone, HEARD, (NotReady, False, "ClusterNotFound"));
        assert_target(&gone, silent, (NotReady, False, "ClusterNotFound"));
        assert_target(&failed, silent, (NotReady, False, "SyncerDeploymentFailed"));
        assert_target(&well(), silent, (Scheduling, False, "ErrorHeartbeat"));
        let external = SyncTargetFacts {
            syncer_requested: false,
            ..silent
        };
        assert_target(&unhealthy, external, (Pending, False, "ErrorHeartbeat"));
        assert_target(&unhealthy, HEARD, (NotReady, False, "SyncerUnhealthy"));
        assert_target(&lost, HEARD, (NotReady, False, "ErrorHeartbeat"));
        assert_target(&open, HEARD, (NotReady, Unknown, "NotEvaluated"));
        assert_target(&[], HEARD, (NotReady, Unknown, "ClusterAvailableUnknown"));
    }

    #[test]
    fn without_a_cluster_its_condition_is_not_asked_for() {
        let list: Vec<_> = well()
            .into_iter()
            .filter(|c| c.r#type != CLUSTER_AVAILABLE)
            .collect();
        let alone = SyncTargetFacts {
            has_cluster: false,
            ..HEARD
        };
        assert_target(
            &list,
            alone,
            (SyncTargetPhase::Ready, ConditionStatus::True, ""),
        );
    }

    #[test]
    fn what_an_agent_reports_counts_only_if_it_reports_it() {
        let refused = with(
            well(),
            Condition::no(SYNCER_AUTHORIZED, Severity::None, "SyncerUnauthorized", ""),
        );
        assert_target(
            &refused,
            HEARD,
            (
                SyncTargetPhase::NotReady,
                ConditionStatus::False,
                "SyncerUnauthorized",
            ),
        );
    }

    #[test]
    fn every_row_of_the_clusters_table_holds() {
        let names = [
            CREDENTIALS_VALID,
            CONNECTED,
            CAPABILITIES_DISCOVERED,
            RBAC_READY,
            SYNC_TARGET_READY,
        ];
        let all: Vec<_> = names.map(Condition::yes).to_vec();
        let facts = ClusterFacts {
            deleting: false,
            has_sync_target: true,
            ever_discovered: true,
        };
        let phase = |list: &[Condition], facts| cluster(list, facts).phase;
        assert_eq!(phase(&all, facts), ClusterPhase::Ready);
        assert_eq!(
            phase(
                &all,
                ClusterFacts {
                    deleting: true,
                    ..facts
                }
            ),
            ClusterPhase::Terminating
        );
        let cut = with(
            all.clone(),
            Condition::no(CONNECTED, Severity::Error, "TLSError", ""),
        );
        assert_eq!(phase(&cut, facts), ClusterPhase::Unavailable);
        assert_eq!(cluster(&cut, facts).ready.reason, "TLSError");
        let fresh = ClusterFacts {
            has_sync_target: false,
            ..facts
        };
        assert_eq!(phase(&cut, fresh), ClusterPhase::Pending);
        let waiting = with(
            all.clone(),
            Condition::no(
                SYNC_TARGET_READY,
                Severity::Warning,
                "SyncTargetNotReady",
                "",
            ),
        );
        assert_eq!(phase(&waiting, facts), ClusterPhase::Registered);
        assert_eq!(phase(&[], fresh), ClusterPhase::Pending);
        let stale = with(
            all,
            Condition::no(
                CAPABILITIES_DISCOVERED,
                Severity::Warning,
                "DiscoveryFailed",
                "",
            ),
        );
        assert_eq!(phase(&stale, facts), ClusterPhase::Ready);
        let first = ClusterFacts {
            ever_discovered: false,
            ..facts
        };
        assert_eq!(phase(&stale, first), ClusterPhase::Registered);
    }

    fn any_condition(name: &'static str) -> impl Strategy<Value = Option<Condition>> {
        let reasons = prop_oneof![
            Just("ClusterNotFound"),
            Just("SyncerDeploymentFailed"),
            Just("X")
        ];
        (0u8..4, reasons).prop_map(move |(state, reason)| match state {
            0 => None,
            1 => Some(Condition::yes(name)),
            2 => Some(Condition::no(name, Severity::Error, reason, "")),
            _ => Some(Condition::unknown(name, reason, "")),
        })
    }

    proptest! {
        #[test]
        fn ready_is_true_exactly_in_the_phase_ready_with_every_component_true(
            a in any_condition(CLUSTER_AVAILABLE),
            b in any_condition(SYNCER_READY),
            c in any_condition(HEARTBEAT_HEALTHY),
            d in any_condition(API_AVAILABLE),
            bits in 0u8..16,
        ) {
            let list: Vec<_> = [a, b, c, d].into_iter().flatten().collect();
            let facts = SyncTargetFacts {
                deleting: bits & 1 != 0,
                has_cluster: bits & 2 != 0,
                ever_heard: bits & 4 != 0,
                syncer_requested: bits & 8 != 0,
            };
            let found = sync_target(&list, facts);
            let ready = found.ready.is_true();
            prop_assert_eq!(ready, found.phase == SyncTargetPhase::Ready);
            prop_assert_eq!(facts.deleting, found.phase == SyncTargetPhase::Terminating);
            if ready {
                prop_assert!(list.iter().filter(|c| c.r#type != CLUSTER_AVAILABLE).all(Condition::is_true));
            }
            if conditions::is_false(&list, CLUSTER_AVAILABLE) {
                prop_assert!(found.ready.is_false());
            }
            prop_assert_eq!(sync_target(&list, facts), found);
        }
    }
}
