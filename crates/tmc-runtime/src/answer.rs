//! Reads HTTP answers of API servers: bodies with a limit, `Status` errors.

use bytes::Bytes;
use http::{Response, StatusCode, header};
use http_body::Body as HttpBody;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use kube::client::Body;
use serde_json::Value;
use tmc_apimachinery::{ApiError, Cause, GroupResource, Reason};
use tower::BoxError;

use crate::bounds::Bounds;
use crate::client::Error;

/// Longest error body that is read.
const MAX_ERROR: usize = 1 << 20;

/// An answer is longer than it may be, which is this many bytes.
#[derive(Debug)]
pub(crate) struct TooLong(pub(crate) usize);

impl From<TooLong> for Error {
    fn from(TooLong(limit): TooLong) -> Self {
        Self::Transport(format!("the answer is longer than {limit} bytes"))
    }
}

/// The body of a successful answer, or the error it carries.
pub(crate) async fn read(response: Response<Body>) -> Result<Bytes, Error> {
    Ok(read_if_short(response).await??)
}

/// As [`read`], with an answer of its own for a body that is too long.
pub(crate) async fn read_if_short(
    response: Response<Body>,
) -> Result<Result<Bytes, TooLong>, Error> {
    let response = check(response).await?;
    let limit = Bounds::of(response.extensions()).answer;
    collect(response.into_body(), limit).await
}

/// Passes a successful answer on and turns any other into its error.
pub(crate) async fn check(response: Response<Body>) -> Result<Response<Body>, Error> {
    if response.status().is_success() {
        return Ok(response);
    }
    Err(error_of(response).await)
}

/// The error that an answer carries.
pub(crate) async fn error_of<B>(response: Response<B>) -> Error
where
    B: HttpBody<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    let (parts, body) = response.into_parts();
    let retry_after = parts
        .headers
        .get(header::RETRY_AFTER)
        .and_then(|v| v.to_str().ok())
        .and_then(|v| v.trim().parse::<u32>().ok());
    // A body that cannot be read leaves the code, which is enough to act on.
    let bytes = match collect(body, MAX_ERROR).await {
        Ok(Ok(bytes)) => bytes,
        _ => Bytes::new(),
    };
    let mut error = decode(parts.status, &bytes);
    error.retry_after = error.retry_after.or(retry_after);
    error.into()
}

async fn collect<B>(body: B, limit: usize) -> Result<Result<Bytes, TooLong>, Error>
where
    B: HttpBody<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    match Limited::new(body, limit).collect().await {
        Ok(all) => Ok(Ok(all.to_bytes())),
        Err(error) if error.is::<LengthLimitError>() => Ok(Err(TooLong(limit))),
        Err(error) => Err(Error::Transport(format!(
            "the answer broke off: {}",
            chain(&*error)
        ))),
    }
}

/// The API error of a failed answer. Only a `Status` contributes its text: other bodies (a proxy's
/// page, a stranger's secrets) never reach a message.
pub(crate) fn decode(code: StatusCode, body: &[u8]) -> ApiError {
    match serde_json::from_slice::<Value>(body) {
        Ok(status) if status["kind"] == "Status" => from_status(code, &status),
        _ => ApiError {
            code: code.as_u16(),
            ..ApiError::new(
                reason_of(code.as_u16()),
                format!("the server answered {code} without a Status"),
            )
        },
    }
}

/// The API error of a `Status` object; `code` fills in for an absent one.
pub(crate) fn from_status(code: StatusCode, status: &Value) -> ApiError {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let code = status["code"]
        .as_u64()
        .and_then(|c| u16::try_from(c).ok())
        .unwrap_or(code.as_u16());
    let details = &status["details"];
    let causes = details["causes"].as_array().into_iter().flatten();
    let reason = serde_json::from_value::<Reason>(status["reason"].clone());
    let message = match text(&status["message"]) {
        empty if empty.is_empty() => format!("the server answered {code} without a message"),
        message => message,
    };
    ApiError {
        code,
        reason: reason.unwrap_or_else(|_| reason_of(code)),
        message,
        resource: GroupResource::new(&text(&details["group"]), &text(&details["kind"])),
        kind: text(&details["kind"]),
        name: text(&details["name"]),
        causes: causes
            .map(|cause| Cause {
                reason: text(&cause["reason"]),
                message: text(&cause["message"]),
                field: text(&cause["field"]),
            })
            .collect(),
        retry_after: details["retryAfterSeconds"]
            .as_u64()
            .and_then(|s| u32::try_from(s).ok()),
    }
}

fn reason_of(code: u16) -> Reason {
    match code {
        401 => Reason::Unauthorized,
        403 => Reason::Forbidden,
        404 => Reason::NotFound,
        405 => Reason::MethodNotAllowed,
        406 => Reason::NotAcceptable,
        409 => Reason::Conflict,
        410 => Reason::Gone,
        413 => Reason::RequestEntityTooLarge,
        415 => Reason::UnsupportedMediaType,
        422 => Reason::Invalid,
        429 => Reason::TooManyRequests,
        503 => Reason::ServiceUnavailable,
        504 => Reason::Timeout,
        400..=499 => Reason::BadRequest,
        _ => Reason::InternalError,
    }
}

/// An error and what caused it, in one line; a cause whose text the line already has is skipped.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut line = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let text = cause.to_string();
        if !line.contains(&text) {
            line.push_str(": ");
            line.push_str(&text);
        }
        next = cause.source();
    }
    line
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_status_keeps_its_reason_causes_and_delay() {
        let mut sent = ApiError::invalid(
            "apps",
            "Deployment",
            "web",
            vec![Cause::required("spec.selector", "")],
        );
        sent.retry_after = Some(3);
        let body = sent.to_status().to_string();
        let error = decode(StatusCode::UNPROCESSABLE_ENTITY, body.as_bytes());
        assert_eq!(error.code, 422);
        assert_eq!(error.reason, Reason::Invalid);
        assert_eq!(error.message, sent.message);
        assert_eq!(error.causes, sent.causes);
        assert_eq!(error.retry_after, Some(3));
    }

    #[test]
    fn a_body_that_is_no_status_never_reaches_the_message() {
        let error = decode(StatusCode::BAD_GATEWAY, b"<html>secret</html>");
        assert_eq!(error.code, 502);
        assert!(!error.message.contains("secret"), "{}", error.message);
    }

    #[test]
    fn an_unknown_reason_falls_back_to_the_code() {
        let status = json!({"kind": "Status", "reason": "Odd", "code": 429, "message": "slow"});
        let error = from_status(StatusCode::OK, &status);
        assert_eq!((error.code, error.reason), (429, Reason::TooManyRequests));
    }

    #[tokio::test]
    async fn the_retry_after_header_counts_when_the_status_has_none() {
        let response = Response::builder()
            .status(503)
            .header("retry-after", "7")
            .body(Body::from(b"{}".to_vec()))
            .unwrap();
        let Err(Error::Api(error)) = read(response).await else {
            panic!("not an API error")
        };
        assert_eq!((error.code, error.retry_after), (503, Some(7)));
    }
}
