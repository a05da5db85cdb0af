//! Cluster-aware informers: list + watch into a store keyed by (logical cluster, namespace, name),
//! with named indexes and change handlers.

use std::sync::Arc;

use serde::de::DeserializeOwned;
use tmc_apimachinery::ClusterName;
use tokio_util::sync::CancellationToken;

use crate::client::ResourceClient;

/// Identity of an object on a hub, without its kind.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClusterKey {
    /// Logical cluster.
    pub cluster: ClusterName,
    /// Namespace, empty for cluster-scoped.
    pub namespace: String,
    /// Name.
    pub name: String,
}

/// A change in a store, seen by handlers after the store has it.
pub enum Change<'a, T> {
    /// New or changed; the version before, if any.
    Applied {
        /// Before.
        old: Option<&'a Arc<T>>,
        /// Now.
        new: &'a Arc<T>,
    },
    /// Gone.
    Deleted(&'a Arc<T>),
}

/// Builds a running informer.
pub struct Informer<T> {
    marker: std::marker::PhantomData<T>,
}

impl<T: DeserializeOwned + Send + Sync + 'static> Informer<T> {
    /// Lists and watches a resource. Objects are keyed by their `kcp.io/cluster` annotation, or by
    /// `cluster` if given (members, plain hubs).
    pub fn new(_client: ResourceClient, _cluster: Option<ClusterName>) -> Self {
        unimplemented!()
    }

    /// Restricts by label selector.
    #[must_use]
    pub fn labels(self, _selector: &str) -> Self {
        unimplemented!()
    }

    /// Restricts by field selector.
    #[must_use]
    pub fn fields(self, _selector: &str) -> Self {
        unimplemented!()
    }

    /// Adds an index: the values under which an object is found.
    #[must_use]
    pub fn index(
        self,
        _name: &'static str,
        _values: impl Fn(&ClusterKey, &T) -> Vec<String> + Send + Sync + 'static,
    ) -> Self {
        unimplemented!()
    }

    /// Adds a handler, called in order for every change (also those found by a re-list).
    #[must_use]
    pub fn on_change(
        self,
        _handler: impl Fn(&ClusterKey, Change<'_, T>) + Send + Sync + 'static,
    ) -> Self {
        unimplemented!()
    }

    /// Starts it; ends when `stop` is cancelled. Errors are retried with jittered back-off and
    /// logged; a 410 lists again.
    pub fn spawn(self, _stop: CancellationToken) -> Store<T> {
        unimplemented!()
    }
}

/// What an informer knows. Cheap to clone.
pub struct Store<T> {
    marker: std::marker::PhantomData<T>,
}

impl<T> Store<T> {
    /// One object.
    pub fn get(&self, _key: &ClusterKey) -> Option<Arc<T>> {
        unimplemented!()
    }

    /// Every object with this value in the named index, in key order.
    pub fn by_index(&self, _name: &'static str, _value: &str) -> Vec<(ClusterKey, Arc<T>)> {
        unimplemented!()
    }

    /// Every object, in key order.
    pub fn all(&self) -> Vec<(ClusterKey, Arc<T>)> {
        unimplemented!()
    }

    /// Resolves once the first list is in.
    pub async fn synced(&self) {
        unimplemented!()
    }

    /// Whether the first list is in.
    pub fn has_synced(&self) -> bool {
        unimplemented!()
    }
}
