//! What an explanation is made of: values as they were read, and what could not be read.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::Value;
use tmc_apimachinery::meta::meta;

use crate::context::Flags;

/// A list that was read, or why it was not.
#[derive(Clone, Debug)]
pub(super) enum Seen {
    /// All of it.
    All(Vec<Value>),
    /// The caller may not see it.
    Hidden,
}

impl Seen {
    pub(super) fn items(&self) -> &[Value] {
        match self {
            Self::All(items) => items,
            Self::Hidden => &[],
        }
    }

    pub(super) fn is_hidden(&self) -> bool {
        matches!(self, Self::Hidden)
    }
}

/// The kind of the object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Kind {
    pub(super) group: String,
    pub(super) version: String,
    /// Plural name.
    pub(super) resource: String,
    pub(super) kind: String,
    pub(super) namespaced: bool,
}

impl Kind {
    /// `deployments.apps`, as kubectl writes a resource.
    pub(super) fn shown(&self) -> String {
        if self.group.is_empty() {
            self.resource.clone()
        } else {
            format!("{}.{}", self.resource, self.group)
        }
    }
}

/// Everything that is known when the explanation is made.
#[derive(Clone, Debug)]
pub(super) struct World {
    /// Path of the workspace.
    pub(super) workspace: String,
    /// What leads a recommended command to a workspace.
    pub(super) flags: Flags,
    pub(super) kind: Kind,
    pub(super) name: String,
    /// Empty for an object that is not namespaced.
    pub(super) namespace: String,
    /// The object, if it exists.
    pub(super) object: Option<Value>,
    /// Its namespace, if that exists; the object itself if it is a namespace.
    pub(super) home: Option<Value>,
    pub(super) placements: Seen,
    /// SyncTargets by the path of the workspace that has them.
    pub(super) targets: BTreeMap<String, Seen>,
    pub(super) now: Timestamp,
}

impl World {
    /// How the object is called in sentences.
    pub(super) fn subject(&self) -> String {
        let kind = self.kind.kind.to_lowercase();
        if self.namespace.is_empty() || self.kind.kind == "Namespace" {
            format!("{kind} {}", self.name)
        } else {
            format!("{kind} {} in namespace {}", self.name, self.namespace)
        }
    }

    /// A SyncTarget that a Placement picked, as its workspace shows it.
    pub(super) fn target(&self, provider: &str, picked: &Value) -> Found<'_> {
        let Some(seen) = self.targets.get(provider).filter(|seen| !seen.is_hidden()) else {
            return Found::Hidden;
        };
        let same = |target: &&Value| {
            meta(target).name() == picked["name"] && meta(target).uid() == picked["uid"]
        };
        seen.items()
            .iter()
            .find(same)
            .map_or(Found::Gone, Found::There)
    }
}

/// What became of a picked SyncTarget.
#[derive(Clone, Copy, Debug)]
pub(super) enum Found<'a> {
    There(&'a Value),
    /// It is deleted, or was made again under another uid.
    Gone,
    /// The caller may not see it.
    Hidden,
}
