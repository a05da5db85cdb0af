//! When targets were heard last: from the lists of beats that the hub's replicas write every few
//! seconds, where they may be read, else from the targets' own status, which is written rarely.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::Value;
use tmc_api::keys::SYNC_TARGET_KEY_LABEL;
use tmc_apimachinery::meta::meta;
use tmc_controllers::beat_leases::{BEATS_ANNOTATION, BeatList, Heard, REPLICA_LABEL};
use tmc_runtime::client::ListParams;

use crate::context::Context;
use crate::output::{self, ago, list, text};

/// How long a recorded beat may be behind the live one, in seconds: it is written on transitions, and
/// else every few minutes, or with ten thousand targets within two hours
/// ([`tmc_controllers::heartbeat::persist_every`]).
const RECORDED_EVERY: i64 = 2 * 3600;

/// What is known of beats beside the targets themselves.
#[derive(Clone, Debug, Default)]
pub(super) struct Beats(BTreeMap<Heard, Timestamp>);

impl Beats {
    /// Reads the lists; none where they may not be read.
    pub(super) async fn read(context: &Context) -> Self {
        let leases = context.resource_in("root", "coordination.k8s.io", "v1", "leases");
        let params = ListParams {
            labels: REPLICA_LABEL.to_owned(),
            ..ListParams::default()
        };
        let found = leases.list("kcp-system", &params).await.unwrap_or_default();
        Self::of(list(&found, "/items"))
    }

    fn of(leases: &[Value]) -> Self {
        let mut beats = BTreeMap::new();
        for lease in leases {
            let text = meta(lease).annotation(BEATS_ANNOTATION).unwrap_or_default();
            let Ok(list) = BeatList::decode(text) else {
                continue;
            };
            for (heard, age) in list.ages {
                let at = list
                    .written
                    .saturating_sub(i64::try_from(age).unwrap_or(i64::MAX));
                if let Ok(at) = Timestamp::from_millisecond(at) {
                    let latest = beats.entry(heard).or_insert(at);
                    *latest = at.max(*latest);
                }
            }
        }
        Self(beats)
    }

    /// How long ago a target was heard. A healthy one is heard within seconds; where only the rare
    /// record of that is known, it is an upper bound.
    pub(super) fn last_seen(&self, target: &Value, now: Timestamp) -> String {
        let heard = Heard {
            key: meta(target)
                .label(SYNC_TARGET_KEY_LABEL)
                .unwrap_or_default()
                .to_owned(),
            uid: meta(target).uid().to_owned(),
        };
        let recorded = output::time(target, "/status/lastHeartbeatTime");
        let Some(at) = recorded.max(self.0.get(&heard).copied()) else {
            return "never".to_owned();
        };
        let seconds = now.duration_since(at).as_secs();
        let bound = seconds_of_three_beats(target);
        let healthy = output::condition(target, "HeartbeatHealthy") == "True";
        // Where replicas write lists, their age counts: that all of them are gone is to be seen.
        let only_recorded = self.0.is_empty();
        if healthy && only_recorded && seconds > bound && seconds <= RECORDED_EVERY {
            return format!("<{}", tmc_apimachinery::table::human_duration(bound));
        }
        ago(at, now)
    }
}

/// After how many seconds of silence a target would not be healthy any more.
fn seconds_of_three_beats(target: &Value) -> i64 {
    let interval = text(target, "/spec/syncerConfig/heartbeatInterval");
    let interval: tmc_api::time::Span = interval
        .parse()
        .unwrap_or(tmc_api::workload::DEFAULT_HEARTBEAT_INTERVAL);
    let seconds = interval.duration().as_secs().saturating_mul(3);
    i64::try_from(seconds).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn target(last: Option<&str>, healthy: &str) -> Value {
        json!({
            "metadata": {"uid": "u", "labels": {"internal.workload.kcp.io/key": "K"}},
            "spec": {"syncerConfig": {"heartbeatInterval": "10s"}},
            "status": {"lastHeartbeatTime": last,
                "conditions": [{"type": "HeartbeatHealthy", "status": healthy}]}})
    }

    fn now() -> Timestamp {
        "2030-01-01T00:10:00Z".parse().expect("a time")
    }

    #[rstest]
    #[case::never(None, "False", "never")]
    #[case::fresh(Some("2030-01-01T00:09:48Z"), "True", "12s")]
    #[case::recorded_a_while_ago(Some("2030-01-01T00:06:00Z"), "True", "<30s")]
    #[case::one_of_many(Some("2029-12-31T22:30:00Z"), "True", "<30s")]
    #[case::lost(Some("2030-01-01T00:06:00Z"), "False", "4m")]
    #[case::nobody_writes_any_more(Some("2029-12-31T00:00:00Z"), "True", "24h")]
    fn a_target_is_as_fresh_as_its_evidence(
        #[case] last: Option<&str>,
        #[case] healthy: &str,
        #[case] expected: &str,
    ) {
        assert_eq!(
            Beats::default().last_seen(&target(last, healthy), now()),
            expected
        );
    }

    #[test]
    fn the_list_of_a_replica_is_fresher_than_the_record() {
        let heard = |uid: &str| Heard {
            key: "K".into(),
            uid: uid.into(),
        };
        let beats = BeatList {
            written: now().as_millisecond() - 2000,
            ages: BTreeMap::from([(heard("u"), 1000), (heard("other"), 0)]),
        };
        let lease = json!({"metadata": {"annotations": {BEATS_ANNOTATION: beats.encode().expect("a list")}}});
        let broken = json!({"metadata": {"annotations": {BEATS_ANNOTATION: "x"}}});
        let beats = Beats::of(&[lease, broken]);
        let later = now() + jiff::SignedDuration::from_mins(4);
        assert_eq!(
            beats.last_seen(&target(Some("2030-01-01T00:06:00Z"), "True"), later),
            "4m3s",
            "nobody writes lists any more"
        );
        let old = target(Some("2030-01-01T00:06:00Z"), "True");
        assert_eq!(beats.last_seen(&old, now()), "3s");
        assert_eq!(beats.last_seen(&target(None, "True"), now()), "3s");
    }
}
