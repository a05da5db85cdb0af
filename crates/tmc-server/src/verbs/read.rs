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

/// Options of a list, watch or deletecollection, checked against the resource.
pub(super) fn list_options(call: &Call<'_>) -> Result<ListOptions> {
    let options = ListOptions::from_query(&call.info.query)?;
    options
        .fields
        .check_supported(&call.definition().selectable_fields)?;
    Ok(options)
}
