//! Reading and replacing what a request names: the object, a part that the store serves, or its
//! `Scale`, which this server makes of the object.

use serde_json::Value;
use tmc_apimachinery::options::WriteOptions;
use tmc_apimachinery::status::Result;

use super::{Call, scale};
use crate::resource::Written;

/// The present state.
pub(super) async fn read(call: &Call<'_>) -> Result<Value> {
    if call.request.subresource == "scale" {
        return scale::read(call).await;
    }
    call.store.get(&call.request, call.name).await?.value()
}

/// Replaces it; conditional if the object carries a `resourceVersion`.
pub(super) async fn replace(
    call: &Call<'_>,
    object: Value,
    options: &WriteOptions,
) -> Result<Written> {
    if call.request.subresource == "scale" {
        return scale::replace(call, &object, options).await;
    }
    call.store
        .update(&call.request, call.name, object, options)
        .await
}
