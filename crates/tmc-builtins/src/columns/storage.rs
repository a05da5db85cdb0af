//! Columns of volumes, claims, storage classes and quotas.

use serde_json::Value;
use tmc_apimachinery::meta::meta;

use super::cells::{list, name_or_default, quantity, text, text_or};
use super::{AGE, Spec, string, wide};

const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";

const STORAGE_CLASS_OF: Spec = string("StorageClass", "StorageClass of the volume", |o, _| {
    class(o).into()
});
const ATTRIBUTES_CLASS: Spec = string(
    "VolumeAttributesClass",
    "VolumeAttributesClass of the volume",
    |o, _| {
        let class = o
            .pointer("/spec/volumeAttributesClassName")
            .and_then(Value::as_str);
        class.unwrap_or("<unset>").into()
    },
);
const PHASE: Spec = string("Status", "Phase of the object.", |o, _| {
    if meta(o).is_being_deleted() {
        "Terminating".into()
    } else {
        text(o, "/status/phase").into()
    }
});
const MODE: Spec = wide(
    "VolumeMode",
    "Whether the volume is a file system or a block device.",
    |o, _| text_or(o, "/spec/volumeMode", "<unset>").into(),
);

fn class(object: &Value) -> &str {
    meta(object)
        .annotation(CLASS_ANNOTATION)
        .unwrap_or(text(object, "/spec/storageClassName"))
}

/// Access modes in short, in the order of Kubernetes.
fn access_modes(modes: &[Value]) -> String {
    const SHORT: [(&str, &str); 4] = [
        ("ReadWriteOnce", "RWO"),
        ("ReadOnlyMany", "ROX"),
        ("ReadWriteMany", "RWX"),
        ("ReadWriteOncePod", "RWOP"),
    ];
    let found = SHORT
        .iter()
        .filter(|(mode, _)| modes.iter().any(|m| m == mode));
    found.map(|(_, short)| *short).collect::<Vec<_>>().join(",")
}

pub(super) const PERSISTENT_VOLUME: &[Spec] = &[
    string("Capacity", "Size of the volume.", |o, _| {
        quantity(o, "/spec/capacity/storage").into()
    }),
    string(
        "Access Modes",
        "Ways in which the volume can be mounted.",
        |o, _| access_modes(list(o, "/spec/accessModes")).into(),
    ),
    string(
        "Reclaim Policy",
        "What happens to the volume when its claim goes.",
        |o, _| text(o, "/spec/persistentVolumeReclaimPolicy").into(),
    ),
    PHASE,
    string(
        "Claim",
        "The claim that the volume is bound to.",
        |o, _| match o.pointer("/spec/claimRef").filter(|c| c.is_object()) {
            Some(claim) => format!("{}/{}", text(claim, "/namespace"), text(claim, "/name")).into(),
            None => "".into(),
        },
    ),
    STORAGE_CLASS_OF,
    ATTRIBUTES_CLASS,
    string("Reason", "Why the volume is in its state.", |o, _| {
        text(o, "/status/reason").into()
    }),
    AGE,
    MODE,
];

pub(super) const PERSISTENT_VOLUME_CLAIM: &[Spec] = &[
    PHASE,
    string("Volume", "The volume that backs the claim.", |o, _| {
        text(o, "/spec/volumeName").into()
    }),
    string("Capacity", "Size of the volume.", |o, _| {
        match text(o, "/spec/volumeName") {
            "" => "".into(),
            _ => quantity(o, "/status/capacity/storage").into(),
        }
    }),
    string(
        "Access Modes",
        "Ways in which the volume can be mounted.",
        |o, _| match text(o, "/spec/volumeName") {
            "" => "".into(),
            _ => access_modes(list(o, "/status/accessModes")).into(),
        },
    ),
    STORAGE_CLASS_OF,
    ATTRIBUTES_CLASS,
    AGE,
    MODE,
];

pub(super) const STORAGE_CLASS: &[Spec] = &[
    string("Name", "Name of the object.", |o, _| {
        name_or_default(
            o,
            &[
                "storageclass.kubernetes.io/is-default-class",
                "storageclass.beta.kubernetes.io/is-default-class",
            ],
        )
    }),
    string("Provisioner", "Who makes volumes of the class.", |o, _| {
        text(o, "/provisioner").into()
    }),
    string(
        "ReclaimPolicy",
        "What happens to a volume when its claim goes.",
        |o, _| text_or(o, "/reclaimPolicy", "Delete").into(),
    ),
    string(
        "VolumeBindingMode",
        "When volumes are made and bound.",
        |o, _| text_or(o, "/volumeBindingMode", "Immediate").into(),
    ),
    string(
        "AllowVolumeExpansion",
        "Whether volumes can grow.",
        |o, _| {
            o.get("allowVolumeExpansion")
                .and_then(Value::as_bool)
                .unwrap_or(false)
                .into()
        },
    ),
    AGE,
];

pub(super) const RESOURCE_QUOTA: &[Spec] = &[
    string(
        "Request",
        "Amounts used of what may be requested.",
        |o, _| used(o, false).into(),
    ),
    string(
        "Limit",
        "Amounts used of what limits may sum up to.",
        |o, _| used(o, true).into(),
    ),
    AGE,
];

fn used(quota: &Value, limits: bool) -> String {
    let hard = quota.pointer("/status/hard").and_then(Value::as_object);
    let mut names: Vec<&String> = hard
        .into_iter()
        .flatten()
        .map(|(name, _)| name)
        .filter(|name| name.starts_with("limits.") == limits)
        .collect();
    names.sort();
    let amount = |what: &str, name: &str| match &quota["status"][what][name] {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => "0".to_owned(),
    };
    let texts = names
        .into_iter()
        .map(|name| format!("{name}: {}/{}", amount("used", name), amount("hard", name)));
    texts.collect::<Vec<_>>().join(", ")
}
