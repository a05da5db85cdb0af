//! What an agent reports, as far as it makes sense: an agent is not trusted.

use jiff::Timestamp;
use serde::Deserialize as _;
use tmc_api::quantities::{Quantity, ResourceList};
use tmc_api::syncer::MissingRights;
use tmc_api::workload::NodeCounts;
use tmc_api::workload::heartbeat::{DEFAULT_SKEW, is_credible};

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
    /// Reads `synced` of a report that came in at `now`. What is no count, or a time from before 1970
    /// or further in the future than clocks differ, is left out: not every time can be written down as
    /// RFC 3339, and one that cannot would hold up all that is to be said of its target.
    pub fn from_report(report: &serde_json::Value, now: Timestamp) -> Self {
        let synced = &report["synced"];
        let count = synced["objects"].as_i64();
        let time = synced["lastSyncTime"].as_str();
        let time = time.and_then(|text| text.parse().ok());
        Self {
            objects: count.filter(|count| *count >= 0),
            last_sync: time
                .filter(|at| *at >= Timestamp::UNIX_EPOCH && is_credible(now, *at, DEFAULT_SKEW)),
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

/// Reads `missingRights` of a report; `None` if it says nothing of rights. What is no list of names
/// says nothing either: that something is missing, or that nothing is, follows from no guess.
pub fn missing_rights(report: &serde_json::Value) -> Option<MissingRights> {
    MissingRights::deserialize(report.get("missingRights")?).ok()
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(2_000_000_000 + seconds).unwrap()
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
    #[case::no_year(json!({"lastSyncTime": "-009999-01-02T01:59:59Z"}), None, false)]
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

    #[rstest]
    #[case::nothing(json!([]), Some(json!([])))]
    #[case::something(json!(["get pods"]), Some(json!(["get pods"])))]
    #[case::their_order(json!(["b", "a", "b"]), Some(json!(["b", "a", "b"])))]
    #[case::control_characters(json!(["get\u{1b}[2J po\nds\u{0}"]), Some(json!(["get[2J pods"])))]
    #[case::too_long(json!(["ä".repeat(5_000)]), Some(json!(["ä".repeat(256)])))]
    #[case::too_many(json!(vec!["x"; 5_000]), Some(json!(vec!["x"; 13])))]
    #[case::some_empty(json!(["", "get pods"]), Some(json!(["get pods"])))]
    #[case::nothing_that_can_be_shown(json!(["", " \u{7}"]), None)]
    #[case::no_names(json!([5]), None)]
    #[case::names_and_more(json!(["get pods", {}]), None)]
    #[case::another_form(json!({"get": "pods"}), None)]
    #[case::a_text(json!("get pods"), None)]
    #[case::null(json!(null), None)]
    fn of_missing_rights_only_names_that_can_be_shown_are_read(
        #[case] rights: serde_json::Value,
        #[case] expected: Option<serde_json::Value>,
    ) {
        let read = missing_rights(&json!({"missingRights": rights}));
        assert_eq!(read.map(|rights| json!(rights)), expected);
        assert_eq!(missing_rights(&json!({})), None);
        assert_eq!(missing_rights(&json!("odd")), None);
    }
}
