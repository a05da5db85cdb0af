//! QuotaSpec: limits on what may be reserved, inline in a SyncTarget or in a FleetQuota.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::quantities::{ResourceList, resource_list_schema};
use crate::text_enum::text_enum;
use crate::time::Span;

/// Limits of one quota. A resource without any bound is not limited; of several quotas that match
/// a request, all must admit it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct QuotaSpec {
    /// Limits that are never passed; none negative.
    #[serde(default, skip_serializing_if = "ResourceList::is_empty")]
    #[schemars(schema_with = "resource_list_schema")]
    pub hard: ResourceList,
    /// Limits that only warn; not above the hard ones.
    #[serde(default, skip_serializing_if = "ResourceList::is_empty")]
    #[schemars(schema_with = "resource_list_schema")]
    pub soft: ResourceList,
    /// Which requests it is about; none means all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<QuotaScope>,
    /// Percent by resource, at least 100: multiplies the total that is counted from.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub overcommit: BTreeMap<String, i64>,
    /// How far requests that may burst go beyond `hard`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<Burst>,
    /// What happens when a limit that was lowered is exceeded.
    #[serde(default)]
    pub on_exceeded: OnExceeded,
}

text_enum! {
    /// What a quota's scope looks at.
    QuotaScopeName {
        /// The workspace of the workload.
        #[default]
        Workspace = "Workspace",
        /// Its namespace.
        Namespace = "Namespace",
        /// Its priority class.
        PriorityClass = "PriorityClass",
    }
}

text_enum! {
    /// How a quota's scope compares.
    ScopeOperator {
        /// One of the values.
        #[default]
        In = "In",
        /// None of the values.
        NotIn = "NotIn",
        /// There is one.
        Exists = "Exists",
        /// There is none.
        DoesNotExist = "DoesNotExist",
    }
}

/// One restriction of what a quota is about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct QuotaScope {
    /// What it looks at.
    pub scope_name: QuotaScopeName,
    /// How it compares.
    pub operator: ScopeOperator,
    /// With what; only with `In` and `NotIn`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
}

/// How far, how long and by whom a hard limit may be passed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Burst {
    /// Percent of `hard`, 100 (off) to 1000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 100, max = 1000))]
    pub percent: Option<i32>,
    /// How long an entry may sit above `hard`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_duration: Option<Span>,
    /// Whose pods may burst; none means nobody's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub priority_classes: Vec<String>,
}

text_enum! {
    /// What happens when a limit that was lowered is exceeded.
    OnExceeded {
        /// Nothing new is admitted.
        #[default]
        Block = "Block",
        /// The lowest priority leaves first, at the eviction rate.
        Evict = "Evict",
    }
}
