//! What is observed for one Placement before it is planned.

use std::collections::BTreeSet;

use jiff::Timestamp;
use tmc_apimachinery::{ClusterName, GroupResource};

use super::filter::PlacementQuota;
use super::fleet::Fleet;
use crate::eviction::Rules;

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
    /// Whether a Location may be used.
    pub fn allows(&self, location: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(names) => names.contains(location),
        }
    }
}

/// What is observed for one Placement.
#[derive(Clone, Copy)]
pub struct Observed<'a> {
    /// Path of its own workspace.
    pub own_path: &'a str,
    /// Where it chooses from.
    pub provider: &'a Provider,
    /// What it may use there.
    pub permission: &'a Permission,
    /// The provider's Locations and SyncTargets. In the load of those that this Placement has it counts
    /// too.
    pub fleet: &'a Fleet,
    /// A namespace that it selects carries the placement annotation.
    pub bound: bool,
    /// The resources of which the namespaces that it selects have objects, but for those that every
    /// target takes.
    pub in_use: &'a BTreeSet<GroupResource>,
    /// What quotas say.
    pub quota: &'a dyn PlacementQuota,
    /// How workload leaves targets.
    pub rules: Rules,
    /// Since when this process hears of targets.
    pub listening_since: Timestamp,
    /// Whether it is this Placement's turn to move.
    pub turn: bool,
}
