//! Cluster (types, section 2.1).

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tmc_api::keys;
use tmc_api::workload::{
    ClusterSpec, DEFAULT_KUBECONFIG_KEY, KubeconfigSecretRef, SyncTargetTemplate,
};
use tmc_apimachinery::meta::{self, meta};
use tmc_apimachinery::status::Cause;

use super::parts;
use crate::fields;
use crate::{GuardConfig, Writer};

/// Names that would be taken for something else.
const FORBIDDEN_NAMES: [&str; 4] = ["kcp", "system", "default", "kube-system"];
/// Longest key of a Secret.
const MOST_SECRET_KEY: usize = 253;

/// Fills what a Cluster leaves out.
pub(crate) fn default(object: &mut Value) {
    let Some(spec) = object.get_mut("spec").filter(|s| s.is_object()) else {
        return;
    };
    if let Some(reference) = spec.get_mut("kubeconfigSecretRef") {
        fields::fill(reference, "key", || json!(DEFAULT_KUBECONFIG_KEY));
    }
    if let Some(template) = spec.get_mut("syncTargetTemplate") {
        parts::default_cells(template);
    }
}

/// Errors of a Cluster's name; only new ones are asked.
pub(crate) fn validate_name(object: &Value) -> Vec<Cause> {
    let name = meta(object).name();
    let mut causes = fields::dns_label("metadata.name", name);
    if FORBIDDEN_NAMES.contains(&name) {
        let list = FORBIDDEN_NAMES.join(", ");
        let why = format!("may not be any of {list}: choose another name");
        causes.push(Cause::invalid("metadata.name", &json!(name), why));
    }
    causes
}

/// Errors of a new or changed Cluster.
pub(crate) fn validate(
    writer: Writer,
    object: &Value,
    old: Option<&Value>,
    config: &GuardConfig,
) -> Vec<Cause> {
    if object
        .pointer("/spec/kubeconfigSecretRef")
        .is_none_or(Value::is_null)
    {
        let why = "name the Secret of this namespace that holds the kubeconfig";
        return vec![Cause::required("spec.kubeconfigSecretRef", why)];
    }
    let spec: ClusterSpec = match fields::read("spec", object.get("spec")) {
        Ok(spec) => spec,
        Err(causes) => return causes,
    };
    let before = old.and_then(|o| serde_json::from_value::<ClusterSpec>(o["spec"].clone()).ok());
    let mut causes = secret_ref(object, &spec.kubeconfig_secret_ref);
    if let Some(location) = &spec.location {
        causes.extend(meta::validate_label_value("spec.location", location));
    }
    causes.extend(fields::labels("spec.labels", &spec.labels));
    causes.extend(reserved_labels(&spec.labels));
    if let Some(template) = &spec.sync_target_template {
        let before = before
            .as_ref()
            .and_then(|b| b.sync_target_template.as_ref());
        causes.extend(template_causes(writer, template, before, config));
    }
    causes
}

fn secret_ref(object: &Value, reference: &KubeconfigSecretRef) -> Vec<Cause> {
    const FIELD: &str = "spec.kubeconfigSecretRef";
    let mut causes = fields::dns_subdomain(&format!("{FIELD}.name"), &reference.name);
    let key = &reference.key;
    let letter = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if key.is_empty() {
        causes.push(Cause::required(format!("{FIELD}.key"), "must not be empty"));
    } else if key.len() > MOST_SECRET_KEY || !key.bytes().all(letter) || key.starts_with("..") {
        let why = "must be a key of a Secret: alphanumeric characters, '-', '_' or '.'";
        causes.push(Cause::invalid(format!("{FIELD}.key"), &json!(key), why));
    }
    if let Some(namespace) = object.pointer(&format!("/{}/namespace", FIELD.replace('.', "/"))) {
        let why = format!("the Secret must be in the Cluster's own namespace: remove {namespace}");
        causes.push(Cause::forbidden(format!("{FIELD}.namespace"), why));
    }
    causes
}

fn reserved_labels(labels: &BTreeMap<String, String>) -> Vec<Cause> {
    let reserved = labels.keys().filter(|key| keys::is_reserved(key));
    reserved
        .map(|key| {
            let why = format!(
                "labels of the domain {} are reserved",
                keys::RESERVED_DOMAIN
            );
            Cause::forbidden(format!("spec.labels[{key}]"), why)
        })
        .collect()
}

fn template_causes(
    writer: Writer,
    template: &SyncTargetTemplate,
    before: Option<&SyncTargetTemplate>,
    config: &GuardConfig,
) -> Vec<Cause> {
    const FIELD: &str = "spec.syncTargetTemplate";
    let mut causes = parts::cells(&format!("{FIELD}.cells"), &template.cells);
    let taints = format!("{FIELD}.taints");
    causes.extend(parts::taints(&taints, &template.taints));
    if !writer.may_write_reserved_keys() {
        let same = before.map_or(&[][..], |b| &b.taints);
        causes.extend(parts::reserved_taints(&taints, &template.taints, same));
        for (i, cell) in template.cells.iter().enumerate() {
            let field = format!("{FIELD}.cells[{i}].taints");
            causes.extend(parts::reserved_taints(
                &field,
                &cell.taints,
                &cell_before(before, &cell.name),
            ));
        }
    }
    if let Some(syncer) = &template.syncer_config {
        let before = before.and_then(|b| b.syncer_config.as_ref());
        let ways = parts::Ways::new(config, true, before);
        causes.extend(parts::syncer(
            &format!("{FIELD}.syncerConfig"),
            syncer,
            ways,
        ));
    }
    let exports = format!("{FIELD}.supportedAPIExports");
    causes.extend(parts::exports(&exports, &template.supported_api_exports));
    causes
}

fn cell_before(before: Option<&SyncTargetTemplate>, name: &str) -> Vec<tmc_api::workload::Taint> {
    let cell = before.and_then(|b| b.cells.iter().find(|c| c.name == name));
    cell.map(|c| c.taints.clone()).unwrap_or_default()
}
