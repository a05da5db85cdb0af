//! Role-based access control inside a workspace, as Kubernetes has it, with a compiled index per
//! workspace that a write to any role or binding drops before the writer is answered.

mod bootstrap;
mod escalation;
mod rules;

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;
use serde_json::Value;
use tmc_apimachinery::user::{
    Attributes, Decision, GROUP_CONTROLLERS, GROUP_KCP_ADMIN, GROUP_MASTERS, Target, UserInfo,
};
use tmc_apimachinery::{ClusterName, ClusterScope, GroupResource};

pub(crate) use escalation::check as check_escalation;
pub(crate) use rules::Rule;

use crate::storage::{Core, Layout};

/// Prefix of groups that confine an identity to one logical cluster. Only this hub's signer puts
/// them into a certificate, and its authenticator into the identity of a ServiceAccount: no request
/// may ask for a group under `system:`.
pub const SCOPE_GROUP_PREFIX: &str = "system:tmc:scope:";
/// Prefix of the user names of ServiceAccounts.
pub(crate) const SERVICE_ACCOUNT_PREFIX: &str = "system:serviceaccount:";

const GROUP: &str = "rbac.authorization.k8s.io";

/// A subject bound to rules, in one namespace or (empty) everywhere.
#[derive(Debug)]
struct Grant {
    subjects: Vec<Subject>,
    namespace: String,
    rules: Arc<Vec<Rule>>,
}

#[derive(Debug, PartialEq, Eq)]
enum Subject {
    User(String),
    Group(String),
}

impl Subject {
    fn read(subject: &Value, default_namespace: &str) -> Option<Self> {
        let name = subject["name"].as_str()?.to_owned();
        match subject["kind"].as_str()? {
            "User" => Some(Self::User(name)),
            "Group" => Some(Self::Group(name)),
            "ServiceAccount" => {
                let namespace = subject["namespace"].as_str().unwrap_or(default_namespace);
                Some(Self::User(format!(
                    "system:serviceaccount:{namespace}:{name}"
                )))
            }
            _ => None,
        }
    }

    fn is(&self, user: &UserInfo) -> bool {
        match self {
            Self::User(name) => *name == user.name,
            Self::Group(group) => user.in_group(group),
        }
    }
}

/// The compiled grants of a workspace.
#[derive(Debug, Default)]
struct Index {
    grants: Vec<Grant>,
}

/// Compiled indexes by logical cluster.
#[derive(Default)]
pub(crate) struct Rbac {
    indexes: RwLock<HashMap<String, Arc<Index>>>,
}

impl Rbac {
    pub(crate) fn invalidate(&self, cluster: &str) {
        self.indexes.write().remove(cluster);
    }

    fn index(&self, core: &Core, cluster: &ClusterName) -> Arc<Index> {
        if let Some(index) = self.indexes.read().get(cluster.as_str()) {
            return index.clone();
        }
        // Compiled under the write lock: a concurrent invalidation waits and then drops it.
        let mut indexes = self.indexes.write();
        let index = Arc::new(compile(core, cluster));
        indexes.insert(cluster.as_str().to_owned(), index.clone());
        index
    }

    /// Every rule that a user holds in a namespace (empty: cluster-wide ones only).
    pub(crate) fn rules_for(
        &self,
        core: &Core,
        cluster: &ClusterName,
        user: &UserInfo,
        namespace: &str,
    ) -> Vec<Arc<Vec<Rule>>> {
        let Some(user) = identity_in(user, cluster) else {
            return Vec::new();
        };
        let index = self.index(core, cluster);
        let held = index.grants.iter().filter(|grant| {
            (grant.namespace.is_empty() || grant.namespace == namespace)
                && grant.subjects.iter().any(|s| s.is(&user))
        });
        let mut rules: Vec<_> = held.map(|grant| grant.rules.clone()).collect();
        rules.extend(bootstrap::implicit(&user));
        rules
    }

    /// Whether rules in the workspace permit what is asked. Does not ask whether the user may enter
    /// the workspace.
    pub(crate) fn permits(
        &self,
        core: &Core,
        cluster: &ClusterName,
        attributes: &Attributes,
    ) -> bool {
        let namespace = match &attributes.target {
            Target::Resource(target) => target.namespace.as_str(),
            Target::Path(_) => "",
        };
        self.rules_for(core, cluster, &attributes.user, namespace)
            .iter()
            .any(|rules| rules.iter().any(|rule| rule.permits(attributes)))
    }
}

/// Whether a user bypasses RBAC. Guards on what is written apply to them all the same.
pub(crate) fn is_privileged(user: &UserInfo) -> bool {
    [GROUP_MASTERS, GROUP_KCP_ADMIN, GROUP_CONTROLLERS]
        .iter()
        .any(|group| user.in_group(group))
}

/// Who an identity is in a logical cluster. A ServiceAccount of another one is a user of its own name
/// there, with no group but `system:authenticated`, as in kcp; any other identity that is confined
/// elsewhere is nobody, `None`.
pub(crate) fn identity_in<'a>(
    user: &'a UserInfo,
    cluster: &ClusterName,
) -> Option<Cow<'a, UserInfo>> {
    let mut foreign = scopes(user).filter(|scope| *scope != cluster.as_str());
    let Some(home) = foreign.next() else {
        return Some(Cow::Borrowed(user));
    };
    let account = user.name.strip_prefix(SERVICE_ACCOUNT_PREFIX)?;
    let name = format!("system:kcp:serviceaccount:{home}:{account}");
    Some(Cow::Owned(UserInfo {
        uid: user.uid.clone(),
        extra: user.extra.clone(),
        ..UserInfo::new(&name, &[])
    }))
}

fn scopes(user: &UserInfo) -> impl Iterator<Item = &str> {
    let groups = user.groups.iter();
    groups.filter_map(|group| group.strip_prefix(SCOPE_GROUP_PREFIX))
}

/// Whether a user is a ServiceAccount that lives in a logical cluster.
fn lives_in(user: &UserInfo, cluster: &ClusterName) -> bool {
    user.name.starts_with(SERVICE_ACCOUNT_PREFIX)
        && scopes(user).any(|scope| scope == cluster.as_str())
}

impl Core {
    /// Decides a request to this hub: privileged groups, then the identity's scope, then entry to
    /// the workspace (verb `access` on `/`), then RBAC inside it.
    pub(crate) fn authorize(&self, attributes: &Attributes) -> Decision {
        if is_privileged(&attributes.user) {
            return Decision::Allow;
        }
        let ClusterScope::One(cluster) = &attributes.cluster else {
            return Decision::Deny("access to the `*` logical cluster is not permitted".into());
        };
        if identity_in(&attributes.user, cluster).is_none() {
            return Decision::Deny("this identity was issued for another workspace".into());
        }
        if self.layout == Layout::Workspaces && !self.may_enter(&attributes.user, cluster) {
            return Decision::Deny("workspace access not permitted".into());
        }
        if self.rbac.permits(self, cluster, attributes) {
            Decision::Allow
        } else {
            Decision::NoOpinion(String::new())
        }
    }

    /// Decides a SubjectAccessReview: as [`Core::authorize`], but entry is not asked for, because
    /// the subject does not act here itself.
    pub(crate) fn review_access(&self, attributes: &Attributes) -> Decision {
        if is_privileged(&attributes.user) {
            return Decision::Allow;
        }
        let ClusterScope::One(cluster) = &attributes.cluster else {
            return Decision::NoOpinion(String::new());
        };
        if self.rbac.permits(self, cluster, attributes) {
            Decision::Allow
        } else {
            Decision::NoOpinion(String::new())
        }
    }

    fn may_enter(&self, user: &UserInfo, cluster: &ClusterName) -> bool {
        let attributes = Attributes {
            user: user.clone(),
            cluster: ClusterScope::One(cluster.clone()),
            verb: "access".into(),
            target: Target::Path("/".into()),
        };
        user.in_group("system:kcp:workspace:access")
            || lives_in(user, cluster)
            || self.rbac.permits(self, cluster, &attributes)
    }

    /// The rules of a role, the built-in ones included; `None` if there is no such role.
    pub(crate) fn role_rules(
        &self,
        cluster: &ClusterName,
        kind: &str,
        namespace: &str,
        name: &str,
    ) -> Option<Arc<Vec<Rule>>> {
        if kind == "ClusterRole"
            && let Some(rules) = bootstrap::cluster_role(name)
        {
            return Some(rules);
        }
        let (plural, namespace) = if kind == "Role" {
            ("roles", namespace)
        } else {
            ("clusterroles", "")
        };
        let role = self.read(&GroupResource::new(GROUP, plural), cluster, namespace, name)?;
        Some(Arc::new(Rule::list(&role["rules"])))
    }
}

fn compile(core: &Core, cluster: &ClusterName) -> Index {
    let mut index = Index::default();
    for plural in ["clusterrolebindings", "rolebindings"] {
        for binding in core.read_all(&GroupResource::new(GROUP, plural), cluster, "") {
            let namespace = tmc_apimachinery::meta::meta(&binding)
                .namespace()
                .to_owned();
            let role = &binding["roleRef"];
            let kind = role["kind"].as_str().unwrap_or_default();
            let name = role["name"].as_str().unwrap_or_default();
            // A binding to a role that does not exist grants nothing until it does.
            let Some(rules) = core.role_rules(cluster, kind, &namespace, name) else {
                continue;
            };
            let subjects = binding["subjects"].as_array().into_iter().flatten();
            let subjects = subjects
                .filter_map(|s| Subject::read(s, &namespace))
                .collect();
            index.grants.push(Grant {
                subjects,
                namespace,
                rules,
            });
        }
    }
    index
}

#[cfg(test)]
mod tests {
    use super::*;

    fn confined(name: &str, scope: &str) -> UserInfo {
        let group = format!("{SCOPE_GROUP_PREFIX}{scope}");
        UserInfo::new(name, &["system:serviceaccounts", &group])
    }

    fn name_in(user: &UserInfo, cluster: &str) -> Option<String> {
        identity_in(user, &ClusterName::new(cluster)).map(|user| user.name.clone())
    }

    #[test]
    fn a_service_account_is_itself_at_home_and_another_elsewhere() {
        let robot = confined("system:serviceaccount:ns:robot", "abc");
        let home = ClusterName::new("abc");
        assert_eq!(identity_in(&robot, &home).as_deref(), Some(&robot));
        assert!(lives_in(&robot, &home));
        let abroad = ClusterName::new("abcd");
        let foreign = identity_in(&robot, &abroad).expect("somebody").into_owned();
        assert_eq!(foreign.name, "system:kcp:serviceaccount:abc:ns:robot");
        assert_eq!(foreign.groups, ["system:authenticated"]);
        assert!(!lives_in(&robot, &abroad) && !lives_in(&foreign, &home));
    }

    #[test]
    fn a_confined_certificate_is_nobody_elsewhere_and_an_unconfined_one_the_same_everywhere() {
        let ann = confined("ann", "abc");
        assert_eq!(name_in(&ann, "abc").as_deref(), Some("ann"));
        assert_eq!(name_in(&ann, "xyz"), None);
        let bob = UserInfo::new("bob", &[]);
        assert_eq!(name_in(&bob, "xyz").as_deref(), Some("bob"));
    }
}
