//! The resource store trait: what an API surface must offer so that this server can put the
//! Kubernetes REST verbs in front of it.

use std::any::Any;
use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::Stream;
use serde_json::Value;
use tmc_apimachinery::ClusterScope;
use tmc_apimachinery::definition::ResourceDefinition;
use tmc_apimachinery::options::{DeleteOptions, ListOptions, WriteOptions};
use tmc_apimachinery::status::{ApiError, Result};
use tmc_apimachinery::user::UserInfo;

/// Where a request points, after routing, authentication and authorization.
#[derive(Clone)]
pub struct ResourceRequest {
    /// Logical cluster(s).
    pub scope: ClusterScope,
    /// What is addressed.
    pub definition: Arc<ResourceDefinition>,
    /// Namespace; empty for cluster-scoped resources and for all namespaces.
    pub namespace: String,
    /// Subresource; empty for the main resource.
    pub subresource: String,
    /// Who asks.
    pub user: Arc<UserInfo>,
    /// What the surface's resolver attached (a virtual workspace: its target).
    pub domain: Option<Arc<dyn Any + Send + Sync>>,
}

/// An object as encoded JSON with `apiVersion`, `kind` and its `resourceVersion`.
#[derive(Clone, Debug)]
pub struct Object {
    /// The encoding, shared with whoever else reads the same version.
    pub bytes: Bytes,
}

impl Object {
    /// Encodes a value.
    pub fn from_value(value: &Value) -> Self {
        Self {
            bytes: serde_json::to_vec(value)
                .map(Bytes::from)
                .unwrap_or_default(),
        }
    }

    /// Decodes.
    ///
    /// # Errors
    /// 500 if the bytes are not JSON, which stored objects always are.
    pub fn value(&self) -> Result<Value> {
        serde_json::from_slice(&self.bytes).map_err(ApiError::internal)
    }
}

/// One page of a list.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// The objects, in key order.
    pub items: Vec<Object>,
    /// Revision the page was read at.
    pub resource_version: String,
    /// Token of the next page; empty at the end.
    pub continue_token: String,
    /// Objects after this page, when known.
    pub remaining: Option<u64>,
}

/// Kind of a watch event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// The object entered the selection.
    Added,
    /// It changed inside it.
    Modified,
    /// It left it; the object carries the event's resourceVersion.
    Deleted,
    /// Only a resourceVersion up to which all has been sent.
    Bookmark,
}

/// One watch event; an `Err` item of the stream becomes an `ERROR` event and ends the watch.
#[derive(Clone, Debug)]
pub struct WatchEvent {
    /// Kind.
    pub kind: EventKind,
    /// The object (for a bookmark: kind, apiVersion and `metadata` only).
    pub object: Object,
}

/// A running watch. Dropping it ends it. The *server* ends it at the timeout and on shutdown.
pub type WatchStream = Pin<Box<dyn Stream<Item = Result<WatchEvent>> + Send>>;

/// Outcome of a delete.
#[derive(Clone, Debug)]
pub enum Deleted {
    /// It is gone; the last state, for the answer.
    Gone(Object),
    /// It only got its `deletionTimestamp`: finalizers hold it.
    Pending(Object),
}

/// Objects behind the verbs.
///
/// **Contract.** `get` of what is not there or not visible is 404 alike. `create` and `update`
/// take the object as the user sent it (decoded, `apiVersion`/`kind` checked) and run everything
/// between decoding and storing: strategy, defaulting, admission, validation. `update` with a
/// `metadata.resourceVersion` in the body is conditional (409 `Conflict` if stale), without one it
/// is unconditional; a uid in the body that is not the stored one is 409. A patch is done by the
/// server as get, patch, `update` conditional on the version read, and tried again on 409.
/// **Cancellation.** Dropping a write's future before it was handed to the writer has no effect;
/// after that it commits.
#[async_trait]
pub trait ResourceStore: Send + Sync {
    /// One object (or its subresource).
    async fn get(&self, request: &ResourceRequest, name: &str) -> Result<Object>;

    /// A page of objects.
    async fn list(&self, request: &ResourceRequest, options: &ListOptions) -> Result<Page>;

    /// Changes from `options.resource_version` on (none or 0: synthetic ADDED events first).
    async fn watch(&self, request: &ResourceRequest, options: &ListOptions) -> Result<WatchStream>;

    /// A new object (or a POST to a subresource of `name`; `name` is empty otherwise).
    async fn create(
        &self,
        request: &ResourceRequest,
        name: &str,
        object: Value,
        options: &WriteOptions,
    ) -> Result<Written>;

    /// Replaces an object or one of its subresources.
    async fn update(
        &self,
        request: &ResourceRequest,
        name: &str,
        object: Value,
        options: &WriteOptions,
    ) -> Result<Written>;

    /// Removes an object, or marks it while finalizers hold it.
    async fn delete(
        &self,
        request: &ResourceRequest,
        name: &str,
        options: &DeleteOptions,
    ) -> Result<Deleted>;

    /// Removes every selected object; returns them as a page.
    async fn delete_collection(
        &self,
        request: &ResourceRequest,
        list: &ListOptions,
        options: &DeleteOptions,
    ) -> Result<Page>;
}

/// Outcome of a create or update.
#[derive(Clone, Debug)]
pub struct Written {
    /// The object as stored (or as it would be, on a dry run).
    pub object: Object,
    /// Whether it is new (201 rather than 200).
    pub created: bool,
    /// Texts for `Warning` headers (unknown or duplicate fields).
    pub warnings: Vec<String>,
}
