//! Names of API groups, versions, kinds, resources and logical clusters.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// An API group and version, `apps/v1`; the core group is the empty string, printed `v1`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupVersion {
    /// The group, empty for core.
    pub group: String,
    /// The version, `v1`.
    pub version: String,
}

impl GroupVersion {
    /// Names a group and version.
    pub fn new(group: impl Into<String>, version: impl Into<String>) -> Self {
        Self {
            group: group.into(),
            version: version.into(),
        }
    }

    /// Reads an `apiVersion` value; `None` if it has more than one `/`, an empty part or none.
    pub fn parse(api_version: &str) -> Option<Self> {
        let mut parts = api_version.split('/');
        let (first, second) = (parts.next()?, parts.next());
        if parts.next().is_some() || first.is_empty() || second == Some("") {
            return None;
        }
        Some(match second {
            Some(version) => Self::new(first, version),
            None => Self::new("", first),
        })
    }
}

impl fmt::Display for GroupVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.group.is_empty() {
            f.write_str(&self.version)
        } else {
            write!(f, "{}/{}", self.group, self.version)
        }
    }
}

/// A kind in a group and version.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupVersionKind {
    /// The group, empty for core.
    pub group: String,
    /// The version.
    pub version: String,
    /// The kind, `Deployment`.
    pub kind: String,
}

impl GroupVersionKind {
    /// Names a kind.
    pub fn new(group: &str, version: &str, kind: &str) -> Self {
        Self {
            group: group.into(),
            version: version.into(),
            kind: kind.into(),
        }
    }

    /// The `apiVersion` of objects of this kind.
    pub fn group_version(&self) -> GroupVersion {
        GroupVersion::new(&*self.group, &*self.version)
    }
}

/// A resource in a group and version: what a URL names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupVersionResource {
    /// The group, empty for core.
    pub group: String,
    /// The version.
    pub version: String,
    /// The plural, lower-case resource, `deployments`.
    pub resource: String,
}

impl GroupVersionResource {
    /// Names a resource.
    pub fn new(group: &str, version: &str, resource: &str) -> Self {
        Self {
            group: group.into(),
            version: version.into(),
            resource: resource.into(),
        }
    }

    /// Its group and version.
    pub fn group_version(&self) -> GroupVersion {
        GroupVersion::new(&*self.group, &*self.version)
    }

    /// The resource without its version.
    pub fn group_resource(&self) -> GroupResource {
        GroupResource {
            group: self.group.clone(),
            resource: self.resource.clone(),
        }
    }
}

/// A resource without a version, printed `deployments.apps`, as in error messages.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct GroupResource {
    /// The group, empty for core.
    pub group: String,
    /// The plural resource.
    pub resource: String,
}

impl GroupResource {
    /// Names a resource without a version.
    pub fn new(group: &str, resource: &str) -> Self {
        Self {
            group: group.into(),
            resource: resource.into(),
        }
    }
}

impl fmt::Display for GroupResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.resource)?;
        if !self.group.is_empty() {
            write!(f, ".{}", self.group)?;
        }
        Ok(())
    }
}

/// The name of a logical cluster (`root`, `2abc…`): an opaque id, never a path. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClusterName(Arc<str>);

impl ClusterName {
    /// The root workspace.
    pub const ROOT: &'static str = "root";

    /// Wraps a name that is known to be one; see [`ClusterName::parse`] for text from outside.
    pub fn new(name: &str) -> Self {
        Self(Arc::from(name))
    }

    /// Reads a logical cluster *name*: `^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`, or `system:` followed by
    /// such a name. A path (`root:org`) is refused: it must be resolved before storage.
    pub fn parse(text: &str) -> Option<Self> {
        let bare = text.strip_prefix("system:").unwrap_or(text);
        is_path_segment(bare).then(|| Self::new(text))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ClusterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for ClusterName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

/// Whether `text` is one segment of a workspace path: a DNS-1123 label without a length limit.
pub fn is_path_segment(text: &str) -> bool {
    let alnum = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    match (bytes.first(), bytes.last()) {
        (Some(&first), Some(&last)) => {
            alnum(first) && alnum(last) && bytes.iter().all(|&b| alnum(b) || b == b'-')
        }
        _ => false,
    }
}

/// Whether `text` is a workspace path: segments separated by `:` (protocol: kcp path pattern).
pub fn is_workspace_path(text: &str) -> bool {
    text.split(':').all(is_path_segment)
}

/// Which logical clusters a request is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ClusterScope {
    /// `/clusters/<name>`.
    One(ClusterName),
    /// `/clusters/*`: list and watch over all of them.
    All,
}

impl ClusterScope {
    /// The single cluster, if it is one.
    pub fn one(&self) -> Option<&ClusterName> {
        match self {
            Self::One(name) => Some(name),
            Self::All => None,
        }
    }
}

impl fmt::Display for ClusterScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.one().map_or("*", ClusterName::as_str))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_api_version_splits_into_group_and_version() {
        assert_eq!(
            GroupVersion::parse("apps/v1"),
            Some(GroupVersion::new("apps", "v1"))
        );
        assert_eq!(GroupVersion::parse("v1"), Some(GroupVersion::new("", "v1")));
        for bad in ["", "/", "a/", "/v1", "a/b/c"] {
            assert_eq!(GroupVersion::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_path_is_not_a_cluster_name_but_a_system_name_is() {
        assert!(ClusterName::parse("root").is_some());
        assert!(ClusterName::parse("system:admin").is_some());
        for bad in ["root:org", "", "-a", "a-", "A", "*", "a/b", "system:"] {
            assert!(ClusterName::parse(bad).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn group_resources_print_as_in_kubernetes_messages() {
        assert_eq!(
            GroupResource::new("apps", "deployments").to_string(),
            "deployments.apps"
        );
        assert_eq!(GroupResource::new("", "pods").to_string(), "pods");
    }
}
