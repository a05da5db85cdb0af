//! An API surface: the hub itself, or one virtual workspace. The server asks each in turn whether
//! a path is its own, then authenticates, authorizes and serves with what the surface provides.

use std::any::Any;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use tmc_apimachinery::ClusterScope;
use tmc_apimachinery::definition::ApiSet;
use tmc_apimachinery::request_info::RequestInfo;
use tmc_apimachinery::status::{ApiError, Result};
use tmc_apimachinery::user::{Attributes, Decision, UserInfo};

use crate::resource::ResourceStore;
use crate::websocket::Upgrade;

/// HTTP body of answers.
pub type Body = http_body_util::combinators::UnsyncBoxBody<Bytes, std::io::Error>;
/// An answer.
pub type Response = http::Response<Body>;

/// A surface's word on a path.
pub enum Resolution {
    /// Not mine; ask the next surface.
    NotMine,
    /// Mine, but refused before authentication (malformed cluster, not ready). Keep it free of
    /// anything that tells an anonymous caller what exists.
    Refused(ApiError),
    /// Mine.
    Accepted(Resolved),
}

/// A path that a surface accepted.
#[derive(Clone)]
pub struct Resolved {
    /// Logical cluster(s) meant.
    pub scope: ClusterScope,
    /// The rest of the path, an ordinary `/api…`, `/apis…`, `/openapi…` or `/version` path.
    pub path: String,
    /// Whatever the surface needs later (its target).
    pub domain: Option<Arc<dyn Any + Send + Sync>>,
}

/// A request inside a surface, authenticated.
#[derive(Clone)]
pub struct RequestContext {
    /// What the resolver found.
    pub resolved: Resolved,
    /// What the path asks for.
    pub info: RequestInfo,
    /// Who asks.
    pub user: Arc<UserInfo>,
}

/// One API surface.
#[async_trait]
pub trait ApiSurface: Send + Sync {
    /// Short name for metrics and readiness (`hub`, `syncer`).
    fn name(&self) -> &'static str;

    /// Whether `path` (percent-decoded by segment later, raw here) belongs to this surface.
    fn resolve(&self, path: &str) -> Resolution;

    /// Readiness; an error text becomes part of `/readyz`.
    ///
    /// # Errors
    /// The reason why it is not ready.
    fn ready(&self) -> std::result::Result<(), String>;

    /// Decides. No opinion is a denial at the end of the chain.
    async fn authorize(&self, context: &RequestContext, attributes: &Attributes) -> Decision;

    /// What is served to this request: routing, discovery and OpenAPI read it.
    ///
    /// # Errors
    /// 404 or 403 when the logical cluster does not exist or is not ready.
    async fn api_set(&self, context: &RequestContext) -> Result<Arc<ApiSet>>;

    /// The objects.
    fn store(&self) -> &dyn ResourceStore;

    /// Endpoints that are neither discovery nor REST storage (`…/heartbeat`, `…/connect`). Called
    /// after authorization, before anything else; `None` goes on.
    async fn special(&self, context: &RequestContext, body: &SpecialRequest) -> Option<Response>;
}

/// What a special endpoint gets of the HTTP request.
pub struct SpecialRequest {
    /// Method.
    pub method: http::Method,
    /// Query string, raw.
    pub query: Option<String>,
    /// Headers.
    pub headers: http::HeaderMap,
    /// Body, at most 3 MiB, already read.
    pub body: Bytes,
    /// The connection, if the caller asked to speak another protocol on it; see
    /// [`crate::websocket`]. `None` over HTTP/2 and inside this process.
    pub upgrade: Option<Upgrade>,
}

/// Turns a bearer token into an identity.
#[async_trait]
pub trait TokenAuthenticator: Send + Sync {
    /// `Ok(None)` if the token is not of a kind this authenticator knows.
    ///
    /// # Errors
    /// 401 for a token of a known kind that is expired, revoked or forged.
    async fn authenticate(&self, token: &str) -> Result<Option<UserInfo>>;

    /// The path (`/clusters/<name>`) below which a request with this token belongs whose own path
    /// names no place. The token is not verified yet, so the answer must not depend on anything but
    /// the token; the request is authenticated where it arrives.
    fn home(&self, token: &str) -> Option<String> {
        let _ = token;
        None
    }
}

/// Identity of a request made inside this process: a typed request extension, which the network
/// listener removes from what it accepts and never sets.
#[derive(Clone, Debug)]
pub struct InProcessIdentity(pub UserInfo);

/// Identity proven by a client certificate: set only by the TLS listener.
#[derive(Clone, Debug)]
pub struct PeerIdentity(pub UserInfo);

/// When the certificate behind a [`PeerIdentity`] stops being good; set with it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PeerExpires(pub(crate) std::time::SystemTime);
