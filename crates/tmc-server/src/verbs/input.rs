//! Objects in request bodies: decoded, of the kind that the path wants, named as the path says.

use serde_json::{Map, Value};
use tmc_apimachinery::definition::ResourceDefinition;
use tmc_apimachinery::meta::meta;
use tmc_apimachinery::names::GroupVersionKind;
use tmc_apimachinery::options::FieldValidation;
use tmc_apimachinery::schema::duplicate_fields;
use tmc_apimachinery::status::{ApiError, Result};

use super::Call;
use crate::content::{BodyFormat, body_format, decode};

/// The kind that a request to a resource, or to a part of it, carries.
pub(super) fn kind_of(definition: &ResourceDefinition, subresource: &str) -> GroupVersionKind {
    match subresource {
        "scale" => GroupVersionKind::new("autoscaling", "v1", "Scale"),
        other => match definition.subresources.other.get(other) {
            Some((gvk, _)) => gvk.clone(),
            None => definition.gvk.clone(),
        },
    }
}

/// Decodes and checks the object in the body; the texts are warnings about duplicate fields.
///
/// # Errors
/// 415 for another format; 400 for what cannot be read, is of another kind or version, or names
/// another object or namespace than the path.
pub(super) fn object(call: &Call<'_>, validation: FieldValidation) -> Result<(Value, Vec<String>)> {
    let format = body_format(call.headers)?;
    let mut object = decode(&call.body, format)?;
    let gvk = kind_of(call.definition(), &call.request.subresource);
    check_kind(&mut object, &gvk, call.definition().custom)?;
    let warnings = duplicates(&call.body, format, validation, &gvk)?;
    // What is posted to a part of an object (a TokenRequest) need not repeat the object's name.
    let unnamed = call.info.verb == "create" && meta(&object).name().is_empty();
    let name = if unnamed { "" } else { call.name };
    check_placement(&mut object, &call.request.namespace, name)?;
    Ok((object, warnings))
}

/// Duplicate fields of a JSON body (YAML with duplicate keys does not decode at all).
///
/// # Errors
/// 400 naming them when validation is strict.
pub(super) fn duplicates(
    body: &[u8],
    format: BodyFormat,
    validation: FieldValidation,
    gvk: &GroupVersionKind,
) -> Result<Vec<String>> {
    if validation == FieldValidation::Ignore || format != BodyFormat::Json {
        return Ok(Vec::new());
    }
    let found: Vec<String> = duplicate_fields(body)
        .into_iter()
        .map(|field| format!("duplicate field \"{field}\""))
        .collect();
    if validation == FieldValidation::Strict && !found.is_empty() {
        let (kind, version) = (&gvk.kind, gvk.group_version());
        return Err(ApiError::bad_request(format!(
            "{kind} in version \"{version}\" cannot be handled as a {kind}: strict decoding error: {}",
            found.join(", ")
        )));
    }
    Ok(found)
}

/// Checks `apiVersion` and `kind`, and fills them in where they may be left out: the path says them.
pub(super) fn check_kind(object: &mut Value, gvk: &GroupVersionKind, required: bool) -> Result<()> {
    let unrecognized = |why: &str| {
        let text = format!(
            "the object provided is unrecognized (must be of type {}): {why}",
            gvk.kind
        );
        Err(ApiError::bad_request(text))
    };
    let Some(fields) = object.as_object_mut() else {
        return unrecognized("the body is not an object");
    };
    if fields
        .get("metadata")
        .is_some_and(|metadata| !metadata.is_object() && !metadata.is_null())
    {
        return unrecognized("metadata is not an object");
    }
    if fields.get("metadata").is_some_and(Value::is_null) {
        fields.remove("metadata");
    }
    let expected = gvk.group_version().to_string();
    let api_version = text_field(fields, "apiVersion")?;
    let kind = text_field(fields, "kind")?;
    if required && kind.is_empty() {
        return unrecognized("Object 'Kind' is missing: set the field kind");
    }
    if required && api_version.is_empty() {
        return unrecognized("Object 'apiVersion' is missing: set the field apiVersion");
    }
    if !api_version.is_empty() && api_version != expected {
        return Err(ApiError::bad_request(format!(
            "the API version in the data ({api_version}) does not match the expected API version \
             ({expected})"
        )));
    }
    if !kind.is_empty() && kind != gvk.kind {
        return unrecognized(&format!("its kind is {kind}"));
    }
    fields.insert("apiVersion".into(), expected.into());
    fields.insert("kind".into(), gvk.kind.as_str().into());
    Ok(())
}

fn text_field(fields: &Map<String, Value>, key: &str) -> Result<String> {
    match fields.get(key) {
        None | Some(Value::Null) => Ok(String::new()),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(_) => Err(ApiError::bad_request(format!(
            "the field {key} is not a string"
        ))),
    }
}

/// Checks namespace and name against the path's; an absent namespace is filled in. `name` is empty
/// for a create, where the object names itself.
pub(super) fn check_placement(object: &mut Value, namespace: &str, name: &str) -> Result<()> {
    for key in ["name", "namespace", "generateName"] {
        if object
            .pointer(&format!("/metadata/{key}"))
            .is_some_and(|v| !v.is_string() && !v.is_null())
        {
            return Err(ApiError::bad_request(format!(
                "the field metadata.{key} is not a string"
            )));
        }
    }
    let found = meta(object);
    if !name.is_empty() && found.name() != name {
        return Err(ApiError::bad_request(format!(
            "the name of the object ({}) does not match the name on the URL ({name})",
            found.name()
        )));
    }
    let own = found.namespace();
    if own == namespace {
        return Ok(());
    }
    if !own.is_empty() && !namespace.is_empty() {
        return Err(ApiError::bad_request(format!(
            "the namespace of the provided object does not match the namespace sent on the request: \
             the object says {own}, the URL {namespace}"
        )));
    }
    set_namespace(object, namespace);
    Ok(())
}

/// Sets the namespace; an empty one is no field at all.
fn set_namespace(object: &mut Value, namespace: &str) {
    let Some(fields) = object.as_object_mut() else {
        return;
    };
    let metadata = fields
        .entry("metadata")
        .or_insert_with(|| Value::Object(Map::new()));
    let Some(metadata) = metadata.as_object_mut() else {
        return;
    };
    if namespace.is_empty() {
        metadata.remove("namespace");
    } else {
        metadata.insert("namespace".into(), namespace.into());
    }
}
