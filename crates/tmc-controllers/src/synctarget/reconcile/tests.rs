//! SyncTargets as tables: one situation, one outcome, and a second pass that writes nothing.

use jiff::SignedDuration;
use rstest::rstest;
use serde_json::json;
use tmc_api::conditions::{ConditionStatus, READY};
use tmc_api::time::Time;
use tmc_api::workload::SyncTargetPhase;

use super::*;

pub(super) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(2_000_000_000 + seconds).unwrap()
}

pub(super) fn cluster() -> ClusterName {
    ClusterName::new("2abc")
}

pub(super) fn deployments() -> GroupVersionResource {
    GroupVersionResource::new("apps", "v1", "deployments")
}

pub(super) fn settings() -> Settings {
    Settings {
        base_url: "https://hub:6443".into(),
        sync_resources: vec![deployments()],
    }
}

pub(super) fn hosted_target() -> SyncTarget {
    serde_json::from_value(json!({
        "apiVersion": "workload.kcp.io/v1alpha1", "kind": "SyncTarget",
        "metadata": {"name": "east", "uid": "u1", "resourceVersion": "1", "generation": 3},
        "spec": {"clusterRef": {"name": "east", "namespace": "default"}},
    }))
    .unwrap()
}

pub(super) fn external_target() -> SyncTarget {
    let mut target = hosted_target();
    target.spec.cluster_ref = None;
    target
}

pub(super) fn member(uid: &str, resources: &[&str]) -> Referenced {
    Referenced::Found(Arc::new(
        serde_json::from_value(json!({
            "apiVersion": "workload.kcp.io/v1alpha1", "kind": "Cluster",
            "metadata": {"name": "east", "namespace": "default", "uid": uid},
            "spec": {"kubeconfigSecretRef": {"name": "s"}},
            "status": {"capabilities": {"apiGroups": [{"name": "apps", "versions": ["v1"], "resources": resources}]}},
        }))
        .unwrap(),
    ))
}

pub(super) fn beat(seconds: i64) -> Option<Beat> {
    Some(Beat {
        at: at(seconds),
        identity: "r-0".into(),
        apis: None,
        totals: None,
        missing_rights: None,
        synced: Default::default(),
    })
}

/// All is well with a Hosted target.
pub(super) fn well() -> Observed {
    Observed {
        cluster: member("c1", &["deployments"]),
        hosted: HostedState::Running,
        installing: Installing::NotOurs,
        beat: beat(0),
        sessions: 0,
        listening_since: at(-1000),
        leaving: None,
        persist_every: crate::heartbeat::PERSIST_EVERY,
    }
}

pub(super) fn after(target: &SyncTarget, observed: &Observed, now: Timestamp) -> SyncTarget {
    let (status, _) = status(&cluster(), target, observed, &settings(), now);
    let mut new = target.clone();
    new.status = Some(status);
    let (second, _) = super::status(&cluster(), &new, observed, &settings(), now);
    assert_eq!(
        new.status.as_ref(),
        Some(&second),
        "a second pass writes nothing"
    );
    new
}

pub(super) fn verdict(target: &SyncTarget) -> (SyncTargetPhase, ConditionStatus, String) {
    let ready = conditions::get(target.conditions(), READY).unwrap();
    (
        target.status.as_ref().unwrap().phase.unwrap(),
        ready.status,
        ready.reason.clone(),
    )
}

#[rstest]
#[case(0, 1)]
#[case(1, 1)]
#[case(3, 3)]
fn an_external_syncer_has_as_many_replicas_as_sessions_and_one_if_it_only_beats(
    #[case] sessions: u32,
    #[case] replicas: i32,
) {
    let target = external_target();
    let observed = Observed {
        sessions,
        hosted: HostedState::Absent,
        ..well()
    };
    let syncer = |observed: &Observed, now| {
        let new = after(&target, observed, now);
        new.status.unwrap().syncer_status.unwrap()
    };
    let syncer_now = syncer(&observed, at(1));
    assert_eq!(
        (
            syncer_now.ready,
            syncer_now.replicas,
            syncer_now.ready_replicas
        ),
        (true, Some(replicas), Some(replicas))
    );
    let lost = syncer(&observed, at(100));
    assert_eq!(
        (lost.ready, lost.replicas),
        (false, Some(0)),
        "a socket is no beat"
    );
}

#[test]
fn a_replica_that_takes_over_is_told_at_once_where_the_agent_is_no_part_of_the_hub() {
    let taken_over = |target: SyncTarget| {
        let before = after(&target, &well(), at(1));
        let mut observed = well();
        observed.beat = beat(2).map(|beat| Beat {
            identity: "r-1".into(),
            ..beat
        });
        let status = after(&before, &observed, at(3)).status.unwrap();
        assert_eq!(
            status.last_heartbeat_time,
            Some(Time::new(at(0))),
            "a beat as such is not"
        );
        status.syncer_identity
    };
    assert_eq!(taken_over(external_target()).as_deref(), Some("r-1"));
    assert_eq!(taken_over(hosted_target()).as_deref(), Some("r-0"));
}

#[test]
fn the_key_label_is_the_hash_of_cluster_and_name_and_the_rest_stays() {
    let mut target = hosted_target();
    target.metadata.name = Some("dp-8568db4".into());
    target.metadata.labels = Some([("a".to_owned(), "b".to_owned())].into());
    let new = metadata(&ClusterName::new("root"), &target);
    let labels = new.metadata.labels.clone().unwrap();
    assert_eq!(
        labels[SYNC_TARGET_KEY_LABEL],
        "cKK89Yvux7z7kBVBj3oVPIY9VBlLrL97v8mjtz"
    );
    assert_eq!(labels["a"], "b");
    assert_eq!(metadata(&ClusterName::new("root"), &new), new);
}

#[test]
fn a_healthy_target_is_ready_with_urls_that_carry_its_uid() {
    let new = after(&hosted_target(), &well(), at(1));
    assert_eq!(
        verdict(&new),
        (SyncTargetPhase::Ready, ConditionStatus::True, String::new())
    );
    let status = new.status.unwrap();
    let url = "https://hub:6443/services/syncer/2abc/east/u1";
    assert_eq!(status.virtual_workspace_url.as_deref(), Some(url));
    assert_eq!(status.virtual_workspaces[0].syncer_url, url);
    assert_eq!(
        status.virtual_workspaces[0].upsyncer_url,
        "https://hub:6443/services/upsyncer/2abc/east/u1"
    );
    assert_eq!(
        status.tunnel_workspaces[0].url,
        "https://hub:6443/clusters/2abc"
    );
    assert_eq!(status.observed_generation, Some(3));
    assert_eq!(status.cluster_uid.as_deref(), Some("c1"));
    assert_eq!(status.last_syncer_heartbeat_time, Some(Time::new(at(0))));
    assert_eq!(
        status.last_heartbeat_time,
        status.last_syncer_heartbeat_time
    );
    assert_eq!(status.syncer_identity.as_deref(), Some("r-0"));
    let syncer = status.syncer_status.unwrap();
    assert_eq!(
        (syncer.ready, syncer.replicas, syncer.ready_replicas),
        (true, Some(1), Some(1))
    );
}

type Change = fn(&mut SyncTarget, &mut Observed);

#[rstest]
#[case::cluster_gone(|_: &mut SyncTarget, o: &mut Observed| o.cluster = Referenced::Missing,
    SyncTargetPhase::NotReady, ConditionStatus::False, "ClusterNotFound")]
#[case::cluster_made_anew(|t: &mut SyncTarget, _: &mut Observed| t.status.get_or_insert_default().cluster_uid = Some("c0".into()),
    SyncTargetPhase::NotReady, ConditionStatus::False, "ClusterNotFound")]
#[case::never_heard_and_started(|_: &mut SyncTarget, o: &mut Observed| o.beat = None,
    SyncTargetPhase::Scheduling, ConditionStatus::False, "ErrorHeartbeat")]
#[case::never_heard_and_not_started(
    |_: &mut SyncTarget, o: &mut Observed| { o.beat = None; o.hosted = HostedState::Absent; },
    SyncTargetPhase::Pending, ConditionStatus::False, "ErrorHeartbeat")]
#[case::beat_too_old(|_: &mut SyncTarget, o: &mut Observed| o.beat = beat(-40),
    SyncTargetPhase::NotReady, ConditionStatus::False, "ErrorHeartbeat")]
#[case::beat_from_the_future(|_: &mut SyncTarget, o: &mut Observed| o.beat = beat(3600),
    SyncTargetPhase::NotReady, ConditionStatus::False, "ErrorHeartbeat")]
#[case::syncer_failed(|_: &mut SyncTarget, o: &mut Observed| o.hosted = HostedState::Failed("x".into()),
    SyncTargetPhase::NotReady, ConditionStatus::False, "SyncerUnhealthy")]
#[case::syncer_starting_again(|_: &mut SyncTarget, o: &mut Observed| o.hosted = HostedState::Starting,
    SyncTargetPhase::NotReady, ConditionStatus::Unknown, "SyncerStarting")]
#[case::no_apis(|_: &mut SyncTarget, o: &mut Observed| o.cluster = member("c1", &["daemonsets"]),
    SyncTargetPhase::NotReady, ConditionStatus::False, "NoAcceptedAPIs")]
#[case::deployment_mode(
    |t: &mut SyncTarget, o: &mut Observed| {
        t.spec.syncer_config.get_or_insert_default().mode = Some(SyncerMode::Deployment);
        o.installing = Installing::Refused(LOOPBACK.into());
    },
    SyncTargetPhase::NotReady, ConditionStatus::False, "SyncerDeploymentFailed")]
#[case::deleted(
    |t: &mut SyncTarget, _: &mut Observed| t.metadata.deletion_timestamp = serde_json::from_value(json!("2033-01-01T00:00:00Z")).unwrap(),
    SyncTargetPhase::Terminating, ConditionStatus::False, "Terminating")]
#[case::not_authorized(
    |t: &mut SyncTarget, _: &mut Observed| t.status.get_or_insert_default().conditions =
        vec![Condition::no(condition::SYNCER_AUTHORIZED, Severity::Error, "SyncerUnauthorized", "")],
    SyncTargetPhase::NotReady, ConditionStatus::False, "SyncerUnauthorized")]
fn each_failure_has_its_phase_and_reason(
    #[case] change: Change,
    #[case] phase: SyncTargetPhase,
    #[case] ready: ConditionStatus,
    #[case] reason: &str,
) {
    let (mut target, mut observed) = (hosted_target(), well());
    change(&mut target, &mut observed);
    let new = after(&target, &observed, at(1));
    assert_eq!(verdict(&new), (phase, ready, reason.to_owned()));
}

#[test]
fn a_target_on_its_way_out_says_what_it_waits_for() {
    let mut target = hosted_target();
    target.metadata.deletion_timestamp =
        serde_json::from_value(json!("2033-01-01T00:00:00Z")).unwrap();
    let observed = Observed {
        leaving: Some("2 objects still have copies".into()),
        ..well()
    };
    let new = after(&target, &observed, at(1));
    let ready = conditions::get(new.conditions(), READY).unwrap();
    assert_eq!(ready.message, "2 objects still have copies");
    assert_eq!(verdict(&new).0, SyncTargetPhase::Terminating);
}

#[test]
fn an_external_target_lives_by_its_beats_and_reports() {
    let silent = Observed {
        cluster: Referenced::Nothing,
        hosted: HostedState::Absent,
        beat: None,
        ..well()
    };
    let new = after(&external_target(), &silent, at(1));
    assert_eq!(verdict(&new).0, SyncTargetPhase::Pending);
    assert!(conditions::get(new.conditions(), condition::CLUSTER_AVAILABLE).is_none());
    let apis = Some(Arc::new(ServedApis::from([deployments()])));
    let reported = Observed {
        beat: Some(Beat {
            apis,
            ..beat(0).unwrap()
        }),
        ..silent
    };
    let new = after(&new, &reported, at(1));
    assert_eq!(verdict(&new).0, SyncTargetPhase::Ready);
    assert_eq!(new.status.unwrap().syncer_status.unwrap().replicas, Some(1));
}

#[rstest]
#[case::heard_and_nothing_asked(None, false, ConditionStatus::True, "", SyncState::Pending)]
#[case::heard_and_exports_asked(
    None,
    true,
    ConditionStatus::Unknown,
    "NotEvaluated",
    SyncState::Pending
)]
#[case::served(
    Some(vec![deployments()]), true, ConditionStatus::True, "", SyncState::Accepted)]
#[case::nothing_served(
    Some(vec![]), false, ConditionStatus::False, "NoAcceptedAPIs", SyncState::Incompatible)]
#[case::nothing_served_of_what_is_asked(
    Some(vec![]), true, ConditionStatus::False, "NoAcceptedAPIs", SyncState::Incompatible)]
fn an_agent_that_never_says_what_is_served_is_ready_unless_exports_are_asked_for(
    #[case] reported: Option<Vec<GroupVersionResource>>,
    #[case] asked: bool,
    #[case] status: ConditionStatus,
    #[case] reason: &str,
    #[case] state: SyncState,
) {
    let mut target = external_target();
    if asked {
        target.spec.supported_api_exports =
            serde_json::from_value(json!([{"export": "kubernetes"}])).unwrap();
    }
    let observed = Observed {
        cluster: Referenced::Nothing,
        hosted: HostedState::Absent,
        beat: Some(Beat {
            apis: reported.map(|list| Arc::new(list.into_iter().collect())),
            ..beat(0).unwrap()
        }),
        ..well()
    };
    let new = after(&target, &observed, at(1));
    let found = conditions::get(new.conditions(), condition::API_AVAILABLE).unwrap();
    assert_eq!((found.status, &*found.reason), (status, reason));
    let (_, ready, why) = verdict(&new);
    assert_eq!((ready, &*why), (status, reason));
    assert_eq!(new.status.unwrap().synced_resources[0].state, state);
}

#[test]
fn a_beat_that_an_agent_patches_into_the_status_counts_as_any_other() {
    let mut target = external_target();
    target
        .status
        .get_or_insert_default()
        .last_syncer_heartbeat_time = Some(Time::new(at(-20)));
    let patched = Observed {
        cluster: Referenced::Nothing,
        hosted: HostedState::Absent,
        beat: None,
        ..well()
    };
    let new = after(&target, &patched, at(0));
    assert_eq!(verdict(&new).0, SyncTargetPhase::Ready);
    let status = new.status.as_ref().unwrap();
    assert_eq!(status.last_heartbeat_time, Some(Time::new(at(-20))));
    let (_, look_again) = super::status(&cluster(), &new, &patched, &settings(), at(0));
    assert_eq!(look_again, Some(Duration::from_millis(10_001)));
    assert_eq!(
        verdict(&after(&new, &patched, at(11))).0,
        SyncTargetPhase::NotReady
    );
}

#[test]
fn urls_follow_the_hub_in_every_pass_and_are_not_only_filled_in() {
    let ready = after(&hosted_target(), &well(), at(1));
    let moved = Settings {
        base_url: "https://elsewhere".into(),
        ..settings()
    };
    let (status, _) = status(&cluster(), &ready, &well(), &moved, at(2));
    let url = "https://elsewhere/services/syncer/2abc/east/u1";
    assert_eq!(status.virtual_workspace_url.as_deref(), Some(url));
    assert_eq!(status.virtual_workspaces.len(), 1);
    assert_eq!(status.virtual_workspaces[0].syncer_url, url);
    assert_eq!(
        status.tunnel_workspaces[0].url,
        "https://elsewhere/clusters/2abc"
    );
}

#[test]
fn a_target_does_not_wait_for_its_cluster_to_be_ready() {
    let Referenced::Found(found) = member("c1", &["deployments"]) else {
        panic!("a Cluster");
    };
    let mut waiting = (*found).clone();
    waiting.status.as_mut().unwrap().conditions = vec![
        Condition::no(READY, Severity::Warning, reason::SYNC_TARGET_NOT_READY, ""),
        Condition::unknown(condition::CONNECTED, "NotProbed", ""),
    ];
    let observed = Observed {
        cluster: Referenced::Found(Arc::new(waiting)),
        ..well()
    };
    let new = after(&hosted_target(), &observed, at(1));
    assert_eq!(verdict(&new).0, SyncTargetPhase::Ready);
}

#[test]
fn declared_capacity_is_never_shown_as_what_a_member_has() {
    let mut target = hosted_target();
    target.spec.cells =
        serde_json::from_value(json!([{"name": "a", "capacity": {"cpu": "64"}}])).unwrap();
    let status = after(&target, &well(), at(1)).status.unwrap();
    assert_eq!(
        (
            &status.capacity,
            &status.allocatable,
            &status.available_resources
        ),
        (&None, &None, &None)
    );
    assert_eq!(status.capacity_basis, None, "nobody counts yet");
    assert_eq!(status.syncer_status.unwrap().synced_resources, None);
}

#[test]
fn a_condition_that_no_longer_applies_goes() {
    let mut target = external_target();
    target.status.get_or_insert_default().conditions =
        vec![Condition::yes(condition::CLUSTER_AVAILABLE)];
    let observed = Observed {
        cluster: Referenced::Nothing,
        ..well()
    };
    let new = after(&target, &observed, at(1));
    assert!(conditions::get(new.conditions(), condition::CLUSTER_AVAILABLE).is_none());
}

#[test]
fn a_dead_agent_is_noticed_without_any_event_and_recovers_with_its_next_beat() {
    let ready = after(&hosted_target(), &well(), at(1));
    let (_, look_again) = status(&cluster(), &ready, &well(), &settings(), at(1));
    let then = at(1) + SignedDuration::try_from(look_again.unwrap()).unwrap();
    let lost = after(&ready, &well(), then);
    assert_eq!(verdict(&lost).0, SyncTargetPhase::NotReady);
    let back = Observed {
        beat: beat(60),
        ..well()
    };
    assert_eq!(
        verdict(&after(&lost, &back, at(60))).0,
        SyncTargetPhase::Ready
    );
}

#[test]
fn beats_alone_write_nothing_for_five_minutes() {
    let ready = after(&hosted_target(), &well(), at(1));
    for seconds in (10..300).step_by(10) {
        let observed = Observed {
            beat: beat(seconds),
            ..well()
        };
        let (status, _) = status(&cluster(), &ready, &observed, &settings(), at(seconds));
        assert_eq!(Some(status), ready.status, "beat at {seconds}");
    }
    let observed = Observed {
        beat: beat(300),
        ..well()
    };
    let (status, _) = status(&cluster(), &ready, &observed, &settings(), at(300));
    assert_eq!(status.last_heartbeat_time, Some(Time::new(at(300))));
}

#[test]
fn reported_totals_are_shown_and_kept_while_nothing_new_is_reported() {
    let totals = crate::heartbeat::NodeTotals::from_report(&json!({"capacity": {"cpu": "8"}}));
    let beat_with = Beat {
        totals: totals.map(Arc::new),
        ..beat(0).unwrap()
    };
    let reported = Observed {
        beat: Some(beat_with),
        ..well()
    };
    let new = after(&hosted_target(), &reported, at(1));
    let cpu = |target: &SyncTarget| {
        target.status.as_ref().unwrap().capacity.as_ref().unwrap()["cpu"].to_string()
    };
    assert_eq!(cpu(&new), "8");
    assert_eq!(cpu(&after(&new, &well(), at(2))), "8");
}

/// A beat whose agent keeps as many objects in its member, and wrote the last of them then.
fn keeping(seconds: i64, objects: i64, wrote: i64) -> Observed {
    let synced = crate::heartbeat::SyncedTotals {
        objects: Some(objects),
        last_sync: Some(at(wrote)),
    };
    Observed {
        beat: beat(seconds).map(|beat| Beat { synced, ..beat }),
        ..well()
    }
}

fn synced(target: &SyncTarget) -> (Option<i64>, Option<Time>) {
    let syncer = target.status.as_ref().unwrap().syncer_status.clone();
    let syncer = syncer.unwrap_or_default();
    (syncer.synced_resources, syncer.last_sync_time)
}

#[test]
fn what_an_agent_keeps_is_written_with_the_heartbeat_and_never_alone() {
    let ready = after(&hosted_target(), &keeping(0, 1, -5), at(1));
    let first = (Some(1), Some(Time::new(at(-5))));
    assert_eq!(synced(&ready), first);
    for seconds in (10..300).step_by(10) {
        let busy = keeping(seconds, seconds, seconds);
        let (status, _) = status(&cluster(), &ready, &busy, &settings(), at(seconds));
        assert_eq!(Some(status), ready.status, "beat at {seconds}");
    }
    let later = after(&ready, &keeping(300, 9, 290), at(300));
    assert_eq!(synced(&later), (Some(9), Some(Time::new(at(290)))));
}

#[test]
fn what_an_agent_keeps_is_written_with_any_other_change() {
    let ready = after(&hosted_target(), &keeping(0, 1, -5), at(1));
    let mut edited = ready.clone();
    edited.metadata.generation = Some(4);
    let new = after(&edited, &keeping(10, 2, 9), at(10));
    assert_eq!(synced(&new), (Some(2), Some(Time::new(at(9)))));
    let mut again = new.clone();
    again.metadata.generation = Some(5);
    let silent = Observed {
        beat: beat(20),
        ..well()
    };
    let kept = after(&again, &silent, at(20));
    assert_eq!(synced(&kept), synced(&new), "what is not reported is kept");
}

#[test]
fn what_others_write_in_status_is_kept() {
    let mut target = hosted_target();
    let status = target.status.get_or_insert_default();
    status.syncer_status = Some(SyncerStatus {
        synced_resources: Some(7),
        last_sync_time: Some(Time::new(at(0))),
        ..SyncerStatus::default()
    });
    status.conditions = vec![Condition::yes(condition::WITHIN_QUOTA)];
    let new = after(&target, &well(), at(1));
    assert!(conditions::is_true(
        new.conditions(),
        condition::WITHIN_QUOTA
    ));
    let syncer = new.status.unwrap().syncer_status.unwrap();
    assert_eq!(
        (syncer.synced_resources, syncer.last_sync_time),
        (Some(7), Some(Time::new(at(0))))
    );
}

#[test]
fn resources_are_sorted_and_keep_their_verdict_while_nothing_is_known() {
    let wanted = [
        deployments(),
        GroupVersionResource::new("", "v1", "services"),
        GroupVersionResource::new("apps", "v1", "daemonsets"),
        GroupVersionResource::new("batch", "v1", "cronjobs"),
        GroupVersionResource::new("batch", "v1beta1", "cronjobs"),
    ];
    let served = ServedApis::from([wanted[0].clone(), wanted[1].clone(), wanted[4].clone()]);
    let known = synced_resources(&wanted, Some(&served), &[]);
    let view: Vec<_> = known
        .iter()
        .map(|r| (&*r.group, &*r.resource, r.versions.len(), r.state))
        .collect();
    assert_eq!(
        view,
        [
            ("", "services", 1, SyncState::Accepted),
            ("apps", "daemonsets", 1, SyncState::Incompatible),
            ("apps", "deployments", 1, SyncState::Accepted),
            ("batch", "cronjobs", 2, SyncState::Accepted),
        ]
    );
    assert_eq!(synced_resources(&wanted, None, &known), known);
    let fresh = synced_resources(&wanted, None, &[]);
    assert!(fresh.iter().all(|r| r.state == SyncState::Pending));
}

#[test]
fn nothing_to_sync_is_no_failure_and_no_url_is_no_guess() {
    let nothing = Settings::default();
    let (status, _) = status(&cluster(), &hosted_target(), &well(), &nothing, at(1));
    assert!(conditions::is_true(
        &status.conditions,
        condition::API_AVAILABLE
    ));
    assert_eq!(
        (
            status.virtual_workspaces.len(),
            status.virtual_workspace_url
        ),
        (0, None)
    );
}
