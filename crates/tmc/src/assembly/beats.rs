//! From a heartbeat on the wire to what the controllers know of a target's liveness.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tmc_apimachinery::GroupVersionResource;
use tmc_apimachinery::status::{ApiError, Cause, Result};
use tmc_controllers::heartbeat::{self, NodeTotals, ServedApis, SyncedTotals, missing_rights};
use tmc_virtual::syncer::{Beat, BeatSink, TargetId};

/// Time between beats that agents are asked to keep.
const INTERVAL: Duration = Duration::from_secs(10);

/// Takes beats from the virtual workspace. Refuses replays; hands the rest to the controllers.
#[derive(Default)]
pub struct Beats {
    /// What the controllers read.
    pub live: Arc<heartbeat::Beats>,
}

/// Most resources of a member that are taken from a report: an agent is not trusted to stop by
/// itself.
const MAX_APIS: usize = 5_000;
/// Longest name of a group, version or resource, in bytes.
const MAX_NAME: usize = 253;

impl Beats {
    fn check_sequence(&self, target: &TargetId, beat: &Beat) -> Result<()> {
        let id = controllers_id(target);
        let Err(last) = self.live.advance(&id, &beat.identity, beat.sequence) else {
            return Ok(());
        };
        let why = format!("it must rise: the last one of {} was {last}", beat.identity);
        let cause = Cause::invalid("sequence", &beat.sequence.into(), why);
        let (group, kind) = ("syncer.kcp.io", "SyncerHeartbeat");
        Err(ApiError::invalid(group, kind, "", vec![cause]))
    }
}

/// The resources in a report's `apis[]`, at most 5,000; what is not understood is left out.
pub fn served(report: &Value) -> Option<Arc<ServedApis>> {
    let apis = report["apis"].as_array()?;
    let all = apis.iter().flat_map(|api| {
        let group = api["group"].as_str().unwrap_or_default();
        let versions = names(&api["versions"]).filter(move |_| group.len() <= MAX_NAME);
        versions.flat_map(move |version| {
            names(&api["resources"])
                .map(move |resource| GroupVersionResource::new(group, version, resource))
        })
    });
    Some(Arc::new(all.take(MAX_APIS).collect()))
}

fn names(list: &Value) -> impl Iterator<Item = &str> {
    let list = list.as_array().into_iter().flatten().take(MAX_APIS);
    list.filter_map(Value::as_str)
        .filter(|name| name.len() <= MAX_NAME)
}

/// The controllers' name for a target.
pub fn controllers_id(target: &TargetId) -> heartbeat::TargetId {
    heartbeat::TargetId::new(&target.cluster, &target.name, &target.uid)
}

impl BeatSink for Beats {
    fn beat(&self, target: &TargetId, beat: Beat) -> Result<Duration> {
        self.check_sequence(target, &beat)?;
        let synced = beat.report.as_ref();
        let synced = synced.map(|report| SyncedTotals::from_report(report, beat.received));
        let beat = heartbeat::Beat {
            at: beat.received,
            identity: beat.identity,
            apis: beat.report.as_ref().and_then(served),
            totals: beat
                .report
                .as_ref()
                .and_then(NodeTotals::from_report)
                .map(Arc::new),
            missing_rights: beat.report.as_ref().and_then(missing_rights),
            synced: synced.unwrap_or_default(),
        };
        self.live.record(&controllers_id(target), beat);
        Ok(INTERVAL)
    }

    fn hello(&self, target: &TargetId, identity: &str) {
        self.live.greet(&controllers_id(target), identity);
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
    fn a_report_tells_the_controllers_what_the_member_serves_and_what_the_agent_may_not_do() {
        let beats = Beats::default();
        let report = json!({
            "apis": [{"group": "apps", "versions": ["v1"], "resources": ["deployments"]}],
            "missingRights": ["get pods"],
        });
        beats
            .beat(&target(), beat("a", 1, Some(report)))
            .expect("taken");
        let known = beats.live.last(&controllers_id(&target())).expect("known");
        let apis = known.apis.expect("reported");
        assert!(apis.contains(&GroupVersionResource::new("apps", "v1", "deployments")));
        assert!(!known.missing_rights.expect("reported").is_empty());
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
        beats.hello(&target(), "a");
        beats
            .beat(&target(), beat("a", 1, None))
            .expect("a session counts anew");
    }

    #[test]
    fn a_report_of_millions_of_resources_is_cut_short() {
        let many: Vec<String> = (0..6_000).map(|n| format!("r{n}")).collect();
        let report = json!({"apis": [
            {"group": "g".repeat(300), "versions": ["v1"], "resources": ["hidden"]},
            {"group": "a", "versions": many, "resources": many},
        ]});
        let served = served(&report).expect("a list");
        assert_eq!(served.len(), MAX_APIS);
        assert!(served.iter().all(|gvr| gvr.group == "a"));
        let long =
            json!({"apis": [{"group": "a", "versions": ["v"], "resources": ["r".repeat(300)]}]});
        assert!(super::served(&long).expect("a list").is_empty());
    }
}
