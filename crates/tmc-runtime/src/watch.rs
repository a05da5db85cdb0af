//! Watch streams: newline-delimited events of one request.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use futures::Stream;
use http::{Response, StatusCode};
use http_body::Body as _;
use kube::client::Body;
use serde::Deserialize;
use serde_json::Value;

use crate::answer;
use crate::bounds::Bounds;
use crate::client::Error;

/// Options of a watch.
#[derive(Clone, Debug)]
pub struct WatchParams {
    /// Label selector text.
    pub labels: String,
    /// Field selector text.
    pub fields: String,
    /// The version after which events are wanted; empty starts at "now" with synthetic events.
    pub resource_version: String,
    /// The server ends the watch after this long.
    pub timeout: Duration,
    /// Start with every object there is, then a bookmark annotated `k8s.io/initial-events-end`.
    pub send_initial_events: bool,
}

impl Default for WatchParams {
    fn default() -> Self {
        Self {
            labels: String::new(),
            fields: String::new(),
            resource_version: String::new(),
            timeout: Duration::from_secs(290),
            send_initial_events: false,
        }
    }
}

/// One event of a watch. An `ERROR` event is an [`Error`] of the stream instead.
#[derive(Clone, Debug, PartialEq)]
pub enum WatchEvent {
    /// The object is new to this watch.
    Added(Value),
    /// The object changed.
    Modified(Value),
    /// The object is gone; the last state, with the version of the deletion.
    Deleted(Value),
    /// Everything up to this object's resourceVersion was sent.
    Bookmark(Value),
}

/// Reads one line of a watch.
///
/// # Errors
/// [`Error::Api`] for an `ERROR` event (410: list again), [`Error::Transport`] for a line that is
/// no event.
pub(crate) fn decode_event(line: &[u8]) -> Result<WatchEvent, Error> {
    #[derive(Deserialize)]
    struct Frame {
        #[serde(rename = "type")]
        kind: String,
        object: Value,
    }
    let frame: Frame = serde_json::from_slice(line)
        .map_err(|e| Error::Transport(format!("a watch event cannot be read: {e}")))?;
    match frame.kind.as_str() {
        "ADDED" => Ok(WatchEvent::Added(frame.object)),
        "MODIFIED" => Ok(WatchEvent::Modified(frame.object)),
        "DELETED" => Ok(WatchEvent::Deleted(frame.object)),
        "BOOKMARK" => Ok(WatchEvent::Bookmark(frame.object)),
        "ERROR" => {
            Err(answer::from_status(StatusCode::INTERNAL_SERVER_ERROR, &frame.object).into())
        }
        _ => Err(Error::Transport("a watch event has an unknown type".into())),
    }
}

/// The lines of a watch as they came, without their line ends. Ends when the server ends the watch;
/// a last line without its end is dropped (the server was cut off in it).
pub struct WatchLines {
    body: Body,
    buffer: BytesMut,
    /// How much of the buffer is known to hold no line end.
    scanned: usize,
    /// How long a line may be, in bytes.
    longest: usize,
    ended: bool,
}

impl WatchLines {
    pub(crate) fn new(response: Response<Body>) -> Self {
        let longest = Bounds::of(response.extensions()).event;
        Self {
            body: response.into_body(),
            buffer: BytesMut::new(),
            scanned: 0,
            longest,
            ended: false,
        }
    }

    fn take_line(&mut self) -> Option<Bytes> {
        loop {
            let Some(at) = self.buffer[self.scanned..].iter().position(|&b| b == b'\n') else {
                self.scanned = self.buffer.len();
                return None;
            };
            let mut line = self.buffer.split_to(self.scanned + at);
            self.buffer.advance(1);
            self.scanned = 0;
            if line.last() == Some(&b'\r') {
                line.truncate(line.len() - 1);
            }
            if !line.is_empty() {
                return Some(line.freeze());
            }
        }
    }
}

impl Stream for WatchLines {
    type Item = Result<Bytes, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            if let Some(line) = this.take_line() {
                return Poll::Ready(Some(Ok(line)));
            }
            if this.ended {
                return Poll::Ready(None);
            }
            if this.buffer.len() > this.longest {
                this.ended = true;
                let text = format!("a watch event is longer than {} bytes", this.longest);
                return Poll::Ready(Some(Err(Error::Transport(text))));
            }
            match ready!(Pin::new(&mut this.body).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    if let Some(data) = frame.data_ref() {
                        this.buffer.extend_from_slice(data);
                    }
                }
                Some(Err(error)) => {
                    this.ended = true;
                    let text = format!("the watch broke off: {}", answer::chain(&error));
                    return Poll::Ready(Some(Err(Error::Transport(text))));
                }
                None => this.ended = true,
            }
        }
    }
}

/// The decoded events of a watch; ends as [`WatchLines`] does.
pub struct WatchEvents(pub(crate) WatchLines);

impl Stream for WatchEvents {
    type Item = Result<WatchEvent, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let line = ready!(Pin::new(&mut self.0).poll_next(cx));
        Poll::Ready(line.map(|line| line.and_then(|bytes| decode_event(&bytes))))
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn lines_are_found_across_frames_and_a_cut_one_is_dropped() {
        let service = tower::service_fn(|_: http::Request<Body>| async {
            let chunks = ["{\"a\"", ":1}\n\n{\"b\":2}\r\n{\"c\":", "3}\n{\"cut"];
            let frames = chunks.map(|chunk| {
                Ok::<_, std::io::Error>(http_body::Frame::data(Bytes::from_static(
                    chunk.as_bytes(),
                )))
            });
            let body = http_body_util::StreamBody::new(futures::stream::iter(frames));
            Ok::<_, std::io::Error>(http::Response::new(body))
        });
        let client = kube::Client::new(service, "default");
        let response = client
            .send(http::Request::new(Body::empty()))
            .await
            .unwrap();
        let lines: Vec<_> = WatchLines::new(response).collect().await;
        let lines: Vec<_> = lines.into_iter().map(|line| line.unwrap()).collect();
        assert_eq!(lines, ["{\"a\":1}", "{\"b\":2}", "{\"c\":3}"]);
    }

    #[test]
    fn events_decode_and_an_error_event_is_its_status() {
        let object = json!({"metadata": {"name": "a"}});
        for (kind, event) in [
            ("ADDED", WatchEvent::Added(object.clone())),
            ("MODIFIED", WatchEvent::Modified(object.clone())),
            ("DELETED", WatchEvent::Deleted(object.clone())),
            ("BOOKMARK", WatchEvent::Bookmark(object.clone())),
        ] {
            let line = json!({"type": kind, "object": object}).to_string();
            assert_eq!(decode_event(line.as_bytes()).unwrap(), event);
        }
        let gone = tmc_apimachinery::ApiError::expired("too old").to_status();
        let line = json!({"type": "ERROR", "object": gone}).to_string();
        assert_eq!(decode_event(line.as_bytes()).unwrap_err().code(), Some(410));
        assert!(decode_event(b"{}").is_err());
        assert!(decode_event(br#"{"type":"NEW","object":{}}"#).is_err());
    }
}
