//! Objects, lists and events in the form a client asked for: as stored, as YAML, as a `Table`, or
//! metadata only. Stored bytes are spliced into answers, never decoded, unless the form demands it.

use std::collections::VecDeque;

use bytes::Bytes;
use http::StatusCode;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use tmc_apimachinery::definition::ResourceDefinition;
use tmc_apimachinery::status::{ApiError, Result};
use tmc_apimachinery::table::{Column, IncludeObject, table};

use crate::content::{Encoding, Format, View, to_yaml};
use crate::resource::{Object, Page};
use crate::respond::{JSON, YAML, answer, encode, full, spliced};
use crate::surface::Response;

/// Renders one object.
pub(crate) fn object(
    status: StatusCode,
    format: Format,
    columns: &[Column],
    object: &Object,
) -> Result<Response> {
    let bytes = match format.view {
        View::Object | View::Discovery => object.bytes.clone(),
        View::Metadata => metadata_only(&object.bytes)?,
        View::Table(include) => encode(&object_table(columns, object, include, true)?),
    };
    match format.encoding {
        Encoding::Json => Ok(answer(status, JSON, full(bytes))),
        Encoding::Yaml => yaml(status, &Object { bytes }.value()?),
    }
}

/// Renders a value that is not an object of the store.
pub(crate) fn value(status: StatusCode, format: Format, value: &Value) -> Result<Response> {
    match format.encoding {
        Encoding::Json => Ok(answer(status, JSON, full(encode(value)))),
        Encoding::Yaml => yaml(status, value),
    }
}

fn yaml(status: StatusCode, value: &Value) -> Result<Response> {
    Ok(answer(status, YAML, full(to_yaml(value)?.into())))
}

/// Renders a page as a list.
pub(crate) fn list(
    format: Format,
    definition: &ResourceDefinition,
    page: Page,
) -> Result<Response> {
    if let View::Table(include) = format.view {
        let objects = page
            .items
            .iter()
            .map(Object::value)
            .collect::<Result<Vec<_>>>()?;
        let meta = list_meta(&page);
        let whole = table(
            &definition.columns,
            &objects,
            meta,
            include,
            true,
            unix_now(),
        );
        return value(StatusCode::OK, format, &whole);
    }
    let pieces = match format.view {
        View::Metadata => {
            let items = page
                .items
                .iter()
                .map(|item| metadata_only(&item.bytes))
                .collect::<Result<_>>()?;
            let kind = ("PartialObjectMetadataList", "meta.k8s.io/v1");
            list_pieces(kind, &list_meta(&page), items)
        }
        _ => {
            let api_version = definition.api_version();
            let meta = list_meta(&page);
            let items = page.items.into_iter().map(|item| item.bytes).collect();
            list_pieces((&definition.list_kind, &api_version), &meta, items)
        }
    };
    match format.encoding {
        Encoding::Json => Ok(answer(StatusCode::OK, JSON, spliced(pieces))),
        Encoding::Yaml => {
            let joined: Vec<u8> = pieces.iter().flatten().copied().collect();
            yaml(
                StatusCode::OK,
                &Object {
                    bytes: joined.into(),
                }
                .value()?,
            )
        }
    }
}

fn list_meta(page: &Page) -> Value {
    let mut meta = Map::new();
    meta.insert(
        "resourceVersion".into(),
        page.resource_version.as_str().into(),
    );
    if !page.continue_token.is_empty() {
        meta.insert("continue".into(), page.continue_token.as_str().into());
        if let Some(remaining) = page.remaining {
            meta.insert("remainingItemCount".into(), remaining.into());
        }
    }
    Value::Object(meta)
}

fn list_pieces(
    (kind, api_version): (&str, &str),
    meta: &Value,
    items: Vec<Bytes>,
) -> VecDeque<Bytes> {
    let head = format!(
        "{{\"kind\":{},\"apiVersion\":{},\"metadata\":{meta},\"items\":[",
        Value::from(kind),
        Value::from(api_version),
    );
    let mut pieces = VecDeque::with_capacity(items.len() * 2 + 2);
    pieces.push_back(Bytes::from(head));
    for (index, item) in items.into_iter().enumerate() {
        if index > 0 {
            pieces.push_back(Bytes::from_static(b","));
        }
        pieces.push_back(item);
    }
    pieces.push_back(Bytes::from_static(b"]}\n"));
    pieces
}

#[derive(Deserialize)]
struct OnlyMetadata<'a> {
    #[serde(borrow)]
    metadata: Option<&'a RawValue>,
}

/// An object cut down to `PartialObjectMetadata`, its metadata copied unread.
pub(crate) fn metadata_only(object: &[u8]) -> Result<Bytes> {
    let parsed: OnlyMetadata<'_> = serde_json::from_slice(object).map_err(ApiError::internal)?;
    let metadata = parsed.metadata.map_or("{}", RawValue::get);
    let text = format!(
        "{{\"kind\":\"PartialObjectMetadata\",\"apiVersion\":\"meta.k8s.io/v1\",\"metadata\":{metadata}}}"
    );
    Ok(Bytes::from(text))
}

/// One object as a table of one row; `headers` false after the first event of a watch.
pub(crate) fn object_table(
    columns: &[Column],
    object: &Object,
    include: IncludeObject,
    headers: bool,
) -> Result<Value> {
    let value = object.value()?;
    let version = value
        .pointer("/metadata/resourceVersion")
        .cloned()
        .unwrap_or_else(|| "".into());
    let meta = json!({ "resourceVersion": version });
    Ok(table(columns, &[value], meta, include, headers, unix_now()))
}

/// Seconds since the epoch, for ages in tables.
fn unix_now() -> i64 {
    jiff::Timestamp::now().as_second()
}
