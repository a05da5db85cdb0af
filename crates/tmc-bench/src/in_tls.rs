//! A simulated member behind TLS, so that a syncer in another process reaches it.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::AUTHORIZATION;
use http::{Request, Response, StatusCode, Uri};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::json;
use tmc_runtime::Connection;
use tmc_server::tls::{CertificateAuthority, Validity, server_config};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

const DAY: Duration = Duration::from_secs(86_400);

/// The listener; it ends when dropped.
pub(crate) struct InTls {
    /// How to reach it.
    pub(crate) kubeconfig: String,
    door: Arc<Door>,
    accepting: JoinHandle<()>,
}

impl Drop for InTls {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl InTls {
    /// Serves a connection at a free port of 127.0.0.1 to whoever has the token, or one that the
    /// member has issued.
    pub(crate) async fn serve(connection: Connection) -> Result<Self> {
        let authority = CertificateAuthority::generate("member-ca", Validity::starting_now(DAY))?;
        let pair =
            authority.issue_server(&["127.0.0.1".to_owned()], Validity::starting_now(DAY))?;
        let acceptor = TlsAcceptor::from(server_config(&pair, None)?);
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let url = format!("https://{}", listener.local_addr()?);
        let token = uuid::Uuid::new_v4().simple().to_string();
        let door = Arc::new(Door {
            connection,
            authorization: format!("Bearer {token}"),
            asked: Mutex::default(),
        });
        let accepting = tokio::spawn(accept(listener, acceptor, door.clone()));
        Ok(Self {
            kubeconfig: kubeconfig(&url, &authority, &token),
            door,
            accepting,
        })
    }

    /// When it was asked for its version with the token of the kubeconfig, which is how a hub looks
    /// whether a member is there. (Its agent asks with one that the member has issued.)
    pub(crate) fn asked_for_version(&self) -> Vec<Instant> {
        self.door.asked.lock().clone()
    }
}

/// How to reach a member at a URL.
pub(crate) fn kubeconfig(url: &str, authority: &CertificateAuthority, token: &str) -> String {
    let kubeconfig = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "member",
        "clusters": [{"name": "member", "cluster": {
            "server": url,
            "certificate-authority-data": STANDARD.encode(authority.certificate_pem()),
        }}],
        "contexts": [{"name": "member", "context": {"cluster": "member", "user": "tmc"}}],
        "users": [{"name": "tmc", "user": {"token": token}}],
    });
    kubeconfig.to_string()
}

struct Door {
    connection: Connection,
    authorization: String,
    asked: Mutex<Vec<Instant>>,
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, door: Arc<Door>) {
    while let Ok((stream, _)) = listener.accept().await {
        let _ = stream.set_nodelay(true);
        let (acceptor, door) = (acceptor.clone(), door.clone());
        tokio::spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else {
                return;
            };
            let service = hyper::service::service_fn(move |request| answer(door.clone(), request));
            let server = auto::Builder::new(TokioExecutor::new());
            // A client that goes away is no news here.
            let _ = server.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(door: Arc<Door>, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let passed = match request.headers().get(AUTHORIZATION) {
        Some(own) if own == &door.authorization => {
            if request.uri().path() == "/version" {
                door.asked.lock().push(Instant::now());
            }
            pass(&door.connection, request, false).await
        }
        // A token that the member may have issued is the member's to judge.
        Some(_) => pass(&door.connection, request, true).await,
        None => Some(refused(StatusCode::UNAUTHORIZED)),
    };
    Ok(passed.unwrap_or_else(|| refused(StatusCode::BAD_GATEWAY)))
}

fn refused(status: StatusCode) -> Response<Body> {
    let mut refused = Response::new(Body::empty());
    *refused.status_mut() = status;
    refused
}

async fn pass(
    connection: &Connection,
    request: Request<Incoming>,
    with_token: bool,
) -> Option<Response<Body>> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.ok()?.to_bytes();
    let mut request = Request::from_parts(parts, Body::from(body));
    // Inside the process there is no host.
    let path = request.uri().path_and_query()?.clone();
    *request.uri_mut() = Uri::from(path);
    if !with_token {
        request.headers_mut().remove(AUTHORIZATION);
    }
    connection.client("").send(request).await.ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::member::Cluster;
    use crate::rig::connection;
    use tmc_runtime::client::get_path;

    #[tokio::test]
    async fn a_member_is_served_to_whoever_has_the_token() {
        let member = Cluster::simulated().await.expect("a member");
        let served = InTls::serve(member.connection().clone())
            .await
            .expect("served");
        let client = connection(&served.kubeconfig).expect("usable").client("");
        let version = get_path(&client, "/version").await.expect("answered");
        assert!(String::from_utf8_lossy(&version).contains("+sim"));
        let mut other: serde_json::Value =
            serde_json::from_str(&served.kubeconfig).expect("a kubeconfig");
        other["users"][0]["user"]["token"] = "x".into();
        let client = connection(&other.to_string()).expect("usable").client("");
        assert!(get_path(&client, "/version").await.is_err());
    }
}
