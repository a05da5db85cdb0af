//! Members that Kubernetes' encoder leaves out: empty lists and maps, and zero values of fields that
//! cannot tell zero from absent.
//!
//! Every object that a real server stores went through Go structures, so `tolerations: []`,
//! `hostNetwork: false` and `env: [{name: A, value: ""}]` come back shorter. Without the same here,
//! what is read from this server and from a member would differ for no reason. Whether a field can
//! tell zero from absent (a pointer) is a fact of Go types; the tables below hold the names for
//! which it is the same in every built-in type. Names that differ between types are left as they
//! are, except in the places that people write.

use serde_json::{Map, Value};
use tmc_apimachinery::schema::Node;

/// Deepest nesting looked at; defaulting is no place to run out of stack.
const MAX_DEPTH: usize = 64;

/// Text, number and boolean fields that are left out when empty, 0 or false. Sorted.
const PLAIN: &[&str] = &[
    "active",
    "audience",
    "authenticated",
    "certificateChainPath",
    "chapAuthDiscovery",
    "chapAuthSession",
    "clusterIP",
    "code",
    "completedIndexes",
    "component",
    "concurrencyPolicy",
    "containerID",
    "continue",
    "count",
    "credentialBundlePath",
    "currentReplicas",
    "currentRevision",
    "datasetName",
    "datasetUUID",
    "denied",
    "deprecated",
    "description",
    "directory",
    "dnsPolicy",
    "evaluationError",
    "externalID",
    "externalName",
    "externalTrafficPolicy",
    "failed",
    "failureThreshold",
    "field",
    "fieldsType",
    "format",
    "fullyLabeledReplicas",
    "generateName",
    "generation",
    "globalDefault",
    "health",
    "healthCheckNodePort",
    "host",
    "hostIP",
    "hostIPC",
    "hostNetwork",
    "hostPID",
    "hostPort",
    "imagePullPolicy",
    "imageRef",
    "initialDelaySeconds",
    "iscsiInterface",
    "keyPath",
    "keyType",
    "keyring",
    "level",
    "listKind",
    "loadBalancerIP",
    "manager",
    "medium",
    "minReadySeconds",
    "nodePort",
    "nominatedNodeName",
    "number",
    "numberAvailable",
    "numberUnavailable",
    "operation",
    "paused",
    "persistentVolumeReclaimPolicy",
    "phase",
    "podCIDR",
    "podIP",
    "podManagementPolicy",
    "pool",
    "prefix",
    "preserveUnknownFields",
    "priorityClassName",
    "protectionDomain",
    "providerID",
    "publishNotReadyAddresses",
    "pullPolicy",
    "qosClass",
    "rawSelector",
    "readyReplicas",
    "reference",
    "resize",
    "retryAfterSeconds",
    "role",
    "schedulerName",
    "scheme",
    "secretFile",
    "selfLink",
    "serviceAccount",
    "serviceAccountName",
    "sessionAffinity",
    "signal",
    "singular",
    "sizeBytes",
    "sslEnabled",
    "stdin",
    "stdinOnce",
    "storageMode",
    "storagePolicyID",
    "storagePolicyName",
    "storagePool",
    "subPath",
    "subPathExpr",
    "subdomain",
    "subresource",
    "succeeded",
    "successThreshold",
    "targetContainerName",
    "targetVolumeAttributesClassName",
    "tenant",
    "terminationMessagePath",
    "terminationMessagePolicy",
    "tty",
    "unavailableReplicas",
    "unschedulable",
    "updateRevision",
    "updatedNumberScheduled",
    "updatedReplicas",
    "user",
    "username",
    "verb",
    "version",
    "volumeNamespace",
    "whenDeleted",
    "whenScaled",
    "workingDir",
];

/// Fields that are so only in members (of lists or objects) of this name.
const PLAIN_IN: &[(&str, &str)] = &[
    ("env", "value"),
    ("taints", "value"),
    ("tolerations", "effect"),
    ("tolerations", "key"),
    ("tolerations", "operator"),
    ("tolerations", "value"),
    ("subjects", "apiGroup"),
    ("subjects", "namespace"),
    ("volumeMounts", "readOnly"),
    ("persistentVolumeClaim", "readOnly"),
    ("nfs", "readOnly"),
    ("ports", "name"),
    ("httpGet", "path"),
    ("spec", "nodeName"),
    ("spec", "volumeName"),
];

/// Lists that are written even when empty. Sorted.
const WRITTEN: &[&str] = &[
    "addresses",
    "audiences",
    "containers",
    "conversionReviewVersions",
    "currentMetrics",
    "endpoints",
    "limits",
    "monitors",
    "names",
    "nodeSelectorTerms",
    "nonResourceRules",
    "paths",
    "requestMappings",
    "resourceRules",
    "resources",
    "rules",
    "sources",
    "storedVersions",
    "values",
    "verbs",
    "versions",
];

/// Leaves out of an object what its encoder would.
pub(crate) fn omit(node: Node<'_>, object: &mut Value) {
    if let Some(members) = object.as_object_mut() {
        let slice = members
            .get("kind")
            .is_some_and(|kind| kind == "EndpointSlice");
        let ports = if slice { members.remove("ports") } else { None };
        walk(node, "", members, MAX_DEPTH);
        if let Some(ports) = ports {
            members.insert("ports".to_owned(), ports);
        }
    }
}

fn walk(node: Node<'_>, place: &str, members: &mut Map<String, Value>, depth: usize) {
    if depth == 0 || node.preserves_unknown_fields() {
        return;
    }
    let data = node.is_map();
    members.retain(|name, value| {
        let Some(child) = node.property(name) else {
            return true;
        };
        // The names in a map are data; what is below belongs to the map's own name.
        let below = if data { place } else { name };
        // Null is absence, also in a map that would be empty without it.
        if value.is_null() && !child.nullable() {
            return false;
        }
        match value {
            Value::Object(members) => walk(child, below, members, depth - 1),
            Value::Array(items) => {
                if let Some(node) = child.items() {
                    let objects = items.iter_mut().filter_map(Value::as_object_mut);
                    objects.for_each(|item| walk(node, below, item, depth - 1));
                }
            }
            _ => {}
        }
        data || !is_omitted(child, place, name, value)
    });
}

fn is_omitted(node: Node<'_>, place: &str, name: &str, value: &Value) -> bool {
    match value {
        Value::Array(items) => {
            items.is_empty() && node.items().is_some() && WRITTEN.binary_search(&name).is_err()
        }
        Value::Object(members) => {
            members.is_empty() && node.is_map() && !node.preserves_unknown_fields()
        }
        Value::String(text) => text.is_empty() && is_plain(place, name),
        Value::Bool(flag) => !flag && is_plain(place, name),
        Value::Number(number) => number.as_i64() == Some(0) && is_plain(place, name),
        Value::Null => false,
    }
}

fn is_plain(place: &str, name: &str) -> bool {
    PLAIN.binary_search(&name).is_ok() || PLAIN_IN.contains(&(place, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_are_sorted_since_they_are_searched_by_halves() {
        assert!(PLAIN.is_sorted() && WRITTEN.is_sorted());
    }
}
