//! The schemas of the built-in kinds: generated from k8s-openapi's types, then completed with the
//! merge facts that these types do not carry.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

use k8s_openapi::api::{
    apps::v1 as apps, authentication::v1 as authentication, authorization::v1 as authorization,
    autoscaling::v1 as autoscaling_v1, autoscaling::v2 as autoscaling, batch::v1 as batch,
    certificates::v1 as certificates, coordination::v1 as coordination, core::v1 as core,
    discovery::v1 as discovery, networking::v1 as networking, policy::v1 as policy,
    rbac::v1 as rbac, scheduling::v1 as scheduling, storage::v1 as storage,
};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1 as apiextensions;
use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};
use tmc_apimachinery::schema::Definitions;

use crate::facts;
use crate::kinds::KINDS;

type Root = fn(&mut SchemaGenerator);

macro_rules! roots {
    ($($group:ident: $($kind:ident)*;)*) => {
        &[$($(|generator| { generator.subschema_for::<$group::$kind>(); },)*)*]
    };
}

/// The kinds served, what their subresources exchange, and what every verb answers or takes.
const ROOTS: &[Root] = roots! {
    core: Namespace ConfigMap Secret Service ServiceAccount Pod Endpoints Event
        PersistentVolumeClaim PersistentVolume Node ReplicationController ResourceQuota LimitRange
        PodTemplate;
    apps: Deployment ReplicaSet StatefulSet DaemonSet ControllerRevision;
    batch: Job CronJob;
    networking: Ingress IngressClass NetworkPolicy;
    policy: PodDisruptionBudget;
    autoscaling: HorizontalPodAutoscaler;
    autoscaling_v1: Scale;
    rbac: Role RoleBinding ClusterRole ClusterRoleBinding;
    coordination: Lease;
    discovery: EndpointSlice;
    scheduling: PriorityClass;
    storage: StorageClass;
    certificates: CertificateSigningRequest;
    apiextensions: CustomResourceDefinition;
    authorization: SubjectAccessReview SelfSubjectAccessReview SelfSubjectRulesReview
        LocalSubjectAccessReview;
    authentication: SelfSubjectReview TokenReview TokenRequest;
    meta: DeleteOptions Status;
};

/// The schemas of all built-in kinds and of what they refer to, by component name
/// (`io.k8s.api.core.v1.PodSpec`), with descriptions, group-version-kinds and merge facts; also
/// `Scale`, `TokenRequest`, `DeleteOptions` and `Status`.
///
/// Made once in a process, in a few milliseconds and about 0.7 MB.
pub fn components() -> &'static Arc<Definitions> {
    static SHARED: OnceLock<Arc<Definitions>> = OnceLock::new();
    SHARED.get_or_init(|| Arc::new(Definitions::new(generate())))
}

/// One kind after the other: the trees of values of one kind are gone, turned into text by the
/// consumer, before those of the next are made. All at once would cost ten times the memory.
fn generate() -> impl Iterator<Item = (String, Value)> {
    let mut generator = SchemaSettings::openapi3().into_generator();
    let mut seen: BTreeSet<String> = BTreeSet::new();
    ROOTS.iter().flat_map(move |root| {
        root(&mut generator);
        let mut fresh: Vec<(String, Value)> = Vec::new();
        for (name, schema) in generator.take_definitions(true) {
            if seen.insert(name.clone()) {
                fresh.push((name, schema));
            }
        }
        // What the generator finds in its set it does not make again.
        let made = seen.iter().map(|name| (name.clone(), Value::Bool(true)));
        generator.definitions_mut().extend(made);
        fresh.into_iter().map(|(name, mut schema)| {
            complete(&name, &mut schema);
            (name, schema)
        })
    })
}

/// Adds to a generated schema what the types do not say, and corrects what they say otherwise than
/// Kubernetes' documents.
fn complete(name: &str, schema: &mut Value) {
    let Some(members) = schema.as_object_mut() else {
        return;
    };
    match name {
        "io.k8s.apimachinery.pkg.api.resource.Quantity" => {
            members.remove("x-kubernetes-int-or-string");
            members.insert(
                "oneOf".into(),
                json!([{"type": "string"}, {"type": "number"}]),
            );
        }
        "io.k8s.apimachinery.pkg.util.intstr.IntOrString" => {
            members.remove("x-kubernetes-int-or-string");
            members.insert("format".into(), json!("int-or-string"));
            members.insert(
                "oneOf".into(),
                json!([{"type": "integer"}, {"type": "string"}]),
            );
        }
        "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSON" => {
            members.remove("type");
        }
        // `JSONSchemaPropsOrArray` and its like: anything, in Kubernetes' documents.
        name if name.contains(".JSONSchemaPropsOr") => {
            members.remove("oneOf");
        }
        _ => {}
    }
    if name != "io.k8s.api.core.v1.Event" {
        optional_metadata(members);
    }
    facts::annotate(name, members);
    if let Some((group, version, kind)) = gvk_of(name) {
        let gvk = json!([{"group": group, "kind": kind, "version": version}]);
        members.insert("x-kubernetes-group-version-kind".into(), gvk);
    }
}

/// The group, version and kind of a component that is a kind.
fn gvk_of(component: &str) -> Option<(&'static str, &'static str, &'static str)> {
    match component {
        "io.k8s.api.autoscaling.v1.Scale" => return Some(("autoscaling", "v1", "Scale")),
        "io.k8s.api.authentication.v1.TokenRequest" => {
            return Some(("authentication.k8s.io", "v1", "TokenRequest"));
        }
        "io.k8s.apimachinery.pkg.apis.meta.v1.Status" => return Some(("", "v1", "Status")),
        _ => {}
    }
    let kind = KINDS.iter().find(|kind| kind.component() == component)?;
    Some((kind.group, kind.version, kind.kind))
}

/// The generator takes the metadata of a resource for required; Kubernetes does not.
fn optional_metadata(schema: &mut Map<String, Value>) {
    if let Some(required) = schema.get_mut("required").and_then(Value::as_array_mut) {
        required.retain(|field| field != "metadata");
        if required.is_empty() {
            schema.remove("required");
        }
    }
}
