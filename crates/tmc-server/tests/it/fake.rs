//! A store in memory: small, true to the contract of `ResourceStore`, with a few objects and
//! namespaces that misbehave by name.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tmc_apimachinery::ClusterScope;
use tmc_apimachinery::meta::meta;
use tmc_apimachinery::options::{DeleteOptions, ListOptions, WriteOptions};
use tmc_apimachinery::status::{ApiError, Result};
use tmc_server::resource::{
    Deleted, EventKind, Object, Page, ResourceRequest, ResourceStore, WatchEvent, WatchStream,
    Written,
};
use tokio::sync::watch;

/// Cluster, plural, namespace, name.
type Key = (String, String, String, String);

#[derive(Clone)]
struct Change {
    revision: u64,
    kind: EventKind,
    key: Key,
    value: Value,
}

#[derive(Default)]
struct State {
    revision: u64,
    objects: BTreeMap<Key, Value>,
    log: Vec<Change>,
    conflicts: usize,
    floor: u64,
}

impl State {
    fn commit(&mut self, kind: EventKind, key: Key, mut value: Value) -> Value {
        self.revision += 1;
        let revision = self.revision;
        value["metadata"]["resourceVersion"] = revision.to_string().into();
        if kind == EventKind::Deleted {
            self.objects.remove(&key);
        } else {
            self.objects.insert(key.clone(), value.clone());
        }
        self.log.push(Change {
            revision,
            kind,
            key,
            value: value.clone(),
        });
        value
    }
}

/// The store. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct FakeStore {
    state: Arc<Mutex<State>>,
    head: Arc<watch::Sender<u64>>,
}

impl FakeStore {
    /// Makes the next updates fail as if somebody else had written in between.
    pub(crate) fn fail_updates(&self, times: usize) {
        self.state.lock().conflicts = times;
    }

    /// Forgets history.
    pub(crate) fn compact(&self) {
        let mut state = self.state.lock();
        state.floor = state.revision;
    }

    /// Watches that are open.
    pub(crate) fn watchers(&self) -> usize {
        self.head.receiver_count()
    }

    fn commit(&self, kind: EventKind, key: Key, value: Value) -> Value {
        let mut state = self.state.lock();
        let value = state.commit(kind, key, value);
        self.head.send_replace(state.revision);
        value
    }

    fn stored(&self, request: &ResourceRequest, name: &str) -> Result<Value> {
        let state = self.state.lock();
        let found = state.objects.get(&key(request, name)).cloned();
        found.ok_or_else(|| ApiError::not_found(&request.definition.group_resource(), name))
    }
}

fn key(request: &ResourceRequest, name: &str) -> Key {
    let plural = request.definition.plural.clone();
    (
        request.scope.to_string(),
        plural,
        request.namespace.clone(),
        name.to_owned(),
    )
}

fn selected(request: &ResourceRequest, options: &ListOptions, key: &Key, value: &Value) -> bool {
    let (cluster, plural, namespace, _) = key;
    (request.scope == ClusterScope::All || *cluster == request.scope.to_string())
        && *plural == request.definition.plural
        && (request.namespace.is_empty() || *namespace == request.namespace)
        && options.labels.matches(&meta(value).labels())
        && options.fields.matches(|path| {
            let pointer = format!("/{}", path.replace('.', "/"));
            value
                .pointer(&pointer)
                .and_then(Value::as_str)
                .unwrap_or("")
                .to_owned()
        })
}

fn written(value: &Value, created: bool) -> Written {
    let unknown = value.pointer("/spec/unknown").is_some();
    let warnings = unknown.then(|| "unknown field \"spec.unknown\"".to_owned());
    Written {
        object: Object::from_value(value),
        created,
        warnings: warnings.into_iter().collect(),
    }
}

/// A running watch: what is ready to be sent, and the revision up to which that was read.
struct Cursor {
    store: FakeStore,
    request: ResourceRequest,
    options: ListOptions,
    ready: VecDeque<(EventKind, Value)>,
    revision: u64,
    head: watch::Receiver<u64>,
}

impl Cursor {
    fn read(&mut self) {
        let state = self.store.state.lock();
        for change in state
            .log
            .iter()
            .filter(|change| change.revision > self.revision)
        {
            if selected(&self.request, &self.options, &change.key, &change.value) {
                self.ready.push_back((change.kind, change.value.clone()));
            }
        }
        self.revision = state.revision;
    }

    async fn next(mut self) -> Option<(Result<WatchEvent>, Self)> {
        loop {
            if let Some((kind, value)) = self.ready.pop_front() {
                let event = WatchEvent {
                    kind,
                    object: Object::from_value(&value),
                };
                return Some((Ok(event), self));
            }
            self.read();
            if self.ready.is_empty() {
                self.head.changed().await.ok()?;
            }
        }
    }
}

#[async_trait]
impl ResourceStore for FakeStore {
    async fn get(&self, request: &ResourceRequest, name: &str) -> Result<Object> {
        match name {
            "panic" => panic!("asked to"),
            "slow" => std::future::pending::<()>().await,
            _ => {}
        }
        Ok(Object::from_value(&self.stored(request, name)?))
    }

    async fn list(&self, request: &ResourceRequest, options: &ListOptions) -> Result<Page> {
        let state = self.state.lock();
        let token = options
            .continue_token
            .as_deref()
            .and_then(|token| token.parse().ok());
        let all: Vec<Object> = state
            .objects
            .iter()
            .filter(|(key, value)| selected(request, options, key, value))
            .map(|(_, value)| Object::from_value(value))
            .collect();
        let limit = if options.limit == 0 {
            all.len()
        } else {
            options.limit
        };
        let start = token.unwrap_or(0usize).min(all.len());
        let end = (start + limit).min(all.len());
        let left = all.len() - end;
        Ok(Page {
            items: all[start..end].to_vec(),
            resource_version: state.revision.to_string(),
            continue_token: if left > 0 {
                end.to_string()
            } else {
                String::new()
            },
            remaining: (left > 0).then_some(left as u64),
        })
    }

    async fn watch(&self, request: &ResourceRequest, options: &ListOptions) -> Result<WatchStream> {
        match request.namespace.as_str() {
            "broken" => {
                let lost = Err(ApiError::expired("compacted meanwhile"));
                return Ok(Box::pin(futures::stream::iter([lost])));
            }
            "panic" => return Ok(Box::pin(futures::stream::poll_fn(|_| panic!("asked to")))),
            _ => {}
        }
        let mut cursor = Cursor {
            store: self.clone(),
            request: request.clone(),
            options: options.clone(),
            ready: VecDeque::new(),
            revision: options.resource_version.unwrap_or(0),
            head: self.head.subscribe(),
        };
        {
            let state = self.state.lock();
            if cursor.revision == 0 {
                let present = state.objects.iter();
                let present = present.filter(|(key, value)| selected(request, options, key, value));
                let added = present.map(|(_, value)| (EventKind::Added, value.clone()));
                cursor.ready.extend(added);
                cursor.revision = state.revision;
            } else if cursor.revision < state.floor {
                return Err(ApiError::expired("too old resource version"));
            }
        }
        if options.bookmarks {
            let definition = &request.definition;
            let bookmark = json!({
                "kind": definition.gvk.kind, "apiVersion": definition.api_version(),
                "metadata": {"resourceVersion": cursor.revision.to_string()},
            });
            cursor.ready.push_back((EventKind::Bookmark, bookmark));
        }
        Ok(Box::pin(futures::stream::unfold(cursor, Cursor::next)))
    }

    async fn create(
        &self,
        request: &ResourceRequest,
        name: &str,
        mut object: Value,
        options: &WriteOptions,
    ) -> Result<Written> {
        if !request.subresource.is_empty() {
            object["status"] = json!({"for": name, "by": request.user.name});
            return Ok(Written {
                created: true,
                ..written(&object, true)
            });
        }
        let name = meta(&object).name().to_owned();
        let resource = request.definition.group_resource();
        if self.stored(request, &name).is_ok() {
            return Err(ApiError::already_exists(&resource, &name));
        }
        object["metadata"]["uid"] = format!("uid-{name}").into();
        if options.dry_run {
            return Ok(written(&object, true));
        }
        let stored = self.commit(EventKind::Added, key(request, &name), object);
        Ok(written(&stored, true))
    }

    async fn update(
        &self,
        request: &ResourceRequest,
        name: &str,
        object: Value,
        options: &WriteOptions,
    ) -> Result<Written> {
        let resource = request.definition.group_resource();
        let old = self.stored(request, name)?;
        {
            let mut state = self.state.lock();
            if state.conflicts > 0 {
                state.conflicts -= 1;
                return Err(ApiError::stale(&resource, name));
            }
        }
        let (new, stored) = (meta(&object), meta(&old));
        let stale = !new.resource_version().is_empty()
            && new.resource_version() != stored.resource_version();
        if stale || (!new.uid().is_empty() && new.uid() != stored.uid()) {
            return Err(ApiError::stale(&resource, name));
        }
        let mut next = if request.subresource == "status" {
            let mut next = old.clone();
            next["status"] = object["status"].clone();
            next
        } else {
            let mut next = object;
            next["metadata"]["uid"] = stored.uid().into();
            if let Some(status) = old.get("status") {
                next["status"] = status.clone();
            }
            next
        };
        if options.dry_run {
            return Ok(written(&next, false));
        }
        next = self.commit(EventKind::Modified, key(request, name), next);
        Ok(written(&next, false))
    }

    async fn delete(
        &self,
        request: &ResourceRequest,
        name: &str,
        options: &DeleteOptions,
    ) -> Result<Deleted> {
        let mut old = self.stored(request, name)?;
        let resource = request.definition.group_resource();
        if options
            .uid
            .as_deref()
            .is_some_and(|uid| uid != meta(&old).uid())
        {
            return Err(ApiError::conflict(
                &resource,
                name,
                "the UID in the precondition differs",
            ));
        }
        if !meta(&old).finalizers().is_empty() {
            old["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
            let stored = self.commit(EventKind::Modified, key(request, name), old);
            return Ok(Deleted::Pending(Object::from_value(&stored)));
        }
        let gone = self.commit(EventKind::Deleted, key(request, name), old);
        Ok(Deleted::Gone(Object::from_value(&gone)))
    }

    async fn delete_collection(
        &self,
        request: &ResourceRequest,
        list: &ListOptions,
        options: &DeleteOptions,
    ) -> Result<Page> {
        let page = self.list(request, list).await?;
        for item in &page.items {
            self.delete(request, meta(&item.value()?).name(), options)
                .await?;
        }
        Ok(page)
    }
}
