//! Which hub, which workspace, as whom: from flags, environment and kubeconfig.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail};
use serde_json::Value;
use tmc_api::keys::PATH_ANNOTATION;
use tmc_apimachinery::GroupVersionResource;
use tmc_apimachinery::meta::meta;
use tmc_runtime::client::{Error, ListParams};
use tmc_runtime::{Connection, ResourceClient};

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
        let current = workspace_of_url(connection.base_path()).to_owned();
        let workspaces = connection.base_path().starts_with("/clusters/");
        if let (false, Some(typed)) = (workspaces, &global.workspace)
            && typed != "root"
        {
            bail!(
                "--workspace {typed}: the server of {} has no workspaces, it is one, called root; \
                   for a hub with workspaces write https://host/clusters/root",
                file.display()
            );
        }
        let workspace = match &global.workspace {
            Some(typed) => workspace_path::resolve(&current, typed)
                .map_err(|why| anyhow!("--workspace: {why}"))?,
            None => current,
        };
        Ok(Self {
            connection,
            file,
            workspace,
            workspaces,
        })
    }

    /// As [`Context::load`], for what only a hub with workspaces can do.
    ///
    /// # Errors
    /// As there; also when the hub has none.
    pub fn load_with_workspaces(global: &Global) -> Result<Self> {
        let context = Self::load(global)?;
        if !context.workspaces {
            bail!("a bare Kubernetes hub is one workspace: there are none to make, enter or share");
        }
        Ok(context)
    }

    /// Path below which a workspace is served; `*` is all of them.
    pub fn prefix(&self, workspace: &str) -> String {
        if self.workspaces {
            format!("/clusters/{workspace}")
        } else {
            String::new()
        }
    }

    /// What a command that is recommended needs to act in the same workspace: `--workspace PATH `,
    /// nothing where the kubeconfig leads there by itself.
    pub fn flag(&self) -> String {
        if !self.workspaces || workspace_of_url(self.connection.base_path()) == self.workspace {
            return String::new();
        }
        format!("--workspace {} ", self.workspace)
    }

    /// A client of a resource in the workspace.
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
            return Ok("root".to_owned());
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
                tmc_apimachinery::meta::set_annotation(object, PATH_ANNOTATION, path);
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
        Err(error) if error.is_conflict() => {
            client
                .get(namespace, tmc_apimachinery::meta::meta(object).name())
                .await
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

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
