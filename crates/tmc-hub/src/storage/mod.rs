//! Objects on the revisioned store: the hub's [`ResourceStore`].
//!
//! Reads cut everything from one snapshot or one log position. Writes run strategy, defaulting,
//! admission and validation on values, then hand one mutation to the store's writer; what depends
//! on a write (RBAC caches, served resources, emptying a namespace) learns of it in
//! `Core::committed`, after it is durable and before the caller is answered.

mod read;
pub(crate) mod strategy;
mod watch;
mod write;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::Value;
use tmc_apimachinery::admission::Admission;
use tmc_apimachinery::definition::ResourceDefinition;
use tmc_apimachinery::options::{DeleteOptions, ListOptions, WriteOptions};
use tmc_apimachinery::status::{ApiError, Result};
use tmc_apimachinery::user::UserInfo;
use tmc_apimachinery::{ClusterName, GroupResource, GroupVersionResource};
use tmc_server::resource::{
    Deleted, Object, Page, ResourceRequest, ResourceStore, WatchStream, Written,
};

use crate::catalog::Catalog;
use crate::environment::SharedEnvironment;
use crate::identities::Signer;
use crate::keys;
use crate::lifecycle::Trigger;
use crate::rbac::Rbac;
use crate::tokens::{self, Keys};

/// What selectors need of an object, taken from it once when it is written or loaded.
#[derive(Debug, Default)]
pub struct Extracted {
    /// The labels.
    pub labels: BTreeMap<String, String>,
    /// Whether the object is marked for deletion.
    pub deleting: bool,
    /// Whether it refers to owners.
    pub owned: bool,
}

impl Extracted {
    /// Reads an encoded object.
    pub fn of(bytes: &Bytes) -> Self {
        #[derive(serde::Deserialize)]
        struct Envelope {
            #[serde(default)]
            metadata: Metadata,
        }
        #[derive(Default, serde::Deserialize)]
        struct Metadata {
            #[serde(default)]
            labels: BTreeMap<String, String>,
            #[serde(rename = "deletionTimestamp")]
            deletion_timestamp: Option<serde::de::IgnoredAny>,
            #[serde(rename = "ownerReferences")]
            owner_references: Option<serde::de::IgnoredAny>,
        }
        let envelope = serde_json::from_slice::<Envelope>(bytes);
        envelope.map_or_else(
            |_| Self::default(),
            |envelope| Self {
                labels: envelope.metadata.labels,
                deleting: envelope.metadata.deletion_timestamp.is_some(),
                owned: envelope.metadata.owner_references.is_some(),
            },
        )
    }
}

/// The hub's store.
pub type Store = tmc_store::Store<Extracted>;
/// One stored version of an object.
pub type Entry = tmc_store::Entry<Extracted>;
/// One change.
pub type Event = tmc_store::Event<Extracted>;

/// Whether the hub has workspaces, or is one plain cluster (a simulated member).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// `/clusters/<name>` URLs; every object carries `kcp.io/cluster`.
    Workspaces,
    /// No prefix, no `kcp.io` keys.
    Plain,
}

/// What all parts of a hub share.
pub struct Core {
    pub(crate) store: Store,
    pub(crate) environment: SharedEnvironment,
    pub(crate) catalog: Catalog,
    pub(crate) rbac: Rbac,
    pub(crate) admission: Arc<dyn Admission>,
    pub(crate) layout: Layout,
    pub(crate) triggers: tokio::sync::mpsc::UnboundedSender<Trigger>,
    pub(crate) signer: Option<Arc<dyn Signer>>,
    pub(crate) tokens: Keys,
    /// Dropped with the hub: tells tasks that wait for something else.
    pub(crate) alive: tokio::sync::watch::Sender<()>,
    pub(crate) base_url: Arc<dyn Fn() -> String + Send + Sync>,
}

/// One object of one resource in one logical cluster, as a write addresses it.
#[derive(Clone)]
pub(crate) struct Place {
    pub gvr: GroupVersionResource,
    pub definition: Arc<ResourceDefinition>,
    pub cluster: ClusterName,
    pub namespace: String,
    pub subresource: String,
    pub user: Arc<UserInfo>,
}

impl Place {
    pub(crate) fn main(
        definition: &Arc<ResourceDefinition>,
        cluster: &ClusterName,
        namespace: &str,
        user: &UserInfo,
    ) -> Self {
        Self {
            gvr: definition.gvr(),
            definition: definition.clone(),
            cluster: cluster.clone(),
            namespace: namespace.to_owned(),
            subresource: String::new(),
            user: Arc::new(user.clone()),
        }
    }

    fn of(request: &ResourceRequest) -> Result<Self> {
        let cluster = request.scope.one().ok_or_else(|| {
            ApiError::method_not_allowed(
                "only list and watch are possible in the `*` logical cluster",
            )
        })?;
        Ok(Self {
            gvr: request.definition.gvr(),
            definition: request.definition.clone(),
            cluster: cluster.clone(),
            namespace: request.namespace.clone(),
            subresource: request.subresource.clone(),
            user: request.user.clone(),
        })
    }

    pub(crate) fn resource(&self) -> GroupResource {
        self.definition.group_resource()
    }

    pub(crate) fn key(&self, name: &str) -> tmc_store::Key {
        keys::object_key(&self.resource(), &self.cluster, &self.namespace, name)
    }
}

impl Core {
    /// One object's current version.
    pub(crate) fn entry(
        &self,
        resource: &GroupResource,
        cluster: &ClusterName,
        namespace: &str,
        name: &str,
    ) -> Option<Arc<Entry>> {
        self.store
            .get(&keys::object_key(resource, cluster, namespace, name))
    }

    /// One object, decoded.
    pub(crate) fn read(
        &self,
        resource: &GroupResource,
        cluster: &ClusterName,
        namespace: &str,
        name: &str,
    ) -> Option<Value> {
        let entry = self.entry(resource, cluster, namespace, name)?;
        serde_json::from_slice(&entry.value).ok()
    }

    /// Every object of a resource in a logical cluster (and namespace, unless empty), decoded.
    pub(crate) fn read_all(
        &self,
        resource: &GroupResource,
        cluster: &ClusterName,
        namespace: &str,
    ) -> Vec<Value> {
        let scope = tmc_apimachinery::ClusterScope::One(cluster.clone());
        let prefix = keys::list_prefix(resource, &scope, namespace);
        let page = self.store.range(&prefix, None, None, 0);
        let entries = page.map(|p| p.entries).unwrap_or_default();
        entries
            .iter()
            .filter_map(|e| serde_json::from_slice(&e.value).ok())
            .collect()
    }
}

/// The hub's objects behind the server's verbs.
#[derive(Clone)]
pub struct HubStore(pub(crate) Arc<Core>);

#[async_trait]
impl ResourceStore for HubStore {
    async fn get(&self, request: &ResourceRequest, name: &str) -> Result<Object> {
        self.0.get_object(&Place::of(request)?, name)
    }

    async fn list(&self, request: &ResourceRequest, options: &ListOptions) -> Result<Page> {
        self.0.list_objects(request, options)
    }

    async fn watch(&self, request: &ResourceRequest, options: &ListOptions) -> Result<WatchStream> {
        self.0.watch_objects(request, options)
    }

    async fn create(
        &self,
        request: &ResourceRequest,
        name: &str,
        object: Value,
        options: &WriteOptions,
    ) -> Result<Written> {
        let place = Place::of(request)?;
        if crate::reviews::is_review(&place.definition.gvk) {
            return self.0.review(&place, object);
        }
        if tokens::is_token_request(&place) {
            return self.0.request_token(&place, name, object, options);
        }
        if !place.subresource.is_empty() {
            return Err(ApiError::method_not_allowed(format!(
                "{}/{} \"{name}\" cannot be created on this hub",
                place.resource(),
                place.subresource
            )));
        }
        self.0.create_object(&place, object, options).await
    }

    async fn update(
        &self,
        request: &ResourceRequest,
        name: &str,
        object: Value,
        options: &WriteOptions,
    ) -> Result<Written> {
        self.0
            .update_object(&Place::of(request)?, name, object, options)
            .await
    }

    async fn delete(
        &self,
        request: &ResourceRequest,
        name: &str,
        options: &DeleteOptions,
    ) -> Result<Deleted> {
        self.0
            .delete_object(&Place::of(request)?, name, options)
            .await
    }

    async fn delete_collection(
        &self,
        request: &ResourceRequest,
        list: &ListOptions,
        options: &DeleteOptions,
    ) -> Result<Page> {
        let place = Place::of(request)?;
        let page = self.0.list_objects(request, list)?;
        for object in &page.items {
            let value = object.value()?;
            let meta = tmc_apimachinery::meta::meta(&value);
            let mut place = place.clone();
            place.namespace = meta.namespace().to_owned();
            match self.0.delete_object(&place, meta.name(), options).await {
                Err(error) if error.code != 404 => return Err(error),
                _ => {}
            }
        }
        Ok(page)
    }
}
