//! The server as a tower service, and the way of a request through it: path, surface,
//! authentication, authorization, then discovery or a verb.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use futures::future::BoxFuture;
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Request, StatusCode};
use http_body::Body as HttpBody;
use http_body_util::BodyExt;
use parking_lot::{Mutex, RwLock};
use prometheus_client::registry::Registry;
use serde::Serialize;
use tmc_apimachinery::ClusterScope;
use tmc_apimachinery::request_info::RequestInfo;
use tmc_apimachinery::status::{ApiError, Reason, Result};
use tmc_apimachinery::user::{Attributes, Target, UserInfo};
use tokio_util::sync::CancellationToken;
use tower::BoxError;

use crate::authz::{self, MastersOnly, PathAuthorizer};
use crate::config::Config;
use crate::discovery::Documents;
use crate::filters::{self, InFlight, RequestBody};
use crate::metrics::{Counted, Metrics, Record, verb_label};
use crate::respond::{JSON, answer, empty, error_response, full};
use crate::surface::{
    ApiSurface, InProcessIdentity, RequestContext, Resolution, Resolved, Response, SpecialRequest,
    TokenAuthenticator,
};
use crate::verbs::{self, Environment};
use crate::websocket::Upgrade;
use crate::{authn, health};

/// What `GET /version` says (`k8s.io/apimachinery/pkg/version.Info`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct VersionInfo {
    /// Kubernetes major version, `1`.
    pub major: String,
    /// Kubernetes minor version.
    pub minor: String,
    /// Semantic version with a leading `v`.
    pub git_version: String,
    /// Commit, may be empty.
    pub git_commit: String,
    /// `clean`, `dirty` or empty.
    pub git_tree_state: String,
    /// RFC 3339, may be empty.
    pub build_date: String,
    /// Language runtime; kept for clients that print it.
    pub go_version: String,
    /// Compiler.
    pub compiler: String,
    /// Operating system and architecture, `linux/amd64`.
    pub platform: String,
}

/// Kubernetes minor version whose behaviour is followed.
const KUBERNETES_MINOR: u32 = 36;

impl Default for VersionInfo {
    /// The Kubernetes version followed, with this build's own version after `+tmc-`.
    fn default() -> Self {
        let own = env!("CARGO_PKG_VERSION");
        Self::new(
            KUBERNETES_MINOR,
            format!("v1.{KUBERNETES_MINOR}.0+tmc-{own}"),
        )
    }
}

impl VersionInfo {
    /// A version that speaks Kubernetes `1.<minor>`; `git_version` as `v1.36.0+tmc-0.1.0`.
    pub fn new(minor: u32, git_version: impl Into<String>) -> Self {
        let arch = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        Self {
            major: "1".into(),
            minor: minor.to_string(),
            git_version: git_version.into(),
            git_commit: String::new(),
            git_tree_state: String::new(),
            build_date: String::new(),
            go_version: String::new(),
            compiler: "rustc".into(),
            platform: format!("{}/{arch}", std::env::consts::OS),
        }
    }
}

/// Puts a server together.
pub struct ServerBuilder {
    surfaces: Vec<Arc<dyn ApiSurface>>,
    tokens: Vec<Arc<dyn TokenAuthenticator>>,
    paths: Arc<dyn PathAuthorizer>,
    version: VersionInfo,
    config: Config,
    registry: Arc<Mutex<Registry>>,
    stop: CancellationToken,
}

impl ServerBuilder {
    /// Adds a surface; they are asked in the order in which they were added.
    #[must_use]
    pub fn surface(mut self, surface: Arc<dyn ApiSurface>) -> Self {
        self.surfaces.push(surface);
        self
    }

    /// Adds a token authenticator; they are asked in order until one knows the token.
    #[must_use]
    pub fn tokens(mut self, authenticator: Arc<dyn TokenAuthenticator>) -> Self {
        self.tokens.push(authenticator);
        self
    }

    /// Decides about paths of no surface (`/metrics`); [`MastersOnly`] if not given.
    #[must_use]
    pub fn path_authorizer(mut self, authorizer: Arc<dyn PathAuthorizer>) -> Self {
        self.paths = authorizer;
        self
    }

    /// Limits and switches.
    #[must_use]
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// A registry shared with others, for one `/metrics`.
    #[must_use]
    pub fn registry(mut self, registry: Arc<Mutex<Registry>>) -> Self {
        self.registry = registry;
        self
    }

    /// Ends watches of in-process callers when it fires (a listener has a token of its own).
    #[must_use]
    pub fn stop(mut self, stop: CancellationToken) -> Self {
        self.stop = stop;
        self
    }

    /// The server.
    pub fn build(self) -> Server {
        let version = serde_json::to_vec(&self.version).unwrap_or_default();
        let in_flight = InFlight::new(
            self.config.max_reads_in_flight,
            self.config.max_writes_in_flight,
        );
        let inner = Inner {
            surfaces: RwLock::new(self.surfaces.into()),
            tokens: self.tokens,
            paths: self.paths,
            version: version.into(),
            metrics: Metrics::new(self.registry),
            in_flight,
            documents: Documents::default(),
            config: self.config,
            stop: self.stop,
        };
        Server {
            inner: Arc::new(inner),
        }
    }
}

/// An API server over any number of surfaces. Cheap to clone.
#[derive(Clone)]
pub struct Server {
    pub(crate) inner: Arc<Inner>,
}

impl Server {
    /// A server over surfaces (asked in order) and token authenticators, everything else at its
    /// default; [`Server::builder`] sets more.
    pub fn new(
        surfaces: Vec<Arc<dyn ApiSurface>>,
        tokens: Vec<Arc<dyn TokenAuthenticator>>,
        config: Config,
    ) -> Self {
        let builder = Self::builder(VersionInfo::default()).config(config);
        ServerBuilder {
            surfaces,
            tokens,
            ..builder
        }
        .build()
    }

    /// Begins to put a server together.
    pub fn builder(version: VersionInfo) -> ServerBuilder {
        ServerBuilder {
            surfaces: Vec::new(),
            tokens: Vec::new(),
            paths: Arc::new(MastersOnly),
            version,
            config: Config::default(),
            registry: Arc::default(),
            stop: CancellationToken::new(),
        }
    }

    /// Adds a surface to a running server; it is asked before those that are there. For surfaces
    /// that are themselves clients of this server.
    pub fn add_surface(&self, surface: Arc<dyn ApiSurface>) {
        let mut surfaces = self.inner.surfaces.write();
        *surfaces = std::iter::once(surface)
            .chain(surfaces.iter().cloned())
            .collect();
    }

    /// The service, for callers in this process and for [`Server::serve`].
    pub fn service(&self) -> ServerService {
        ServerService {
            inner: Held::Strongly(self.inner.clone()),
            identity: None,
        }
    }

    /// The service for surfaces of this server that are themselves its clients. It keeps nothing: once
    /// the server is gone, requests are answered 503.
    pub fn weak_service(&self) -> ServerService {
        ServerService {
            inner: Held::Weakly(Arc::downgrade(&self.inner)),
            identity: None,
        }
    }
}

/// How a service holds its server.
#[derive(Clone)]
enum Held {
    Strongly(Arc<Inner>),
    Weakly(Weak<Inner>),
}

impl Held {
    fn get(&self) -> Option<Arc<Inner>> {
        match self {
            Self::Strongly(inner) => Some(inner.clone()),
            Self::Weakly(inner) => inner.upgrade(),
        }
    }
}

/// A server's handler: a tower service of HTTP requests with any body. Never fails; errors are
/// answers. Dropping a call's future drops the request where it is; a write that was handed to the
/// store's writer by then commits.
#[derive(Clone)]
pub struct ServerService {
    inner: Held,
    identity: Option<InProcessIdentity>,
}

impl ServerService {
    /// The service for a caller in this process who is this user.
    #[must_use]
    pub fn with_identity(mut self, identity: InProcessIdentity) -> Self {
        self.identity = Some(identity);
        self
    }
}

impl<B> tower::Service<Request<B>> for ServerService
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = std::result::Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<std::result::Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let mut request = request.map(|body| body.map_err(Into::into).boxed_unsync());
        if let Some(identity) = &self.identity {
            request.extensions_mut().insert(identity.clone());
        }
        let inner = self.inner.get();
        Box::pin(async move {
            Ok(match inner {
                Some(inner) => inner.handle(request).await,
                None => error_response(&ApiError::unavailable("the server has ended", 1)),
            })
        })
    }
}

/// Media type of `/metrics`.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The first surface that accepts a path.
fn accept<'a>(
    surfaces: &'a [Arc<dyn ApiSurface>],
    path: &str,
) -> Result<Option<(&'a dyn ApiSurface, Resolved)>> {
    for surface in surfaces {
        match surface.resolve(path) {
            Resolution::NotMine => {}
            Resolution::Refused(error) => return Err(error),
            Resolution::Accepted(resolved) => return Ok(Some((surface.as_ref(), resolved))),
        }
    }
    Ok(None)
}

/// Whether a path is one of those that a Kubernetes API server serves at its root.
fn is_api_path(path: &str) -> bool {
    let first = path.split('/').nth(1);
    matches!(first, Some("api" | "apis" | "openapi" | "version"))
}

/// Ends the watches of requests that came through one listener.
#[derive(Clone)]
pub(crate) struct ListenerStop(pub(crate) CancellationToken);

pub(crate) struct Inner {
    surfaces: RwLock<Arc<[Arc<dyn ApiSurface>]>>,
    tokens: Vec<Arc<dyn TokenAuthenticator>>,
    paths: Arc<dyn PathAuthorizer>,
    version: Bytes,
    metrics: Metrics,
    in_flight: InFlight,
    documents: Documents,
    pub(crate) config: Config,
    stop: CancellationToken,
}

impl Inner {
    /// Answers a request, whatever happens in it.
    async fn handle(&self, request: Request<RequestBody>) -> Response {
        let started = Instant::now();
        let id = uuid::Uuid::new_v4();
        let head = request.method() == Method::HEAD;
        let gzip = filters::accepts_gzip(request.headers());
        let mut record = Record::default();
        let work = filters::catch_panic(self.route(request, &mut record));
        let outcome = tokio::time::timeout(self.config.request_timeout, work).await;
        let response = match outcome {
            Ok(Ok(Ok(response))) => response,
            Ok(Ok(Err(error))) => error_response(&error),
            Ok(Err(panic)) => {
                tracing::error!(%id, panic, "a request handler panicked");
                error_response(&ApiError::internal(format!(
                    "the request handler panicked; the server's log has it under {id}"
                )))
            }
            Err(_) => error_response(&timed_out(self.config.request_timeout.as_secs())),
        };
        let response = self.finish(response, head, gzip, &id.to_string());
        let seconds = started.elapsed().as_secs_f64();
        self.metrics
            .observe(&record, response.status().as_u16(), seconds);
        tracing::debug!(
            %id, surface = record.surface, verb = record.verb, group = record.group,
            resource = record.resource, user = record.user, code = response.status().as_u16(),
            seconds, "request"
        );
        response
    }

    fn finish(&self, response: Response, head: bool, gzip: bool, id: &str) -> Response {
        let mut response = filters::compress(response, gzip, self.config.gzip_above);
        if head {
            *response.body_mut() = empty();
        }
        if let Ok(id) = HeaderValue::from_str(id) {
            response
                .headers_mut()
                .insert(HeaderName::from_static("audit-id"), id);
        }
        let cache = HeaderValue::from_static("no-cache, private");
        response
            .headers_mut()
            .entry(http::header::CACHE_CONTROL)
            .or_insert(cache);
        response
    }

    async fn route(&self, request: Request<RequestBody>, record: &mut Record) -> Result<Response> {
        let (mut parts, body) = request.into_parts();
        authn::strip_proxy_headers(&mut parts.headers);
        let path = parts.uri.path().to_owned();
        let surfaces = self.surfaces.read().clone();
        if authz::is_exempt(&path) {
            record.verb = verb_label("get");
            return health::answer(
                &parts.method,
                &path,
                parts.uri.query().unwrap_or(""),
                &surfaces,
            );
        }
        filters::check_path(&path)?;
        let found = match accept(&surfaces, &path)? {
            None if is_api_path(&path) => match authn::home(&parts, &self.tokens) {
                Some(home) => accept(&surfaces, &format!("{home}{path}"))?,
                None => None,
            },
            found => found,
        };
        let Some((surface, resolved)) = found else {
            return self.root_request(&parts, &path, record).await;
        };
        record.surface = surface.name();
        self.surface_request(surface, resolved, parts, body, record)
            .await
    }

    /// Who asks. Boxed, like the two below, because the compiler cannot see through borrowed trait
    /// objects that the whole chain is `Send`.
    fn authenticate<'a>(
        &'a self,
        parts: &'a Parts,
        record: &'a mut Record,
    ) -> BoxFuture<'a, Result<UserInfo>> {
        Box::pin(async move {
            let user = authn::authenticate(parts, &self.tokens).await?;
            record.user.clone_from(&user.name);
            authn::refuse_impersonation(&parts.headers)?;
            Ok(user)
        })
    }

    /// A path of no surface: `/metrics`, or nothing. Nobody learns which before being let in.
    async fn root_request(
        &self,
        parts: &Parts,
        path: &str,
        record: &mut Record,
    ) -> Result<Response> {
        let user = self.authenticate(parts, record).await?;
        let verb = parts.method.as_str().to_ascii_lowercase();
        let verb = if verb == "head" {
            "get".to_owned()
        } else {
            verb
        };
        record.verb = verb_label(&verb);
        let decision = self.paths.authorize_path(&user, &verb, path).await;
        let attributes = Attributes {
            user,
            cluster: ClusterScope::All,
            verb,
            target: Target::Path(path.into()),
        };
        authz::verdict(decision, &attributes)?;
        if path != "/metrics" {
            return Err(ApiError::no_such_path());
        }
        require_get(&parts.method)?;
        let text = full(self.metrics.text().into());
        Ok(answer(StatusCode::OK, OPENMETRICS, text))
    }

    /// A request inside a surface.
    fn surface_request<'a>(
        &'a self,
        surface: &'a dyn ApiSurface,
        resolved: Resolved,
        mut parts: Parts,
        body: RequestBody,
        record: &'a mut Record,
    ) -> BoxFuture<'a, Result<Response>> {
        Box::pin(async move {
            let info = request_info(&parts, &resolved.path)?;
            record.verb = verb_label(&info.verb);
            let user = self.authenticate(&parts, record).await?;
            require_known(&parts.method)?;
            let context = RequestContext {
                resolved,
                info,
                user: Arc::new(user),
            };
            let asked = authz::attributes(&context.resolved.scope, &context.user, &context.info);
            authz::verdict(surface.authorize(&context, &asked).await, &asked)?;
            // The body comes before the place: a caller who never sends it holds up nobody.
            let body = match parts.method {
                Method::GET | Method::HEAD => Bytes::new(),
                _ => filters::read_body(body, &parts.headers, self.config.max_body_bytes).await?,
            };
            let inside = parts.extensions.get::<InProcessIdentity>().is_some();
            let _place = if inside {
                None
            } else {
                self.in_flight.enter(&context.info.verb)?
            };
            let _counted =
                (context.info.verb != "watch").then(|| Counted::new(self.metrics.in_flight()));
            let stop = self.stop_of_asker(&parts).clone();
            let upgrade = Upgrade::take(&mut parts, &self.tokens, stop);
            let special = SpecialRequest {
                method: parts.method.clone(),
                query: parts.uri.query().map(str::to_owned),
                headers: parts.headers.clone(),
                body,
                upgrade,
            };
            if let Some(response) = surface.special(&context, &special).await {
                return Ok(response);
            }
            self.dispatch(surface, &context, &parts, special.body, record)
                .await
        })
    }

    /// What ends long answers to this request.
    fn stop_of_asker<'a>(&'a self, parts: &'a Parts) -> &'a CancellationToken {
        let own = parts.extensions.get::<ListenerStop>();
        own.map_or(&self.stop, |stop| &stop.0)
    }

    /// Discovery or a verb.
    fn dispatch<'a>(
        &'a self,
        surface: &'a dyn ApiSurface,
        context: &'a RequestContext,
        parts: &'a Parts,
        body: Bytes,
        record: &'a mut Record,
    ) -> BoxFuture<'a, Result<Response>> {
        Box::pin(async move {
            if !context.info.is_resource {
                return self.document(surface, context, parts).await;
            }
            let set = surface.api_set(context).await?;
            let definition = verbs::find(&set, &context.info)?;
            record.group.clone_from(&definition.gvk.group);
            record.resource.clone_from(&definition.plural);
            let stop = self.stop_of_asker(parts);
            let env = Environment {
                config: &self.config,
                metrics: &self.metrics,
                stop,
            };
            verbs::serve(
                env,
                surface.store(),
                definition,
                context,
                &parts.headers,
                body,
            )
            .await
        })
    }

    /// What is served, in which version, and how the surface feels.
    async fn document(
        &self,
        surface: &dyn ApiSurface,
        context: &RequestContext,
        parts: &Parts,
    ) -> Result<Response> {
        let path = context.info.path.as_str();
        if authz::is_exempt(path) {
            let surfaces = self.surfaces.read().clone();
            let own: Vec<_> = surfaces
                .iter()
                .filter(|other| other.name() == surface.name())
                .cloned()
                .collect();
            return health::answer(&parts.method, path, parts.uri.query().unwrap_or(""), &own);
        }
        let set = surface.api_set(context).await?;
        require_get(&parts.method)?;
        if path == "/version" {
            return Ok(answer(StatusCode::OK, JSON, full(self.version.clone())));
        }
        self.documents
            .answer(&set, &context.info, path, &parts.headers)
    }
}

/// Understands path and method; HEAD is GET whose body is left out at the end.
fn request_info(parts: &Parts, path: &str) -> Result<RequestInfo> {
    let method = if parts.method == Method::HEAD {
        "GET"
    } else {
        parts.method.as_str()
    };
    RequestInfo::parse(method, path, parts.uri.query())
}

fn require_known(method: &Method) -> Result<()> {
    let known = [
        Method::GET,
        Method::HEAD,
        Method::POST,
        Method::PUT,
        Method::PATCH,
        Method::DELETE,
    ];
    if known.contains(method) {
        return Ok(());
    }
    Err(ApiError::method_not_allowed(format!(
        "the method {method} is not supported"
    )))
}

fn require_get(method: &Method) -> Result<()> {
    if method == Method::GET || method == Method::HEAD {
        return Ok(());
    }
    Err(ApiError::method_not_allowed(
        "the server does not allow this method on the requested resource",
    ))
}

fn timed_out(seconds: u64) -> ApiError {
    ApiError::new(
        Reason::Timeout,
        format!("the request was not answered within {seconds} s; a write may still take effect"),
    )
}
