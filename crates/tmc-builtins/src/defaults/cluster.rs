//! Namespaces, nodes, secrets, storage, quotas, RBAC, priorities and custom resource definitions.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::{Object, each, made, member, set, set_list, set_text, text};

const RBAC_GROUP: &str = "rbac.authorization.k8s.io";

pub(super) fn namespace(object: &mut Object) {
    let name = object
        .get("metadata")
        .and_then(|m| m["name"].as_str())
        .unwrap_or("")
        .to_owned();
    if !name.is_empty()
        && let Some(metadata) = made(object, "metadata")
        && let Some(labels) = made(metadata, "labels")
    {
        labels.insert("kubernetes.io/metadata.name".into(), name.into());
    }
    // The finalizer of the spec is part of creation, not of defaulting: an update that empties the
    // list must not find it filled again.
    made(object, "spec");
    if let Some(status) = made(object, "status") {
        set_text(status, "phase", "Active");
    }
}

pub(super) fn node(object: &mut Object) {
    made(object, "spec");
    let Some(status) = made(object, "status") else {
        return;
    };
    if let Some(capacity) = status.get("capacity").filter(|c| c.is_object()).cloned() {
        set(status, "allocatable", capacity);
    }
    if let Some(endpoints) = made(status, "daemonEndpoints")
        && let Some(kubelet) = made(endpoints, "kubeletEndpoint")
    {
        set(kubelet, "Port", 0);
    }
    if let Some(info) = made(status, "nodeInfo") {
        for text in [
            "architecture",
            "bootID",
            "containerRuntimeVersion",
            "kernelVersion",
            "kubeProxyVersion",
            "kubeletVersion",
            "machineID",
            "operatingSystem",
            "osImage",
            "systemUUID",
        ] {
            set(info, text, "");
        }
    }
}

/// `stringData` is a way to write `data`; it is never stored.
pub(super) fn secret(object: &mut Object) {
    set_text(object, "type", "Opaque");
    let all_text = |map: &Object| map.values().all(Value::is_string);
    match object.get("stringData") {
        Some(Value::Object(given)) if all_text(given) => {}
        Some(Value::Null) => {
            object.remove("stringData");
            return;
        }
        _ => return,
    }
    let Some(Value::Object(given)) = object.remove("stringData") else {
        return;
    };
    if given.is_empty() {
        return;
    }
    let Some(data) = made(object, "data") else {
        return;
    };
    for (key, value) in given {
        let encoded = STANDARD.encode(value.as_str().unwrap_or_default());
        data.insert(key, encoded.into());
    }
}

pub(super) fn persistent_volume(object: &mut Object) {
    if let Some(spec) = made(object, "spec") {
        set_text(spec, "persistentVolumeReclaimPolicy", "Retain");
        set(spec, "volumeMode", "Filesystem");
        if let Some(path) = member(spec, "hostPath") {
            set(path, "type", "");
        }
        volume_source(spec);
    }
    if let Some(status) = made(object, "status") {
        set_text(status, "phase", "Pending");
    }
}

pub(super) fn persistent_volume_claim(object: &mut Object) {
    if let Some(spec) = made(object, "spec") {
        claim_spec(spec);
    }
    if let Some(status) = made(object, "status") {
        set_text(status, "phase", "Pending");
    }
}

pub(super) fn claim_spec(spec: &mut Object) {
    set(spec, "volumeMode", "Filesystem");
    made(spec, "resources");
}

/// Sources that volumes and persistent volumes have in common.
pub(super) fn volume_source(volume: &mut Object) {
    let texts: [(&str, &[(&str, &str)]); 3] = [
        ("iscsi", &[("iscsiInterface", "default")]),
        (
            "rbd",
            &[
                ("pool", "rbd"),
                ("user", "admin"),
                ("keyring", "/etc/ceph/keyring"),
            ],
        ),
        (
            "scaleIO",
            &[("storageMode", "ThinProvisioned"), ("fsType", "xfs")],
        ),
    ];
    for (source, defaults) in texts {
        if let Some(source) = member(volume, source) {
            defaults
                .iter()
                .for_each(|(key, value)| set_text(source, key, value));
        }
    }
    if let Some(disk) = member(volume, "azureDisk") {
        set(disk, "cachingMode", "ReadWrite");
        set(disk, "kind", "Shared");
        set(disk, "fsType", "ext4");
        set(disk, "readOnly", false);
    }
}

pub(super) fn resource_quota(object: &mut Object) {
    made(object, "spec");
    made(object, "status");
}

/// For containers: the maximum is the default limit, the default limit the default request, else
/// the minimum is.
pub(super) fn limit_range(object: &mut Object) {
    let Some(spec) = made(object, "spec") else {
        return;
    };
    each(spec, "limits", |item| {
        if text(item, "type") != "Container" {
            return;
        }
        for (from, to) in [
            ("max", "default"),
            ("default", "defaultRequest"),
            ("min", "defaultRequest"),
        ] {
            let amounts = item
                .get(from)
                .and_then(Value::as_object)
                .cloned()
                .unwrap_or_default();
            if amounts.is_empty() {
                continue;
            }
            let Some(target) = made(item, to) else { return };
            for (name, quantity) in amounts {
                target.entry(name).or_insert(quantity);
            }
        }
    });
}

pub(super) fn rbac(kind: &str, object: &mut Object) {
    if !matches!(kind, "RoleBinding" | "ClusterRoleBinding") {
        return;
    }
    if let Some(role) = member(object, "roleRef") {
        set_text(role, "apiGroup", RBAC_GROUP);
    }
    each(object, "subjects", |subject| match text(subject, "kind") {
        "User" | "Group" => set_text(subject, "apiGroup", RBAC_GROUP),
        _ => {}
    });
}

pub(super) fn storage(kind: &str, object: &mut Object) {
    if kind == "StorageClass" {
        set(object, "reclaimPolicy", "Delete");
        set(object, "volumeBindingMode", "Immediate");
    }
}

pub(super) fn scheduling(kind: &str, object: &mut Object) {
    if kind == "PriorityClass" {
        set(object, "preemptionPolicy", "PreemptLowerPriority");
        set(object, "value", 0);
    }
}

pub(super) fn apiextensions(kind: &str, object: &mut Object) {
    if kind != "CustomResourceDefinition" {
        return;
    }
    let Some(spec) = made(object, "spec") else {
        return;
    };
    if let Some(names) = member(spec, "names") {
        let kind = text(names, "kind").to_owned();
        if !kind.is_empty() {
            set_text(names, "singular", &kind.to_lowercase());
            set_text(names, "listKind", &format!("{kind}List"));
        }
    }
    if let Some(conversion) = made(spec, "conversion") {
        if conversion.is_empty() {
            conversion.insert("strategy".into(), "None".into());
        }
        let service = member(conversion, "webhook")
            .and_then(|webhook| member(webhook, "clientConfig"))
            .and_then(|config| member(config, "service"));
        if let Some(service) = service {
            set(service, "port", 443);
        }
    }
    if spec.get("preserveUnknownFields") == Some(&Value::Bool(false)) {
        spec.remove("preserveUnknownFields");
    }
    let stored: Vec<Value> = spec
        .get("versions")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter(|version| version["storage"] == true)
        .map(|version| version["name"].clone())
        .take(1)
        .collect();
    if let Some(status) = object.get_mut("status").and_then(Value::as_object_mut)
        && !stored.is_empty()
    {
        set_list(status, "storedVersions", || json!(stored));
    }
}
