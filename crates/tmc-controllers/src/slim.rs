//! The part of an object that labelling controllers need: metadata, and of that only what they read.
//! Thousands of objects are watched; their specs are not kept.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

/// An object without spec, data and status; of labels and annotations only those of `kcp.io` domains.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slim {
    /// Metadata.
    #[serde(default)]
    pub metadata: SlimMeta,
    /// `type` of a Secret.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub secret_type: Option<String>,
    /// `spec.replicas`, if it is a whole number. Read, never written.
    #[serde(
        rename = "spec",
        default,
        skip_serializing,
        deserialize_with = "replicas_of"
    )]
    pub replicas: Option<i64>,
    /// Whether its status says that it is Available: see [`is_available`].
    #[serde(
        rename = "status",
        default,
        skip_serializing,
        deserialize_with = "availability"
    )]
    pub available: Option<bool>,
}

/// Metadata of a [`Slim`] object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SlimMeta {
    /// Name.
    pub name: String,
    /// Namespace, empty for cluster-scoped.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// UID.
    pub uid: String,
    /// Version.
    pub resource_version: String,
    /// When it was made, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub creation_timestamp: Option<String>,
    /// When its deletion was asked for, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deletion_timestamp: Option<String>,
    /// Labels of `kcp.io` domains.
    #[serde(
        deserialize_with = "of_our_domains",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub labels: BTreeMap<String, String>,
    /// Annotations of `kcp.io` domains.
    #[serde(
        deserialize_with = "of_our_domains",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub annotations: BTreeMap<String, String>,
    /// Finalizers, all of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub finalizers: Vec<String>,
    /// Owners.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub owner_references: Vec<SlimOwner>,
}

/// An owner reference, as far as it is looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SlimOwner {
    /// Whether it is the managing controller.
    pub controller: bool,
}

fn of_our_domains<'de, D: Deserializer<'de>>(de: D) -> Result<BTreeMap<String, String>, D::Error> {
    let all = Option::<BTreeMap<String, String>>::deserialize(de)?.unwrap_or_default();
    Ok(all
        .into_iter()
        .filter(|(key, _)| tmc_api::keys::is_reserved(key))
        .collect())
}

/// Reads `replicas` of a spec and passes over everything else without keeping any of it. A spec or
/// a number of another shape is none: what is no workload may have any spec.
fn replicas_of<'de, D: Deserializer<'de>>(de: D) -> Result<Option<i64>, D::Error> {
    de.deserialize_any(Member("replicas"))
}

/// The number in the member of this name; in nothing else is one. Without a name: the number itself.
#[derive(Clone, Copy)]
struct Member(&'static str);

impl<'de> DeserializeSeed<'de> for Member {
    type Value = Option<i64>;

    fn deserialize<D: Deserializer<'de>>(self, de: D) -> Result<Self::Value, D::Error> {
        de.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Member {
    type Value = Option<i64>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(name) = map.next_key::<Cow<'de, str>>()? {
            if !self.0.is_empty() && name == self.0 {
                found = map.next_value_seed(Self(""))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
        Ok(Some(number).filter(|_| self.0.is_empty()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
        Ok(i64::try_from(number).ok().filter(|_| self.0.is_empty()))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
}

fn availability<'de, D: Deserializer<'de>>(de: D) -> Result<Option<bool>, D::Error> {
    Ok(is_available(&Value::deserialize(de)?))
}

/// Whether a status says that what it is about is Available: by its condition of that name, else by
/// its counts of replicas; `None` if it has neither.
pub fn is_available(status: &Value) -> Option<bool> {
    let conditions = status.get("conditions").and_then(Value::as_array);
    let available = conditions
        .into_iter()
        .flatten()
        .find(|condition| condition["type"] == "Available");
    if let Some(condition) = available {
        return Some(condition["status"] == "True");
    }
    let count = |field: &str| status.get(field).and_then(Value::as_i64);
    // Before its controller has seen it, nothing is wanted and nothing is there.
    let observed = count("observedGeneration").is_some();
    let (wanted, have) = match (count("desiredNumberScheduled"), count("replicas")) {
        (Some(wanted), _) => (wanted, count("numberAvailable")),
        (None, Some(wanted)) => (
            wanted,
            count("availableReplicas").or(count("readyReplicas")),
        ),
        (None, None) => return None,
    };
    Some(observed && have.unwrap_or(0) >= wanted)
}

impl Slim {
    /// Whether a controller of the hub made it.
    pub fn has_controller(&self) -> bool {
        self.metadata
            .owner_references
            .iter()
            .any(|owner| owner.controller)
    }

    /// The target keys in state labels, with their values.
    pub fn states(&self) -> impl Iterator<Item = (&str, &str)> {
        states(&self.metadata.labels)
    }

    /// The target keys in syncer finalizers.
    pub fn syncer_finalizers(&self) -> impl Iterator<Item = &str> {
        self.metadata
            .finalizers
            .iter()
            .filter_map(|f| f.strip_prefix(tmc_api::keys::SYNCER_FINALIZER_PREFIX))
    }
}

/// The target keys in state labels, with their values.
pub fn states(labels: &BTreeMap<String, String>) -> impl Iterator<Item = (&str, &str)> {
    labels.iter().filter_map(|(key, value)| {
        Some((
            key.strip_prefix(tmc_api::keys::STATE_PREFIX)?,
            value.as_str(),
        ))
    })
}

#[cfg(test)]
mod replicas_tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    #[rstest]
    #[case(json!({"replicas": 3, "template": {"replicas": 7}}), Some(3))]
    #[case(json!({"template": {"replicas": 7}, "list": [1, {"replicas": 2}]}), None)]
    #[case(json!({"replicas": 0}), Some(0))]
    #[case(json!({"replicas": -1}), Some(-1))]
    #[case(json!({"replicas": "3"}), None)]
    #[case(json!({"replicas": {"min": 1, "replicas": 3}}), None)]
    #[case(json!({"replicas": null}), None)]
    #[case(json!([{"replicas": 3}]), None)]
    #[case(json!(3), None)]
    #[case(json!("text"), None)]
    #[case(json!(null), None)]
    fn replicas_are_read_from_a_spec_of_any_shape_and_never_written(
        #[case] spec: Value,
        #[case] expected: Option<i64>,
    ) {
        let object = json!({"metadata": {"name": "a"}, "spec": spec});
        let slim: Slim = serde_json::from_value(object.clone()).unwrap();
        assert_eq!(slim.replicas, expected);
        let text: Slim = serde_json::from_str(&object.to_string()).unwrap();
        assert_eq!(text, slim);
        assert!(serde_json::to_value(&slim).unwrap().get("spec").is_none());
    }
}

#[cfg(test)]
mod availability_tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    #[rstest]
    #[case(json!({"conditions": [{"type": "Available", "status": "True"}]}), Some(true))]
    #[case(json!({"conditions": [{"type": "Available", "status": "Unknown"}], "replicas": 0}), Some(false))]
    #[case(json!({"observedGeneration": 1, "replicas": 3, "availableReplicas": 3}), Some(true))]
    #[case(json!({"observedGeneration": 1, "replicas": 3, "readyReplicas": 3, "availableReplicas": 2}), Some(false))]
    #[case(json!({"observedGeneration": 1, "replicas": 2, "readyReplicas": 2}), Some(true))]
    #[case(json!({"replicas": 0}), Some(false))]
    #[case(json!({"observedGeneration": 1, "desiredNumberScheduled": 2, "numberAvailable": 1}), Some(false))]
    #[case(json!({"observedGeneration": 1, "desiredNumberScheduled": 2, "numberAvailable": 2}), Some(true))]
    #[case(json!({"conditions": {"Available": true}}), None)]
    #[case(json!({"succeeded": 1}), None)]
    #[case(json!("odd"), None)]
    fn availability_is_read_from_conditions_or_counts(
        #[case] status: Value,
        #[case] expected: Option<bool>,
    ) {
        assert_eq!(is_available(&status), expected);
        let object = json!({"metadata": {"name": "a"}, "status": status});
        let slim: Slim = serde_json::from_value(object).unwrap();
        assert_eq!(slim.available, expected);
        assert!(serde_json::to_value(&slim).unwrap().get("status").is_none());
    }
}
