//! Content negotiation and decoding: which form a client wants, and what it sent.

use http::HeaderMap;
use http::header::{ACCEPT, CONTENT_TYPE};
use serde_json::Value;
use tmc_apimachinery::request_info::RequestInfo;
use tmc_apimachinery::status::{ApiError, Reason, Result};
use tmc_apimachinery::table::IncludeObject;

use crate::protobuf;

/// Encoding of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// `application/json`.
    Json,
    /// `application/yaml`.
    Yaml,
}

/// Encoding of a request body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyFormat {
    /// `application/json`.
    Json,
    /// `application/yaml`.
    Yaml,
    /// `application/vnd.kubernetes.protobuf`; built-in kinds only.
    Protobuf,
}

/// Form in which objects are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum View {
    /// As they are.
    Object,
    /// `as=Table;v=v1;g=meta.k8s.io`.
    Table(IncludeObject),
    /// `as=PartialObjectMetadata` or `PartialObjectMetadataList`.
    Metadata,
    /// `as=APIGroupDiscoveryList;v=v2;g=apidiscovery.k8s.io`; discovery only.
    Discovery,
}

/// What a client wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Format {
    pub(crate) encoding: Encoding,
    pub(crate) view: View,
}

/// Who asks to negotiate: each offers other forms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Offer {
    /// Objects and lists.
    Objects,
    /// Watches: no YAML, which has no stream form.
    Watch,
    /// Aggregated discovery.
    Discovery,
    /// Other documents, JSON or YAML.
    Document,
    /// Documents in JSON only.
    Json,
}

/// One clause of an `Accept` header.
struct Clause<'a> {
    media: &'a str,
    parameters: Vec<(&'a str, &'a str)>,
    quality: f32,
}

impl<'a> Clause<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        let media = parts.next().filter(|media| !media.is_empty())?;
        let parameters: Vec<_> = parts
            .filter_map(|part| part.split_once('='))
            .map(|(k, v)| (k.trim(), v.trim()))
            .collect();
        let quality = parameters
            .iter()
            .find(|(key, _)| *key == "q")
            .map_or(1.0, |(_, value)| value.parse().unwrap_or(0.0));
        Some(Self {
            media,
            parameters,
            quality,
        })
    }

    fn parameter(&self, key: &str) -> &'a str {
        self.parameters
            .iter()
            .find(|(k, _)| *k == key)
            .map_or("", |(_, v)| v)
    }

    fn encoding(&self) -> Option<Encoding> {
        match self.media {
            "application/json" | "application/*" | "*/*" => Some(Encoding::Json),
            "application/yaml" => Some(Encoding::Yaml),
            _ => None,
        }
    }

    fn view(&self, table: IncludeObject) -> Option<View> {
        match (
            self.parameter("as"),
            self.parameter("g"),
            self.parameter("v"),
        ) {
            ("", _, _) => Some(View::Object),
            ("Table", "meta.k8s.io", "v1") => Some(View::Table(table)),
            ("PartialObjectMetadata" | "PartialObjectMetadataList", "meta.k8s.io", "v1") => {
                Some(View::Metadata)
            }
            ("APIGroupDiscoveryList", "apidiscovery.k8s.io", "v2") => Some(View::Discovery),
            _ => None,
        }
    }

    fn format(&self, offer: Offer, table: IncludeObject) -> Option<Format> {
        let format = Format {
            encoding: self.encoding()?,
            view: self.view(table)?,
        };
        let offered = match (offer, format.view, format.encoding) {
            (Offer::Objects, View::Discovery, _) => false,
            (Offer::Objects, ..) => true,
            (Offer::Watch, view, encoding) => view != View::Discovery && encoding == Encoding::Json,
            (Offer::Discovery, view, _) => matches!(view, View::Object | View::Discovery),
            (Offer::Document, view, _) => view == View::Object,
            (Offer::Json, view, encoding) => view == View::Object && encoding == Encoding::Json,
        };
        offered.then_some(format)
    }
}

/// Chooses the form of an answer: the first acceptable clause of the highest quality, as
/// Kubernetes does; no `Accept` header means JSON.
///
/// # Errors
/// 406 if nothing that the client accepts is offered, 400 for an unknown `includeObject`.
pub(crate) fn negotiate(headers: &HeaderMap, info: &RequestInfo, offer: Offer) -> Result<Format> {
    let table = include_object(info)?;
    let accept: Vec<&str> = headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .collect();
    let mut clauses: Vec<Clause<'_>> = accept
        .iter()
        .flat_map(|line| line.split(','))
        .filter_map(Clause::parse)
        .collect();
    if clauses.is_empty() {
        return Ok(Format {
            encoding: Encoding::Json,
            view: View::Object,
        });
    }
    clauses.retain(|clause| clause.quality > 0.0);
    clauses.sort_by(|a, b| b.quality.total_cmp(&a.quality));
    clauses
        .iter()
        .find_map(|clause| clause.format(offer, table))
        .ok_or_else(|| {
            ApiError::new(
                Reason::NotAcceptable,
                "only the following media types are accepted: application/json, application/yaml",
            )
        })
}

fn include_object(info: &RequestInfo) -> Result<IncludeObject> {
    match info.param("includeObject") {
        None | Some("" | "Metadata") => Ok(IncludeObject::Metadata),
        Some("None") => Ok(IncludeObject::None),
        Some("Object") => Ok(IncludeObject::Object),
        Some(other) => Err(ApiError::bad_request(format!(
            "unrecognized includeObject value: \"{other}\"; one of None, Metadata, Object is wanted"
        ))),
    }
}

/// The media type of a request body without its parameters, in lower case; empty if not given.
pub(crate) fn media_type(headers: &HeaderMap) -> String {
    let text = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or("");
    text.split(';')
        .next()
        .unwrap_or("")
        .trim()
        .to_ascii_lowercase()
}

/// The format of an object in a request body (none given: JSON).
///
/// # Errors
/// 415 for everything but JSON, YAML and Kubernetes' protobuf.
pub(crate) fn body_format(headers: &HeaderMap) -> Result<BodyFormat> {
    match media_type(headers).as_str() {
        "" | "application/json" => Ok(BodyFormat::Json),
        "application/yaml" => Ok(BodyFormat::Yaml),
        "application/vnd.kubernetes.protobuf" => Ok(BodyFormat::Protobuf),
        _ => Err(unknown_format()),
    }
}

fn unknown_format() -> ApiError {
    ApiError::unsupported_media_type(
        "the body of the request was in an unknown format - accepted media types include: \
         application/json, application/yaml",
    )
}

/// Decodes a body.
///
/// # Errors
/// 400 with the place of what cannot be read; 415 for protobuf of a kind that has no such form.
pub(crate) fn decode(bytes: &[u8], format: BodyFormat) -> Result<Value> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(ApiError::bad_request(
            "the request body is empty: an object in JSON or YAML is wanted",
        ));
    }
    match format {
        BodyFormat::Json => serde_json::from_slice(bytes)
            .map_err(|e| ApiError::bad_request(format!("the request body is not valid JSON: {e}"))),
        BodyFormat::Yaml => decode_yaml(bytes),
        BodyFormat::Protobuf => protobuf::decode(bytes)
            .map_err(|e| {
                ApiError::bad_request(format!("the request body is not valid protobuf: {e}"))
            })?
            .ok_or_else(unknown_format),
    }
}

/// Decodes YAML from a stranger: one document, few aliases, bounded depth and size.
fn decode_yaml(bytes: &[u8]) -> Result<Value> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_aliases: 1000,
            max_anchors: 1000,
            max_documents: 1,
            max_recorded_anchor_events: 100_000,
            max_recorded_anchor_bytes: 4 * 1024 * 1024,
            max_total_scalar_bytes: 8 * 1024 * 1024,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 100_000,
        },
        duplicate_keys: serde_saphyr::options::DuplicateKeyPolicy::Error,
        with_snippet: false,
    };
    serde_saphyr::from_slice_with_options(bytes, options)
        .map_err(|e| ApiError::bad_request(format!("the request body is not valid YAML: {e}")))
}

/// A value as YAML text.
///
/// # Errors
/// 500 if it cannot be written, which JSON values always can.
pub(crate) fn to_yaml(value: &Value) -> Result<String> {
    serde_saphyr::to_string(value).map_err(ApiError::internal)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use serde_json::json;

    use super::*;

    #[test]
    fn yaml_text_reads_back_as_what_was_written() {
        let tricky = [
            "",
            "yes",
            "no",
            "on",
            "null",
            "~",
            "true",
            "1",
            "1e3",
            "0x1f",
            "0o7",
            "1_000",
            ".inf",
            "12:30:45",
            "2020-01-01",
            "- a",
            "a: b",
            "# c",
            "a #b",
            "'q'",
            "\"q\"",
            "*a",
            "&a",
            "!t",
            "%",
            "@",
            "`",
            "|",
            ">",
            "[",
            "{",
            "  lead",
            "trail  ",
            "line\nline\n",
            "tab\t",
            "é\u{7f}",
        ];
        let value = json!({
            "texts": tricky.to_vec(), "numbers": [0, -1, 1.5, 9_007_199_254_740_993i64], "flags": [true, false],
            "none": null, "empty": {"list": [], "map": {}}, "yes": "key", "1": "key",
        });
        let text = to_yaml(&value).unwrap();
        assert_eq!(
            decode(text.as_bytes(), BodyFormat::Yaml).unwrap(),
            value,
            "{text}"
        );
    }

    #[test]
    fn yaml_with_a_key_twice_or_two_documents_is_refused() {
        for text in ["a: 1\na: 2\n", "a: 1\n---\nb: 2\n"] {
            assert_eq!(
                decode(text.as_bytes(), BodyFormat::Yaml).unwrap_err().code,
                400,
                "{text}"
            );
        }
    }

    #[test]
    fn a_media_type_is_compared_without_parameters_and_case() {
        let mut headers = HeaderMap::new();
        assert_eq!(body_format(&headers).unwrap(), BodyFormat::Json);
        let value = HeaderValue::from_static("Application/JSON; charset=utf-8");
        headers.insert(CONTENT_TYPE, value);
        assert_eq!(body_format(&headers).unwrap(), BodyFormat::Json);
    }
}
