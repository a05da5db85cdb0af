//! The SyncTarget that a Cluster leads to.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tmc_api::hashes::derived_sync_target;
use tmc_api::keys::OWNER_CLUSTER_ANNOTATION;
use tmc_api::workload::{self, Cluster, ClusterRef, SyncTarget, SyncTargetSpec};

/// Annotation of a derived SyncTarget: the label keys that its Cluster set, as a comma list. Only
/// these are ever removed.
const LABELS_ANNOTATION: &str = "tmc.kcp.io/cluster-labels";
/// Label that a Cluster's `spec.location` becomes.
const LOCATION_LABEL: &str = "location";

/// Name of the derived SyncTarget: unique for namespace and name.
pub fn name(cluster: &Cluster) -> String {
    let name = cluster.metadata.name.as_deref().unwrap_or_default();
    let namespace = cluster.metadata.namespace.as_deref().unwrap_or_default();
    derived_sync_target(namespace, name)
}

/// Whether a SyncTarget was derived from exactly this Cluster.
pub fn is_owned(target: &SyncTarget, cluster: &Cluster) -> bool {
    let owner = target
        .metadata
        .annotations
        .as_ref()
        .and_then(|a| a.get(OWNER_CLUSTER_ANNOTATION));
    owner.is_some_and(|owner| *owner == cluster.owner_annotation())
}

fn labels(cluster: &Cluster) -> BTreeMap<String, String> {
    let mut labels = cluster.spec.labels.clone();
    if let Some(location) = cluster
        .spec
        .location
        .clone()
        .filter(|location| !location.is_empty())
    {
        labels.insert(LOCATION_LABEL.into(), location);
    }
    labels
}

fn key_list(labels: &BTreeMap<String, String>) -> String {
    labels
        .keys()
        .map(String::as_str)
        .collect::<Vec<_>>()
        .join(",")
}

/// The SyncTarget to make.
pub fn new(cluster: &Cluster) -> Value {
    let template = cluster
        .spec
        .sync_target_template
        .clone()
        .unwrap_or_default();
    let spec = SyncTargetSpec {
        cluster_ref: Some(ClusterRef {
            name: cluster.metadata.name.clone().unwrap_or_default(),
            namespace: cluster.metadata.namespace.clone().unwrap_or_default(),
        }),
        syncer_config: template.syncer_config,
        cells: template.cells,
        taints: template.taints,
        supported_api_exports: template.supported_api_exports,
        unschedulable: template.unschedulable,
        pod_security: template.pod_security.unwrap_or_default(),
        ..SyncTargetSpec::default()
    };
    let labels = labels(cluster);
    json!({
        "apiVersion": format!("{}/{}", workload::GROUP, workload::VERSION),
        "kind": "SyncTarget",
        "metadata": {
            "name": name(cluster),
            "annotations": {
                OWNER_CLUSTER_ANNOTATION: cluster.owner_annotation(),
                LABELS_ANNOTATION: key_list(&labels),
            },
            "labels": labels,
        },
        "spec": spec,
    })
}

/// The derived SyncTarget as it should be now: our labels, and how it is to be deleted. Everything
/// else belongs to its users.
pub fn updated(target: &SyncTarget, cluster: &Cluster) -> SyncTarget {
    let mut new = target.clone();
    let wanted = labels(cluster);
    let annotations = new.metadata.annotations.get_or_insert_default();
    let before = annotations.insert(LABELS_ANNOTATION.into(), key_list(&wanted));
    let labels = new.metadata.labels.get_or_insert_default();
    for key in before.iter().flat_map(|list| list.split(',')) {
        if !wanted.contains_key(key) {
            labels.remove(key);
        }
    }
    labels.extend(wanted);
    if labels.is_empty() {
        new.metadata.labels = None;
    }
    if !cluster.spec.deletion.is_default() {
        new.spec.deletion = cluster.spec.deletion;
    }
    new
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(spec: &Value) -> Cluster {
        let mut object = json!({
            "apiVersion": "workload.kcp.io/v1alpha1", "kind": "Cluster",
            "metadata": {"name": "east", "namespace": "default", "uid": "c1"},
            "spec": {"kubeconfigSecretRef": {"name": "s"}},
        });
        for (key, value) in spec.as_object().unwrap() {
            object["spec"][key] = value.clone();
        }
        serde_json::from_value(object).unwrap()
    }

    fn made(cluster: &Cluster) -> SyncTarget {
        serde_json::from_value(new(cluster)).unwrap()
    }

    #[test]
    fn the_name_tells_same_names_of_two_namespaces_apart() {
        let one = cluster(&json!({}));
        let mut two = one.clone();
        two.metadata.namespace = Some("other".into());
        assert_eq!(name(&one).len(), "east-".len() + 8);
        assert!(name(&one).starts_with("east-"));
        assert_ne!(name(&one), name(&two));
    }

    #[test]
    fn it_is_made_with_reference_owner_labels_and_template() {
        let cluster = cluster(&json!({
            "location": "eu", "labels": {"tier": "gold"},
            "syncTargetTemplate": {"unschedulable": true, "podSecurity": "restricted"},
        }));
        let target = made(&cluster);
        assert!(is_owned(&target, &cluster));
        let reference = target.spec.cluster_ref.clone().unwrap();
        assert_eq!(
            (&*reference.namespace, &*reference.name),
            ("default", "east")
        );
        assert!(target.spec.unschedulable);
        assert_eq!(target.spec.pod_security.as_str(), "restricted");
        let labels = target.metadata.labels.clone().unwrap();
        assert_eq!((&*labels["location"], &*labels["tier"]), ("eu", "gold"));
        assert_eq!(
            updated(&target, &cluster),
            target,
            "nothing to write after making it"
        );
    }

    #[test]
    fn another_clusters_target_is_not_owned() {
        let mine = cluster(&json!({}));
        let target = made(&mine);
        let mut anew = mine.clone();
        anew.metadata.uid = Some("c2".into());
        assert!(!is_owned(&target, &anew));
        assert!(!is_owned(&SyncTarget::default(), &mine));
    }

    #[test]
    fn only_our_labels_are_removed_and_what_users_changed_stays() {
        let before = cluster(&json!({"location": "eu", "labels": {"tier": "gold"}}));
        let mut target = made(&before);
        target
            .metadata
            .labels
            .get_or_insert_default()
            .insert("mine".into(), "1".into());
        target.spec.unschedulable = true;
        let after = updated(
            &target,
            &cluster(&json!({"location": "us", "deletion": {"force": true}})),
        );
        let labels = after.metadata.labels.clone().unwrap();
        assert_eq!(labels.get("location").map(String::as_str), Some("us"));
        assert_eq!(labels.get("mine").map(String::as_str), Some("1"));
        assert_eq!(labels.get("tier"), None);
        assert!(after.spec.unschedulable);
        assert!(after.spec.deletion.force);
    }
}
