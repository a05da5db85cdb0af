//! Plain HTTPS requests with an identity of a kubeconfig: no retries, no interpretation.

use std::sync::LazyLock;
use std::time::Duration;

use http::{Method, Request};
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::Value;
use tokio::runtime::Runtime;

/// No answer takes longer, except that of a watch that stays silent.
const LIMIT: Duration = Duration::from_secs(30);

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime")
});

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    /// What was asked, for messages.
    pub(crate) asked: String,
    /// Status code.
    pub(crate) code: u16,
    /// Body.
    pub(crate) text: String,
}

impl Answer {
    /// The body as JSON, null if it is none.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or(Value::Null)
    }

    /// The `message` of a `Status`.
    pub(crate) fn message(&self) -> String {
        self.json()["message"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    /// Itself, if its code is one of these; panics otherwise.
    #[track_caller]
    pub(crate) fn expect(self, codes: &[u16]) -> Self {
        assert!(
            codes.contains(&self.code),
            "should answer {codes:?}: {self}"
        );
        self
    }
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let short: String = self.text.chars().take(600).collect();
        write!(f, "{}: {} {short}", self.asked, self.code)
    }
}

/// A body and its content type.
#[derive(Clone)]
pub(crate) struct Content {
    kind: &'static str,
    bytes: Vec<u8>,
}

impl Content {
    /// JSON.
    pub(crate) fn json(value: &Value) -> Self {
        Self::raw("application/json", value.to_string())
    }

    /// Anything.
    pub(crate) fn raw(kind: &'static str, bytes: impl Into<Vec<u8>>) -> Self {
        Self {
            kind,
            bytes: bytes.into(),
        }
    }
}

/// A server and an identity.
#[derive(Clone)]
pub(crate) struct Api {
    client: kube::Client,
}

impl Api {
    /// The server and the user of a kubeconfig's current context; paths are those of the server,
    /// whatever path the kubeconfig's URL has.
    pub(crate) fn from_kubeconfig(text: &str) -> Self {
        Self::with(text, |_| {})
    }

    /// The same server with the bearer token instead of the kubeconfig's identity.
    pub(crate) fn with_token(text: &str, token: &str) -> Self {
        Self::with(text, |config| {
            config.auth_info = kube::config::AuthInfo {
                token: Some(token.to_owned().into()),
                ..kube::config::AuthInfo::default()
            };
        })
    }

    /// The same server with no identity at all.
    pub(crate) fn anonymous(text: &str) -> Self {
        Self::with(text, |config| {
            config.auth_info = kube::config::AuthInfo::default()
        })
    }

    fn with(text: &str, change: impl FnOnce(&mut kube::Config)) -> Self {
        let kubeconfig = Kubeconfig::from_yaml(text).expect("a kubeconfig");
        RUNTIME.block_on(async {
            let options = KubeConfigOptions::default();
            let mut config = kube::Config::from_custom_kubeconfig(kubeconfig, &options)
                .await
                .expect("a usable kubeconfig");
            let authority = config.cluster_url.authority().expect("a host").to_string();
            config.cluster_url = format!("https://{authority}").parse().expect("a URL");
            config.default_retry = false;
            config.disable_compression = true;
            change(&mut config);
            Self {
                client: kube::Client::try_from(config).expect("a client"),
            }
        })
    }

    /// Sends a request; why there was no answer, if there was none.
    pub(crate) fn try_send(
        &self,
        method: &Method,
        path: &str,
        content: Option<Content>,
    ) -> Result<Answer, String> {
        self.exchange(Request::builder().method(method).uri(path), content)
    }

    fn exchange(
        &self,
        mut request: http::request::Builder,
        content: Option<Content>,
    ) -> Result<Answer, String> {
        let method = request.method_ref().cloned().unwrap_or_default();
        let path = request
            .uri_ref()
            .map(ToString::to_string)
            .unwrap_or_default();
        let asked = format!("{method} {path}");
        if let Some(content) = &content {
            request = request.header("content-type", content.kind);
        }
        let body = content.map(|content| content.bytes).unwrap_or_default();
        let request = request.body(Body::from(body)).expect("a request");
        RUNTIME.block_on(async {
            let exchange = async {
                let response = self.client.send(request).await.map_err(|e| chain(&e))?;
                let code = response.status().as_u16();
                let bytes = http_body_util::BodyExt::collect(response.into_body())
                    .await
                    .map_err(|e| chain(&e))?
                    .to_bytes();
                Ok::<_, String>((code, String::from_utf8_lossy(&bytes).into_owned()))
            };
            match tokio::time::timeout(LIMIT, exchange).await {
                Ok(Ok((code, text))) => Ok(Answer { asked, code, text }),
                Ok(Err(why)) => Err(format!("{asked}: {why}")),
                Err(_) => Err(format!("{asked}: no complete answer within {LIMIT:?}")),
            }
        })
    }

    /// Sends a request; panics without an answer.
    #[track_caller]
    pub(crate) fn send(&self, method: &Method, path: &str, content: Option<Content>) -> Answer {
        self.try_send(method, path, content)
            .unwrap_or_else(|why| panic!("{why}"))
    }

    /// GET with more headers.
    #[track_caller]
    pub(crate) fn get_with_headers(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        let start = Request::builder().method(Method::GET).uri(path);
        let request = headers
            .iter()
            .fold(start, |r, (name, value)| r.header(*name, *value));
        self.exchange(request, None)
            .unwrap_or_else(|why| panic!("{why}"))
    }

    /// GET.
    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> Answer {
        self.send(&Method::GET, path, None)
    }

    /// POST of JSON.
    #[track_caller]
    pub(crate) fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(&Method::POST, path, Some(Content::json(body)))
    }

    /// PUT of JSON.
    #[track_caller]
    pub(crate) fn put(&self, path: &str, body: &Value) -> Answer {
        self.send(&Method::PUT, path, Some(Content::json(body)))
    }

    /// A merge patch.
    #[track_caller]
    pub(crate) fn merge(&self, path: &str, body: &Value) -> Answer {
        let content = Content::raw("application/merge-patch+json", body.to_string());
        self.send(&Method::PATCH, path, Some(content))
    }

    /// DELETE.
    #[track_caller]
    pub(crate) fn delete(&self, path: &str) -> Answer {
        self.send(&Method::DELETE, path, None)
    }
}

/// An error and its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
