//! A running assembly with simulated members.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tmc::assembly::authority::Authority;
use tmc::assembly::embedded::{Embedded, EmbeddedOptions};
use tmc::assembly::members::Members;
use tmc::cli::{BindComputeArgs, Role, default_sync_resources};
use tmc::commands::cluster::{Registration, register};
use tmc::commands::workspace::{Grantee, create, give};
use tmc::context::Context;
use tmc_apimachinery::meta::meta;
use tmc_apimachinery::user::{GROUP_MASTERS, UserInfo};
use tmc_hub::environment::SystemEnvironment;
use tmc_runtime::ResourceClient;
use tmc_runtime::client::ListParams;
use tmc_sim::{Behaviour, Member};

pub(crate) struct World {
    pub(crate) embedded: Embedded,
    pub(crate) members: Arc<Members>,
    pub(crate) authority: Authority,
    pub(crate) directory: tempfile::TempDir,
}

impl World {
    pub(crate) async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let authority = Authority::load_or_make(directory.path()).unwrap();
        let members = Arc::new(Members::default());
        let embedded = Embedded::start(EmbeddedOptions {
            engine: Box::new(tmc_store::engine::Memory::default()),
            authority: authority.clone(),
            listener: tmc::assembly::embedded::bind(SocketAddr::from(([127, 0, 0, 1], 0)))
                .await
                .unwrap(),
            external_url: None,
            sync_resources: default_sync_resources(),
            members: members.clone(),
        })
        .await
        .unwrap();
        Self {
            embedded,
            members,
            authority,
            directory,
        }
    }

    pub(crate) fn context(&self, workspace: &str) -> Context {
        Context {
            connection: self
                .embedded
                .connection_as(UserInfo::new("admin", &[GROUP_MASTERS])),
            file: self.kubeconfig(),
            workspace: workspace.to_owned(),
            workspaces: true,
        }
    }

    /// The administrator's kubeconfig as a file.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        let file = self.directory.path().join("admin.kubeconfig");
        if !file.exists() {
            let text = self.embedded.admin_kubeconfig().unwrap();
            tmc::kubeconfig::write_private(&file, &text).unwrap();
        }
        file
    }

    /// Starts a member and registers it in root:compute with a Location of its name.
    pub(crate) async fn member(&self, name: &str) -> Member {
        let behaviour = Behaviour {
            ready_after: Duration::from_millis(20),
            ..Behaviour::default()
        };
        let member = Member::start(Arc::new(SystemEnvironment), behaviour)
            .await
            .unwrap();
        let connection = member.connection().clone();
        let kubeconfig = self.members.add(name, connection, &self.authority);
        let registration = Registration {
            name,
            kubeconfig: &kubeconfig,
            location: Some(name),
            labels: json!({}),
        };
        register(&self.context("root:compute"), &registration)
            .await
            .unwrap();
        member
    }

    /// Makes a workspace that may use root:compute and is bound to one Location of it.
    pub(crate) async fn bound_workspace(&self, name: &str, location: &str) -> Context {
        create(&self.context("root"), name, false).await.unwrap();
        let path = format!("root:{name}");
        let grantee = Grantee::Workspace(path.clone());
        give(
            &self.context("root:compute"),
            "root:compute",
            &grantee,
            Role::Use,
        )
        .await
        .unwrap();
        let context = self.context(&path);
        tmc::commands::bind::compute(&context, &bind_args(location))
            .await
            .unwrap();
        context
    }

    /// The only SyncTarget of root:compute.
    pub(crate) async fn target(&self) -> Value {
        let client =
            self.context("root:compute")
                .resource("workload.kcp.io", "v1alpha1", "synctargets");
        let list = client.list("", &ListParams::default()).await.unwrap();
        list["items"][0].clone()
    }
}

pub(crate) fn bind_args(location: &str) -> BindComputeArgs {
    BindComputeArgs {
        provider: Some("root:compute".into()),
        namespace_selector: String::new(),
        location_selectors: vec![format!("location={location}")],
        name: None,
        timeout: 20,
    }
}

pub(crate) fn deployment(name: &str, replicas: i64) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "c", "image": "nginx"}]}}},
    })
}

/// Everything of a resource in a member that a syncer made.
pub(crate) async fn copies(client: &ResourceClient) -> Vec<Value> {
    let params = ListParams {
        labels: "internal.workload.kcp.io/cluster".into(),
        ..ListParams::default()
    };
    let list = client.list("", &params).await.unwrap();
    list["items"].as_array().unwrap().clone()
}

pub(crate) fn named<'a>(objects: &'a [Value], name: &str) -> Option<&'a Value> {
    objects.iter().find(|object| meta(object).name() == name)
}

/// Polls until a condition holds; panics after a minute, which only a busy machine needs.
pub(crate) async fn eventually<F, Fut>(what: &str, mut holds: F)
where
    F: FnMut() -> Fut,
    Fut: Future<Output = bool>,
{
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    while tokio::time::Instant::now() < deadline {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("did not come true in a minute: {what}");
}
