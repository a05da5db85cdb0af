//! Cluster-aware informers: list + watch into a store keyed by (logical cluster, namespace, name),
//! with named indexes and change handlers.

use serde::de::DeserializeOwned;
use tmc_apimachinery::ClusterName;
use tokio_util::sync::CancellationToken;

use crate::bounds::Budget;
use crate::client::{ListParams, ResourceClient};
use crate::jitter::Jitter;
use crate::reflector::{Reflector, Source};
pub use crate::store::{Change, ClusterKey, Store};

pub(crate) type Handler<T> = Box<dyn Fn(&ClusterKey, Change<'_, T>) + Send + Sync>;

/// Builds a running informer.
///
/// # Guarantees
/// Handlers are called one change at a time, in the order of the server's versions, after the store
/// has the change, from the informer's own task (so they must be quick: add a key to a queue).
/// An object that was deleted and made again while nobody watched is seen as deleted, then as new.
/// A list that fails half-way deletes nothing.
pub struct Informer<T> {
    client: ResourceClient,
    cluster: Option<ClusterName>,
    namespace: String,
    params: ListParams,
    budget: Option<Budget>,
    jitter: Jitter,
    handlers: Vec<Handler<T>>,
    store: Store<T>,
}

impl<T: DeserializeOwned + Send + Sync + 'static> Informer<T> {
    /// Lists and watches a resource. Objects are keyed by their `kcp.io/cluster` annotation, or by
    /// `cluster` if given (members, plain hubs). `metadata.managedFields` is dropped on ingest.
    /// `T` may name just the fields its reader needs: the rest is not kept.
    pub fn new(client: ResourceClient, cluster: Option<ClusterName>) -> Self {
        Self {
            client,
            cluster,
            namespace: String::new(),
            params: ListParams {
                limit: 500,
                ..ListParams::default()
            },
            budget: None,
            jitter: Jitter::random(),
            handlers: Vec::new(),
            store: Store::default(),
        }
    }

    /// Restricts to one namespace.
    #[must_use]
    pub fn namespace(mut self, namespace: &str) -> Self {
        self.namespace = namespace.to_owned();
        self
    }

    /// Restricts by label selector.
    #[must_use]
    pub fn labels(mut self, selector: &str) -> Self {
        self.params.labels = selector.to_owned();
        self
    }

    /// Restricts by field selector.
    #[must_use]
    pub fn fields(mut self, selector: &str) -> Self {
        self.params.fields = selector.to_owned();
        self
    }

    /// Keeps no more than this (without limit): for servers that are not trusted to stop by themselves.
    #[must_use]
    pub fn budget(mut self, budget: Budget) -> Self {
        self.budget = Some(budget);
        self
    }

    /// Sets how many objects are listed at once (500), fewer if they are too large for one answer:
    /// what a page costs in memory.
    #[must_use]
    pub fn page_size(mut self, objects: u32) -> Self {
        self.params.limit = objects;
        self
    }

    /// Sets the source of randomness for retries.
    #[must_use]
    pub fn jitter(mut self, jitter: Jitter) -> Self {
        self.jitter = jitter;
        self
    }

    /// Adds an index: the values under which an object is found. The function must depend on its
    /// arguments only.
    #[must_use]
    pub fn index(
        self,
        name: &'static str,
        values: impl Fn(&ClusterKey, &T) -> Vec<String> + Send + Sync + 'static,
    ) -> Self {
        self.store.add_index(name, Box::new(values));
        self
    }

    /// Adds a handler, called in order for every change (also those found by a re-list).
    #[must_use]
    pub fn on_change(
        mut self,
        handler: impl Fn(&ClusterKey, Change<'_, T>) + Send + Sync + 'static,
    ) -> Self {
        self.handlers.push(Box::new(handler));
        self
    }

    /// The store that the informer will fill, for handlers that read it.
    pub fn store(&self) -> Store<T> {
        self.store.clone()
    }

    /// Starts it; ends when `stop` is cancelled. Errors are retried with jittered back-off and
    /// logged; a 410 lists again.
    ///
    /// # Panics
    /// Outside a Tokio runtime.
    pub fn spawn(self, stop: CancellationToken) -> Store<T> {
        let store = self.store.clone();
        let source = Source {
            client: self.client,
            cluster: self.cluster,
            namespace: self.namespace,
            params: self.params,
            budget: self.budget,
        };
        let reflector = Reflector::new(source, self.store, self.handlers, self.jitter);
        tokio::spawn(async move {
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                never = reflector.run() => match never {},
            }
        });
        store
    }
}
