//! The loop of an informer: list, watch from there, and again.

use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tmc_apimachinery::ClusterName;
use tmc_apimachinery::meta::meta;
use tokio::time::Instant;

use crate::client::{Error, ListParams, ResourceClient};
use crate::informer::Handler;
use crate::jitter::{Jitter, exponential};
use crate::store::{Change, ClusterKey, Entry, Store};
use crate::watch::{WatchEvent, WatchParams};

/// Delays after failures in a row.
const FIRST_RETRY: Duration = Duration::from_millis(100);
const LAST_RETRY: Duration = Duration::from_secs(30);
/// How long one watch lasts, before jitter.
const WATCH: Duration = Duration::from_secs(270);
/// How much longer than asked a watch may last before it counts as dead.
const GRACE: Duration = Duration::from_secs(30);
/// A watch that ends sooner and without an event counts as a failure (else it would spin).
const TOO_SHORT: Duration = Duration::from_secs(1);

/// What is listed and watched.
pub(crate) struct Source {
    pub(crate) client: ResourceClient,
    pub(crate) cluster: Option<ClusterName>,
    pub(crate) namespace: String,
    pub(crate) params: ListParams,
}

pub(crate) struct Reflector<T> {
    source: Source,
    store: Store<T>,
    handlers: Vec<Handler<T>>,
    jitter: Jitter,
    /// Failures since the last success.
    failures: u32,
}

impl<T: DeserializeOwned + Send + Sync + 'static> Reflector<T> {
    pub(crate) fn new(
        source: Source,
        store: Store<T>,
        handlers: Vec<Handler<T>>,
        jitter: Jitter,
    ) -> Self {
        Self {
            source,
            store,
            handlers,
            jitter,
            failures: 0,
        }
    }

    pub(crate) async fn run(mut self) -> Infallible {
        loop {
            let mut version = match self.list().await {
                Ok(version) => version,
                Err(error) => {
                    self.back_off("list", &error).await;
                    continue;
                }
            };
            self.store.set_synced();
            loop {
                let started = Instant::now();
                let before = version.clone();
                match self.watch(&mut version).await {
                    Ok(()) if version == before && started.elapsed() < TOO_SHORT => {
                        self.back_off("watch", &Error::Transport("ended at once".into()))
                            .await;
                    }
                    Ok(()) => self.failures = 0,
                    Err(error) if error.code() == Some(410) => {
                        tracing::debug!(resource = %self.source.client.gvr().resource, "version expired");
                        // A server that expires every version must not be asked in a tight loop.
                        if version == before {
                            self.back_off("watch", &error).await;
                        }
                        break;
                    }
                    Err(error) => self.back_off("watch", &error).await,
                }
            }
        }
    }

    async fn back_off(&mut self, what: &'static str, error: &Error) {
        let delay = exponential(FIRST_RETRY, LAST_RETRY, self.failures);
        let delay = delay.max(error.retry_after().unwrap_or_default().min(LAST_RETRY));
        let delay = self.jitter.stretch(delay, 50);
        let resource = &self.source.client.gvr().resource;
        // Once per run of failures, loudly only when it persists.
        if self.failures == 3 {
            tracing::warn!(resource, ?delay, %error, "{what} keeps failing, will retry");
        } else {
            tracing::debug!(resource, ?delay, %error, "{what} failed, will retry");
        }
        self.failures = self.failures.saturating_add(1);
        tokio::time::sleep(delay).await;
    }

    /// Lists everything, page by page; gives the version to watch from.
    async fn list(&mut self) -> Result<String, Error> {
        let mut params = self.source.params.clone();
        let mut seen = HashSet::new();
        loop {
            let mut page = self
                .source
                .client
                .list(&self.source.namespace, &params)
                .await?;
            let kind = page["kind"]
                .as_str()
                .and_then(|k| k.strip_suffix("List"))
                .map(str::to_owned);
            let api_version = page["apiVersion"].take();
            if let Value::Array(items) = page["items"].take() {
                for mut item in items {
                    // Items of a list do not name their kind on every server.
                    if let (Some(kind), Some(fields)) = (&kind, item.as_object_mut()) {
                        fields.entry("kind").or_insert_with(|| kind.as_str().into());
                        fields
                            .entry("apiVersion")
                            .or_insert_with(|| api_version.clone());
                    }
                    if let Some(key) = self.key_of(&item) {
                        self.apply(&key, item);
                        seen.insert(key);
                    }
                }
            }
            let metadata = &page["metadata"];
            match metadata["continue"]
                .as_str()
                .filter(|token| !token.is_empty())
            {
                Some(token) => params.continue_token = token.to_owned(),
                None => {
                    let version = metadata["resourceVersion"]
                        .as_str()
                        .unwrap_or_default()
                        .to_owned();
                    for key in self.store.keys_not_in(&seen) {
                        self.delete(&key);
                    }
                    self.failures = 0;
                    return Ok(version);
                }
            }
        }
    }

    /// Follows one watch to its end, moving `version` along.
    async fn watch(&mut self, version: &mut String) -> Result<(), Error> {
        let timeout = self.jitter.stretch(WATCH, 10);
        let params = WatchParams {
            labels: self.source.params.labels.clone(),
            fields: self.source.params.fields.clone(),
            resource_version: version.clone(),
            timeout,
            send_initial_events: false,
        };
        let mut events = self
            .source
            .client
            .watch(&self.source.namespace, &params)
            .await?;
        let deadline = Instant::now() + timeout + GRACE;
        loop {
            // A dead peer sends nothing: give up when the server should long have ended it.
            let event = match tokio::time::timeout_at(deadline, events.next()).await {
                Ok(Some(event)) => event?,
                Ok(None) | Err(_) => return Ok(()),
            };
            self.failures = 0;
            match event {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                    advance(version, &object);
                    if let Some(key) = self.key_of(&object) {
                        self.apply(&key, object);
                    }
                }
                WatchEvent::Deleted(object) => {
                    advance(version, &object);
                    if let Some(key) = self.key_of(&object) {
                        self.delete(&key);
                    }
                }
                WatchEvent::Bookmark(object) => advance(version, &object),
            }
        }
    }

    fn key_of(&self, object: &Value) -> Option<ClusterKey> {
        let meta = meta(object);
        let cluster = match &self.source.cluster {
            Some(cluster) => Some(cluster.clone()),
            None => ClusterName::parse(meta.cluster()),
        };
        let key = cluster
            .filter(|_| !meta.name().is_empty())
            .map(|cluster| ClusterKey::new(&cluster, meta.namespace(), meta.name()));
        if key.is_none() {
            let resource = &self.source.client.gvr().resource;
            tracing::warn!(
                resource,
                name = meta.name(),
                "object without name or logical cluster skipped"
            );
        }
        key
    }

    fn apply(&self, key: &ClusterKey, mut object: Value) {
        let (uid, version) = (
            meta(&object).uid().into(),
            meta(&object).resource_version().into(),
        );
        let known = self.store.version(key);
        if let Some((known_uid, known_version)) = &known {
            if (known_uid, known_version) == (&uid, &version) && !version.is_empty() {
                return;
            }
            if *known_uid != uid {
                // Deleted and made again unseen: two objects, not one that changed.
                self.delete(key);
            }
        }
        strip(&mut object);
        let object: Arc<T> = match serde_json::from_value(object) {
            Ok(object) => Arc::new(object),
            Err(error) => {
                let resource = &self.source.client.gvr().resource;
                tracing::warn!(resource, %key, %error, "object cannot be read; its last state is kept");
                return;
            }
        };
        let entry = Entry {
            object: Arc::clone(&object),
            uid,
            version,
        };
        let old = self.store.insert(key, entry).map(|entry| entry.object);
        for handler in &self.handlers {
            handler(
                key,
                Change::Applied {
                    old: old.as_ref(),
                    new: &object,
                },
            );
        }
    }

    fn delete(&self, key: &ClusterKey) {
        let Some(entry) = self.store.remove(key) else {
            return;
        };
        for handler in &self.handlers {
            handler(key, Change::Deleted(&entry.object));
        }
    }
}

fn advance(version: &mut String, object: &Value) {
    let new = meta(object).resource_version();
    if !new.is_empty() {
        new.clone_into(version);
    }
}

/// Drops what no reader needs and costs most.
fn strip(object: &mut Value) {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
}

#[cfg(test)]
mod tests;
