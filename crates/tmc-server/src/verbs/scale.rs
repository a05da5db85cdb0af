//! `/scale`: an `autoscaling/v1` Scale made of the main resource, and written back into it.

use serde_json::{Map, Value, json};
use tmc_apimachinery::definition::ScalePaths;
use tmc_apimachinery::meta::meta;
use tmc_apimachinery::options::WriteOptions;
use tmc_apimachinery::selector::LabelSelector;
use tmc_apimachinery::status::{ApiError, Cause, Result};

use super::Call;
use crate::resource::{Object, ResourceRequest, Written};

/// Times a Scale without `resourceVersion` is written again after a conflict.
const ATTEMPTS: usize = 5;

/// The Scale of the object that the call names.
pub(super) async fn read(call: &Call<'_>) -> Result<Value> {
    let object = call.store.get(&main(call), call.name).await?.value()?;
    Ok(to_scale(&object, paths(call)?))
}

/// Writes `spec.replicas` of a Scale into the object; its uid and resourceVersion are conditions.
pub(super) async fn replace(
    call: &Call<'_>,
    scale: &Value,
    options: &WriteOptions,
) -> Result<Written> {
    let paths = paths(call)?;
    let replicas = replicas(scale, call.name)?;
    let request = main(call);
    let pinned = !meta(scale).resource_version().is_empty();
    let mut attempt = 0;
    loop {
        attempt += 1;
        let mut object = call.store.get(&request, call.name).await?.value()?;
        set(&mut object, &paths.spec_replicas, replicas.into());
        for key in ["uid", "resourceVersion"] {
            let given = scale
                .pointer(&format!("/metadata/{key}"))
                .and_then(Value::as_str);
            if let Some(text) = given.filter(|text| !text.is_empty()) {
                set(&mut object, &format!("metadata.{key}"), text.into());
            }
        }
        match call
            .store
            .update(&request, call.name, object, options)
            .await
        {
            Ok(written) => {
                let object = written.object.value()?;
                let scale = Object::from_value(&to_scale(&object, paths));
                return Ok(Written {
                    object: scale,
                    created: false,
                    ..written
                });
            }
            Err(error) if error.code == 409 && !pinned && attempt < ATTEMPTS => {}
            Err(error) => return Err(error),
        }
    }
}

fn main(call: &Call<'_>) -> ResourceRequest {
    ResourceRequest {
        subresource: String::new(),
        ..call.request.clone()
    }
}

fn paths<'a>(call: &'a Call<'_>) -> Result<&'a ScalePaths> {
    call.definition()
        .subresources
        .scale
        .as_ref()
        .ok_or_else(ApiError::no_such_path)
}

/// `spec.replicas`; absent means 0, as the field's zero value is left out.
fn replicas(scale: &Value, name: &str) -> Result<i64> {
    let refuse = |value: &Value, why: &str| {
        let cause = Cause::invalid("spec.replicas", value, why);
        Err(ApiError::invalid("autoscaling", "Scale", name, vec![cause]))
    };
    let value = match scale.pointer("/spec/replicas") {
        None | Some(Value::Null) => return Ok(0),
        Some(value) => value,
    };
    match value.as_i64() {
        Some(number) if number < 0 => refuse(value, "must be greater than or equal to 0"),
        Some(number) if number <= i64::from(i32::MAX) => Ok(number),
        _ => refuse(value, "must be a 32-bit integer"),
    }
}

/// Makes the Scale of an object.
fn to_scale(object: &Value, paths: &ScalePaths) -> Value {
    let number = |path: &str| at(object, path).and_then(Value::as_i64).unwrap_or(0);
    let mut metadata = Map::new();
    for key in [
        "name",
        "namespace",
        "uid",
        "resourceVersion",
        "creationTimestamp",
    ] {
        if let Some(value) = object.pointer(&format!("/metadata/{key}")) {
            metadata.insert(key.into(), value.clone());
        }
    }
    let mut spec = Map::new();
    let wanted = number(&paths.spec_replicas);
    if wanted != 0 {
        spec.insert("replicas".into(), wanted.into());
    }
    let mut status = Map::new();
    status.insert("replicas".into(), number(&paths.status_replicas).into());
    let selector = paths.selector.as_deref().and_then(|path| at(object, path));
    if let Some(text) = selector
        .and_then(selector_text)
        .filter(|text| !text.is_empty())
    {
        status.insert("selector".into(), text.into());
    }
    json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1",
        "metadata": metadata, "spec": spec, "status": status,
    })
}

/// The string form of a selector, which built-in kinds hold as an object.
fn selector_text(selector: &Value) -> Option<String> {
    match selector {
        Value::String(text) => Some(text.clone()),
        Value::Object(_) => LabelSelector::from_object(selector)
            .ok()
            .map(|parsed| parsed.to_string()),
        _ => None,
    }
}

fn at<'a>(object: &'a Value, path: &str) -> Option<&'a Value> {
    steps(path).try_fold(object, |value, key| value.get(key))
}

fn set(object: &mut Value, path: &str, value: Value) {
    let mut place = object;
    for key in steps(path) {
        if !place.is_object() {
            *place = Value::Object(Map::new());
        }
        place = &mut place[key];
    }
    *place = value;
}

fn steps(path: &str) -> impl Iterator<Item = &str> {
    path.split('.').filter(|key| !key.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deployment_paths() -> ScalePaths {
        ScalePaths {
            spec_replicas: "spec.replicas".into(),
            status_replicas: ".status.replicas".into(),
            selector: Some("spec.selector".into()),
        }
    }

    #[test]
    fn a_scale_carries_counts_selector_and_identity() {
        let object = json!({
            "metadata": {"name": "web", "namespace": "ns", "uid": "u", "resourceVersion": "7", "labels": {"a": "b"}},
            "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "web"}}},
            "status": {"replicas": 2},
        });
        assert_eq!(
            to_scale(&object, &deployment_paths()),
            json!({
                "kind": "Scale", "apiVersion": "autoscaling/v1",
                "metadata": {"name": "web", "namespace": "ns", "uid": "u", "resourceVersion": "7"},
                "spec": {"replicas": 3},
                "status": {"replicas": 2, "selector": "app=web"},
            })
        );
    }

    #[test]
    fn a_custom_resource_gives_its_selector_as_text_and_zero_is_left_out() {
        let paths = ScalePaths {
            selector: Some(".status.selector".into()),
            ..deployment_paths()
        };
        let object = json!({"metadata": {"name": "x"}, "status": {"selector": "a=b"}});
        let scale = to_scale(&object, &paths);
        assert_eq!(scale["spec"], json!({}));
        assert_eq!(scale["status"], json!({"replicas": 0, "selector": "a=b"}));
    }

    #[test]
    fn replicas_must_be_a_small_count() {
        assert_eq!(replicas(&json!({"spec": {"replicas": 5}}), "x").unwrap(), 5);
        assert_eq!(replicas(&json!({}), "x").unwrap(), 0);
        for bad in [json!(-1), json!("3"), json!(1.5), json!(4_000_000_000u64)] {
            let error = replicas(&json!({"spec": {"replicas": bad}}), "web").unwrap_err();
            assert_eq!(error.code, 422);
            assert!(
                error
                    .message
                    .starts_with("Scale.autoscaling \"web\" is invalid: spec.replicas:")
            );
        }
    }

    #[test]
    fn a_path_that_is_not_there_is_made() {
        let mut object = json!({"metadata": {}});
        set(&mut object, ".spec.size.count", 4.into());
        assert_eq!(object["spec"]["size"]["count"], 4);
    }
}
