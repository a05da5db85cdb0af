//! delete and deletecollection.

use http::StatusCode;
use serde_json::{Value, json};
use tmc_apimachinery::meta::meta;
use tmc_apimachinery::options::DeleteOptions;
use tmc_apimachinery::status::{ApiError, Result};

use super::Call;
use super::read::list_options;
use crate::content::{Offer, body_format, decode, negotiate};
use crate::render;
use crate::resource::Deleted;
use crate::surface::Response;

/// DELETE of one object: a `Status` when it is gone, the object while finalizers hold it.
pub(super) async fn delete(call: &Call<'_>) -> Result<Response> {
    let format = negotiate(call.headers, call.info, Offer::Objects)?;
    let options = options(call)?;
    match call
        .store
        .delete(&call.request, call.name, &options)
        .await?
    {
        Deleted::Pending(object) => render::object(StatusCode::OK, format, call.columns(), &object),
        Deleted::Gone(object) => {
            let gone = object.value()?;
            render::value(StatusCode::OK, format, &success(call, meta(&gone).uid()))
        }
    }
}

fn success(call: &Call<'_>, uid: &str) -> Value {
    let definition = call.definition();
    let mut details = json!({ "name": call.name, "kind": definition.plural });
    if !definition.gvk.group.is_empty() {
        details["group"] = definition.gvk.group.as_str().into();
    }
    if !uid.is_empty() {
        details["uid"] = uid.into();
    }
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
        "details": details,
    })
}

/// DELETE of a collection; answers with what was deleted, as a list.
pub(super) async fn delete_collection(call: &Call<'_>) -> Result<Response> {
    let format = negotiate(call.headers, call.info, Offer::Objects)?;
    let list = list_options(call)?;
    let options = options(call)?;
    let page = call
        .store
        .delete_collection(&call.request, &list, &options)
        .await?;
    render::list(format, call.definition(), page)
}

/// Options from query and body.
fn options(call: &Call<'_>) -> Result<DeleteOptions> {
    let empty = call.body.iter().all(u8::is_ascii_whitespace);
    let body = if empty {
        None
    } else {
        Some(decode(&call.body, body_format(call.headers)?)?)
    };
    if let Some(kind) = body.as_ref().and_then(|body| body.get("kind"))
        && kind != "DeleteOptions"
    {
        return Err(ApiError::bad_request(format!(
            "the body of a delete must be of kind DeleteOptions: its kind is {kind}"
        )));
    }
    DeleteOptions::from_request(&call.info.query, body.as_ref())
}
