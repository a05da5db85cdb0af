//! The Lease by which the replicas of an agent agree on who of them works, in the member, in the
//! agent's own namespace. Only an agent that runs as a workload there has replicas.

use serde_json::{Value, json};

use super::rules::Rule;
use super::{AgentId, binding, role};

const GROUP: &str = "coordination.k8s.io";

impl AgentId {
    /// Name of its Lease.
    pub fn lease(&self) -> String {
        self.name()
    }

    /// Labels and annotations of its Lease. The agent makes it and the hub removes it.
    pub fn lease_marks(&self) -> Value {
        let metadata = self.metadata("", &self.lease());
        json!({"labels": metadata["labels"], "annotations": metadata["annotations"]})
    }
}

/// Role and RoleBinding that let the agent's account hold its one Lease, in the order to apply them.
pub fn manifests(agent: &AgentId, namespace: &str) -> Vec<Value> {
    let name = agent.name();
    let metadata = agent.metadata(namespace, &name);
    let rules = [
        // What is not there yet has no name to go by.
        Rule::on(GROUP, &["leases"], &["create"]),
        Rule::on(GROUP, &["leases"], &["get", "update"]).named(&[&*agent.lease()]),
    ];
    vec![
        role("Role", metadata.clone(), &rules),
        binding("RoleBinding", metadata, ("Role", &name), (namespace, &name)),
    ]
}

/// What it takes to hand on these rights, and to remove a Lease: for who installs agents.
pub fn installers_rule() -> Rule {
    Rule::on(
        GROUP,
        &["leases"],
        &["create", "delete", "get", "list", "update"],
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::resource_of;

    #[test]
    fn the_account_may_make_leases_in_its_namespace_and_hold_its_own() {
        let agent = AgentId::new("c", "east", "u");
        let name = agent.name();
        let all = manifests(&agent, "home");
        assert!(
            all.iter()
                .all(|m| agent.owns(m) && resource_of(m).is_some())
        );
        assert!(all.iter().all(|m| m["metadata"]["namespace"] == "home"));
        assert_eq!(all[0]["kind"], "Role", "nothing beyond its namespace");
        assert_eq!(
            all[0]["rules"],
            json!([
                {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["create"]},
                {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"],
                 "resourceNames": [name], "verbs": ["get", "update"]},
            ])
        );
        assert_eq!(
            all[1]["roleRef"],
            json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name})
        );
        assert_eq!(
            all[1]["subjects"],
            json!([{"kind": "ServiceAccount", "namespace": "home", "name": name}])
        );
    }

    #[test]
    fn a_lease_with_the_marks_is_the_agents_own() {
        let agent = AgentId::new("c", "east", "u");
        assert!(agent.owns(&json!({"metadata": agent.lease_marks()})));
        assert_eq!(agent.lease_marks().get("name"), None);
    }
}
