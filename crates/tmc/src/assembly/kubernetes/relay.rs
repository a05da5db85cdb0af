//! Beats across replicas: what this one hears is written into Leases while another one leads, and
//! what the others have written is read while this one does.
//!
//! The embedded hub does without: it is its only replica, and a restart gives every target a fresh
//! grace anyway. There the Leases would be a stream of durable writes that nobody reads.

mod leases;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use parking_lot::{Mutex, RwLock};
use serde_json::Value;
use tmc_api::hashes::sync_target_key;
use tmc_api::syncer::MissingRights;
use tmc_apimachinery::status::Result;
use tmc_controllers::beat_leases::{BeatList, Heard, KEPT, Lists, MAX_BYTES, Reading};
use tmc_controllers::heartbeat::{
    self, Beat, LiveBeats, NodeTotals, OnWake, ServedApis, SyncedTotals, TargetId, missing_rights,
};
use tmc_virtual::syncer::BeatSink;

use super::reports::{Outbox, report_of};
use crate::assembly::beats::{controllers_id, served};

pub use leases::Leases;

/// From how many targets on it is looked for those that nobody hears any more.
const ROOM: usize = 1024;

/// Beats of this replica and of the others.
pub struct Relay {
    local: Arc<heartbeat::Beats>,
    mine: Mutex<Lists>,
    reports: Mutex<Outbox>,
    others: Mutex<Others>,
    leading: AtomicBool,
    wake: RwLock<Option<OnWake>>,
}

/// What the other replicas heard.
#[derive(Default)]
struct Others {
    last: HashMap<Heard, Timestamp>,
    /// The targets by what stands for them in the lists, as far as anybody has asked for them.
    names: HashMap<Heard, TargetId>,
    /// Targets whose next beat is no news.
    quiet: HashSet<Heard>,
    /// What their agents reported.
    reports: HashMap<Heard, Report>,
    /// What is known of each Lease, by its name.
    leases: HashMap<String, Reading>,
    room: usize,
}

/// A report, as far as the controllers read it.
#[derive(Clone, Debug, Default, PartialEq)]
struct Report {
    apis: Option<Arc<ServedApis>>,
    totals: Option<Arc<NodeTotals>>,
    missing_rights: Option<MissingRights>,
    synced: SyncedTotals,
}

impl Report {
    fn read(text: &str, now: Timestamp) -> Option<Self> {
        let report: Value = serde_json::from_str(text).ok()?;
        Some(Self {
            apis: served(&report),
            totals: NodeTotals::from_report(&report).map(Arc::new),
            missing_rights: missing_rights(&report),
            synced: SyncedTotals::from_report(&report, now),
        })
    }

    /// Whether the controllers have something to do that they had not before. What is kept in the
    /// member, and what its pods request, changes all the time.
    fn is_news(&self, before: Option<&Self>) -> bool {
        before.is_none_or(|before| {
            let totals = self.totals.as_deref();
            let others = totals.is_some_and(|totals| totals.differs(before.totals.as_deref()));
            others || self.apis != before.apis || self.missing_rights != before.missing_rights
        })
    }
}

fn heard(target: &TargetId) -> Heard {
    Heard {
        key: sync_target_key(target.cluster.as_str(), &target.name),
        uid: target.uid.clone(),
    }
}

/// The later of two times at which a target was heard, by this replica's clock. Nothing was heard
/// after now: what seems so was noted before the clock was set back, and says less than the other.
fn later(one: Timestamp, other: Timestamp, now: Timestamp) -> Timestamp {
    if (one > now) == (other > now) {
        one.max(other)
    } else {
        one.min(other)
    }
}

impl Others {
    /// Takes a list in; the targets that are to be looked at.
    fn read(&mut self, lease: &str, list: &BeatList, now: Timestamp) -> Vec<TargetId> {
        let news = self
            .leases
            .entry(lease.to_owned())
            .or_default()
            .news(list, now);
        let mut woken = Vec::new();
        for (heard, at) in news {
            let last = self.last.entry(heard.clone()).or_insert(at);
            *last = later(at, *last, now);
            if let Some(target) = self.names.get(&heard)
                && self.quiet.insert(heard)
            {
                woken.push(target.clone());
            }
        }
        if self.last.len() > self.room {
            let kept = SignedDuration::try_from(KEPT).unwrap_or(SignedDuration::MAX);
            self.last.retain(|_, at| now.duration_since(*at) <= kept);
            self.room = ROOM.max(2 * self.last.len());
        }
        woken
    }

    /// Takes a report in; the target to be looked at, if it is news of one that is known.
    fn report(&mut self, heard: Heard, report: Report) -> Option<TargetId> {
        let news = report.is_news(self.reports.get(&heard));
        let target = self.names.get(&heard).filter(|_| news).cloned();
        self.reports.insert(heard, report);
        target
    }
}

impl Relay {
    /// Over the beats that this replica hears itself.
    pub fn new(local: Arc<heartbeat::Beats>) -> Self {
        Self {
            local,
            mine: Mutex::default(),
            reports: Mutex::default(),
            others: Mutex::default(),
            leading: AtomicBool::new(false),
            wake: RwLock::default(),
        }
    }

    /// Says whether this replica leads: then it need not tell itself.
    pub fn set_leading(&self, leading: bool) {
        self.leading.store(leading, Ordering::SeqCst);
        if !leading {
            self.mine.lock().all_due();
        }
    }

    fn read_report(&self, of: &str, text: &str) {
        let report = Report::read(text, Timestamp::now()).filter(|_| text.len() <= MAX_BYTES);
        let (Some(heard), Some(report)) = (report_of(of), report) else {
            tracing::warn!(of, "a report of another replica is not understood");
            return;
        };
        let target = self.others.lock().report(heard, report);
        let wake = self.wake.read().clone();
        if let (Some(target), Some(wake)) = (target, wake) {
            wake(&target);
        }
    }

    fn read(&self, lease: &str, text: &str) {
        let list = match BeatList::decode(text) {
            Ok(list) => list,
            Err(error) => {
                tracing::warn!(lease, %error, "beats of another replica are not understood");
                return;
            }
        };
        let woken = self.others.lock().read(lease, &list, Timestamp::now());
        let wake = self.wake.read().clone();
        for target in woken {
            if let Some(wake) = &wake {
                wake(&target);
            }
        }
    }
}

impl LiveBeats for Relay {
    fn last(&self, target: &TargetId) -> Option<Beat> {
        let heard = heard(target);
        let elsewhere = {
            let mut others = self.others.lock();
            others
                .names
                .entry(heard.clone())
                .or_insert_with(|| target.clone());
            let report = others.reports.get(&heard).cloned().unwrap_or_default();
            others.last.get(&heard).map(|at| Beat {
                at: *at,
                identity: String::new(),
                apis: report.apis,
                totals: report.totals,
                missing_rights: report.missing_rights,
                synced: report.synced,
            })
        };
        let (mut last, before) = match (self.local.last(target), elsewhere) {
            (Some(own), Some(other)) if later(own.at, other.at, Timestamp::now()) != own.at => {
                (other, Some(own))
            }
            (Some(own), other) => (own, other),
            (None, other) => (other?, None),
        };
        // Who beats last may not have reported yet.
        if let Some(before) = before {
            last.fill(&before);
        }
        Some(last)
    }

    fn wake_on_next(&self, target: &TargetId) {
        self.local.wake_on_next(target);
        self.others.lock().quiet.remove(&heard(target));
    }

    fn forget(&self, target: &TargetId) {
        self.local.forget(target);
        let heard = heard(target);
        let mut others = self.others.lock();
        others.last.remove(&heard);
        others.names.remove(&heard);
        others.reports.remove(&heard);
        others.quiet.remove(&heard);
    }

    /// Of this replica: the lists say when a target was heard, not by how many ways.
    fn sessions(&self, target: &TargetId) -> u32 {
        self.local.sessions(target)
    }

    fn on_wake(&self, wake: OnWake) {
        self.local.on_wake(wake.clone());
        *self.wake.write() = Some(wake);
    }
}

/// Where the virtual workspace brings its beats: to the controllers of this process, and into the
/// lists for those of another.
pub struct Relayed {
    /// Who checks and takes them.
    pub sink: Arc<dyn BeatSink>,
    /// Who passes them on.
    pub relay: Arc<Relay>,
}

impl BeatSink for Relayed {
    fn beat(
        &self,
        target: &tmc_virtual::syncer::TargetId,
        beat: tmc_virtual::syncer::Beat,
    ) -> Result<Duration> {
        let (at, report) = (beat.received, beat.report.clone());
        let next = self.sink.beat(target, beat)?;
        let heard = heard(&controllers_id(target));
        if let Some(report) = report {
            self.relay.reports.lock().note(&heard, &report, at);
        }
        self.relay.mine.lock().note(heard, at);
        Ok(next)
    }

    fn hello(&self, target: &tmc_virtual::syncer::TargetId, identity: &str) {
        self.sink.hello(target, identity);
    }

    fn sessions(&self, target: &tmc_virtual::syncer::TargetId, open: u32) {
        self.sink.sessions(target, open);
    }
}

#[cfg(test)]
mod tests {
    use tmc_apimachinery::{ClusterName, GroupVersionResource};

    use super::*;

    fn target() -> TargetId {
        TargetId::new(&ClusterName::new("root"), "east", "u1")
    }

    fn list(written: Timestamp, age: u64) -> String {
        let list = BeatList {
            written: written.as_millisecond(),
            ages: [(heard(&target()), age)].into(),
        };
        list.encode().expect("small")
    }

    #[test]
    fn a_beat_that_another_replica_heard_counts_as_one_of_our_own() {
        let relay = Relay::new(Arc::default());
        assert_eq!(relay.last(&target()), None);
        relay.read("tmc-beats-b-0", &list(Timestamp::now(), 100));
        let seen = relay.last(&target()).expect("heard elsewhere").at;
        assert!(Timestamp::now().duration_since(seen) < SignedDuration::from_secs(5));
        let other = TargetId::new(&ClusterName::new("root"), "east", "u2");
        assert_eq!(relay.last(&other), None, "another uid is another target");
        let own = Beat {
            at: Timestamp::now(),
            identity: "r".into(),
            apis: Some(Arc::default()),
            totals: None,
            missing_rights: None,
            synced: SyncedTotals::default(),
        };
        relay.local.record(&target(), own.clone());
        assert_eq!(relay.last(&target()), Some(own), "the later one counts");
        relay.forget(&target());
        assert_eq!(relay.last(&target()), None);
    }

    #[test]
    fn after_the_clock_was_set_back_the_beat_that_came_last_counts() {
        let mut others = Others::default();
        others.names.insert(heard(&target()), target());
        let at = |seconds| Timestamp::UNIX_EPOCH + SignedDuration::from_secs(10_000 + seconds);
        let mut read = |lease: &str, now: i64, age: u64| {
            let list = BeatList::decode(&list(at(now), age)).expect("a list");
            others.read(lease, &list, at(now));
            others.last[&heard(&target())]
        };
        assert_eq!(read("a", 3600, 0), at(3600));
        assert_eq!(read("a", 0, 0), at(0));
        assert_eq!(read("a", 10, 0), at(10));
        assert_eq!(
            read("b", 11, 8_000),
            at(10),
            "an older one, by another replica"
        );
    }

    #[test]
    fn a_beat_of_our_own_from_before_the_clock_was_set_back_hides_none_from_elsewhere() {
        let relay = Relay::new(Arc::default());
        let hour = SignedDuration::from_hours(1);
        let ahead = Beat {
            at: Timestamp::now() + hour,
            identity: "r".into(),
            apis: Some(Arc::default()),
            totals: None,
            missing_rights: None,
            synced: SyncedTotals::default(),
        };
        relay.local.record(&target(), ahead);
        relay.read("tmc-beats-b-0", &list(Timestamp::now(), 0));
        let last = relay.last(&target()).expect("heard");
        assert!(last.at <= Timestamp::now());
        assert!(last.apis.is_some(), "what was reported is kept");
    }

    #[test]
    fn the_first_beat_from_elsewhere_and_the_one_waited_for_wake_the_controllers() {
        let relay = Relay::new(Arc::default());
        let woken = Arc::new(Mutex::new(0));
        let count = woken.clone();
        relay.on_wake(Arc::new(move |_| *count.lock() += 1));
        let start = Timestamp::now();
        let at = |seconds| start + SignedDuration::from_secs(seconds);
        relay.last(&target());
        relay.read("l", &list(at(0), 0));
        assert_eq!(*woken.lock(), 1);
        relay.read("l", &list(at(10), 0));
        relay.read("l", &list(at(12), 2000));
        assert_eq!(*woken.lock(), 1, "one more is no news");
        relay.wake_on_next(&target());
        relay.read("l", &list(at(14), 4000));
        assert_eq!(*woken.lock(), 1, "the same beat again is none");
        relay.read("l", &list(at(20), 0));
        assert_eq!(*woken.lock(), 2);
    }

    #[test]
    fn a_report_that_another_replica_heard_is_known_and_news_wakes_the_controllers() {
        let relay = Relay::new(Arc::default());
        let woken = Arc::new(Mutex::new(0));
        let count = woken.clone();
        relay.on_wake(Arc::new(move |_| *count.lock() += 1));
        relay.last(&target());
        let of = format!("{}:u1", heard(&target()).key);
        let text = r#"{"apis":[{"group":"apps","versions":["v1"],"resources":["deployments"]}]}"#;
        relay.read_report(&of, text);
        relay.read_report(&of, text);
        let busy = r#"{"apis":[{"group":"apps","versions":["v1"],"resources":["deployments"]}],"synced":{"objects":4}}"#;
        relay.read_report(&of, busy);
        assert_eq!(
            *woken.lock(),
            1,
            "nor is what the agent keeps in its member"
        );
        assert_eq!(relay.last(&target()), None, "a report is no sign of life");
        relay.read("l", &list(Timestamp::now(), 0));
        let last = relay.last(&target()).expect("a beat");
        let deployments = GroupVersionResource::new("apps", "v1", "deployments");
        assert!(last.apis.expect("reported").contains(&deployments));
        assert_eq!(last.synced.objects, Some(4));
        relay.local.record(
            &target(),
            Beat {
                at: Timestamp::now(),
                identity: "r".into(),
                apis: None,
                totals: None,
                missing_rights: None,
                synced: SyncedTotals::default(),
            },
        );
        assert!(
            relay.last(&target()).expect("own").apis.is_some(),
            "the report is kept"
        );
        relay.read_report(&of, "no report");
        assert!(relay.last(&target()).expect("own").apis.is_some());
    }

    #[test]
    fn rights_that_are_missing_are_told_to_the_replica_that_leads_and_are_news() {
        let relay = Relay::new(Arc::default());
        let woken = Arc::new(Mutex::new(0));
        let count = woken.clone();
        relay.on_wake(Arc::new(move |_| *count.lock() += 1));
        relay.read("l", &list(Timestamp::now(), 0));
        relay.last(&target());
        let of = format!("{}:u1", heard(&target()).key);
        let known = || relay.last(&target()).expect("a beat").missing_rights;
        for (text, names, news) in [
            (r#"{"apis":[]}"#, None, 1),
            (r#"{"apis":[],"missingRights":["get pods"]}"#, Some(1), 2),
            (r#"{"apis":[],"missingRights":["get pods"]}"#, Some(1), 2),
            (r#"{"apis":[],"missingRights":[]}"#, Some(0), 3),
        ] {
            relay.read_report(&of, text);
            let missing = known().map(|rights| usize::from(!rights.is_empty()));
            assert_eq!((missing, *woken.lock()), (names, news), "{text}");
        }
    }
}
