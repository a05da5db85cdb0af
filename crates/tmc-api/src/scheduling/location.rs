//! Location: a named set of SyncTargets of one workspace.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tmc_apimachinery::selector;
use tmc_apimachinery::status::{ApiError, Result};

use super::ResourceRef;
use crate::quantities::{ResourceList, resource_list_schema};

/// Which targets belong to a Location.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "scheduling.kcp.io",
    version = "v1alpha1",
    kind = "Location",
    plural = "locations",
    singular = "location",
    category = "kcp",
    status = "LocationStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "Location is a named set of SyncTargets that workload can be placed on.",
    printcolumn = r#"{"name": "Resource", "type": "string", "jsonPath": ".spec.resource.resource"}"#,
    printcolumn = r#"{"name": "Available", "type": "string", "jsonPath": ".status.availableInstances"}"#,
    printcolumn = r#"{"name": "Instances", "type": "string", "jsonPath": ".status.instances"}"#,
    printcolumn = r#"{"name": "Labels", "type": "string", "jsonPath": ".metadata.annotations.scheduling\\.kcp\\.io/labels"}"#,
    printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct LocationSpec {
    /// What is chosen from: SyncTargets.
    #[serde(default)]
    pub resource: ResourceRef,
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Labels that a Placement may select by; informational.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub available_selector_labels: Vec<AvailableSelectorLabel>,
    /// Which SyncTargets of the workspace belong to it: none if absent, all if empty (`{}`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_selector: Option<LabelSelector>,
}

/// A label that a Placement may select by.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AvailableSelectorLabel {
    /// Its key.
    #[schemars(length(min = 1, max = 317))]
    pub key: String,
    /// Values it has.
    #[schemars(length(min = 1))]
    pub values: Vec<String>,
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
}

/// How many targets a Location has; never more available ones than there are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LocationStatus {
    /// Matching SyncTargets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instances: Option<u32>,
    /// Those of them that are Ready, schedulable, and not past `evictAfter`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub available_instances: Option<u32>,
    /// What pods may use, summed over available targets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "resource_list_schema")]
    pub allocatable: Option<ResourceList>,
    /// What is reserved, summed over available targets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "resource_list_schema")]
    pub allocated: Option<ResourceList>,
    /// Generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

impl LocationSpec {
    /// Whether a SyncTarget with these labels belongs to the Location.
    ///
    /// # Errors
    /// 400 naming the field if the selector is not valid.
    pub fn selects(&self, labels: &BTreeMap<String, String>) -> Result<bool> {
        selects(self.instance_selector.as_ref(), labels)
    }

    /// What [`LocationSpec::selects`] asks, made ready to be asked of many SyncTargets.
    ///
    /// # Errors
    /// 400 naming the field if the selector is not valid.
    pub fn selector(&self) -> Result<Selector> {
        Selector::new(self.instance_selector.as_ref())
    }
}

/// Optional selectors of which one has to match, made ready to be asked often.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector(Vec<selector::LabelSelector>);

impl Selector {
    /// One of these has to match: without any nothing does; an empty selector matches everything.
    ///
    /// # Errors
    /// 400 naming the field of the first selector that is not valid.
    pub fn new<'a>(selectors: impl IntoIterator<Item = &'a LabelSelector>) -> Result<Self> {
        let read = |selector: &LabelSelector| {
            if *selector == LabelSelector::default() {
                return Ok(selector::LabelSelector::default());
            }
            let object = serde_json::to_value(selector).map_err(ApiError::internal)?;
            selector::LabelSelector::from_object(&object)
        };
        selectors
            .into_iter()
            .map(read)
            .collect::<Result<_>>()
            .map(Self)
    }

    /// Whether labels satisfy one of them.
    pub fn matches(&self, labels: Option<&BTreeMap<String, String>>) -> bool {
        let value = |key: &str| labels?.get(key).map(String::as_str);
        self.0.iter().any(|selector| selector.matches_by(value))
    }
}

/// Whether labels satisfy an optional selector: none selects nothing, an empty one everything.
///
/// # Errors
/// 400 naming the field if the selector is not valid.
pub fn selects(
    selector: Option<&LabelSelector>,
    labels: &BTreeMap<String, String>,
) -> Result<bool> {
    Ok(Selector::new(selector)?.matches(Some(labels)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn spec(selector: serde_json::Value) -> LocationSpec {
        serde_json::from_value(json!({"instanceSelector": selector})).unwrap()
    }

    #[test]
    fn an_absent_selector_selects_nothing_and_an_empty_one_everything() {
        let labels = BTreeMap::from([("location".to_owned(), "eu".to_owned())]);
        assert!(!LocationSpec::default().selects(&labels).unwrap());
        assert!(!spec(json!(null)).selects(&labels).unwrap());
        assert!(spec(json!({})).selects(&labels).unwrap());
        assert!(
            spec(json!({"matchLabels": {"location": "eu"}}))
                .selects(&labels)
                .unwrap()
        );
        assert!(
            !spec(json!({"matchLabels": {"location": "us"}}))
                .selects(&labels)
                .unwrap()
        );
    }

    #[test]
    fn a_selector_made_ready_answers_the_same() {
        let labels = BTreeMap::from([("location".to_owned(), "eu".to_owned())]);
        for selector in [
            json!(null),
            json!({}),
            json!({"matchLabels": {"location": "eu"}}),
            json!({"matchLabels": {"location": "us"}}),
            json!({"matchExpressions": [{"key": "x", "operator": "DoesNotExist"}]}),
        ] {
            let spec = spec(selector.clone());
            let ready = spec.selector().unwrap();
            assert_eq!(ready.matches(Some(&labels)), spec.selects(&labels).unwrap());
            let none = spec.selects(&BTreeMap::new()).unwrap();
            assert_eq!(ready.matches(None), none, "{selector}");
        }
    }

    #[test]
    fn an_invalid_selector_is_an_error_and_not_skipped() {
        let bad = json!({"matchExpressions": [{"key": "a", "operator": "Near", "values": ["b"]}]});
        assert!(spec(bad).selects(&BTreeMap::new()).is_err());
    }

    #[test]
    fn a_location_is_about_sync_targets_unless_it_says_otherwise() {
        let spec: LocationSpec = serde_json::from_value(json!({})).unwrap();
        assert_eq!(spec.resource.resource, "synctargets");
    }
}
