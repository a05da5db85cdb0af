//! What every syncer has in its member, whoever runs it: a namespace, an account, its rights.

use serde_json::{Value, json};
use tmc_apimachinery::GroupVersionResource;

use super::rules::syncer_rules;
use super::{AgentId, account, binding, role};

/// Namespace, ServiceAccount, ClusterRole and ClusterRoleBinding, in the order to apply them.
/// `namespace` is [`AgentId::namespace`]; all other names are the agent id.
pub fn manifests(agent: &AgentId, namespace: &str, synced: &[GroupVersionResource]) -> Vec<Value> {
    let name = agent.name();
    let mut home = json!({
        "apiVersion": "v1", "kind": "Namespace", "metadata": agent.metadata("", namespace),
    });
    home["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] = "restricted".into();
    vec![
        home,
        account(agent.metadata(namespace, &name)),
        role(
            "ClusterRole",
            agent.metadata("", &name),
            &syncer_rules(synced),
        ),
        binding(
            "ClusterRoleBinding",
            agent.metadata("", &name),
            ("ClusterRole", &name),
            (namespace, &name),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::resource_of;

    #[test]
    fn the_account_is_bound_to_its_own_rules_and_every_object_is_marked() {
        let agent = AgentId::new("c", "east", "u");
        let synced = [GroupVersionResource::new("apps", "v1", "deployments")];
        let manifests = manifests(&agent, "home", &synced);
        let kinds: Vec<_> = manifests
            .iter()
            .map(|m| m["kind"].as_str().unwrap())
            .collect();
        assert_eq!(
            kinds,
            [
                "Namespace",
                "ServiceAccount",
                "ClusterRole",
                "ClusterRoleBinding"
            ]
        );
        assert!(
            manifests
                .iter()
                .all(|m| agent.owns(m) && resource_of(m).is_some())
        );
        let name = agent.name();
        assert_eq!(manifests[1]["metadata"]["namespace"], "home");
        assert_eq!(manifests[1]["automountServiceAccountToken"], false);
        assert_eq!(manifests[3]["roleRef"]["name"], *name);
        assert_eq!(
            manifests[3]["subjects"],
            json!([{"kind": "ServiceAccount", "namespace": "home", "name": name}])
        );
    }

    #[test]
    fn two_agents_of_one_name_share_nothing_in_a_member() {
        let names = |agent: &AgentId| -> Vec<String> {
            let all = manifests(agent, &agent.namespace(None), &[]);
            all.iter()
                .map(|m| m["metadata"]["name"].to_string())
                .collect()
        };
        let (one, two) = (
            AgentId::new("c", "east", "u1"),
            AgentId::new("d", "east", "u2"),
        );
        assert!(names(&one).iter().all(|name| !names(&two).contains(name)));
    }
}
