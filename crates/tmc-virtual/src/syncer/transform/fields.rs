//! The fields of an object that its targets may write, and their values.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use tmc_api::keys;
use tmc_api::report::{MAX_KEPT, MAX_SHOWN, bound};
use tmc_api::synced;
use tmc_apimachinery::meta::meta;
use tmc_apimachinery::status::{ApiError, Result};

/// A field that targets report, and whether a single target's value becomes the object's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Summarized {
    pub path: String,
    pub promote: bool,
}

/// The fields that targets may write, from the object's own annotation or the default.
pub(super) fn summarized(upstream: &Value) -> Result<Vec<Summarized>> {
    let Some(text) = meta(upstream).annotation(keys::SUMMARIZING_ANNOTATION) else {
        return Ok(vec![Summarized {
            path: "status".into(),
            promote: true,
        }]);
    };
    let bad = || {
        ApiError::internal(format!(
            "annotation {} is not a list of fieldPath and promoteToUpstream",
            keys::SUMMARIZING_ANNOTATION
        ))
    };
    let fields: Vec<Map<String, Value>> = serde_json::from_str(text).map_err(|_| bad())?;
    fields
        .into_iter()
        .map(|field| {
            // Decoded case-insensitively, as Go does.
            let lower: BTreeMap<String, Value> = field
                .into_iter()
                .map(|(key, value)| (key.to_lowercase(), value))
                .collect();
            let path = lower
                .get("fieldpath")
                .and_then(Value::as_str)
                .ok_or_else(bad)?;
            let promote = lower
                .get("promotetoupstream")
                .and_then(Value::as_bool)
                .unwrap_or(false);
            Ok(Summarized {
                path: path.to_owned(),
                promote,
            })
        })
        // An agent never writes metadata, whatever a user's annotation says: labels and annotations
        // are where the hub keeps who may see the object.
        .filter(|field| {
            let allowed = |f: &Summarized| {
                f.path == "status" || f.path.starts_with("status.") || f.path.starts_with("spec.")
            };
            field.as_ref().map_or(true, allowed)
        })
        .collect()
}

/// Whether the object's status comes from its targets.
pub(super) fn promotes_status(fields: &[Summarized]) -> bool {
    fields.iter().any(|f| f.path == "status" && f.promote)
}

impl Summarized {
    /// What a target reported in this field, within `room`. `None` for a part of the spec that does not
    /// fit: what is to run is never cut.
    pub(super) fn bounded(&self, upstream: &Value, value: Value, room: usize) -> Option<Value> {
        let mut kept = value;
        if !bound(&mut kept, room) {
            return Some(kept);
        }
        let is_spec = self.path.starts_with("spec.");
        let at = meta(upstream);
        tracing::info!(
            cluster = at.cluster(),
            namespace = at.namespace(),
            name = at.name(),
            field = self.path,
            left_out = is_spec,
            "a target reports more than there is room for"
        );
        (!is_spec).then_some(kept)
    }
}

/// Bytes for each field of a report that is shown as the object's own, or kept beside it. All fields
/// share the room of one report.
pub(super) fn room(fields: &[Summarized], shown: bool) -> usize {
    let all = if shown { MAX_SHOWN } else { MAX_KEPT };
    all / fields.len().max(1)
}

fn get_path<'a>(object: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(object, |at, part| at.get(part))
}

/// The value of a field as a target may say it: the condition `Synced` is the hub's.
pub(super) fn said(object: &Value, path: &str) -> Option<Value> {
    let value = get_path(object, path).cloned();
    if path == "status" {
        synced::without(value)
    } else {
        value
    }
}

pub(super) fn set_path(object: &mut Value, path: &str, value: Option<Value>) {
    let (parents, last) = path.rsplit_once('.').map_or(("", path), |(p, l)| (p, l));
    let mut at = object;
    for part in parents.split('.').filter(|p| !p.is_empty()) {
        if !at[part].is_object() {
            if value.is_none() {
                return;
            }
            at[part] = json!({});
        }
        at = &mut at[part];
    }
    match (at.as_object_mut(), value) {
        (Some(members), Some(value)) => {
            members.insert(last.to_owned(), value);
        }
        (Some(members), None) => {
            members.remove(last);
        }
        _ => {}
    }
}
