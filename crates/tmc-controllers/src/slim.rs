//! The part of an object that labelling controllers need: metadata, and of that only what they read.
//! Thousands of objects are watched; their specs are not kept.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

/// An object without spec, data and status; of labels and annotations only those of `kcp.io` domains.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slim {
    /// Metadata.
    #[serde(default)]
    pub metadata: SlimMeta,
    /// `type` of a Secret.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub secret_type: Option<String>,
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
