//! Layout of the store: `<group>/<resource>/<cluster>/<namespace>/<name>`, the core group spelled
//! `core`. One resource is one range, one workspace's share of it a sub-range, so the wildcard and
//! the workspace read the same index.

use tmc_apimachinery::{ClusterName, ClusterScope, GroupResource};
use tmc_store::Key;

/// Where one object is kept. Parsed back from a key, never guessed from its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location<'a> {
    /// Logical cluster.
    pub cluster: &'a str,
    /// Namespace, empty for cluster-scoped objects.
    pub namespace: &'a str,
    /// Name.
    pub name: &'a str,
}

/// The range of one resource over all logical clusters.
pub fn resource_prefix(resource: &GroupResource) -> String {
    let group = if resource.group.is_empty() {
        "core"
    } else {
        &resource.group
    };
    format!("{group}/{}/", resource.resource)
}

/// The range of a list: a resource, in one logical cluster or all, in one namespace or all. For the
/// wildcard the namespace cannot narrow the range; the caller filters.
pub fn list_prefix(resource: &GroupResource, scope: &ClusterScope, namespace: &str) -> String {
    let mut prefix = resource_prefix(resource);
    if let Some(cluster) = scope.one() {
        prefix.push_str(cluster.as_str());
        prefix.push('/');
        if !namespace.is_empty() {
            prefix.push_str(namespace);
            prefix.push('/');
        }
    }
    prefix
}

/// The key of one object.
pub fn object_key(
    resource: &GroupResource,
    cluster: &ClusterName,
    namespace: &str,
    name: &str,
) -> Key {
    format!("{}{cluster}/{namespace}/{name}", resource_prefix(resource)).into()
}

/// The resource whose object a key is of.
pub fn resource_of(key: &str) -> Option<GroupResource> {
    let (group, rest) = key.split_once('/')?;
    let (resource, _) = rest.split_once('/')?;
    let group = if group == "core" { "" } else { group };
    Some(GroupResource::new(group, resource))
}

/// Reads a key back.
pub fn locate(key: &str) -> Option<Location<'_>> {
    let mut parts = key.splitn(5, '/').skip(2);
    Some(Location {
        cluster: parts.next()?,
        namespace: parts.next()?,
        name: parts.next()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_reads_back_as_what_it_was_made_of() {
        let roles = GroupResource::new("rbac.authorization.k8s.io", "clusterroles");
        let key = object_key(&roles, &ClusterName::new("root"), "", "system:a:b");
        assert_eq!(
            &*key,
            "rbac.authorization.k8s.io/clusterroles/root//system:a:b"
        );
        let expected = Location {
            cluster: "root",
            namespace: "",
            name: "system:a:b",
        };
        assert_eq!(locate(&key), Some(expected));
        assert_eq!(resource_of(&key), Some(roles));
        let pods = GroupResource::new("", "pods");
        let key = object_key(&pods, &ClusterName::new("a"), "ns", "x");
        assert_eq!(resource_of(&key), Some(pods));
    }

    #[test]
    fn every_list_range_holds_its_objects_and_no_neighbour() {
        let pods = GroupResource::new("", "pods");
        let key = object_key(&pods, &ClusterName::new("a"), "ns", "x");
        for (scope, namespace, inside) in [
            (ClusterScope::All, "", true),
            (ClusterScope::One(ClusterName::new("a")), "", true),
            (ClusterScope::One(ClusterName::new("a")), "ns", true),
            (ClusterScope::One(ClusterName::new("a")), "n", false),
            (ClusterScope::One(ClusterName::new("ab")), "", false),
        ] {
            let prefix = list_prefix(&pods, &scope, namespace);
            assert_eq!(key.starts_with(&prefix), inside, "{prefix}");
        }
    }
}
