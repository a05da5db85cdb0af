//! SyncTarget (types, section 1.1).

use serde_json::{Value, json};
use tmc_api::hashes;
use tmc_api::keys;
use tmc_api::workload::{
    DEFAULT_HEARTBEAT_INTERVAL, DEFAULT_RESYNC_PERIOD, EvictionStrategy, PodSecurity,
    SyncTargetSpec, SyncerMode, Taint,
};
use tmc_apimachinery::meta::meta;
use tmc_apimachinery::status::Cause;

use super::{parts, quota};
use crate::fields::{self, fill, present};
use crate::{GuardConfig, Writer};

/// Fills what a SyncTarget leaves out.
pub(crate) fn default(object: &mut Value, config: &GuardConfig) {
    let (name, uid) = (
        meta(object).name().to_owned(),
        meta(object).uid().to_owned(),
    );
    let has_cluster = present(object, "/spec/clusterRef").is_some();
    let Some(spec) = fields::child(object, "spec") else {
        return;
    };
    parts::default_cells(spec);
    fill(spec, "unschedulable", || json!(false));
    fill(spec, "podSecurity", || json!(PodSecurity::default()));
    fill(spec, "evictionStrategy", || {
        json!(EvictionStrategy::default())
    });
    let Some(syncer) = fields::child(spec, "syncerConfig") else {
        return;
    };
    let mode = if has_cluster {
        SyncerMode::Hosted
    } else {
        SyncerMode::External
    };
    fill(syncer, "mode", || json!(mode));
    fill(syncer, "replicas", || json!(1));
    fill(syncer, "resyncPeriod", || json!(DEFAULT_RESYNC_PERIOD));
    fill(syncer, "heartbeatInterval", || {
        json!(DEFAULT_HEARTBEAT_INTERVAL)
    });
    if let Some(image) = &config.syncer_image {
        fill(syncer, "image", || json!(image));
    }
    // Without a uid (a webhook before the server gave one) readers derive the same name later.
    if !name.is_empty() && !uid.is_empty() {
        fill(syncer, "downstreamNamespace", || {
            json!(hashes::agent_namespace(&name, &uid))
        });
    }
}

/// Puts back taints of the hub that an update by a user leaves out, as for reserved keys.
pub(crate) fn keep_hub_taints(writer: Writer, object: &mut Value, old: Option<&Value>) {
    if writer.may_write_reserved_keys() {
        return;
    }
    let hub_set = |taint: &&Value| {
        taint
            .get("key")
            .and_then(Value::as_str)
            .is_some_and(keys::is_reserved)
    };
    let before = old
        .and_then(|o| o.pointer("/spec/taints"))
        .and_then(Value::as_array);
    let kept: Vec<Value> = before
        .into_iter()
        .flatten()
        .filter(hub_set)
        .cloned()
        .collect();
    if kept.is_empty() {
        return;
    }
    let Some(spec) = fields::child(object, "spec") else {
        return;
    };
    fill(spec, "taints", || json!([]));
    let Some(taints) = spec.get_mut("taints").and_then(Value::as_array_mut) else {
        return;
    };
    for taint in kept {
        let same =
            |t: &Value| t.get("key") == taint.get("key") && t.get("effect") == taint.get("effect");
        if !taints.iter().any(same) {
            taints.push(taint);
        }
    }
}

/// Errors of a new or changed SyncTarget.
pub(crate) fn validate(
    writer: Writer,
    object: &Value,
    old: Option<&Value>,
    config: &GuardConfig,
) -> Vec<Cause> {
    let spec: SyncTargetSpec = match fields::read("spec", object.get("spec")) {
        Ok(spec) => spec,
        Err(causes) => return causes,
    };
    let before = old.and_then(|o| serde_json::from_value::<SyncTargetSpec>(o["spec"].clone()).ok());
    let mut causes = cluster_ref(object, old);
    causes.extend(parts::cells("spec.cells", &spec.cells));
    causes.extend(parts::taints("spec.taints", &spec.taints));
    if !writer.may_write_reserved_keys() {
        causes.extend(hub_taints(&spec, before.as_ref()));
    }
    if let Some(syncer) = &spec.syncer_config {
        let before = before.as_ref().and_then(|b| b.syncer_config.as_ref());
        let ways = parts::Ways::new(config, spec.cluster_ref.is_some(), before);
        causes.extend(parts::syncer("spec.syncerConfig", syncer, ways));
    }
    causes.extend(parts::exports(
        "spec.supportedAPIExports",
        &spec.supported_api_exports,
    ));
    for (i, each) in spec.resource_quotas.iter().enumerate() {
        causes.extend(quota::quota(&format!("spec.resourceQuotas[{i}]"), each));
    }
    causes
}

fn hub_taints(spec: &SyncTargetSpec, before: Option<&SyncTargetSpec>) -> Vec<Cause> {
    let none: &[Taint] = &[];
    let mut causes = parts::reserved_taints(
        "spec.taints",
        &spec.taints,
        before.map_or(none, |b| &b.taints),
    );
    for (i, cell) in spec.cells.iter().enumerate() {
        let same = before.and_then(|b| b.cells.iter().find(|c| c.name == cell.name));
        let field = format!("spec.cells[{i}].taints");
        let before = same.map_or(none, |c| &c.taints);
        causes.extend(parts::reserved_taints(&field, &cell.taints, before));
    }
    causes
}

fn cluster_ref(object: &Value, old: Option<&Value>) -> Vec<Cause> {
    let new = present(object, "/spec/clusterRef");
    if let Some(before) = old.and_then(|o| present(o, "/spec/clusterRef")) {
        if new != Some(before) {
            return vec![fields::immutable("spec.clusterRef", new)];
        }
        return Vec::new();
    }
    let Some(new) = new else { return Vec::new() };
    let part = |name: &str| new.get(name).and_then(Value::as_str).unwrap_or_default();
    let mut causes = fields::dns_subdomain("spec.clusterRef.name", part("name"));
    causes.extend(fields::dns_label(
        "spec.clusterRef.namespace",
        part("namespace"),
    ));
    causes
}
