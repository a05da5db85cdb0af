//! What of an object of the hub is applied in the member.

use serde_json::{Value, json};
use sha2::{Digest, Sha224};
use tmc_api::drift::covers;
use tmc_api::{hashes, keys};
use tmc_apimachinery::meta::{meta, set_annotation, set_label};
use tmc_runtime::ClusterKey;

use crate::mapping::{Target, downstream_key};

/// Annotation on the member's object: `<upstream generation>.<hash of what was applied>`. Lets a
/// restarted agent see what is unchanged, and translate `observedGeneration`.
pub const APPLIED_ANNOTATION: &str = "internal.workload.kcp.io/applied";

const METADATA_NOT_APPLIED: [&str; 10] = [
    "uid",
    "resourceVersion",
    "generation",
    "managedFields",
    "ownerReferences",
    "finalizers",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "selfLink",
];

/// The object to apply, from its view.
pub fn desired(view: &Value, resource: &str, key: &ClusterKey, target: &Target) -> Value {
    let mut object = view.clone();
    if let Some(members) = object.as_object_mut() {
        members.remove("status");
    }
    let at = downstream_key(target, resource, key);
    if let Some(metadata) = object["metadata"].as_object_mut() {
        for member in METADATA_NOT_APPLIED {
            metadata.remove(member);
        }
        for map in ["labels", "annotations"] {
            if let Some(entries) = metadata.get_mut(map).and_then(Value::as_object_mut) {
                entries.retain(|name, _| !stays_on_the_hub(name));
            }
        }
        metadata.insert("name".into(), at.name.into());
        metadata.insert("namespace".into(), at.namespace.into());
    }
    set_label(&mut object, keys::DOWNSTREAM_CLUSTER_LABEL, &target.key());
    if resource == "services" {
        strip_service(&mut object);
    }
    let applied = applied_mark(&object, meta(view).generation());
    set_annotation(&mut object, APPLIED_ANNOTATION, &applied);
    object
}

/// Keys that are the hub's business: every reserved key, whichever target it is for.
fn stays_on_the_hub(name: &str) -> bool {
    keys::is_reserved(name) || name == "kubectl.kubernetes.io/last-applied-configuration"
}

/// Addresses and node ports are the member's to allocate.
fn strip_service(object: &mut Value) {
    let Some(spec) = object["spec"].as_object_mut() else {
        return;
    };
    let headless = spec.get("clusterIP") == Some(&json!("None"));
    if !headless {
        spec.remove("clusterIP");
        spec.remove("clusterIPs");
    }
}

fn applied_mark(object: &Value, generation: i64) -> String {
    let digest = Sha224::digest(object.to_string().as_bytes());
    format!("{generation}.{}", &hashes::base36(&digest)[..16])
}

/// The upstream generation that the member's object was applied from.
pub fn applied_generation(downstream: &Value) -> Option<i64> {
    meta(downstream)
        .annotation(APPLIED_ANNOTATION)?
        .split('.')
        .next()?
        .parse()
        .ok()
}

/// Whether the member's object is what it should be: made from exactly this, and nothing that was
/// applied has been changed since. Fields that the member added do not count.
pub fn is_applied(desired: &Value, downstream: &Value) -> bool {
    meta(desired).annotation(APPLIED_ANNOTATION) == meta(downstream).annotation(APPLIED_ANNOTATION)
        && covers(downstream, desired)
}

#[cfg(test)]
mod tests {
    use tmc_apimachinery::ClusterName;

    use super::*;

    fn target() -> Target {
        Target {
            cluster: ClusterName::new("root"),
            name: "one".into(),
            uid: "u1".into(),
        }
    }

    fn key() -> ClusterKey {
        ClusterKey {
            cluster: ClusterName::new("2abc"),
            namespace: "shop".into(),
            name: "web".into(),
        }
    }

    fn view() -> Value {
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {
                "name": "web", "namespace": "shop", "uid": "x", "resourceVersion": "9", "generation": 4,
                "finalizers": ["workload.kcp.io/syncer-k"],
                "labels": {"app": "web", "state.workload.kcp.io/other": "Sync"},
                "annotations": {"kcp.io/cluster": "2abc", "note": "kept"},
            },
            "spec": {"replicas": 2}, "status": {"replicas": 2},
        })
    }

    #[test]
    fn only_what_is_the_users_reaches_the_member() {
        let object = desired(&view(), "deployments", &key(), &target());
        assert_eq!(object.get("status"), None);
        let labels = meta(&object).labels();
        assert_eq!(labels.len(), 2, "{labels:?}");
        assert_eq!(labels["internal.workload.kcp.io/cluster"], target().key());
        assert_eq!(meta(&object).annotation("note"), Some("kept"));
        assert_eq!(meta(&object).annotation("kcp.io/cluster"), None);
        assert_eq!(
            (meta(&object).uid(), meta(&object).resource_version()),
            ("", "")
        );
        assert!(meta(&object).namespace().starts_with("kcp-"));
        assert_eq!(applied_generation(&object), Some(4));
    }

    #[test]
    fn what_the_member_adds_is_no_drift_but_a_changed_or_removed_field_is() {
        let object = desired(&view(), "deployments", &key(), &target());
        let mut found = object.clone();
        found["spec"]["paused"] = false.into();
        found["status"] = json!({"replicas": 1});
        assert!(is_applied(&object, &found));
        found["spec"]["replicas"] = 5.into();
        assert!(!is_applied(&object, &found));
        let mut removed = object.clone();
        removed["metadata"]["labels"] = json!({"internal.workload.kcp.io/cluster": target().key()});
        assert!(!is_applied(&object, &removed));
    }

    #[test]
    fn a_field_removed_on_the_hub_is_seen_although_the_rest_still_matches() {
        let mut before = view();
        before["metadata"]["labels"]["extra"] = "1".into();
        let found = desired(&before, "deployments", &key(), &target());
        assert!(!is_applied(
            &desired(&view(), "deployments", &key(), &target()),
            &found
        ));
    }

    #[test]
    fn a_quantity_in_canonical_form_is_the_same_quantity() {
        assert!(covers(&json!({"cpu": "1"}), &json!({"cpu": "1000m"})));
        assert!(!covers(&json!({"cpu": "1"}), &json!({"cpu": "2"})));
    }

    #[test]
    fn a_services_addresses_are_left_to_the_member_unless_it_is_headless() {
        let service = |ip: &str| json!({"metadata": {"name": "s"}, "spec": {"clusterIP": ip, "clusterIPs": [ip], "ports": []}});
        let normal = desired(&service("10.0.0.1"), "services", &key(), &target());
        assert_eq!(normal["spec"].get("clusterIP"), None);
        let headless = desired(&service("None"), "services", &key(), &target());
        assert_eq!(headless["spec"]["clusterIP"], "None");
    }
}
