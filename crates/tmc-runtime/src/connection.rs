//! Connections to hubs and members: `kube::Client`s for every part of one server over one
//! transport.

mod switch;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use kube::client::Body;
use parking_lot::Mutex;
use tmc_apimachinery::ClusterName;
use tower::{BoxError, ServiceExt};

pub use self::switch::Switch;
use crate::bounds::Bounds;
use crate::https::{Dialer, Endpoint, HttpsTransport, SystemDialer};
use crate::lease::{ENDED, Fence};
use crate::{Error, answer};

/// Clients kept per connection; the least recently asked for goes first. A client in use elsewhere
/// lives on.
const MAX_CLIENTS: usize = 4096;

type Answer = Response<UnsyncBoxBody<bytes::Bytes, BoxError>>;
type Transport =
    Arc<dyn Fn(Request<Body>) -> BoxFuture<'static, Result<Answer, BoxError>> + Send + Sync>;

/// Sends a request that asks for another protocol, on a connection of its own.
type Upgrades = Arc<
    dyn Fn(Request<Body>) -> BoxFuture<'static, Result<Response<Incoming>, BoxError>> + Send + Sync,
>;

/// A connection that speaks another protocol now.
pub type Upgraded = TokioIo<hyper::upgrade::Upgraded>;

/// How long a server may take to agree to another protocol.
const UPGRADE_TIMEOUT: Duration = Duration::from_secs(30);

/// One API server, reached over one shared transport (a pool, or a service in this process).
/// Cheap to clone.
#[derive(Clone)]
pub struct Connection(Arc<Inner>);

struct Inner {
    transport: Transport,
    /// Sends requests that ask for another protocol; none in this process.
    upgrades: Option<Upgrades>,
    base_path: String,
    clients: Mutex<Clients>,
}

#[derive(Default)]
struct Clients {
    by_path: HashMap<String, (u64, kube::Client)>,
    /// Counts look-ups: the "time" of last use.
    clock: u64,
}

impl Clients {
    fn get_or_make(&mut self, path: &str, make: impl FnOnce() -> kube::Client) -> kube::Client {
        self.clock += 1;
        if let Some((used, client)) = self.by_path.get_mut(path) {
            *used = self.clock;
            return client.clone();
        }
        if self.by_path.len() >= MAX_CLIENTS {
            // Rare enough for a scan: only after thousands of distinct workspaces.
            let oldest = self.by_path.iter().min_by_key(|(_, (used, _))| *used);
            if let Some(path) = oldest.map(|(path, _)| path.clone()) {
                self.by_path.remove(&path);
            }
        }
        let client = make();
        self.by_path
            .insert(path.to_owned(), (self.clock, client.clone()));
        client
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("base_path", &self.0.base_path)
            .finish_non_exhaustive()
    }
}

impl Connection {
    /// Over a tower service in this process (no socket). The service must already carry the
    /// caller's identity.
    pub fn in_process<S, B>(service: S) -> Self
    where
        S: tower::Service<Request<Body>, Response = Response<B>> + Clone + Send + Sync + 'static,
        S::Future: Send + 'static,
        S::Error: Into<BoxError>,
        B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let transport = move |request: Request<Body>| {
            let answer = service.clone().oneshot(request);
            let answer: BoxFuture<'static, Result<Answer, BoxError>> = Box::pin(async move {
                let response = answer.await.map_err(Into::into)?;
                Ok(response.map(|body| body.map_err(Into::into).boxed_unsync()))
            });
            answer
        };
        Self::over(String::new(), transport)
    }

    /// Over HTTPS as a kubeconfig says (its current context unless named). The path of the
    /// `server` URL is kept apart: see [`Connection::base_path`]. HTTP/2 where the server offers it.
    /// Files that the kubeconfig names are read: not for kubeconfigs of strangers.
    ///
    /// # Errors
    /// A sentence naming the part of the kubeconfig that cannot be used.
    pub fn from_kubeconfig(
        kubeconfig: &kube::config::Kubeconfig,
        context: Option<&str>,
    ) -> Result<Self, crate::Error> {
        Self::https(
            &Endpoint::from_kubeconfig(kubeconfig, context)?,
            Arc::new(SystemDialer),
        )
    }

    /// Over HTTPS to an endpoint whose parts are already known, with connections opened by `dialer`.
    ///
    /// # Guarantees
    /// Follows no redirect, uses no proxy, and opens every connection through the dialer.
    ///
    /// # Errors
    /// A sentence naming the part of the endpoint that cannot be used.
    pub fn https(endpoint: &Endpoint, dialer: Arc<dyn Dialer>) -> Result<Self, crate::Error> {
        let https = Arc::new(HttpsTransport::new(endpoint, dialer)?);
        let base_path = endpoint.base_path().to_owned();
        let own = Arc::clone(&https);
        let upgrades: Upgrades = Arc::new(move |request| {
            let https = Arc::clone(&own);
            Box::pin(async move { https.send_upgrade(request).await })
        });
        Ok(Self::upgradable(
            base_path,
            Some(upgrades),
            move |request| {
                let https = Arc::clone(&https);
                Box::pin(async move {
                    let response = https.send(request).await?;
                    Ok(response.map(|body| body.map_err(Into::into).boxed_unsync()))
                })
            },
        ))
    }

    /// Whether the server can be asked to speak another protocol: not in this process.
    pub fn can_upgrade(&self) -> bool {
        self.0.upgrades.is_some()
    }

    /// Asks the server to speak another protocol: GET of `path` (from the root) with these headers,
    /// on an HTTP/1.1 connection of its own. Gives the headers of the answer and the connection.
    ///
    /// # Errors
    /// [`Error::Api`] for any answer but 101; [`Error::Transport`] if there is none.
    pub async fn upgrade(
        &self,
        path: &str,
        headers: HeaderMap,
    ) -> Result<(HeaderMap, Upgraded), Error> {
        let Some(upgrades) = &self.0.upgrades else {
            let why = "a server in this process speaks HTTP only".to_owned();
            return Err(Error::Transport(why));
        };
        let mut request = Request::get(path)
            .body(Body::empty())
            .map_err(|error| Error::Transport(format!("not a request: {error}")))?;
        *request.headers_mut() = headers;
        let failed = |error: BoxError| Error::Transport(answer::chain(&*error));
        let agreed = async {
            let response = upgrades(request).await.map_err(failed)?;
            if response.status() != StatusCode::SWITCHING_PROTOCOLS {
                return Err(answer::error_of(response).await);
            }
            let headers = response.headers().clone();
            let io = hyper::upgrade::on(response).await;
            Ok((headers, TokioIo::new(io.map_err(|e| failed(e.into()))?)))
        };
        tokio::time::timeout(UPGRADE_TIMEOUT, agreed)
            .await
            .unwrap_or_else(|_| Err(Error::Transport("the server did not answer in time".into())))
    }

    /// A connection that cannot be asked for another protocol.
    fn over(
        base_path: String,
        transport: impl Fn(Request<Body>) -> BoxFuture<'static, Result<Answer, BoxError>>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        Self::upgradable(base_path, None, transport)
    }

    fn upgradable(
        base_path: String,
        upgrades: Option<Upgrades>,
        transport: impl Fn(Request<Body>) -> BoxFuture<'static, Result<Answer, BoxError>>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        let clients = Mutex::default();
        Self(Arc::new(Inner {
            transport: Arc::new(transport),
            upgrades,
            base_path,
            clients,
        }))
    }

    /// The same server, for writes of one term of a leader: everything but GET and HEAD is refused once
    /// `fence` has ended, and dropped if it ends while the request is under way (as a dropped call,
    /// such a write may still commit if the server had it by then). So is asking for another protocol;
    /// a session that is open then is for its holder to end.
    #[must_use]
    pub fn fenced(&self, fence: &Fence) -> Self {
        let upgrades = self.0.upgrades.as_ref().map(|inner| {
            let (inner, fence) = (Arc::clone(inner), fence.clone());
            let upgrades: Upgrades = Arc::new(move |request| within(&fence, || inner(request)));
            upgrades
        });
        let (inner, fence) = (Arc::clone(&self.0.transport), fence.clone());
        Self::upgradable(self.0.base_path.clone(), upgrades, move |request| {
            if matches!(*request.method(), Method::GET | Method::HEAD) {
                return inner(request);
            }
            within(&fence, || inner(request))
        })
    }

    /// The same server, of whose answers no more is read than these bounds; without, than
    /// [`Bounds::HUB`]. What is made of this connection has them too.
    #[must_use]
    pub fn bounded(&self, bounds: Bounds) -> Self {
        let (inner, upgrades) = (Arc::clone(&self.0.transport), self.0.upgrades.clone());
        Self::upgradable(self.0.base_path.clone(), upgrades, move |request| {
            let answer = inner(request);
            Box::pin(async move {
                let mut answer = answer.await?;
                // Found again by whoever reads the body.
                answer.extensions_mut().insert(bounds);
                Ok(answer)
            })
        })
    }

    /// The same server, with a bearer token in every request.
    ///
    /// # Errors
    /// For text that cannot be part of a header.
    pub fn with_bearer(&self, token: &str) -> Result<Self, http::header::InvalidHeaderValue> {
        let mut bearer = http::HeaderValue::from_str(&format!("Bearer {token}"))?;
        bearer.set_sensitive(true);
        let transport = self.0.transport.clone();
        let carrying = move |mut request: Request<Body>| {
            let headers = request.headers_mut();
            headers.insert(http::header::AUTHORIZATION, bearer.clone());
            transport(request)
        };
        // An upgrade would go out without the token.
        Ok(Self::over(self.0.base_path.clone(), carrying))
    }

    /// Path of the kubeconfig's `server` URL (`/clusters/root`), empty if none.
    pub fn base_path(&self) -> &str {
        &self.0.base_path
    }

    /// A client whose requests go below `path` (`""`, `/clusters/root`,
    /// `/services/syncer/…/clusters/*`), replacing the kubeconfig's own path. The same path gives the
    /// same client.
    ///
    /// # Panics
    /// Outside a Tokio runtime (each client has a small task).
    pub fn client(&self, path: &str) -> kube::Client {
        let path = path.trim_end_matches('/');
        self.0.clients.lock().get_or_make(path, || {
            let (transport, prefix) = (Arc::clone(&self.0.transport), path.to_owned());
            let service = tower::service_fn(move |request: Request<Body>| {
                let transport = Arc::clone(&transport);
                let request = below(&prefix, request);
                async move { transport(request?).await }
            });
            kube::Client::new(service, "default")
        })
    }

    /// A client below the kubeconfig's own path.
    ///
    /// # Panics
    /// As [`Connection::client`].
    pub fn base_client(&self) -> kube::Client {
        self.client(&self.0.base_path)
    }
}

/// Makes a call while a fence holds, and drops it when the fence ends.
fn within<T: Send + 'static>(
    fence: &Fence,
    call: impl FnOnce() -> BoxFuture<'static, Result<T, BoxError>>,
) -> BoxFuture<'static, Result<T, BoxError>> {
    if !fence.holds() {
        return Box::pin(std::future::ready(Err(ENDED.into())));
    }
    let (call, fence) = (call(), fence.clone());
    Box::pin(async move {
        tokio::select! {
            answer = call => answer,
            () = fence.ended() => Err(ENDED.into()),
        }
    })
}

/// Puts a prefix before a request's path.
fn below(prefix: &str, mut request: Request<Body>) -> Result<Request<Body>, BoxError> {
    if !prefix.is_empty() {
        let rest = request.uri().path_and_query().map_or("/", |p| p.as_str());
        let mut parts = request.uri().clone().into_parts();
        parts.path_and_query = Some(format!("{prefix}{rest}").parse()?);
        *request.uri_mut() = Uri::from_parts(parts)?;
    }
    Ok(request)
}

/// A hub: a connection plus how it lays out workspaces.
#[derive(Clone, Debug)]
pub struct Hub {
    /// The transport.
    pub connection: Connection,
    /// Whether there are workspaces (`/clusters/<name>`), or one plain Kubernetes API.
    pub workspaces: bool,
}

impl Hub {
    /// The same hub, for writes of one term: see [`Connection::fenced`].
    #[must_use]
    pub fn fenced(&self, fence: &Fence) -> Self {
        Self {
            connection: self.connection.fenced(fence),
            workspaces: self.workspaces,
        }
    }

    /// A client for one logical cluster (`/clusters/<name>`, or no prefix on a plain hub).
    ///
    /// # Panics
    /// As [`Connection::client`].
    pub fn cluster(&self, name: &ClusterName) -> kube::Client {
        self.scope(name.as_str())
    }

    /// A client for list and watch over all logical clusters (`/clusters/*`).
    ///
    /// # Panics
    /// As [`Connection::client`].
    pub fn wildcard(&self) -> kube::Client {
        self.scope("*")
    }

    /// The logical cluster that an object of this hub is in; on a plain hub it is `root`, whatever
    /// somebody has written into the object.
    pub fn cluster_of(&self, object: &serde_json::Value) -> ClusterName {
        ClusterName::new(if self.workspaces {
            tmc_apimachinery::meta::meta(object).cluster()
        } else {
            ClusterName::ROOT
        })
    }

    fn scope(&self, cluster: &str) -> kube::Client {
        let base = self.connection.base_path();
        if !self.workspaces {
            return self.connection.client(base);
        }
        // What stands before `/clusters/<own>` in the kubeconfig belongs to the hub's address.
        let before = base.find("/clusters/").map_or(base, |at| &base[..at]);
        self.connection
            .client(&format!("{before}/clusters/{cluster}"))
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt as _;
    use tmc_apimachinery::GroupVersionResource;

    use super::*;
    use crate::ResourceClient;
    use crate::client::{WatchParams, get_path};

    fn echo() -> Connection {
        let service = tower::service_fn(|request: Request<Body>| async move {
            let body = Body::from(request.uri().to_string().into_bytes());
            Ok::<_, BoxError>(Response::new(body))
        });
        Connection::in_process(service)
    }

    async fn path_seen(client: &kube::Client) -> String {
        let request = Request::get("/api?limit=1").body(Body::empty()).unwrap();
        let body = client.send(request).await.unwrap().into_body();
        String::from_utf8(body.collect_bytes().await.unwrap().to_vec()).unwrap()
    }

    #[tokio::test]
    async fn a_client_speaks_below_its_path() {
        let connection = echo();
        assert_eq!(path_seen(&connection.client("")).await, "/api?limit=1");
        assert_eq!(
            path_seen(&connection.client("/clusters/a/")).await,
            "/clusters/a/api?limit=1"
        );
        assert_eq!(connection.0.clients.lock().by_path.len(), 2);
    }

    #[tokio::test]
    async fn a_hub_with_workspaces_has_a_prefix_for_each_and_one_without_has_none() {
        let hub = Hub {
            connection: echo(),
            workspaces: true,
        };
        assert_eq!(
            path_seen(&hub.cluster(&ClusterName::new("x"))).await,
            "/clusters/x/api?limit=1"
        );
        assert_eq!(path_seen(&hub.wildcard()).await, "/clusters/*/api?limit=1");
        let plain = Hub {
            connection: echo(),
            workspaces: false,
        };
        assert_eq!(path_seen(&plain.wildcard()).await, "/api?limit=1");
    }

    async fn method_answered(connection: &Connection, method: Method) -> Result<u16, String> {
        let request = Request::builder().method(method).uri("/x");
        let request = request.body(Body::empty()).unwrap();
        let answer = connection.client("").send(request).await;
        answer
            .map(|a| a.status().as_u16())
            .map_err(|error| match error {
                kube::Error::Service(inner) => inner.to_string(),
                other => other.to_string(),
            })
    }

    #[tokio::test(start_paused = true)]
    async fn behind_a_fence_that_has_ended_one_may_read_and_nothing_else() {
        let fence = Fence::for_tests(Duration::from_secs(10));
        let fenced = echo().fenced(&fence);
        assert_eq!(method_answered(&fenced, Method::POST).await, Ok(200));
        tokio::time::advance(Duration::from_secs(10)).await;
        for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
            assert_eq!(method_answered(&fenced, method).await, Err(ENDED.into()));
        }
        assert_eq!(method_answered(&fenced, Method::GET).await, Ok(200));
    }

    #[tokio::test(start_paused = true)]
    async fn behind_a_fence_that_has_ended_no_other_protocol_is_asked_for() {
        let asked: Upgrades =
            Arc::new(|_| Box::pin(std::future::ready(Err("it was asked".into()))));
        let never = |_| -> BoxFuture<'static, _> { Box::pin(std::future::pending()) };
        let fence = Fence::for_tests(Duration::from_secs(10));
        let server = Connection::upgradable(String::new(), Some(asked), never);
        let fenced = server.fenced(&fence);
        assert!(fenced.can_upgrade() && !echo().fenced(&fence).can_upgrade());
        let answer = async || match fenced.upgrade("/x", HeaderMap::new()).await {
            Err(error) => error.to_string(),
            Ok(_) => panic!("nobody agrees"),
        };
        assert!(answer().await.contains("it was asked"));
        tokio::time::advance(Duration::from_secs(10)).await;
        assert!(answer().await.contains(ENDED));
    }

    #[tokio::test]
    async fn of_a_bounded_server_no_more_is_read_than_its_bounds() {
        let service = tower::service_fn(|_: Request<Body>| async {
            Ok::<_, BoxError>(Response::new(Body::from(b"{\"object\": 1}".to_vec())))
        });
        let server = Connection::in_process(service);
        let get = async |server: &Connection| get_path(&server.client("/c"), "/x").await;
        let watch = async |server: &Connection| {
            let gvr = GroupVersionResource::new("", "v1", "pods");
            let client = ResourceClient::new(server.client(""), gvr);
            let mut lines = client.watch_raw("", &WatchParams::default()).await.unwrap();
            lines.next().await.transpose()
        };
        let fence = Fence::for_tests(Duration::from_secs(10));
        let short = Bounds {
            answer: 12,
            event: 11,
        };
        let bounded = Switch::new(server.bounded(short).fenced(&fence)).1;
        let error = get(&bounded).await.unwrap_err();
        assert_eq!(error.to_string(), "the answer is longer than 12 bytes");
        let error = watch(&bounded).await.unwrap_err();
        assert_eq!(error.to_string(), "a watch event is longer than 11 bytes");
        get(&server).await.unwrap();
        assert_eq!(watch(&server).await.unwrap(), None, "it was cut off");
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_under_way_is_dropped_when_its_fence_ends() {
        let service = tower::service_fn(|_: Request<Body>| {
            std::future::pending::<Result<Response<Body>, BoxError>>()
        });
        let fence = Fence::for_tests(Duration::from_secs(10));
        let fenced = Connection::in_process(service).fenced(&fence);
        let start = tokio::time::Instant::now();
        assert_eq!(
            method_answered(&fenced, Method::PUT).await,
            Err(ENDED.into())
        );
        assert_eq!(start.elapsed().as_secs(), 10);
    }

    #[tokio::test]
    async fn the_least_recently_used_client_leaves_a_full_cache() {
        let connection = echo();
        connection.client("/first");
        connection.client("/second");
        for n in 2..MAX_CLIENTS {
            connection.client(&format!("/{n}"));
        }
        connection.client("/first");
        connection.client("/one-more");
        let clients = connection.0.clients.lock();
        assert_eq!(clients.by_path.len(), MAX_CLIENTS);
        assert!(clients.by_path.contains_key("/first"));
        assert!(!clients.by_path.contains_key("/second"));
    }
}
