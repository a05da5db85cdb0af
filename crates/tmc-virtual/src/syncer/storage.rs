//! A view's objects: read from the hub over the wildcard or one workspace, transformed one by one,
//! written back as what [`super::transform::merge`] makes of them.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use serde_json::Value;
use tmc_api::keys::CLUSTER_ANNOTATION;
use tmc_api::synced::Listed;
use tmc_apimachinery::meta::{meta, set_annotation};
use tmc_apimachinery::options::{DeleteOptions, ListOptions, WriteOptions};
use tmc_apimachinery::status::{ApiError, Reason, Result};
use tmc_apimachinery::{ClusterName, ClusterScope};
use tmc_runtime::client::{self, ListParams, WatchParams};
use tmc_runtime::{Clock, Hub, ResourceClient};
use tmc_server::resource::{
    Deleted, EventKind, Object, Page, ResourceRequest, ResourceStore, WatchEvent, WatchStream,
    Written,
};

use super::api_set::conditions_of;
use super::targets::Domain;
use super::transform::{Part, Setting, Write, is_race, merge, stub, view};
use super::vigil::Vigils;

/// Tries of an unconditional write.
const TRIES: usize = 5;

/// Objects that no view shows, whatever their labels say.
pub(super) trait Hidden: Send + Sync {
    /// Whether an object of the resource in a logical cluster is one of them.
    fn hides(&self, resource: &str, cluster: &ClusterName, object: &Value) -> bool;
}

/// The storage of every view of one hub.
pub(super) struct SyncerStore {
    pub hub: Hub,
    pub hidden: Arc<dyn Hidden>,
    pub workspace_url: Arc<dyn Fn(&ClusterName) -> String + Send + Sync>,
    /// Whether those who watch still may.
    pub vigils: Arc<Vigils>,
    /// The time at which conditions change.
    pub clock: Clock,
}

fn domain(request: &ResourceRequest) -> Result<&Domain> {
    let domain = request
        .domain
        .as_ref()
        .and_then(|d| d.downcast_ref::<Domain>());
    domain.ok_or_else(|| ApiError::internal("a view without a target"))
}

/// Errors of the hub go through as they are; a hub that does not answer is 503.
fn upstream_error(error: client::Error) -> ApiError {
    match error {
        client::Error::Api(error) => error,
        client::Error::Transport(why) => ApiError::unavailable(why, 1),
    }
}

impl SyncerStore {
    fn client(&self, request: &ResourceRequest) -> ResourceClient {
        let client = match &request.scope {
            ClusterScope::All => self.hub.wildcard(),
            ClusterScope::One(cluster) => self.hub.cluster(cluster),
        };
        ResourceClient::new(client, request.definition.gvr())
    }

    fn hides(&self, request: &ResourceRequest, object: &Value) -> bool {
        let cluster = self.hub.cluster_of(object);
        self.hidden
            .hides(&request.definition.plural, &cluster, object)
    }

    /// The object in the view; `None` if it is not this target's to see. Of one that was not hidden
    /// when the target copied it, and is now, no more is shown than that the copy is to be removed.
    fn show(&self, request: &ResourceRequest, object: &Value) -> Result<Option<Value>> {
        let domain = domain(request)?;
        let cluster = self.hub.cluster_of(object);
        let hidden = self.hides(request, object);
        let visible = domain.keys.sees(object) && (!hidden || domain.keys.must_remove(object));
        if !visible {
            return Ok(None);
        }
        let mut shown = view(object, &domain.keys, &(self.workspace_url)(&cluster))?;
        if !self.hub.workspaces {
            // A plain hub does not tell it, and must not be told it either: only the view has it.
            set_annotation(&mut shown, CLUSTER_ANNOTATION, cluster.as_str());
        }
        if hidden {
            shown = stub(&shown, &domain.keys);
        }
        Ok(Some(shown))
    }

    /// As [`Self::show`] for one of many: an object that cannot be transformed is left out, so that
    /// one tenant's broken annotation does not take the view from all others.
    fn show_or_skip(&self, request: &ResourceRequest, object: &Value) -> Option<Value> {
        self.show(request, object).unwrap_or_else(|error| {
            let at = meta(object);
            tracing::warn!(
                cluster = at.cluster(), namespace = at.namespace(), name = at.name(), %error,
                "an object cannot be shown to its target"
            );
            None
        })
    }

    async fn upstream(&self, request: &ResourceRequest, name: &str) -> Result<Value> {
        let resource = request.definition.group_resource();
        let object = self
            .client(request)
            .get(&request.namespace, name)
            .await
            .map_err(|error| match upstream_error(error) {
                // A foreign workspace must look like an absent object.
                error if error.code == 403 => ApiError::not_found(&resource, name),
                error => error,
            })?;
        match self.show(request, &object)? {
            Some(_) => Ok(object),
            None => Err(ApiError::not_found(&resource, name)),
        }
    }

    fn selector(&self, request: &ResourceRequest, options: &ListOptions) -> Result<String> {
        if request.scope == ClusterScope::All && !request.namespace.is_empty() {
            return Err(ApiError::bad_request(
                "a list or watch in the `*` logical cluster must be over all namespaces",
            ));
        }
        let own = domain(request)?.keys.selector();
        let asked = options.labels.to_string();
        Ok(if asked.is_empty() {
            own
        } else {
            format!("{own},{asked}")
        })
    }

    async fn write(
        &self,
        request: &ResourceRequest,
        name: &str,
        write: Write,
        version: &str,
    ) -> Result<Value> {
        let (sub, mut object) = match write {
            Write::Status(object) => ("status", object),
            Write::Main(object) => ("", object),
        };
        object["metadata"]["resourceVersion"] = version.into();
        self.client(request)
            .replace(&request.namespace, name, sub, &object)
            .await
            .map_err(upstream_error)
    }

    async fn update_once(
        &self,
        request: &ResourceRequest,
        name: &str,
        body: &Value,
    ) -> Result<Value> {
        let conditions = conditions_of(&request.definition);
        let written = self.merged(request, name, body, conditions).await;
        match written {
            // Of a kind that is strict about its conditions ours may be one too many: what the target
            // has to say is not lost for that.
            Err(error) if error.reason == Reason::Invalid && conditions != Listed::No => {
                self.merged(request, name, body, Listed::No).await
            }
            written => written,
        }
    }

    async fn merged(
        &self,
        request: &ResourceRequest,
        name: &str,
        body: &Value,
        conditions: Listed,
    ) -> Result<Value> {
        let part = if request.subresource == "status" {
            Part::Status
        } else {
            Part::Main
        };
        let mut stored = self.upstream(request, name).await?;
        let resource = request.definition.group_resource();
        let keys = &domain(request)?.keys;
        if self.hides(request, &stored) && keys.holds(body) {
            let why = "it does not leave the hub any more: remove the copy, then the finalizer";
            return Err(ApiError::forbidden(&resource, name, why));
        }
        let setting = Setting {
            resource,
            conditions,
            now: self.clock.now(),
        };
        for write in merge(&stored, body, keys, part, &setting)? {
            let version = meta(&stored).resource_version().to_owned();
            stored = self.write(request, name, write, &version).await?;
        }
        Ok(stored)
    }
}

#[async_trait]
impl ResourceStore for SyncerStore {
    async fn get(&self, request: &ResourceRequest, name: &str) -> Result<Object> {
        let object = self.upstream(request, name).await?;
        let shown = self.show(request, &object)?;
        let resource = request.definition.group_resource();
        let shown = shown.ok_or_else(|| ApiError::not_found(&resource, name))?;
        Ok(Object::from_value(&shown))
    }

    async fn list(&self, request: &ResourceRequest, options: &ListOptions) -> Result<Page> {
        let params = ListParams {
            labels: self.selector(request, options)?,
            fields: options.fields.to_string(),
            limit: u32::try_from(options.limit).unwrap_or(u32::MAX),
            continue_token: options.continue_token.clone().unwrap_or_default(),
        };
        let list = self
            .client(request)
            .list(&request.namespace, &params)
            .await
            .map_err(upstream_error)?;
        let mut page = Page {
            resource_version: meta(&list).resource_version().to_owned(),
            continue_token: list["metadata"]["continue"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
            remaining: list["metadata"]["remainingItemCount"].as_u64(),
            items: Vec::new(),
        };
        for item in list["items"].as_array().into_iter().flatten() {
            if let Some(shown) = self.show_or_skip(request, item) {
                page.items.push(Object::from_value(&shown));
            }
        }
        Ok(page)
    }

    async fn watch(&self, request: &ResourceRequest, options: &ListOptions) -> Result<WatchStream> {
        let params = WatchParams {
            labels: self.selector(request, options)?,
            fields: options.fields.to_string(),
            resource_version: options
                .resource_version
                .map(|rv| rv.to_string())
                .unwrap_or_default(),
            timeout: Duration::from_secs(options.timeout_seconds.unwrap_or(3600)),
            send_initial_events: options.send_initial_events,
        };
        let events = self
            .client(request)
            .watch(&request.namespace, &params)
            .await
            .map_err(upstream_error)?;
        let shower = Self {
            hub: self.hub.clone(),
            hidden: self.hidden.clone(),
            workspace_url: self.workspace_url.clone(),
            vigils: self.vigils.clone(),
            clock: self.clock.clone(),
        };
        let vigil = self.vigils.keep(&request.user, &domain(request)?.target);
        let (request, bookmarks) = (request.clone(), options.bookmarks);
        let events = events.take_until(Box::pin(vigil.lost()));
        Ok(Box::pin(events.filter_map(move |event| {
            let event = match event {
                Ok(event) => shower.translate(&request, event, bookmarks),
                Err(error) => Some(Err(upstream_error(error))),
            };
            std::future::ready(event)
        })))
    }

    async fn create(
        &self,
        request: &ResourceRequest,
        _: &str,
        _: Value,
        _: &WriteOptions,
    ) -> Result<Written> {
        Err(not_in_a_view(request, "created"))
    }

    async fn update(
        &self,
        request: &ResourceRequest,
        name: &str,
        object: Value,
        _: &WriteOptions,
    ) -> Result<Written> {
        let conditional = !meta(&object).resource_version().is_empty();
        for attempt in 1.. {
            match self.update_once(request, name, &object).await {
                Err(error) if is_race(&error) && !conditional && attempt < TRIES => {}
                Err(error) => return Err(error),
                Ok(stored) => {
                    // After a removal the object is no longer in the view; its last state is not
                    // the target's to see, so the body comes back.
                    let shown = self.show(request, &stored)?.unwrap_or(object);
                    return Ok(Written {
                        object: Object::from_value(&shown),
                        created: false,
                        warnings: Vec::new(),
                    });
                }
            }
        }
        Err(ApiError::internal("no try left"))
    }

    async fn delete(
        &self,
        request: &ResourceRequest,
        _: &str,
        _: &DeleteOptions,
    ) -> Result<Deleted> {
        Err(not_in_a_view(request, "deleted"))
    }

    async fn delete_collection(
        &self,
        request: &ResourceRequest,
        _: &ListOptions,
        _: &DeleteOptions,
    ) -> Result<Page> {
        Err(not_in_a_view(request, "deleted"))
    }
}

impl SyncerStore {
    /// An event of the hub as an event of the view.
    fn translate(
        &self,
        request: &ResourceRequest,
        event: client::WatchEvent,
        bookmarks: bool,
    ) -> Option<Result<WatchEvent>> {
        let (kind, object) = match event {
            client::WatchEvent::Added(object) => (EventKind::Added, object),
            client::WatchEvent::Modified(object) => (EventKind::Modified, object),
            client::WatchEvent::Deleted(object) => (EventKind::Deleted, object),
            client::WatchEvent::Bookmark(object) => {
                let end = meta(&object)
                    .annotation("k8s.io/initial-events-end")
                    .is_some();
                let object = Object::from_value(&object);
                return (bookmarks || end).then_some(Ok(WatchEvent {
                    kind: EventKind::Bookmark,
                    object,
                }));
            }
        };
        let shown = self.show_or_skip(request, &object)?;
        Some(Ok(WatchEvent {
            kind,
            object: Object::from_value(&shown),
        }))
    }
}

fn not_in_a_view(request: &ResourceRequest, verb: &str) -> ApiError {
    ApiError::method_not_allowed(format!(
        "{} cannot be {verb} through a syncer's view",
        request.definition.group_resource()
    ))
}
