//! The agent's end of a `connect` session: the WebSocket itself.

use std::time::Duration;

use futures::{SinkExt, StreamExt};
use http::header::{
    CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderMap, HeaderValue};
use serde_json::Value;
use tmc_api::syncer::{AgentFrame, CloseCode, HubFrame, MAX_FRAME, SUBPROTOCOL};
use tmc_apimachinery::GroupVersionResource;
use tmc_apimachinery::status::{ApiError, Reason};
use tmc_runtime::Connection;
use tmc_runtime::client::Error;
use tmc_runtime::connection::Upgraded;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};

/// Bytes read from the network at once.
const READ_BUFFER: usize = 4096;
/// Time for a frame to be taken by the network.
const SEND_WITHIN: Duration = Duration::from_secs(10);

/// How a session ended.
#[derive(Debug)]
pub enum Ended {
    /// The connection is lost, or the hub asked to connect again; why, for the log.
    Lost(String),
    /// The agent has no business any more.
    Final(Error),
}

impl Ended {
    pub(crate) fn lost(why: impl Into<String>) -> Self {
        Self::Lost(why.into())
    }
}

/// An open socket.
pub struct Link(WebSocketStream<Upgraded>);

impl Link {
    /// Opens a socket at a path of the hub.
    ///
    /// # Errors
    /// [`Error::Api`] when the hub answers but does not agree, [`Error::Transport`] otherwise.
    pub async fn open(hub: &Connection, path: &str) -> Result<Self, Error> {
        let key = generate_key();
        let (answer, io) = hub.upgrade(path, handshake(&key)?).await?;
        let is = |name, wanted: &str| answer.get(name).is_some_and(|value| value == wanted);
        let accepted = is(SEC_WEBSOCKET_ACCEPT, &derive_accept_key(key.as_bytes()))
            && is(SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL);
        if !accepted {
            let why = format!("the hub did not accept the subprotocol {SUBPROTOCOL}");
            return Err(Error::Transport(why));
        }
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(0)
            .max_write_buffer_size(2 * MAX_FRAME)
            .max_message_size(Some(MAX_FRAME))
            .max_frame_size(Some(MAX_FRAME));
        let socket = WebSocketStream::from_raw_socket(io, Role::Client, Some(config)).await;
        Ok(Self(socket))
    }

    /// Sends a frame, which must not be longer than [`MAX_FRAME`].
    ///
    /// # Errors
    /// When the hub does not take it in time.
    pub async fn send(&mut self, frame: &AgentFrame) -> Result<(), Ended> {
        let text = serde_json::to_string(frame)
            .map_err(|error| Ended::lost(format!("a frame cannot be written: {error}")))?;
        self.send_text(text).await
    }

    /// As [`Self::send`], of a frame that is text already.
    pub async fn send_text(&mut self, text: String) -> Result<(), Ended> {
        match timeout(SEND_WITHIN, self.0.send(Message::text(text))).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Ended::lost(error.to_string())),
            Err(_) => Err(Ended::lost("the hub takes nothing any more")),
        }
    }

    /// The next frame; `None` for a message that is no frame of the protocol.
    ///
    /// # Errors
    /// How the session ended.
    pub async fn next(&mut self) -> Result<Option<HubFrame>, Ended> {
        match self.0.next().await {
            Some(Ok(Message::Text(text))) => serde_json::from_str(text.as_str())
                .map(Some)
                .map_err(|error| Ended::lost(format!("the hub sent a frame of no sense: {error}"))),
            Some(Ok(Message::Close(frame))) => Err(ended(frame.as_ref())),
            Some(Ok(_)) => Ok(None),
            Some(Err(error)) => Err(Ended::lost(error.to_string())),
            None => Err(Ended::lost("the connection ended")),
        }
    }

    /// Takes leave, without waiting for long.
    pub async fn leave(mut self) {
        if let Ok(text) = serde_json::to_string(&AgentFrame::Bye) {
            let leave = async {
                self.0.send(Message::text(text)).await?;
                self.0.close(None).await
            };
            let _ = timeout(Duration::from_secs(1), leave).await;
        }
    }
}

/// What the hub's list `resources` wants synced, sorted.
pub fn accepted(list: &Value) -> Vec<GroupVersionResource> {
    let text = |item: &Value, key: &str| item[key].as_str().unwrap_or_default().to_owned();
    let items = list["items"].as_array().into_iter().flatten();
    let accepted = items.filter(|item| item["state"] == "Accepted");
    let mut all: Vec<_> = accepted
        .map(|item| {
            let (group, version) = (text(item, "group"), text(item, "version"));
            GroupVersionResource::new(&group, &version, &text(item, "resource"))
        })
        .collect();
    all.sort();
    all.dedup();
    all
}

fn handshake(key: &str) -> Result<HeaderMap, Error> {
    let key = HeaderValue::try_from(key)
        .map_err(|_| Error::Transport("a key that no header may hold".into()))?;
    Ok(HeaderMap::from_iter([
        (CONNECTION, HeaderValue::from_static("Upgrade")),
        (UPGRADE, HeaderValue::from_static("websocket")),
        (SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13")),
        (
            SEC_WEBSOCKET_PROTOCOL,
            HeaderValue::from_static(SUBPROTOCOL),
        ),
        (SEC_WEBSOCKET_KEY, key),
    ]))
}

/// What a close frame means.
fn ended(frame: Option<&CloseFrame>) -> Ended {
    let Some(frame) = frame else {
        return Ended::lost("the hub closed the session");
    };
    let code = u16::from(frame.code);
    let said = |code: CloseCode| code.code();
    // One that is not authorized comes again: its credential may have ended and be renewed by now. If
    // not, the answer says so; a revocation comes before the close frame.
    let reason = if code == said(CloseCode::TargetGone) {
        Reason::NotFound
    } else if code == said(CloseCode::Replaced) {
        Reason::Conflict
    } else {
        return Ended::Lost(format!(
            "the hub closed the session: {} ({code})",
            frame.reason
        ));
    };
    Ended::Final(ApiError::new(reason, frame.reason.as_str()).into())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn closed(code: u16) -> Ended {
        ended(Some(&CloseFrame {
            code: code.into(),
            reason: "why".into(),
        }))
    }

    #[test]
    fn what_is_accepted_is_synced_once() {
        let deployments = json!({
            "group": "apps", "version": "v1", "resource": "deployments", "state": "Accepted",
        });
        let pending = json!({"version": "v1", "resource": "secrets", "state": "Pending"});
        let list = json!({"items": [deployments, pending, deployments]});
        let expected = [GroupVersionResource::new("apps", "v1", "deployments")];
        assert_eq!(accepted(&list), expected);
    }

    #[test]
    fn only_a_hub_that_wants_no_more_of_the_agent_ends_it() {
        for (code, http) in [(4404, 404), (4409, 409)] {
            match closed(code) {
                Ended::Final(error) => {
                    assert_eq!(error.code(), Some(http));
                    assert!(error.to_string().contains("why"), "{error}");
                }
                other => panic!("{code}: {other:?}"),
            }
        }
        for code in [1000, 1001, 1006, 1008, 1009, 4401, 4429, 4999] {
            assert!(matches!(closed(code), Ended::Lost(_)), "{code}");
        }
        assert!(matches!(ended(None), Ended::Lost(_)));
    }
}
