//! A server over the fake store, and short ways to talk to it.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tmc_apimachinery::definition::{
    ApiSet, NameRule, ResourceDefinition, ScalePaths, Scope, Subresources, Verbs,
};
use tmc_apimachinery::status::{ApiError, Result};
use tmc_apimachinery::table::{Cell, Column};
use tmc_apimachinery::user::{Attributes, Decision, Target, UserInfo};
use tmc_apimachinery::{ClusterName, ClusterScope, GroupVersionKind};
use tmc_server::resource::ResourceStore;
use tmc_server::surface::{
    ApiSurface, Body, InProcessIdentity, RequestContext, Resolution, Resolved, Response,
    SpecialRequest, TokenAuthenticator,
};
use tmc_server::{Config, Server, ServerBuilder, ServerService, VersionInfo, respond};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::fake::FakeStore;

fn definition(group: &str, kind: &str, plural: &str) -> ResourceDefinition {
    ResourceDefinition {
        gvk: GroupVersionKind::new(group, "v1", kind),
        plural: plural.into(),
        singular: kind.to_lowercase(),
        list_kind: format!("{kind}List"),
        short_names: Vec::new(),
        categories: Vec::new(),
        scope: Scope::Namespaced,
        verbs: Verbs::ALL,
        subresources: Subresources::default(),
        schema: None,
        columns: Vec::new(),
        strategic: true,
        selectable_fields: Vec::new(),
        name_rule: NameRule::Subdomain,
        generation: true,
        custom: false,
        immutable_fields: Vec::new(),
        storage_version: "v1".into(),
    }
}

fn column(name: &str, kind: &str, path: &str) -> Column {
    Column {
        name: name.into(),
        kind: kind.into(),
        format: String::new(),
        description: name.into(),
        priority: 0,
        cell: Cell::JsonPath(path.into()),
    }
}

/// What the fake surface serves.
pub(crate) fn api_set() -> Arc<ApiSet> {
    let mut deployments = definition("apps", "Deployment", "deployments");
    deployments.subresources = Subresources {
        status: true,
        scale: Some(ScalePaths {
            spec_replicas: "spec.replicas".into(),
            status_replicas: "status.replicas".into(),
            selector: Some("spec.selector".into()),
        }),
        other: BTreeMap::new(),
    };
    deployments.columns = vec![column("Replicas", "integer", ".spec.replicas")];
    let mut widgets = definition("example.com", "Widget", "widgets");
    widgets.scope = Scope::Cluster;
    widgets.strategic = false;
    widgets.custom = true;
    let mut namespaces = definition("", "Namespace", "namespaces");
    namespaces.scope = Scope::Cluster;
    let mut accounts = definition("", "ServiceAccount", "serviceaccounts");
    let token = GroupVersionKind::new("authentication.k8s.io", "v1", "TokenRequest");
    accounts.subresources.other = BTreeMap::from([("token".into(), (token, Verbs::CREATE))]);
    let mut reviews = definition(
        "authorization.k8s.io",
        "SubjectAccessReview",
        "subjectaccessreviews",
    );
    reviews.scope = Scope::Cluster;
    reviews.verbs = Verbs::CREATE;
    let mut read_only = definition("fleet.example.com", "Sum", "sums");
    read_only.verbs = Verbs::GET.and(Verbs::LIST);
    read_only.subresources.status = true;
    let all = [
        deployments,
        widgets,
        namespaces,
        accounts,
        reviews,
        read_only,
    ];
    Arc::new(ApiSet::new(all.into_iter().map(Arc::new)))
}

/// Serves `/clusters/<name|*>/…`.
pub(crate) struct FakeSurface {
    pub(crate) store: FakeStore,
    set: Arc<ApiSet>,
    not_ready: bool,
}

#[async_trait]
impl ApiSurface for FakeSurface {
    fn name(&self) -> &'static str {
        "fake"
    }

    fn resolve(&self, path: &str) -> Resolution {
        let Some(rest) = path.strip_prefix("/clusters/") else {
            return Resolution::NotMine;
        };
        let (cluster, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, "/"),
        };
        let scope = match ClusterName::parse(cluster) {
            _ if cluster == "*" => ClusterScope::All,
            Some(name) => ClusterScope::One(name),
            None => {
                let text = format!("invalid cluster: \"{cluster}\" does not match the regex");
                return Resolution::Refused(ApiError::bad_request(text));
            }
        };
        Resolution::Accepted(Resolved {
            scope,
            path: path.to_owned(),
            domain: None,
        })
    }

    fn ready(&self) -> std::result::Result<(), String> {
        if self.not_ready {
            Err("still loading".into())
        } else {
            Ok(())
        }
    }

    /// `admin` may everything, `reader` may read what is not a Secret path, nobody else anything.
    async fn authorize(&self, context: &RequestContext, attributes: &Attributes) -> Decision {
        assert_eq!(attributes.user, *context.user);
        let reads = ["get", "list", "watch"].contains(&attributes.verb.as_str());
        let no_opinion = || Decision::NoOpinion(String::new());
        match (attributes.user.name.as_str(), &attributes.target) {
            ("admin", _) => Decision::Allow,
            ("reader", Target::Resource(target)) if reads && target.namespace != "secret" => {
                Decision::Allow
            }
            _ => no_opinion(),
        }
    }

    async fn api_set(&self, context: &RequestContext) -> Result<Arc<ApiSet>> {
        if context.resolved.scope.to_string() == "gone" {
            return Err(ApiError::no_such_path());
        }
        Ok(self.set.clone())
    }

    fn store(&self) -> &dyn ResourceStore {
        &self.store
    }

    async fn special(
        &self,
        context: &RequestContext,
        request: &SpecialRequest,
    ) -> Option<Response> {
        (context.info.path == "/apis/special/v1/beat").then(|| {
            let seen = json!({"method": request.method.as_str(), "bytes": request.body.len()});
            respond::json_response(StatusCode::OK, &seen)
        })
    }
}

/// Knows the tokens `admin`, `reader` and `nobody`.
struct Tokens;

#[async_trait]
impl TokenAuthenticator for Tokens {
    async fn authenticate(&self, token: &str) -> Result<Option<UserInfo>> {
        let known = ["admin", "reader", "nobody"].contains(&token);
        Ok(known.then(|| UserInfo::new(token, &[])))
    }
}

/// A server and its store.
pub(crate) struct Fixture {
    pub(crate) server: Server,
    pub(crate) store: FakeStore,
}

/// A server with the default limits.
pub(crate) fn fixture() -> Fixture {
    with_config(Config::default())
}

/// A server with given limits.
pub(crate) fn with_config(config: Config) -> Fixture {
    let store = FakeStore::default();
    let server = builder(&store, config, false).build();
    Fixture { server, store }
}

/// A server whose surface is not ready.
pub(crate) fn not_ready() -> Fixture {
    let store = FakeStore::default();
    let server = builder(&store, Config::default(), true).build();
    Fixture { server, store }
}

/// A server whose watches in this process end when `stop` fires.
pub(crate) fn stoppable(config: Config, stop: CancellationToken) -> Fixture {
    let store = FakeStore::default();
    let server = builder(&store, config, false).stop(stop).build();
    Fixture { server, store }
}

fn builder(store: &FakeStore, config: Config, not_ready: bool) -> ServerBuilder {
    let surface = FakeSurface {
        store: store.clone(),
        set: api_set(),
        not_ready,
    };
    Server::builder(VersionInfo::default())
        .surface(Arc::new(surface))
        .tokens(Arc::new(Tokens))
        .config(config)
}

/// An answer, read to its end.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&self.body)))
    }

    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.to_vec()).unwrap()
    }

    /// A header's text, empty if absent.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or("")
    }

    /// `message` of a Status, checked to be a Status of the answer's own code.
    pub(crate) fn refusal(&self) -> (u16, String) {
        let status = self.json();
        assert_eq!(self.header("content-type"), "application/json");
        assert_eq!(status["kind"], "Status", "{status}");
        assert_eq!(status["code"], self.status.as_u16(), "{status}");
        (
            self.status.as_u16(),
            status["message"].as_str().unwrap().to_owned(),
        )
    }
}

/// A request of the user `admin`.
pub(crate) fn request(
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Request<Full<Bytes>> {
    let mut request = Request::builder()
        .method(Method::from_bytes(method.as_bytes()).unwrap())
        .uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Full::new(body.into())).unwrap()
}

impl Fixture {
    /// The service for `admin`.
    pub(crate) fn admin(&self) -> ServerService {
        self.server
            .service()
            .with_identity(InProcessIdentity(UserInfo::new("admin", &[])))
    }

    /// Sends as it is and does not read the answer's body.
    pub(crate) async fn open(&self, request: Request<Full<Bytes>>) -> http::Response<Body> {
        self.server.service().oneshot(request).await.unwrap()
    }

    /// Sends as `admin` and reads the answer.
    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        read(
            self.admin()
                .oneshot(request(method, path, headers, body))
                .await
                .unwrap(),
        )
        .await
    }

    /// Sends without an identity of its own and reads the answer.
    pub(crate) async fn outside(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Answer {
        read(self.open(request(method, path, headers, "")).await).await
    }

    /// The metrics, as a member of `system:masters` reads them.
    pub(crate) async fn get_metrics(&self) -> String {
        let master = InProcessIdentity(UserInfo::new("root", &["system:masters"]));
        let service = self.server.service().with_identity(master);
        read(
            service
                .oneshot(request("GET", "/metrics", &[], ""))
                .await
                .unwrap(),
        )
        .await
        .text()
    }

    /// GET as `admin`.
    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], "").await
    }

    /// POST of JSON as `admin`.
    pub(crate) async fn post(&self, path: &str, object: &Value) -> Answer {
        self.send(
            "POST",
            path,
            &[("content-type", "application/json")],
            object.to_string(),
        )
        .await
    }

    /// Makes a Deployment in namespace `ns` of cluster `a`.
    pub(crate) async fn deploy(&self, name: &str) -> Value {
        let answer = self.post(DEPLOYMENTS, &deployment(name)).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text());
        answer.json()
    }
}

/// Deployments in namespace `ns` of cluster `a`.
pub(crate) const DEPLOYMENTS: &str = "/clusters/a/apis/apps/v1/namespaces/ns/deployments";
/// Widgets of cluster `a`.
pub(crate) const WIDGETS: &str = "/clusters/a/apis/example.com/v1/widgets";

/// A Deployment.
pub(crate) fn deployment(name: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"app": name}}},
    })
}

/// A Widget.
pub(crate) fn widget(name: &str) -> Value {
    json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": name}})
}

/// Reads an answer to its end.
pub(crate) async fn read(response: http::Response<Body>) -> Answer {
    let (parts, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    Answer {
        status: parts.status,
        headers: parts.headers,
        body,
    }
}

/// Lines of a watch, one event each.
pub(crate) struct Events {
    body: Body,
    buffer: Vec<u8>,
}

impl Events {
    pub(crate) fn new(response: http::Response<Body>) -> Self {
        assert_eq!(response.status(), StatusCode::OK);
        Self {
            body: response.into_body(),
            buffer: Vec::new(),
        }
    }

    /// The next event; `None` when the watch has ended.
    pub(crate) async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(at) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=at).collect();
                return Some(serde_json::from_slice(&line).unwrap());
            }
            match self.body.frame().await {
                Some(frame) => self.buffer.extend(frame.unwrap().into_data().unwrap()),
                None => {
                    assert!(self.buffer.is_empty(), "a line was cut");
                    return None;
                }
            }
        }
    }
}
