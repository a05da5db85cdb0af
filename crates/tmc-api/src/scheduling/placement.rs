//! Placement: which namespaces run where.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::CustomResource;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use tmc_apimachinery::status::Result as ApiResult;

use super::ResourceRef;
use super::decision::{Rejection, TargetDecision};
use super::location::{Selector, selects};
use crate::conditions::Condition;
use crate::quantities::{ResourceList, resource_list_schema};
use crate::text_enum::text_enum;
use crate::workload::{Taint, TaintEffect};

/// What is to be placed, and where it may go.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "scheduling.kcp.io",
    version = "v1alpha1",
    kind = "Placement",
    plural = "placements",
    singular = "placement",
    category = "kcp",
    status = "PlacementStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "Placement says which namespaces run on targets of which Locations.",
    printcolumn = r#"{"name": "Phase", "type": "string", "jsonPath": ".status.phase"}"#,
    printcolumn = r#"{"name": "Location", "type": "string", "jsonPath": ".status.selectedLocation.locationName"}"#,
    printcolumn = r#"{"name": "Scheduled", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Scheduled\")].status"}"#,
    printcolumn = r#"{"name": "Reason", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Scheduled\")].reason", "priority": 1}"#,
    printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct PlacementSpec {
    /// Which Locations, by label; one match is enough, an empty list matches none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub location_selectors: Vec<LabelSelector>,
    /// What is chosen from: SyncTargets.
    #[serde(default)]
    pub location_resource: ResourceRef,
    /// Which namespaces: none if absent, all if empty (`{}`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<LabelSelector>,
    /// Path of the workspace of the Locations; its own if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location_workspace: Option<String>,
    /// How many targets to pick: a number from 1 on, or `All`.
    #[serde(default)]
    pub targets: TargetCount,
    /// What each of several targets runs.
    #[serde(default)]
    pub replicas: ReplicaMode,
    /// Which taints do not matter.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tolerations: Vec<Toleration>,
    /// How replicas are split; only with `replicas: Divided`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub division: Option<Division>,
    /// A floor that is reserved when the Placement is bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_requirements: Option<ResourceFloor>,
}

/// How many targets a Placement picks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TargetCount {
    /// This many, at least 1.
    Count(u32),
    /// Every one that matches.
    All,
}

impl Default for TargetCount {
    fn default() -> Self {
        Self::Count(1)
    }
}

impl fmt::Display for TargetCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => write!(f, "{count}"),
            Self::All => f.write_str("All"),
        }
    }
}

impl Serialize for TargetCount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Count(count) => serializer.serialize_u32(*count),
            Self::All => serializer.serialize_str("All"),
        }
    }
}

impl<'de> Deserialize<'de> for TargetCount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = TargetCount;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of targets or \"All\"")
            }

            fn visit_u64<E: de::Error>(self, count: u64) -> Result<TargetCount, E> {
                let count = u32::try_from(count);
                count
                    .map(TargetCount::Count)
                    .map_err(|_| E::custom("too many targets"))
            }

            fn visit_i64<E: de::Error>(self, count: i64) -> Result<TargetCount, E> {
                let count = u64::try_from(count);
                self.visit_u64(count.map_err(|_| E::custom("not a number of targets"))?)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<TargetCount, E> {
                match text {
                    "All" => Ok(TargetCount::All),
                    _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
                }
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for TargetCount {
    fn schema_name() -> Cow<'static, str> {
        "TargetCount".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "minimum": 1,
            "maximum": 100_000,
            "pattern": "^All$",
            "x-kubernetes-int-or-string": true,
        })
    }
}

text_enum! {
    /// What each of several targets runs.
    ReplicaMode {
        /// All of it.
        #[default]
        Duplicated = "Duplicated",
        /// A share of the replicas.
        Divided = "Divided",
    }
}

text_enum! {
    /// How a toleration compares.
    TolerationOperator {
        /// Key and value.
        #[default]
        Equal = "Equal",
        /// The key alone; an empty key means every taint.
        Exists = "Exists",
    }
}

/// Taints that do not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Toleration {
    /// Key of the taint; empty (only with `Exists`) means every key.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 317))]
    pub key: String,
    /// How it compares.
    #[serde(default)]
    pub operator: TolerationOperator,
    /// Value of the taint; empty with `Exists`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 63))]
    pub value: String,
    /// Effect of the taint; absent means every effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<TaintEffect>,
    /// For how long a `NoExecute` taint does not matter; for ever if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub toleration_seconds: Option<i64>,
}

impl Toleration {
    /// Whether a taint does not matter (for a time, if `tolerationSeconds` is set).
    pub fn tolerates(&self, taint: &Taint) -> bool {
        if self.effect.is_some_and(|effect| effect != taint.effect) {
            return false;
        }
        let every_key = self.key.is_empty() && self.operator == TolerationOperator::Exists;
        if !every_key && self.key != taint.key {
            return false;
        }
        self.operator == TolerationOperator::Exists || self.value == taint.value
    }
}

text_enum! {
    /// How replicas are split over targets.
    DivisionStrategy {
        /// As evenly as possible.
        #[default]
        Equal = "Equal",
        /// By given weights.
        Weighted = "Weighted",
        /// By free capacity.
        Capacity = "Capacity",
    }
}

/// How replicas are split over targets.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Division {
    /// By what.
    #[serde(default)]
    pub strategy: DivisionStrategy,
    /// The weights; only, and then necessarily, with `Weighted`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub weights: Vec<DivisionWeight>,
}

/// The weight of some targets.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DivisionWeight {
    /// Which targets.
    pub target_selector: LabelSelector,
    /// Their weight, 1 to 100.
    #[schemars(range(min = 1, max = 100))]
    pub weight: i32,
}

/// Resources reserved for a Placement as a whole.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ResourceFloor {
    /// How much, each above zero.
    #[serde(default, skip_serializing_if = "ResourceList::is_empty")]
    #[schemars(schema_with = "resource_list_schema")]
    pub requests: ResourceList,
}

text_enum! {
    /// Phase of a Placement.
    PlacementPhase {
        /// No Location is selected.
        #[default]
        Pending = "Pending",
        /// A Location is selected, but no namespace uses it.
        Unbound = "Unbound",
        /// At least one namespace uses it.
        Bound = "Bound",
    }
}

/// What a Placement led to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlacementStatus {
    /// How far it is.
    #[serde(default)]
    pub phase: PlacementPhase,
    /// The Location chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selected_location: Option<LocationReference>,
    /// The targets picked, at most 16, sorted by key.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sync_targets: Vec<PickedTarget>,
    /// Why each of them was picked, and whether it is to be left; in the same order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub decisions: Vec<TargetDecision>,
    /// What was in the way of the others when this was decided.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rejections: Vec<Rejection>,
    /// Above 16 targets: the set that holds them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision_set: Option<DecisionSet>,
    /// Name of the ResourceReservation of the floor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reservation: Option<String>,
    /// `Ready` and `Scheduled`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// Generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

/// A Location by workspace and name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LocationReference {
    /// Path of its workspace.
    pub path: String,
    /// Its name.
    pub location_name: String,
}

/// A target that was picked.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub struct PickedTarget {
    /// Its SyncTargetKey.
    pub key: String,
    /// Its logical cluster.
    pub cluster: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
}

/// A decision set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct DecisionSet {
    /// Its name: the value of the label `scheduling.kcp.io/decision-set`.
    pub name: String,
    /// How many targets it holds.
    pub count: u32,
}

impl PlacementSpec {
    /// Whether it is about a namespace with these labels.
    ///
    /// # Errors
    /// 400 naming the field if the selector is not valid.
    pub fn selects_namespace(&self, labels: &BTreeMap<String, String>) -> ApiResult<bool> {
        selects(self.namespace_selector.as_ref(), labels)
    }

    /// Whether a Location with these labels is one to choose.
    ///
    /// # Errors
    /// 400 naming the field if a selector that had to be looked at is not valid.
    pub fn selects_location(&self, labels: &BTreeMap<String, String>) -> ApiResult<bool> {
        for selector in &self.location_selectors {
            if selects(Some(selector), labels)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// `spec.namespaceSelector`, made ready to be asked of many namespaces.
    ///
    /// # Errors
    /// 400 naming the field if the selector is not valid.
    pub fn namespaces(&self) -> ApiResult<Selector> {
        Selector::new(&self.namespace_selector)
    }

    /// `spec.locationSelectors`, made ready to be asked of many Locations.
    ///
    /// # Errors
    /// 400 naming the field of the first selector that is not valid.
    pub fn locations(&self) -> ApiResult<Selector> {
        Selector::new(&self.location_selectors)
    }

    /// Whether every taint that keeps workload away is tolerated.
    pub fn tolerates<'a>(&self, taints: impl IntoIterator<Item = &'a Taint>) -> bool {
        taints
            .into_iter()
            .filter(|taint| taint.effect != TaintEffect::PreferNoSchedule)
            .all(|taint| self.tolerations.iter().any(|t| t.tolerates(taint)))
    }
}

impl Placement {
    /// Its conditions; none before the first status.
    pub fn conditions(&self) -> &[Condition] {
        self.status.as_ref().map_or(&[], |s| &s.conditions)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn spec(value: serde_json::Value) -> PlacementSpec {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn the_number_of_targets_is_a_number_or_all() {
        assert_eq!(spec(json!({})).targets, TargetCount::Count(1));
        assert_eq!(spec(json!({"targets": 3})).targets, TargetCount::Count(3));
        assert_eq!(spec(json!({"targets": "All"})).targets, TargetCount::All);
        assert_eq!(
            serde_json::to_value(TargetCount::All).unwrap(),
            json!("All")
        );
        assert_eq!(
            serde_json::to_value(TargetCount::Count(2)).unwrap(),
            json!(2)
        );
        for bad in [
            json!("all"),
            json!(-1),
            json!(1.5),
            json!(null),
            json!(5_000_000_000u64),
        ] {
            assert!(
                serde_json::from_value::<TargetCount>(bad.clone()).is_err(),
                "{bad}"
            );
        }
    }

    #[test]
    fn no_location_selector_matches_no_location_and_one_match_is_enough() {
        let labels = BTreeMap::from([("location".to_owned(), "eu".to_owned())]);
        assert!(!spec(json!({})).selects_location(&labels).unwrap());
        let two = json!({"locationSelectors": [
            {"matchLabels": {"location": "us"}}, {"matchLabels": {"location": "eu"}},
        ]});
        assert!(spec(two).selects_location(&labels).unwrap());
        assert!(!spec(json!({})).selects_namespace(&labels).unwrap());
        assert!(
            spec(json!({"namespaceSelector": {}}))
                .selects_namespace(&labels)
                .unwrap()
        );
    }

    #[test]
    fn a_toleration_compares_key_value_and_effect() {
        let taint = Taint {
            key: "a".into(),
            value: "b".into(),
            effect: TaintEffect::NoExecute,
        };
        let tolerates = |value| {
            serde_json::from_value::<Toleration>(value)
                .unwrap()
                .tolerates(&taint)
        };
        assert!(tolerates(json!({"key": "a", "value": "b"})));
        assert!(tolerates(json!({"key": "a", "operator": "Exists"})));
        assert!(tolerates(json!({"operator": "Exists"})));
        assert!(tolerates(
            json!({"operator": "Exists", "effect": "NoExecute"})
        ));
        assert!(!tolerates(
            json!({"operator": "Exists", "effect": "NoSchedule"})
        ));
        assert!(!tolerates(json!({"key": "a", "value": "c"})));
        assert!(!tolerates(json!({"key": "x", "operator": "Exists"})));
    }

    #[test]
    fn a_taint_that_only_prefers_keeps_nothing_away() {
        let taint = |effect| Taint {
            key: "a".into(),
            effect,
            ..Taint::default()
        };
        let bare = spec(json!({}));
        assert!(bare.tolerates(&[taint(TaintEffect::PreferNoSchedule)]));
        assert!(!bare.tolerates(&[taint(TaintEffect::NoSchedule)]));
        let tolerant = spec(json!({"tolerations": [{"key": "a"}]}));
        assert!(tolerant.tolerates(&[taint(TaintEffect::NoSchedule)]));
    }
}
