//! The account that `tmc cluster register` makes in a member with its user's own credential. The
//! hub holds a token of it, which it renews, and makes the syncer's account with it.
//!
//! Its rights are what that takes: namespaces, accounts and their tokens, RBAC objects, and for mode
//! `Deployment` Deployments, Secrets and the Leases of agents. It has neither `escalate` nor `bind`,
//! so it can hand on no right that it does not have; that is why it holds the syncer's own rules too.
//! Whoever may ask for tokens of every account may in the end do what any account may: the Secret
//! that holds this credential is guarded accordingly.

use serde_json::{Value, json};
use tmc_apimachinery::GroupVersionResource;

use super::election::installers_rule;
use super::kubeconfig::{TokenClaims, claims};
use super::rules::{Rule, syncer_rules};
use super::{MANAGED_BY, MANAGED_BY_LABEL, NAME_LABEL, account, binding, role};
use crate::hashes::base36_sha224;
use crate::keys::REGISTRATION_ANNOTATION;

/// Namespace of registration accounts in a member.
pub const NAMESPACE: &str = "tmc-registration";
/// Value of [`NAME_LABEL`] of their objects.
pub const COMPONENT: &str = "tmc-registration";
/// Start of the names of registration accounts.
const PREFIX: &str = "tmc-register-";
/// Longest part of a Cluster's name in the name of its account.
const MAX_NAME: usize = 63 - PREFIX.len() - 9;

/// The Cluster that an account is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registered<'a> {
    /// Scheme, host and port of the hub, so that two hubs can share a member.
    pub hub: &'a str,
    /// Logical cluster of the Cluster.
    pub cluster: &'a str,
    /// Its namespace.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
}

impl Registered<'_> {
    /// Name of the account, its ClusterRole and its binding: the same for the same Cluster, so that
    /// registering again changes nothing. A DNS-1123 label.
    pub fn account(&self) -> String {
        let text = format!(
            "{}\n{}\n{}\n{}",
            self.hub, self.cluster, self.namespace, self.name
        );
        let cut: String = self.name.chars().take(MAX_NAME).collect();
        let cut = cut.replace('.', "-");
        format!(
            "{PREFIX}{}-{}",
            cut.trim_matches('-'),
            &base36_sha224(&text)[..8]
        )
    }
}

/// Namespace, ServiceAccount, ClusterRole and ClusterRoleBinding, in the order to apply them.
/// `synced` is what the hub's targets sync (`--sync-resources`).
pub fn manifests(of: &Registered<'_>, synced: &[GroupVersionResource]) -> Vec<Value> {
    let name = of.account();
    let labels = json!({MANAGED_BY_LABEL: MANAGED_BY, NAME_LABEL: COMPONENT});
    let owner = format!("{}/{}/{}", of.cluster, of.namespace, of.name);
    let metadata =
        || json!({"name": name, "labels": labels, "annotations": {REGISTRATION_ANNOTATION: owner}});
    let mut local = metadata();
    local["namespace"] = NAMESPACE.into();
    vec![
        // Shared by all registrations: it belongs to none of them.
        json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": NAMESPACE, "labels": labels},
        }),
        account(local),
        role("ClusterRole", metadata(), &rules(synced)),
        binding(
            "ClusterRoleBinding",
            metadata(),
            ("ClusterRole", &name),
            (NAMESPACE, &name),
        ),
    ]
}

/// The rules of a registration account, sorted.
pub fn rules(synced: &[GroupVersionResource]) -> Vec<Rule> {
    const WRITE: [&str; 6] = ["create", "delete", "get", "list", "patch", "update"];
    let mut rules = syncer_rules(synced);
    rules.extend([
        Rule::on("", &["namespaces", "secrets", "serviceaccounts"], &WRITE),
        Rule::on("", &["serviceaccounts/token"], &["create"]),
        Rule::on("apps", &["deployments"], &WRITE),
        installers_rule(),
        Rule::on(
            super::RBAC,
            &[
                "clusterrolebindings",
                "clusterroles",
                "rolebindings",
                "roles",
            ],
            &WRITE,
        ),
    ]);
    rules.sort();
    rules
}

/// Whether the objects of an account carry the marks of a registration: only such are removed.
pub fn is_registration(object: &Value) -> bool {
    let labels = &object["metadata"]["labels"];
    labels[MANAGED_BY_LABEL] == MANAGED_BY && labels[NAME_LABEL] == COMPONENT
}

/// Recognises the kubeconfig that `register` uploads: a kubeconfig whose current user is nothing but
/// an inline token of a registration account. Returns what the token says of itself.
pub fn recognise(kubeconfig: &Value) -> Option<TokenClaims> {
    let named = |list: &str, name: &Value| -> Option<Value> {
        let mut entries = kubeconfig[list]
            .as_array()?
            .iter()
            .filter(|e| e["name"] == *name);
        let entry = entries.next()?.clone();
        entries.next().is_none().then_some(entry)
    };
    let context = named("contexts", &kubeconfig["current-context"])?;
    let user = named("users", &context["context"]["user"])?;
    let user = user["user"].as_object()?;
    let token = user.get("token")?.as_str().filter(|_| user.len() == 1)?;
    claims(token).filter(|claims| is_account(&claims.namespace, &claims.account))
}

/// Whether this is the name of a registration account.
pub fn is_account(namespace: &str, name: &str) -> bool {
    namespace == NAMESPACE && name.starts_with(PREFIX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::kubeconfig::{fake_token, in_cluster, with_token};
    use crate::agent::rules::missing;
    use crate::agent::{AgentId, election, resource_of};

    const EAST: Registered<'static> = Registered {
        hub: "https://hub:6443",
        cluster: "root",
        namespace: "default",
        name: "east",
    };

    #[test]
    fn the_account_differs_by_hub_workspace_namespace_and_name_and_stays_a_label() {
        let other = |change: fn(&mut Registered<'static>)| {
            let mut of = EAST;
            change(&mut of);
            of.account()
        };
        let all = [
            EAST.account(),
            other(|of| of.hub = "https://other"),
            other(|of| of.cluster = "2abc"),
            other(|of| of.namespace = "team"),
            other(|of| of.name = "east.one.of.a.very.long.name-that-goes-on-and-on-and-on-and-on"),
        ];
        let set: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(set.len(), all.len());
        for name in &all {
            assert!(name.len() <= 63 && !name.contains('.'), "{name}");
            assert!(is_account(NAMESPACE, name));
        }
        assert_eq!(EAST.account(), EAST.account());
    }

    #[test]
    fn it_holds_the_syncers_rules_and_neither_escalates_nor_binds() {
        let synced = [GroupVersionResource::new("batch", "v1", "jobs")];
        let rules = rules(&synced);
        assert_eq!(missing(&syncer_rules(&synced), &rules), []);
        let agent = AgentId::new("c", "east", "u");
        let lease = election::manifests(&agent, "home").swap_remove(0);
        let lease: Vec<Rule> = serde_json::from_value(lease["rules"].clone()).unwrap();
        for mut rule in lease {
            // Who may do it to all objects may hand on the right to do it to one.
            rule.resource_names.clear();
            assert_eq!(missing(&[rule], &rules), []);
        }
        let text = serde_json::to_string(&rules).unwrap();
        for word in ["\"*\"", "escalate", "bind\"", "impersonate"] {
            assert!(!text.contains(word), "{word} in {text}");
        }
    }

    #[test]
    fn every_object_is_marked_and_the_namespace_is_nobodys() {
        let all = manifests(&EAST, &[]);
        assert!(
            all.iter()
                .all(|m| is_registration(m) && resource_of(m).is_some())
        );
        assert_eq!(all[0]["metadata"]["annotations"], Value::Null);
        assert_eq!(all[3]["subjects"][0]["name"], *EAST.account());
        assert!(!is_registration(
            &json!({"metadata": {"labels": {MANAGED_BY_LABEL: MANAGED_BY}}})
        ));
    }

    #[test]
    fn its_kubeconfig_is_recognised_and_no_other() {
        let subject = format!("system:serviceaccount:{NAMESPACE}:{}", EAST.account());
        let token = fake_token(&subject, 1, 2);
        let config = with_token("https://m", b"ca", &token);
        assert_eq!(recognise(&config).unwrap().account, EAST.account());
        let mut more = config.clone();
        more["users"][0]["user"]["as"] = "root".into();
        let mut twice = config.clone();
        let user = config["users"][0].clone();
        twice["users"].as_array_mut().unwrap().push(user);
        let foreign = with_token(
            "https://m",
            b"ca",
            &fake_token("system:serviceaccount:kube-system:x", 1, 2),
        );
        for other in [
            more,
            twice,
            foreign,
            in_cluster("/x"),
            json!({}),
            json!(null),
        ] {
            assert_eq!(recognise(&other), None, "{other}");
        }
    }
}
