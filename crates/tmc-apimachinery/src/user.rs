//! Who asks, and what for: the input of authorization and admission.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::names::ClusterScope;

/// Group of everyone who authenticated.
pub const GROUP_AUTHENTICATED: &str = "system:authenticated";
/// Group of requests without credentials.
pub const GROUP_UNAUTHENTICATED: &str = "system:unauthenticated";
/// Group that bypasses RBAC (not the guards).
pub const GROUP_MASTERS: &str = "system:masters";
/// Group of kcp's shard administrators.
pub const GROUP_KCP_ADMIN: &str = "system:kcp:admin";
/// Group of this project's controllers: the only writers of system-written kinds and reserved keys.
pub const GROUP_CONTROLLERS: &str = "system:tmc:controllers";
/// Name of a request without credentials.
pub const USER_ANONYMOUS: &str = "system:anonymous";

/// An authenticated identity. An empty name is never valid.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct UserInfo {
    /// The user name.
    #[serde(rename = "username", default)]
    pub name: String,
    /// Identifies the user across time; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// The groups, `system:authenticated` included.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// What the authenticator added.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub extra: BTreeMap<String, Vec<String>>,
}

impl UserInfo {
    /// A user with groups; `system:authenticated` is added.
    pub fn new(name: &str, groups: &[&str]) -> Self {
        let mut groups: Vec<String> = groups.iter().map(|g| (*g).to_owned()).collect();
        if !groups.iter().any(|g| g == GROUP_AUTHENTICATED) {
            groups.push(GROUP_AUTHENTICATED.to_owned());
        }
        Self {
            name: name.to_owned(),
            groups,
            ..Self::default()
        }
    }

    /// The identity of a request without credentials.
    pub fn anonymous() -> Self {
        Self {
            name: USER_ANONYMOUS.to_owned(),
            groups: vec![GROUP_UNAUTHENTICATED.to_owned()],
            ..Self::default()
        }
    }

    /// Whether the user is in `group`, compared exactly.
    pub fn in_group(&self, group: &str) -> bool {
        self.groups.iter().any(|g| g == group)
    }
}

/// What a request asks permission for (`SubjectAccessReview` in fields).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// Who.
    pub user: UserInfo,
    /// Where.
    pub cluster: ClusterScope,
    /// The verb: `get`, `list`, `sync`, … or the lower-case HTTP method of a non-resource request.
    pub verb: String,
    /// What.
    pub target: Target,
}

/// The thing an action is on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// An API resource.
    Resource(ResourceTarget),
    /// A path such as `/metrics`, or `/` for workspace access.
    Path(String),
}

/// A resource, one object of it, or a part of one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResourceTarget {
    /// API group, empty for core.
    pub group: String,
    /// API version.
    pub version: String,
    /// Plural resource.
    pub resource: String,
    /// Subresource, empty if none.
    pub subresource: String,
    /// Namespace, empty for cluster-scoped or all namespaces.
    pub namespace: String,
    /// Object name, empty for list and create.
    pub name: String,
}

/// An authorizer's answer. No opinion is not a yes: the caller asks the next one and denies at last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Permitted.
    Allow,
    /// Refused, whatever others say.
    Deny(String),
    /// Neither; the text explains why, for the error message.
    NoOpinion(String),
}
