//! What is known of the statuses of Kubernetes' kinds: which fields add up, and which conditions are
//! good news. Source: the API types of `apps/v1`, `batch/v1`, `core/v1` and `networking.k8s.io/v1`,
//! the API conventions ("typical status properties"), and for `Reconciling` and `Stalled` kstatus.

use tmc_api::synced::Listed;
use tmc_apimachinery::GroupResource;

/// How the values of one field of several places become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Their sum. A place that leaves the field out has none.
    Sum,
    /// Their sum, and zero where nobody has it: the schema requires it.
    RequiredSum,
    /// The earliest time.
    Earliest,
    /// The latest time.
    Latest,
    /// The latest time, once every place has one.
    LatestOfAll,
    /// All items, sorted, each once.
    Union,
    /// The `ingress` of load balancers: all items; the rest where all agree.
    LoadBalancer,
    /// The worst phase: the first of these that a place has. One that is not listed is worse, and a
    /// place that has not reported is in the one before the last.
    Worst(&'static [&'static str]),
    /// What all agree on.
    Agree,
}

const DEPLOYMENT: &[(&str, Rule)] = &[
    ("replicas", Rule::Sum),
    ("updatedReplicas", Rule::Sum),
    ("readyReplicas", Rule::Sum),
    ("availableReplicas", Rule::Sum),
    ("unavailableReplicas", Rule::Sum),
    ("terminatingReplicas", Rule::Sum),
];

const REPLICA_SET: &[(&str, Rule)] = &[
    ("replicas", Rule::RequiredSum),
    ("fullyLabeledReplicas", Rule::Sum),
    ("readyReplicas", Rule::Sum),
    ("availableReplicas", Rule::Sum),
    ("terminatingReplicas", Rule::Sum),
];

const STATEFUL_SET: &[(&str, Rule)] = &[
    ("replicas", Rule::RequiredSum),
    ("readyReplicas", Rule::Sum),
    ("currentReplicas", Rule::Sum),
    ("updatedReplicas", Rule::Sum),
    ("availableReplicas", Rule::Sum),
];

const DAEMON_SET: &[(&str, Rule)] = &[
    ("currentNumberScheduled", Rule::RequiredSum),
    ("numberMisscheduled", Rule::RequiredSum),
    ("desiredNumberScheduled", Rule::RequiredSum),
    ("numberReady", Rule::RequiredSum),
    ("updatedNumberScheduled", Rule::Sum),
    ("numberAvailable", Rule::Sum),
    ("numberUnavailable", Rule::Sum),
];

const JOB: &[(&str, Rule)] = &[
    ("active", Rule::Sum),
    ("succeeded", Rule::Sum),
    ("failed", Rule::Sum),
    ("terminating", Rule::Sum),
    ("ready", Rule::Sum),
    ("startTime", Rule::Earliest),
    ("completionTime", Rule::LatestOfAll),
];

const CRON_JOB: &[(&str, Rule)] = &[
    ("active", Rule::Union),
    ("lastScheduleTime", Rule::Latest),
    ("lastSuccessfulTime", Rule::Latest),
];

const BALANCED: &[(&str, Rule)] = &[("loadBalancer", Rule::LoadBalancer)];

const CLAIM: &[(&str, Rule)] = &[("phase", Rule::Worst(&["Lost", "Pending", "Bound"]))];

/// The rules of a kind's status fields; none for kinds that are not known.
pub fn rules(resource: &GroupResource) -> &'static [(&'static str, Rule)] {
    match (&*resource.group, &*resource.resource) {
        ("apps", "deployments") => DEPLOYMENT,
        ("apps", "replicasets") | ("", "replicationcontrollers") => REPLICA_SET,
        ("apps", "statefulsets") => STATEFUL_SET,
        ("apps", "daemonsets") => DAEMON_SET,
        ("batch", "jobs") => JOB,
        ("batch", "cronjobs") => CRON_JOB,
        ("", "services") | ("networking.k8s.io", "ingresses") => BALANCED,
        ("", "persistentvolumeclaims") => CLAIM,
        _ => &[],
    }
}

/// Whether objects of a kind have conditions; those that are not known tell it by their status.
pub fn conditions(resource: &GroupResource) -> Listed {
    match (&*resource.group, &*resource.resource) {
        ("apps", "deployments" | "replicasets" | "statefulsets" | "daemonsets")
        | ("", "replicationcontrollers" | "pods" | "persistentvolumeclaims" | "services")
        | ("batch", "jobs")
        | ("autoscaling", "horizontalpodautoscalers") => Listed::Yes,
        ("", "configmaps" | "secrets" | "serviceaccounts")
        | ("batch", "cronjobs")
        | ("networking.k8s.io", "ingresses") => Listed::No,
        _ => Listed::ByStatus,
    }
}

/// The condition that tells of an object of a kind that no place is heard any more, where the kind has
/// conditions but none that is about the present; `None` for kinds that have no conditions, and for
/// those that are not known: theirs are their own.
pub fn presence(resource: &GroupResource) -> Option<&'static str> {
    if conditions(resource) != Listed::Yes {
        return None;
    }
    match &*resource.resource {
        "deployments"
        | "replicasets"
        | "replicationcontrollers"
        | "statefulsets"
        | "daemonsets" => Some("Available"),
        _ => Some("Ready"),
    }
}

/// What True means in a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Polarity {
    /// All is well there; a place that says nothing of it does not know yet.
    Good,
    /// It is over there, well; a place that says nothing of it is still at it.
    Finished,
    /// Something is wrong there; a place that says nothing of it is not affected.
    Failure,
    /// Nobody told us.
    Other,
}

/// The polarity of a condition type. Types that are not listed are [`Polarity::Other`].
pub fn polarity(condition: &str) -> Polarity {
    match condition {
        "Available"
        | "Progressing"
        | "Ready"
        | "Initialized"
        | "ContainersReady"
        | "PodScheduled"
        | "PodReadyToStartContainers"
        | "AbleToScale"
        | "ScalingActive"
        | "DisruptionAllowed"
        | "Accepted"
        | "Programmed"
        | "ResolvedRefs" => Polarity::Good,
        "Complete" | "SuccessCriteriaMet" => Polarity::Finished,
        "ReplicaFailure"
        | "Failed"
        | "FailureTarget"
        | "Stalled"
        | "Reconciling"
        | "Resizing"
        | "FileSystemResizePending"
        | "ControllerResizeError"
        | "NodeResizeError" => Polarity::Failure,
        _ => Polarity::Other,
    }
}

/// Whether a condition is about the present: nobody knows it of a place that is not heard. (What has
/// finished there has finished.)
pub fn is_live(condition: &str) -> bool {
    matches!(condition, "Available" | "Progressing" | "Ready")
}
