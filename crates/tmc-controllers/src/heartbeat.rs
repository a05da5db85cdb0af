//! Liveness of targets: who beat last, and what follows from it.
//!
//! Beats live in memory and never rewrite a SyncTarget by themselves: at ten thousand targets that
//! would be a thousand writes a second, each sent to every watcher. What is written are transitions,
//! and the time of the last beat every few minutes, of many targets less often ([`persist_every`]).

pub mod taints;

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use parking_lot::{Mutex, RwLock};
use tmc_api::conditions::{Condition, Severity};
use tmc_api::quantities::{Quantity, ResourceList};
use tmc_api::time::Time;
use tmc_api::workload::NodeCounts;
use tmc_api::workload::condition::HEARTBEAT_HEALTHY;
use tmc_api::workload::heartbeat::{DEFAULT_SKEW, Health as Heard, health, is_credible};
use tmc_api::workload::reason::ERROR_HEARTBEAT;
use tmc_apimachinery::ClusterName;

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

/// The resources that a member serves, as group, version and plural resource.
pub type ServedApis = std::collections::BTreeSet<tmc_apimachinery::GroupVersionResource>;

/// Totals of a member's nodes and pods, as its agent reported them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeTotals {
    /// What they have.
    pub capacity: ResourceList,
    /// What pods may use of it.
    pub allocatable: ResourceList,
    /// How many there are.
    pub nodes: Option<NodeCounts>,
    /// What pods request of it; `None` if the agent did not see all of them.
    pub requested: Option<ResourceList>,
    /// How many pods have not ended, if it was told.
    pub pods: Option<u64>,
}

/// Most resources of a node that are kept: an agent is not trusted to stop by itself.
const MAX_RESOURCES: usize = 64;

impl NodeTotals {
    /// Reads the totals of a report; `None` if it has neither `capacity` nor `allocatable`. What is
    /// no amount, or negative, is left out.
    pub fn from_report(report: &serde_json::Value) -> Option<Self> {
        let list = |field: &str| -> Option<ResourceList> {
            let amounts = report
                .get(field)?
                .as_object()?
                .iter()
                .filter_map(|(name, amount)| {
                    let amount = Quantity::parse(amount.as_str()?).ok()?;
                    (name.len() <= 253 && amount.milli_value() >= 0).then(|| (name.clone(), amount))
                });
            Some(amounts.take(MAX_RESOURCES).collect())
        };
        let (capacity, allocatable) = (list("capacity"), list("allocatable"));
        (capacity.is_some() || allocatable.is_some()).then(|| Self {
            capacity: capacity.unwrap_or_default(),
            allocatable: allocatable.unwrap_or_default(),
            nodes: counts(report),
            requested: list("requested"),
            pods: report.get("pods").and_then(serde_json::Value::as_u64),
        })
    }

    /// Whether the nodes are others than before. What their pods request changes all the time and
    /// is no news.
    pub fn differs(&self, before: Option<&Self>) -> bool {
        before.is_none_or(|before| {
            self.capacity != before.capacity
                || self.allocatable != before.allocatable
                || self.nodes != before.nodes
        })
    }
}

/// `nodes` of a report: `{total, ready}`.
fn counts(report: &serde_json::Value) -> Option<NodeCounts> {
    let count = |field: &str| -> Option<u32> {
        report["nodes"][field]
            .as_u64()
            .and_then(|n| n.try_into().ok())
    };
    let total = count("total")?;
    let ready = count("ready")?.min(total);
    Some(NodeCounts { total, ready })
}

/// What an agent keeps in its member, as it reported it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SyncedTotals {
    /// How many objects.
    pub objects: Option<i64>,
    /// When it wrote something into the member last.
    pub last_sync: Option<Timestamp>,
}

impl SyncedTotals {
    /// Reads `synced` of a report that came in at `now`. What is no count, or a time from further in
    /// the future than clocks differ, is left out.
    pub fn from_report(report: &serde_json::Value, now: Timestamp) -> Self {
        let synced = &report["synced"];
        let count = synced["objects"].as_i64();
        let time = synced["lastSyncTime"].as_str();
        let time = time.and_then(|text| text.parse().ok());
        Self {
            objects: count.filter(|count| *count >= 0),
            last_sync: time.filter(|at| is_credible(now, *at, DEFAULT_SKEW)),
        }
    }

    /// These, and where they say nothing what was known before.
    #[must_use]
    pub fn or(self, before: Self) -> Self {
        Self {
            objects: self.objects.or(before.objects),
            last_sync: self.last_sync.or(before.last_sync),
        }
    }
}

/// The last sign of life of a target.
#[derive(Clone, Debug, PartialEq)]
pub struct Beat {
    /// When it came in, by this hub's clock.
    pub at: Timestamp,
    /// The replica that sent it.
    pub identity: String,
    /// What the member serves, as far as any beat has reported it.
    pub apis: Option<Arc<ServedApis>>,
    /// What its nodes have, likewise.
    pub totals: Option<Arc<NodeTotals>>,
    /// What its agent keeps in it, likewise. It changes all the time and is no news.
    pub synced: SyncedTotals,
}

/// Called with a target whose liveness or report changed.
pub type OnWake = Arc<dyn Fn(&TargetId) + Send + Sync>;

/// Where the controllers learn of beats.
pub trait LiveBeats: Send + Sync + 'static {
    /// The last beat of exactly this target.
    fn last(&self, target: &TargetId) -> Option<Beat>;
    /// Asks to be woken by the next beat of a target (it is missing now).
    fn wake_on_next(&self, target: &TargetId);
    /// Drops what is known of a target that does not exist any more.
    fn forget(&self, target: &TargetId);
    /// How many sessions of exactly this target's replicas are open now.
    fn sessions(&self, _: &TargetId) -> u32 {
        0
    }
    /// Sets who is woken.
    fn on_wake(&self, wake: OnWake);
}

/// Beats in memory.
#[derive(Default)]
pub struct Beats {
    last: Mutex<HashMap<TargetId, Known>>,
    /// Open sessions, of targets that have any.
    sessions: Mutex<HashMap<TargetId, u32>>,
    wake: RwLock<Option<OnWake>>,
}

#[derive(Default)]
struct Known {
    beat: Option<Beat>,
    /// The next beat is news. So is the first.
    quiet: bool,
    /// Last counter of the latest replicas, the newest last.
    counters: Vec<(String, u64)>,
}

/// Replicas of a target whose counters are remembered.
const REPLICAS: usize = 16;

impl Beats {
    /// No beats yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes a beat. The caller has checked the identity of its sender and that it is not from the
    /// future. A report that the beat lacks is taken over from the one before; a beat older than the
    /// last one changes nothing.
    pub fn record(&self, target: &TargetId, mut beat: Beat) {
        let news = {
            let mut last = self.last.lock();
            let known = last.entry(target.clone()).or_default();
            let before = known.beat.as_ref();
            if before.is_some_and(|before| before.at > beat.at) {
                return;
            }
            let apis_before = before.and_then(|before| before.apis.clone());
            let totals_before = before.and_then(|before| before.totals.clone());
            beat.apis = beat.apis.or_else(|| apis_before.clone());
            beat.totals = beat.totals.or_else(|| totals_before.clone());
            let synced_before = before.map(|before| before.synced);
            beat.synced = beat.synced.or(synced_before.unwrap_or_default());
            let totals = beat.totals.as_deref();
            let others = totals.is_some_and(|totals| totals.differs(totals_before.as_deref()));
            let news = !known.quiet || beat.apis != apis_before || others;
            known.quiet = true;
            known.beat = Some(beat);
            news
        };
        if news {
            self.wake(target);
        }
    }

    /// Notes the counter of a replica's beat, which must rise. The first beat of a replica is news.
    ///
    /// # Errors
    /// The last counter, if this one is not above it; then nothing is noted.
    pub fn advance(&self, target: &TargetId, identity: &str, sequence: u64) -> Result<(), u64> {
        let mut last = self.last.lock();
        let Known {
            counters, quiet, ..
        } = last.entry(target.clone()).or_default();
        let known = counters.iter().position(|(id, _)| id == identity);
        // It may have taken over from another one.
        *quiet &= known.is_some();
        match known.and_then(|at| counters.get(at)) {
            Some((_, last)) if sequence <= *last => return Err(*last),
            _ => {}
        }
        if let Some(at) = known.or((counters.len() >= REPLICAS).then_some(0)) {
            counters.remove(at);
        }
        counters.push((identity.to_owned(), sequence));
        Ok(())
    }

    /// A replica begins a session, and counts anew in it.
    pub fn greet(&self, target: &TargetId, identity: &str) {
        if let Some(known) = self.last.lock().get_mut(target) {
            known.counters.retain(|(id, _)| id != identity);
        }
    }

    /// Notes how many sessions of a target are open.
    pub fn set_sessions(&self, target: &TargetId, open: u32) {
        let before = {
            let mut sessions = self.sessions.lock();
            if open == 0 {
                sessions.remove(target)
            } else {
                sessions.insert(target.clone(), open)
            }
        };
        if before.unwrap_or(0) != open {
            self.wake(target);
        }
    }

    /// Whether nothing is known of any target.
    pub fn is_empty(&self) -> bool {
        self.last.lock().is_empty() && self.sessions.lock().is_empty()
    }

    fn wake(&self, target: &TargetId) {
        let wake = self.wake.read().clone();
        if let Some(wake) = wake {
            wake(target);
        }
    }
}

impl LiveBeats for Beats {
    fn last(&self, target: &TargetId) -> Option<Beat> {
        self.last
            .lock()
            .get(target)
            .and_then(|known| known.beat.clone())
    }

    fn wake_on_next(&self, target: &TargetId) {
        if let Some(known) = self.last.lock().get_mut(target) {
            known.quiet = false;
        }
    }

    fn forget(&self, target: &TargetId) {
        self.last.lock().remove(target);
    }

    fn sessions(&self, target: &TargetId) -> u32 {
        self.sessions.lock().get(target).copied().unwrap_or(0)
    }

    fn on_wake(&self, wake: OnWake) {
        *self.wake.write() = Some(wake);
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

/// How long until something that counts to its end no longer does: one tick past it.
pub(crate) fn until_past(now: Timestamp, end: Timestamp) -> Duration {
    now.duration_until(end).unsigned_abs() + Duration::from_millis(1)
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
    use serde_json::json;

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

    #[test]
    fn totals_are_read_from_a_report_without_what_makes_no_sense() {
        let report = serde_json::json!({
            "capacity": {"cpu": "4", "memory": "-1", "odd": "many", "gpu": 2},
            "nodes": {"total": 3, "ready": 9},
        });
        let totals = NodeTotals::from_report(&report).unwrap();
        assert_eq!(totals.capacity.keys().collect::<Vec<_>>(), ["cpu"]);
        assert!(totals.allocatable.is_empty());
        assert_eq!(totals.nodes, Some(NodeCounts { total: 3, ready: 3 }));
        for nodes in [
            serde_json::json!(3),
            serde_json::json!({"total": -1, "ready": 0}),
        ] {
            assert_eq!(counts(&serde_json::json!({"nodes": nodes})), None);
        }
        assert_eq!((totals.requested, totals.pods), (None, None));
        let report =
            serde_json::json!({"allocatable": {}, "requested": {"cpu": "1500m"}, "pods": 7});
        let totals = NodeTotals::from_report(&report).unwrap();
        assert_eq!(totals.requested.unwrap()["cpu"].milli_value(), 1500);
        assert_eq!(totals.pods, Some(7));
        assert_eq!(
            NodeTotals::from_report(&serde_json::json!({"apis": []})),
            None
        );
    }

    #[rstest]
    #[case::both(json!({"objects": 3, "lastSyncTime": "2033-05-18T03:33:20.5Z"}), Some(3), true)]
    #[case::none(json!(null), None, false)]
    #[case::nothing_written(json!({"objects": 0}), Some(0), false)]
    #[case::no_count(json!({"objects": "many", "lastSyncTime": "2033-05-18T03:33:20.5Z"}), None, true)]
    #[case::negative(json!({"objects": -1}), None, false)]
    #[case::beyond_any_count(json!({"objects": u64::MAX}), None, false)]
    #[case::no_time(json!({"objects": 3, "lastSyncTime": "yesterday"}), Some(3), false)]
    #[case::future(json!({"lastSyncTime": "2033-05-18T03:34:00Z"}), None, false)]
    #[case::another_form(json!([3]), None, false)]
    fn of_what_is_synced_only_what_makes_sense_is_read(
        #[case] synced: serde_json::Value,
        #[case] objects: Option<i64>,
        #[case] dated: bool,
    ) {
        let read = SyncedTotals::from_report(&json!({"synced": synced}), at(1));
        assert_eq!(read.objects, objects);
        let half_past = at(0) + SignedDuration::from_millis(500);
        assert_eq!(read.last_sync, dated.then_some(half_past));
    }

    #[test]
    fn sessions_are_counted_by_exact_target_and_only_a_change_is_news() {
        let beats = Beats::new();
        let woken = Arc::new(Mutex::new(0));
        let count = Arc::clone(&woken);
        beats.on_wake(Arc::new(move |_| *count.lock() += 1));
        let target = TargetId::new(&ClusterName::new("c"), "t", "u");
        for open in [1, 1, 2, 0, 0] {
            beats.set_sessions(&target, open);
            assert_eq!(beats.sessions(&target), open);
        }
        assert_eq!(*woken.lock(), 3);
        beats.set_sessions(&target, 1);
        assert_eq!(
            beats.sessions(&TargetId::new(&ClusterName::new("c"), "t", "v")),
            0
        );
    }

    #[test]
    fn only_news_wakes_anybody() {
        let beats = Beats::new();
        let woken = Arc::new(Mutex::new(0));
        let count = Arc::clone(&woken);
        beats.on_wake(Arc::new(move |_| *count.lock() += 1));
        let target = TargetId::new(&ClusterName::new("c"), "t", "u");
        let beat = |seconds, apis: Option<ServedApis>| Beat {
            at: at(seconds),
            identity: "r".into(),
            apis: apis.map(Arc::new),
            totals: None,
            synced: SyncedTotals::default(),
        };
        beats.record(&target, beat(0, None));
        assert_eq!(*woken.lock(), 1, "the first");
        beats.record(&target, beat(10, None));
        assert_eq!(*woken.lock(), 1, "one more is no news");
        beats.record(&target, beat(20, Some(ServedApis::new())));
        assert_eq!(*woken.lock(), 2, "a new report");
        beats.record(&target, beat(30, None));
        assert_eq!(*woken.lock(), 2);
        assert!(
            beats.last(&target).unwrap().apis.is_some(),
            "the report is kept"
        );
        beats.wake_on_next(&target);
        beats.record(&target, beat(25, None));
        assert_eq!(
            beats.last(&target).unwrap().at,
            at(30),
            "an old beat changes nothing"
        );
        beats.record(&target, beat(40, None));
        assert_eq!(*woken.lock(), 3, "the one waited for");
        let busy = |pods| Beat {
            totals: Some(Arc::new(NodeTotals {
                pods: Some(pods),
                ..NodeTotals::default()
            })),
            ..beat(50, None)
        };
        beats.record(&target, busy(1));
        assert_eq!(*woken.lock(), 4, "the first totals");
        beats.record(&target, busy(2));
        assert_eq!(*woken.lock(), 4, "pods come and go");
        assert_eq!(beats.last(&target).unwrap().totals.unwrap().pods, Some(2));
        let keeps = |objects| Beat {
            synced: SyncedTotals {
                objects,
                last_sync: objects.map(at),
            },
            ..beat(60, None)
        };
        beats.record(&target, keeps(Some(1)));
        beats.record(&target, keeps(Some(2)));
        beats.record(&target, keeps(None));
        assert_eq!(*woken.lock(), 4, "so does what is synced");
        assert_eq!(
            beats.last(&target).unwrap().synced,
            keeps(Some(2)).synced,
            "what a beat lacks is as it was"
        );
        let other = TargetId {
            uid: "v".into(),
            ..target.clone()
        };
        assert_eq!(beats.last(&other), None, "another uid is another target");
        beats.forget(&target);
        assert_eq!(beats.last(&target), None);
    }

    #[test]
    fn the_first_beat_of_a_replica_that_takes_over_is_news() {
        let beats = Beats::new();
        let woken = Arc::new(Mutex::new(0));
        let count = Arc::clone(&woken);
        beats.on_wake(Arc::new(move |_| *count.lock() += 1));
        let target = TargetId::new(&ClusterName::new("c"), "t", "u");
        let beat = |identity: &str, sequence: u64| {
            beats.advance(&target, identity, sequence).unwrap();
            let beat = Beat {
                at: at(0),
                identity: identity.into(),
                apis: None,
                totals: None,
                synced: SyncedTotals::default(),
            };
            beats.record(&target, beat);
            *woken.lock()
        };
        assert_eq!((beat("a", 1), beat("a", 2)), (1, 1));
        assert_eq!((beat("b", 1), beat("b", 2)), (2, 2));
        assert_eq!(beat("a", 3), 2, "nor are two that beat in turn, ever again");
    }

    #[test]
    fn a_counter_rises_by_replica_and_only_the_latest_replicas_are_remembered() {
        let beats = Beats::new();
        let target = TargetId::new(&ClusterName::new("c"), "t", "u");
        assert_eq!(beats.advance(&target, "a", 5), Ok(()));
        assert_eq!(beats.advance(&target, "a", 5), Err(5));
        assert_eq!(beats.advance(&target, "b", 1), Ok(()));
        beats.greet(&target, "a");
        assert_eq!(beats.advance(&target, "a", 1), Ok(()));
        for n in 0..100 {
            assert_eq!(beats.advance(&target, &format!("r{n}"), 1), Ok(()));
        }
        assert_eq!(beats.last.lock()[&target].counters.len(), REPLICAS);
        beats.forget(&target);
        assert!(beats.last.lock().is_empty());
    }
}
