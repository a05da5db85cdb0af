//! `scheduling.kcp.io/v1alpha1`: which targets there are to choose from, and what is wanted.

mod decision;
mod location;
mod placement;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use decision::{
    HoldReason, LeaveReason, Leaving, MAX_EXAMPLES, MAX_REJECTIONS, MAX_TARGETS, PickReason,
    Rejection, TargetDecision,
};
pub use location::{
    AvailableSelectorLabel, Location, LocationSpec, LocationStatus, Selector, selects,
};
pub use placement::{
    DecisionSet, Division, DivisionStrategy, DivisionWeight, LocationReference, PickedTarget,
    Placement, PlacementPhase, PlacementSpec, PlacementStatus, ReplicaMode, ResourceFloor,
    TargetCount, Toleration, TolerationOperator,
};

/// API group of this module's kinds.
pub const GROUP: &str = "scheduling.kcp.io";
/// Their version.
pub const VERSION: &str = "v1alpha1";

/// Types of the conditions of a Placement; `Ready` beside them.
pub mod condition {
    /// A target is picked.
    pub const SCHEDULED: &str = "Scheduled";
}

/// Reasons of these conditions.
pub mod reason {
    /// The selected Location does not exist (any more).
    pub const LOCATION_NOT_FOUND: &str = "LocationNotFound";
    /// The selected Location, or a selector, is not valid.
    pub const LOCATION_INVALID: &str = "LocationInvalid";
    /// The selector of namespaces is not valid, and selects none.
    pub const NAMESPACE_SELECTOR_INVALID: &str = "NamespaceSelectorInvalid";
    /// No Location matches the selectors.
    pub const LOCATION_NO_MATCH: &str = "LocationNoMatch";
    /// The Location to schedule in does not exist (any more).
    pub const SCHEDULE_LOCATION_NOT_FOUND: &str = "ScheduleLocationNotFound";
    /// No target of the Location passes every filter.
    pub const NO_VALID_TARGET: &str = "NoValidTarget";
    /// More targets are wanted than one Placement can have on this hub
    /// ([`super::MAX_TARGETS`]).
    pub const TOO_MANY_TARGETS: &str = "TooManyTargets";
    /// The workspace may not use the Location.
    pub const LOCATION_FORBIDDEN: &str = "LocationForbidden";
    /// A quota leaves no room.
    pub const QUOTA_EXCEEDED: &str = "QuotaExceeded";
}

/// A resource whose objects are chosen from.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct ResourceRef {
    /// Its group.
    #[serde(default)]
    pub group: String,
    /// Its version.
    pub version: String,
    /// Its plural name.
    pub resource: String,
}

impl Default for ResourceRef {
    /// SyncTargets: the only resource there is to choose from.
    fn default() -> Self {
        Self {
            group: crate::workload::GROUP.into(),
            version: crate::workload::VERSION.into(),
            resource: "synctargets".into(),
        }
    }
}
