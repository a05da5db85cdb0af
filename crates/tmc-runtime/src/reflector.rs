//! The loop of an informer: list, watch from there, and again.

mod room;

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

use self::room::{Full, Room};
use crate::bounds::Budget;
use crate::client::{Error, ListParams, ResourceClient, value};
use crate::informer::Handler;
use crate::jitter::{Jitter, exponential};
use crate::pages::Pages;
use crate::store::{Change, ClusterKey, Entry, Store};
use crate::watch::{WatchEvent, WatchParams};

/// Delays after failures in a row.
const FIRST_RETRY: Duration = Duration::from_millis(100);
const LAST_RETRY: Duration = Duration::from_secs(30);
/// Until a server is listed again that has more than is kept: it is asked for all of it.
const FULL_RETRY: Duration = Duration::from_secs(300);
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
    pub(crate) budget: Option<Budget>,
}

/// Why a list or watch ended.
enum Failed {
    Call(Error),
    /// There is more than may be kept: the store lacks something.
    Full(Full),
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::Call(error)
    }
}

impl From<Full> for Failed {
    fn from(full: Full) -> Self {
        Self::Full(full)
    }
}

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Call(error) => error.fmt(f),
            Self::Full(full) => full.fmt(f),
        }
    }
}

/// What a list has brought so far.
struct Listed {
    seen: HashSet<ClusterKey>,
    /// Of all that is listed, whether the store has it already or not.
    room: Room,
    /// Something had no room beside what the store had before.
    left_out: Option<Full>,
}

pub(crate) struct Reflector<T> {
    source: Source,
    store: Store<T>,
    handlers: Vec<Handler<T>>,
    /// What the store takes.
    room: Room,
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
            room: Room::new(source.budget),
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
                        let error = Error::Transport("ended at once".into());
                        self.back_off("watch", &error.into()).await;
                    }
                    Ok(()) => self.failures = 0,
                    Err(full @ Failed::Full(_)) => {
                        self.back_off("watch", &full).await;
                        break;
                    }
                    Err(Failed::Call(error)) if error.code() == Some(410) => {
                        tracing::debug!(resource = %self.source.client.gvr().resource, "version expired");
                        // A server that expires every version must not be asked in a tight loop.
                        if version == before {
                            self.back_off("watch", &error.into()).await;
                        }
                        break;
                    }
                    Err(error) => self.back_off("watch", &error).await,
                }
            }
        }
    }

    async fn back_off(&mut self, what: &'static str, error: &Failed) {
        let delay = exponential(FIRST_RETRY, LAST_RETRY, self.failures);
        let (delay, loud) = match error {
            Failed::Call(error) => {
                let asked = error.retry_after().unwrap_or_default().min(LAST_RETRY);
                // Once per run of failures, and only when it persists.
                (delay.max(asked), self.failures == 3)
            }
            // It comes once in a long time, and somebody has to do something.
            Failed::Full(_) => (FULL_RETRY, true),
        };
        let delay = self.jitter.stretch(delay, 50);
        let resource = &self.source.client.gvr().resource;
        if loud {
            tracing::warn!(resource, ?delay, %error, "{what} keeps failing, will retry");
        } else {
            tracing::debug!(resource, ?delay, %error, "{what} failed, will retry");
        }
        self.failures = self.failures.saturating_add(1);
        tokio::time::sleep(delay).await;
    }

    /// Lists everything, page by page; gives the version to watch from.
    async fn list(&mut self) -> Result<String, Failed> {
        let client = self.source.client.clone();
        let namespace = self.source.namespace.clone();
        let mut pages = Pages::new(&client, &namespace, self.source.params.clone());
        let mut listed = Listed {
            seen: HashSet::new(),
            room: self.room.empty(),
            left_out: None,
        };
        loop {
            let mut page = value(&pages.read().await?)?;
            self.take_page(&mut page, &mut listed)?;
            let metadata = &page["metadata"];
            let next = metadata["continue"].as_str().unwrap_or_default();
            if !next.is_empty() {
                pages.go_on(next);
                continue;
            }
            for key in self.store.keys_not_in(&listed.seen) {
                self.delete(&key);
            }
            if let Some(full) = listed.left_out {
                // What is gone has made room for the next list.
                return Err(full.into());
            }
            self.failures = 0;
            let version = metadata["resourceVersion"].as_str();
            return Ok(version.unwrap_or_default().to_owned());
        }
    }

    /// Stores what is on a page.
    fn take_page(&mut self, page: &mut Value, listed: &mut Listed) -> Result<(), Full> {
        // A page counts as an object: without end they are as bad, even empty ones.
        listed.room.take(None, 0)?;
        let kind = page["kind"].as_str().and_then(|k| k.strip_suffix("List"));
        let kind = kind.map(str::to_owned);
        let api_version = page["apiVersion"].take();
        let Value::Array(items) = page["items"].take() else {
            return Ok(());
        };
        for mut item in items {
            // Items of a list do not name their kind on every server.
            if let (Some(kind), Some(fields)) = (&kind, item.as_object_mut()) {
                fields.entry("kind").or_insert_with(|| kind.as_str().into());
                fields
                    .entry("apiVersion")
                    .or_insert_with(|| api_version.clone());
            }
            strip(&mut item);
            let weight = self.room.weigh(&item);
            listed.room.take(None, weight)?;
            if let Some(key) = self.key_of(&item) {
                if let Err(full) = self.apply(&key, item, weight) {
                    listed.left_out = Some(full);
                }
                listed.seen.insert(key);
            }
        }
        Ok(())
    }

    /// Follows one watch to its end, moving `version` along.
    async fn watch(&mut self, version: &mut String) -> Result<(), Failed> {
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
                WatchEvent::Added(mut object) | WatchEvent::Modified(mut object) => {
                    advance(version, &object);
                    if let Some(key) = self.key_of(&object) {
                        strip(&mut object);
                        let weight = self.room.weigh(&object);
                        self.apply(&key, object, weight)?;
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

    /// Stores an object that is new or changed, if there is room for it.
    fn apply(&mut self, key: &ClusterKey, object: Value, weight: usize) -> Result<(), Full> {
        let (uid, version) = (
            meta(&object).uid().into(),
            meta(&object).resource_version().into(),
        );
        let mut before = None;
        if let Some((known_uid, known_version, known_weight)) = self.store.version(key) {
            if (&known_uid, &known_version) == (&uid, &version) && !version.is_empty() {
                return Ok(());
            }
            if known_uid == uid {
                before = Some(known_weight);
            } else {
                // Deleted and made again unseen: two objects, not one that changed.
                self.delete(key);
            }
        }
        let object: Arc<T> = match serde_json::from_value(object) {
            Ok(object) => Arc::new(object),
            Err(error) => {
                let resource = &self.source.client.gvr().resource;
                tracing::warn!(resource, %key, %error, "object cannot be read; its last state is kept");
                return Ok(());
            }
        };
        self.room.take(before, weight)?;
        let entry = Entry {
            object: Arc::clone(&object),
            uid,
            version,
            weight,
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
        Ok(())
    }

    fn delete(&mut self, key: &ClusterKey) {
        let Some(entry) = self.store.remove(key) else {
            return;
        };
        self.room.free(entry.weight);
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
mod bounds_tests;
#[cfg(test)]
mod tests;
