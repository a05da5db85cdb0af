//! watch: one JSON line an event, spliced from bytes that all watchers of an object share.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use http_body::{Body as HttpBody, Frame};
use http_body_util::BodyExt;
use serde_json::json;
use tmc_apimachinery::definition::ResourceDefinition;
use tmc_apimachinery::status::{ApiError, Reason, Result};
use tmc_apimachinery::table::{Column, IncludeObject};
use tokio::time::Sleep;
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::Call;
use super::read::list_options;
use crate::config::Config;
use crate::content::{Offer, View, negotiate};
use crate::metrics::Counted;
use crate::render;
use crate::resource::{EventKind, Object, WatchEvent, WatchStream};
use crate::respond::{JSON, answer, encode};
use crate::surface::Response;

/// Events smaller than this are copied into one frame; larger ones are spliced.
const SMALL: usize = 1024;

/// GET with `watch`.
pub(super) async fn watch(call: &Call<'_>) -> Result<Response> {
    let format = negotiate(call.headers, call.info, Offer::Watch)?;
    let options = list_options(call)?;
    let life = lifetime(call.env.config, options.timeout_seconds, random());
    let source = match call.store.watch(&call.request, &options).await {
        Ok(source) => source,
        // Clients look for a lost position in the stream, not in the answer's status.
        Err(error) if matches!(error.reason, Reason::Expired | Reason::Gone) => {
            Box::pin(futures::stream::iter([Err(error)]))
        }
        Err(error) => return Err(error),
    };
    let body = WatchBody {
        source: Some(source),
        frames: VecDeque::new(),
        painter: Painter {
            view: format.view,
            definition: call.request.definition.clone(),
            headers: true,
        },
        end: Box::pin(tokio::time::sleep(life)),
        stop: Box::pin(call.env.stop.clone().cancelled_owned()),
        drain: call.env.config.watch_drain.mul_f64(random()),
        draining: false,
        _open: Counted::new(call.env.metrics.watches()),
    };
    Ok(answer(StatusCode::OK, JSON, body.boxed_unsync()))
}

/// How long a watch lives; `spread` is in `0..1`.
fn lifetime(config: &Config, wanted: Option<u64>, spread: f64) -> Duration {
    match wanted {
        Some(seconds) if seconds > 0 => Duration::from_secs(seconds).min(config.max_watch),
        _ => {
            config.min_watch
                + config
                    .max_watch
                    .saturating_sub(config.min_watch)
                    .mul_f64(spread)
        }
    }
}

/// A number in `0..1` that differs from watch to watch.
fn random() -> f64 {
    let (bits, _) = uuid::Uuid::new_v4().as_u64_pair();
    (bits >> 11) as f64 / (1u64 << 53) as f64
}

/// Puts events into the form that the client asked for.
struct Painter {
    view: View,
    definition: Arc<ResourceDefinition>,
    /// Column definitions go with the first event only.
    headers: bool,
}

impl Painter {
    fn columns(&self) -> &[Column] {
        &self.definition.columns
    }

    fn event(&mut self, event: &WatchEvent) -> Result<(&'static str, Bytes)> {
        let kind = match event.kind {
            EventKind::Added => "{\"type\":\"ADDED\",\"object\":",
            EventKind::Modified => "{\"type\":\"MODIFIED\",\"object\":",
            EventKind::Deleted => "{\"type\":\"DELETED\",\"object\":",
            EventKind::Bookmark => "{\"type\":\"BOOKMARK\",\"object\":",
        };
        let object = match self.view {
            View::Object | View::Discovery => event.object.bytes.clone(),
            View::Metadata => render::metadata_only(&event.object.bytes)?,
            View::Table(include) => self.table(&event.object, include)?,
        };
        Ok((kind, object))
    }

    fn table(&mut self, object: &Object, include: IncludeObject) -> Result<Bytes> {
        let headers = std::mem::replace(&mut self.headers, false);
        Ok(encode(&render::object_table(
            self.columns(),
            object,
            include,
            headers,
        )?))
    }
}

/// Body of a watch. Dropping it (the client went away) drops the store's stream.
struct WatchBody {
    source: Option<WatchStream>,
    frames: VecDeque<Bytes>,
    painter: Painter,
    end: Pin<Box<Sleep>>,
    stop: Pin<Box<WaitForCancellationFutureOwned>>,
    drain: Duration,
    draining: bool,
    _open: Counted,
}

impl WatchBody {
    /// Queues the frames of one event.
    fn queue(&mut self, kind: &'static str, object: Bytes) {
        const TAIL: &[u8] = b"}\n";
        if object.len() < SMALL {
            let mut line = BytesMut::with_capacity(kind.len() + object.len() + TAIL.len());
            line.extend_from_slice(kind.as_bytes());
            line.extend_from_slice(&object);
            line.extend_from_slice(TAIL);
            self.frames.push_back(line.freeze());
        } else {
            self.frames.push_back(Bytes::from_static(kind.as_bytes()));
            self.frames.push_back(object);
            self.frames.push_back(Bytes::from_static(TAIL));
        }
    }

    /// An `ERROR` event ends the watch.
    fn fail(&mut self, error: &ApiError) {
        let line = json!({ "type": "ERROR", "object": error.to_status() });
        let mut bytes = encode(&line).to_vec();
        bytes.push(b'\n');
        self.frames.push_back(bytes.into());
        self.source = None;
    }

    fn take(&mut self, item: Result<WatchEvent>) {
        match item.and_then(|event| self.painter.event(&event)) {
            Ok((kind, object)) => self.queue(kind, object),
            Err(error) => self.fail(&error),
        }
    }

    /// Whether the time is over, or the server is stopping and this watch's turn has come.
    fn over(&mut self, cx: &mut Context<'_>) -> bool {
        if !self.draining && self.stop.as_mut().poll(cx).is_ready() {
            self.draining = true;
            let soon = tokio::time::Instant::now() + self.drain;
            if soon < self.end.deadline() {
                self.end.as_mut().reset(soon);
            }
        }
        self.end.as_mut().poll(cx).is_ready()
    }
}

impl HttpBody for WatchBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = self.get_mut();
        loop {
            // A line is never cut: time is looked at between events only.
            if let Some(frame) = this.frames.pop_front() {
                return Poll::Ready(Some(Ok(Frame::data(frame))));
            }
            if this.source.is_some() && this.over(cx) {
                this.source = None;
            }
            let Some(source) = &mut this.source else {
                return Poll::Ready(None);
            };
            match poll_source(source, cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None) => this.source = None,
                Poll::Ready(Some(item)) => this.take(item),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.source.is_none() && self.frames.is_empty()
    }
}

/// Polls the store; a panic in it becomes an error of this watch alone.
fn poll_source(source: &mut WatchStream, cx: &mut Context<'_>) -> Poll<Option<Result<WatchEvent>>> {
    let poll = std::panic::AssertUnwindSafe(|| source.as_mut().poll_next(cx));
    std::panic::catch_unwind(poll).unwrap_or_else(|_| {
        tracing::error!("a watch panicked");
        Poll::Ready(Some(Err(ApiError::internal(
            "the watch failed; watch again",
        ))))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watch_lives_as_long_as_asked_up_to_a_limit() {
        let config = Config::default();
        assert_eq!(lifetime(&config, Some(290), 0.5), Duration::from_secs(290));
        assert_eq!(lifetime(&config, Some(u64::MAX), 0.5), config.max_watch);
        assert_eq!(lifetime(&config, None, 0.0), config.min_watch);
        assert_eq!(
            lifetime(&config, Some(0), 0.5),
            Duration::from_secs(45 * 60)
        );
    }

    #[test]
    fn random_numbers_are_in_range_and_differ() {
        let numbers: Vec<f64> = (0..100).map(|_| random()).collect();
        assert!(numbers.iter().all(|n| (0.0..1.0).contains(n)));
        assert!(numbers.iter().any(|n| *n != numbers[0]));
    }
}
