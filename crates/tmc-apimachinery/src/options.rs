//! Options of reads and writes (`meta/v1` `ListOptions`, `CreateOptions`, …), from query strings.

use crate::selector::{FieldSelector, LabelSelector};
use crate::status::Result;

/// How a `resourceVersion` on a list is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VersionMatch {
    /// At least as new as the version given.
    NotOlderThan,
    /// Exactly the version given.
    Exact,
}

/// Options of list and watch.
#[derive(Clone, Debug, Default)]
pub struct ListOptions {
    /// Label selector.
    pub labels: LabelSelector,
    /// Field selector.
    pub fields: FieldSelector,
    /// Page size; 0 means all.
    pub limit: usize,
    /// Token of the next page.
    pub continue_token: Option<String>,
    /// `None` when unset or empty (most recent), `Some(0)` means any.
    pub resource_version: Option<u64>,
    /// How the version is meant.
    pub version_match: Option<VersionMatch>,
    /// Watch: seconds until the server ends it.
    pub timeout_seconds: Option<u64>,
    /// Watch: send bookmarks.
    pub bookmarks: bool,
    /// Watch: start with synthetic ADDED events and an `initial-events-end` bookmark.
    pub send_initial_events: bool,
}

/// What happens to fields that the schema does not know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FieldValidation {
    /// Dropped silently.
    Ignore,
    /// Dropped, with a `Warning` header (the default since Kubernetes 1.27).
    #[default]
    Warn,
    /// 400 naming the fields.
    Strict,
}

/// Options of create, update and patch.
#[derive(Clone, Debug, Default)]
pub struct WriteOptions {
    /// `dryRun=All`: everything but storing.
    pub dry_run: bool,
    /// `fieldManager`.
    pub field_manager: Option<String>,
    /// `fieldValidation`.
    pub field_validation: FieldValidation,
    /// `force` of an apply patch.
    pub force: bool,
}

/// What becomes of dependents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// Dependents lose their owner reference and stay.
    Orphan,
    /// The object goes first, the garbage collector removes dependents.
    Background,
    /// Dependents go first.
    Foreground,
}

/// Body and query of a delete.
#[derive(Clone, Debug, Default)]
pub struct DeleteOptions {
    /// `dryRun=All`.
    pub dry_run: bool,
    /// `preconditions.uid`.
    pub uid: Option<String>,
    /// `preconditions.resourceVersion`.
    pub resource_version: Option<String>,
    /// `propagationPolicy`.
    pub propagation: Option<Propagation>,
    /// `gracePeriodSeconds`.
    pub grace_period_seconds: Option<i64>,
}

impl ListOptions {
    /// Reads a decoded query string.
    ///
    /// # Errors
    /// 400 naming the parameter for a malformed selector, number or resourceVersion, and for
    /// combinations that Kubernetes refuses (`resourceVersionMatch` without `resourceVersion`,
    /// `continue` with `resourceVersionMatch`, …).
    pub fn from_query(_query: &[(String, String)]) -> Result<Self> {
        unimplemented!()
    }
}

impl WriteOptions {
    /// Reads a decoded query string.
    ///
    /// # Errors
    /// 400 for a `dryRun` other than `All`, an unknown `fieldValidation`, a field manager longer
    /// than 128 characters or with unprintable ones.
    pub fn from_query(_query: &[(String, String)]) -> Result<Self> {
        unimplemented!()
    }
}

impl DeleteOptions {
    /// Reads a decoded query string and an optional `DeleteOptions` body (body wins).
    ///
    /// # Errors
    /// 400 naming the member that is malformed.
    pub fn from_request(
        _query: &[(String, String)],
        _body: Option<&serde_json::Value>,
    ) -> Result<Self> {
        unimplemented!()
    }
}
