//! From a heartbeat on the wire to what the controllers know of a target's liveness.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::Value;
use tmc_apimachinery::GroupVersionResource;
use tmc_apimachinery::status::{ApiError, Cause, Result};
use tmc_controllers::heartbeat::{self, NodeTotals, ServedApis};
use tmc_virtual::syncer::{Beat, BeatSink, TargetId};

/// Time between beats that agents are asked to keep.
const INTERVAL: Duration = Duration::from_secs(10);

/// Takes beats from the virtual workspace. Refuses replays; hands the rest to the controllers.
#[derive(Default)]
pub struct Beats {
    /// What the controllers read.
    pub live: Arc<heartbeat::Beats>,
    /// Last counter of the latest replicas of each target, the newest last.
    sequences: Mutex<HashMap<TargetId, Vec<(String, u64)>>>,
}

/// Replicas of a target whose counters are remembered.
const REPLICAS: usize = 16;

impl Beats {
    fn check_sequence(&self, target: &TargetId, beat: &Beat) -> Result<()> {
        let mut sequences = self.sequences.lock();
        let replicas = sequences.entry(target.clone()).or_default();
        let known = replicas.iter().position(|(id, _)| *id == beat.identity);
        if let Some((identity, last)) = known.and_then(|at| replicas.get(at))
            && beat.sequence <= *last
        {
            let why = format!("it must rise: the last one of {identity} was {last}");
            let cause = Cause::invalid("sequence", &beat.sequence.into(), why);
            return Err(ApiError::invalid(
                "syncer.kcp.io",
                "SyncerHeartbeat",
                "",
                vec![cause],
            ));
        }
        if let Some(at) = known.or((replicas.len() >= REPLICAS).then_some(0)) {
            replicas.remove(at);
        }
        replicas.push((beat.identity.clone(), beat.sequence));
        Ok(())
    }
}

/// The resources in a report's `apis[]`; what is not understood is left out.
pub fn served(report: &Value) -> Option<Arc<ServedApis>> {
    let texts = |value: &Value| -> Vec<String> {
        let list = value.as_array().into_iter().flatten();
        list.filter_map(|v| v.as_str().map(str::to_owned)).collect()
    };
    let mut all = ServedApis::new();
    for api in report["apis"].as_array()? {
        let group = api["group"].as_str().unwrap_or_default();
        for version in texts(&api["versions"]) {
            let resources = texts(&api["resources"]);
            all.extend(
                resources
                    .iter()
                    .map(|r| GroupVersionResource::new(group, &version, r)),
            );
        }
    }
    Some(Arc::new(all))
}

/// The controllers' name for a target.
pub fn controllers_id(target: &TargetId) -> heartbeat::TargetId {
    heartbeat::TargetId::new(&target.cluster, &target.name, &target.uid)
}

impl BeatSink for Beats {
    fn beat(&self, target: &TargetId, beat: Beat) -> Result<Duration> {
        self.check_sequence(target, &beat)?;
        let beat = heartbeat::Beat {
            at: beat.received,
            identity: beat.identity,
            apis: beat.report.as_ref().and_then(served),
            totals: beat
                .report
                .as_ref()
                .and_then(NodeTotals::from_report)
                .map(Arc::new),
        };
        self.live.record(&controllers_id(target), beat);
        Ok(INTERVAL)
    }

    fn sessions(&self, target: &TargetId, open: u32) {
        self.live.set_sessions(&controllers_id(target), open);
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::json;
    use tmc_apimachinery::ClusterName;
    use tmc_controllers::heartbeat::LiveBeats as _;

    use super::*;

    fn target() -> TargetId {
        TargetId {
            cluster: ClusterName::new("root"),
            name: "one".into(),
            uid: "u".into(),
        }
    }

    fn beat(identity: &str, sequence: u64, report: Option<Value>) -> Beat {
        Beat {
            received: Timestamp::UNIX_EPOCH,
            identity: identity.into(),
            sequence,
            report,
        }
    }

    #[test]
    fn a_report_tells_the_controllers_what_the_member_serves() {
        let beats = Beats::default();
        let report =
            json!({"apis": [{"group": "apps", "versions": ["v1"], "resources": ["deployments"]}]});
        beats
            .beat(&target(), beat("a", 1, Some(report)))
            .expect("taken");
        let known = beats.live.last(&controllers_id(&target())).expect("known");
        let apis = known.apis.expect("reported");
        assert!(apis.contains(&GroupVersionResource::new("apps", "v1", "deployments")));
    }

    #[test]
    fn a_replayed_beat_is_refused_but_a_new_replica_starts_over() {
        let beats = Beats::default();
        beats.beat(&target(), beat("a", 5, None)).expect("first");
        assert_eq!(
            beats
                .beat(&target(), beat("a", 5, None))
                .expect_err("replay")
                .code,
            422
        );
        beats
            .beat(&target(), beat("b", 1, None))
            .expect("another replica");
        let replayed = beats.beat(&target(), beat("a", 5, None));
        assert_eq!(replayed.expect_err("still a replay").code, 422);
        for n in 0..100 {
            let replica = format!("r{n}");
            beats
                .beat(&target(), beat(&replica, 1, None))
                .expect("one of many");
        }
        assert_eq!(beats.sequences.lock()[&target()].len(), REPLICAS);
    }
}
