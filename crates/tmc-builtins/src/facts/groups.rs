//! Merge facts of every group but the core one.

use super::Fact::{Map, Merge, MergeAtomic, MergeSet, Set, Strategy};
use super::Package;

/// Facts of `io.k8s.api.apps.v1`.
pub(super) const APPS: Package = Package {
    name: "io.k8s.api.apps.v1",
    fields: &[
        ("DaemonSetStatus", "conditions", Merge(&["type"])),
        ("DeploymentSpec", "strategy", Strategy("retainKeys")),
        ("DeploymentStatus", "conditions", Merge(&["type"])),
        ("ReplicaSetStatus", "conditions", Merge(&["type"])),
        ("StatefulSetStatus", "conditions", Merge(&["type"])),
    ],
    atomic_lists: &[("StatefulSetSpec", &["volumeClaimTemplates"])],
    atomic_types: &[],
    defaults: &[],
};

/// Facts of `io.k8s.api.authentication.v1`.
pub(super) const AUTHENTICATION: Package = Package {
    name: "io.k8s.api.authentication.v1",
    fields: &[],
    atomic_lists: &[
        ("TokenRequestSpec", &["audiences"]),
        ("TokenReviewSpec", &["audiences"]),
        ("TokenReviewStatus", &["audiences"]),
        ("UserInfo", &["groups"]),
    ],
    atomic_types: &[],
    defaults: &[],
};

/// Facts of `io.k8s.api.authorization.v1`.
pub(super) const AUTHORIZATION: Package = Package {
    name: "io.k8s.api.authorization.v1",
    fields: &[],
    atomic_lists: &[
        ("FieldSelectorAttributes", &["requirements"]),
        ("LabelSelectorAttributes", &["requirements"]),
        ("NonResourceRule", &["nonResourceURLs", "verbs"]),
        (
            "ResourceRule",
            &["apiGroups", "resourceNames", "resources", "verbs"],
        ),
        ("SubjectAccessReviewSpec", &["groups"]),
        (
            "SubjectRulesReviewStatus",
            &["nonResourceRules", "resourceRules"],
        ),
    ],
    atomic_types: &[],
    defaults: &[],
};

/// Facts of `io.k8s.api.autoscaling.v2`.
pub(super) const AUTOSCALING: Package = Package {
    name: "io.k8s.api.autoscaling.v2",
    fields: &[(
        "HorizontalPodAutoscalerStatus",
        "conditions",
        Merge(&["type"]),
    )],
    atomic_lists: &[
        ("HPAScalingRules", &["policies"]),
        ("HorizontalPodAutoscalerSpec", &["metrics"]),
        ("HorizontalPodAutoscalerStatus", &["currentMetrics"]),
    ],
    atomic_types: &[],
    defaults: &[],
};

/// Facts of `io.k8s.api.batch.v1`.
pub(super) const BATCH: Package = Package {
    name: "io.k8s.api.batch.v1",
    fields: &[
        ("JobStatus", "conditions", MergeAtomic("type")),
        ("PodFailurePolicyOnExitCodesRequirement", "values", Set),
        ("UncountedTerminatedPods", "failed", Set),
        ("UncountedTerminatedPods", "succeeded", Set),
    ],
    atomic_lists: &[
        ("CronJobStatus", &["active"]),
        ("PodFailurePolicy", &["rules"]),
        ("PodFailurePolicyRule", &["onPodConditions"]),
        ("SuccessPolicy", &["rules"]),
    ],
    atomic_types: &[],
    defaults: &[],
};

/// Facts of `io.k8s.api.certificates.v1`.
pub(super) const CERTIFICATES: Package = Package {
    name: "io.k8s.api.certificates.v1",
    fields: &[(
        "CertificateSigningRequestStatus",
        "conditions",
        Map(&["type"]),
    )],
    atomic_lists: &[("CertificateSigningRequestSpec", &["groups", "usages"])],
    atomic_types: &[],
    defaults: &[],
};

/// Facts of `io.k8s.api.discovery.v1`.
pub(super) const DISCOVERY: Package = Package {
    name: "io.k8s.api.discovery.v1",
    fields: &[("Endpoint", "addresses", Set)],
    atomic_lists: &[
        ("EndpointHints", &["forNodes", "forZones"]),
        ("EndpointSlice", &["endpoints", "ports"]),
    ],
    atomic_types: &["EndpointPort"],
    defaults: &[],
};

/// Facts of `io.k8s.api.networking.v1`.
pub(super) const NETWORKING: Package = Package {
    name: "io.k8s.api.networking.v1",
    fields: &[],
    atomic_lists: &[
        ("HTTPIngressRuleValue", &["paths"]),
        ("IPBlock", &["except"]),
        ("IngressLoadBalancerIngress", &["ports"]),
        ("IngressLoadBalancerStatus", &["ingress"]),
        ("IngressSpec", &["rules", "tls"]),
        ("IngressTLS", &["hosts"]),
        ("NetworkPolicyEgressRule", &["ports", "to"]),
        ("NetworkPolicyIngressRule", &["from", "ports"]),
        ("NetworkPolicySpec", &["egress", "ingress", "policyTypes"]),
    ],
    atomic_types: &["ServiceBackendPort"],
    defaults: &[],
};

/// Facts of `io.k8s.api.policy.v1`.
pub(super) const POLICY: Package = Package {
    name: "io.k8s.api.policy.v1",
    fields: &[
        ("PodDisruptionBudgetSpec", "selector", Strategy("replace")),
        ("PodDisruptionBudgetStatus", "conditions", Merge(&["type"])),
    ],
    atomic_lists: &[],
    atomic_types: &[],
    defaults: &[],
};

/// Facts of `io.k8s.api.rbac.v1`.
pub(super) const RBAC: Package = Package {
    name: "io.k8s.api.rbac.v1",
    fields: &[],
    atomic_lists: &[
        ("AggregationRule", &["clusterRoleSelectors"]),
        ("ClusterRole", &["rules"]),
        ("ClusterRoleBinding", &["subjects"]),
        (
            "PolicyRule",
            &[
                "apiGroups",
                "nonResourceURLs",
                "resourceNames",
                "resources",
                "verbs",
            ],
        ),
        ("Role", &["rules"]),
        ("RoleBinding", &["subjects"]),
    ],
    atomic_types: &["RoleRef", "Subject"],
    defaults: &[],
};

/// Facts of `io.k8s.api.storage.v1`.
pub(super) const STORAGE: Package = Package {
    name: "io.k8s.api.storage.v1",
    fields: &[],
    atomic_lists: &[("StorageClass", &["allowedTopologies", "mountOptions"])],
    atomic_types: &[],
    defaults: &[],
};

/// Facts of `io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1`.
pub(super) const APIEXTENSIONS: Package = Package {
    name: "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1",
    fields: &[
        (
            "CustomResourceDefinitionStatus",
            "conditions",
            Map(&["type"]),
        ),
        (
            "JSONSchemaProps",
            "x-kubernetes-validations",
            Merge(&["rule"]),
        ),
    ],
    atomic_lists: &[
        (
            "CustomResourceDefinitionNames",
            &["categories", "shortNames"],
        ),
        ("CustomResourceDefinitionSpec", &["versions"]),
        ("CustomResourceDefinitionStatus", &["storedVersions"]),
        (
            "CustomResourceDefinitionVersion",
            &["additionalPrinterColumns", "selectableFields"],
        ),
        (
            "JSONSchemaProps",
            &[
                "allOf",
                "anyOf",
                "enum",
                "oneOf",
                "required",
                "x-kubernetes-list-map-keys",
            ],
        ),
        ("WebhookConversion", &["conversionReviewVersions"]),
    ],
    atomic_types: &[],
    defaults: &[],
};

/// Facts of `io.k8s.apimachinery.pkg.apis.meta.v1`.
pub(super) const META: Package = Package {
    name: "io.k8s.apimachinery.pkg.apis.meta.v1",
    fields: &[
        ("ObjectMeta", "finalizers", MergeSet),
        ("ObjectMeta", "ownerReferences", Merge(&["uid"])),
    ],
    atomic_lists: &[
        ("DeleteOptions", &["dryRun"]),
        ("FieldSelectorRequirement", &["values"]),
        ("LabelSelector", &["matchExpressions"]),
        ("LabelSelectorRequirement", &["values"]),
        ("ObjectMeta", &["managedFields"]),
        ("StatusDetails", &["causes"]),
    ],
    atomic_types: &["LabelSelector", "OwnerReference"],
    defaults: &[],
};
