//! create and update.

use http::StatusCode;
use tmc_apimachinery::meta::meta;
use tmc_apimachinery::options::WriteOptions;
use tmc_apimachinery::status::Result;

use super::{Call, input, target};
use crate::content::{Offer, negotiate};
use crate::render;
use crate::resource::Written;
use crate::respond::add_warnings;
use crate::surface::Response;

/// POST to a collection, or to a part of an object.
pub(super) async fn create(call: &Call<'_>) -> Result<Response> {
    let format = negotiate(call.headers, call.info, Offer::Objects)?;
    let options = WriteOptions::from_query(&call.info.query)?;
    let (mut object, warnings) = input::object(call, options.field_validation)?;
    drop_empty_version(&mut object);
    let written = call
        .store
        .create(&call.request, call.name, object, &options)
        .await?;
    answer(call, format, written, warnings)
}

/// PUT of an object or of a part of it.
pub(super) async fn update(call: &Call<'_>) -> Result<Response> {
    let format = negotiate(call.headers, call.info, Offer::Objects)?;
    let options = WriteOptions::from_query(&call.info.query)?;
    let (mut object, warnings) = input::object(call, options.field_validation)?;
    drop_empty_version(&mut object);
    let written = target::replace(call, object, &options).await?;
    answer(call, format, written, warnings)
}

/// An empty `resourceVersion` means none.
fn drop_empty_version(object: &mut serde_json::Value) {
    if meta(object).resource_version().is_empty()
        && let Some(metadata) = object.get_mut("metadata").and_then(|m| m.as_object_mut())
    {
        metadata.remove("resourceVersion");
    }
}

/// The answer to a write: the object as stored, 201 if it is new, and warnings.
pub(super) fn answer(
    call: &Call<'_>,
    format: crate::content::Format,
    written: Written,
    mut warnings: Vec<String>,
) -> Result<Response> {
    let status = if written.created {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    let mut response = render::object(status, format, call.columns(), &written.object)?;
    warnings.extend(written.warnings);
    add_warnings(&mut response, &warnings);
    Ok(response)
}
