//! The network transport: one pool over rustls, HTTP/2 where offered, connections opened by a
//! dialer that the caller chooses. No redirects, no proxies, no environment.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use http::header::{AUTHORIZATION, HeaderValue, USER_AGENT};
use http::uri::{Authority, Scheme};
use http::{Request, Response, Uri};
use hyper_rustls::{FixedServerNameResolver, HttpsConnector};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use kube::client::Body;
use kube::config::{AuthInfo, Kubeconfig};
use parking_lot::Mutex;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use secrecy::ExposeSecret;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tower::BoxError;

use crate::Error;

/// How long opening a connection may take, TLS handshake apart.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How old a token read from a file may be.
const TOKEN_FILE_AGE: Duration = Duration::from_secs(60);

/// Opens connections. The place where a caller decides which addresses may be reached.
#[async_trait]
pub trait Dialer: Send + Sync + 'static {
    /// Connects to a host (a DNS name, or an IP address without brackets) and port.
    ///
    /// # Errors
    /// Any error ends the request; its kind and source are kept for the caller to classify.
    async fn dial(&self, host: &str, port: u16) -> std::io::Result<TcpStream>;
}

/// Resolves with the system's resolver and connects to whatever it says, within a time limit.
pub struct SystemDialer;

#[async_trait]
impl Dialer for SystemDialer {
    async fn dial(&self, host: &str, port: u16) -> std::io::Result<TcpStream> {
        let connect = TcpStream::connect((host, port));
        let stream = tokio::time::timeout(CONNECT_TIMEOUT, connect)
            .await
            .map_err(|_| {
                let text = format!("no connection within {} s", CONNECT_TIMEOUT.as_secs());
                std::io::Error::new(std::io::ErrorKind::TimedOut, text)
            })??;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

/// How a client proves who it is.
#[derive(Clone)]
pub enum Credential {
    /// Nothing.
    Anonymous,
    /// A client certificate (chain first leaf, PEM) and its key (PEM).
    Certificate {
        /// PEM of the chain.
        chain: Vec<u8>,
        /// PEM of the key.
        key: Vec<u8>,
    },
    /// A bearer token.
    Token(String),
    /// A bearer token that a file holds and others renew.
    TokenFile(std::path::PathBuf),
}

impl std::fmt::Debug for Credential {
    /// Never the secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Anonymous => "Anonymous",
            Self::Certificate { .. } => "Certificate",
            Self::Token(_) => "Token",
            Self::TokenFile(_) => "TokenFile",
        })
    }
}

/// An HTTPS API server, its trust and a credential.
#[derive(Clone, Debug)]
pub struct Endpoint {
    authority: Authority,
    base_path: String,
    /// PEM of the certificate authorities trusted for this server.
    ca: Vec<u8>,
    /// Name expected in the server's certificate, if not the host.
    server_name: Option<String>,
    credential: Credential,
}

impl Endpoint {
    /// Puts an endpoint together; `ca` is PEM.
    ///
    /// # Errors
    /// A sentence if `server` is not an `https://` URL without user info, query and fragment.
    pub fn new(server: &str, ca: Vec<u8>, credential: Credential) -> Result<Self, Error> {
        let bad = |why: &str| Error::Transport(format!("server {server:?} {why}"));
        // `http::Uri` drops a fragment silently.
        if server.contains('#') {
            return Err(bad("has a fragment"));
        }
        let uri: Uri = server.parse().map_err(|_| bad("is not a URL"))?;
        if uri.scheme() != Some(&Scheme::HTTPS) {
            return Err(bad("is not an https URL"));
        }
        if uri.query().is_some() {
            return Err(bad("has a query"));
        }
        let authority = uri.authority().cloned().ok_or_else(|| bad("has no host"))?;
        if authority.as_str().contains('@') {
            return Err(Error::Transport(
                "server has user information in its URL".into(),
            ));
        }
        let base_path = uri.path().trim_end_matches('/').to_owned();
        Ok(Self {
            authority,
            base_path,
            ca,
            server_name: None,
            credential,
        })
    }

    /// Expects another name in the server's certificate.
    #[must_use]
    pub fn with_server_name(mut self, name: &str) -> Self {
        self.server_name = Some(name.to_owned());
        self
    }

    /// The same server for another caller.
    #[must_use]
    pub fn with_credential(mut self, credential: Credential) -> Self {
        self.credential = credential;
        self
    }

    /// The certificate authorities trusted for this server, PEM.
    pub fn ca(&self) -> &[u8] {
        &self.ca
    }

    /// The server's URL, without a trailing slash.
    pub fn server(&self) -> String {
        format!("https://{}{}", self.authority, self.base_path)
    }

    /// The server's host, IPv6 addresses without brackets.
    pub fn host(&self) -> &str {
        self.authority
            .host()
            .trim_start_matches('[')
            .trim_end_matches(']')
    }

    /// The server's port, 443 if the URL names none.
    pub fn port(&self) -> u16 {
        self.authority.port_u16().unwrap_or(443)
    }

    /// How the client proves who it is.
    pub fn credential(&self) -> &Credential {
        &self.credential
    }

    /// Path of the server's URL without a trailing slash.
    pub fn base_path(&self) -> &str {
        &self.base_path
    }

    /// Reads a kubeconfig of the user who runs this program; files it names are read.
    ///
    /// # Errors
    /// A sentence naming the part that is missing or not supported.
    pub fn from_kubeconfig(kubeconfig: &Kubeconfig, context: Option<&str>) -> Result<Self, Error> {
        let refuse = |text: String| Error::Transport(format!("kubeconfig: {text}"));
        let name = context
            .or(kubeconfig.current_context.as_deref())
            .filter(|name| !name.is_empty())
            .ok_or_else(|| refuse("no current-context and no context named".into()))?;
        let context = kubeconfig
            .contexts
            .iter()
            .find(|c| c.name == name)
            .and_then(|c| c.context.as_ref())
            .ok_or_else(|| refuse(format!("no context {name:?}")))?;
        let cluster = kubeconfig
            .clusters
            .iter()
            .find(|c| c.name == context.cluster)
            .and_then(|c| c.cluster.as_ref())
            .ok_or_else(|| {
                refuse(format!(
                    "context {name:?}: no cluster {:?}",
                    context.cluster
                ))
            })?;
        for (present, field) in [
            (cluster.proxy_url.is_some(), "proxy-url"),
            (
                cluster.insecure_skip_tls_verify == Some(true),
                "insecure-skip-tls-verify",
            ),
        ] {
            if present {
                let text = format!("cluster {:?}: {field} is not supported", context.cluster);
                return Err(refuse(text));
            }
        }
        let at = format!("cluster {:?}: ", context.cluster);
        let ca = data_or_file(
            cluster.certificate_authority_data.as_deref(),
            cluster.certificate_authority.as_deref(),
        )
        .map_err(|why| refuse(format!("{at}certificate-authority{why}")))?
        .ok_or_else(|| refuse(format!("{at}certificate-authority-data is missing")))?;
        let server = cluster.server.as_deref().unwrap_or_default();
        let credential = match context.user.as_deref().filter(|user| !user.is_empty()) {
            None => Credential::Anonymous,
            Some(user) => {
                let info = kubeconfig
                    .auth_infos
                    .iter()
                    .find(|u| u.name == user)
                    .ok_or_else(|| refuse(format!("context {name:?}: no user {user:?}")))?;
                let none = AuthInfo::default();
                credential(info.auth_info.as_ref().unwrap_or(&none))
                    .map_err(|why| refuse(format!("user {user:?}: {why}")))?
            }
        };
        let mut endpoint =
            Self::new(server, ca, credential).map_err(|error| refuse(format!("{at}{error}")))?;
        endpoint.server_name = cluster
            .tls_server_name
            .clone()
            .filter(|name| !name.is_empty());
        Ok(endpoint)
    }
}

/// Reads one user's credential; the error names the field.
fn credential(info: &AuthInfo) -> Result<Credential, String> {
    for (present, field) in [
        (info.exec.is_some(), "exec"),
        (info.auth_provider.is_some(), "auth-provider"),
        (
            info.username.is_some() || info.password.is_some(),
            "username and password",
        ),
        (info.impersonate.is_some(), "as"),
        (info.impersonate_groups.is_some(), "as-groups"),
    ] {
        if present {
            return Err(format!(
                "{field} is not supported; use a token or a client certificate"
            ));
        }
    }
    let chain = data_or_file(
        info.client_certificate_data.as_deref(),
        info.client_certificate.as_deref(),
    )
    .map_err(|why| format!("client-certificate{why}"))?;
    let key_data = info
        .client_key_data
        .as_ref()
        .map(ExposeSecret::expose_secret);
    let key = data_or_file(key_data, info.client_key.as_deref())
        .map_err(|why| format!("client-key{why}"))?;
    match (chain, key) {
        (Some(chain), Some(key)) => return Ok(Credential::Certificate { chain, key }),
        (Some(_), None) => return Err("client-key-data is missing".into()),
        (None, Some(_)) => return Err("client-certificate-data is missing".into()),
        (None, None) => {}
    }
    // As in kubectl, an inline token wins over a file.
    if let Some(token) = &info.token {
        return Ok(Credential::Token(token.expose_secret().to_owned()));
    }
    match &info.token_file {
        Some(path) => Ok(Credential::TokenFile(path.into())),
        None => Ok(Credential::Anonymous),
    }
}

/// Inline base64 data, or else the content of a file; the error goes on after the field's name.
fn data_or_file(data: Option<&str>, file: Option<&str>) -> Result<Option<Vec<u8>>, String> {
    use base64::Engine as _;
    if let Some(data) = data.filter(|data| !data.is_empty()) {
        let decoded = base64::engine::general_purpose::STANDARD.decode(data.trim());
        return decoded
            .map(Some)
            .map_err(|_| "-data is not base64".to_owned());
    }
    match file.filter(|file| !file.is_empty()) {
        Some(file) => std::fs::read(file)
            .map(Some)
            .map_err(|e| format!(" {file:?} cannot be read: {e}")),
        None => Ok(None),
    }
}

/// The TLS client configuration of an endpoint.
fn tls_config(endpoint: &Endpoint) -> Result<rustls::ClientConfig, Error> {
    let bad = |field: &str, why: String| Error::Transport(format!("{field}: {why}"));
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&endpoint.ca) {
        let certificate =
            certificate.map_err(|_| bad("certificate-authority-data", "not PEM".into()))?;
        roots
            .add(certificate)
            .map_err(|_| bad("certificate-authority-data", "not a certificate".into()))?;
    }
    if roots.is_empty() {
        return Err(bad(
            "certificate-authority-data",
            "holds no certificate".into(),
        ));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| bad("TLS", e.to_string()))?
        .with_root_certificates(roots);
    match &endpoint.credential {
        Credential::Certificate { chain, key } => {
            let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain).collect();
            let chain = chain.map_err(|_| bad("client-certificate-data", "not PEM".into()))?;
            let key = PrivateKeyDer::from_pem_slice(key)
                .map_err(|_| bad("client-key-data", "holds no private key".into()))?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|_| bad("client-certificate-data", "does not fit its key".into()))
        }
        _ => Ok(builder.with_no_client_auth()),
    }
}

/// Requests over a pool to one endpoint. Watches have connections of their own: on HTTP/2 they
/// would use up the streams of the one connection and hold back short requests.
pub(crate) struct HttpsTransport {
    authority: Authority,
    requests: Client<HttpsConnector<DialService>, Body>,
    watches: Client<HttpsConnector<DialService>, Body>,
    /// HTTP/1.1 only, and every connection for one request.
    upgrades: Client<HttpsConnector<DialService>, Body>,
    token: Token,
}

impl HttpsTransport {
    pub(crate) fn new(endpoint: &Endpoint, dialer: Arc<dyn Dialer>) -> Result<Self, Error> {
        let tls = tls_config(endpoint)?;
        let token = match &endpoint.credential {
            Credential::Token(token) => Token::Fixed(bearer(token)?),
            Credential::TokenFile(path) => Token::File {
                path: path.clone(),
                read: Mutex::default(),
            },
            Credential::Anonymous | Credential::Certificate { .. } => Token::None,
        };
        let name = match &endpoint.server_name {
            Some(name) => Some(ServerName::try_from(name.clone()).map_err(|_| {
                Error::Transport(format!("tls-server-name: {name:?} is not a name"))
            })?),
            None => None,
        };
        let connector = |upgrades: bool| {
            let builder = hyper_rustls::HttpsConnectorBuilder::new()
                .with_tls_config(tls.clone())
                .https_only();
            let builder = match &name {
                Some(name) => {
                    builder.with_server_name_resolver(FixedServerNameResolver::new(name.clone()))
                }
                None => builder,
            };
            let dialer = DialService(Arc::clone(&dialer));
            if upgrades {
                builder.enable_http1().wrap_connector(dialer)
            } else {
                builder.enable_all_versions().wrap_connector(dialer)
            }
        };
        let pool = || {
            Client::builder(TokioExecutor::new())
                .timer(TokioTimer::new())
                .pool_timer(TokioTimer::new())
                .pool_idle_timeout(Duration::from_secs(90))
                .http2_keep_alive_interval(Duration::from_secs(30))
                .http2_keep_alive_timeout(Duration::from_secs(15))
                .build(connector(false))
        };
        Ok(Self {
            authority: endpoint.authority.clone(),
            requests: pool(),
            watches: pool(),
            upgrades: Client::builder(TokioExecutor::new())
                .pool_max_idle_per_host(0)
                .http1_max_buf_size(16 * 1024)
                .build(connector(true)),
            token,
        })
    }

    /// Sends a request that asks for another protocol.
    pub(crate) async fn send_upgrade(
        &self,
        request: Request<Body>,
    ) -> Result<Response<hyper::body::Incoming>, BoxError> {
        let request = self.address(request)?;
        Ok(self.upgrades.request(request).await?)
    }

    pub(crate) async fn send(
        &self,
        request: Request<Body>,
    ) -> Result<Response<hyper::body::Incoming>, BoxError> {
        let request = self.address(request)?;
        let watch = request.uri().query().is_some_and(|query| {
            query
                .split('&')
                .any(|pair| pair == "watch=true" || pair == "watch=1")
        });
        let pool = if watch { &self.watches } else { &self.requests };
        Ok(pool.request(request).await?)
    }

    /// Adds where the request goes and who sends it.
    fn address(&self, mut request: Request<Body>) -> Result<Request<Body>, BoxError> {
        let mut parts = std::mem::take(request.uri_mut()).into_parts();
        parts.scheme = Some(Scheme::HTTPS);
        parts.authority = Some(self.authority.clone());
        *request.uri_mut() = Uri::from_parts(parts)?;
        let headers = request.headers_mut();
        headers.insert(
            USER_AGENT,
            HeaderValue::from_static(concat!("tmc/", env!("CARGO_PKG_VERSION"))),
        );
        if let Some(token) = self.token.header()? {
            headers.insert(AUTHORIZATION, token);
        }
        Ok(request)
    }
}

enum Token {
    None,
    Fixed(HeaderValue),
    File {
        path: std::path::PathBuf,
        read: Mutex<Option<(Instant, HeaderValue)>>,
    },
}

impl Token {
    fn header(&self) -> Result<Option<HeaderValue>, BoxError> {
        match self {
            Self::None => Ok(None),
            Self::Fixed(value) => Ok(Some(value.clone())),
            Self::File { path, read } => {
                let mut read = read.lock();
                if let Some((at, value)) = &*read
                    && at.elapsed() < TOKEN_FILE_AGE
                {
                    return Ok(Some(value.clone()));
                }
                let text = std::fs::read_to_string(path)
                    .map_err(|e| format!("tokenFile {} cannot be read: {e}", path.display()))?;
                let value = bearer(&text)?;
                *read = Some((Instant::now(), value.clone()));
                Ok(Some(value))
            }
        }
    }
}

fn bearer(token: &str) -> Result<HeaderValue, Error> {
    let mut value = HeaderValue::try_from(format!("Bearer {}", token.trim()))
        .map_err(|_| Error::Transport("token: has characters that no header may hold".into()))?;
    value.set_sensitive(true);
    Ok(value)
}

/// The dialer as the tower service that hyper wants.
#[derive(Clone)]
struct DialService(Arc<dyn Dialer>);

impl tower::Service<Uri> for DialService {
    type Response = TokioIo<TcpStream>;
    type Error = std::io::Error;
    type Future =
        Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send + 'static>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let dialer = Arc::clone(&self.0);
        Box::pin(async move {
            let host = uri.host().unwrap_or_default();
            let host = host.trim_start_matches('[').trim_end_matches(']');
            dialer
                .dial(host, uri.port_u16().unwrap_or(443))
                .await
                .map(TokioIo::new)
        })
    }
}

#[cfg(test)]
mod tests;
