//! Which SyncTargets a Placement gets: filter, then score; deterministic, sticky, with reasons.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use tmc_api::scheduling::{
    HoldReason, LeaveReason, Leaving, MAX_TARGETS, PickReason, PickedTarget, ReplicaMode,
    TargetCount,
};
use tmc_api::time::Time;

use super::filter::Tally;
use super::request::{Candidate, Request};
use super::score::{Pool, Rank, domains, obstacle};
use super::words::leaving_words;
use crate::eviction::{Exit, exit};

/// A target that a Placement gets or keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pick {
    /// Which.
    pub target: PickedTarget,
    /// The Location through which it is found; `None` as in [`Candidate`].
    pub location: Option<String>,
    /// Why it was picked now; `None` if the Placement had it before.
    pub new: Option<(PickReason, String)>,
    /// Why it is to be left, if it is to and still here.
    pub leaving: Option<Leaving>,
}

/// A target that a Placement no longer gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    /// Which.
    pub target: PickedTarget,
    /// Why.
    pub reason: LeaveReason,
}

/// What was decided.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// The targets, in order of their keys.
    pub picks: Vec<Pick>,
    /// Those that it had before.
    pub left: Vec<Left>,
    /// What was in the way of the others; `None` if nobody looked, for nothing was missing.
    pub rejected: Option<Tally>,
    /// More would be picked if one Placement could have them.
    pub crowded: bool,
    /// Moving what was moved used up a turn.
    pub used_turn: bool,
    /// When the next of the targets is to be left, if no change comes before.
    pub next: Option<Timestamp>,
}

/// Decides.
///
/// * A target that the Placement has is kept while it exists, belongs to a Location that matches and
///   nothing makes it leave ([`exit`]); cordoning it does not, nor does another that scores better.
/// * One that is to be left is replaced by the best fit target. Without one it is kept, unless others
///   carry its share: with `All` or `Divided` those that stay. Drained by force it goes.
/// * What is missing is filled up with the best fit targets: fewest taints that prefer otherwise,
///   then free capacity, few other Placements and a failure domain of its own weighed together, then
///   the key.
/// * A surplus goes, the worst first.
pub fn schedule(request: &Request<'_>, candidates: &[Candidate<'_>]) -> Decision {
    Scheduler::new(request, candidates).decide()
}

struct Scheduler<'a> {
    request: &'a Request<'a>,
    candidates: &'a [Candidate<'a>],
    staying: Vec<Candidate<'a>>,
    leaving: Vec<(Candidate<'a>, Exit)>,
    /// Exits of those staying whose time has not come, by key.
    later: BTreeMap<&'a str, Exit>,
    pool: Option<Pool<'a>>,
    decision: Decision,
}

impl<'a> Scheduler<'a> {
    fn new(request: &'a Request<'a>, candidates: &'a [Candidate<'a>]) -> Self {
        let mut scheduler = Self {
            request,
            candidates,
            staying: Vec::new(),
            leaving: Vec::new(),
            later: BTreeMap::new(),
            pool: None,
            decision: Decision::default(),
        };
        scheduler.sort_current();
        scheduler
    }

    fn decide(mut self) -> Decision {
        let limit = match self.request.here.spec.targets {
            TargetCount::Count(count) => usize::try_from(count).unwrap_or(usize::MAX),
            TargetCount::All => usize::MAX,
        };
        let most = limit.min(MAX_TARGETS);
        self.drop_surplus(most);
        self.fill(most);
        self.leave(most);
        if limit > MAX_TARGETS {
            let more = self.pool().fit.len();
            self.decision.crowded = self.decision.picks.len() + more > MAX_TARGETS;
        }
        self.finish()
    }

    /// Sorts what the Placement has into what stays, what is to be left, and what is gone.
    fn sort_current(&mut self) {
        let here = &self.request.here;
        for held in self.request.current {
            let same = |c: &&Candidate<'_>| c.facts.target == *held.target;
            let Some(candidate) = self
                .candidates
                .iter()
                .find(same)
                .filter(|c| !c.facts.deleting)
            else {
                self.left(held.target, LeaveReason::Deleted);
                continue;
            };
            let recorded = held.decision.and_then(|decision| decision.leaving.as_ref());
            let selected = candidate.location.is_some();
            match exit(here, candidate.facts, selected, recorded) {
                Some(exit) if exit.due <= here.now => self.leaving.push((*candidate, exit)),
                later => {
                    if let Some(exit) = later {
                        let next = self
                            .decision
                            .next
                            .map_or(exit.due, |next| next.min(exit.due));
                        self.decision.next = Some(next);
                        self.later.insert(&candidate.facts.target.key, exit);
                    }
                    self.staying.push(*candidate);
                }
            }
        }
        // What waits for nothing first, then who has waited longest.
        self.leaving.sort_by(|(a, x), (b, y)| {
            let order = |c: &Candidate<'a>, exit: &Exit| {
                let forced = exit.reason == LeaveReason::ForceDrained;
                (!forced, exit.due, c.facts.target.key.clone())
            };
            order(a, x).cmp(&order(b, y))
        });
    }

    fn drop_surplus(&mut self, most: usize) {
        if self.staying.len() <= most {
            return;
        }
        let now = self.request.here.now;
        let spec = self.request.here.spec;
        self.staying.sort_by_cached_key(|c| {
            let unwell = !c.facts.ready || c.facts.is_draining(now) || c.facts.cordoned;
            let rank = Rank::new(spec, c, &BTreeMap::new());
            (!c.facts.ready, unwell, rank, c.facts.target.key.clone())
        });
        for candidate in self.staying.split_off(most) {
            self.left(&candidate.facts.target, LeaveReason::Surplus);
        }
    }

    /// Picks what is missing. What is to be left fills its place until it is.
    fn fill(&mut self, most: usize) {
        for candidate in std::mem::take(&mut self.staying) {
            let exit = self.later.remove(&*candidate.facts.target.key);
            self.keep(&candidate, exit.as_ref().and_then(|exit| noted(exit, None)));
        }
        while self.decision.picks.len() + self.leaving.len() < most {
            let Some((candidate, message)) = self.take_best() else {
                return;
            };
            let reason = match self.pool().first_count {
                1 => PickReason::OnlyFit,
                _ => PickReason::BestScore,
            };
            self.pick(&candidate, reason, message);
        }
    }

    /// Leaves what is to be left, as far as it may be.
    fn leave(&mut self, most: usize) {
        for (candidate, exit) in std::mem::take(&mut self.leaving) {
            // With fewer wanted than there were, those that stay are enough.
            if self.decision.picks.len() >= most && self.has_healthy() {
                self.left(&candidate.facts.target, exit.reason);
                continue;
            }
            match self.obstacle(&candidate, &exit) {
                Some(hold) => self.keep(&candidate, noted(&exit, Some(hold))),
                None => {
                    self.decision.used_turn |= exit.is_paced(candidate.facts);
                    self.replace(&candidate, &exit);
                }
            }
        }
    }

    fn obstacle(&mut self, candidate: &Candidate<'_>, exit: &Exit) -> Option<HoldReason> {
        if exit.is_guarded() && (self.request.guard)(candidate.homes) {
            return Some(HoldReason::PartitionGuard);
        }
        let forced = exit.reason == LeaveReason::ForceDrained;
        if self.pool().fit.is_empty() && !forced && !self.is_carried() {
            return Some(HoldReason::NoReplacement);
        }
        // One move a turn.
        let turn = self.request.turn && !self.decision.used_turn;
        (exit.is_paced(candidate.facts) && !turn).then_some(HoldReason::RateLimited)
    }

    /// Whether those that stay carry the share of one that goes.
    fn is_carried(&self) -> bool {
        let spec = self.request.here.spec;
        let shared = spec.targets == TargetCount::All || spec.replicas == ReplicaMode::Divided;
        shared && self.has_healthy()
    }

    fn has_healthy(&self) -> bool {
        self.decision
            .picks
            .iter()
            .filter(|pick| pick.leaving.is_none())
            .any(|pick| {
                let same = |c: &&Candidate<'_>| c.facts.target == pick.target;
                self.candidates
                    .iter()
                    .find(same)
                    .is_some_and(|c| c.facts.ready)
            })
    }

    fn replace(&mut self, candidate: &Candidate<'_>, exit: &Exit) {
        let old = &candidate.facts.target;
        if let Some((new, message)) = self.take_best() {
            let why = leaving_words(exit.reason);
            let message = format!("takes over from {}, which {why}; {message}", old.name);
            self.pick(&new, PickReason::Replacement, message);
        }
        self.left(old, exit.reason);
    }

    fn pick(&mut self, candidate: &Candidate<'_>, reason: PickReason, message: String) {
        self.decision.picks.push(Pick {
            target: candidate.facts.target.clone(),
            location: candidate.location.map(str::to_owned),
            new: Some((reason, message)),
            leaving: None,
        });
    }

    fn keep(&mut self, candidate: &Candidate<'_>, leaving: Option<Leaving>) {
        self.decision.picks.push(Pick {
            target: candidate.facts.target.clone(),
            location: candidate.location.map(str::to_owned),
            new: None,
            leaving,
        });
    }

    fn left(&mut self, target: &PickedTarget, reason: LeaveReason) {
        let target = target.clone();
        self.decision.left.push(Left { target, reason });
    }

    /// The targets that are fit and that it does not have, filtered when first asked for.
    fn pool(&mut self) -> &mut Pool<'a> {
        let (request, candidates) = (self.request, self.candidates);
        self.pool
            .get_or_insert_with(|| Pool::new(request, candidates))
    }

    fn take_best(&mut self) -> Option<(Candidate<'a>, String)> {
        let mut taken = BTreeMap::new();
        let picked: BTreeSet<&str> = self
            .decision
            .picks
            .iter()
            .map(|pick| &*pick.target.key)
            .collect();
        for candidate in self
            .candidates
            .iter()
            .filter(|c| picked.contains(&*c.facts.target.key))
        {
            for domain in domains(self.request.here.spec, candidate.facts) {
                *taken.entry(domain).or_insert(0) += 1;
            }
        }
        self.pool().take_best(&taken)
    }

    fn finish(mut self) -> Decision {
        self.decision.picks.sort_by(|a, b| a.target.cmp(&b.target));
        self.decision.left.sort_by(|a, b| a.target.cmp(&b.target));
        self.decision.rejected = self.pool.take().map(|pool| pool.rejected);
        if let Some(rejected) = &mut self.decision.rejected {
            // What was just left is one of the others from now on.
            for left in &self.decision.left {
                let same =
                    |c: &&Candidate<'_>| c.location.is_some() && c.facts.target == left.target;
                let candidate = self.candidates.iter().find(same);
                if let Some(why) = candidate.and_then(|c| obstacle(self.request, c.facts)) {
                    rejected.add(why, &left.target.name);
                }
            }
        }
        self.decision
    }
}

/// What is noted about a target that is to be left: what holds it up, or since when a taint whose
/// time has not come is there, which nothing else remembers.
fn noted(exit: &Exit, held: Option<HoldReason>) -> Option<Leaving> {
    let remembered = held.is_some() || exit.reason == LeaveReason::Tainted;
    remembered.then(|| Leaving {
        reason: exit.reason,
        since: Some(Time::new(exit.since)),
        held,
    })
}

#[cfg(test)]
mod tests;
