//! What an agent (syncer) needs: its names, and the manifests of what it has in the member and on
//! the hub. Pure: who applies them is the SyncTarget controller, `tmc cluster register` or the
//! person who pipes `tmc sync` into kubectl.
//!
//! * [`member`]: namespace, account and least-privilege rules in the member, every mode.
//! * [`workload`]: credentials and Deployment in the member, modes `Deployment` and `External`.
//! * [`election`]: the Lease of the workload's replicas, and the right to hold it.
//! * [`hub`]: account and rules on the hub, modes `Deployment` and `External`.
//! * [`registration`]: the account that `tmc cluster register` makes in the member for the hub.
//! * [`rules`]: RBAC rules, and which rights are missing from a review of them.
//!
//! Every object carries [`AgentId::labels`] and the owner annotation, by which alone it may be
//! changed or deleted later. Equal arguments render equal bytes.

pub mod election;
pub mod hub;
pub mod kubeconfig;
pub mod member;
pub mod registration;
pub mod rules;
pub mod workload;

use serde_json::{Value, json};
use tmc_apimachinery::GroupVersionResource;
use tmc_apimachinery::meta::meta;

use crate::hashes::agent_namespace;
use crate::keys::{AGENT_OWNER_ANNOTATION, AGENT_UID_LABEL};
use crate::workload::SyncerConfig;

/// Label of everything that is made here, with the value [`MANAGED_BY`].
pub const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";
/// Value of [`MANAGED_BY_LABEL`].
pub const MANAGED_BY: &str = "tmc";
/// Label that says what an object is part of.
pub const NAME_LABEL: &str = "app.kubernetes.io/name";
/// Value of [`NAME_LABEL`] of an agent's objects.
pub const SYNCER: &str = "tmc-syncer";

/// Whose agent: the identity of a SyncTarget.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AgentId {
    /// Logical cluster of the SyncTarget.
    pub cluster: String,
    /// Its name.
    pub target: String,
    /// Its uid.
    pub uid: String,
}

impl AgentId {
    /// The agent of a SyncTarget.
    pub fn new(cluster: &str, target: &str, uid: &str) -> Self {
        Self {
            cluster: cluster.to_owned(),
            target: target.to_owned(),
            uid: uid.to_owned(),
        }
    }

    /// The agent id (wire protocol, section 4): the name of each of its objects that is no
    /// namespaced object of its own, and of its account. Always a DNS-1123 label; other uids, other
    /// names.
    pub fn name(&self) -> String {
        agent_namespace(&self.target, &self.uid)
    }

    /// Its namespace in the member: what the SyncTarget says, else the agent id.
    pub fn namespace(&self, config: Option<&SyncerConfig>) -> String {
        config
            .and_then(|config| config.downstream_namespace.clone())
            .filter(|namespace| !namespace.is_empty())
            .unwrap_or_else(|| self.name())
    }

    /// Value of the owner annotation: `<cluster>/<name>/<uid>`.
    pub fn owner(&self) -> String {
        format!("{}/{}/{}", self.cluster, self.target, self.uid)
    }

    /// Whether an object was made for exactly this agent.
    pub fn owns(&self, object: &Value) -> bool {
        let object = meta(object);
        object.annotation(AGENT_OWNER_ANNOTATION) == Some(&*self.owner())
            && object.label(AGENT_UID_LABEL) == Some(&*self.uid)
    }

    /// Selector text of everything that was made for this agent.
    pub fn selector(&self) -> String {
        format!(
            "{MANAGED_BY_LABEL}={MANAGED_BY},{AGENT_UID_LABEL}={}",
            self.uid
        )
    }

    /// Labels of its objects.
    pub fn labels(&self) -> Value {
        json!({MANAGED_BY_LABEL: MANAGED_BY, NAME_LABEL: SYNCER, AGENT_UID_LABEL: self.uid})
    }

    /// Metadata of one of its objects.
    fn metadata(&self, namespace: &str, name: &str) -> Value {
        let mut metadata = json!({
            "name": name, "labels": self.labels(),
            "annotations": {AGENT_OWNER_ANNOTATION: self.owner()},
        });
        if !namespace.is_empty() {
            metadata["namespace"] = namespace.into();
        }
        metadata
    }
}

const RBAC: &str = "rbac.authorization.k8s.io";
const RBAC_V1: &str = "rbac.authorization.k8s.io/v1";

/// The resource that a manifest of this module is written to.
pub fn resource_of(manifest: &Value) -> Option<GroupVersionResource> {
    let (group, resource) = match manifest["kind"].as_str()? {
        "Namespace" => ("", "namespaces"),
        "ServiceAccount" => ("", "serviceaccounts"),
        "Secret" => ("", "secrets"),
        "ClusterRole" => (RBAC, "clusterroles"),
        "ClusterRoleBinding" => (RBAC, "clusterrolebindings"),
        "Role" => (RBAC, "roles"),
        "RoleBinding" => (RBAC, "rolebindings"),
        "Deployment" => ("apps", "deployments"),
        _ => return None,
    };
    Some(GroupVersionResource::new(group, "v1", resource))
}

/// The kinds of which an agent can have objects in a member or on a hub, in the order in which they
/// are removed: what acts first, what it acts with after it.
pub fn removal_order() -> [GroupVersionResource; 9] {
    let rbac = |resource| GroupVersionResource::new(RBAC, "v1", resource);
    let core = |resource| GroupVersionResource::new("", "v1", resource);
    [
        GroupVersionResource::new("apps", "v1", "deployments"),
        core("secrets"),
        rbac("clusterrolebindings"),
        rbac("rolebindings"),
        rbac("clusterroles"),
        rbac("roles"),
        // After the right to make it: a pod that is still going would.
        GroupVersionResource::new("coordination.k8s.io", "v1", "leases"),
        core("serviceaccounts"),
        core("namespaces"),
    ]
}

fn account(metadata: Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata,
        // Whoever uses it asks for a token; no pod gets one by accident.
        "automountServiceAccountToken": false,
    })
}

fn role(kind: &str, metadata: Value, rules: &[rules::Rule]) -> Value {
    json!({"apiVersion": RBAC_V1, "kind": kind, "metadata": metadata, "rules": rules})
}

fn binding(kind: &str, metadata: Value, role: (&str, &str), account: (&str, &str)) -> Value {
    json!({
        "apiVersion": RBAC_V1, "kind": kind, "metadata": metadata,
        "roleRef": {"apiGroup": RBAC, "kind": role.0, "name": role.1},
        "subjects": [{"kind": "ServiceAccount", "namespace": account.0, "name": account.1}],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_labels_and_differ_by_uid() {
        let long = "a.very.long.name.of.a.target.that.somebody.found.useful.to.have.in.full";
        let one = AgentId::new("c", long, "u1");
        let two = AgentId::new("c", long, "u2");
        assert!(
            one.name().len() <= 63 && !one.name().contains('.'),
            "{}",
            one.name()
        );
        assert_ne!(one.name(), two.name());
        assert!(
            AgentId::new("c", "east", "u")
                .name()
                .starts_with("kcp-syncer-east-")
        );
    }

    #[test]
    fn the_namespace_is_what_the_target_says_else_the_agent_id() {
        let agent = AgentId::new("c", "east", "u");
        assert_eq!(agent.namespace(None), agent.name());
        let config = SyncerConfig {
            downstream_namespace: Some("mine".into()),
            ..SyncerConfig::default()
        };
        assert_eq!(agent.namespace(Some(&config)), "mine");
    }

    #[test]
    fn an_object_is_owned_by_owner_and_uid_together() {
        let agent = AgentId::new("c", "east", "u");
        let object = json!({"metadata": agent.metadata("", "x")});
        assert!(agent.owns(&object));
        assert!(!AgentId::new("d", "east", "u").owns(&object));
        assert!(!AgentId::new("c", "east", "v").owns(&object));
        assert!(!agent.owns(&json!({"metadata": {"labels": agent.labels()}})));
        assert!(!agent.owns(&json!({})));
    }
}
