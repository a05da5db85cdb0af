//! Liveness of targets: who beat last, and what follows from it.
//!
//! Beats live in memory and never rewrite a SyncTarget by themselves: at ten thousand targets that
//! would be a thousand writes a second, each sent to every watcher. What is written are transitions,
//! and the time of the last beat every few minutes, of many targets less often ([`persist_every`]).

mod beats;
mod report;
pub mod taints;

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tmc_api::conditions::{Condition, Severity};
use tmc_api::time::Time;
use tmc_api::workload::condition::HEARTBEAT_HEALTHY;
use tmc_api::workload::heartbeat::{DEFAULT_SKEW, Health as Heard, health, is_credible};
use tmc_api::workload::reason::ERROR_HEARTBEAT;
use tmc_apimachinery::ClusterName;
use tmc_runtime::clock::until_past;

pub use beats::{Beat, Beats, LiveBeats, OnWake};
pub use report::{NodeTotals, ServedApis, SyncedTotals, missing_rights};

/// How often the time of the last beat is written at most while nothing else changes.
pub const PERSIST_EVERY: SignedDuration = SignedDuration::from_mins(5);

/// How often the time of the last beat, or probe, is written of one of as many members while nothing
/// else changes: every five to ten minutes, and of many so that all together make two writes a second.
/// Each has an interval of its own, which its uid decides, so that members that came together do not
/// write together.
pub fn persist_every(members: usize, uid: &str) -> SignedDuration {
    const STEPS: u64 = 1_000;
    let mut hasher = DefaultHasher::new();
    uid.hash(&mut hasher);
    let third = i64::try_from(members / 3).unwrap_or(i64::MAX);
    let shortest = PERSIST_EVERY.max(SignedDuration::from_secs(third));
    let share = i32::try_from(hasher.finish() % STEPS).unwrap_or(0);
    shortest.saturating_add(shortest / (STEPS as i32) * share)
}

/// The identity of a SyncTarget, compared exactly.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TargetId {
    /// Logical cluster.
    pub cluster: ClusterName,
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
}

impl TargetId {
    /// The identity with these parts.
    pub fn new(cluster: &ClusterName, name: &str, uid: &str) -> Self {
        Self {
            cluster: cluster.clone(),
            name: name.to_owned(),
            uid: uid.to_owned(),
        }
    }
}

/// What the judgement of a heartbeat depends on.
#[derive(Clone, Debug)]
pub struct Signs {
    /// Last beat in memory.
    pub live: Option<Timestamp>,
    /// `status.lastSyncerHeartbeatTime`: what we wrote, or an agent patched.
    pub persisted: Option<Time>,
    /// Whether HeartbeatHealthy was True.
    pub was_healthy: bool,
    /// `spec.syncerConfig.heartbeatInterval`, more than zero.
    pub interval: Duration,
    /// Since when this process could have heard a beat: nobody is lost for what it missed before.
    pub listening_since: Timestamp,
    /// How often the time is written while nothing else changes; see [`persist_every`].
    pub persist_every: SignedDuration,
}

/// The judgement.
#[derive(Clone, Debug, PartialEq)]
pub struct Health {
    /// HeartbeatHealthy.
    pub condition: Condition,
    /// What `status.lastSyncerHeartbeatTime` should be.
    pub persist: Option<Time>,
    /// When to look again; `None` if only a beat can change anything.
    pub look_again: Option<Duration>,
}

/// Judges a heartbeat: healthy while the last one is at most three intervals old. Beats from further
/// in the future than clocks differ do not count.
pub fn assess(signs: &Signs, now: Timestamp) -> Health {
    let credible = |at: &Timestamp| is_credible(now, *at, DEFAULT_SKEW);
    let live = signs.live.filter(credible);
    let persisted = signs.persisted.filter(|at| credible(&at.timestamp()));
    let last = live.max(persisted.map(Time::timestamp));
    // After a restart everyone has a fresh grace, unless it was lost already.
    let graced = live.is_none() && signs.was_healthy;
    let counts_from = last.map(|at| {
        if graced {
            at.max(signs.listening_since)
        } else {
            at
        }
    });
    let expires = match health(now, counts_from, signs.interval, DEFAULT_SKEW) {
        Heard::Healthy { expires } => Some(expires),
        _ => None,
    };
    let due = match (last, persisted) {
        (None, _) => false,
        (Some(_), None) => true,
        (Some(last), Some(at)) => {
            expires.is_some() != signs.was_healthy
                || at.timestamp().duration_until(last) >= signs.persist_every
        }
    };
    Health {
        condition: condition(expires.is_some(), last),
        persist: if due { last.map(Time::new) } else { persisted },
        look_again: expires.map(|at| until_past(now, at)),
    }
}

fn condition(healthy: bool, last: Option<Timestamp>) -> Condition {
    let message = match last {
        _ if healthy => return Condition::yes(HEARTBEAT_HEALTHY),
        None => "No heartbeat yet seen".to_owned(),
        Some(last) => format!("No heartbeat since {}", Time::new(last)),
    };
    Condition::no(
        HEARTBEAT_HEALTHY,
        Severity::Warning,
        ERROR_HEARTBEAT,
        message,
    )
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(2_000_000_000 + seconds).unwrap()
    }

    fn signs() -> Signs {
        Signs {
            live: None,
            persisted: None,
            was_healthy: false,
            interval: Duration::from_secs(10),
            listening_since: at(-1000),
            persist_every: PERSIST_EVERY,
        }
    }

    #[test]
    fn the_times_of_many_members_are_written_twice_a_second_and_not_together() {
        let every = |members: usize| {
            let each = (0..members).map(|n| persist_every(members, &format!("uid-{n}")));
            each.map(|every| every.as_secs()).collect::<Vec<_>>()
        };
        assert!(every(100).iter().all(|every| (300..600).contains(every)));
        let many = every(10_000);
        let rate: f64 = many.iter().map(|every| 1.0 / *every as f64).sum();
        assert!((1.5..2.5).contains(&rate), "{rate} writes a second");
        // Of those that came at the same moment, in the busiest minute to come.
        let busiest =
            (0..200).map(|minute| many.iter().filter(|every| **every / 60 == minute).count());
        let busiest = busiest.max().unwrap();
        assert!(busiest < 240, "{busiest} in one minute");
    }

    #[rstest]
    #[case(Some(at(0)), None, true)]
    #[case(Some(at(-30)), None, true)]
    #[case(Some(at(-31)), None, false)]
    #[case(Some(at(5)), None, true)]
    #[case(Some(at(6)), None, false)]
    #[case(None, Some(at(-10)), true)]
    #[case(None, Some(at(-31)), false)]
    #[case(None, Some(at(3600)), false)]
    #[case(Some(at(-40)), Some(at(-5)), true)]
    #[case(None, None, false)]
    fn three_intervals_may_pass_and_a_beat_from_the_future_does_not_count(
        #[case] live: Option<Timestamp>,
        #[case] persisted: Option<Timestamp>,
        #[case] healthy: bool,
    ) {
        let signs = Signs {
            live,
            persisted: persisted.map(Time::new),
            ..signs()
        };
        let health = assess(&signs, at(0));
        assert_eq!(health.condition.is_true(), healthy);
        assert_eq!(
            health.look_again.is_some(),
            healthy,
            "looks again exactly while it can expire"
        );
    }

    #[test]
    fn a_clock_that_is_set_back_loses_nobody_who_beats() {
        let beats = Beats::new();
        let target = TargetId::new(&ClusterName::new("c"), "t", "u");
        let judge = |now: i64, persisted: Option<Time>| {
            let signs = Signs {
                live: beats.last(&target).map(|beat| beat.at),
                persisted,
                was_healthy: true,
                ..signs()
            };
            assess(&signs, at(now))
        };
        let mut persisted = None;
        for now in [3600, 0, 10] {
            let beat = Beat {
                at: at(now),
                identity: "r".into(),
                apis: None,
                totals: None,
                missing_rights: None,
                synced: SyncedTotals::default(),
            };
            beats.record(&target, beat);
            let health = judge(now, persisted);
            assert!(health.condition.is_true(), "at {now}");
            persisted = health.persist;
        }
        assert_eq!(
            persisted,
            Some(Time::new(at(0))),
            "nor does what was written"
        );
        assert!(judge(41, persisted).condition.is_false(), "it fell silent");
    }

    #[test]
    fn it_looks_again_just_when_the_beat_expires() {
        let signs = Signs {
            live: Some(at(-12)),
            ..signs()
        };
        let wait = assess(&signs, at(0)).look_again.unwrap();
        assert_eq!(wait, Duration::from_millis(18_001));
        let then = at(0) + SignedDuration::try_from(wait).unwrap();
        assert!(assess(&signs, then).condition.is_false());
        let before = then - SignedDuration::from_millis(1);
        assert!(assess(&signs, before).condition.is_true());
    }

    #[test]
    fn a_restart_gives_a_fresh_grace_to_the_living_only() {
        let restarted = Signs {
            persisted: Some(Time::new(at(-200))),
            listening_since: at(-20),
            ..signs()
        };
        let living = Signs {
            was_healthy: true,
            ..restarted.clone()
        };
        assert!(assess(&living, at(0)).condition.is_true());
        assert!(assess(&living, at(11)).condition.is_false());
        assert!(assess(&restarted, at(0)).condition.is_false());
    }

    #[test]
    fn the_time_is_written_on_transitions_and_every_five_minutes() {
        let first = Signs {
            live: Some(at(0)),
            ..signs()
        };
        assert_eq!(assess(&first, at(0)).persist, Some(Time::new(at(0))));
        let steady = |live| Signs {
            live: Some(at(live)),
            persisted: Some(Time::new(at(0))),
            was_healthy: true,
            ..signs()
        };
        assert_eq!(
            assess(&steady(100), at(100)).persist,
            Some(Time::new(at(0)))
        );
        assert_eq!(
            assess(&steady(300), at(300)).persist,
            Some(Time::new(at(300)))
        );
        // Lost: the last beat is written with the transition.
        let lost = assess(&steady(100), at(200));
        assert!(lost.condition.is_false());
        assert_eq!(lost.persist, Some(Time::new(at(100))));
        assert_eq!(
            lost.condition.message,
            "No heartbeat since 2033-05-18T03:35:00Z"
        );
    }
}
