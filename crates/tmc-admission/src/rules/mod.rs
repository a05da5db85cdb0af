//! The rules, one file a kind or concern; each a function of values.

pub(crate) mod cluster;
pub(crate) mod location;
mod parts;
pub(crate) mod placement;
mod quota;
pub(crate) mod reserved;
pub(crate) mod synctarget;
pub(crate) mod system_kinds;
pub(crate) mod workspace;

use serde_json::{Value, json};
use tmc_apimachinery::GroupVersionKind;
use tmc_apimachinery::status::Cause;

use crate::fields;

/// The kinds that have rules of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    SyncTarget,
    Cluster,
    Location,
    Placement,
    Workspace,
    Other,
}

impl Kind {
    /// By group and kind; the version does not matter.
    pub(crate) fn of(gvk: &GroupVersionKind) -> Self {
        match (gvk.group.as_str(), gvk.kind.as_str()) {
            (tmc_api::workload::GROUP, "SyncTarget") => Self::SyncTarget,
            (tmc_api::workload::GROUP, "Cluster") => Self::Cluster,
            (tmc_api::scheduling::GROUP, "Location") => Self::Location,
            (tmc_api::scheduling::GROUP, "Placement") => Self::Placement,
            (tmc_api::tenancy::GROUP, "Workspace") => Self::Workspace,
            _ => Self::Other,
        }
    }
}

/// The resource of a Location or Placement must be SyncTargets.
fn synctargets_only(field: &str, value: Option<&Value>) -> Vec<Cause> {
    let wanted = json!(tmc_api::scheduling::ResourceRef::default());
    let mut causes = Vec::new();
    for part in ["group", "version", "resource"] {
        let given = value.and_then(|v| v.get(part)).unwrap_or(&Value::Null);
        if *given != wanted[part] {
            let only = wanted[part].as_str().unwrap_or_default();
            causes.push(Cause::not_supported(
                format!("{field}.{part}"),
                given,
                &[only],
            ));
        }
    }
    causes
}

/// Fills the resource of a Location or Placement where it is left out.
fn default_resource(spec: &mut Value, field: &str) {
    fields::fill(spec, field, || {
        json!(tmc_api::scheduling::ResourceRef::default())
    });
}

/// Whether a write may change what the rules of its kind look at: a new object or another spec.
/// What was valid once stays writable in its metadata (finalizers!) when rules tighten.
pub(crate) fn spec_changed(new: &Value, old: Option<&Value>) -> bool {
    old.is_none_or(|old| old.get("spec") != new.get("spec"))
}
