//! How good the targets are that a Placement may be put on, and the best of them.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use tmc_api::scheduling::{PickedTarget, PlacementSpec};
use tmc_api::workload::{Taint, TaintEffect};

use super::facts::TargetFacts;
use super::filter::{Tally, Unfit, unfit};
use super::request::{Candidate, Request};
use crate::eviction::is_usable;

/// What is in the way of picking a target.
pub(super) fn obstacle(request: &Request<'_>, facts: &TargetFacts) -> Option<Unfit> {
    let here = &request.here;
    let draining = facts.is_draining(here.now);
    unfit(here.spec, here.in_use, request.quota, facts, draining)
}

/// Targets to pick from.
pub(super) struct Pool<'a> {
    spec: &'a PlacementSpec,
    /// Those that are fit and were not taken.
    pub(super) fit: Vec<Candidate<'a>>,
    /// How many there were at first.
    pub(super) first_count: usize,
    /// What was in the way of the others.
    pub(super) rejected: Tally,
}

impl<'a> Pool<'a> {
    /// Filters the targets that the Placement does not have.
    pub(super) fn new(request: &Request<'a>, candidates: &[Candidate<'a>]) -> Self {
        let here = &request.here;
        let had: BTreeSet<&PickedTarget> = request.current.iter().map(|held| held.target).collect();
        let mut pool = Self {
            spec: here.spec,
            fit: Vec::new(),
            first_count: 0,
            rejected: Tally::default(),
        };
        let others = |c: &&Candidate<'_>| c.location.is_some() && !had.contains(&c.facts.target);
        for candidate in candidates.iter().filter(others) {
            let facts = candidate.facts;
            match obstacle(request, facts) {
                Some(why) => pool.rejected.add(why, &facts.target.name),
                None => pool.fit.push(*candidate),
            }
        }
        pool.first_count = pool.fit.len();
        pool
    }

    /// Takes the best, with its reasons in words. `taken` counts the targets already picked by
    /// failure domain.
    pub(super) fn take_best(
        &mut self,
        taken: &BTreeMap<&str, u32>,
    ) -> Option<(Candidate<'a>, String)> {
        let (best, rank) = self
            .fit
            .iter()
            .enumerate()
            .map(|(at, candidate)| (at, Rank::new(self.spec, candidate, taken)))
            .min_by(|(a, x), (b, y)| {
                let key = |at: usize| (&self.fit[at].facts.target, self.fit[at].location);
                x.cmp(y).then_with(|| key(*a).cmp(&key(*b)))
            })?;
        let candidate = self.fit.swap_remove(best);
        let message = match self.first_count {
            1 => "no other is fit".to_owned(),
            fit => format!("best of {fit}: {}", rank.words(&candidate)),
        };
        Some((candidate, message))
    }
}

/// How good a candidate is: the smallest is the best.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    /// Taints that prefer otherwise.
    unwanted: usize,
    /// Free capacity (unknown counts as half), how little is there, and how few of the targets
    /// already picked share its failure domain, a hundred points each.
    points: Reverse<u32>,
    /// Targets already picked that share its failure domain.
    sharing: u32,
}

impl Rank {
    /// Ranks one.
    pub(super) fn new(
        spec: &PlacementSpec,
        candidate: &Candidate<'_>,
        taken: &BTreeMap<&str, u32>,
    ) -> Self {
        let facts = candidate.facts;
        let free = u32::from(facts.free.unwrap_or(50).min(100));
        let shared = |domain: &str| taken.get(domain).copied().unwrap_or(0);
        let sharing = match taken.is_empty() {
            true => 0,
            false => domains(spec, facts).map(shared).min().unwrap_or(0),
        };
        let spread = 100 / (1 + candidate.load) + 100 / (1 + sharing);
        Self {
            unwanted: unwanted(spec, facts),
            points: Reverse(free + spread),
            sharing,
        }
    }

    fn words(&self, candidate: &Candidate<'_>) -> String {
        let mut words = match candidate.facts.free {
            Some(percent) => format!("{percent} % free"),
            None => "free capacity unknown".to_owned(),
        };
        words += &format!(", {} other Placements", candidate.load);
        if self.sharing > 0 {
            words += &format!(", failure domain shared with {}", self.sharing);
        }
        if self.unwanted > 0 {
            words += &format!(", {} taints that prefer otherwise", self.unwanted);
        }
        words
    }
}

/// The failure domains of the cells that may be used; of a target without cells that of its label,
/// else itself.
pub(super) fn domains<'a>(
    spec: &'a PlacementSpec,
    facts: &'a TargetFacts,
) -> impl Iterator<Item = &'a str> + use<'a> {
    let usable = facts.cells.iter().filter(move |cell| is_usable(spec, cell));
    let own = facts.labels.get("location").unwrap_or(&facts.target.key);
    let own = facts.cells.is_empty().then_some(&**own);
    usable.map(|cell| &*cell.domain).chain(own)
}

/// Taints that prefer otherwise: those of the target, and of the usable cell with the fewest.
fn unwanted(spec: &PlacementSpec, facts: &TargetFacts) -> usize {
    let count = |taints: &[Taint]| {
        let soft = taints
            .iter()
            .filter(|t| t.effect == TaintEffect::PreferNoSchedule);
        soft.filter(|taint| !spec.tolerations.iter().any(|t| t.tolerates(taint)))
            .count()
    };
    let usable = facts.cells.iter().filter(|cell| is_usable(spec, cell));
    count(&facts.taints) + usable.map(|cell| count(&cell.taints)).min().unwrap_or(0)
}
