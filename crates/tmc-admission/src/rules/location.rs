//! Location (types, section 3).

use serde_json::{Value, json};
use tmc_api::scheduling::LocationSpec;
use tmc_apimachinery::meta;
use tmc_apimachinery::status::Cause;

use crate::fields::{self, present};

/// Fills what a Location leaves out.
pub(crate) fn default(object: &mut Value) {
    if let Some(spec) = fields::child(object, "spec") {
        super::default_resource(spec, "resource");
    }
}

/// Errors of a new or changed Location.
pub(crate) fn validate(object: &Value) -> Vec<Cause> {
    let spec: LocationSpec = match fields::read("spec", object.get("spec")) {
        Ok(spec) => spec,
        Err(causes) => return causes,
    };
    let mut causes = super::synctargets_only("spec.resource", present(object, "/spec/resource"));
    let selector = present(object, "/spec/instanceSelector");
    causes.extend(fields::selector("spec.instanceSelector", selector));
    for (i, label) in spec.available_selector_labels.iter().enumerate() {
        let at = format!("spec.availableSelectorLabels[{i}]");
        causes.extend(meta::validate_qualified_name(
            &format!("{at}.key"),
            &label.key,
        ));
        if label.values.is_empty() {
            causes.push(Cause::required(
                format!("{at}.values"),
                "must hold at least one value",
            ));
        }
        for (j, value) in label.values.iter().enumerate() {
            causes.extend(meta::validate_label_value(
                &format!("{at}.values[{j}]"),
                value,
            ));
        }
    }
    let keys = spec
        .available_selector_labels
        .iter()
        .map(|label| &label.key);
    let at = |i: usize| format!("spec.availableSelectorLabels[{i}].key");
    causes.extend(fields::duplicates(keys, at, |key| json!(key)));
    causes
}
