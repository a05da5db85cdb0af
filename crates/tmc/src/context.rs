//! Which hub, which workspace, as whom: from flags, environment and kubeconfig.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail};
use serde_json::Value;
use tmc_api::keys::{CLUSTER_ANNOTATION, PATH_ANNOTATION};
use tmc_apimachinery::meta::{meta, set_annotation};
use tmc_apimachinery::{ClusterName, GroupVersionResource};
use tmc_runtime::client::{DeleteParams, Error, ListParams, PatchKind};
use tmc_runtime::{Connection, Hub, ResourceClient};

use crate::cli::Global;
use crate::output::cause;
use crate::{kubeconfig, workspace_path};

/// The hub that a command talks to.
pub struct Context {
    /// The transport.
    pub connection: Connection,
    /// The kubeconfig's file.
    pub file: PathBuf,
    /// Path of the workspace to act in.
    pub workspace: String,
    /// Whether the hub has workspaces: a bare Kubernetes API server is one, called `root`.
    pub workspaces: bool,
}

impl Context {
    /// Reads the kubeconfig and finds the workspace.
    ///
    /// # Errors
    /// A sentence naming the file or flag that cannot be used.
    pub fn load(global: &Global) -> Result<Self> {
        let file = kubeconfig_file(global)?;
        let kubeconfig = kubeconfig::load("the kubeconfig", &file)?;
        let connection = Connection::from_kubeconfig(&kubeconfig, None)
            .map_err(|error| anyhow!("kubeconfig {}: {error}", file.display()))?;
        if !connection.base_path().starts_with("/clusters/") {
            return match &global.workspace {
                Some(typed) if typed != ClusterName::ROOT => bail!(
                    "--workspace {typed}: the server of {} has no workspaces, it is one, called root; \
                       for a hub with workspaces write https://host/clusters/root",
                    file.display()
                ),
                _ => Ok(Self::bare(connection, file)),
            };
        }
        let current = workspace_of_url(connection.base_path()).to_owned();
        let workspace = match &global.workspace {
            Some(typed) => workspace_path::resolve(&current, typed)
                .map_err(|why| anyhow!("--workspace: {why}"))?,
            None => current,
        };
        Ok(Self {
            connection,
            file,
            workspace,
            workspaces: true,
        })
    }

    /// The whole of a hub without workspaces.
    pub fn bare(connection: Connection, file: PathBuf) -> Self {
        Self {
            connection,
            file,
            workspace: ClusterName::ROOT.to_owned(),
            workspaces: false,
        }
    }

    /// As [`Context::load`], for what only a hub with workspaces can do.
    ///
    /// # Errors
    /// As there; also when the hub has none.
    pub fn load_with_workspaces(global: &Global) -> Result<Self> {
        let context = Self::load(global)?;
        if !context.workspaces {
            bail!(
                "a bare Kubernetes hub is one workspace: there are none to make, enter or share; \
                 rights are given by its own RBAC: kubectl create clusterrolebinding"
            );
        }
        Ok(context)
    }

    /// Path below which a workspace is served; `*` is all of them.
    pub fn prefix(&self, workspace: &str) -> String {
        if self.workspaces {
            format!("/clusters/{workspace}")
        } else {
            self.connection.base_path().to_owned()
        }
    }

    /// The hub as controllers see it.
    pub fn hub(&self) -> Hub {
        Hub {
            connection: self.connection.clone(),
            workspaces: self.workspaces,
        }
    }

    /// What a command that is recommended needs to act in the same workspace: `--workspace PATH `,
    /// nothing where the kubeconfig leads there by itself.
    pub fn flag(&self) -> String {
        self.flags().to(&self.workspace)
    }

    /// As [`Context::flag`], for any workspace.
    pub fn flags(&self) -> Flags {
        let current = workspace_of_url(self.connection.base_path()).to_owned();
        Flags(self.workspaces.then_some(current))
    }

    /// A client of a resource in the workspace. Where it matters in which logical cluster an object is:
    /// [`Context::objects`].
    pub fn resource(&self, group: &str, version: &str, resource: &str) -> ResourceClient {
        self.resource_in(&self.workspace, group, version, resource)
    }

    /// A client of a resource in another workspace.
    pub fn resource_in(
        &self,
        workspace: &str,
        group: &str,
        version: &str,
        resource: &str,
    ) -> ResourceClient {
        let client = self.connection.client(&self.prefix(workspace));
        ResourceClient::new(client, GroupVersionResource::new(group, version, resource))
    }

    /// As [`Context::resource`]; what is read tells its logical cluster, whatever the hub.
    pub fn objects(&self, group: &str, version: &str, resource: &str) -> Objects {
        self.objects_in(&self.workspace, group, version, resource)
    }

    /// As [`Context::resource_in`]; what is read tells its logical cluster, whatever the hub.
    pub fn objects_in(
        &self,
        workspace: &str,
        group: &str,
        version: &str,
        resource: &str,
    ) -> Objects {
        Objects {
            client: self.resource_in(workspace, group, version, resource),
            hub: self.hub(),
        }
    }

    /// Workspaces inside a workspace.
    pub fn workspaces_in(&self, workspace: &str) -> ResourceClient {
        self.resource_in(workspace, "tenancy.kcp.io", "v1alpha1", "workspaces")
    }

    /// The name of the logical cluster at a path.
    ///
    /// # Errors
    /// When there is no such workspace, or it may not be entered.
    pub async fn logical_cluster(&self, workspace: &str) -> Result<String> {
        if !self.workspaces {
            return Ok(ClusterName::ROOT.to_owned());
        }
        let clusters = self.resource_in(workspace, "core.kcp.io", "v1alpha1", "logicalclusters");
        let object = match clusters.get("", "cluster").await {
            Err(error) if error.is_not_found() => bail!(no_workspace(workspace)),
            other => other.map_err(|e| explain(e, workspace))?,
        };
        let name = meta(&object).cluster().to_owned();
        if name.is_empty() {
            bail!("the hub does not tell the logical cluster of {workspace}");
        }
        Ok(name)
    }
}

/// Which flag a command needs that is recommended. Holds the workspace that the kubeconfig leads to;
/// none on a hub without workspaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flags(pub Option<String>);

impl Flags {
    /// `--workspace PATH `, or nothing where none is needed.
    pub fn to(&self, workspace: &str) -> String {
        match &self.0 {
            Some(current) if current != workspace && !workspace.is_empty() => {
                format!("--workspace {workspace} ")
            }
            _ => String::new(),
        }
    }

    /// Whether the hub has workspaces.
    pub fn has_workspaces(&self) -> bool {
        self.0.is_some()
    }
}

/// The objects of one resource, each with the name of its logical cluster.
///
/// A hub without workspaces does not write it on them, so it is added to what is read, as informers
/// and virtual workspaces do there. It must not come back to such a hub: what commands write is patches
/// and objects of their own making, never what they have read.
pub struct Objects {
    client: ResourceClient,
    hub: Hub,
}

impl Objects {
    /// See [`ResourceClient::get`].
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn get(&self, namespace: &str, name: &str) -> Result<Value, Error> {
        let found = self.client.get(namespace, name).await;
        found.map(|object| self.told(object))
    }

    /// See [`ResourceClient::list`].
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn list(&self, namespace: &str, params: &ListParams) -> Result<Value, Error> {
        let mut found = self.client.list(namespace, params).await?;
        if let Some(items) = found["items"].as_array_mut() {
            for item in items {
                *item = self.told(item.take());
            }
        }
        Ok(found)
    }

    /// See [`ResourceClient::create`].
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn create(&self, namespace: &str, object: &Value) -> Result<Value, Error> {
        let made = self.client.create(namespace, object).await;
        made.map(|object| self.told(object))
    }

    /// See [`ResourceClient::create_dry_run`].
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn create_dry_run(&self, namespace: &str, object: &Value) -> Result<(), Error> {
        self.client
            .create_dry_run(namespace, object)
            .await
            .map(drop)
    }

    /// A merge patch of an object; see [`ResourceClient::patch`].
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn merge(&self, namespace: &str, name: &str, patch: &Value) -> Result<Value, Error> {
        let kind = PatchKind::Merge;
        let changed = self.client.patch(namespace, name, "", kind, patch).await;
        changed.map(|object| self.told(object))
    }

    /// See [`ResourceClient::delete`].
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn delete(
        &self,
        namespace: &str,
        name: &str,
        params: &DeleteParams,
    ) -> Result<(), Error> {
        self.client.delete(namespace, name, params).await
    }

    /// An object that tells its logical cluster.
    fn told(&self, mut object: Value) -> Value {
        if !self.hub.workspaces {
            let cluster = self.hub.cluster_of(&object);
            set_annotation(&mut object, CLUSTER_ANNOTATION, cluster.as_str());
        }
        object
    }
}

/// The paths of workspaces by the names of their logical clusters.
#[derive(Clone, Debug, Default)]
pub struct Paths(BTreeMap<String, String>);

impl Paths {
    /// Reads them; none where they may not be read.
    pub async fn read(context: &Context) -> Self {
        let client = context.resource_in("*", "core.kcp.io", "v1alpha1", "logicalclusters");
        let found = client
            .list("", &ListParams::default())
            .await
            .unwrap_or_default();
        let items = found["items"].as_array().cloned().unwrap_or_default();
        let pair = |object: &Value| {
            let meta = meta(object);
            let path = meta.annotation(PATH_ANNOTATION)?;
            Some((meta.cluster().to_owned(), path.to_owned()))
        };
        Self(items.iter().filter_map(pair).collect())
    }

    /// Writes the path of its workspace on each object that does not tell it itself.
    pub fn note(&self, objects: &mut [Value]) {
        for object in objects {
            let path = self.0.get(meta(object).cluster());
            if let (Some(path), None) = (path, meta(object).annotation(PATH_ANNOTATION)) {
                set_annotation(object, PATH_ANNOTATION, path);
            }
        }
    }
}

/// An error about a workspace in words that say what to do.
pub fn explain(error: Error, workspace: &str) -> anyhow::Error {
    match error.code() {
        Some(403) => anyhow!(
            "you may not do this in workspace {workspace}: {error}\n\
             an administrator of it can run: tmc workspace grant {workspace} --user <you> --role edit"
        ),
        Some(404) if is_about(&error, workspace) => anyhow!(no_workspace(workspace)),
        Some(404) => anyhow!("{error} (in workspace {workspace})"),
        None => anyhow!(
            "no answer from the hub: {}; see what is wrong: tmc doctor",
            cause(error)
        ),
        _ => anyhow!("{error}"),
    }
}

/// Whether it is the workspace itself that was not found.
fn is_about(error: &Error, workspace: &str) -> bool {
    let words = format!("workspaces.tenancy.kcp.io \"{workspace}\" not found");
    error.to_string().contains(&words)
}

fn no_workspace(path: &str) -> String {
    format!("there is no workspace {path}; see what there is: tmc --workspace root workspace tree")
}

/// The workspace in a server URL's path; `root` if it names none.
fn workspace_of_url(path: &str) -> &str {
    let below = path.strip_prefix("/clusters/").unwrap_or("");
    let name = below.split('/').next().unwrap_or("");
    if name.is_empty() { "root" } else { name }
}

/// The kubeconfig to use: flag, `$KUBECONFIG`, `.tmc/admin.kubeconfig`, `~/.kube/config`.
fn kubeconfig_file(global: &Global) -> Result<PathBuf> {
    if let Some(file) = &global.kubeconfig {
        return Ok(file.clone());
    }
    if let Some(list) = std::env::var_os("KUBECONFIG").filter(|list| !list.is_empty()) {
        let first = std::env::split_paths(&list).find(|p| !p.as_os_str().is_empty());
        return first.context("$KUBECONFIG names no file");
    }
    let local = Path::new(".tmc/admin.kubeconfig");
    if local.exists() {
        return Ok(local.to_owned());
    }
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let home = home
        .map(|home| home.join(".kube/config"))
        .filter(|file| file.exists());
    home.context(
        "no kubeconfig: start a hub with `tmc start`, or name one with --kubeconfig or $KUBECONFIG",
    )
}

/// Waits until `check` gives an answer, asking again every 50 ms.
///
/// # Errors
/// The first error of `check` that is not "not yet", or what it last said when time is up.
pub async fn wait_for<T, F, Fut>(seconds: u64, mut check: F) -> Result<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<std::result::Result<T, String>>>,
{
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(seconds);
    loop {
        match check().await? {
            Ok(found) => return Ok(found),
            Err(why) if tokio::time::Instant::now() >= deadline => {
                bail!("gave up after {seconds} s: {why}");
            }
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(50)).await,
        }
    }
}

/// An existing object, or the new one: commands can be run again.
///
/// # Errors
/// Any error but "already exists".
pub async fn ensure(
    client: &ResourceClient,
    namespace: &str,
    object: &Value,
) -> Result<Value, Error> {
    match client.create(namespace, object).await {
        Err(error) if error.is_conflict() => client.get(namespace, meta(object).name()).await,
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use http::{Request, Response};
    use kube::client::Body;
    use serde_json::json;

    use super::*;

    /// A hub that has one Namespace, and answers whatever is written with what was sent.
    fn hub(workspaces: bool) -> Context {
        let service = tower::service_fn(|request: Request<Body>| async move {
            let one = json!({"metadata": {"name": "shop"}});
            let answer = match request.uri().path() {
                path if path.ends_with("/namespaces/shop") && request.method() == "GET" => one,
                _ if request.method() == "GET" => json!({"metadata": {}, "items": [one]}),
                _ => {
                    let sent = request.into_body().collect_bytes().await?;
                    let sent: Value = serde_json::from_slice(&sent).expect("JSON");
                    json!({"metadata": {"name": "shop"}, "sent": sent})
                }
            };
            Ok::<_, kube::Error>(Response::new(Body::from(answer.to_string().into_bytes())))
        });
        Context {
            workspaces,
            ..Context::bare(Connection::in_process(service), PathBuf::new())
        }
    }

    #[tokio::test]
    async fn what_is_read_from_a_hub_without_workspaces_tells_its_logical_cluster() {
        let namespaces = hub(false).objects("", "v1", "namespaces");
        let one = namespaces.get("", "shop").await.expect("found");
        assert_eq!(meta(&one).cluster(), "root");
        let all = namespaces.list("", &ListParams::default()).await;
        let all = all.expect("a list");
        assert_eq!(meta(&all["items"][0]).cluster(), "root");
        assert_eq!(meta(&all).cluster(), "", "a list is no object");
        let namespaces = hub(true).objects("", "v1", "namespaces");
        let one = namespaces.get("", "shop").await.expect("found");
        assert_eq!(meta(&one).cluster(), "", "such a hub tells it itself");
    }

    #[tokio::test]
    async fn what_is_written_does_not_have_what_was_added_to_what_was_read() {
        let namespaces = hub(false).objects("", "v1", "namespaces");
        let patch = json!({"spec": {}});
        let changed = namespaces.merge("", "shop", &patch).await.expect("changed");
        assert_eq!(changed["sent"], patch);
        assert_eq!(meta(&changed).cluster(), "root");
        let new = json!({"metadata": {"name": "shop"}});
        let made = namespaces.create("", &new).await.expect("made");
        assert_eq!(made["sent"], new);
        assert_eq!(meta(&made).cluster(), "root");
    }

    #[test]
    fn a_hub_without_workspaces_is_reached_below_the_path_of_its_url_only() {
        let context = hub(false);
        assert_eq!(context.workspace, "root");
        assert_eq!((context.prefix("*"), context.flag()), Default::default());
        assert_eq!(hub(true).prefix("*"), "/clusters/*");
    }

    #[test]
    fn a_recommended_command_names_a_workspace_only_where_the_kubeconfig_leads_elsewhere() {
        let flags = Flags(Some("root:shop".to_owned()));
        assert_eq!(flags.to("root:compute"), "--workspace root:compute ");
        assert_eq!((flags.to("root:shop"), flags.to("")), Default::default());
        assert_eq!(hub(false).flags(), Flags(None));
        assert_eq!(Flags(None).to("root"), "");
    }

    #[test]
    fn an_object_is_told_the_path_of_its_workspace_unless_it_tells_it_itself() {
        let paths = Paths(BTreeMap::from([("c1".to_owned(), "root:shop".to_owned())]));
        let of = |cluster: &str| json!({"metadata": {"annotations": {"kcp.io/cluster": cluster}}});
        let mut objects = [of("c1"), of("c2"), of("c1")];
        objects[2]["metadata"]["annotations"]["kcp.io/path"] = "root:own".into();
        paths.note(&mut objects);
        let told = objects
            .each_ref()
            .map(|o| meta(o).annotation(PATH_ANNOTATION));
        assert_eq!(told, [Some("root:shop"), None, Some("root:own")]);
    }

    #[test]
    fn the_workspace_is_the_one_of_the_server_url() {
        assert_eq!(workspace_of_url("/clusters/root:team"), "root:team");
        assert_eq!(workspace_of_url("/clusters/root:team/x"), "root:team");
        assert_eq!(workspace_of_url(""), "root");
        assert_eq!(workspace_of_url("/other"), "root");
    }
}
