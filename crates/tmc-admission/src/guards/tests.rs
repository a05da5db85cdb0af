//! Every rule through the trait, as a hub calls it: mutate, then validate.

mod clusters;
mod placements;
mod properties;
mod reserved_keys;
mod sync_targets;
mod system_written;
mod workspaces;

use std::sync::Arc;

use serde_json::json;
use tmc_apimachinery::user::UserInfo;
use tmc_apimachinery::{ClusterName, GroupVersionKind, GroupVersionResource};

use super::*;
use crate::{AgentAccess, GROUP_VIRTUAL_WORKSPACE, guards};

const USER: &[&str] = &["team"];
const MASTER: &[&str] = &["system:masters"];
const CONTROLLER: &[&str] = &["system:tmc:controllers"];
const VIEW: &[&str] = &[GROUP_VIRTUAL_WORKSPACE];

/// The user `agent` may sync the target `east` of `root`.
struct OneAgent;

#[async_trait]
impl AgentAccess for OneAgent {
    async fn may_sync(&self, user: &UserInfo, cluster: &ClusterName, target: &str) -> bool {
        user.name == "agent" && cluster.as_str() == "root" && target == "east"
    }
}

fn config() -> GuardConfig {
    GuardConfig {
        syncer_image: Some("example.com/tmc:v1".into()),
        hub_on_loopback: true,
        agents: Arc::new(OneAgent),
    }
}

/// One write: as whom, of what, where.
struct Write<'a> {
    kind: (&'a str, &'a str, &'a str),
    user: &'a str,
    groups: &'a [&'a str],
    subresource: &'a str,
    operation: Operation,
    old: Option<Value>,
    name: &'a str,
}

impl<'a> Write<'a> {
    fn new(kind: (&'a str, &'a str, &'a str), groups: &'a [&'a str]) -> Self {
        Self {
            kind,
            user: "someone",
            groups,
            subresource: "",
            operation: Operation::Create,
            old: None,
            name: "east",
        }
    }

    fn over(mut self, old: Value) -> Self {
        self.operation = Operation::Update;
        self.old = Some(old);
        self
    }

    fn by(mut self, user: &'a str) -> Self {
        self.user = user;
        self
    }

    fn on(mut self, subresource: &'a str) -> Self {
        self.subresource = subresource;
        self
    }

    async fn admit(&self, mut object: Value) -> Result<Value> {
        let (group, kind, plural) = self.kind;
        let (user, cluster) = (
            UserInfo::new(self.user, self.groups),
            ClusterName::new("root"),
        );
        let gvk = GroupVersionKind::new(group, "v1alpha1", kind);
        let gvr = GroupVersionResource::new(group, "v1alpha1", plural);
        let request = AdmissionRequest {
            operation: self.operation,
            cluster: &cluster,
            gvk: &gvk,
            gvr: &gvr,
            subresource: self.subresource,
            namespace: "",
            name: self.name,
            user: &user,
            dry_run: false,
            old: self.old.as_ref(),
        };
        let guards = guards(config());
        if self.operation == Operation::Delete {
            guards.validate(&request, None).await?;
            return Ok(Value::Null);
        }
        guards.mutate(&request, &mut object).await?;
        guards.validate(&request, Some(&object)).await?;
        Ok(object)
    }

    async fn refused(&self, object: Value) -> ApiError {
        match self.admit(object.clone()).await {
            Err(error) => error,
            Ok(_) => panic!("admitted: {object}"),
        }
    }

    /// The fields named in a 422.
    async fn faults(&self, object: Value) -> Vec<String> {
        let error = self.refused(object.clone()).await;
        assert_eq!(error.code, 422, "{object}: {error}");
        error.causes.into_iter().map(|cause| cause.field).collect()
    }
}

const TARGET: (&str, &str, &str) = ("workload.kcp.io", "SyncTarget", "synctargets");
const CLUSTER: (&str, &str, &str) = ("workload.kcp.io", "Cluster", "clusters");
const LOCATION: (&str, &str, &str) = ("scheduling.kcp.io", "Location", "locations");
const PLACEMENT: (&str, &str, &str) = ("scheduling.kcp.io", "Placement", "placements");
const WORKSPACE: (&str, &str, &str) = ("tenancy.kcp.io", "Workspace", "workspaces");
const LOGICAL: (&str, &str, &str) = ("core.kcp.io", "LogicalCluster", "logicalclusters");
const CONFIG_MAP: (&str, &str, &str) = ("", "ConfigMap", "configmaps");

fn named(spec: Value) -> Value {
    json!({"metadata": {"name": "east", "uid": "u1"}, "spec": spec})
}

fn cluster(spec: Value) -> Value {
    let mut spec = spec;
    spec["kubeconfigSecretRef"] = json!({"name": "east-kubeconfig"});
    named(spec)
}

async fn expect_faults(kind: (&str, &str, &str), cases: Vec<(Value, &str)>) {
    for (object, field) in cases {
        let found = Write::new(kind, USER).faults(object.clone()).await;
        assert!(found.iter().any(|f| f == field), "{object}: {found:?}");
    }
}

async fn expect_fine(kind: (&str, &str, &str), cases: Vec<Value>) {
    for object in cases {
        let answer = Write::new(kind, USER).admit(object.clone()).await;
        answer.unwrap_or_else(|error| panic!("{object}: {error}"));
    }
}
