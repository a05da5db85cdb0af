//! Watch: a cursor on the store's log, filtered and turned into events.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures::stream;
use serde_json::{Value, json};
use tmc_apimachinery::options::ListOptions;
use tmc_apimachinery::status::{ApiError, Result};
use tmc_server::resource::{EventKind, Object, ResourceRequest, WatchEvent, WatchStream};

use super::read::{selected, too_large};
use super::{Core, Event};
use crate::keys;

/// How often an idle watch that asked for bookmarks gets one, as in Kubernetes.
const BOOKMARK_INTERVAL: Duration = Duration::from_secs(60);

struct Cursor {
    core: Arc<Core>,
    request: ResourceRequest,
    options: ListOptions,
    watcher: tmc_store::Watcher<super::Extracted>,
    ready: VecDeque<WatchEvent>,
    bookmark_at: tokio::time::Instant,
}

impl Core {
    pub(super) fn watch_objects(
        self: &Arc<Self>,
        request: &ResourceRequest,
        options: &ListOptions,
    ) -> Result<WatchStream> {
        let definition = &request.definition;
        options
            .fields
            .check_supported(&definition.selectable_fields)?;
        let prefix = keys::list_prefix(
            &definition.group_resource(),
            &request.scope,
            &request.namespace,
        );
        let from = options.resource_version.unwrap_or(0);
        let current = self.store.revision();
        if from > current {
            return Err(too_large(from, current));
        }
        let mut ready = VecDeque::new();
        let start = if from == 0 || options.send_initial_events {
            let page = self
                .store
                .range(&prefix, None, None, 0)
                .map_err(ApiError::internal)?;
            for entry in page
                .entries
                .iter()
                .filter(|e| selected(request, options, e))
            {
                let object = self.present(entry, definition);
                ready.push_back(WatchEvent {
                    kind: EventKind::Added,
                    object,
                });
            }
            if options.send_initial_events {
                ready.push_back(bookmark(request, page.revision, true));
            }
            page.revision
        } else {
            from
        };
        let watcher = self.store.watch(&prefix, start).map_err(|_| {
            ApiError::expired(format!("too old resource version: {from} ({current})"))
        })?;
        let cursor = Cursor {
            core: self.clone(),
            request: request.clone(),
            options: options.clone(),
            watcher,
            ready,
            bookmark_at: tokio::time::Instant::now() + BOOKMARK_INTERVAL,
        };
        Ok(Box::pin(stream::unfold(Some(cursor), |state| async move {
            let mut cursor = state?;
            match cursor.next().await {
                Ok(event) => Some((Ok(event), Some(cursor))),
                Err(error) => Some((Err(error), None)),
            }
        })))
    }
}

impl Cursor {
    async fn next(&mut self) -> Result<WatchEvent> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(event);
            }
            let batch = tokio::select! {
                biased;
                batch = self.watcher.next() => batch,
                () = tokio::time::sleep_until(self.bookmark_at), if self.options.bookmarks => {
                    self.bookmark_at += BOOKMARK_INTERVAL;
                    return Ok(bookmark(&self.request, self.watcher.progress(), false));
                }
            };
            let events = batch.map_err(|_| {
                ApiError::expired(format!(
                    "too old resource version: {}",
                    self.watcher.progress()
                ))
            })?;
            let translated: Vec<_> = events
                .iter()
                .filter_map(|event| self.translate(event))
                .collect();
            self.ready.extend(translated);
        }
    }

    /// A change as this watch sees it: entering the selection is ADDED, leaving it DELETED.
    fn translate(&self, event: &Event) -> Option<WatchEvent> {
        let was = event
            .previous
            .as_ref()
            .is_some_and(|previous| selected(&self.request, &self.options, previous));
        let is = !event.deleted && selected(&self.request, &self.options, &event.entry);
        let kind = match (was, is) {
            (false, true) => EventKind::Added,
            (true, true) => EventKind::Modified,
            (true, false) => EventKind::Deleted,
            (false, false) => return None,
        };
        let definition = &self.request.definition;
        let object = match (&event.previous, kind, event.deleted) {
            // Left the selection while it lives on: the state the watcher knew, at this revision.
            (Some(previous), EventKind::Deleted, false) => {
                with_revision(&self.core.present(previous, definition), event.revision)
            }
            _ => self.core.present(&event.entry, definition),
        };
        Some(WatchEvent { kind, object })
    }
}

fn with_revision(object: &Object, revision: u64) -> Object {
    match serde_json::from_slice::<Value>(&object.bytes) {
        Ok(mut value) => {
            value["metadata"]["resourceVersion"] = revision.to_string().into();
            Object::from_value(&value)
        }
        Err(_) => object.clone(),
    }
}

fn bookmark(request: &ResourceRequest, revision: u64, initial_end: bool) -> WatchEvent {
    let mut metadata = json!({"resourceVersion": revision.to_string(), "creationTimestamp": null});
    if initial_end {
        metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
    }
    let object = json!({
        "apiVersion": request.definition.api_version(),
        "kind": request.definition.gvk.kind,
        "metadata": metadata,
    });
    WatchEvent {
        kind: EventKind::Bookmark,
        object: Object::from_value(&object),
    }
}
