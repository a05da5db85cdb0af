//! When workload leaves a target: what makes it leave, how long that is borne, and what keeps it.
//!
//! Cordon is not drain: an unschedulable target is left alone. A target that is lost is left after a
//! grace, one that is drained as soon as another can take over, both at a bounded rate. Nothing is
//! left while so many targets of a Location were lost at once that the hub may be the one cut off.
//! That a copy goes only when another has taken over is decided a namespace at a time: see
//! [`takeover`].

pub mod pace;
pub mod takeover;

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tmc_api::keys::FORCE_DRAIN_ANNOTATION;
use tmc_api::scheduling::{LeaveReason, Leaving, PlacementSpec};
use tmc_api::workload::{SyncTarget, Taint, TaintEffect};
use tmc_apimachinery::GroupResource;

use crate::placement::facts::{CellFacts, Loss, TargetFacts};
use crate::placement::fleet::Fleet;

/// How workload leaves targets on this hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// How long a loss is borne where no toleration says otherwise.
    pub grace: Duration,
    /// The time between two moves.
    pub pace: Duration,
}

impl Default for Rules {
    /// Five minutes, and a move every two seconds.
    fn default() -> Self {
        Self {
            grace: Duration::from_secs(300),
            pace: Duration::from_secs(2),
        }
    }
}

/// Fewest targets that are lost at once before the hub doubts itself.
const GUARD_LEAST: usize = 3;
/// Above this share of a Location's targets, in percent.
const GUARD_PERCENT: usize = 30;

/// Why a target should be left, and from when on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// Why.
    pub reason: LeaveReason,
    /// Since when that holds.
    pub since: Timestamp,
    /// From when on it is left.
    pub due: Timestamp,
}

impl Exit {
    /// Whether it waits for its turn.
    pub fn is_paced(&self, facts: &TargetFacts) -> bool {
        match self.reason {
            LeaveReason::Unreachable | LeaveReason::NotReady => !facts.immediate,
            LeaveReason::Draining | LeaveReason::Tainted | LeaveReason::ApiNotAccepted => true,
            _ => false,
        }
    }

    /// Whether it waits while many targets are lost.
    pub fn is_guarded(&self) -> bool {
        !matches!(
            self.reason,
            LeaveReason::ForceDrained | LeaveReason::NotSelected
        )
    }
}

/// What is known when it is asked whether a target is to be left.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances<'a> {
    /// What the Placement says.
    pub spec: &'a PlacementSpec,
    /// The resources of which it has objects.
    pub in_use: &'a BTreeSet<GroupResource>,
    /// How long a loss is borne.
    pub grace: Duration,
    /// Since when this process hears of targets: nobody is left for what it missed before.
    pub listening_since: Timestamp,
    /// The time.
    pub now: Timestamp,
}

/// Whether and when a target that a Placement has is to be left. `selected` says whether it belongs
/// to a Location that matches; `recorded` is what was noted about leaving it before.
///
/// Of several reasons the one whose time comes first.
pub fn exit(
    here: &Circumstances<'_>,
    facts: &TargetFacts,
    selected: bool,
    recorded: Option<&Leaving>,
) -> Option<Exit> {
    let known_since = |reason| {
        let recorded = recorded.filter(|recorded| recorded.reason == reason);
        let since = recorded.and_then(|recorded| recorded.since);
        since.map_or(here.now, |since| since.timestamp())
    };
    let at_once = |reason| {
        let since = known_since(reason);
        Exit {
            reason,
            since,
            due: since,
        }
    };
    let drain = facts.evict_after.map(|at| {
        let reason = if facts.forced {
            LeaveReason::ForceDrained
        } else {
            LeaveReason::Draining
        };
        Exit {
            reason,
            since: at,
            due: at,
        }
    });
    let tainted = tainted_for(here.spec, facts).map(|patience| {
        let since = known_since(LeaveReason::Tainted);
        Exit {
            reason: LeaveReason::Tainted,
            since,
            due: after(since, patience),
        }
    });
    // What is not known yet makes nothing leave.
    let unserved = here
        .in_use
        .iter()
        .any(|resource| facts.refused.contains(resource));
    [
        drain,
        loss(here, facts),
        tainted,
        (!selected).then(|| at_once(LeaveReason::NotSelected)),
        unserved.then(|| at_once(LeaveReason::ApiNotAccepted)),
    ]
    .into_iter()
    .flatten()
    // Equal times: whatever holds up least.
    .min_by_key(|exit| (exit.due, exit.reason != LeaveReason::ForceDrained))
}

fn loss(here: &Circumstances<'_>, facts: &TargetFacts) -> Option<Exit> {
    let lost = facts.lost?;
    // A hub that comes back gives everyone a fresh grace: while it was away nobody could be heard.
    let since = lost.since.max(here.listening_since);
    let patience = patience(here.spec, &lost.loss.taint(), here.grace)?;
    let due = if facts.immediate {
        lost.since
    } else {
        after(since, patience)
    };
    let reason = match lost.loss {
        Loss::Unreachable => LeaveReason::Unreachable,
        Loss::NotReady => LeaveReason::NotReady,
    };
    Some(Exit {
        reason,
        since: lost.since,
        due,
    })
}

fn after(since: Timestamp, patience: Duration) -> Timestamp {
    let patience = SignedDuration::try_from(patience).unwrap_or(SignedDuration::MAX);
    since.saturating_add(patience).unwrap_or(Timestamp::MAX)
}

/// How long a `NoExecute` taint is borne: as long as the shortest toleration of it says, for ever
/// (`None`) if none of them gives a time, `otherwise` without any.
pub fn patience(spec: &PlacementSpec, taint: &Taint, otherwise: Duration) -> Option<Duration> {
    let mut tolerating = spec
        .tolerations
        .iter()
        .filter(|t| t.tolerates(taint))
        .peekable();
    if tolerating.peek().is_none() {
        return Some(otherwise);
    }
    let seconds = tolerating.filter_map(|t| t.toleration_seconds).min()?;
    Some(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
}

/// How long the `NoExecute` taints of a target itself are borne, and those of its cells where no
/// cell is without; `None` if for ever.
fn tainted_for(spec: &PlacementSpec, facts: &TargetFacts) -> Option<Duration> {
    let shortest = |taints: &[Taint]| {
        let leaving = taints.iter().filter(|t| t.effect == TaintEffect::NoExecute);
        leaving
            .filter_map(|taint| patience(spec, taint, Duration::ZERO))
            .min()
    };
    let cells: Option<Vec<Duration>> = facts.cells.iter().map(|c| shortest(&c.taints)).collect();
    let everywhere = cells.and_then(|cells| cells.into_iter().max());
    [shortest(&facts.taints), everywhere]
        .into_iter()
        .flatten()
        .min()
}

/// Whether taints let a new Placement in. A `NoExecute` taint that is borne for a time only does
/// not: it would drive out again what it let in.
pub fn admits(spec: &PlacementSpec, taints: &[Taint]) -> bool {
    taints.iter().all(|taint| match taint.effect {
        TaintEffect::PreferNoSchedule => true,
        TaintEffect::NoSchedule => spec.tolerations.iter().any(|t| t.tolerates(taint)),
        TaintEffect::NoExecute => patience(spec, taint, Duration::ZERO).is_none(),
    })
}

/// Whether a cell lets a new Placement in.
pub fn is_usable(spec: &PlacementSpec, cell: &CellFacts) -> bool {
    admits(spec, &cell.taints)
}

/// Whether a target is to be emptied without waiting for anything: drained or deleted by force.
pub fn is_forced(target: &SyncTarget, now: Timestamp) -> bool {
    let annotations = target.metadata.annotations.as_ref();
    let asked = annotations.is_some_and(|annotations| {
        annotations.get(FORCE_DRAIN_ANNOTATION).map(String::as_str) == Some("true")
    });
    let draining = target
        .spec
        .evict_after
        .is_some_and(|at| at.timestamp() <= now);
    let deleting = target.metadata.deletion_timestamp.is_some();
    asked && draining || target.spec.deletion.force && deleting
}

/// The Locations of a workspace of which so many targets were lost within one grace that nothing is
/// moved: more than 30 percent, and at least three. They stay on the list until enough are back.
pub fn guarded(fleet: &Fleet, grace: Duration) -> BTreeSet<String> {
    let mut by_location: HashMap<&str, (usize, Vec<Timestamp>)> = HashMap::new();
    for member in fleet.members().filter(|member| !member.facts.deleting) {
        for home in member.homes.iter() {
            let (all, lost) = by_location.entry(home).or_default();
            *all += 1;
            lost.extend(member.facts.lost.map(|lost| lost.since));
        }
    }
    by_location
        .into_iter()
        .filter(|(_, (all, lost))| is_partition(*all, lost.clone(), grace))
        .map(|(name, _)| name.to_owned())
        .collect()
}

fn is_partition(all: usize, mut lost: Vec<Timestamp>, grace: Duration) -> bool {
    lost.sort_unstable();
    let mut first = 0;
    (0..lost.len()).any(|last| {
        while after(lost[first], grace) < lost[last] {
            first += 1;
        }
        let together = last - first + 1;
        together >= GUARD_LEAST && together * 100 > all * GUARD_PERCENT
    })
}

#[cfg(test)]
mod tests;
