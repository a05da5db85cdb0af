//! What scheduling looks at in a SyncTarget, read once a change and not once a Placement.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use tmc_api::conditions::{self, READY};
use tmc_api::hashes::sync_target_key;
use tmc_api::keys::{FORCE_DRAIN_ANNOTATION, TAINT_NOT_READY, TAINT_UNREACHABLE};
use tmc_api::quantities::{Quantity, ResourceList};
use tmc_api::scheduling::PickedTarget;
use tmc_api::workload::{
    Cell, EvictionStrategy, SyncState, SyncTarget, SyncedResource, Taint, TaintEffect, condition,
};
use tmc_apimachinery::quantity::Format;
use tmc_apimachinery::{ClusterName, GroupResource};

/// Label of cells and targets that names their failure domain.
const DOMAIN_LABEL: &str = "location";

/// How a target is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Loss {
    /// Nothing is heard of it.
    Unreachable,
    /// It is heard, but it is not Ready.
    NotReady,
}

impl Loss {
    /// The taint that says so.
    pub fn taint(self) -> Taint {
        let key = match self {
            Self::Unreachable => TAINT_UNREACHABLE,
            Self::NotReady => TAINT_NOT_READY,
        };
        Taint {
            key: key.into(),
            value: String::new(),
            effect: TaintEffect::NoExecute,
        }
    }
}

/// A loss and when it was noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost {
    /// Its kind.
    pub loss: Loss,
    /// When it was noticed.
    pub since: Timestamp,
}

/// One failure domain of a target.
#[derive(Clone, Debug, PartialEq)]
pub struct CellFacts {
    /// Its label `location`, else its name.
    pub domain: String,
    /// Its own taints.
    pub taints: Vec<Taint>,
    /// What it is said to have.
    pub capacity: ResourceList,
}

/// What scheduling looks at in a SyncTarget.
#[derive(Clone, Debug, PartialEq)]
pub struct TargetFacts {
    /// Which target.
    pub target: PickedTarget,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Condition Ready is True.
    pub ready: bool,
    /// It was heard once and is not Ready now.
    pub lost: Option<Lost>,
    /// Its deletion was asked for.
    pub deleting: bool,
    /// `spec.unschedulable`.
    pub cordoned: bool,
    /// `spec.evictAfter`.
    pub evict_after: Option<Timestamp>,
    /// Its drain waits for nothing.
    pub forced: bool,
    /// `spec.evictionStrategy` is Immediate.
    pub immediate: bool,
    /// Something can be synced to it: condition APIAvailable is not False, and of what it is asked to
    /// sync it accepts something. Of a target that never said what it serves nothing is shown to its
    /// agent, so it is no place for workload, however Ready it is.
    pub apis: bool,
    /// The resources that it accepts of those it is asked to sync.
    pub accepted: BTreeSet<GroupResource>,
    /// Those that it is known not to serve.
    pub refused: BTreeSet<GroupResource>,
    /// Taints of the whole target but those that the hub sets when it is lost: `lost` is where they
    /// come from.
    pub taints: Vec<Taint>,
    /// Its cells.
    pub cells: Vec<CellFacts>,
    /// What is known to be free, by resource; `None` while nothing is reported.
    pub room: Option<ResourceList>,
    /// Free capacity in percent: of CPU or memory, whichever is scarcer. `None` if unknown.
    pub free: Option<u8>,
}

impl TargetFacts {
    /// Reads a SyncTarget of a logical cluster.
    pub fn new(cluster: &ClusterName, target: &SyncTarget) -> Self {
        let meta = &target.metadata;
        let name = meta.name.clone().unwrap_or_default();
        let draining_by_force = meta.annotations.as_ref().is_some_and(|annotations| {
            annotations.get(FORCE_DRAIN_ANNOTATION).map(String::as_str) == Some("true")
        });
        let status = target.status.as_ref();
        let in_state = |state: SyncState| {
            let resources = status.iter().flat_map(|s| &s.synced_resources);
            let found = resources.filter(|resource| resource.state == state);
            found
                .map(|r| GroupResource::new(&r.group, &r.resource))
                .collect()
        };
        Self {
            ready: conditions::is_true(target.conditions(), READY),
            lost: lost(target),
            deleting: meta.deletion_timestamp.is_some(),
            cordoned: target.spec.unschedulable,
            evict_after: target.spec.evict_after.map(|at| at.timestamp()),
            forced: draining_by_force,
            immediate: target.spec.eviction_strategy == EvictionStrategy::Immediate,
            apis: !conditions::is_false(target.conditions(), condition::API_AVAILABLE)
                && syncs_something(target),
            accepted: in_state(SyncState::Accepted),
            refused: in_state(SyncState::Incompatible),
            taints: target
                .spec
                .taints
                .iter()
                .filter(not_of_a_loss)
                .cloned()
                .collect(),
            cells: target.spec.cells.iter().map(cell).collect(),
            room: status.and_then(|s| s.available_resources.clone().or(s.allocatable.clone())),
            free: free(target),
            labels: meta.labels.clone().unwrap_or_default(),
            target: PickedTarget {
                key: sync_target_key(cluster.as_str(), &name),
                cluster: cluster.as_str().to_owned(),
                name,
                uid: meta.uid.clone().unwrap_or_default(),
            },
        }
    }

    /// Whether `spec.evictAfter` has passed.
    pub fn is_draining(&self, now: Timestamp) -> bool {
        self.evict_after.is_some_and(|at| at <= now)
    }

    /// Whether it would take a new Placement, as far as that depends on the target alone.
    pub fn is_available(&self, now: Timestamp) -> bool {
        self.ready && !self.deleting && !self.cordoned && !self.is_draining(now)
    }

    /// What is known to be free in the cells that `usable` says may be used: what is reported, else
    /// the sum of what they are said to have. A resource that is absent is not known.
    pub fn room(&self, usable: impl Fn(&CellFacts) -> bool) -> Cow<'_, ResourceList> {
        if let Some(reported) = &self.room {
            return Cow::Borrowed(reported);
        }
        let mut sum = ResourceList::new();
        for (name, amount) in self
            .cells
            .iter()
            .filter(|c| usable(c))
            .flat_map(|c| &c.capacity)
        {
            let so_far = sum.entry(name.clone()).or_default();
            // What cannot be added up is more than anybody asks for.
            *so_far = so_far.checked_add(*amount).unwrap_or(*amount).max(*amount);
        }
        Cow::Owned(sum)
    }

    /// Whether two versions mean the same to a Placement. What is free counts in coarse steps only:
    /// it changes with every pod.
    pub fn means_the_same(&self, other: &Self) -> bool {
        let rough = |facts: &Self| Self {
            free: facts.free.map(|percent| percent / 10),
            room: facts.room.as_ref().map(coarse),
            ..facts.clone()
        };
        rough(self) == rough(other)
    }
}

/// Amounts rounded down to steps of about an eighth.
fn coarse(list: &ResourceList) -> ResourceList {
    let step = |milli: i64| match milli.checked_ilog2() {
        Some(bits) if bits > 3 => milli >> (bits - 3) << (bits - 3),
        _ => milli,
    };
    let rounded = list.iter().map(|(name, amount)| {
        let milli = step(amount.milli_value());
        (name.clone(), Quantity::from_milli(milli, Format::DecimalSi))
    });
    rounded.collect()
}

/// Whether a target accepts anything of what it is asked to sync, if it is asked at all.
fn syncs_something(target: &SyncTarget) -> bool {
    let resources = target.status.as_ref().map(|s| &*s.synced_resources);
    let resources = resources.unwrap_or_default();
    let accepted = |r: &SyncedResource| r.state == SyncState::Accepted;
    resources.is_empty() || resources.iter().any(accepted)
}

fn cell(cell: &Cell) -> CellFacts {
    CellFacts {
        domain: cell.labels.get(DOMAIN_LABEL).unwrap_or(&cell.name).clone(),
        taints: cell.taints.clone(),
        capacity: cell.capacity.clone(),
    }
}

fn not_of_a_loss(taint: &&Taint) -> bool {
    taint.key != TAINT_UNREACHABLE && taint.key != TAINT_NOT_READY
}

/// Whether a target is lost, and since when. One that was never heard is not there to be lost, nor
/// is one that is going.
pub fn lost(target: &SyncTarget) -> Option<Lost> {
    let status = target.status.as_ref()?;
    let heard = status.last_syncer_heartbeat_time.is_some();
    if !heard || target.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let ready = conditions::get(&status.conditions, READY)?;
    if ready.is_true() {
        return None;
    }
    let silent = conditions::get(&status.conditions, condition::HEARTBEAT_HEALTHY)
        .filter(|heartbeat| heartbeat.is_false());
    // The reason of Ready may change while a target is lost, and its time with it.
    let times = [Some(ready), silent].into_iter().flatten();
    let since = times
        .filter_map(|condition| condition.last_transition_time)
        .min()?;
    Some(Lost {
        loss: if silent.is_some() {
            Loss::Unreachable
        } else {
            Loss::NotReady
        },
        since: since.timestamp(),
    })
}

/// How much of what pods may use is not reserved, in percent: of CPU or memory, whichever is
/// scarcer. `None` while nothing is reported.
fn free(target: &SyncTarget) -> Option<u8> {
    let status = target.status.as_ref()?;
    let (available, total) = (
        status.available_resources.as_ref()?,
        status.allocatable.as_ref()?,
    );
    let share = |name: &str| {
        let of = i128::from(total.get(name)?.milli_value()).max(1);
        let percent = i128::from(available.get(name)?.milli_value()) * 100 / of;
        u8::try_from(percent.clamp(0, 100)).ok()
    };
    ["cpu", "memory"].into_iter().filter_map(share).min()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    fn facts(spec: Value, status: Value) -> TargetFacts {
        let target = serde_json::from_value(json!({
            "apiVersion": "workload.kcp.io/v1alpha1", "kind": "SyncTarget",
            "metadata": {"name": "t", "uid": "u"}, "spec": spec, "status": status,
        }));
        TargetFacts::new(&ClusterName::new("c"), &target.unwrap())
    }

    fn condition(kind: &str, status: &str, at: &str) -> Value {
        json!({"type": kind, "status": status, "lastTransitionTime": at})
    }

    const EARLY: &str = "2030-01-01T00:00:00Z";
    const LATE: &str = "2030-01-01T00:01:00Z";

    #[rstest]
    #[case::ready("True", "True", EARLY, EARLY, true, None)]
    #[case::silent("False", "False", LATE, EARLY, true, Some((Loss::Unreachable, EARLY)))]
    #[case::not_ready("False", "True", LATE, EARLY, true, Some((Loss::NotReady, LATE)))]
    #[case::unknown("Unknown", "True", LATE, EARLY, true, Some((Loss::NotReady, LATE)))]
    #[case::never_heard("False", "False", LATE, EARLY, false, None)]
    fn only_what_was_heard_once_can_be_lost(
        #[case] ready: &str,
        #[case] heartbeat: &str,
        #[case] ready_at: &str,
        #[case] heartbeat_at: &str,
        #[case] heard: bool,
        #[case] expected: Option<(Loss, &str)>,
    ) {
        let mut status = json!({"conditions": [
            condition("Ready", ready, ready_at),
            condition("HeartbeatHealthy", heartbeat, heartbeat_at),
        ]});
        if heard {
            status["lastSyncerHeartbeatTime"] = json!(EARLY);
        }
        let lost = facts(json!({}), status).lost;
        let expected = expected.map(|(loss, at)| Lost {
            loss,
            since: at.parse().unwrap(),
        });
        assert_eq!(lost, expected);
    }

    #[test]
    fn the_taints_of_a_loss_are_the_loss_itself() {
        let taints = json!([
            {"key": "tmc.kcp.io/unreachable", "effect": "NoExecute"},
            {"key": "gpu", "effect": "NoSchedule"},
        ]);
        let keys: Vec<_> = facts(json!({"taints": taints}), json!({})).taints;
        assert_eq!(keys.iter().map(|t| &*t.key).collect::<Vec<_>>(), ["gpu"]);
    }

    #[test]
    fn declared_capacity_counts_for_usable_cells_until_the_real_one_is_reported() {
        let cells = json!([
            {"name": "a", "capacity": {"cpu": "4"}, "labels": {"location": "eu-1"}},
            {"name": "b", "capacity": {"cpu": "2", "memory": "1Gi"}},
        ]);
        let declared = facts(json!({"cells": cells}), json!({}));
        assert_eq!(declared.cells[0].domain, "eu-1");
        assert_eq!(declared.cells[1].domain, "b");
        assert_eq!(declared.room(|_| true)["cpu"], "6".parse().unwrap());
        assert_eq!(
            declared.room(|c| c.domain == "b")["cpu"],
            "2".parse().unwrap()
        );
        let reported = facts(
            json!({"cells": cells}),
            json!({"allocatable": {"cpu": "3"}}),
        );
        assert_eq!(reported.room(|_| true)["cpu"], "3".parse().unwrap());
        let left = json!({"allocatable": {"cpu": "3"}, "availableResources": {"cpu": "1"}});
        assert_eq!(
            facts(json!({}), left).room(|_| true)["cpu"],
            "1".parse().unwrap()
        );
    }

    #[rstest]
    #[case(json!({"cpu": "1", "memory": "3Gi"}), json!({"cpu": "4", "memory": "4Gi"}), Some(25))]
    #[case(json!({"memory": "4Ti"}), json!({"cpu": "4", "memory": "4Ti"}), Some(100))]
    #[case(json!({"cpu": "4"}), json!({"cpu": "0"}), Some(100))]
    #[case(json!({}), json!({"cpu": "4"}), None)]
    fn the_scarcer_of_cpu_and_memory_is_what_is_free(
        #[case] available: Value,
        #[case] total: Value,
        #[case] expected: Option<u8>,
    ) {
        let status = json!({"availableResources": available, "allocatable": total});
        assert_eq!(facts(json!({}), status).free, expected);
    }

    #[test]
    fn a_little_more_or_less_room_means_the_same_and_much_does_not() {
        let with = |available: &str| {
            let status =
                json!({"availableResources": {"cpu": available}, "allocatable": {"cpu": "100"}});
            facts(json!({}), status)
        };
        assert!(with("59").means_the_same(&with("58")));
        assert!(!with("59").means_the_same(&with("41")));
        assert!(!with("59").means_the_same(&facts(json!({}), json!({}))));
        let ready = json!({"conditions": [condition("Ready", "True", EARLY)]});
        assert!(!facts(json!({}), ready).means_the_same(&facts(json!({}), json!({}))));
    }
}
