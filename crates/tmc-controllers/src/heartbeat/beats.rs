//! Beats in memory: who beat last, and what was reported.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use parking_lot::{Mutex, RwLock};
use tmc_api::syncer::MissingRights;

use super::TargetId;
use super::report::{NodeTotals, ServedApis, SyncedTotals};

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
    /// What its agent may not do in it although it would have to, likewise.
    pub missing_rights: Option<MissingRights>,
    /// What its agent keeps in it, likewise. It changes all the time and is no news.
    pub synced: SyncedTotals,
}

impl Beat {
    /// Takes over what this beat does not report.
    pub fn fill(&mut self, before: &Self) {
        self.apis = self.apis.take().or_else(|| before.apis.clone());
        self.totals = self.totals.take().or_else(|| before.totals.clone());
        let rights = self.missing_rights.take();
        self.missing_rights = rights.or_else(|| before.missing_rights.clone());
        self.synced = self.synced.or(before.synced);
    }

    /// Whether the controllers have something to do that they had not before.
    fn differs(&self, before: &Self) -> bool {
        let totals = self.totals.as_deref();
        let others = totals.is_some_and(|totals| totals.differs(before.totals.as_deref()));
        others || self.apis != before.apis || self.missing_rights != before.missing_rights
    }
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

    /// Notes a beat that has just come in. The caller has checked the identity and the counter of its
    /// sender. It is the newest whatever the clock says: that may have been set back since the one
    /// before. A report that the beat lacks is taken over from that one.
    pub fn record(&self, target: &TargetId, mut beat: Beat) {
        let news = {
            let mut last = self.last.lock();
            let known = last.entry(target.clone()).or_default();
            let mut news = !known.quiet;
            if let Some(before) = &known.beat {
                beat.fill(before);
                news |= beat.differs(before);
            }
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

#[cfg(test)]
mod tests {
    use tmc_apimachinery::ClusterName;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(2_000_000_000 + seconds).unwrap()
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
            missing_rights: None,
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
        assert_eq!(*woken.lock(), 3, "the one waited for");
        assert_eq!(
            beats.last(&target).unwrap().at,
            at(25),
            "the clock was set back"
        );
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
    fn other_rights_that_are_missing_are_news_and_silence_about_them_is_none() {
        let beats = Beats::new();
        let woken = Arc::new(Mutex::new(0));
        let count = Arc::clone(&woken);
        beats.on_wake(Arc::new(move |_| *count.lock() += 1));
        let target = TargetId::new(&ClusterName::new("c"), "t", "u");
        let rights = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            Some(MissingRights::try_from(names).unwrap())
        };
        let history = [
            (None, 1, "the first beat"),
            (rights(&["get pods"]), 2, "something is missing"),
            (rights(&["get pods"]), 2, "and still is"),
            (None, 2, "a beat that says nothing"),
            (rights(&["get pods", "get nodes"]), 3, "more is missing"),
            (rights(&[]), 4, "nothing is missing any more"),
            (None, 4, "nothing new"),
        ];
        let mut known = None;
        for (missing_rights, news, what) in history {
            known = missing_rights.clone().or(known);
            let beat = Beat {
                at: at(0),
                identity: "r".into(),
                apis: None,
                totals: None,
                missing_rights,
                synced: SyncedTotals::default(),
            };
            beats.record(&target, beat);
            assert_eq!(*woken.lock(), news, "{what}");
            assert_eq!(beats.last(&target).unwrap().missing_rights, known, "{what}");
        }
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
                missing_rights: None,
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
