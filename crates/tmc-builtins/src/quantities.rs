//! Where built-in kinds hold quantities: written in canonical form by defaulting, as Kubernetes'
//! decoder and encoder do, and checked by validation.

use serde_json::Value;
use tmc_apimachinery::GroupVersionKind;
use tmc_apimachinery::quantity::Quantity;

use crate::report::{Field, Report};

const PATTERN: &str =
    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";

/// Patterns of places: names separated by dots, alternatives by `|`, `[]` for every item of a
/// list, `{}` for every value of a map. Amounts in maps are rounded up to thousandths.
const POD_SPEC: &[&str] = &[
    "containers|initContainers|ephemeralContainers[].resources.limits|requests{}",
    "containers|initContainers|ephemeralContainers[].env[].valueFrom.resourceFieldRef.divisor",
    "volumes[].emptyDir.sizeLimit",
    "volumes[].downwardAPI.items[].resourceFieldRef.divisor",
    "volumes[].projected.sources[].downwardAPI.items[].resourceFieldRef.divisor",
    "volumes[].ephemeral.volumeClaimTemplate.spec.resources.limits|requests{}",
    "resources.limits|requests{}",
    "overhead{}",
];

/// Where a kind has the spec of a pod.
fn pod_spec(kind: &str) -> Option<&'static str> {
    match kind {
        "Pod" => Some("spec"),
        "PodTemplate" => Some("template.spec"),
        "CronJob" => Some("spec.jobTemplate.spec.template.spec"),
        "Deployment"
        | "ReplicaSet"
        | "StatefulSet"
        | "DaemonSet"
        | "Job"
        | "ReplicationController" => Some("spec.template.spec"),
        _ => None,
    }
}

/// Further places of a kind.
fn places(kind: &str) -> &'static [&'static str] {
    match kind {
        "Pod" => &[
            "status.containerStatuses|initContainerStatuses[].resources.limits|requests{}",
            "status.containerStatuses|initContainerStatuses[].allocatedResources{}",
        ],
        "StatefulSet" => &["spec.volumeClaimTemplates[].spec.resources.limits|requests{}"],
        "PersistentVolumeClaim" => &[
            "spec.resources.limits|requests{}",
            "status.capacity|allocatedResources{}",
        ],
        "PersistentVolume" => &["spec.capacity{}"],
        "Node" => &["status.capacity|allocatable{}"],
        "ResourceQuota" => &["spec.hard{}", "status.hard|used{}"],
        "LimitRange" => &["spec.limits[].max|min|default|defaultRequest|maxLimitRequestRatio{}"],
        "HorizontalPodAutoscaler" => &[
            "spec.metrics[].resource|containerResource|pods|object|external.target.value|averageValue",
            "status.currentMetrics[].resource|containerResource|pods|object|external.current.value|averageValue",
        ],
        _ => &[],
    }
}

/// A place that is there: its JSON pointer, its path in errors, and whether it is in a map.
struct Place {
    pointer: String,
    field: Field,
    in_map: bool,
}

fn found(gvk: &GroupVersionKind, object: &Value) -> Vec<Place> {
    let mut found = Vec::new();
    let mut search = |prefix: &str, pattern: &str| {
        let path: Vec<&str> = prefix
            .split('.')
            .filter(|p| !p.is_empty())
            .chain(pattern.split('.'))
            .collect();
        let root = Place {
            pointer: String::new(),
            field: Field::new(""),
            in_map: false,
        };
        collect(object, &path, root, &mut found);
    };
    if let Some(prefix) = pod_spec(&gvk.kind) {
        POD_SPEC.iter().for_each(|pattern| search(prefix, pattern));
    }
    places(&gvk.kind)
        .iter()
        .for_each(|pattern| search("", pattern));
    found
}

fn collect(value: &Value, path: &[&str], at: Place, found: &mut Vec<Place>) {
    let Some((step, rest)) = path.split_first() else {
        if !value.is_null() {
            found.push(at);
        }
        return;
    };
    let (names, each_item) = step
        .strip_suffix("[]")
        .map_or((*step, false), |n| (n, true));
    let (names, each_value) = names
        .strip_suffix("{}")
        .map_or((names, false), |n| (n, true));
    for name in names.split('|') {
        let Some(member) = value.get(name) else {
            continue;
        };
        let pointer = format!("{}/{name}", at.pointer);
        let field = at.field.child(name);
        if each_item {
            for (index, item) in member.as_array().into_iter().flatten().enumerate() {
                let pointer = format!("{pointer}/{index}");
                let place = Place {
                    pointer,
                    field: field.index(index),
                    in_map: false,
                };
                collect(item, rest, place, found);
            }
        } else if each_value {
            for (key, item) in member.as_object().into_iter().flatten() {
                let escaped = key.replace('~', "~0").replace('/', "~1");
                let pointer = format!("{pointer}/{escaped}");
                let place = Place {
                    pointer,
                    field: field.key(key),
                    in_map: true,
                };
                collect(item, rest, place, found);
            }
        } else {
            collect(
                member,
                rest,
                Place {
                    pointer,
                    field,
                    in_map: false,
                },
                found,
            );
        }
    }
}

fn parse(value: &Value) -> Option<Quantity> {
    match value {
        Value::String(text) => Quantity::parse(text.trim()).ok(),
        Value::Number(number) => Quantity::parse(&number.to_string()).ok(),
        _ => None,
    }
}

/// Rounded away from zero, as Kubernetes does with amounts of resources.
fn in_thousandths(quantity: Quantity) -> Quantity {
    const MILLI: i128 = 1_000_000;
    let (nanos, rest) = (quantity.nanos(), quantity.nanos() % MILLI);
    match rest {
        0 => quantity,
        rest => {
            let up = nanos - rest + MILLI * rest.signum();
            Quantity::from_nanos(up, quantity.format())
        }
    }
}

/// Writes every quantity in canonical form (`1000m` as `1`, the number `0.5` as `500m`); what is no
/// quantity stays, for validation to report.
pub(crate) fn canonicalize(gvk: &GroupVersionKind, object: &mut Value) {
    for place in found(gvk, object) {
        let Some(value) = object.pointer_mut(&place.pointer) else {
            continue;
        };
        let Some(quantity) = parse(value) else {
            continue;
        };
        let quantity = if place.in_map {
            in_thousandths(quantity)
        } else {
            quantity
        };
        let canonical = quantity.to_string();
        if *value != canonical.as_str() {
            *value = canonical.into();
        }
    }
}

/// Reports what stands in the place of a quantity and is none.
pub(crate) fn check(gvk: &GroupVersionKind, object: &Value, report: &mut Report) {
    for place in found(gvk, object) {
        match object.pointer(&place.pointer) {
            Some(value) if parse(value).is_none() => {
                report.invalid(&place.field, value.clone(), PATTERN);
            }
            _ => {}
        }
    }
}
