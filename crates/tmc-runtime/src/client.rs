//! REST on one resource with JSON values: what `kube::Api` is for typed objects, for objects whose
//! kind is known only at run time.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{Method, Request, Response};
use kube::client::Body;
use serde_json::{Value, json};
use tmc_apimachinery::{ApiError, GroupVersionResource};

use crate::answer::{self, TooLong};
use crate::url::{push_query, push_segment};
pub use crate::watch::{WatchEvent, WatchEvents, WatchLines, WatchParams};

/// Why a call failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The server answered with a `Status`.
    #[error("{0}")]
    Api(#[from] ApiError),
    /// No (usable) answer: connection, TLS, timeout, malformed body. Safe to show.
    #[error("{0}")]
    Transport(String),
}

impl Error {
    /// HTTP code of an API answer.
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Api(error) => Some(error.code),
            Self::Transport(_) => None,
        }
    }

    /// 404.
    pub fn is_not_found(&self) -> bool {
        self.code() == Some(404)
    }

    /// 409.
    pub fn is_conflict(&self) -> bool {
        self.code() == Some(409)
    }

    /// 409 `AlreadyExists`: a create met an object of that name.
    pub fn already_exists(&self) -> bool {
        matches!(self, Self::Api(e) if e.reason == tmc_apimachinery::Reason::AlreadyExists)
    }

    /// How long the server asks its caller to wait.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Api(error) => error.retry_after.map(|s| Duration::from_secs(s.into())),
            Self::Transport(_) => None,
        }
    }
}

/// Format of a patch body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchKind {
    /// RFC 6902.
    Json,
    /// RFC 7386.
    Merge,
    /// Kubernetes strategic merge.
    Strategic,
    /// Server-side apply with `fieldManager` and `force`.
    Apply,
}

impl PatchKind {
    /// Its media type.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json-patch+json",
            Self::Merge => "application/merge-patch+json",
            Self::Strategic => "application/strategic-merge-patch+json",
            Self::Apply => "application/apply-patch+yaml",
        }
    }
}

/// Options of [`ResourceClient::list`] and watches.
#[derive(Clone, Debug, Default)]
pub struct ListParams {
    /// Label selector text.
    pub labels: String,
    /// Field selector text.
    pub fields: String,
    /// Page size, 0 for all.
    pub limit: u32,
    /// Continue token.
    pub continue_token: String,
}

/// Preconditions and policy of a delete.
#[derive(Clone, Debug, Default)]
pub struct DeleteParams {
    /// Only this uid.
    pub uid: Option<String>,
    /// Only this version.
    pub resource_version: Option<String>,
    /// `Background`, `Foreground`, `Orphan`.
    pub propagation: Option<&'static str>,
}

/// How long one request that is not a watch may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// One resource of one server (and logical cluster). Cheap to clone.
///
/// # Cancellation
/// Dropping a call's future drops the request; a write that had reached the server may still commit.
#[derive(Clone)]
pub struct ResourceClient {
    client: kube::Client,
    gvr: GroupVersionResource,
}

impl ResourceClient {
    /// A client of a resource. The resource may carry an identity (`widgets:<hash>`), as kcp's
    /// wildcard requests need it.
    pub fn new(client: kube::Client, gvr: GroupVersionResource) -> Self {
        Self { client, gvr }
    }

    /// The resource.
    pub fn gvr(&self) -> &GroupVersionResource {
        &self.gvr
    }

    /// The client below.
    pub fn kube(&self) -> &kube::Client {
        &self.client
    }

    /// GET one object; `namespace` empty for cluster-scoped.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn get(&self, namespace: &str, name: &str) -> Result<Value, Error> {
        value(&self.get_raw(namespace, name).await?)
    }

    /// As [`ResourceClient::get`], the body as it came.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn get_raw(&self, namespace: &str, name: &str) -> Result<Bytes, Error> {
        self.send(Method::GET, self.path(namespace, name, ""), None)
            .await
    }

    /// GET the collection; the whole `List` object. An empty namespace means all of them.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn list(&self, namespace: &str, params: &ListParams) -> Result<Value, Error> {
        value(&self.list_raw(namespace, params).await?)
    }

    /// As [`ResourceClient::list`], the body as it came.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn list_raw(&self, namespace: &str, params: &ListParams) -> Result<Bytes, Error> {
        Ok(self.page(namespace, params).await??)
    }

    /// As [`ResourceClient::list_raw`], with an answer of its own for a page that is too long.
    pub(crate) async fn page(
        &self,
        namespace: &str,
        params: &ListParams,
    ) -> Result<Result<Bytes, TooLong>, Error> {
        let limit = if params.limit == 0 {
            String::new()
        } else {
            params.limit.to_string()
        };
        let uri = with_query(
            self.path(namespace, "", ""),
            &[
                ("labelSelector", &params.labels),
                ("fieldSelector", &params.fields),
                ("limit", &limit),
                ("continue", &params.continue_token),
            ],
        );
        self.ask(Method::GET, uri, None).await
    }

    /// Watches the collection (an empty namespace means all of them).
    ///
    /// # Errors
    /// See [`Error`]; also items of the stream are errors, after which it ends or should be dropped.
    pub async fn watch(&self, namespace: &str, params: &WatchParams) -> Result<WatchEvents, Error> {
        Ok(WatchEvents(self.watch_raw(namespace, params).await?))
    }

    /// As [`ResourceClient::watch`], the lines as they came.
    ///
    /// # Errors
    /// See [`ResourceClient::watch`].
    pub async fn watch_raw(
        &self,
        namespace: &str,
        params: &WatchParams,
    ) -> Result<WatchLines, Error> {
        let timeout = params.timeout.as_secs().max(1).to_string();
        let initial = if params.send_initial_events {
            "true"
        } else {
            ""
        };
        let not_older = if params.send_initial_events {
            "NotOlderThan"
        } else {
            ""
        };
        let uri = with_query(
            self.path(namespace, "", ""),
            &[
                ("watch", "true"),
                ("allowWatchBookmarks", "true"),
                ("timeoutSeconds", &timeout),
                ("labelSelector", &params.labels),
                ("fieldSelector", &params.fields),
                ("resourceVersion", &params.resource_version),
                ("sendInitialEvents", initial),
                ("resourceVersionMatch", not_older),
            ],
        );
        let request = request(Method::GET, uri, None)?;
        let response = within(self.client.send(request)).await?;
        Ok(WatchLines::new(answer::check(response).await?))
    }

    /// POST.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn create(&self, namespace: &str, object: &Value) -> Result<Value, Error> {
        self.create_subresource(namespace, "", "", object).await
    }

    /// POST with `dryRun`: what the server says to the object, and nothing is stored.
    ///
    /// # Errors
    /// See [`Error`]. A server that would not create it answers as to [`ResourceClient::create`].
    pub async fn create_dry_run(&self, namespace: &str, object: &Value) -> Result<Value, Error> {
        let body = ("application/json", encode(object)?);
        let uri = with_query(self.path(namespace, "", ""), &[("dryRun", "All")]);
        value(&self.send(Method::POST, uri, Some(body)).await?)
    }

    /// POST to a subresource (`token`, `eviction`, …), or to the collection if `name` is empty.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn create_subresource(
        &self,
        namespace: &str,
        name: &str,
        subresource: &str,
        object: &Value,
    ) -> Result<Value, Error> {
        let body = ("application/json", encode(object)?);
        let uri = self.path(namespace, name, subresource);
        value(&self.send(Method::POST, uri, Some(body)).await?)
    }

    /// PUT the object, or its subresource if not empty.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn replace(
        &self,
        namespace: &str,
        name: &str,
        subresource: &str,
        object: &Value,
    ) -> Result<Value, Error> {
        let body = ("application/json", encode(object)?);
        let uri = self.path(namespace, name, subresource);
        value(&self.send(Method::PUT, uri, Some(body)).await?)
    }

    /// PATCH the object, or its subresource if not empty. For [`PatchKind::Apply`] the manager is
    /// `tmc`; see [`ResourceClient::apply`].
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn patch(
        &self,
        namespace: &str,
        name: &str,
        subresource: &str,
        kind: PatchKind,
        patch: &Value,
    ) -> Result<Value, Error> {
        let mut uri = self.path(namespace, name, subresource);
        if kind == PatchKind::Apply {
            uri = with_query(uri, &[("fieldManager", "tmc"), ("force", "true")]);
        }
        let body = (kind.content_type(), encode(patch)?);
        value(&self.send(Method::PATCH, uri, Some(body)).await?)
    }

    /// A merge patch for who has no use for the object that comes of it.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn merge(
        &self,
        namespace: &str,
        name: &str,
        subresource: &str,
        patch: &Value,
    ) -> Result<(), Error> {
        let uri = self.path(namespace, name, subresource);
        let body = (PatchKind::Merge.content_type(), encode(patch)?);
        self.send(Method::PATCH, uri, Some(body)).await.map(drop)
    }

    /// Server-side apply (PATCH apply), forced, as `manager`.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn apply(
        &self,
        namespace: &str,
        name: &str,
        manager: &str,
        object: &Value,
    ) -> Result<Value, Error> {
        let uri = with_query(
            self.path(namespace, name, ""),
            &[("fieldManager", manager), ("force", "true")],
        );
        let body = (PatchKind::Apply.content_type(), encode(object)?);
        value(&self.send(Method::PATCH, uri, Some(body)).await?)
    }

    /// DELETE. A missing object is the 404 error.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn delete(
        &self,
        namespace: &str,
        name: &str,
        params: &DeleteParams,
    ) -> Result<(), Error> {
        let mut options = json!({"apiVersion": "v1", "kind": "DeleteOptions"});
        if let Some(uid) = &params.uid {
            options["preconditions"]["uid"] = uid.as_str().into();
        }
        if let Some(version) = &params.resource_version {
            options["preconditions"]["resourceVersion"] = version.as_str().into();
        }
        if let Some(policy) = params.propagation {
            options["propagationPolicy"] = policy.into();
        }
        let body = ("application/json", encode(&options)?);
        self.send(Method::DELETE, self.path(namespace, name, ""), Some(body))
            .await?;
        Ok(())
    }

    fn path(&self, namespace: &str, name: &str, subresource: &str) -> String {
        let mut path = String::with_capacity(96);
        path.push_str(if self.gvr.group.is_empty() {
            "/api"
        } else {
            "/apis"
        });
        let namespaces = if namespace.is_empty() {
            ""
        } else {
            "namespaces"
        };
        let (group, version) = (&*self.gvr.group, &*self.gvr.version);
        for part in [
            group,
            version,
            namespaces,
            namespace,
            &self.gvr.resource,
            name,
            subresource,
        ] {
            if !part.is_empty() {
                push_segment(&mut path, part);
            }
        }
        path
    }

    async fn send(
        &self,
        method: Method,
        uri: String,
        body: Option<(&'static str, Vec<u8>)>,
    ) -> Result<Bytes, Error> {
        Ok(self.ask(method, uri, body).await??)
    }

    async fn ask(
        &self,
        method: Method,
        uri: String,
        body: Option<(&'static str, Vec<u8>)>,
    ) -> Result<Result<Bytes, TooLong>, Error> {
        let request = request(method, uri, body)?;
        let call =
            async { answer::read_if_short(transport(self.client.send(request).await)?).await };
        tokio::time::timeout(REQUEST_TIMEOUT, call)
            .await
            .unwrap_or_else(|_| Err(timed_out()))
    }
}

/// GET of a path that is no resource (`/version`, `/apis`), the body as it came.
///
/// # Errors
/// See [`Error`].
pub async fn get_path(client: &kube::Client, path: &str) -> Result<Bytes, Error> {
    let request = request(Method::GET, path.to_owned(), None)?;
    let call = async { answer::read(transport(client.send(request).await)?).await };
    tokio::time::timeout(REQUEST_TIMEOUT, call)
        .await
        .unwrap_or_else(|_| Err(timed_out()))
}

/// POST of JSON to a path that is no resource (an endpoint of a virtual workspace).
///
/// # Errors
/// See [`Error`].
pub async fn post_path(client: &kube::Client, path: &str, body: &Value) -> Result<Bytes, Error> {
    let body = ("application/json", encode(body)?);
    let request = request(Method::POST, path.to_owned(), Some(body))?;
    let call = async { answer::read(transport(client.send(request).await)?).await };
    tokio::time::timeout(REQUEST_TIMEOUT, call)
        .await
        .unwrap_or_else(|_| Err(timed_out()))
}

async fn within(
    call: impl Future<Output = kube::Result<Response<Body>>>,
) -> Result<Response<Body>, Error> {
    match tokio::time::timeout(REQUEST_TIMEOUT, call).await {
        Ok(answer) => transport(answer),
        Err(_) => Err(timed_out()),
    }
}

fn timed_out() -> Error {
    Error::Transport(format!("no answer within {} s", REQUEST_TIMEOUT.as_secs()))
}

fn transport(answer: kube::Result<Response<Body>>) -> Result<Response<Body>, Error> {
    answer.map_err(|error| match error {
        kube::Error::Service(inner) => Error::Transport(answer::chain(&*inner)),
        other => Error::Transport(answer::chain(&other)),
    })
}

fn request(
    method: Method,
    uri: String,
    body: Option<(&'static str, Vec<u8>)>,
) -> Result<Request<Body>, Error> {
    let builder = Request::builder()
        .method(method)
        .uri(uri)
        .header(ACCEPT, "application/json");
    let request = match body {
        Some((kind, bytes)) => builder.header(CONTENT_TYPE, kind).body(Body::from(bytes)),
        None => builder.body(Body::empty()),
    };
    request.map_err(|e| Error::Transport(format!("not a request: {e}")))
}

fn with_query(mut uri: String, parameters: &[(&str, &str)]) -> String {
    for (key, text) in parameters.iter().filter(|(_, text)| !text.is_empty()) {
        push_query(&mut uri, key, text);
    }
    uri
}

fn encode(object: &Value) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(object).map_err(|e| Error::Transport(format!("not JSON: {e}")))
}

pub(crate) fn value(body: &[u8]) -> Result<Value, Error> {
    serde_json::from_slice(body)
        .map_err(|e| Error::Transport(format!("the answer is no JSON object: {e}")))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;
    use crate::Connection;

    type Seen = Arc<Mutex<Vec<(String, String, String, Value)>>>;

    /// A server that records what it is asked and answers `{"kind":"X"}`.
    fn recorder() -> (Connection, Seen) {
        let seen = Seen::default();
        let log = Arc::clone(&seen);
        let service = tower::service_fn(move |request: Request<Body>| {
            let log = Arc::clone(&log);
            async move {
                let (parts, body) = request.into_parts();
                let bytes = body.collect_bytes().await?;
                let kind = parts
                    .headers
                    .get(CONTENT_TYPE)
                    .map(|v| v.to_str().unwrap().to_owned());
                log.lock().push((
                    parts.method.to_string(),
                    parts.uri.to_string(),
                    kind.unwrap_or_default(),
                    serde_json::from_slice(&bytes).unwrap_or_default(),
                ));
                Ok::<_, kube::Error>(Response::new(Body::from(b"{\"kind\":\"X\"}".to_vec())))
            }
        });
        (Connection::in_process(service), seen)
    }

    #[tokio::test]
    async fn each_call_is_the_request_kubernetes_expects() {
        let (connection, seen) = recorder();
        let gvr = GroupVersionResource::new("apps", "v1", "deployments");
        let client = ResourceClient::new(connection.client("/clusters/root"), gvr);
        let pods = GroupVersionResource::new("", "v1", "pods");
        let core = ResourceClient::new(connection.client(""), pods);
        let body = json!({"a": 1});
        client.get("ns", "web").await.unwrap();
        let list = ListParams {
            labels: "a=b".into(),
            limit: 5,
            ..ListParams::default()
        };
        client.list("", &list).await.unwrap();
        core.create("ns", &body).await.unwrap();
        client.replace("ns", "web", "status", &body).await.unwrap();
        client
            .patch("ns", "web", "", PatchKind::Merge, &body)
            .await
            .unwrap();
        client.apply("ns", "web", "me", &body).await.unwrap();
        let only = DeleteParams {
            uid: Some("u".into()),
            ..DeleteParams::default()
        };
        client.delete("ns", "../x", &only).await.unwrap();
        let base = "/clusters/root/apis/apps/v1";
        let json = "application/json".to_owned();
        let options =
            json!({"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": "u"}});
        let expected = [
            (
                "GET",
                format!("{base}/namespaces/ns/deployments/web"),
                String::new(),
                Value::Null,
            ),
            (
                "GET",
                format!("{base}/deployments?labelSelector=a%3Db&limit=5"),
                String::new(),
                Value::Null,
            ),
            (
                "POST",
                "/api/v1/namespaces/ns/pods".into(),
                json.clone(),
                body.clone(),
            ),
            (
                "PUT",
                format!("{base}/namespaces/ns/deployments/web/status"),
                json.clone(),
                body.clone(),
            ),
            (
                "PATCH",
                format!("{base}/namespaces/ns/deployments/web"),
                "application/merge-patch+json".into(),
                body.clone(),
            ),
            (
                "PATCH",
                format!("{base}/namespaces/ns/deployments/web?fieldManager=me&force=true"),
                "application/apply-patch+yaml".into(),
                body.clone(),
            ),
            (
                "DELETE",
                format!("{base}/namespaces/ns/deployments/..%2Fx"),
                json,
                options,
            ),
        ];
        let expected: Vec<_> = expected
            .into_iter()
            .map(|(m, u, k, b)| (m.to_owned(), u, k, b))
            .collect();
        assert_eq!(*seen.lock(), expected);
    }

    #[tokio::test]
    async fn a_watch_asks_for_bookmarks_and_a_bounded_time() {
        let (connection, seen) = recorder();
        let gvr = GroupVersionResource::new("", "v1", "pods");
        let client = ResourceClient::new(connection.client(""), gvr);
        let params = WatchParams {
            resource_version: "7".into(),
            ..WatchParams::default()
        };
        client.watch("", &params).await.unwrap();
        assert_eq!(
            seen.lock()[0].1,
            "/api/v1/pods?watch=true&allowWatchBookmarks=true&timeoutSeconds=290&resourceVersion=7"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_never_answers_is_a_transport_error() {
        let service = tower::service_fn(|_: Request<Body>| {
            std::future::pending::<Result<Response<Body>, kube::Error>>()
        });
        let gvr = GroupVersionResource::new("", "v1", "pods");
        let client = ResourceClient::new(Connection::in_process(service).client(""), gvr);
        let error = client.get("ns", "a").await.unwrap_err();
        assert_eq!(error.to_string(), "no answer within 60 s");
        assert_eq!(error.code(), None);
    }
}
