//! get and list.

use http::StatusCode;
use tmc_apimachinery::options::ListOptions;
use tmc_apimachinery::status::Result;

use super::{Call, target};
use crate::content::{Offer, negotiate};
use crate::render;
use crate::resource::Object;
use crate::surface::Response;

/// GET of one object or of a part of it.
pub(super) async fn get(call: &Call<'_>) -> Result<Response> {
    let format = negotiate(call.headers, call.info, Offer::Objects)?;
    let object = if call.request.subresource == "scale" {
        Object::from_value(&target::read(call).await?)
    } else {
        call.store.get(&call.request, call.name).await?
    };
    render::object(StatusCode::OK, format, call.columns(), &object)
}

/// GET of a collection.
pub(super) async fn list(call: &Call<'_>) -> Result<Response> {
    let format = negotiate(call.headers, call.info, Offer::Objects)?;
    let options = list_options(call)?;
    let page = call.store.list(&call.request, &options).await?;
    render::list(format, call.definition(), page)
}

/// Options of a list or watch, checked against the resource. The old form `/watch/…/name` is a
/// field selector in other words.
pub(super) fn list_options(call: &Call<'_>) -> Result<ListOptions> {
    let mut query = call.info.query.clone();
    if !call.name.is_empty() {
        match query
            .iter_mut()
            .find(|(key, text)| key == "fieldSelector" && !text.is_empty())
        {
            Some((_, text)) if text.contains("metadata.name=") => {}
            Some((_, text)) => *text = format!("{text},metadata.name={}", call.name),
            None => query.push((
                "fieldSelector".into(),
                format!("metadata.name={}", call.name),
            )),
        }
    }
    let options = ListOptions::from_query(&query)?;
    options
        .fields
        .check_supported(&call.definition().selectable_fields)?;
    Ok(options)
}
