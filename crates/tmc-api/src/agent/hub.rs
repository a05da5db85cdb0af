//! Who an agent is on the hub, where it does not run inside it: an account in its SyncTarget's
//! workspace that may enter it, sync this one target, and renew its own token.

use serde_json::Value;

use super::rules::Rule;
use super::{AgentId, account, binding, role};
use crate::workload::GROUP;

/// Namespace of the account, in the SyncTarget's workspace.
pub const NAMESPACE: &str = "default";

/// ServiceAccount, ClusterRole, ClusterRoleBinding, Role and RoleBinding, in the order to apply
/// them; all have the agent id as their name.
pub fn manifests(agent: &AgentId) -> Vec<Value> {
    let name = agent.name();
    let everywhere = [
        Rule::paths(["/"], &["access"]),
        Rule::on(GROUP, &["synctargets"], &["get", "sync"]).named(&[&*agent.target]),
    ];
    let renew = [Rule::on("", &["serviceaccounts/token"], &["create"]).named(&[&*name])];
    let (wide, local) = (agent.metadata("", &name), agent.metadata(NAMESPACE, &name));
    let this = (NAMESPACE, &*name);
    vec![
        account(local.clone()),
        role("ClusterRole", wide.clone(), &everywhere),
        binding("ClusterRoleBinding", wide, ("ClusterRole", &name), this),
        role("Role", local.clone(), &renew),
        binding("RoleBinding", local, ("Role", &name), this),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::agent::resource_of;

    #[test]
    fn it_may_enter_sync_its_own_target_and_renew_its_own_token_only() {
        let agent = AgentId::new("c", "east", "u");
        let name = agent.name();
        let all = manifests(&agent);
        assert!(
            all.iter()
                .all(|m| agent.owns(m) && resource_of(m).is_some())
        );
        assert_eq!(
            all[1]["rules"],
            json!([
                {"nonResourceURLs": ["/"], "verbs": ["access"]},
                {"apiGroups": ["workload.kcp.io"], "resources": ["synctargets"],
                 "resourceNames": ["east"], "verbs": ["get", "sync"]},
            ])
        );
        assert_eq!(
            all[3]["rules"],
            json!([{"apiGroups": [""], "resources": ["serviceaccounts/token"],
                    "resourceNames": [name], "verbs": ["create"]}])
        );
        assert_eq!(all[4]["roleRef"]["kind"], "Role");
        assert_eq!(all[4]["metadata"]["namespace"], "default");
    }
}
