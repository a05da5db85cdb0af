//! What every request passes whatever it asks for: path hygiene, the body limit, the number of
//! requests served at once, compression.

use std::io::{self, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{BufMut, Bytes, BytesMut};
use flate2::Compression;
use flate2::write::GzEncoder;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, VARY};
use http::{HeaderMap, HeaderValue};
use http_body::{Body as HttpBody, Frame};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tmc_apimachinery::status::{ApiError, Reason, Result};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower::BoxError;

use crate::surface::{Body, Response};

/// A request body, from the network or from a caller in this process.
pub(crate) type RequestBody = UnsyncBoxBody<Bytes, BoxError>;

/// Refuses paths that two readers could understand differently: empty or dot segments, also
/// percent-encoded. A trailing `/` is fine.
///
/// # Errors
/// 400 naming the segment.
pub(crate) fn check_path(path: &str) -> Result<()> {
    let Some(rest) = path.strip_prefix('/') else {
        return Err(ApiError::bad_request(
            "the request path does not begin with /",
        ));
    };
    let mut segments = rest.split('/').peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        let plain = segment.replace("%2e", ".").replace("%2E", ".");
        if (segment.is_empty() && !last) || plain == "." || plain == ".." {
            return Err(ApiError::bad_request(format!(
                "the request path holds an empty or dot segment ({segment:?}): remove it"
            )));
        }
    }
    Ok(())
}

/// Reads a whole body of at most `limit` bytes, whether or not its length was announced.
///
/// # Errors
/// 413 for more, 400 for a body that breaks off.
pub(crate) fn read_body(
    body: RequestBody,
    headers: &HeaderMap,
    limit: usize,
) -> BoxFuture<'static, Result<Bytes>> {
    let too_large =
        move || ApiError::too_large(format!("Request entity too large: limit is {limit}"));
    let announced = headers
        .get(CONTENT_LENGTH)
        .and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > limit as u64) {
        return std::future::ready(Err(too_large())).boxed();
    }
    let whole = Limited::new(body, limit).collect();
    whole
        .map(move |outcome| match outcome {
            Ok(collected) => Ok(collected.to_bytes()),
            Err(error) if error.is::<LengthLimitError>() => Err(too_large()),
            Err(_) => Err(ApiError::bad_request(
                "the request body could not be read to its end",
            )),
        })
        .boxed()
}

/// Requests served at once, reading and writing ones counted apart.
pub(crate) struct InFlight {
    reads: Arc<Semaphore>,
    writes: Arc<Semaphore>,
}

impl InFlight {
    pub(crate) fn new(reads: usize, writes: usize) -> Self {
        Self {
            reads: Arc::new(Semaphore::new(reads)),
            writes: Arc::new(Semaphore::new(writes)),
        }
    }

    /// A place for a request; watches need none.
    ///
    /// # Errors
    /// 429 with `Retry-After` if there is none left.
    pub(crate) fn enter(&self, verb: &str) -> Result<Option<OwnedSemaphorePermit>> {
        let room = match verb {
            "watch" => return Ok(None),
            "get" | "list" | "head" => &self.reads,
            _ => &self.writes,
        };
        room.clone().try_acquire_owned().map(Some).map_err(|_| {
            let mut error = ApiError::new(
                Reason::TooManyRequests,
                "too many requests are being served at once: please try again later",
            );
            error.retry_after = Some(1);
            error
        })
    }
}

/// Compresses an answer that is long enough, for a client that accepts gzip. Watches never are:
/// their length is unknown.
pub(crate) fn compress(response: Response, accepts: bool, above: u64) -> Response {
    let long = response.body().size_hint().lower() > above;
    if !accepts || !long || response.headers().contains_key(CONTENT_ENCODING) {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    parts.headers.remove(CONTENT_LENGTH);
    parts
        .headers
        .insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    parts
        .headers
        .append(VARY, HeaderValue::from_static("Accept-Encoding"));
    // Level 1, as kube-apiserver: the network is rarely slower than a second level would be.
    let encoder = GzEncoder::new(BytesMut::new().writer(), Compression::fast());
    http::Response::from_parts(
        parts,
        Gzip {
            body,
            encoder: Some(encoder),
        }
        .boxed_unsync(),
    )
}

/// Whether `Accept-Encoding` names gzip and does not forbid it.
pub(crate) fn accepts_gzip(headers: &HeaderMap) -> bool {
    let values = headers
        .get_all(ACCEPT_ENCODING)
        .iter()
        .filter_map(|value| value.to_str().ok());
    values.flat_map(|line| line.split(',')).any(|clause| {
        let mut parts = clause.split(';').map(str::trim);
        parts
            .next()
            .is_some_and(|name| name.eq_ignore_ascii_case("gzip"))
            && !parts.any(|part| matches!(part, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"))
    })
}

struct Gzip {
    body: Body,
    encoder: Option<GzEncoder<bytes::buf::Writer<BytesMut>>>,
}

impl HttpBody for Gzip {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = self.get_mut();
        loop {
            let Some(encoder) = &mut this.encoder else {
                return Poll::Ready(None);
            };
            match ready!(Pin::new(&mut this.body).poll_frame(cx)) {
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        encoder.write_all(&data)?;
                    }
                    let ready = encoder.get_mut().get_mut().split();
                    if !ready.is_empty() {
                        return Poll::Ready(Some(Ok(Frame::data(ready.freeze()))));
                    }
                }
                None => {
                    let Some(encoder) = this.encoder.take() else {
                        return Poll::Ready(None);
                    };
                    let rest = encoder.finish()?.into_inner().freeze();
                    return Poll::Ready(Some(Ok(Frame::data(rest))));
                }
            }
        }
    }
}

/// Runs a future whose panic becomes an error value with the panic's text for the log.
pub(crate) async fn catch_panic<T>(
    work: impl Future<Output = T>,
) -> std::result::Result<T, String> {
    std::panic::AssertUnwindSafe(work)
        .catch_unwind()
        .await
        .map_err(|panic| {
            let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
            text.or_else(|| panic.downcast_ref::<String>().cloned())
                .unwrap_or_default()
        })
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::GzDecoder;
    use http::StatusCode;
    use http_body_util::{Full, StreamBody};
    use rstest::rstest;

    use super::*;
    use crate::respond::{JSON, answer, full, text_response};

    #[rstest]
    #[case("/api/v1", true)]
    #[case("/api/v1/", true)]
    #[case("/", true)]
    #[case("/a/..b/.c", true)]
    #[case("api", false)]
    #[case("//api", false)]
    #[case("/api//v1", false)]
    #[case("/clusters/a/../b", false)]
    #[case("/clusters/a/%2e%2E/b", false)]
    #[case("/.%2e/b", false)]
    #[case("/a/.", false)]
    fn ambiguous_paths_are_refused(#[case] path: &str, #[case] good: bool) {
        assert_eq!(check_path(path).is_ok(), good, "{path}");
    }

    fn whole(bytes: &'static [u8]) -> RequestBody {
        Full::new(Bytes::from_static(bytes))
            .map_err(|never| match never {})
            .boxed_unsync()
    }

    #[tokio::test]
    async fn a_body_over_the_limit_is_413_even_if_its_length_is_unknown() {
        let none = HeaderMap::new();
        assert_eq!(read_body(whole(b"abc"), &none, 3).await.unwrap(), "abc");
        let pieces = futures::stream::iter(
            (0..10).map(|_| Ok::<_, BoxError>(Frame::data(Bytes::from_static(b"x")))),
        );
        let body = StreamBody::new(pieces).boxed_unsync();
        let error = read_body(body, &none, 3).await.unwrap_err();
        assert_eq!(
            (error.code, error.message.as_str()),
            (413, "Request entity too large: limit is 3")
        );
    }

    #[tokio::test]
    async fn an_announced_length_over_the_limit_is_refused_unread() {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_LENGTH, HeaderValue::from_static("4"));
        assert_eq!(
            read_body(whole(b""), &headers, 3).await.unwrap_err().code,
            413
        );
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_is_400() {
        let pieces = futures::stream::iter([Err::<Frame<Bytes>, BoxError>("reset".into())]);
        let body = StreamBody::new(pieces).boxed_unsync();
        assert_eq!(
            read_body(body, &HeaderMap::new(), 3)
                .await
                .unwrap_err()
                .code,
            400
        );
    }

    #[test]
    fn a_full_house_is_429_with_a_time_to_wait_but_not_for_watches() {
        let house = InFlight::new(1, 1);
        let first = house.enter("get").unwrap();
        let error = house.enter("list").unwrap_err();
        assert_eq!((error.code, error.retry_after), (429, Some(1)));
        assert!(house.enter("watch").unwrap().is_none());
        assert!(house.enter("create").unwrap().is_some());
        drop(first);
        assert!(house.enter("list").unwrap().is_some());
    }

    #[tokio::test]
    async fn long_answers_are_compressed_and_short_ones_are_not() {
        let short = compress(text_response(StatusCode::OK, "short"), true, 100);
        assert!(!short.headers().contains_key(CONTENT_ENCODING));
        let text = "kubernetes ".repeat(100_000);
        let long = answer(StatusCode::OK, JSON, full(text.clone().into()));
        let long = compress(long, true, 1000);
        assert_eq!(long.headers()[CONTENT_ENCODING], "gzip");
        let packed = long.into_body().collect().await.unwrap().to_bytes();
        assert!(packed.len() < text.len() / 10);
        let mut unpacked = String::new();
        GzDecoder::new(&packed[..])
            .read_to_string(&mut unpacked)
            .unwrap();
        assert_eq!(unpacked, text);
    }

    #[rstest]
    #[case("gzip, deflate", true)]
    #[case("br;q=1.0, GZIP;q=0.8", true)]
    #[case("gzip;q=0", false)]
    #[case("identity", false)]
    fn gzip_is_used_only_where_accepted(#[case] header: &str, #[case] accepted: bool) {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_str(header).unwrap());
        assert_eq!(accepts_gzip(&headers), accepted);
    }

    #[tokio::test]
    async fn a_panic_becomes_a_value() {
        let outcome = catch_panic(async { panic!("boom {}", 1) }).await;
        let error: std::result::Result<(), String> = outcome;
        assert_eq!(error.unwrap_err(), "boom 1");
    }
}
