//! What holds of a SyncTarget after any history, in every mode of its syncer.

use std::sync::atomic::{AtomicBool, Ordering};

use jiff::SignedDuration;
use proptest::prelude::*;
use serde_json::json;
use tmc_api::conditions::READY;
use tmc_api::time::Time;
use tmc_api::workload::SyncTargetPhase;

use super::deployment_tests::{known, rollout};
use super::tests::*;
use super::*;
use crate::heartbeat::{Beats, LiveBeats, TargetId};

/// Three intervals of ten seconds.
const THRESHOLD: SignedDuration = SignedDuration::from_secs(30);

fn any_mode() -> impl Strategy<Value = SyncerMode> {
    prop_oneof![
        Just(SyncerMode::Hosted),
        Just(SyncerMode::Deployment),
        Just(SyncerMode::External),
    ]
}

fn set_mode(target: &mut SyncTarget, mode: SyncerMode) {
    target.spec.syncer_config.get_or_insert_default().mode = Some(mode);
}

/// One observation of a history.
#[derive(Clone, Debug)]
struct Draw {
    mode: SyncerMode,
    lookup: u8,
    hosted: u8,
    installing: u8,
    /// Age of the beat in memory, in seconds; less than nothing is the future.
    age: Option<i64>,
    apis: Option<bool>,
    /// Whether rights are missing, if the beat says it.
    lacking: Option<bool>,
    sessions: u32,
    restarted: bool,
    reported: u8,
    elapsed: i64,
}

fn any_draw() -> impl Strategy<Value = Draw> {
    let seen = (any_mode(), 0_u8..4, 0_u8..4, 0_u8..8);
    let heard = (
        prop::option::of(-60_i64..60),
        prop::option::of(any::<bool>()),
        prop::option::of(any::<bool>()),
        0_u32..4,
    );
    (seen, heard, any::<bool>(), 0_u8..8, 0_i64..400).prop_map(
        |(
            (mode, lookup, hosted, installing),
            (age, apis, lacking, sessions),
            restarted,
            reported,
            elapsed,
        )| {
            Draw {
                mode,
                lookup,
                hosted,
                installing,
                age,
                apis,
                lacking,
                sessions,
                restarted,
                reported,
                elapsed,
            }
        },
    )
}

fn observed(draw: &Draw, has_cluster: bool, now: i64) -> Observed {
    let resources: &[&str] = match draw.apis {
        Some(true) => &["deployments"],
        _ => &[],
    };
    let apis = draw.apis.map(|serves| {
        let served = serves.then(deployments);
        Arc::new(served.into_iter().collect())
    });
    let missing_rights = draw.lacking.map(|lacking| {
        let names = lacking.then(|| "get secrets".to_owned());
        Vec::from_iter(names).try_into().unwrap()
    });
    Observed {
        cluster: match draw.lookup {
            _ if !has_cluster => Referenced::Nothing,
            0 => Referenced::Missing,
            1 => member("other", resources),
            _ => member("c1", resources),
        },
        hosted: match draw.hosted {
            0 => HostedState::Absent,
            1 => HostedState::Starting,
            2 => HostedState::Failed("broken".into()),
            _ => HostedState::Running,
        },
        installing: match draw.installing {
            0 => Installing::NotOurs,
            1 => Installing::Refused("loopback".into()),
            2 => Installing::Waiting("x".into()),
            3 => known(Err((true, "refused".into()))),
            4 => known(Err((false, "silent".into()))),
            5 => known(Ok(Some(rollout(0, 0)))),
            6 => known(Ok(Some(rollout(3, 2)))),
            _ => known(Ok(Some(rollout(2, 2)))),
        },
        beat: draw.age.and_then(|age| beat(now - age)).map(|beat| Beat {
            apis,
            missing_rights,
            ..beat
        }),
        sessions: draw.sessions,
        listening_since: at(if draw.restarted { now } else { -1000 }),
        leaving: None,
        persist_every: crate::heartbeat::PERSIST_EVERY,
    }
}

/// What agents put into the status themselves.
fn report(target: &mut SyncTarget, reported: u8) {
    let list = &mut target.status.get_or_insert_default().conditions;
    let condition = match reported {
        0 => Condition::no(
            condition::SYNCER_AUTHORIZED,
            Severity::Error,
            "SyncerUnauthorized",
            "",
        ),
        1 => Condition::yes(condition::SYNCER_AUTHORIZED),
        2 => Condition::unknown(condition::API_IMPORTER_READY, "x", ""),
        _ => return,
    };
    conditions::set(list, condition, at(0));
}

/// The invariants of a status (types, 1.5), as far as this controller writes it.
fn check(target: &SyncTarget, observed: &Observed, now: Timestamp) -> Result<(), TestCaseError> {
    let (phase, ready, reason) = verdict(target);
    let list = target.conditions();
    let status = target.status.as_ref().unwrap();
    let deleting = target.metadata.deletion_timestamp.is_some();
    let is_ready = ready == tmc_api::conditions::ConditionStatus::True;
    prop_assert_eq!(is_ready, phase == SyncTargetPhase::Ready);
    prop_assert_eq!(deleting, phase == SyncTargetPhase::Terminating);
    let mut required = vec![
        condition::SYNCER_READY,
        condition::HEARTBEAT_HEALTHY,
        condition::API_AVAILABLE,
    ];
    if target.spec.cluster_ref.is_some() {
        required.push(condition::CLUSTER_AVAILABLE);
    }
    let reported = [condition::SYNCER_AUTHORIZED, condition::API_IMPORTER_READY];
    required.extend(
        reported
            .into_iter()
            .filter(|kind| conditions::get(list, kind).is_some()),
    );
    let all_true = required.iter().all(|kind| conditions::is_true(list, kind));
    prop_assert_eq!(is_ready, all_true && !deleting, "{:?}", list);
    let lost_cluster = conditions::get(list, condition::CLUSTER_AVAILABLE)
        .is_some_and(|c| c.is_false() && c.reason == reason::CLUSTER_NOT_FOUND);
    prop_assert_eq!(lost_cluster, cluster_is_gone(target, observed));
    if lost_cluster && !deleting {
        prop_assert!(conditions::is_false(list, READY));
        prop_assert_eq!(
            (phase, &*reason),
            (SyncTargetPhase::NotReady, reason::CLUSTER_NOT_FOUND)
        );
    }
    if is_ready {
        let heard = observed
            .beat
            .as_ref()
            .map(|beat| beat.at)
            .filter(|at| *at <= now + SignedDuration::from_secs(5));
        let persisted = status.last_syncer_heartbeat_time.map(Time::timestamp);
        let since = heard
            .max(persisted)
            .max(Some(observed.listening_since))
            .unwrap();
        prop_assert!(
            since.duration_until(now) <= THRESHOLD,
            "a beat of {since} at {now}"
        );
    }
    let uid = target.metadata.uid.as_deref().unwrap();
    for view in &status.virtual_workspaces {
        prop_assert!(view.syncer_url.ends_with(uid) && view.upsyncer_url.ends_with(uid));
    }
    let first = status
        .virtual_workspaces
        .first()
        .map(|view| &view.syncer_url);
    prop_assert_eq!(status.virtual_workspace_url.as_ref(), first);
    prop_assert_eq!(
        status.last_heartbeat_time,
        status.last_syncer_heartbeat_time
    );
    prop_assert_eq!(status.observed_generation, target.metadata.generation);
    let syncer = status.syncer_status.as_ref().unwrap();
    prop_assert_eq!(
        syncer.ready,
        conditions::is_true(list, condition::SYNCER_READY)
    );
    if syncer.ready {
        prop_assert!(syncer.replicas >= Some(1) && syncer.replicas == syncer.ready_replicas);
    }
    if target.spec.mode() == SyncerMode::External {
        prop_assert_eq!(
            syncer.ready,
            conditions::is_true(list, condition::HEARTBEAT_HEALTHY)
        );
    }
    prop_assert!(
        status
            .synced_resources
            .is_sorted_by_key(|r| (&r.group, &r.resource))
    );
    // The ledger's figures are the ledger's.
    prop_assert_eq!(
        &status.allocated_resources,
        &serde_json::from_value(json!({"cpu": "1"})).unwrap()
    );
    prop_assert_eq!(
        (&status.available_resources, status.capacity_basis),
        (&None, None)
    );
    Ok(())
}

fn cluster_is_gone(target: &SyncTarget, observed: &Observed) -> bool {
    let first = target.status.as_ref().and_then(|s| s.cluster_uid.clone());
    match &observed.cluster {
        Referenced::Nothing => false,
        Referenced::Missing => true,
        Referenced::Found(cluster) => first.is_some() && cluster.metadata.uid != first,
    }
}

proptest! {
    /// Whatever is observed in whatever order: the invariants of the status hold after each pass, and
    /// until the moment that a pass names another one writes nothing.
    #[test]
    fn the_invariants_of_a_status_hold_after_any_history_in_every_mode(
        draws in prop::collection::vec(any_draw(), 1..14),
        (has_cluster, asked) in (any::<bool>(), any::<bool>()),
        deleted_at in 0_usize..40,
        share in 0.0_f64..1.0,
    ) {
        let mut target = if has_cluster { hosted_target() } else { external_target() };
        if asked {
            target.spec.supported_api_exports = serde_json::from_value(json!([{"export": "e"}])).unwrap();
        }
        let allocated = serde_json::from_value(json!({"cpu": "1"})).unwrap();
        target.status.get_or_insert_default().allocated_resources = allocated;
        let mut now = 0;
        for (number, draw) in draws.iter().enumerate() {
            now += draw.elapsed;
            if has_cluster {
                set_mode(&mut target, draw.mode);
            }
            if number == deleted_at {
                target.metadata.deletion_timestamp = serde_json::from_value(json!("2033-01-01T00:00:00Z")).unwrap();
            }
            target.metadata.generation = Some(i64::try_from(number).unwrap());
            report(&mut target, draw.reported);
            let observed = observed(draw, has_cluster, now);
            target = after(&target, &observed, at(now));
            check(&target, &observed, at(now))?;
            let named = metadata(&cluster(), &target);
            prop_assert_eq!(&metadata(&cluster(), &named), &named);
            if draw.age.is_some_and(|age| age < -5) {
                // What is from the future never gets into memory: it would be believed in time.
                continue;
            }
            let (_, look_again) = status(&cluster(), &target, &observed, &settings(), at(now));
            let wait = look_again.unwrap_or(Duration::from_secs(3600)) - Duration::from_millis(1);
            let wait = wait.mul_f64(share);
            let later = at(now) + SignedDuration::try_from(wait).unwrap();
            let (second, _) = status(&cluster(), &target, &observed, &settings(), later);
            prop_assert_eq!(Some(&second), target.status.as_ref(), "a pass at {} writes nothing", later);
        }
    }
}

/// What happens to a target whose syncer is well but for its beats.
#[derive(Clone, Copy, Debug)]
enum Happening {
    /// It beats.
    Beat,
    /// Its agent patches the time of a beat this many seconds ago; less than nothing is the future.
    Patch(i64),
    /// Another target of that name, of another uid, beats.
    Stranger,
    /// The hub restarts: what it remembers is gone.
    Restart,
    /// Nothing.
    Silence,
}

fn any_happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        6 => Just(Happening::Beat),
        2 => (-4000_i64..100).prop_map(Happening::Patch),
        1 => Just(Happening::Stranger),
        1 => Just(Happening::Restart),
        4 => Just(Happening::Silence),
    ]
}

/// A target, its beats, and a controller that runs when it is woken and when it asked to be.
struct World {
    target: SyncTarget,
    beats: Beats,
    woken: Arc<AtomicBool>,
    due: Option<Timestamp>,
    listening_since: Timestamp,
    now: Timestamp,
}

impl World {
    fn new(target: SyncTarget) -> Self {
        let mut world = Self {
            target,
            beats: Beats::new(),
            woken: Arc::default(),
            due: None,
            listening_since: at(0),
            now: at(0),
        };
        world.restart();
        world
    }

    fn id(uid: &str) -> TargetId {
        TargetId::new(&cluster(), "east", uid)
    }

    fn restart(&mut self) {
        self.beats = Beats::new();
        let woken = Arc::clone(&self.woken);
        self.beats
            .on_wake(Arc::new(move |_| woken.store(true, Ordering::SeqCst)));
        self.listening_since = self.now;
        self.pass();
    }

    /// As `run` does it.
    fn pass(&mut self) {
        let id = Self::id("u1");
        let observed = Observed {
            cluster: if self.target.spec.cluster_ref.is_some() {
                member("c1", &["deployments"])
            } else {
                Referenced::Nothing
            },
            installing: known(Ok(Some(rollout(1, 1)))),
            beat: self.beats.last(&id),
            sessions: self.beats.sessions(&id),
            listening_since: self.listening_since,
            ..well()
        };
        let (status, look_again) =
            status(&cluster(), &self.target, &observed, &settings(), self.now);
        if !conditions::is_true(&status.conditions, condition::HEARTBEAT_HEALTHY) {
            self.beats.wake_on_next(&id);
        }
        self.target.status = Some(status);
        self.due = look_again.map(|wait| self.now + SignedDuration::try_from(wait).unwrap());
    }

    /// Time passes; the controller runs when it asked to be run.
    fn until(&mut self, then: Timestamp) {
        while let Some(due) = self.due.filter(|due| *due <= then) {
            self.now = due;
            self.pass();
        }
        self.now = then;
    }

    fn happens(&mut self, what: Happening) {
        let beat = Beat {
            at: self.now,
            identity: "r-0".into(),
            apis: None,
            totals: None,
            missing_rights: None,
            synced: Default::default(),
        };
        match what {
            Happening::Beat => self.beats.record(&Self::id("u1"), beat),
            Happening::Stranger => self.beats.record(&Self::id("u2"), beat),
            Happening::Patch(age) => {
                let patched = Time::new(self.now - SignedDuration::from_secs(age));
                let status = self.target.status.get_or_insert_default();
                status.last_syncer_heartbeat_time = Some(patched);
                // The write is an event.
                self.pass();
            }
            Happening::Restart => self.restart(),
            Happening::Silence => {}
        }
        if self.woken.swap(false, Ordering::SeqCst) {
            self.pass();
        }
    }

    /// The time that a patch writes, in whole seconds, unless it is from the future.
    fn patched(&self, age: i64) -> Option<Timestamp> {
        let written = (self.now - SignedDuration::from_secs(age)).as_second();
        let written = Timestamp::from_second(written).unwrap();
        Some(written).filter(|at| *at <= self.now + SignedDuration::from_secs(5))
    }

    /// What agents do: they patch their latest beat. One from the future overwrites the only trace of
    /// the one before, unless that was heard.
    fn believable(&self, what: Happening, last: Option<Timestamp>) -> Happening {
        let Happening::Patch(age) = what else {
            return what;
        };
        let heard = self.beats.last(&Self::id("u1")).map(|beat| beat.at);
        let patched = self.patched(age);
        let newer = patched.is_some() && patched >= last;
        let harmless = patched.is_none() && heard.is_some() && heard == last;
        if newer || harmless {
            what
        } else {
            Happening::Silence
        }
    }

    fn is_ready(&self) -> bool {
        conditions::is_true(self.target.conditions(), READY)
    }
}

proptest! {
    /// Under any interleaving of beats, silence and restarts: a target is Ready only while its last
    /// beat counts, which it stops to be without any event, and is Ready again with the next one.
    #[test]
    fn a_target_is_ready_exactly_while_its_last_beat_counts_in_every_mode(
        mode in any_mode(),
        history in prop::collection::vec((0_i64..50_000, any_happening()), 1..40),
    ) {
        let mut target = match mode {
            SyncerMode::External => external_target(),
            _ => hosted_target(),
        };
        set_mode(&mut target, mode);
        let mut world = World::new(target);
        // A restart gives a fresh grace to those that were heard until then, and to no other.
        let (mut last, mut heard) = (None::<Timestamp>, false);
        for (millis, what) in history {
            let then = world.now + SignedDuration::from_millis(millis);
            world.until(then);
            let counts = |last: Option<Timestamp>| last.is_some_and(|last| last.duration_until(then) <= THRESHOLD);
            heard = counts(last) || heard && counts(Some(world.listening_since));
            prop_assert_eq!(world.is_ready(), heard, "at {}, last beat {:?}", then, last);
            let what = world.believable(what, last);
            world.happens(what);
            match what {
                Happening::Beat => last = Some(then),
                Happening::Patch(age) => last = world.patched(age).or(last),
                Happening::Stranger | Happening::Restart | Happening::Silence => {}
            }
            heard = counts(last) || heard && counts(Some(world.listening_since));
            prop_assert_eq!(world.is_ready(), heard, "after {:?} at {}, last beat {:?}", what, then, last);
        }
    }
}
