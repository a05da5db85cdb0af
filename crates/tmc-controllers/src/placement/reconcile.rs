//! What a Placement should look like, from what its Locations offer.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use tmc_api::conditions::{self, Condition, READY, Severity};
use tmc_api::hashes::sync_target_key;
use tmc_api::keys::PLACEMENT_SYNC_TARGET_ANNOTATION;
use tmc_api::scheduling::{
    Location, LocationReference, PickedTarget, Placement, PlacementPhase, PlacementStatus,
    ResourceRef, TargetCount, condition, reason,
};
use tmc_api::workload::{SyncTarget, Taint, condition as target_condition};
use tmc_apimachinery::{ApiError, ClusterName};

use crate::placement::schedule::{Candidate, Decision, Request, schedule};

/// The workspace whose Locations a Placement chooses from.
#[derive(Clone, Debug)]
pub enum Provider {
    /// Its own.
    Own(ClusterName),
    /// Another one.
    Foreign(ClusterName),
    /// Nobody knows the path.
    Unknown,
}

/// What may be used of a provider's Locations (verb `use`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Permission {
    /// All of them.
    All,
    /// Only these.
    Only(BTreeSet<String>),
}

impl Permission {
    fn allows(&self, location: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(names) => names.contains(location),
        }
    }
}

/// What is observed for one Placement.
#[derive(Clone, Debug)]
pub struct Observed {
    /// Path of its own workspace.
    pub own_path: String,
    /// Where it chooses from.
    pub provider: Provider,
    /// What it may use there.
    pub permission: Permission,
    /// The provider's Locations, in order of their names.
    pub locations: Vec<Arc<Location>>,
    /// The provider's SyncTargets.
    pub targets: Vec<Arc<SyncTarget>>,
    /// Placements other than this one by target key.
    pub load: BTreeMap<String, u32>,
    /// A namespace that it selects carries the placement annotation.
    pub bound: bool,
}

/// The names of the Locations that a Placement selects, whether it may use them or not.
///
/// # Errors
/// For a selector that is not valid, naming its field.
pub fn matching(
    placement: &Placement,
    locations: &[Arc<Location>],
) -> Result<Vec<String>, ApiError> {
    if placement.spec.location_resource != ResourceRef::default() {
        return Err(ApiError::bad_request(
            "spec.locationResource must be workload.kcp.io/v1alpha1 synctargets",
        ));
    }
    let mut names = Vec::new();
    for location in locations {
        let labels = location.metadata.labels.clone().unwrap_or_default();
        let about_targets = location.spec.resource == ResourceRef::default();
        if about_targets && placement.spec.selects_location(&labels)? {
            names.extend(location.metadata.name.clone());
        }
    }
    names.sort();
    Ok(names)
}

/// The status it should have.
pub fn status(placement: &Placement, observed: &Observed, now: Timestamp) -> PlacementStatus {
    let mut status = placement.status.clone().unwrap_or_default();
    status.observed_generation = placement.metadata.generation;
    let verdict = decide(placement, observed, now);
    status.selected_location = verdict.location.map(|location_name| LocationReference {
        path: provider_path(placement, observed),
        location_name,
    });
    status.sync_targets = verdict.target.into_iter().collect();
    status.phase = match (&status.selected_location, observed.bound) {
        (None, _) => PlacementPhase::Pending,
        (Some(_), false) => PlacementPhase::Unbound,
        (Some(_), true) => PlacementPhase::Bound,
    };
    conditions::set(&mut status.conditions, verdict.ready, now);
    conditions::set(&mut status.conditions, verdict.scheduled, now);
    status
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
    target: Option<PickedTarget>,
    ready: Condition,
    scheduled: Condition,
}

impl Verdict {
    fn new(location: Option<String>, target: Option<PickedTarget>) -> Self {
        let ready = Condition::yes(READY);
        Self {
            location,
            target,
            ready,
            scheduled: Condition::yes(condition::SCHEDULED),
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

fn decide(placement: &Placement, observed: &Observed, now: Timestamp) -> Verdict {
    let cluster = match &observed.provider {
        Provider::Own(cluster) | Provider::Foreign(cluster) => cluster,
        // The same answer as for a workspace that grants nothing: which ones exist is not told.
        Provider::Unknown => return forbidden(placement, observed),
    };
    let kept = || kept(placement, observed, cluster);
    let matched = match matching(placement, &observed.locations) {
        Ok(names) => names,
        Err(error) => {
            return kept()
                .not_ready(reason::LOCATION_INVALID, error.message.clone())
                .not_scheduled(reason::NO_VALID_TARGET, error.message);
        }
    };
    let usable: Vec<&String> = matched
        .iter()
        .filter(|name| observed.permission.allows(name))
        .collect();
    if usable.is_empty() && observed.permission != Permission::All {
        return forbidden(placement, observed);
    }
    if usable.is_empty() {
        let text = no_match_text(placement, observed);
        let verdict = kept();
        // What runs stays where it is: only a target that is as good makes it move.
        return if verdict.target.is_some() {
            verdict.not_ready(reason::LOCATION_INVALID, text)
        } else {
            let scheduled = reason::SCHEDULE_LOCATION_NOT_FOUND;
            verdict
                .not_ready(reason::LOCATION_NO_MATCH, &*text)
                .not_scheduled(scheduled, text)
        };
    }
    if placement.spec.targets != TargetCount::Count(1) {
        let text = "placing on several targets is not available on this hub; set spec.targets to 1";
        return kept().not_scheduled(reason::NO_VALID_TARGET, text);
    }
    let candidates = candidates(placement, observed, cluster, &usable, now);
    let current = placement
        .status
        .as_ref()
        .and_then(|status| status.sync_targets.first());
    let decision = schedule(
        &Request {
            spec: &placement.spec,
            current,
        },
        &candidates,
    );
    match decision.chosen {
        Some((target, location)) => Verdict::new(Some(location), Some(target)),
        None => no_target(&decision, kept(), &usable, candidates.is_empty()),
    }
}

/// The target and Location it has now, as far as they still exist.
fn kept(placement: &Placement, observed: &Observed, cluster: &ClusterName) -> Verdict {
    let status = placement.status.as_ref();
    let current = status.and_then(|status| status.sync_targets.first());
    let exists = |picked: &&PickedTarget| {
        picked.cluster == cluster.as_str()
            && observed.targets.iter().any(|target| {
                let meta = &target.metadata;
                meta.deletion_timestamp.is_none()
                    && meta.name.as_deref() == Some(&picked.name)
                    && meta.uid.as_deref() == Some(&picked.uid)
            })
    };
    let target = current.filter(exists).cloned();
    let location = status
        .and_then(|status| status.selected_location.as_ref())
        .filter(|_| target.is_some())
        .map(|location| location.location_name.clone());
    Verdict::new(location, target)
}

fn no_target(decision: &Decision, kept: Verdict, usable: &[&String], empty: bool) -> Verdict {
    // It may have a target outside the Locations that match now.
    if kept.target.is_some() {
        let text = "the SyncTarget in use belongs to no Location that matches any more, and no other is fit to take over";
        return kept.not_ready(reason::LOCATION_INVALID, text);
    }
    let text = if empty {
        "the Locations that match have no SyncTarget; register a cluster: tmc cluster register"
            .to_owned()
    } else {
        format!(
            "no SyncTarget is fit: {}; see: tmc get targets",
            decision.why()
        )
    };
    let location = usable.first().map(|name| (*name).clone());
    Verdict::new(location, None).not_scheduled(reason::NO_VALID_TARGET, text)
}

fn forbidden(placement: &Placement, observed: &Observed) -> Verdict {
    let (path, own) = (provider_path(placement, observed), &observed.own_path);
    let text = format!(
        "workspace \"{path}\" has no Location that matches and that workspace \"{own}\" may use; \
         its owner can allow it: tmc workspace grant {path} --workspace {own} --role use"
    );
    Verdict::new(None, None)
        .not_ready(reason::LOCATION_NO_MATCH, &*text)
        .not_scheduled(reason::LOCATION_FORBIDDEN, text)
}

fn no_match_text(placement: &Placement, observed: &Observed) -> String {
    let path = provider_path(placement, observed);
    if placement.spec.location_selectors.is_empty() {
        "spec.locationSelectors is empty and matches nothing; use [{}] for any Location".to_owned()
    } else if observed.locations.is_empty() {
        format!(
            "workspace \"{path}\" has no Location; register a cluster there: tmc cluster register"
        )
    } else {
        format!("no Location of workspace \"{path}\" matches spec.locationSelectors")
    }
}

fn provider_path(placement: &Placement, observed: &Observed) -> String {
    let named = placement
        .spec
        .location_workspace
        .clone()
        .filter(|path| !path.is_empty());
    named.unwrap_or_else(|| observed.own_path.clone())
}

fn candidates(
    placement: &Placement,
    observed: &Observed,
    cluster: &ClusterName,
    usable: &[&String],
    now: Timestamp,
) -> Vec<Candidate> {
    let selected = placement
        .status
        .as_ref()
        .and_then(|s| s.selected_location.as_ref());
    let mut candidates = Vec::new();
    for target in &observed.targets {
        let labels = target.metadata.labels.clone().unwrap_or_default();
        let mut homes = observed.locations.iter().filter_map(|location| {
            let name = location.metadata.name.as_ref()?;
            // A Location with a bad selector has no instances; its own status tells.
            let is_home = usable.contains(&name) && location.spec.selects(&labels).unwrap_or(false);
            is_home.then_some(name)
        });
        let first = homes.next();
        let same = selected.and_then(|selected| {
            first
                .into_iter()
                .chain(homes)
                .find(|name| **name == selected.location_name)
        });
        if let Some(location) = same.or(first) {
            candidates.push(candidate(target, cluster, location, &observed.load, now));
        }
    }
    candidates
}

fn candidate(
    target: &SyncTarget,
    cluster: &ClusterName,
    location: &str,
    load: &BTreeMap<String, u32>,
    now: Timestamp,
) -> Candidate {
    let name = target.metadata.name.clone().unwrap_or_default();
    let key = sync_target_key(cluster.as_str(), &name);
    Candidate {
        location: location.to_owned(),
        ready: conditions::is_true(target.conditions(), READY),
        deleting: target.metadata.deletion_timestamp.is_some(),
        cordoned: target.spec.unschedulable,
        draining: is_draining(target, now),
        apis: !conditions::is_false(target.conditions(), target_condition::API_AVAILABLE),
        taints: taints(target),
        free: free(target),
        load: load.get(&key).copied().unwrap_or(0),
        target: PickedTarget {
            key,
            cluster: cluster.as_str().to_owned(),
            name,
            uid: target.metadata.uid.clone().unwrap_or_default(),
        },
    }
}

/// Whether `spec.evictAfter` has passed.
pub fn is_draining(target: &SyncTarget, now: Timestamp) -> bool {
    target
        .spec
        .evict_after
        .is_some_and(|at| at.timestamp() <= now)
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

/// Taints of the target, and those that all of its cells have: then no cell is left.
fn taints(target: &SyncTarget) -> Vec<Taint> {
    let mut taints = target.spec.taints.clone();
    if let Some((first, rest)) = target.spec.cells.split_first() {
        let everywhere = |taint: &&Taint| rest.iter().all(|cell| cell.taints.contains(taint));
        taints.extend(first.taints.iter().filter(everywhere).cloned());
    }
    taints
}

#[cfg(test)]
mod tests;
