//! What a Placement remembers of its decisions, so that they can be explained: per target that it
//! has why it was picked and whether it is to be left, and what was in the way of the others.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::text_enum::text_enum;
use crate::time::Time;

/// Most targets that one Placement can have on this hub.
pub const MAX_TARGETS: usize = 16;
/// Most kinds of obstacles that `status.rejections` tells of.
pub const MAX_REJECTIONS: usize = 16;
/// Most targets that one of them names.
pub const MAX_EXAMPLES: usize = 3;

/// Why a target was picked, and what is to become of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TargetDecision {
    /// Its SyncTargetKey, as in `status.syncTargets`.
    pub key: String,
    /// The Location through which it was found.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub location: String,
    /// Why, for machines.
    #[serde(default)]
    pub reason: PickReason,
    /// Why, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// When it was picked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Time>,
    /// Set while it is to be left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leaving: Option<Leaving>,
}

text_enum! {
    /// Why a target was picked.
    PickReason {
        /// It had the best score of several.
        #[default]
        BestScore = "BestScore",
        /// No other was fit.
        OnlyFit = "OnlyFit",
        /// It takes over from one that is left.
        Replacement = "Replacement",
    }
}

/// Why a target that a Placement has is to be left, and why it has not been yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Leaving {
    /// Why.
    #[serde(default)]
    pub reason: LeaveReason,
    /// Since when that holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
    /// What is in the way; absent while its time has not come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<HoldReason>,
}

text_enum! {
    /// Why a target is left.
    LeaveReason {
        /// Nothing was heard of it for the eviction grace.
        #[default]
        Unreachable = "Unreachable",
        /// It is heard, but was not Ready for the eviction grace.
        NotReady = "NotReady",
        /// Its `spec.evictAfter` has passed.
        Draining = "Draining",
        /// It is drained by force: nothing is waited for.
        ForceDrained = "ForceDrained",
        /// It has a `NoExecute` taint that is not tolerated (any more).
        Tainted = "Tainted",
        /// It does not accept a resource that is in use.
        ApiNotAccepted = "ApiNotAccepted",
        /// It belongs to no Location that matches (any more).
        NotSelected = "NotSelected",
        /// It was deleted, or made anew.
        Deleted = "Deleted",
        /// The workspace may not use its Location any more.
        Forbidden = "Forbidden",
        /// There are more targets than the Placement wants.
        Surplus = "Surplus",
    }
}

text_enum! {
    /// What is in the way of leaving a target.
    HoldReason {
        /// No other target is fit to take over.
        #[default]
        NoReplacement = "NoReplacement",
        /// So many targets of the Location were lost at once that the hub rather doubts itself.
        PartitionGuard = "PartitionGuard",
        /// Its turn has not come: evictions are spread over time.
        RateLimited = "RateLimited",
    }
}

/// What was in the way of targets that were not picked, as of the last decision.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rejection {
    /// What, for machines: one CamelCase word.
    pub reason: String,
    /// What, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// How many targets.
    pub count: u32,
    /// The first of them by name; only for targets of the Placement's own workspace.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub examples: Vec<String>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_decision_is_written_in_words_and_read_back() {
        let decision = TargetDecision {
            key: "K".into(),
            location: "eu".into(),
            reason: PickReason::OnlyFit,
            message: "the only one that is fit".into(),
            time: None,
            leaving: Some(Leaving {
                reason: LeaveReason::Unreachable,
                since: serde_json::from_value(json!("2030-01-01T00:00:00Z")).unwrap(),
                held: Some(HoldReason::PartitionGuard),
            }),
        };
        let wire = json!({
            "key": "K", "location": "eu", "reason": "OnlyFit", "message": "the only one that is fit",
            "leaving": {"reason": "Unreachable", "since": "2030-01-01T00:00:00Z", "held": "PartitionGuard"},
        });
        assert_eq!(serde_json::to_value(&decision).unwrap(), wire);
        assert_eq!(
            serde_json::from_value::<TargetDecision>(wire).unwrap(),
            decision
        );
    }
}
