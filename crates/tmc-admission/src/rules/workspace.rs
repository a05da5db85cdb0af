//! Workspace (types, section 9).

use serde_json::{Value, json};
use tmc_api::tenancy::WorkspaceSpec;
use tmc_apimachinery::meta::meta;
use tmc_apimachinery::status::Cause;

use crate::Writer;
use crate::fields::{self, present};

/// Longest name of a workspace type.
const MOST_TYPE_NAME: usize = 63;

/// Errors of a Workspace's name, a segment of a path; only new ones are asked.
pub(crate) fn validate_name(object: &Value) -> Vec<Cause> {
    fields::dns_label("metadata.name", meta(object).name())
}

/// Errors of a new or changed Workspace.
pub(crate) fn validate(writer: Writer, object: &Value, old: Option<&Value>) -> Vec<Cause> {
    let spec: WorkspaceSpec = match fields::read("spec", object.get("spec")) {
        Ok(spec) => spec,
        Err(causes) => return causes,
    };
    let mut causes = old
        .map(|old| changes(writer, object, old))
        .unwrap_or_default();
    if present(object, "/spec/mount").is_some() {
        let why = "mounts are not supported: remove the field";
        causes.push(Cause::forbidden("spec.mount", why));
    }
    if let Some(kind) = &spec.r#type {
        if !is_type_name(&kind.name) {
            let why = "must be the name of a workspace type: a lower-case letter, then at most 62 lower-case letters, digits or '-', no '-' at the end";
            causes.push(Cause::invalid("spec.type.name", &json!(kind.name), why));
        }
        if let Some(path) = &kind.path {
            causes.extend(fields::workspace_path("spec.type.path", path));
        }
    }
    let selector = present(object, "/spec/location/selector");
    causes.extend(fields::selector("spec.location.selector", selector));
    causes
}

fn changes(writer: Writer, object: &Value, old: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    for (field, once_set) in [("type", false), ("mount", false), ("cluster", true)] {
        let pointer = format!("/spec/{field}");
        let (new, before) = (present(object, &pointer), present(old, &pointer));
        let may_be_set = before.is_none() && (once_set || field == "type");
        if new != before && !(may_be_set && writer == Writer::Controller) {
            causes.push(fields::immutable(&format!("spec.{field}"), new));
        }
    }
    let (new, before) = (present(object, "/spec/URL"), present(old, "/spec/URL"));
    if before.is_some() && new.is_none() {
        causes.push(Cause::required("spec.URL", "cannot be unset"));
    } else if new != before && writer != Writer::Controller {
        causes.push(Cause::forbidden(
            "spec.URL",
            "is set by the hub: leave it as it is",
        ));
    }
    causes
}

/// `^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$`
fn is_type_name(name: &str) -> bool {
    let letter = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    name.len() <= MOST_TYPE_NAME
        && name.bytes().next().is_some_and(|b| b.is_ascii_lowercase())
        && name.bytes().last().is_some_and(letter)
        && name.bytes().all(|b| letter(b) || b == b'-')
}
