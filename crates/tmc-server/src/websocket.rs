//! WebSockets for special endpoints: the opening handshake of RFC 6455 on an HTTP/1.1 connection.
//!
//! Deliberately narrow: one subprotocol, which the client must ask for; text and binary messages up
//! to a limit; no extensions. A browser cannot get in: whoever sends `Origin` is refused, as is a
//! credential in the query string.

use std::sync::Arc;
use std::time::Duration;

use http::header::{
    CONNECTION, ORIGIN, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tmc_apimachinery::GroupResource;
use tmc_apimachinery::status::{ApiError, Result};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_util::sync::CancellationToken;

pub use tokio_tungstenite::tungstenite::protocol::CloseFrame;
pub use tokio_tungstenite::tungstenite::{Error, Message, error::CapacityError};

pub use crate::authn::Credentials;
use crate::listener::Place;
use crate::respond::empty;
use crate::surface::{Response, SpecialRequest, TokenAuthenticator};

/// The server's end of an open WebSocket: a stream and sink of [`Message`]s.
pub type WebSocket = WebSocketStream<TokioIo<Upgraded>>;

/// Bytes read from the network at once; a session is mostly idle, so its buffer is small.
const READ_BUFFER: usize = 4096;
/// From the answer to the hand-over of the connection; longer means that the client is gone.
const HAND_OVER: Duration = Duration::from_secs(10);

/// A connection on which the caller asked to speak another protocol.
#[derive(Clone)]
pub struct Upgrade {
    on_upgrade: OnUpgrade,
    credentials: Credentials,
    stop: CancellationToken,
    place: Option<Place>,
}

impl Upgrade {
    /// Takes the request's connection, if it can be taken.
    pub(crate) fn take(
        parts: &mut Parts,
        tokens: &[Arc<dyn TokenAuthenticator>],
        stop: CancellationToken,
    ) -> Option<Self> {
        let on_upgrade = parts.extensions.remove::<OnUpgrade>()?;
        Some(Self {
            on_upgrade,
            credentials: Credentials::of(parts, tokens),
            stop,
            place: parts.extensions.get::<Place>().cloned(),
        })
    }
}

/// A handshake that was accepted: its answer, and what becomes of the connection then.
pub struct Accepted {
    /// 101, to be returned to the client.
    pub response: Response,
    upgrade: Upgrade,
    limit: usize,
}

/// Accepts a handshake for a subprotocol with messages of at most `limit` bytes.
///
/// # Errors
/// 400 for what is no such handshake, 403 for one that a browser may have sent.
pub fn accept(request: &SpecialRequest, protocol: &'static str, limit: usize) -> Result<Accepted> {
    let key = check(
        &request.method,
        request.query.as_deref(),
        &request.headers,
        protocol,
    )?;
    let upgrade = request.upgrade.clone().ok_or_else(|| {
        bad("it is served over HTTP/1.1 only: offer the ALPN protocol http/1.1 alone")
    })?;
    let mut response = http::Response::new(empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
    let accept = HeaderValue::try_from(derive_accept_key(key.as_bytes()));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept.map_err(|_| bad("its key"))?);
    Ok(Accepted {
        response,
        upgrade,
        limit,
    })
}

impl Accepted {
    /// Who opens it, to be asked again while it is open.
    pub fn credentials(&self) -> Credentials {
        self.upgrade.credentials.clone()
    }

    /// Fires when the server wants the session to end by itself.
    pub fn stop(&self) -> CancellationToken {
        self.upgrade.stop.clone()
    }

    /// Starts the work on the open socket in a task of its own, and returns the answer to send.
    ///
    /// # Guarantees
    /// The connection counts as one of its listener's as long as the work lasts. A listener that
    /// stops waits for it as for a request under way, then drops it.
    pub fn start<F>(self, work: impl FnOnce(WebSocket) -> F + Send + 'static) -> Response
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (upgrade, limit) = (self.upgrade, self.limit);
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(0)
            .max_write_buffer_size(2 * limit)
            .max_message_size(Some(limit))
            .max_frame_size(Some(limit));
        tokio::spawn(async move {
            let place = upgrade.place;
            let cut = place.as_ref().map(|place| place.cut.clone());
            let session = async move {
                let opened = tokio::time::timeout(HAND_OVER, upgrade.on_upgrade).await;
                let Ok(Ok(io)) = opened else { return };
                let io = TokioIo::new(io);
                let socket = WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await;
                work(socket).await;
            };
            match cut {
                None => session.await,
                Some(cut) => tokio::select! {
                    () = session => {}
                    () = cut.cancelled() => {}
                },
            }
            drop(place);
        });
        self.response
    }
}

/// Checks an opening handshake; returns the client's key.
fn check<'a>(
    method: &Method,
    query: Option<&str>,
    headers: &'a HeaderMap,
    protocol: &str,
) -> Result<&'a str> {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let lists = |name: HeaderName, wanted: &str| {
        let values = headers.get_all(name).iter().filter_map(|v| v.to_str().ok());
        values
            .flat_map(|line| line.split(','))
            .any(|item| item.trim().eq_ignore_ascii_case(wanted))
    };
    if headers.contains_key(ORIGIN) {
        let why = "requests with an Origin header are refused: no web page may open a session";
        return Err(ApiError::forbidden(&GroupResource::default(), "", why));
    }
    if query.is_some_and(|query| !query.is_empty()) {
        return Err(bad(
            "it takes no query parameters: send credentials in headers, where no log keeps them",
        ));
    }
    if method != Method::GET || !lists(CONNECTION, "upgrade") || !lists(UPGRADE, "websocket") {
        return Err(bad(
            "send GET with the headers Connection: Upgrade and Upgrade: websocket",
        ));
    }
    if text(SEC_WEBSOCKET_VERSION) != Some("13") {
        return Err(bad("Sec-WebSocket-Version must be 13"));
    }
    if !lists(SEC_WEBSOCKET_PROTOCOL, protocol) {
        let why = format!("Sec-WebSocket-Protocol must offer {protocol}");
        return Err(bad(&why));
    }
    let key = text(SEC_WEBSOCKET_KEY).filter(|key| key.len() == 24);
    key.ok_or_else(|| bad("Sec-WebSocket-Key must be 16 bytes in base64"))
}

fn bad(why: &str) -> ApiError {
    ApiError::bad_request(format!("this endpoint is a WebSocket: {why}"))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

    fn handshake() -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "WebSocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-protocol", "other, v1.test"),
            ("sec-websocket-key", KEY),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn a_handshake_of_the_standard_is_accepted() {
        let headers = handshake();
        let key = check(&Method::GET, None, &headers, "v1.test").unwrap();
        assert_eq!(
            derive_accept_key(key.as_bytes()),
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
            "the example of RFC 6455"
        );
    }

    #[rstest]
    #[case("connection", "keep-alive", 400)]
    #[case("upgrade", "h2c", 400)]
    #[case("sec-websocket-version", "8", 400)]
    #[case("sec-websocket-protocol", "v2.test", 400)]
    #[case("sec-websocket-key", "short", 400)]
    #[case("origin", "https://hub.example", 403)]
    #[case("origin", "null", 403)]
    fn anything_else_is_refused(
        #[case] header: &'static str,
        #[case] value: &'static str,
        #[case] code: u16,
    ) {
        let mut headers = handshake();
        headers.insert(header, HeaderValue::from_static(value));
        let error = check(&Method::GET, None, &headers, "v1.test").unwrap_err();
        assert_eq!(error.code, code, "{error}");
    }

    #[test]
    fn credentials_in_the_query_and_other_methods_are_refused() {
        let headers = handshake();
        let error = check(&Method::GET, Some("token=x"), &headers, "v1.test").unwrap_err();
        assert!(error.message.contains("in headers"), "{error}");
        assert!(check(&Method::POST, None, &headers, "v1.test").is_err());
    }
}
