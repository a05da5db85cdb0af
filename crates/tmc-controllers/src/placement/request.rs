//! What a Placement asks for, and what it may be given.

use tmc_api::scheduling::{PickedTarget, TargetDecision};

use super::facts::TargetFacts;
use super::filter::PlacementQuota;
use crate::eviction::Circumstances;

/// A SyncTarget that a Placement may use.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// The target.
    pub facts: &'a TargetFacts,
    /// The Location through which it is found; `None` for one that the Placement has although it
    /// belongs to no Location that matches (any more).
    pub location: Option<&'a str>,
    /// Every Location that it belongs to.
    pub homes: &'a [String],
    /// Other Placements that have it.
    pub load: u32,
}

/// A target that a Placement has.
#[derive(Clone, Copy, Debug)]
pub struct Held<'a> {
    /// Which.
    pub target: &'a PickedTarget,
    /// What was noted about it.
    pub decision: Option<&'a TargetDecision>,
}

/// What a Placement asks for.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// What holds for all targets.
    pub here: Circumstances<'a>,
    /// The targets it has.
    pub current: &'a [Held<'a>],
    /// What quotas say.
    pub quota: &'a dyn PlacementQuota,
    /// Whether one of these Locations lost so many targets at once that nothing is moved.
    pub guard: &'a dyn Fn(&[String]) -> bool,
    /// Whether it is its turn to move.
    pub turn: bool,
}
