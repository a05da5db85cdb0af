//! Making answers: bodies, `Status` errors, headers every answer of one kind carries.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, StatusCode};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::{BodyExt, Empty, Full};
use serde_json::Value;
use tmc_apimachinery::status::ApiError;

use crate::surface::{Body, Response};

/// Media type of nearly everything.
pub const JSON: &str = "application/json";
/// Media type of YAML answers.
pub const YAML: &str = "application/yaml";
/// Media type of health and readiness answers.
pub const TEXT: &str = "text/plain; charset=utf-8";

/// Size of the pieces in which long bodies are produced.
const PIECE: usize = 64 * 1024;

/// A body of one piece.
pub fn full(bytes: Bytes) -> Body {
    Full::new(bytes)
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// No body.
pub fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// A body spliced from shared pieces without ever holding a copy of all of it: small pieces are
/// put together to about 64 KiB, so that a list costs its client's reading speed, not its size.
pub fn spliced(pieces: VecDeque<Bytes>) -> Body {
    let length = pieces.iter().map(Bytes::len).sum::<usize>();
    let mut body = Spliced {
        pieces,
        left: length as u64,
    };
    if length <= PIECE {
        return full(body.next_piece());
    }
    body.boxed_unsync()
}

struct Spliced {
    pieces: VecDeque<Bytes>,
    left: u64,
}

impl Spliced {
    fn next_piece(&mut self) -> Bytes {
        if let Some(first) = self.pieces.front().filter(|first| first.len() >= PIECE) {
            self.left -= first.len() as u64;
            return self.pieces.pop_front().unwrap_or_default();
        }
        let mut joined = BytesMut::with_capacity(PIECE.min(self.left as usize));
        while let Some(next) = self.pieces.front() {
            if !joined.is_empty() && joined.len() + next.len() > PIECE {
                break;
            }
            joined.extend_from_slice(next);
            self.pieces.pop_front();
        }
        self.left -= joined.len() as u64;
        joined.freeze()
    }
}

impl HttpBody for Spliced {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        Poll::Ready(Some(Ok(Frame::data(self.next_piece()))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// An answer of one media type.
pub fn answer(status: StatusCode, media_type: &'static str, body: Body) -> Response {
    let mut response = http::Response::new(body);
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}

/// A JSON answer.
pub fn json_response(status: StatusCode, value: &Value) -> Response {
    answer(status, JSON, full(encode(value)))
}

/// A plain text answer.
pub fn text_response(status: StatusCode, text: impl Into<Bytes>) -> Response {
    answer(status, TEXT, full(text.into()))
}

/// An error as a `Status` object, with `Retry-After` where the error names a time.
pub fn error_response(error: &ApiError) -> Response {
    let status = StatusCode::from_u16(error.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = json_response(status, &error.to_status());
    if let Some(seconds) = error.retry_after {
        response
            .headers_mut()
            .insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// Names the methods that a path does offer, as 405 must.
pub(crate) fn with_allow(mut response: Response, methods: &[&str]) -> Response {
    if let Ok(list) = HeaderValue::from_str(&methods.join(", ")) {
        response.headers_mut().insert(ALLOW, list);
    }
    response
}

/// Most characters of one warning once all warnings together are long, and of all together.
const WARNING_ITEM: usize = 256;
const WARNING_TOTAL: usize = 4096;

/// Adds `Warning` headers (`299 - "text"`), made safe and cut as Kubernetes cuts them.
pub(crate) fn add_warnings(response: &mut Response, warnings: &[String]) {
    let total: usize = warnings.iter().map(|text| text.chars().count()).sum();
    let most = if total > WARNING_TOTAL {
        WARNING_ITEM
    } else {
        usize::MAX
    };
    let mut left = WARNING_TOTAL;
    for text in warnings {
        let cut: String = text.chars().take(most).collect();
        if cut.len() > left {
            break;
        }
        left -= cut.len();
        let mut quoted = String::from("299 - \"");
        for c in cut.chars() {
            match c {
                '"' | '\\' => quoted.extend(['\\', c]),
                c if c.is_control() => quoted.push(' '),
                c => quoted.push(c),
            }
        }
        quoted.push('"');
        if let Ok(value) = HeaderValue::from_bytes(quoted.as_bytes()) {
            response.headers_mut().append(http::header::WARNING, value);
        }
    }
}

/// JSON bytes of a value.
pub(crate) fn encode(value: &Value) -> Bytes {
    serde_json::to_vec(value)
        .map(Bytes::from)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_long_body_comes_in_pieces_and_says_its_length() {
        let pieces: VecDeque<Bytes> = (0..1000).map(|_| Bytes::from(vec![b'x'; 1000])).collect();
        let mut body = spliced(pieces);
        assert_eq!(body.size_hint().exact(), Some(1_000_000));
        let mut sizes = Vec::new();
        while let Some(frame) = body.frame().await {
            sizes.push(frame.unwrap().into_data().unwrap().len());
        }
        assert_eq!(sizes.iter().sum::<usize>(), 1_000_000);
        assert!(sizes.iter().all(|size| *size <= PIECE), "{sizes:?}");
        assert!(sizes.len() < 20, "{}", sizes.len());
    }

    #[tokio::test]
    async fn a_piece_larger_than_the_window_is_passed_on_uncopied() {
        let big = Bytes::from(vec![b'y'; 200_000]);
        let mut body = spliced(VecDeque::from([Bytes::from_static(b"["), big.clone()]));
        let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
        let second = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(&first[..], b"[");
        assert_eq!(second.as_ptr(), big.as_ptr());
        assert!(body.frame().await.is_none());
    }

    #[test]
    fn a_warning_cannot_break_out_of_its_header() {
        let mut response = text_response(StatusCode::OK, "");
        add_warnings(&mut response, &["a \"b\"\r\nSet-Cookie: x".into()]);
        let value = response.headers().get("warning").unwrap();
        assert_eq!(
            value.to_str().unwrap(),
            "299 - \"a \\\"b\\\"  Set-Cookie: x\""
        );
        assert_eq!(response.headers().len(), 2);
    }

    #[test]
    fn many_warnings_are_cut() {
        let mut response = text_response(StatusCode::OK, "");
        let long = vec!["w".repeat(1000); 100];
        add_warnings(&mut response, &long);
        assert_eq!(response.headers().get_all("warning").iter().count(), 16);
    }
}
