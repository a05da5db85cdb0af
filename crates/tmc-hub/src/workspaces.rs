//! Workspaces and their logical clusters.
//!
//! A Workspace object lives in its parent and gets its logical cluster's name in the write that
//! makes it; [`crate::lifecycle`] then fills the logical cluster and reports it Ready. Paths are
//! resolved to names by reading Workspace objects, segment by segment, before anything else sees
//! them.

use std::sync::Arc;

use serde_json::{Value, json};
use sha2::{Digest, Sha224};
use tmc_apimachinery::meta::{meta, set_annotation};
use tmc_apimachinery::status::{ApiError, Cause, Result};
use tmc_apimachinery::{ClusterName, GroupResource, GroupVersionResource};
use tmc_store::Expect;

use crate::environment::timestamp;
use crate::storage::{Core, Layout, Place, strategy};

/// Holds a Workspace until its logical cluster is gone.
pub(crate) const FINALIZER: &str = "core.kcp.io/logicalcluster";
/// Annotation with the creator of a workspace, as JSON.
const OWNER: &str = "experimental.tenancy.kcp.io/owner";

/// The resource of Workspaces.
pub(crate) fn workspaces() -> GroupResource {
    GroupResource::new("tenancy.kcp.io", "workspaces")
}

/// The resource of LogicalClusters.
pub(crate) fn logical_clusters() -> GroupResource {
    GroupResource::new("core.kcp.io", "logicalclusters")
}

fn is_workspace(place: &Place) -> bool {
    place.definition.gvk.group == "tenancy.kcp.io" && place.definition.gvk.kind == "Workspace"
}

impl Core {
    /// The logical cluster at a path, or a name that is one already. `None` if there is none.
    pub(crate) fn resolve_cluster(&self, text: &str) -> Option<ClusterName> {
        let mut segments = text.split(':');
        let mut cluster = ClusterName::parse(segments.next()?)?;
        for segment in segments {
            let workspace = self.read(&workspaces(), &cluster, "", segment)?;
            cluster = ClusterName::parse(workspace["spec"]["cluster"].as_str()?)?;
        }
        self.entry(&logical_clusters(), &cluster, "", "cluster")
            .map(|_| cluster)
    }

    /// The path of a logical cluster.
    pub(crate) fn cluster_path(&self, cluster: &ClusterName) -> Option<String> {
        let object = self.read(&logical_clusters(), cluster, "", "cluster")?;
        meta(&object).annotation("kcp.io/path").map(str::to_owned)
    }

    /// Makes the logical cluster `root` and what every hub starts with, where absent.
    pub(crate) async fn bootstrap(self: &Arc<Self>) -> Result<()> {
        if self.layout == Layout::Plain {
            let cluster = ClusterName::new(ClusterName::ROOT);
            for namespace in ["default", "kube-system", "kube-public", "kube-node-lease"] {
                self.ensure_namespace(&cluster, namespace).await?;
            }
            return Ok(());
        }
        let root = ClusterName::new(ClusterName::ROOT);
        self.ensure_logical_cluster(&root, ClusterName::ROOT, None)
            .await?;
        self.ensure_namespace(&root, "default").await?;
        self.ensure_namespace(&root, "kcp-system").await
    }

    /// Brings a workspace to Ready: logical cluster, namespace `default`, rights of its creator.
    pub(crate) async fn provision(
        self: &Arc<Self>,
        parent: &ClusterName,
        name: &str,
    ) -> Result<()> {
        let Some(place) = self.place(&workspaces(), parent) else {
            return Ok(());
        };
        let Some((_, workspace)) = self.current(&place, name) else {
            return Ok(());
        };
        if workspace["status"]["phase"] == "Ready" {
            return Ok(());
        }
        let Some(cluster) = workspace["spec"]["cluster"]
            .as_str()
            .and_then(ClusterName::parse)
        else {
            return Ok(());
        };
        let path = format!("{}:{name}", self.cluster_path(parent).unwrap_or_default());
        self.ensure_logical_cluster(&cluster, &path, Some((parent, &workspace)))
            .await?;
        if !self.is_owned(&cluster, parent, &workspace) {
            return Ok(());
        }
        self.ensure_namespace(&cluster, "default").await?;
        self.ensure_owner_binding(&cluster, &workspace).await?;
        self.report_ready(&place, name).await
    }

    /// Whether a logical cluster was made for exactly this Workspace.
    pub(crate) fn is_owned(
        &self,
        cluster: &ClusterName,
        parent: &ClusterName,
        workspace: &Value,
    ) -> bool {
        self.read(&logical_clusters(), cluster, "", "cluster")
            .is_some_and(|logical| {
                let owner = &logical["spec"]["owner"];
                owner["cluster"] == parent.as_str()
                    && owner["name"] == meta(workspace).name()
                    && owner["uid"] == meta(workspace).uid()
            })
    }

    async fn ensure_logical_cluster(
        self: &Arc<Self>,
        cluster: &ClusterName,
        path: &str,
        owner: Option<(&ClusterName, &Value)>,
    ) -> Result<()> {
        let url = self.workspace_url(path);
        let mut object = json!({
            "apiVersion": "core.kcp.io/v1alpha1", "kind": "LogicalCluster",
            "metadata": {"name": "cluster", "annotations": {"kcp.io/path": path}},
            "spec": {"directlyDeletable": false},
            "status": {"phase": "Ready", "URL": url},
        });
        if let Some((parent, workspace)) = owner {
            object["spec"]["owner"] = json!({
                "apiVersion": "tenancy.kcp.io/v1alpha1", "resource": "workspaces",
                "name": meta(workspace).name(), "cluster": parent.as_str(),
                "uid": meta(workspace).uid(),
            });
        }
        self.ensure(&logical_clusters(), cluster, "", object).await
    }

    async fn ensure_namespace(self: &Arc<Self>, cluster: &ClusterName, name: &str) -> Result<()> {
        let object = json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name}},
            "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"},
        });
        self.ensure(&GroupResource::new("", "namespaces"), cluster, "", object)
            .await?;
        self.ensure_default_account(cluster, name).await
    }

    /// Every namespace has a ServiceAccount `default`, as in Kubernetes, unless it is going away.
    pub(crate) async fn ensure_default_account(
        self: &Arc<Self>,
        cluster: &ClusterName,
        namespace: &str,
    ) -> Result<()> {
        let stays = |resource: &GroupResource, name: &str| {
            self.entry(resource, cluster, "", name)
                .is_some_and(|entry| !entry.meta.deleting)
        };
        let workspace_stays = self.layout == Layout::Plain || stays(&logical_clusters(), "cluster");
        if !workspace_stays || !stays(&GroupResource::new("", "namespaces"), namespace) {
            return Ok(());
        }
        let object = json!({
            "apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": {"name": "default", "namespace": namespace},
        });
        let accounts = GroupResource::new("", "serviceaccounts");
        self.ensure(&accounts, cluster, namespace, object).await
    }

    /// The creator of a workspace is its administrator.
    async fn ensure_owner_binding(
        self: &Arc<Self>,
        cluster: &ClusterName,
        workspace: &Value,
    ) -> Result<()> {
        let owner = meta(workspace).annotation(OWNER).unwrap_or_default();
        let owner: Value = serde_json::from_str(owner).unwrap_or_default();
        let Some(user) = owner["username"].as_str().filter(|name| !name.is_empty()) else {
            return Ok(());
        };
        let object = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": {"name": "workspace-admin"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
        });
        let bindings = GroupResource::new("rbac.authorization.k8s.io", "clusterrolebindings");
        self.ensure(&bindings, cluster, "", object).await
    }

    /// Writes an object that the hub itself makes, unless it is there.
    async fn ensure(
        self: &Arc<Self>,
        resource: &GroupResource,
        cluster: &ClusterName,
        namespace: &str,
        mut object: Value,
    ) -> Result<()> {
        let name = meta(&object).name().to_owned();
        if self.entry(resource, cluster, namespace, &name).is_some() {
            return Ok(());
        }
        object["metadata"]["uid"] = self.environment.uid().into();
        object["metadata"]["creationTimestamp"] = timestamp(self.environment.now()).into();
        if strategy::has_workspaces(self) {
            set_annotation(&mut object, "kcp.io/cluster", cluster.as_str());
        }
        let key = crate::keys::object_key(resource, cluster, namespace, &name);
        match self.commit(key, Expect::Absent, object, false).await {
            Ok(_) | Err(tmc_store::CommitError::Conflict { .. }) => Ok(()),
            Err(error) => Err(ApiError::internal(error)),
        }
    }

    async fn report_ready(self: &Arc<Self>, place: &Place, name: &str) -> Result<()> {
        let Some((entry, mut workspace)) = self.current(place, name) else {
            return Ok(());
        };
        let now = timestamp(self.environment.now());
        workspace["status"]["phase"] = "Ready".into();
        workspace["status"]["conditions"] = json!([
            {"type": "Ready", "status": "True", "lastTransitionTime": now},
            {"type": "WorkspaceInitialized", "status": "True", "lastTransitionTime": now},
            {"type": "WorkspaceScheduled", "status": "True", "lastTransitionTime": now},
        ]);
        tmc_apimachinery::meta::set_label(&mut workspace, "tenancy.kcp.io/phase", "Ready");
        let expect = Expect::Revision(entry.revision);
        self.commit(place.key(name), expect, workspace, false)
            .await
            .map_err(ApiError::internal)?;
        Ok(())
    }

    /// A place for the hub's own writes.
    pub(crate) fn place(&self, resource: &GroupResource, cluster: &ClusterName) -> Option<Place> {
        let set = self.api_set(cluster);
        let definition = set.by_group_resource(resource)?.clone();
        Some(Place::main(&definition, cluster, "", &hub_user()))
    }

    /// Where a workspace is reached.
    pub(crate) fn workspace_url(&self, path: &str) -> String {
        format!("{}/clusters/{path}", (self.base_url)())
    }

    /// What a workspace serves.
    pub(crate) fn api_set(
        &self,
        cluster: &ClusterName,
    ) -> Arc<tmc_apimachinery::definition::ApiSet> {
        self.catalog.cluster(cluster, || {
            crate::custom_resources::definitions(self, cluster)
        })
    }
}

/// Who the hub's own writes are by.
pub(crate) fn hub_user() -> tmc_apimachinery::user::UserInfo {
    use tmc_apimachinery::user::{GROUP_CONTROLLERS, UserInfo};
    UserInfo::new("system:tmc:hub", &[GROUP_CONTROLLERS])
}

/// Keeps a Workspace's logical cluster and URL when an update leaves them out.
pub(crate) fn keep_assigned(place: &Place, object: &mut Value, old: Option<&Value>) {
    let (true, Some(old)) = (is_workspace(place), old) else {
        return;
    };
    for key in ["cluster", "URL"] {
        if object["spec"].get(key).is_none() && old["spec"].get(key).is_some() {
            object["spec"][key] = old["spec"][key].clone();
        }
    }
}

/// Gives a new Workspace its logical cluster, URL, finalizer and owner.
pub(crate) fn complete(core: &Core, place: &Place, object: &mut Value) {
    if !is_workspace(place) {
        return;
    }
    let name = meta(object).name().to_owned();
    let cluster = cluster_name(meta(object).uid());
    let path = format!(
        "{}:{name}",
        core.cluster_path(&place.cluster).unwrap_or_default()
    );
    if !object["spec"].is_object() {
        object["spec"] = json!({});
    }
    object["spec"]["cluster"] = cluster.as_str().into();
    object["spec"]["URL"] = core.workspace_url(&path).into();
    object["status"] = json!({"phase": "Scheduling"});
    // A ServiceAccount is another user in the new workspace, where its name may be somebody else's.
    let owner = crate::rbac::identity_in(&place.user, &ClusterName::new(&cluster));
    let owner = owner.unwrap_or(std::borrow::Cow::Borrowed(&place.user));
    let owner = json!({"username": owner.name, "groups": owner.groups});
    set_annotation(object, OWNER, &owner.to_string());
    set_annotation(object, "internal.tenancy.kcp.io/shard", &shard_hash());
    tmc_apimachinery::meta::add_finalizer(object, FINALIZER);
}

/// A logical cluster's name from its Workspace's uid: as in kcp, opaque and never reused.
fn cluster_name(uid: &str) -> String {
    tmc_api::hashes::base36(&Sha224::digest(uid.as_bytes()))[..16].to_owned()
}

fn shard_hash() -> String {
    tmc_api::hashes::base36(&Sha224::digest(b"root"))[..8].to_owned()
}

/// Refuses what would break the tree: a new object in a workspace that is going away, a forged or
/// changed logical cluster, a LogicalCluster made or removed by hand.
pub(crate) fn check(core: &Core, place: &Place, object: &Value, old: Option<&Value>) -> Result<()> {
    crate::identities::check(core, place, object, old)?;
    crate::custom_resources::check(core, place, object)?;
    if core.layout == Layout::Plain {
        return Ok(());
    }
    let leaving = core
        .entry(&logical_clusters(), &place.cluster, "", "cluster")
        .is_some_and(|entry| entry.meta.deleting);
    if old.is_none() && leaving {
        let why = "the workspace is being terminated";
        return Err(ApiError::forbidden(
            &place.resource(),
            meta(object).name(),
            why,
        ));
    }
    if let (true, Some(old)) = (is_workspace(place), old) {
        let gvk = &place.definition.gvk;
        for key in ["cluster", "type", "URL"] {
            let before = old["spec"].get(key);
            if before.is_some() && before != object["spec"].get(key) {
                let value = object["spec"].get(key).cloned().unwrap_or(Value::Null);
                let cause = Cause::invalid(format!("spec.{key}"), &value, "field is immutable");
                return Err(ApiError::invalid(
                    &gvk.group,
                    &gvk.kind,
                    meta(old).name(),
                    vec![cause],
                ));
            }
        }
    }
    Ok(())
}

/// Group, version and resource of Workspaces.
pub(crate) fn workspaces_gvr() -> GroupVersionResource {
    GroupVersionResource::new("tenancy.kcp.io", "v1alpha1", "workspaces")
}
