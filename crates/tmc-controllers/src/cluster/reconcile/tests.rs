//! Clusters as tables.

use rstest::rstest;
use serde_json::{Value, json};
use tmc_api::conditions::ConditionStatus;
use tmc_api::workload::{ApiGroup, ClusterPhase};

use super::super::probe::Served;
use super::*;

pub(super) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(2_000_000_000 + seconds).unwrap()
}

pub(super) fn cluster() -> Cluster {
    serde_json::from_value(json!({
        "apiVersion": "workload.kcp.io/v1alpha1", "kind": "Cluster",
        "metadata": {"name": "east", "namespace": "default", "uid": "c1", "generation": 2},
        "spec": {"kubeconfigSecretRef": {"name": "s"}},
    }))
    .unwrap()
}

pub(super) fn target(status: Value) -> Derived {
    Derived::Owned(Arc::new(
        serde_json::from_value(json!({
            "apiVersion": "workload.kcp.io/v1alpha1", "kind": "SyncTarget",
            "metadata": {"name": "east-x", "uid": "t1"}, "spec": {}, "status": status,
        }))
        .unwrap(),
    ))
}

pub(super) fn ready_target() -> Derived {
    target(json!({"conditions": [{"type": "Ready", "status": "True"}], "capacity": {"cpu": "4"}}))
}

pub(super) fn valid() -> Checked {
    Ok(ValidCredential {
        kind: CredentialKind::Token,
        expires: None,
        fingerprint: "f".into(),
    })
}

pub(super) fn found() -> Found {
    let apps = ApiGroup {
        name: "apps".into(),
        versions: vec!["v1".into()],
        ..ApiGroup::default()
    };
    Found {
        version: "v1.36.0".into(),
        served: Some(Ok(Served {
            groups: vec![apps],
            truncated: false,
        })),
    }
}

fn probed(outcome: Result<Found, Failure>) -> Option<Arc<Probe>> {
    probed_at(0, 1, outcome)
}

/// The `failures`-th failure in a row, if it is one, since the time 0.
pub(super) fn probed_at(
    seconds: i64,
    failures: u32,
    outcome: Result<Found, Failure>,
) -> Option<Arc<Probe>> {
    let failed = outcome.is_err();
    Some(Arc::new(Probe {
        at: at(seconds),
        failures: if failed { failures } else { 0 },
        failing_since: failed.then(|| at(0)),
        outcome,
    }))
}

pub(super) fn timeout() -> Result<Found, Failure> {
    Err(Failure {
        reason: reason::CONNECTION_TIMEOUT,
        message: "too slow".into(),
    })
}

fn unreachable() -> Option<Arc<Probe>> {
    probed_at(10, 3, timeout())
}

pub(super) fn arranged(outcome: Result<(), Shortfall>) -> Rbac {
    Rbac::Ours(Some(Arc::new(Arranged { at: at(0), outcome })))
}

fn well() -> Observed {
    Observed {
        credential: valid(),
        probe: probed(Ok(found())),
        capabilities: capabilities(&found(), at(0)).map(Arc::new),
        undiscovered: None,
        derived: ready_target(),
        rbac: arranged(Ok(())),
        nodes: None,
        persist_every: crate::heartbeat::PERSIST_EVERY,
    }
}

pub(super) fn after(cluster: &Cluster, observed: &Observed, now: Timestamp) -> Cluster {
    let mut new = cluster.clone();
    new.status = Some(status(cluster, observed, now));
    let later = now + SignedDuration::from_secs(30);
    assert_eq!(
        new.status,
        Some(status(&new, observed, later)),
        "a second pass writes nothing"
    );
    new
}

pub(super) fn verdict(cluster: &Cluster) -> (ClusterPhase, ConditionStatus, &str) {
    let ready = conditions::get(cluster.conditions(), READY).unwrap();
    (
        cluster.status.as_ref().unwrap().phase.unwrap(),
        ready.status,
        &ready.reason,
    )
}

#[test]
fn a_cluster_is_ready_when_everything_is() {
    let new = after(&cluster(), &well(), at(0));
    assert_eq!(
        verdict(&new),
        (ClusterPhase::Ready, ConditionStatus::True, "")
    );
    let status = new.status.unwrap();
    assert_eq!(status.observed_generation, Some(2));
    let capabilities = status.capabilities.unwrap();
    assert_eq!(capabilities.kubernetes_version, "v1.36.0");
    assert_eq!(
        capabilities.features,
        ["DaemonSets", "Deployments", "StatefulSets"]
    );
    let reference = status.sync_target_ref.unwrap();
    assert_eq!((&*reference.name, &*reference.uid), ("east-x", "t1"));
    assert_eq!(
        status.resource_summary.unwrap().capacity["cpu"].to_string(),
        "4"
    );
    assert_eq!(status.last_probe_time, Some(Time::new(at(0))));
    assert_eq!(status.credentials.unwrap().fingerprint, "f");
}

type Change = fn(&mut Observed);

#[rstest]
#[case::no_secret(|o: &mut Observed| o.credential = Err((reason::SECRET_NOT_FOUND, "x".into())),
    ClusterPhase::Unavailable, ConditionStatus::False, "SecretNotFound")]
#[case::no_secret_at_first(
    |o: &mut Observed| { o.credential = Err((reason::SECRET_NOT_FOUND, "x".into())); o.derived = Derived::Missing; },
    ClusterPhase::Pending, ConditionStatus::False, "SecretNotFound")]
#[case::unreachable(|o: &mut Observed| o.probe = unreachable(),
    ClusterPhase::Unavailable, ConditionStatus::False, "ConnectionTimeout")]
#[case::not_probed_yet(
    |o: &mut Observed| { o.probe = None; o.capabilities = None; o.derived = Derived::Missing; },
    ClusterPhase::Pending, ConditionStatus::Unknown, "NotProbed")]
#[case::target_not_ready(
    |o: &mut Observed| o.derived = target(json!({"conditions": [{"type": "Ready", "status": "False", "reason": "ErrorHeartbeat", "message": "No heartbeat yet seen"}]})),
    ClusterPhase::Registered, ConditionStatus::False, "SyncTargetNotReady")]
#[case::target_fresh(|o: &mut Observed| o.derived = target(json!({})),
    ClusterPhase::Registered, ConditionStatus::False, "SyncTargetNotReady")]
#[case::rights_missing(
    |o: &mut Observed| o.rbac = arranged(Err(Shortfall::Failed("may not delete deployments.apps".into()))),
    ClusterPhase::Registered, ConditionStatus::False, "RBACFailed")]
#[case::target_of_a_stranger(|o: &mut Observed| o.derived = Derived::Conflict("east-x".into()),
    ClusterPhase::Registered, ConditionStatus::False, "SyncTargetConflict")]
fn each_failure_gates_ready_in_the_same_pass(
    #[case] change: Change,
    #[case] phase: ClusterPhase,
    #[case] ready: ConditionStatus,
    #[case] reason: &str,
) {
    let mut observed = well();
    change(&mut observed);
    assert_eq!(
        verdict(&after(&cluster(), &observed, at(0))),
        (phase, ready, reason)
    );
    // The same from a state of health.
    let healthy = after(&cluster(), &well(), at(0));
    // But for one that was not probed since a restart, of which the last verdict stands.
    if reason != "NotProbed" {
        let new = after(&healthy, &observed, at(10));
        assert_eq!(
            (verdict(&new).1, verdict(&new).2),
            (ConditionStatus::False, reason)
        );
    }
}

#[rstest]
#[case(reason::SECRET_NOT_FOUND)]
#[case(reason::INVALID_CREDENTIALS)]
#[case(reason::CREDENTIALS_EXPIRED)]
#[case(reason::CREDENTIALS_FORBIDDEN)]
fn each_problem_of_a_credential_ends_health_at_once(#[case] reason: &'static str) {
    let healthy = after(&cluster(), &well(), at(0));
    let refused = Observed {
        credential: Err((reason, "x".into())),
        probe: None,
        ..well()
    };
    let new = after(&healthy, &refused, at(10));
    let valid = conditions::get(new.conditions(), condition::CREDENTIALS_VALID).unwrap();
    assert_eq!(
        (valid.status, &*valid.reason),
        (ConditionStatus::False, reason)
    );
    assert_eq!(
        verdict(&new),
        (ClusterPhase::Unavailable, ConditionStatus::False, reason)
    );
}

#[test]
fn no_annotation_label_or_namespace_has_a_say_in_a_verdict() {
    let mut approved = cluster();
    approved.metadata.namespace = Some("kube-system".into());
    let marks = [
        "tmc.kcp.io/approved",
        "workload.kcp.io/approved",
        "approved",
    ];
    let marks = marks.map(|key| (key.to_owned(), "true".to_owned()));
    approved.metadata.annotations = Some(marks.clone().into());
    approved.metadata.labels = Some(marks.into());
    let refused = Observed {
        credential: Err((reason::CREDENTIALS_FORBIDDEN, "x".into())),
        probe: None,
        ..well()
    };
    for observed in [well(), refused] {
        let plain = after(&cluster(), &observed, at(0));
        assert_eq!(after(&approved, &observed, at(0)).status, plain.status);
    }
}

#[test]
fn without_a_valid_credential_nothing_is_said_about_the_connection() {
    let healthy = after(&cluster(), &well(), at(0));
    let refused = Observed {
        credential: Err((
            reason::CREDENTIALS_FORBIDDEN,
            "kubeconfig user.exec: no".into(),
        )),
        probe: None,
        ..well()
    };
    let new = after(&healthy, &refused, at(10));
    let connected = conditions::get(new.conditions(), condition::CONNECTED).unwrap();
    assert_eq!(
        (connected.status, &*connected.reason),
        (ConditionStatus::Unknown, "NotProbed")
    );
    let status = new.status.as_ref().unwrap();
    assert!(status.credentials.is_none());
    assert!(
        status.capabilities.is_some(),
        "what was discovered stays, with its time"
    );
    assert_eq!(verdict(&new).2, "CredentialsForbidden");
}

#[test]
fn a_restart_or_rotation_keeps_the_last_verdict_until_there_is_a_new_one() {
    let healthy = after(&cluster(), &well(), at(0));
    let rotated = Ok(ValidCredential {
        fingerprint: "g".into(),
        ..valid().unwrap()
    });
    let observed = Observed {
        probe: None,
        capabilities: None,
        credential: rotated,
        ..well()
    };
    let new = after(&healthy, &observed, at(10));
    assert_eq!(verdict(&new).0, ClusterPhase::Ready);
}

#[test]
fn a_failed_discovery_makes_data_stale_and_not_the_cluster_unready() {
    let healthy = after(&cluster(), &well(), at(0));
    let failure = Failure {
        reason: reason::CONNECTION_FAILED,
        message: "status code 503".into(),
    };
    let partial = Found {
        version: "v1.36.0".into(),
        served: Some(Err(failure.clone())),
    };
    let observed = Observed {
        probe: probed(Ok(partial)),
        undiscovered: Some(failure),
        ..well()
    };
    let new = after(&healthy, &observed, at(10));
    assert_eq!(verdict(&new).0, ClusterPhase::Ready);
    assert!(conditions::is_false(
        new.conditions(),
        condition::CAPABILITIES_DISCOVERED
    ));
    assert_eq!(
        new.status
            .clone()
            .unwrap()
            .capabilities
            .unwrap()
            .observed_at,
        Some(Time::new(at(0)))
    );
    // At first it does gate.
    let first = Observed {
        capabilities: None,
        ..observed
    };
    assert_eq!(
        verdict(&after(&cluster(), &first, at(0))).2,
        "DiscoveryFailed"
    );
    // It worked since, and the probe after that, which was not to discover, is all that is left.
    let plain = Found {
        version: "v1.36.0".into(),
        served: None,
    };
    let later = Observed {
        probe: probed_at(60, 0, Ok(plain)),
        ..well()
    };
    let told = after(&new, &later, at(60));
    assert!(conditions::is_true(
        told.conditions(),
        condition::CAPABILITIES_DISCOVERED
    ));
    // A restarted hub has not asked yet: the verdict stands.
    let restarted = Observed {
        probe: None,
        capabilities: None,
        ..well()
    };
    let told = after(&new, &restarted, at(60));
    assert!(conditions::is_false(
        told.conditions(),
        condition::CAPABILITIES_DISCOVERED
    ));
}

#[test]
fn times_alone_are_written_every_five_minutes() {
    let healthy = after(&cluster(), &well(), at(0));
    for (seconds, expected) in [(60, 0), (299, 0), (300, 300)] {
        let again = Observed {
            probe: probed_at(seconds, 0, Ok(found())),
            capabilities: capabilities(&found(), at(seconds)).map(Arc::new),
            ..well()
        };
        let status = status(&healthy, &again, at(seconds));
        assert_eq!(
            status.last_probe_time,
            Some(Time::new(at(expected))),
            "{seconds}"
        );
        assert_eq!(
            status.capabilities.unwrap().observed_at,
            Some(Time::new(at(expected)))
        );
    }
}

#[test]
fn an_end_is_announced_ahead_and_looked_at_in_time() {
    let ending = |seconds, kind| {
        Ok(ValidCredential {
            kind,
            expires: Some(at(seconds)),
            fingerprint: "f".into(),
        })
    };
    let current = |credential: Checked| {
        let new = after(
            &cluster(),
            &Observed {
                credential,
                ..well()
            },
            at(0),
        );
        conditions::get(new.conditions(), "CredentialsCurrent").map(|c| c.status)
    };
    let day = 24 * 3600;
    assert_eq!(current(valid()), None);
    assert_eq!(
        current(ending(8 * day, CredentialKind::ClientCertificate)),
        Some(ConditionStatus::True)
    );
    assert_eq!(
        current(ending(6 * day, CredentialKind::ClientCertificate)),
        Some(ConditionStatus::False)
    );
    assert_eq!(
        current(ending(3600, CredentialKind::Token)),
        Some(ConditionStatus::True)
    );
    assert_eq!(
        current(ending(300, CredentialKind::Token)),
        Some(ConditionStatus::False)
    );
    let wait =
        |seconds| look_again(&ending(seconds, CredentialKind::Token), at(0)).map(|d| d.as_secs());
    assert_eq!(wait(3600), Some(3000));
    assert_eq!(wait(300), Some(300));
    assert_eq!(wait(-1), None);
    assert_eq!(look_again(&valid(), at(0)), None);
}

#[test]
fn a_deleted_cluster_is_terminating() {
    let mut deleted = cluster();
    deleted.metadata.deletion_timestamp =
        serde_json::from_value(json!("2033-01-01T00:00:00Z")).unwrap();
    assert_eq!(
        verdict(&after(&deleted, &well(), at(0))).0,
        ClusterPhase::Terminating
    );
}

#[rstest]
#[case::one_failure(5, 1, timeout(), ConditionStatus::True)]
#[case::two_failures(60, 2, timeout(), ConditionStatus::True)]
#[case::three_in_no_time(9, 3, timeout(), ConditionStatus::True)]
#[case::three_over_time(10, 3, timeout(), ConditionStatus::False)]
#[case::many(600, 12, timeout(), ConditionStatus::False)]
#[case::a_forbidden_address_at_once(0, 1,
    Err(Failure { reason: reason::ENDPOINT_FORBIDDEN, message: "x".into() }), ConditionStatus::False)]
fn a_connection_that_worked_is_given_up_after_repeated_failures_only(
    #[case] seconds: i64,
    #[case] failures: u32,
    #[case] outcome: Result<Found, Failure>,
    #[case] expected: ConditionStatus,
) {
    let healthy = after(&cluster(), &well(), at(0));
    let observed = Observed {
        probe: probed_at(seconds, failures, outcome.clone()),
        ..well()
    };
    let new = after(&healthy, &observed, at(seconds));
    let connected = conditions::get(new.conditions(), condition::CONNECTED).unwrap();
    assert_eq!(connected.status, expected);
    // One that never worked has nothing to be given up.
    let first = Observed {
        probe: probed_at(seconds, failures, outcome),
        ..well()
    };
    let new = after(&cluster(), &first, at(seconds));
    assert!(conditions::is_false(new.conditions(), condition::CONNECTED));
    // And the first answer brings it back.
    let back = after(&new, &well(), at(seconds + 1));
    assert!(conditions::is_true(back.conditions(), condition::CONNECTED));
}

#[test]
fn what_was_discovered_is_fresh_or_says_that_it_is_not() {
    let discovered = |cluster: &Cluster| {
        let kind = condition::CAPABILITIES_DISCOVERED;
        let found = conditions::get(cluster.conditions(), kind).unwrap();
        (found.status, found.reason.clone(), found.message.clone())
    };
    let healthy = after(&cluster(), &well(), at(0));
    assert_eq!(discovered(&healthy).0, ConditionStatus::True);
    let lost = Observed {
        probe: unreachable(),
        ..well()
    };
    let lost = after(&healthy, &lost, at(10));
    let (status, reason, message) = discovered(&lost);
    assert_eq!((status, &*reason), (ConditionStatus::Unknown, "Stale"));
    assert!(message.contains("2033-05-18T03:33:20Z"), "{message}");
    assert!(lost.status.as_ref().unwrap().capabilities.is_some());
    let back = after(&lost, &well(), at(20));
    assert_eq!(discovered(&back).0, ConditionStatus::True);
    // Two hours later a member that answers and does not say what it serves.
    let silent = Observed {
        probe: probed_at(
            7200,
            0,
            Ok(Found {
                version: "v1".into(),
                served: None,
            }),
        ),
        ..well()
    };
    assert_eq!(discovered(&after(&back, &silent, at(7200))).1, "Stale");
}

#[rstest]
#[case::external(Rbac::NotOurs, ConditionStatus::True, "")]
#[case::no_target(Rbac::NoTarget, ConditionStatus::Unknown, "NotArranged")]
#[case::not_tried(Rbac::Ours(None), ConditionStatus::Unknown, "NotArranged")]
#[case::good(arranged(Ok(())), ConditionStatus::True, "")]
#[case::missing(arranged(Err(Shortfall::Failed("x".into()))), ConditionStatus::False, "RBACFailed")]
#[case::silent(arranged(Err(Shortfall::Unanswered("x".into()))), ConditionStatus::Unknown, "NotArranged")]
fn the_account_has_its_condition(
    #[case] rbac: Rbac,
    #[case] status: ConditionStatus,
    #[case] reason: &str,
) {
    let observed = Observed { rbac, ..well() };
    let new = after(&cluster(), &observed, at(0));
    let found = conditions::get(new.conditions(), condition::RBAC_READY).unwrap();
    assert_eq!((found.status, &*found.reason), (status, reason));
}

#[test]
fn silence_of_the_member_leaves_the_verdict_on_the_account_as_it_was() {
    let healthy = after(&cluster(), &well(), at(0));
    for rbac in [
        Rbac::Ours(None),
        arranged(Err(Shortfall::Unanswered("x".into()))),
    ] {
        let observed = Observed { rbac, ..well() };
        let new = after(&healthy, &observed, at(10));
        assert!(conditions::is_true(new.conditions(), condition::RBAC_READY));
    }
}

#[test]
fn a_credential_is_ending_from_its_lead_on() {
    let soon = |seconds| Observed {
        credential: Ok(ValidCredential {
            expires: Some(at(seconds)),
            ..valid().unwrap()
        }),
        ..well()
    };
    let fine = after(&cluster(), &soon(7200), at(0));
    let warned = after(&fine, &soon(300), at(10));
    let still = after(&warned, &soon(300), at(20));
    assert!(!is_ending(&[]));
    assert!(!is_ending(fine.conditions()));
    assert!(is_ending(warned.conditions()));
    assert!(is_ending(still.conditions()));
}

#[test]
fn node_counts_come_from_the_agent_and_outlive_a_restart() {
    let counts = NodeCounts { total: 5, ready: 4 };
    let counted = Observed {
        nodes: Some(counts),
        ..well()
    };
    let new = after(&cluster(), &counted, at(0));
    let nodes = |cluster: &Cluster| {
        cluster
            .status
            .as_ref()
            .unwrap()
            .resource_summary
            .clone()
            .unwrap()
            .nodes
    };
    assert_eq!(nodes(&new), Some(counts));
    assert_eq!(nodes(&after(&new, &well(), at(10))), Some(counts));
}
