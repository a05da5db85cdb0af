//! What a Placement should look like, from what its Locations offer.

use std::cell::OnceCell;
use std::collections::BTreeSet;

use jiff::Timestamp;
use tmc_api::conditions::{self, Condition, READY, Severity};
use tmc_api::keys::PLACEMENT_SYNC_TARGET_ANNOTATION;
use tmc_api::scheduling::{
    LeaveReason, LocationReference, MAX_TARGETS, PickedTarget, Placement, PlacementPhase,
    PlacementStatus, ResourceRef, TargetCount, TargetDecision, condition, reason,
};
use tmc_api::time::Time;
use tmc_apimachinery::ApiError;

use super::candidates::{Search, current, is_permitted, recorded};
use super::events::{Notice, notices};
use super::filter::Tally;
use super::fleet::{Fleet, Member};
use super::observed::{Observed, Permission, Provider};
use super::request::Request;
use super::schedule::{Decision, Left, Pick, schedule};
use super::words;
use crate::eviction::{self, Circumstances};

/// What is to be done about a Placement.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The status it should have.
    pub status: PlacementStatus,
    /// What to tell its user, once the status is written.
    pub notices: Vec<Notice>,
    /// It moves something that has to wait for its turn.
    pub used_turn: bool,
    /// When to look again although nothing happened.
    pub next: Option<Timestamp>,
}

/// The names of the Locations that a Placement selects, whether it may use them or not.
///
/// # Errors
/// For a selector that is not valid, naming its field.
pub fn matching(placement: &Placement, fleet: &Fleet) -> Result<Vec<String>, ApiError> {
    if placement.spec.location_resource != ResourceRef::default() {
        return Err(ApiError::bad_request(
            "spec.locationResource must be workload.kcp.io/v1alpha1 synctargets",
        ));
    }
    let selector = placement.spec.locations()?;
    let locations = fleet.locations().filter(|location| {
        location.spec.resource == ResourceRef::default()
            && selector.matches(location.metadata.labels.as_ref())
    });
    Ok(locations
        .filter_map(|location| location.metadata.name.clone())
        .collect())
}

/// The names of the Locations through which a Placement found the targets it has.
pub fn recorded_locations(placement: &Placement) -> BTreeSet<String> {
    let status = placement.status.iter();
    let decisions = status.clone().flat_map(|status| &status.decisions);
    let selected = status.filter_map(|status| status.selected_location.as_ref());
    let names = decisions.map(|decision| &decision.location);
    let names = names.chain(selected.map(|location| &location.location_name));
    names.filter(|name| !name.is_empty()).cloned().collect()
}

/// Plans: a function of what is given alone.
pub fn plan(placement: &Placement, observed: &Observed<'_>, now: Timestamp) -> Plan {
    let before = placement.status.clone().unwrap_or_default();
    let mut verdict = decide(placement, observed, now);
    if let Err(error) = placement.spec.namespaces() {
        // It selects nothing, which is not what its user meant.
        verdict = verdict.not_ready(reason::NAMESPACE_SELECTOR_INVALID, error.message);
    }
    let mut status = before.clone();
    status.observed_generation = placement.metadata.generation;
    status.selected_location = verdict.location.map(|location_name| LocationReference {
        path: provider_path(placement, observed),
        location_name,
    });
    status.decisions = verdict
        .picks
        .iter()
        .map(|pick| decision(&before, pick, now))
        .collect();
    status.sync_targets = verdict.picks.into_iter().map(|pick| pick.target).collect();
    // As of the last decision: what others are like later says nothing about it.
    let decided = status.sync_targets != before.sync_targets || !verdict.scheduled.is_true();
    if decided {
        let named = matches!(observed.provider, Provider::Own(_));
        let rejected = verdict.rejected.unwrap_or_default();
        status.rejections = rejected.rejections(named);
    }
    status.phase = match (&status.selected_location, observed.bound) {
        (None, _) => PlacementPhase::Pending,
        (Some(_), false) => PlacementPhase::Unbound,
        (Some(_), true) => PlacementPhase::Bound,
    };
    let scheduled = words::scheduled(verdict.scheduled, &status);
    conditions::set(&mut status.conditions, verdict.ready, now);
    conditions::set(&mut status.conditions, scheduled, now);
    Plan {
        notices: notices(&before, &status, &verdict.left),
        status,
        used_turn: verdict.used_turn,
        next: verdict.next,
    }
}

fn decision(before: &PlacementStatus, pick: &Pick, now: Timestamp) -> TargetDecision {
    let recorded = recorded(before, &pick.target);
    let mut decision = match &pick.new {
        Some((reason, message)) => TargetDecision {
            key: pick.target.key.clone(),
            reason: *reason,
            message: message.clone(),
            time: Some(Time::new(now)),
            ..TargetDecision::default()
        },
        None => recorded.cloned().unwrap_or_else(|| TargetDecision {
            key: pick.target.key.clone(),
            ..TargetDecision::default()
        }),
    };
    if let Some(location) = &pick.location {
        decision.location.clone_from(location);
    }
    decision.leaving.clone_from(&pick.leaving);
    decision
}

/// The Placement with the metadata it should have: the key of its one target as an annotation.
pub fn metadata(placement: &Placement, picked: &[PickedTarget]) -> Placement {
    let mut new = placement.clone();
    let annotations = new.metadata.annotations.get_or_insert_default();
    match picked {
        [one] => {
            annotations.insert(PLACEMENT_SYNC_TARGET_ANNOTATION.into(), one.key.clone());
        }
        _ => {
            annotations.remove(PLACEMENT_SYNC_TARGET_ANNOTATION);
        }
    }
    if annotations.is_empty() {
        new.metadata.annotations = None;
    }
    new
}

struct Verdict {
    location: Option<String>,
    picks: Vec<Pick>,
    left: Vec<Left>,
    rejected: Option<Tally>,
    ready: Condition,
    scheduled: Condition,
    used_turn: bool,
    next: Option<Timestamp>,
}

impl Verdict {
    fn new(location: Option<String>, decision: Decision) -> Self {
        Self {
            location,
            picks: decision.picks,
            left: decision.left,
            rejected: decision.rejected,
            ready: Condition::yes(READY),
            scheduled: Condition::yes(condition::SCHEDULED),
            used_turn: decision.used_turn,
            next: decision.next,
        }
    }

    fn not_ready(mut self, reason: &str, message: impl Into<String>) -> Self {
        self.ready = Condition::no(READY, Severity::Error, reason, message);
        self
    }

    fn not_scheduled(mut self, reason: &str, message: impl Into<String>) -> Self {
        self.scheduled = Condition::no(condition::SCHEDULED, Severity::Warning, reason, message);
        self
    }
}

fn decide(placement: &Placement, observed: &Observed<'_>, now: Timestamp) -> Verdict {
    if matches!(observed.provider, Provider::Unknown) {
        // The same answer as for a workspace that grants nothing: which ones exist is not told.
        return forbidden(placement, observed);
    }
    let matched = match matching(placement, observed.fleet) {
        Ok(names) => names,
        Err(error) => {
            return kept(placement, observed)
                .not_ready(reason::LOCATION_INVALID, error.message.clone())
                .not_scheduled(reason::NO_VALID_TARGET, error.message);
        }
    };
    let allowed = |name: &&String| observed.permission.allows(name);
    let usable: Vec<&String> = matched.iter().filter(allowed).collect();
    if usable.is_empty() {
        return nowhere(placement, observed);
    }
    let search = Search::new(placement, observed, &usable);
    let current = current(placement);
    let guarded = OnceCell::new();
    let guard = |homes: &[String]| {
        let guarded =
            guarded.get_or_init(|| eviction::guarded(observed.fleet, observed.rules.grace));
        homes.iter().any(|home| guarded.contains(home))
    };
    let request = Request {
        here: Circumstances {
            spec: &placement.spec,
            in_use: observed.in_use,
            grace: observed.rules.grace,
            listening_since: observed.listening_since,
            now,
        },
        current: &current,
        quota: observed.quota,
        guard: &guard,
        turn: observed.turn,
    };
    // With what it has it may need no other: then nobody looks at all of them.
    let mut empty = false;
    let mut decision = schedule(&request, &search.held());
    if decision.rejected.is_some() || decision.picks.is_empty() {
        let candidates = search.all();
        empty = candidates.is_empty();
        decision = schedule(&request, &candidates);
    } else {
        debug_assert_eq!(decision, schedule(&request, &search.all()));
    }
    for left in &mut decision.left {
        let member = observed.fleet.member(&left.target.name);
        let is_there = member.is_some_and(|m| m.facts.target == left.target && !m.facts.deleting);
        if left.reason == LeaveReason::Deleted && is_there {
            // It was no candidate, for it may not be used.
            left.reason = LeaveReason::Forbidden;
        }
    }
    judge(placement, observed, decision, &usable, empty)
}

/// The conditions of what was decided.
fn judge(
    placement: &Placement,
    observed: &Observed<'_>,
    decision: Decision,
    usable: &[&String],
    empty: bool,
) -> Verdict {
    let location = selected_location(placement, &decision.picks, usable);
    let count = decision.picks.len();
    let crowded = decision.crowded;
    let selected = decision.picks.iter().any(|pick| pick.location.is_some());
    let rejected = decision.rejected.clone().unwrap_or_default();
    let lacking = if rejected.is_over_quota() {
        reason::QUOTA_EXCEEDED
    } else {
        reason::NO_VALID_TARGET
    };
    let mut verdict = Verdict::new(location, decision);
    if count == 0 {
        return verdict.not_scheduled(lacking, words::no_target(&rejected, empty));
    }
    if !selected {
        let (reason, text) = unselected(placement, observed);
        verdict = verdict.not_ready(reason, text);
    }
    let wanted = match placement.spec.targets {
        TargetCount::Count(wanted) => usize::try_from(wanted).unwrap_or(usize::MAX),
        TargetCount::All => count,
    };
    if crowded {
        return verdict.not_scheduled(reason::TOO_MANY_TARGETS, words::crowded(MAX_TARGETS));
    }
    if count < wanted {
        let text = words::too_few(count, wanted, &rejected);
        return verdict.not_scheduled(lacking, text);
    }
    verdict
}

/// The Location to name: the one named before while a target is found through it.
fn selected_location(placement: &Placement, picks: &[Pick], usable: &[&String]) -> Option<String> {
    let named = placement
        .status
        .as_ref()
        .and_then(|status| status.selected_location.as_ref());
    let named = named.map(|location| &location.location_name);
    let found: BTreeSet<&String> = picks
        .iter()
        .filter_map(|pick| pick.location.as_ref())
        .collect();
    let among = |name: &&String| {
        // Those it has may belong to no Location that matches.
        found.contains(*name) || found.is_empty() && (!picks.is_empty() || usable.contains(name))
    };
    let first = found.first().copied().or(usable.first().copied());
    named.filter(among).or(first).cloned()
}

/// Why no Location that matches has what the Placement has.
fn unselected(placement: &Placement, observed: &Observed<'_>) -> (&'static str, String) {
    let known: BTreeSet<&str> = observed
        .fleet
        .locations()
        .filter_map(|l| l.metadata.name.as_deref())
        .collect();
    let named = placement
        .status
        .as_ref()
        .and_then(|status| status.selected_location.as_ref());
    match named.filter(|location| !known.contains(&*location.location_name)) {
        Some(gone) => (
            reason::LOCATION_NOT_FOUND,
            words::location_gone(&gone.location_name),
        ),
        None => (reason::LOCATION_INVALID, words::OUTSIDE.to_owned()),
    }
}

/// No Location matches that may be used. What runs stays where it is, as long as that may be used:
/// only a target that is as good makes it move.
fn nowhere(placement: &Placement, observed: &Observed<'_>) -> Verdict {
    let verdict = kept(placement, observed);
    let may_use_all = *observed.permission == Permission::All;
    if verdict.picks.is_empty() && !may_use_all {
        return forbidden(placement, observed);
    }
    if verdict.picks.is_empty() {
        let text = no_match_text(placement, observed);
        let scheduled = reason::SCHEDULE_LOCATION_NOT_FOUND;
        return verdict
            .not_ready(reason::LOCATION_NO_MATCH, &*text)
            .not_scheduled(scheduled, text);
    }
    let (reason, _) = unselected(placement, observed);
    verdict.not_ready(reason, no_match_text(placement, observed))
}

/// What it has now, as far as that exists and may be used.
fn kept(placement: &Placement, observed: &Observed<'_>) -> Verdict {
    let mut decision = Decision::default();
    for held in current(placement) {
        let member = observed.fleet.member(&held.target.name);
        let exists = |m: &&Member| m.facts.target == *held.target && !m.facts.deleting;
        let Some(member) = member.filter(exists) else {
            continue;
        };
        if is_permitted(observed, member, held.decision) {
            decision.picks.push(Pick {
                target: held.target.clone(),
                location: None,
                new: None,
                leaving: held.decision.and_then(|decision| decision.leaving.clone()),
            });
        }
    }
    let status = placement.status.as_ref();
    let location = status
        .and_then(|status| status.selected_location.as_ref())
        .filter(|_| !decision.picks.is_empty())
        .map(|location| location.location_name.clone());
    Verdict::new(location, decision)
}

fn forbidden(placement: &Placement, observed: &Observed<'_>) -> Verdict {
    let text = words::forbidden(&provider_path(placement, observed), observed.own_path);
    Verdict::new(None, Decision::default())
        .not_ready(reason::LOCATION_NO_MATCH, &*text)
        .not_scheduled(reason::LOCATION_FORBIDDEN, text)
}

fn no_match_text(placement: &Placement, observed: &Observed<'_>) -> String {
    let path = provider_path(placement, observed);
    let none = observed.fleet.locations().next().is_none();
    words::no_match(&path, placement.spec.location_selectors.is_empty(), none)
}

fn provider_path(placement: &Placement, observed: &Observed<'_>) -> String {
    let named = placement
        .spec
        .location_workspace
        .clone()
        .filter(|path| !path.is_empty());
    named.unwrap_or_else(|| observed.own_path.to_owned())
}

#[cfg(test)]
mod leaving_tests;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
