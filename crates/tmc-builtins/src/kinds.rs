//! The built-in resources an application uses: names, scope, verbs and rules, as one table.
//!
//! The names, verbs and subresources are those of the discovery documents of Kubernetes 1.36; a
//! test holds the table to them. Left out is what only a node or its agents serve (logs, exec,
//! binding, eviction) and every second version of a kind whose conversion is more than a change of
//! `apiVersion` (`events.k8s.io/v1` Event, `autoscaling/v1` HorizontalPodAutoscaler).

use tmc_apimachinery::definition::{NameRule, Scope, Verbs};

/// How `/scale` finds the selector of the pods it counts; replicas are always `spec.replicas` and
/// `status.replicas`.
const SELECTOR: &str = "spec.selector";

/// A subresource beyond status and scale: name, kind (group, version, kind) and verbs.
pub(crate) type Other = (
    &'static str,
    (&'static str, &'static str, &'static str),
    Verbs,
);

/// One row of the table. Everything else of a definition follows from it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind {
    pub(crate) group: &'static str,
    pub(crate) version: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) plural: &'static str,
    pub(crate) short_names: &'static [&'static str],
    pub(crate) categories: &'static [&'static str],
    pub(crate) scope: Scope,
    pub(crate) verbs: Verbs,
    pub(crate) status: bool,
    pub(crate) scale_selector: Option<&'static str>,
    pub(crate) other: &'static [Other],
    pub(crate) selectable: &'static [&'static str],
    pub(crate) name_rule: NameRule,
    pub(crate) generation: bool,
    pub(crate) immutable: &'static [&'static str],
}

/// A namespaced, stored kind with all verbs and nothing special.
const fn row(
    group: &'static str,
    version: &'static str,
    kind: &'static str,
    plural: &'static str,
) -> Kind {
    Kind {
        group,
        version,
        kind,
        plural,
        short_names: &[],
        categories: &[],
        scope: Scope::Namespaced,
        verbs: Verbs::ALL,
        status: false,
        scale_selector: None,
        other: &[],
        selectable: &[],
        name_rule: NameRule::Subdomain,
        generation: false,
        immutable: &[],
    }
}

const fn core(kind: &'static str, plural: &'static str) -> Kind {
    row("", "v1", kind, plural)
}

/// A kind of `apps/v1`: these count generations.
const fn apps(kind: &'static str, plural: &'static str) -> Kind {
    Kind {
        generation: true,
        ..row("apps", "v1", kind, plural)
    }
}

const fn rbac(kind: &'static str, plural: &'static str) -> Kind {
    Kind {
        name_rule: NameRule::PathSegment,
        ..row("rbac.authorization.k8s.io", "v1", kind, plural)
    }
}

/// A question that is answered and not stored.
const fn review(group: &'static str, kind: &'static str, plural: &'static str) -> Kind {
    Kind {
        verbs: Verbs::CREATE,
        ..row(group, "v1", kind, plural).cluster()
    }
}

const AUTHORIZATION: &str = "authorization.k8s.io";
const AUTHENTICATION: &str = "authentication.k8s.io";
const GET_PATCH_UPDATE: Verbs = Verbs::GET.and(Verbs::PATCH).and(Verbs::UPDATE);
const ALL_BUT_DELETE_COLLECTION: Verbs = Verbs::GET
    .and(Verbs::LIST)
    .and(Verbs::WATCH)
    .and(Verbs::CREATE)
    .and(Verbs::UPDATE)
    .and(Verbs::PATCH)
    .and(Verbs::DELETE);

impl Kind {
    const fn cluster(self) -> Self {
        Self {
            scope: Scope::Cluster,
            ..self
        }
    }

    const fn short(self, short_names: &'static [&'static str]) -> Self {
        Self {
            short_names,
            ..self
        }
    }

    /// Shown by `kubectl get all`.
    const fn in_all(self) -> Self {
        self.categories(&["all"])
    }

    const fn categories(self, categories: &'static [&'static str]) -> Self {
        Self { categories, ..self }
    }

    const fn verbs(self, verbs: Verbs) -> Self {
        Self { verbs, ..self }
    }

    const fn status(self) -> Self {
        Self {
            status: true,
            ..self
        }
    }

    const fn scale(self) -> Self {
        Self {
            scale_selector: Some(SELECTOR),
            ..self
        }
    }

    const fn generation(self) -> Self {
        Self {
            generation: true,
            ..self
        }
    }

    const fn names(self, name_rule: NameRule) -> Self {
        Self { name_rule, ..self }
    }

    const fn selectable(self, selectable: &'static [&'static str]) -> Self {
        Self { selectable, ..self }
    }

    const fn immutable(self, immutable: &'static [&'static str]) -> Self {
        Self { immutable, ..self }
    }

    const fn other(self, other: &'static [Other]) -> Self {
        Self { other, ..self }
    }

    /// Whether objects are kept, so that there is something to prune, default and validate.
    pub(crate) fn stored(&self) -> bool {
        self.verbs != Verbs::CREATE
    }

    /// The name of its schema in OpenAPI documents, `io.k8s.api.apps.v1.Deployment`.
    pub(crate) fn component(&self) -> String {
        let package = match self.group {
            "" => "api.core".to_owned(),
            "apiextensions.k8s.io" => "apiextensions-apiserver.pkg.apis.apiextensions".to_owned(),
            group => format!("api.{}", group.split('.').next().unwrap_or(group)),
        };
        format!("io.k8s.{package}.{}.{}", self.version, self.kind)
    }
}

/// Every built-in resource.
pub(crate) const KINDS: &[Kind] = &[
    core("Namespace", "namespaces")
        .cluster()
        .short(&["ns"])
        .status()
        .names(NameRule::Label)
        .selectable(&["status.phase"])
        .other(&[("finalize", ("", "v1", "Namespace"), Verbs::UPDATE)])
        .verbs(ALL_BUT_DELETE_COLLECTION),
    core("ConfigMap", "configmaps").short(&["cm"]),
    core("Secret", "secrets")
        .selectable(&["type"])
        .immutable(&["type"]),
    core("Service", "services")
        .short(&["svc"])
        .in_all()
        .status()
        .names(NameRule::Label)
        .selectable(&["spec.clusterIP", "spec.type"]),
    core("ServiceAccount", "serviceaccounts")
        .short(&["sa"])
        .other(&[(
            "token",
            (AUTHENTICATION, "v1", "TokenRequest"),
            Verbs::CREATE,
        )]),
    core("Pod", "pods")
        .short(&["po"])
        .in_all()
        .status()
        .generation()
        .selectable(&[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.podIPs",
            "status.nominatedNodeName",
        ]),
    core("Endpoints", "endpoints").short(&["ep"]),
    core("Event", "events").short(&["ev"]).selectable(&[
        "involvedObject.kind",
        "involvedObject.namespace",
        "involvedObject.name",
        "involvedObject.uid",
        "involvedObject.apiVersion",
        "involvedObject.resourceVersion",
        "involvedObject.fieldPath",
        "reason",
        "reportingComponent",
        "type",
    ]),
    core("PersistentVolumeClaim", "persistentvolumeclaims")
        .short(&["pvc"])
        .status(),
    core("PersistentVolume", "persistentvolumes")
        .cluster()
        .short(&["pv"])
        .status(),
    core("Node", "nodes")
        .cluster()
        .short(&["no"])
        .status()
        .selectable(&["spec.unschedulable"]),
    core("ReplicationController", "replicationcontrollers")
        .short(&["rc"])
        .in_all()
        .status()
        .scale()
        .generation()
        .selectable(&["status.replicas"]),
    core("ResourceQuota", "resourcequotas")
        .short(&["quota"])
        .status(),
    core("LimitRange", "limitranges").short(&["limits"]),
    core("PodTemplate", "podtemplates").generation(),
    apps("Deployment", "deployments")
        .short(&["deploy"])
        .in_all()
        .status()
        .scale()
        .immutable(&["spec.selector"]),
    apps("ReplicaSet", "replicasets")
        .short(&["rs"])
        .in_all()
        .status()
        .scale()
        .immutable(&["spec.selector"]),
    apps("StatefulSet", "statefulsets")
        .short(&["sts"])
        .in_all()
        .status()
        .scale()
        .names(NameRule::Label),
    apps("DaemonSet", "daemonsets")
        .short(&["ds"])
        .in_all()
        .status()
        .immutable(&["spec.selector"]),
    row("apps", "v1", "ControllerRevision", "controllerrevisions").immutable(&["data"]),
    row("batch", "v1", "Job", "jobs")
        .in_all()
        .status()
        .generation()
        .immutable(&[
            "spec.selector",
            "spec.completionMode",
            "spec.podFailurePolicy",
            "spec.backoffLimitPerIndex",
            "spec.managedBy",
            "spec.successPolicy",
        ]),
    row("batch", "v1", "CronJob", "cronjobs")
        .short(&["cj"])
        .in_all()
        .status()
        .generation(),
    row("networking.k8s.io", "v1", "Ingress", "ingresses")
        .short(&["ing"])
        .status()
        .generation(),
    row("networking.k8s.io", "v1", "IngressClass", "ingressclasses")
        .cluster()
        .generation()
        .immutable(&["spec.controller"]),
    row(
        "networking.k8s.io",
        "v1",
        "NetworkPolicy",
        "networkpolicies",
    )
    .short(&["netpol"])
    .generation(),
    row(
        "policy",
        "v1",
        "PodDisruptionBudget",
        "poddisruptionbudgets",
    )
    .short(&["pdb"])
    .status()
    .generation(),
    row(
        "autoscaling",
        "v2",
        "HorizontalPodAutoscaler",
        "horizontalpodautoscalers",
    )
    .short(&["hpa"])
    .in_all()
    .status(),
    rbac("Role", "roles"),
    rbac("RoleBinding", "rolebindings"),
    rbac("ClusterRole", "clusterroles").cluster(),
    rbac("ClusterRoleBinding", "clusterrolebindings").cluster(),
    row("coordination.k8s.io", "v1", "Lease", "leases"),
    row("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices")
        .generation()
        .immutable(&["addressType"]),
    row(
        "scheduling.k8s.io",
        "v1",
        "PriorityClass",
        "priorityclasses",
    )
    .cluster()
    .short(&["pc"])
    .generation()
    .immutable(&["preemptionPolicy"]),
    row("storage.k8s.io", "v1", "StorageClass", "storageclasses")
        .cluster()
        .short(&["sc"])
        .immutable(&[
            "parameters",
            "provisioner",
            "reclaimPolicy",
            "volumeBindingMode",
        ]),
    row(
        "certificates.k8s.io",
        "v1",
        "CertificateSigningRequest",
        "certificatesigningrequests",
    )
    .cluster()
    .short(&["csr"])
    .status()
    .names(NameRule::PathSegment)
    .selectable(&["spec.signerName"])
    .other(&[(
        "approval",
        ("certificates.k8s.io", "v1", "CertificateSigningRequest"),
        GET_PATCH_UPDATE,
    )]),
    row(
        "apiextensions.k8s.io",
        "v1",
        "CustomResourceDefinition",
        "customresourcedefinitions",
    )
    .cluster()
    .short(&["crd", "crds"])
    .categories(&["api-extensions"])
    .status()
    .generation()
    .immutable(&[
        "spec.group",
        "spec.scope",
        "spec.names.kind",
        "spec.names.plural",
    ]),
    review(AUTHORIZATION, "SubjectAccessReview", "subjectaccessreviews"),
    review(
        AUTHORIZATION,
        "SelfSubjectAccessReview",
        "selfsubjectaccessreviews",
    ),
    review(
        AUTHORIZATION,
        "SelfSubjectRulesReview",
        "selfsubjectrulesreviews",
    ),
    Kind {
        scope: Scope::Namespaced,
        ..review(
            AUTHORIZATION,
            "LocalSubjectAccessReview",
            "localsubjectaccessreviews",
        )
    },
    review(AUTHENTICATION, "SelfSubjectReview", "selfsubjectreviews"),
    review(AUTHENTICATION, "TokenReview", "tokenreviews"),
];
