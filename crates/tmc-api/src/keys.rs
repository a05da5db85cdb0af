//! Labels, annotations and finalizers: their names, and who may write them.
//!
//! `K` in the descriptions is a SyncTargetKey ([`crate::hashes::sync_target_key`]).

/// The domain whose keys, and those of every domain under it, are reserved.
pub const RESERVED_DOMAIN: &str = "kcp.io";

/// Start of the label that places an object on a target; K follows.
pub const STATE_PREFIX: &str = "state.workload.kcp.io/";
/// Start of the annotation that asks a target to remove an object; K follows.
pub const DELETION_PREFIX: &str = "deletion.internal.workload.kcp.io/";
/// Start of the annotation that lists a target's soft finalizers; K follows.
pub const SOFT_FINALIZERS_PREFIX: &str = "finalizers.workload.kcp.io/";
/// Start of the finalizer of a target that owns a downstream copy; K follows.
pub const SYNCER_FINALIZER_PREFIX: &str = "workload.kcp.io/syncer-";
/// Start of the annotation with the values that a target reported; K follows.
pub const DIFF_PREFIX: &str = "diff.syncer.internal.kcp.io/";
/// Start of the annotation with a JSON Patch for one target's view of `spec`; K follows.
pub const SPEC_DIFF_PREFIX: &str = "experimental.spec-diff.workload.kcp.io/";
/// Start of a dead carrier of status: discarded wherever it is met; K follows.
pub const OLD_STATUS_PREFIX: &str = "experimental.status.workload.kcp.io/";
/// Start of the annotation of downstream objects with a JSON Patch for upsyncing. K follows
/// **without** a slash.
pub const UPSYNC_DIFF_PREFIX: &str = "internal.workload.kcp.io/upsyncdiff";

/// Annotation that overrides which fields a target may write: JSON list of field paths.
pub const SUMMARIZING_ANNOTATION: &str = "experimental.summarizing.workload.kcp.io";
/// Annotation, in a view only: the URL of the workspace that an object is in.
pub const WORKSPACE_URL_ANNOTATION: &str = "internal.workload.kcp.io/workspace-url";
/// Label of downstream objects and namespaces: K of the target they are there for.
pub const DOWNSTREAM_CLUSTER_LABEL: &str = "internal.workload.kcp.io/cluster";
/// Label of a SyncTarget: its K.
pub const SYNC_TARGET_KEY_LABEL: &str = "internal.workload.kcp.io/key";
/// Annotation of a Placement: K of the target it picked, while it picked exactly one.
pub const PLACEMENT_SYNC_TARGET_ANNOTATION: &str = "internal.workload.kcp.io/synctarget";
/// Annotation of downstream namespaces and cluster-scoped objects: where they come from
/// ([`crate::hashes::Locator`]).
pub const NAMESPACE_LOCATOR_ANNOTATION: &str = "kcp.io/namespace-locator";
/// Label of downstream namespaces: [`crate::hashes::tenant_id`].
pub const TENANT_ID_LABEL: &str = "kcp.io/tenant-id";
/// Annotation of every upstream object: the name of its logical cluster. Written by the hub alone.
pub const CLUSTER_ANNOTATION: &str = "kcp.io/cluster";
/// Annotation of many upstream objects: the path of their workspace. Written by the hub alone.
pub const PATH_ANNOTATION: &str = "kcp.io/path";
/// Annotation of a namespace (empty value): bound to some Placement. Label of a
/// PlacementDecision: the Placement's name.
pub const PLACEMENT_ANNOTATION: &str = "scheduling.kcp.io/placement";
/// Label naming the decision set of an object placed on many targets.
pub const DECISION_SET_LABEL: &str = "scheduling.kcp.io/decision-set";
/// Annotation of a Location: its labels as a sorted `k=v` list, for printing.
pub const LOCATION_LABELS_ANNOTATION: &str = "scheduling.kcp.io/labels";
/// Annotation of an upsynced object: the downstream resourceVersion that was copied last.
pub const UPSYNC_RESOURCE_VERSION_ANNOTATION: &str = "workload.kcp.io/rv";
/// Annotation of a Service: comma list of derived resources to upsync (`endpoints`).
pub const UPSYNC_DERIVED_ANNOTATION: &str = "experimental.workload.kcp.io/upsync-derived-resources";
/// Annotation of an APIExport and its APIBindings: marks a binding that brings compute.
pub const COMPUTE_BINDING_ANNOTATION: &str = "extra.apis.kcp.io/compute.workload.kcp.io";
/// Annotation of a workspace, binding or export: make no default Location or Placement.
pub const SKIP_DEFAULT_OBJECTS_ANNOTATION: &str = "workload.kcp.io/skip-default-object-creation";
/// Annotation of a SyncTarget (`"true"`): advanced scheduling.
pub const ADVANCED_SCHEDULING_ANNOTATION: &str =
    "featuregates.experimental.workload.kcp.io/advancedscheduling";
/// Annotation of imported and negotiated API resources, for display. Agents may write it.
pub const API_VERSION_ANNOTATION: &str = "apiresource.kcp.io/apiVersion";
/// Annotation of any placed object: what its targets have to say about it, in one sentence.
pub const MESSAGE_ANNOTATION: &str = "status.workload.kcp.io/message";
/// Where [`MESSAGE_ANNOTATION`] has it from: the member of a target's report ([`diff_annotation`]) with
/// what that target has to say. No path of a summarised field is called so.
pub const REPORTED_MESSAGE: &str = "message";
/// Most characters that one target has to say in [`MESSAGE_ANNOTATION`].
pub const MAX_MESSAGE: usize = 1024;
/// Annotation of a SyncTarget derived from a Cluster: `<namespace>/<name>/<uid>` of that Cluster.
pub const OWNER_CLUSTER_ANNOTATION: &str = "tmc.kcp.io/owner-cluster";
/// Label of what an agent has in its member and on the hub: the uid of its SyncTarget.
pub const AGENT_UID_LABEL: &str = "tmc.kcp.io/synctarget-uid";
/// Annotation of the same: `<cluster>/<name>/<uid>` of the SyncTarget. Nothing is changed or
/// deleted without it.
pub const AGENT_OWNER_ANNOTATION: &str = "tmc.kcp.io/synctarget";
/// Annotation of a registration account in a member: which Cluster it was made for, for people.
pub const REGISTRATION_ANNOTATION: &str = "tmc.kcp.io/registration";
/// Annotation of a SyncTarget (`"true"`): its drain (`spec.evictAfter`) waits for nothing and may
/// take the last copy. Users write it, with the drain.
pub const FORCE_DRAIN_ANNOTATION: &str = "tmc.kcp.io/force-drain";
/// Annotation of a Workspace: its creator, as JSON.
pub const WORKSPACE_OWNER_ANNOTATION: &str = "experimental.tenancy.kcp.io/owner";
/// Annotation of a Workspace: hash of the shard its logical cluster is on.
pub const WORKSPACE_SHARD_ANNOTATION: &str = "internal.tenancy.kcp.io/shard";
/// Annotation of a Workspace: the logical cluster given to it while it is being scheduled.
pub const WORKSPACE_CLUSTER_ANNOTATION: &str = "internal.tenancy.kcp.io/cluster";
/// Label of a Workspace: its phase.
pub const WORKSPACE_PHASE_LABEL: &str = "tenancy.kcp.io/phase";
/// Annotation of a LogicalCluster: its type, `<path>:<name>`.
pub const WORKSPACE_TYPE_ANNOTATION: &str = "internal.tenancy.kcp.io/type";

/// Finalizer of a SyncTarget: its controller has still to take it apart.
pub const SYNC_TARGET_FINALIZER: &str = "workload.kcp.io/synctarget";
/// Finalizer of a Cluster: its controller has still to take the registration apart.
pub const CLUSTER_FINALIZER: &str = "workload.kcp.io/cluster-registration";
/// Finalizer of a Workspace: its logical cluster is still there.
pub const LOGICAL_CLUSTER_FINALIZER: &str = "core.kcp.io/logicalcluster";

/// Value of the state label: the target runs the object.
pub const STATE_SYNC: &str = "Sync";
/// Value of the state label: the target brings the object up; exclusive.
pub const STATE_UPSYNC: &str = "Upsync";

/// Domain of the taints that the heartbeat controller sets.
pub const SYSTEM_TAINT_DOMAIN: &str = "tmc.kcp.io";
/// Taint of a target whose agent is not heard any more.
pub const TAINT_UNREACHABLE: &str = "tmc.kcp.io/unreachable";
/// Taint of a target that is heard but not ready.
pub const TAINT_NOT_READY: &str = "tmc.kcp.io/not-ready";
/// Type of Secrets that hold a registered kubeconfig. Never in any view, never in a member.
pub const KUBECONFIG_SECRET_TYPE: &str = "tmc.kcp.io/kubeconfig";

/// Label that places an object on the target K.
pub fn state_label(key: &str) -> String {
    format!("{STATE_PREFIX}{key}")
}

/// Annotation (RFC3339 time) that asks the target K to remove an object.
pub fn deletion_annotation(key: &str) -> String {
    format!("{DELETION_PREFIX}{key}")
}

/// Annotation (comma list) that hides a deletion from the target K while it is not empty.
pub fn soft_finalizers_annotation(key: &str) -> String {
    format!("{SOFT_FINALIZERS_PREFIX}{key}")
}

/// Finalizer of the target K on an object of which it owns a downstream copy.
pub fn syncer_finalizer(key: &str) -> String {
    format!("{SYNCER_FINALIZER_PREFIX}{key}")
}

/// Annotation with the values that the target K reported: JSON map of field path to value.
pub fn diff_annotation(key: &str) -> String {
    format!("{DIFF_PREFIX}{key}")
}

/// Annotation with the JSON Patch of `spec` for the target K.
pub fn spec_diff_annotation(key: &str) -> String {
    format!("{SPEC_DIFF_PREFIX}{key}")
}

/// Annotation of downstream objects with the JSON Patch for upsyncing them to K.
pub fn upsync_diff_annotation(key: &str) -> String {
    format!("{UPSYNC_DIFF_PREFIX}{key}")
}

/// Where a key stands: the same text means different things as a label or an annotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyPlace {
    /// `metadata.labels`.
    Label,
    /// `metadata.annotations`.
    Annotation,
    /// `metadata.finalizers`.
    Finalizer,
}

/// The domain of a key: what stands before its first `/`, if there is one.
pub fn domain(key: &str) -> Option<&str> {
    key.split_once('/').map(|(domain, _)| domain)
}

/// Whether `domain` is `parent` or under it. Domains do not know upper and lower case.
pub fn is_under(domain: &str, parent: &str) -> bool {
    let (domain, parent) = (domain.as_bytes(), parent.as_bytes());
    let Some(start) = domain.len().checked_sub(parent.len()) else {
        return false;
    };
    domain[start..].eq_ignore_ascii_case(parent) && (start == 0 || domain[start - 1] == b'.')
}

/// Whether a key belongs to this project or kcp: its domain (the part before `/`) is `kcp.io` or
/// under it (charter, reserved keys). A key without a domain is the user's own.
pub fn is_reserved(key: &str) -> bool {
    domain(key).is_some_and(|domain| is_under(domain, RESERVED_DOMAIN))
}

/// Whether users may write a key although it [`is_reserved`]: the skip-default annotation, the
/// experimental annotations of the wire protocol (section 3), feature gates, and the wish to drain a
/// target by force.
pub fn is_user_writable(place: KeyPlace, key: &str) -> bool {
    place == KeyPlace::Annotation
        && (key == SKIP_DEFAULT_OBJECTS_ANNOTATION
            || key == FORCE_DRAIN_ANNOTATION
            || key == UPSYNC_DERIVED_ANNOTATION
            || key.starts_with(SPEC_DIFF_PREFIX)
            || key.starts_with(OLD_STATUS_PREFIX)
            || key.starts_with("featuregates."))
}

/// Whether only the system may change a key: reserved and not one of the exceptions.
pub fn is_guarded(place: KeyPlace, key: &str) -> bool {
    is_reserved(key) && !is_user_writable(place, key)
}

/// Whether a reserved key is one that the hub derives from the request's URL, so that what a
/// client sends is never looked at.
pub fn comes_from_url(place: KeyPlace, key: &str) -> bool {
    place == KeyPlace::Annotation && (key == CLUSTER_ANNOTATION || key == PATH_ANNOTATION)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_reserved_by_its_domain_and_nothing_else() {
        let reserved = [
            "kcp.io/cluster",
            "state.workload.kcp.io/K",
            "deletion.internal.workload.kcp.io/K",
            "workload.kcp.io/syncer-K",
            "tmc.kcp.io/owner-cluster",
            "KCP.io/x",
            "state.Workload.KCP.IO/K",
            "kcp.io/",
            "a.b.c.kcp.io/x/y",
            "workload.kcp.io/skip-default-object-creation",
        ];
        for key in reserved {
            assert!(is_reserved(key), "{key}");
        }
        let free = [
            "",
            "/",
            "kcp.io",
            "state.workload.kcp.io",
            "experimental.summarizing.workload.kcp.io",
            "evil-kcp.io/x",
            "evilkcp.io/x",
            "kcp.io.evil.com/x",
            "kcp.iox/x",
            "example.com/kcp.io/x",
            "example.com/kcp.io",
            "kcp.io./x",
            "xkcp.dev/kcp.io",
            "io/x",
            "ékcp.io/x",
        ];
        for key in free {
            assert!(!is_reserved(key), "{key}");
        }
    }

    #[test]
    fn users_may_write_the_listed_annotations_and_no_label_or_finalizer_of_that_name() {
        for key in [
            SKIP_DEFAULT_OBJECTS_ANNOTATION,
            FORCE_DRAIN_ANNOTATION,
            UPSYNC_DERIVED_ANNOTATION,
            ADVANCED_SCHEDULING_ANNOTATION,
            &spec_diff_annotation("K"),
        ] {
            assert!(!is_guarded(KeyPlace::Annotation, key), "{key}");
            assert!(is_guarded(KeyPlace::Label, key), "{key}");
            assert!(is_guarded(KeyPlace::Finalizer, key), "{key}");
        }
        for key in [
            WORKSPACE_OWNER_ANNOTATION,
            API_VERSION_ANNOTATION,
            COMPUTE_BINDING_ANNOTATION,
            MESSAGE_ANNOTATION,
            "experimental.other.kcp.io/x",
            "workload.kcp.io/skip-default-object-creation2",
            "notfeaturegates.experimental.workload.kcp.io/x",
        ] {
            assert!(is_guarded(KeyPlace::Annotation, key), "{key}");
        }
    }

    #[test]
    fn keys_of_a_target_are_built_from_its_key() {
        assert_eq!(state_label("K"), "state.workload.kcp.io/K");
        assert_eq!(
            deletion_annotation("K"),
            "deletion.internal.workload.kcp.io/K"
        );
        assert_eq!(
            soft_finalizers_annotation("K"),
            "finalizers.workload.kcp.io/K"
        );
        assert_eq!(syncer_finalizer("K"), "workload.kcp.io/syncer-K");
        assert_eq!(diff_annotation("K"), "diff.syncer.internal.kcp.io/K");
        assert_eq!(
            spec_diff_annotation("K"),
            "experimental.spec-diff.workload.kcp.io/K"
        );
        assert_eq!(
            upsync_diff_annotation("K"),
            "internal.workload.kcp.io/upsyncdiffK"
        );
    }

    #[test]
    fn only_the_annotations_of_cluster_and_path_come_from_the_url() {
        assert!(comes_from_url(KeyPlace::Annotation, CLUSTER_ANNOTATION));
        assert!(comes_from_url(KeyPlace::Annotation, PATH_ANNOTATION));
        assert!(!comes_from_url(KeyPlace::Label, CLUSTER_ANNOTATION));
        assert!(!comes_from_url(KeyPlace::Annotation, TENANT_ID_LABEL));
    }
}
