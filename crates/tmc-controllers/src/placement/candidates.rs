//! The targets that a Placement may have: those of the Locations that it may use, and those it has.

use std::collections::{BTreeMap, HashSet};

use tmc_api::scheduling::{PickedTarget, Placement, PlacementStatus, TargetDecision};

use super::fleet::Member;
use super::reconcile::{Observed, Permission};
use super::schedule::{Candidate, Held};

/// The targets that a Placement has.
pub(super) fn current(placement: &Placement) -> Vec<Held<'_>> {
    let status = placement.status.iter();
    let held = status.flat_map(|status| {
        status.sync_targets.iter().map(|target| Held {
            target,
            decision: recorded(status, target),
        })
    });
    held.collect()
}

/// What was noted about a target.
pub(super) fn recorded<'a>(
    status: &'a PlacementStatus,
    target: &PickedTarget,
) -> Option<&'a TargetDecision> {
    status
        .decisions
        .iter()
        .find(|decision| decision.key == target.key)
}

/// The targets of the Locations that may be used, and those it has that may be.
pub(super) fn candidates<'a>(
    placement: &Placement,
    observed: &Observed<'a>,
    usable: &[&String],
) -> Vec<Candidate<'a>> {
    let usable: HashSet<&str> = usable.iter().map(|name| &***name).collect();
    let current: BTreeMap<&PickedTarget, Option<&TargetDecision>> = current(placement)
        .into_iter()
        .map(|held| (held.target, held.decision))
        .collect();
    let preferred = placement
        .status
        .as_ref()
        .and_then(|s| s.selected_location.as_ref());
    let preferred = preferred.map(|location| &*location.location_name);
    let mut candidates = Vec::new();
    for member in observed.fleet.members() {
        let homes = || {
            member
                .homes
                .iter()
                .map(|h| &**h)
                .filter(|home| usable.contains(home))
        };
        let location = homes()
            .find(|home| Some(*home) == preferred)
            .or(homes().next());
        let held = current.get(&member.facts.target);
        let permitted = || held.is_some_and(|decision| is_permitted(observed, member, *decision));
        if location.is_none() && !permitted() {
            continue;
        }
        let load = observed
            .load
            .get(&member.facts.target.key)
            .copied()
            .unwrap_or(0);
        candidates.push(Candidate {
            facts: &member.facts,
            location,
            homes: &member.homes,
            load: load.saturating_sub(u32::from(held.is_some())),
        });
    }
    candidates
}

/// Whether a target that a Placement has may still be used: through a Location that it belongs to,
/// or the one through which it was found.
pub(super) fn is_permitted(
    observed: &Observed<'_>,
    member: &Member,
    decision: Option<&TargetDecision>,
) -> bool {
    let found = decision.map(|decision| &decision.location);
    member
        .homes
        .iter()
        .chain(found)
        .any(|name| observed.permission.allows(name))
        || *observed.permission == Permission::All
}
