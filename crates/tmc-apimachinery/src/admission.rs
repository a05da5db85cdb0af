//! The admission trait: rules that see every write before it is stored.

use async_trait::async_trait;
use serde_json::Value;

use crate::names::{ClusterName, GroupVersionKind, GroupVersionResource};
use crate::status::Result;
use crate::user::UserInfo;

/// What a write does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// A new object.
    Create,
    /// A change, by whatever verb.
    Update,
    /// A removal (also when it only sets `deletionTimestamp`).
    Delete,
}

/// One write as admission sees it. `object` is absent on delete, `old` on create.
#[derive(Clone, Debug)]
pub struct AdmissionRequest<'a> {
    /// What it does.
    pub operation: Operation,
    /// Logical cluster written to.
    pub cluster: &'a ClusterName,
    /// Kind written.
    pub gvk: &'a GroupVersionKind,
    /// Resource written.
    pub gvr: &'a GroupVersionResource,
    /// Subresource, empty for the main resource.
    pub subresource: &'a str,
    /// Namespace, empty if cluster-scoped.
    pub namespace: &'a str,
    /// Name; may be empty on create with `generateName`.
    pub name: &'a str,
    /// Who writes.
    pub user: &'a UserInfo,
    /// Whether nothing will be stored.
    pub dry_run: bool,
    /// The stored object.
    pub old: Option<&'a Value>,
}

/// A chain of rules plugged into the write path. Called for every write, subresources and the
/// object that a patch results in included; never for reads.
///
/// Guarantees to implementors: `mutate` runs after decoding and before schema defaulting and
/// validation, `validate` runs last on exactly what will be stored. Both must be free of side
/// effects: a write may be tried again after a conflict, or be a dry run.
#[async_trait]
pub trait Admission: Send + Sync {
    /// Sets defaults and repairs what a rule may repair (for example, keeps reserved keys that a
    /// PUT omitted).
    async fn mutate(&self, request: &AdmissionRequest<'_>, object: &mut Value) -> Result<()>;

    /// Refuses what must not be stored; `object` is `None` on delete.
    async fn validate(&self, request: &AdmissionRequest<'_>, object: Option<&Value>) -> Result<()>;
}

/// Admits everything.
#[derive(Clone, Copy, Debug, Default)]
pub struct AdmitAll;

#[async_trait]
impl Admission for AdmitAll {
    async fn mutate(&self, _: &AdmissionRequest<'_>, _: &mut Value) -> Result<()> {
        Ok(())
    }

    async fn validate(&self, _: &AdmissionRequest<'_>, _: Option<&Value>) -> Result<()> {
        Ok(())
    }
}
