//! Printer columns of built-in kinds, as kube-apiserver computes them for `kubectl get`.
//!
//! Kinds that Kubernetes prints with its default columns (`Role`, `LimitRange`,
//! `CustomResourceDefinition`, …) have the column `Created At`.

mod cells;
mod cluster;
mod network;
mod pod;
mod storage;
mod workloads;

use serde_json::Value;
use tmc_apimachinery::table::{Cell, Column};

use crate::kinds::Kind;

type Make = fn(&Value, i64) -> Value;

/// A column: header, OpenAPI type, priority (above 0: only `-o wide`), sentence, cell.
struct Spec {
    name: &'static str,
    kind: &'static str,
    priority: i32,
    description: &'static str,
    make: Make,
}

const fn column(
    name: &'static str,
    kind: &'static str,
    description: &'static str,
    make: Make,
) -> Spec {
    Spec {
        name,
        kind,
        priority: 0,
        description,
        make,
    }
}

const fn string(name: &'static str, description: &'static str, make: Make) -> Spec {
    column(name, "string", description, make)
}

const fn integer(name: &'static str, description: &'static str, make: Make) -> Spec {
    column(name, "integer", description, make)
}

const fn wide(name: &'static str, description: &'static str, make: Make) -> Spec {
    Spec {
        priority: 1,
        ..string(name, description, make)
    }
}

const AGE: Spec = string("Age", "Time since the object was created.", cells::age);
const CONTAINERS: Spec = wide(
    "Containers",
    "Names of each container in the template.",
    cells::template_containers,
);
const IMAGES: Spec = wide(
    "Images",
    "Images referenced by each container in the template.",
    cells::template_images,
);
const SELECTOR: Spec = wide("Selector", "Label selector for pods.", cells::selector);

const CREATED_AT: &[Spec] = &[Spec {
    name: "Created At",
    kind: "date",
    priority: 0,
    description: "Time at which the object was created.",
    make: cells::created_at,
}];

/// The columns of a kind, `Name` left out unless it shows more than the name.
pub(crate) fn columns(kind: &Kind) -> Vec<Column> {
    specs(kind.kind).iter().map(Spec::column).collect()
}

impl Spec {
    fn column(&self) -> Column {
        Column {
            name: self.name.to_owned(),
            kind: self.kind.to_owned(),
            format: if self.name == "Name" {
                "name".to_owned()
            } else {
                String::new()
            },
            description: self.description.to_owned(),
            priority: self.priority,
            cell: Cell::Function(self.make),
        }
    }
}

/// Kinds are named once among the built-in resources, so that the name alone tells.
fn specs(kind: &str) -> &'static [Spec] {
    match kind {
        "Pod" => pod::POD,
        "PodTemplate" => workloads::POD_TEMPLATE,
        "ReplicationController" => workloads::REPLICATION_CONTROLLER,
        "Deployment" => workloads::DEPLOYMENT,
        "ReplicaSet" => workloads::REPLICA_SET,
        "StatefulSet" => workloads::STATEFUL_SET,
        "DaemonSet" => workloads::DAEMON_SET,
        "ControllerRevision" => workloads::CONTROLLER_REVISION,
        "Job" => workloads::JOB,
        "CronJob" => workloads::CRON_JOB,
        "PodDisruptionBudget" => workloads::POD_DISRUPTION_BUDGET,
        "HorizontalPodAutoscaler" => workloads::HORIZONTAL_POD_AUTOSCALER,
        "Service" => network::SERVICE,
        "Endpoints" => network::ENDPOINTS,
        "EndpointSlice" => network::ENDPOINT_SLICE,
        "Ingress" => network::INGRESS,
        "IngressClass" => network::INGRESS_CLASS,
        "NetworkPolicy" => network::NETWORK_POLICY,
        "PersistentVolume" => storage::PERSISTENT_VOLUME,
        "PersistentVolumeClaim" => storage::PERSISTENT_VOLUME_CLAIM,
        "StorageClass" => storage::STORAGE_CLASS,
        "ResourceQuota" => storage::RESOURCE_QUOTA,
        "Namespace" => cluster::NAMESPACE,
        "Node" => cluster::NODE,
        "ConfigMap" => cluster::CONFIG_MAP,
        "Secret" => cluster::SECRET,
        "ServiceAccount" => cluster::SERVICE_ACCOUNT,
        "Event" => cluster::EVENT,
        "Lease" => cluster::LEASE,
        "RoleBinding" | "ClusterRoleBinding" => cluster::ROLE_BINDING,
        "CertificateSigningRequest" => cluster::CERTIFICATE_SIGNING_REQUEST,
        "PriorityClass" => cluster::PRIORITY_CLASS,
        _ => CREATED_AT,
    }
}

#[cfg(test)]
mod tests;
