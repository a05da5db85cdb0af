//! Syncers that run in the member, as tables; and what a young hub thinks of any.

use jiff::SignedDuration;
use rstest::rstest;
use tmc_api::conditions::{ConditionStatus, READY};
use tmc_api::workload::SyncTargetPhase;

use super::tests::*;
use super::*;

pub(super) fn deployed_target() -> SyncTarget {
    let mut target = hosted_target();
    target.spec.syncer_config.get_or_insert_default().mode = Some(SyncerMode::Deployment);
    target
}

pub(super) fn rollout(replicas: i32, ready: i32) -> Rollout {
    Rollout {
        replicas,
        ready_replicas: ready,
        observed_generation: 4,
        current: true,
        stuck: false,
    }
}

pub(super) fn known(outcome: Result<Option<Rollout>, (bool, String)>) -> Installing {
    Installing::Known(Arc::new(Installed { outcome }))
}

#[rstest]
#[case::ready(known(Ok(Some(rollout(2, 2)))), ConditionStatus::True, "", Some((2, 2)))]
#[case::partly(known(Ok(Some(rollout(2, 1)))), ConditionStatus::False, "SyncerUnhealthy", Some((2, 1)))]
#[case::none_of_none(known(Ok(Some(rollout(0, 0)))), ConditionStatus::False, "SyncerUnhealthy", Some((0, 0)))]
#[case::old(known(Ok(Some(Rollout { current: false, ..rollout(1, 1) }))), ConditionStatus::False, "SyncerUnhealthy", Some((1, 1)))]
#[case::stuck(known(Ok(Some(Rollout { stuck: true, ..rollout(1, 0) }))), ConditionStatus::False, "SyncerDeploymentFailed", Some((1, 0)))]
#[case::refused(known(Err((true, "no".into()))), ConditionStatus::False, "SyncerDeploymentFailed", None)]
#[case::silent(known(Err((false, "no".into()))), ConditionStatus::Unknown, "SyncerInstalling", None)]
#[case::waiting(Installing::Waiting("x".into()), ConditionStatus::Unknown, "SyncerInstalling", None)]
#[case::loopback(Installing::Refused(LOOPBACK.into()), ConditionStatus::False, "SyncerDeploymentFailed", None)]
fn a_deployment_is_followed(
    #[case] installing: Installing,
    #[case] status: ConditionStatus,
    #[case] reason: &str,
    #[case] replicas: Option<(i32, i32)>,
) {
    let observed = Observed {
        installing,
        hosted: HostedState::Absent,
        ..well()
    };
    let new = after(&deployed_target(), &observed, at(1));
    let found = conditions::get(new.conditions(), condition::SYNCER_READY).unwrap();
    assert_eq!((found.status, &*found.reason), (status, reason));
    let syncer = new.status.unwrap().syncer_status.unwrap();
    assert_eq!(syncer.ready, status == ConditionStatus::True);
    if let Some(replicas) = replicas {
        assert_eq!(syncer.replicas.zip(syncer.ready_replicas), Some(replicas));
        assert_eq!(syncer.observed_generation, Some(4));
    }
}

#[test]
fn a_loopback_hub_names_the_way_out() {
    let observed = Observed {
        installing: Installing::Refused(LOOPBACK.into()),
        ..well()
    };
    let new = after(&deployed_target(), &observed, at(1));
    let ready = conditions::get(new.conditions(), READY).unwrap();
    assert!(
        ready.message.contains("--external-url"),
        "{}",
        ready.message
    );
}

#[test]
fn silence_of_the_member_does_not_make_a_running_deployment_unready() {
    let running = Observed {
        installing: known(Ok(Some(rollout(1, 1)))),
        hosted: HostedState::Absent,
        ..well()
    };
    let ready = after(&deployed_target(), &running, at(1));
    assert_eq!(verdict(&ready).0, SyncTargetPhase::Ready);
    let silent = Observed {
        installing: known(Err((false, "x".into()))),
        ..running
    };
    let new = after(&ready, &silent, at(5));
    assert_eq!(verdict(&new).0, SyncTargetPhase::Ready);
    let syncer = new.status.unwrap().syncer_status.unwrap();
    assert_eq!(
        (syncer.ready, syncer.ready_replicas),
        (true, Some(1)),
        "merged, not replaced"
    );
}

#[test]
fn what_a_deployment_was_is_not_said_of_a_task() {
    let running = Observed {
        installing: known(Ok(Some(rollout(2, 2)))),
        hosted: HostedState::Absent,
        ..well()
    };
    let mut target = after(&deployed_target(), &running, at(1));
    target.spec.syncer_config = None;
    let new = after(&target, &well(), at(2));
    let syncer = new.status.unwrap().syncer_status.unwrap();
    assert_eq!(
        (syncer.observed_generation, syncer.replicas),
        (None, Some(1))
    );
}

#[rstest]
#[case::hosted(hosted_target())]
#[case::deployment(deployed_target())]
fn a_syncer_that_a_young_hub_has_not_seen_yet_is_judged_again_when_its_grace_ends(
    #[case] target: SyncTarget,
) {
    let running = Observed {
        installing: known(Ok(Some(rollout(1, 1)))),
        ..well()
    };
    let ready = after(&target, &running, at(1));
    let restarted = Observed {
        hosted: HostedState::Starting,
        installing: Installing::Waiting("x".into()),
        listening_since: at(2),
        // Its beats go on: they would not end the grace for a long time.
        beat: beat(20),
        ..well()
    };
    let (status, look_again) = status(&cluster(), &ready, &restarted, &settings(), at(20));
    assert!(conditions::is_true(
        &status.conditions,
        condition::SYNCER_READY
    ));
    assert_eq!(look_again, Some(Duration::from_millis(12_001)));
    let then = at(20) + SignedDuration::try_from(look_again.unwrap()).unwrap();
    assert_eq!(
        verdict(&after(&ready, &restarted, then)).1,
        ConditionStatus::Unknown
    );
}
