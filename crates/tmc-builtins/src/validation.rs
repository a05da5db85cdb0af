//! Validation of built-in kinds beyond their schemas, with Kubernetes' fields and wording for the
//! errors that people meet: selectors, names inside lists, ports, quantities, policies that exclude
//! each other, what may change.
//!
//! What is left out accepts an object that a member may still refuse, which is then reported; so a
//! rule stands here only if every Kubernetes server would refuse the object too.

mod batch;
mod checks;
mod cluster;
mod config;
mod containers;
mod custom_resources;
mod network;
mod pod;
mod rbac;
mod service;
mod storage;
mod workloads;

use serde_json::Value;
use tmc_apimachinery::GroupVersionKind;
use tmc_apimachinery::status::Cause;

use crate::report::{Field, Report};

/// Errors of an object of a built-in kind beyond its schema, with Kubernetes' wording; `old` is the
/// stored object on update. At most a hundred; other kinds have none.
///
/// The object has passed its schema and [`default`](crate::default()): members of a wrong type are
/// taken for absent here.
pub fn validate(gvk: &GroupVersionKind, object: &Value, old: Option<&Value>) -> Vec<Cause> {
    let mut report = Report::default();
    crate::quantities::check(gvk, object, &mut report);
    match (gvk.group.as_str(), gvk.version.as_str(), gvk.kind.as_str()) {
        ("", "v1", kind) => core(kind, object, old, &mut report),
        ("apps", "v1", kind) => workloads::apps(kind, object, old, &mut report),
        ("batch", "v1", kind) => batch::batch(kind, object, old, &mut report),
        ("autoscaling", "v2", "HorizontalPodAutoscaler") => {
            cluster::horizontal_pod_autoscaler(object, &mut report);
        }
        ("policy", "v1", "PodDisruptionBudget") => {
            cluster::pod_disruption_budget(object, &mut report);
        }
        ("networking.k8s.io", "v1", kind) => network::networking(kind, object, &mut report),
        ("discovery.k8s.io", "v1", "EndpointSlice") => network::endpoint_slice(object, &mut report),
        ("rbac.authorization.k8s.io", "v1", kind) => rbac::rbac(kind, object, old, &mut report),
        ("coordination.k8s.io", "v1", "Lease") => cluster::lease(object, &mut report),
        ("scheduling.k8s.io", "v1", "PriorityClass") => {
            cluster::priority_class(object, old, &mut report);
        }
        ("storage.k8s.io", "v1", "StorageClass") => storage::storage_class(object, &mut report),
        ("certificates.k8s.io", "v1", "CertificateSigningRequest") => {
            cluster::certificate_signing_request(object, &mut report);
        }
        ("apiextensions.k8s.io", "v1", "CustomResourceDefinition") => {
            custom_resources::definition(object, old, &mut report);
        }
        _ => {}
    }
    report.into_causes()
}

fn core(kind: &str, object: &Value, old: Option<&Value>, report: &mut Report) {
    match kind {
        "Pod" => pod::pod(object, old, report),
        "PodTemplate" => pod::template(&object["template"], &Field::new("template"), report),
        "ReplicationController" => workloads::replication_controller(object, report),
        "Service" => service::service(object, old, report),
        "Endpoints" => network::endpoints(object, report),
        "ConfigMap" => config::config_map(object, old, report),
        "Secret" => config::secret(object, old, report),
        "Event" => cluster::event(object, report),
        "PersistentVolume" => storage::persistent_volume(object, report),
        "PersistentVolumeClaim" => storage::persistent_volume_claim(object, old, report),
        "LimitRange" => storage::limit_range(object, report),
        "Node" => cluster::node(object, report),
        _ => {}
    }
}

#[cfg(test)]
mod tests;
