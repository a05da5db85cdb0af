//! Which SyncTarget a Placement gets: filter, then score; deterministic, with reasons.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use tmc_api::scheduling::{PickedTarget, PlacementSpec};
use tmc_api::workload::{Taint, TaintEffect};

/// A SyncTarget that belongs to a Location which the Placement selects and may use.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Which target.
    pub target: PickedTarget,
    /// The Location through which it is found: of several the first by name.
    pub location: String,
    /// Condition Ready is True.
    pub ready: bool,
    /// Its deletion was asked for.
    pub deleting: bool,
    /// `spec.unschedulable`.
    pub cordoned: bool,
    /// `spec.evictAfter` has passed.
    pub draining: bool,
    /// Condition APIAvailable is not False.
    pub apis: bool,
    /// Taints of the target (and of every cell, where all have them).
    pub taints: Vec<Taint>,
    /// Free capacity in percent; `None` if unknown.
    pub free: Option<u8>,
    /// Placements that have it already.
    pub load: u32,
}

/// What a Placement asks for.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// What it says.
    pub spec: &'a PlacementSpec,
    /// The target it has now.
    pub current: Option<&'a PickedTarget>,
}

/// Why a target was not taken; ordered as they are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Unfit {
    /// Being deleted.
    Deleting,
    /// Not Ready.
    NotReady,
    /// Cordoned.
    Cordoned,
    /// Being drained.
    Draining,
    /// Serves none of the synced APIs.
    NoApis,
    /// Has a taint that is not tolerated.
    Tainted,
}

impl Unfit {
    fn words(self) -> &'static str {
        match self {
            Self::Deleting => "being deleted",
            Self::NotReady => "not Ready",
            Self::Cordoned => "cordoned",
            Self::Draining => "being drained",
            Self::NoApis => "without accepted APIs",
            Self::Tainted => "with a taint that is not tolerated",
        }
    }
}

/// What was decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The target and the Location through which it was found.
    pub chosen: Option<(PickedTarget, String)>,
    /// The Placement had it already.
    pub kept: bool,
    /// How many of the others were unfit, and why.
    pub unfit: BTreeMap<Unfit, u32>,
}

impl Decision {
    /// Why nothing was chosen, in one clause: `2 not Ready, 1 cordoned`.
    pub fn why(&self) -> String {
        let parts: Vec<String> = self
            .unfit
            .iter()
            .map(|(why, count)| format!("{count} {}", why.words()))
            .collect();
        parts.join(", ")
    }
}

/// Decides.
///
/// A target that the Placement has is kept while it exists, belongs to a Location the Placement may
/// use, and is not being deleted: neither losing it nor cordoning it moves anything (the grace after
/// a loss is not over at once), and draining moves only if there is somewhere to go. Otherwise the
/// fit candidate with the best score wins: fewest taints that prefer otherwise, then free capacity
/// and spread weighed together, then the key.
pub fn schedule(request: &Request<'_>, candidates: &[Candidate]) -> Decision {
    let mut decision = Decision {
        chosen: None,
        kept: false,
        unfit: BTreeMap::new(),
    };
    let current = request.current.and_then(|current| {
        candidates
            .iter()
            .find(|c| c.target == *current && !c.deleting)
    });
    if let Some(current) = current.filter(|c| !c.draining) {
        decision.chosen = Some((current.target.clone(), current.location.clone()));
        decision.kept = true;
        return decision;
    }
    let mut fit = Vec::new();
    for candidate in candidates {
        match unfit(request, candidate) {
            None => fit.push(candidate),
            Some(why) => *decision.unfit.entry(why).or_insert(0) += 1,
        }
    }
    let best = fit.into_iter().min_by_key(|c| {
        (
            unwanted(request, c),
            Reverse(score(c)),
            &c.target.key,
            &c.location,
        )
    });
    decision.kept = best.is_none() && current.is_some();
    decision.chosen = best
        .or(current)
        .map(|candidate| (candidate.target.clone(), candidate.location.clone()));
    decision
}

fn unfit(request: &Request<'_>, candidate: &Candidate) -> Option<Unfit> {
    [
        (candidate.deleting, Unfit::Deleting),
        (!candidate.ready, Unfit::NotReady),
        (candidate.cordoned, Unfit::Cordoned),
        (candidate.draining, Unfit::Draining),
        (!candidate.apis, Unfit::NoApis),
        (!request.spec.tolerates(&candidate.taints), Unfit::Tainted),
    ]
    .into_iter()
    .find_map(|(applies, why)| applies.then_some(why))
}

fn unwanted(request: &Request<'_>, candidate: &Candidate) -> usize {
    let soft = candidate
        .taints
        .iter()
        .filter(|t| t.effect == TaintEffect::PreferNoSchedule);
    soft.filter(|taint| !request.spec.tolerations.iter().any(|t| t.tolerates(taint)))
        .count()
}

/// Free capacity (unknown counts as half) and, equally, how little is there already.
fn score(candidate: &Candidate) -> u32 {
    u32::from(candidate.free.unwrap_or(50).min(100)) + 100 / (1 + candidate.load)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    fn candidate(name: &str) -> Candidate {
        Candidate {
            target: PickedTarget {
                key: format!("K{name}"),
                cluster: "c".into(),
                name: name.into(),
                uid: format!("u{name}"),
            },
            location: "l".into(),
            ready: true,
            deleting: false,
            cordoned: false,
            draining: false,
            apis: true,
            taints: vec![],
            free: None,
            load: 0,
        }
    }

    fn taint(key: &str, value: &str, effect: TaintEffect) -> Taint {
        Taint {
            key: key.into(),
            value: value.into(),
            effect,
        }
    }

    fn request<'a>(spec: &'a PlacementSpec, current: Option<&'a PickedTarget>) -> Request<'a> {
        Request { spec, current }
    }

    fn chosen(decision: &Decision) -> Option<&str> {
        decision.chosen.as_ref().map(|(target, _)| &*target.name)
    }

    type Change = fn(&mut Candidate);

    #[rstest]
    #[case(|c: &mut Candidate| c.ready = false, Unfit::NotReady)]
    #[case(|c: &mut Candidate| c.deleting = true, Unfit::Deleting)]
    #[case(|c: &mut Candidate| c.cordoned = true, Unfit::Cordoned)]
    #[case(|c: &mut Candidate| c.draining = true, Unfit::Draining)]
    #[case(|c: &mut Candidate| c.apis = false, Unfit::NoApis)]
    #[case(|c: &mut Candidate| c.taints = vec![taint("a", "", TaintEffect::NoSchedule)], Unfit::Tainted)]
    #[case(|c: &mut Candidate| c.taints = vec![taint("a", "", TaintEffect::NoExecute)], Unfit::Tainted)]
    fn a_new_placement_avoids_what_is_unfit_and_says_why(
        #[case] change: Change,
        #[case] why: Unfit,
    ) {
        let (mut bad, good) = (candidate("a"), candidate("b"));
        change(&mut bad);
        let decision = schedule(
            &request(&PlacementSpec::default(), None),
            &[bad.clone(), good],
        );
        assert_eq!(chosen(&decision), Some("b"));
        let decision = schedule(&request(&PlacementSpec::default(), None), &[bad]);
        assert_eq!(decision.chosen, None);
        assert_eq!(decision.unfit, BTreeMap::from([(why, 1)]));
        assert_eq!(decision.why(), format!("1 {}", why.words()));
    }

    #[rstest]
    #[case::lost(|c: &mut Candidate| c.ready = false, "a")]
    #[case::cordoned(|c: &mut Candidate| c.cordoned = true, "a")]
    #[case::tainted(|c: &mut Candidate| c.taints = vec![taint("x", "", TaintEffect::NoSchedule)], "a")]
    #[case::drained(|c: &mut Candidate| c.draining = true, "b")]
    #[case::deleted(|c: &mut Candidate| c.deleting = true, "b")]
    #[case::made_anew(|c: &mut Candidate| c.target.uid = "other".into(), "b")]
    fn what_a_placement_has_it_keeps_unless_told_to_leave(
        #[case] change: Change,
        #[case] expected: &str,
    ) {
        let (mut current, mut better) = (candidate("a"), candidate("b"));
        change(&mut current);
        current.load = 9;
        better.free = Some(100);
        let (spec, has) = (PlacementSpec::default(), candidate("a").target);
        let request = request(&spec, Some(&has));
        assert_eq!(
            chosen(&schedule(&request, &[current, better])),
            Some(expected)
        );
    }

    #[test]
    fn draining_moves_nothing_without_somewhere_to_go_but_deletion_does() {
        let (spec, has) = (PlacementSpec::default(), candidate("a").target);
        let request = request(&spec, Some(&has));
        let (mut current, mut other) = (candidate("a"), candidate("b"));
        other.ready = false;
        current.draining = true;
        let decision = schedule(&request, &[current.clone(), other.clone()]);
        assert_eq!((chosen(&decision), decision.kept), (Some("a"), true));
        current.deleting = true;
        let decision = schedule(&request, &[current, other]);
        assert_eq!(decision.chosen, None);
        assert_eq!(decision.why(), "1 being deleted, 1 not Ready");
    }

    #[test]
    fn a_tolerated_taint_keeps_nothing_away() {
        let mut tainted = candidate("a");
        tainted.taints = vec![taint("a", "v", TaintEffect::NoSchedule)];
        for (key, fits) in [("a", true), ("b", false)] {
            let toleration = serde_json::json!({"key": key, "operator": "Exists"});
            let spec = serde_json::json!({"tolerations": [toleration]});
            let spec: PlacementSpec = serde_json::from_value(spec).unwrap();
            let decision = schedule(&request(&spec, None), &[tainted.clone()]);
            assert_eq!(decision.chosen.is_some(), fits);
        }
    }

    #[test]
    fn preference_then_capacity_and_spread_then_the_key_decide() {
        let pick = |change: &dyn Fn(&mut [Candidate; 2])| {
            let mut pair = [candidate("a"), candidate("b")];
            change(&mut pair);
            chosen(&schedule(&request(&PlacementSpec::default(), None), &pair))
                .unwrap()
                .to_owned()
        };
        assert_eq!(pick(&|_| {}), "a");
        assert_eq!(pick(&|p| p[0].load = 1), "b");
        assert_eq!(pick(&|p| p[1].free = Some(60)), "b");
        assert_eq!(pick(&|p| p[0].free = Some(40)), "b");
        assert_eq!(
            pick(&|p| {
                p[1].free = Some(100);
                p[1].taints = vec![taint("x", "", TaintEffect::PreferNoSchedule)];
            }),
            "a"
        );
    }

    proptest! {
        /// Equal inputs in any order give the same choice, and what was chosen is kept.
        #[test]
        fn the_choice_is_deterministic_and_stable(
            specs in prop::collection::vec((any::<bool>(), any::<bool>(), 0_u8..=100, 0_u32..4), 0..8),
            turn in 0_usize..8,
        ) {
            let mut candidates: Vec<_> = specs.iter().enumerate().map(|(n, spec)| {
                let mut c = candidate(&n.to_string());
                (c.ready, c.cordoned, c.free, c.load) = (spec.0, spec.1, Some(spec.2), spec.3);
                c
            }).collect();
            let first = schedule(&request(&PlacementSpec::default(), None), &candidates);
            if !candidates.is_empty() {
                let by = turn % candidates.len();
                candidates.rotate_left(by);
            }
            prop_assert_eq!(&schedule(&request(&PlacementSpec::default(), None), &candidates), &first);
            if let Some((target, location)) = first.chosen {
                let spec = PlacementSpec::default();
                let again = schedule(&request(&spec, Some(&target)), &candidates);
                prop_assert!(again.kept);
                prop_assert_eq!(again.chosen, Some((target, location)));
            }
        }
    }
}
