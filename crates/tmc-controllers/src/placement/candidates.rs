//! The targets that a Placement may have: those of the Locations that it may use, and those it has.

use std::collections::BTreeMap;

use tmc_api::scheduling::{PickedTarget, Placement, PlacementStatus, TargetDecision};

use super::fleet::Member;
use super::observed::{Observed, Permission};
use super::request::{Candidate, Held};

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

/// What is a candidate for one Placement.
pub(super) struct Search<'a, 'p> {
    observed: &'p Observed<'a>,
    /// The Locations that may be used, sorted.
    usable: Vec<&'p str>,
    current: BTreeMap<&'p PickedTarget, Option<&'p TargetDecision>>,
    /// Name of the Location that it has now.
    preferred: Option<&'p str>,
}

impl<'a, 'p> Search<'a, 'p> {
    /// A search in the Locations that may be used.
    pub(super) fn new(
        placement: &'p Placement,
        observed: &'p Observed<'a>,
        usable: &[&'p String],
    ) -> Self {
        let selected = placement
            .status
            .as_ref()
            .and_then(|s| s.selected_location.as_ref());
        let mut usable: Vec<&str> = usable.iter().map(|name| &***name).collect();
        usable.sort_unstable();
        Self {
            observed,
            usable,
            current: current(placement)
                .into_iter()
                .map(|held| (held.target, held.decision))
                .collect(),
            preferred: selected.map(|location| &*location.location_name),
        }
    }

    /// Those that the Placement has.
    pub(super) fn held(&self) -> Vec<Candidate<'a>> {
        let members = self.current.keys();
        let members = members.filter_map(|target| self.observed.fleet.member(&target.name));
        members
            .filter_map(|member| self.candidate(member))
            .collect()
    }

    /// Those of the Locations that may be used, and those it has that may be.
    pub(super) fn all(&self) -> Vec<Candidate<'a>> {
        let members = self.observed.fleet.members();
        members
            .filter_map(|member| self.candidate(member))
            .collect()
    }

    fn candidate(&self, member: &'a Member) -> Option<Candidate<'a>> {
        let homes = || {
            let homes = member.homes.iter().map(|home| &**home);
            homes.filter(|home| self.usable.binary_search(home).is_ok())
        };
        let location = homes()
            .find(|home| Some(*home) == self.preferred)
            .or(homes().next());
        let held = self.current.get(&member.facts.target);
        let permitted =
            || held.is_some_and(|decision| is_permitted(self.observed, member, *decision));
        if location.is_none() && !permitted() {
            return None;
        }
        Some(Candidate {
            facts: &member.facts,
            location,
            homes: &member.homes,
            load: member.load.get().saturating_sub(u32::from(held.is_some())),
        })
    }
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
