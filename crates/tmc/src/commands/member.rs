//! A registered cluster, found by the name of its Cluster or of its SyncTarget.

use anyhow::{Result, anyhow, bail};
use serde_json::Value;
use tmc_apimachinery::meta::meta;
use tmc_runtime::client::{Error, ListParams};

use crate::cli::Format;
use crate::context::{Context, Objects, explain};
use crate::output::{list, text};

/// API group of Clusters and SyncTargets.
pub const WORKLOAD: &str = "workload.kcp.io";
/// API group of Locations and Placements.
pub const SCHEDULING: &str = "scheduling.kcp.io";
/// Namespace of Clusters and their Secrets.
pub const NAMESPACE: &str = "default";
/// The workspace that has the clusters, unless somebody says otherwise.
pub const PROVIDER: &str = "root:compute";

/// What the hub has of a registered cluster: at least one of both.
#[derive(Clone, Debug, Default)]
pub struct Member {
    /// The Cluster; none for an External target, or if it may not be read.
    pub cluster: Option<Value>,
    /// The SyncTarget; none while the Cluster has not led to one.
    pub target: Option<Value>,
}

impl Member {
    /// The SyncTarget.
    ///
    /// # Errors
    /// When there is none yet: then why.
    pub fn target(&self, context: &Context) -> Result<&Value> {
        self.target.as_ref().ok_or_else(|| {
            let name = self.cluster.as_ref().map_or("", |c| meta(c).name());
            anyhow!(
                "cluster {name} has no SyncTarget yet; see why: tmc {}cluster describe {name}",
                context.flag()
            )
        })
    }
}

/// What kind of thing a typed name is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    Any,
    Cluster,
    Target,
}

/// `cluster/x` and `synctarget/x` say which of two things of one name is meant.
fn parse(typed: &str) -> (Wanted, &str) {
    match typed.split_once('/') {
        Some(("cluster" | "clusters", name)) => (Wanted::Cluster, name),
        Some(("synctarget" | "synctargets", name)) => (Wanted::Target, name),
        _ => (Wanted::Any, typed),
    }
}

/// SyncTargets of the workspace.
pub fn targets(context: &Context) -> Objects {
    context.objects(WORKLOAD, "v1alpha1", "synctargets")
}

/// Clusters of the workspace.
pub fn clusters(context: &Context) -> Objects {
    context.objects(WORKLOAD, "v1alpha1", "clusters")
}

/// Finds a registered cluster.
///
/// # Errors
/// When nothing has this name, two different things have it, or it may not be read.
pub async fn find(context: &Context, typed: &str) -> Result<Member> {
    let here = &context.workspace;
    let (wanted, name) = parse(typed);
    let target = match wanted {
        Wanted::Cluster => Ok(None),
        _ => optional(targets(context).get("", name).await),
    };
    let cluster = match wanted {
        Wanted::Target => Ok(None),
        _ => optional(clusters(context).get(NAMESPACE, name).await),
    };
    match (cluster, target) {
        (Ok(Some(cluster)), Ok(Some(target))) if !belongs(&target, &cluster) => bail!(
            "a Cluster and another SyncTarget are called {name}: write cluster/{name} or \
             synctarget/{name}"
        ),
        (Ok(Some(cluster)), Ok(target)) => from_cluster(context, cluster, target).await,
        (_, Ok(Some(target))) => from_target(context, target).await,
        (Ok(None), Ok(None)) => bail!(
            "workspace {here} has no Cluster and no SyncTarget called {name}; {}",
            where_to_look(context).await
        ),
        (Err(error), _) | (_, Err(error)) => Err(explain(error, here)),
    }
}

/// The remedy for a name that nothing has: what else there is, here or where clusters usually are.
async fn where_to_look(context: &Context) -> String {
    let one = ListParams {
        limit: 1,
        ..ListParams::default()
    };
    let found = targets(context).list("", &one).await;
    let none = found.is_ok_and(|found| list(&found, "/items").is_empty());
    match elsewhere(&context.workspace, context.workspaces).filter(|_| none) {
        Some(there) => there,
        None => format!("see what it has: tmc {}get targets", context.flag()),
    }
}

/// Says under an empty table where clusters usually are.
pub fn note_none(context: &Context, format: Format, found: &[Value]) {
    let there = elsewhere(&context.workspace, context.workspaces);
    if let (true, Format::Table, Some(there)) = (found.is_empty(), format, there) {
        eprintln!("no SyncTargets in {}; {there}", context.workspace);
    }
}

/// Where clusters usually are, unless that is here.
fn elsewhere(here: &str, workspaces: bool) -> Option<String> {
    (workspaces && here != PROVIDER).then(|| {
        format!("clusters are usually in {PROVIDER}: tmc --workspace {PROVIDER} get targets")
    })
}

/// Whether a SyncTarget is the one that a Cluster led to.
fn belongs(target: &Value, cluster: &Value) -> bool {
    let uid = text(cluster, "/status/syncTargetRef/uid");
    !uid.is_empty() && meta(target).uid() == uid
}

async fn from_cluster(context: &Context, cluster: Value, known: Option<Value>) -> Result<Member> {
    let name = text(&cluster, "/status/syncTargetRef/name");
    let target = match known {
        Some(target) => Some(target),
        None if name.is_empty() => None,
        None => optional(targets(context).get("", name).await)
            .map_err(|e| explain(e, &context.workspace))?,
    };
    Ok(Member {
        target: target.filter(|target| belongs(target, &cluster)),
        cluster: Some(cluster),
    })
}

async fn from_target(context: &Context, target: Value) -> Result<Member> {
    let name = text(&target, "/spec/clusterRef/name");
    let namespace = text(&target, "/spec/clusterRef/namespace");
    let cluster = if name.is_empty() {
        None
    } else {
        // Whoever may not read Clusters may still look after the SyncTarget.
        let found = clusters(context).get(namespace, name).await;
        found.ok().filter(|cluster| belongs(&target, cluster))
    };
    Ok(Member {
        cluster,
        target: Some(target),
    })
}

/// Not found is no error.
fn optional(answer: Result<Value, Error>) -> Result<Option<Value>, Error> {
    match answer {
        Ok(object) => Ok(Some(object)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_prefix_says_which_of_two_things_is_meant() {
        assert_eq!(parse("east"), (Wanted::Any, "east"));
        assert_eq!(parse("cluster/east"), (Wanted::Cluster, "east"));
        assert_eq!(parse("synctarget/east"), (Wanted::Target, "east"));
        assert_eq!(parse("other/east"), (Wanted::Any, "other/east"));
    }

    #[test]
    fn where_clusters_usually_are_is_said_everywhere_but_there() {
        let there = elsewhere("root:demo", true).expect("elsewhere");
        assert!(there.ends_with("tmc --workspace root:compute get targets"));
        assert_eq!(elsewhere(PROVIDER, true), None);
        assert_eq!(
            elsewhere("root", false),
            None,
            "a bare hub is one workspace"
        );
    }

    #[test]
    fn a_target_belongs_to_the_cluster_that_led_to_this_very_one() {
        let target = json!({"metadata": {"uid": "u"}});
        let of = |uid: &str| json!({"status": {"syncTargetRef": {"name": "x", "uid": uid}}});
        assert!(belongs(&target, &of("u")));
        assert!(!belongs(&target, &of("other")));
        assert!(!belongs(&target, &json!({})));
    }
}
