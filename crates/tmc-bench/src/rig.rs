//! A hub in this process on a durable store, as `tmc start` assembles it, with what a user has done
//! before work can flow: registered a cluster, made a workspace, bound it.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use kube::config::Kubeconfig;
use serde_json::{Value, json};
use tempfile::TempDir;
use tmc::assembly::authority::Authority;
use tmc::assembly::data_dir::DataDir;
use tmc::assembly::embedded::{Embedded, EmbeddedOptions};
use tmc::assembly::members::Members;
use tmc::cli::{BindComputeArgs, Role, StoreKind, default_sync_resources};
use tmc::commands::cluster::{Registration, register};
use tmc::commands::workspace::{Grantee, create, give};
use tmc::commands::{bind, start};
use tmc::context::{Context, ensure, wait_for};
use tmc_apimachinery::meta::meta;
use tmc_apimachinery::user::{GROUP_MASTERS, UserInfo};
use tmc_runtime::Connection;

use crate::member::Kubeconfigs;

/// The workspace of the registered clusters.
const COMPUTE: &str = "root:compute";
/// Seconds to wait for a step of the set-up.
const PATIENCE: u64 = 60;

/// The hub.
pub(crate) struct Rig {
    embedded: Embedded,
    authority: Authority,
    members: Arc<Members>,
    /// As the administrator over TLS: how load comes in.
    client: Connection,
    // Last, so that the files outlive what uses them.
    directory: TempDir,
}

impl Rig {
    /// Starts it on redb in a temporary directory.
    pub(crate) async fn start() -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("tmc-bench-").tempdir()?;
        let data = DataDir::open(&directory.path().join("hub"))?;
        let authority = Authority::load_or_make(directory.path())?;
        let members = Arc::new(Members::default());
        let embedded = Embedded::start(EmbeddedOptions {
            engine: start::engine(StoreKind::Redb, &data)?,
            authority: authority.clone(),
            listener: tmc::assembly::embedded::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?,
            external_url: None,
            sync_resources: default_sync_resources(),
            members: members.clone(),
        })
        .await?;
        let client = connection(&embedded.admin_kubeconfig()?)?;
        Ok(Self {
            embedded,
            authority,
            members,
            client,
            directory,
        })
    }

    /// Ends it.
    pub(crate) async fn stop(self) -> Result<()> {
        self.embedded.stop().await
    }

    /// The administrator in a workspace, for set-up: in process.
    fn context(&self, workspace: &str) -> Context {
        let admin = UserInfo::new("system:admin", &[GROUP_MASTERS]);
        Context {
            connection: self.embedded.connection_as(admin),
            file: self.directory.path().join("admin.kubeconfig"),
            workspace: workspace.to_owned(),
            workspaces: true,
        }
    }

    /// Registers a cluster with a Hosted syncer and makes a workspace whose workload all goes there.
    pub(crate) async fn hosted(&self, name: &str, member: &Kubeconfigs<'_>) -> Result<Workspace> {
        let kubeconfig = match member {
            Kubeconfigs::InProcess(connection) => {
                self.members
                    .add(name, (*connection).clone(), &self.authority)
            }
            Kubeconfigs::Text(text) => (*text).to_owned(),
        };
        let (root, compute) = (self.context("root"), self.context(COMPUTE));
        let registration = Registration {
            name,
            kubeconfig: &kubeconfig,
            location: Some(name),
            labels: json!({}),
        };
        register(&compute, &registration).await?;
        create(&root, name, false).await?;
        let path = format!("root:{name}");
        give(
            &compute,
            COMPUTE,
            &Grantee::Workspace(path.clone()),
            Role::Use,
        )
        .await?;
        self.bound(&path, COMPUTE, &[format!("location={name}")])
            .await
    }

    /// A workspace with a SyncTarget of its own that waits for its syncer.
    pub(crate) async fn external(&self, name: &str) -> Result<ExternalTarget> {
        create(&self.context("root"), name, false).await?;
        let path = format!("root:{name}");
        let target = json!({
            "apiVersion": "workload.kcp.io/v1alpha1", "kind": "SyncTarget",
            "metadata": {"name": name}, "spec": {"syncerConfig": {"mode": "External"}},
        });
        let targets = self
            .context(&path)
            .resource("workload.kcp.io", "v1alpha1", "synctargets");
        let made = targets.create("", &target).await?;
        let mut admin: Value = serde_json::from_str(&serde_json::to_string(
            &Kubeconfig::from_yaml(&self.embedded.admin_kubeconfig()?)?,
        )?)?;
        admin["clusters"][0]["cluster"]["server"] =
            format!("{}/clusters/{path}", self.embedded.url()).into();
        Ok(ExternalTarget {
            name: name.to_owned(),
            uid: meta(&made).uid().to_owned(),
            workspace: path,
            kubeconfig: admin.to_string(),
        })
    }

    /// Waits until an external target's syncer is there, and sends its workspace's workload to it.
    pub(crate) async fn external_ready(&self, target: &ExternalTarget) -> Result<Workspace> {
        let context = self.context(&target.workspace);
        let targets = context.resource("workload.kcp.io", "v1alpha1", "synctargets");
        wait_for(PATIENCE, || async {
            let found = targets.get("", &target.name).await?;
            let ready = tmc::output::condition(&found, "Ready") == "True";
            Ok(if ready {
                Ok(())
            } else {
                Err(tmc::output::why(&found, "Ready"))
            })
        })
        .await
        .context("the syncer's SyncTarget is not ready")?;
        self.bound(&target.workspace, &target.workspace, &[]).await
    }

    async fn bound(&self, path: &str, provider: &str, locations: &[String]) -> Result<Workspace> {
        let args = BindComputeArgs {
            provider: Some(provider.to_owned()),
            namespace_selector: String::new(),
            location_selectors: locations.to_vec(),
            name: Some("bench".to_owned()),
            timeout: PATIENCE,
        };
        bind::compute(&self.context(path), &args).await?;
        let load = Context {
            connection: self.client.clone(),
            file: self.directory.path().join("admin.kubeconfig"),
            workspace: path.to_owned(),
            workspaces: true,
        };
        Ok(Workspace(load))
    }
}

/// A SyncTarget whose syncer is a process.
pub(crate) struct ExternalTarget {
    pub(crate) name: String,
    pub(crate) uid: String,
    workspace: String,
    /// The administrator's, below the workspace.
    pub(crate) kubeconfig: String,
}

/// A workspace whose workload goes to one member; over TLS, as a user would reach it.
pub(crate) struct Workspace(pub(crate) Context);

impl Workspace {
    /// Makes a namespace.
    pub(crate) async fn namespace(&self, name: &str) -> Result<()> {
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        ensure(&self.0.resource("", "v1", "namespaces"), "", &object).await?;
        Ok(())
    }
}

/// A connection from the text of a kubeconfig.
pub(crate) fn connection(kubeconfig: &str) -> Result<Connection> {
    Ok(Connection::from_kubeconfig(
        &Kubeconfig::from_yaml(kubeconfig)?,
        None,
    )?)
}
