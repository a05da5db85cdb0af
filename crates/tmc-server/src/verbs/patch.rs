//! patch: read, change, replace on the condition that nobody else did, and again if somebody did.

use serde_json::Value;
use tmc_apimachinery::definition::ResourceDefinition;
use tmc_apimachinery::meta::meta;
use tmc_apimachinery::options::WriteOptions;
use tmc_apimachinery::patch::{json_patch, merge_patch, strategic_merge_patch};
use tmc_apimachinery::status::{ApiError, Reason, Result};

use super::{Call, input, target, write};
use crate::content::{BodyFormat, Offer, decode, media_type, negotiate};
use crate::resource::Written;
use crate::surface::Response;

/// Times a patch is tried while others write the same object.
const ATTEMPTS: usize = 5;

/// A patch as its `Content-Type` says.
enum Patch {
    Json,
    Merge(Value),
    Strategic(Value),
    /// Simulated members: a forced merge of an apply configuration.
    ApplyAsMerge(Value),
}

const JSON_PATCH: &str = "application/json-patch+json";
const MERGE_PATCH: &str = "application/merge-patch+json";
const STRATEGIC_PATCH: &str = "application/strategic-merge-patch+json";
const APPLY_PATCH: &str = "application/apply-patch+yaml";

/// PATCH of an object or of a part of it.
pub(super) async fn patch(call: &Call<'_>) -> Result<Response> {
    let format = negotiate(call.headers, call.info, Offer::Objects)?;
    let patch = parse(call)?;
    let applied = matches!(patch, Patch::ApplyAsMerge(_));
    let options = WriteOptions::from_patch_query(&call.info.query, applied)?;
    let gvk = input::kind_of(call.definition(), &call.request.subresource);
    let warnings = match patch {
        Patch::Merge(_) | Patch::Strategic(_) => {
            input::duplicates(&call.body, BodyFormat::Json, options.field_validation, &gvk)?
        }
        Patch::Json | Patch::ApplyAsMerge(_) => Vec::new(),
    };
    let written = match &patch {
        Patch::ApplyAsMerge(configuration) => forced_merge(call, configuration, &options).await?,
        patch => change(call, patch, &options).await?,
    };
    write::answer(call, format, written, warnings)
}

/// Reads the patch by its media type.
///
/// # Errors
/// 415 naming what the resource takes.
fn parse(call: &Call<'_>) -> Result<Patch> {
    let strategic = call.definition().strategic;
    let body = || decode(&call.body, BodyFormat::Json);
    match media_type(call.headers).as_str() {
        JSON_PATCH => Ok(Patch::Json),
        MERGE_PATCH => Ok(Patch::Merge(object_patch(body()?)?)),
        STRATEGIC_PATCH if strategic => Ok(Patch::Strategic(object_patch(body()?)?)),
        APPLY_PATCH if call.env.config.apply_as_merge => Ok(Patch::ApplyAsMerge(object_patch(
            decode(&call.body, BodyFormat::Yaml)?,
        )?)),
        APPLY_PATCH => Err(ApiError::unsupported_media_type(format!(
            "server-side apply is not served yet: use kubectl apply without --server-side, or one \
             of {}",
            accepted(call.definition())
        ))),
        _ => Err(ApiError::unsupported_media_type(format!(
            "the body of the request was in an unknown format - accepted media types include: {}",
            accepted(call.definition())
        ))),
    }
}

fn accepted(definition: &ResourceDefinition) -> String {
    let mut types = vec![JSON_PATCH, MERGE_PATCH];
    if definition.strategic {
        types.push(STRATEGIC_PATCH);
    }
    types.join(", ")
}

fn object_patch(patch: Value) -> Result<Value> {
    if patch.is_object() {
        Ok(patch)
    } else {
        Err(ApiError::bad_request("the patch is not an object"))
    }
}

/// Reads, patches and replaces until nobody came between, or the patch pinned a version.
async fn change(call: &Call<'_>, patch: &Patch, options: &WriteOptions) -> Result<Written> {
    let mut attempt = 0;
    loop {
        attempt += 1;
        let current = target::read(call).await?;
        let mut object = current.clone();
        apply_patch(&mut object, patch, call)?;
        let pinned = check_result(&current, &mut object, call)?;
        match target::replace(call, object, options).await {
            Err(error) if again(&error) && !pinned && attempt < ATTEMPTS => {}
            outcome => return outcome,
        }
    }
}

/// Whether a write failed only because somebody else wrote first.
fn again(error: &ApiError) -> bool {
    error.reason == Reason::Conflict
}

fn apply_patch(object: &mut Value, patch: &Patch, call: &Call<'_>) -> Result<()> {
    match patch {
        Patch::Json => json_patch(object, &call.body),
        Patch::Merge(patch) | Patch::ApplyAsMerge(patch) => merge_patch(object, patch),
        Patch::Strategic(patch) => {
            let own = matches!(call.request.subresource.as_str(), "" | "status");
            let schema = call.definition().schema.as_deref().filter(|_| own);
            strategic_merge_patch(object, patch, schema.map(|schema| schema.root()))
        }
    }
}

/// What a patch may not change, and the version that the replacement is conditional on. Says
/// whether the patch set that version itself.
fn check_result(current: &Value, object: &mut Value, call: &Call<'_>) -> Result<bool> {
    if !object.is_object() || !object.get("metadata").is_some_and(Value::is_object) {
        return Err(ApiError::bad_request(
            "the patch leaves no object: metadata is gone",
        ));
    }
    for field in ["apiVersion", "kind"] {
        if object.get(field) != current.get(field) {
            return Err(ApiError::bad_request(format!(
                "a patch may not change the field {field}"
            )));
        }
    }
    input::check_placement(object, &call.request.namespace, call.name)?;
    let read = meta(current).resource_version().to_owned();
    let wanted = meta(object).resource_version();
    let pinned = !wanted.is_empty() && wanted != read;
    if wanted.is_empty() {
        object["metadata"]["resourceVersion"] = read.into();
    }
    Ok(pinned)
}

/// A forced merge: what is absent is created, what is there is merged.
async fn forced_merge(
    call: &Call<'_>,
    configuration: &Value,
    options: &WriteOptions,
) -> Result<Written> {
    let subresource = call.request.subresource.as_str();
    let mut configuration = configuration.clone();
    let gvk = input::kind_of(call.definition(), subresource);
    input::check_kind(&mut configuration, &gvk, true)?;
    input::check_placement(&mut configuration, &call.request.namespace, call.name)?;
    if let Some(metadata) = configuration["metadata"].as_object_mut() {
        metadata.remove("managedFields");
    }
    if let Some(fields) = configuration
        .as_object_mut()
        .filter(|_| subresource.is_empty())
    {
        fields.remove("status");
    }
    let merge = Patch::ApplyAsMerge(configuration.clone());
    let mut attempt = 0;
    loop {
        attempt += 1;
        match change(call, &merge, options).await {
            Err(error) if error.reason == Reason::NotFound && subresource.is_empty() => {}
            outcome => return outcome,
        }
        match call
            .store
            .create(&call.request, "", configuration.clone(), options)
            .await
        {
            Err(error) if error.reason == Reason::AlreadyExists && attempt < ATTEMPTS => {}
            outcome => return outcome,
        }
    }
}
