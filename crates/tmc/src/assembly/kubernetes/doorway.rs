//! What of the hub itself an agent reaches under the URL of the virtual workspaces, so that it needs
//! one address and one authority: its SyncTarget, and the renewal of its own token.
//!
//! The caller's token goes on to the hub, which decides; nothing is asked in our own name.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use kube::client::Body;
use serde_json::Value;
use tmc_api::keys::CLUSTER_ANNOTATION;
use tmc_apimachinery::definition::ApiSet;
use tmc_apimachinery::meta::set_annotation;
use tmc_apimachinery::options::{DeleteOptions, ListOptions, WriteOptions};
use tmc_apimachinery::request_info::RequestInfo;
use tmc_apimachinery::status::{ApiError, Result};
use tmc_apimachinery::user::{Attributes, Decision};
use tmc_apimachinery::{ClusterName, ClusterScope};
use tmc_runtime::Connection;
use tmc_server::resource::{
    Deleted, Object, Page, ResourceRequest, ResourceStore, WatchStream, Written,
};
use tmc_server::surface::{
    ApiSurface, RequestContext, Resolution, Resolved, Response, SpecialRequest,
};

const PREFIX: &str = "/clusters/root";
/// Longest answer of the hub that is passed on.
const LONGEST: usize = 3 << 20;
/// How long the hub may take.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);

/// The surface.
pub struct Doorway {
    hub: Connection,
    nothing: Nothing,
}

impl Doorway {
    /// To a hub, over a connection that has no identity of its own.
    pub fn new(anonymous: Connection) -> Self {
        Self {
            hub: anonymous,
            nothing: Nothing,
        }
    }

    async fn pass(&self, context: &RequestContext, request: &SpecialRequest) -> Result<Response> {
        let token = request.headers.get(AUTHORIZATION).cloned();
        let token = token.ok_or_else(ApiError::unauthorized)?;
        let (code, body) = tokio::time::timeout(PATIENCE, self.ask(context, request, token))
            .await
            .map_err(|_| ApiError::unavailable("the hub does not answer", 1))??;
        let body = if code == StatusCode::OK && is_target(&context.info) {
            with_cluster(&body)
        } else {
            body
        };
        Ok(json(code, body))
    }

    async fn ask(
        &self,
        context: &RequestContext,
        request: &SpecialRequest,
        token: HeaderValue,
    ) -> Result<(StatusCode, Bytes)> {
        let away = |_| ApiError::unavailable("the hub does not answer", 1);
        let path = format!("{}{}", self.hub.base_path(), context.resolved.path);
        let asked = Request::builder()
            .method(&request.method)
            .uri(path)
            .header(AUTHORIZATION, token)
            .header(CONTENT_TYPE, "application/json")
            .body(Body::from(request.body.to_vec()))
            .map_err(|_| ApiError::no_such_path())?;
        let answer = self.hub.client("").send(asked).await.map_err(away)?;
        let (parts, body) = answer.into_parts();
        let body = Limited::new(body, LONGEST).collect().await;
        let body = body.map_err(|_| ApiError::unavailable("the hub's answer broke off", 1))?;
        Ok((parts.status, body.to_bytes()))
    }
}

fn is_target(info: &RequestInfo) -> bool {
    let resource = (
        &*info.group,
        &*info.version,
        &*info.resource,
        &*info.subresource,
    );
    info.is_resource
        && info.verb == "get"
        && resource == ("workload.kcp.io", "v1alpha1", "synctargets", "")
        && !info.name.is_empty()
}

fn is_token(info: &RequestInfo) -> bool {
    let resource = (
        &*info.group,
        &*info.version,
        &*info.resource,
        &*info.subresource,
    );
    info.is_resource
        && info.verb == "create"
        && resource == ("", "v1", "serviceaccounts", "token")
        && !info.name.is_empty()
}

/// A SyncTarget as a hub with workspaces tells it.
fn with_cluster(body: &[u8]) -> Bytes {
    match serde_json::from_slice::<Value>(body) {
        Ok(mut object) => {
            set_annotation(&mut object, CLUSTER_ANNOTATION, ClusterName::ROOT);
            object.to_string().into()
        }
        Err(_) => Bytes::copy_from_slice(body),
    }
}

fn json(code: StatusCode, body: Bytes) -> Response {
    let body = Full::new(body).map_err(|never| match never {});
    let mut response = http::Response::new(body.boxed_unsync());
    *response.status_mut() = code;
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

#[async_trait]
impl ApiSurface for Doorway {
    fn name(&self) -> &'static str {
        "doorway"
    }

    fn resolve(&self, path: &str) -> Resolution {
        match path
            .strip_prefix(PREFIX)
            .filter(|rest| rest.starts_with('/'))
        {
            None => Resolution::NotMine,
            Some(rest) => Resolution::Accepted(Resolved {
                scope: ClusterScope::One(ClusterName::new(ClusterName::ROOT)),
                path: rest.to_owned(),
                domain: None,
            }),
        }
    }

    fn ready(&self) -> std::result::Result<(), String> {
        Ok(())
    }

    async fn authorize(&self, context: &RequestContext, _: &Attributes) -> Decision {
        if is_target(&context.info) || is_token(&context.info) {
            // The hub decides, by the caller's own token.
            return Decision::Allow;
        }
        Decision::NoOpinion(
            "ask the hub itself: this is the address of its virtual workspaces".into(),
        )
    }

    async fn api_set(&self, _: &RequestContext) -> Result<Arc<ApiSet>> {
        Err(ApiError::no_such_path())
    }

    fn store(&self) -> &dyn ResourceStore {
        &self.nothing
    }

    async fn special(
        &self,
        context: &RequestContext,
        request: &SpecialRequest,
    ) -> Option<Response> {
        let wanted = match request.method {
            Method::GET => is_target(&context.info),
            Method::POST => is_token(&context.info),
            _ => false,
        };
        if !wanted {
            return None;
        }
        Some(self.pass(context, request).await.unwrap_or_else(|error| {
            let code = StatusCode::from_u16(error.code).unwrap_or(StatusCode::BAD_GATEWAY);
            json(code, error.to_status().to_string().into())
        }))
    }
}

/// No objects: everything that is let in is passed on.
struct Nothing;

#[async_trait]
impl ResourceStore for Nothing {
    async fn get(&self, _: &ResourceRequest, _: &str) -> Result<Object> {
        Err(ApiError::no_such_path())
    }

    async fn list(&self, _: &ResourceRequest, _: &ListOptions) -> Result<Page> {
        Err(ApiError::no_such_path())
    }

    async fn watch(&self, _: &ResourceRequest, _: &ListOptions) -> Result<WatchStream> {
        Err(ApiError::no_such_path())
    }

    async fn create(
        &self,
        _: &ResourceRequest,
        _: &str,
        _: Value,
        _: &WriteOptions,
    ) -> Result<Written> {
        Err(ApiError::no_such_path())
    }

    async fn update(
        &self,
        _: &ResourceRequest,
        _: &str,
        _: Value,
        _: &WriteOptions,
    ) -> Result<Written> {
        Err(ApiError::no_such_path())
    }

    async fn delete(&self, _: &ResourceRequest, _: &str, _: &DeleteOptions) -> Result<Deleted> {
        Err(ApiError::no_such_path())
    }

    async fn delete_collection(
        &self,
        _: &ResourceRequest,
        _: &ListOptions,
        _: &DeleteOptions,
    ) -> Result<Page> {
        Err(ApiError::no_such_path())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use async_trait::async_trait;
    use parking_lot::Mutex;
    use serde_json::json;
    use tmc_apimachinery::user::UserInfo;
    use tmc_server::surface::TokenAuthenticator;
    use tmc_server::{Server, VersionInfo};
    use tower::ServiceExt as _;

    use super::*;

    struct Anybody;

    #[async_trait]
    impl TokenAuthenticator for Anybody {
        async fn authenticate(&self, token: &str) -> Result<Option<UserInfo>> {
            Ok(Some(UserInfo::new(token, &[])))
        }
    }

    type Seen = Arc<Mutex<Vec<String>>>;

    /// The door of a hub that answers everything and keeps who asked what.
    fn door() -> (Server, Seen) {
        let seen = Seen::default();
        let log = seen.clone();
        let hub = tower::service_fn(move |request: Request<Body>| {
            let token = request
                .headers()
                .get(AUTHORIZATION)
                .and_then(|v| v.to_str().ok());
            let line = format!(
                "{} {} {}",
                request.method(),
                request.uri(),
                token.unwrap_or("-")
            );
            log.lock().push(line);
            let object = json!({"kind": "SyncTarget", "metadata": {"name": "edge"}});
            async move {
                Ok::<_, tower::BoxError>(http::Response::new(Body::from(
                    object.to_string().into_bytes(),
                )))
            }
        });
        let doorway = Doorway::new(Connection::in_process(hub));
        let server = Server::builder(VersionInfo::default())
            .surface(Arc::new(doorway))
            .tokens(Arc::new(Anybody))
            .build();
        (server, seen)
    }

    async fn ask(server: &Server, method: Method, path: &str) -> (u16, Value) {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(AUTHORIZATION, "Bearer ann")
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from_static(b"{}")))
            .expect("a request");
        let answer = server
            .service()
            .oneshot(request)
            .await
            .unwrap_or_else(|never| match never {});
        let code = answer.status().as_u16();
        let body = answer
            .into_body()
            .collect()
            .await
            .expect("a body")
            .to_bytes();
        (code, serde_json::from_slice(&body).unwrap_or_default())
    }

    const TARGET: &str = "/apis/workload.kcp.io/v1alpha1/synctargets/edge";
    const TOKEN: &str = "/api/v1/namespaces/default/serviceaccounts/agent/token";

    #[tokio::test]
    async fn an_agent_sees_its_target_and_renews_its_token_by_its_own_right() {
        let (server, seen) = door();
        let (code, target) = ask(&server, Method::GET, &format!("{PREFIX}{TARGET}")).await;
        assert_eq!(code, 200);
        assert_eq!(
            target["metadata"]["annotations"][CLUSTER_ANNOTATION],
            "root"
        );
        assert_eq!(
            ask(&server, Method::POST, &format!("{PREFIX}{TOKEN}"))
                .await
                .0,
            200
        );
        let expected = [
            format!("GET {TARGET} Bearer ann"),
            format!("POST {TOKEN} Bearer ann"),
        ];
        assert_eq!(*seen.lock(), expected);
    }

    #[tokio::test]
    async fn nothing_else_reaches_the_hub() {
        let (server, seen) = door();
        for (method, path) in [
            (Method::GET, "/clusters/root/api/v1/secrets"),
            (
                Method::GET,
                "/clusters/root/apis/workload.kcp.io/v1alpha1/synctargets",
            ),
            (
                Method::PUT,
                "/clusters/root/apis/workload.kcp.io/v1alpha1/synctargets/edge",
            ),
            (
                Method::GET,
                "/clusters/root/apis/workload.kcp.io/v1alpha1/synctargets/edge/status",
            ),
            (
                Method::POST,
                "/clusters/root/api/v1/namespaces/default/serviceaccounts",
            ),
            (Method::GET, "/clusters/root/version"),
            (
                Method::GET,
                "/clusters/team/apis/workload.kcp.io/v1alpha1/synctargets/edge",
            ),
            (
                Method::GET,
                "/clusters/rooted/apis/workload.kcp.io/v1alpha1/synctargets/edge",
            ),
        ] {
            assert_eq!(ask(&server, method, path).await.0, 403, "{path}");
        }
        assert!(seen.lock().is_empty());
    }
}
