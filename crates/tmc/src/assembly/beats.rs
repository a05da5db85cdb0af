//! Heartbeats, in memory: who beat last, when, and what it reported.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::RwLock;
use serde_json::Value;
use tmc_apimachinery::status::{ApiError, Cause, Result};
use tmc_virtual::syncer::{Beat, BeatSink, TargetId};

/// Default time between beats.
const INTERVAL: Duration = Duration::from_secs(10);

/// The last beat of a target.
#[derive(Clone, Debug)]
pub struct LastBeat {
    /// When it arrived.
    pub received: Timestamp,
    /// The agent replica.
    pub identity: String,
    sequence: u64,
    /// The newest report that came with a beat.
    pub report: Option<Arc<Value>>,
}

/// Called after each beat, with whether it brought something new (a first beat, or a report that
/// differs from the one before).
pub type Listener = Box<dyn Fn(&TargetId, bool) + Send + Sync>;

/// All beats of this process.
#[derive(Default)]
pub struct Beats {
    last: RwLock<HashMap<TargetId, LastBeat>>,
    listeners: RwLock<Vec<Listener>>,
}

impl Beats {
    /// The last beat of a target.
    pub fn last(&self, target: &TargetId) -> Option<LastBeat> {
        self.last.read().get(target).cloned()
    }

    /// Adds a listener.
    pub fn on_beat(&self, listener: Listener) {
        self.listeners.write().push(listener);
    }

    fn record(&self, target: &TargetId, beat: Beat) -> Result<bool> {
        let mut all = self.last.write();
        let before = all.get(target);
        if let Some(before) = before
            && before.identity == beat.identity
            && beat.sequence <= before.sequence
        {
            let why = format!("it must rise: the last one of {} was {}", beat.identity, before.sequence);
            let cause = Cause::invalid("sequence", &beat.sequence.into(), why);
            return Err(ApiError::invalid("syncer.kcp.io", "SyncerHeartbeat", "", vec![cause]));
        }
        let known = before.and_then(|before| before.report.clone());
        let news = match (&beat.report, &known) {
            (Some(new), Some(old)) => !same_report(new, old),
            (Some(_), None) => true,
            (None, _) => before.is_none(),
        };
        let report = beat.report.map(Arc::new).or(known);
        let last = LastBeat {
            received: beat.received,
            identity: beat.identity,
            sequence: beat.sequence,
            report,
        };
        all.insert(target.clone(), last);
        Ok(news)
    }
}

/// Whether two reports say the same of the member; when it was looked at does not count.
fn same_report(a: &Value, b: &Value) -> bool {
    ["apis", "capacity", "allocatable", "nodes"].iter().all(|key| a.get(key) == b.get(key))
}

impl BeatSink for Beats {
    fn beat(&self, target: &TargetId, beat: Beat) -> Result<Duration> {
        let news = self.record(target, beat)?;
        for listener in self.listeners.read().iter() {
            listener(target, news);
        }
        Ok(INTERVAL)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tmc_apimachinery::ClusterName;

    use super::*;

    fn target() -> TargetId {
        TargetId { cluster: ClusterName::new("root"), name: "one".into(), uid: "u".into() }
    }

    fn beat(identity: &str, sequence: u64, report: Option<Value>) -> Beat {
        Beat { received: Timestamp::UNIX_EPOCH, identity: identity.into(), sequence, report }
    }

    #[test]
    fn only_a_first_beat_and_a_changed_report_are_news() {
        let beats = Beats::default();
        let send = |n, report| beats.record(&target(), beat("a", n, report)).expect("taken");
        assert!(send(1, None));
        assert!(!send(2, None));
        assert!(send(3, Some(json!({"nodes": 1, "observedAt": "x"}))));
        assert!(!send(4, Some(json!({"nodes": 1, "observedAt": "y"}))));
        assert!(send(5, Some(json!({"nodes": 2}))));
        assert_eq!(beats.last(&target()).and_then(|b| b.report).expect("kept")["nodes"], 2);
    }

    #[test]
    fn a_replayed_beat_is_refused_but_a_new_replica_starts_over() {
        let beats = Beats::default();
        beats.record(&target(), beat("a", 5, None)).expect("first");
        assert_eq!(beats.record(&target(), beat("a", 5, None)).expect_err("replay").code, 422);
        beats.record(&target(), beat("b", 1, None)).expect("another replica");
    }
}
