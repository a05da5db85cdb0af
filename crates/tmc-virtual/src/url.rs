//! The grammar of syncer URLs:
//! `/services/syncer/<cluster>/<target>/<uid>[/clusters/{*|<cluster>}]/<kube path>`.

use tmc_apimachinery::{ClusterName, ClusterScope};

/// A syncer URL, taken apart. Fields are compared exactly, never by prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncerPath {
    /// Logical cluster of the SyncTarget.
    pub cluster: ClusterName,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Logical cluster(s) addressed; `None` directly below the uid (endpoints, own discovery).
    pub scope: Option<ClusterScope>,
    /// The rest, starting with `/`.
    pub rest: String,
}

/// Group of the endpoints below a target's root.
pub const GROUP: &str = "syncer.kcp.io";

/// Reads a path below `/services/<workspace>`. `None` if it is not of this grammar: an empty
/// segment, a path where a name belongs, a missing `/clusters/<x>` before a path that is not of the
/// target's own root (`/api`, `/apis`, `/openapi/…` and `/apis/syncer.kcp.io/…`).
pub fn parse(workspace: &str, path: &str) -> Option<SyncerPath> {
    let rest = path
        .strip_prefix("/services/")?
        .strip_prefix(workspace)?
        .strip_prefix('/')?;
    let mut parts = rest.splitn(4, '/');
    let (cluster, name, uid) = (parts.next()?, parts.next()?, parts.next()?);
    let tail = parts.next().unwrap_or("");
    if name.is_empty() || uid.is_empty() {
        return None;
    }
    let (scope, rest) = match tail.strip_prefix("clusters/") {
        Some(below) => {
            let (scope, rest) = below.split_once('/').unwrap_or((below, ""));
            let scope = match scope {
                "*" => ClusterScope::All,
                name => ClusterScope::One(ClusterName::parse(name)?),
            };
            (Some(scope), rest)
        }
        None if is_of_the_root(tail) => (None, tail),
        None => return None,
    };
    Some(SyncerPath {
        cluster: ClusterName::parse(cluster)?,
        name: name.to_owned(),
        uid: uid.to_owned(),
        scope,
        rest: format!("/{rest}"),
    })
}

/// Whether a path is one of those directly below the uid: what is said of the endpoints, and they
/// themselves. Objects are below `/clusters/<x>` only.
fn is_of_the_root(tail: &str) -> bool {
    let mut parts = tail.split('/');
    match parts.next() {
        Some("api") => parts.all(str::is_empty),
        Some("apis") => parts
            .next()
            .is_none_or(|group| group.is_empty() || group == GROUP),
        Some("openapi") => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_a_wildcard_and_the_root_below_the_uid_are_told_apart() {
        let view = parse(
            "syncer",
            "/services/syncer/root/one/u1/clusters/2abc/api/v1/x",
        )
        .expect("view");
        assert_eq!(
            (view.cluster.as_str(), &*view.name, &*view.uid),
            ("root", "one", "u1")
        );
        assert_eq!(
            view.scope,
            Some(ClusterScope::One(ClusterName::new("2abc")))
        );
        assert_eq!(view.rest, "/api/v1/x");
        let all =
            parse("syncer", "/services/syncer/root/one/u1/clusters/*/apis").expect("wildcard");
        assert_eq!((all.scope, &*all.rest), (Some(ClusterScope::All), "/apis"));
        let root =
            parse("syncer", "/services/syncer/root/one/u1/apis/syncer.kcp.io").expect("root");
        assert_eq!((root.scope, &*root.rest), (None, "/apis/syncer.kcp.io"));
    }

    #[test]
    fn what_is_not_of_the_grammar_is_nobodys() {
        for path in [
            "/services/syncer",
            "/services/syncer/",
            "/services/syncer/root",
            "/services/syncer/root/one",
            "/services/syncer/root//u1/clusters/*/api",
            "/services/syncer/root/one//clusters/*/api",
            "/services/syncer/root:org/one/u1/clusters/*/api",
            "/services/syncer/root/one/u1/clusters/root:org/api",
            "/services/syncer/root/one/u1/clusters",
            "/services/syncer/root/one/u1/clusters//api",
            "/services/syncer/root/one/u1/api/v1/configmaps",
            "/services/syncer/root/one/u1/apis/apps/v1",
            "/services/syncer/root/one/u1/apis/apps/v1/namespaces/default/deployments",
            "/services/syncer/root/one/u1/version",
            "/services/syncer/root/one/u1",
            "/services/syncerx/root/one/u1/clusters/*/api",
            "/services/upsyncer/root/one/u1/clusters/*/api",
        ] {
            assert_eq!(parse("syncer", path), None, "{path}");
        }
    }
}
