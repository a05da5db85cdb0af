//! What a Placement's conditions say to people: what is the matter, and what to do.

use tmc_api::conditions::Condition;
use tmc_api::scheduling::{HoldReason, LeaveReason, PlacementStatus};

use super::filter::Tally;

/// Of a Placement whose targets belong to no Location that matches.
pub(super) const OUTSIDE: &str = "the SyncTarget in use belongs to no Location that matches any more, and no other is fit to take over";

/// Longest message that says why targets were picked.
const LONGEST: usize = 256;

/// Why a target is left, after its name.
pub(super) fn leaving_words(reason: LeaveReason) -> &'static str {
    match reason {
        LeaveReason::Unreachable => "is unreachable",
        LeaveReason::NotReady => "is not Ready",
        LeaveReason::Draining => "is being drained",
        LeaveReason::ForceDrained => "is being drained by force",
        LeaveReason::Tainted => "has a taint that is not tolerated",
        LeaveReason::ApiNotAccepted => "does not accept a resource that is in use",
        LeaveReason::NotSelected => "belongs to no Location that matches",
        LeaveReason::Deleted => "was deleted",
        LeaveReason::Forbidden => "may not be used any more",
        LeaveReason::Surplus => "is one too many",
    }
}

/// Why a target that is to be left stays.
pub(super) fn hold_words(hold: HoldReason) -> &'static str {
    match hold {
        HoldReason::NoReplacement => "no other SyncTarget is fit to take over",
        HoldReason::PartitionGuard => {
            "so many SyncTargets of its Location were lost at once that nothing is moved"
        }
        HoldReason::RateLimited => "it waits for its turn to be moved",
    }
}

/// The condition Scheduled with a message where it is True: why this target, or why it is still
/// there.
pub(super) fn scheduled(mut condition: Condition, status: &PlacementStatus) -> Condition {
    if condition.is_true() {
        condition.message = stays(status).unwrap_or_else(|| picked(status));
    }
    condition
}

fn stays(status: &PlacementStatus) -> Option<String> {
    let mut pairs = status.sync_targets.iter().zip(&status.decisions);
    pairs.find_map(|(target, decision)| {
        let leaving = decision.leaving.as_ref()?;
        let (why, hold) = (leaving_words(leaving.reason), hold_words(leaving.held?));
        Some(format!("{} {why}, but stays: {hold}", target.name))
    })
}

fn picked(status: &PlacementStatus) -> String {
    match (&status.sync_targets[..], &status.decisions[..]) {
        ([target], [decision]) if !decision.message.is_empty() => {
            let text = format!("{}: {}", target.name, decision.message);
            text.chars().take(LONGEST).collect()
        }
        ([target], _) => target.name.clone(),
        (targets, _) => format!("{} SyncTargets", targets.len()),
    }
}

pub(super) fn no_target(rejected: &Tally, empty: bool) -> String {
    if empty {
        return "the Locations that match have no SyncTarget; register a cluster: tmc cluster register".to_owned();
    }
    format!(
        "no SyncTarget is fit: {}; see: tmc get targets",
        rejected.why()
    )
}

pub(super) fn too_few(count: usize, wanted: usize, rejected: &Tally) -> String {
    let why = if rejected.is_empty() {
        "there are no others".to_owned()
    } else {
        format!("of the others none is fit: {}", rejected.why())
    };
    format!("{count} of {wanted} SyncTargets; {why}")
}

pub(super) fn crowded(most: usize) -> String {
    format!(
        "more SyncTargets match than one Placement can have on this hub, which is {most}; \
         the best {most} are used: select fewer with spec.locationSelectors"
    )
}

pub(super) fn location_gone(name: &str) -> String {
    format!(
        "Location \"{name}\" does not exist any more, and no other SyncTarget is fit to take over"
    )
}

pub(super) fn forbidden(path: &str, own: &str) -> String {
    format!(
        "workspace \"{path}\" has no Location that matches and that workspace \"{own}\" may use; \
         its owner can allow it: tmc workspace grant {path} --workspace {own} --role use"
    )
}

pub(super) fn no_match(path: &str, no_selector: bool, no_location: bool) -> String {
    if no_selector {
        "spec.locationSelectors is empty and matches nothing; use [{}] for any Location".to_owned()
    } else if no_location {
        format!(
            "workspace \"{path}\" has no Location; register a cluster there: tmc cluster register"
        )
    } else {
        format!("no Location of workspace \"{path}\" matches spec.locationSelectors")
    }
}
